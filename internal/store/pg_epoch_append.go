package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Append files a's rows in e's partition in one transaction. After an error it
// may be that they are filed all the same, when the connection broke while the
// commit was under way: then they are recognised the next time.
func (s *PGEpochs) Append(ctx context.Context, e core.Epoch, a *telemetry.Append) (telemetry.Head, error) {
	if len(a.Fate) != len(a.Rows) {
		return telemetry.Head{}, fmt.Errorf("append to partition %s: %d fates for %d rows", e, len(a.Fate), len(a.Rows))
	}
	var head telemetry.Head
	err := s.writing(ctx, e, func(ctx context.Context, p *pgPart, tx pgx.Tx) error {
		err := p.append(ctx, tx, a)
		head = p.head
		return err
	})
	if err != nil {
		for i := range a.Rows {
			a.Rows[i].ID, a.Fate[i] = 0, telemetry.FateNone
		}
		return telemetry.Head{}, fmt.Errorf("append to partition %s: %w", e, pgTrouble(err))
	}
	return head, nil
}

// writing runs fn in a transaction that has the partition to itself, and sees
// to what its error means.
func (s *PGEpochs) writing(ctx context.Context, e core.Epoch, fn func(context.Context, *pgPart, pgx.Tx) error) error {
	p, err := s.writer(ctx, e)
	if err != nil {
		return err
	}
	// A server that does not answer must not hold up the projector for ever.
	ctx, cancel := context.WithTimeout(ctx, pgAppendTime)
	defer cancel()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := p.begin(ctx, tx); err != nil {
			return err
		}
		return fn(ctx, p, tx)
	})
	if err != nil {
		p.loaded = false // what is in memory may not be what is there
	}
	s.leave(p)
	if err == nil {
		return nil
	}
	return s.judge(ctx, e, err)
}

func (p *pgPart) append(ctx context.Context, tx pgx.Tx, a *telemetry.Append) error {
	if len(a.Rows) > 0 {
		if err := p.file(ctx, tx, a); err != nil {
			return err
		}
	}
	return p.advance(ctx, tx, a)
}

// file files those of a's rows that are not there.
func (p *pgPart) file(ctx context.Context, tx pgx.Tx, a *telemetry.Append) error {
	nums, err := p.dict.number(ctx, tx, p, a.Rows)
	if err != nil {
		return err
	}
	// What is read together lies together; within that as it came.
	order := make([]int, len(a.Rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int {
		if d := nums[x].subject - nums[y].subject; d != 0 {
			return int(d)
		}
		return int(nums[x].lane - nums[y].lane)
	})
	for i := range a.Rows {
		a.Rows[i].ID = 0
	}
	if order, err = p.sift(ctx, tx, a, order, nums); err != nil || len(order) == 0 {
		return err
	}
	batch := telemetry.Batch{ID: p.head.Batches + 1, First: int64(p.head.Rows) + 1, Count: uint64(len(order))}
	for k, i := range order {
		a.Rows[i].ID, a.Fate[i] = batch.First+int64(k), telemetry.FateStored
		if a.Rows[i].Reading.Flags&telemetry.FlagWrongClock != 0 {
			p.head.WrongClock++
		}
	}
	in := &pgInserter{rows: a.Rows, nums: nums, order: order, base: p.epoch.Start * 1000, leaves: make([]core.Hash, 0, len(order))}
	if err := in.insert(ctx, tx, p); err != nil {
		return err
	}
	batch.Sums = make([]byte, 0, len(order)*telemetry.SumSize)
	for i := range in.leaves {
		batch.Sums = append(batch.Sums, in.leaves[i][:telemetry.SumSize]...)
	}
	batch.Root = telemetry.BatchRoot(in.leaves)
	return p.seal(ctx, tx, &batch)
}

// seal writes a batch whose rows are in, and moves the head behind it.
func (p *pgPart) seal(ctx context.Context, tx pgx.Tx, b *telemetry.Batch) error {
	_, err := tx.Exec(ctx, p.sql(`INSERT INTO {e}.batches (id, first, count, root, sums) VALUES ($1, $2, $3, $4, $5)`), pgPlain,
		int64(b.ID), b.First, int64(b.Count), b.Root[:], b.Sums)
	p.head.Batches, p.head.Rows, p.head.Chain = b.ID, p.head.Rows+b.Count, telemetry.NextChain(p.head.Chain, b)
	return err
}

// advance writes how far the partition has come. Watermarks of one journal
// never go back.
func (p *pgPart) advance(ctx context.Context, tx pgx.Tx, a *telemetry.Append) error {
	p.mark.late = max(p.mark.late, a.Late)
	if a.Mark.Journal != "" {
		j, err := p.dict.journal(ctx, tx, p, a.Mark.Journal)
		if err != nil {
			return err
		}
		if j != p.mark.journal {
			p.mark.journal, p.mark.seq = j, 0
		}
		p.mark.seq = max(p.mark.seq, a.Mark.Seq)
	}
	h := &p.head
	_, err := tx.Exec(ctx, p.sql(`UPDATE {e}.epoch SET batches = $1, rows = $2, wrong_clock = $3, chain = $4, journal = $5, seq = $6, late = $7`), pgPlain,
		int64(h.Batches), int64(h.Rows), int64(h.WrongClock), h.Chain[:], p.mark.journal, int64(p.mark.seq), int64(p.mark.late))
	return err
}
