package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// The kinds of records about the legacy door.
const (
	RecordLegacyAdded   core.RecordKind = "legacy-devices-added"
	RecordLegacyUsed    core.RecordKind = "legacy-credential-used" // for the first time
	RecordLegacyEnded   core.RecordKind = "legacy-credential-ended"
	RecordLegacyCAAdded core.RecordKind = "legacy-ca-added"
	RecordLegacyCAEnded core.RecordKind = "legacy-ca-ended"
)

const (
	// MaxLegacyList is how many devices one list may bring.
	MaxLegacyList = 2000
	// legacySeenEvery is how exactly the last use of a credential is kept.
	legacySeenEvery = time.Hour
)

// LegacyTerms is what a product's declaration in force says about devices that
// come with a credential of the maker's (design, section 5, Brownfield).
type LegacyTerms struct {
	Auth       Credential // OwnCA or DeviceToken; "": the door is shut
	Until      time.Time  // the last moment on which it is open
	MaxDevices int
}

// refusedLegacy is the one answer to a legacy credential that is not admitted.
func refusedLegacy(reason string) *core.Error {
	return core.E(core.Denied, reason, "this credential is not accepted here", "enrol the device: it gets a certificate of its own for it, while the door is open")
}

// legacyDoors is what the declarations say, and the authorities that stand.
type legacyDoors struct {
	mu    sync.RWMutex // guards what follows
	terms map[core.ProductID]LegacyTerms
	cas   map[core.Hash]*legacyCA
}

type legacyCA struct {
	row  LegacyCA
	cert *x509.Certificate
}

// SetLegacy puts in force what a product's declaration says of its legacy door.
func (s *Service) SetLegacy(product core.ProductID, t LegacyTerms) {
	s.doors.mu.Lock()
	defer s.doors.mu.Unlock()
	if s.doors.terms == nil {
		s.doors.terms = map[core.ProductID]LegacyTerms{}
	}
	s.doors.terms[product] = t
}

// LegacyTerms is what is in force for a product; zero: the door is shut.
func (s *Service) LegacyTerms(product core.ProductID) LegacyTerms {
	s.doors.mu.RLock()
	defer s.doors.mu.RUnlock()
	return s.doors.terms[product]
}

// TakesTokens reports whether a declaration in force lets devices come without
// a certificate, with a token of their own.
func (s *Service) TakesTokens() bool {
	if s.d.TokenKey == nil {
		return false
	}
	now := s.d.Now()
	s.doors.mu.RLock()
	defer s.doors.mu.RUnlock()
	for _, t := range s.doors.terms {
		if t.Auth == DeviceToken && now.Before(t.Until) {
			return true
		}
	}
	return false
}

// legacyOpen says why a device may not come by its legacy credential now, and
// until when it may.
func (s *Service) legacyOpen(st *state) (until time.Time, err error) {
	row := st.legacy
	t := s.LegacyTerms(st.dev.Product)
	switch now := s.d.Now(); {
	case row == nil:
		return until, refusedLegacy("legacy-unknown")
	case st.dev.Child: // whoever wrote it into the store: no door lets a child in
		return until, refusedLegacy("child")
	case !st.dev.Revoked.IsZero() || row.Why == LegacyRevoked:
		return until, refusedLegacy("revoked")
	case !row.Live():
		return until, refusedLegacy("legacy-ended")
	case t.Auth != row.Kind:
		return until, refusedLegacy("legacy-not-declared")
	case !now.Before(t.Until):
		return until, refusedLegacy("legacy-door-closed")
	case !s.index.legacyWithin(st, t.MaxDevices):
		return until, refusedLegacy("legacy-too-many")
	default:
		return t.Until, nil
	}
}

