package seal

import (
	"context"
	"errors"

	"github.com/hawser-iot/hawser/internal/core"
)

// Destroys is how sure a key store is that a destroyed key is gone.
type Destroys string

// The two answers. The word stands in receipts, in `doctor` and in evidence.
const (
	DestroysProven     Destroys = "proven"      // the store itself vouches for it
	DestroysBestEffort Destroys = "best-effort" // overwritten and unlinked; the medium may keep old blocks
)

// Destruction is a key store's answer to having destroyed a root.
type Destruction struct {
	Gen      uint64   // the generation that is gone
	Destroys Destroys // how sure that is
	Detail   string   // what was done, for the receipt; never personal, no paths
}

// RootKeys holds the roots: one random key per generation that never leaves
// the store in clear and is kept apart from the data and from every backup.
type RootKeys interface {
	// Create makes the root of generation gen and returns once it is durable.
	// It fails with core.Conflict if there is one already.
	Create(ctx context.Context, gen uint64) error
	// Wrap encrypts key under the root of generation gen.
	Wrap(ctx context.Context, gen uint64, key []byte) ([]byte, error)
	// Unwrap is the inverse of Wrap. It fails with core.Unready, naming the
	// generation, when that root is missing.
	Unwrap(ctx context.Context, gen uint64, blob []byte) ([]byte, error)
	// Destroy makes the root of generation gen unusable for ever. Destroying
	// one that is gone is not an error and gives the same word.
	Destroy(ctx context.Context, gen uint64) (Destruction, error)
	// Generations lists the roots that exist, ascending.
	Generations(ctx context.Context) ([]uint64, error)
}

// ErrNoKey is in the chain of every error that says a key does not exist, be
// it erased, expired or never made. Reason is "erased" for a subject and
// "no-epoch-key" for an epoch.
var ErrNoKey = errors.New("no such key")

// ErrLeaseOver is what a Key says whose time is over; Lease a new one.
var ErrLeaseOver = core.E(core.Unready, "lease-over", "the lease on this key is over", "lease the key again")

func noSubjectKey() error {
	return &core.Error{
		Kind: core.Unknown, Reason: "erased", Err: ErrNoKey,
		Message: "there is no key for this subject: it was erased, or never existed",
	}
}

func noEpochKey() error {
	return &core.Error{
		Kind: core.Unknown, Reason: "no-epoch-key", Err: ErrNoKey,
		Message: "there is no key for this epoch: it has expired, or was never begun",
	}
}
