package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

// An enrolment code is 27 random characters of 5 bits (135 bits: CC 1.9 asks
// for 64, design section 5 for 128) and 3 check characters, written in six
// groups of five: "7G3KD-…". The alphabet is Crockford's base 32, which has no
// letter that looks like another; case, hyphens and blanks do not count.
const (
	codeChars  = 27
	checkChars = 3
	groupChars = 5

	// CodeBits is the strength of an enrolment code.
	CodeBits = codeChars * 5
)

const codeAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// codeDomain keeps the hash of a code from being the hash of anything else.
const codeDomain = "hawser enrolment code v1\x00"

// newCode makes a code and what is kept of it. A machine-made secret of this
// strength needs no slow hash (CC 1.12).
func newCode() (string, core.Hash) {
	var r [codeChars]byte
	_, _ = rand.Read(r[:]) // crypto/rand.Read never fails
	for i, b := range r {
		r[i] = codeAlphabet[b&31] // 256 is a multiple of 32: no bias
	}
	text := string(r[:]) + checkOf(string(r[:]))
	var out strings.Builder
	for i := 0; i < len(text); i += groupChars {
		if i > 0 {
			out.WriteByte('-')
		}
		out.WriteString(text[i : i+groupChars])
	}
	return out.String(), hashCode(string(r[:]))
}

func checkOf(secret string) string {
	h := sha256.Sum256([]byte("check\x00" + secret))
	return string([]byte{codeAlphabet[h[0]&31], codeAlphabet[h[1]&31], codeAlphabet[h[2]&31]})
}

func hashCode(secret string) core.Hash { return sha256.Sum256([]byte(codeDomain + secret)) }

// parseCode reads a code as people type it, and gives its hash. It is false
// when a character was mistyped, left out or added: that much can be said of a
// code without knowing any.
func parseCode(typed string) (core.Hash, bool) {
	if len(typed) > 4*(codeChars+checkChars) {
		return core.Hash{}, false
	}
	var b [codeChars + checkChars]byte
	n := 0
	for i := range len(typed) {
		c := typed[i]
		switch {
		case c == '-' || c == ' ':
			continue
		case c >= 'a' && c <= 'z':
			c -= 'a' - 'A'
		}
		switch c {
		case 'O':
			c = '0'
		case 'I', 'L':
			c = '1'
		}
		if n == len(b) || strings.IndexByte(codeAlphabet, c) < 0 {
			return core.Hash{}, false
		}
		b[n] = c
		n++
	}
	if n != len(b) {
		return core.Hash{}, false
	}
	secret := string(b[:codeChars])
	if checkOf(secret) != string(b[codeChars:]) { // both were typed: there is no secret of ours in it
		return core.Hash{}, false
	}
	return hashCode(secret), true
}
