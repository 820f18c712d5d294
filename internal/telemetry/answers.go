package telemetry

import (
	"crypto/sha256"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// How long the answer to a batch with an Idempotency-Key is kept, and how many
// at most: of one subject, which an honest device fills by a batch every 45
// seconds, and in all. Beyond that the oldest go earlier; what was stored is
// still stored once (Source.Number).
const (
	KeepAnswers        = 24 * time.Hour
	MaxAnswers         = 2000
	MaxAnswersTogether = 500_000
)

// KeptAnswer is the answer to a batch that brought an Idempotency-Key. Key is a
// digest of device and key. Body is one of the request that only who has the
// key can compare, because few readings are hard to guess.
type KeptAnswer struct {
	Key     [sha256.Size]byte
	Subject core.Subject // whose readings it was about; zero: nobody's
	Body    [sha256.Size]byte
	Answer  []byte // counts and reasons; nothing of a reading
	At      time.Time
}
