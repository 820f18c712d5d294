package assurance

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestCitationsAreRead holds how the mission's short forms are read.
func TestCitationsAreRead(t *testing.T) {
	for _, c := range []struct {
		read func(string) []Mapping
		cell string
		want string
	}{
		{readNIST, "-", ""},
		{readNIST, "Doc", "Documentation"},
		{readNIST, "DP · -", "Data Protection"},
		{readNIST, "- · DS/EXE,OPS", "DS/EXE|DS/OPS"},
		{readNIST, "IAC,PC · LA/ACF, DC/AUT", "Interface Access Control|Product Configuration|LA/ACF|DC/AUT"},
		{readNIST, "IAC (back end is a product component)", "Interface Access Control: back end is a product component"},
		{readEN, "-", ""},
		{readEN, "5.0-1, 5.6-9", "5.0-1|5.6-9"},
		{readEN, "5.1-1, -2, -2A, -4, 5.4-3", "5.1-1|5.1-2|5.1-2A|5.1-4|5.4-3"},
		{readEN, "5.3-2,-7,-9,-10, 5.7-1", "5.3-2|5.3-7|5.3-9|5.3-10|5.7-1"},
		{readEN, "5.3-1..-6B, -8", "5.3-1|5.3-2|5.3-3|5.3-4A|5.3-4B|5.3-5|5.3-6A|5.3-6B|5.3-8"},
		{readEN, "5.12-1..3", "5.12-1|5.12-2|5.12-3"},
		{readEN, "5.6-1..-5", "5.6-1|5.6-2|5.6-3|5.6-4A|5.6-4B|5.6-5"},
		{readEN, "6-1..6-3B", "6-1|6-2|6-3A|6-3B"},
		{readEN, "5.3-5, -15A/B", "5.3-5|5.3-15A|5.3-15B"},
		{readEN, "5.6-9 (near)", "5.6-9: near"},
		{readEN, "6-4 (+6-7, 6-8 text not read)", "6-4|6-7: by its number: its text was not read|6-8: by its number: its text was not read"},
		{readEN, "5.6-3..-1", "5.6-3..5.6-1"},
		{readEN, "5.6-4..-5", "5.6-4..5.6-5"}, // there is a 4A and a 4B
		{readISVS, "1.1.1-1.1.3", "1.1.1|1.1.2|1.1.3"},
		{readISVS, "2.1.8-2.1.10, 4.1.3", "2.1.8|2.1.9|2.1.10|4.1.3"},
		{readISVS, "3.3.4-3.3.6", "3.3.4..3.3.6"},
		{readCRA, "-", ""},
		{readCRA, "(1), Art13(2)-(4)", "Annex I Part I (1)|Article 13(2)|Article 13(3)|Article 13(4)"},
		{readCRA, "2j, 2b (near)", "Annex I Part I (2)(j)|Annex I Part I (2)(b): near"},
		{readCRA, "II.3", "Annex I Part II (3)"},
		{readCRA, "A2", "Annex II"},
		{readCRA, "A2(5)", "Annex II (5)"},
		{readCRA, "A2(7), Art13(19)[R]", "Annex II (7)|Article 13(19)"},
		{readCRA, "Art13, 28", "Article 13|Article 28"},
		{readCRA, "II.4, Art14(8)", "Annex I Part II (4)|Article 14(8)"},
		{readCRA, "DoC", "Article 28: the EU declaration of conformity"},
		{readPSTI, "-", ""},
		{readPSTI, "¶2", "Schedule 1 paragraph 2"},
		{readPSTI, "s.9", "Act section 9"},
		{readPSTI, "Act s.10-12", "Act section 10|Act section 11|Act section 12"},
		{readPSTI, "SoC signatory", "Act section 9: who signs the statement of compliance"},
	} {
		var got []string
		for _, m := range c.read(c.cell) {
			s := m.ID
			if m.Note != "" {
				s += ": " + m.Note
			}
			got = append(got, s)
		}
		if g := strings.Join(got, "|"); g != c.want {
			t.Errorf("%q is read as\n%s, want\n%s", c.cell, g, c.want)
		}
	}
}

// TestEveryCitedIDExists also holds that one which does not exist is named:
// published cross-walks cite provisions under numbers that they never had.
func TestEveryCitedIDExists(t *testing.T) {
	for _, c := range Controls() {
		for _, m := range c.Strangers() {
			t.Errorf("%s cites %q: %s has no such id", c.ID, m.ID, m.Standard.Name())
		}
		seen := map[Mapping]bool{}
		for _, m := range c.Mappings() {
			at := Mapping{Standard: m.Standard, ID: m.ID}
			if seen[at] {
				t.Errorf("%s cites %s of %s twice", c.ID, m.ID, m.Standard.Name())
			}
			seen[at] = true
		}
	}
	for _, wrong := range []cross{
		{nist: "Docs", en: "-", isvs: "-", cra: "-", psti: "-"},
		{nist: "- · DO/XXX", en: "-", isvs: "-", cra: "-", psti: "-"},
		{nist: "-", en: "5.6-4", isvs: "-", cra: "-", psti: "-"},
		{nist: "-", en: "5.3-1..-99", isvs: "-", cra: "-", psti: "-"},
		{nist: "-", en: "-", isvs: "3.3.6", cra: "-", psti: "-"},
		{nist: "-", en: "-", isvs: "-", cra: "2n", psti: "-"},
		{nist: "-", en: "-", isvs: "-", cra: "II.9", psti: "-"},
		{nist: "-", en: "-", isvs: "-", cra: "Art99", psti: "-"},
		{nist: "-", en: "-", isvs: "-", cra: "-", psti: "¶4"},
		{nist: "-", en: "-", isvs: "-", cra: "-", psti: "whatever"},
	} {
		c := Control{cross: wrong}
		if len(c.Strangers()) != 1 {
			t.Errorf("%+v: strangers are %v, want one", wrong, c.Strangers())
		}
	}
}

