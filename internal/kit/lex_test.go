package kit

import (
	"fmt"
	"strings"
	"unicode"
)

// cTokens are the tokens of C that are no comments: every string is "s", every
// identifier is "i" and every number "n", so that only the shape is left. Lines
// joined by a backslash and trigraphs are handled as compilers do, before
// anything else (C11 §5.1.1.2).
func cTokens(src []byte) ([]string, error) {
	s := string(src)
	for _, x := range s {
		if x != '\n' && x != '\t' && !unicode.IsPrint(x) { // nothing hides, not even in a comment
			return nil, fmt.Errorf("%q stands in C", x)
		}
	}
	for tri, c := range map[string]string{"??=": "#", "??/": "\\", "??'": "^", "??(": "[", "??)": "]", "??!": "|", "??<": "{", "??>": "}", "??-": "~"} {
		s = strings.ReplaceAll(s, tri, c)
	}
	s = strings.ReplaceAll(s, "\\\n", "")
	var out []string
	for len(s) > 0 {
		switch {
		case strings.HasPrefix(s, "/*"):
			end := strings.Index(s[2:], "*/")
			if end < 0 {
				return nil, fmt.Errorf("a comment without an end")
			}
			if strings.Contains(s[2:2+end], "/*") {
				return nil, fmt.Errorf("a comment in a comment")
			}
			s = s[end+4:]
		case strings.HasPrefix(s, "//"):
			end := strings.IndexByte(s, '\n')
			s = s[max(end, 2):]
		default:
			tok, rest, err := token(s)
			if err != nil {
				return nil, err
			}
			if tok != "" {
				out = append(out, tok)
			}
			s = rest
		}
	}
	return out, nil
}

// pyTokens is the same for Python.
func pyTokens(src []byte) ([]string, error) {
	s := string(src)
	var out []string
	for len(s) > 0 {
		switch {
		case s[0] == '#':
			end := strings.IndexAny(s, "\r\n")
			if end < 0 {
				end = len(s)
			}
			s = s[end:]
		case strings.HasPrefix(s, `"""`):
			end := strings.Index(s[3:], `"""`)
			if end < 0 {
				return nil, fmt.Errorf("a long string without an end")
			}
			out, s = append(out, "s"), s[end+6:]
		default:
			tok, rest, err := token(s)
			if err != nil {
				return nil, err
			}
			if tok != "" {
				out = append(out, tok)
			}
			s = rest
		}
	}
	return out, nil
}

func token(s string) (tok, rest string, err error) {
	letter := func(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	switch c := s[0]; {
	case c == ' ' || c == '\t':
		return "", s[1:], nil
	case c == '\n':
		return "\n", s[1:], nil
	case c == '"' || c == '\'':
		for i := 1; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
			case '\n', '\r':
				return "", "", fmt.Errorf("a string does not end on its line: %.60q", s)
			case c:
				return "s", s[i+1:], nil
			}
		}
		return "", "", fmt.Errorf("a string without an end")
	case letter(c):
		i := 1
		for i < len(s) && (letter(s[i]) || digit(s[i])) {
			i++
		}
		return "i", s[i:], nil
	case digit(c):
		i := 1
		for i < len(s) && (letter(s[i]) || digit(s[i]) || s[i] == '.') {
			i++
		}
		return "n", s[i:], nil
	case c < ' ' || c >= 0x7f:
		return "", "", fmt.Errorf("%q stands outside of strings and comments: %.60q", c, s)
	default:
		return s[:1], s[1:], nil
	}
}
