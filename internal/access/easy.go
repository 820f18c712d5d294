package access

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// easyList is the built-in list of passwords of 12 characters and more that
// are tried first. Published lists hold hardly any so long, so this one is
// made: words, names, phrases and runs over the keyboard, with the years,
// digits and signs that people add when they are asked for something longer.
// It holds a few million of them, in any case and in any signs for letters;
// only what they begin with is kept. The estimate is for what it does not know.
type easyList struct {
	bases    map[string]struct{} // folded
	endings  []string            // folded, longest first
	flourish []string
}

func newEasyList() *easyList {
	l := &easyList{bases: map[string]struct{}{}, endings: folded(endings()), flourish: folded(flourishes())}
	for b := range easyBases {
		l.bases[fold(b)] = struct{}{}
	}
	return l
}

func folded(all []string) []string {
	var out []string
	for _, s := range all {
		if f := fold(s); !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// fold is the same for all writings of one password: case, the blanks between
// words, and signs that stand for letters.
func fold(p string) string {
	signs := leet()
	var out strings.Builder
	for _, r := range p {
		if l, ok := signs[r]; ok {
			r = l
		}
		switch r = unicode.ToLower(r); r {
		case ' ', '-', '_', '.':
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}

// contains reports whether p is in the list.
func (l *easyList) contains(p string) bool {
	if periodic(p) {
		return true
	}
	f := fold(p)
	for _, last := range l.flourish {
		rest, ok := strings.CutSuffix(f, last)
		if !ok {
			continue
		}
		for _, e := range l.endings {
			base, ok := strings.CutSuffix(rest, e)
			if !ok {
				continue
			}
			if _, ok := l.bases[base]; ok {
				return true
			}
		}
	}
	return false
}

// periodic is up to four signs, three times or more.
func periodic(p string) bool {
	r := []rune(p)
	for n := 1; n <= 4 && 3*n <= len(r); n++ {
		same := true
		for i := n; i < len(r) && same; i++ {
			same = r[i] == r[i-n]
		}
		if same {
			return true
		}
	}
	return false
}

// endings are what people put behind a word.
func endings() []string {
	out := []string{
		"", "1", "12", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789", "1234567890", "0123456789", "321", "4321", "54321", "654321", "987654321",
		"11", "111", "1111", "22", "222", "2222", "00", "000", "0000", "007", "69", "77", "777", "7777", "88", "888", "8888", "99", "999", "9999", "123123", "111111", "112233", "101010",
		"abc", "abcd", "abc123", "qwe", "qwerty", "qwerty123", "asd", "asdf", "xyz", "password", "password1", "password123", "pass", "admin", "test", "forever", "rocks", "rules",
	}
	for y := 1950; y <= 2035; y++ {
		out = append(out, strconv.Itoa(y))
	}
	for y := range 100 {
		out = append(out, "0"[:1-min(1, y/10)]+strconv.Itoa(y))
	}
	return out
}

// flourishes end a password after its digits.
func flourishes() []string {
	return []string{"", "!", "!!", "!!!", "!!!!", ".", "?", "#", "*", "@", "$", "!@", "!@#", "!@#$", "!1", "a", "x", "?!", "**", "##", "1!"}
}

// easyBases is what easy passwords begin with.
func easyBases(yield func(string) bool) {
	words := commonWords()
	for i, w := range words {
		if !yield(w) || !yield(w+w) || !yield(w+w+w) {
			return
		}
		if i >= easyPairs {
			continue
		}
		for _, b := range words[:easyPairs] { // two of the very first
			if !yield(w + b) {
				return
			}
		}
	}
	for _, p := range phrases() {
		if !yield(p) || !yield(p+p) {
			return
		}
	}
	// Runs over the keyboard, of every length from every place, once or more.
	for _, row := range keyboardRuns() {
		r := []rune(row + row)
		for i := range len(r) / 2 {
			for n := 4; n <= 30 && i+n <= len(r); n++ {
				s := string(r[i : i+n])
				if !yield(s) || n <= 6 && (!yield(s+s) || !yield(s+s+s)) {
					return
				}
			}
		}
	}
}
