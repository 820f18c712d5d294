package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const insertRow = `INSERT INTO rows (id, subject, lane, boot, seq, t, lag, sender, context, flags, counter, sealed)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (subject, lane, boot, seq) DO NOTHING`

// Append files a's rows in e's file in one transaction.
func (s *EpochFiles) Append(ctx context.Context, e core.Epoch, a *telemetry.Append) (telemetry.Head, error) {
	if len(a.Fate) != len(a.Rows) {
		return telemetry.Head{}, fmt.Errorf("append to epoch file %s: %d fates for %d rows", e, len(a.Fate), len(a.Rows))
	}
	var head telemetry.Head
	err := s.with(ctx, e, makeIt, func(f *epochFile) error {
		select {
		case <-f.turn:
			defer func() { f.turn <- struct{}{} }()
		case <-ctx.Done():
			return ctx.Err()
		}
		// What is begun is finished: it takes a second, and a statement that
		// may be interrupted costs a goroutine each.
		err := f.append(context.WithoutCancel(ctx), a)
		head = f.head
		return err
	})
	if err != nil {
		return telemetry.Head{}, fmt.Errorf("append to epoch file %s: %w", e, engineTrouble(err))
	}
	return head, nil
}

func (f *epochFile) append(ctx context.Context, a *telemetry.Append) (err error) {
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
	order, nums, err := f.arrange(ctx, tx, a.Rows)
	if err != nil {
		return err
	}
	stmt, err := tx.PrepareContext(ctx, insertRow)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }() // its transaction is over

	batch := telemetry.Batch{ID: f.head.Batches + 1, First: int64(f.head.Rows) + 1}
	leaves := make([]core.Hash, 0, len(order))
	var buf []byte
	for _, i := range order {
		r, n := &a.Rows[i], &nums[i]
		rd := &r.Reading
		r.ID = int64(f.head.Rows) + 1
		res, err := stmt.ExecContext(ctx, r.ID, n.subject, n.lane, n.boot, n.seq, rd.T-f.epoch.Start*1000, rd.Received-rd.T,
			n.sender, n.context, int64(rd.Flags), int64(rd.Counter), r.Part.Sealed)
		if err != nil {
			return err
		}
		if done, err := res.RowsAffected(); err != nil {
			return err
		} else if done == 0 {
			r.ID = 0
			if a.Fate[i], err = f.collided(ctx, tx, n, rd); err != nil {
				return err
			}
			continue
		}
		a.Fate[i] = telemetry.FateStored
		f.head.Rows++
		if rd.Flags&telemetry.FlagWrongClock != 0 {
			f.head.WrongClock++
		}
		var leaf core.Hash
		leaf, buf = telemetry.LeafHash(r, buf)
		leaves = append(leaves, leaf)
		batch.Sums = append(batch.Sums, leaf[:telemetry.SumSize]...)
	}
	if len(leaves) > 0 {
		batch.Count, batch.Root = uint64(len(leaves)), telemetry.BatchRoot(leaves)
		f.head.Batches, f.head.Chain = batch.ID, telemetry.NextChain(f.head.Chain, &batch)
		_, err = tx.ExecContext(ctx, `INSERT INTO batches (id, first, count, root, sums) VALUES (?, ?, ?, ?, ?)`,
			int64(batch.ID), batch.First, int64(batch.Count), batch.Root[:], batch.Sums)
		if err != nil {
			return err
		}
	}
	if err := f.advance(ctx, tx, a); err != nil {
		return err
	}
	return tx.Commit()
}

// arrange gives each row its numbers and the order in which rows are filed:
// by subject and lane, so that what is read together lies together; within
// them as they came.
func (f *epochFile) arrange(ctx context.Context, tx *sql.Tx, rows []telemetry.Row) ([]int, []numbers, error) {
	order, nums := make([]int, len(rows)), make([]numbers, len(rows))
	for i := range rows {
		order[i] = i
		var err error
		if nums[i], err = f.dict.numbersOf(ctx, tx, &rows[i]); err != nil {
			return nil, nil, err
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if d := nums[a].subject - nums[b].subject; d != 0 {
			return int(d)
		}
		return int(nums[a].lane - nums[b].lane)
	})
	return order, nums, nil
}

// collided says whether the row with the same key is the very same record.
func (f *epochFile) collided(ctx context.Context, tx *sql.Tx, n *numbers, rd *telemetry.Reading) (telemetry.Fate, error) {
	var context, counter int64
	err := tx.QueryRowContext(ctx, `SELECT context, counter FROM rows WHERE subject = ? AND lane = ? AND boot = ? AND seq = ?`,
		n.subject, n.lane, n.boot, n.seq).Scan(&context, &counter)
	if err != nil {
		return telemetry.FateNone, err
	}
	if f.dict.contextsAt[context].gateway == rd.Gateway && uint64(counter) == rd.Counter {
		return telemetry.FateRepeated, nil
	}
	return telemetry.FateDuplicate, nil
}

// advance writes how far the file has come. Watermarks of one journal never
// go back.
func (f *epochFile) advance(ctx context.Context, tx *sql.Tx, a *telemetry.Append) error {
	f.mark.late = max(f.mark.late, a.Late)
	if a.Mark.Journal != "" {
		j, err := f.dict.journal(ctx, tx, a.Mark.Journal)
		if err != nil {
			return err
		}
		if j != f.mark.journal {
			f.mark.journal, f.mark.seq = j, 0
		}
		f.mark.seq = max(f.mark.seq, a.Mark.Seq)
	}
	h := &f.head
	_, err := tx.ExecContext(ctx, `UPDATE epoch SET batches = ?, rows = ?, wrong_clock = ?, chain = ?, journal = ?, seq = ?, late = ?`,
		int64(h.Batches), int64(h.Rows), int64(h.WrongClock), h.Chain[:], f.mark.journal, int64(f.mark.seq), int64(f.mark.late))
	return err
}

// Mark is how far e's file has come in the given journal and the late lane.
func (s *EpochFiles) Mark(ctx context.Context, e core.Epoch, journal string) (telemetry.Mark, uint64, error) {
	m, late := telemetry.Mark{}, uint64(0)
	err := s.with(ctx, e, leaveIt, func(f *epochFile) error {
		<-f.turn
		defer func() { f.turn <- struct{}{} }()
		late = f.mark.late
		if f.mark.journal != 0 && f.dict.journalsAt[f.mark.journal] == journal {
			m = telemetry.Mark{Journal: journal, Seq: f.mark.seq}
		}
		return nil
	})
	return m, late, ignoreMissing(err)
}
