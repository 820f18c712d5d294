package store_test

import (
	"testing"

	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/store/storetest"
)

func TestIngest(t *testing.T) {
	storetest.Ingest(t, func(t *testing.T) *store.Store {
		t.Helper()
		s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() }) // the test is over
		return s
	})
}
