package identity

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// CertificateState is where a certificate is in its life.
type CertificateState string

// The states of a certificate. The only ways are issued → confirmed →
// superseded, issued → superseded, and any → revoked.
const (
	Issued     CertificateState = "issued"     // made; no handshake with it yet
	Confirmed  CertificateState = "confirmed"  // the device has used it; the one good certificate
	Superseded CertificateState = "superseded" // a later one took its place; seen again it means a copy
	Revoked    CertificateState = "revoked"    // refused for ever
)

// Door is how a device came by a certificate.
type Door string

// The doors.
const (
	DoorCode    Door = "enrolment-code"
	DoorRenewal Door = "renewal"
	DoorSleeper Door = "renewal-after-sleep" // of a certificate that had run out
	DoorList    Door = "factory-list"        // by the key that its production line listed
	DoorCA      Door = "factory-ca"          // by its birth certificate
	DoorLegacy  Door = "legacy"              // by what the maker gave it before it came here
	DoorHub     Door = "hub"                 // a child: it never has one, and a hub speaks for it
)

// DeviceRow is one unit of the maker's register.
type DeviceRow struct {
	ID         core.DeviceID
	Product    core.ProductID
	Unit       [16]byte  // random; names the unit in the ledger while no subject can
	Revision   int64     // grows by one with every change to the unit, its certificates or ownership
	Added      time.Time //
	Code       core.Hash // of the open enrolment code; zero when there is none
	CodeUntil  time.Time // zero: until it is spent
	Spent      core.Hash // of the last code that was spent or withdrawn; seen again it is a finding
	Ownerships int       // how many were opened; at zero, enrolment opens the first
	Revoked    time.Time // zero: not revoked
	Suspect    time.Time // in quarantine since; zero: not
	Suspicion  string    // reason of the quarantine
	Child      bool      // it has no certificate and never will; a hub speaks for it
}

// CertificateRow is what is kept about one device certificate.
type CertificateRow struct {
	Serial      Serial
	Device      core.DeviceID
	Key         core.Hash // of the SubjectPublicKeyInfo
	Fingerprint core.Hash // of the DER
	NotBefore   time.Time
	NotAfter    time.Time
	State       CertificateState
	Door        Door
	Code        core.Hash // the code, or the key of its birth, that it was issued to; zero for a renewal
	Issued      time.Time
	Confirmed   time.Time // first handshake; zero: none yet
	Ended       time.Time // superseded or revoked; zero: neither
	DER         []byte    // kept only until the first handshake, for the device that lost the answer
}

// OwnershipRow ties a device to the subject of its present owner. The row is
// the only place where the two meet; the eraser deletes it.
type OwnershipRow struct {
	Subject core.Subject
	Device  core.DeviceID
	Actor   core.Actor // who opened it
	Opened  time.Time
	Done    bool // false: an intent; the subject's key may not exist yet
}

// BirthRow says where a unit comes from (CC 1.7), and that its first
// credential was its own (CC 2.15).
type BirthRow struct {
	Device    core.DeviceID
	Door      Door      // how it first gets a certificate; "": registered by a version that did not say
	Station   string    // where it was registered
	Operator  string    // staff id
	Time      time.Time // of registration
	Hardware  string    // revision; "": not given
	Batch     string    // "": not given
	Source    core.Hash // SHA-256 of the factory's list or authority; zero: registered by hand
	CodeBits  int       // strength of its enrolment code; 0: it came without one
	Salt      [16]byte  // of the digest in the ledger; zero: there is none
	KeyOrigin string    // "" until enrolled; "device": the key pair was made by the device
	Key       core.Hash // its first public key
	Enrolled  time.Time // first handshake; zero: none yet
}

// Standing is one certificate as the store has it, and whose its key is
// according to the table of all keys.
type Standing struct {
	Serial      Serial
	Device      core.DeviceID
	Key         core.Hash
	Fingerprint core.Hash
	State       CertificateState
	NotAfter    time.Time
	Tied        core.DeviceID // the unit that first showed the key; "": nobody
}

// CodeStanding is what the store has of the codes of one unit: raw, because it
// may be anything.
type CodeStanding struct {
	Device core.DeviceID
	Code   []byte // nil: none is open
	Spent  []byte // nil: none was spent or withdrawn
	Bits   int    // strength of its enrolment code; 0: it has no birth record, or came without a code
	Door   Door   // how it first gets a certificate
}

