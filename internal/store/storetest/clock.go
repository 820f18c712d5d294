package storetest

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/store"
)

// Clock tells what the time that was seen needs from every engine.
func Clock(t *testing.T, open func(testing.TB) *store.Store) {
	s := open(t)
	seen := func(want time.Time) {
		t.Helper()
		err := s.View(t.Context(), func(tx *store.Tx) error {
			got, err := tx.ClockSeen(t.Context())
			if err == nil && !got.Equal(want) {
				t.Errorf("seen %v, want %v", got, want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	seen(time.Time{})
	at := time.Date(2026, 11, 22, 21, 0, 0, 123456000, time.UTC)
	for _, at := range []time.Time{at, at.Add(time.Hour), at.Add(-time.Hour)} { // it follows, either way
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutClockSeen(t.Context(), at) }); err != nil {
			t.Fatal(err)
		}
		seen(at)
	}
}
