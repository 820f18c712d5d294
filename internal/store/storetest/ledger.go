package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
)

// ledgerTest is one engine under test.
type ledgerTest struct {
	*testing.T
	s *store.Store
}

func (t ledgerTest) update(fn func(*store.Tx) error) {
	t.Helper()
	if err := t.s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func (t ledgerTest) view(fn func(*store.Tx) error) {
	t.Helper()
	if err := t.s.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// record writes one record for each name.
func (t ledgerTest) record(kind core.RecordKind, product core.ProductID, subject core.Subject, names ...string) {
	t.Helper()
	t.update(func(tx *store.Tx) error {
		for _, n := range names {
			if err := tx.Record(t.Context(), ledgerRecord(kind, product, subject, n)); err != nil {
				return err
			}
		}
		return nil
	})
}

func ledgerRecord(kind core.RecordKind, product core.ProductID, subject core.Subject, name string) core.Record {
	return core.Record{
		Time: time.Unix(1800000000, 0), Kind: kind, Actor: core.Job("storetest"), Product: product, Subject: subject,
		Facts: []core.Fact{{Name: "name", Value: name}},
	}
}

func (t ledgerTest) pending() []ledger.Pending {
	t.Helper()
	var out []ledger.Pending
	t.view(func(tx *store.Tx) error {
		var err error
		out, err = tx.LedgerPending(t.Context(), 1000)
		return err
	})
	return out
}

func (t ledgerTest) origins() []ledger.Origin {
	t.Helper()
	var out []ledger.Origin
	t.view(func(tx *store.Tx) error {
		var err error
		out, err = tx.LedgerOrigins(t.Context())
		return err
	})
	return out
}

func (t ledgerTest) addOrigin(number int, first uint64) {
	t.Helper()
	o := ledger.Origin{Number: number, Name: fmt.Sprint("origin/", number), First: first, Root: core.Hash{byte(number)}}
	t.update(func(tx *store.Tx) error {
		return tx.AddLedgerOrigin(t.Context(), o, ledgerRecord(ledger.KindOriginBegun, "", core.Subject{}, o.Name))
	})
}

// take gives all pending rows their positions from first on.
func (t ledgerTest) take(first uint64) {
	t.Helper()
	rows := t.pending()
	t.update(func(tx *store.Tx) error { return tx.TakeLedgerPending(t.Context(), first, rows) })
}

// names says which records rows are: the value of their one fact.
func (t ledgerTest) names(rows []ledger.Stored) string {
	t.Helper()
	var out []string
	for _, s := range rows {
		r, err := ledger.ParseLeaf(s.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind != s.Kind || r.Product != s.Product || r.Subject != s.Subject {
			t.Errorf("entry %d is %+v, listed as %s, %s, %s", s.Position, r, s.Kind, s.Product, s.Subject)
		}
		out = append(out, fmt.Sprint(s.Position, r.Facts[0].Value))
	}
	return strings.Join(out, " ")
}

// Ledger tells what the ledger needs from every engine. open gives an empty
// store that is closed when the test ends.
func Ledger(t *testing.T, open func(testing.TB) *store.Store) {
	t.Run("records wait in order, or not at all", func(t *testing.T) { ledgerPending(ledgerTest{t, open(t)}) })
	t.Run("origins", func(t *testing.T) { ledgerOrigins(ledgerTest{t, open(t)}) })
	t.Run("the head moves by compare-and-set", func(t *testing.T) { ledgerHead(ledgerTest{t, open(t)}) })
	t.Run("a row is taken once", func(t *testing.T) { ledgerTake(ledgerTest{t, open(t)}) })
	t.Run("tiles", func(t *testing.T) { ledgerTiles(ledgerTest{t, open(t)}) })
	t.Run("finding", func(t *testing.T) { ledgerFind(ledgerTest{t, open(t)}) })
}

func ledgerPending(t ledgerTest) {
	if got := t.pending(); len(got) != 0 {
		t.Errorf("an empty store has %d pending records", len(got))
	}
	who := core.Subject{15: 7}
	t.record("a-kind", "thing", who, "1", "2")
	gone := errors.New("gone")
	err := t.s.Update(t.Context(), func(tx *store.Tx) error {
		if err := tx.Record(t.Context(), ledgerRecord("never-seen", "other", who, "x")); err != nil {
			return err
		}
		return gone
	})
	if !errors.Is(err, gone) {
		t.Fatal(err)
	}
	err = t.s.Update(t.Context(), func(tx *store.Tx) error { return tx.Record(t.Context(), core.Record{Kind: "no-actor"}) })
	if err == nil {
		t.Error("a record without a leaf was taken")
	}
	if err := t.s.View(t.Context(), func(tx *store.Tx) error { return tx.Record(t.Context(), ledgerRecord("k", "", who, "v")) }); err == nil {
		t.Error("a view could record")
	}
	t.record("b-kind", "", core.Subject{}, "3")
	got := t.pending()
	if len(got) != 3 {
		t.Fatalf("%d pending records, want 3", len(got))
	}
	for i, p := range got {
		r, err := ledger.ParseLeaf(p.Leaf)
		if err != nil || r.Facts[0].Value != fmt.Sprint(i+1) || r.Subject != p.Subject {
			t.Errorf("pending %d is %+v for %s, %v", i, r, p.Subject, err)
		}
		if i > 0 && p.ID <= got[i-1].ID {
			t.Errorf("ids %d, %d do not grow", got[i-1].ID, p.ID)
		}
	}
	if got[0].Topic != got[1].Topic || got[1].Topic == got[2].Topic {
		t.Errorf("topics %d, %d, %d", got[0].Topic, got[1].Topic, got[2].Topic)
	}
	t.view(func(tx *store.Tx) error {
		some, err := tx.LedgerPending(t.Context(), 2)
		if err == nil && len(some) != 2 {
			t.Errorf("%d of at most 2", len(some))
		}
		return err
	})
}

func ledgerOrigins(t ledgerTest) {
	if got := t.origins(); len(got) != 0 {
		t.Errorf("an empty store has %d origins", len(got))
	}
	t.addOrigin(1, 0)
	t.addOrigin(2, 1)
	note := []byte("note\n")
	t.update(func(tx *store.Tx) error { return tx.PutLedgerCheckpoint(t.Context(), 2, note) })
	got := t.origins()
	if len(got) != 2 || got[0].Number != 1 || got[0].Name != "origin/1" || got[0].Size != 1 || got[0].Root != (core.Hash{1}) || got[0].Checkpoint != nil {
		t.Errorf("origins %+v", got)
	}
	if got[1].First != 1 || !bytes.Equal(got[1].Checkpoint, note) {
		t.Errorf("second origin %+v", got[1])
	}
	for name, o := range map[string]ledger.Origin{
		"number":   {Number: 2, Name: "new", First: 9},
		"name":     {Number: 3, Name: "origin/1", First: 9},
		"position": {Number: 3, Name: "new", First: 1},
	} {
		err := t.s.Update(t.Context(), func(tx *store.Tx) error {
			return tx.AddLedgerOrigin(t.Context(), o, ledgerRecord("k", "", core.Subject{}, "v"))
		})
		if err == nil {
			t.Errorf("an origin with the %s of another was added", name)
		}
	}
	if n := len(t.origins()); n != 2 {
		t.Errorf("%d origins after refusals, want 2", n)
	}
}

func ledgerHead(t ledgerTest) {
	t.addOrigin(1, 0)
	seen := t.origins()[0]
	move := func(old ledger.Origin, size uint64, root core.Hash) error {
		return t.s.Update(t.Context(), func(tx *store.Tx) error { return tx.MoveLedgerHead(t.Context(), old, size, root) })
	}
	if err := move(seen, 5, core.Hash{5}); err != nil {
		t.Fatal(err)
	}
	now := t.origins()[0]
	if now.Size != 5 || now.Root != (core.Hash{5}) {
		t.Errorf("head is %+v", now)
	}
	otherRoot, otherNumber := now, now
	otherRoot.Root, otherNumber.Number = core.Hash{6}, 9
	for name, old := range map[string]ledger.Origin{"an older head": seen, "another root": otherRoot, "no origin": otherNumber} {
		if err := move(old, 6, core.Hash{6}); !errors.Is(err, ledger.ErrHeadMoved) {
			t.Errorf("%s: %v, want ErrHeadMoved", name, err)
		}
	}
	t.addOrigin(2, 5)
	if err := move(now, 6, core.Hash{6}); !errors.Is(err, ledger.ErrHeadMoved) {
		t.Errorf("an origin that has ended: %v, want ErrHeadMoved", err)
	}
	if got := t.origins()[0]; got.Size != 5 {
		t.Errorf("its size is %d, want 5", got.Size)
	}
}

func ledgerTake(t ledgerTest) {
	t.addOrigin(1, 0)
	t.record("k", "", core.Subject{}, "a", "b", "c")
	rows := t.pending()
	take := func(first uint64, rows ...ledger.Pending) error {
		return t.s.Update(t.Context(), func(tx *store.Tx) error { return tx.TakeLedgerPending(t.Context(), first, rows) })
	}
	if err := take(1, rows[1]); err != nil { // by its id, whatever the order of ids
		t.Fatal(err)
	}
	if err := take(2, rows[0], rows[1]); !errors.Is(err, ledger.ErrHeadMoved) {
		t.Errorf("a row taken twice: %v, want ErrHeadMoved", err)
	}
	if err := take(1, rows[0]); err == nil {
		t.Error("a position was given twice")
	}
	if got := t.pending(); len(got) != 2 || got[0].ID != rows[0].ID {
		t.Errorf("%d pending records, want the first and the third", len(got))
	}
	t.record("k", "", core.Subject{}, "d")
	t.take(2)
	t.view(func(tx *store.Tx) error {
		got, err := tx.LedgerEntries(t.Context(), 1, 10)
		if names := t.names(got); names != "1b 2a 3c 4d" {
			t.Errorf("entries %s", names)
		}
		return err
	})
	t.view(func(tx *store.Tx) error {
		got, err := tx.LedgerEntries(t.Context(), 2, 2)
		if names := t.names(got); names != "2a 3c" {
			t.Errorf("two entries from 2 on: %s", names)
		}
		return err
	})
}

func ledgerTiles(t ledgerTest) {
	get := func(origin, level int, n uint64) ([]byte, error) {
		var b []byte
		err := t.s.View(t.Context(), func(tx *store.Tx) error {
			var err error
			b, err = tx.LedgerTile(t.Context(), origin, level, n)
			return err
		})
		return b, err
	}
	if _, err := get(1, 0, 0); core.KindOf(err) != core.Unknown {
		t.Errorf("a tile that is not there: %v", err)
	}
	short, long := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 8192)
	big := uint64(1) << 40
	t.update(func(tx *store.Tx) error {
		return tx.PutLedgerTiles(t.Context(), 1, []ledger.Tile{{Level: 0, N: 0, Hashes: short}, {Level: 2, N: big, Hashes: short}})
	})
	t.update(func(tx *store.Tx) error {
		return tx.PutLedgerTiles(t.Context(), 1, []ledger.Tile{{Level: 0, N: 0, Hashes: long}})
	})
	t.update(func(tx *store.Tx) error {
		return tx.PutLedgerTiles(t.Context(), 2, []ledger.Tile{{Level: 0, N: 0, Hashes: short}})
	})
	for _, c := range []struct {
		origin, level int
		n             uint64
		want          []byte
	}{{1, 0, 0, long}, {1, 2, big, short}, {2, 0, 0, short}} {
		if got, err := get(c.origin, c.level, c.n); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("tile %d of %d: %d bytes, %v; want %d bytes", c.n, c.origin, len(got), err, len(c.want))
		}
	}
}

func ledgerFind(t ledgerTest) {
	t.addOrigin(1, 0)
	jo, al := core.Subject{1}, core.Subject{2}
	t.record("opened", "lamp", jo, "a")
	t.record("opened", "lock", al, "b")
	t.record("closed", "lamp", jo, "c")
	t.record("closed", "lock", jo, "d")
	t.record("opened", "lamp", core.Subject{}, "e")
	t.record("opened", "", jo, "f")
	t.take(1)
	for _, c := range []struct {
		f     ledger.Filter
		from  uint64
		limit int
		want  string
	}{
		{ledger.Filter{}, 1, 9, "1a 2b 3c 4d 5e 6f"},
		{ledger.Filter{}, 3, 2, "3c 4d"},
		{ledger.Filter{Kind: "opened"}, 0, 9, "1a 2b 5e 6f"},
		{ledger.Filter{Kind: "opened"}, 2, 2, "2b 5e"},
		{ledger.Filter{Product: "lamp"}, 0, 9, "1a 3c 5e"},
		{ledger.Filter{Kind: "opened", Product: "lamp"}, 0, 9, "1a 5e"},
		{ledger.Filter{Subject: jo}, 0, 9, "1a 3c 4d 6f"},
		{ledger.Filter{Subject: jo}, 2, 2, "3c 4d"},
		{ledger.Filter{Subject: jo, Kind: "closed"}, 0, 9, "3c 4d"},
		{ledger.Filter{Subject: jo, Product: "lock"}, 0, 9, "4d"},
		{ledger.Filter{Subject: al, Kind: "closed"}, 0, 9, ""},
		{ledger.Filter{Kind: "unheard-of"}, 0, 9, ""},
		{ledger.Filter{Kind: "' OR 1=1 --"}, 0, 9, ""},
	} {
		t.view(func(tx *store.Tx) error {
			got, err := tx.LedgerFind(t.Context(), c.f, c.from, c.limit)
			if names := t.names(got); names != c.want {
				t.Errorf("%+v from %d, at most %d: %s, want %s", c.f, c.from, c.limit, names, c.want)
			}
			if !slices.IsSortedFunc(got, func(a, b ledger.Stored) int { return int(a.Position) - int(b.Position) }) {
				t.Errorf("%+v: out of order", c.f)
			}
			return err
		})
	}
}
