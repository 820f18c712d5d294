package identity

import (
	"math"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

// CC 1.9, 2.15: every unit's first secret is its own and cannot be guessed.
func TestCodesAreDistinctAndStrong(t *testing.T) {
	const n = 1000
	codes, hashes := map[string]bool{}, map[core.Hash]bool{}
	var counts [32]int
	for range n {
		text, hash := newCode()
		codes[text], hashes[hash] = true, true
		bare := strings.ReplaceAll(text, "-", "")
		if len(bare) != codeChars+checkChars || len(text) != 35 {
			t.Fatalf("code %q has another form", text)
		}
		for _, c := range bare[:codeChars] {
			counts[strings.IndexRune(codeAlphabet, c)]++
		}
		if got, ok := parseCode(text); !ok || got != hash {
			t.Fatalf("code %q does not read back", text)
		}
	}
	if len(codes) != n || len(hashes) != n {
		t.Errorf("%d codes, %d hashes, want %d distinct", len(codes), len(hashes), n)
	}
	if CodeBits < 128 {
		t.Errorf("a code has %d bits", CodeBits)
	}
	var entropy float64
	for _, c := range counts {
		p := float64(c) / (n * codeChars)
		entropy -= p * math.Log2(p)
	}
	if bits := entropy * codeChars; bits < 134 {
		t.Errorf("codes show %.1f bits of %d", bits, CodeBits)
	}
}

func TestCodesAsPeopleTypeThem(t *testing.T) {
	text, hash := newCode()
	for text := range map[string]bool{
		strings.ToLower(text): true, strings.ReplaceAll(text, "-", ""): true, strings.ReplaceAll(text, "-", " "): true,
		strings.ReplaceAll(text, "0", "O"): true, strings.ReplaceAll(text, "1", "l"): true, strings.ReplaceAll(text, "1", "I"): true, " " + text + " ": true,
	} {
		if got, ok := parseCode(text); !ok || got != hash {
			t.Errorf("%q is not read", text)
		}
	}
	for name, bad := range map[string]string{
		"empty": "", "short": text[:30], "long": text + "0", "letter outside": "U" + text[1:], "huge": strings.Repeat("0", 1<<16), "not ASCII": "é" + text[1:],
	} {
		if _, ok := parseCode(bad); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	missed, tried := 0, 0
	for i := range text {
		if text[i] == '-' {
			continue
		}
		b := []byte(text)
		for _, c := range codeAlphabet {
			if byte(c) != text[i] {
				b[i] = byte(c)
				tried++
				if _, ok := parseCode(string(b)); ok {
					missed++
				}
			}
		}
	}
	if missed > 5 {
		t.Errorf("%d of %d single mistakes are not noticed", missed, tried)
	}
}

// CC 1.9: the passwords that come with everything open nothing here.
func TestKnownDefaultsAreNoCodes(t *testing.T) {
	for _, p := range []string{
		"admin", "password", "123456", "12345678", "root", "toor", "default", "1234", "00000000", "guest", "user", "ubnt", "raspberry",
		"xc3511", "vizxv", "888888", "juantech", "anko", "hi3518", "klv123", "zlxx.", "7ujMko0admin", "system", "ikwb", "dreambox", "realtek",
		"00000-00000-00000-00000-00000-00000", "11111-11111-11111-11111-11111-11111", "ABCDE-FGHJK-MNPQR-STVWX-YZ012-34567",
	} {
		if _, ok := parseCode(p); ok {
			t.Errorf("%q has the form of a code", p)
		}
	}
}

func FuzzParseCode(f *testing.F) {
	text, _ := newCode()
	f.Add(text)
	f.Add(strings.ToLower(text))
	f.Add("00000-00000-00000-00000-00000-00000")
	f.Fuzz(func(t *testing.T, s string) {
		h, ok := parseCode(s)
		if ok == h.IsZero() {
			t.Fatalf("%q: hash %s, ok %t", s, h, ok)
		}
	})
}
