package assurance

import (
	"os"
	"reflect"
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
		if got, ok := FindRow(r.ID); !ok || got != r || !slices.Contains(RowsOf(r.Control), r) {
			t.Errorf("row %s is not found, or not under its control", r.ID)
		}
	}
	if _, ok := FindRow("1.21"); ok {
		t.Error("there is a row 1.21")
	}
	Rows()[0].Must, RowsOf("DS-08")[0].Must = "edited", "edited"
	if r, _ := FindRow("0.1"); r.Must == "edited" || Rows()[0].Must == "edited" {
		t.Error("who asks for rows can edit the catalogue")
	}
	for _, s := range Sections() {
		if s.Title == "" || s.About == "" || !slices.ContainsFunc(controls, func(c Control) bool { return c.Section == s.ID }) {
			t.Errorf("section %s has no title, no words or no control", s.ID)
		}
	}
}

// TestCatalogueIsTheMission compares every row and control with the mission,
// word by word and in its order.
func TestCatalogueIsTheMission(t *testing.T) {
	const file = "../../../shared/mission.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Skipf("TestCatalogueIsTheMission needs the mission beside the project: %v", err)
	}
	row, control := regexp.MustCompile(`^\d\.\d+$`), regexp.MustCompile(`^[A-Z]{2}-\d\d$`)
	emphasis := regexp.MustCompile(`\*(\pL[^*` + "`" + `]*)\*`) // not the stars of a role `*:*`
	kinds := map[string]check.Kind{"Q": check.Query, "P": check.Probe, "D": check.Bench, "A": check.Artefact, "H": check.Attestation}
	var rows []Row
	var controls []Control
	section := ""
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		var c []string
		for _, x := range strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|") {
			c = append(c, strings.TrimSpace(x))
		}
		switch {
		case strings.HasPrefix(c[0], "**"):
			title := strings.Trim(c[0], "*")
			if i := slices.IndexFunc(Sections(), func(s Section) bool { return s.Title == title }); i < 0 {
				t.Errorf("the mission has a section %q, the catalogue has none", title)
			} else {
				section = Sections()[i].ID
			}
		case row.MatchString(c[0]):
			rows = append(rows, Row{ID: RowID(c[0]), Control: ControlID(c[1]), Guide: emphasis.ReplaceAllString(c[2], "$1"), Must: c[3], How: c[4]})
		case control.MatchString(c[0]):
			x := Control{ID: ControlID(c[0]), Section: section, Says: c[1], cross: cross{c[3], c[4], c[5], c[6], c[7]}}
			for letter := range strings.SplitSeq(c[2], ",") {
				x.Kinds = append(x.Kinds, kinds[letter])
			}
			controls = append(controls, x)
		}
	}
	if len(rows) != 132 || len(controls) != 63 {
		t.Fatalf("read %d rows and %d controls in the mission", len(rows), len(controls))
	}
	for i, got := range Rows() {
		if got != rows[i] {
			t.Errorf("row %d is\n%+v\nthe mission says\n%+v", i+1, got, rows[i])
		}
	}
	for i, got := range Controls() {
		if !reflect.DeepEqual(got, controls[i]) {
			t.Errorf("control %d is\n%+v\nthe mission says\n%+v", i+1, got, controls[i])
		}
	}
}
