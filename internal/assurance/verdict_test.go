package assurance

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// allMet is an input in which every row has one check that passes and was seen
// red.
func allMet() Input {
	in := Input{At: noon, Program: "v1", Facts: FactsOf(nil), Latest: map[string]check.Observation{}, Proofs: map[string][]check.Proof{}}
	for _, r := range Rows() {
		in.add("of."+string(r.ID), r.ID)
	}
	return in
}

func (in *Input) add(id string, row RowID) {
	in.Checks = append(in.Checks, Declared{ID: id, Version: 1, Rows: []RowID{row}, Kind: check.Query, Says: "So.", Do: "Do.", MaxAge: time.Hour, Violations: []string{"v"}})
	in.Latest[id] = check.Observation{
		Check: id, Version: 1, Kind: check.Query, Program: "v1", Began: noon.Add(-time.Minute), Taken: noon.Add(-time.Minute), Expires: noon.Add(59 * time.Minute),
		Source: "s", Population: 2, Passing: 2, Touched: []check.Touch{{What: "t", Name: "t"}}, Outcome: check.Pass,
	}
	in.Proofs[id] = []check.Proof{{
		Check: id, Version: 1, Program: "v1", Violation: "v", Taken: noon.Add(-time.Hour), Expires: noon.Add(time.Hour), Before: check.Pass, Red: check.Fail, After: check.Pass,
	}}
}

func (in *Input) change(id string, f func(*check.Observation)) {
	o := in.Latest[id]
	f(&o)
	in.Latest[id] = o
}

func fails(subjects ...string) func(*check.Observation) {
	return func(o *check.Observation) {
		o.Outcome, o.Passing, o.Failing, o.Population = check.Fail, 0, len(subjects), len(subjects)
		for _, s := range subjects {
			o.Findings = append(o.Findings, check.Finding{Subject: s, Text: "is wrong"})
		}
	}
}

func TestEverythingMet(t *testing.T) {
	s := Judge(allMet())
	if s.Headline.Live != len(Controls()) {
		t.Errorf("with every row met: %s", s.Headline)
	}
}

// TestNoObservationCanBeSpared takes each check's observation, and then each
// proof, away: its row must not be met any more.
func TestNoObservationCanBeSpared(t *testing.T) {
	for _, r := range Rows() {
		in := allMet()
		delete(in.Latest, "of."+string(r.ID))
		s := Judge(in)
		if v := s.Row(r.ID).Verdict; v != Unproven {
			t.Errorf("row %s without an observation is %s", r.ID, v)
		}
		if v := s.Control(r.Control).Verdict; v == Met {
			t.Errorf("control %s is met without row %s", r.Control, r.ID)
		}
		in = allMet()
		delete(in.Proofs, "of."+string(r.ID))
		s = Judge(in)
		if v := s.Row(r.ID).Verdict; v != Unproven {
			t.Errorf("row %s is %s, and its check was never seen red", r.ID, v)
		}
	}
}

// TestVerdictOfOneCheck is every way in which evidence falls short.
func TestVerdictOfOneCheck(t *testing.T) {
	const row, id = RowID("2.8"), "of.2.8"
	change := func(f func(*check.Observation)) func(*Input) { return func(in *Input) { in.change(id, f) } }
	proof := func(f func(*check.Proof)) func(*Input) { return func(in *Input) { f(&in.Proofs[id][0]) } }
	declared := func(in *Input) *Declared {
		return &in.Checks[slices.IndexFunc(in.Checks, func(d Declared) bool { return d.ID == id })]
	}
	cases := []struct {
		name   string
		change func(*Input)
		want   Verdict
		says   string
	}{
		{"as it is", func(*Input) {}, Met, ""},
		{"fails", change(fails("port 1883")), Failing, "port 1883"},
		{"fails, and that is long ago", change(func(o *check.Observation) { fails("x")(o); o.Began = noon.Add(-48 * time.Hour) }), Failing, "x"},
		{"old", change(func(o *check.Observation) { o.Began = noon.Add(-time.Hour - time.Second) }), Stale, "counted until"},
		{"just not old", change(func(o *check.Observation) { o.Began = noon.Add(-time.Hour) }), Met, ""},
		{"says itself that it lasts longer", change(func(o *check.Observation) { o.Began, o.Expires = noon.Add(-2*time.Hour), noon.Add(time.Hour) }), Stale, ""},
		{"of a time to come", change(func(o *check.Observation) { o.Began = noon.Add(time.Minute) }), Errored, "clock"},
		{"could not look", change(func(o *check.Observation) { o.Outcome, o.Error = check.Error, "no disk" }), Errored, "no disk"},
		{"nothing there", change(func(o *check.Observation) { o.Outcome = check.Empty }), Unproven, "nothing to look at"},
		{"foreign outcome", change(func(o *check.Observation) { o.Outcome = "fine" }), Errored, "unknown"},
		{"of an older check", change(func(o *check.Observation) { o.Version = 0 }), Unproven, "never looked at"},
		{"proof of another program", proof(func(p *check.Proof) { p.Program = "v0" }), Unproven, "another version"},
		{"proof too old", proof(func(p *check.Proof) { p.Expires = noon.Add(-time.Second) }), Unproven, "too long ago"},
		{"proof of a time to come", proof(func(p *check.Proof) { p.Taken = noon.Add(time.Hour) }), Unproven, "clock"},
		{"never went red", proof(func(p *check.Proof) { p.Red = check.Pass }), Unproven, "green, red, green"},
		{"was red before", proof(func(p *check.Proof) { p.Before = check.Fail }), Unproven, "green, red, green"},
		{"proof of an older check", proof(func(p *check.Proof) { p.Version = 0 }), Unproven, "never seen red"},
		{"one violation more", func(in *Input) { d := declared(in); d.Violations = append(d.Violations, "w") }, Unproven, "never seen red by w"},
		{"no violation", func(in *Input) { declared(in).Violations = nil }, Unproven, "no violation"},
		{"not built", func(in *Input) { declared(in).Missing = "later" }, Unproven, "later"},
		{"a second check that fails", func(in *Input) { in.add("second", row); in.change("second", fails("y")) }, Failing, "y"},
		{"a second check that is not built", func(in *Input) {
			in.Checks = append(in.Checks, Declared{ID: "gap", Version: 1, Rows: []RowID{row}, Missing: "not yet"})
		}, Unproven, "not yet"},
		{"evidence was changed", func(in *Input) { in.Broken = []string{"round 7 was changed"} }, Tampered, "round 7"},
	}
	for _, c := range cases {
		in := allMet()
		c.change(&in)
		s := Judge(in)
		r := s.Row(row)
		if r.Verdict != c.want || !strings.Contains(r.Why, c.says) {
			t.Errorf("%s: %s (%s), want %s with %q", c.name, r.Verdict, r.Why, c.want, c.says)
		}
	}
}

