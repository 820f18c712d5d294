package storetest

import (
	"slices"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
)

// identityStandings is what checks of the register read.
func identityStandings(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for _, id := range []core.DeviceID{"a", "b", "c"} {
		addDevice(t, s, id)
	}
	good, over, late, gone := aCertificate(1, "a", 10), aCertificate(2, "a", 10), aCertificate(3, "b", 10), aCertificate(4, "c", 10)
	good.State, over.State, late.State, gone.State = identity.Confirmed, identity.Superseded, identity.Revoked, identity.Confirmed
	late.NotAfter = at(50)
	revoked, coded := aDevice("c"), aDevice("b")
	revoked.Revision, revoked.Revoked = 2, at(20)
	coded.Revision, coded.Code, coded.Spent, coded.Suspect = 2, core.Hash{8}, core.Hash{9}, at(21)
	write(t, s, func(tx *store.Tx) error {
		for _, c := range []identity.CertificateRow{good, over, late, gone} {
			if err := tx.InsertCertificate(ctx, c); err != nil {
				return err
			}
		}
		for _, d := range []identity.DeviceRow{revoked, coded} {
			if err := tx.UpdateDevice(ctx, d); err != nil {
				return err
			}
		}
		if err := tx.PutBirth(ctx, identity.BirthRow{Device: "b", Time: at(1), CodeBits: 135}); err != nil {
			return err
		}
		_, _, err := tx.ClaimKey(ctx, good.Key, "b", at(1))
		return err
	})
	write(t, s, func(tx *store.Tx) error {
		var all []identity.Standing
		err := tx.EachStanding(ctx, func(c identity.Standing) error { all = append(all, c); return nil })
		slices.SortFunc(all, func(a, b identity.Standing) int { return int(a.Key[0]) - int(b.Key[0]) })
		if len(all) != 4 {
			t.Fatalf("%d certificates, want 4", len(all))
		}
		same(t, "a certificate whose key is another unit's", all[0], identity.Standing{
			Serial: good.Serial, Device: "a", Key: good.Key, Fingerprint: good.Fingerprint, State: identity.Confirmed, NotAfter: good.NotAfter, Tied: "b",
		})
		same(t, "a key that is nobody's", all[1].Tied, core.DeviceID(""))
		return err
	})
	write(t, s, func(tx *store.Tx) error {
		codes := map[core.DeviceID]identity.CodeStanding{}
		err := tx.EachCode(ctx, func(c identity.CodeStanding) error { codes[c.Device] = c; return nil })
		same(t, "codes", codes, map[core.DeviceID]identity.CodeStanding{
			"a": {Device: "a"}, "b": {Device: "b", Code: coded.Code[:], Spent: coded.Spent[:], Bits: 135}, "c": {Device: "c"},
		})
		return err
	})
	ended := func(now int64) map[core.DeviceID]identity.Ended {
		out := map[core.DeviceID]identity.Ended{}
		write(t, s, func(tx *store.Tx) error {
			return tx.EachEnded(ctx, at(now), func(e identity.Ended) error { out[e.Device] = e; return nil })
		})
		return out
	}
	same(t, "ended", ended(40), map[core.DeviceID]identity.Ended{
		"a": {Serial: over.Serial, Device: "a"},
		"b": {Serial: late.Serial, Device: "b", Revoked: true, Suspected: true},
		"c": {Serial: gone.Serial, Device: "c", Revoked: true},
	})
	if _, there := ended(60)["b"]; there {
		t.Error("a certificate that ran out is still listed as ended before its time")
	}
}
