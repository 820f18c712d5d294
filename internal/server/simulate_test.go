package server

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/simulate"
)

// TestRehearsal: a fleet whose connections are cut again and again, and whose
// radios sleep, loses nothing: what it measured is what the store has, once.
func TestRehearsal(t *testing.T) {
	t.Parallel()
	l := start(t, newHome(t, core.Test, ""))
	source := strings.Replace(testDeclaration, "every: 10ms", "every: 50ms", 1)
	l.publish(t, source)
	d, err := declaration.Parse("test.yaml", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	p, err := declaration.Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := os.ReadFile(l.rootFile(t))
	if err != nil {
		t.Fatal(err)
	}
	plan := simulate.Plan{
		Policy: p, Devices: 12, Seed: 3, For: 6 * time.Second, Settle: 30 * time.Second, Dir: t.TempDir(),
		StormEvery: 2 * time.Second, StormShare: 0.5, Loss: 1, SleepShare: 0.3, Sleep: time.Second,
	}
	told := 0
	r, err := simulate.Run(t.Context(), plan, simulate.Doors{
		Server: "localhost:8883", Enrol: "localhost:8443", Roots: roots, Dial: (&switchboard{l: l}).dial,
		Code: func(_ context.Context, id core.DeviceID) (string, error) { return l.add(t, id), nil },
	}, func(simulate.Figures) { told++ })
	if err != nil {
		t.Fatal(err)
	}
	if r.Measured < 100 || r.Taken != r.Measured || r.Refused+r.Dropped+r.Lost != 0 || r.Waiting != 0 || len(r.Errors) > 0 {
		t.Errorf("%+v", r)
	}
	if r.Storms < 1 || r.Cuts < 3 || r.Dials <= plan.Devices+2 || told == 0 {
		t.Errorf("%d storms, %d cuts, %d dials, told %d times", r.Storms, r.Cuts, r.Dials, told)
	}
	var c api.Counts
	waitFor(t, 20*time.Second, "everything to be filed", func() bool {
		l.call(t, "GET", "/v1/counts", nil, &c)
		return c.Stored == r.Measured
	})
	// The same seed goes on with the same devices: their keys and queues are
	// still there, and no code is asked for.
	plan.For, plan.StormEvery = time.Second, 0
	again, err := simulate.Run(t.Context(), plan, simulate.Doors{
		Server: "localhost:8883", Enrol: "localhost:8443", Roots: roots, Dial: (&switchboard{l: l}).dial,
		Code: func(_ context.Context, id core.DeviceID) (string, error) {
			t.Errorf("%s wants a code again", id)
			return "", os.ErrNotExist
		},
	}, nil)
	if err != nil || again.Measured == 0 || again.Taken != again.Measured {
		t.Errorf("again: %+v, %v", again, err)
	}
}
