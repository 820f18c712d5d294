package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/store/storetest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

func epochFiles(maxOpen int) storetest.PartitionsOpener {
	return func(t *testing.T) (func() telemetry.Partitions, func()) {
		t.Helper()
		dir := t.TempDir()
		var opened *store.EpochFiles
		open := func() telemetry.Partitions {
			s, err := store.OpenEpochFiles(store.EpochFilesOptions{Dir: dir, MaxOpen: maxOpen, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			opened = s
			return s
		}
		return open, func() {
			if opened == nil {
				return
			}
			if err := opened.Close(); err != nil {
				t.Error(err)
			}
			opened = nil
		}
	}
}

func TestEpochFiles(t *testing.T) { storetest.Partitions(t, epochFiles(0)) }

// With room for one open file every other call closes one and opens one.
func TestEpochFilesOneOpen(t *testing.T) { storetest.Partitions(t, epochFiles(1)) }

func TestLateLane(t *testing.T) { storetest.LateLane(t, lateFile) }

func lateFile(t *testing.T) (func() telemetry.LateLane, func()) {
	t.Helper()
	dir := t.TempDir()
	var opened *store.LateLane
	open := func() telemetry.LateLane {
		l, err := store.OpenLateLane(t.Context(), store.EpochFilesOptions{Dir: dir, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		opened = l
		return l
	}
	return open, func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Rows can be carried from one engine to another as they are.
func TestMoveFiles(t *testing.T)    { storetest.Move(t, epochFiles(0), epochFiles(1)) }
func TestMoveLateFile(t *testing.T) { storetest.MoveLane(t, lateFile, lateFile) }

// A damaged lane is put aside and named; a new one takes over.
func TestDamagedLateLane(t *testing.T) {
	for name, hurt := range map[string][]byte{
		"junk":             bytes.Repeat([]byte("junk"), 5000),
		"another database": nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "late.db")
			if hurt != nil {
				if err := os.WriteFile(path, hurt, 0o600); err != nil {
					t.Fatal(err)
				}
			} else {
				s, err := store.Open(t.Context(), store.Options{Dir: filepath.Join(dir, "x")})
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(s.Close(), os.Rename(filepath.Join(dir, "x", "control.db"), path)); err != nil {
					t.Fatal(err)
				}
			}
			l, err := store.OpenLateLane(t.Context(), store.EpochFilesOptions{Dir: dir, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if l.Damaged() == "" {
				t.Error("the damage is not named")
			}
			if w, err := l.Waiting(t.Context()); err != nil || len(w) != 0 {
				t.Errorf("a new lane: %v, %v", w, err)
			}
			if aside, err := filepath.Glob(path + ".damaged-*"); err != nil || len(aside) != 1 {
				t.Errorf("put aside: %v, %v", aside, err)
			}
		})
	}
}
