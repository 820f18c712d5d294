package verify

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
)

// Hash is a SHA-256 digest.
type Hash [sha256.Size]byte

// LeafHash is the Merkle hash of a leaf (RFC 6962 §2.1).
func LeafHash(leaf []byte) Hash {
	return sha256.Sum256(append([]byte{0x00}, leaf...))
}

// join is the Merkle hash of two subtrees (RFC 6962 §2.1).
func join(left, right Hash) Hash {
	b := append([]byte{0x01}, left[:]...)
	return sha256.Sum256(append(b, right[:]...))
}

// tree is a Merkle tree of which only the roots of its complete subtrees are
// kept: one per one bit of its size, the largest first.
type tree struct {
	size  uint64
	peaks []Hash
}

func (t *tree) add(h Hash) {
	for n := t.size; n&1 == 1; n >>= 1 {
		h = join(t.peaks[len(t.peaks)-1], h)
		t.peaks = t.peaks[:len(t.peaks)-1]
	}
	t.peaks = append(t.peaks, h)
	t.size++
}

func (t *tree) root() Hash {
	if len(t.peaks) == 0 {
		return sha256.Sum256(nil)
	}
	h := t.peaks[len(t.peaks)-1]
	for i := len(t.peaks) - 2; i >= 0; i-- {
		h = join(t.peaks[i], h)
	}
	return h
}

// Inclusion reports whether proof shows that leaf is entry index of the tree
// of size entries with that root (RFC 9162 §2.1.3.2). The proof names the
// sibling nearest the leaf first.
func Inclusion(leaf []byte, index, size uint64, proof []Hash, root Hash) error {
	if index >= size {
		return fmt.Errorf("entry %d cannot be among %d", index, size)
	}
	h := LeafHash(leaf)
	fn, sn := index, size-1
	for _, p := range proof {
		if sn == 0 {
			return errors.New("the proof of inclusion is too long")
		}
		if fn&1 == 1 || fn == sn {
			h = join(p, h)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			h = join(h, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 {
		return errors.New("the proof of inclusion is too short")
	}
	if h != root {
		return fmt.Errorf("entry %d is not what the checkpoint of %d entries was made over", index, size)
	}
	return nil
}

// Consistency reports whether proof shows that the tree of newSize entries
// begins with the tree of oldSize (RFC 9162 §2.1.4.2).
func Consistency(oldSize uint64, oldRoot Hash, newSize uint64, newRoot Hash, proof []Hash) error {
	switch {
	case oldSize > newSize:
		return fmt.Errorf("%d entries cannot begin with %d", newSize, oldSize)
	case oldSize == newSize:
		if oldRoot != newRoot || len(proof) > 0 {
			return fmt.Errorf("two trees of %d entries differ", oldSize)
		}
		return nil
	case oldSize == 0:
		if oldRoot != sha256.Sum256(nil) || len(proof) > 0 {
			return errors.New("the tree of no entries is not that")
		}
		return nil
	}
	if bits.OnesCount64(oldSize) == 1 {
		proof = append([]Hash{oldRoot}, proof...)
	}
	if len(proof) == 0 {
		return errors.New("the proof of consistency is empty")
	}
	fn, sn := oldSize-1, newSize-1
	for fn&1 == 1 {
		fn, sn = fn>>1, sn>>1
	}
	fr, sr := proof[0], proof[0]
	for _, p := range proof[1:] {
		if sn == 0 {
			return errors.New("the proof of consistency is too long")
		}
		if fn&1 == 1 || fn == sn {
			fr, sr = join(p, fr), join(p, sr)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			sr = join(sr, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 {
		return errors.New("the proof of consistency is too short")
	}
	if fr != oldRoot || sr != newRoot {
		return fmt.Errorf("the tree of %d entries does not begin with the tree of %d", newSize, oldSize)
	}
	return nil
}
