package telemetry

import (
	"unicode/utf16"
	"unicode/utf8"
)

// The scanner of payloads. It takes exactly what RFC 8259 allows and, of that,
// only what every parser reads alike (I-JSON, RFC 7493 §2.1): clean UTF-8 and
// no half of a surrogate pair. It never backs up, never copies what it skips
// and never goes deeper than maxDepth.

// maxDepth is how many objects and arrays may be open at once, the payload's
// own object among them.
const maxDepth = 8

// skipSpace is the index of the first byte at or after i that is not white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// text is what a string in the payload looks like.
type text struct {
	raw     []byte // between the quotes; of CBOR, what comes after the length
	escaped bool   // raw has JSON's escapes: unescape it before comparing
	chunked bool   // raw is the chunks of a CBOR string of unknown length
	ascii   bool   // raw is ASCII; of CBOR that is not looked at
}

// append appends what s says, to dst.
func (s text) append(dst []byte) []byte {
	switch {
	case s.escaped:
		return unescape(dst, s.raw)
	case s.chunked:
		return joinChunks(dst, s.raw)
	}
	return append(dst, s.raw...)
}

// plain is what s says, good until scratch is used again.
func (j *Judged) plain(s text) []byte {
	if !s.escaped && !s.chunked {
		return s.raw
	}
	j.scratch = s.append(j.scratch[:0])
	return j.scratch
}

// scanString reads the string whose opening quote is b[i]; end is after its
// closing quote, or -1 when it is no string.
func scanString(b []byte, i int) (s text, end int) {
	start := i + 1
	s.ascii = true
	for i = start; i < len(b); {
		c := b[i]
		switch {
		case c == '"':
			s.raw = b[start:i]
			return s, i + 1
		case c < ' ':
			return s, -1 // RFC 8259 §7: control characters must be escaped
		case c == '\\':
			s.escaped = true
			n := escapeLen(b[i:])
			if n == 0 {
				return s, -1
			}
			i += n
		case c < utf8.RuneSelf:
			i++
		default:
			s.ascii = false
			_, n := utf8.DecodeRune(b[i:])
			if n == 1 {
				return s, -1 // not UTF-8 (RFC 8259 §8.1)
			}
			i += n
		}
	}
	return s, -1
}

// escapeLen is the length of the escape that b begins with, a whole surrogate
// pair if it is one; 0 when it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		r, ok := hex4(b)
		if !ok {
			return 0
		}
		if !utf16.IsSurrogate(r) {
			return 6
		}
		if low, ok := hex4(b[6:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
			return 12
		}
	}
	return 0
}

// hex4 is the value of the \uXXXX that b begins with.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case isDigit(c):
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape appends what raw says; scanString has found raw to be well formed.
func unescape(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		switch c = raw[i+1]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(raw[i:])
			if utf16.IsSurrogate(r) {
				low, _ := hex4(raw[i+6:])
				r = utf16.DecodeRune(r, low)
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
			i += 6
			continue
		}
		dst = append(dst, c)
		i += 2
	}
	return dst
}

// appendQuoted writes s, which is clean UTF-8, as a JSON string with no more
// escapes than there must be (RFC 8785 §3.2.2.2).
func appendQuoted(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i, c := range s {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// literal is the end of word if b has it at i, else -1.
func literal(b []byte, i int, word string) int {
	if len(b)-i >= len(word) && string(b[i:i+len(word)]) == word {
		return i + len(word)
	}
	return -1
}

// skipValue is the end of the value that begins at b[i], whatever it is; depth
// is how many objects and arrays are open around it. Its syntax is checked.
func skipValue(b []byte, i, depth int) (int, Reason) {
	if i >= len(b) {
		return 0, ReasonNotJSON
	}
	end := -1
	switch c := b[i]; c {
	case '"':
		_, end = scanString(b, i)
	case 't':
		end = literal(b, i, "true")
	case 'f':
		end = literal(b, i, "false")
	case 'n':
		end = literal(b, i, "null")
	case '{', '[':
		if depth >= maxDepth {
			return 0, ReasonTooDeep
		}
		return skipNested(b, i, depth+1)
	default:
		_, end = scanNumber(b, i)
	}
	if end < 0 {
		return 0, ReasonNotJSON
	}
	return end, ""
}

// skipNested is the end of the object or array that begins at b[i].
func skipNested(b []byte, i, depth int) (int, Reason) {
	closing := b[i] + 2 // '{' to '}' and '[' to ']' in ASCII
	object := closing == '}'
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == closing {
		return i + 1, ""
	}
	for {
		if object {
			if i >= len(b) || b[i] != '"' {
				return 0, ReasonNotJSON
			}
			if _, i = scanString(b, i); i < 0 {
				return 0, ReasonNotJSON
			}
			if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
				return 0, ReasonNotJSON
			}
			i = skipSpace(b, i+1)
		}
		end, why := skipValue(b, i, depth)
		if why != "" {
			return 0, why
		}
		i = skipSpace(b, end)
		if i >= len(b) {
			return 0, ReasonNotJSON
		}
		switch b[i] {
		case ',':
			i = skipSpace(b, i+1)
		case closing:
			return i + 1, ""
		default:
			return 0, ReasonNotJSON
		}
	}
}
