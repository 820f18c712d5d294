package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// folder is a data folder in use, with a little of everything in it.
type folder struct {
	dir   string
	store *store.Store
	files *store.EpochFiles
	late  *store.LateLane
	holds *store.HoldFiles
	now   time.Time
	state seal.State
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	f := &folder{dir: filepath.Join(t.TempDir(), "data"), now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), state: seal.State{Generation: 4, Additions: 2}}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	f.store, err = store.Open(t.Context(), store.Options{Dir: f.dir})
	ok(err)
	ok(f.store.Update(t.Context(), func(tx *store.Tx) error {
		return tx.PutInstallation(t.Context(), store.Installation{ID: "inst-1", Environment: core.Live, Created: f.now})
	}))
	o := store.EpochFilesOptions{Dir: filepath.Join(f.dir, "telemetry"), Now: func() time.Time { return f.now }}
	f.files, err = store.OpenEpochFiles(o)
	ok(err)
	f.late, err = store.OpenLateLane(t.Context(), o)
	ok(err)
	f.holds, err = store.OpenHoldFiles(filepath.Join(f.dir, "hold"))
	ok(err)
	ok(f.holds.Create(t.Context(), "h-one"))
	t.Cleanup(f.close)
	return f
}

func (f *folder) close() {
	if f.store != nil {
		_ = f.late.Close()
		_ = f.files.Close()
		_ = f.store.Close()
		f.store = nil
	}
}

func (f *folder) epoch(ago time.Duration) core.Epoch {
	return core.EpochAt(30*24*time.Hour, 24*time.Hour, f.now.Add(-ago))
}

func (f *folder) row(subject byte, ago time.Duration, seq uint64) telemetry.Row {
	r := telemetry.Row{Reading: telemetry.Reading{
		Product: "thermostat", Subject: core.Subject{subject}, Stream: "climate", T: f.now.Add(-ago).UnixMilli(), Received: f.now.UnixMilli(),
		HasSeq: true, Boot: 1, Seq: seq, Gateway: [8]byte{1}, Counter: seq,
	}, Place: telemetry.Place{Journal: "j", Seq: seq}}
	r.Part = telemetry.Part{Epoch: f.epoch(ago), Sealed: bytes.Repeat([]byte{byte(seq)}, 80)}
	return r
}

