package bundle

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/core"
)

// waived is a world in which one check fails and its row is waived by two
// persons, with the ledger's records of it.
func waived() (*world, Options, assurance.Waiver) {
	w := newWorld(len(assurance.Rows()))
	for i, r := range assurance.Rows() { // each row one check, so that controls can be met
		w.checks[i].Rows, w.checks[i].Kind, w.checks[i].MaxAge = []assurance.RowID{r.ID}, "query", 24*time.Hour
	}
	w.live(1)
	failing := 8 + 9*2 // every ninth fails
	row := w.checks[failing].Rows[0]
	x := assurance.Waiver{
		ID: "w1", Row: row, Subjects: []string{w.checks[failing].ID + "/<script>alert(1)</script>"}, Reason: "the part is replaced next week", Instead: w.met(),
		Asked: w.now.Add(time.Second), AskedBy: core.Actor{Kind: core.ActorStaff, ID: "paaaaaaaaaaaa"}, Ends: w.now.Add(48 * time.Hour),
		Approved: w.now.Add(2 * time.Second), By: core.Actor{Kind: core.ActorStaff, ID: "pbbbbbbbbbbbb"},
	}
	w.record(x.RecordOf(assurance.RecordWaiverAsked, x.AskedBy, x.Asked))
	w.record(x.RecordOf(assurance.RecordWaiverApproved, x.By, x.Approved))
	w.live(2)
	o := w.options()
	o.From, o.Input.Waivers = dawn, []assurance.Waiver{x}
	return w, o, x
}

// met is a control that is met once every check has looked and was tried.
func (w *world) met() assurance.ControlID {
	for _, c := range assurance.Controls() {
		good := true
		for _, r := range assurance.RowsOf(c.ID) {
			i := slices.IndexFunc(w.checks, func(d assurance.Declared) bool { return d.Rows[0] == r.ID })
			good = good && i >= 0 && i%9 != 8
		}
		if good {
			return c.ID
		}
	}
	return ""
}

