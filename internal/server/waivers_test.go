package server

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// allPass has every check say that all is well, and that it was seen red.
func (o *office) allPass() {
	o.t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	for _, d := range DeclaredChecks() {
		if d.Missing != "" {
			continue
		}
		o.must(o.s.assure.Observe(o.t.Context(), check.Observation{
			Check: d.ID, Version: d.Version, Kind: d.Kind, Program: o.s.opt.Version, Began: now, Taken: now, Expires: now.Add(d.MaxAge), Source: "a test",
			Population: 1, Passing: 1, Touched: []check.Touch{{What: "test", Name: "test"}}, Outcome: check.Pass,
		}))
		for _, v := range d.Violations {
			o.must(o.s.assure.Prove(o.t.Context(), check.Proof{
				Check: d.ID, Version: d.Version, Program: o.s.opt.Version, Violation: v, Taken: now, Expires: now.Add(check.ProofAge),
				Before: check.Pass, Red: check.Fail, After: check.Pass, Touched: []check.Touch{{What: "test", Name: "test"}},
			}))
		}
	}
}

// waive has two people accept a row that nothing looks at yet.
func (o *office) waive(row assurance.RowID, ada, bea core.Actor) assurance.Waiver {
	o.t.Helper()
	st, err := o.s.assure.State(o.t.Context())
	o.must(err)
	var instead assurance.ControlID
	for i := range st.Controls {
		if st.Controls[i].Verdict == assurance.Met {
			instead = st.Controls[i].Control.ID
		}
	}
	w, err := o.s.assure.AskWaiver(o.t.Context(), ada, assurance.WaiverRequest{Row: row, Reason: "the model is drawn next month", Instead: instead, Days: 10})
	o.must(err)
	w, err = o.s.assure.ApproveWaiver(o.t.Context(), bea, w.ID)
	o.must(err)
	return w
}

func (o *office) verdict(row assurance.RowID) (assurance.Verdict, string) {
	o.t.Helper()
	st, err := o.s.assure.State(o.t.Context())
	o.must(err)
	r := st.Row(row)
	if r.Waiver == nil {
		return r.Verdict, ""
	}
	return r.Verdict, r.Waiver.Void
}

func (o *office) look(id string) check.Observation {
	o.t.Helper()
	return check.Take(o.t.Context(), o.s.rounds.registry.Find(id), "test", time.Now, checkTime)
}

// TestEditedWaiverCountsForNothing: whatever is written into a waiver behind
// the program's back, its row is not waived any more, its check is red, and
// what was edited while it waited is not approved.
func TestEditedWaiverCountsForNothing(t *testing.T) {
	const row = assurance.RowID("1.1")
	o := openOffice(t, newHome(t, core.Test, ""))
	ada, bea := access1("a"), access1("b")
	o.allPass()
	w := o.waive(row, ada, bea)
	if v, why := o.verdict(row); v != assurance.Waived {
		t.Fatalf("two people waived it: %s, %s", v, why)
	}
	if got := o.look("waivers.recorded"); got.Outcome != check.Pass || got.Population != 2 {
		t.Errorf("untouched: %s %+v", got.Outcome, got.Findings)
	}
	for name, change := range map[string]func(*assurance.Waiver){
		"widened":       func(w *assurance.Waiver) { w.Subjects = append(w.Subjects, "a/b") },
		"prolonged":     func(w *assurance.Waiver) { w.Ends = w.Ends.Add(time.Hour) },
		"made up for":   func(w *assurance.Waiver) { w.Instead = "MR-01" },
		"other persons": func(w *assurance.Waiver) { w.AskedBy, w.By = w.By, w.AskedBy },
		"moved":         func(w *assurance.Waiver) { w.Row = "1.3" },
	} {
		edited := w
		edited.Subjects = append([]string(nil), w.Subjects...)
		change(&edited)
		o.put(edited)
		if v, _ := o.verdict(edited.Row); v == assurance.Waived {
			t.Errorf("%s: row %s is waived", name, edited.Row)
		}
		if got := o.look("waivers.recorded"); got.Outcome != check.Fail || len(got.Findings) != 1 || got.Findings[0].Subject != w.ID {
			t.Errorf("%s: the check says %s %+v", name, got.Outcome, got.Findings)
		}
	}
	o.put(w)
	if v, _ := o.verdict(row); v != assurance.Waived {
		t.Errorf("as it was again: %s", v)
	}

	// Taken back, and given back in the database.
	_, err := o.s.assure.EndWaiver(t.Context(), ada, w.ID)
	o.must(err)
	o.put(w)
	if v, why := o.verdict(row); v == assurance.Waived || !strings.Contains(why, "taken back") {
		t.Errorf("given back behind the program's back: %s, %s", v, why)
	}

	// Edited while it waits for the second person; and no second person at all.
	asked, err := o.s.assure.AskWaiver(t.Context(), ada, assurance.WaiverRequest{Row: row, Reason: "the model is drawn next month", Instead: w.Instead, Days: 10})
	o.must(err)
	_, err = o.s.assure.AskWaiver(t.Context(), operator, assurance.WaiverRequest{Row: row, Reason: "the model is drawn next month", Instead: w.Instead, Days: 10})
	wantReason(t, "a first person on the machine itself", err, core.Denied, "nobody knows which person asks")
	_, err = o.s.assure.ApproveWaiver(t.Context(), operator, asked.ID)
	wantReason(t, "a second person on the machine itself", err, core.Denied, "nobody knows whether it is a second person")
	wider := asked
	wider.Subjects = append(wider.Subjects, "a/b")
	o.put(wider)
	_, err = o.s.assure.ApproveWaiver(t.Context(), bea, asked.ID)
	wantReason(t, "one that was edited while it waited", err, core.Conflict, "not what the ledger holds")
	o.drop(asked.ID)
	if got := o.look("waivers.recorded"); got.Outcome != check.Fail {
		t.Errorf("one that is gone from the register: %s", got.Outcome)
	}
}

