package identity

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// maxReason bounds what a person gives as a reason, in bytes.
const maxReason = 1000

// Device is one unit as staff see it.
type Device struct {
	ID          core.DeviceID
	Product     core.ProductID
	State       DeviceState
	Added       time.Time
	Subject     core.Subject // zero: nobody's
	OwnedSince  time.Time    // zero: nobody's
	CodeOpen    bool         // an enrolment code waits to be used
	Serial      Serial       // of the good certificate; zero: none
	NotAfter    time.Time    // of the good certificate; zero: none
	Quarantined time.Time    // zero: not in quarantine
	Suspicion   string       // why it is in quarantine
}

// DeviceState is what a device is to staff.
type DeviceState string

// The states of a device.
const (
	StateAdded       DeviceState = "added"       // registered; has not enrolled
	StateActive      DeviceState = "active"      // has a good certificate
	StateExpired     DeviceState = "expired"     // its certificate ran out
	StateQuarantined DeviceState = "quarantined" // may update and report, nothing else
	StateRevoked     DeviceState = "revoked"     // refused
)

func (s *Service) device(st *state) Device {
	d := Device{
		ID: st.dev.ID, Product: st.dev.Product, Added: st.dev.Added, Subject: st.subject(), CodeOpen: !st.dev.Code.IsZero(),
		Quarantined: st.dev.Suspect, Suspicion: st.dev.Suspicion, State: StateAdded,
	}
	if !d.Subject.IsZero() {
		d.OwnedSince = st.own.Opened
	}
	if c := st.confirmed(); c != nil {
		d.Serial, d.NotAfter, d.State = c.Serial, c.NotAfter, StateActive
		if !s.d.Now().Before(c.NotAfter) {
			d.State = StateExpired
		}
	}
	if !st.dev.Suspect.IsZero() {
		d.State = StateQuarantined
	}
	if !st.dev.Revoked.IsZero() {
		d.State = StateRevoked
	}
	return d
}

// AddDevice registers a unit and makes its enrolment code, which is shown this
// once and kept only as a hash (CC 1.9, 1.12). It is core.Conflict when the
// unit is registered. The product need not be declared yet: its first
// enrolment is what waits for that (CC 1.1).
func (s *Service) AddDevice(ctx context.Context, by core.Actor, product core.ProductID, id core.DeviceID) (code string, err error) {
	if !id.Valid() {
		return "", core.E(core.Invalid, "device-id", "the serial number is not in the form of a device id", "use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit")
	}
	if !product.Valid() {
		return "", core.E(core.Invalid, "product-id", "the product is not in the form of a product id", "use the `product` of its declaration")
	}
	code, hash := newCode()
	now := s.d.Now().UTC()
	st := &state{dev: DeviceRow{ID: id, Product: product, Revision: 1, Added: now, Code: hash, CodeUntil: s.codeEnd(now)}}
	_, _ = rand.Read(st.dev.Unit[:]) // crypto/rand.Read never fails
	err = s.d.Update(ctx, func(tx Tx) error {
		if err := tx.InsertDevice(ctx, st.dev); err != nil {
			return err
		}
		// CC 1.7: where a unit comes from; CC 2.15: its credential is its own.
		if err := tx.PutBirth(ctx, BirthRow{Device: id, Operator: by.ID, Time: now, CodeBits: CodeBits}); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(st, RecordAdded, by, sealedPart{}, core.Fact{Name: "code_bits", Value: fmt.Sprint(CodeBits)}))
	})
	if err != nil {
		return "", fmt.Errorf("add device: %w", err)
	}
	s.index.apply(st)
	return code, nil
}

// NewCode makes a new enrolment code for a unit that lost its key or was
// revoked, and withdraws the code and the unused certificate it had. The good
// certificate stays good until the one that is got with the code is used. A
// revoked unit may enrol again with it.
func (s *Service) NewCode(ctx context.Context, by core.Actor, id core.DeviceID) (code string, err error) {
	code, hash := newCode()
	now := s.d.Now().UTC()
	_, err = s.change(ctx, id, func(tx Tx, st *state) error {
		if !st.dev.Code.IsZero() {
			st.dev.Spent = st.dev.Code
		}
		st.dev.Code, st.dev.CodeUntil, st.dev.Revoked = hash, s.codeEnd(now), time.Time{}
		if p := st.pending(); p != nil && !p.Code.IsZero() {
			p.State, p.Ended, p.DER = Revoked, now, nil
			if err := tx.UpdateCertificate(ctx, *p); err != nil {
				return err
			}
		}
		return tx.Record(ctx, s.record(st, RecordCode, by, sealedPart{}, core.Fact{Name: "code_bits", Value: fmt.Sprint(CodeBits)}))
	})
	if err != nil {
		return "", fmt.Errorf("new enrolment code: %w", err)
	}
	return code, nil
}

// Device is one unit, from the index.
func (s *Service) Device(id core.DeviceID) (Device, error) {
	st := s.index.device(id)
	if st == nil {
		return Device{}, unknownDevice()
	}
	return s.device(st), nil
}

// maxPage bounds a page of Devices.
const maxPage = 1000

// Devices lists up to limit units (at most 1,000) by id, beginning after one
// ("" for the first page).
func (s *Service) Devices(ctx context.Context, after core.DeviceID, limit int) ([]Device, error) {
	var rows []DeviceRow
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		rows, err = tx.DevicesAfter(ctx, after, max(1, min(limit, maxPage)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	out := make([]Device, 0, len(rows))
	for _, r := range rows {
		if st := s.index.device(r.ID); st != nil {
			out = append(out, s.device(st))
		}
	}
	return out, nil
}

// Birth says where a unit comes from (CC 1.7).
func (s *Service) Birth(ctx context.Context, id core.DeviceID) (BirthRow, error) {
	var b BirthRow
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		b, err = tx.Birth(ctx, id)
		return err
	})
	return b, err
}

// Counts is how many units there are in each state.
type Counts struct {
	Devices     int
	ByState     map[DeviceState]int
	Unowned     int // enrolled, but nobody's
	KeysMissing int // owned in the database, but the keyring has no key
}

// Counts counts the units; for doctor and metrics, not for every request.
func (s *Service) Counts() Counts {
	c := Counts{ByState: map[DeviceState]int{}}
	for _, st := range s.index.snapshot() {
		d := s.device(st)
		c.Devices++
		c.ByState[d.State]++
		if d.Subject.IsZero() && d.State != StateAdded {
			c.Unowned++
		}
		if st.lost {
			c.KeysMissing++
		}
	}
	return c
}

// Enrolled counts the units of each product that were given a certificate and
// are not revoked.
func (s *Service) Enrolled() map[core.ProductID]int {
	out := map[core.ProductID]int{}
	for _, st := range s.index.snapshot() {
		if len(st.certs) > 0 && st.dev.Revoked.IsZero() {
			out[st.dev.Product]++
		}
	}
	return out
}
