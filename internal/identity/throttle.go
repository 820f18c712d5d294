package identity

import (
	"errors"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// How often one device may get a certificate. Wrong enrolment codes are the
// gate's.
const (
	issueBurst   = 6 // certificates for one device at once
	issueRefill  = 10 * time.Minute
	retryAtLeast = time.Second
)

// RetryError is a refusal that may pass, with the time after which trying
// again makes sense.
type RetryError struct {
	Refusal *core.Error
	After   time.Duration
}

func (e *RetryError) Error() string { return e.Refusal.Error() }

// Unwrap gives the refusal.
func (e *RetryError) Unwrap() error { return e.Refusal }

func tooMany(reason, message string, after time.Duration) error {
	return &RetryError{
		Refusal: core.E(core.TooMany, reason, message, "try again later"),
		After:   max(after, retryAtLeast),
	}
}

// bucket is a token bucket that holds what was taken, and when.
type bucket struct {
	taken float64
	at    time.Time
}

// level is what is taken at now, given the time one token takes to return.
func (b bucket) level(now time.Time, refill time.Duration) float64 {
	return max(0, b.taken-float64(now.Sub(b.at))/float64(refill))
}

// closed is the gate's answer to an enrolment as this package says it: to wait,
// or trouble of ours.
func closed(err error) error {
	if w, ok := errors.AsType[*gate.Wait](err); ok {
		return tooMany(w.Refusal.Reason, "too many failed enrolments from this address", w.After)
	}
	return unavailable(err)
}
