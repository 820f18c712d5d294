package check

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func passing(_ context.Context, l *Look) error {
	l.Touch("table", "things")
	l.Expect("another table", 2)
	l.Pass(2)
	return nil
}

func one(look func(context.Context, *Look) error) *Check {
	return &Check{ID: "a.check", Version: 1, Rows: []string{"1.2"}, Kind: Query, Says: "It is so.", Do: "Make it so.", MaxAge: time.Minute, Look: look}
}

// TestTake holds that a run that saw nothing, not all, too much, or did not
// come back is never a pass.
func TestTake(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	cases := []struct {
		name string
		look func(context.Context, *Look) error
		want Outcome
		says string
	}{
		{"passes", passing, Pass, ""},
		{"nothing", func(_ context.Context, l *Look) error { l.Touch("table", "t"); l.Expect("s", 0); return nil }, Empty, ""},
		{"only excluded", func(_ context.Context, l *Look) error {
			l.Touch("table", "t")
			l.Expect("s", 1)
			l.Exclude("x", "not ours")
			return nil
		}, Empty, ""},
		{"looked at fewer", func(_ context.Context, l *Look) error { l.Touch("t", "t"); l.Expect("s", 3); l.Pass(2); return nil }, Error, "2 of 3"},
		{"looked at more", func(_ context.Context, l *Look) error { l.Touch("t", "t"); l.Expect("s", 1); l.Pass(2); return nil }, Error, "2 of 1"},
		{"touched nothing", func(_ context.Context, l *Look) error { l.Expect("s", 1); l.Pass(1); return nil }, Error, "touched"},
		{"fails", func(_ context.Context, l *Look) error {
			l.Touch("t", "t")
			l.Expect("s", 2)
			l.Pass(1)
			l.Fail("x", "is %s", "bad")
			return nil
		}, Fail, ""},
		{"could not", func(context.Context, *Look) error { return errors.New("no disk") }, Error, "no disk"},
		{"panics", func(context.Context, *Look) error { panic("boom") }, Error, "boom"},
		{"hangs", func(context.Context, *Look) error { <-block; return nil }, Error, "in time"},
		{"obeys", func(ctx context.Context, _ *Look) error { <-ctx.Done(); return ctx.Err() }, Error, "deadline"},
	}
	for _, c := range cases {
		o := Take(t.Context(), one(c.look), "v1", time.Now, 50*time.Millisecond)
		if o.Outcome != c.want || !strings.Contains(o.Error, c.says) {
			t.Errorf("%s: %s %q, want %s with %q", c.name, o.Outcome, o.Error, c.want, c.says)
		}
		if got := o.Expires.Sub(o.Began); got != time.Minute {
			t.Errorf("%s: counts for %s, want the check's age", c.name, got)
		}
	}
}

// TestLateNotes holds that a look which comes back after it was given up
// changes nothing.
func TestLateNotes(t *testing.T) {
	late, noted := make(chan struct{}), make(chan struct{})
	o := Take(t.Context(), one(func(_ context.Context, l *Look) error {
		<-late
		l.Touch("t", "t")
		l.Expect("s", 1)
		l.Pass(1)
		close(noted)
		return nil
	}), "v1", time.Now, time.Millisecond)
	close(late)
	<-noted
	if o.Outcome != Error || o.Passing != 0 || len(o.Touched) != 0 {
		t.Errorf("a look that was given up counts: %+v", o)
	}
}

// TestFindingsAreInertAndBounded: what a device or person has named is cut and
// cannot move a terminal.
func TestFindingsAreInertAndBounded(t *testing.T) {
	o := Take(t.Context(), one(func(_ context.Context, l *Look) error {
		l.Touch("t", "t")
		for range 100 {
			l.Fail("\x1b[2J\u202eevil\x07", "%s", strings.Repeat("ä", 10_000))
		}
		return nil
	}), "v1", time.Now, time.Second)
	if o.Failing != 100 || len(o.Findings) != MaxFindings {
		t.Errorf("%d failing, %d named; want 100 and %d", o.Failing, len(o.Findings), MaxFindings)
	}
	f := o.Findings[0]
	if strings.ContainsAny(f.Subject, "\x1b\x07\u202e") || len(f.Text) > maxTextBytes+4 {
		t.Errorf("finding %q has %d bytes", f.Subject, len(f.Text))
	}
}

