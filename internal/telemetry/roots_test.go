package telemetry_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	_ "modernc.org/sqlite"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// ledgerRoots are the root entries that the ledger was handed.
type ledgerRoots struct{ w *works }

func (l ledgerRoots) Roots(_ context.Context, e core.Epoch) ([]telemetry.Sealed, error) {
	var out []telemetry.Sealed
	for _, r := range l.w.pending()[telemetry.KindBatches] {
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

func (w *works) roots() *telemetry.Roots {
	w.t.Helper()
	r, err := telemetry.NewRoots(telemetry.RootsDeps{
		Files: w.files, Update: w.update, View: w.view, Now: w.clock, Ledger: ledgerRoots{w},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// sealedWorks has one epoch file of three minutes, sealed each minute: rows
// 1 to 30 in three batches of ten, of ann and bob by turns.
func sealedWorks(t *testing.T) (*works, core.Epoch) {
	t.Helper()
	w := newWorks(t)
	var m maker
	for batch := range 3 {
		var rs []telemetry.Reading
		for n := range 10 {
			s := ann
			if n%2 == 1 {
				s = bob
			}
			r := m.reading(s, projectStart.Add(time.Duration(batch*10+n)*time.Second), uint64(batch*10+n))
			if n == 4 {
				r = unnumbered(r)
			}
			rs = append(rs, r)
		}
		w.tape.add(encode(rs...)...)
		w.project()
		if err := w.roots().SealMinute(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.advance(time.Minute)
	}
	return w, core.EpochAt(month, day, projectStart)
}

func (w *works) verify(e core.Epoch) telemetry.Verification {
	w.t.Helper()
	v, err := w.roots().VerifyFile(w.t.Context(), e)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *works) edit(e core.Epoch, statements ...string) {
	w.t.Helper()
	w.close()
	defer w.open()
	if w.dsn != "" {
		for i := range statements {
			statements[i] = pgForm(statements[i])
		}
		pgDo(w.t, w.dsn, e, statements...)
		return
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "telemetry", e.String()+".db"))
	if err != nil {
		w.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.ExecContext(w.t.Context(), s); err != nil {
			w.t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		w.t.Fatal(err)
	}
}

func TestSealMinute(t *testing.T) {
	w, e := sealedWorks(t)
	records := w.pending()[telemetry.KindBatches]
	if len(records) != 3 {
		t.Fatalf("%d records, want 3", len(records))
	}
	var all []telemetry.Sealed
	for _, r := range records {
		s, err := telemetry.SealedOfRecord(&r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s...)
	}
	for i, s := range all {
		if s.Epoch != e || s.First != uint64(i+1) || s.Last != uint64(i+1) || s.Rows != uint64(10*(i+1)) || s.Chain.IsZero() {
			t.Errorf("entry %d: %+v", i, s)
		}
	}
	// Nothing new, nothing recorded.
	if err := w.roots().SealMinute(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.records(telemetry.KindBatches); n != 3 {
		t.Errorf("%d records after a minute without rows, want 3", n)
	}
	if v := w.verify(e); !v.OK() || v.Rows != 30 || v.Batches != 3 || v.Sealed != 3 || v.Against != "ledger" {
		t.Errorf("a whole file: %+v", v)
	}
	// Many files make several records, each file once.
	var m maker
	var rs []telemetry.Reading
	for i := range 140 {
		r := m.reading(ann, projectStart.Add(-time.Duration(i)*time.Hour), uint64(1000+i), 100*time.Hour)
		r.Parts[0].Epoch.Keep = time.Duration(400+i) * time.Hour // a class of its own
		rs = append(rs, r)
	}
	w.limits.LateFiles = 1000
	w.tape.add(encode(rs...)...)
	w.project()
	if err := w.roots().SealMinute(t.Context()); err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, r := range w.pending()[telemetry.KindBatches][3:] {
		if len(r.Facts) > 128 {
			t.Errorf("a record of %d facts", len(r.Facts))
		}
		files += len(r.Facts)
	}
	if files != 140 {
		t.Errorf("%d files recorded, want 140", files)
	}
}

// Mission row 3.3: edit one stored row, and verification fails and names it.
// Whatever column of whatever table is changed, by whatever path, the change
// is found, and what was not changed is not accused.
func TestVerifyFindsEveryChange(t *testing.T) {
	w, e := sealedWorks(t)
	w.close()
	restore := w.partition(e).keep(t)
	const noTrigger = `PRAGMA writable_schema = OFF`
	for name, c := range map[string]struct {
		sql  []string
		want string // every finding, "KIND row N batch N"
	}{
		"nothing":         {[]string{noTrigger}, ""},
		"subject":         {[]string{`UPDATE rows SET subject = 3 - subject WHERE id = 14`}, "changed row 14 batch 2"},
		"lane":            {[]string{`INSERT INTO lanes VALUES (9, 'other', 0, 1)`, `UPDATE rows SET lane = 9 WHERE id = 14`}, "changed row 14 batch 2"},
		"boot":            {[]string{`UPDATE rows SET boot = 7 WHERE id = 14`}, "changed row 14 batch 2"},
		"seq":             {[]string{`UPDATE rows SET seq = 7000 WHERE id = 14`}, "changed row 14 batch 2"},
		"t":               {[]string{`UPDATE rows SET t = t + 1 WHERE id = 14`}, "changed row 14 batch 2"},
		"head":            {[]string{`UPDATE rows SET head = (SELECT head FROM rows WHERE id = 13) WHERE id = 14`}, "changed row 14 batch 2"},
		"head of nothing": {[]string{`UPDATE rows SET head = x'' WHERE id = 14`}, "dropped row 14 batch 2, structure"},
		"longer head":     {[]string{`UPDATE rows SET head = CAST(head || x'00' AS BLOB) WHERE id = 14`}, "dropped row 14 batch 2, structure"},
		"sealed":          {[]string{`UPDATE rows SET sealed = zeroblob(32) WHERE id = 14`}, "changed row 14 batch 2"},
		"a byte more":     {[]string{`UPDATE rows SET sealed = CAST(sealed || x'00' AS BLOB) WHERE id = 14`}, "changed row 14 batch 2"},
		"two rows":        {[]string{`UPDATE rows SET t = t + 1 WHERE id IN (1, 30)`}, "changed row 1 batch 1, changed row 30 batch 3"},
		"rows swapped":    {[]string{`UPDATE rows SET id = -1 WHERE id = 2`, `UPDATE rows SET id = 2 WHERE id = 3`, `UPDATE rows SET id = 3 WHERE id = -1`}, "changed row 2 batch 1, changed row 3 batch 1"},
		"dropped":         {[]string{`DELETE FROM rows WHERE id = 14`}, "dropped row 14 batch 2"},
		"last dropped":    {[]string{`DELETE FROM rows WHERE id = 30`}, "dropped row 30 batch 3"},
		"first dropped":   {[]string{`DELETE FROM rows WHERE id = 1`}, "dropped row 1 batch 1"},
		"all dropped":     {[]string{`DELETE FROM rows WHERE id > 10 AND id <= 20`}, "dropped row 11 batch 2, dropped row 12 batch 2, dropped row 13 batch 2, dropped row 14 batch 2, dropped row 15 batch 2, dropped row 16 batch 2, dropped row 17 batch 2, dropped row 18 batch 2, dropped row 19 batch 2, dropped row 20 batch 2"},
		"added":           {[]string{`INSERT INTO rows VALUES (31, 1, 1, 9, 9, 9, x'01000900', zeroblob(50))`}, "added row 31"},
		"added in front":  {[]string{`INSERT INTO rows VALUES (-5, 1, 1, 9, 9, 9, x'01000900', zeroblob(50))`}, "added row -5"},
		"doubled":         {[]string{`INSERT INTO rows SELECT 31, subject, lane, boot, seq + 500, t, head, sealed FROM rows WHERE id = 14`}, "doubled row 31"},
		"moved":           {[]string{`UPDATE rows SET id = 99 WHERE id = 14`}, "added row 99, dropped row 14 batch 2"},
		"subject's name":  {[]string{`UPDATE subjects SET subject = zeroblob(16) WHERE id = (SELECT subject FROM rows WHERE id = 30)`}, "bob"},
		"longer name":     {[]string{`UPDATE subjects SET subject = CAST(subject || x'00' AS BLOB) WHERE id = (SELECT subject FROM rows WHERE id = 30)`}, "bob"},
		"no name":         {[]string{`DELETE FROM subjects WHERE id = (SELECT subject FROM rows WHERE id = 30)`}, "bob"},
		"declaration":     {[]string{`UPDATE contexts SET policy = zeroblob(32)`}, "everybody"},
		"gateway":         {[]string{`UPDATE contexts SET gateway = zeroblob(8)`}, "everybody"},
		"product":         {[]string{`UPDATE contexts SET product = 'q'`}, "everybody"},
		"stream's name":   {[]string{`UPDATE lanes SET stream = 'other' WHERE numbered = 0`}, "changed row 15 batch 2, changed row 25 batch 3, changed row 5 batch 1"},
		"journal's name":  {[]string{`UPDATE journals SET journal = 'other'`}, "changed row 15 batch 2, changed row 25 batch 3, changed row 5 batch 1"},
		"list":            {[]string{`UPDATE batches SET sums = zeroblob(length(sums)) WHERE id = 2`}, "list batch 2"},
		"list cut":        {[]string{`UPDATE batches SET sums = x'' WHERE id = 2`}, "list batch 2"},
		"root":            {[]string{`UPDATE batches SET root = zeroblob(32) WHERE id = 2`}, "batch batch 2, ledger batch 2"},
		"root cut":        {[]string{`UPDATE batches SET root = x'00' WHERE id = 2`}, "batch batch 2, ledger batch 2"},
		"row and list":    {[]string{`UPDATE rows SET t = t + 1 WHERE id = 14`, `UPDATE batches SET sums = zeroblob(length(sums)) WHERE id = 2`}, "changed rows of batch 2"},
		"batch forgotten": {[]string{`DELETE FROM batches WHERE id = 2`}, "a batch is gone"},
		"batch and rows":  {[]string{`DELETE FROM batches WHERE id = 3`, `DELETE FROM rows WHERE id > 20`}, "batches batch 3, head"},
		"all but head":    {[]string{`DELETE FROM batches WHERE id = 3`, `DELETE FROM rows WHERE id > 20`, `UPDATE epoch SET batches = 2, rows = 20`}, "batches batch 3, head"},
		"huge count":      {[]string{`UPDATE batches SET count = 1 << 50 WHERE id = 3`}, "a thousand and more"},
		"head rows":       {[]string{`UPDATE epoch SET rows = 29`}, "head"},
		"head chain":      {[]string{`UPDATE epoch SET chain = zeroblob(32)`}, "head"},
		"no index":        {[]string{`PRAGMA writable_schema = ON`, `UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'batches') WHERE name = 'rows_key'`}, "structure"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &works{t: t, dir: w.dir, dsn: w.dsn, now: w.now, tape: w.tape, limits: w.limits}
			if w.dsn != "" && name == "no index" {
				t.Skip("what an index of PostgreSQL lacks is looked for in the store's own tests")
			}
			defer func() {
				w.close()
				restore()
			}()
			w.edit(e, c.sql...)
			v, err := w.roots().VerifyFile(t.Context(), e)
			if _, broken := telemetry.AsBroken(err); broken {
				if c.want != "structure" {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := findings(&v)
			switch c.want {
			case "structure":
				if !strings.Contains(got, "structure") {
					t.Errorf("got %s", got)
				}
			case "bob", "everybody":
				want := 15
				if c.want == "everybody" {
					want = 30
				}
				for _, d := range v.Found {
					if d.Kind != telemetry.RowChanged || d.Subject == ann && c.want == "bob" {
						t.Errorf("accused: %s", d)
					}
				}
				if len(v.Found) != want {
					t.Errorf("%d rows found, want %d", len(v.Found), want)
				}
			case "changed rows of batch 2":
				if len(v.Found) == 0 || slices.ContainsFunc(v.Found, func(d telemetry.Discrepancy) bool { return d.Batch != 2 }) {
					t.Errorf("got %s", got)
				}
			case "a batch is gone":
				if !strings.Contains(got, "batches batch 2") || !strings.Contains(got, "added row 14") {
					t.Errorf("got %s", got)
				}
			case "a thousand and more":
				if len(v.Found) < 900 || v.More == 0 {
					t.Errorf("%d and %d more", len(v.Found), v.More)
				}
			default:
				if got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			}
		})
	}
}

// findings is every finding in a fixed order.
func findings(v *telemetry.Verification) string {
	var out []string
	for _, d := range v.Found {
		s := string(d.Kind)
		if d.Row != 0 {
			s += fmt.Sprintf(" row %d", d.Row)
		}
		if d.Batch != 0 {
			s += fmt.Sprintf(" batch %d", d.Batch)
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// Who rewrites rows, list, root and head so that the file is whole in itself
// is found by the ledger; so is who rewrites the control database's list too.
func TestVerifyAgainstTheLedger(t *testing.T) {
	w, e := sealedWorks(t)
	w.close()
	restore := w.partition(e).keep(t)

	// A file with another row 14, made by the projector's own code.
	other := newWorks(t)
	var m maker
	for batch := range 3 {
		var rs []telemetry.Reading
		for n := range 10 {
			rs = append(rs, m.reading(ann, projectStart.Add(time.Duration(batch*10+n)*time.Second), uint64(batch*10+n)))
		}
		other.tape.add(encode(rs...)...)
		other.project()
	}
	w.open()
	w.replace(e, other)
	other.close()
	if got := findings(ptr(w.verify(e))); got != "ledger batch 1, ledger batch 2, ledger batch 3" && !strings.HasPrefix(got, "head, ledger") {
		t.Errorf("a forged file: %s", got)
	}
	// An older state of the file.
	w.close()
	restore()
	w.open()
	err := w.update(t.Context(), func(tx telemetry.ProjectionTx) error {
		return tx.PutSealed(t.Context(), telemetry.Sealed{Epoch: e, First: 4, Last: 9, Rows: 90, At: projectStart})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := findings(ptr(w.verify(e))); got != "" {
		t.Errorf("an entry of the control database that the ledger has not got yet: %s", got)
	}
	own, err := telemetry.NewRoots(telemetry.RootsDeps{Files: w.files, Update: w.update, View: w.view, Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	v, err := own.VerifyFile(t.Context(), e)
	if err != nil || v.Against != "control database" || findings(&v) != "batches batch 4" {
		t.Errorf("a file older than the list: %+v, %v", v, err)
	}
	// The control database's list is changed: the ledger contradicts it.
	w.close()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "control.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `UPDATE telemetry_root SET chain = zeroblob(32) WHERE last_batch = 2`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	if got := findings(ptr(w.verify(e))); got != "control batch 2" {
		t.Errorf("a control database that lies: %s", got)
	}
}

// replace puts the partition of another installation in the place of its own.
func (w *works) replace(e core.Epoch, other *works) {
	w.t.Helper()
	if err := errors.Join(w.files.Freeze(w.t.Context(), e), w.files.Remove(w.t.Context(), e)); err != nil {
		w.t.Fatal(err)
	}
	w.files.Thaw(e)
	if _, err := telemetry.CopyPartition(w.t.Context(), other.files, w.files, e); err != nil {
		w.t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

// Rows of the last minute are compared with the file's own list and with the
// watermark, not with the ledger; a file that is not there is an error.
func TestVerifyUnsealed(t *testing.T) {
	w, e := sealedWorks(t)
	var m maker
	w.tape.add(encode(m.reading(ann, projectStart.Add(time.Hour), 99))...)
	w.project()
	if v := w.verify(e); !v.OK() || v.Rows != 31 || v.Batches != 4 || v.Sealed != 3 {
		t.Errorf("with a row of the last minute: %+v", v)
	}
	w.edit(e, `DELETE FROM batches WHERE id = 4`, `DELETE FROM rows WHERE id = 31`)
	if got := findings(ptr(w.verify(e))); !strings.Contains(got, "batches batch 4") {
		t.Errorf("a row of the last minute dropped with its batch: %s", got)
	}
	e.Start += 86400
	if _, err := w.roots().VerifyFile(t.Context(), e); core.KindOf(err) != core.Unknown {
		t.Errorf("no file: %v", err)
	}
	gone := errors.New("no ledger")
	r, err := telemetry.NewRoots(telemetry.RootsDeps{Files: w.files, Update: w.update, View: w.view, Now: w.clock, Ledger: noLedger{gone}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.VerifyFile(t.Context(), e); !errors.Is(err, gone) {
		t.Errorf("a ledger that cannot be read: %v", err)
	}
}

type noLedger struct{ err error }

func (n noLedger) Roots(context.Context, core.Epoch) ([]telemetry.Sealed, error) { return nil, n.err }

// BatchRoot is the Merkle tree hash of RFC 6962: it agrees with the tree of
// the ledger's oracle for every size.
func TestBatchRootIsRFC6962(t *testing.T) {
	var leaves []core.Hash
	for n := range 70 {
		if n > 0 {
			want, err := tlogRoot(leaves)
			if err != nil {
				t.Fatal(err)
			}
			if got := telemetry.BatchRoot(leaves); got != want {
				t.Errorf("%d leaves: root %s, want %s", n, got, want)
			}
		}
		leaves = append(leaves, core.Hash{byte(n), 7})
	}
	if got := telemetry.BatchRoot(nil).String(); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("no leaves: %s", got)
	}
}

func FuzzSealedOfRecord(f *testing.F) {
	f.Add("k2592000/20261122T000000Z 86400 4-9 1034 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	f.Add("k2592000/20261122T000000Z 86400 4-9 1034 ")
	f.Fuzz(func(t *testing.T, value string) {
		r := core.Record{Kind: telemetry.KindBatches, Facts: []core.Fact{{Name: "file_1", Value: value}}}
		s, err := telemetry.SealedOfRecord(&r)
		if err != nil {
			return
		}
		again := fmt.Sprintf("%s %d %d-%d %d %s", s[0].Epoch, int64(s[0].Epoch.Length/time.Second), s[0].First, s[0].Last, s[0].Rows, s[0].Chain)
		if again != value {
			t.Errorf("%q reads as %q", value, again)
		}
	})
}

// tlogRoot is the root by golang.org/x/mod/sumdb/tlog.
func tlogRoot(leaves []core.Hash) (core.Hash, error) {
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, n := range at {
			out[i] = stored[n]
		}
		return out, nil
	})
	for i, l := range leaves {
		more, err := tlog.StoredHashesForRecordHash(int64(i), tlog.Hash(l), read)
		if err != nil {
			return core.Hash{}, err
		}
		stored = append(stored, more...)
	}
	h, err := tlog.TreeHash(int64(len(leaves)), read)
	return core.Hash(h), err
}
