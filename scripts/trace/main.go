// Command trace lists every row of the mission with the code, the checks and
// the tests that cite it ("CC 1.9"). A row that code cites and no test does is
// named, and makes the command fail: such a citation promises what nobody
// looks at.
package main

import (
	"bufio"
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// lastRow is the number of the last row in each group of the mission.
var lastRow = [...]int{0: 1, 1: 20, 2: 17, 3: 16, 4: 19, 5: 20, 6: 16, 7: 19, 8: 4}

var citation = regexp.MustCompile(`\bCC((?:[ ,]+\d\.\d+)+)`)

type row struct{ group, n int }

func (r row) String() string { return fmt.Sprintf("%d.%d", r.group, r.n) }

type cites struct{ code, check, test []string }

func main() {
	all := flag.Bool("all", false, "also list the rows that nothing cites yet")
	flag.Parse()
	found, err := collect(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		os.Exit(1)
	}
	untested, silent := 0, 0
	for g, last := range lastRow {
		for n := range last {
			r := row{g, n + 1}
			c := found[r]
			if c == nil {
				silent++
				if *all {
					fmt.Printf("%-5s -\n", r)
				}
				continue
			}
			fmt.Printf("%-5s code  %s\n      check %s\n      test  %s\n", r, list(c.code), list(c.check), list(c.test))
			if len(c.code) > 0 && len(c.test) == 0 {
				untested++
				fmt.Printf("      NO TEST cites row %s\n", r)
			}
			delete(found, r)
		}
	}
	for r := range found {
		fmt.Printf("%-5s is no row of the mission, but cited\n", r)
		untested++
	}
	fmt.Printf("%d rows cited, %d not yet, %d citations without a test\n", 132-silent, silent, untested)
	if untested > 0 {
		os.Exit(1)
	}
}

func list(s []string) string {
	if len(s) == 0 {
		return "-"
	}
	slices.Sort(s)
	return strings.Join(slices.Compact(s), " ")
}

func collect(root string) (map[row]*cites, error) {
	found := map[row]*cites{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "node_modules" || n == "testdata" || n == "trace" || (strings.HasPrefix(n, ".") && p != root) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := os.Open(p)
		if err != nil {
			return fmt.Errorf("read %s: %w", p, err)
		}
		defer f.Close()
		sc := bufio.NewScanner(f)
		for line := 1; sc.Scan(); line++ {
			for _, m := range citation.FindAllStringSubmatch(sc.Text(), -1) {
				for _, id := range strings.FieldsFunc(m[1], func(r rune) bool { return r == ' ' || r == ',' }) {
					r, ok := parseRow(id)
					if !ok {
						continue
					}
					c := found[r]
					if c == nil {
						c = &cites{}
						found[r] = c
					}
					at := fmt.Sprintf("%s:%d", filepath.ToSlash(p), line)
					switch {
					case strings.HasSuffix(p, "_test.go"):
						c.test = append(c.test, at)
					case filepath.Base(p) == "checks.go" || strings.HasPrefix(filepath.Base(p), "checks_"):
						c.check = append(c.check, at)
					default:
						c.code = append(c.code, at)
					}
				}
			}
		}
		if err := sc.Err(); err != nil {
			return fmt.Errorf("read %s: %w", p, err)
		}
		return nil
	})
	return found, err
}

func parseRow(id string) (row, bool) {
	g, n, ok := strings.Cut(id, ".")
	gi, err1 := strconv.Atoi(g)
	ni, err2 := strconv.Atoi(n)
	return row{gi, ni}, ok && cmp.Or(err1, err2) == nil
}
