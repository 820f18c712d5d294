package telemetry

import (
	"bytes"
	"math"
	"time"
	"unicode/utf8"
)

// maxNumber is how many characters a declared number may have. A float64 needs
// 24; more is either padding or an attack on whoever reads it.
const maxNumber = 128

// value judges the value at b[i] and appends its canonical form to j.values if
// it is good. A value that is JSON but not what was declared is bad; what is
// not JSON at all refuses the message.
func (f *fieldPlan) value(j *Judged, b []byte, i int) (end int, good bool, why Reason) {
	if i >= len(b) {
		return 0, false, ReasonNotJSON
	}
	c := b[i]
	switch {
	case c == '"' && f.takesText():
		s, end := scanString(b, i)
		if end < 0 {
			return 0, false, ReasonNotJSON
		}
		return end, f.text(j, s), ""
	case (c == '-' || isDigit(c)) && f.takesNumber():
		d, end := scanNumber(b, i)
		if end < 0 {
			return 0, false, ReasonNotJSON
		}
		return end, end-i <= maxNumber && f.number(j, d, b[i:end]), ""
	case (c == 't' || c == 'f') && f.kind == kindBoolean:
		end, why := skipValue(b, i, 1)
		if why == "" {
			j.values = append(j.values, b[i:end]...)
		}
		return end, why == "", why
	}
	end, why = skipValue(b, i, 1)
	return end, false, why
}

// takesText reports whether a text may be a good value.
func (f *fieldPlan) takesText() bool { return f.kind >= kindString && f.kind <= kindT }

// takesNumber reports whether a number may be a good value.
func (f *fieldPlan) takesNumber() bool { return f.kind <= kindInteger || f.kind >= kindT }

// number judges a number; raw is how it was written in JSON, nil where it was
// not: d then says it all.
func (f *fieldPlan) number(j *Judged, d decimal, raw []byte) bool {
	switch f.kind {
	case kindT, kindBoot, kindSeq:
		n, ok := d.integer()
		if !ok || n > math.MaxInt64 || d.neg && f.kind != kindT {
			return false
		}
		switch f.kind {
		case kindT:
			if j.T, j.hasT = int64(n), true; d.neg {
				j.T = -j.T
			}
		case kindBoot:
			j.Boot = n
		case kindSeq:
			j.Seq, j.HasSeq = n, true
		}
		return true
	case kindInteger:
		n, ok := d.integer()
		if !ok {
			return false
		}
		w := whole{d.neg, n}
		if f.ranged && (w.less(f.low) || f.high.less(w)) {
			return false
		}
		if !f.rounded {
			j.values = appendDecimal(j.values, decimal{neg: d.neg, mant: n})
			return true
		}
		// A whole number's grid is whole, so what follows keeps it whole.
	}
	v, ok := d.float(raw)
	if !ok || f.ranged && (v < f.min || v > f.max) {
		return false
	}
	if f.rounded {
		return f.round(j, d)
	}
	// What the device means is the binary64 nearest to what it wrote; up to 15
	// digits that is what it wrote.
	d.trim()
	if d.mant >= 1e15 || d.cut || d.exp < -300 || d.exp > 290 {
		d = shortest(v)
	}
	j.values = appendDecimal(j.values, d)
	return true
}

// round keeps d to the field's precision and inside its range: where rounding
// would leave the range, it goes to the nearest step inside.
func (f *fieldPlan) round(j *Judged, d decimal) bool {
	n, ok := f.grid.steps(d)
	if !ok {
		return false
	}
	for range 2 {
		r, ok := f.grid.at(n, d.neg)
		if !ok {
			return false
		}
		from := len(j.values)
		j.values = appendDecimal(j.values, r)
		v, ok := r.float(j.values[from:])
		if ok && (!f.ranged || v >= f.min && v <= f.max) {
			return true
		}
		j.values = j.values[:from]
		// d itself is inside, so the step inside is one nearer to it: rounding
		// went away from zero, or toward it.
		if away := v > f.max != d.neg; away && n > 0 {
			n--
		} else {
			n++
		}
	}
	return false
}

// text judges a string.
func (f *fieldPlan) text(j *Judged, s text) bool {
	plain := j.plain(s)
	switch f.kind {
	case kindString:
		n := len(plain)
		if !s.ascii || s.escaped {
			n = utf8.RuneCount(plain)
		}
		if n < f.shortest || n > f.longest {
			return false
		}
		j.values = appendQuoted(j.values, plain)
		return true
	case kindEnum:
		for i, v := range f.values {
			if v == string(plain) {
				j.values = append(j.values, f.quotedVal[i]...)
				return true
			}
		}
		return false
	}
	var t time.Time
	// RFC 3339 §5.6, strictly; package time also takes a comma for the point.
	if t.UnmarshalText(plain) != nil || bytes.IndexByte(plain, ',') >= 0 {
		return false
	}
	return f.moment(j, t)
}

// moment judges a point in time, of a timestamp or of t.
func (f *fieldPlan) moment(j *Judged, t time.Time) bool {
	t = t.UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		return false // an offset carried it out of RFC 3339's years
	}
	if f.kind == kindT {
		j.T, j.hasT = t.UnixMilli(), true
		return true
	}
	j.values = append(j.values, '"')
	j.values = t.AppendFormat(j.values, time.RFC3339Nano)
	j.values = append(j.values, '"')
	return true
}
