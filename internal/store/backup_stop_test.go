package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBackupInterrupted: one that is told to stop half way leaves nothing, and
// the next one goes into the same folder.
func TestBackupInterrupted(t *testing.T) {
	f := newFolder(t)
	f.add(t, true, f.row(1, time.Hour, 1))
	f.add(t, true, f.row(1, 72*time.Hour, 2))
	to := filepath.Join(t.TempDir(), "b")
	o := f.options(to)
	for at := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		o.Progress = func(done, total int64) {
			if done <= 0 || done > total {
				t.Errorf("progress %d of %d", done, total)
			}
			if n++; n > at {
				cancel()
			}
		}
		if _, err := f.store.Backup(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("told to stop after file %d: %v", at+1, err)
		}
		if got := tree(t, to); len(got) != 0 {
			t.Errorf("after file %d it left %q", at+1, got)
		}
		cancel()
	}
	// In the midst of a file: sooner or later one of these is.
	o.Progress = nil
	for wait := 100 * time.Microsecond; ; wait += wait/4 + 100*time.Microsecond {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		_, err := f.store.Backup(ctx, o)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "interrupt") {
			t.Fatalf("after %s: %v", wait, err)
		}
		if got := tree(t, to); len(got) != 0 {
			t.Fatalf("after %s it left %q", wait, got)
		}
	}
	o.To = filepath.Join(t.TempDir(), "another")
	var last, total int64
	o.Progress = func(d, t int64) { last, total = d, t }
	if _, err := f.store.Backup(t.Context(), o); err != nil || last == 0 || last != total {
		t.Errorf("the next one: %v, progress ended at %d of %d", err, last, total)
	}
}
