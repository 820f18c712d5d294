package storetest

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
)

// Identity tells what the register of devices needs from every engine. open
// gives an empty store that is closed when the test ends.
func Identity(t *testing.T, open func(testing.TB) *store.Store) {
	t.Run("devices", func(t *testing.T) { identityDevices(t, open(t)) })
	t.Run("certificates", func(t *testing.T) { identityCertificates(t, open(t)) })
	t.Run("keys", func(t *testing.T) { identityKeys(t, open(t)) })
	t.Run("ownerships", func(t *testing.T) { identityOwnerships(t, open(t)) })
	t.Run("births", func(t *testing.T) { identityBirths(t, open(t)) })
	t.Run("index", func(t *testing.T) { identityIndex(t, open(t)) })
	t.Run("factories", func(t *testing.T) { identityFactories(t, open(t)) })
	t.Run("born units", func(t *testing.T) { identityBornUnits(t, open(t)) })
	t.Run("legacy", func(t *testing.T) { identityLegacy(t, open(t)) })
	t.Run("children", func(t *testing.T) { identityChildren(t, open(t)) })
	t.Run("proposals", func(t *testing.T) { identityProposals(t, open(t)) })
	t.Run("standings", func(t *testing.T) { identityStandings(t, open(t)) })
}

func at(sec int64) time.Time { return time.Unix(sec, 123456000).UTC() }

func write(t *testing.T, s *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// refuses runs fn in a transaction that must fail.
func refuses(t *testing.T, s *store.Store, what string, fn func(*store.Tx) error) error {
	t.Helper()
	err := s.Update(t.Context(), fn)
	if err == nil {
		t.Errorf("%s: allowed", what)
	}
	return err
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func aDevice(id core.DeviceID) identity.DeviceRow {
	d := identity.DeviceRow{ID: id, Product: "aria", Revision: 1, Added: at(1)}
	copy(d.Unit[:], id)
	return d
}

func addDevice(t *testing.T, s *store.Store, id core.DeviceID) {
	t.Helper()
	write(t, s, func(tx *store.Tx) error { return tx.InsertDevice(t.Context(), aDevice(id)) })
}

func identityDevices(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for _, id := range []core.DeviceID{"b", "a", "c"} {
		addDevice(t, s, id)
	}
	err := refuses(t, s, "one id twice", func(tx *store.Tx) error { return tx.InsertDevice(ctx, aDevice("a")) })
	if core.KindOf(err) != core.Conflict {
		t.Errorf("one id twice: %v", err)
	}
	twin := aDevice("d")
	twin.Unit = aDevice("a").Unit
	refuses(t, s, "one unit number twice", func(tx *store.Tx) error { return tx.InsertDevice(ctx, twin) })

	full := identity.DeviceRow{
		ID: "a", Product: "aria", Unit: aDevice("a").Unit, Revision: 2, Added: at(1), Code: core.Hash{1}, CodeUntil: at(9), Spent: core.Hash{2},
		Ownerships: 3, Revoked: at(4), Suspect: at(5), Suspicion: "word",
	}
	write(t, s, func(tx *store.Tx) error { return tx.UpdateDevice(ctx, full) })
	refuses(t, s, "one revision twice", func(tx *store.Tx) error { return tx.UpdateDevice(ctx, full) })
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.Device(ctx, "a")
		same(t, "a full row", got, full)
		if _, err := tx.Device(ctx, "nobody"); core.KindOf(err) != core.Unknown {
			t.Errorf("absent device: %v", err)
		}
		page, perr := tx.DevicesAfter(ctx, "a", 1)
		if perr != nil || len(page) != 1 || page[0].ID != "b" {
			t.Errorf("page %+v, %v", page, perr)
		}
		return err
	})
	// Back to nothing: what was set can be unset.
	bare := aDevice("a")
	bare.Revision = 3
	write(t, s, func(tx *store.Tx) error { return tx.UpdateDevice(ctx, bare) })
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.Device(ctx, "a")
		same(t, "a bare row", got, bare)
		return err
	})
}

func aCertificate(n byte, id core.DeviceID, issued int64) identity.CertificateRow {
	return identity.CertificateRow{
		Serial: identity.Serial{1, n}, Device: id, Key: core.Hash{n}, Fingerprint: core.Hash{n, n}, NotBefore: at(issued), NotAfter: at(issued + 100),
		State: identity.Issued, Door: identity.DoorCode, Code: core.Hash{7}, Issued: at(issued), DER: []byte{n, 0, 255},
	}
}

