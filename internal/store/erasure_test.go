package store_test

import (
	"testing"

	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/store/storetest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

func TestErasure(t *testing.T) {
	storetest.Erasure(t, func(t *testing.T) *store.Store {
		t.Helper()
		s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() }) // the test is over
		return s
	})
}

func TestHoldFiles(t *testing.T) {
	storetest.HoldFiles(t, func(t *testing.T, dir string) telemetry.HoldFiles {
		f, err := store.OpenHoldFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}
