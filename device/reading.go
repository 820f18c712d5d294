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
	at     time.Time
	names  []string
	values []byte // `"name":value` after `"name":value`, with commas
	err    *Error
}

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
	if !r.name(name) {
		return r
	}
	form := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		form = 'e'
	}
	r.values = strconv.AppendFloat(r.values, v, form, -1, 64)
	return r
}

// Int adds a whole number between -(2^53-1) and 2^53-1: what every JSON parser
// keeps exact (RFC 7493 §2.2).
func (r *Reading) Int(name string, v int64) *Reading {
	if v > wire.MaxNumber || v < -wire.MaxNumber {
		r.fail("field %q is beyond 2^53-1", name)
		return r
	}
	if r.name(name) {
		r.values = strconv.AppendInt(r.values, v, 10)
	}
	return r
}

// Bool adds true or false.
func (r *Reading) Bool(name string, v bool) *Reading {
	if r.name(name) {
		r.values = strconv.AppendBool(r.values, v)
	}
	return r
}

// String adds a text, in UTF-8.
func (r *Reading) String(name, v string) *Reading {
	if !utf8.ValidString(v) {
		r.fail("field %q is not UTF-8", name)
		return r
	}
	if r.name(name) {
		r.values = wire.AppendString(r.values, v)
	}
	return r
}

// name begins a field.
func (r *Reading) name(name string) bool {
	switch {
	case r.err != nil:
		return false
	case name == wire.TimeKey || name == wire.BootKey || name == wire.SeqKey:
		r.fail("field %q is set by the library", name)
		return false
	case name == "" || len(name) > wire.MaxName || !utf8.ValidString(name):
		r.fail("field name %q is not 1 to 63 bytes of UTF-8", name)
		return false
	case len(r.names) == maxFields:
		r.fail("more than %d fields", maxFields)
		return false
	}
	for _, n := range r.names {
		if n == name {
			r.fail("field %q is set twice", name)
			return false
		}
	}
	r.names = append(r.names, name)
	r.values = append(wire.AppendString(append(r.values, ','), name), ':')
	return true
}

func (r *Reading) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fault(BadReading, nil, "", format, args...)
	}
}

// JSON is the reading as a device with a trusted clock sends it, but for the
// numbers that name it: for whoever tests a sensor. It fails like Send.
func (r *Reading) JSON() ([]byte, error) { return r.encode(true, 0, 0) }

// encode is the message: time, boot and seq, then the fields. t is left out
// when timed is false: a wrong time is worse than none.
func (r *Reading) encode(timed bool, boot, seq uint64) ([]byte, error) {
	switch {
	case r == nil || len(r.names) == 0 && r.err == nil:
		return nil, fault(BadReading, nil, "", "the reading has no field")
	case r.err != nil:
		return nil, r.err
	}
	b := make([]byte, 0, 64+len(r.values))
	b = append(b, '{')
	if timed && !r.at.IsZero() {
		b = strconv.AppendInt(append(b, `"t":`...), r.at.UnixMilli(), 10)
		b = append(b, ',')
	}
	b = strconv.AppendUint(append(b, `"boot":`...), boot, 10)
	b = strconv.AppendUint(append(b, `,"seq":`...), seq, 10)
	b = append(append(b, r.values...), '}')
	if len(b) > wire.MaxPayload {
		return nil, fault(BadReading, nil, "", "the reading is %d bytes, more than %d", len(b), wire.MaxPayload)
	}
	return b, nil
}
