package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

var _ telemetry.Stretches = (*EpochFiles)(nil)

// Names are the epochs that have a file by its name, whatever is in it. It
// opens none: an epoch's length is what its keep-time makes it today.
func (s *EpochFiles) Names(context.Context) ([]core.Epoch, error) {
	seen := map[core.Epoch]bool{}
	var out []core.Epoch
	err := s.walk(func(e core.Epoch, _ string, _ []string) error {
		if !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
		return nil
	})
	return out, err
}

// Stretch yields the rows of e's file with numbers from first to last, in
// order, past every index.
func (s *EpochFiles) Stretch(ctx context.Context, e core.Epoch, first, last int64, yield func(*telemetry.Row) error) error {
	return s.stretch(ctx, e, func(tx *sql.Tx, x *rowReader) error {
		return each(ctx, tx, rowColumns+` NOT INDEXED WHERE id >= ? AND id <= ? ORDER BY id`, []any{first, last}, func(scan scanner) error {
			r, err := x.read(scan)
			if err != nil {
				return err
			}
			return yield(r)
		})
	})
}

// Batches yields e's batches with numbers from first to last, in order.
func (s *EpochFiles) Batches(ctx context.Context, e core.Epoch, first, last uint64, yield func(*telemetry.Batch) error) error {
	return s.stretch(ctx, e, func(tx *sql.Tx, _ *rowReader) error {
		return each(ctx, tx, `SELECT id, first, count, root, sums FROM batches WHERE id >= ? AND id <= ? ORDER BY id`,
			[]any{int64(first), int64(last)}, func(scan scanner) error {
				var b telemetry.Batch
				var root []byte
				if err := scan(&b.ID, &b.First, &b.Count, &root, &b.Sums); err != nil {
					return err
				}
				copyWhole(b.Root[:], root)
				return yield(&b)
			})
	})
}

// RowOf is any one row of a subject in e's file; false when it has none there.
func (s *EpochFiles) RowOf(ctx context.Context, e core.Epoch, subject core.Subject) (telemetry.Row, bool, error) {
	var found telemetry.Row
	ok := false
	err := s.stretch(ctx, e, func(tx *sql.Tx, x *rowReader) error {
		return each(ctx, tx, rowColumns+` WHERE subject = (SELECT id FROM subjects WHERE subject = ?) LIMIT 1`, []any{subject[:]}, func(scan scanner) error {
			r, err := x.read(scan)
			if err == nil {
				found, ok = *r, true
			}
			return err
		})
	})
	if core.ReasonOf(err) == "no-epoch-file" {
		err = nil
	}
	return found, ok, err
}

// stretch is reading with the errors that whoever looks at a file as it lies
// wants: core.Unknown for one that is not there.
func (s *EpochFiles) stretch(ctx context.Context, e core.Epoch, fn func(*sql.Tx, *rowReader) error) error {
	err := s.reading(ctx, e, fn)
	if errors.Is(err, errNoFile) {
		return core.E(core.Unknown, "no-epoch-file", "there is no file of epoch "+e.String(), "")
	}
	if err != nil {
		return fmt.Errorf("look at epoch file %s: %w", e, engineTrouble(err))
	}
	return nil
}