// welcomeLegacy lets a device in that has proved its legacy credential: until
// owners can claim, its first use opens the first ownership, as enrolment does.
func (s *Service) welcomeLegacy(ctx context.Context, st *state) (Identified, error) {
	until, err := s.legacyOpen(st)
	if err != nil {
		if core.ReasonOf(err) == "legacy-ended" {
			// Whoever holds it once held the device's secret. It is no authority
			// any more, so it changes nothing: see Enrol.
			if ferr := s.finding(ctx, st.dev.ID, "legacy-credential-used-again"); ferr != nil {
				return Identified{}, unavailable(ferr)
			}
		}
		return Identified{}, err
	}
	if _, err := s.terms(ctx, st.dev.Product); err != nil { // CC 1.1
		return Identified{}, err
	}
	if st, err = s.owned(ctx, st); err != nil {
		return Identified{}, err
	}
	if now := s.d.Now().UTC(); now.Sub(st.legacy.Seen) >= legacySeenEvery {
		if st, err = s.seenLegacy(ctx, st.dev.ID, now); err != nil {
			return Identified{}, unavailable(err)
		}
		if until, err = s.legacyOpen(st); err != nil {
			return Identified{}, err
		}
	}
	return identifiedLegacy(st, until), nil
}

func identifiedLegacy(st *state, until time.Time) Identified {
	if n := st.legacy.NotAfter; !n.IsZero() && n.Before(until) {
		until = n
	}
	return identified(st, st.legacy.ID, until)
}

// seenLegacy notes a use of a legacy credential.
func (s *Service) seenLegacy(ctx context.Context, id core.DeviceID, now time.Time) (*state, error) {
	st, err := s.change(ctx, id, func(tx Tx, st *state) error {
		if !st.legacy.Live() || now.Sub(st.legacy.Seen) < legacySeenEvery {
			return errNoChange
		}
		first := st.legacy.Seen.IsZero()
		st.legacy.Seen = now
		if err := tx.UpdateLegacy(ctx, *st.legacy); err != nil || !first {
			return err
		}
		return tx.Record(ctx, s.record(st, RecordLegacyUsed, st.actor(), sealedPart{}, core.Fact{Name: "credential", Value: string(st.legacy.Kind)}))
	})
	if err != nil {
		return nil, fmt.Errorf("note the use of a legacy credential: %w", err)
	}
	return st, nil
}

// endLegacy ends a device's legacy credential, with its record.
func (s *Service) endLegacy(ctx context.Context, tx Tx, st *state, why LegacyEnd, by core.Actor) error {
	st.legacy.Ended, st.legacy.Why = s.d.Now().UTC(), why
	if err := tx.UpdateLegacy(ctx, *st.legacy); err != nil {
		return err
	}
	return tx.Record(ctx, s.record(st, RecordLegacyEnded, by, sealedPart{},
		core.Fact{Name: "credential", Value: string(st.legacy.Kind)}, core.Fact{Name: "why", Value: string(why)}))
}

// RecheckLegacy says who the holder of a live session is by now that began with
// a legacy credential: Recheck, for those.
func (s *Service) RecheckLegacy(id Serial) (Identified, error) {
	st := s.index.legacyID(id)
	if st == nil || st.legacy.ID != id {
		return Identified{}, refusedLegacy("legacy-ended")
	}
	until, err := s.legacyOpen(st)
	if err != nil {
		return Identified{}, err
	}
	if st.legacy.Kind == OwnCA {
		if _, err := s.legacyAuthority(st.legacy); err != nil {
			return Identified{}, err
		}
	}
	return identifiedLegacy(st, until), nil
}