// add files rows; noted also tells the control database, as the projector does
// when its commit is whole.
func (f *folder) add(t *testing.T, noted bool, rows ...telemetry.Row) telemetry.Head {
	t.Helper()
	head, err := f.file(t.Context(), noted, rows...)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func (f *folder) file(ctx context.Context, noted bool, rows ...telemetry.Row) (telemetry.Head, error) {
	e := rows[0].Part.Epoch
	head, err := f.files.Append(ctx, e, &telemetry.Append{Rows: rows, Fate: make([]telemetry.Fate, len(rows)), Mark: telemetry.Mark{Journal: "j", Seq: rows[0].Place.Seq}})
	if err == nil && noted {
		err = f.store.Update(ctx, func(tx *store.Tx) error { return tx.PutEpochHead(ctx, e, head, f.now) })
	}
	return head, err
}

func (f *folder) options(to string) store.BackupOptions {
	return store.BackupOptions{
		To: to, Settle: func(context.Context) error { return nil }, Now: func() time.Time { return f.now },
		Journal: func() store.JournalState { return store.JournalState{Incarnation: "j", Sequence: 9} },
		Keyring: func(context.Context) (seal.State, error) { return f.state, nil },
	}
}

func wantErr(t *testing.T, what string, err error, kind core.Kind, reason string) {
	t.Helper()
	if err == nil || core.KindOf(err) != kind || core.ReasonOf(err) != reason {
		t.Errorf("%s: got %v (%v, %q), want %v, %q", what, err, core.KindOf(err), core.ReasonOf(err), kind, reason)
	}
}

func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		if !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestBackupAndRestore (CC 2.9): all of the data folder that matters comes back,
// and nothing that opens it is in it.
func TestBackupAndRestore(t *testing.T) {
	f := newFolder(t)
	f.add(t, true, f.row(1, time.Hour, 1), f.row(2, time.Hour, 2))
	f.add(t, true, f.row(1, 72*time.Hour, 3))
	ahead := f.add(t, false, f.row(1, time.Hour, 4)) // a commit that the control database has not noted
	f.add(t, false, f.row(2, 48*time.Hour, 5))       // and a new file of the same kind
	if err := f.late.Park(t.Context(), []telemetry.Row{f.row(1, 100*time.Hour, 6)}); err != nil {
		t.Fatal(err)
	}
	aside := "telemetry/" + f.epoch(240*time.Hour).String() + ".db.damaged-1790000000"
	for name, content := range map[string]string{
		"keyring": "none of this", "hawser.sock": "x", "journal/1.blk": "x", aside: "damaged as it is",
	} {
		path := filepath.Join(f.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "backup")
	m, err := f.store.Backup(t.Context(), f.options(to))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"control.db", "hold/h-one.db", "manifest.json",
		aside, "telemetry/" + f.epoch(72*time.Hour).String() + ".db", "telemetry/" + f.epoch(48*time.Hour).String() + ".db",
		"telemetry/" + f.epoch(time.Hour).String() + ".db", "telemetry/late.db",
	}
	slices.Sort(want)
	got := tree(t, to)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the backup holds\n %q\nwant\n %q", got, want)
	}
	if m.Installation != "inst-1" || m.Environment != core.Live || m.Keyring != (store.KeyringState{Generation: 4, Additions: 2}) ||
		m.Journal.Sequence != 9 || len(m.Files) != len(want)-1 || m.Bytes() == 0 {
		t.Errorf("manifest %+v", m)
	}

	// The running folder goes on, and is not what comes back.
	f.add(t, true, f.row(1, time.Hour, 7))
	f.close()

	data := filepath.Join(t.TempDir(), "restored")
	again, err := store.Restore(t.Context(), store.RestoreOptions{From: to, To: data})
	if err != nil {
		t.Fatal(err)
	}
	if again.Created != m.Created || len(again.Files) != len(m.Files) {
		t.Errorf("restored %+v", again)
	}
	tree(t, data)
	if _, err := os.Stat(data + ".restoring"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was left behind")
	}
	s, err := store.Open(t.Context(), store.Options{Dir: data})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	o := store.EpochFilesOptions{Dir: filepath.Join(data, "telemetry"), Now: func() time.Time { return f.now }}
	files, err := store.OpenEpochFiles(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = files.Close() }()
	late, err := store.OpenLateLane(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Close() }()
	shelf, err := telemetry.NewShelf(files, late)
	if err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	for _, ago := range []time.Duration{100 * time.Hour, 72 * time.Hour, 48 * time.Hour, time.Hour} {
		for _, subject := range []byte{1, 2} {
			q := telemetry.Query{Subject: core.Subject{subject}, From: f.now.Add(-1000 * time.Hour), To: f.now}
			if err := shelf.Scan(t.Context(), f.epoch(ago), &q, func(r *telemetry.Row) error {
				if len(r.Part.Sealed) != 80 || r.Part.Sealed[0] != byte(r.Reading.Seq) {
					t.Errorf("row %d was changed", r.Reading.Seq)
				}
				seqs = append(seqs, r.Reading.Seq)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !slices.Equal(seqs, []uint64{6, 3, 5, 1, 4, 2}) {
		t.Errorf("restored rows %v", seqs)
	}
	err = s.View(t.Context(), func(tx *store.Tx) error {
		i, err := tx.Installation(t.Context())
		if err != nil || i.ID != "inst-1" {
			t.Errorf("installation %+v, %v", i, err)
		}
		for e, want := range map[core.Epoch]uint64{f.epoch(time.Hour): ahead.Batches, f.epoch(48 * time.Hour): 1, f.epoch(72 * time.Hour): 1} {
			info, known, err := tx.Epoch(t.Context(), e)
			if err != nil || !known || info.Head.Batches != want {
				t.Errorf("epoch %s: %+v, %v, %v; want %d batches", e, info, known, err, want)
			}
			if e == f.epoch(time.Hour) && info.Head != ahead {
				t.Errorf("head %+v, want %+v", info.Head, ahead)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	holds, err := store.OpenHoldFiles(filepath.Join(data, "hold"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := holds.Count(t.Context(), "h-one"); err != nil || n != 0 {
		t.Errorf("hold: %d, %v", n, err)
	}
}

// TestBackupUnderLoad backs up while rows are filed and moved from the late
// lane: all that was acknowledged before it began is in it.
func TestBackupUnderLoad(t *testing.T) {
	f := newFolder(t)
	const acknowledged = 100
	for seq := uint64(1); seq <= acknowledged; seq++ {
		f.add(t, true, f.row(1, time.Duration(seq%20)*24*time.Hour+time.Hour, seq))
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for seq := uint64(1000); ; seq++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
				if _, err := f.file(context.Background(), true, f.row(1, time.Duration(seq%20)*24*time.Hour+time.Hour, seq)); err != nil {
					stopped <- err
					return
				}
			}
		}
	}()
	to := filepath.Join(t.TempDir(), "backup")
	_, err := f.store.Backup(t.Context(), f.options(to))
	close(stop)
	if err := errors.Join(err, <-stopped); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "restored")
	if _, err := store.Restore(t.Context(), store.RestoreOptions{From: to, To: data}); err != nil {
		t.Fatal(err)
	}
	files, err := store.OpenEpochFiles(store.EpochFilesOptions{Dir: filepath.Join(data, "telemetry"), Now: func() time.Time { return f.now }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = files.Close() }()
	seen := map[uint64]bool{}
	for i := range 20 {
		err := files.Audit(t.Context(), f.epoch(time.Duration(i)*24*time.Hour+time.Hour), telemetry.AuditVisitor{
			Head: func(telemetry.Head) error { return nil }, Batch: func(*telemetry.Batch) error { return nil },
			Fault: func(detail string) error { return errors.New(detail) },
			Row:   func(r *telemetry.Row) error { seen[r.Reading.Seq] = true; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for seq := uint64(1); seq <= acknowledged; seq++ {
		if !seen[seq] {
			t.Errorf("reading %d, acknowledged before the backup, is not in it", seq)
		}
	}
}

func TestBackupRefuses(t *testing.T) {
	f := newFolder(t)
	full := filepath.Join(t.TempDir(), "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, to string
		kind     core.Kind
	}{
		{"inside the data folder", filepath.Join(f.dir, "backup"), core.Invalid},
		{"the data folder", f.dir, core.Invalid},
		{"none", "", core.Invalid},
		{"not empty", full, core.Conflict},
		{"below nothing", filepath.Join(f.dir, "..", "no", "such"), core.Invalid},
		{"open to others", open, core.Invalid},
	} {
		_, err := f.store.Backup(t.Context(), f.options(c.to))
		wantErr(t, c.name, err, c.kind, "backup-folder")
	}
	to := filepath.Join(t.TempDir(), "b")
	o := f.options(to)
	o.Settle = func(context.Context) error { return errors.New("the projector has stopped") }
	_, err := f.store.Backup(t.Context(), o)
	wantErr(t, "behind", err, core.Unavail, "backup-behind")
	o = f.options(to)
	o.Keyring = func(context.Context) (seal.State, error) { return seal.State{}, errors.New("closed") }
	if _, err := f.store.Backup(t.Context(), o); err == nil {
		t.Error("a backup without a keyring generation was made")
	}
	if got := tree(t, to); len(got) != 0 {
		t.Errorf("a failed backup left %q", got)
	}
	if _, err := store.ReadManifest(to); err == nil {
		t.Error("a failed backup has a manifest")
	}
	if _, err := f.store.Backup(t.Context(), f.options(to)); err != nil {
		t.Errorf("after the trouble: %v", err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	f := newFolder(t)
	f.add(t, true, f.row(1, time.Hour, 1))
	good := filepath.Join(t.TempDir(), "good")
	m, err := f.store.Backup(t.Context(), f.options(good))
	if err != nil {
		t.Fatal(err)
	}
	epoch := "telemetry/" + f.epoch(time.Hour).String() + ".db"
	manifest := func(change func(*store.Manifest)) func(string) error {
		return func(dir string) error {
			n := m
			n.Files = slices.Clone(m.Files)
			change(&n)
			b, err := json.Marshal(n)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "manifest.json"), b, 0o600)
		}
	}
	for _, c := range []struct {
		name, reason string
		harm         func(dir string) error
	}{
		{"no manifest", "no-backup", func(dir string) error { return os.Remove(filepath.Join(dir, "manifest.json")) }},
		{"a file is missing", "backup-changed", func(dir string) error { return os.Remove(filepath.Join(dir, epoch)) }},
		{"a byte was changed", "backup-changed", func(dir string) error {
			path := filepath.Join(dir, epoch)
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			return os.WriteFile(path, b, 0o600)
		}},
		{"a byte was added", "backup-changed", func(dir string) error {
			fl, err := os.OpenFile(filepath.Join(dir, "control.db"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = fl.Write([]byte{0})
			return errors.Join(err, fl.Close())
		}},
		{"a path leaves the folder", "bad-manifest", manifest(func(m *store.Manifest) { m.Files[0].Path = "../control.db" })},
		{"an absolute path", "bad-manifest", manifest(func(m *store.Manifest) { m.Files[0].Path = "/etc/control.db" })},
		{"a file of no database", "bad-manifest", manifest(func(m *store.Manifest) { m.Files[1].Path = "telemetry/x.sh" })},
		{"a log beside a database", "bad-manifest", manifest(func(m *store.Manifest) { m.Files[1].Path = "control.db-wal" })},
		{"a file twice", "bad-manifest", manifest(func(m *store.Manifest) { m.Files[1] = m.Files[0] })},
		{"no control database", "bad-manifest", manifest(func(m *store.Manifest) { m.Files = m.Files[1:] })},
		{"another format", "bad-manifest", manifest(func(m *store.Manifest) { m.Format = 2 })},
		{"no generation", "bad-manifest", manifest(func(m *store.Manifest) { m.Keyring = store.KeyringState{} })},
		{"not JSON", "bad-manifest", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("hello"), 0o600)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, to := filepath.Join(t.TempDir(), "b"), filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			if err := c.harm(dir); err != nil {
				t.Fatal(err)
			}
			_, err := store.Restore(t.Context(), store.RestoreOptions{From: dir, To: to})
			wantErr(t, "restore", err, core.Invalid, c.reason)
			for _, p := range []string{to, to + ".restoring"} {
				if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s was left behind", p)
				}
			}
		})
	}
	_, err = store.Restore(t.Context(), store.RestoreOptions{From: good, To: f.dir})
	wantErr(t, "into a folder in use", err, core.Conflict, "data-exists")

	for _, c := range []struct {
		state seal.State
		fits  bool
	}{
		{seal.State{Generation: 4, Additions: 2}, true},
		{seal.State{Generation: 4, Additions: 3}, true},
		{seal.State{Generation: 5}, true},
		{seal.State{Generation: 4, Additions: 1}, false},
		{seal.State{Generation: 3, Additions: 9}, false},
	} {
		err := m.Fits(c.state)
		if c.fits != (err == nil) {
			t.Errorf("keyring %+v: %v", c.state, err)
		}
		if !c.fits && (core.KindOf(err) != core.Unready || !strings.Contains(err.Error(), "generation 4")) {
			t.Errorf("the refusal of %+v does not name the generation: %v", c.state, err)
		}
	}
}

// FuzzManifest: no manifest makes a restore write outside its folder.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"environment":"live","keyring":{"generation":1},"files":[{"path":"control.db","bytes":1,"sha256":"0000000000000000000000000000000000000000000000000000000000000000"}]}`))
	f.Add([]byte(`{"format":1,"environment":"test","keyring":{"generation":1},"files":[{"path":"../x.db","sha256":"0000000000000000000000000000000000000000000000000000000000000000"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "manifest.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := store.ReadManifest(dir)
		if err != nil {
			if core.KindOf(err) != core.Invalid {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		for _, file := range m.Files {
			p := filepath.FromSlash(file.Path)
			if !filepath.IsLocal(p) || filepath.Clean(p) != p {
				t.Fatalf("accepted the path %q", file.Path)
			}
		}
	})
}
