package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
)

// ceremonies are the challenges of sign-ins. A challenge is computed from its
// id under a key that only this process has, so that nothing is kept for the
// thousands that strangers may ask for; what was answered is remembered until
// it would have ended anyway, so that each one serves once. A restart voids
// them all.
type ceremonies struct {
	key [32]byte

	mu    sync.Mutex
	spent map[string]int64 // id → Unix seconds of its end
	swept int64
}

const (
	signInCeremony    = "sign-in"
	ceremonyLasts     = 5 * time.Minute // ASVS 6.5.5, WebAuthn §13.4.3
	ceremonyNonce     = 16
	ceremonyIDBytes   = 8 + ceremonyNonce
	spentSweepSeconds = 60
)

// stepUpCeremony ties a challenge to one session.
func stepUpCeremony(by Session) string { return "step-up " + string(by.Person) + " " + by.ID }

// begin makes a challenge and its id.
func (c *ceremonies) begin(ceremony string, now time.Time) (string, protocol.URLEncodedBase64) {
	var b [ceremonyIDBytes]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.Add(ceremonyLasts).Unix()))
	_, _ = rand.Read(b[8:]) // crypto/rand.Read never fails
	id := base64.RawURLEncoding.EncodeToString(b[:])
	return id, c.challenge(ceremony, id)
}

func (c *ceremonies) challenge(ceremony, id string) protocol.URLEncodedBase64 {
	m := hmac.New(sha256.New, c.key[:])
	m.Write([]byte(ceremony + "\x00" + id))
	return m.Sum(nil)
}

// ceremonyEnds is when a challenge of this id ends; false for what is no id. Anybody
// can write an id; only the answer to its challenge proves that it was asked.
func ceremonyEnds(id string) (int64, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(b) != ceremonyIDBytes {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(b)), true
}

// open reports whether a challenge can still be answered.
func (c *ceremonies) open(id string, now time.Time) bool {
	end, ok := ceremonyEnds(id)
	if !ok || now.Unix() >= end || end > now.Add(ceremonyLasts).Unix() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, spent := c.spent[id]
	return !spent
}

// take gives the challenge of an id once, in time.
func (c *ceremonies) take(ceremony, id string, now time.Time) (protocol.URLEncodedBase64, bool) {
	if !c.open(id, now) {
		return nil, false
	}
	end, _ := ceremonyEnds(id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, spent := c.spent[id]; spent {
		return nil, false
	}
	if c.spent == nil {
		c.spent = map[string]int64{}
	}
	if now.Unix()-c.swept >= spentSweepSeconds {
		for k, e := range c.spent {
			if e <= now.Unix() {
				delete(c.spent, k)
			}
		}
		c.swept = now.Unix()
	}
	c.spent[id] = end
	return c.challenge(ceremony, id), true
}

// keyName names a passkey to people and in the ledger.
func keyName(id []byte) string {
	h := sha256.Sum256(id)
	return hex.EncodeToString(h[:6])
}
