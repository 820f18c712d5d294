package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

var testEpoch = core.EpochAt(30*24*time.Hour, 24*time.Hour, time.Unix(1_800_000_000, 0))

func openFiles(t *testing.T, dir string) *EpochFiles {
	t.Helper()
	s, err := OpenEpochFiles(EpochFilesOptions{Dir: dir, Now: func() time.Time { return time.Unix(1_800_000_500, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // some tests close it themselves
	return s
}

// rowsOf makes n rows of subjects 0…n-1, reading number seq of each.
func rowsOf(e core.Epoch, n, seq int) *telemetry.Append {
	a := &telemetry.Append{Fate: make([]telemetry.Fate, n), Mark: telemetry.Mark{Journal: "j", Seq: uint64(seq)}}
	for i := range n {
		sealed := make([]byte, 200)
		_, _ = rand.Read(sealed) // never fails
		a.Rows = append(a.Rows, telemetry.Row{
			Reading: telemetry.Reading{
				Product: "p", Subject: core.Subject{byte(i), byte(i >> 8), 1}, Stream: "s", T: e.Start*1000 + int64(seq), Received: e.Start*1000 + int64(seq),
				HasSeq: true, Boot: 1, Seq: uint64(seq), Counter: uint64(seq*n + i),
			},
			Part: telemetry.Part{Epoch: e, Sealed: sealed},
		})
	}
	return a
}

func mustAppend(t *testing.T, s *EpochFiles, e core.Epoch, a *telemetry.Append) {
	t.Helper()
	if _, err := s.Append(t.Context(), e, a); err != nil {
		t.Fatal(err)
	}
}

// A damaged file is named, put aside as it is, and nothing else suffers.
func TestDamagedFileIsPutAside(t *testing.T) {
	overwrite := func(at int64, n int) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			t.Helper()
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			junk := make([]byte, n)
			for i := range junk {
				junk[i] = 0xa5
			}
			if _, err := f.WriteAt(junk, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	execute := func(query string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			t.Helper()
			db, err := sql.Open("sqlite", path)
			if err == nil {
				_, err = db.Exec(query)
			}
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		hurt func(*testing.T, string)
		use  func(context.Context, *EpochFiles) error
	}{
		"header": {overwrite(0, 100), nil},
		"pages": {overwrite(4096, 200_000), func(ctx context.Context, s *EpochFiles) error {
			_, err := s.Append(ctx, testEpoch, rowsOf(testEpoch, 300, 9))
			return err
		}},
		"pages, seen by a reader": {overwrite(4096, 200_000), func(ctx context.Context, s *EpochFiles) error {
			q := telemetry.Query{Subject: core.Subject{1, 0, 1}, From: time.Unix(0, 0), To: testEpoch.End()}
			return s.Scan(ctx, testEpoch, &q, func(*telemetry.Row) error { return nil })
		}},
		"cut short": {func(t *testing.T, path string) {
			if err := os.Truncate(path, 20_000); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"no database at all": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 500)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"file of another epoch": {func(t *testing.T, path string) {
			other := testEpoch
			other.Start -= 86400
			b, err := os.ReadFile(filepath.Join(filepath.Dir(path), filepath.Base(other.String())+".db"))
			if err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, nil},
		"another layout":             {execute(`UPDATE epoch SET layout = 1`), nil},
		"layout before it was named": {execute(`ALTER TABLE epoch DROP COLUMN layout`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "telemetry")
			s := openFiles(t, dir)
			well := testEpoch
			well.Start -= 86400
			for seq := range 3 {
				mustAppend(t, s, testEpoch, rowsOf(testEpoch, 300, seq))
				mustAppend(t, s, well, rowsOf(well, 300, seq))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path := s.path(testEpoch)
			c.hurt(t, path)
			hurt, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}

			s = openFiles(t, dir)
			use := c.use
			if use == nil {
				use = func(ctx context.Context, s *EpochFiles) error {
					_, err := s.Append(ctx, testEpoch, rowsOf(testEpoch, 1, 9))
					return err
				}
			}
			err = use(t.Context(), s)
			b, ok := telemetry.AsBroken(err)
			if !ok {
				t.Fatalf("got %v, want a *BrokenError", err)
			}
			if b.Epoch != testEpoch || b.Detail == "" || !strings.Contains(err.Error(), testEpoch.String()) {
				t.Errorf("the error does not name what is wrong: %v", err)
			}
			if aside, err := os.ReadFile(filepath.Join(filepath.Dir(dir), b.Aside)); err != nil || string(aside) != string(hurt) {
				t.Errorf("what was put aside as %s is not the damaged file: %v", b.Aside, err)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the damaged file is still in its place: %v", err)
			}
			mustAppend(t, s, well, rowsOf(well, 300, 9)) // the rest serves

			// It stays out of use, also after a restart, and dies with its epoch.
			if _, ok := telemetry.AsBroken(use(t.Context(), s)); !ok {
				t.Error("the second use does not say that the file is damaged")
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openFiles(t, dir)
			if got := s.Broken(); len(got) != 1 || got[0].Epoch.Start != testEpoch.Start || got[0].Aside != b.Aside {
				t.Errorf("after a restart: broken %+v", got)
			}
			if err := s.Freeze(t.Context(), testEpoch); err != nil {
				t.Fatal(err)
			}
			if err := s.Remove(t.Context(), testEpoch); err != nil {
				t.Fatal(err)
			}
			left, err := filepath.Glob(path + "*")
			if err != nil || len(left) != 0 || len(s.Broken()) != 0 {
				t.Errorf("after the end of the epoch: files %v, broken %v, %v", left, s.Broken(), err)
			}
		})
	}
}

// An error of the engine that is not confirmed by a check of the file, or
// that is the caller's own, condemns nothing.
func TestErrorsAloneCondemnNothing(t *testing.T) {
	s := openFiles(t, t.TempDir())
	mustAppend(t, s, testEpoch, rowsOf(testEpoch, 10, 1))
	q := telemetry.Query{Subject: core.Subject{1, 0, 1}, From: time.Unix(0, 0), To: testEpoch.End()}
	mine := errors.New("mine")
	if err := s.Scan(t.Context(), testEpoch, &q, func(*telemetry.Row) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Scan(ctx, testEpoch, &q, func(*telemetry.Row) error { return nil }); err == nil {
		t.Error("a scan under an ended context gave no error")
	}
	bad := rowsOf(testEpoch, 2, 2)
	bad.Fate = bad.Fate[:1]
	if _, err := s.Append(t.Context(), testEpoch, bad); err == nil {
		t.Error("fewer fates than rows were accepted")
	}
	if len(s.Broken()) != 0 {
		t.Errorf("condemned %v", s.Broken())
	}
	mustAppend(t, s, testEpoch, rowsOf(testEpoch, 10, 2))
}

// Several goroutines meet the damage at once: one puts the file aside, the
// others hear of it, nobody hangs.
func TestDamageMetByMany(t *testing.T) {
	dir := t.TempDir()
	s := openFiles(t, dir)
	for seq := range 5 {
		mustAppend(t, s, testEpoch, rowsOf(testEpoch, 300, seq))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.path(testEpoch))
	if err != nil {
		t.Fatal(err)
	}
	for i := 8192; i < len(b); i++ {
		b[i] = 0x5a
	}
	if err := os.WriteFile(s.path(testEpoch), b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openFiles(t, dir)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = s.Append(t.Context(), testEpoch, rowsOf(testEpoch, 300, 90+i))
			} else {
				q := telemetry.Query{Subject: core.Subject{byte(i), 0, 1}, From: time.Unix(0, 0), To: testEpoch.End()}
				err = s.Scan(t.Context(), testEpoch, &q, func(*telemetry.Row) error { return nil })
			}
			if _, ok := telemetry.AsBroken(err); !ok {
				t.Errorf("%d: got %v, want a *BrokenError", i, err)
			}
		})
	}
	wg.Wait()
	if n := len(s.Broken()); n != 1 {
		t.Errorf("%d broken files, want 1", n)
	}
}

// A full disk stops filing, says so, and leaves the file as it was; with room
// again the same rows go in. max_page_count gives the very SQLITE_FULL that a
// full disk gives.
func TestFullDisk(t *testing.T) {
	s := openFiles(t, t.TempDir())
	mustAppend(t, s, testEpoch, rowsOf(testEpoch, 100, 1))
	limit := func(pages int) {
		t.Helper()
		err := s.with(t.Context(), testEpoch, leaveIt, func(f *epochFile) error {
			_, err := f.w.ExecContext(t.Context(), `PRAGMA max_page_count = `+strconv.Itoa(pages))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	limit(20)
	a := rowsOf(testEpoch, 2000, 2)
	_, err := s.Append(t.Context(), testEpoch, a)
	if core.KindOf(err) != core.Unavail || core.ReasonOf(err) != "disk-full" {
		t.Fatalf("full disk: got %v", err)
	}
	if len(s.Broken()) != 0 {
		t.Error("a full disk was taken for a damaged file")
	}
	q := telemetry.Query{Subject: core.Subject{1, 0, 1}, From: time.Unix(0, 0), To: testEpoch.End()}
	n := 0
	if err := s.Scan(t.Context(), testEpoch, &q, func(*telemetry.Row) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("what was there before: %d rows, %v", n, err)
	}
	limit(1 << 30)
	h, err := s.Append(t.Context(), testEpoch, a)
	if err != nil || h.Rows != 2100 || h.Batches != 2 {
		t.Errorf("with room again: head %+v, %v", h, err)
	}
	for i, f := range a.Fate {
		if f != telemetry.FateStored {
			t.Fatalf("row %d: fate %d", i, f)
		}
	}
}

// After a failed sync the kernel may believe that pages are on disk which are
// not; the next sync writes them once more.
func TestSyncAfterFailedSync(t *testing.T) {
	s := openFiles(t, t.TempDir())
	mustAppend(t, s, testEpoch, rowsOf(testEpoch, 100, 1))
	size := func() int64 {
		info, err := os.Stat(s.path(testEpoch) + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if err := s.Sync(t.Context(), []core.Epoch{testEpoch}); err != nil {
		t.Fatal(err)
	}
	if size() == 0 {
		t.Fatal("a sync folds the log in: it is meant to be cheaper")
	}
	err := s.with(t.Context(), testEpoch, leaveIt, func(f *epochFile) error {
		f.unsynced = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(t.Context(), []core.Epoch{testEpoch}); err != nil {
		t.Fatal(err)
	}
	if size() != 0 {
		t.Error("after a failed sync the log was not folded in")
	}
}

// Files beyond the limit are closed, those unused for two minutes too.
func TestOpenFilesAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_500, 0)
	s, err := OpenEpochFiles(EpochFilesOptions{Dir: t.TempDir(), MaxOpen: 3, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	open := func() (n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, ent := range s.files {
			if ent.file != nil {
				n++
			}
		}
		return n
	}
	for i := range 10 {
		e := testEpoch
		e.Start += int64(i) * 86400
		mustAppend(t, s, e, rowsOf(e, 1, 1))
		if n := open(); n > 4 { // the one in use comes on top
			t.Errorf("%d files open", n)
		}
	}
	now = now.Add(epochIdle + time.Second)
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := open(); n != 0 {
		t.Errorf("%d files open after two idle minutes", n)
	}
	logs, err := filepath.Glob(filepath.Join(s.dir, "*", "*-wal"))
	if err != nil || len(logs) != 0 {
		t.Errorf("logs left: %v %v", logs, err)
	}
}
