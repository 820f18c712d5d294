package storetest

import (
	"reflect"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// Setting tells what settings need from every engine: a row comes back as it
// was kept, one for each device; what was before is kept until its time; and of
// an erased owner nothing is left but the version.
func Setting(t *testing.T, open func(testing.TB) *store.Store) {
	s, ctx := open(t), t.Context()
	at := time.Date(2026, 11, 23, 8, 0, 0, 123456000, time.UTC)
	ada, bea := core.Subject{1, 2}, core.Subject{3, 4}
	make1 := func(id core.DeviceID, subject core.Subject, version uint64) command.Settings {
		return command.Settings{
			Device: id, Subject: subject, Version: version, Policy: core.Hash{9}, Shape: core.Hash{8}, Product: "aria-thermostat", Changed: at,
			By: core.Actor{Kind: core.ActorStaff, ID: "pabcdefghijkl"}, Role: "support", Cause: command.BySet, Names: []string{"display"},
			Taken: at.Add(time.Second), Reported: version, ReportedAt: at.Add(time.Minute), Sealed: []byte{0, 1}, Report: []byte{2},
		}
	}
	update := func(fn func(*store.Tx) error) {
		t.Helper()
		must(t, s.Update(ctx, fn))
	}
	all := func(what string, after uint64, limit int, want ...command.Settings) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) error {
			got, err := tx.AllSettings(ctx, after, limit)
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
			return err
		}))
	}
	all("none", 0, 10)
	must(t, s.View(ctx, func(tx *store.Tx) error {
		if _, err := tx.Settings(ctx, "A1"); core.KindOf(err) != core.Unknown {
			t.Errorf("never set: %v", err)
		}
		return nil
	}))
	one, other := make1("A1", ada, 7), make1("B1", bea, 8)
	update(func(tx *store.Tx) error { return tx.PutSettings(ctx, other) })
	update(func(tx *store.Tx) error { return tx.PutSettings(ctx, one) })
	all("both", 0, 10, one, other)
	all("one at a time", 7, 1, other)
	later := make1("A1", ada, 9)
	later.Taken, later.Reported, later.ReportedAt, later.Report = time.Time{}, 0, time.Time{}, nil
	update(func(tx *store.Tx) error { return tx.PutSettings(ctx, later) })
	all("a newer version takes its place", 0, 10, other, later)

	change := func(version uint64, name string, until time.Time, sealed []byte) command.Change {
		return command.Change{Device: "A1", Subject: ada, Version: version, Before: 7, Of: 2, Name: name, Until: until, Sealed: sealed}
	}
	first, second, third := change(9, "a", at, []byte{1}), change(9, "b", at.Add(time.Hour), nil), change(8, "a", at.Add(time.Hour), []byte{2})
	update(func(tx *store.Tx) error { return tx.PutChanges(ctx, []command.Change{third, second, first}) })
	changes := func(what string, want ...command.Change) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) error {
			got, err := tx.Changes(ctx, "A1", ada)
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
			none, err2 := tx.Changes(ctx, "A1", bea)
			if len(none) != 0 {
				t.Errorf("another owner has %d", len(none))
			}
			if err == nil {
				err = err2
			}
			return err
		}))
	}
	changes("all", first, second, third)
	drop := func(now time.Time, want int) {
		t.Helper()
		update(func(tx *store.Tx) error {
			n, err := tx.DropChanges(ctx, now, 1)
			if n != want {
				t.Errorf("dropped %d, want %d", n, want)
			}
			return err
		})
	}
	drop(at.Add(-time.Microsecond), 0)
	drop(at, 1)
	changes("after dropping", second, third)

	update(func(tx *store.Tx) error { return tx.ForgetCommands(ctx, ada) })
	changes("erased")
	all("erased", 0, 10, other, command.Settings{Device: "A1", Version: 9, Policy: core.Hash{9}, Shape: core.Hash{8}})
	must(t, s.View(ctx, func(tx *store.Tx) error {
		left, err := tx.SubjectTraces(ctx, ada)
		if len(left) != 0 {
			t.Errorf("of an erased owner is left: %v", left)
		}
		return err
	}))
}
