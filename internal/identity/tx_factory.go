package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Line is a production line whose signed lists of units are taken.
type Line struct {
	Name     string // a word
	Product  core.ProductID
	Public   ed25519.PublicKey // signs its lists
	Operator string            // staff id of who added it
	Added    time.Time
	Until    time.Time // from then on no list is taken
	MaxUnits int       // of all its lists together
	Ended    time.Time // zero: not
}

// KeyHash names the line's key.
func (l *Line) KeyHash() core.Hash { return sha256.Sum256(l.Public) }

// ListRow is one list that was taken from a line.
type ListRow struct {
	Digest   core.Hash // SHA-256 of the file
	Line     string
	Name     string // what the line calls it
	Units    int
	Operator string // staff id of who imported it
	Taken    time.Time
	Done     bool // false: a crash left it in the middle; importing it again goes on
}

// SerialFrom says where a birth certificate has the unit's serial number.
type SerialFrom string

// The places.
const (
	FromCommonName   SerialFrom = "cn"           // common name of the subject
	FromSerialNumber SerialFrom = "serialNumber" // attribute serialNumber of the subject (2.5.4.5), as IEEE 802.1AR §8.6 has it
)

// FactoryCA is an authority of the maker's whose birth certificates are taken.
type FactoryCA struct {
	ID         core.Hash // SHA-256 of its certificate
	Name       string    // a word
	DER        []byte
	Product    core.ProductID
	SerialFrom SerialFrom
	Operator   string // staff id of who added it
	Added      time.Time
	Until      time.Time // from then on no new unit is registered
	MaxUnits   int       // that it may ever bring
	Ended      time.Time // zero: not
}

// BornUnit is the key that a unit was born with.
type BornUnit struct {
	Key    core.Hash // of its SubjectPublicKeyInfo
	Device core.DeviceID
	Source core.Hash // digest of its list, or id of its authority
	Spent  time.Time // zero: it still opens; a listed key is spent by the first enrolment, both by a new code
}

// FactoryTx is what identity needs from storage for units that come from a
// factory with a key of their own.
type FactoryTx interface {
	// FactoryLine is nil when there is none.
	FactoryLine(ctx context.Context, name string) (*Line, error)
	FactoryLines(context.Context) ([]Line, error)
	// InsertFactoryLine is core.Conflict when name or key are taken.
	InsertFactoryLine(context.Context, Line) error
	EndFactoryLine(ctx context.Context, name string, at time.Time) error

	// FactoryList is nil when there is none.
	FactoryList(context.Context, core.Hash) (*ListRow, error)
	// FactoryLists are all, oldest first.
	FactoryLists(context.Context) ([]ListRow, error)
	// InsertFactoryList is core.Conflict when the line has a list of that name.
	InsertFactoryList(context.Context, ListRow) error
	FinishFactoryList(context.Context, core.Hash) error

	FactoryCAs(context.Context) ([]FactoryCA, error)
	// InsertFactoryCA is core.Conflict when name or certificate are taken.
	InsertFactoryCA(context.Context, FactoryCA) error
	EndFactoryCA(ctx context.Context, name string, at time.Time) error

	// BornUnit and BornUnitOf are nil when there is none.
	BornUnit(ctx context.Context, key core.Hash) (*BornUnit, error)
	BornUnitOf(context.Context, core.DeviceID) (*BornUnit, error)
	// InsertBornUnit fails when the key or the unit are there.
	InsertBornUnit(context.Context, BornUnit) error
	// SpendBornUnit uses up the key of a unit, if it has one that is not.
	SpendBornUnit(context.Context, core.DeviceID, time.Time) error
	// BornUnits is how many units a list or an authority brought.
	BornUnits(ctx context.Context, source core.Hash) (int, error)
	// KeyTied reports whether a public key was ever certified for a unit.
	KeyTied(ctx context.Context, key core.Hash) (bool, error)
}
