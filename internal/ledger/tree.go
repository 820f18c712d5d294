package ledger

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"github.com/hawser-iot/hawser/internal/core"
)

// Tiles are 8 tree levels high, as https://c2sp.org/tlog-tiles fixes them.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	// maxSize is what six levels of tiles hold: no ledger comes near.
	maxSize = 1 << 48
)

// LeafHash is the Merkle hash of a leaf (RFC 6962 §2.1).
func LeafHash(leaf []byte) core.Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(leaf)
	var out core.Hash
	h.Sum(out[:0])
	return out
}

// nodeHash is the Merkle hash of two subtrees side by side (RFC 6962 §2.1).
func nodeHash(left, right core.Hash) core.Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// emptyRoot is the root of no entries: the hash of nothing (RFC 6962 §2.1).
func emptyRoot() core.Hash { return sha256.Sum256(nil) }

// merge is the root of a complete subtree over hs; len(hs) is a power of two.
func merge(hs []core.Hash) core.Hash {
	if len(hs) == 1 {
		return hs[0]
	}
	k := len(hs) / 2
	return nodeHash(merge(hs[:k]), merge(hs[k:]))
}

// tileKey names a tile of one origin.
type tileKey struct {
	level int
	n     uint64
}

// edge is the right edge of a tree: of each tile level the hashes that do not
// fill a tile yet. It is all that appending needs.
type edge struct {
	size   uint64
	levels [][]core.Hash
}

// append adds one leaf hash and notes in full every tile that became full.
func (e *edge) append(h core.Hash, full map[tileKey][]core.Hash) {
	e.size++
	for level := 0; ; level++ {
		if level == len(e.levels) {
			e.levels = append(e.levels, make([]core.Hash, 0, tileWidth))
		}
		e.levels[level] = append(e.levels[level], h)
		if len(e.levels[level]) < tileWidth {
			return
		}
		done := e.levels[level]
		e.levels[level] = make([]core.Hash, 0, tileWidth)
		full[tileKey{level, e.size>>(tileHeight*(level+1)) - 1}] = done
		h = merge(done)
	}
}

// root folds the complete subtrees of the edge from right to left.
func (e *edge) root() core.Hash {
	var acc core.Hash
	some := false
	for _, hs := range e.levels {
		for w := len(hs); w > 0; {
			k := 1 << bits.TrailingZeros(uint(w))
			if sub := merge(hs[w-k : w]); some {
				acc = nodeHash(sub, acc)
			} else {
				acc, some = sub, true
			}
			w -= k
		}
	}
	if !some {
		return emptyRoot()
	}
	return acc
}

// tileSource reads the stored hashes of a tile: at least as many as the
// committed tree has there.
type tileSource func(level int, n uint64) ([]core.Hash, error)

// loadEdge reads the right edge of a tree of the given size: one tile of each
// level.
func loadEdge(size uint64, tiles tileSource) (edge, error) {
	e := edge{size: size}
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		count := size >> (tileHeight * level)
		w := int(count % tileWidth)
		hs := make([]core.Hash, 0, tileWidth)
		if w > 0 {
			got, err := tiles(level, count/tileWidth)
			if err != nil {
				return e, err
			}
			if len(got) < w {
				return e, damaged("tile %d/%d has %d hashes, the tree needs %d", level, count/tileWidth, len(got), w)
			}
			hs = append(hs, got[:w]...)
		}
		e.levels = append(e.levels, hs)
	}
	return e, nil
}

// nodes reads inner nodes of a tree out of its tiles, each tile once.
type nodes struct {
	tiles tileSource
	have  map[tileKey][]core.Hash
}

func newNodes(tiles tileSource) *nodes {
	return &nodes{tiles: tiles, have: map[tileKey][]core.Hash{}}
}

// at is the root of the complete subtree i of 2^level leaves.
func (r *nodes) at(level int, i uint64) (core.Hash, error) {
	inTile := level % tileHeight
	start := i << inTile
	key := tileKey{level / tileHeight, start / tileWidth}
	hs, ok := r.have[key]
	if !ok {
		var err error
		if hs, err = r.tiles(key.level, key.n); err != nil {
			return core.Hash{}, err
		}
		r.have[key] = hs
	}
	lo := int(start % tileWidth)
	hi := lo + 1<<inTile
	if hi > len(hs) {
		return core.Hash{}, damaged("tile %d/%d has %d hashes, the tree needs %d", key.level, key.n, len(hs), hi)
	}
	return merge(hs[lo:hi]), nil
}

// over is the Merkle tree hash of the leaves [lo, hi) (RFC 6962 §2.1, MTH).
// lo is a multiple of the largest power of two below hi-lo, as everywhere in
// the definitions of the tree and its proofs.
func (r *nodes) over(lo, hi uint64) (core.Hash, error) {
	n := hi - lo
	if n == 0 {
		return emptyRoot(), nil
	}
	if n&(n-1) == 0 {
		level := bits.TrailingZeros64(n)
		return r.at(level, lo>>level)
	}
	k := split(n)
	left, err := r.over(lo, lo+k)
	if err != nil {
		return left, err
	}
	right, err := r.over(lo+k, hi)
	return nodeHash(left, right), err
}

// split is the largest power of two smaller than n; n > 1.
func split(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// damaged says that what is stored cannot be the tree that was committed.
func damaged(format string, args ...any) error {
	return &core.Error{
		Kind: core.Internal, Reason: "ledger-damaged",
		Message: "the ledger's stored hashes do not make the tree that was committed: " + fmt.Sprintf(format, args...),
		Hint:    "somebody or something changed the database from outside; run `hawser ledger verify`, keep the data folder as it is, and restore from a backup",
	}
}
