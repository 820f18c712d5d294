package identity

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Receipt proves that a device was revoked. The same stands in the ledger.
type Receipt struct {
	Kind         core.RecordKind
	Time         time.Time
	Device       core.DeviceID
	Product      core.ProductID
	Subject      core.Subject // zero: the device was nobody's
	Certificates int          // how many were ended by this call
	Reason       string
}

// Revoke ends every certificate of a device and its enrolment code. It is
// durable and in force when it returns; Notify has been called, so that the
// gateway cuts a live session within a second (CC 3.2). Revoking twice is not
// an error and gives the time of the first.
func (s *Service) Revoke(ctx context.Context, by core.Actor, id core.DeviceID, why string) (Receipt, error) {
	if why == "" || len(why) > maxReason {
		return Receipt{}, core.E(core.Invalid, "no-reason", "a reason is required", "say why the device is revoked; it stands in the ledger")
	}
	r := Receipt{Kind: RecordRevoked, Device: id, Reason: why}
	st, err := s.change(ctx, id, func(tx Tx, st *state) error {
		r.Certificates, r.Time = 0, st.dev.Revoked
		r.Product, r.Subject = st.dev.Product, st.subject()
		if !st.dev.Revoked.IsZero() {
			return errNoChange
		}
		now := s.d.Now().UTC()
		r.Time = now
		st.dev.Revoked = now
		if !st.dev.Code.IsZero() {
			st.dev.Spent, st.dev.Code = st.dev.Code, core.Hash{}
		}
		for i := range st.certs {
			c := &st.certs[i]
			if c.State == Revoked {
				continue
			}
			c.State, c.Ended, c.DER = Revoked, now, nil
			r.Certificates++
			if err := tx.UpdateCertificate(ctx, *c); err != nil {
				return err
			}
		}
		return tx.Record(ctx, s.record(st, RecordRevoked, by, sealedPart{Reason: why},
			core.Fact{Name: "certificates", Value: strconv.Itoa(r.Certificates)}))
	})
	if err != nil {
		return Receipt{}, fmt.Errorf("revoke: %w", err)
	}
	s.d.Notify(Change{Device: st.dev.ID, Kind: ChangeRevoked})
	return r, nil
}

// Release ends a quarantine, when staff has found out which of the two is the
// device. Certificates that had been replaced are refused from now on: one of
// them is the copy's, and a copy that comes back must not put the device in
// quarantine again. Releasing what is free is not an error.
func (s *Service) Release(ctx context.Context, by core.Actor, id core.DeviceID, why string) error {
	if why == "" || len(why) > maxReason {
		return core.E(core.Invalid, "no-reason", "a reason is required", "say why the quarantine ends; it stands in the ledger")
	}
	_, err := s.change(ctx, id, func(tx Tx, st *state) error {
		if st.dev.Suspect.IsZero() {
			return errNoChange
		}
		st.dev.Suspect, st.dev.Suspicion = time.Time{}, ""
		ended := 0
		for i := range st.certs {
			c := &st.certs[i]
			if c.State != Superseded {
				continue
			}
			c.State, c.Ended = Revoked, s.d.Now().UTC()
			ended++
			if err := tx.UpdateCertificate(ctx, *c); err != nil {
				return err
			}
		}
		return tx.Record(ctx, s.record(st, RecordReleased, by, sealedPart{Reason: why},
			core.Fact{Name: "certificates", Value: strconv.Itoa(ended)}))
	})
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	s.d.Notify(Change{Device: id, Kind: ChangeReleased})
	return nil
}
