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
	Cause        Cause
	TextKept     bool // what was added to the cause lies sealed in the ledger
}

// Revoke ends every certificate of a device and its enrolment code. It is
// durable and in force when it returns; Notify has been called, so that the
// gateway cuts a live session within a second (CC 3.2). Revoking twice is not
// an error and gives the time of the first.
func (s *Service) Revoke(ctx context.Context, by core.Actor, id core.DeviceID, why Why) (Receipt, error) {
	why, err := why.checked()
	if err != nil {
		return Receipt{}, err
	}
	r := Receipt{Kind: RecordRevoked, Device: id, Cause: why.Cause}
	st, err := s.change(ctx, id, func(tx Tx, st *state) error {
		if err := noChild(st, "take it from its hub: `hawser child remove CHILD`"); err != nil {
			return err
		}
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
		if st.legacy.Live() { // the register's own record says by whom and why
			st.legacy.Ended, st.legacy.Why = now, LegacyRevoked
			if err := tx.UpdateLegacy(ctx, *st.legacy); err != nil {
				return err
			}
		}
		rec := s.record(st, RecordRevoked, by, sealedPart{Reason: why.Text}, why.fact(),
			core.Fact{Name: "certificates", Value: strconv.Itoa(r.Certificates)})
		r.TextKept = why.Text != "" && rec.Sealed != nil
		return tx.Record(ctx, rec)
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
// quarantine again. Releasing what is free is not an error, and leaves no record:
// the receipt has no time.
func (s *Service) Release(ctx context.Context, by core.Actor, id core.DeviceID, why Why) (Receipt, error) {
	why, err := why.checked()
	if err != nil {
		return Receipt{}, err
	}
	r := Receipt{Kind: RecordReleased, Device: id, Cause: why.Cause}
	_, err = s.change(ctx, id, func(tx Tx, st *state) error {
		r.Product, r.Subject, r.Certificates = st.dev.Product, st.subject(), 0
		if st.dev.Suspect.IsZero() {
			return errNoChange
		}
		now := s.d.Now().UTC()
		r.Time = now
		st.dev.Suspect, st.dev.Suspicion = time.Time{}, ""
		for i := range st.certs {
			c := &st.certs[i]
			if c.State != Superseded {
				continue
			}
			c.State, c.Ended = Revoked, now
			r.Certificates++
			if err := tx.UpdateCertificate(ctx, *c); err != nil {
				return err
			}
		}
		rec := s.record(st, RecordReleased, by, sealedPart{Reason: why.Text}, why.fact(),
			core.Fact{Name: "certificates", Value: strconv.Itoa(r.Certificates)})
		r.TextKept = why.Text != "" && rec.Sealed != nil
		return tx.Record(ctx, rec)
	})
	if err != nil {
		return Receipt{}, fmt.Errorf("release: %w", err)
	}
	s.d.Notify(Change{Device: id, Kind: ChangeReleased})
	return r, nil
}

func (w Why) fact() core.Fact { return core.Fact{Name: "cause", Value: string(w.Cause)} }
