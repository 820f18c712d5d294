package telemetry

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// RecordType says what one record of the journal is.
type RecordType uint8

// The types of record. The number is the record's first byte on disk; a
// record of another layout gets a new number.
const (
	RecordReading RecordType = 3
	RecordRefusal RecordType = 4
)

// Bounds of a record. Whoever writes keeps them; whoever reads refuses more.
const (
	MaxParts      = 32      // groups of a policy
	MaxSealed     = 1 << 17 // bytes of one part
	MaxRecord     = 1 << 19 // bytes of one record
	maxReason     = 32      // bytes of a reason
	maxEpochStart = 1 << 40 // Unix seconds; some 34,000 years
)

// Flags are facts of a reading that stand beside its time.
type Flags uint8

// FlagWrongClock: the device sent no `t` or an impossible one; T is the time
// of receipt (design, section 5, Time).
const FlagWrongClock Flags = 1 << 0

// FlagVouched: it is a child's, and a hub vouched for it: whose certificate
// Sender is (decision 015).
const FlagVouched Flags = 1 << 1

// flagHasSeq stands only in the encoded form; see Reading.HasSeq.
const flagHasSeq Flags = 1 << 7

// Reading is one accepted message as the journal carries it. What it says of
// the subject lies sealed in Parts; the rest is needed to file it.
type Reading struct {
	Product core.ProductID
	Subject core.Subject
	Stream  string
	Policy  core.Hash // the declaration it was judged by

	T        int64 // Unix milliseconds; clamped: expiry counts from it
	Received int64 // Unix milliseconds
	HasSeq   bool  // the device numbered it: (Boot, Seq) names it for ever
	Boot     uint64
	Seq      uint64
	Flags    Flags
	Dropped  uint16 // undeclared and bad fields dropped from it; saturates

	Gateway [8]byte // instance id of the gateway process, random
	Counter uint64  // that gateway's counter: (Gateway, Counter) is unique
	Parts   []Part  // one for each group that the message had fields of
}

// Part is the fields of one group (same class, readers and keep-time), sealed
// together under the keys of the subject and of Epoch. Opened, it is the sender
// and a compact JSON object of the fields in declaration order: AppendPlain and
// CutPlain.
type Part struct {
	Epoch  core.Epoch
	Group  uint8  // index in Policy.Groups
	Sealed []byte // nonce ‖ ciphertext ‖ tag
}

// Refusal counts messages that were not stored. It is content-free: nothing
// of the payload is in it, and a stream is named only if it is declared. It
// does not say on which certificate they came: beside the subject that would
// lead from an erased person to a unit.
type Refusal struct {
	Product  core.ProductID
	Subject  core.Subject // zero: the device had no owner
	Stream   string       // "" when unknown or not of the product
	Reason   Reason
	Received int64 // Unix milliseconds, of the first one counted
	Count    uint32
}

// AppendReading appends r's record to dst. A Seq or Boot without HasSeq is
// not written.
func AppendReading(dst []byte, r *Reading) []byte {
	dst = append(dst, byte(RecordReading))
	dst = appendShort(dst, string(r.Product))
	dst = append(dst, r.Subject[:]...)
	dst = appendShort(dst, r.Stream)
	dst = append(dst, r.Policy[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.T))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.Received))
	flags := r.Flags &^ flagHasSeq
	if r.HasSeq {
		flags |= flagHasSeq
	}
	dst = append(dst, byte(flags))
	if r.HasSeq {
		dst = binary.BigEndian.AppendUint64(dst, r.Boot)
		dst = binary.BigEndian.AppendUint64(dst, r.Seq)
	}
	dst = binary.BigEndian.AppendUint16(dst, r.Dropped)
	dst = append(dst, r.Gateway[:]...)
	dst = binary.BigEndian.AppendUint64(dst, r.Counter)
	dst = append(dst, byte(len(r.Parts)))
	for i := range r.Parts {
		p := &r.Parts[i]
		dst = appendEpoch(dst, p.Epoch)
		dst = append(dst, p.Group)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Sealed)))
		dst = append(dst, p.Sealed...)
	}
	return dst
}

// AppendRefusal appends f's record to dst.
func AppendRefusal(dst []byte, f *Refusal) []byte {
	dst = append(dst, byte(RecordRefusal))
	dst = appendShort(dst, string(f.Product))
	dst = append(dst, f.Subject[:]...)
	dst = appendShort(dst, f.Stream)
	dst = appendShort(dst, string(f.Reason))
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.Received))
	return binary.BigEndian.AppendUint32(dst, f.Count)
}

// Sender is the serial of the certificate on whose session a message came in,
// right-aligned. The register says which unit's that is, so it never stands in
// clear beside a subject: it is sealed with the values, and goes with the key.
type Sender [16]byte

// AppendPlain appends to dst what is sealed of a part: who sent it, and the
// object of its fields.
func AppendPlain(dst []byte, s Sender, object []byte) []byte {
	return append(append(dst, s[:]...), object...)
}

// CutPlain takes apart what AppendPlain made. object is part of plain.
func CutPlain(plain []byte) (s Sender, object []byte, err error) {
	if len(plain) < len(s) {
		return s, nil, errNotOurs
	}
	return Sender(plain), plain[len(s):], nil
}

// aadDomain separates this use of the sealing keys from any other.
const aadDomain = "hawser/reading/2"

