package telemetry

import (
	"math"
	"math/bits"
	"strconv"
)

// decimal is a JSON number as it was written: ± mant × 10^exp, exactly, unless
// cut. Numbers are rounded and compared in decimal, so that 21.5 stays 21.5
// and an integer beyond 2^53 keeps its last digit.
type decimal struct {
	neg  bool
	full bool // mant holds no more digits
	cut  bool // digits other than zero were dropped, mant is rounded down
	mant uint64
	exp  int
}

// maxExp bounds exponents; every float64 and every declared range lies far
// inside it.
const maxExp = 10_000

// scanNumber reads the number that begins at b[i] by the grammar of RFC 8259
// §6. It returns where it ends, or -1 if there is none.
func scanNumber(b []byte, i int) (d decimal, end int) {
	if i < len(b) && b[i] == '-' {
		d.neg = true
		i++
	}
	first := i
	for ; i < len(b) && isDigit(b[i]); i++ {
		d.digit(b[i])
	}
	if i == first || b[first] == '0' && i > first+1 {
		return d, -1 // no digit, or a leading zero
	}
	if i < len(b) && b[i] == '.' {
		first = i + 1
		for i++; i < len(b) && isDigit(b[i]); i++ {
			d.digit(b[i])
			d.exp-- // one place lower; a digit that was dropped has raised it
		}
		if i == first {
			return d, -1
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		minus := i < len(b) && b[i] == '-'
		if i < len(b) && (b[i] == '-' || b[i] == '+') {
			i++
		}
		first = i
		e := 0
		for ; i < len(b) && isDigit(b[i]); i++ {
			e = min(e*10+int(b[i]-'0'), maxExp)
		}
		if i == first {
			return d, -1
		}
		if minus {
			e = -e
		}
		d.exp += e
	}
	if d.mant == 0 {
		d.neg, d.exp = false, 0 // -0 is 0
	}
	return d, i
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// digit takes in one more digit before the point.
func (d *decimal) digit(c byte) {
	n := uint64(c - '0')
	if d.mant < 1<<60 && !d.full { // ten times it and nine more still fit
		d.mant = d.mant*10 + n
		return
	}
	hi, lo := bits.Mul64(d.mant, 10)
	sum, carry := bits.Add64(lo, n, 0)
	if d.full || hi+carry != 0 {
		d.full = true
		d.cut = d.cut || n != 0
		d.exp++
		return
	}
	d.mant = sum
}

// trim takes trailing zeros off mant.
func (d *decimal) trim() {
	for d.mant != 0 && d.mant%10 == 0 {
		d.mant /= 10
		d.exp++
	}
}

// pow10u is 10^n for 0 ≤ n ≤ 19.
func pow10u(n int) uint64 {
	p := uint64(1)
	for ; n > 0; n-- {
		p *= 10
	}
	return p
}

// integer gives d's magnitude if it is a whole number that fits.
func (d decimal) integer() (uint64, bool) {
	if d.exp != 0 {
		d.trim()
	}
	switch {
	case d.cut:
		return 0, false // a fraction, or more digits than fit
	case d.mant == 0:
		return 0, true
	case d.exp < 0 || d.exp > 19:
		return 0, false
	}
	hi, lo := bits.Mul64(d.mant, pow10u(d.exp))
	return lo, hi == 0
}

// plus is d + o: exactly if 64 bits hold it, else by the nearest float64s and
// cut.
func (d decimal) plus(o decimal) decimal {
	switch {
	case o.mant == 0:
		return d
	case d.mant == 0:
		return o
	}
	exp := min(d.exp, o.exp)
	a, okA := d.at(exp)
	b, okB := o.at(exp)
	if okA && okB {
		sum := decimal{neg: d.neg, mant: a + b, exp: exp}
		switch {
		case d.neg == o.neg:
			okA = sum.mant >= a // no carry
		case a >= b:
			sum.mant = a - b
		default:
			sum.neg, sum.mant = o.neg, b-a
		}
		if sum.mant == 0 {
			sum = decimal{}
		}
		if okA {
			return sum
		}
	}
	f, okF := d.float(nil)
	g, okG := o.float(nil)
	if f += g; !okF || !okG || math.IsInf(f, 0) {
		return decimal{mant: 1, exp: maxExp, cut: true} // larger than any number
	}
	s := shortest(f)
	s.cut = true
	return s
}

// at is d's mantissa for that exponent, which is not above d's.
func (d decimal) at(exp int) (uint64, bool) {
	if d.cut || d.exp-exp > 19 {
		return 0, false
	}
	hi, lo := bits.Mul64(d.mant, pow10u(d.exp-exp))
	return lo, hi == 0
}

// maxExact is the largest power of ten that a float64 holds exactly.
const maxExact = 22

// float is the float64 nearest to d; raw is the text that it came from, for
// the numbers that need more care, nil if d is all there is. It is false when d
// is too large for one.
func (d decimal) float(raw []byte) (float64, bool) {
	if d.mant < 1<<53 && !d.cut && d.exp >= -maxExact && d.exp <= maxExact {
		f := float64(d.mant) // exact, and so is the power: one rounding
		if d.exp < 0 {
			f /= pow10f(-d.exp)
		} else if d.exp > 0 {
			f *= pow10f(d.exp)
		}
		if d.neg {
			f = -f
		}
		return f, true
	}
	var buf [40]byte
	if raw == nil {
		raw = buf[:0]
		if d.neg {
			raw = append(raw, '-')
		}
		raw = append(strconv.AppendUint(raw, d.mant, 10), 'e')
		raw = strconv.AppendInt(raw, int64(d.exp), 10)
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	return f, err == nil
}

func pow10f(n int) float64 {
	if n <= 19 {
		return float64(pow10u(n)) // 10^19 = 5^19 · 2^19, and 5^22 < 2^53
	}
	return 1e19 * float64(pow10u(n-19))
}

// grid is a precision: step × 10^exp.
type grid struct {
	step uint64
	exp  int
}

// newGrid reads a precision as the decimal that the declaration wrote.
func newGrid(precision float64) (grid, bool) {
	if !(precision > 0) || math.IsInf(precision, 0) {
		return grid{}, false
	}
	d, end := scanNumber(strconv.AppendFloat(nil, precision, 'e', -1, 64), 0)
	d.trim()
	return grid{d.mant, d.exp}, end > 0
}

// steps is how many steps of the grid are nearest to d's magnitude; half a
// step counts up, away from zero. It is false when they are too many to count.
func (g grid) steps(d decimal) (uint64, bool) {
	s := d.exp - g.exp
	if s >= 0 {
		if d.mant == 0 {
			return 0, true
		}
		if d.cut || s > 19 {
			return 0, false
		}
		hi, n := bits.Mul64(d.mant, pow10u(s))
		if hi != 0 {
			return 0, false
		}
		return divRound(n, 0, g.step)
	}
	if s < -19 {
		// mant < 2^64 < 10^20 / 5: below a fifth of a step.
		return 0, true
	}
	// d.cut does no harm here: the step is then a multiple of ten, and half
	// of it is whole.
	hi, lo := bits.Mul64(g.step, pow10u(-s))
	return divRound(d.mant, hi, lo)
}

// divRound is n divided by the number hi·2^64+lo, rounded, half up.
func divRound(n, hi, lo uint64) (uint64, bool) {
	if hi > 1 {
		return 0, true
	}
	if hi == 1 { // the quotient is below 1: is twice n at least the divisor?
		if n>>63 == 1 && n<<1 >= lo {
			return 1, true
		}
		return 0, true
	}
	q, r := n/lo, n%lo
	if r >= lo-r {
		q++
	}
	return q, true
}

// at is the decimal of n steps.
func (g grid) at(n uint64, neg bool) (decimal, bool) {
	hi, mant := bits.Mul64(n, g.step)
	d := decimal{neg: neg && mant != 0, mant: mant, exp: g.exp}
	d.trim()
	return d, hi == 0
}

// appendDecimal writes d in its one canonical form: no exponent from 10^-6 to
// below 10^21 and no zeros that say nothing (as ECMAScript does, RFC 8785
// §3.2.2.3). It never goes through a binary fraction.
func appendDecimal(dst []byte, d decimal) []byte {
	if d.mant == 0 {
		return append(dst, '0')
	}
	d.trim()
	if d.neg {
		dst = append(dst, '-')
	}
	var buf [20]byte
	digits := strconv.AppendUint(buf[:0], d.mant, 10)
	point := len(digits) + d.exp // digits before the point
	switch {
	case d.exp >= 0 && point <= 21:
		dst = append(dst, digits...)
		for range d.exp {
			dst = append(dst, '0')
		}
	case point > 0 && point <= 21:
		dst = append(dst, digits[:point]...)
		dst = append(dst, '.')
		dst = append(dst, digits[point:]...)
	case point <= 0 && point > -6:
		dst = append(dst, '0', '.')
		for range -point {
			dst = append(dst, '0')
		}
		dst = append(dst, digits...)
	default:
		dst = append(dst, digits[0])
		if len(digits) > 1 {
			dst = append(dst, '.')
			dst = append(dst, digits[1:]...)
		}
		dst = append(dst, 'e')
		if point > 0 {
			dst = append(dst, '+')
		}
		dst = strconv.AppendInt(dst, int64(point-1), 10)
	}
	return dst
}

// shortest is the decimal with the fewest digits that is nearest to f and to
// no other float64.
func shortest(f float64) decimal {
	var buf [32]byte
	d, _ := scanNumber(strconv.AppendFloat(buf[:0], f, 'e', -1, 64), 0)
	return d
}
