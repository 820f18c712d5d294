package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSecondOpenIsRefused(t *testing.T) {
	s := open(t)
	_, err := Open(t.Context(), Options{Dir: s.Dir()})
	if !errors.Is(err, ErrInUse) {
		t.Errorf("second open: got %v, want ErrInUse", err)
	}
}

// A folder's name is a name, not a part of an address: cut at its '#', two
// folders would share one database beside them.
func TestFolderOfAnyName(t *testing.T) {
	for _, name := range []string{"a #1", "what?mode=memory", "100%25", "ö"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), Options{Dir: dir})
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "control.db")); err != nil {
			t.Errorf("%q: the database is elsewhere: %v", name, err)
		}
	}
}

func TestEnvironmentIsFixed(t *testing.T) {
	s := open(t)
	put := func(e core.Environment) error {
		return s.Update(t.Context(), func(tx *Tx) error {
			return tx.PutInstallation(t.Context(), Installation{ID: "i", Environment: e, Created: time.Unix(1, 0)})
		})
	}
	if err := put(core.Test); err != nil {
		t.Fatal(err)
	}
	if err := put(core.Live); err == nil {
		t.Error("environment could be changed")
	}
}

func TestViewCannotWrite(t *testing.T) {
	s := open(t)
	err := s.View(t.Context(), func(tx *Tx) error {
		return tx.PutInstallation(t.Context(), Installation{ID: "i", Environment: core.Test, Created: time.Unix(1, 0)})
	})
	if err == nil {
		t.Error("a view could write")
	}
}
