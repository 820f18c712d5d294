package gate

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Known is what a browser shows to prove that somebody signed in with it
// before. Whether it does is seen in Gate.Open, for the account of the attempt
// and no other. The zero Known proves nothing.
type Known struct {
	id    [16]byte
	until int64 // Unix seconds
	mac   [sha256.Size]byte
}

// LogValue keeps the proof out of logs.
func (Known) LogValue() slog.Value { return slog.StringValue("[sealed]") }

// String keeps the proof out of formatted text.
func (Known) String() string { return "[sealed]" }

// GoString keeps the proof out of formatted text.
func (Known) GoString() string { return "[sealed]" }

const (
	knownVersion = 1
	knownBytes   = 1 + 16 + 8 + sha256.Size
)

var knownText = base64.RawURLEncoding

// ParseKnown reads what Remember gave. What has not its form is the zero
// Known: to be a stranger is no error.
func ParseKnown(cookie string) Known {
	var k Known
	if len(cookie) != knownText.EncodedLen(knownBytes) {
		return k
	}
	b, err := knownText.DecodeString(cookie)
	if err != nil || len(b) != knownBytes || b[0] != knownVersion {
		return Known{}
	}
	copy(k.id[:], b[1:17])
	k.until = int64(binary.BigEndian.Uint64(b[17:25]))
	copy(k.mac[:], b[25:])
	return k
}

func (k Known) text() string {
	b := make([]byte, 0, knownBytes)
	b = append(b, knownVersion)
	b = append(b, k.id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(k.until))
	return knownText.EncodeToString(append(b, k.mac[:]...))
}

// Remember makes the cookie of a known device for an account that signed in
// with all that it takes. It is good for that account only and for KnownLife;
// the edge sets it HttpOnly, Secure and SameSite=Lax or stricter, beside the
// session and not ended with it.
func (g *Gate) Remember(account string) (cookie string, err error) {
	if account == "" {
		return "", core.E(core.Invalid, "no-account", "a known device belongs to an account", "name it")
	}
	var k Known
	_, _ = rand.Read(k.id[:]) // crypto/rand.Read never fails
	g.mu.Lock()
	now := g.now()
	g.mu.Unlock()
	k.until = now.time().Add(g.lim.KnownLife).Unix()
	k.mac = g.knownMAC(k, account)
	return k.text(), nil
}

// proves reports whether k was made for the account and has not run out.
func (g *Gate) proves(k Known, account string, now time.Time) bool {
	if k == (Known{}) || k.until <= now.Unix() {
		return false
	}
	want := g.knownMAC(k, account)
	return hmac.Equal(want[:], k.mac[:])
}

func (g *Gate) knownMAC(k Known, account string) (mac [sha256.Size]byte) {
	var until [8]byte
	binary.BigEndian.PutUint64(until[:], uint64(k.until))
	copy(mac[:], g.mac("known-cookie", account, string(k.id[:]), string(until[:])))
	return mac
}
