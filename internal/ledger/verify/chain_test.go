package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hawser-iot/hawser/internal/ledger/verify"
)

// TestForgedChain lets somebody who has the key rewrite how the last origin
// says that it began, with everything hashed and signed anew. What the first
// origin still shows contradicts him.
func TestForgedChain(t *testing.T) {
	s := newScene(t)
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	first := &s.origins[0]
	root, err := tlog.TreeHash(firstSize, treeOf(t, first.leaves))
	if err != nil {
		t.Fatal(err)
	}
	kept := sign(t, s.key, first.name, firstSize, root)
	for _, c := range []struct {
		name, fact, value string
		says              string
	}{
		{"nothing", "lost", "the disk died; restored from the backup of the night", ""},
		{"another name for itself", "origin", "hawser/scene/aaaaaaaa", "does not begin this origin"},
		{"another key", "key", vkey(t, s.last().name, other), "another key"},
		{"another origin before", "kept_origin", "hawser/scene/bbbbbbbb", "does not continue"},
		{"fewer entries kept", "kept_entries", "39", "other entries"},
		{"no number of entries", "kept_entries", "many", "other entries"},
		{"another tree kept", "kept_root", b64(tlog.Hash{4}), "other entries"},
		{"a checkpoint that is not there", "kept_signed", "37", "leaves out"},
		{"a last checkpoint of a stranger", "previous_checkpoint", sign(t, other, first.name, lostSize, tlog.Hash{7}), "nobody known signed"},
		{"a last checkpoint over other entries", "previous_checkpoint", sign(t, s.key, first.name, firstSize, tlog.Hash{7}), "do not bear out"},
		{"no last checkpoint", "previous_checkpoint", "hello", "what is none"},
		{"nothing lost at all", "previous_checkpoint", kept, ""},
	} {
		m := s.clone()
		o := m.last()
		o.leaves[0] = withFact(t, o.leaves[0], c.fact, c.value)
		o.resign(t, s.key)
		r := check(t, m.render(), verify.Options{Keys: []string{s.pinned}})
		switch {
		case c.says == "" && !r.OK():
			t.Errorf("%s: faults %v, want none", c.name, r.Faults)
		case c.says != "" && (r.OK() || r.Faults[0].First != 0 || !strings.Contains(r.Faults[0].What, c.says)):
			t.Errorf("%s: faults %v, want %q of entry 0", c.name, r.Faults, c.says)
		}
	}
}

// withFact is leaf with another value of one fact.
func withFact(t *testing.T, leaf, name, value string) string {
	t.Helper()
	var r struct {
		Facts [][2]string `json:"facts"`
	}
	if err := json.Unmarshal([]byte(leaf), &r); err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Facts {
		if f[0] == name {
			from := `["` + name + `",` + jsonText(f[1]) + `]`
			if !strings.Contains(leaf, from) {
				t.Fatalf("%s is not in %s", from, leaf)
			}
			return strings.Replace(leaf, from, `["`+name+`",`+jsonText(value)+`]`, 1)
		}
	}
	t.Fatalf("no fact %s in %s", name, leaf)
	return ""
}

