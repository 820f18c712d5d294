package telemetry

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// mutator makes payloads: mostly valid ones with something odd in them.
type mutator struct {
	r      *rand.Rand
	fields []declaration.Field // of the stream
}

func (m *mutator) one(of ...string) string { return of[m.r.IntN(len(of))] }

func (m *mutator) chance(percent int) bool { return m.r.IntN(100) < percent }

// payload is one object; how odd it is, is a matter of chance.
func (m *mutator) payload() []byte {
	var members []string
	order := m.r.Perm(len(m.fields))
	for _, i := range order[:1+m.r.IntN(min(7, len(order)))] {
		f := &m.fields[i]
		members = append(members, m.name(f.Name)+m.space()+":"+m.space()+m.value(f))
	}
	if m.chance(50) {
		members = append(members, `"t":`+m.one("1795341599000", `"2026-11-22T09:59:59Z"`, "1795341599", "-5", "1e12", "1.5", "null", `"x"`, "99999999999999999999"))
	}
	if m.chance(50) {
		members = append(members, `"boot":`+m.one("1", "0", "-1", "1e3", `"1"`), `"seq":`+m.one("1", "12", "9223372036854775807", "9223372036854775808", "0.5", "{}"))
	}
	for m.chance(30) {
		members = append(members, m.name(m.one("gps", "x", "", "door", "level", "Mode", "ticks ", "tick", "tickss", "\\u0000", "ünï"))+":"+m.any(1+m.r.IntN(4)))
	}
	if m.chance(8) { // doubled, perhaps in another spelling
		f := &m.fields[m.r.IntN(len(m.fields))]
		members = append(members, m.name(f.Name)+":"+m.value(f))
	}
	m.r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	sep := ","
	if m.chance(1) {
		sep = m.one(",,", ";", " ", ",/**/", ":")
	}
	s := m.space() + "{" + strings.Join(members, sep+m.space()) + m.space()
	if m.chance(1) {
		s += m.one(",", "]", "", `"`, "\x00")
	}
	s += "}" + m.space()
	if m.chance(1) {
		s += m.one("{}", "x", ",", "\x00", "//")
	}
	b := []byte(s)
	for m.chance(6) { // a byte changed, put in or taken out
		i := m.r.IntN(len(b))
		switch m.r.IntN(3) {
		case 0:
			b[i] ^= 1 << m.r.IntN(8)
		case 1:
			b = append(b[:i], append([]byte{m.one("\"", "\\", "{", "}", "0", "-", ".", "e", "\xff", "\xc3", " ", "\x1f")[0]}, b[i:]...)...)
		case 2:
			b = append(b[:i], b[i+1:]...)
		}
	}
	return b
}

func (m *mutator) space() string {
	if m.chance(85) {
		return ""
	}
	return m.one(" ", "\n", "\t", "\r\n", "  ", " \t ")
}

// name is a name as it may be spelt.
func (m *mutator) name(s string) string {
	switch n := m.r.IntN(100); {
	case n < 4 && s != "": // another case: another name
		i := m.r.IntN(len(s))
		s = s[:i] + strings.ToUpper(s[i:i+1]) + s[i+1:]
	case n < 6:
		s = strings.ToUpper(s)
	case n < 7: // looks alike
		s = strings.NewReplacer("i", "і", "s", "ſ", "k", "\u212a").Replace(s)
	}
	return `"` + m.spell(s, 15) + `"`
}

// spell writes some of s as escapes.
func (m *mutator) spell(s string, percent int) string {
	if !m.chance(percent) || strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for _, c := range s {
		switch {
		case c > 0xffff && m.chance(50):
			c -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04X`, 0xd800+c>>10, 0xdc00+c&0x3ff)
		case c <= 0xffff && m.chance(30):
			fmt.Fprintf(&out, m.one(`\u%04x`, `\u%04X`), c)
		default:
			out.WriteRune(c)
		}
	}
	return out.String()
}

// value is a value for f: mostly a good one.
func (m *mutator) value(f *declaration.Field) string {
	if m.chance(5) {
		return m.any(3)
	}
	switch f.Type {
	case declaration.Boolean:
		return m.one("true", "false", "true", "false", "true", "false", "True", "1", "tru")
	case declaration.Enum:
		return `"` + m.spell(strings.ReplaceAll(f.Values[m.r.IntN(len(f.Values))], `"`, `\"`), 30) + m.one("", "", "", "", "", " ", "x") + `"`
	case declaration.String:
		return m.text(f.MinLength, f.MaxLength)
	case declaration.Timestamp:
		return `"` + m.one("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.123456789+02:00", "2026-02-29T10:00:00Z", "2024-02-29T23:59:59-12:00",
			"2026-11-22t10:00:00z", "2026-11-22 10:00:00Z", "0000-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2026-11-22T10:00:00", "2026-11-22T24:00:00Z", "2026-11-22T10:00:60Z", "2026-11-22T10:00:00,5Z", "") + `"`
	}
	return m.number(f)
}

