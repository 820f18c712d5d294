package telemetry

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// The records of legal holds.
const (
	RecordHoldPlaced   core.RecordKind = "legal-hold-placed"
	RecordHoldRelease  core.RecordKind = "legal-hold-release-asked"
	RecordHoldReleased core.RecordKind = "legal-hold-released"
	RecordHoldLost     core.RecordKind = "legal-hold-lost"
)

// What the sealed parts of holds are.
const (
	sealContextHold   = "hold"     // the note, under the hold's own key
	sealContextHeld   = "hold-row" // one row kept aside, under the hold's own key
	sealContextHoldBy = "hold-by"  // the sealed part of a record, under the subject's key
)

// HoldState is where a hold is in its life.
type HoldState string

// The states of a hold.
const (
	HoldPlacing   HoldState = "placing"   // an intent: it guards already, and is undone if it was not finished
	HoldHeld      HoldState = "held"      // it guards
	HoldReleasing HoldState = "releasing" // its key is being destroyed
)

// HoldRow is what the control database keeps of a hold. What is personal about
// it lies in Note, under the hold's own key.
type HoldRow struct {
	ID      string
	Key     core.Subject // a pseudonym of its own: the hold's key is one of the keyring
	Subject core.Subject // whose readings are held
	Product core.ProductID
	Actor   core.Actor // who placed it; while it is released, who releases
	Placed  time.Time
	State   HoldState
	Note    seal.Sealed[HoldNote] // empty while it is placed
}

// HoldNote is what a hold says of a person.
type HoldNote struct {
	Device core.DeviceID `json:"device"`
	Reason string        `json:"reason"`
}

// HoldTx is what holds need of the control database.
type HoldTx interface {
	// Hold is one hold; false when there is none with that id.
	Hold(ctx context.Context, id string) (HoldRow, bool, error)
	// Holds are all of them, by the time at which they were placed.
	Holds(context.Context) ([]HoldRow, error)
	// HoldsOn are those on one subject.
	HoldsOn(context.Context, core.Subject) ([]HoldRow, error)
	InsertHold(context.Context, HoldRow) error
	// UpdateHold writes Actor, State and Note.
	UpdateHold(context.Context, HoldRow) error
	DeleteHold(ctx context.Context, id string) error
	// Erasure is the erasure of a subject; false when none was asked for.
	Erasure(context.Context, core.Subject) (ErasureRow, bool, error)
	Record(context.Context, core.Record) error
}

// HeldKey names one part of a reading within its epoch: the gateway that took
// it, that gateway's counter, and the group.
type HeldKey [8 + 8 + 1]byte

func heldKeyOf(r *Row) HeldKey {
	var k HeldKey
	copy(k[:], r.Reading.Gateway[:])
	binary.BigEndian.PutUint64(k[8:], r.Reading.Counter)
	k[16] = r.Part.Group
	return k
}

// HeldRow is one row kept aside: the whole reading sealed under the hold's key.
type HeldRow struct {
	Key    HeldKey
	Sealed []byte
}

// HoldFiles are the places apart where holds keep rows, one for each hold.
// What they return from is durable.
type HoldFiles interface {
	// Create makes an empty one; one that exists stays as it is.
	Create(ctx context.Context, id string) error
	// Upto is the number up to which the filed rows of an epoch are all kept.
	Upto(ctx context.Context, id string, e core.Epoch) (int64, error)
	// Append keeps rows; those that are kept already stay as they are. upto is
	// what Upto says afterwards, 0 to leave it.
	Append(ctx context.Context, id string, e core.Epoch, rows []HeldRow, upto int64) error
	Count(ctx context.Context, id string) (int64, error)
	// Each yields every row, by epoch. The row is valid until yield
	// returns.
	Each(ctx context.Context, id string, yield func(core.Epoch, HeldRow) error) error
	// Remove removes one; that it does not exist is no error.
	Remove(ctx context.Context, id string) error
}

// HoldKeys are the keys that holds use; *seal.Keyring has them.
type HoldKeys interface {
	seal.ValueKeys
	Has(core.Subject) bool
	AddSubject(context.Context, core.Subject) error
	Shred(context.Context, seal.Order) (seal.Receipt, error)
	Lease(core.Subject, core.Epoch) (*seal.Key, error)
}

// HoldDeps is what a HoldService needs; all of it is required.
type HoldDeps struct {
	Update     func(context.Context, func(HoldTx) error) error
	View       func(context.Context, func(HoldTx) error) error
	Partitions Partitions // a *Shelf: what waits in the late lane counts
	Files      HoldFiles
	Keys       HoldKeys
	Owner      func(context.Context, core.DeviceID) (Owned, error)
	Now        func() time.Time
	Log        *slog.Logger

	step func(string) error // tests only: may end the world between steps
}

