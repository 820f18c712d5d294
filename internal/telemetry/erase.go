package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// The records of an erasure. The second one is its receipt.
const (
	RecordErasureAsked core.RecordKind = "erasure-asked"
	RecordErased       core.RecordKind = "subject-erased"
)

// sealContextErase is what the sealed part of an erasure's first record is. It
// goes with the key: the receipt says who asked and when, not of whom.
const sealContextErase = "erasure"

// The erasers that need nobody to act. Every column, file and bucket that
// holds a subject names its eraser: one of these or one of the server's list.
const (
	EraserKey  = "key"  // ciphertext under the subject's key: it goes with the key
	EraserKept = "kept" // a pseudonym that names nobody by itself, or the maker's own register
)

// Eraser empties one place of what is said there of a subject. It may be
// called again for a subject that is gone.
type Eraser struct {
	Name  string
	Erase func(context.Context, core.Subject) error
}

// ErasureState is how far an erasure has come.
type ErasureState string

// The states of an erasure, in order.
const (
	ErasureAsked    ErasureState = "asked"    // the intent
	ErasureShredded ErasureState = "shredded" // the key is gone, everywhere
	ErasureDone     ErasureState = "done"     // every eraser has run; the receipt is in the ledger
)

// ErasureRow is what the control database keeps of an erasure.
type ErasureRow struct {
	Subject      core.Subject
	Product      core.ProductID
	Actor        core.Actor
	Requested    time.Time
	State        ErasureState
	RootBefore   uint64        // generation when it was asked for; afterwards the one destroyed
	RootAfter    uint64        // 0 until shredded
	Destroys     seal.Destroys // what the root store says of its destruction
	Detail       string
	Held         []string // holds that kept a copy aside
	Ended        time.Time
	ErasersNamed []string // that have run
}

// EraseTx is what erasures need of the control database.
type EraseTx interface {
	// Erasure is the erasure of a subject; false when none was asked for.
	Erasure(context.Context, core.Subject) (ErasureRow, bool, error)
	InsertErasure(context.Context, ErasureRow) error
	UpdateErasure(context.Context, ErasureRow) error
	// OpenErasures are those that are not done, oldest first.
	OpenErasures(context.Context) ([]ErasureRow, error)
	Record(context.Context, core.Record) error
}

// EraseKeys are the keys that erasures use; *seal.Keyring has them.
type EraseKeys interface {
	SealValue(s core.Subject, context string, plaintext []byte) ([]byte, error)
	Generation() uint64
	Retire(core.Subject)
	Shred(context.Context, seal.Order) (seal.Receipt, error)
}

// EraseDeps is what an EraseService needs; all of it is required.
type EraseDeps struct {
	Update  func(context.Context, func(EraseTx) error) error
	View    func(context.Context, func(EraseTx) error) error
	Keys    EraseKeys
	Holds   *HoldService
	Owner   func(context.Context, core.DeviceID) (Owned, error)
	Settle  func(context.Context) error // returns when all that was acknowledged before is filed
	Erasers []Eraser                    // run in this order, after the key is gone
	Now     func() time.Time
	Log     *slog.Logger

	step func(string) error // tests only: may end the world between steps
}

// EraseService erases the owners of devices.
type EraseService struct {
	d    EraseDeps
	turn chan struct{} // one erasure at a time
}

// NewEraseService checks its dependencies.
func NewEraseService(d EraseDeps) (*EraseService, error) {
	if d.Update == nil || d.View == nil || d.Keys == nil || d.Holds == nil || d.Owner == nil || d.Settle == nil || d.Now == nil || d.Log == nil {
		return nil, errors.New("erase service: a dependency is missing")
	}
	for i, e := range d.Erasers {
		if e.Name == "" || e.Erase == nil || e.Name == EraserKey || e.Name == EraserKept ||
			slices.ContainsFunc(d.Erasers[:i], func(o Eraser) bool { return o.Name == e.Name }) {
			return nil, fmt.Errorf("erase service: eraser %d (%q) has no name, no function or a name that is taken", i, e.Name)
		}
	}
	if d.step == nil {
		d.step = func(string) error { return nil }
	}
	return &EraseService{d: d, turn: make(chan struct{}, 1)}, nil
}

// Erasers are the names of all erasers, those that need nobody to act among
// them: what the columns of the schema may name.
func (s *EraseService) Erasers() []string {
	names := []string{EraserKey, EraserKept}
	for _, e := range s.d.Erasers {
		names = append(names, e.Name)
	}
	return names
}

// Receipt proves an erasure. It stands in the ledger and names nobody.
type Receipt struct {
	Subject               core.Subject
	Product               core.ProductID
	By                    core.Actor
	Requested, Ended      time.Time
	RootBefore, RootAfter uint64 // generations; the key went with the first
	Destroys              seal.Destroys
	Detail                string
	Erasers               []string
	Held                  []string // legal holds that keep a copy aside; see HoldService
}