// WithdrawLegacy ends a device's legacy credential and leaves the device as it
// is: with an enrolment code, or a new credential, it comes again.
func (s *Service) WithdrawLegacy(ctx context.Context, by core.Actor, id core.DeviceID, cause Cause) error {
	if _, err := (Why{Cause: cause}).checked(); err != nil {
		return err
	}
	var ended Serial
	_, err := s.change(ctx, id, func(tx Tx, st *state) error {
		if !st.legacy.Live() {
			return core.E(core.Conflict, "legacy-ended", "the device has no credential at the legacy door", "`hawser legacy list PRODUCT` shows which have")
		}
		ended = st.legacy.ID
		st.legacy.Ended, st.legacy.Why = s.d.Now().UTC(), LegacyWithdrawn
		if err := tx.UpdateLegacy(ctx, *st.legacy); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(st, RecordLegacyEnded, by, sealedPart{},
			core.Fact{Name: "credential", Value: string(st.legacy.Kind)}, core.Fact{Name: "why", Value: string(LegacyWithdrawn)}, core.Fact{Name: "cause", Value: string(cause)}))
	})
	if err != nil {
		return fmt.Errorf("withdraw legacy credential: %w", err)
	}
	s.d.Notify(Change{Device: id, Kind: ChangeSuperseded, Serial: ended})
	return nil
}

// mayBring says why a product may not bring so many more devices to its legacy
// door.
func (s *Service) mayBring(ctx context.Context, product core.ProductID, kind Credential, more int, reason string) (Terms, error) {
	if !product.Valid() {
		return Terms{}, core.E(core.Invalid, "product-id", "the product is not in the form of a product id", "use the `product` of its declaration")
	}
	if reason == "" || !ValidBirthWord(reason) {
		return Terms{}, core.E(core.Invalid, "legacy-reason", "the reason is no word of 64 characters", "give --reason, a word such as a change's number: it stands in the ledger for ever, so it names no person")
	}
	terms, err := s.terms(ctx, product)
	if err != nil {
		return terms, err
	}
	t := s.LegacyTerms(product)
	switch {
	case t.Auth == "":
		return terms, core.E(core.Unready, "legacy-not-declared", "the declaration of "+string(product)+" has no door for old devices", "declare it: `legacy: {auth: "+string(kind)+", until: DATE, max_devices: N}`")
	case t.Auth != kind:
		return terms, core.E(core.Unready, "legacy-not-declared", fmt.Sprintf("the declaration of %s says %s, not %s", product, t.Auth, kind), "one door takes one kind of credential")
	case !s.d.Now().Before(t.Until):
		return terms, core.E(core.Conflict, "legacy-door-closed", "the door for old devices closed on "+t.Until.Format(time.DateOnly), "enrol the devices")
	case more > MaxLegacyList:
		return terms, core.E(core.TooLarge, "legacy-list-long", fmt.Sprintf("the list has more than %d devices", MaxLegacyList), "split it")
	case s.index.legacyLive(product)+more > t.MaxDevices:
		return terms, tooManyLegacy(product, s.index.legacyLive(product), more, t.MaxDevices)
	}
	return terms, nil
}

func tooManyLegacy(product core.ProductID, have, more, most int) error {
	return core.E(core.Conflict, "legacy-too-many", fmt.Sprintf("%s has %d old devices, and with %d more would have more than the %d that it declares", product, have, more, most),
		"raise `max_devices` in the declaration, or enrol some: whoever has a certificate of its own does not count")
}

