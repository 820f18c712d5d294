package verify

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// line is one line of an export. Every kind of line has one spelling: members
// in a fixed order, no white space. A second spelling, such as a member
// standing twice, could show one thing to this program and another to the next.
type line struct {
	kind  lineKind
	text  string // origin's name; checkpoint's note
	key   string // origin's key
	n     uint64 // entry's or subtree's index
	hash  Hash   // stored hash of an entry or subtree
	known bool   // the hash is there
	leaf  []byte // entry's leaf
	raw   bool   // the leaf was not JSON
}

type lineKind uint8

const (
	lineHead lineKind = iota
	lineOrigin
	lineCheckpoint
	lineEntry
	lineSubtree
)

var errLine = errors.New("not a line of an export")

func parseLine(s string) (line, error) {
	switch {
	case s == `{"export":1}`:
		return line{kind: lineHead}, nil
	case strings.HasPrefix(s, `{"export":`):
		return line{}, errors.New("an export in a format that this program does not know")
	case strings.HasPrefix(s, `{"origin":`):
		return parseOriginLine(s)
	case strings.HasPrefix(s, `{"checkpoint":`):
		text, rest, ok := cutString(s[len(`{"checkpoint":`):])
		if !ok || rest != "}" {
			return line{}, errLine
		}
		return line{kind: lineCheckpoint, text: text}, nil
	case strings.HasPrefix(s, `{"index":`):
		return parseEntryLine(s[len(`{"index":`):])
	case strings.HasPrefix(s, `{"subtree":`):
		l, rest, ok := cutHashed(s[len(`{"subtree":`):])
		if !ok || rest != "}" {
			return line{}, errLine
		}
		l.kind = lineSubtree
		return l, nil
	}
	return line{}, errLine
}

func parseOriginLine(s string) (line, error) {
	name, rest, ok := cutString(s[len(`{"origin":`):])
	if !ok {
		return line{}, errLine
	}
	rest, ok = strings.CutPrefix(rest, `,"key":`)
	if !ok {
		return line{}, errLine
	}
	key, rest, ok := cutString(rest)
	if !ok || rest != "}" {
		return line{}, errLine
	}
	return line{kind: lineOrigin, text: name, key: key}, nil
}

func parseEntryLine(s string) (line, error) {
	l, rest, ok := cutHashed(s)
	if !ok {
		return line{}, errLine
	}
	l.kind = lineEntry
	if leaf, ok := strings.CutPrefix(rest, `,"leaf":`); ok {
		leaf, ok = strings.CutSuffix(leaf, "}")
		l.leaf = []byte(leaf)
		if !ok {
			return line{}, errLine
		}
		return l, nil
	}
	rest, ok = strings.CutPrefix(rest, `,"raw":`)
	if !ok {
		return line{}, errLine
	}
	b64, rest, ok := cutString(rest)
	if !ok || rest != "}" {
		return line{}, errLine
	}
	var err error
	l.raw = true
	if l.leaf, err = base64.StdEncoding.Strict().DecodeString(b64); err != nil {
		return line{}, errLine
	}
	return l, nil
}

// cutHashed reads `N,"hash":"BASE64"` off the front of s.
func cutHashed(s string) (l line, rest string, ok bool) {
	digits, rest, ok := strings.Cut(s, ",")
	if !ok {
		return l, "", false
	}
	n, err := strconv.ParseUint(digits, 10, 62)
	if err != nil || strconv.FormatUint(n, 10) != digits {
		return l, "", false
	}
	rest, ok = strings.CutPrefix(rest, `"hash":`)
	if !ok {
		return l, "", false
	}
	b64, rest, ok := cutString(rest)
	if !ok {
		return l, "", false
	}
	l.n = n
	if b64 != "" {
		if l.hash, l.known = parseHash(b64); !l.known {
			return l, "", false
		}
	}
	return l, rest, true
}

// cutString reads one JSON string in the canonical form of RFC 8785 §3.2.2.2
// off the front of s.
func cutString(s string) (value, rest string, ok bool) {
	if len(s) == 0 || s[0] != '"' {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], utf8.ValidString(b.String())
		case c < 0x20:
			return "", "", false
		case c != '\\':
			b.WriteByte(c)
		default:
			r, n := unescape(s[i:])
			if n == 0 {
				return "", "", false
			}
			b.WriteByte(r)
			i += n - 1
		}
	}
	return "", "", false
}

// unescape reads the escape at the front of s and its length; 0 when it is not
// the one that the canonical form prescribes.
func unescape(s string) (byte, int) {
	const short = `"\btnfr`
	const means = "\"\\\b\t\n\f\r"
	if len(s) < 2 {
		return 0, 0
	}
	if i := strings.IndexByte(short, s[1]); i >= 0 {
		return means[i], 2
	}
	if s[1] != 'u' || len(s) < 6 || s[2] != '0' || s[3] != '0' || strings.ToLower(s[4:6]) != s[4:6] {
		return 0, 0
	}
	v, err := strconv.ParseUint(s[4:6], 16, 8)
	if err != nil || v >= 0x20 || strings.IndexByte(means, byte(v)) >= 0 {
		return 0, 0
	}
	return byte(v), 6
}

// canonical reports whether leaf is one JSON object in the canonical form of
// RFC 8785: members sorted and each once, no white space, shortest spelling.
// Numbers are whole; member names are ASCII.
func canonical(leaf []byte) bool {
	const maxDepth = 8
	rest, ok := skipValue(string(leaf), maxDepth)
	return ok && rest == "" && len(leaf) > 0 && leaf[0] == '{'
}

func skipValue(s string, depth int) (rest string, ok bool) {
	if s == "" || depth == 0 {
		return "", false
	}
	switch s[0] {
	case '{':
		return skipObject(s[1:], depth)
	case '[':
		return skipArray(s[1:], depth)
	case '"':
		_, rest, ok = cutString(s)
		return rest, ok
	}
	for _, word := range []string{"true", "false", "null"} {
		if rest, ok := strings.CutPrefix(s, word); ok {
			return rest, true
		}
	}
	end := 0
	for end < len(s) && (s[end] == '-' || (s[end] >= '0' && s[end] <= '9')) {
		end++
	}
	n, err := strconv.ParseInt(s[:end], 10, 54)
	return s[end:], err == nil && strconv.FormatInt(n, 10) == s[:end]
}

func skipObject(s string, depth int) (rest string, ok bool) {
	if rest, ok := strings.CutPrefix(s, "}"); ok {
		return rest, true
	}
	for before := ""; ; {
		var name string
		if name, s, ok = cutString(s); !ok || name <= before || strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) {
			return "", false
		}
		before = name
		if s, ok = strings.CutPrefix(s, ":"); !ok {
			return "", false
		}
		if s, ok = skipValue(s, depth-1); !ok || s == "" {
			return "", false
		}
		switch s[0] {
		case '}':
			return s[1:], true
		case ',':
			s = s[1:]
		default:
			return "", false
		}
	}
}

func skipArray(s string, depth int) (rest string, ok bool) {
	if rest, ok := strings.CutPrefix(s, "]"); ok {
		return rest, true
	}
	for {
		if s, ok = skipValue(s, depth-1); !ok || s == "" {
			return "", false
		}
		switch s[0] {
		case ']':
			return s[1:], true
		case ',':
			s = s[1:]
		default:
			return "", false
		}
	}
}