// TestAttestedIsNotMet: what a person says never makes a row met.
func TestAttestedIsNotMet(t *testing.T) {
	in := allMet()
	for i := range in.Checks {
		if in.Checks[i].Rows[0] == "2.8" {
			in.Checks[i].Kind = check.Attestation
		}
	}
	s := Judge(in)
	if v := s.Row("2.8").Verdict; v != Attested {
		t.Errorf("a row that only a person vouches for is %s", v)
	}
	if s.Headline.Attested != 1 || s.Headline.Live != len(Controls())-1 {
		t.Errorf("headline: %s", s.Headline)
	}
}

// TestJudgeIsAFunction: the same input gives the same bytes, also after a way
// through JSON.
func TestJudgeIsAFunction(t *testing.T) {
	in := allMet()
	in.change("of.2.8", fails("a", "b"))
	first, err := json.Marshal(Judge(in))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var again Input
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	again.Latest, again.Proofs = maps.Clone(in.Latest), maps.Clone(in.Proofs)
	slices.Reverse(again.Checks)
	second, err := json.Marshal(Judge(again))
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(second) {
		t.Error("the same input, in another order, gives another state")
	}
}

// TestWaiver is every way in which a waiver counts for nothing.
func TestWaiver(t *testing.T) {
	const row, id = RowID("2.8"), "of.2.8"
	good := func() Waiver {
		return Waiver{
			ID: "w1", Row: row, Subjects: []string{id + "/x"}, Reason: "replaced next month", Instead: "MR-01",
			Asked: noon.Add(-2 * time.Hour), AskedBy: core.Actor{Kind: core.ActorStaff, ID: "p1"},
			Approved: noon.Add(-time.Hour), By: core.Actor{Kind: core.ActorStaff, ID: "p2"}, Ends: noon.Add(24 * time.Hour),
		}
	}
	cases := []struct {
		name   string
		change func(*Input, *Waiver)
		want   Verdict
		void   string
	}{
		{"good", func(*Input, *Waiver) {}, Waived, ""},
		{"not approved", func(_ *Input, w *Waiver) { w.Approved = time.Time{} }, Failing, "second person"},
		{"approved by who asked", func(_ *Input, w *Waiver) { w.By = w.AskedBy }, Failing, "who asked"},
		{"over", func(_ *Input, w *Waiver) { w.Ends = noon }, Failing, "ended"},
		{"too long", func(_ *Input, w *Waiver) { w.Ends = w.Approved.Add(MaxWaiver + time.Second) }, Failing, "90 days"},
		{"taken back", func(_ *Input, w *Waiver) { w.Ended = noon }, Failing, "taken back"},
		{"of a time to come", func(_ *Input, w *Waiver) { w.Approved = noon.Add(time.Minute) }, Failing, "clock"},
		{"scope has grown", func(in *Input, _ *Waiver) { in.change(id, fails("y")) }, Failing, "grown"},
		{"other scope", func(_ *Input, w *Waiver) { w.Subjects = []string{id + "/y"} }, Failing, "grown"},
		{"more than can be named", func(in *Input, _ *Waiver) { in.change(id, func(o *check.Observation) { o.Failing = 21 }) }, Failing, "more than can be named"},
		{"what makes up for it is not met", func(in *Input, _ *Waiver) { delete(in.Latest, "of.5.8") }, Failing, "not met"},
		{"never for shared passwords", func(in *Input, w *Waiver) {
			w.Row, w.Subjects = "1.9", []string{"of.1.9/x"}
			in.change("of.1.9", fails("x"))
		}, Failing, "never accepted"},
		{"never over evidence that was changed", func(in *Input, _ *Waiver) { in.Broken = []string{"changed"} }, Tampered, ""},
	}
	for _, c := range cases {
		in := allMet()
		in.change(id, fails("x"))
		w := good()
		c.change(&in, &w)
		in.Waivers = []Waiver{w}
		s := Judge(in)
		r := s.Row(w.Row)
		if r.Verdict != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, r.Verdict, r.Why, c.want)
		}
		if c.void != "" && (r.Waiver == nil || !strings.Contains(r.Waiver.Void, c.void)) {
			t.Errorf("%s: void because %+v, want %q", c.name, r.Waiver, c.void)
		}
		if r.Verdict == Waived && s.Headline.NotProved == 0 {
			t.Errorf("%s: a waived row counts as proved: %s", c.name, s.Headline)
		}
	}
}
