package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

var _ telemetry.Movable = (*PGEpochs)(nil)

// Extent is how far e's partition has come, with its watermarks.
func (s *PGEpochs) Extent(ctx context.Context, e core.Epoch) (x telemetry.Extent, some bool, err error) {
	err = s.reading(ctx, e, func(r *pgReader) error {
		x, some = telemetry.Extent{Head: r.p.head, Late: r.p.mark.late}, true
		if j := r.p.mark.journal; j != 0 {
			x.Mark = telemetry.Mark{Journal: r.journalsAt[j], Seq: r.p.mark.seq}
		}
		return nil
	})
	if err = pgIgnoreMissing(err); err != nil {
		return x, false, fmt.Errorf("look at partition %s: %w", e, err)
	}
	return x, some, nil
}

// Adopt files a batch that another engine has.
func (s *PGEpochs) Adopt(ctx context.Context, e core.Epoch, b *telemetry.Batch, rows []telemetry.Row) error {
	err := s.writing(ctx, e, func(ctx context.Context, p *pgPart, tx pgx.Tx) error {
		if err := telemetry.CheckBatch(p.head, b, rows); err != nil {
			return err
		}
		nums, err := p.dict.number(ctx, tx, p, rows)
		if err != nil {
			return err
		}
		order := make([]int, len(rows))
		for i := range rows {
			order[i] = i
			if rows[i].Reading.Flags&telemetry.FlagWrongClock != 0 {
				p.head.WrongClock++
			}
		}
		in := &pgInserter{rows: rows, nums: nums, order: order, base: p.epoch.Start * 1000}
		if err := in.insert(ctx, tx, p); pgCode(err) == "23505" { // unique_violation
			return core.E(core.Conflict, "batch-differs", fmt.Sprintf("a row of batch %d has the key of another row", b.ID), "verify the source with `hawser verify`")
		} else if err != nil {
			return err
		}
		if err := p.seal(ctx, tx, b); err != nil {
			return err
		}
		clear(p.high) // it does not know these rows
		return p.advance(ctx, tx, &telemetry.Append{})
	})
	if err != nil {
		return fmt.Errorf("copy to partition %s: %w", e, pgTrouble(err))
	}
	return nil
}
