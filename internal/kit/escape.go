package kit

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cString is text as a string literal of C. What is not printable ASCII, and
// every '?' (trigraphs), is written as an octal escape of three digits, which
// swallows nothing that follows.
func cString(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c >= 0x7f || c == '?':
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// pyString is text as a string literal of Python.
func pyString(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(text, "\uFFFD") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r >= 0x7f:
			fmt.Fprintf(&b, "\\U%08x", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// line is text on one line that shows as what it is: no control characters,
// nothing that turns the direction of writing, no other line ends.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

// cComment is text inside a comment of C, of either kind.
func cComment(text string) string {
	text = line(text)
	for _, pair := range []string{"*/", "/*", "??"} {
		for strings.Contains(text, pair) {
			text = strings.ReplaceAll(text, pair, pair[:1]+" "+pair[1:])
		}
	}
	// A backslash at the end would continue a comment on the next line, and a
	// star or slash at either end would meet what stands beside the text.
	text = strings.TrimRight(text, "\\ ?")
	if text != "" && (text[0] == '/' || text[0] == '*') {
		text = " " + text
	}
	if strings.HasSuffix(text, "*") || strings.HasSuffix(text, "/") {
		text += " "
	}
	return text
}

// pyComment is text after the # of a comment of Python.
func pyComment(text string) string { return line(text) }

// markdown is text in a line or a table's cell of Markdown.
func markdown(text string) string {
	var b strings.Builder
	for _, r := range line(text) {
		if r < utf8.RuneSelf && strings.ContainsRune("\\`*_{}[]<>()#+-!|~&$", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// markdownCode is text inside code of Markdown, within backticks or a fence.
func markdownCode(text string) string {
	return strings.NewReplacer("`", "'", "|", "/").Replace(line(text))
}

// namer makes identifiers from names: valid in C and in Python, of bounded
// length, and each only once.
type namer struct {
	taken map[string]bool
}

func newNamer(reserved ...string) *namer {
	n := &namer{taken: map[string]bool{}}
	for _, r := range reserved {
		n.taken[r] = true
	}
	return n
}

// maxIdentifier is the most characters of an identifier before its number.
const maxIdentifier = 40

// name is the identifier for a name. The same name gets another one each time.
func (n *namer) name(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A' // macros are written in capitals
		}
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			c = '_'
		}
		if b.Len() < maxIdentifier {
			b.WriteByte(c)
		}
	}
	id := strings.Trim(b.String(), "_") // a leading one is the compiler's
	if id == "" || id[0] >= '0' && id[0] <= '9' {
		id = "x" + id
	}
	for k, try := 2, id; ; k++ {
		if !n.taken[try] && !slices.Contains(words(), try) {
			n.taken[try] = true
			return try
		}
		try = fmt.Sprintf("%s_%d", id, k)
	}
}

// words are what C, C++ (an Arduino sketch is that), Python and usual headers
// keep for themselves, in small letters.
func words() []string {
	return strings.Fields(`
		alignas alignof and asm auto bool break byte case catch char class compl const constexpr continue decltype default delete do
		double else enum errno explicit export extern false far final float for friend goto if inline int interrupt linux long
		mutable namespace near new noexcept not nullptr operator or override private protected public register restrict return
		short signed sizeof static struct switch template this thread_local throw true try typedef typename typeof union
		unix unsigned using virtual void volatile wchar_t while xor assert complex stderr stdin stdout yield min max abs round
		as async await def del elif except finally from global import in is lambda none nonlocal pass raise self with match type
		print json sys time os ssl`)
}
