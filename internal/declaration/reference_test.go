package declaration

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReference holds docs/declaration.md and the published schema against the tables of this package.
func TestReference(t *testing.T) {
	golden(t, "../../docs/declaration.md", []byte(Reference()))
	golden(t, "../../docs/declaration.schema.json", Schema())
}

func TestRulesAreWhole(t *testing.T) {
	seen := map[string]bool{}
	id, row := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`), regexp.MustCompile(`^[0-8]\.[0-9]{1,2}$`)
	for _, r := range Rules() {
		if !id.MatchString(r.ID) || seen[r.ID] || r.Part == "" || r.Asks == "" || r.Fix == "" {
			t.Errorf("half a rule: %+v", r)
		}
		seen[r.ID] = true
		for _, x := range r.Rows {
			if !row.MatchString(x) {
				t.Errorf("%s: no row %q", r.ID, x)
			}
		}
		if !strings.HasSuffix(r.Asks, ".") || !strings.HasSuffix(r.Fix, ".") {
			t.Errorf("%s does not end its sentences", r.ID)
		}
	}
}

// TestKeysAreWhole walks the table of keys: each is explained, and each example
// is YAML that its own shape takes.
func TestKeysAreWhole(t *testing.T) {
	var walk func(path string, s *shape)
	walk = func(path string, s *shape) {
		if s.item != nil {
			walk(path, s.item)
		}
		for _, k := range s.keys {
			at := path + "." + k.Name
			if k.Meaning == "" || k.Example == "" {
				t.Errorf("%s is not explained", at)
			}
			if k.Required && k.Default != "" {
				t.Errorf("%s is required and has a default", at)
			}
			c := &faults{file: at}
			root := readYAML([]byte(k.Example), c)
			if root == nil || len(root.pairs) != 1 || root.pairs[0].key != k.Name {
				t.Errorf("%s: example %q: %v", at, k.Example, c.list)
				continue
			}
			if strings.Contains(k.Example, "…") {
				continue
			}
			x := checker{c}
			x.check(root.pairs[0].value, k.shape, k.Name, root.at)
			if len(c.list) > 0 {
				t.Errorf("%s: example %q: %v", at, k.Example, c.list)
			}
			walk(at, k.shape)
		}
		for _, w := range s.when {
			for _, n := range slices.Concat(w.needs, w.bars) {
				if s.key(n.key) == nil || s.key(w.key) == nil {
					t.Errorf("%s: a condition names the keys %s and %s", path, w.key, n.key)
				}
			}
		}
	}
	walk("", language())
}

// TestEveryShapeNamesAKnownRule walks the table of keys for ids of rules.
func TestEveryShapeNamesAKnownRule(t *testing.T) {
	known := map[string]bool{"": true}
	for _, r := range Rules() {
		known[r.ID] = true
	}
	n := 0
	var walk func(s *shape)
	walk = func(s *shape) {
		n++
		for _, id := range []string{s.rule, s.nameRule} {
			if !known[id] {
				t.Errorf("no rule %q", id)
			}
		}
		for _, r := range s.refused {
			if !known[r.rule] || r.message == "" || r.fix == "" || slices.Contains(s.words, r.word) {
				t.Errorf("refused word %+v", r)
			}
		}
		for _, k := range s.keys {
			if !known[k.rule] {
				t.Errorf("%s: no rule %q", k.Name, k.rule)
			}
			walk(k.shape)
		}
		if s.item != nil {
			walk(s.item)
		}
	}
	walk(language())
	if n < 80 {
		t.Errorf("walked %d shapes only", n)
	}
}
