package ledger

import (
	"fmt"
	"math/bits"

	"github.com/hawser-iot/hawser/internal/core"
)

// inclusion is the audit path of leaf i in the tree of n leaves (RFC 6962
// §2.1.1), the sibling nearest the leaf first.
func (r *nodes) inclusion(i, n uint64) ([]core.Hash, error) {
	var path []core.Hash
	lo, hi := uint64(0), n
	for hi-lo > 1 {
		var sibling core.Hash
		var err error
		if k := split(hi - lo); i-lo < k {
			sibling, err = r.over(lo+k, hi)
			hi = lo + k
		} else {
			sibling, err = r.over(lo, lo+k)
			lo += k
		}
		if err != nil {
			return nil, err
		}
		path = append(path, sibling)
	}
	reverse(path)
	return path, nil
}

// consistency proves that the tree of m leaves is a prefix of the tree of n
// leaves (RFC 6962 §2.1.2). It is empty for m == 0 and m == n.
func (r *nodes) consistency(m, n uint64) ([]core.Hash, error) {
	if m == 0 || m == n {
		return nil, nil
	}
	var path []core.Hash
	lo, hi := uint64(0), n
	for m < hi {
		k := split(hi - lo)
		var sibling core.Hash
		var err error
		if m <= lo+k {
			sibling, err = r.over(lo+k, hi)
			hi = lo + k
		} else {
			sibling, err = r.over(lo, lo+k)
			lo += k
		}
		if err != nil {
			return nil, err
		}
		path = append(path, sibling)
	}
	if lo > 0 { // the old tree is not one of the subtrees on the way: its last part is needed
		last, err := r.over(lo, hi)
		if err != nil {
			return nil, err
		}
		path = append(path, last)
	}
	reverse(path)
	return path, nil
}

func reverse(hs []core.Hash) {
	for i, j := 0, len(hs)-1; i < j; i, j = i+1, j-1 {
		hs[i], hs[j] = hs[j], hs[i]
	}
}

// checkConsistency reports whether proof shows that the tree of m leaves with
// root old is a prefix of the tree of n leaves with root cur (RFC 9162
// §2.1.4.2).
func checkConsistency(m, n uint64, old, cur core.Hash, proof []core.Hash) error {
	switch {
	case m > n:
		return fmt.Errorf("a tree of %d entries cannot begin with one of %d", n, m)
	case m == n && old != cur:
		return fmt.Errorf("two trees of %d entries have different roots", n)
	case m == n || m == 0:
		return nil
	}
	if m&(m-1) == 0 { // the old tree is a subtree of its own: its root is the first node
		proof = append([]core.Hash{old}, proof...)
	}
	if len(proof) == 0 {
		return fmt.Errorf("no proof that %d entries begin with %d", n, m)
	}
	fn, sn := m-1, n-1
	shift := bits.TrailingZeros64(^fn)
	fn, sn = fn>>shift, sn>>shift
	fr, sr := proof[0], proof[0]
	for _, c := range proof[1:] {
		if sn == 0 {
			return fmt.Errorf("the proof that %d entries begin with %d is too long", n, m)
		}
		if fn&1 == 1 || fn == sn {
			fr, sr = nodeHash(c, fr), nodeHash(c, sr)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			sr = nodeHash(sr, c)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 || fr != old || sr != cur {
		return fmt.Errorf("the tree of %d entries does not begin with the tree of %d entries that was signed", n, m)
	}
	return nil
}
