package access

import (
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestHashingIsBounded: so many hashes at once and no more; who waits too long
// is told so, and a known browser has a turn of its own.
func TestHashingIsBounded(t *testing.T) {
	h := newHasher(2)
	h.wait = 20 * time.Millisecond
	var done []func()
	for range 2 {
		d, err := h.turn(t.Context(), stranger)
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, d)
	}
	if _, err := h.turn(t.Context(), stranger); core.KindOf(err) != core.Unavail {
		t.Errorf("a third stranger: %v", err)
	}
	mine, err := h.turn(t.Context(), knownBrowser)
	if err != nil {
		t.Fatalf("a known browser waits for strangers: %v", err)
	}
	if _, err := h.turn(t.Context(), knownBrowser); core.KindOf(err) != core.Unavail {
		t.Errorf("a fourth in all: %v", err)
	}
	for _, d := range append(done, mine) {
		d()
	}
	for range 3 {
		d, err := h.turn(t.Context(), knownBrowser)
		if err != nil {
			t.Fatal(err)
		}
		defer d()
	}
}

// TestEncodedHash: what is kept says how it was made, and what was changed is
// not computed.
func TestEncodedHash(t *testing.T) {
	h := newHasher(1)
	text, err := h.make(t.Context(), "plinth warble oxide tundra")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("encoded %q", text)
	}
	again, err := h.make(t.Context(), "plinth warble oxide tundra")
	if err != nil || again == text {
		t.Errorf("one salt for two: %v", err)
	}
	if _, err := parseEncoded(text); err != nil {
		t.Error(err)
	}
	if _, err := parseEncoded(h.dummy); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ from, to string }{
		{"argon2id", "argon2i"},
		{"v=19", "v=16"},
		{"m=19456", "m=99999999"},
		{"m=19456", "m=0"},
		{"m=19456", "m=019456"},
		{"t=2", "t=0"},
		{"t=2", "t=1000"},
		{"p=1", "p=0"},
		{"p=1", "p=200"},
		{"p=1", "p=1x"},
		{text[len(text)-43:], ""},
		{text[len(text)-43:], text[len(text)-20:]},
		{"$m=", "$$m="},
	} {
		bad := strings.Replace(text, c.from, c.to, 1)
		if _, err := parseEncoded(bad); bad == text || err == nil {
			t.Errorf("%q for %q is a hash", c.to, c.from)
		}
	}
}
