package identity

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hawser-iot/hawser/internal/core"
)

// maxConfirms bounds the first handshakes that one transaction marks.
const maxConfirms = 256

// confirmQueue gathers first handshakes that arrive while a transaction runs,
// so that a fleet that comes up at once costs one fsync for many. Whoever
// finds nobody at work commits for all who wait; there is no goroutine of its
// own.
type confirmQueue struct {
	mu      sync.Mutex
	busy    bool
	waiting []*confirmation
}

type confirmation struct {
	device core.DeviceID
	serial Serial
	done   chan struct{}
	lead   bool // the answer is not there yet: commit for all who wait
	st     *state
	err    error
}

// confirm makes the first handshake with a certificate durable. The state it
// returns may show the certificate as superseded or revoked meanwhile.
func (s *Service) confirm(ctx context.Context, id core.DeviceID, serial Serial) (*state, error) {
	q := &s.confirms
	c := &confirmation{device: id, serial: serial, done: make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, c)
	lead := !q.busy
	q.busy = true
	q.mu.Unlock()
	if !lead {
		// The handshake is complete whatever becomes of the connection, and a
		// commit is short: wait for it even when ctx ends.
		<-c.done
		if !c.lead {
			return c.st, c.err
		}
	}
	s.confirmBatch(context.WithoutCancel(ctx))
	return c.st, c.err
}

// confirmBatch commits the first maxConfirms that wait, the caller's among
// them, and hands the lead to the next.
func (s *Service) confirmBatch(ctx context.Context) {
	q := &s.confirms
	q.mu.Lock()
	n := min(len(q.waiting), maxConfirms)
	batch := append([]*confirmation(nil), q.waiting[:n]...)
	q.waiting = append(q.waiting[:0], q.waiting[n:]...)
	q.mu.Unlock()

	var after []func()
	err := s.d.Update(ctx, func(tx Tx) error {
		after = after[:0]
		for _, c := range batch {
			show, err := s.confirmIn(ctx, tx, c)
			if err != nil {
				return err
			}
			after = append(after, show)
		}
		return nil
	})
	if err == nil {
		for _, show := range after {
			show()
		}
	}
	q.mu.Lock()
	var next *confirmation
	if len(q.waiting) > 0 {
		next = q.waiting[0]
		next.lead = true
	} else {
		q.busy = false
	}
	q.mu.Unlock()
	for _, c := range batch {
		if err != nil {
			c.st, c.err = nil, unavailable(fmt.Errorf("confirm certificate: %w", err))
		}
		if !c.lead {
			close(c.done)
		}
	}
	if next != nil {
		close(next.done)
	}
}

// confirmIn marks one first handshake: the certificate is the good one, the
// one before it is not, and the code it was got with is spent.
func (s *Service) confirmIn(ctx context.Context, tx Tx, c *confirmation) (show func(), err error) {
	now := s.d.Now().UTC()
	var ended []Serial
	st, err := s.changeIn(ctx, tx, c.device, func(tx Tx, st *state) error {
		cert := st.cert(c.serial)
		if cert == nil || cert.State != Issued || !st.dev.Revoked.IsZero() {
			return errNoChange
		}
		for i := range st.certs {
			o := &st.certs[i]
			if o.Serial == c.serial || o.State != Confirmed && o.State != Issued {
				continue
			}
			o.State, o.Ended, o.DER = Superseded, now, nil
			ended = append(ended, o.Serial)
			if err := tx.UpdateCertificate(ctx, *o); err != nil {
				return err
			}
		}
		cert.State, cert.Confirmed, cert.DER = Confirmed, now, nil
		if err := tx.UpdateCertificate(ctx, *cert); err != nil {
			return err
		}
		if st.legacy.Live() {
			ended = append(ended, st.legacy.ID)
			if err := s.endLegacy(ctx, tx, st, LegacyEnrolled, st.actor()); err != nil {
				return err
			}
		}
		switch cert.Door {
		case DoorCode:
			if st.dev.Code == cert.Code {
				st.dev.Spent, st.dev.Code = st.dev.Code, core.Hash{}
			}
		case DoorList:
			if err := tx.SpendBornUnit(ctx, c.device, now); err != nil {
				return err
			}
		case DoorCA, DoorLegacy:
		default:
			return nil // a renewal was recorded when it was issued
		}
		if err := s.birth(ctx, tx, cert); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(st, RecordEnrolled, st.actor(), sealedPart{Certificate: cert.Serial.String()}))
	})
	if err != nil && !errors.Is(err, errNoChange) {
		return nil, err
	}
	changed := err == nil
	c.st, c.err = st, nil
	return func() {
		if !changed {
			return
		}
		s.index.apply(st)
		for _, serial := range ended {
			s.d.Notify(Change{Device: c.device, Kind: ChangeSuperseded, Serial: serial})
		}
	}, nil
}

// birth completes where a unit comes from (CC 1.7): the key of its first
// handshake was made by the device, or it could not have signed the request.
func (s *Service) birth(ctx context.Context, tx Tx, cert *CertificateRow) error {
	b, err := tx.Birth(ctx, cert.Device)
	if err != nil || !b.Enrolled.IsZero() {
		return err
	}
	b.KeyOrigin, b.Key, b.Enrolled = "device", cert.Key, cert.Confirmed
	return tx.PutBirth(ctx, b)
}