// AppendAAD appends to dst the associated data that part p of reading r is
// sealed with: every element has its length in front, so that no two readings
// share one. Whoever opens a part must know all of it (design, section 5,
// Sealing); Dropped alone is left out, being a count about the message, not
// of the part.
func AppendAAD(dst []byte, r *Reading, p *Part) []byte {
	dst = appendShort(dst, aadDomain)
	dst = appendShort(dst, string(r.Product))
	dst = append(append(dst, byte(len(r.Subject))), r.Subject[:]...)
	dst = appendEpoch(append(dst, 16), p.Epoch)
	dst = append(dst, 1, p.Group)
	dst = append(append(dst, byte(len(r.Gateway))), r.Gateway[:]...)
	dst = binary.BigEndian.AppendUint64(append(dst, 8), r.Counter)
	dst = binary.BigEndian.AppendUint64(append(dst, 8), uint64(r.Received))
	dst = append(append(dst, byte(len(r.Policy))), r.Policy[:]...)
	dst = appendShort(dst, r.Stream)
	dst = binary.BigEndian.AppendUint64(append(dst, 8), uint64(r.T))
	if r.HasSeq {
		dst = binary.BigEndian.AppendUint64(append(dst, 16), r.Boot)
		dst = binary.BigEndian.AppendUint64(dst, r.Seq)
	} else {
		dst = append(dst, 0)
	}
	return append(dst, 1, byte(r.Flags&^flagHasSeq))
}

// DecodeRecord reads one record into r or f, whichever its type says, and
// leaves the other alone. Sealed parts alias b; r.Parts is reused. It never
// reads past b, and refuses trailing bytes, unknown types and anything over
// the bounds, so that a changed record is an error and never a guess.
func DecodeRecord(b []byte, r *Reading, f *Refusal) (RecordType, error) {
	if len(b) == 0 || len(b) > MaxRecord {
		return 0, fmt.Errorf("record of %d bytes: want 1 to %d", len(b), MaxRecord)
	}
	d := decoder{b: b[1:]}
	switch t := RecordType(b[0]); t {
	case RecordReading:
		d.reading(r)
		return t, d.end("reading")
	case RecordRefusal:
		d.refusal(f)
		return t, d.end("refusal")
	default:
		return 0, fmt.Errorf("record type %d is not known to this version", t)
	}
}

func appendShort(dst []byte, s string) []byte {
	s = s[:min(len(s), 255)] // names are checked long before; never write a length that lies
	return append(append(dst, byte(len(s))), s...)
}

// appendEpoch writes an epoch in 16 bytes: keep and length in whole seconds.
func appendEpoch(dst []byte, e core.Epoch) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(e.Keep/time.Second))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Start))
	return binary.BigEndian.AppendUint32(dst, uint32(e.Length/time.Second))
}

// decoder reads from the front of b; the first thing wrong stops it.
type decoder struct {
	b   []byte
	err string
}

func (d *decoder) end(what string) error {
	if d.err == "" && len(d.b) != 0 {
		d.err = "bytes after the end"
	}
	if d.err != "" {
		return fmt.Errorf("%s record is damaged: %s", what, d.err)
	}
	return nil
}

func (d *decoder) take(n int) []byte {
	if d.err != "" {
		return nil
	}
	if n > len(d.b) {
		d.err = "cut short"
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) fill(dst []byte) { copy(dst, d.take(len(dst))) }

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// short reads a length-prefixed string. When it equals old, which it mostly
// does from one record to the next, old is returned and nothing is allocated.
func (d *decoder) short(old string) string {
	b := d.take(int(d.u8()))
	if string(b) == old {
		return old
	}
	return string(b)
}

func (d *decoder) product(old core.ProductID) core.ProductID {
	p := core.ProductID(d.short(string(old)))
	if d.err == "" && !p.Valid() {
		d.err = "no product id"
	}
	return p
}

func (d *decoder) epoch() core.Epoch {
	keep, start, length := d.u32(), d.u64(), d.u32()
	if d.err == "" && (keep == 0 || length == 0 || int64(start) < -maxEpochStart || int64(start) > maxEpochStart) {
		d.err = "impossible epoch"
	}
	return core.Epoch{Keep: time.Duration(keep) * time.Second, Start: int64(start), Length: time.Duration(length) * time.Second}
}

func (d *decoder) reading(r *Reading) {
	r.Product = d.product(r.Product)
	d.fill(r.Subject[:])
	r.Stream = d.short(r.Stream)
	d.fill(r.Policy[:])
	r.T, r.Received = int64(d.u64()), int64(d.u64())
	flags := Flags(d.u8())
	r.HasSeq, r.Flags, r.Boot, r.Seq = flags&flagHasSeq != 0, flags&^flagHasSeq, 0, 0
	if r.HasSeq {
		r.Boot, r.Seq = d.u64(), d.u64()
	}
	r.Dropped = d.u16()
	d.fill(r.Gateway[:])
	r.Counter = d.u64()
	n := int(d.u8())
	r.Parts = r.Parts[:0]
	if d.err == "" && (n == 0 || n > MaxParts || r.Stream == "" || r.Subject.IsZero()) {
		d.err = "no stream, subject or parts, or too many parts"
	}
	for ; n > 0 && d.err == ""; n-- {
		p := Part{Epoch: d.epoch(), Group: d.u8()}
		size := d.u32()
		if d.err == "" && size > MaxSealed {
			d.err = "part too large"
		}
		p.Sealed = d.take(int(size))
		r.Parts = append(r.Parts, p)
	}
}

func (d *decoder) refusal(f *Refusal) {
	f.Product = d.product(f.Product)
	d.fill(f.Subject[:])
	f.Stream = d.short(f.Stream)
	f.Reason = Reason(d.short(string(f.Reason)))
	if d.err == "" && !f.Reason.valid() {
		d.err = "no reason"
	}
	f.Received = int64(d.u64())
	f.Count = d.u32()
}