// TestSmallBreaches are single faults that random changes rarely make.
func TestSmallBreaches(t *testing.T) {
	s := newScene(t)
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	trust := verify.Options{Keys: []string{s.pinned}}
	lines := bytes.SplitAfter(s.export, []byte("\n"))
	at := func(prefix string) int {
		for i, l := range lines {
			if bytes.HasPrefix(l, []byte(prefix)) {
				return i
			}
		}
		t.Fatalf("no line begins with %s", prefix)
		return 0
	}
	without := func(i int) []byte {
		return bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil)
	}
	twice := func(i int) []byte {
		return bytes.Join(append(append(append([][]byte{}, lines[:i+1]...), lines[i]), lines[i+1:]...), nil)
	}
	for _, c := range []struct {
		name string
		b    []byte
		o    verify.Options
		says string
	}{
		{"the last newline is gone", s.export[:len(s.export)-1], trust, "is cut off"},
		{"an ended origin without its checkpoint", without(at(`{"checkpoint":`)), trust, "leaves out"},
		{"a checkpoint twice", twice(at(`{"checkpoint":`)), trust, "twice, or out of order"},
		{"an entry twice", twice(at(`{"index":7,`)), trust, "out of its order, or twice"},
		{"an origin twice", append(bytes.Clone(s.export), s.export[len(lines[0]):]...), trust, "stands twice"},
		{"no subtree", without(at(`{"subtree":0`)), trust, "is missing"},
		{"no head line", without(0), trust, "not a line"},
		{"nothing", nil, trust, "holds no ledger"},
		{"only the head line", lines[0], trust, "holds no ledger"},
		{"an origin without entries", bytes.Join(lines[:at(`{"index":0`)], nil), trust, "no entries"},
		{"a line beyond all bounds", append(bytes.Clone(lines[0]), bytes.Repeat([]byte("x"), 1<<19)...), trust, "too long"},
	} {
		r := check(t, c.b, c.o)
		found := false
		for _, f := range r.Faults {
			found = found || strings.Contains(f.String(), c.says)
		}
		if !found || r.Standing != verify.Refuted {
			t.Errorf("%s: standing %q, faults %v, want %q", c.name, r.Standing, r.Faults, c.says)
		}
	}

	m := s.clone()
	o := m.last()
	o.leaves = append(o.leaves, o.leaves[5])
	o.hashes = append(o.hashes, o.hashes[5])
	if r := check(t, m.render(), trust); r.OK() || r.Faults[0].First != lastSize || !strings.Contains(r.Faults[0].What, "no checkpoint covers") {
		t.Errorf("an unsigned tail: %v", r.Faults)
	}
	m = s.clone()
	m.last().notes = nil
	if r := check(t, m.render(), trust); r.OK() {
		t.Error("a ledger that nothing signs was accepted")
	}

	// An earlier checkpoint that a stranger signed proves nothing, even where
	// it tells the truth.
	c, err := verify.Signed(s.middle, s.pinned)
	if err != nil {
		t.Fatal(err)
	}
	forged := sign(t, other, c.Origin, c.Size, tlog.Hash(c.Root))
	for _, keys := range [][]string{{s.pinned}, nil} {
		if r := check(t, s.export, verify.Options{Keys: keys, Earlier: []byte(forged)}); r.OK() {
			t.Errorf("an earlier checkpoint of a stranger, %d keys: %q", len(keys), r.Standing)
		}
	}
	for _, lost := range []string{sign(t, other, s.origins[0].name, lostSize, tlog.Hash{7}), sign(t, other, s.origins[0].name, firstSize+1, tlog.Hash{7})} {
		if r := check(t, s.export, verify.Options{Earlier: []byte(lost)}); r.OK() {
			t.Errorf("a lost checkpoint of a stranger: %q", r.Standing)
		}
	}
}

// TestKeyMustMatchItsID holds that a key cannot be passed off under the short
// name of another.
func TestKeyMustMatchItsID(t *testing.T) {
	s := newScene(t)
	name, rest, _ := strings.Cut(s.pinned, "+")
	id, key, _ := strings.Cut(rest, "+")
	digit := "0"
	if id[0] == '0' {
		digit = "1"
	}
	short := base64.StdEncoding.EncodeToString([]byte{1, 2, 3})
	for _, k := range []string{
		name + "+" + digit + id[1:] + "+" + key, "other+" + id + "+" + key, name + "+" + strings.ToUpper("abcdef12") + "+" + key,
		name + "+" + id + "+" + short, name + "+" + id, name, "+" + id + "+" + key, "a b+" + id + "+" + key,
	} {
		if _, err := verify.Log(bytes.NewReader(s.export), verify.Options{Keys: []string{k}}); err == nil {
			t.Errorf("%s: accepted", k)
		}
		b := bytes.Replace(s.export, []byte(jsonText(s.pinned)), []byte(jsonText(k)), 1)
		if r := check(t, b, verify.Options{}); r.OK() {
			t.Errorf("%s in the export: accepted", k)
		}
	}
}
