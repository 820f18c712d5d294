package identity

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

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

func TestThrottle(t *testing.T) {
	now := fixedClock()
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	var th throttle
	for i := range sourceBurst {
		if w := th.admit(a, now); w > 0 {
			t.Fatalf("held after %d failures", i)
		}
		th.fail(a, now)
	}
	if th.admit(a, now) == 0 {
		t.Error("not held after the burst")
	}
	if th.admit(b, now) > 0 {
		t.Error("the neighbour is held")
	}
	if w := th.admit(a, now); w > sourceRefill {
		t.Errorf("must wait %s", w)
	}
	if th.admit(a, now.Add(sourceRefill+time.Second)) > 0 {
		t.Error("held after the wait")
	}
	// One customer's IPv6 addresses are one source.
	for i := range sourceBurst {
		th.fail(netip.MustParseAddr(fmt.Sprintf("2001:db8:0:1%02x::%x", i, i)), now)
	}
	if th.admit(netip.MustParseAddr("2001:db8:0:1ff::77"), now) == 0 {
		t.Error("a /56 changes its address and goes on")
	}
	if th.admit(netip.MustParseAddr("2001:db8:0:200::1"), now) > 0 {
		t.Error("the /56 beside is held")
	}
	if th.admit(netip.Addr{}, now) > 0 {
		t.Error("no address: held without a failure")
	}
	if prefixOf(netip.MustParseAddr("::ffff:192.0.2.1")) != prefixOf(a) {
		t.Error("one address in two forms is two sources")
	}
}

func TestThrottleUnderManyStrangers(t *testing.T) {
	now := fixedClock()
	var th throttle
	for i := range 3 * sourceMax {
		th.fail(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if n := len(th.sources); n > sourceMax {
		t.Errorf("%d sources remembered", n)
	}
	// The global budget is used up: who fails is held sooner, who does not is
	// served.
	s := netip.MustParseAddr("203.0.113.5")
	if th.admit(s, now) > 0 {
		t.Error("a source without failures is held by strangers")
	}
	th.fail(s, now)
	th.fail(s, now)
	if th.admit(s, now) == 0 {
		t.Error("a guesser has its full burst while the budget is used up")
	}
	if th.admit(s, now.Add(2*sourceRefill)) > 0 {
		t.Error("held after the wait")
	}
}
