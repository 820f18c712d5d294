package telemetry

import (
	"math"
	"time"
)

// The tags that mean something here (RFC 8949 §3.4).
const (
	tagTimeText = iota // RFC 3339 text
	tagTime            // seconds since 1970, a whole number or a float
	tagBignum
	tagNegativeBignum
	tagDecimal // [exponent, mantissa]
)

// scanCBORNumber reads the number whose head, with that first byte and
// argument, ends at i: a whole number, a finite float, a bignum of at most 64
// bits, or a decimal fraction of these. ok is false for anything else, well
// formed or not.
func scanCBORNumber(b []byte, first byte, arg uint64, i int) (d decimal, end int, ok bool) {
	switch first >> 5 {
	case majorUint:
		return decimal{mant: arg}, i, true
	case majorNegative:
		return minusOne(arg), i, true
	case majorSimple:
		var f float64
		switch first {
		case cborHalf:
			f = halfFloat(uint16(arg))
		case cborFloat:
			f = float64(math.Float32frombits(uint32(arg)))
		case cborWide:
			f = math.Float64frombits(arg)
		default:
			return d, 0, false
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return d, 0, false
		}
		return decimalOf(f), i, true
	case majorTag:
		switch arg {
		case tagBignum, tagNegativeBignum:
			return scanBignum(b, i, arg == tagNegativeBignum)
		case tagDecimal:
			return scanDecimalFraction(b, i)
		}
	}
	return d, 0, false
}

// minusOne is -1-n (RFC 8949 §3.1).
func minusOne(n uint64) decimal {
	if n == math.MaxUint64 { // -2^64, as scanNumber reads it
		return decimal{neg: true, full: true, cut: true, mant: 1 << 63 / 5, exp: 1}
	}
	return decimal{neg: true, mant: n + 1}
}

// scanBignum reads the byte string of a bignum (§3.4.3).
func scanBignum(b []byte, i int, negative bool) (d decimal, end int, ok bool) {
	first, n, i := cborHead(b, i)
	if i < 0 || first>>5 != majorBytes || first&31 == infoOpen || n > uint64(len(b)-i) {
		return d, 0, false
	}
	end = i + int(n)
	var v uint64
	for _, c := range b[i:end] {
		if v>>56 != 0 {
			return d, 0, false
		}
		v = v<<8 | uint64(c)
	}
	if negative {
		return minusOne(v), end, true
	}
	return decimal{mant: v}, end, true
}

// scanDecimalFraction reads the array of a decimal fraction (§3.4.4).
func scanDecimalFraction(b []byte, i int) (d decimal, end int, ok bool) {
	first, n, i := cborHead(b, i)
	if i < 0 || first != majorArray<<5|2 || n != 2 {
		return d, 0, false
	}
	first, n, i = cborHead(b, i)
	if i < 0 || first>>5 > majorNegative {
		return d, 0, false
	}
	exp := int(min(n, maxExp))
	if first>>5 == majorNegative {
		exp = -1 - exp
	}
	first, n, i = cborHead(b, i)
	if i < 0 || first>>5 > majorNegative && (first>>5 != majorTag || n == tagDecimal) {
		return d, 0, false // no float, and no decimal fraction within another
	}
	if d, end, ok = scanCBORNumber(b, first, n, i); !ok {
		return d, 0, false
	}
	if d.mant != 0 {
		d.exp += exp
	}
	return d, end, true
}

// halfFloat is a float of 16 bits (IEEE 754 binary16; RFC 8949 appendix D).
func halfFloat(h uint16) float64 {
	exp, mant := int(h>>10&31), float64(h&0x3ff)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(mant, -24)
	case 31:
		if f = math.Inf(1); mant != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(mant+1024, exp-25)
	}
	if h>>15 != 0 {
		f = -f
	}
	return f
}

// decimalOf is what a device means that sends f: of a whole number every
// digit, of a fraction the shortest decimal that is nearest to f, as it would
// write it in JSON.
func decimalOf(f float64) decimal {
	a := math.Abs(f)
	if a < 1<<64 {
		if n := uint64(a); float64(n) == a {
			return decimal{neg: f < 0, mant: n}
		}
	}
	// A decimal of at most 15 digits that is nearest to f is the only one, so
	// the shortest: any two such lie in different float64s.
	const most = 1e15
	pow := 10.0
	for exp := -1; exp >= -6 && a*pow < most; exp-- {
		if n := uint64(a*pow + 0.5); float64(n)/pow == a {
			return decimal{neg: f < 0, mant: n, exp: exp}
		}
		pow *= 10
	}
	return shortest(f)
}

// lastSecond is beyond every time that can be written (RFC 3339's year 9999).
const lastSecond = 1 << 38

// unix is the time d seconds after 1970, what is below a nanosecond cut off.
func (d decimal) unix() (time.Time, bool) {
	d.trim()
	sec, frac := d.mant, uint64(0)
	switch places := -d.exp; {
	case d.mant == 0:
	case places <= 0:
		n, ok := d.integer()
		if !ok {
			return time.Time{}, false
		}
		sec = n
	case places <= 9:
		sec, frac = d.mant/pow10u(places), d.mant%pow10u(places)*pow10u(9-places)
	case places <= 19:
		sec, frac = d.mant/pow10u(places), d.mant%pow10u(places)/pow10u(places-9)
	default:
		sec = 0
	}
	if sec > lastSecond {
		return time.Time{}, false
	}
	t := time.Unix(int64(sec), int64(frac))
	if d.neg {
		t = time.Unix(-int64(sec), -int64(frac))
	}
	return t, true
}