func access1(x string) core.Actor {
	return core.Actor{Kind: core.ActorStaff, ID: "p" + strings.Repeat(x, 12)}
}

func (o *office) put(w assurance.Waiver) {
	o.t.Helper()
	o.must(o.s.store.Update(o.t.Context(), func(tx *store.Tx) error { return tx.PutWaiver(o.t.Context(), w) }))
}

func (o *office) drop(id string) {
	o.t.Helper()
	_, err := store.Behind(o.t.Context(), filepath.Join(o.s.c.Data, "control.db"), `DELETE FROM assurance_waiver WHERE id = ?`, id)
	o.must(err)
}

// TestWaiverAfterARestore: a ledger that began anew proves nothing of before,
// so a waiver of before counts for nothing; nobody is blamed for it.
func TestWaiverAfterARestore(t *testing.T) {
	const row = assurance.RowID("1.1")
	home := newHome(t, core.Test, "")
	o := openOffice(t, home)
	o.allPass()
	o.waive(row, access1("a"), access1("b"))
	o.must(o.s.assure.CloseRound(t.Context()))
	backup := filepath.Join(t.TempDir(), "backup")
	_, err := running{o.s}.Backup(t.Context(), operator, backup, func(int64, int64) {})
	o.must(err)
	o.end()
	o = openOffice(t, restore(t, home, backup))
	if v, why := o.verdict(row); v == assurance.Waived || !strings.Contains(why, "began anew") {
		t.Errorf("after the restore: %s, %s", v, why)
	}
	if got := o.look("waivers.recorded"); got.Outcome != check.Pass || got.Excluded != 1 {
		t.Errorf("the check after the restore: %s %+v", got.Outcome, got.Findings)
	}
	st, err := o.s.assure.State(t.Context())
	o.must(err)
	if n := st.Rows[assurance.Tampered]; n != 0 {
		t.Errorf("%d rows are tampered with after a restore", n)
	}
}

// TestHiddenWaiverRecord: a record that is listed under another kind, so that
// nobody finds it, is missed at the next start: everything is tampered with.
func TestHiddenWaiverRecord(t *testing.T) {
	home := newHome(t, core.Test, "")
	o := openOffice(t, home)
	o.allPass()
	w := o.waive("1.1", access1("a"), access1("b"))
	_, err := o.s.assure.EndWaiver(t.Context(), access1("a"), w.ID)
	o.must(err)
	o.must(o.s.assure.CloseRound(t.Context()))
	o.must(o.s.sequenced(t.Context()))
	o.end()
	data := o.s.c.Data
	n, err := store.Behind(t.Context(), filepath.Join(data, "control.db"), `UPDATE ledger_entry SET topic = (SELECT id FROM ledger_topic WHERE kind <> 'waiver-ended' LIMIT 1)
		WHERE topic = (SELECT id FROM ledger_topic WHERE kind = 'waiver-ended')`)
	if err != nil || n != 1 {
		t.Fatalf("hide the record: %d, %v", n, err)
	}
	o = openOffice(t, home)
	o.put(w)
	if v, _ := o.verdict("1.1"); v != assurance.Tampered {
		t.Errorf("with its end hidden and given back, the row is %s", v)
	}
}
