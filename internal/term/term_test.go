package term

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text          string
		width, indent int
		want          string
	}{
		{"short", 80, 4, "short"},
		{"", 80, 4, ""},
		{"one two three", 7, 2, "one two|  three"},
		{"    one two", 9, 4, "    one|    two"},
		{`{"a":1,"b":2}`, 8, 0, `{"a":1,|"b":2}`},
		{`12:00 {"a":1,"b":2}`, 15, 2, `12:00 {"a":1,|  "b":2}`},
		{"abcdefghij", 4, 0, "abcd|efgh|ij"},
		{"äöü äöü", 3, 0, "äöü|äöü"},
		{"a bb", 4, 30, "a bb"},
		{"aaa bb", 4, 30, "aaa|  bb"}, // an indent is at most half a line
	} {
		if got := strings.Join(Wrap(c.text, c.width, c.indent), "|"); got != c.want {
			t.Errorf("%q in %d columns: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

// FuzzWrap: nothing is lost and no line is too long.
func FuzzWrap(f *testing.F) {
	f.Add("one two, three", 10, 2)
	f.Add(`{"room":"canary","t":1}`, 8, 6)
	f.Fuzz(func(t *testing.T, text string, width, indent int) {
		if width < 1 || width > 200 || indent < 0 || indent > 200 || len(text) > 10_000 || !utf8.ValidString(text) {
			t.Skip()
		}
		lines := Wrap(text, width, indent)
		for _, l := range lines {
			if utf8.RuneCountInString(l) > width {
				t.Errorf("%q has more than %d columns", l, width)
			}
		}
		bare := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if bare(strings.Join(lines, "")) != bare(text) {
			t.Errorf("%q became %q", text, lines)
		}
	})
}

func TestSafe(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ä €":      "plain, ä €",
		"\x1b[2Jgone":     `\u001b[2Jgone`,
		"c1 \u009b31m":    `c1 \u009b31m`,
		"right \u202eto":  `right \u202eto`,
		"two\nlines\tand": "two lines and",
		"bad \xff":        "bad \ufffd",
		"zero\u200bwidth": `zero\u200bwidth`,
		"bell\a del\x7f":  `bell\u0007 del\u007f`,
		"nbsp\u00a0here":  `nbsp\u00a0here`,
	} {
		if got := Safe(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestWidthOfNoTerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if a, b := Width(&bytes.Buffer{}), Width(f); a != 0 || b != 0 {
		t.Errorf("a buffer has %d columns, a file %d; want 0", a, b)
	}
}
