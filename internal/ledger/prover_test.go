package ledger

import (
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestProverAgreesWithTlog makes trees of sizes around the edges of tiles and
// compares root and proofs with those of x/mod.
func TestProverAgreesWithTlog(t *testing.T) {
	const most = 70_000
	stored := []tlog.Hash{}
	read := tlog.HashReaderFunc(func(is []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(is))
		for i, x := range is {
			out[i] = stored[x]
		}
		return out, nil
	})
	for i := range int64(most) {
		hs, err := tlog.StoredHashes(i, fmt.Appendf(nil, "leaf %d", i), read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hs...)
	}
	tile := func(r TileRef) ([]byte, error) {
		x := tlog.Tile{H: tileHeight, L: r.Level, N: int64(r.N), W: r.Width}
		return tlog.ReadTileData(x, read)
	}
	for _, size := range []int64{1, 2, 255, 256, 257, 511, 65_535, 65_536, 65_537, most} {
		p := NewProver(uint64(size), tile)
		root, err := p.Root()
		want, err2 := tlog.TreeHash(size, read)
		if err != nil || err2 != nil || root != core.Hash(want) {
			t.Fatalf("root of %d: %v (%v), tlog says %v (%v)", size, root, err, want, err2)
		}
		for _, i := range []int64{0, 1, 254, 255, 256, size / 2, size - 1} {
			if i >= size {
				continue
			}
			path, err := p.Inclusion(uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckRecord(tlogHashes(path), size, want, i, tlog.RecordHash(fmt.Appendf(nil, "leaf %d", i))); err != nil {
				t.Errorf("entry %d of %d: %v", i, size, err)
			}
			if i == 0 {
				continue
			}
			from, err := p.Consistency(uint64(i))
			old, err2 := tlog.TreeHash(i, read)
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			if err := tlog.CheckTree(tlogHashes(from), size, want, i, old); err != nil {
				t.Errorf("%d entries begin with %d: %v", size, i, err)
			}
		}
	}
	if _, err := NewProver(10, tile).Inclusion(10); err == nil {
		t.Error("entry 10 of 10 has a path")
	}
	if _, err := NewProver(10, tile).Consistency(11); err == nil {
		t.Error("10 entries begin with 11")
	}
	short := NewProver(300, func(r TileRef) ([]byte, error) {
		b, err := tile(r)
		return b[:len(b)-1], err
	})
	if _, err := short.Root(); err == nil {
		t.Error("a tile that is cut off is taken")
	}
}

func tlogHashes(in []core.Hash) []tlog.Hash {
	var out []tlog.Hash
	for _, h := range in {
		out = append(out, tlog.Hash(h))
	}
	return out
}
