package storetest

import (
	"bytes"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Erasure tells what erasures and legal holds need from every engine. open
// gives an empty store that is closed when the test ends.
func Erasure(t *testing.T, open func(testing.TB) *store.Store) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	ctx := t.Context()

	t.Run("erasure", func(t *testing.T) {
		s := open(t)
		first := telemetry.ErasureRow{
			Subject: core.Subject{0, 1, 0xff}, Product: "thermostat", Actor: core.Actor{Kind: core.ActorStaff, ID: "os:ada(1000)"},
			Requested: at, State: telemetry.ErasureAsked, RootBefore: 7,
		}
		second := first
		second.Subject, second.Requested = core.Subject{2}, at.Add(-time.Hour)
		must(t, s.Update(ctx, func(tx *store.Tx) error {
			if _, some, err := tx.Erasure(ctx, first.Subject); some || err != nil {
				t.Errorf("absent erasure: %v, %v", some, err)
			}
			if err := tx.InsertErasure(ctx, first); err != nil {
				return err
			}
			return tx.InsertErasure(ctx, second)
		}))
		if err := s.Update(ctx, func(tx *store.Tx) error { return tx.InsertErasure(ctx, first) }); err == nil {
			t.Error("a subject was erased twice")
		}
		done := first
		done.State, done.RootBefore, done.RootAfter, done.Destroys, done.Detail = telemetry.ErasureDone, 8, 9, seal.DestroysBestEffort, "overwritten"
		done.Held, done.ErasersNamed, done.Ended = []string{"h-1", "h-2"}, []string{"key", "ownership"}, at.Add(time.Second)
		must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.UpdateErasure(ctx, done) }))
		must(t, s.View(ctx, func(tx *store.Tx) error {
			got, some, err := tx.Erasure(ctx, first.Subject)
			if err != nil || !some || !reflect.DeepEqual(got, done) {
				t.Errorf("got  %+v, %v, %v\nwant %+v", got, some, err, done)
			}
			list, err := tx.OpenErasures(ctx)
			if err != nil || !reflect.DeepEqual(list, []telemetry.ErasureRow{second}) {
				t.Errorf("open: %+v, %v", list, err)
			}
			return nil
		}))
		absent := done
		absent.Subject = core.Subject{3}
		if err := s.Update(ctx, func(tx *store.Tx) error { return tx.UpdateErasure(ctx, absent) }); err == nil {
			t.Error("an erasure that does not exist was updated")
		}
	})

	t.Run("hold", func(t *testing.T) {
		s := open(t)
		one := telemetry.HoldRow{
			ID: "h-one", Key: core.Subject{9}, Subject: core.Subject{1}, Product: "thermostat",
			Actor: core.Actor{Kind: core.ActorStaff, ID: "os:ada(1000)"}, Placed: at, State: telemetry.HoldPlacing,
		}
		two := one
		two.ID, two.Key, two.Placed = "h-two", core.Subject{8}, at.Add(-time.Minute)
		three := one
		three.ID, three.Key, three.Subject, three.Placed = "h-three", core.Subject{7}, core.Subject{4}, at.Add(time.Minute)
		must(t, s.Update(ctx, func(tx *store.Tx) error {
			for _, h := range []telemetry.HoldRow{one, two, three} {
				if err := tx.InsertHold(ctx, h); err != nil {
					return err
				}
			}
			return nil
		}))
		one.State, one.Actor.ID, one.Note = telemetry.HoldHeld, "os:bob(1001)", seal.SealedOf[telemetry.HoldNote]([]byte{1, 0, 2})
		must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.UpdateHold(ctx, one) }))
		must(t, s.View(ctx, func(tx *store.Tx) error {
			all, err := tx.Holds(ctx)
			if err != nil || !reflect.DeepEqual(all, []telemetry.HoldRow{two, one, three}) {
				t.Errorf("all: %+v, %v", all, err)
			}
			on, err := tx.HoldsOn(ctx, one.Subject)
			if err != nil || !reflect.DeepEqual(on, []telemetry.HoldRow{two, one}) {
				t.Errorf("on one subject: %+v, %v", on, err)
			}
			got, some, err := tx.Hold(ctx, "h-one")
			if err != nil || !some || !reflect.DeepEqual(got, one) {
				t.Errorf("one: %+v, %v, %v", got, some, err)
			}
			if _, some, err := tx.Hold(ctx, "h-none"); some || err != nil {
				t.Errorf("absent hold: %v, %v", some, err)
			}
			return nil
		}))
		must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.DeleteHold(ctx, "h-one") }))
		if err := s.Update(ctx, func(tx *store.Tx) error { return tx.DeleteHold(ctx, "h-one") }); err == nil {
			t.Error("a hold that does not exist was deleted")
		}
	})
}

