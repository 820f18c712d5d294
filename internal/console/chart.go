package console

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// series is one field over a span of time, in buckets.
type series struct {
	field   *declaration.Field
	buckets []bucket
	n       int
}

type bucket struct {
	n             int
	sum, low, top float64
}

// take puts a value in its place; at is 0 at the beginning of the span and 1
// at its end. A device's clock may be a little ahead of ours.
func (s *series) take(at float64, raw json.RawMessage) {
	x, ok := number(raw)
	if !ok || at < 0 {
		return
	}
	b := &s.buckets[min(int(at*float64(len(s.buckets))), len(s.buckets)-1)]
	if b.n == 0 || x < b.low {
		b.low = x
	}
	if b.n == 0 || x > b.top {
		b.top = x
	}
	b.sum += x
	b.n++
	s.n++
}

func number(raw json.RawMessage) (float64, bool) {
	switch string(raw) {
	case "true":
		return 1, true
	case "false":
		return 0, true
	}
	x, err := strconv.ParseFloat(string(raw), 64)
	return x, err == nil && math.Abs(x) <= 1e100 // what is larger overflows on the way; NaN is not smaller
}

// chart is a series as it is drawn: coordinates that the server worked out,
// and the same in a table.
type chart struct {
	Name, About, Unit string
	Yes               bool // share of a yes-or-no value
	N                 int
	Lines             []string // points of the mean, one line for each stretch without a gap
	Bands             []string // points of the surface from the lowest to the highest
	Dots              []dot    // stretches of one bucket
	Y                 []tick
	X                 []tick
	Rows              []chartRow
}

type dot struct{ X, Y string }

type tick struct{ At, Text string }

type chartRow struct {
	From           time.Time
	N              int
	Low, Mean, Top string
}

// The drawing's size and margins, in its own units.
const (
	chartWide, chartHigh  = 720.0, 190.0
	chartLeft, chartRight = 46.0, 8.0
	chartTop, chartFoot   = 8.0, 22.0
)

func (s *series) draw(from, to time.Time) chart {
	c := chart{Name: s.field.Name, About: s.field.About, Unit: s.field.Unit, N: s.n, Yes: s.field.Type == declaration.Boolean}
	if c.Unit == "1" {
		c.Unit = ""
	}
	if s.n == 0 {
		return c
	}
	low, top := math.Inf(1), math.Inf(-1)
	for _, b := range s.buckets {
		if b.n > 0 {
			low, top = min(low, b.low), max(top, b.top)
		}
	}
	if c.Yes {
		low, top = 0, 1
	}
	ticks, low, top := ticksFor(low, top)
	y := func(v float64) string {
		return coord(chartTop + (top-v)/(top-low)*(chartHigh-chartTop-chartFoot))
	}
	for _, t := range ticks {
		c.Y = append(c.Y, tick{y(t), format(t)})
	}
	if c.Yes {
		c.Y = []tick{{y(0), "no"}, {y(1), "yes"}}
	}
	wide := (chartWide - chartLeft - chartRight) / float64(len(s.buckets))
	x := func(i int) string { return coord(chartLeft + (float64(i)+.5)*wide) }
	each := to.Sub(from) / time.Duration(len(s.buckets))
	c.X = timeTicks(from, to)

	var mean, back []string
	var band []string
	end := func(i int) {
		switch {
		case len(mean) == 1:
			xy := strings.Split(mean[0], ",")
			c.Dots = append(c.Dots, dot{xy[0], xy[1]})
		case len(mean) > 1:
			c.Lines = append(c.Lines, strings.Join(mean, " "))
			if !c.Yes {
				for j := len(back) - 1; j >= 0; j-- {
					band = append(band, back[j])
				}
				c.Bands = append(c.Bands, strings.Join(band, " "))
			}
		}
		mean, band, back = nil, nil, nil
	}
	for i, b := range s.buckets {
		if b.n == 0 {
			end(i)
			continue
		}
		m := b.sum / float64(b.n)
		mean = append(mean, x(i)+","+y(m))
		band, back = append(band, x(i)+","+y(b.top)), append(back, x(i)+","+y(b.low))
		c.Rows = append(c.Rows, chartRow{From: from.Add(time.Duration(i) * each), N: b.n, Low: format(b.low), Mean: format(m), Top: format(b.top)})
	}
	end(len(s.buckets))
	return c
}

func coord(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// format writes a value with four digits that matter.
func format(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	x, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64) // our own digits
	return strconv.FormatFloat(x, 'g', -1, 64)
}

// ticksFor are three to six round values around a range, and the range that
// they span.
func ticksFor(low, top float64) (ticks []float64, from, to float64) {
	if top-low <= max(math.Abs(top), math.Abs(low), 1e-90)*1e-9 {
		pad := max(math.Abs(top)*.05, 1)
		low, top = low-pad, top+pad
	}
	step := math.Pow(10, math.Floor(math.Log10((top-low)/3)))
	for _, m := range []float64{1, 2, 5, 10} {
		if (top-low)/(step*m) <= 5 {
			step *= m
			break
		}
	}
	from, to = math.Floor(low/step)*step, math.Ceil(top/step)*step
	for i := 0; i <= int(math.Round((to-from)/step)) && i < 12; i++ {
		t := from + float64(i)*step
		ticks = append(ticks, math.Round(t/step)*step)
	}
	return ticks, from, to
}

// timeTicks are a handful of round times along the foot.
func timeTicks(from, to time.Time) []tick {
	const day = 24 * time.Hour
	step := 365 * day
	for _, s := range []time.Duration{10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 7 * day, 30 * day, 90 * day} {
		if to.Sub(from)/s <= 7 {
			step = s
			break
		}
	}
	layout := "2 Jan"
	if step < day {
		layout = "15:04"
	}
	var out []tick
	for t := from.UTC().Truncate(step).Add(step); t.Before(to); t = t.Add(step) {
		at := chartLeft + float64(t.Sub(from))/float64(to.Sub(from))*(chartWide-chartLeft-chartRight)
		if at < chartLeft+14 || at > chartWide-20 {
			continue // it would be cut
		}
		text := t.Format(layout)
		if step < day && t.Equal(t.Truncate(day)) {
			text = t.Format("2 Jan")
		}
		out = append(out, tick{coord(at), text})
	}
	return out
}
