package declaration

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write expected outputs and generated pages anew")

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := read(t, file); !bytes.Equal(got, want) {
		t.Errorf("%s differs (rewrite with -update and read the change)\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

func corpus(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/faulty/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 60 {
		t.Fatalf("%d faulty files: the corpus is not there", len(files))
	}
	return files
}

// TestFaulty holds what is said of each faulty file, place, rule, fix and caret.
// CC 1.2, 1.6, 1.9, 2.6, 2.7, 2.8, 2.10, 2.12, 2.13, 2.14, 3.1, 3.2, 3.7, 3.10, 3.13, 3.15,
// CC 4.3, 4.4, 4.5, 4.6, 4.7, 4.9, 4.11, 4.13, 4.16, 5.14, 6.15, 7.11, 8.1: a file that breaks
// one of them is refused. See Rules for which.
func TestFaulty(t *testing.T) {
	known := map[string]bool{}
	for _, r := range Rules() {
		known[r.ID] = true
	}
	seen := map[string]bool{}
	for _, file := range corpus(t) {
		d, err := Parse(filepath.Base(file), read(t, file))
		f, ok := err.(Faults)
		if !ok || d != nil {
			t.Errorf("%s: got %v, %v; want faults only", file, d, err)
			continue
		}
		for _, x := range f {
			if !known[x.Rule] || x.Message == "" || x.Fix == "" || x.Line < 1 || x.Col < 1 {
				t.Errorf("%s: half a fault: %+v", file, x)
			}
			seen[x.Rule] = true
		}
		// A file is called after the rule that it breaks.
		for _, r := range Rules() {
			if base := filepath.Base(file); strings.HasPrefix(base, r.ID+"-") || base == r.ID+".yaml" {
				if !slices.ContainsFunc(f, func(x Fault) bool { return x.Rule == r.ID }) && !longer(base, r.ID) {
					t.Errorf("%s does not break the rule %s: %v", file, r.ID, f)
				}
			}
		}
		var b bytes.Buffer
		if err := f.Render(&b); err != nil {
			t.Fatal(err)
		}
		golden(t, strings.TrimSuffix(file, ".yaml")+".txt", b.Bytes())
	}
	for _, r := range Rules() {
		if r.Part != "publish" && !seen[r.ID] && r.ID != ruleSize && r.ID != ruleTooMany {
			t.Errorf("no faulty file breaks the rule %s", r.ID)
		}
	}
}

// longer reports whether a rule with a longer id than id names the file.
func longer(base, id string) bool {
	return slices.ContainsFunc(Rules(), func(r Rule) bool {
		return len(r.ID) > len(id) && (strings.HasPrefix(base, r.ID+"-") || base == r.ID+".yaml")
	})
}

// TestOneFault tells that the file from which the faulty ones were made has
// none: each of them is faulty by what was done to it.
func TestOneFault(t *testing.T) {
	mustCompile(t, "sound.yaml", read(t, "testdata/sound.yaml"))
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:hawser:declaration:1", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("urn:hawser:declaration:1") // checks it against the meta-schema
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance is a tree as the schema's validator takes it.
func instance(n *node) any {
	switch n.kind {
	case boolKind:
		return n.yes
	case numberKind:
		return n.num
	case textKind:
		return n.text
	case listKind:
		out := []any{}
		for _, x := range n.list {
			out = append(out, instance(x))
		}
		return out
	case mapKind:
		out := map[string]any{}
		for _, p := range n.pairs {
			out[p.key] = instance(p.value)
		}
		return out
	case nullKind:
	}
	return nil
}

// agree reports whether the schema and the check of form say the same of src,
// and whether src is one that both can judge.
func agree(s *jsonschema.Schema, src []byte) (form []Fault, judged bool, schemaErr error) {
	c := &faults{file: "f"}
	root := readYAML(src, c)
	if root == nil || len(c.list) > 0 {
		return nil, false, nil
	}
	schemaErr = s.Validate(instance(root))
	examine("f", root, c)
	return slices.DeleteFunc(c.list, func(f Fault) bool { return !f.form }), true, schemaErr
}

// TestSchemaAgrees holds the published schema against the check in Go: a file
// has a fault of form exactly if the schema refuses it.
func TestSchemaAgrees(t *testing.T) {
	s := compiledSchema(t)
	files := corpus(t)
	good, err := filepath.Glob("../../examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var refused, taken int
	for _, file := range append(files, good...) {
		form, judged, schemaErr := agree(s, read(t, file))
		if !judged {
			continue
		}
		if (schemaErr != nil) != (len(form) > 0) {
			t.Errorf("%s: schema says %v; the check of form says %v", file, schemaErr, form)
		}
		if schemaErr != nil {
			refused++
		} else {
			taken++
		}
	}
	if refused < 40 || taken < 30 {
		t.Errorf("judged %d faulty and %d sound forms: too few to show that they agree", refused, taken)
	}
}

// TestSchemaAgreesOnChanges changes single characters and words of a sound
// file: schema and check must still agree on every one.
func TestSchemaAgreesOnChanges(t *testing.T) {
	s := compiledSchema(t)
	src := string(read(t, "testdata/sound.yaml"))
	words := []string{"7", "-1", "0.5", "1e3", "true", "x", `""`, "[]", "{}", "null", `"7d"`, "[1, 2]", "2032-01-01", "owner", "[x, x]"}
	judged := 0
	at := 0
	for i := range len(src) {
		if src[i] != ' ' && src[i] != '[' && src[i] != ',' {
			continue
		}
		end := i + 1 + strings.IndexAny(src[i+1:]+",", ",]}\n")
		if end-i < 2 || end > len(src) {
			continue
		}
		for range 2 {
			w := words[at%len(words)]
			at++
			form, ok, schemaErr := agree(s, []byte(src[:i+1]+w+src[end:]))
			if !ok {
				continue
			}
			judged++
			if (schemaErr != nil) != (len(form) > 0) {
				t.Errorf("at %d (%q for %q): schema says %v; the check of form says %v", i, w, src[i+1:end], schemaErr, form)
			}
		}
	}
	if judged < 200 {
		t.Errorf("only %d changed files could be judged", judged)
	}
}
