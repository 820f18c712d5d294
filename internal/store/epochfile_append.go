package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

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
	in, err := f.inserter(ctx, tx, a.Rows, nums)
	if err != nil {
		return err
	}
	defer in.close()

	batch := telemetry.Batch{ID: f.head.Batches + 1, First: int64(f.head.Rows) + 1}
	leaves := make([]core.Hash, 0, len(order))
	var buf []byte
	stored := func(i int) {
		a.Fate[i] = telemetry.FateStored
		f.head.Rows++
		if a.Rows[i].Reading.Flags&telemetry.FlagWrongClock != 0 {
			f.head.WrongClock++
		}
		var leaf core.Hash
		leaf, buf = telemetry.LeafHash(&a.Rows[i], buf)
		leaves = append(leaves, leaf)
		batch.Sums = append(batch.Sums, leaf[:telemetry.SumSize]...)
	}
	for some := range slices.Chunk(order, rowsAtOnce) {
		runtime.Gosched() // see rowsAtOnce
		if done, err := in.together(ctx, some, int64(f.head.Rows)+1); err != nil {
			return err
		} else if done {
			for _, i := range some {
				stored(i)
			}
			continue
		}
		for _, i := range some { // one of them is there already
			if done, err := in.alone(ctx, i, int64(f.head.Rows)+1); err != nil {
				return err
			} else if done {
				stored(i)
			} else if a.Fate[i], err = f.collided(ctx, tx, &nums[i], &a.Rows[i].Reading); err != nil {
				return err
			}
		}
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

// rowHead is what stands packed in a row's column head. Reading a row costs by
// the column, so what is never asked for by itself shares one.
type rowHead struct {
	context int64
	flags   telemetry.Flags
	counter uint64
	lag     int64 // time of receipt less time of the reading, milliseconds
}

func appendRowHead(dst []byte, n *numbers, rd *telemetry.Reading) []byte {
	dst = binary.AppendUvarint(dst, uint64(n.context))
	dst = append(dst, byte(rd.Flags))
	dst = binary.AppendUvarint(dst, rd.Counter)
	return binary.AppendVarint(dst, rd.Received-rd.T)
}

// parseRowHead reads what appendRowHead wrote, and exactly that: two spellings
// of one head would be one that verification does not see.
func parseRowHead(b []byte) (h rowHead, ok bool) {
	rest, ok := b, true
	next := func() uint64 {
		v, n := binary.Uvarint(rest)
		if n <= 0 || n > 1 && rest[n-1] == 0 {
			ok = false
			return 0
		}
		rest = rest[n:]
		return v
	}
	h.context = int64(next())
	if !ok || len(rest) == 0 {
		return rowHead{}, false
	}
	h.flags, rest = telemetry.Flags(rest[0]), rest[1:]
	h.counter = next()
	zigzag := next()
	h.lag = int64(zigzag>>1) ^ -int64(zigzag&1)
	if !ok || len(rest) != 0 {
		return rowHead{}, false
	}
	return h, true
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
	var b []byte
	err := tx.QueryRowContext(ctx, `SELECT head FROM rows WHERE subject = ? AND lane = ? AND boot = ? AND seq = ?`,
		n.subject, n.lane, n.boot, n.seq).Scan(&b)
	if err != nil {
		return telemetry.FateNone, err
	}
	h, ok := parseRowHead(b)
	if ok && f.dict.contextsAt[h.context].gateway == rd.Gateway && h.counter == rd.Counter {
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
