package storetest

import (
	"fmt"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
)

func aLink(child, hub core.DeviceID, series byte) identity.LinkRow {
	return identity.LinkRow{Child: child, Hub: hub, Series: [16]byte{series, 1}, Since: at(int64(series))}
}

func identityChildren(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for _, id := range []core.DeviceID{"h1", "h2"} {
		addDevice(t, s, id)
	}
	for _, id := range []core.DeviceID{"k1", "k2"} {
		d := aDevice(id)
		d.Child = true
		write(t, s, func(tx *store.Tx) error { return tx.InsertDevice(ctx, d) })
		write(t, s, func(tx *store.Tx) error {
			got, err := tx.Device(ctx, id)
			same(t, "a child's row", got, d)
			return err
		})
	}
	write(t, s, func(tx *store.Tx) error {
		for _, l := range []identity.LinkRow{aLink("k2", "h1", 2), aLink("k1", "h1", 1)} {
			if err := tx.InsertChildLink(ctx, l); err != nil {
				return err
			}
		}
		return nil
	})
	refuses(t, s, "two hubs for one child", func(tx *store.Tx) error { return tx.InsertChildLink(ctx, aLink("k1", "h2", 3)) })
	refuses(t, s, "one series for two links", func(tx *store.Tx) error {
		if err := tx.DeleteChildLink(ctx, "k1"); err != nil {
			return err
		}
		return tx.InsertChildLink(ctx, aLink("k1", "h2", 2))
	})
	refuses(t, s, "a child that is not registered", func(tx *store.Tx) error { return tx.InsertChildLink(ctx, aLink("nobody", "h1", 4)) })
	refuses(t, s, "the end of no link", func(tx *store.Tx) error { return tx.DeleteChildLink(ctx, "h1") })
	write(t, s, func(tx *store.Tx) error {
		of, err := tx.ChildLinksOf(ctx, "h1")
		same(t, "links of a hub", of, []identity.LinkRow{aLink("k1", "h1", 1), aLink("k2", "h1", 2)})
		if none, err := tx.ChildLink(ctx, "h1"); none != nil || err != nil {
			t.Errorf("a hub's link: %v, %v", none, err)
		}
		return err
	})
	write(t, s, func(tx *store.Tx) error { return tx.DeleteChildLink(ctx, "k1") })
	write(t, s, func(tx *store.Tx) error { return tx.InsertChildLink(ctx, aLink("k1", "h2", 5)) })
	got := map[core.DeviceID]core.DeviceID{}
	write(t, s, func(tx *store.Tx) error {
		l, err := tx.ChildLink(ctx, "k1")
		if err != nil {
			return err
		}
		same(t, "a link after a move", *l, aLink("k1", "h2", 5))
		return tx.EachChildLink(ctx, func(l identity.LinkRow) error { got[l.Child] = l.Hub; return nil })
	})
	same(t, "all links", got, map[core.DeviceID]core.DeviceID{"k1": "h2", "k2": "h1"})
}

func identityProposals(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addDevice(t, s, "h1")
	addDevice(t, s, "h2")
	put := func(hub core.DeviceID, child string, sec int64, most int) {
		t.Helper()
		write(t, s, func(tx *store.Tx) error {
			return tx.PutChildProposal(ctx, identity.ProposalRow{Hub: hub, Child: core.DeviceID(child), First: at(sec), Last: at(sec)}, most)
		})
	}
	put("h2", "x", 1, 3)
	for n := range 5 {
		put("h1", fmt.Sprint("k", n), int64(10+n), 3)
	}
	put("h1", "k2", 20, 3)
	list := func(hub core.DeviceID) (out []identity.ProposalRow) {
		t.Helper()
		write(t, s, func(tx *store.Tx) (err error) {
			out, err = tx.ChildProposals(ctx, hub)
			return err
		})
		return out
	}
	same(t, "the newest three, one of which came again", list("h1"), []identity.ProposalRow{
		{Hub: "h1", Child: "k2", First: at(12), Last: at(20)}, {Hub: "h1", Child: "k4", First: at(14), Last: at(14)}, {Hub: "h1", Child: "k3", First: at(13), Last: at(13)},
	})
	write(t, s, func(tx *store.Tx) error { return tx.DeleteChildProposal(ctx, "h1", "k4") })
	if n := len(list("h1")); n != 2 {
		t.Errorf("%d proposals after one is forgotten, want 2", n)
	}
	write(t, s, func(tx *store.Tx) error { return tx.DeleteChildProposals(ctx, "h1") })
	if n, other := len(list("h1")), len(list("h2")); n != 0 || other != 1 {
		t.Errorf("%d of the hub and %d of another after all of the hub's are forgotten, want 0 and 1", n, other)
	}
}
