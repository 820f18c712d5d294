package bundle

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/ledger"
)

// TestLogKeyWithAPlus: the base64 of a key has a plus of its own, as one in two
// does.
func TestLogKeyWithAPlus(t *testing.T) {
	text := ""
	for n := 0; strings.Count(text, "+") < 3; n++ { // the first key that has one
		text = ledger.VerifierKey("hawser/a", bytes.Repeat([]byte{byte(n), byte(n >> 8), 0xfb, 0xef}, 8))
	}
	got, err := logKey(text, "hawser/a")
	if err != nil || got != text {
		t.Errorf("%s: %q %v", text, got, err)
	}
}
