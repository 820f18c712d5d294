package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const pgBatchesAtOnce = 16 // of 8 bytes for each of their rows

// Audit yields everything that e's partition held when it was called, in the
// order of numbers, and what the engine finds wrong with it.
func (s *PGEpochs) Audit(ctx context.Context, e core.Epoch, v telemetry.AuditVisitor) error {
	err := s.reading(ctx, e, func(x *pgReader) error {
		// One statement, one snapshot: what is filed later has higher numbers.
		var h telemetry.Head
		var chain []byte
		var batches, rows, wrong, lastRow, lastBatch int64
		err := s.pool.QueryRow(ctx, x.p.sql(`SELECT batches, rows, wrong_clock, chain, (SELECT coalesce(max(id), 0) FROM {e}.rows),
			(SELECT coalesce(max(id), 0) FROM {e}.batches) FROM {e}.epoch`), pgPlain).Scan(&batches, &rows, &wrong, &chain, &lastRow, &lastBatch)
		if err != nil {
			return err
		}
		h = telemetry.Head{Batches: uint64(batches), Rows: uint64(rows), WrongClock: uint64(wrong)}
		copyWhole(h.Chain[:], chain)
		if err := v.Head(h); err != nil {
			return err
		}
		n, err := x.auditRows(ctx, v, lastRow, lastBatch)
		if err != nil {
			return err
		}
		return x.faults(ctx, v, lastRow, n)
	})
	if errors.Is(err, errNoFile) {
		return pgNoPartition(e)
	}
	if err != nil {
		return fmt.Errorf("audit partition %s: %w", e, pgTrouble(err))
	}
	return nil
}

func pgNoPartition(e core.Epoch) error {
	return core.E(core.Unknown, "no-epoch-file", "there is no partition of epoch "+e.String(), "")
}

