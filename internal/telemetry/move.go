package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
)

// Extent is what a partition says of itself: how far it has come, and its
// watermarks.
type Extent struct {
	Head Head
	Mark Mark   // of whatever journal; zero when there is none
	Late uint64 // of the late lane
}

// Movable are partitions that can be copied to and from another engine, as
// they are: rows under their numbers, batches with their roots.
type Movable interface {
	Partitions
	Stretches
	// Extent is e's; false when it has no partition.
	Extent(ctx context.Context, e core.Epoch) (Extent, bool, error)
	// Adopt files a batch that another engine has, as the next one of e's
	// partition, in one transaction, and makes the partition if there is none.
	// With a batch that does not follow, or rows that are not those of its root
	// and sums, it fails with core.Conflict, "batch-differs", and files nothing.
	Adopt(ctx context.Context, e core.Epoch, b *Batch, rows []Row) error
}

// CopyPartition copies e's partition, batch by batch, and then its watermarks.
// Nothing may be appended to either meanwhile. Of a copy that was interrupted
// the rest is copied, when what is there already is of the very same chain.
// The source stays as it is. A row or batch that is not what its root says
// ends the copy with core.Conflict, "batch-differs".
func CopyPartition(ctx context.Context, from, to Movable, e core.Epoch) (Extent, error) {
	want, some, err := from.Extent(ctx, e)
	if err == nil && !some {
		err = core.E(core.Unknown, "no-epoch-file", "there is no partition of epoch "+e.String(), "")
	}
	if err != nil {
		return Extent{}, fmt.Errorf("copy epoch %s: %w", e, err)
	}
	have, some, err := to.Extent(ctx, e)
	if err != nil {
		return Extent{}, fmt.Errorf("copy epoch %s: %w", e, err)
	}
	chain := FirstChain(e)
	if some && have.Head.Batches == 0 && have.Head.Chain != chain {
		return Extent{}, fmt.Errorf("copy epoch %s: %w", e, differs(0, "the partition there begins with another chain"))
	}
	for id := uint64(1); id <= want.Head.Batches; id++ {
		b, err := oneBatch(ctx, from, e, id)
		if err != nil {
			return Extent{}, fmt.Errorf("copy epoch %s: %w", e, err)
		}
		if chain = NextChain(chain, &b); id <= have.Head.Batches {
			if id == have.Head.Batches && chain != have.Head.Chain {
				return Extent{}, fmt.Errorf("copy epoch %s: %w", e, differs(id, "the partition there has other batches"))
			}
			continue
		}
		rows, err := rowsOfBatch(ctx, from, e, &b)
		if err != nil {
			return Extent{}, fmt.Errorf("copy epoch %s: %w", e, err)
		}
		if err := to.Adopt(ctx, e, &b, rows); err != nil {
			return Extent{}, fmt.Errorf("copy epoch %s: %w", e, err)
		}
	}
	if _, err := to.Append(ctx, e, &Append{Mark: want.Mark, Late: want.Late}); err != nil {
		return Extent{}, fmt.Errorf("copy epoch %s: %w", e, err)
	}
	if err := to.Sync(ctx, []core.Epoch{e}); err != nil {
		return Extent{}, fmt.Errorf("copy epoch %s: %w", e, err)
	}
	got, _, err := to.Extent(ctx, e)
	if err == nil && got != want {
		err = differs(want.Head.Batches, fmt.Sprintf("the copy says of itself %+v, its source %+v", got, want))
	}
	if err != nil {
		return Extent{}, fmt.Errorf("copy epoch %s: %w", e, err)
	}
	return got, nil
}

func differs(batch uint64, detail string) error {
	return core.E(core.Conflict, "batch-differs", fmt.Sprintf("batch %d is not what its root says: %s", batch, detail),
		"verify the source with `hawser verify`")
}

func oneBatch(ctx context.Context, s Stretches, e core.Epoch, id uint64) (b Batch, err error) {
	n := 0
	err = s.Batches(ctx, e, id, id, func(got *Batch) error {
		b, n = *got, n+1
		b.Sums = bytes.Clone(got.Sums)
		return nil
	})
	if err == nil && (n != 1 || b.ID != id || b.First < 1 || b.Count > 1<<32) {
		err = differs(id, "it is not there, or its count cannot be")
	}
	return b, err
}

