package identity

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// LegacyEnd is why a legacy credential ended.
type LegacyEnd string

// The reasons.
const (
	LegacyEnrolled  LegacyEnd = "enrolled"  // its device has a certificate of its own now
	LegacyRevoked   LegacyEnd = "revoked"   // with its device
	LegacyWithdrawn LegacyEnd = "withdrawn" // by staff, without the device
)

// LegacyRow is what is kept of one legacy credential.
type LegacyRow struct {
	ID       Serial // LegacyID
	Device   core.DeviceID
	Kind     Credential
	Proof    core.Hash // of a token: keyed hash of device and token; of a certificate: SHA-256
	Alone    core.Hash // of a token: keyed hash of it alone; of a certificate: SHA-256 of its public key
	KeyID    []byte    // names the key of the hashes of a token; empty for a certificate
	CA       core.Hash // of a certificate; zero for a token
	NotAfter time.Time // of a certificate; zero for a token
	Operator string    // staff id of who added it
	Added    time.Time
	Seen     time.Time // last use, within the hour; zero: never
	Ended    time.Time // zero: not
	Why      LegacyEnd // "" while it has not ended
}

// Live reports whether the credential has not ended.
func (r *LegacyRow) Live() bool { return r != nil && r.Ended.IsZero() }

// LegacyCA is an authority of the maker's own.
type LegacyCA struct {
	ID       core.Hash // SHA-256 of its certificate
	Name     string    // a word
	DER      []byte
	Product  core.ProductID
	Reason   string // a word
	Operator string // staff id of who added it
	Added    time.Time
	Ended    time.Time // zero: not
}

// LegacyTx is what identity needs from storage for devices that come with a
// credential of the maker's.
type LegacyTx interface {
	// Legacy is the latest credential of a device; nil when there is none.
	Legacy(context.Context, core.DeviceID) (*LegacyRow, error)
	// LegacyAlone is the credential of this hash, ended or not; nil when there
	// is none.
	LegacyAlone(ctx context.Context, alone core.Hash) (*LegacyRow, error)
	// InsertLegacy fails when Alone is there, or the device has a live one.
	InsertLegacy(context.Context, LegacyRow) error
	// UpdateLegacy sets Seen, Ended and Why.
	UpdateLegacy(context.Context, LegacyRow) error
	// EachLegacy calls fn once per credential, oldest first.
	EachLegacy(ctx context.Context, fn func(LegacyRow) error) error

	// LegacyCAs are all, by name.
	LegacyCAs(context.Context) ([]LegacyCA, error)
	// InsertLegacyCA is core.Conflict when name or certificate are taken.
	InsertLegacyCA(context.Context, LegacyCA) error
	EndLegacyCA(ctx context.Context, name string, at time.Time) error
}