// text is a string whose length lies around the bounds.
func (m *mutator) text(shortest, longest int) string {
	n := shortest + m.r.IntN(longest-shortest+1)
	if m.chance(10) {
		n = longest + m.r.IntN(2)
	}
	var out strings.Builder
	for range n {
		out.WriteString(m.one("a", "b", " ", "Z", "0", "é", "ß", "語", "😀", "\u2028", "\u007f", "<"))
	}
	s := m.spell(out.String(), 30)
	if m.chance(10) {
		s = m.one(`\n`, `\"`, `\\`, `\/`, `\u0000`, `\ud83d\ude00`) + s
	}
	if m.chance(2) {
		s += m.one(`\ud800`, `\udc00\ud800`, `\u12`, `\x`, "\x01", "\xff", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", `\`)
	}
	return `"` + s + `"`
}

// number lies somewhere in f's range, at its edges, or a little or far outside,
// in one of the ways to write it.
func (m *mutator) number(f *declaration.Field) string {
	v := f.Min + m.r.Float64()*(f.Max-f.Min)
	if m.chance(25) {
		v = []float64{f.Min, f.Max}[m.r.IntN(2)]
		if m.chance(30) {
			v += []float64{-1, 1, -1e-9, 1e-9, 0.05, -0.05}[m.r.IntN(6)]
		}
	}
	var s string
	switch m.r.IntN(8) {
	case 0:
		s = strconv.FormatFloat(v, 'e', m.r.IntN(20), 64)
	case 1:
		s = strconv.FormatFloat(v, 'f', -1, 64)
	case 2:
		s = strconv.FormatFloat(v, 'g', -1, 64)
	case 3:
		s = strconv.FormatFloat(v, 'f', m.r.IntN(30), 64)
	default:
		s = strconv.FormatFloat(v, 'f', m.r.IntN(3), 64)
	}
	if f.Type == declaration.Integer && m.chance(80) {
		s = strconv.FormatFloat(v, 'f', 0, 64)
		if m.chance(30) && v > -9e18 && v < 9e18 {
			s = strconv.FormatInt(int64(v)+m.r.Int64N(3)-1, 10) // digits that no float64 holds
		}
	}
	if m.chance(6) {
		s = m.one("-0", "-0.0", "0", "0e5", "1e400", "-1e400", "1e-400", "1e999999999", "1E+2", "10e1", "00", "-", "1.", ".5", "+1", "0x1", "NaN", "Infinity",
			"-9223372036854775808", "-9223372036854775809", "4611686018427387904", "4611686018427387905", "18446744073709551616",
			"0.04999999999999999999999999999", "0.05", "0.15", "0.25000000000000000000000000001", "20.049999999999999999999", "20.05", "30.04", "30.03999999999999999", "85.000000000000000000001",
			"12345678901234567890.5", "0.1000000000000000055511151231257827", "300.00000000000000000000000000000000000000000000000001", "1"+strings.Repeat("0", 30)+"e-30", "0."+strings.Repeat("0", 30)+"5e30", "5"+strings.Repeat("0", 140)+"e-140")
	}
	return s
}

// any is any JSON value at most so deep, for where it is dropped or bad.
func (m *mutator) any(depth int) string {
	if depth > 0 && m.chance(30) {
		n := m.r.IntN(3)
		var of []string
		object := m.chance(50)
		for range n {
			v := m.any(depth - 1)
			if object {
				v = m.name(m.one("a", "mode", "x")) + ":" + v
			}
			of = append(of, v)
		}
		if object {
			return "{" + strings.Join(of, ",") + "}"
		}
		return "[" + strings.Join(of, ",") + "]"
	}
	if m.chance(1) {
		n := 5 + m.r.IntN(5)
		return strings.Repeat("[", n) + strings.Repeat("]", n)
	}
	return m.one("null", "true", "1", "-2.5e3", `"x"`, `""`, `"\u00e9"`, `"off"`, "[]", "{}", "21.5", "1e5", "nul", `"\ud800"`)
}