func rowsOfBatch(ctx context.Context, s Stretches, e core.Epoch, b *Batch) ([]Row, error) {
	rows := make([]Row, 0, min(b.Count, 1<<16))
	var sealed arena
	err := s.Stretch(ctx, e, b.First, b.First+int64(b.Count)-1, func(r *Row) error {
		row := *r
		row.Reading.Parts = nil
		row.Part.Sealed = sealed.keep(r.Part.Sealed)
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

// CheckBatch says whether b follows a head and rows are its rows, with numbers,
// root and sums. The error is core.Conflict, "batch-differs".
func CheckBatch(h Head, b *Batch, rows []Row) error {
	switch {
	case b.ID != h.Batches+1:
		return differs(b.ID, fmt.Sprintf("it does not follow batch %d", h.Batches))
	case uint64(b.First) != h.Rows+1:
		return differs(b.ID, fmt.Sprintf("its first row %d does not follow row %d", b.First, h.Rows))
	case b.Count == 0 || b.Count != uint64(len(rows)) || len(b.Sums) != len(rows)*SumSize:
		return differs(b.ID, fmt.Sprintf("it counts %d rows with %d bytes of sums and has %d", b.Count, len(b.Sums), len(rows)))
	}
	leaves := make([]core.Hash, len(rows))
	var buf []byte
	for i := range rows {
		if rows[i].ID != b.First+int64(i) {
			return differs(b.ID, fmt.Sprintf("row %d stands at the place of row %d", rows[i].ID, b.First+int64(i)))
		}
		leaves[i], buf = LeafHash(&rows[i], buf)
		if !bytes.Equal(leaves[i][:SumSize], b.Sums[i*SumSize:(i+1)*SumSize]) {
			return differs(b.ID, fmt.Sprintf("row %d is not what was filed", rows[i].ID))
		}
	}
	if BatchRoot(leaves) != b.Root {
		return differs(b.ID, "the root is another one")
	}
	return nil
}

// VerifyAlone reads every row of a partition and compares it with the batches,
// roots and chain that the partition itself has, and these with a head that
// somebody else knows. It needs neither ledger nor control database.
func VerifyAlone(ctx context.Context, p Partitions, e core.Epoch, known Head) (Verification, error) {
	v := Verification{Epoch: e, Against: "itself"}
	a := &auditor{v: &v, chain: FirstChain(e)}
	err := p.Audit(ctx, e, AuditVisitor{Head: a.setHead, Batch: a.batch, Row: a.row, Fault: a.fault})
	if err != nil {
		return v, fmt.Errorf("verify epoch file %s: %w", e, err)
	}
	a.finish(&EpochInfo{Epoch: e, Head: known})
	if a.head != known {
		v.add(Discrepancy{Kind: HeadLies, Detail: fmt.Sprintf("the partition says of itself %+v; it must be %+v", a.head, known)})
	}
	return v, nil
}

// MovableLane is a late lane that can be copied to and from another engine.
type MovableLane interface {
	LateLane
	// Last is the highest number that was ever given to a row.
	Last(context.Context) (uint64, error)
	// Adopt keeps rows of one epoch under the numbers that they have elsewhere;
	// those that are here already stay as they are.
	Adopt(ctx context.Context, w Waiting, ids []uint64, rows []Row) error
	// Skip sees to it that no number up to last is given any more.
	Skip(ctx context.Context, last uint64) error
}

const laneRows = 4096 // of the late lane, copied at once

// CopyLane copies what waits in a late lane, under the same numbers: the
// control database knows rows of the lane by them. It says how many rows there
// were. Nothing may be parked meanwhile.
func CopyLane(ctx context.Context, from, to MovableLane) (rows uint64, err error) {
	last, err := from.Last(ctx)
	if err != nil {
		return 0, fmt.Errorf("copy the late lane: %w", err)
	}
	if err := to.Skip(ctx, last); err != nil {
		return 0, fmt.Errorf("copy the late lane: %w", err)
	}
	waiting, err := from.Waiting(ctx)
	if err != nil {
		return 0, fmt.Errorf("copy the late lane: %w", err)
	}
	for _, w := range waiting {
		for after := uint64(0); ; {
			var ids []uint64
			var some []Row
			var sealed arena
			err := from.Take(ctx, w.Epoch, after, laneRows, func(id uint64, r *Row) error {
				row := *r
				row.Reading.Parts = nil
				row.Part.Sealed = sealed.keep(r.Part.Sealed)
				ids, some = append(ids, id), append(some, row)
				return nil
			})
			if err == nil && len(some) > 0 {
				err = to.Adopt(ctx, w, ids, some)
			}
			if err != nil {
				return rows, fmt.Errorf("copy the late lane: %w", err)
			}
			if len(some) == 0 {
				break
			}
			rows, after = rows+uint64(len(some)), ids[len(ids)-1]
		}
	}
	return rows, nil
}

// CopyHold copies the rows that a legal hold keeps and says how many it has.
func CopyHold(ctx context.Context, from, to HoldFiles, id string) (int64, error) {
	if err := to.Create(ctx, id); err != nil {
		return 0, fmt.Errorf("copy hold %s: %w", id, err)
	}
	var at core.Epoch
	var rows []HeldRow
	bytes := 0
	put := func() error {
		if len(rows) == 0 {
			return nil
		}
		err := to.Append(ctx, id, at, rows, 0)
		rows, bytes = nil, 0
		return err
	}
	var epochs []core.Epoch
	err := from.Each(ctx, id, func(e core.Epoch, r HeldRow) error {
		if e != at || bytes > 4<<20 {
			if err := put(); err != nil {
				return err
			}
		}
		if e != at {
			at, epochs = e, append(epochs, e)
		}
		rows = append(rows, HeldRow{Key: r.Key, Sealed: append([]byte(nil), r.Sealed...)})
		bytes += len(r.Sealed)
		return nil
	})
	if err = errors.Join(err, put()); err != nil {
		return 0, fmt.Errorf("copy hold %s: %w", id, err)
	}
	for _, e := range epochs {
		upto, err := from.Upto(ctx, id, e)
		if err == nil {
			err = to.Append(ctx, id, e, nil, upto)
		}
		if err != nil {
			return 0, fmt.Errorf("copy hold %s: %w", id, err)
		}
	}
	want, err := from.Count(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("copy hold %s: %w", id, err)
	}
	got, err := to.Count(ctx, id)
	if err == nil && got != want {
		err = fmt.Errorf("the copy has %d rows, its source %d", got, want)
	}
	if err != nil {
		return 0, fmt.Errorf("copy hold %s: %w", id, err)
	}
	return got, nil
}
