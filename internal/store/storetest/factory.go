package storetest

import (
	"crypto/ed25519"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
)

func identityFactories(t *testing.T, s *store.Store) {
	ctx := t.Context()
	line := identity.Line{Name: "line-4", Product: "aria", Public: make(ed25519.PublicKey, ed25519.PublicKeySize), Operator: "os:ada(1000)", Added: at(1), Until: at(90), MaxUnits: 7}
	line.Public[0] = 4
	write(t, s, func(tx *store.Tx) error { return tx.InsertFactoryLine(ctx, line) })
	sameKey, sameName := line, line
	sameKey.Name = "line-5"
	sameName.Public = append(ed25519.PublicKey{9}, line.Public[1:]...)
	for what, l := range map[string]identity.Line{"one key on two lines": sameKey, "one name twice": sameName} {
		if err := refuses(t, s, what, func(tx *store.Tx) error { return tx.InsertFactoryLine(ctx, l) }); core.KindOf(err) != core.Conflict {
			t.Errorf("%s: %v", what, err)
		}
	}
	list := identity.ListRow{Digest: core.Hash{1}, Line: "line-4", Name: "w47", Units: 2, Operator: "os:ada(1000)", Taken: at(2)}
	again := list
	again.Digest = core.Hash{2}
	write(t, s, func(tx *store.Tx) error { return tx.InsertFactoryList(ctx, list) })
	if err := refuses(t, s, "another list of one name", func(tx *store.Tx) error { return tx.InsertFactoryList(ctx, again) }); core.KindOf(err) != core.Conflict {
		t.Errorf("another list of one name: %v", err)
	}
	orphan := again
	orphan.Line, orphan.Name = "nowhere", "x"
	refuses(t, s, "a list of no line", func(tx *store.Tx) error { return tx.InsertFactoryList(ctx, orphan) })
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.FactoryLine(ctx, "line-4")
		if err != nil || got == nil {
			t.Fatalf("line: %v, %v", got, err)
		}
		same(t, "line", *got, line)
		if none, err := tx.FactoryLine(ctx, "nowhere"); none != nil || err != nil {
			t.Errorf("no line: %v, %v", none, err)
		}
		if none, err := tx.FactoryList(ctx, core.Hash{9}); none != nil || err != nil {
			t.Errorf("no list: %v, %v", none, err)
		}
		return tx.FinishFactoryList(ctx, list.Digest)
	})
	refuses(t, s, "finishing a list twice", func(tx *store.Tx) error { return tx.FinishFactoryList(ctx, list.Digest) })
	list.Done = true
	write(t, s, func(tx *store.Tx) error { return tx.EndFactoryLine(ctx, "line-4", at(5)) })
	refuses(t, s, "ending a line twice", func(tx *store.Tx) error { return tx.EndFactoryLine(ctx, "line-4", at(6)) })
	line.Ended = at(5)
	write(t, s, func(tx *store.Tx) error {
		lines, err := tx.FactoryLines(ctx)
		same(t, "lines", lines, []identity.Line{line})
		lists, lerr := tx.FactoryLists(ctx)
		same(t, "lists", lists, []identity.ListRow{list})
		if lerr != nil {
			return lerr
		}
		return err
	})

	ca := identity.FactoryCA{
		ID: core.Hash{7}, Name: "ca-1", DER: []byte{1, 2}, Product: "aria", SerialFrom: identity.FromSerialNumber, Operator: "os:ada(1000)",
		Added: at(3), Until: at(99), MaxUnits: 5,
	}
	write(t, s, func(tx *store.Tx) error { return tx.InsertFactoryCA(ctx, ca) })
	other := ca
	other.ID = core.Hash{8}
	if err := refuses(t, s, "an authority of one name", func(tx *store.Tx) error { return tx.InsertFactoryCA(ctx, other) }); core.KindOf(err) != core.Conflict {
		t.Errorf("an authority of one name: %v", err)
	}
	write(t, s, func(tx *store.Tx) error { return tx.EndFactoryCA(ctx, "ca-1", at(6)) })
	refuses(t, s, "ending an authority twice", func(tx *store.Tx) error { return tx.EndFactoryCA(ctx, "ca-1", at(6)) })
	ca.Ended = at(6)
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.FactoryCAs(ctx)
		same(t, "authorities", got, []identity.FactoryCA{ca})
		return err
	})
}

func identityBornUnits(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for _, id := range []core.DeviceID{"a", "b", "c"} {
		addDevice(t, s, id)
	}
	a, b := identity.BornUnit{Key: core.Hash{1}, Device: "a", Source: core.Hash{9}}, identity.BornUnit{Key: core.Hash{2}, Device: "b", Source: core.Hash{9}}
	write(t, s, func(tx *store.Tx) error { return tx.InsertBornUnit(ctx, a) })
	write(t, s, func(tx *store.Tx) error { return tx.InsertBornUnit(ctx, b) })
	refuses(t, s, "one key for two units", func(tx *store.Tx) error {
		return tx.InsertBornUnit(ctx, identity.BornUnit{Key: core.Hash{1}, Device: "c", Source: core.Hash{9}})
	})
	refuses(t, s, "two keys for one unit", func(tx *store.Tx) error {
		return tx.InsertBornUnit(ctx, identity.BornUnit{Key: core.Hash{3}, Device: "a", Source: core.Hash{9}})
	})
	refuses(t, s, "a key of nobody", func(tx *store.Tx) error {
		return tx.InsertBornUnit(ctx, identity.BornUnit{Key: core.Hash{4}, Device: "nobody", Source: core.Hash{9}})
	})
	write(t, s, func(tx *store.Tx) error {
		if err := tx.SpendBornUnit(ctx, "a", at(5)); err != nil {
			return err
		}
		return tx.SpendBornUnit(ctx, "a", at(6)) // stays as it was
	})
	a.Spent = at(5)
	write(t, s, func(tx *store.Tx) error {
		got, err := tx.BornUnit(ctx, core.Hash{1})
		same(t, "by its key", got, &a)
		of, oerr := tx.BornUnitOf(ctx, "b")
		same(t, "by its serial number", of, &b)
		if none, nerr := tx.BornUnit(ctx, core.Hash{8}); none != nil || nerr != nil {
			t.Errorf("nobody's key: %v, %v", none, nerr)
		}
		n, nerr := tx.BornUnits(ctx, core.Hash{9})
		if n != 2 || nerr != nil {
			t.Errorf("%d units of one list, %v", n, nerr)
		}
		tied, terr := tx.KeyTied(ctx, core.Hash{1})
		if tied || terr != nil {
			t.Errorf("a key that was never certified: %t, %v", tied, terr)
		}
		if _, _, err := tx.ClaimKey(ctx, core.Hash{1}, "a", at(7)); err != nil {
			return err
		}
		if tied, terr = tx.KeyTied(ctx, core.Hash{1}); !tied || terr != nil {
			t.Errorf("a key that was certified: %t, %v", tied, terr)
		}
		if oerr != nil {
			return oerr
		}
		return err
	})
}
