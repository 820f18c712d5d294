package identity

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// Terms is what a product's declaration says about its devices' identity.
type Terms struct {
	Life     time.Duration // of a certificate
	MaySleep time.Duration // how long after its end the latest certificate may still ask for a new one; 0: to the end of support

	Supported time.Time // the last moment of support
	Policy    core.Hash // the declaration in force
	Missing   []string  // what must be declared before the first device (CC 1.1); empty: nothing

	Children    []core.ProductID // of which its devices may have children, sorted
	MaxChildren int              // of one device; 0: it is no hub
}

// Policies knows the declarations in force. It fails with core.Unknown for a
// product without a published one.
type Policies interface {
	Terms(ctx context.Context, product core.ProductID) (Terms, error)
}

// Keys makes the keys of new subjects and seals what the ledger may say about
// them. The keyring is one.
type Keys interface {
	// AddSubject makes a subject's key, durable when it returns.
	AddSubject(context.Context, core.Subject) error
	Has(core.Subject) bool
	// SealValue seals a value under the subject's key.
	SealValue(s core.Subject, context string, plaintext []byte) ([]byte, error)
}

// ChangeKind says what happened to a device.
type ChangeKind string

// What Notify tells. The server cuts the sessions of a revoked device and of a
// superseded certificate, and asks Identify again for the other kinds.
const (
	ChangeRevoked     ChangeKind = "revoked"
	ChangeSuperseded  ChangeKind = "superseded" // the certificate Serial is not good any more
	ChangeOwnership   ChangeKind = "ownership"  // the device has another subject, or none
	ChangeQuarantined ChangeKind = "quarantined"
	ChangeReleased    ChangeKind = "released" // from quarantine
)

// Change is one change of a device that its sessions must follow.
type Change struct {
	Device core.DeviceID
	Kind   ChangeKind
	Serial Serial // of ChangeSuperseded; otherwise zero
}

// Deps is what a Service stands on. Every field but CodeLife is required.
type Deps struct {
	CA       *CA
	Update   func(context.Context, func(Tx) error) error
	View     func(context.Context, func(Tx) error) error
	Policies Policies
	Keys     Keys
	Gate     *gate.Gate // every enrolment code passes it
	// Notify is called after each commit that changed what a device may do. It
	// must not block and may be called from several goroutines.
	Notify func(Change)
	Now    func() time.Time
	// CodeLife is how long an enrolment code may wait for its device; 0: until
	// it is spent, for units that lie in a box for years.
	CodeLife time.Duration
	// TokenKey is at least 32 bytes, kept outside the database: with it, and
	// nothing else, the hashes of device tokens can be tried. nil: no device
	// comes with a token.
	TokenKey []byte
}

// Service is the register of devices. It is safe for concurrent use.
type Service struct {
	d        Deps
	env      core.Environment
	index    *index
	weak     *weakKeys
	confirms confirmQueue
	refusals refusals
	doors    legacyDoors
	seen     seen

	taking sync.Mutex // held while a factory's list, or one of old devices, is taken

	issueMu sync.Mutex
	issues  map[core.DeviceID]bucket // certificates lately made, by device

	openMu  sync.Mutex
	opening map[core.DeviceID]chan struct{} // closed when the opener is done
}

