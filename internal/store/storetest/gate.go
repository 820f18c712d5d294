package storetest

import (
	"bytes"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/store"
)

// Gate tells what the gate needs from every engine. open gives an empty store
// that is closed when the test ends.
func Gate(t *testing.T, open func(testing.TB) *store.Store) {
	s, ctx := open(t), t.Context()
	at := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	update := func(fn func(*store.Tx) error) { t.Helper(); must(t, s.Update(ctx, fn)) }
	read := func() (all []gate.Counter) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) error {
			if err := tx.EachGateCounter(ctx, func(c gate.Counter) error { all = append(all, c); return nil }); err != nil {
				return err
			}
			n, err := tx.GateCounters(ctx)
			if n != len(all) {
				t.Errorf("%d counters are counted, %d read", n, len(all))
			}
			return err
		}))
		return all
	}

	// The clock is one, and nothing at first.
	for i := range 3 {
		update(func(tx *store.Tx) error {
			c, err := tx.GateClock(ctx)
			want := gate.Clock{}
			if i > 0 {
				want = gate.Clock{Gate: at.Add(time.Duration(i) * time.Second), Machine: at.Add(-time.Hour), Check: gate.Key{byte(i)}}
			}
			if err != nil || !c.Gate.Equal(want.Gate) || !c.Machine.Equal(want.Machine) || c.Check != want.Check {
				t.Errorf("clock %+v, %v, want %+v", c, err, want)
			}
			return tx.PutGateClock(ctx, gate.Clock{Gate: at.Add(time.Duration(i+1) * time.Second), Machine: at.Add(-time.Hour), Check: gate.Key{byte(i + 1)}})
		})
	}

	whole := gate.Counter{
		Scope: gate.Account, Key: gate.Key{1}, Wrong: 7, Refused: 9, Since: at, Last: at.Add(time.Hour), Until: at.Add(2 * time.Hour),
		Told: at.Add(time.Minute), Noted: at.Add(2 * time.Minute), Nets: bytes.Repeat([]byte{0xa5}, 32),
	}
	bare := gate.Counter{Scope: gate.Pair, Key: gate.Key{1}, Wrong: 1, Since: at, Last: at, Until: at} // the same key in another scope
	same := func(got, want gate.Counter) {
		t.Helper()
		if got.Scope != want.Scope || got.Key != want.Key || got.Wrong != want.Wrong || got.Refused != want.Refused || !got.Since.Equal(want.Since) ||
			!got.Last.Equal(want.Last) || !got.Until.Equal(want.Until) || !got.Told.Equal(want.Told) || !got.Noted.Equal(want.Noted) || !bytes.Equal(got.Nets, want.Nets) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	update(func(tx *store.Tx) error { return tx.PutGateCounters(ctx, []gate.Counter{whole, bare}) })
	all := read()
	if len(all) != 2 {
		t.Fatalf("%d counters, want 2", len(all))
	}
	if all[0].Scope == gate.Pair {
		all[0], all[1] = all[1], all[0]
	}
	same(all[0], whole)
	same(all[1], bare)

	// Put again they are replaced; deleted, gone; deleted again, no error.
	whole.Wrong, whole.Told, whole.Nets = 8, time.Time{}, bytes.Repeat([]byte{1}, 32)
	update(func(tx *store.Tx) error { return tx.PutGateCounters(ctx, []gate.Counter{whole}) })
	for range 2 {
		update(func(tx *store.Tx) error { return tx.DeleteGateCounters(ctx, []gate.Counter{bare}) })
		if all = read(); len(all) != 1 {
			t.Fatalf("%d counters, want 1", len(all))
		}
	}
	same(all[0], whole)
	update(func(tx *store.Tx) error { return tx.PutGateCounters(ctx, nil) })
	update(func(tx *store.Tx) error { return tx.ClearGate(ctx) })
	if all = read(); len(all) != 0 {
		t.Errorf("cleared, and %d are left", len(all))
	}
}
