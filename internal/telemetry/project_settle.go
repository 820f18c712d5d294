package telemetry

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// KindJournalLoss records that part of the journal could not be read.
const KindJournalLoss core.RecordKind = "journal-loss"

// KindEpochDamaged records that an epoch's file was found damaged.
const KindEpochDamaged core.RecordKind = "epoch-damaged"

// settle files one group: rows into partitions and late lane, all of it made
// durable, then the counts and the watermark in one transaction. After an
// error it is called again with the same group; after a kill the journal is
// read again. Rows that are in already are recognised by their keys.
func (p *Projector) settle(ctx context.Context, g *group) error {
	slots, err := p.arrange(ctx, g)
	if err != nil {
		return err
	}
	mark := Mark{Journal: p.name, Seq: g.last}
	var parked []Row
	f := newFiled()
	for _, s := range slots {
		if s.are(FateParked) {
			continue
		}
		if err := p.file(ctx, s, mark, 0, f); err != nil {
			return err
		}
	}
	for _, s := range slots {
		n := len(parked)
		for i := range s.rows {
			if s.fate[i] == FateParked {
				parked = append(parked, s.rows[i])
			}
		}
		if len(parked) > n {
			f.seen = append(f.seen, s.epoch)
		}
	}
	if err := p.d.Late.Park(ctx, parked); err != nil {
		return err
	}
	if len(parked) > 0 {
		if err := p.waiting(ctx); err != nil {
			return err
		}
	}
	if err := p.d.Files.Sync(ctx, f.epochs()); err != nil {
		return err
	}
	fates := newTally()
	for _, s := range slots {
		s.count(fates)
	}
	err = p.d.Update(ctx, func(tx ProjectionTx) error {
		if err := f.write(ctx, tx, p.d.Now()); err != nil {
			return err
		}
		if err := g.tally.write(ctx, tx); err != nil {
			return err
		}
		if err := fates.write(ctx, tx); err != nil {
			return err
		}
		if !g.loss.isZero() {
			if err := tx.Record(ctx, p.lossRecord(g)); err != nil {
				return err
			}
		}
		return tx.PutProjectorMark(ctx, mark)
	})
	if err != nil {
		return err
	}
	p.settled(mark, f.rows, g.loss) // from here on nothing may fail: it is counted
	return nil
}