// HoldFiles tells what legal holds need of the place where they keep rows.
func HoldFiles(t *testing.T, open func(t *testing.T, dir string) telemetry.HoldFiles) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "hold")
	f := open(t, dir)
	e := core.Epoch{Keep: 30 * 24 * time.Hour, Start: 86400 * 20000, Length: 24 * time.Hour}
	later := core.Epoch{Keep: time.Hour, Start: 86400 * 20001, Length: 5 * time.Minute}
	row := func(n byte, text string) telemetry.HeldRow {
		return telemetry.HeldRow{Key: telemetry.HeldKey{7, 15: n, 16: 1}, Sealed: []byte(text)}
	}
	if _, err := f.Count(ctx, "h-none"); err == nil {
		t.Error("counted a hold that does not exist")
	}
	for _, bad := range []string{"", "../x", "a/b", "A", "h-\x00"} {
		if err := f.Create(ctx, bad); core.KindOf(err) != core.Invalid {
			t.Errorf("hold id %q: %v", bad, err)
		}
	}
	must(t, f.Create(ctx, "h-one"))
	must(t, f.Create(ctx, "h-two"))
	must(t, f.Append(ctx, "h-one", later, []telemetry.HeldRow{row(9, "late")}, 4))
	must(t, f.Append(ctx, "h-one", e, []telemetry.HeldRow{row(2, "two"), row(1, "one")}, 0))
	must(t, f.Create(ctx, "h-one")) // stays as it is
	if upto, err := f.Upto(ctx, "h-one", e); err != nil || upto != 0 {
		t.Errorf("upto before the end: %d, %v", upto, err)
	}
	f = open(t, dir)
	must(t, f.Append(ctx, "h-one", e, []telemetry.HeldRow{row(2, "other"), row(3, "three")}, 12))
	must(t, f.Append(ctx, "h-one", e, nil, 5)) // never back
	if upto, err := f.Upto(ctx, "h-one", e); err != nil || upto != 12 {
		t.Errorf("upto: %d, %v", upto, err)
	}
	if upto, err := f.Upto(ctx, "h-two", e); err != nil || upto != 0 {
		t.Errorf("upto of another hold: %d, %v", upto, err)
	}
	var got bytes.Buffer
	must(t, f.Each(ctx, "h-one", func(x core.Epoch, r telemetry.HeldRow) error {
		if x != e && x != later {
			t.Errorf("epoch %+v", x)
		}
		got.WriteString(x.Class() + ":")
		got.Write(r.Sealed)
		got.WriteByte(' ')
		return nil
	}))
	if want := "k2592000:one k2592000:two k2592000:three k3600:late "; got.String() != want {
		t.Errorf("rows %q, want %q", got.String(), want)
	}
	if n, err := f.Count(ctx, "h-one"); err != nil || n != 4 {
		t.Errorf("count: %d, %v", n, err)
	}
	for range 2 {
		must(t, f.Remove(ctx, "h-one"))
	}
	if _, err := f.Count(ctx, "h-one"); err == nil {
		t.Error("counted a removed hold")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "h-one*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if n, err := f.Count(ctx, "h-two"); err != nil || n != 0 {
		t.Errorf("another hold: %d, %v", n, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
