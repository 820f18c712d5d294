package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// BirthDoors are the doors by which a unit may come: to its first certificate,
// or as the child of a hub, without one.
func BirthDoors() []Door { return []Door{DoorCode, DoorList, DoorCA, DoorLegacy, DoorHub} }

// ByHand is the station of a unit that was registered without one.
const ByHand = "by-hand"

// maxBirthWord bounds station, hardware revision and batch, in bytes.
const maxBirthWord = 64

// Registration is a unit that is to be registered, and where it comes from
// (CC 1.7).
type Registration struct {
	Device   core.DeviceID
	Product  core.ProductID
	Station  string // where: a line, a bench; "": ByHand
	Hardware string // revision; may be empty
	Batch    string // may be empty
}

// ValidBirthWord reports whether s may stand in a birth record: up to 64
// letters, digits, '.', '_', '/', '+' and '-'. It is kept for ever and names no
// person.
func ValidBirthWord(s string) bool {
	if len(s) > maxBirthWord {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '/' && c != '+' && c != '-' {
			return false
		}
	}
	return true
}

func (r *Registration) check() error {
	if !r.Device.Valid() {
		return core.E(core.Invalid, "device-id", "the serial number is not in the form of a device id", "use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit")
	}
	if !r.Product.Valid() {
		return core.E(core.Invalid, "product-id", "the product is not in the form of a product id", "use the `product` of its declaration")
	}
	for what, s := range map[string]string{"station": r.Station, "hardware revision": r.Hardware, "batch": r.Batch} {
		if !ValidBirthWord(s) {
			return core.E(core.Invalid, "birth-word", "the "+what+" is no word of 64 characters", "use up to 64 letters, digits, '.', '_', '/', '+' and '-'; it is kept for ever, so it names no person")
		}
	}
	return nil
}

// born is the birth record of a unit that is registered now.
func (r *Registration) born(by core.Actor, now time.Time) BirthRow {
	b := BirthRow{Device: r.Device, Station: r.Station, Operator: by.ID, Time: now.Truncate(time.Microsecond), Hardware: r.Hardware, Batch: r.Batch}
	if b.Station == "" {
		b.Station = ByHand
	}
	_, _ = rand.Read(b.Salt[:]) // crypto/rand.Read never fails
	return b
}

// Digest is what the ledger holds of a birth record: of what was written with
// the registration, which never changes. It is salted: who has the ledger alone
// finds no serial number by trying.
func (b *BirthRow) Digest() core.Hash {
	source := ""
	if !b.Source.IsZero() {
		source = b.Source.String()
	}
	out, err := json.Marshal(struct {
		Salt     string        `json:"salt"`
		Device   core.DeviceID `json:"device"`
		Door     Door          `json:"door"`
		Station  string        `json:"station"`
		Operator string        `json:"operator"`
		Time     int64         `json:"time_us"`
		Hardware string        `json:"hardware"`
		Batch    string        `json:"batch"`
		Source   string        `json:"source"`
		CodeBits int           `json:"code_bits"`
	}{hex.EncodeToString(b.Salt[:]), b.Device, b.Door, b.Station, b.Operator, b.Time.UnixMicro(), b.Hardware, b.Batch, source, b.CodeBits})
	if err != nil {
		return core.Hash{} // strings and numbers: it cannot fail
	}
	return sha256.Sum256(out)
}

// The facts of RecordAdded.
const (
	factDoor  = "door"
	factBirth = "birth" // BirthRow.Digest
)

// Facts are what RecordAdded says of a birth in clear.
func (b *BirthRow) facts() []core.Fact {
	return []core.Fact{
		{Name: factDoor, Value: string(b.Door)}, {Name: "code_bits", Value: fmt.Sprint(b.CodeBits)}, {Name: factBirth, Value: b.Digest().String()},
	}
}

// register writes a unit with its birth record and the ledger's.
func (s *Service) register(ctx context.Context, tx Tx, st *state, by core.Actor, b BirthRow) error {
	if err := tx.InsertDevice(ctx, st.dev); err != nil {
		return err
	}
	if err := tx.PutBirth(ctx, b); err != nil {
		return err
	}
	return tx.Record(ctx, s.record(st, RecordAdded, by, sealedPart{}, b.facts()...))
}

// newState is a unit that nobody has seen yet.
func newState(r *Registration, now time.Time) *state {
	st := &state{dev: DeviceRow{ID: r.Device, Product: r.Product, Revision: 1, Added: now}}
	_, _ = rand.Read(st.dev.Unit[:]) // crypto/rand.Read never fails
	return st
}

// Register registers a unit and makes its enrolment code, which is shown this
// once and kept only as a hash (CC 1.9, 1.12). It is core.Conflict when the
// unit is registered. The product need not be declared yet: its first
// enrolment is what waits for that (CC 1.1).
func (s *Service) Register(ctx context.Context, by core.Actor, r Registration) (code string, err error) {
	if err := r.check(); err != nil {
		return "", err
	}
	code, hash := newCode()
	now := s.d.Now().UTC()
	st := newState(&r, now)
	st.dev.Code, st.dev.CodeUntil = hash, s.codeEnd(now)
	b := r.born(by, now)
	b.Door, b.CodeBits = DoorCode, CodeBits
	err = s.d.Update(ctx, func(tx Tx) error { return s.register(ctx, tx, st, by, b) })
	if err != nil {
		return "", fmt.Errorf("add device: %w", err)
	}
	s.index.apply(st)
	return code, nil
}

// AddDevice is Register for a unit of which nothing else is known.
func (s *Service) AddDevice(ctx context.Context, by core.Actor, product core.ProductID, id core.DeviceID) (code string, err error) {
	return s.Register(ctx, by, Registration{Device: id, Product: product})
}
