package server

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// TestCanaryInADatabase: readings in PostgreSQL are not in the data folder; the
// canary is looked for in rows of the database, too.
func TestCanaryInADatabase(t *testing.T) {
	s := opened(t, newHome(t, core.Live, "store: "+pgtest.Database(t)+"\n"))
	defer func() { _ = s.close() }() // the test is over
	c := &canary{s: s}
	k := &s.canaryChecks()[0]
	look := func() check.Observation {
		t.Helper()
		return check.Take(t.Context(), k, "test", time.Now, time.Minute)
	}
	e := core.EpochAt(30*24*time.Hour, 24*time.Hour, time.Now())
	seq := uint64(0)
	file := func(sealed []byte) {
		t.Helper()
		seq++
		a := &telemetry.Append{Fate: make([]telemetry.Fate, 1), Mark: telemetry.Mark{Journal: "j", Seq: seq}, Rows: []telemetry.Row{{
			Reading: telemetry.Reading{Product: "p", Subject: core.Subject{1}, Stream: "s", T: e.Start * 1000, Received: e.Start * 1000, HasSeq: true, Seq: seq},
			Part:    telemetry.Part{Epoch: e, Sealed: sealed},
		}}}
		if _, err := s.telem.files.Append(t.Context(), e, a); err != nil {
			t.Fatal(err)
		}
	}
	well := make([]byte, 200)
	_, _ = rand.Read(well) // never fails
	file(well)
	if o := look(); o.Outcome != check.Pass {
		t.Fatalf("sealed rows: %s %s %v", o.Outcome, o.Error, o.Findings)
	}
	text, err := c.planted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file(append([]byte("x,"), text...))
	if o := look(); o.Outcome != check.Fail || !strings.Contains(o.Findings[0].Text, "row 2 holds the canary in clear") {
		t.Errorf("the canary in a row: %s %s %+v", o.Outcome, o.Error, o.Findings)
	}
}
