package ledger_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
	"github.com/hawser-iot/hawser/internal/store"
)

// reopen closes the store and opens it again as a new start does.
func (f *fixture) reopen(t testing.TB) error {
	t.Helper()
	f.closeStore(t)
	return f.openAgain(t)
}

func (f *fixture) closeStore(t testing.TB) {
	t.Helper()
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) openAgain(t testing.TB) error {
	t.Helper()
	var err error
	if f.store, err = store.Open(t.Context(), store.Options{Dir: f.store.Dir()}); err != nil {
		t.Fatal(err)
	}
	d := depsOn(f.store, f.deps.Key, f.home)
	d.Now = f.deps.Now
	f.deps = d
	l, err := ledger.Open(t.Context(), f.deps)
	if err == nil {
		f.Ledger = l
	}
	return err
}

// backup copies the closed database; restore puts it back.
func (f *fixture) backup(t testing.TB) string {
	t.Helper()
	f.closeStore(t)
	dir := t.TempDir()
	copyFile(t, filepath.Join(f.store.Dir(), "control.db"), filepath.Join(dir, "control.db"))
	if err := f.openAgain(t); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "control.db")
}

// restore rolls the database back and opens the ledger on it.
func (f *fixture) restore(t testing.TB, db string) error {
	t.Helper()
	f.closeStore(t)
	for _, ext := range []string{"-wal", "-shm"} {
		_ = os.Remove(filepath.Join(f.store.Dir(), "control.db"+ext)) // gone after a clean close
	}
	copyFile(t, db, filepath.Join(f.store.Dir(), "control.db"))
	return f.openAgain(t)
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// verified exports the ledger and has it verified.
func (f *fixture) verified(t testing.TB, earlier []byte) verify.Report {
	t.Helper()
	var b bytes.Buffer
	if err := f.Export(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	r, err := verify.Log(&b, verify.Options{Keys: []string{f.VerifierKey()}, Earlier: earlier})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantProved fails the test unless the ledger verifies against earlier.
func (f *fixture) wantProved(t testing.TB, earlier []byte) {
	t.Helper()
	if r := f.verified(t, earlier); r.Standing != verify.Proved {
		t.Errorf("standing %q, faults %v", r.Standing, r.Faults)
	}
}

// TestStoppedBetweenCommitAndSignature covers each place where a kill can fall
// between the commit of a head and its last trace.
func TestStoppedBetweenCommitAndSignature(t *testing.T) {
	f := newFixture(t)
	c := f.grow(t, 3)
	t.Run("committed, not signed", func(t *testing.T) {
		f.record(t, sample(3))
		f.sequence(t)
		if err := f.reopen(t); err != nil {
			t.Fatal(err)
		}
		if got := f.Latest(); got.Size != c.Size || f.Status().Size != c.Size+1 {
			t.Errorf("signed %d of %d, want %d of %d", got.Size, f.Status().Size, c.Size, c.Size+1)
		}
	})
	t.Run("file torn while it was written", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(f.home, "checkpoint.tmp"), c.Note[:20], 0o644); err != nil {
			t.Fatal(err)
		}
		if err := f.reopen(t); err != nil {
			t.Fatal(err)
		}
		if got := f.sign(t); got.Size != c.Size+1 {
			t.Errorf("signed %d, want %d", got.Size, c.Size+1)
		}
	})
	t.Run("file written, database not told", func(t *testing.T) {
		newer := f.grow(t, 1)
		if err := f.store.Update(t.Context(), func(tx *store.Tx) error { return tx.PutLedgerCheckpoint(t.Context(), 1, c.Note) }); err != nil {
			t.Fatal(err)
		}
		if err := f.reopen(t); err != nil {
			t.Fatal(err)
		}
		if got := f.Latest(); !bytes.Equal(got.Note, newer.Note) {
			t.Errorf("latest is %d, want %d", got.Size, newer.Size)
		}
	})
	t.Run("first origin begun, never signed", func(t *testing.T) {
		f := newFixture(t)
		if err := f.store.Update(t.Context(), func(tx *store.Tx) error { return tx.PutLedgerCheckpoint(t.Context(), 1, nil) }); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(f.deps.CheckpointFile); err != nil {
			t.Fatal(err)
		}
		if err := f.reopen(t); err != nil {
			t.Fatal(err)
		}
		if got := f.Latest(); got.Note != nil {
			t.Errorf("latest is %+v, want none", got)
		}
		f.sign(t)
	})
	f.wantProved(t, c.Note)
}

// TestRolledBack holds that a database older than the kept checkpoint is never
// signed, and that the refusal says what to do.
func TestRolledBack(t *testing.T) {
	f := newFixture(t)
	f.grow(t, 3)
	db := f.backup(t)
	kept := f.grow(t, 5)
	err := f.restore(t, db)
	wantReason(t, err, "ledger-rolled-back")
	if core.KindOf(err) != core.Unready || !strings.Contains(err.Error(), "has 4 ledger entries, but 9 were signed") {
		t.Errorf("error is %v", err)
	}

	// The same under a running server: it signs nothing and adds nothing more.
	running := f.Ledger
	t.Run("other entries up to the same size", func(t *testing.T) {
		f.regrow(t, 5)
		_, err := ledger.Open(t.Context(), f.deps)
		wantReason(t, err, "ledger-forked")
	})
	t.Run("other entries beyond it", func(t *testing.T) {
		f.regrow(t, 5)
		_, err := ledger.Open(t.Context(), f.deps)
		wantReason(t, err, "ledger-forked")
	})
	if b, err := os.ReadFile(f.deps.CheckpointFile); err != nil || !bytes.Equal(b, kept.Note) {
		t.Errorf("the kept checkpoint changed: %s, %v", b, err)
	}
	if got := running.Latest(); !bytes.Equal(got.Note, kept.Note) {
		t.Errorf("published checkpoint changed to size %d", got.Size)
	}
}

// regrow adds n entries to a database whose ledger cannot be opened, through a
// second ledger that keeps its checkpoint elsewhere, as a thief of the
// database and of the key would.
func (f *fixture) regrow(t *testing.T, n int) {
	t.Helper()
	d := f.deps
	d.CheckpointFile = filepath.Join(t.TempDir(), "checkpoint")
	all := origins(t, f.store)
	if err := os.WriteFile(d.CheckpointFile, all[len(all)-1].Checkpoint, 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		f.record(t, sample(1000+i))
	}
	if _, err := l.Sequence(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func origins(t testing.TB, s *store.Store) []ledger.Origin {
	t.Helper()
	var all []ledger.Origin
	err := s.View(t.Context(), func(tx *store.Tx) error {
		var err error
		all, err = tx.LedgerOrigins(t.Context())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestKeptCheckpointIsGuarded(t *testing.T) {
	f := newFixture(t)
	c := f.grow(t, 3)
	other := newFixture(t)
	foreign := other.grow(t, 3)
	for _, c := range []struct {
		name   string
		change func() error
		reason string
	}{
		{"missing", func() error { return os.Remove(f.deps.CheckpointFile) }, "ledger-checkpoint-missing"},
		{"garbage", func() error { return os.WriteFile(f.deps.CheckpointFile, []byte("hello"), 0o644) }, "ledger-checkpoint-bad"},
		{"empty", func() error { return os.WriteFile(f.deps.CheckpointFile, nil, 0o644) }, "ledger-checkpoint-bad"},
		{"another installation's", func() error { return os.WriteFile(f.deps.CheckpointFile, foreign.Note, 0o644) }, "ledger-other-origin"},
		{"not signed by us", func() error {
			forged := bytes.Replace(c.Note, []byte("\n4\n"), []byte("\n3\n"), 1)
			return os.WriteFile(f.deps.CheckpointFile, forged, 0o644)
		}, "ledger-checkpoint-bad"},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		_, err := ledger.Open(t.Context(), f.deps)
		wantReason(t, err, c.reason)
		_, err = f.Checkpoint(t.Context())
		wantReason(t, err, c.reason)
		if f.Status().Trouble == nil {
			t.Errorf("%s: no trouble in the status", c.name)
		}
	}
	if err := os.WriteFile(f.deps.CheckpointFile, c.Note, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := f.sign(t); !bytes.Equal(got.Note, c.Note) {
		t.Error("with the right file back, another checkpoint was signed")
	}
	// A place that cannot be written: nothing new is published.
	f.record(t, sample(9))
	f.sequence(t)
	if err := os.Mkdir(f.deps.CheckpointFile+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Checkpoint(t.Context()); err == nil {
		t.Error("signed without keeping the checkpoint")
	}
	if got := f.Latest(); got.Size != c.Size {
		t.Errorf("published size %d, want %d", got.Size, c.Size)
	}
}

// TestNewOrigin restores a backup, begins a new origin, and holds that every
// earlier checkpoint is either proved or declared lost.
func TestNewOrigin(t *testing.T) {
	f := newFixture(t)
	before := f.grow(t, 300)
	db := f.backup(t)
	lost := f.grow(t, 5)
	wantReason(t, f.restore(t, db), "ledger-rolled-back")
	f.record(t, sample(7)) // still without an index in the restored database

	_, err := ledger.NewOrigin(t.Context(), f.deps, operator, " ")
	wantReason(t, err, "ledger-lost-empty")
	if f.Ledger, err = ledger.NewOrigin(t.Context(), f.deps, operator, "five entries of this morning"); err != nil {
		t.Fatal(err)
	}
	after := f.grow(t, 2)
	if after.Size != 4 || after.Origin == before.Origin {
		t.Errorf("new origin %s has %d entries", after.Origin, after.Size)
	}
	if err := f.reopen(t); err != nil {
		t.Fatal(err)
	}
	e, err := f.Get(t.Context(), 301)
	if err != nil || e.Index != 0 || e.Origin != after.Origin || e.Record.Kind != ledger.KindOriginBegun || e.Record.Actor != operator {
		t.Errorf("first entry %+v, %v", e, err)
	}
	facts := map[string]string{}
	for _, fact := range e.Record.Facts {
		facts[fact.Name] = fact.Value
	}
	if facts["previous_checkpoint"] != string(lost.Note) || facts["lost"] != "five entries of this morning" || facts["kept_entries"] != "301" {
		t.Errorf("facts %v", facts)
	}
	f.wantProved(t, before.Note)
	f.wantProved(t, after.Note)
	if r := f.verified(t, lost.Note); r.Standing != verify.DeclaredLost || len(r.Losses) != 1 {
		t.Errorf("what was lost: standing %q, losses %v, faults %v", r.Standing, r.Losses, r.Faults)
	}
	p, err := f.Prove(t.Context(), 17) // entries of the ended origin keep their proofs
	if err != nil {
		t.Fatal(err)
	}
	if p.Checkpoint.Origin != before.Origin {
		t.Errorf("proved under %s", p.Checkpoint.Origin)
	}

	t.Run("restored again from the same backup", func(t *testing.T) {
		gone := f.Latest()
		wantReason(t, f.restore(t, db), "ledger-other-origin")
		var err error
		if f.Ledger, err = ledger.NewOrigin(t.Context(), f.deps, operator, "once more"); err != nil {
			t.Fatal(err)
		}
		f.grow(t, 1)
		f.wantProved(t, before.Note)
		for _, note := range [][]byte{gone.Note, lost.Note, after.Note} {
			if r := f.verified(t, note); r.Standing != verify.DeclaredLost {
				t.Errorf("standing %q, faults %v", r.Standing, r.Faults)
			}
		}
	})
	t.Run("stopped before its first signature", func(t *testing.T) {
		last := f.Latest()
		if _, err := ledger.NewOrigin(t.Context(), f.deps, operator, "nothing, a rehearsal"); err != nil {
			t.Fatal(err)
		}
		n := len(origins(t, f.store))
		if err := f.store.Update(t.Context(), func(tx *store.Tx) error { return tx.PutLedgerCheckpoint(t.Context(), n, nil) }); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.deps.CheckpointFile, last.Note, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := f.reopen(t); err != nil {
			t.Fatal(err)
		}
		f.grow(t, 1)
		f.wantProved(t, last.Note)
	})
	t.Run("file put back to the origin before", func(t *testing.T) {
		before := f.Latest()
		if f.Ledger, err = ledger.NewOrigin(t.Context(), f.deps, operator, "nothing, another rehearsal"); err != nil {
			t.Fatal(err)
		}
		last, n := f.Latest(), len(origins(t, f.store))
		refuse := func(note []byte) {
			t.Helper()
			if err := os.WriteFile(f.deps.CheckpointFile, note, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := f.Checkpoint(t.Context())
			wantReason(t, err, "ledger-other-origin")
		}
		refuse(before.Note) // named in the first entry, but this origin was signed since
		if err := f.store.Update(t.Context(), func(tx *store.Tx) error { return tx.PutLedgerCheckpoint(t.Context(), n, nil) }); err != nil {
			t.Fatal(err)
		}
		refuse(lost.Note) // not signed since, but not named either
		if err := os.WriteFile(f.deps.CheckpointFile, last.Note, 0o644); err != nil {
			t.Fatal(err)
		}
		f.sign(t)
	})
	t.Run("kept checkpoint lost", func(t *testing.T) {
		last := f.Latest()
		if err := os.Remove(f.deps.CheckpointFile); err != nil {
			t.Fatal(err)
		}
		wantReason(t, f.reopen(t), "ledger-checkpoint-missing")
		var err error
		if f.Ledger, err = ledger.NewOrigin(t.Context(), f.deps, operator, "the file with the checkpoint"); err != nil {
			t.Fatal(err)
		}
		f.grow(t, 1)
		f.wantProved(t, last.Note)
	})
	t.Run("key lost", func(t *testing.T) {
		last, old := f.Latest(), f.VerifierKey()
		key, err := ledger.CreateKey(filepath.Join(f.home, "new.key"))
		if err != nil {
			t.Fatal(err)
		}
		f.deps.Key = key
		_, err = ledger.Open(t.Context(), f.deps)
		wantReason(t, err, "ledger-checkpoint-bad")
		if f.Ledger, err = ledger.NewOrigin(t.Context(), f.deps, operator, "the signing key"); err != nil {
			t.Fatal(err)
		}
		f.grow(t, 1)
		var b bytes.Buffer
		if err := f.Export(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			keys []string
			want verify.Standing
		}{{[]string{old, f.VerifierKey()}, verify.Proved}, {[]string{old}, verify.Refuted}, {[]string{f.VerifierKey()}, verify.Refuted}} {
			r, err := verify.Log(bytes.NewReader(b.Bytes()), verify.Options{Keys: c.keys, Earlier: last.Note})
			if err != nil || r.Standing != c.want {
				t.Errorf("trusting %d keys: standing %q, faults %v, %v; want %q", len(c.keys), r.Standing, r.Faults, err, c.want)
			}
		}
	})
}

// TestDatabaseAgainstItself rolls back the head alone, under an old copy of the
// kept checkpoint: the newer checkpoint in the database tells.
func TestDatabaseAgainstItself(t *testing.T) {
	f := newFixture(t)
	old := f.grow(t, 3)
	f.grow(t, 5)
	if err := os.WriteFile(f.deps.CheckpointFile, old.Note, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := f.sign(t); got.Size != 9 {
		t.Errorf("under an older copy of the file: signed %d, want 9", got.Size)
	}
	if err := os.WriteFile(f.deps.CheckpointFile, old.Note, 0o644); err != nil {
		t.Fatal(err)
	}
	f.exec(t, `UPDATE ledger_origin SET size = 4, root = ?`, old.Root[:])
	_, err := f.Checkpoint(t.Context())
	wantReason(t, err, "ledger-rolled-back")
}

func TestNewOriginRefusesForgedPast(t *testing.T) {
	f := newFixture(t)
	c := f.grow(t, 3)
	forged := bytes.Replace(c.Note, []byte("\n4\n"), []byte("\n3\n"), 1)
	if err := os.WriteFile(f.deps.CheckpointFile, forged, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := ledger.NewOrigin(t.Context(), f.deps, operator, "nothing")
	wantReason(t, err, "ledger-checkpoint-bad")
	if n := len(origins(t, f.store)); n != 1 {
		t.Errorf("%d origins, want 1", n)
	}
}

func TestCreateRefuses(t *testing.T) {
	f := newFixture(t)
	_, err := ledger.Create(t.Context(), f.deps, operator)
	wantReason(t, err, "ledger-checkpoint-exists")
	d := f.deps
	d.CheckpointFile += ".elsewhere"
	_, err = ledger.Create(t.Context(), d, operator)
	wantReason(t, err, "ledger-exists")
	empty := openStore(t, filepath.Join(t.TempDir(), "data"))
	_, err = ledger.Open(t.Context(), depsOn(empty, f.deps.Key, t.TempDir()))
	wantReason(t, err, "ledger-not-begun")
	for name, change := range map[string]func(*ledger.Deps){
		"no store": func(d *ledger.Deps) { d.Update = nil },
		"no view":  func(d *ledger.Deps) { d.View = nil },
		"no key":   func(d *ledger.Deps) { d.Key = ledger.Key{} },
		"no file":  func(d *ledger.Deps) { d.CheckpointFile = "" },
		"no clock": func(d *ledger.Deps) { d.Now = nil },
		"no log":   func(d *ledger.Deps) { d.Log = nil },
		"no name":  func(d *ledger.Deps) { d.Name = "" },
		"bad name": func(d *ledger.Deps) { d.Name = "a b" },
		"plus":     func(d *ledger.Deps) { d.Name = "a+b" },
		"long":     func(d *ledger.Deps) { d.Name = strings.Repeat("n", 200) },
	} {
		d := f.deps
		change(&d)
		if _, err := ledger.Open(t.Context(), d); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}
