package telemetry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/seal"
)

// heldAtOnce is how many rows are kept aside in one transaction.
const heldAtOnce = 1000

var _ Holds = (*HoldService)(nil)

// Guarding reports whether there is a hold.
func (s *HoldService) Guarding(ctx context.Context) (bool, error) {
	rows, err := s.rows(ctx)
	return len(rows) > 0, err
}

// BeforeExpiry copies aside what holds guard in an epoch that is frozen and
// about to end. An error means that it must not end yet: a file that is damaged
// while somebody is under a hold, for one.
func (s *HoldService) BeforeExpiry(ctx context.Context, e core.Epoch) error {
	rows, err := s.rows(ctx)
	if err != nil {
		return fmt.Errorf("holds on %s: %w", e, err)
	}
	for _, h := range rows {
		if h.State == HoldReleasing || !s.d.Keys.Has(h.Key) || !s.d.Keys.Has(h.Subject) {
			continue
		}
		missing, err := s.copyEpoch(ctx, &h, e)
		if err == nil && missing {
			err = core.E(core.Conflict, "held-epoch-damaged", "the file of the epoch is damaged, and a legal hold has not got its rows", "repair the file, or release the hold")
		}
		if err != nil {
			return fmt.Errorf("hold %s on %s: %w", h.ID, e, err)
		}
	}
	return nil
}

// on are the holds that guard a subject.
func (s *HoldService) on(ctx context.Context, subject core.Subject) (rows []HoldRow, err error) {
	err = s.d.View(ctx, func(tx HoldTx) (err error) {
		rows, err = tx.HoldsOn(ctx, subject)
		return err
	})
	return slices.DeleteFunc(rows, func(h HoldRow) bool { return h.State == HoldReleasing }), err
}

// beforeErasure copies aside what is left of a subject, and names the holds
// that keep it. While a damaged file may hold what they have not got, it fails
// with core.Unavail, "held-epoch-damaged": the key must stay.
func (s *HoldService) beforeErasure(ctx context.Context, subject core.Subject) ([]string, error) {
	rows, err := s.on(ctx, subject)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, h := range rows {
		ids = append(ids, h.ID)
		if !s.d.Keys.Has(subject) { // redone: the copy was made before the key went
			continue
		}
		damaged, err := s.copy(ctx, &h)
		if err == nil && len(damaged) > 0 {
			err = &core.Error{
				Kind: core.Unavail, Reason: "held-epoch-damaged",
				Message: fmt.Sprintf("the file of epoch %s is damaged, and may hold readings that a legal hold has not got", damaged[0]),
				Hint:    "the erasure is noted, and goes on by itself once the file is restored or the hold released; see `hawser hold list`",
			}
		}
		if err != nil {
			return nil, fmt.Errorf("hold %s: %w", h.ID, err)
		}
	}
	return ids, nil
}

