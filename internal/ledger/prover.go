package ledger

import (
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
)

// Prover makes proofs about the tree of one size out of its hash tiles,
// wherever they lie: in this ledger, or behind somebody's HTTPS. It trusts the
// tiles with nothing: whoever uses a proof verifies it against a signed root.
type Prover struct {
	size uint64
	n    *nodes
}

// NewProver makes proofs about the first size entries. tile gives the content
// of a hash tile that such a tree has; each is asked for once.
func NewProver(size uint64, tile func(TileRef) ([]byte, error)) *Prover {
	return &Prover{size: size, n: newNodes(func(level int, n uint64) ([]core.Hash, error) {
		count := size >> (tileHeight * level)
		if level > maxTileLevel || count <= n*tileWidth {
			return nil, fmt.Errorf("a tree of %d entries has no tile %d/%d", size, level, n)
		}
		t := TileRef{Kind: HashTile, Level: level, N: n, Width: int(min(count-n*tileWidth, tileWidth))}
		b, err := tile(t)
		if err != nil {
			return nil, err
		}
		hs := make([]core.Hash, t.Width)
		if len(b) != len(hs)*len(core.Hash{}) {
			return nil, fmt.Errorf("tile %s has %d bytes, not %d", t.Path(), len(b), len(hs)*len(core.Hash{}))
		}
		for i := range hs {
			copy(hs[i][:], b[i*len(hs[i]):])
		}
		return hs, nil
	})}
}

// Root is the root of the tree.
func (p *Prover) Root() (core.Hash, error) { return p.n.over(0, p.size) }

// Inclusion is the audit path of an entry (RFC 6962 §2.1.1), the sibling
// nearest the leaf first.
func (p *Prover) Inclusion(index uint64) ([]core.Hash, error) {
	if index >= p.size {
		return nil, fmt.Errorf("entry %d is not among %d", index, p.size)
	}
	return p.n.inclusion(index, p.size)
}

// Consistency proves that the tree begins with its first from entries (RFC
// 6962 §2.1.2).
func (p *Prover) Consistency(from uint64) ([]core.Hash, error) {
	if from > p.size {
		return nil, fmt.Errorf("%d entries do not begin with %d", p.size, from)
	}
	return p.n.consistency(from, p.size)
}
