package device

import (
	"encoding/binary"
	"math"

	"github.com/hawser-iot/hawser/internal/wire"
)

// The major types of CBOR that a reading is made of (RFC 8949 §3.1).
const (
	cborUint     = 0 << 5
	cborNegative = 1 << 5
	cborText     = 3 << 5
	cborMap      = 5 << 5
	cborSimple   = 7 << 5
)

// appendCBOR is the reading as a CBOR map, in the shortest form (RFC 8949
// §4.2.1) but for the order of its keys: floats never have 16 bits, which few
// devices could make.
func (r *Reading) appendCBOR(b []byte, timed bool, boot, seq uint64) []byte {
	members := len(r.items) + 2
	if timed {
		members++
	}
	b = appendHead(b, cborMap, uint64(members))
	if timed {
		b = appendWhole(appendText(b, wire.TimeKey), r.at.UnixMilli())
	}
	b = appendHead(appendText(b, wire.BootKey), cborUint, boot)
	b = appendHead(appendText(b, wire.SeqKey), cborUint, seq)
	for i := range r.items {
		x := &r.items[i]
		b = appendText(b, x.name)
		switch x.kind {
		case itemNumber:
			b = appendNumber(b, x.number)
		case itemWhole:
			b = appendWhole(b, x.whole)
		case itemBoolean:
			b = append(b, cborSimple|20+byte(x.whole)) // false, true
		case itemText:
			b = appendText(b, x.text)
		}
	}
	return b
}

// appendHead appends the head of an item, the shortest that holds n.
func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, cborText, uint64(len(s))), s...)
}

func appendWhole(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, cborNegative, uint64(-1-n))
	}
	return appendHead(b, cborUint, uint64(n))
}

// appendNumber appends a number without loss: as a whole number if it is one,
// else as the shorter float that is equal.
func appendNumber(b []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) <= wire.MaxNumber {
		return appendWhole(b, int64(f))
	}
	if s := float32(f); float64(s) == f {
		return binary.BigEndian.AppendUint32(append(b, cborSimple|26), math.Float32bits(s))
	}
	return binary.BigEndian.AppendUint64(append(b, cborSimple|27), math.Float64bits(f))
}
