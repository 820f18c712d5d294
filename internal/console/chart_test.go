package console

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// TestChart draws what came, leaves a gap where nothing did, and has the same
// in its table.
func TestChart(t *testing.T) {
	from := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	to := from.Add(24 * time.Hour)
	s := series{field: &declaration.Field{Name: "x", Unit: "Cel", Type: declaration.Number}, buckets: make([]bucket, 24)}
	for h := range 24 {
		if h == 10 || h == 11 || h == 20 || h == 22 {
			continue
		}
		for m := range 3 {
			s.take((float64(h)+float64(m)/3)/24, json.RawMessage(fmt.Sprint(20+h+m)))
		}
	}
	for _, bad := range []string{`"text"`, `null`, `[1]`, `1e999`, `NaN`, ``} {
		s.take(.5, json.RawMessage(bad))
	}
	s.take(-.1, json.RawMessage("1000"))
	c := s.draw(from, to)
	if c.N != 60 || len(c.Rows) != 20 || len(c.Lines) != 2 || len(c.Bands) != 2 || len(c.Dots) != 2 {
		t.Fatalf("%d values, %d rows, %d lines, %d bands, %d dots", c.N, len(c.Rows), len(c.Lines), len(c.Bands), len(c.Dots))
	}
	if r := c.Rows[0]; r.Low != "20" || r.Mean != "21" || r.Top != "22" || r.N != 3 || !r.From.Equal(from) {
		t.Errorf("first row %+v", r)
	}
	var last float64
	for _, line := range c.Lines {
		for _, xy := range strings.Fields(line) {
			x, y, _ := strings.Cut(xy, ",")
			px, err := strconv.ParseFloat(x, 64)
			must(t, err)
			py, err := strconv.ParseFloat(y, 64)
			must(t, err)
			if px <= last || px > chartWide || py < chartTop || py > chartHigh {
				t.Errorf("point %s lies outside, or before the last", xy)
			}
			last = px
		}
	}
	if s := (&series{field: s.field, buckets: make([]bucket, 5)}); len(s.draw(from, to).Lines) != 0 {
		t.Error("nothing is drawn as something")
	}
}

// TestTicks: round values around any range, few of them.
func TestTicks(t *testing.T) {
	for _, c := range [][2]float64{{0, 1}, {18.2, 22.9}, {-40, 85}, {5, 5}, {0, 0}, {-1e-7, 3e-7}, {1e9, 1e9 + 1}, {-3, -3}, {0, 1e15}} {
		ticks, low, top := ticksFor(c[0], c[1])
		if len(ticks) < 2 || len(ticks) > 12 || low > c[0] || top < c[1] || !(top > low) || math.IsNaN(low) {
			t.Errorf("%v: %v from %g to %g", c, ticks, low, top)
		}
	}
	at := time.Date(2026, 11, 22, 10, 20, 0, 0, time.UTC)
	for _, d := range []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		ticks := timeTicks(at.Add(-d), at)
		if len(ticks) < 3 || len(ticks) > 11 {
			t.Errorf("%s: %v", d, ticks)
		}
	}
}

// FuzzChart: whatever numbers a device sent, what is drawn are numbers.
func FuzzChart(f *testing.F) {
	f.Add("20.5", "-3", "1e300", .2)
	f.Add("true", "false", "0", .9)
	f.Add("-1e308", "1e308", "5e-324", .5)
	f.Fuzz(func(t *testing.T, a, b, c string, at float64) {
		s := series{field: &declaration.Field{Name: "x"}, buckets: make([]bucket, 8)}
		for i, x := range []string{a, b, c} {
			s.take(math.Mod(math.Abs(at)+float64(i)/7, 1), json.RawMessage(x))
		}
		from := time.Unix(1_700_000_000, 0)
		d := s.draw(from, from.Add(time.Hour))
		for _, text := range append(append(d.Lines, d.Bands...), fmt.Sprint(d.Y, d.Dots)) {
			if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
				t.Fatalf("%q is drawn for %s, %s, %s", text, a, b, c)
			}
		}
	})
}
