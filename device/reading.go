package device

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/wire"
)

// Reading is one set of values taken at one time. What may be in it, the
// product's declaration says; the server drops the rest. Build it with
// NewReading and the typed methods; a fault in a value is told by Send.
type Reading struct {
	at    time.Time
	items []item
	err   *Error
}

// item is one field of a reading.
type item struct {
	name   string
	kind   itemKind
	number float64
	whole  int64 // 0 and 1 of a boolean
	text   string
}

type itemKind uint8

const (
	itemNumber itemKind = iota
	itemWhole
	itemBoolean
	itemText
)

// maxFields bounds a reading: a declaration has at most 256 fields.
const maxFields = 256

// NewReading begins a reading taken at a time. The zero time says that the
// time is not known; the server then uses the time of receipt.
func NewReading(at time.Time) *Reading { return &Reading{at: at} }

// Float adds a number. NaN and infinities are no JSON numbers and refused.
func (r *Reading) Float(name string, v float64) *Reading {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		r.fail("field %q is not a finite number", name)
		return r
	}
	return r.add(item{name: name, kind: itemNumber, number: v})
}

// Int adds a whole number between -(2^53-1) and 2^53-1: what every JSON parser
// keeps exact (RFC 7493 §2.2).
func (r *Reading) Int(name string, v int64) *Reading {
	if v > wire.MaxNumber || v < -wire.MaxNumber {
		r.fail("field %q is beyond 2^53-1", name)
		return r
	}
	return r.add(item{name: name, kind: itemWhole, whole: v})
}

// Bool adds true or false.
func (r *Reading) Bool(name string, v bool) *Reading {
	x := item{name: name, kind: itemBoolean}
	if v {
		x.whole = 1
	}
	return r.add(x)
}

// String adds a text, in UTF-8.
func (r *Reading) String(name, v string) *Reading {
	if !utf8.ValidString(v) {
		r.fail("field %q is not UTF-8", name)
		return r
	}
	return r.add(item{name: name, kind: itemText, text: v})
}

// add adds a field.
func (r *Reading) add(x item) *Reading {
	switch {
	case r.err != nil:
		return r
	case x.name == wire.TimeKey || x.name == wire.BootKey || x.name == wire.SeqKey:
		r.fail("field %q is set by the library", x.name)
		return r
	case x.name == "" || len(x.name) > wire.MaxName || !utf8.ValidString(x.name):
		r.fail("field name %q is not 1 to 63 bytes of UTF-8", x.name)
		return r
	case len(r.items) == maxFields:
		r.fail("more than %d fields", maxFields)
		return r
	}
	for _, y := range r.items {
		if y.name == x.name {
			r.fail("field %q is set twice", x.name)
			return r
		}
	}
	r.items = append(r.items, x)
	return r
}

func (r *Reading) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fault(BadReading, nil, "", format, args...)
	}
}

// JSON is the reading as a device with a trusted clock sends it, but for the
// numbers that name it: for whoever tests a sensor. It fails like Send.
func (r *Reading) JSON() ([]byte, error) { return r.encode(formJSON, true, 0, 0) }

// form is how a reading is written.
type form uint8

const (
	formJSON form = iota
	formCBOR
)

// encode is the message: time, boot and seq, then the fields. t is left out
// when timed is false: a wrong time is worse than none.
func (r *Reading) encode(as form, timed bool, boot, seq uint64) ([]byte, error) {
	switch {
	case r == nil || len(r.items) == 0 && r.err == nil:
		return nil, fault(BadReading, nil, "", "the reading has no field")
	case r.err != nil:
		return nil, r.err
	}
	timed = timed && !r.at.IsZero()
	var b []byte
	if as == formCBOR {
		b = r.appendCBOR(nil, timed, boot, seq)
	} else {
		b = r.appendJSON(nil, timed, boot, seq)
	}
	if len(b) > wire.MaxPayload {
		return nil, fault(BadReading, nil, "", "the reading is %d bytes, more than %d", len(b), wire.MaxPayload)
	}
	return b, nil
}

func (r *Reading) appendJSON(b []byte, timed bool, boot, seq uint64) []byte {
	b = append(b, '{')
	if timed {
		b = strconv.AppendInt(append(b, `"t":`...), r.at.UnixMilli(), 10)
		b = append(b, ',')
	}
	b = strconv.AppendUint(append(b, `"boot":`...), boot, 10)
	b = strconv.AppendUint(append(b, `,"seq":`...), seq, 10)
	for i := range r.items {
		x := &r.items[i]
		b = append(wire.AppendString(append(b, ','), x.name), ':')
		switch x.kind {
		case itemNumber:
			form := byte('f')
			if a := math.Abs(x.number); a != 0 && (a < 1e-6 || a >= 1e21) {
				form = 'e'
			}
			b = strconv.AppendFloat(b, x.number, form, -1, 64)
		case itemWhole:
			b = strconv.AppendInt(b, x.whole, 10)
		case itemBoolean:
			b = strconv.AppendBool(b, x.whole != 0)
		case itemText:
			b = wire.AppendString(b, x.text)
		}
	}
	return append(b, '}')
}
