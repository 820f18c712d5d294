package telemetry

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// SumSize is how many bytes of a row's leaf its batch keeps, so that a changed
// row can be named and not only its batch.
const SumSize = 8

const (
	chainDomain = "hawser/epoch-file/2"
	leafPrefix  = 0 // RFC 6962 §2.1
	nodePrefix  = 1 // RFC 6962 §2.1
	chainPrefix = 2
)

// AppendLeaf appends to dst what the leaf of r is hashed over: its number and
// every column, each with its length or of fixed size.
func AppendLeaf(dst []byte, r *Row) []byte {
	dst = append(dst, leafPrefix)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.ID))
	dst = AppendAAD(dst, &r.Reading, &r.Part)
	if r.Reading.HasSeq {
		dst = append(dst, 0)
	} else {
		dst = appendShort(append(dst, 1), r.Place.Journal)
		dst = binary.BigEndian.AppendUint64(dst, r.Place.Seq)
		dst = binary.BigEndian.AppendUint32(dst, r.Place.Index)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.Part.Sealed)))
	return append(dst, r.Part.Sealed...)
}

// LeafHash is the Merkle leaf of r (RFC 6962 §2.1). buf is scratch space and
// is returned to be used again.
func LeafHash(r *Row, buf []byte) (core.Hash, []byte) {
	buf = AppendLeaf(buf[:0], r)
	return sha256.Sum256(buf), buf
}

// BatchRoot is the Merkle root of leaves (RFC 6962 §2.1).
func BatchRoot(leaves []core.Hash) core.Hash {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := 1 << (bits.Len(uint(len(leaves)-1)) - 1) // largest power of two below len
	l, r := BatchRoot(leaves[:k]), BatchRoot(leaves[k:])
	var b [1 + 2*sha256.Size]byte
	b[0] = nodePrefix
	copy(b[1:], l[:])
	copy(b[1+sha256.Size:], r[:])
	return sha256.Sum256(b[:])
}

// FirstChain is the chain of a partition that holds nothing yet.
func FirstChain(e core.Epoch) core.Hash {
	return sha256.Sum256(appendEpoch(appendShort(nil, chainDomain), e))
}

// NextChain is the chain after batch b: whoever knows it knows every row of
// every batch so far and their order.
func NextChain(chain core.Hash, b *Batch) core.Hash {
	var buf [1 + 2*sha256.Size + 3*8]byte
	out := append(buf[:0], chainPrefix)
	out = append(out, chain[:]...)
	out = binary.BigEndian.AppendUint64(out, b.ID)
	out = binary.BigEndian.AppendUint64(out, uint64(b.First))
	out = binary.BigEndian.AppendUint64(out, b.Count)
	out = append(out, b.Root[:]...)
	return sha256.Sum256(out)
}

// Sealed is one root entry: how far a partition had come when the ledger
// recorded it.
type Sealed struct {
	Epoch       core.Epoch
	First, Last uint64    // batches of this entry
	Rows        uint64    // rows of the partition up to Last
	Chain       core.Hash // after Last
	At          time.Time // of the ledger record
}
