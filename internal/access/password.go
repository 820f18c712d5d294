package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// What people choose is hashed slowly: argon2id with 19 MiB, two passes and one
// lane (RFC 9106, OWASP), about 70 ms. Two at once are 38 MiB.
const (
	argonMemoryKiB = 19 << 10
	argonPasses    = 2
	argonLanes     = 1
	argonSalt      = 16
	argonHash      = 32
	// hashWait is how long a sign-in waits for its turn to be hashed.
	hashWait = 3 * time.Second
	// limits of what is read back, so that a changed row cannot take the memory
	maxArgonMemoryKiB = 256 << 10
	maxArgonPasses    = 16
	maxArgonLanes     = 8
)

// hasher hashes passwords, so many at once and no more: each takes memory, and
// strangers may ask for one.
type hasher struct {
	turns chan struct{}
	known chan struct{} // one turn more, for browsers that signed in before
	wait  time.Duration
	dummy string // a hash that no password fits, for accounts that are not there
}

func newHasher(atOnce int) *hasher {
	var hash [argonHash]byte
	var salt [argonSalt]byte
	_, _ = rand.Read(hash[:]) // crypto/rand.Read never fails
	_, _ = rand.Read(salt[:])
	return &hasher{turns: make(chan struct{}, max(atOnce, 1)), known: make(chan struct{}, 1), wait: hashWait, dummy: argonText(salt[:], hash[:])}
}

func argonText(salt, hash []byte) string {
	b := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemoryKiB, argonPasses, argonLanes, b.EncodeToString(salt), b.EncodeToString(hash))
}

// encoded is a password hash with its parameters.
type encoded struct {
	memoryKiB, passes uint32
	lanes             uint8
	salt, hash        []byte
}

func parseEncoded(text string) (encoded, error) {
	var e encoded
	bad := errors.New("not an argon2id hash")
	part := strings.Split(text, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" {
		return e, bad
	}
	var version int
	if n, err := fmt.Sscanf(part[2], "v=%d", &version); err != nil || n != 1 || version != argon2.Version {
		return e, bad
	}
	if n, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &e.memoryKiB, &e.passes, &e.lanes); err != nil || n != 3 {
		return e, bad
	}
	if fmt.Sprintf("v=%d", version) != part[2] || fmt.Sprintf("m=%d,t=%d,p=%d", e.memoryKiB, e.passes, e.lanes) != part[3] {
		return e, bad
	}
	if e.memoryKiB < 8 || e.memoryKiB > maxArgonMemoryKiB || e.passes < 1 || e.passes > maxArgonPasses || e.lanes < 1 || e.lanes > maxArgonLanes {
		return e, bad
	}
	var err error
	if e.salt, err = base64.RawStdEncoding.Strict().DecodeString(part[4]); err != nil || len(e.salt) < 8 || len(e.salt) > 64 {
		return e, bad
	}
	if e.hash, err = base64.RawStdEncoding.Strict().DecodeString(part[5]); err != nil || len(e.hash) != argonHash {
		return e, bad
	}
	return e, nil
}

// lane says who asks for a password to be hashed.
type lane uint8

const (
	stranger lane = iota
	knownBrowser
)

// turn waits for the right to hash. A known browser has a turn that no stranger
// takes (CC 1.13).
func (h *hasher) turn(ctx context.Context, who lane) (func(), error) {
	wait := time.NewTimer(h.wait)
	defer wait.Stop()
	var own chan struct{} // nil: never ready
	if who == knownBrowser {
		own = h.known
	}
	select {
	case own <- struct{}{}:
		return func() { <-own }, nil
	case h.turns <- struct{}{}:
		return func() { <-h.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-wait.C:
		return nil, core.E(core.Unavail, "hash-busy", "too many sign-ins at the same time", "try again in a moment, or use your passkey")
	}
}

// make hashes a new password.
func (h *hasher) make(ctx context.Context, password string) (string, error) {
	done, err := h.turn(ctx, knownBrowser)
	if err != nil {
		return "", err
	}
	defer done()
	var salt [argonSalt]byte
	_, _ = rand.Read(salt[:]) // crypto/rand.Read never fails
	return argonText(salt[:], argon2.IDKey([]byte(norm.NFC.String(password)), salt[:], argonPasses, argonMemoryKiB, argonLanes, argonHash)), nil
}

// verifyPassword compares a password with a person's hash. An account that is
// not there, or has no password, takes as long: stored is then empty.
func (s *Service) verifyPassword(ctx context.Context, t *gate.Ticket, account, stored, typed string, who lane) (bool, error) {
	if err := t.Use(gate.Password, account); err != nil {
		return false, err
	}
	exists := stored != ""
	if !exists {
		stored = s.hash.dummy
	}
	e, err := parseEncoded(stored)
	if err != nil {
		return false, fmt.Errorf("password of %s: %w", account, err)
	}
	if len(typed) > maxPasswordBytes { // no password of ours is so long
		typed, exists = "", false
	}
	done, err := s.hash.turn(ctx, who)
	if err != nil {
		return false, err
	}
	defer done()
	got := argon2.IDKey([]byte(norm.NFC.String(typed)), e.salt, e.passes, e.memoryKiB, e.lanes, argonHash)
	return subtle.ConstantTimeCompare(got, e.hash) == 1 && exists, nil
}
