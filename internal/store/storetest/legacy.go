package storetest

import (
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
)

func identityLegacy(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addDevice(t, s, "A1")
	addDevice(t, s, "B2")
	ca := identity.LegacyCA{ID: core.Hash{7}, Name: "own", DER: []byte{1, 2}, Product: "aria", Reason: "CHG-7", Operator: "os:ada(1000)", Added: at(1)}
	write(t, s, func(tx *store.Tx) error { return tx.InsertLegacyCA(ctx, ca) })
	other := ca
	other.ID = core.Hash{8}
	if err := refuses(t, s, "an authority of one name", func(tx *store.Tx) error { return tx.InsertLegacyCA(ctx, other) }); core.KindOf(err) != core.Conflict {
		t.Errorf("an authority of one name: %v", err)
	}
	token := identity.LegacyRow{
		ID: identity.Serial{0x81}, Device: "A1", Kind: identity.DeviceToken, Proof: core.Hash{1}, Alone: core.Hash{2}, KeyID: []byte("01234567"), Operator: "os:ada(1000)", Added: at(2),
	}
	leaf := identity.LegacyRow{
		ID: identity.Serial{0xc1}, Device: "B2", Kind: identity.OwnCA, Proof: core.Hash{3}, Alone: core.Hash{4}, CA: ca.ID, NotAfter: at(99), Operator: "os:ada(1000)", Added: at(3),
	}
	write(t, s, func(tx *store.Tx) error {
		if err := tx.InsertLegacy(ctx, token); err != nil {
			return err
		}
		return tx.InsertLegacy(ctx, leaf)
	})
	second, shared, orphan := token, token, token
	second.ID, second.Alone = identity.Serial{0x82}, core.Hash{5}
	shared.ID, shared.Device = identity.Serial{0x83}, "B2"
	orphan.ID, orphan.Device, orphan.Alone = identity.Serial{0x84}, "nobody", core.Hash{6}
	for what, r := range map[string]identity.LegacyRow{"a second live credential": second, "one secret of two": shared, "a credential of nobody": orphan} {
		refuses(t, s, what, func(tx *store.Tx) error { return tx.InsertLegacy(ctx, r) })
	}
	token.Seen, token.Ended, token.Why = at(4), at(5), identity.LegacyEnrolled
	write(t, s, func(tx *store.Tx) error { return tx.UpdateLegacy(ctx, token) })
	refuses(t, s, "an update of nothing", func(tx *store.Tx) error { return tx.UpdateLegacy(ctx, second) })
	second.Added = at(1) // older than the one that ended, and live: it is the one that counts
	write(t, s, func(tx *store.Tx) error { return tx.InsertLegacy(ctx, second) })
	write(t, s, func(tx *store.Tx) error { return tx.EndLegacyCA(ctx, "own", at(6)) })
	refuses(t, s, "ending an authority twice", func(tx *store.Tx) error { return tx.EndLegacyCA(ctx, "own", at(7)) })
	ca.Ended = at(6)
	write(t, s, func(tx *store.Tx) error {
		for id, want := range map[core.DeviceID]*identity.LegacyRow{"A1": &second, "B2": &leaf, "C3": nil} {
			got, err := tx.Legacy(ctx, id)
			if err != nil {
				return err
			}
			same(t, "credential of "+string(id), got, want)
		}
		got, err := tx.LegacyAlone(ctx, core.Hash{2})
		if err != nil {
			return err
		}
		same(t, "by its secret", got, &token)
		if none, err := tx.LegacyAlone(ctx, core.Hash{9}); none != nil || err != nil {
			t.Errorf("a secret of nobody: %v, %v", none, err)
		}
		var all []identity.LegacyRow
		if err := tx.EachLegacy(ctx, func(r identity.LegacyRow) error { all = append(all, r); return nil }); err != nil {
			return err
		}
		same(t, "all", all, []identity.LegacyRow{second, token, leaf})
		cas, err := tx.LegacyCAs(ctx)
		same(t, "authorities", cas, []identity.LegacyCA{ca})
		return err
	})
}