func (p *Projector) settled(mark Mark, rows uint64, loss Loss) {
	p.mark = mark
	p.untrimmed++
	if mark.Seq >= p.redoUntil {
		p.redo = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved(mark)
	p.state.Rows += rows
	p.state.Commits++
	p.state.Lost.add(loss)
}

func (p *Projector) lossRecord(g *group) core.Record {
	n := func(v uint64) string { return strconv.FormatUint(v, 10) }
	return core.Record{
		Time: p.d.Now().UTC(), Kind: KindJournalLoss, Actor: core.Job("projector"),
		Facts: []core.Fact{
			{Name: "batches_missing", Value: n(g.loss.Missing)},
			{Name: "batches_damaged", Value: n(g.loss.Damaged)},
			{Name: "records_damaged", Value: n(g.loss.Records)},
			{Name: "up_to_batch", Value: n(g.last)},
		},
	}
}

// arrange decides for each slot where its rows go, by epoch. Rows that stay
// FateNone are to be filed.
func (p *Projector) arrange(ctx context.Context, g *group) ([]*slot, error) {
	slots := make([]*slot, 0, len(g.slots))
	for _, s := range g.slots {
		s.fate = slices.Grow(s.fate[:0], len(s.rows))[:len(s.rows)]
		clear(s.fate)
		slots = append(slots, s)
	}
	slices.SortFunc(slots, func(a, b *slot) int {
		return cmp.Or(cmp.Compare(a.epoch.Keep, b.epoch.Keep), cmp.Compare(a.epoch.Start, b.epoch.Start))
	})
	overdue, err := p.overdue(ctx)
	if err != nil {
		return nil, err
	}
	err = p.d.View(ctx, func(tx ProjectionTx) error {
		for _, s := range slots {
			info, _, err := tx.Epoch(ctx, s.epoch)
			if err != nil {
				return err
			}
			switch {
			case info.State == EpochEnding, info.State == EpochEnded, overdue(s.epoch):
				s.all(FateExpired)
			case info.State == EpochDamaged:
				s.all(FateParked)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if g.last <= p.redoUntil || len(p.redo) > 0 {
		// This was begun before. What was parked then is parked; the rest was
		// to be filed.
		for _, s := range slots {
			for i := range s.rows {
				r := &s.rows[i]
				if _, ok := p.redo[PartPlace{r.Place, s.epoch, r.Part.Group}]; ok && s.fate[i] == FateNone {
					s.fate[i] = FateParked
				}
			}
		}
		return slots, nil
	}
	p.parkLate(slots)
	return slots, nil
}

// overdue tells of which epochs nothing is filed any more, because of the time
// alone.
func (p *Projector) overdue(ctx context.Context) (func(core.Epoch) bool, error) {
	guarding, err := p.d.Guarding(ctx)
	now := p.d.Now()
	return func(e core.Epoch) bool { return !guarding && !now.Before(e.Due()) }, err
}

// parkLate sends all but the fullest late slots to the late lane, so that one
// commit touches few files however scattered the times of its readings are.
func (p *Projector) parkLate(slots []*slot) {
	var late []*slot
	for _, s := range slots {
		if s.late && s.fate[0] == FateNone {
			late = append(late, s)
		}
	}
	if len(late) <= p.l.LateFiles {
		return
	}
	slices.SortStableFunc(late, func(a, b *slot) int { return cmp.Compare(len(b.rows), len(a.rows)) })
	for _, s := range late[p.l.LateFiles:] {
		s.all(FateParked)
	}
}

// are reports whether every row of s has fate f.
func (s *slot) are(f Fate) bool {
	return !slices.ContainsFunc(s.fate, func(g Fate) bool { return g != f })
}

func (s *slot) all(f Fate) {
	for i := range s.fate {
		s.fate[i] = f
	}
}

// count adds what became of the slot's readings, each by its first part.
func (s *slot) count(t *tally) {
	for i := range s.rows {
		r := &s.rows[i]
		if !r.First {
			continue
		}
		rd := &r.Reading
		switch s.fate[i] {
		case FateStored, FateRepeated:
			t.add(CountStored, "", rd.Product, rd.Subject, rd.Received, 1)
		case FateDuplicate:
			t.add(CountDuplicate, "", rd.Product, rd.Subject, rd.Received, 1)
		case FateExpired:
			t.add(CountExpired, "", rd.Product, rd.Subject, rd.Received, 1)
		case FateParked:
			t.add(CountParked, "", rd.Product, rd.Subject, rd.Received, 1)
		}
	}
}

// filed gathers what one commit did to partitions.
type filed struct {
	heads   map[core.Epoch]Head
	seen    []core.Epoch // of which rows came that are not filed: expiry has to know them
	damaged []*BrokenError
	rows    uint64
}

func newFiled() *filed { return &filed{heads: map[core.Epoch]Head{}} }

func (f *filed) epochs() []core.Epoch {
	out := make([]core.Epoch, 0, len(f.heads))
	for e := range f.heads {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b core.Epoch) int {
		return cmp.Or(cmp.Compare(a.Keep, b.Keep), cmp.Compare(a.Start, b.Start))
	})
	return out
}

// file appends those rows of s that have no fate yet and gives them one.
func (p *Projector) file(ctx context.Context, s *slot, mark Mark, late uint64, f *filed) error {
	if s.fate[0] == FateExpired {
		f.seen = append(f.seen, s.epoch)
		p.repeats.ended(s.epoch)
		return nil
	}
	if err := p.repeats.mark(ctx, p.d.Files, s); err != nil {
		return err
	}
	if err := p.versions.mark(ctx, p.d.Files, p.repeats.files, s); err != nil {
		return err
	}
	a := &Append{Rows: s.rows, Fate: s.fate, Mark: mark, Late: late}
	decided := slices.ContainsFunc(s.fate, func(f Fate) bool { return f != FateNone })
	if decided {
		a.Rows, a.Fate = nil, nil
		for i := range s.rows {
			if s.fate[i] == FateNone {
				a.Rows = append(a.Rows, s.rows[i])
			}
		}
		a.Fate = make([]Fate, len(a.Rows))
		if len(a.Rows) == 0 && late == 0 {
			return nil
		}
	}
	h, err := p.d.Files.Append(ctx, s.epoch, a)
	broken, isBroken := AsBroken(err)
	switch {
	case errors.Is(err, ErrEnded):
		s.undecided(FateExpired)
		f.seen = append(f.seen, s.epoch)
		p.repeats.ended(s.epoch)
		return nil
	case isBroken:
		p.d.Log.ErrorContext(ctx, "an epoch file is damaged and was put aside", slog.String("epoch", s.epoch.String()),
			slog.String("aside", broken.Aside), slog.String("detail", broken.Detail))
		s.undecided(FateParked)
		f.damaged = append(f.damaged, broken)
		return nil
	case err != nil:
		return err
	}
	if decided {
		n := 0
		for i := range s.fate {
			if s.fate[i] == FateNone {
				s.fate[i] = a.Fate[n]
				n++
			}
		}
	}
	for _, fate := range a.Fate {
		if fate == FateStored {
			f.rows++
		}
	}
	f.heads[s.epoch] = h
	p.repeats.filed(s, h)
	p.versions.filed(s)
	return nil
}

// undecided gives f to the rows that have no fate.
func (s *slot) undecided(f Fate) {
	for i := range s.fate {
		if s.fate[i] == FateNone {
			s.fate[i] = f
		}
	}
}

// write notes in the control database how far partitions have come.
func (f *filed) write(ctx context.Context, tx ProjectionTx, at time.Time) error {
	for _, e := range f.epochs() {
		if err := tx.PutEpochHead(ctx, e, f.heads[e], at); err != nil {
			return err
		}
	}
	for _, e := range f.seen {
		if _, known, err := tx.Epoch(ctx, e); err != nil {
			return err
		} else if !known {
			if err := tx.PutEpochHead(ctx, e, Head{Chain: FirstChain(e)}, at); err != nil {
				return err
			}
		}
	}
	for _, b := range f.damaged {
		if err := noteDamage(ctx, tx, b, at); err != nil {
			return err
		}
	}
	return nil
}

// noteDamage writes once that an epoch's file was put aside.
func noteDamage(ctx context.Context, tx ProjectionTx, b *BrokenError, at time.Time) error {
	info, known, err := tx.Epoch(ctx, b.Epoch)
	if err != nil || known && info.State != EpochLive {
		return err
	}
	if err := tx.PutEpochState(ctx, b.Epoch, EpochDamaged, b.Detail+"; put aside as "+b.Aside, at); err != nil {
		return err
	}
	return tx.Record(ctx, core.Record{
		Time: at.UTC(), Kind: KindEpochDamaged, Actor: core.Job("projector"),
		Facts: []core.Fact{
			{Name: "epoch", Value: b.Epoch.String()},
			{Name: "rows", Value: strconv.FormatUint(info.Head.Rows, 10)},
			{Name: "aside", Value: strings.ToValidUTF8(b.Aside, "?")},
			{Name: "detail", Value: strings.ToValidUTF8(b.Detail[:min(len(b.Detail), 1000)], "?")},
		},
	})
}
