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
		{"approved on the machine", func(_ *Input, w *Waiver) { w.By.ID = "os:root(0)" }, Failing, "machine itself"},
		{"asked for on the machine", func(_ *Input, w *Waiver) { w.AskedBy.ID = "os:root(0)" }, Failing, "machine itself"},
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
		in.Recorded = recordsOf(&w)
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

// recordsOf are the ledger's records of a waiver that nobody touched.
func recordsOf(w *Waiver) []WaiverRecord {
	var out []WaiverRecord
	add := func(kind core.RecordKind, by core.Actor, at time.Time) {
		r := w.RecordOf(kind, by, at)
		x, err := ParseWaiverRecord(&r)
		if err != nil {
			panic(err)
		}
		out = append(out, x)
	}
	add(RecordWaiverAsked, w.AskedBy, w.Asked)
	if !w.Approved.IsZero() {
		add(RecordWaiverApproved, w.By, w.Approved)
	}
	if !w.Ended.IsZero() {
		add(RecordWaiverEnded, w.AskedBy, w.Ended)
	}
	return out
}

// TestAlteredWaiver: each way in which a waiver is not what the ledger holds
// makes it count for nothing, whatever it says of itself.
func TestAlteredWaiver(t *testing.T) {
	const row, id = RowID("2.8"), "of.2.8"
	p3 := core.Actor{Kind: core.ActorStaff, ID: "p3"}
	for _, c := range []struct {
		name   string
		change func(*Waiver, *[]WaiverRecord)
		void   string // "": it counts
	}{
		{"as it is", func(*Waiver, *[]WaiverRecord) {}, ""},
		{"taken back later", func(w *Waiver, r *[]WaiverRecord) { w.Ended = noon.Add(time.Minute); *r = recordsOf(w) }, ""},
		{"one subject more", func(w *Waiver, _ *[]WaiverRecord) { w.Subjects = append(w.Subjects, id+"/y") }, "not what was asked for"},
		{"another subject", func(w *Waiver, _ *[]WaiverRecord) { w.Subjects[0] = id + "/x " }, "not what was asked for"},
		{"prolonged", func(w *Waiver, _ *[]WaiverRecord) { w.Ends = w.Ends.Add(time.Second) }, "not what was asked for"},
		{"another reason", func(w *Waiver, _ *[]WaiverRecord) { w.Reason += "!" }, "not what was asked for"},
		{"something else makes up for it", func(w *Waiver, _ *[]WaiverRecord) { w.Instead = "MR-02" }, "not what was asked for"},
		{"asked by another", func(w *Waiver, _ *[]WaiverRecord) { w.AskedBy = p3 }, "not what was asked for"},
		{"asked earlier", func(w *Waiver, _ *[]WaiverRecord) { w.Asked = w.Asked.Add(-time.Hour) }, "not what was asked for"},
		{"approved by another", func(w *Waiver, _ *[]WaiverRecord) { w.By = p3 }, "not what was approved"},
		{"approved later", func(w *Waiver, _ *[]WaiverRecord) { w.Approved = w.Approved.Add(time.Minute) }, "not what was approved"},
		{"added", func(_ *Waiver, r *[]WaiverRecord) { *r = nil }, "that anybody asked"},
		{"approved by nobody", func(_ *Waiver, r *[]WaiverRecord) { *r = (*r)[:1] }, "that anybody approved"},
		{"another was approved", func(_ *Waiver, r *[]WaiverRecord) { (*r)[1].Digest[0] ^= 1 }, "not what was approved"},
		{"taken back by the ledger", func(w *Waiver, r *[]WaiverRecord) {
			x := *w
			x.Ended = noon.Add(-time.Minute)
			*r = recordsOf(&x)
		}, "taken back"},
		{"taken back earlier than it says", func(w *Waiver, r *[]WaiverRecord) {
			x := *w
			x.Ended = noon.Add(-time.Minute)
			*r = recordsOf(&x)
			w.Ended = noon.Add(time.Hour)
		}, "taken back"},
		{"asked twice", func(_ *Waiver, r *[]WaiverRecord) { *r = append(*r, (*r)[0]) }, "more than once"},
		{"approved twice", func(_ *Waiver, r *[]WaiverRecord) { *r = append(*r, (*r)[1]) }, "not what was approved"},
		{"asked in an earlier ledger", func(_ *Waiver, r *[]WaiverRecord) { (*r)[0].Earlier = true }, "began anew"},
		{"approved in an earlier ledger", func(_ *Waiver, r *[]WaiverRecord) { (*r)[1].Earlier = true }, "not what was approved"},
		{"the records of another", func(w *Waiver, _ *[]WaiverRecord) { w.ID = "w2" }, "that anybody asked"},
	} {
		in := allMet()
		in.change(id, fails("x"))
		w := Waiver{
			ID: "w1", Row: row, Subjects: []string{id + "/x"}, Reason: "replaced next month", Instead: "MR-01",
			Asked: noon.Add(-2 * time.Hour), AskedBy: core.Actor{Kind: core.ActorStaff, ID: "p1"},
			Approved: noon.Add(-time.Hour), By: core.Actor{Kind: core.ActorStaff, ID: "p2"}, Ends: noon.Add(24 * time.Hour),
		}
		in.Recorded = recordsOf(&w)
		c.change(&w, &in.Recorded)
		in.Waivers = []Waiver{w}
		s := Judge(in)
		r := s.Row(row)
		switch {
		case c.void == "" && r.Verdict != Waived:
			t.Errorf("%s: %s (%s)", c.name, r.Verdict, r.Waiver.Void)
		case c.void != "" && (r.Verdict != Failing || !strings.Contains(r.Waiver.Void, c.void)):
			t.Errorf("%s: %s, void because %q, want %q", c.name, r.Verdict, r.Waiver.Void, c.void)
		}
	}
}

// TestWaiverRecordIsStrict: a record with other facts is none.
func TestWaiverRecordIsStrict(t *testing.T) {
	w := Waiver{ID: "w1", Row: "2.8", Subjects: []string{"a"}, Ends: noon}
	good := w.RecordOf(RecordWaiverAsked, w.AskedBy, noon)
	if _, err := ParseWaiverRecord(&good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*core.Record){
		"another kind":     func(r *core.Record) { r.Kind = RecordObserved },
		"a fact less":      func(r *core.Record) { r.Facts = r.Facts[:5] },
		"a fact more":      func(r *core.Record) { r.Facts = append(r.Facts, core.Fact{Name: "x"}) },
		"in another order": func(r *core.Record) { r.Facts[0], r.Facts[1] = r.Facts[1], r.Facts[0] },
		"no digest":        func(r *core.Record) { r.Facts[4].Value = "x" },
	} {
		r := w.RecordOf(RecordWaiverAsked, w.AskedBy, noon)
		change(&r)
		if _, err := ParseWaiverRecord(&r); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