// Erase makes everything unreadable for ever that was collected of the present
// owner of a device, here and in every copy and backup, and unlinks the two
// (CC 4.8; design, journey 4):
//
//	legal hold? → intent → no new sealing → copy aside what is held →
//	keyring n+1 → old root destroyed → every eraser → receipt
//
// Once the intent is recorded it is finished, after a crash by Resume and Finish. A hold
// does not stop it; what the hold keeps aside stays until it is released, and
// the receipt names it. It fails with core.Unknown for a device that does not
// exist or belongs to nobody.
func (s *EraseService) Erase(ctx context.Context, by core.Actor, device core.DeviceID, reason string) (Receipt, error) {
	if err := checkReason(reason); err != nil {
		return Receipt{}, err
	}
	if !device.Valid() {
		return Receipt{}, core.E(core.Invalid, "device-id", "the serial number is not in the form of a device id", "")
	}
	if err := s.begin(ctx); err != nil {
		return Receipt{}, err
	}
	defer s.end()
	owned, err := s.d.Owner(ctx, device)
	if err != nil {
		return Receipt{}, err
	}
	if owned.Subject.IsZero() {
		return Receipt{}, core.E(core.Unknown, "unowned", "the device belongs to nobody: there is nothing to erase", "see `hawser device show`")
	}
	return s.eraseNow(ctx, by, device, owned, reason)
}

// EraseSubject is Erase for somebody who owns no device: one of the maker's
// people. The caller has decided that it may be done.
func (s *EraseService) EraseSubject(ctx context.Context, by core.Actor, subject core.Subject, reason string) (Receipt, error) {
	if err := checkReason(reason); err != nil {
		return Receipt{}, err
	}
	if subject.IsZero() {
		return Receipt{}, core.E(core.Unknown, "nobody", "there is nobody to erase", "")
	}
	if err := s.begin(ctx); err != nil {
		return Receipt{}, err
	}
	defer s.end()
	return s.eraseNow(ctx, by, "", Owned{Subject: subject}, reason)
}

// eraseNow records the intent and finishes it, in its turn.
func (s *EraseService) eraseNow(ctx context.Context, by core.Actor, device core.DeviceID, owned Owned, reason string) (Receipt, error) {
	row, err := s.ask(ctx, by, device, owned, reason)
	if err != nil {
		return Receipt{}, fmt.Errorf("erase: %w", err)
	}
	if err := s.finish(context.WithoutCancel(ctx), &row); err != nil {
		return Receipt{}, fmt.Errorf("erase: %w", err)
	}
	return row.receipt(), nil
}

func (s *EraseService) begin(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *EraseService) end() { <-s.turn }

// ask records the intent, unless there is one already.
func (s *EraseService) ask(ctx context.Context, by core.Actor, device core.DeviceID, owned Owned, reason string) (ErasureRow, error) {
	part, err := json.Marshal(HoldNote{Device: device, Reason: reason})
	if err != nil {
		return ErasureRow{}, err
	}
	row := ErasureRow{
		Subject: owned.Subject, Product: owned.Product, Actor: by, Requested: s.d.Now().UTC(),
		State: ErasureAsked, RootBefore: s.d.Keys.Generation(),
	}
	r := core.Record{Time: row.Requested, Kind: RecordErasureAsked, Actor: by, Subject: row.Subject, Product: row.Product}
	if r.Sealed, err = s.d.Keys.SealValue(row.Subject, sealContextErase, part); err != nil && !errors.Is(err, seal.ErrNoKey) {
		return row, err // without a key there is still what the erasers erase
	}
	err = s.d.Update(ctx, func(tx EraseTx) error {
		old, some, err := tx.Erasure(ctx, row.Subject)
		if err != nil {
			return err
		}
		if some {
			row = old
			return nil
		}
		if err := tx.InsertErasure(ctx, row); err != nil {
			return err
		}
		return tx.Record(ctx, r)
	})
	return row, err
}

// finish does what is left to do of an erasure.
func (s *EraseService) finish(ctx context.Context, row *ErasureRow) error {
	if row.State == ErasureAsked {
		if err := s.shred(ctx, row); err != nil {
			return err
		}
	}
	if row.State == ErasureDone {
		return nil
	}
	row.ErasersNamed = []string{EraserKey}
	for _, e := range s.d.Erasers {
		if err := e.Erase(ctx, row.Subject); err != nil {
			return fmt.Errorf("eraser %s: %w", e.Name, err)
		}
		if err := s.d.step("eraser " + e.Name); err != nil {
			return err
		}
		row.ErasersNamed = append(row.ErasersNamed, e.Name)
	}
	row.State, row.Ended = ErasureDone, s.d.Now().UTC()
	if err := s.d.Update(ctx, func(tx EraseTx) error {
		if err := tx.UpdateErasure(ctx, *row); err != nil {
			return err
		}
		return tx.Record(ctx, row.record())
	}); err != nil {
		return err
	}
	return s.d.step("receipt")
}

// settleBeforeErasure bounds the wait for readings on their way that a hold
// must have.
const settleBeforeErasure = 30 * time.Second

