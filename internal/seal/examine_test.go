package seal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// TestExamine: what lies on disk is compared with what is in use, and nothing is
// repaired on the way (CC 2.9).
func TestExamine(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	subjects := []core.Subject{{1}, {2}, {3}}
	if err := k.AddSubjects(t.Context(), subjects); err != nil {
		t.Fatal(err)
	}
	look := func() (faults string) {
		t.Helper()
		x, err := k.Examine(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Copies) != 2 || x.Generation != k.Generation() {
			t.Fatalf("examined %+v", x)
		}
		for _, c := range x.Copies {
			faults += c.Fault + "|"
		}
		return faults
	}
	old, err := os.ReadFile(h.o.Copies[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := look(); got != "||" {
		t.Errorf("whole: %q", got)
	}
	if _, err := k.Shred(t.Context(), seal.Order{Subjects: subjects[:1]}); err != nil {
		t.Fatal(err)
	}
	x, err := k.Examine(t.Context())
	if err != nil || x.Generation != 2 || x.Subjects != 2 || x.Copies[1].Subjects != 2 || len(x.Roots) != 1 || x.Roots[0] != 2 {
		t.Errorf("after a rotation: %+v, %v", x, err)
	}
	if gen, err := seal.CopyOf(h.o.Copies[1]); gen != 2 || err != nil {
		t.Errorf("the copy is of generation %d, %v", gen, err)
	}
	whole, err := os.ReadFile(h.o.Copies[0])
	if err != nil {
		t.Fatal(err)
	}
	second := h.o.Copies[1]
	put := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(second, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flipped := func(i int) []byte {
		b := append([]byte(nil), whole...)
		b[i] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  string
	}{
		"of the generation before": {old, "is of generation 1"},
		"damaged at its end":       {flipped(len(whole) - 1), "snapshot"},
		"damaged in front":         {flipped(9), "header is damaged"},
		"cut short":                {whole[:len(whole)-5], "snapshot"},
		"with something behind":    {append(append([]byte(nil), whole...), 1, 2, 3), "is damaged after"},
		"something else":           {[]byte("a shopping list"), "not a keyring"},
	} {
		put(c.bytes)
		if got := look(); !strings.HasPrefix(got, "|") || !strings.Contains(got, c.want) {
			t.Errorf("a copy %s: %q, want %q", name, got, c.want)
		}
		if b, err := os.ReadFile(second); err != nil || string(b) != string(c.bytes) {
			t.Errorf("a copy %s was changed by looking at it", name)
		}
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if got := look(); got != "|is gone|" {
		t.Errorf("a copy that is gone: %q", got)
	}
	put(whole)
	if err := os.Chmod(second, 0o640); err != nil {
		t.Fatal(err)
	}
	if got := look(); !strings.Contains(got, "others than its owner") {
		t.Errorf("a copy that others can read: %q", got)
	}
	if err := os.Chmod(second, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := look(); got != "||" {
		t.Errorf("mended: %q", got)
	}
	// A root of before that somebody brought back opens old copies.
	if err := h.roots.Create(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if x, err := k.Examine(t.Context()); err != nil || len(x.Roots) != 2 {
		t.Errorf("a root too many: %+v, %v", x, err)
	}
	if _, err := seal.CopyOf(filepath.Join(h.dir, "nothing")); err == nil {
		t.Error("a file that is not there is a copy")
	}
	other := filepath.Join(h.dir, "notes")
	if err := os.WriteFile(other, []byte("HAWSERKR is what it begins with"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.CopyOf(other); core.KindOf(err) != core.Unknown {
		t.Errorf("no copy: %v", err)
	}
}
