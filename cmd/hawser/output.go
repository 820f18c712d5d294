package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/term"
)

// print shows v as JSON, or calls human.
func (e *env) print(v any, human func(w io.Writer)) error {
	if e.json {
		return printJSON(e.io.out, v)
	}
	human(e.io.out)
	return nil
}

// printJSON prints one value. A list without items is [], not null: programs
// walk it either way.
func printJSON(w io.Writer, v any) error {
	if r := reflect.ValueOf(v); r.Kind() == reflect.Slice && r.IsNil() {
		v = []struct{}{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// leastLast is how many columns the last one of a table must have; with fewer,
// each row is a paragraph of its own.
const leastLast = 24

// table prints rows in columns. On a terminal the last column is broken to its
// width; elsewhere a row is a line, for whoever searches it. What devices and
// people have named is shown without signs that a terminal obeys.
func table(w io.Writer, head []string, rows [][]string) {
	all := make([][]string, 0, len(rows)+1)
	wide := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = term.Safe(cell)
			wide[i] = max(wide[i], utf8.RuneCountInString(cells[i]))
		}
		all = append(all, cells)
	}
	before := 2 * (len(wide) - 1)
	for _, n := range wide[:len(wide)-1] {
		before += n
	}
	narrow := term.Width(w) > 0 && term.Width(w)-before < leastLast
	for _, cells := range all {
		if narrow { // columns would not stand below each other anyway
			full := slices.DeleteFunc(cells, func(cell string) bool { return cell == "" })
			paragraph(w, strings.Join(full, "  "), 4)
			continue
		}
		var line strings.Builder
		last := len(cells) - 1
		for i, cell := range cells[:last] {
			fmt.Fprintf(&line, "%-*s  ", wide[i], cell)
		}
		paragraph(w, line.String()+cells[last], utf8.RuneCountInString(line.String()))
	}
}

// paragraph prints text, on a terminal broken to its width with indent columns
// before every line but the first.
func paragraph(w io.Writer, text string, indent int) {
	width := term.Width(w)
	if width == 0 {
		fmt.Fprintln(w, strings.TrimRight(text, " "))
		return
	}
	for _, l := range term.Wrap(text, width, indent) {
		fmt.Fprintln(w, l)
	}
}

// count is a number of things: "1 reading", "2 readings".
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
