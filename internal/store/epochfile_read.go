package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// rowColumns are the columns of a row, in the order in which rowReader takes
// them.
const rowColumns = `SELECT id, subject, lane, boot, seq, t, head, sealed FROM rows`

// rowReader makes telemetry rows of database rows. The row and its bytes are
// used again for the next one.
type rowReader struct {
	small
	ctx      context.Context // of the snapshot
	tx       *sql.Tx
	epoch    core.Epoch
	subjects map[int64]core.Subject
	row      telemetry.Row
}

func newRowReader(ctx context.Context, tx *sql.Tx, e core.Epoch) (*rowReader, error) {
	x := &rowReader{ctx: ctx, tx: tx, epoch: e, subjects: map[int64]core.Subject{}}
	return x, x.load(ctx, tx)
}

func (x *rowReader) read(scan scanner) (*telemetry.Row, error) {
	var head, sealed sql.RawBytes
	var subject, lane, boot, seq, t int64
	r := &x.row
	if err := scan(&r.ID, &subject, &lane, &boot, &seq, &t, &head, &sealed); err != nil {
		return nil, err
	}
	h, ok := parseRowHead(head)
	if !ok {
		return nil, fmt.Errorf("row %d: its head is not one", r.ID)
	}
	l, c := x.lanesAt[lane], x.contextsAt[h.context]
	rd := &r.Reading
	*rd = telemetry.Reading{
		Product: c.product, Policy: c.policy, Gateway: c.gateway, Stream: l.stream,
		T: x.epoch.Start*1000 + t, HasSeq: l.numbered, Flags: h.flags, Counter: h.counter,
	}
	rd.Received = rd.T + h.lag
	r.Place = telemetry.Place{}
	if l.numbered {
		rd.Boot, rd.Seq = uint64(boot), uint64(seq)
	} else {
		r.Place = telemetry.Place{
			Journal: x.journalsAt[boot], Seq: uint64(seq) / telemetry.MaxIndex, Index: uint32(uint64(seq) % telemetry.MaxIndex),
		}
	}
	r.Part = telemetry.Part{Epoch: x.epoch, Group: l.group, Sealed: append(r.Part.Sealed[:0], sealed...)}
	var err error
	rd.Subject, err = x.subject(subject)
	return r, err
}

// subject is whom a number stands for; zero when the dictionary lacks it.
func (x *rowReader) subject(id int64) (core.Subject, error) {
	if s, ok := x.subjects[id]; ok {
		return s, nil
	}
	var s core.Subject
	var b []byte
	err := x.tx.QueryRowContext(x.ctx, `SELECT subject FROM subjects WHERE id = ?`, id).Scan(&b)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return s, err
	}
	copyWhole(s[:], b)
	if len(x.subjects) >= maxRemembered {
		clear(x.subjects)
	}
	x.subjects[id] = s
	return s, nil
}

// copyWhole copies src, or nothing if it has another length than dst: a column
// with a byte too many is another column.
func copyWhole(dst, src []byte) {
	clear(dst)
	if len(src) == len(dst) {
		copy(dst, src)
	}
}

// reading runs fn on a snapshot of e's file.
func (s *EpochFiles) reading(ctx context.Context, e core.Epoch, fn func(*sql.Tx, *rowReader) error) error {
	return s.with(ctx, e, leaveIt, func(f *epochFile) error {
		tx, err := f.r.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // a snapshot has nothing to commit
		x, err := newRowReader(ctx, tx, f.epoch)
		if err != nil {
			return err
		}
		return fn(tx, x)
	})
}

// ignoreMissing makes an absent file an empty one.
func ignoreMissing(err error) error {
	if errors.Is(err, errNoFile) {
		return nil
	}
	return engineTrouble(err)
}

// Scan yields e's rows that q wants, by time and then by number.
func (s *EpochFiles) Scan(ctx context.Context, e core.Epoch, q *telemetry.Query, yield func(*telemetry.Row) error) error {
	err := s.reading(ctx, e, func(tx *sql.Tx, x *rowReader) error {
		var lanes []string
		for id, l := range x.lanesAt {
			for _, c := range x.contextsAt {
				if q.Want == nil || q.Want(c.policy, l.stream, l.group) {
					lanes = append(lanes, fmt.Sprint(id))
					break
				}
			}
		}
		if len(lanes) == 0 {
			return nil
		}
		base := e.Start * 1000
		// A query that may be interrupted costs by the row; looking is cheap.
		return each(context.WithoutCancel(ctx), tx, rowColumns+` WHERE subject = (SELECT id FROM subjects WHERE subject = ?)
			AND lane IN (`+strings.Join(lanes, ",")+`) AND t >= ? AND t < ? ORDER BY t, boot, seq, id`,
			[]any{q.Subject[:], q.From.UnixMilli() - base, ceilMilli(q) - base}, func(scan scanner) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				r, err := x.read(scan)
				if err != nil || q.Want != nil && !q.Want(r.Reading.Policy, r.Reading.Stream, r.Part.Group) {
					return err
				}
				return yield(r)
			})
	})
	if err = ignoreMissing(err); err != nil {
		return fmt.Errorf("read epoch file %s: %w", e, err)
	}
	return nil
}

// ceilMilli is the first millisecond that q does not want.
func ceilMilli(q *telemetry.Query) int64 {
	ms := q.To.UnixMilli()
	if q.To.Nanosecond()%1_000_000 != 0 {
		ms++
	}
	return ms
}