func (s *EraseService) shred(ctx context.Context, row *ErasureRow) error {
	if err := s.d.step("intent"); err != nil {
		return err
	}
	s.d.Keys.Retire(row.Subject)
	held, err := s.d.Holds.beforeErasure(ctx, row.Subject)
	if err != nil {
		return err
	}
	if len(held) > 0 {
		// A hold has a right to what was acknowledged up to this moment. What
		// was under way when sealing ended is filed by the time this returns.
		settle, cancel := context.WithTimeout(ctx, settleBeforeErasure)
		err := s.d.Settle(settle)
		cancel()
		if err != nil {
			return &core.Error{
				Kind: core.Unavail, Reason: "held-readings-not-filed", Err: err,
				Message: "a legal hold must have the newest readings before they are erased, and they are not filed yet",
				Hint:    "the erasure is noted and goes on by itself once they are; see the projector in `hawser doctor`",
			}
		}
		if held, err = s.d.Holds.beforeErasure(ctx, row.Subject); err != nil {
			return err
		}
	}
	if err := s.d.step("held"); err != nil {
		return err
	}
	r, err := s.d.Keys.Shred(ctx, seal.Order{Subjects: []core.Subject{row.Subject}})
	if err != nil {
		return err
	}
	if err := s.d.step("shredded"); err != nil {
		return err
	}
	if r.Before < r.After || r.Before < row.RootBefore {
		row.RootBefore = r.Before
	}
	row.RootAfter, row.Destroys, row.Detail = r.After, r.Destruction.Destroys, r.Destruction.Detail
	row.State, row.Held = ErasureShredded, held
	if err := s.d.Update(ctx, func(tx EraseTx) error { return tx.UpdateErasure(ctx, *row) }); err != nil {
		return err
	}
	return s.d.step("noted")
}

// Resume goes on with every erasure that was begun. The server calls it at its
// start, before anything is served: from then on nothing is sealed for who is
// being erased. An erasure that a hold has to be served for first waits for
// Finish, because the readings on their way are not filed before the server
// runs.
func (s *EraseService) Resume(ctx context.Context) error {
	return s.open(ctx, func(row *ErasureRow) (bool, error) {
		if row.State != ErasureAsked {
			return true, nil
		}
		s.d.Keys.Retire(row.Subject)
		held, err := s.d.Holds.on(ctx, row.Subject)
		return len(held) == 0, err
	})
}

// Finish is the job that finishes every erasure that is open: one that waits
// for a hold, or whose eraser met trouble that has passed. Run it every minute.
func (s *EraseService) Finish(ctx context.Context) error {
	return s.open(ctx, func(*ErasureRow) (bool, error) { return true, nil })
}

// open finishes those open erasures that are ready.
func (s *EraseService) open(ctx context.Context, ready func(*ErasureRow) (bool, error)) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	var rows []ErasureRow
	err := s.d.View(ctx, func(tx EraseTx) (err error) {
		rows, err = tx.OpenErasures(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("finish erasures: %w", err)
	}
	var errs []error
	for _, row := range rows {
		ok, err := ready(&row)
		if err == nil && ok {
			err = s.finish(context.WithoutCancel(ctx), &row)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("finish erasure of %s: %w", row.Subject, err))
		}
	}
	return errors.Join(errs...)
}

// Receipt is the receipt of a subject's erasure; false when it is not done.
func (s *EraseService) Receipt(ctx context.Context, subject core.Subject) (Receipt, bool, error) {
	var row ErasureRow
	var some bool
	err := s.d.View(ctx, func(tx EraseTx) (err error) {
		row, some, err = tx.Erasure(ctx, subject)
		return err
	})
	return row.receipt(), some && row.State == ErasureDone, err
}

func (r *ErasureRow) receipt() Receipt {
	return Receipt{
		Subject: r.Subject, Product: r.Product, By: r.Actor, Requested: r.Requested, Ended: r.Ended,
		RootBefore: r.RootBefore, RootAfter: r.RootAfter, Destroys: r.Destroys, Detail: r.Detail,
		Erasers: slices.Clone(r.ErasersNamed), Held: slices.Clone(r.Held),
	}
}

// record is the receipt as it stands in the ledger.
func (r *ErasureRow) record() core.Record {
	facts := []core.Fact{
		{Name: "requested", Value: factTime(r.Requested)},
		{Name: "root_before", Value: strconv.FormatUint(r.RootBefore, 10)},
		{Name: "root_after", Value: strconv.FormatUint(r.RootAfter, 10)},
		{Name: "destroys", Value: string(r.Destroys)},
		{Name: "destroyed", Value: r.Detail},
		{Name: "erasers", Value: strings.Join(r.ErasersNamed, ",")},
	}
	if len(r.Held) > 0 {
		facts = append(facts, core.Fact{Name: "held_by", Value: strings.Join(r.Held, ",")})
	}
	return core.Record{Time: r.Ended, Kind: RecordErased, Actor: r.Actor, Subject: r.Subject, Product: r.Product, Facts: facts}
}