// TestWaiverInABundle: one that the ledger holds makes its row waived; one that
// was edited, added, prolonged or given back, or whose records are left out, is
// found by whoever verifies, even when everything was worked out anew by
// somebody with the right key.
func TestWaiverInABundle(t *testing.T) {
	w, o, x := waived()
	k := newKey(t)
	honest := w.sealed(t, o, k)
	trust := w.trust(k, w.signed(3))
	trust.Earlier = nil
	r := mustVerify(t, honest, trust)
	if !r.OK() || r.State == nil || r.State.Row(x.Row).Verdict != assurance.Waived {
		t.Fatalf("honest: %s %v; %+v", r.Standing, r.Faults, r.State.Row(x.Row).Why)
	}
	// forge changes what is stated and what is proven, and works all else out anew.
	forge := func(change func(*Statement, *logProofs)) (files, []string) {
		f := clone(honest)
		st, err := decode[Statement](f[nameInput])
		if err != nil {
			t.Fatal(err)
		}
		p, err := decode[logProofs](f[nameProofs])
		if err != nil {
			t.Fatal(err)
		}
		change(st, p)
		if f[nameInput], err = encode(st); err != nil {
			t.Fatal(err)
		}
		if f[nameProofs], err = encode(p); err != nil {
			t.Fatal(err)
		}
		for _, name := range derived() {
			delete(f, name)
		}
		delete(f, nameSums)
		delete(f, nameSig)
		var bad faults
		open(f, &bad)
		e := open(f, &faults{})
		if e == nil {
			return f, bad.list
		}
		e.state = e.judge(e.fold)
		e.claims = e.judged(&e.state)
		more, err := e.derive(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range more {
			f[name] = b
		}
		f.seal(k)
		return f, bad.list
	}
	first := func(st *Statement) *assurance.Waiver { return &st.Input.Waivers[0] }
	for name, c := range map[string]struct {
		change func(*Statement, *logProofs)
		want   string
	}{
		"nothing":        {func(*Statement, *logProofs) {}, ""},
		"widened":        {func(s *Statement, _ *logProofs) { first(s).Subjects = append(first(s).Subjects, "a/b") }, "not what was asked for"},
		"prolonged":      {func(s *Statement, _ *logProofs) { first(s).Ends = first(s).Ends.Add(time.Hour) }, "not what was asked for"},
		"other reason":   {func(s *Statement, _ *logProofs) { first(s).Reason = "because we say so" }, "not what was asked for"},
		"other approver": {func(s *Statement, _ *logProofs) { first(s).By.ID = "pcccccccccccc" }, "not what was approved"},
		"added": {func(s *Statement, _ *logProofs) {
			y := *first(s)
			y.ID, y.Row = "w2", "7.6"
			s.Input.Waivers = append(s.Input.Waivers, y)
		}, "that anybody asked"},
		"without its records":   {func(_ *Statement, p *logProofs) { p.Waivers = []inclusion{} }, "says that the ledger held 2 records of waivers, 0 are shown"},
		"one record left out":   {func(_ *Statement, p *logProofs) { p.Waivers = p.Waivers[:1] }, "held 2 records of waivers, 1 are shown"},
		"a record twice":        {func(_ *Statement, p *logProofs) { p.Waivers[1] = p.Waivers[0] }, "stands twice"},
		"a record that is none": {func(_ *Statement, p *logProofs) { p.Waivers[0].Leaf = p.Begun.Leaf }, "it is no record of a waiver"},
		"a record that is forged": {func(_ *Statement, p *logProofs) {
			p.Waivers[0].Leaf = strings.Replace(p.Waivers[0].Leaf, "w1", "w2", 1)
		}, "is not in the ledger"},
	} {
		f, _ := forge(c.change)
		r := mustVerify(t, f, trust)
		if c.want == "" {
			if !r.OK() {
				t.Errorf("%s: %v", name, r.Faults)
			}
			continue
		}
		if r.OK() || !slices.ContainsFunc(r.Faults, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%s: %s %q, want %q", name, r.Standing, r.Faults, c.want)
		}
	}
	// Taken back, and the register still says that it counts: no evidence leaves.
	w.record(x.RecordOf(assurance.RecordWaiverEnded, x.By, w.now.Add(time.Second)))
	w.live(1)
	o.Rounds, o.Log = w, w
	o.Input = w.options().Input
	o.Input.Waivers = []assurance.Waiver{x}
	if _, err := Collect(t.Context(), o); err == nil || !strings.Contains(err.Error(), "taken back") {
		t.Errorf("given back behind the program's back: %v", err)
	}
}

// TestRoundsOfBefore: rounds of a version that did not count waivers' records
// are read as they are.
func TestRoundsOfBefore(t *testing.T) {
	w := newWorld(3)
	w.live(2)
	entries := w.entries
	w.entries, w.hashes = nil, nil
	for _, e := range entries {
		if e.Record.Kind == assurance.RecordObserved {
			e.Record.Facts = e.Record.Facts[:6]
		}
		w.record(e.Record)
	}
	k := newKey(t)
	if r := mustVerify(t, w.sealed(t, w.options(), k), w.trust(k, nil)); !r.OK() {
		t.Errorf("%s: %v", r.Standing, r.Faults)
	}
}

// TestWaiversOfAnEarlierLedger: after a restore rounds go on to count what
// cannot be shown any more; how much that is never changes, and where nothing
// was before it is none.
func TestWaiversOfAnEarlierLedger(t *testing.T) {
	for _, c := range []struct {
		name      string
		continues bool
		then      int // records of before, from the second round on
		want      string
	}{
		{"the same for all rounds", true, 3, ""},
		{"another for the second round", true, 4, "round 2 says that the ledger held 4 records of waivers, 3 are shown"},
		{"nothing was before", false, 3, "round 1 says that the ledger held 3 records of waivers, 0 are shown"},
	} {
		w := newWorld(3)
		begun := w.entries[0].Record
		if c.continues {
			begun.Facts = append(begun.Facts, core.Fact{Name: factKept, Value: "maker.example/ledger/0"})
		}
		w.entries, w.hashes = nil, nil
		w.record(begun)
		w.before = 3
		w.live(1)
		w.before = c.then
		w.live(1)
		o := w.options()
		o.From = dawn
		f, err := collect(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var bad faults
		open(f, &bad)
		if c.want == "" && len(bad.list) > 0 || c.want != "" && !slices.Contains(bad.list, c.want) {
			t.Errorf("%s: %q, want %q", c.name, bad.list, c.want)
		}
	}
}
