package storetest

import (
	"reflect"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// Command tells what commands need from every engine: each comes back as it
// was kept; open ones oldest first, those of an owner newest first; a change
// never touches what was asked; what ended long ago is dropped, a bounded
// number at a time; erasing leaves nothing of the owner.
func Command(t *testing.T, open func(testing.TB) *store.Store) {
	s, ctx := open(t), t.Context()
	at := time.Date(2026, 11, 23, 8, 0, 0, 123456000, time.UTC)
	ada, bea := core.Subject{1, 2}, core.Subject{3, 4}
	make1 := func(id string, subject core.Subject, number uint64) command.Command {
		return command.Command{
			ID: id, Device: "A1", Subject: subject, Product: "aria-thermostat", Policy: core.Hash{9}, Name: "set_target", Role: "support",
			Number: number, Given: at, By: core.Actor{Kind: core.ActorStaff, ID: "pabcdefghijkl"}, Expires: at.Add(time.Hour), Sealed: []byte{0, 1, 2},
		}
	}
	put := func(c command.Command) {
		t.Helper()
		must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.PutCommand(ctx, c) }))
	}
	same := func(what string, read func(*store.Tx) ([]command.Command, error), want ...command.Command) {
		t.Helper()
		must(t, s.View(ctx, func(tx *store.Tx) error {
			got, err := read(tx)
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
			return err
		}))
	}
	opened := func(tx *store.Tx) ([]command.Command, error) { return tx.OpenCommands(ctx) }
	same("none", opened)
	one, two, other := make1("cone", ada, 7), make1("ctwo", ada, 9), make1("cother", bea, 8)
	put(two)
	put(other)
	put(one)
	same("open", opened, one, other, two)
	same("of one owner", func(tx *store.Tx) ([]command.Command, error) { return tx.Commands(ctx, ada, 10) }, two, one)
	same("one of one owner", func(tx *store.Tx) ([]command.Command, error) { return tx.Commands(ctx, ada, 1) }, two)
	same("all above", func(tx *store.Tx) ([]command.Command, error) { return tx.AllCommands(ctx, 7, 1) }, other)

	ended := one
	ended.Taken, ended.End, ended.Ended, ended.EndedBy, ended.Answer = at.Add(time.Minute), command.Done, at.Add(2*time.Minute), core.Actor{Kind: core.ActorDevice, ID: "x"}, []byte{7}
	swapped := ended
	swapped.Sealed = []byte{6, 6, 6}
	put(swapped)
	same("ended, and other values slipped in", func(tx *store.Tx) ([]command.Command, error) {
		c, err := tx.Command(ctx, "cone")
		return []command.Command{c}, err
	}, ended)
	same("open after one ended", opened, other, two)
	must(t, s.View(ctx, func(tx *store.Tx) error {
		if _, err := tx.Command(ctx, "cnone"); core.KindOf(err) != core.Unknown {
			t.Errorf("no command: %v", err)
		}
		return nil
	}))

	drop := func(before time.Time, want int) {
		t.Helper()
		must(t, s.Update(ctx, func(tx *store.Tx) error {
			n, err := tx.DropCommands(ctx, before, 1)
			if n != want {
				t.Errorf("dropped %d, want %d", n, want)
			}
			return err
		}))
	}
	drop(ended.Ended, 0)
	drop(ended.Ended.Add(time.Microsecond), 1)
	drop(ended.Ended.Add(time.Hour), 0)
	same("after dropping", opened, other, two)

	must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.ForgetCommands(ctx, ada) }))
	same("after erasing", opened, other)
	must(t, s.View(ctx, func(tx *store.Tx) error {
		left, err := tx.SubjectTraces(ctx, ada)
		if len(left) != 0 {
			t.Errorf("of an erased owner is left: %v", left)
		}
		return err
	}))
}

// Remember tells what sessions of devices need: the last word on each stands,
// what is over or dropped is gone, and nothing is kept of an erased owner.
func Remember(t *testing.T, open func(testing.TB) *store.Store) {
	s, ctx := open(t), t.Context()
	at := time.Date(2026, 11, 23, 8, 0, 0, 123456000, time.UTC)
	ada, bea := core.Subject{1, 2}, core.Subject{3, 4}
	one := command.Listening{Device: "A1", Subject: ada, ClientID: "one", Topics: 0x2021, Inbox: []byte{1, 2, 3}, Until: at.Add(time.Hour)}
	two := command.Listening{Device: "A1", Subject: ada, ClientID: "two", Topics: 1, Until: at.Add(2 * time.Hour)}
	other := command.Listening{Device: "B1", Subject: bea, ClientID: "one", Topics: 1, Until: at.Add(3 * time.Hour)}
	remember := func(list ...command.Listening) {
		t.Helper()
		must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.Remember(ctx, list) }))
	}
	same := func(what string, now time.Time, want ...command.Listening) {
		t.Helper()
		must(t, s.Update(ctx, func(tx *store.Tx) error {
			got, err := tx.Remembered(ctx, now)
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
			return err
		}))
	}
	same("none", at)
	remember(other, two, one)
	same("all", at, one, two, other)
	one.Topics, one.Inbox, one.Until = 3, []byte{4}, at.Add(4*time.Hour)
	gone := two
	gone.Until = time.Time{}
	remember(one, gone)
	same("changed and dropped", at, one, other)
	same("over", other.Until, one)
	same("what was over is gone", at, one)
	must(t, s.Update(ctx, func(tx *store.Tx) error { return tx.ForgetCommands(ctx, ada) }))
	same("erased", at)
}
