package identity

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

// Bounds of a list of tokens.
const (
	MaxTokenListBytes = 400 << 10
	MaxTokenChars     = 120 // and no more: it is the password of an enrolment, too
	leastTokenBits    = 128 // design, section 5, Brownfield; CC 1.9 asks for 64
	maxTokenLine      = 256
)

func badTokens(reason string, line int, format string, args ...any) *core.Error {
	return core.E(core.Invalid, reason, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...), "a line is `serial,token`, or the serial number alone: then a token is made")
}

// ParseTokenList reads a list of devices and their tokens: CSV without quotes,
// a line `serial,token` or `serial`, lines of titles `serial,token` and lines
// that begin with # left out. It says which line is wrong and never what the
// token is.
func ParseTokenList(b []byte) ([]LegacyToken, error) {
	if len(b) > MaxTokenListBytes {
		return nil, core.E(core.TooLarge, "legacy-list-long", "the list is larger than 400 KB", fmt.Sprintf("split it into lists of up to %d devices", MaxLegacyList))
	}
	var out []LegacyToken
	for n := 1; len(b) > 0; n++ {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		text := strings.TrimSpace(string(line))
		switch {
		case len(line) > maxTokenLine:
			return nil, badTokens("list-line", n, "has more than %d bytes", maxTokenLine)
		case text == "" || strings.HasPrefix(text, "#"), len(out) == 0 && (text == "serial,token" || text == "serial"):
			continue
		}
		serial, token, has := strings.Cut(text, ",")
		id := core.DeviceID(strings.TrimSpace(serial))
		if !id.Valid() {
			return nil, badTokens("list-serial", n, "%.80q is no serial number", serial)
		}
		token = strings.TrimSpace(token)
		if has && token == "" {
			return nil, badTokens("list-token", n, "has a comma and no token")
		}
		if len(out) == MaxLegacyList {
			return nil, badTokens("legacy-list-long", n, "is one device too many: a list has up to %d", MaxLegacyList)
		}
		out = append(out, LegacyToken{id, token})
	}
	if len(out) == 0 {
		return nil, badTokens("list-empty", 1, "the list has no device")
	}
	return out, nil
}

// checkTokens refuses what cannot be secrets of the devices' own (CC 1.9).
func checkTokens(list []LegacyToken) error {
	if len(list) == 0 {
		return core.E(core.Invalid, "list-empty", "there is no device to add", "name at least one")
	}
	if len(list) > MaxLegacyList {
		return core.E(core.TooLarge, "legacy-list-long", fmt.Sprintf("the list has more than %d devices", MaxLegacyList), "split it")
	}
	devices, tokens := map[core.DeviceID]bool{}, map[string]core.DeviceID{}
	var given []string
	for _, u := range list {
		switch other, shared := tokens[u.Token]; {
		case !u.Device.Valid():
			return core.E(core.Invalid, "list-serial", fmt.Sprintf("%.80q is no serial number", u.Device), "use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit")
		case devices[u.Device]:
			return core.E(core.Invalid, "list-serial-twice", fmt.Sprintf("%s is named twice", u.Device), "name each device once")
		case u.Token == "":
			devices[u.Device] = true
			continue
		case shared:
			return core.E(core.Invalid, "legacy-shared", fmt.Sprintf("%s and %s have the same token", other, u.Device), "a secret of many devices is none: give each one of its own")
		}
		if why := weakToken(u.Device, u.Token); why != "" {
			return core.E(core.Invalid, "weak-token", fmt.Sprintf("the token of %s %s", u.Device, why), "leave the token out and one is made, or use 128 random bits: 32 hexadecimal digits, 26 letters and digits")
		}
		devices[u.Device], tokens[u.Token] = true, u.Device
		given = append(given, u.Token)
	}
	return alike(given)
}

// weakToken says why a token has not 128 bits. That it has cannot be seen; this
// finds what surely has not.
func weakToken(id core.DeviceID, token string) string {
	if len(token) > MaxTokenChars {
		return fmt.Sprintf("has more than %d characters", MaxTokenChars)
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' || c == ',' {
			return "has characters that are no printable ASCII, or a comma"
		}
	}
	if strings.Contains(strings.ToLower(token), strings.ToLower(string(id))) && len(id) >= 4 {
		return "has the serial number in it, which everybody may know"
	}
	if bits := mostBits(token); bits < leastTokenBits {
		return fmt.Sprintf("has at most %d bits, and %d are needed", int(bits), leastTokenBits)
	}
	return ""
}

// mostBits is the most that a text can hold if it was drawn at random from the
// alphabet that it seems to be of, and less where few characters come again and
// again.
func mostBits(s string) float64 {
	var digits, hex, lower, upper, other bool
	counts := map[byte]int{}
	for i := range len(s) {
		c := s[i]
		counts[c]++
		switch {
		case c >= '0' && c <= '9':
			digits = true
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			hex = true
		case c >= 'a' && c <= 'z':
			lower = true
		case c >= 'A' && c <= 'Z':
			upper = true
		default:
			other = true
		}
	}
	alphabet := 10.0
	switch {
	case other:
		alphabet = 94
	case lower && upper:
		alphabet = 62
	case lower || upper:
		if strings.ToLower(s) != s && strings.ToUpper(s) != s {
			alphabet = 62
		} else {
			alphabet = 36
		}
	case hex:
		alphabet = 16
	case !digits:
		alphabet = 1
	}
	bits := float64(len(s)) * math.Log2(alphabet)
	// What repeats itself says less: Shannon's measure of the very text, with
	// room for the chance of a short one.
	var shannon float64
	for _, n := range counts {
		p := float64(n) / float64(len(s))
		shannon -= p * math.Log2(p)
	}
	if shannon < 2.5 {
		bits = min(bits, shannon*float64(len(s)))
	}
	return bits
}

// alike refuses tokens that are one secret with a number: what follows after
// what two of them have in common must be half a secret by itself.
func alike(tokens []string) error {
	if len(tokens) < 2 {
		return nil
	}
	sorted := slices.Clone(tokens)
	slices.Sort(sorted)
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		n := 0
		for n < min(len(a), len(b)) && a[n] == b[n] {
			n++
		}
		if mostBits(b[n:]) < leastTokenBits/2 {
			return core.E(core.Invalid, "legacy-shared", fmt.Sprintf("two tokens of the list are alike in their first %d characters, and what is left is too little", n), "tokens that are made of one secret and a number are one secret: leave them out and new ones are made")
		}
	}
	return nil
}