func identityCertificates(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addDevice(t, s, "a")
	one, two := aCertificate(1, "a", 20), aCertificate(2, "a", 10)
	two.Door, two.Code = identity.DoorRenewal, core.Hash{}
	for _, c := range []identity.CertificateRow{one, two} {
		write(t, s, func(tx *store.Tx) error { return tx.InsertCertificate(ctx, c) })
	}
	refuses(t, s, "one serial twice", func(tx *store.Tx) error { return tx.InsertCertificate(ctx, one) })
	refuses(t, s, "a certificate of nobody", func(tx *store.Tx) error { return tx.InsertCertificate(ctx, aCertificate(3, "nobody", 1)) })
	refuses(t, s, "update of an absent one", func(tx *store.Tx) error { return tx.UpdateCertificate(ctx, aCertificate(9, "a", 1)) })
	one.State, one.Confirmed, one.DER = identity.Confirmed, at(30), nil
	write(t, s, func(tx *store.Tx) error { return tx.UpdateCertificate(ctx, one) })
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.Certificates(ctx, "a")
		same(t, "oldest first", got, []identity.CertificateRow{two, one})
		none, nerr := tx.Certificates(ctx, "nobody")
		if nerr != nil || len(none) != 0 {
			t.Errorf("of nobody: %v, %v", none, nerr)
		}
		return err
	})
	write(t, s, func(tx *store.Tx) error {
		for _, c := range []struct {
			before int64
			want   int
		}{{100, 0}, {1000, 1}, {1000, 0}} { // the confirmed one stays
			if n, err := tx.PruneCertificates(ctx, at(c.before)); err != nil || n != c.want {
				t.Errorf("prune before %d: %d, %v; want %d", c.before, n, err, c.want)
			}
		}
		return nil
	})
}

func identityKeys(t *testing.T, s *store.Store) {
	write(t, s, func(tx *store.Tx) error {
		for _, c := range []struct {
			key   core.Hash
			id    core.DeviceID
			owner core.DeviceID
			fresh bool
		}{
			{core.Hash{1}, "a", "a", true},
			{core.Hash{1}, "a", "a", false},
			{core.Hash{1}, "b", "a", false},
			{core.Hash{2}, "b", "b", true},
		} {
			owner, fresh, err := tx.ClaimKey(t.Context(), c.key, c.id, at(1))
			if err != nil || owner != c.owner || fresh != c.fresh {
				t.Errorf("claim by %s: %s, %t, %v; want %s, %t", c.id, owner, fresh, err, c.owner, c.fresh)
			}
		}
		return nil
	})
}

func identityOwnerships(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addDevice(t, s, "a")
	addDevice(t, s, "b")
	staff := core.Actor{Kind: core.ActorStaff, ID: "os:ada(1000)"}
	o := identity.OwnershipRow{Subject: core.Subject{1}, Device: "a", Actor: staff, Opened: at(5)}
	write(t, s, func(tx *store.Tx) error { return tx.InsertOwnership(ctx, o) })
	refuses(t, s, "a second owner", func(tx *store.Tx) error {
		return tx.InsertOwnership(ctx, identity.OwnershipRow{Subject: core.Subject{2}, Device: "a", Actor: staff, Opened: at(6)})
	})
	refuses(t, s, "a second device of a subject", func(tx *store.Tx) error {
		return tx.InsertOwnership(ctx, identity.OwnershipRow{Subject: core.Subject{1}, Device: "b", Actor: staff, Opened: at(6)})
	})
	write(t, s, func(tx *store.Tx) error {
		intents, err := tx.OwnershipIntents(ctx)
		same(t, "intents", intents, []identity.OwnershipRow{o})
		return err
	})
	write(t, s, func(tx *store.Tx) error { return tx.CompleteOwnership(ctx, o.Subject) })
	refuses(t, s, "completed twice", func(tx *store.Tx) error { return tx.CompleteOwnership(ctx, o.Subject) })
	o.Done = true
	write(t, s, func(tx *store.Tx) error {
		intents, err := tx.OwnershipIntents(ctx)
		if len(intents) != 0 {
			t.Errorf("intents after completion: %+v", intents)
		}
		byDevice, err2 := tx.Ownership(ctx, "a")
		bySubject, err3 := tx.OwnershipOf(ctx, o.Subject)
		same(t, "by device", byDevice, &o)
		same(t, "by subject", bySubject, &o)
		for _, e := range []error{err, err2, err3} {
			if e != nil {
				t.Error(e)
			}
		}
		return nil
	})
	write(t, s, func(tx *store.Tx) error { return tx.DeleteOwnership(ctx, o.Subject) })
	refuses(t, s, "ended twice", func(tx *store.Tx) error { return tx.DeleteOwnership(ctx, o.Subject) })
	write(t, s, func(tx *store.Tx) error {
		byDevice, err := tx.Ownership(ctx, "a")
		bySubject, err2 := tx.OwnershipOf(ctx, o.Subject)
		if byDevice != nil || bySubject != nil || err != nil || err2 != nil {
			t.Errorf("after the end: %v %v %v %v", byDevice, bySubject, err, err2)
		}
		return nil
	})
}

