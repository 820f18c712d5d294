package server

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// tried is a selftest of another server's evidence: in this very process, as
// there is no program to run, and of the checks of row 2.8 and the jobs only.
func tried(ctx context.Context, _ func(done, total int64)) ([]check.Proof, error) {
	registry, err := check.NewRegistry((&server{}).checks()...)
	if err != nil {
		return nil, err
	}
	o := SelftestOptions{Version: "test", Only: func(id string) bool {
		return id == "jobs.heartbeat" || slices.Contains(registry.Find(id).Rows, "2.8")
	}}
	// Other tests' servers take the twin's doors for their own, as all are of
	// one process, and guess there: its devices may be told to wait.
	for range 2 {
		if proofs, err := Selftest(ctx, o); err == nil {
			return proofs, nil
		}
	}
	return Selftest(ctx, o)
}

func (l *live) state(t testing.TB) assurance.State {
	t.Helper()
	var st assurance.State
	l.call(t, "GET", "/v1/checks", nil, &st)
	return st
}

func (l *live) look(t testing.TB, q api.RunRequest) assurance.State {
	t.Helper()
	var st assurance.State
	l.call(t, "POST", "/v1/checks/run", q, &st)
	return st
}

// checkOf is how one check stands.
func checkOf(st *assurance.State, id string) assurance.CheckState {
	for _, c := range st.Controls {
		for _, r := range c.Rows {
			for _, k := range r.Checks {
				if k.ID == id {
					return k
				}
			}
		}
	}
	return assurance.CheckState{}
}

// TestDriftTurnsRed opens a listener without TLS beside a running server and
// sees, by nothing but the server's own looking, the right line turn red within
// the check's age and ten seconds (CC 2.8, 5.8).
func TestDriftTurnsRed(t *testing.T) {
	home := newHome(t, core.Live, "")
	l := startWith(t, home, home, Options{Selftest: tried})
	waitFor(t, time.Minute, "the checks to be seen red and to pass", func() bool {
		st := l.state(t)
		return checkOf(&st, "doors.cleartext").Verdict == assurance.Met
	})
	beside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = beside.Close() }() // the test is over
	began := time.Now()
	waitFor(t, check.Critical+10*time.Second, "the line to turn red", func() bool {
		st := l.state(t)
		k := checkOf(&st, "doors.cleartext")
		return k.Verdict == assurance.Failing && strings.Contains(k.Why, beside.Addr().String()) && st.Row("2.8").Verdict == assurance.Failing && st.Control("RP-03").Verdict == assurance.Failing
	})
	t.Logf("red after %s", time.Since(began).Round(time.Millisecond))
}

// TestEvidenceOutlivesTheServer: what was observed and tried counts after a
// restart, and what was changed meanwhile makes everything tampered.
func TestEvidenceOutlivesTheServer(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Live, "")
	l := startWith(t, home, home, Options{Selftest: tried})
	waitFor(t, time.Minute, "the first trials", func() bool { st := l.state(t); return len(checkOf(&st, "jobs.heartbeat").Proofs) > 0 })
	l.look(t, api.RunRequest{})
	st := l.state(t)
	if v := st.Row("2.8").Verdict; v != assurance.Met {
		t.Fatalf("row 2.8 is %s: %s", v, st.Row("2.8").Why)
	}
	looked := checkOf(&st, "jobs.heartbeat").Observation.Began
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	again := startWith(t, home, home, Options{})
	st = again.state(t)
	if k := checkOf(&st, "jobs.heartbeat"); len(k.Proofs) == 0 || k.Observation == nil || k.Observation.Began.Before(looked) {
		t.Errorf("after a restart: %s, not %s: %+v", st.Row("2.8").Why, looked, k.Observation)
	}
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}

	db := filepath.Join(home, "data", "control.db")
	for name, stmts := range map[string][2]string{
		"newest evidence edited": {
			`UPDATE assurance_latest SET line = replace(CAST(line AS TEXT), '"pass"', '"fail"') WHERE key = 'o/jobs.heartbeat'`,
			`UPDATE assurance_latest SET line = CAST(replace(CAST(line AS TEXT), '"fail"', '"pass"') AS BLOB) WHERE key = 'o/jobs.heartbeat'`,
		},
		"round gone": {`UPDATE assurance_round SET number = number + 100000`, `UPDATE assurance_round SET number = number - 100000`},
		"digest":     {`UPDATE assurance_round SET ledger_from = ledger_from + 100000`, `UPDATE assurance_round SET ledger_from = ledger_from - 100000`},
	} {
		if n, err := store.Behind(t.Context(), db, stmts[0]); err != nil || n == 0 {
			t.Fatalf("%s: %d rows, %v", name, n, err)
		}
		x := startWith(t, home, home, Options{})
		st := x.state(t)
		if v := st.Row("2.8").Verdict; v != assurance.Tampered || st.Headline.Live != 0 {
			t.Errorf("%s: row 2.8 is %s; %s", name, v, st.Headline)
		}
		if err := x.stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Behind(t.Context(), db, stmts[1]); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCouldNotLook: a check that could not look tries again after minutes, also
// where its turn would come in hours; one that did look waits for its turn.
func TestCouldNotLook(t *testing.T) {
	s := opened(t, newHome(t, core.Live, ""))
	defer func() { _ = s.close() }() // the test is over
	look := func(trouble error) func(context.Context, *check.Look) error {
		return func(_ context.Context, l *check.Look) error {
			l.Touch("nothing", "much")
			l.Expect("this test", 1)
			l.Pass(1)
			return trouble
		}
	}
	list := []check.Check{
		*s.rounds.registry.Find("devices.no-anonymous"),
		*s.rounds.registry.Find("environment.apart"),
	}
	list[0].Look, list[1].Look = look(errors.New("the line is busy")), look(nil)
	registry, err := check.NewRegistry(list)
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{s: s, registry: registry, running: map[string]bool{}, next: map[string]time.Time{}}
	c.turn(t.Context())
	for id, want := range map[string]time.Duration{"devices.no-anonymous": lookAgainIn, "environment.apart": check.ProbeAge / 10} {
		if in := time.Until(c.next[id]); in > want || in < want-time.Minute {
			t.Errorf("%s looks again in %s, want %s", id, in, want)
		}
	}
}
