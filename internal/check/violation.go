package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Violation is something wrong that a check must catch. It acts on a twin,
// through an outside surface or on raw files, and never by setting what the
// check reads to the value that it looks for.
type Violation struct {
	ID   string // unique within its check: "mqtt-without-tls"
	Says string // what it does, in one plain sentence
	// Do does it, and gives what takes it back, so that the check is seen green
	// again.
	Do func(context.Context, Twin) (undo func(context.Context) error, err error)
}

// Twin is a disposable installation of the very program, on loopback, with
// roots, store, journal and ports of its own, that dials nobody. It has one
// declared product (TwinProduct), three enrolled devices and stored readings.
type Twin interface {
	Home() string               // its home folder
	Data() string               // its data folder
	Address(door string) string // host:port of "devices", "https" or "console"
	Roots() *x509.CertPool      // what its devices and people trust
	Devices() []TwinDevice      // enrolled ones; at least three
	Now() time.Time             // its clock
	Advance(time.Duration)      // moves its clock; cannot be taken back
	Touch(what, name string)    // notes what a violation did, for the proof

	// Call asks the twin's local socket, as its administrator would.
	Call(ctx context.Context, method, path string, in, out any) error
	// Exec changes a database file of the twin behind its back. db is a path
	// below Data: "control.db".
	Exec(ctx context.Context, db, stmt string, args ...any) error
	// Query reads one row of a database file of the twin.
	Query(ctx context.Context, db, query string, args []any, into ...any) error
	// Publish sends a payload as one of its devices over its own session, and
	// waits until it is stored.
	Publish(ctx context.Context, d TwinDevice, stream, payload string) error
	// Hook sets one of the twin's own faults, for what has no outside surface:
	// a job that stands still. The names are the twin's.
	Hook(name string) (undo func(), err error)
}

// TwinProduct is the declared product of every twin.
const TwinProduct core.ProductID = "twin-sensor"

// TwinDevice is one enrolled device of a twin.
type TwinDevice struct {
	ID          core.DeviceID
	Subject     core.Subject
	Certificate tls.Certificate
}
