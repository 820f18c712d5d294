package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/api"
)

// TestReadSaysWhatIsMissing: a person hears all that keeps an answer from being
// the whole truth, as a program does.
func TestReadSaysWhatIsMissing(t *testing.T) {
	for want, d := range map[string]api.ReadDone{
		"2 readings\n":                        {Readings: 2},
		"1 reading\n":                         {Readings: 1},
		"not filed yet":                       {Readings: 2, Behind: true},
		"k86400/20261122T000000Z":             {Readings: 2, Damaged: []string{"k86400/20261122T000000Z"}},
		"3 parts changed on disk":             {Readings: 2, Unreadable: 3},
		"1 value stored that no":              {Readings: 2, Undeclared: 1},
		"not yours to see: secret":            {Readings: 2, Withheld: []string{"secret"}},
		"`hawser device show A1` says what b": {},
	} {
		var b bytes.Buffer
		printReadDone(&b, "A1", &d)
		if !strings.Contains(b.String(), want) {
			t.Errorf("%+v: %q does not say %q", d, &b, want)
		}
	}
	var b bytes.Buffer
	printReadDone(&b, "A1", &api.ReadDone{Readings: 2})
	if b.String() != "2 readings\n" {
		t.Errorf("all is well, and it says %q", &b)
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	table(&b, []string{"NAME", "WHAT"}, [][]string{{"a", "one"}, {"long-ä", "two\nlines \x1b[2J"}, {"", ""}})
	want := "NAME    WHAT\na       one\nlong-ä  two lines \\u001b[2J\n\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", &b, want)
	}
}

// TestEmptyListIsAList: programs walk what they read.
func TestEmptyListIsAList(t *testing.T) {
	for want, v := range map[string]any{"[]\n": []api.Entry(nil), "{}\n": struct{}{}} {
		var b bytes.Buffer
		if err := printJSON(&b, v); err != nil || b.String() != want {
			t.Errorf("%#v is printed as %q, %v; want %q", v, &b, err, want)
		}
	}
}

// TestHelpFits: what teaches fits the usual terminal.
func TestHelpFits(t *testing.T) {
	for _, c := range commands() {
		_, out, _ := try(t, append(strings.Fields(c.name), "--help")...)
		for l := range strings.Lines(out) {
			l = strings.TrimSuffix(l, "\n")
			if n := utf8.RuneCountInString(l); n > 80 && !strings.Contains(l, "hawser "+c.name) || strings.TrimRight(l, " ") != l {
				t.Errorf("%s --help: %d columns, or blanks at the end: %q", c.name, n, l)
			}
		}
	}
	_, out, _ := try(t)
	for l := range strings.Lines(out) {
		if n := utf8.RuneCountInString(l); n > 81 {
			t.Errorf("%d columns: %s", n, l)
		}
	}
	// A group alone is a question; an unknown member of it is a mistake. Both
	// are answered with what there is.
	for _, args := range [][]string{{"device"}, {"device", "nope"}} {
		if code, _, errs := try(t, args...); code != exitMisuse || !strings.Contains(errs, "hawser device add") {
			t.Errorf("%v: exit %d, %q", args, code, errs)
		}
	}
	if code, out, _ := try(t, "help", "device"); code != exitOK || !strings.Contains(out, "hawser device add") || strings.Contains(out, "hawser erase") {
		t.Errorf("help device: exit %d, %q", code, out)
	}
}
