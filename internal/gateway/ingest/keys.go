package ingest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Keys keeps the answers to requests with an Idempotency-Key.
type Keys interface {
	// Answer finds what is kept of a key; false when nothing is.
	Answer(ctx context.Context, key [sha256.Size]byte) (telemetry.KeptAnswer, bool, error)
	// Keep returns when a is on disk.
	Keep(ctx context.Context, a telemetry.KeptAnswer) error
}

// maxKeyChars is how long an Idempotency-Key may be.
const maxKeyChars = 64

// idempotencyKey is the key of a request, "" without one. The draft writes it as
// a string of RFC 8941, in quotes; many clients leave them out.
func idempotencyKey(h http.Header) (string, error) {
	all := h.Values("Idempotency-Key")
	if len(all) == 0 {
		return "", nil
	}
	key := all[0]
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	if len(all) > 1 || key == "" || len(key) > maxKeyChars || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", core.E(core.Invalid, "idempotency-key", "the Idempotency-Key is not 1 to 64 visible characters", "send one, for example a UUID")
	}
	return key, nil
}

// digests are what is kept of a key and its request, and the series that
// readings without a number of their own are numbered in: of device, key and
// request, so that the same request sent again is stored once even if nothing
// was kept of the first, and another request is another series.
func digests(device core.DeviceID, key, stream, mediaType string, body []byte) (k, b [sha256.Size]byte, series [8]byte) {
	k = sha256.Sum256([]byte("hawser idempotency key\x00" + string(device) + "\x00" + key))
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(string(device) + "\x00" + stream + "\x00" + mediaType + "\x00"))
	m.Write(body)
	m.Sum(b[:0])
	s := sha256.Sum256(append([]byte("hawser series\x00"), b[:]...))
	copy(series[:], s[:])
	return k, b, series
}