// bringOne registers a device with its legacy credential, or gives it to one
// that is registered and never had a certificate. The same credential for the
// same device again is errNoChange.
func (s *Service) bringOne(ctx context.Context, tx Tx, by core.Actor, product core.ProductID, row LegacyRow) (*state, error) {
	holder, err := tx.LegacyAlone(ctx, row.Alone)
	if err != nil {
		return nil, err
	}
	if holder != nil && holder.Device == row.Device && holder.Live() && holder.Proof == row.Proof {
		return nil, errNoChange
	}
	if holder != nil {
		// CC 1.9: never one secret for two, and never one that ended again.
		return nil, core.E(core.Conflict, "legacy-shared", fmt.Sprintf("the credential of %s is, or was, in the register already", row.Device), "each device has a secret of its own, and one that ended is not used again: give the device a new one, or an enrolment code")
	}
	now := s.d.Now().UTC()
	row.Operator, row.Added = by.ID, now
	_, err = tx.Device(ctx, row.Device)
	switch {
	case isUnknown(err):
		r := Registration{Device: row.Device, Product: product, Station: "legacy"}
		if err := r.check(); err != nil {
			return nil, err
		}
		st := newState(&r, now)
		b := r.born(by, now)
		b.Door = DoorLegacy
		if err := s.register(ctx, tx, st, by, b); err != nil {
			return nil, err
		}
		st.legacy = &row
		return st, tx.InsertLegacy(ctx, row)
	case err != nil:
		return nil, err
	}
	return s.changeIn(ctx, tx, row.Device, func(tx Tx, st *state) error {
		busy := func(reason, message, hint string) error {
			return core.E(core.Conflict, reason, fmt.Sprintf(message, row.Device), hint)
		}
		switch {
		case st.dev.Child:
			return busy("child", "%s is a child: it has no credential, and a hub speaks for it", "give the old device an id of its own")
		case st.dev.Product != product:
			return busy("legacy-product", "%s is a device of another product", "a serial number is one device's, whatever the product")
		case !st.dev.Revoked.IsZero():
			return busy("revoked", "%s is revoked", "it comes again with an enrolment code: `hawser device code`")
		case len(st.certs) > 0:
			return busy("legacy-enrolled", "%s has, or had, a certificate of its own", "it renews it, or comes with an enrolment code: `hawser device code`")
		case st.legacy.Live():
			return busy("legacy-has-one", "%s has another credential at the legacy door", "withdraw that one first: `hawser legacy withdraw DEVICE`")
		}
		st.legacy = &row
		return tx.InsertLegacy(ctx, row)
	})
}

// LegacyDevice is one device of the legacy door, as staff see it.
type LegacyDevice struct {
	Device core.DeviceID
	Unit   string // its random number, as findings name it
	LegacyRow
	Admitted bool   // it may come now
	Reason   string // why it may not
}

func (s *Service) legacyDevice(st *state) LegacyDevice {
	d := LegacyDevice{Device: st.dev.ID, Unit: core.Subject(st.dev.Unit).String(), LegacyRow: *st.legacy}
	_, err := s.legacyOpen(st)
	if d.Admitted = err == nil; err != nil {
		d.Reason = core.ReasonOf(err)
	}
	return d
}

// LegacyOf is what a device has, or had, of the maker's; false for one that
// never had anything.
func (s *Service) LegacyOf(id core.DeviceID) (LegacyDevice, bool) {
	st := s.index.device(id)
	if st == nil || st.legacy == nil {
		return LegacyDevice{}, false
	}
	return s.legacyDevice(st), true
}

// Legacy lists the devices of a product that have, or had, a credential of the
// maker's, by serial number.
func (s *Service) Legacy(product core.ProductID) []LegacyDevice {
	var out []LegacyDevice
	for _, st := range s.index.snapshot() {
		if st.legacy == nil || st.dev.Product != product {
			continue
		}
		out = append(out, s.legacyDevice(st))
	}
	sortLegacy(out)
	return out
}

func (s *Service) recordLegacyAdded(ctx context.Context, tx Tx, by core.Actor, product core.ProductID, terms *Terms, kind Credential, fresh int, reason string, more ...core.Fact) error {
	return tx.Record(ctx, core.Record{Time: s.d.Now().UTC(), Kind: RecordLegacyAdded, Actor: by, Product: product, Policy: terms.Policy, Facts: append([]core.Fact{
		{Name: "credential", Value: string(kind)}, {Name: "devices", Value: strconv.Itoa(fresh)}, {Name: "reason", Value: reason},
	}, more...)})
}

// LegacyAuthorities are those of a product, by name, ended ones too.
func (s *Service) LegacyAuthorities(product core.ProductID) []LegacyCA {
	s.doors.mu.RLock()
	defer s.doors.mu.RUnlock()
	var out []LegacyCA
	for _, ca := range s.doors.cas {
		if ca.row.Product == product {
			out = append(out, ca.row)
		}
	}
	slices.SortFunc(out, func(a, b LegacyCA) int { return strings.Compare(a.Name, b.Name) })
	return out
}
