package storetest

import (
	"crypto/sha256"
	"reflect"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/store"
)

// Review tells what reviews of declarations need from every engine: each comes
// back as it was kept, oldest first; deciding one changes the decision and
// never the version that waits, whose hash is that of its bytes.
func Review(t *testing.T, open func(testing.TB) *store.Store) {
	s, ctx := open(t), t.Context()
	at := time.Date(2026, 11, 23, 8, 0, 0, 123456000, time.UTC)
	review := func(id string, after time.Duration, canonical string) declaration.Review {
		return declaration.Review{
			ID: id, Product: "aria-thermostat", Version: 4, Hash: sha256.Sum256([]byte(canonical)), Canonical: []byte(canonical), Against: "ab12",
			Asked: at.Add(after), AskedBy: core.Actor{Kind: core.ActorStaff, ID: "pabcdefghijkl"},
		}
	}
	later, first := review("rlater", time.Hour, "{\"keep\":\"60d\"}"), review("rfirst", 0, "{\"keep\":\"\x00\xff\"}")
	put := func(r declaration.Review) {
		t.Helper()
		must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.PutReview(ctx, r) }))
	}
	same := func(what string, want ...declaration.Review) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) error {
			got, err := tx.Reviews(ctx)
			if err != nil {
				return err
			}
			if len(got) != len(want) {
				t.Errorf("%s: %d reviews, want %d", what, len(got), len(want))
				return nil
			}
			for i := range got {
				if !reflect.DeepEqual(got[i], want[i]) {
					t.Errorf("%s: review %d is %+v, want %+v", what, i, got[i], want[i])
				}
			}
			return nil
		}))
	}
	same("none")
	put(later)
	put(first)
	same("oldest first", first, later)

	decided := first
	decided.Vouched, decided.Voucher = at.Add(90*time.Minute), core.Actor{Kind: core.ActorStaff, ID: "pqrstuvwxyzab"}
	decided.Decision, decided.Decided, decided.By = declaration.Rejected, at.Add(2*time.Hour), core.Actor{Kind: core.ActorStaff, ID: "pmnopqrstuvwx"}
	swapped := decided
	swapped.Canonical = []byte("{\"keep\":\"forever\"}")
	put(swapped)
	same("decided, and another version slipped in", decided, later)
}
