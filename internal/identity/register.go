package identity

import (
	"context"
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

	Child    bool          // it has no certificate; a hub vouches for it
	Hub      core.DeviceID // of a child: which one; "": none at present
	HubSince time.Time     // zero: no hub
}

// DeviceState is what a device is to staff.
type DeviceState string

// The states of a device.
const (
	StateAdded       DeviceState = "added"       // registered; has not enrolled
	StateLegacy      DeviceState = "legacy"      // comes with what the maker gave it, at the legacy door
	StateActive      DeviceState = "active"      // has a good certificate
	StateExpired     DeviceState = "expired"     // its certificate ran out
	StateQuarantined DeviceState = "quarantined" // may update and report, nothing else
	StateRevoked     DeviceState = "revoked"     // refused
	StateChild       DeviceState = "child"       // a hub speaks for it
	StateAlone       DeviceState = "no-hub"      // a child that no hub speaks for
)

func (s *Service) device(st *state) Device {
	d := Device{
		ID: st.dev.ID, Product: st.dev.Product, Added: st.dev.Added, Subject: st.subject(), CodeOpen: !st.dev.Code.IsZero(),
		Quarantined: st.dev.Suspect, Suspicion: st.dev.Suspicion, State: StateAdded,
	}
	if !d.Subject.IsZero() {
		d.OwnedSince = st.own.Opened
	}
	if st.legacy.Live() {
		d.State = StateLegacy
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
	if st.dev.Child {
		d.Child, d.State = true, StateAlone
		if l := st.link; l != nil && s.index.vouched(l.Hub, []byte(st.dev.ID)) != nil {
			d.State, d.Hub, d.HubSince = StateChild, l.Hub, l.Since
		}
	}
	return d
}

// noChild refuses for a child what only a unit with a certificate has.
func noChild(st *state, instead string) error {
	if st.dev.Child {
		return core.E(core.Conflict, "child", "this is a child: it has no certificate and never will", instead)
	}
	return nil
}

// NewCode makes a new enrolment code for a unit that lost its key or was
// revoked, and withdraws the code and the unused certificate it had. The good
// certificate stays good until the one that is got with the code is used. A
// revoked unit may enrol again with it.
func (s *Service) NewCode(ctx context.Context, by core.Actor, id core.DeviceID) (code string, err error) {
	code, hash := newCode()
	now := s.d.Now().UTC()
	_, err = s.change(ctx, id, func(tx Tx, st *state) error {
		if err := noChild(st, "a hub speaks for it: `hawser child adopt HUB CHILD`"); err != nil {
			return err
		}
		if !st.dev.Code.IsZero() {
			st.dev.Spent = st.dev.Code
		}
		st.dev.Code, st.dev.CodeUntil, st.dev.Revoked = hash, s.codeEnd(now), time.Time{}
		// What it was listed with goes, like the code before this one.
		if err := tx.SpendBornUnit(ctx, id, now); err != nil {
			return err
		}
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
	Linked      int // children that have a hub
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
		if st.link != nil {
			c.Linked++
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
