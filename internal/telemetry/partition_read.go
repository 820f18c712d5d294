package telemetry

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
)

// Shelf is Partitions whose Scan also finds what waits in the late lane, so
// that a reading can be read from the moment the projector has seen it, and
// also when its epoch's file is damaged.
type Shelf struct {
	Partitions
	lane LateLane
}

// NewShelf joins partitions and late lane for whoever reads.
func NewShelf(p Partitions, l LateLane) (*Shelf, error) {
	if p == nil || l == nil {
		return nil, errors.New("shelf: partitions and late lane are required")
	}
	return &Shelf{p, l}, nil
}

// Scan yields the rows of e that q wants, by time and then by number, each
// once. A row and its bytes are valid until yield returns; the ID of one that
// waits is 0. Of a damaged epoch it yields what waits for it, and then gives
// the *BrokenError.
func (s *Shelf) Scan(ctx context.Context, e core.Epoch, q *Query, yield func(*Row) error) error {
	late, err := s.late(ctx, e, q)
	if err != nil {
		return err
	}
	scanErr := s.Partitions.Scan(ctx, e, q, func(r *Row) error {
		for len(late) > 0 && compareRows(&late[0], r) < 0 {
			if err := yield(&late[0]); err != nil {
				return err
			}
			late = late[1:]
		}
		return yield(r)
	})
	if _, broken := AsBroken(scanErr); scanErr != nil && !broken {
		return scanErr
	}
	for i := range late {
		if err := yield(&late[i]); err != nil {
			return err
		}
	}
	return scanErr
}

// late are q's rows of e that wait in the late lane and are not in its file,
// in the order of Scan, each once.
func (s *Shelf) late(ctx context.Context, e core.Epoch, q *Query) ([]Row, error) {
	var late []Row
	err := s.lane.Scan(ctx, e, q, func(r *Row) error {
		row := *r
		row.Reading.Parts = nil
		row.Part.Sealed = slices.Clone(r.Part.Sealed)
		late = append(late, row)
		return nil
	})
	if err != nil || len(late) == 0 {
		return nil, err
	}
	slices.SortStableFunc(late, func(a, b Row) int { return compareRows(&a, &b) })
	out := late[:0]
	seen := map[rowKey]bool{}
	for i := range late {
		r := &late[i]
		k := keyOfRow(r)
		if seen[k] {
			continue
		}
		seen[k] = true
		_, filed, err := s.Find(ctx, e, r)
		if _, broken := AsBroken(err); err != nil && !broken {
			return nil, err
		}
		if !filed {
			out = append(out, *r)
		}
	}
	return out, nil
}

// rowKey is what makes a row single within an epoch.
type rowKey struct {
	series    Series
	numbered  bool
	boot, seq uint64
	place     Place
}

func keyOfRow(r *Row) rowKey {
	k := rowKey{series: seriesOf(r), numbered: r.Reading.HasSeq, boot: r.Reading.Boot, seq: r.Reading.Seq}
	if !k.numbered {
		k.place = r.Place
	}
	return k
}

// compareRows orders rows of one epoch as Scan does, as far as their own
// columns go.
func compareRows(a, b *Row) int {
	return cmp.Or(cmp.Compare(a.Reading.T, b.Reading.T), cmp.Compare(a.Reading.Boot, b.Reading.Boot),
		cmp.Compare(a.Reading.Seq, b.Reading.Seq))
}
