package telemetry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// checks are the checks of an estate, by id.
func (x *estate) checks(t testing.TB) map[string]*check.Check {
	t.Helper()
	sealed := func(_ context.Context, e core.Epoch) (out []telemetry.Sealed, err error) {
		for _, r := range x.records(t, telemetry.KindBatches) {
			all, err := telemetry.SealedOfRecord(&r)
			if err != nil {
				return nil, err
			}
			for _, s := range all {
				if s.Epoch == e {
					out = append(out, s)
				}
			}
		}
		return out, nil
	}
	roots, err := telemetry.NewRoots(telemetry.RootsDeps{
		Files: x.files, Update: inUpdate[telemetry.ProjectionTx](x.store), View: inView[telemetry.ProjectionTx](x.store), Now: x.clock, Ledger: rootsFunc(sealed),
	})
	must(t, err)
	all := telemetry.Checks(telemetry.CheckDeps{
		Rows: x.files, Roots: roots, Keys: x.ring, Policy: x.decl.ByHash, View: inView[telemetry.ProjectionTx](x.store), Sealed: sealed,
		SealedEpochs: func(ctx context.Context) (out []core.Epoch, err error) {
			must(t, roots.SealMinute(ctx))
			for _, r := range x.records(t, telemetry.KindBatches) {
				list, err := telemetry.SealedOfRecord(&r)
				if err != nil {
					return nil, err
				}
				for _, s := range list {
					if !slices.Contains(out, s.Epoch) {
						out = append(out, s.Epoch)
					}
				}
			}
			return out, nil
		},
	})
	out := map[string]*check.Check{}
	for i := range all {
		out[all[i].ID] = &all[i]
	}
	return out
}

type rootsFunc func(context.Context, core.Epoch) ([]telemetry.Sealed, error)

func (f rootsFunc) Roots(ctx context.Context, e core.Epoch) ([]telemetry.Sealed, error) {
	return f(ctx, e)
}

func (x *estate) take(t testing.TB, c *check.Check) check.Observation {
	t.Helper()
	return check.Take(t.Context(), c, "test", x.clock, time.Minute)
}

// oddRow files a row that no judge has seen.
func (x *estate) oddRow(t testing.TB, s core.Subject, ago time.Duration, seq uint64, object string) core.Epoch {
	t.Helper()
	p, err := x.decl.Current(t.Context(), "thermostat")
	must(t, err)
	rows := x.rows(t, reading{subject: s, at: x.clock().Add(-ago), seq: seq, policy: p, values: map[string]any{"temperature": 20}})
	r := &rows[0]
	key, err := x.ring.Lease(s, r.Part.Epoch)
	must(t, err)
	r.Part.Sealed, err = key.Seal(nil, telemetry.AppendPlain(nil, sender, []byte(object)), telemetry.AppendAAD(nil, &r.Reading, &r.Part))
	must(t, err)
	x.file(t, rows...)
	return r.Part.Epoch
}

// TestStoredIsLookedAtInTurn: whatever lies in whichever file is found within a
// few looks, stays found until it is gone, and neither value nor serial number
// nor undeclared name is told (CC 1.2, 4.3, 5.11).
func TestStoredIsLookedAtInTurn(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	for n := range 25 { // days: more files than one look goes into
		for k := range 3 {
			x.send(t, s, time.Duration(25-n)*24*time.Hour, uint64(n*10+k+1), map[string]any{"temperature": 20.5})
		}
	}
	c := x.checks(t)["store.declared"]
	touched := map[string]bool{}
	for range 5 {
		o := x.take(t, c)
		if o.Outcome != check.Pass {
			t.Fatalf("nothing is wrong: %s %s %v", o.Outcome, o.Error, o.Findings)
		}
		for _, x := range o.Touched {
			touched[x.Name] = true
		}
	}
	if n := len(touched); n < 25 {
		t.Errorf("five looks went into %d of 25 files", n)
	}
	e := x.oddRow(t, s, 12*24*time.Hour, 999, `{"temperature":20,"wifi_of_ada":"secret-value"}`)
	for n := range 5 {
		o := x.take(t, c)
		if o.Outcome != check.Fail || !strings.Contains(o.Findings[0].Subject, e.String()) || !strings.Contains(o.Findings[0].Text, "version 1") || !strings.Contains(o.Findings[0].Text, s.String()) {
			t.Fatalf("look %d: %s %s %v", n, o.Outcome, o.Error, o.Findings)
		}
		if all := fmt.Sprint(o); strings.Contains(all, "secret-value") || strings.Contains(all, "wifi_of_ada") || strings.Contains(all, "A1") {
			t.Errorf("an observation tells what it saw: %s", all)
		}
	}
	// The check of values does not mind: what is declared is as declared.
	if o := x.take(t, x.checks(t)["store.precision"]); o.Outcome != check.Pass {
		t.Errorf("precision: %s %s %v", o.Outcome, o.Error, o.Findings)
	}
	if _, err := x.ring.Shred(t.Context(), shredOrder(s)); err != nil {
		t.Fatal(err)
	}
	if o := x.take(t, c); o.Outcome != check.Empty || o.Excluded == 0 {
		t.Errorf("everybody is erased: %s %s %v", o.Outcome, o.Error, o.Findings)
	}
}