func identityBirths(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addDevice(t, s, "a")
	addDevice(t, s, "b")
	b := identity.BirthRow{
		Device: "a", Door: identity.DoorCode, Station: "line-4", Operator: "os:ada(1000)", Time: at(1), CodeBits: 135,
		Hardware: "C", Batch: "2026-W47", Source: core.Hash{5}, Salt: [16]byte{6},
	}
	var unit [16]byte
	for range 2 {
		write(t, s, func(tx *store.Tx) error { return tx.PutBirth(ctx, b) })
		write(t, s, func(tx *store.Tx) error {
			got, err := tx.Birth(ctx, "a")
			same(t, "birth", got, b)
			d, derr := tx.Device(ctx, "a")
			unit = d.Unit
			return errors.Join(err, derr)
		})
		b.KeyOrigin, b.Key, b.Enrolled = "device", core.Hash{3}, at(9)
	}
	write(t, s, func(tx *store.Tx) error { // what was written with the registration stays
		changed := b
		changed.Operator, changed.Station, changed.Salt = "os:eve(1001)", "elsewhere", [16]byte{7}
		return tx.PutBirth(ctx, changed)
	})
	write(t, s, func(tx *store.Tx) error {
		if _, _, err := tx.ClaimKey(ctx, core.Hash{3}, "b", at(3)); err != nil {
			return err
		}
		seen := map[core.DeviceID]identity.BirthStanding{}
		err := tx.EachBirth(ctx, func(x identity.BirthStanding) error { seen[x.Device] = x; return nil })
		want := identity.BirthStanding{Device: "a", Unit: unit, Born: true, Row: b, Tied: "b"}
		same(t, "standing of a birth", seen["a"], want)
		if x := seen["b"]; len(seen) != 2 || x.Born || x.Device != "b" {
			t.Errorf("a unit without a birth: %+v of %d", x, len(seen))
		}
		one, oerr := tx.BirthOf(ctx, unit)
		same(t, "birth by the number of a unit", one, want)
		if _, err := tx.BirthOf(ctx, [16]byte{99}); core.KindOf(err) != core.Unknown {
			t.Errorf("birth of an unknown number: %v", err)
		}
		return errors.Join(err, oerr)
	})
	write(t, s, func(tx *store.Tx) error {
		if _, err := tx.Birth(ctx, "nobody"); core.KindOf(err) != core.Unknown {
			t.Errorf("absent: %v", err)
		}
		return nil
	})
}

func identityIndex(t *testing.T, s *store.Store) {
	ctx := t.Context()
	addDevice(t, s, "a")
	addDevice(t, s, "b")
	live, over, good := aCertificate(1, "a", 1000), aCertificate(2, "a", 10), aCertificate(3, "a", 11)
	good.State, good.Confirmed = identity.Confirmed, at(12)
	o := identity.OwnershipRow{Subject: core.Subject{1}, Device: "b", Actor: core.Job("x"), Opened: at(5)}
	write(t, s, func(tx *store.Tx) error {
		for _, c := range []identity.CertificateRow{live, over, good} {
			if err := tx.InsertCertificate(ctx, c); err != nil {
				return err
			}
		}
		return tx.InsertOwnership(ctx, o)
	})
	seen := map[core.DeviceID]bool{}
	err := s.View(ctx, func(tx *store.Tx) error {
		return tx.EachIdentity(ctx, at(1050), func(d identity.DeviceRow, certs []identity.CertificateRow, own *identity.OwnershipRow) error {
			seen[d.ID] = true
			same(t, "device", d, aDevice(d.ID))
			switch d.ID {
			case "a":
				same(t, "certificates of a", certs, []identity.CertificateRow{good, live})
				if own != nil {
					t.Errorf("owner of a: %+v", own)
				}
			default:
				same(t, "owner of b", own, &o)
				if len(certs) != 0 {
					t.Errorf("certificates of b: %+v", certs)
				}
			}
			return nil
		})
	})
	if err != nil || len(seen) != 2 {
		t.Errorf("saw %v, %v", seen, err)
	}
}