// HoldService keeps the readings of a subject aside by order of the law. A hold
// copies what there is at once, and what came later before anything ends it:
// the expiry of an epoch asks it (BeforeExpiry), the erasure of a subject copies
// too (design, section 5, Legal hold). Rows are sealed anew under the hold's
// own key, so an erasure need not wait for a hold, and releasing a hold
// destroys that key and with it the copy, in backups as well.
type HoldService struct{ d HoldDeps }

// NewHoldService checks its dependencies.
func NewHoldService(d HoldDeps) (*HoldService, error) {
	if d.Update == nil || d.View == nil || d.Partitions == nil || d.Files == nil || d.Keys == nil || d.Owner == nil || d.Now == nil || d.Log == nil {
		return nil, errors.New("hold service: a dependency is missing")
	}
	if d.step == nil {
		d.step = func(string) error { return nil }
	}
	return &HoldService{d: d}, nil
}

// HoldInfo is a hold as it is listed.
type HoldInfo struct {
	ID      string
	Subject core.Subject
	Product core.ProductID
	Device  core.DeviceID
	Reason  string
	By      core.Actor
	Placed  time.Time
	State   HoldState
	Rows    int64 // kept aside so far
}

// Place puts a hold on the readings of a device under its present owner. It
// returns when what there is lies aside. It fails with core.Conflict while an
// erasure of that owner is under way.
func (s *HoldService) Place(ctx context.Context, by core.Actor, device core.DeviceID, reason string) (HoldInfo, error) {
	if err := checkReason(reason); err != nil {
		return HoldInfo{}, err
	}
	owned, err := s.d.Owner(ctx, device)
	if err != nil {
		return HoldInfo{}, err
	}
	if owned.Subject.IsZero() {
		return HoldInfo{}, core.E(core.Unknown, "unowned", "the device belongs to nobody: there are no readings to hold", "see `hawser device show`")
	}
	h := HoldRow{
		ID: "h-" + strings.ToLower(rand.Text()[:10]), Subject: owned.Subject, Product: owned.Product,
		Actor: by, Placed: s.d.Now().UTC(), State: HoldPlacing,
	}
	_, _ = rand.Read(h.Key[:]) // crypto/rand.Read never fails
	err = s.d.Update(ctx, func(tx HoldTx) error {
		e, some, err := tx.Erasure(ctx, h.Subject)
		if err == nil && some {
			err = core.E(core.Conflict, "erasure-under-way", "the owner of this device is being erased since "+e.Requested.Format(time.RFC3339), "it is too late for a hold")
		}
		if err != nil {
			return err
		}
		return tx.InsertHold(ctx, h)
	})
	if err == nil {
		err = s.place(ctx, &h, HoldNote{Device: device, Reason: reason})
	}
	if err != nil {
		return HoldInfo{}, fmt.Errorf("place hold: %w", err)
	}
	return s.info(ctx, h)
}

func (s *HoldService) place(ctx context.Context, h *HoldRow, note HoldNote) error {
	if err := s.d.step("hold intent"); err != nil {
		return err
	}
	if err := s.d.Keys.AddSubject(ctx, h.Key); err != nil {
		return err
	}
	if err := s.d.step("hold key"); err != nil {
		return err
	}
	if err := s.d.Files.Create(ctx, h.ID); err != nil {
		return err
	}
	if err := s.d.step("hold file"); err != nil {
		return err
	}
	if _, err := s.copy(ctx, h); err != nil {
		return err
	}
	if err := s.d.step("hold copy"); err != nil {
		return err
	}
	rows, err := s.d.Files.Count(ctx, h.ID)
	if err != nil {
		return err
	}
	h.State = HoldHeld
	if h.Note, err = seal.Seal(s.d.Keys, h.Key, sealContextHold, note); err != nil {
		return err
	}
	return s.d.Update(ctx, func(tx HoldTx) error {
		if err := tx.UpdateHold(ctx, *h); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(h, RecordHoldPlaced, note, core.Fact{Name: "rows", Value: strconv.FormatInt(rows, 10)}))
	})
}

// record is a record about a hold. Device and reason are sealed under the
// subject's key; when that is gone, the record stands without them.
func (s *HoldService) record(h *HoldRow, kind core.RecordKind, note HoldNote, facts ...core.Fact) core.Record {
	r := core.Record{
		Time: s.d.Now().UTC(), Kind: kind, Actor: h.Actor, Subject: h.Subject, Product: h.Product,
		Facts: append([]core.Fact{{Name: "hold", Value: h.ID}}, facts...),
	}
	if b, err := json.Marshal(note); err == nil && note != (HoldNote{}) {
		if sealed, err := s.d.Keys.SealValue(h.Subject, sealContextHoldBy, b); err == nil {
			r.Sealed = sealed
		}
	}
	return r
}

// List are all holds.
func (s *HoldService) List(ctx context.Context) ([]HoldInfo, error) {
	rows, err := s.rows(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]HoldInfo, 0, len(rows))
	for _, h := range rows {
		i, err := s.info(ctx, h)
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, nil
}