// TestStoredElsewhere: a row of another subject, of an unknown declaration, and
// one that the projector never counted are found.
func TestStoredElsewhere(t *testing.T) {
	x := newEstate(t)
	ada, bob := x.device(t, "A1"), x.device(t, "B2")
	p, err := x.decl.Current(t.Context(), "thermostat")
	must(t, err)
	at := x.clock().Add(-time.Hour)
	good := x.rows(t, reading{subject: ada, at: at, seq: 1, policy: p, values: map[string]any{"temperature": 20}})
	x.file(t, good...)
	c := x.checks(t)["store.declared"]
	if o := x.take(t, c); o.Outcome != check.Pass || o.Population != 1 {
		t.Fatalf("%s %s %v", o.Outcome, o.Error, o.Findings)
	}
	for name, change := range map[string]func(*telemetry.Row){
		"of another subject": func(r *telemetry.Row) { r.Reading.Subject = bob },
		"of another time":    func(r *telemetry.Row) { r.Reading.T++ },
		"of no declaration":  func(r *telemetry.Row) { r.Reading.Policy = core.Hash{1} },
	} {
		rows := x.rows(t, reading{subject: ada, at: at, seq: 2, policy: p, values: map[string]any{"temperature": 20}})
		change(&rows[0])
		head, err := x.files.Append(t.Context(), rows[0].Part.Epoch, &telemetry.Append{Rows: rows, Fate: make([]telemetry.Fate, 1), Mark: telemetry.Mark{Journal: name, Seq: 1}})
		must(t, err)
		// Not counted by anybody: beyond what control.db says.
		if o := x.take(t, c); o.Outcome != check.Fail {
			t.Errorf("a row %s: %s %s %v", name, o.Outcome, o.Error, o.Findings)
		}
		must(t, x.store.Update(t.Context(), func(tx *store.Tx) error {
			return tx.PutEpochHead(t.Context(), rows[0].Part.Epoch, head, x.clock())
		}))
		if o := x.take(t, c); o.Outcome != check.Fail {
			t.Errorf("a row %s, counted: %s %s %v", name, o.Outcome, o.Error, o.Findings)
		}
		x.wipe(t, rows[0].Part.Epoch, head)
		c = x.checks(t)["store.declared"]
		if o := x.take(t, c); o.Outcome != check.Pass {
			t.Fatalf("taken back: %s %s %v", o.Outcome, o.Error, o.Findings)
		}
	}
	// More is said to be filed than there is.
	must(t, x.store.Update(t.Context(), func(tx *store.Tx) error {
		return tx.PutEpochHead(t.Context(), good[0].Part.Epoch, telemetry.Head{Batches: 1, Rows: 5}, x.clock())
	}))
	if o := x.take(t, c); o.Outcome != check.Fail || !strings.Contains(o.Findings[0].Text, "gone") {
		t.Errorf("rows are gone: %s %s %v", o.Outcome, o.Error, o.Findings)
	}
}

// wipe takes the last row of a file back, as if it had never been.
func (x *estate) wipe(t testing.TB, e core.Epoch, head telemetry.Head) {
	t.Helper()
	path := x.data + "/" + telemetry.FileOf(int64(e.Keep/time.Second), e.Start)
	for _, stmt := range []string{
		`DELETE FROM rows WHERE id = (SELECT max(id) FROM rows)`, `DELETE FROM batches WHERE id = (SELECT max(id) FROM batches)`,
		`UPDATE epoch SET batches = batches - 1, rows = rows - 1`,
	} {
		if _, err := store.Behind(t.Context(), path, stmt); err != nil {
			t.Fatal(err)
		}
	}
	must(t, x.files.Close())
	var err error
	x.files, err = store.OpenEpochFiles(store.EpochFilesOptions{Dir: x.data + "/telemetry", Now: x.clock})
	must(t, err)
	head.Rows--
	head.Batches--
	must(t, x.store.Update(t.Context(), func(tx *store.Tx) error { return tx.PutEpochHead(t.Context(), e, head, x.clock()) }))
}

