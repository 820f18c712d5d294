package store

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// inFiles counts how often needle stands in the files of the control database.
func inFiles(t *testing.T, dir string, needle []byte) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "control.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(b, needle)
	}
	return n
}

// What was deleted is in no file after Scrub. Somebody who reads an old
// snapshot is in its way; then it says so, and writers go on.
func TestScrub(t *testing.T) {
	s := open(t)
	subject := core.Subject([]byte("sixteen bytes: s"))
	count := func() error {
		return s.Update(t.Context(), func(tx *Tx) error {
			return tx.AddSubjectCounts(t.Context(), []telemetry.SubjectCount{{Subject: subject, Product: "p", Accepted: 1}})
		})
	}
	forget := func() error {
		return s.Update(t.Context(), func(tx *Tx) error { return tx.ForgetCounts(t.Context(), subject) })
	}
	for _, f := range []func() error{count, forget} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	if inFiles(t, s.Dir(), subject[:]) == 0 {
		t.Fatal("the deleted row is nowhere already: this test shows nothing")
	}
	reading, done, read := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		read <- s.View(context.Background(), func(tx *Tx) error {
			_, err := tx.SubjectCount(t.Context(), subject)
			close(reading)
			<-done
			return err
		})
	}()
	<-reading
	if err := count(); err != nil { // the reader's snapshot is now an old one
		t.Fatal(err)
	}
	if err := forget(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Scrub(ctx); core.KindOf(err) != core.Unavail || core.ReasonOf(err) != "log-in-use" {
		t.Errorf("beside a reader: %v", err)
	}
	if err := forget(); err != nil {
		t.Errorf("a writer after it: %v", err)
	}
	close(done)
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if err := s.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := inFiles(t, s.Dir(), subject[:]); n != 0 {
		t.Errorf("the deleted row stands %d times in the files", n)
	}
	var ms int64
	if err := s.w.QueryRowContext(t.Context(), `PRAGMA busy_timeout`).Scan(&ms); err != nil || ms != busyTimeout.Milliseconds() {
		t.Errorf("the writer waits %d ms for a lock, want %s: %v", ms, busyTimeout, err)
	}
}