// New loads all devices and finishes what a crash left half done.
func New(ctx context.Context, d Deps) (*Service, error) {
	if d.CA == nil || d.Update == nil || d.View == nil || d.Policies == nil || d.Keys == nil || d.Gate == nil || d.Notify == nil || d.Now == nil {
		return nil, errors.New("identity: a dependency is missing")
	}
	weak, err := newWeakKeys()
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	s := &Service{
		d: d, env: d.CA.env, index: newIndex(), weak: weak,
		issues: map[core.DeviceID]bucket{}, opening: map[core.DeviceID]chan struct{}{},
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	if err := s.redoOpenings(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Service) load(ctx context.Context) error {
	err := s.d.View(ctx, func(tx Tx) error {
		legacy := map[core.DeviceID]*LegacyRow{}
		if err := tx.EachLegacy(ctx, func(r LegacyRow) error {
			if old := legacy[r.Device]; old == nil || !old.Live() {
				legacy[r.Device] = &r
			}
			return nil
		}); err != nil {
			return err
		}
		if err := s.loadLegacyCAs(ctx, tx); err != nil {
			return err
		}
		links := map[core.DeviceID]*LinkRow{}
		if err := tx.EachChildLink(ctx, func(l LinkRow) error { links[l.Child] = &l; return nil }); err != nil {
			return err
		}
		return tx.EachIdentity(ctx, s.d.Now(), func(d DeviceRow, certs []CertificateRow, o *OwnershipRow) error {
			st := &state{dev: d, certs: certs, own: o, legacy: legacy[d.ID], link: links[d.ID]}
			// A subject without a key was erased: by an erasure that a restore
			// from backup has forgotten, for one.
			st.lost = o != nil && o.Done && !s.d.Keys.Has(o.Subject)
			s.index.apply(st)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("load devices: %w", err)
	}
	return nil
}

// read is the committed state of a device inside a transaction.
func read(ctx context.Context, tx Tx, id core.DeviceID) (*state, error) {
	d, err := tx.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	st := &state{dev: d}
	if st.certs, err = tx.Certificates(ctx, id); err != nil {
		return nil, err
	}
	if st.own, err = tx.Ownership(ctx, id); err != nil {
		return nil, err
	}
	if st.legacy, err = tx.Legacy(ctx, id); err != nil {
		return nil, err
	}
	if d.Child {
		if st.link, err = tx.ChildLink(ctx, id); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// codeEnd is when a code that is made now ends unspent; zero: never.
func (s *Service) codeEnd(now time.Time) time.Time {
	if s.d.CodeLife <= 0 {
		return time.Time{}
	}
	return now.Add(s.d.CodeLife)
}

// errNoChange leaves a transaction without a trace and is no error.
var errNoChange = errors.New("nothing to change")

// change runs fn on the present state of a device in a transaction and shows
// the new state once it is committed. fn changes st and writes the same to tx,
// except the device's row, which is written here with its next revision.
// errNoChange from fn ends it quietly.
func (s *Service) change(ctx context.Context, id core.DeviceID, fn func(tx Tx, st *state) error) (*state, error) {
	var out *state
	err := s.d.Update(ctx, func(tx Tx) error {
		var err error
		out, err = s.changeIn(ctx, tx, id, fn)
		return err
	})
	if errors.Is(err, errNoChange) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	s.index.apply(out)
	return out, nil
}

func (s *Service) changeIn(ctx context.Context, tx Tx, id core.DeviceID, fn func(tx Tx, st *state) error) (*state, error) {
	st, err := read(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	st.lost = st.own != nil && st.own.Done && !s.d.Keys.Has(st.own.Subject)
	if err := fn(tx, st); err != nil {
		return st, err
	}
	st.dev.Revision++
	if err := tx.UpdateDevice(ctx, st.dev); err != nil {
		return nil, err
	}
	st.certs = keepLive(st.certs, s.d.Now())
	return st, nil
}

// CA is the authority that the service issues with.
func (s *Service) CA() *CA { return s.d.CA }

// Trim forgets what cannot be of use any more: certificates in memory that ran
// out, and rows of certificates that ended or ran out longer than keep ago.
// It is for a daily job. Public keys are remembered for ever.
func (s *Service) Trim(ctx context.Context, keep time.Duration) (int, error) {
	now := s.d.Now()
	s.index.trim(now)
	s.issueMu.Lock()
	for id, b := range s.issues {
		if b.level(now, issueRefill) == 0 {
			delete(s.issues, id)
		}
	}
	s.issueMu.Unlock()
	n := 0
	err := s.d.Update(ctx, func(tx Tx) error {
		var err error
		n, err = tx.PruneCertificates(ctx, now.Add(-keep))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("prune certificates: %w", err)
	}
	return n, nil
}