// TestWrongValues: what the judge would have dropped or rounded is named by its
// field, and everything that the judge stores is right (CC 4.3).
func TestWrongValues(t *testing.T) {
	for _, c := range []struct {
		f     declaration.Field
		value string
		want  string
	}{
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: -40, Max: 85, Precision: 0.1}, "20.5", ""},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: -40, Max: 85, Precision: 0.1}, "20.55", "finer"},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: -40, Max: 85, Precision: 0.1}, "2055e-2", "finer"},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: -40, Max: 85, Precision: 0.1}, "85.1", "range"},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: -40, Max: 85, Precision: 0.1}, `"20.5"`, "type"},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: -40, Max: 85}, "20.123456789012", ""},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: -40, Max: 85}, "1e999999999", "type"},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: -40, Max: 85, Precision: 0.25}, "1e-999999999", "type"},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: 0, Max: 1e6, Precision: 50}, "150", ""},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: 0, Max: 1e6, Precision: 50}, "160", "finer"},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: 0, Max: 1, Precision: 0.1}, "0x1p-2", "type"},
		{declaration.Field{Type: declaration.Number, HasRange: true, Min: 0, Max: 1}, "NaN", "type"},
		{declaration.Field{Type: declaration.Integer, HasRange: true, Min: 0, Max: 10}, "7", ""},
		{declaration.Field{Type: declaration.Integer, HasRange: true, Min: 0, Max: 10}, "7.5", "type"},
		{declaration.Field{Type: declaration.Boolean}, "true", ""},
		{declaration.Field{Type: declaration.Boolean}, "1", "type"},
		{declaration.Field{Type: declaration.String, MinLength: 1, MaxLength: 3}, `"äöü"`, ""},
		{declaration.Field{Type: declaration.String, MinLength: 1, MaxLength: 3}, `"äöüß"`, "length"},
		{declaration.Field{Type: declaration.Enum, Values: []string{"on", "off"}}, `"on"`, ""},
		{declaration.Field{Type: declaration.Enum, Values: []string{"on", "off"}}, `"maybe"`, "none of"},
		{declaration.Field{Type: declaration.Timestamp}, `"2026-11-20T12:00:00.5Z"`, ""},
		{declaration.Field{Type: declaration.Timestamp}, `"yesterday"`, "type"},
	} {
		if got := telemetry.WrongValue(&c.f, c.value); c.want == "" && got != "" || c.want != "" && !strings.Contains(got, c.want) {
			t.Errorf("%v %s: %q, want %q", c.f.Type, c.value, got, c.want)
		}
	}
}

// FuzzJudgedIsRight: whatever the judge makes of a message, the other code that
// looks at what is stored finds nothing wrong with it (CC 4.3).
func FuzzJudgedIsRight(f *testing.F) {
	for _, s := range []string{
		`{"temperature":20.55}`, `{"temperature":-40.04,"heating":true}`, `{"temperature":84.96}`, `{"temperature":1e-7}`, `{"temperature":"20"}`, `{"note":"hi"}`, `{"temperature":85.04}`,
		`{"temperature":0.05}`, `{"temperature":-0.05}`, `{"temperature":12345678901234567890}`,
	} {
		f.Add([]byte(s))
	}
	p := policy(f, 1, "[owner, support]")
	plan, err := telemetry.NewPlan(p, time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var j telemetry.Judged
		if plan.Stream([]byte("climate")).Judge(&j, payload, time.Unix(1_800_000_000, 0)) != "" {
			return
		}
		for _, part := range j.Parts() {
			if why := telemetry.StoredFault(p, "climate", part.Group, part.Keep, part.Plain); why != "" {
				t.Errorf("the judge made %s of %q: %s", part.Plain, payload, why)
			}
		}
	})
}

// TestRowsInTurn: files that grew and all others in turn are compared with the
// ledger, and a file that was changed is found again and again (CC 3.3).
func TestRowsInTurn(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	var last core.Epoch
	for n := range 20 {
		x.send(t, s, time.Duration(20-n)*24*time.Hour, uint64(n+1), map[string]any{"temperature": 20.5})
	}
	c := x.checks(t)["store.rows"]
	touched := map[string]bool{}
	for range 5 {
		o := x.take(t, c)
		if o.Outcome != check.Pass {
			t.Fatalf("nothing is wrong: %s %s %v", o.Outcome, o.Error, o.Findings)
		}
		for _, y := range o.Touched {
			if strings.HasSuffix(y.Name, ".db") {
				touched[y.Name] = true
			}
		}
	}
	if len(touched) != 20 {
		t.Errorf("five looks went into %d of 20 files", len(touched))
	}
	names, err := x.files.Names(t.Context())
	must(t, err)
	last = names[7]
	path := x.data + "/" + telemetry.FileOf(int64(last.Keep/time.Second), last.Start)
	if _, err := store.Behind(t.Context(), path, `UPDATE rows SET sealed = zeroblob(length(sealed))`); err != nil {
		t.Fatal(err)
	}
	red := 0
	for range 6 {
		if o := x.take(t, c); o.Outcome == check.Fail && o.Findings[0].Subject == last.String() {
			red++
		} else if red > 0 {
			t.Errorf("a changed file is green again: %s %s", o.Outcome, o.Error)
		}
	}
	if red < 3 {
		t.Errorf("red in %d of 6 looks", red)
	}
	must(t, x.files.Freeze(t.Context(), last))
	must(t, x.files.Remove(t.Context(), last))
	if o := x.take(t, c); o.Outcome != check.Fail || !strings.Contains(o.Findings[0].Text, "gone before its time") {
		t.Errorf("a file is gone: %s %s %v", o.Outcome, o.Error, o.Findings)
	}
}

func shredOrder(s core.Subject) seal.Order { return seal.Order{Subjects: []core.Subject{s}} }
