package declaration

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
)

// maxFaults bounds the faults reported of one file. A file with more has one
// cause, and its first ones show it.
const maxFaults = 200

// Fault is one thing wrong with a declaration: where, which rule, what, and
// what to write instead.
type Fault struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // from 1
	Col     int    `json:"col"`  // from 1, in characters
	Rule    string `json:"rule"` // id of a Rule
	Message string `json:"message"`
	Fix     string `json:"fix"`

	excerpt string // the source line, cut around the place
	caret   int    // characters of excerpt before the place
	form    bool   // a fault of form, which the JSON Schema finds too
}

// String is the fault on one line: `file:line:col: rule: message; fix`.
func (f Fault) String() string {
	return fmt.Sprintf("%s:%d:%d: %s: %s; %s", f.File, f.Line, f.Col, f.Rule, f.Message, f.Fix)
}

// Faults is all that is wrong with a declaration, by place. It is the error of
// Parse, and a core.Invalid error with the reason "declaration-faults".
type Faults []Fault

// Error is the first fault, and how many more there are.
func (f Faults) Error() string {
	switch len(f) {
	case 0:
		return "declaration without faults"
	case 1:
		return f[0].String()
	default:
		return fmt.Sprintf("%s (and %d more)", f[0], len(f)-1)
	}
}

// Unwrap gives the faults as the one error that strangers may read.
func (f Faults) Unwrap() error {
	if len(f) == 0 {
		return nil
	}
	return core.E(core.Invalid, "declaration-faults", f.Error(), f[0].Fix)
}

// Render writes every fault with its source line and a caret under the place.
func (f Faults) Render(w io.Writer) error {
	for _, x := range f {
		if _, err := fmt.Fprintln(w, x); err != nil {
			return err
		}
		if x.excerpt == "" {
			continue
		}
		margin := fmt.Sprintf("%5d | ", x.Line)
		if _, err := fmt.Fprintf(w, "%s%s\n%s| %s^\n", margin, x.excerpt, strings.Repeat(" ", len(margin)-2), strings.Repeat(" ", x.caret)); err != nil {
			return err
		}
	}
	return nil
}

// faults collects while a file is checked.
type faults struct {
	file  string
	lines []string
	list  Faults
	form  bool // the check of form is running
	over  int  // faults beyond maxFaults
}

// at is a place in the file, from 1.
type at struct{ line, col int }

func (c *faults) add(p at, rule, message, fix string) {
	if len(c.list) >= maxFaults {
		c.over++
		return
	}
	f := Fault{File: c.file, Line: max(p.line, 1), Col: max(p.col, 1), Rule: rule, Message: message, Fix: fix, form: c.form}
	if f.Line <= len(c.lines) {
		f.excerpt, f.caret = excerpt(c.lines[f.Line-1], f.Col)
	}
	c.list = append(c.list, f)
}

// result is the faults in the order of the file, or nil.
func (c *faults) result() error {
	if len(c.list) == 0 {
		return nil
	}
	slices.SortStableFunc(c.list, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Rule, b.Rule))
	})
	if c.over > 0 {
		last := c.list[len(c.list)-1]
		c.list = append(c.list, Fault{
			File: c.file, Line: last.Line, Col: last.Col, Rule: ruleTooMany, form: true,
			Message: fmt.Sprintf("%d more faults are not shown", c.over), Fix: "mend these first",
		})
	}
	return c.list
}

// excerpt is the line around column col, at most 100 characters wide and safe
// to print on a terminal, and how many characters of it lie before col.
func excerpt(line string, col int) (string, int) {
	const wide, before = 100, 60
	var b strings.Builder
	start := max(0, col-1-before)
	n, caret := 0, 0
	for _, r := range strings.TrimRight(line, " \t\r") {
		n++
		if n <= start {
			continue
		}
		if n > start+wide {
			break
		}
		if r == '\t' {
			r = ' '
		} else if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '·'
		}
		b.WriteRune(r)
	}
	caret = col - 1 - start
	return b.String(), caret
}

// quote is text as a message shows it: quoted, escaped and short.
func quote(s string) string {
	const most = 48
	if utf8.RuneCountInString(s) > most {
		r := []rune(s)
		s = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