// auditRows yields batches and rows, each batch before its first row, and says
// how many rows there were.
func (x *pgReader) auditRows(ctx context.Context, v telemetry.AuditVisitor, lastRow, lastBatch int64) (n int64, err error) {
	b := &pgBatches{x: x, after: math.MinInt64, last: lastBatch}
	if err := b.next(ctx); err != nil {
		return 0, err
	}
	upTo := func(id int64) error {
		for b.some && b.cur.First <= id {
			if err := v.Batch(&b.cur); err != nil {
				return err
			}
			if err := b.next(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	after := int64(math.MinInt64)
	for more := true; more; {
		if more, err = x.page(ctx, `WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3`, after, lastRow); err != nil {
			return n, err
		}
		for i := range x.rows {
			n++
			r, err := x.read(i)
			if err != nil {
				if err := v.Fault(fmt.Sprintf("the row after %d cannot be read: %v", after, err)); err != nil {
					return n, err
				}
				after = x.rows[i].id
				continue
			}
			after = r.ID
			if err := upTo(r.ID); err != nil {
				return n, err
			}
			if err := v.Row(r); err != nil {
				return n, err
			}
		}
	}
	return n, upTo(math.MaxInt64)
}

// pgBatches reads batches by number, a few at once.
type pgBatches struct {
	x     *pgReader
	after int64
	last  int64
	held  []telemetry.Batch
	cur   telemetry.Batch
	some  bool // cur is one
}

func (b *pgBatches) next(ctx context.Context) (err error) {
	if len(b.held) == 0 {
		if b.held, err = b.x.batches(ctx, b.after, b.last); err != nil {
			return err
		}
	}
	if b.some = len(b.held) > 0; b.some {
		b.cur, b.held = b.held[0], b.held[1:]
		b.after = int64(b.cur.ID)
	}
	return nil
}

// batches are the next few after one, up to a last one.
func (x *pgReader) batches(ctx context.Context, after, last int64) (out []telemetry.Batch, err error) {
	err = pgEach(ctx, x.s.pool, x.p.sql(`SELECT id, first, count, root, sums FROM {e}.batches WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3`),
		[]any{pgPlain, after, last, pgBatchesAtOnce}, func(scan scanner) error {
			var b telemetry.Batch
			var id, count int64
			var root []byte
			if err := scan(&id, &b.First, &count, &root, &b.Sums); err != nil {
				return err
			}
			b.ID, b.Count, b.Sums = uint64(id), uint64(count), bytes.Clone(b.Sums)
			copyWhole(b.Root[:], root)
			out = append(out, b)
			return nil
		})
	return out, err
}

// faults is what the engine finds wrong: rows that no index names, and what
// the extension amcheck says of the indexes where it is installed.
func (x *pgReader) faults(ctx context.Context, v telemetry.AuditVisitor, lastRow, seen int64) error {
	n, err := x.p.heap(ctx, x.s.pool, "rows", `count(*)`, lastRow)
	if err != nil {
		return err
	}
	if n != seen {
		if err := v.Fault(fmt.Sprintf("the table has %d rows, %d of them can be found by number", n, seen)); err != nil {
			return err
		}
	}
	var may bool
	err = x.s.pool.QueryRow(ctx, `SELECT coalesce(has_function_privilege(to_regprocedure('bt_index_check(regclass, boolean)'), 'EXECUTE'), false)`).Scan(&may)
	if err != nil || !may {
		return err
	}
	_, err = x.s.pool.Exec(ctx, `SELECT bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid = $1::regclass`, pgPlain, x.p.schema+".rows")
	switch {
	case pgSuspect(err):
		return v.Fault(err.Error())
	case pgCode(err) == "57014": // query_canceled: too large to be looked at in the time of a statement
		return nil
	}
	return err
}

// Stretch yields the rows of e's partition with numbers from first to last, in
// order.
func (s *PGEpochs) Stretch(ctx context.Context, e core.Epoch, first, last int64, yield func(*telemetry.Row) error) error {
	return s.stretch(ctx, e, func(x *pgReader) error {
		for more := true; more; {
			var err error
			if more, err = x.page(ctx, `WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3`, first, last); err != nil {
				return err
			}
			for i := range x.rows {
				r, err := x.read(i)
				if err != nil {
					return err
				}
				if err := yield(r); err != nil {
					return err
				}
			}
			if n := len(x.rows); n > 0 {
				first = x.rows[n-1].id + 1
			}
		}
		return nil
	})
}

// Batches yields e's batches with numbers from first to last, in order.
func (s *PGEpochs) Batches(ctx context.Context, e core.Epoch, first, last uint64, yield func(*telemetry.Batch) error) error {
	return s.stretch(ctx, e, func(x *pgReader) error {
		b := &pgBatches{x: x, after: int64(min(first, 1<<62)) - 1, last: int64(min(last, 1<<62))}
		for {
			if err := b.next(ctx); err != nil || !b.some {
				return err
			}
			if err := yield(&b.cur); err != nil {
				return err
			}
		}
	})
}

// RowOf is any one row of a subject in e's partition; false when it has none
// there.
func (s *PGEpochs) RowOf(ctx context.Context, e core.Epoch, subject core.Subject) (found telemetry.Row, ok bool, err error) {
	err = s.stretch(ctx, e, func(x *pgReader) error {
		id, err := x.numberOf(ctx, subject)
		if err != nil || id == 0 {
			return err
		}
		x.limit = 1
		if _, err := x.page(ctx, `WHERE subject = $1 LIMIT $2`, int32(id)); err != nil || len(x.rows) == 0 {
			return err
		}
		r, err := x.read(0)
		if err == nil {
			found, ok = *r, true
		}
		return err
	})
	if core.ReasonOf(err) == "no-epoch-file" {
		err = nil
	}
	return found, ok, err
}

// stretch is reading with the errors that whoever looks at a partition as it
// lies wants: core.Unknown for one that is not there.
func (s *PGEpochs) stretch(ctx context.Context, e core.Epoch, fn func(*pgReader) error) error {
	err := s.reading(ctx, e, fn)
	if errors.Is(err, errNoFile) {
		return pgNoPartition(e)
	}
	if err != nil {
		return fmt.Errorf("look at partition %s: %w", e, pgTrouble(err))
	}
	return nil
}