// Highest gives for each series the largest (boot, seq).
func (s *EpochFiles) Highest(ctx context.Context, e core.Epoch, series []telemetry.Series) ([][2]uint64, error) {
	out := make([][2]uint64, len(series))
	ctx = context.WithoutCancel(ctx) // one short statement for each
	err := s.reading(ctx, e, func(tx *sql.Tx, x *rowReader) error {
		stmt, err := tx.PrepareContext(ctx, `SELECT boot, seq FROM rows
			WHERE subject = (SELECT id FROM subjects WHERE subject = ?) AND lane = ? ORDER BY boot DESC, seq DESC LIMIT 1`)
		if err != nil {
			return err
		}
		defer func() { _ = stmt.Close() }() // its snapshot is over
		for i, q := range series {
			lane, ok := x.lanes[laneKey{q.Stream, q.Group, true}]
			if !ok {
				continue
			}
			var boot, seq int64
			err := stmt.QueryRowContext(ctx, q.Subject[:], lane).Scan(&boot, &seq)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			// SQLite's integers have a sign. A negative one stands for a large
			// number and may hide a larger one: say the largest.
			out[i] = [2]uint64{uint64(boot), uint64(seq)}
			if boot < 0 {
				out[i] = [2]uint64{math.MaxUint64, math.MaxUint64}
			} else if seq < 0 {
				out[i][1] = math.MaxUint64
			}
		}
		return nil
	})
	if err = ignoreMissing(err); err != nil {
		return nil, fmt.Errorf("read epoch file %s: %w", e, err)
	}
	return out, nil
}

// Find gives the row that has r's key.
func (s *EpochFiles) Find(ctx context.Context, e core.Epoch, r *telemetry.Row) (telemetry.Row, bool, error) {
	var found telemetry.Row
	ok := false
	err := s.reading(ctx, e, func(tx *sql.Tx, x *rowReader) error {
		lane := x.lanes[laneKey{r.Reading.Stream, r.Part.Group, r.Reading.HasSeq}]
		boot, seq := int64(r.Reading.Boot), int64(r.Reading.Seq)
		if !r.Reading.HasSeq {
			boot, seq = x.journals[r.Place.Journal], placeNumber(r.Place)
		}
		return each(ctx, tx, rowColumns+` WHERE subject = (SELECT id FROM subjects WHERE subject = ?)
			AND lane = ? AND boot = ? AND seq = ?`, []any{r.Reading.Subject[:], lane, boot, seq},
			func(scan scanner) error {
				got, err := x.read(scan)
				if err == nil {
					found, ok = *got, true
				}
				return err
			})
	})
	if err = ignoreMissing(err); err != nil {
		return telemetry.Row{}, false, fmt.Errorf("read epoch file %s: %w", e, err)
	}
	return found, ok, nil
}

// auditRows yields batches and rows, each batch before its first row.
func auditRows(ctx context.Context, tx *sql.Tx, x *rowReader, v telemetry.AuditVisitor) error {
	batches, err := tx.QueryContext(ctx, `SELECT id, first, count, root, sums FROM batches ORDER BY id`)
	if err != nil {
		return err
	}
	defer func() { _ = batches.Close() }() // read to the end or given up
	var b telemetry.Batch
	some := false
	next := func() error {
		if some = batches.Next(); !some {
			return batches.Err()
		}
		var root, sums sql.RawBytes
		if err := batches.Scan(&b.ID, &b.First, &b.Count, &root, &sums); err != nil {
			return err
		}
		copyWhole(b.Root[:], root)
		b.Sums = append(b.Sums[:0], sums...)
		return nil
	}
	upTo := func(id int64) error {
		for some && b.First <= id {
			if err := v.Batch(&b); err != nil {
				return err
			}
			if err := next(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := next(); err != nil {
		return err
	}
	// NOT INDEXED: the rows themselves, whatever an index says of them.
	err = each(ctx, tx, rowColumns+` NOT INDEXED ORDER BY id`, nil, func(scan scanner) error {
		after := x.row.ID
		r, err := x.read(scan)
		if err != nil {
			return v.Fault(fmt.Sprintf("the row after %d cannot be read: %v", after, err))
		}
		if err := upTo(r.ID); err != nil {
			return err
		}
		return v.Row(r)
	})
	if err != nil {
		return err
	}
	return upTo(math.MaxInt64)
}

// Audit yields everything that e's file holds, in the order of numbers, and
// what the engine finds wrong with it. It holds one snapshot for all of it.
func (s *EpochFiles) Audit(ctx context.Context, e core.Epoch, v telemetry.AuditVisitor) error {
	err := s.reading(ctx, e, func(tx *sql.Tx, x *rowReader) error {
		var h telemetry.Head
		var chain []byte
		err := tx.QueryRowContext(ctx, `SELECT batches, rows, wrong_clock, chain FROM epoch`).Scan(&h.Batches, &h.Rows, &h.WrongClock, &chain)
		if err != nil {
			return err
		}
		copyWhole(h.Chain[:], chain)
		if err := v.Head(h); err != nil {
			return err
		}
		if err := auditRows(ctx, tx, x, v); err != nil {
			return err
		}
		return each(ctx, tx, `PRAGMA integrity_check(20)`, nil, func(scan scanner) error {
			var line string
			if err := scan(&line); err != nil || line == "ok" {
				return err
			}
			return v.Fault(line)
		})
	})
	if errors.Is(err, errNoFile) {
		return core.E(core.Unknown, "no-epoch-file", "there is no file of epoch "+e.String(), "")
	}
	if err != nil {
		return fmt.Errorf("audit epoch file %s: %w", e, engineTrouble(err))
	}
	return nil
}
