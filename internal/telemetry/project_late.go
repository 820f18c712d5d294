package telemetry

import (
	"context"
	"math"
)

// due reports whether what waits for an epoch is to be filed now: when it is
// much, or has waited long enough.
func (p *Projector) due(w *Waiting) bool {
	return w.Rows >= p.l.LateRows || p.d.Now().Sub(w.Since) >= p.l.LateWait
}

// drain files what waits in the late lane for at most LateFiles epochs that
// due wants, and forgets what waits for epochs that have ended. What waits
// for a damaged file stays.
func (p *Projector) drain(ctx context.Context, due func(*Waiting) bool) error {
	p.mu.Lock()
	waiting := p.state.Waiting
	p.mu.Unlock()
	done := 0
	for i := range waiting {
		w := &waiting[i]
		if done == p.l.LateFiles {
			break
		}
		if !due(w) {
			continue
		}
		moved, err := p.drainEpoch(ctx, w)
		if err != nil {
			return err
		}
		if moved {
			done++
		}
	}
	if done == 0 {
		return nil
	}
	return p.waiting(ctx)
}

// drainEpoch files all that waits for one epoch, in commits of the usual
// size. A row is dropped from the lane only when it is in its file on disk
// and counted; after a kill in between it is recognised there by its key, and
// in the counts by its number.
func (p *Projector) drainEpoch(ctx context.Context, w *Waiting) (moved bool, err error) {
	g := newGroup(p.name)
	for {
		overdue, err := p.overdue(ctx)
		if err != nil {
			return moved, err
		}
		var info EpochInfo
		err = p.d.View(ctx, func(tx ProjectionTx) (err error) {
			info, _, err = tx.Epoch(ctx, w.Epoch)
			return err
		})
		if err != nil {
			return moved, err
		}
		if info.State == EpochDamaged || info.State == EpochEnding {
			return moved, nil // expiry sees to what waits for it
		}
		over := info.State == EpochEnded || overdue(w.Epoch)
		g.reset()
		s := g.slot(w.Epoch)
		last := uint64(0)
		err = p.d.Late.Take(ctx, w.Epoch, info.LateCounted, p.l.Rows, func(id uint64, r *Row) error {
			row := *r
			row.Part.Sealed = g.arena.keep(r.Part.Sealed)
			row.Reading.Parts = nil
			s.rows = append(s.rows, row)
			last = id
			return nil
		})
		if err != nil {
			return moved, err
		}
		if len(s.rows) == 0 { // counted before a kill, or nothing
			_, err := p.d.Late.Drop(ctx, w.Epoch, math.MaxInt64)
			return true, err
		}
		s.fate = make([]Fate, len(s.rows))
		if over {
			s.all(FateExpired)
		}
		if again, err := p.settleLate(ctx, s, last); err != nil || !again {
			return moved, err
		}
		moved = true
	}
}

// settleLate files one slot of the late lane. It reports whether it did: a
// file may turn out to be damaged, or its epoch to be ending, just now.
func (p *Projector) settleLate(ctx context.Context, s *slot, last uint64) (bool, error) {
	over := s.fate[0] == FateExpired
	f := newFiled()
	if err := p.file(ctx, s, Mark{}, last, f); err != nil {
		return false, err
	}
	if s.fate[0] == FateExpired && len(f.seen) > 0 && !over {
		return false, nil // its end has just begun; a legal hold may want these rows first
	}
	if len(f.damaged) > 0 {
		return false, p.d.Update(ctx, func(tx ProjectionTx) error { return f.write(ctx, tx, p.d.Now()) })
	}
	if err := p.d.Files.Sync(ctx, f.epochs()); err != nil {
		return false, err
	}
	fates := newTally()
	s.count(fates)
	err := p.d.Update(ctx, func(tx ProjectionTx) error {
		if err := f.write(ctx, tx, p.d.Now()); err != nil {
			return err
		}
		if err := fates.write(ctx, tx); err != nil {
			return err
		}
		return tx.PutLateCounted(ctx, s.epoch, last)
	})
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	p.state.Rows += f.rows
	p.mu.Unlock()
	_, err = p.d.Late.Drop(ctx, s.epoch, last)
	return err == nil, err
}