// TestIDsAreTheStandards compares the pinned lists with lists that others or
// we have made of the standards themselves.
func TestIDsAreTheStandards(t *testing.T) {
	const folder = "../../../shared/data/standards/"
	t.Run("en303645", func(t *testing.T) {
		f, err := os.Open(folder + "en303645-v3.1.3-provisions.txt")
		if err != nil {
			t.Skipf("TestIDsAreTheStandards/en303645 needs the list of provisions beside the project: %v", err)
		}
		defer func() { _ = f.Close() }()
		var want []string
		for s := bufio.NewScanner(f); s.Scan(); {
			if strings.HasPrefix(s.Text(), "#") {
				continue
			}
			clause := ""
			for _, w := range strings.Fields(s.Text()) {
				switch c, n, ok := strings.Cut(w, "-"); {
				case ok && c != "":
					clause = c
					if first, last, ranged := strings.Cut(n, ".."); ranged {
						for i := first[0]; i <= last[0]; i++ {
							want = append(want, fmt.Sprintf("%s-%c", clause, i))
						}
						continue
					}
					want = append(want, w)
				case ok:
					want = append(want, clause+w)
				}
			}
		}
		if got := EN.IDs(); !slices.Equal(got, want) || len(got) != 78 {
			t.Errorf("%d provisions\n%v\nwant\n%v", len(got), got, want)
		}
	})
	t.Run("isvs", func(t *testing.T) {
		b, err := os.ReadFile(folder + "isvs-1.0.0-rc2.json")
		if err != nil {
			t.Skipf("TestIDsAreTheStandards/isvs needs the requirements beside the project: %v", err)
		}
		var list []struct{ ID string }
		if err := json.Unmarshal(b, &list); err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, r := range list {
			want = append(want, r.ID)
		}
		if got := ISVS.IDs(); !slices.Equal(got, want) || len(got) != 169 {
			t.Errorf("%d requirements\n%v\nwant\n%v", len(got), got, want)
		}
	})
	for _, s := range Standards() {
		ids := slices.Sorted(slices.Values(s.IDs()))
		if len(ids) == 0 || len(slices.Compact(slices.Clone(ids))) != len(ids) {
			t.Errorf("%s has no ids, or one twice", s.Name())
		}
		if s.Name() == string(s) {
			t.Errorf("%s has no name", s)
		}
	}
}

// TestCrosswalkIsWhole reads the CSV as its reader does.
func TestCrosswalkIsWhole(t *testing.T) {
	var b strings.Builder
	if err := Crosswalk(&b); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"control", "recommendation", "standard", "id", "note"}; !slices.Equal(lines[0], want) {
		t.Errorf("the columns are %v", lines[0])
	}
	cited, of := map[string]bool{}, map[Standard]int{}
	for _, l := range lines[1:] {
		if !slices.Contains(Standard(l[2]).IDs(), l[3]) || l[1] == "" {
			t.Errorf("line %v", l)
		}
		cited[l[0]] = true
		of[Standard(l[2])]++
	}
	for _, c := range Controls() {
		alone := c.ID == "CU-02" || c.ID == "CL-03" // nothing else asks for training, or for honest bills
		if cited[string(c.ID)] == alone {
			t.Errorf("control %s: cited is %v", c.ID, !alone)
		}
	}
	for _, s := range Standards() {
		if of[s] == 0 {
			t.Errorf("no line of %s", s.Name())
		}
	}
	if err := Crosswalk(broken{}); err == nil {
		t.Error("a writer that fails is not told")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space") }

// TestCoverageIsWhole: every provision and requirement is mapped or out of
// scope with a reason, never neither and never both.
func TestCoverageIsWhole(t *testing.T) {
	for s, want := range map[Standard]int{EN: 78, ISVS: 169} {
		mapped, outside := Coverage(s)
		all := append(slices.Clone(mapped), outside...)
		slices.Sort(all)
		if ids := slices.Sorted(slices.Values(s.IDs())); !slices.Equal(all, ids) || len(all) != want {
			for _, id := range ids {
				in, out := slices.Contains(mapped, id), slices.Contains(outside, id)
				if in == out {
					t.Errorf("%s of %s: mapped is %v, out of scope is %v", id, s.Name(), in, out)
				}
			}
			t.Errorf("%s: %d mapped and %d out of scope, want %d in all", s.Name(), len(mapped), len(outside), want)
		}
		for _, m := range OutOfScope(s) {
			if m.Note == "" {
				t.Errorf("%s of %s is out of scope for no reason", m.ID, s.Name())
			}
		}
	}
	if mapped, _ := Coverage(EN); len(mapped) != 73 {
		t.Errorf("%d provisions are mapped, want 73", len(mapped))
	}
	var b strings.Builder
	if err := WriteCoverage(&b); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil || len(lines) != 1+78+169 {
		t.Errorf("%d lines, %v", len(lines), err)
	}
	if err := WriteCoverage(broken{}); err == nil {
		t.Error("a writer that fails is not told")
	}
}
