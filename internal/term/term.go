// Package term lays text out for a person at a terminal: how wide it is, where
// lines break, and which signs are safe to send to it. It holds no words of the
// product and knows nothing of what it prints.
package term

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Usual is how many columns a line may have where no terminal says its own.
const Usual = 80

// Bounds of the width that a terminal is believed: narrower ones break lines
// themselves, and wider lines are hard to read.
const (
	narrowest = 40
	widest    = 160
)

// Width is how many columns the terminal behind w has, or 0 if w is none: a
// pipe or a file takes lines of any length, and whoever searches them wants
// them whole.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	st, err := f.Stat()
	if err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return Usual
	}
	return min(max(int(size.Col), narrowest), widest)
}

// Wrap breaks text into lines of at most width columns, at spaces and behind
// commas; a word that is longer than a line is broken where it must be. Lines
// after the first begin with indent spaces.
func Wrap(text string, width, indent int) []string {
	indent = min(indent, width/2)
	var lines []string
	line, used := "", 0
	next := func() {
		lines = append(lines, line)
		line = strings.Repeat(" ", indent)
		used = indent
	}
	for _, word := range strings.SplitAfter(text, " ") {
		n := utf8.RuneCountInString(strings.TrimRight(word, " "))
		for used+n > width {
			cut := string([]rune(word)[:max(width-used, 0)])
			if comma := strings.LastIndex(cut, ","); comma >= 0 {
				cut = cut[:comma+1]
			} else if used > indent {
				cut = "" // all of it fits better on the next line
			}
			line += cut
			word = word[len(cut):]
			n -= utf8.RuneCountInString(cut)
			next()
		}
		line += word
		used += utf8.RuneCountInString(word)
	}
	lines = append(lines, line)
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// Safe is text on one line, without signs that a terminal obeys or that make it
// show something else than it says: control characters, those of the upper half
// (U+0080 to U+009F, which some terminals obey as well) and marks that turn the
// direction of writing. They stand there as \u escapes, a line end as a space.
func Safe(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	if strings.IndexFunc(text, unsafe) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case unsafe(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unsafe(r rune) bool { return !unicode.IsPrint(r) }