// copy keeps aside all that is not yet, and names the epochs of which it could
// not read all because their file is damaged.
func (s *HoldService) copy(ctx context.Context, h *HoldRow) (damaged []core.Epoch, err error) {
	epochs, err := s.epochs(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range epochs {
		missing, err := s.copyEpoch(ctx, h, e)
		if err != nil {
			return nil, err
		}
		if missing {
			// It is kept as it is, and neither ended nor its subject erased
			// while it cannot be copied.
			damaged = append(damaged, e)
			s.d.Log.WarnContext(ctx, "an epoch file under a legal hold is damaged", slog.String("hold", h.ID), slog.String("epoch", e.String()))
		}
	}
	return damaged, nil
}

// epochs are those of which there may be rows.
func (s *HoldService) epochs(ctx context.Context) ([]core.Epoch, error) {
	epochs, err := s.d.Partitions.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range epochs {
		if epochs[i].Length == 0 { // its file does not open
			epochs[i].Length = declaration.EpochLength(epochs[i].Keep)
		}
	}
	shelf, ok := s.d.Partitions.(*Shelf)
	if !ok {
		return epochs, nil
	}
	waiting, err := shelf.lane.Waiting(ctx)
	if err != nil {
		return nil, err
	}
	for i := range waiting {
		if e := waiting[i].Epoch; !slices.Contains(epochs, e) {
			epochs = append(epochs, e)
		}
	}
	return epochs, nil
}

// copyEpoch keeps aside what is new in one epoch. missing says that part of it
// could not be read because its file is damaged.
func (s *HoldService) copyEpoch(ctx context.Context, h *HoldRow, e core.Epoch) (missing bool, err error) {
	upto, err := s.d.Files.Upto(ctx, h.ID, e)
	if err != nil {
		return false, err
	}
	c := &copier{s: s, h: h, e: e, after: upto, upto: upto}
	q := Query{Subject: h.Subject, From: time.Unix(e.Start, 0), To: e.End()}
	err = s.d.Partitions.Scan(ctx, e, &q, func(row *Row) error { return c.take(ctx, row) })
	if errors.Is(err, errEpochGone) {
		return false, nil // it ended before the hold came; what was copied stays
	}
	if _, missing = AsBroken(err); err != nil && !missing {
		return false, err
	}
	if missing {
		c.upto = upto // rows before these may be among those that could not be read
	}
	err = nil
	if len(c.rows) > 0 || c.upto > upto {
		err = s.d.Files.Append(ctx, h.ID, e, c.rows, c.upto)
	}
	return missing, err
}

var errEpochGone = errors.New("the epoch's key is gone")

// copier seals rows anew under a hold's key.
type copier struct {
	s           *HoldService
	h           *HoldRow
	e           core.Epoch
	after, upto int64
	rows        []HeldRow
	aad, plain  []byte
	record      []byte
}

func (c *copier) take(ctx context.Context, row *Row) error {
	if row.ID > 0 && row.ID <= c.after { // 0: it waits in the late lane
		return nil
	}
	c.upto = max(c.upto, row.ID)
	key, err := c.s.d.Keys.Lease(c.h.Subject, c.e)
	if err == nil {
		c.aad = AppendAAD(c.aad[:0], &row.Reading, &row.Part)
		c.plain, err = key.Open(c.plain[:0], row.Part.Sealed, c.aad)
	}
	switch {
	case err == nil:
	case core.ReasonOf(err) == "no-epoch-key":
		return errEpochGone
	case core.KindOf(err) == core.Invalid:
		c.s.d.Log.ErrorContext(ctx, "a reading under a legal hold does not open", slog.String("hold", c.h.ID), slog.String("epoch", c.e.String()), slog.Int64("row", row.ID))
		return nil
	default:
		return err
	}
	r := row.Reading
	r.Parts = []Part{{Epoch: c.e, Group: row.Part.Group, Sealed: c.plain}}
	c.record = AppendReading(c.record[:0], &r)
	held := HeldRow{Key: heldKeyOf(row)}
	held.Sealed, err = c.s.d.Keys.SealValue(c.h.Key, heldContext(c.h.ID, c.e, held.Key), c.record)
	clear(c.plain)
	clear(c.record)
	if err != nil {
		return err
	}
	if c.rows = append(c.rows, held); len(c.rows) < heldAtOnce {
		return nil
	}
	err = c.s.d.Files.Append(ctx, c.h.ID, c.e, c.rows, 0)
	c.rows = c.rows[:0]
	return err
}

// heldContext ties a row kept aside to its hold and place.
func heldContext(id string, e core.Epoch, k HeldKey) string {
	return sealContextHeld + "/" + id + "/" + e.String() + "/" + hex.EncodeToString(k[:])
}

// HeldReading is one part of a reading that a hold kept aside. Plain is the
// JSON object of its fields.
type HeldReading struct {
	Reading Reading // without Parts
	Sender  Sender
	Epoch   core.Epoch
	Group   uint8
	Plain   []byte
}

// Open yields what a hold kept aside, for whom the law gives it to. As with
// every read, who and why is in the ledger before the first value flows, and
// how much after the last.
func (s *HoldService) Open(ctx context.Context, by core.Actor, id, reason string, yield func(*HeldReading) error) (n int, err error) {
	if err := checkReason(reason); err != nil {
		return 0, err
	}
	var h HoldRow
	err = s.d.Update(ctx, func(tx HoldTx) error {
		var some bool
		var err error
		if h, some, err = tx.Hold(ctx, id); err != nil {
			return err
		}
		if !some || h.State != HoldHeld {
			return core.E(core.Unknown, "no-such-hold", "there is no such hold", "see `hawser hold list`")
		}
		note, err := h.Note.Open(s.d.Keys, h.Key, sealContextHold)
		if err != nil {
			return err
		}
		h.Actor = by
		return tx.Record(ctx, s.record(&h, RecordReadOpened, HoldNote{Device: note.Device, Reason: reason}))
	})
	if err != nil {
		return 0, fmt.Errorf("open hold: %w", err)
	}
	var out HeldReading
	err = s.d.Files.Each(ctx, id, func(e core.Epoch, row HeldRow) error {
		b, err := s.d.Keys.OpenValue(h.Key, heldContext(id, e, row.Key), row.Sealed)
		if err != nil {
			return fmt.Errorf("a row of epoch %s: %w", e, err)
		}
		defer clear(b)
		if _, err := DecodeRecord(b, &out.Reading, new(Refusal)); err != nil {
			return err
		}
		p := out.Reading.Parts[0]
		out.Epoch, out.Group = p.Epoch, p.Group
		if out.Sender, out.Plain, err = CutPlain(p.Sealed); err != nil {
			return fmt.Errorf("a row of epoch %s: %w", e, err)
		}
		n++
		return yield(&out)
	})
	ended := "complete"
	if err != nil {
		ended = "broken-off"
	}
	done := s.record(&h, RecordReadClosed, HoldNote{}, core.Fact{Name: "rows", Value: strconv.Itoa(n)}, core.Fact{Name: "ended", Value: ended})
	ctx = context.WithoutCancel(ctx)
	if cerr := s.d.Update(ctx, func(tx HoldTx) error { return tx.Record(ctx, done) }); cerr != nil {
		return n, errors.Join(err, cerr)
	}
	return n, err
}

var _ HoldKeys = (*seal.Keyring)(nil)
