package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

var (
	_ telemetry.Movable     = (*EpochFiles)(nil)
	_ telemetry.MovableLane = (*LateLane)(nil)
)

// Extent is how far e's file has come, with its watermarks.
func (s *EpochFiles) Extent(ctx context.Context, e core.Epoch) (x telemetry.Extent, some bool, err error) {
	err = s.with(ctx, e, leaveIt, func(f *epochFile) error {
		<-f.turn
		defer func() { f.turn <- struct{}{} }()
		x, some = telemetry.Extent{Head: f.head, Late: f.mark.late}, true
		if f.mark.journal != 0 {
			x.Mark = telemetry.Mark{Journal: f.dict.journalsAt[f.mark.journal], Seq: f.mark.seq}
		}
		return nil
	})
	if err = ignoreMissing(err); err != nil {
		return x, false, fmt.Errorf("look at epoch file %s: %w", e, err)
	}
	return x, some, nil
}

// Adopt files a batch that another engine has.
func (s *EpochFiles) Adopt(ctx context.Context, e core.Epoch, b *telemetry.Batch, rows []telemetry.Row) error {
	err := s.with(ctx, e, makeIt, func(f *epochFile) error {
		<-f.turn
		defer func() { f.turn <- struct{}{} }()
		return f.adopt(context.WithoutCancel(ctx), b, rows)
	})
	if err != nil {
		return fmt.Errorf("copy to epoch file %s: %w", e, engineTrouble(err))
	}
	return nil
}

func (f *epochFile) adopt(ctx context.Context, b *telemetry.Batch, rows []telemetry.Row) (err error) {
	tx, err := f.w.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback() // err is the one to report
			f.stale = true
		}
	}()
	if f.stale {
		if err := f.refresh(ctx, tx); err != nil {
			return err
		}
	}
	if err := telemetry.CheckBatch(f.head, b, rows); err != nil {
		return err
	}
	order, nums := make([]int, len(rows)), make([]numbers, len(rows))
	for i := range rows {
		order[i] = i
		if nums[i], err = f.dict.numbersOf(ctx, tx, &rows[i]); err != nil {
			return err
		}
		if rows[i].Reading.Flags&telemetry.FlagWrongClock != 0 {
			f.head.WrongClock++
		}
	}
	in, err := f.inserter(ctx, tx, rows, nums)
	if err != nil {
		return err
	}
	defer in.close()
	for some := range slices.Chunk(order, rowsAtOnce) {
		done, err := in.together(ctx, some, rows[some[0]].ID)
		for k := 0; err == nil && !done && k < len(some); k++ {
			id := b.First + int64(some[k])
			var fresh bool
			if fresh, err = in.alone(ctx, some[k], id); err == nil && !fresh {
				err = core.E(core.Conflict, "batch-differs", fmt.Sprintf("row %d has the key of another row", id), "verify the source with `hawser verify`")
			}
		}
		if err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO batches (id, first, count, root, sums) VALUES (?, ?, ?, ?, ?)`,
		int64(b.ID), b.First, int64(b.Count), b.Root[:], b.Sums)
	if err != nil {
		return err
	}
	f.head.Batches, f.head.Rows, f.head.Chain = b.ID, f.head.Rows+b.Count, telemetry.NextChain(f.head.Chain, b)
	if err := f.advance(ctx, tx, &telemetry.Append{}); err != nil {
		return err
	}
	return tx.Commit()
}

// Last is the highest number that was ever given to a row of the lane.
func (l *LateLane) Last(ctx context.Context) (uint64, error) {
	var last int64
	err := l.r.QueryRowContext(ctx, `SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'late'), 0)`).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("read the late lane: %w", engineTrouble(err))
	}
	return uint64(last), nil
}

// Skip sees to it that no number up to last is given any more.
func (l *LateLane) Skip(ctx context.Context, last uint64) error {
	if last > math.MaxInt64 {
		return errors.New("write the late lane: its numbers end before that")
	}
	err := inTx(ctx, l.w, func(t *Tx) error {
		_, err := t.tx.ExecContext(ctx, `UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'late'`, int64(last))
		if err == nil {
			_, err = t.tx.ExecContext(ctx, `INSERT INTO sqlite_sequence (name, seq) SELECT 'late', ? WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'late')`, int64(last))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write the late lane: %w", engineTrouble(err))
	}
	return nil
}

// Adopt keeps rows of one epoch under numbers that they have elsewhere.
func (l *LateLane) Adopt(ctx context.Context, w telemetry.Waiting, ids []uint64, rows []telemetry.Row) error {
	return l.park(ctx, rows, ids, w.Since)
}
