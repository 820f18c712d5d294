package store_test

import (
	"testing"

	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/store/storetest"
)

func TestReview(t *testing.T) {
	storetest.Review(t, func(t *testing.T) *store.Store {
		t.Helper()
		s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() }) // the test is over
		return s
	})
}
