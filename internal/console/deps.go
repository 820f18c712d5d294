package console

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Declarations knows what is in force and what was; *declaration.Service.
type Declarations interface {
	All(context.Context) ([]*declaration.Policy, error)
	Current(context.Context, core.ProductID) (*declaration.Policy, error)
	History(context.Context, core.ProductID) ([]declaration.Version, error)
}

// Reviews are versions that wait for a second person.
type Reviews interface {
	Reviews(context.Context) ([]declaration.ReviewState, error)
	// VouchForReview makes a person answer for what was asked for on the machine.
	VouchForReview(ctx context.Context, by core.Actor, id string) error
	// ApproveReview puts the version in force, at every door, before it returns.
	ApproveReview(ctx context.Context, by core.Actor, id string) error
	RejectReview(ctx context.Context, by core.Actor, id string) error
}

// Devices is the register; *identity.Service.
type Devices interface {
	// Find lists devices by id, and says where to go on.
	Find(identity.Query) identity.Found
	Device(core.DeviceID) (identity.Device, error)
	Birth(context.Context, core.DeviceID) (identity.BirthRow, error)
	// Children and Proposals are those of a hub; Holder is whose a certificate
	// is or was, "" when it is not kept.
	Children(hub core.DeviceID) ([]identity.Device, error)
	Proposals(ctx context.Context, hub core.DeviceID) ([]identity.Proposal, error)
	Holder(context.Context, identity.Serial) (core.DeviceID, error)
	Counts() identity.Counts
	// LegacyOf is what a device has of the maker's that it comes with at the
	// door for old devices, LegacyTerms what that door is.
	LegacyOf(core.DeviceID) (identity.LegacyDevice, bool)
	LegacyTerms(core.ProductID) identity.LegacyTerms
	// Refusals is how often enrolment, renewal and admission were refused
	// since the start, by reason.
	Refusals() map[string]uint64
}

// Data opens read sessions; *telemetry.ReadService.
type Data interface {
	Read(ctx context.Context, by core.Actor, q telemetry.ReadRequest, yield func(*telemetry.OpenReading) error) (telemetry.ReadDone, error)
}

// Counted is what became of messages.
type Counted struct {
	Accepted, Stored, DroppedFields, Duplicates uint64

	Refused []telemetry.ReasonCount // by reason
}

// Connection is one connection of a device that was refused or ended.
type Connection struct {
	Time    time.Time
	Reason  string
	Source  string // a /24 or a /48
	Subject core.Subject
}

// Running is the running server.
type Running interface {
	// Counts are what became of the messages of a product; "": of all.
	Counts(context.Context, core.ProductID) (Counted, error)
	// CountsOf are what became of the messages of one owner's device.
	CountsOf(context.Context, core.Subject) (Counted, error)
	Connected(core.DeviceID) bool
	// Sessions is how many devices are connected.
	Sessions() int
	// Connections are the last that were refused or ended, oldest first.
	Connections() []Connection
}

// Ledger is the log of everything that happened; *ledger.Ledger.
type Ledger interface {
	Status() ledger.Status
	Latest() ledger.Checkpoint
	Sequence(context.Context) (int, error)
	Entries(ctx context.Context, from, to uint64) ([]ledger.Entry, error)
	List(ctx context.Context, f ledger.Filter, from uint64, limit int) ([]ledger.Entry, uint64, error)
	VerifierKey() string
}