func TestRegistryRefuses(t *testing.T) {
	whole := func(change func(*Check)) Check {
		c := *one(passing)
		c.Violations = []Violation{{ID: "v", Says: "Breaks it.", Do: func(context.Context, Twin) (func(context.Context) error, error) { return nil, nil }}}
		change(&c)
		return c
	}
	if _, err := NewRegistry([]Check{whole(func(*Check) {})}); err != nil {
		t.Fatalf("a whole check is refused: %v", err)
	}
	for name, change := range map[string]func(*Check){
		"no violation":       func(c *Check) { c.Violations = nil },
		"no rows":            func(c *Check) { c.Rows = nil },
		"no words":           func(c *Check) { c.Says = "" },
		"no help":            func(c *Check) { c.Do = "" },
		"no age":             func(c *Check) { c.MaxAge = 0 },
		"neither nor":        func(c *Check) { c.Look = nil },
		"looks and does not": func(c *Check) { c.Missing = "later" },
		"foreign kind":       func(c *Check) { c.Kind = "guess" },
		"mute violation":     func(c *Check) { c.Violations[0].Says = "" },
	} {
		if _, err := NewRegistry([]Check{whole(change)}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	c := whole(func(*Check) {})
	if _, err := NewRegistry([]Check{c}, []Check{c}); err == nil {
		t.Error("two checks of one id are taken")
	}
}

func aRound() *Round {
	at := time.Date(2026, 11, 22, 10, 0, 0, 1000, time.UTC)
	o := Observation{
		Check: "a.check", Version: 1, Kind: Query, Program: "v1", Began: at, Taken: at, Expires: at.Add(time.Minute), Source: "s",
		Population: 2, Passing: 1, Failing: 1, Findings: []Finding{{"x", "<script>"}}, Touched: []Touch{{"table", "t"}}, Outcome: Fail,
	}
	p := Proof{Check: "a.check", Version: 1, Program: "v1", Violation: "v", Taken: at, Expires: at.Add(time.Hour), Before: Pass, Red: Fail, After: Pass, Saw: "x"}
	return &Round{Number: 7, Closed: at.Add(time.Second), Previous: DigestOf([]byte("before")), Observations: []Observation{o, o}, Proofs: []Proof{p}}
}

func TestRoundComesBack(t *testing.T) {
	b, err := aRound().Encode()
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRound(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.Encode()
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("a round changes on its way: %v\n%s\n%s", err, b, again)
	}
	for name, bad := range map[string][]byte{
		"empty":          nil,
		"no end":         b[:len(b)-1],
		"a line more":    append(bytes.Clone(b), "{}\n"...),
		"a line less":    b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1],
		"a blank":        bytes.Replace(b, []byte(`"check":`), []byte(`"check": `), 1),
		"foreign member": bytes.Replace(b, []byte(`{"check":`), []byte(`{"x":1,"check":`), 1),
		"negative count": bytes.Replace(b, []byte(`"observations":2`), []byte(`"observations":-2`), 1),
		"other case":     bytes.Replace(b, []byte(`"outcome"`), []byte(`"OUTCOME"`), 1),
	} {
		if _, err := ParseRound(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzParseRound(f *testing.F) {
	b, err := aRound().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := ParseRound(in)
		if err != nil {
			return
		}
		if out, err := r.Encode(); err != nil || !bytes.Equal(in, out) {
			t.Fatalf("taken, but written otherwise: %v", err)
		}
	})
}