// BirthStanding is what the store has of one unit's birth, and whose its first
// key is according to the table of all keys. A unit without a birth record has
// a row with its ids alone.
type BirthStanding struct {
	Device core.DeviceID
	Unit   [16]byte
	Born   bool // there is a record
	Row    BirthRow
	Tied   core.DeviceID // the unit that first showed Row.Key; "": nobody
}

// Ended is one certificate that a door must not let in.
type Ended struct {
	Serial    Serial
	Device    core.DeviceID
	Revoked   bool // it, or its device
	Suspected bool // its device is in quarantine: two hold its identity, and both are held
}

// Tx is what identity needs from storage, in one transaction.
type Tx interface {
	// Device is core.Unknown when there is none.
	Device(context.Context, core.DeviceID) (DeviceRow, error)
	// InsertDevice is core.Conflict when the id is taken.
	InsertDevice(context.Context, DeviceRow) error
	// UpdateDevice replaces the row whose Revision is one less; it fails when
	// that row is not there.
	UpdateDevice(context.Context, DeviceRow) error
	// DevicesAfter lists up to limit devices by id, beginning after one.
	DevicesAfter(ctx context.Context, after core.DeviceID, limit int) ([]DeviceRow, error)

	// Certificates are all of a device that are kept, oldest first.
	Certificates(context.Context, core.DeviceID) ([]CertificateRow, error)
	// CertificateDevice is whose a certificate is or was; "" when it is not kept.
	CertificateDevice(context.Context, Serial) (core.DeviceID, error)
	InsertCertificate(context.Context, CertificateRow) error
	// UpdateCertificate replaces state, times, code and DER.
	UpdateCertificate(context.Context, CertificateRow) error
	// PruneCertificates deletes what ended or ran out before, and says how
	// many. A device's confirmed certificate stays, expired or not.
	PruneCertificates(ctx context.Context, before time.Time) (int, error)
	// ClaimKey ties a public key to a device for ever, and says to which
	// device it is tied: the given one, or another that came first.
	ClaimKey(ctx context.Context, key core.Hash, device core.DeviceID, now time.Time) (owner core.DeviceID, fresh bool, err error)

	// Ownership is the device's present one; nil when there is none.
	Ownership(context.Context, core.DeviceID) (*OwnershipRow, error)
	// OwnershipOf is the ownership with this subject; nil when there is none.
	OwnershipOf(context.Context, core.Subject) (*OwnershipRow, error)
	// InsertOwnership fails when the device or the subject has one.
	InsertOwnership(context.Context, OwnershipRow) error
	// CompleteOwnership marks an intent as done.
	CompleteOwnership(context.Context, core.Subject) error
	// DeleteOwnership unlinks subject and device.
	DeleteOwnership(context.Context, core.Subject) error
	// OwnershipIntents lists those not done.
	OwnershipIntents(context.Context) ([]OwnershipRow, error)

	Birth(context.Context, core.DeviceID) (BirthRow, error)
	// PutBirth writes a birth record. Of one that is there it only sets what
	// the first handshake says: KeyOrigin, Key, Enrolled.
	PutBirth(context.Context, BirthRow) error

	// EachIdentity calls fn once per device, for the index in memory: the
	// row, its certificates that have not run out by now or are its confirmed
	// one, and its ownership.
	EachIdentity(ctx context.Context, now time.Time, fn func(DeviceRow, []CertificateRow, *OwnershipRow) error) error

	// EachStanding calls fn once per certificate that is not pruned, in no
	// order, for checks: it says what the store has, whatever memory thinks.
	EachStanding(ctx context.Context, fn func(Standing) error) error
	// CodeShared is how many units there are, and how many others have a code
	// that the given one has or had.
	CodeShared(context.Context, core.DeviceID) (units, others int, err error)
	// UnitsOfKey is how many units have a certificate of a public key or first
	// showed it.
	UnitsOfKey(ctx context.Context, key core.Hash) (int, error)
	// EachCode calls fn once per unit of the register, for checks.
	EachCode(ctx context.Context, fn func(CodeStanding) error) error
	// EachBirth calls fn once per unit of the register, for checks.
	EachBirth(ctx context.Context, fn func(BirthStanding) error) error
	// BirthOf finds the birth of a unit by its random number; core.Unknown
	// when there is no such unit.
	BirthOf(ctx context.Context, unit [16]byte) (BirthStanding, error)
	// EachEnded calls fn once per certificate that has not run out by now and
	// is not good any more, whatever the reason, for checks.
	EachEnded(ctx context.Context, now time.Time, fn func(Ended) error) error

	FactoryTx
	LegacyTx
	ChildTx

	// Record hands evidence to the ledger.
	Record(context.Context, core.Record) error
}