func (s *HoldService) rows(ctx context.Context) (rows []HoldRow, err error) {
	err = s.d.View(ctx, func(tx HoldTx) error {
		rows, err = tx.Holds(ctx)
		return err
	})
	return rows, err
}

func (s *HoldService) info(ctx context.Context, h HoldRow) (HoldInfo, error) {
	out := HoldInfo{ID: h.ID, Subject: h.Subject, Product: h.Product, By: h.Actor, Placed: h.Placed, State: h.State}
	if h.State != HoldHeld {
		return out, nil
	}
	note, err := h.Note.Open(s.d.Keys, h.Key, sealContextHold)
	if err != nil {
		return out, fmt.Errorf("hold %s: %w", h.ID, err)
	}
	out.Device, out.Reason = note.Device, note.Reason
	out.Rows, err = s.d.Files.Count(ctx, h.ID)
	return out, err
}

// Released is what releasing a hold destroyed.
type Released struct {
	Hold    HoldInfo
	Receipt seal.Receipt
}

// Release ends a hold: its key is destroyed, then what it kept aside is
// removed. Readings that were not erased or expired meanwhile are not touched.
func (s *HoldService) Release(ctx context.Context, by core.Actor, id, reason string) (Released, error) {
	if err := checkReason(reason); err != nil {
		return Released{}, err
	}
	var h HoldRow
	var info HoldInfo
	err := s.d.Update(ctx, func(tx HoldTx) error {
		var some bool
		var err error
		h, some, err = tx.Hold(ctx, id)
		if err != nil {
			return err
		}
		if !some {
			return core.E(core.Unknown, "no-such-hold", "there is no such hold", "see `hawser hold list`")
		}
		if h.State == HoldPlacing {
			return core.E(core.Conflict, "hold-placing", "the hold is being placed", "try again in a moment")
		}
		if h.State == HoldHeld {
			if info, err = s.info(ctx, h); err != nil {
				return err
			}
		}
		h.State, h.Actor = HoldReleasing, by
		if err := tx.UpdateHold(ctx, h); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(&h, RecordHoldRelease, HoldNote{Device: info.Device, Reason: reason}))
	})
	if err != nil {
		return Released{}, fmt.Errorf("release hold: %w", err)
	}
	r, err := s.release(ctx, &h, RecordHoldReleased)
	if err != nil {
		return Released{}, fmt.Errorf("release hold: %w", err)
	}
	return Released{Hold: info, Receipt: r}, nil
}

// release destroys a hold's key and file and notes it. kind is the record to
// write; none when the hold was never placed.
func (s *HoldService) release(ctx context.Context, h *HoldRow, kind core.RecordKind) (seal.Receipt, error) {
	if err := s.d.step("release intent"); err != nil {
		return seal.Receipt{}, err
	}
	r, err := s.d.Keys.Shred(ctx, seal.Order{Subjects: []core.Subject{h.Key}})
	if err != nil {
		return r, err
	}
	if err := s.d.step("release key"); err != nil {
		return r, err
	}
	if err := s.d.Files.Remove(ctx, h.ID); err != nil {
		return r, err
	}
	if err := s.d.step("release file"); err != nil {
		return r, err
	}
	return r, s.d.Update(ctx, func(tx HoldTx) error {
		if err := tx.DeleteHold(ctx, h.ID); err != nil || kind == "" {
			return err
		}
		return tx.Record(ctx, s.record(h, kind, HoldNote{}, destroyedFacts(r)...))
	})
}

// destroyedFacts are what a shredding says in a record.
func destroyedFacts(r seal.Receipt) []core.Fact {
	return []core.Fact{
		{Name: "root_before", Value: strconv.FormatUint(r.Before, 10)},
		{Name: "root_after", Value: strconv.FormatUint(r.After, 10)},
		{Name: "destroys", Value: string(r.Destruction.Destroys)},
		{Name: "destroyed", Value: r.Destruction.Detail},
	}
}

// Resume finishes what a crash interrupted: it undoes holds that were not
// placed, for nobody was told that they were, and ends those that were being
// released. A hold whose key is gone, because it was released after the backup
// that was restored, is removed and recorded as lost.
func (s *HoldService) Resume(ctx context.Context) error {
	rows, err := s.rows(ctx)
	if err != nil {
		return fmt.Errorf("resume holds: %w", err)
	}
	for _, h := range rows {
		switch {
		case h.State == HoldPlacing:
			_, err = s.release(ctx, &h, "")
		case h.State == HoldReleasing:
			_, err = s.release(ctx, &h, RecordHoldReleased)
		case !s.d.Keys.Has(h.Key):
			h.Actor = core.Job("hold")
			_, err = s.release(ctx, &h, RecordHoldLost)
		}
		if err != nil {
			return fmt.Errorf("resume hold %s: %w", h.ID, err)
		}
	}
	return nil
}
