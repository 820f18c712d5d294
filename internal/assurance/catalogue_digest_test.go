package assurance

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("update", false, "write golden files anew")

// TestDigestIsPinned: whoever edits the catalogue sees it here, and says so by
// writing the digest anew. Evidence that was made before names the old one.
func TestDigestIsPinned(t *testing.T) {
	const file = "testdata/catalogue.sha256"
	h, err := Digest()
	if err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(h.String()+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSpace(string(b)); h.String() != want {
		t.Errorf("the catalogue was edited: its digest is %s, was %s; read the change, then run this test with -update", h, want)
	}
	if again, _ := Digest(); again != h {
		t.Errorf("the same catalogue has two digests: %s and %s", h, again)
	}
}
