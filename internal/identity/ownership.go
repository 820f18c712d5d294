package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
)

// open gives a device an owner: a new subject with a key of its own. The key
// lies outside the database, so it is three steps (design, section 5, Effects
// outside SQL):
//
//	intent row → key → completion row
//
// A crash at either arrow is finished by redoOpenings. Nothing sees the
// subject before the last step.
func (s *Service) open(ctx context.Context, id core.DeviceID, by core.Actor) (*state, error) {
	done, err := s.turn(ctx, id)
	if err != nil {
		return nil, err
	}
	defer done()
	var want OwnershipRow
	st, err := s.change(ctx, id, func(tx Tx, st *state) error {
		if st.own != nil && st.own.Done {
			return errNoChange
		}
		if st.own != nil { // a crash left it
			want = *st.own
			if s.d.Keys.Has(want.Subject) {
				return errNoChange
			}
			// Whether its key was ever made is not known, and a key must never
			// be made again: take a new subject.
			if err := tx.DeleteOwnership(ctx, want.Subject); err != nil {
				return err
			}
			by = want.Actor
		}
		want = OwnershipRow{Device: id, Actor: by, Opened: s.d.Now().UTC()}
		_, _ = rand.Read(want.Subject[:]) // crypto/rand.Read never fails
		own := want
		st.own = &own
		return tx.InsertOwnership(ctx, own)
	})
	if err != nil {
		return nil, fmt.Errorf("open ownership: %w", err)
	}
	if st.own != nil && st.own.Done {
		return st, nil
	}
	if !s.d.Keys.Has(want.Subject) {
		if err := s.d.Keys.AddSubject(ctx, want.Subject); err != nil {
			return nil, fmt.Errorf("open ownership: %w", err)
		}
	}
	st, err = s.change(ctx, id, func(tx Tx, st *state) error {
		if st.own == nil || st.own.Subject != want.Subject {
			return core.E(core.Conflict, "ownership-changed", "the device's ownership changed meanwhile", "try again")
		}
		if st.own.Done {
			return errNoChange
		}
		if err := tx.CompleteOwnership(ctx, want.Subject); err != nil {
			return err
		}
		st.own.Done = true
		st.dev.Ownerships++
		by := st.own.Actor
		if by.Kind == core.ActorDevice {
			by.ID = want.Subject.String()
		}
		return tx.Record(ctx, s.record(st, RecordOwned, by, sealedPart{}))
	})
	if err != nil {
		return nil, fmt.Errorf("open ownership: %w", err)
	}
	s.d.Notify(Change{Device: id, Kind: ChangeOwnership})
	return st, nil
}

// turn waits until nobody else opens an ownership of this device.
func (s *Service) turn(ctx context.Context, id core.DeviceID) (func(), error) {
	for {
		s.openMu.Lock()
		busy := s.opening[id]
		if busy == nil {
			mine := make(chan struct{})
			s.opening[id] = mine
			s.openMu.Unlock()
			return func() {
				s.openMu.Lock()
				delete(s.opening, id)
				s.openMu.Unlock()
				close(mine)
			}, nil
		}
		s.openMu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// redoOpenings finishes what a crash left between intent and completion.
func (s *Service) redoOpenings(ctx context.Context) error {
	var rows []OwnershipRow
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		rows, err = tx.OwnershipIntents(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("read ownership intents: %w", err)
	}
	for _, o := range rows {
		if _, err := s.open(ctx, o.Device, o.Actor); err != nil {
			return fmt.Errorf("redo: %w", err)
		}
	}
	return nil
}

// Reopen gives a device that nobody owns, after an erasure, a new owner: a new
// subject that nothing ties to the old one.
func (s *Service) Reopen(ctx context.Context, by core.Actor, id core.DeviceID) error {
	st := s.index.device(id)
	switch {
	case st == nil:
		return unknownDevice()
	case !st.dev.Revoked.IsZero():
		return core.E(core.Conflict, "revoked", "the device is revoked", "give it a new enrolment code first")
	case !st.subject().IsZero():
		return core.E(core.Conflict, "owned", "the device has an owner", "erase its readings first; that ends the ownership")
	case st.lost:
		if err := s.EndOwnership(ctx, st.own.Subject); err != nil {
			return err
		}
	}
	_, err := s.open(ctx, id, by)
	return err
}

// EndOwnership unlinks a device from this subject: the eraser of everything
// that ties the two. The device is then nobody's, and stays so until Reopen.
// Ending what has ended is not an error.
func (s *Service) EndOwnership(ctx context.Context, subject core.Subject) error {
	var ended *state
	var apart []*state // children of it
	err := s.d.Update(ctx, func(tx Tx) error {
		ended, apart = nil, nil
		o, err := tx.OwnershipOf(ctx, subject)
		if err != nil || o == nil {
			return err
		}
		if apart, err = s.leaveHub(ctx, tx, o.Device); err != nil {
			return err
		}
		ended, err = s.changeIn(ctx, tx, o.Device, func(tx Tx, st *state) error {
			if err := s.unlink(ctx, tx, st, core.Job("erasure"), "owner-ended", ""); err != nil {
				return err
			}
			if err := tx.DeleteOwnership(ctx, subject); err != nil {
				return err
			}
			st.own, st.lost = nil, false
			return tx.Record(ctx, core.Record{
				Time: s.d.Now().UTC(), Kind: RecordEnded, Actor: core.Job("erasure"),
				Subject: subject, Product: st.dev.Product,
			})
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("end ownership: %w", err)
	}
	if ended != nil {
		s.index.apply(ended)
		for _, st := range apart {
			s.index.apply(st)
		}
		s.d.Notify(Change{Device: ended.dev.ID, Kind: ChangeOwnership})
	}
	return nil
}

func unknownDevice() error {
	return core.E(core.Unknown, "unknown-device", "no such device", "see `hawser device list`")
}

func isUnknown(err error) bool {
	e, ok := errors.AsType[*core.Error](err)
	return ok && e.Kind == core.Unknown
}
