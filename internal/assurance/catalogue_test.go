package assurance

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/check"
)

// TestCatalogueIsWhole needs nothing but the catalogue.
func TestCatalogueIsWhole(t *testing.T) {
	rows, controls := Rows(), Controls()
	if len(rows) != 132 || len(controls) != 63 {
		t.Fatalf("%d rows and %d controls, want 132 and 63", len(rows), len(controls))
	}
	if !slices.IsSortedFunc(rows, func(a, b Row) int { return compareRows(a.ID, b.ID) }) {
		t.Error("the rows are not in order")
	}
	byID := map[ControlID]Control{}
	for _, c := range controls {
		if _, twice := byID[c.ID]; twice {
			t.Errorf("control %s is there twice", c.ID)
		}
		byID[c.ID] = c
		if !slices.ContainsFunc(Sections(), func(s Section) bool { return s.ID == c.Section }) {
			t.Errorf("control %s is in section %q, which there is not", c.ID, c.Section)
		}
		if c.Says == "" || len(c.Kinds) == 0 || len(RowsOf(c.ID)) == 0 {
			t.Errorf("control %s has no words, no kinds or no rows", c.ID)
		}
		for _, k := range c.Kinds {
			if !slices.Contains(check.Kinds(), k) {
				t.Errorf("control %s: %q is no kind", c.ID, k)
			}
		}
	}
	seen := map[RowID]bool{}
	for _, r := range rows {
		if seen[r.ID] {
			t.Errorf("row %s is there twice", r.ID)
		}
		seen[r.ID] = true
		if _, ok := byID[r.Control]; !ok {
			t.Errorf("row %s is of control %s, which there is not", r.ID, r.Control)
		}
		if r.Guide == "" || r.Must == "" || r.How == "" {
			t.Errorf("row %s lacks words", r.ID)
		}
	}
}

// TestCatalogueIsTheMission compares every row and control with the mission,
// word by word.
func TestCatalogueIsTheMission(t *testing.T) {
	const file = "../../../shared/mission.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Skipf("TestCatalogueIsTheMission needs the mission beside the project: %v", err)
	}
	row, control := regexp.MustCompile(`^\d\.\d+$`), regexp.MustCompile(`^[A-Z]{2}-\d\d$`)
	rows, controls := 0, 0
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		var c []string
		for _, x := range strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|") {
			c = append(c, strings.ReplaceAll(strings.TrimSpace(x), "*", ""))
		}
		switch {
		case row.MatchString(c[0]):
			rows++
			want := Row{ID: RowID(c[0]), Control: ControlID(c[1]), Guide: c[2], Must: c[3], How: c[4]}
			if got, _ := FindRow(want.ID); strings.ReplaceAll(got.How, "*", "") != want.How || got.Control != want.Control || got.Guide != want.Guide || got.Must != want.Must {
				t.Errorf("row %s is\n%+v\nthe mission says\n%+v", want.ID, got, want)
			}
		case control.MatchString(c[0]):
			controls++
			i := slices.IndexFunc(Controls(), func(x Control) bool { return x.ID == ControlID(c[0]) })
			if i < 0 || Controls()[i].Says != c[1] || (Controls()[i].cross != cross{c[3], c[4], c[5], c[6], c[7]}) {
				t.Errorf("control %s is not what the mission says", c[0])
			}
		}
	}
	if rows != 132 || controls != 63 {
		t.Errorf("read %d rows and %d controls in the mission", rows, controls)
	}
}
