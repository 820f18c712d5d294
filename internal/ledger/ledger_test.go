package ledger_test

import (
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// oracle computes the same tree with golang.org/x/mod/sumdb/tlog.
type oracle struct {
	hashes []tlog.Hash
	n      int64
}

func (o *oracle) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = o.hashes[x]
	}
	return out, nil
}

func (o *oracle) add(t testing.TB, leaf []byte) {
	t.Helper()
	hs, err := tlog.StoredHashes(o.n, leaf, o)
	if err != nil {
		t.Fatal(err)
	}
	o.hashes = append(o.hashes, hs...)
	o.n++
}

func (o *oracle) root(t testing.TB, n uint64) core.Hash {
	t.Helper()
	h, err := tlog.TreeHash(int64(n), o)
	if err != nil {
		t.Fatal(err)
	}
	return core.Hash(h)
}

func toTlog(hs []core.Hash) []tlog.Hash {
	out := make([]tlog.Hash, len(hs))
	for i, h := range hs {
		out[i] = tlog.Hash(h)
	}
	return out
}

// TestAgreesWithTlog grows a ledger in uneven steps over several full tiles and
// compares roots, tiles and proofs with an independent implementation.
func TestAgreesWithTlog(t *testing.T) {
	f := newFixture(t)
	var o oracle
	var sizes []uint64
	for _, step := range []int{0, 1, 1, 2, 3, 120, 127, 1, 1, 255, 256, 257, 700, 65} {
		c := f.grow(t, step)
		for uint64(o.n) < c.Size {
			es, err := f.Entries(t.Context(), uint64(o.n), c.Size)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range es {
				if e.Index != uint64(o.n) {
					t.Fatalf("entry %d has index %d", o.n, e.Index)
				}
				o.add(t, e.Leaf)
			}
		}
		if want := o.root(t, c.Size); c.Root != want {
			t.Fatalf("size %d: root %s, want %s", c.Size, c.Root, want)
		}
		sizes = append(sizes, c.Size)
	}
	last := f.Latest()
	for i := uint64(0); i < last.Size; i += 13 {
		p, err := f.Prove(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		err = tlog.CheckRecord(toTlog(p.Hashes), int64(last.Size), tlog.Hash(last.Root), int64(i), tlog.Hash(ledger.LeafHash(p.Entry.Leaf)))
		if err != nil {
			t.Errorf("inclusion of %d in %d: %v", i, last.Size, err)
		}
	}
	for m := uint64(1); m <= last.Size; m += 17 {
		sizes = append(sizes, m)
	}
	for _, m := range sizes {
		proof, err := f.Consistency(t.Context(), m, last.Size)
		if err != nil {
			t.Fatal(err)
		}
		if m == last.Size {
			continue // tlog wants no proof there
		}
		if err := tlog.CheckTree(toTlog(proof), int64(last.Size), tlog.Hash(last.Root), int64(m), tlog.Hash(o.root(t, m))); err != nil {
			t.Errorf("consistency of %d with %d: %v", m, last.Size, err)
		}
	}
	checkTiles(t, f, &o, last)
}

func checkTiles(t *testing.T, f *fixture, o *oracle, last ledger.Checkpoint) {
	t.Helper()
	for _, tile := range tlog.NewTiles(8, 0, int64(last.Size)) {
		got, err := f.Tile(t.Context(), ledger.TileRef{Level: tile.L, N: uint64(tile.N), Width: tile.W})
		if err != nil {
			t.Fatal(err)
		}
		want, err := tlog.ReadTileData(tile, o)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("tile %+v differs", tile)
		}
	}
	for _, bad := range []ledger.TileRef{
		{Level: 0, N: last.Size / 256, Width: int(last.Size%256) + 1},
		{Level: 0, N: last.Size/256 + 1, Width: 1},
		{Level: 1, N: 1, Width: 1},
		{Level: 0, N: 0, Width: 0},
		{Level: 0, N: 0, Width: 257},
		{Level: -1, N: 0, Width: 1},
		{Level: 6, N: 0, Width: 1},
		{Kind: ledger.EntryBundle, Level: 1, Width: 1},
		{Level: 0, N: 1 << 60, Width: 1},
	} {
		if _, err := f.Tile(t.Context(), bad); core.KindOf(err) != core.Unknown {
			t.Errorf("tile %+v: %v, want unknown", bad, err)
		}
	}
}

// TestNoteOpensCheckpoint reads a checkpoint with golang.org/x/mod/sumdb/note.
func TestNoteOpensCheckpoint(t *testing.T) {
	f := newFixture(t)
	c := f.grow(t, 3)
	v, err := note.NewVerifier(f.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(c.Note, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Sigs) != 1 || n.Sigs[0].Name != c.Origin {
		t.Errorf("signatures %+v, want one of %s", n.Sigs, c.Origin)
	}
	c.Note[len(c.Origin)+1] ^= 1 // another size
	if _, err := note.Open(c.Note, note.VerifierList(v)); err == nil {
		t.Error("a changed checkpoint was accepted")
	}
}
