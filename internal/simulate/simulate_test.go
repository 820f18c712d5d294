package simulate

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

func policies(t *testing.T) (out []*declaration.Policy) {
	t.Helper()
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d, err := declaration.Parse(name, b)
		if err != nil {
			t.Fatal(err)
		}
		p, err := declaration.Compile(d)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// TestPlanIsItsSeed: the same seed gives the same fleet, another one another.
func TestPlanIsItsSeed(t *testing.T) {
	p := Plan{Devices: 200, Seed: 7, SkewShare: 0.5, SkewMost: time.Hour, SleepShare: 0.25, Sleep: time.Second}
	told := func(p Plan) (out []any) {
		for _, u := range p.units() {
			out = append(out, u.id, u.phase, u.offset, u.unset, u.sleeps, u.rand.Uint64())
		}
		return out
	}
	if !reflect.DeepEqual(told(p), told(p)) {
		t.Error("the same seed gives another fleet")
	}
	skewed, unset, sleeps := 0, 0, 0
	for _, u := range p.units() {
		switch {
		case u.unset:
			unset++
		case u.offset != 0:
			skewed++
		}
		if u.sleeps {
			sleeps++
		}
		if u.offset.Abs() > time.Hour {
			t.Errorf("a clock is off by %s", u.offset)
		}
	}
	if skewed < 40 || unset < 10 || sleeps < 25 || sleeps > 80 {
		t.Errorf("of 200: %d skewed, %d never set, %d sleep", skewed, unset, sleeps)
	}
	other := p
	other.Seed = 8
	if reflect.DeepEqual(told(p), told(other)) {
		t.Error("another seed gives the same fleet")
	}
}

// TestReadingsAreDeclared: whatever a declaration allows, what is made up is
// within it, and is taken whole by the server's own judge.
func TestReadingsAreDeclared(t *testing.T) {
	for _, pol := range policies(t) {
		plan, err := telemetry.NewPlan(pol, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		p := Plan{Policy: pol, Devices: 3, Seed: 1}
		for _, u := range p.units() {
			for i := range pol.Streams {
				name := pol.Streams[i].Name
				for n := range 500 {
					at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * 173 * time.Second)
					b, err := u.reading(pol, name, at).JSON()
					if err != nil {
						t.Fatalf("%s %s: %v", pol.Product, name, err)
					}
					var j telemetry.Judged
					if why := plan.Stream([]byte(name)).Judge(&j, b, at); why != "" || j.Bad > 0 || j.Undeclared > 0 {
						t.Fatalf("%s %s: %q, %d bad, %d undeclared in %s", pol.Product, name, why, j.Bad, j.Undeclared, b)
					}
				}
			}
		}
	}
}

func TestPlanBounds(t *testing.T) {
	good := Plan{Policy: policies(t)[0], Devices: 1, For: time.Second, Dir: "x"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Plan){
		"nobody":       func(p *Plan) { p.Devices = 0 },
		"too many":     func(p *Plan) { p.Devices = MaxDevices + 1 },
		"no time":      func(p *Plan) { p.For = 0 },
		"for ever":     func(p *Plan) { p.For = MaxFor + 1 },
		"a share":      func(p *Plan) { p.Loss = 1.1 },
		"below":        func(p *Plan) { p.StormShare = -0.1 },
		"a short nap":  func(p *Plan) { p.SleepShare, p.Sleep = 0.5, time.Millisecond },
		"a fast storm": func(p *Plan) { p.StormEvery = time.Millisecond },
		"no folder":    func(p *Plan) { p.Dir = "" },
		"no product":   func(p *Plan) { p.Policy = nil },
	} {
		p := good
		edit(&p)
		if p.Check() == nil {
			t.Errorf("%s is taken", name)
		}
	}
	p := good
	p.Dir = t.TempDir()
	_, err := Run(t.Context(), p, Doors{}, nil)
	if err == nil {
		t.Error("a fleet without roots runs")
	}
}

// TestRadioIsCut: a cut ends what is open, and nothing that comes after.
func TestRadioIsCut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newRadio((&net.Dialer{}).DialContext)
	a, err := r.connect(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r.cut()
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("over a cut connection: %v", err)
	}
	b, err := r.connect(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	_ = b.Close()
	if dials, cuts := r.counts(); dials != 2 || cuts != 1 || len(r.open) != 0 {
		t.Errorf("%d dials, %d cuts, %d open", dials, cuts, len(r.open))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.connect(ctx, "tcp", l.Addr().String()); err == nil || !strings.Contains(err.Error(), "cancel") {
		t.Errorf("%v", err)
	}
}
