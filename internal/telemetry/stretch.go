package telemetry

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/hawser-iot/hawser/internal/core"
)

// Stretches gives parts of partitions as they lie, for whoever cannot look at
// all of a large one. Errors are core.Unknown for a partition that does not
// exist, and *BrokenError for one that was put aside.
type Stretches interface {
	// Names are the epochs that have a partition; none is opened.
	Names(context.Context) ([]core.Epoch, error)
	// Stretch yields the rows with numbers from first to last, in order.
	Stretch(ctx context.Context, e core.Epoch, first, last int64, yield func(*Row) error) error
	// Batches yields the batches with numbers from first to last, in order.
	Batches(ctx context.Context, e core.Epoch, first, last uint64, yield func(*Batch) error) error
	// RowOf is any one row of a subject; false when it has none there.
	RowOf(ctx context.Context, e core.Epoch, s core.Subject) (Row, bool, error)
}

// VerifyStretch is VerifyFile for a file too large to read at once: it takes
// one of its root entries in the ledger, the newest or any other by chance,
// follows the chain of batches from the entry before to that one, and compares
// up to most rows of these batches, from a batch by chance on, but one whole
// batch at least. want is how many rows these batches have, as the chain vouches;
// Verification.Rows how many were compared.
func (x *Roots) VerifyStretch(ctx context.Context, s Stretches, e core.Epoch, pick Pick, most uint64) (v Verification, want uint64, err error) {
	v = Verification{Epoch: e, Against: "ledger"}
	if x.d.Ledger == nil {
		return v, 0, fmt.Errorf("verify a stretch of epoch file %s: no ledger was given", e)
	}
	roots, err := x.d.Ledger.Roots(ctx, e)
	if err != nil {
		return v, 0, fmt.Errorf("verify a stretch of epoch file %s: read the ledger: %w", e, err)
	}
	if len(roots) == 0 {
		return v, 0, nil
	}
	n := len(roots) - 1
	if pick == AnyEntry {
		n = rand.IntN(len(roots))
	}
	root, chain := roots[n], FirstChain(e)
	if n > 0 {
		chain = roots[n-1].Chain
	}
	batches, err := x.chained(ctx, s, &v, root, chain)
	if err != nil || !v.OK() || len(batches) == 0 {
		return v, 0, err
	}
	first := rand.IntN(len(batches))
	rows := batches[first].Count
	end := first + 1
	for ; end < len(batches) && rows+batches[end].Count <= most; end++ {
		rows += batches[end].Count
	}
	for first > 0 && rows+batches[first-1].Count <= most {
		first--
		rows += batches[first].Count
	}
	return v, rows, x.rowsOf(ctx, s, &v, batches[first:end])
}

// Pick says which root entry of a file is looked at.
type Pick int

// The picks.
const (
	AnyEntry Pick = iota // by chance
	NewestEntry
)

// chained are the batches of a root entry, if they lead from the chain of the
// entry before to its own.
func (x *Roots) chained(ctx context.Context, s Stretches, v *Verification, root Sealed, chain core.Hash) ([]Batch, error) {
	var out []Batch
	next := root.First
	err := s.Batches(ctx, root.Epoch, root.First, root.Last, func(b *Batch) error {
		if b.ID != next {
			v.add(Discrepancy{Kind: BatchDropped, Batch: next, Detail: fmt.Sprintf("batch %d follows batch %d", b.ID, next-1)})
		}
		next = b.ID + 1
		chain = NextChain(chain, b)
		out = append(out, *b)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("verify a stretch of epoch file %s: %w", root.Epoch, err)
	}
	switch {
	case next <= root.Last:
		v.add(Discrepancy{Kind: BatchDropped, Batch: next, Detail: fmt.Sprintf("batches %d to %d of the ledger are not in the file", next, root.Last)})
	case v.OK() && chain != root.Chain:
		v.add(Discrepancy{
			Kind: LedgerDiffers, Batch: root.Last,
			Detail: fmt.Sprintf("batches %d to %d are not those that the ledger recorded at %s", root.First, root.Last, root.At.Format("2006-01-02T15:04:05Z")),
		})
	}
	return out, nil
}

// rowsOf compares the rows of consecutive batches, and nothing else.
func (x *Roots) rowsOf(ctx context.Context, s Stretches, v *Verification, batches []Batch) error {
	v.Batches = batches[0].ID - 1
	a := &auditor{v: v}
	last := &batches[len(batches)-1]
	i := 0
	err := s.Stretch(ctx, v.Epoch, batches[0].First, last.First+int64(last.Count)-1, func(r *Row) error {
		for ; i < len(batches) && batches[i].First <= r.ID; i++ {
			if err := a.batch(&batches[i]); err != nil {
				return err
			}
		}
		return a.row(r)
	})
	if err != nil {
		return fmt.Errorf("verify a stretch of epoch file %s: %w", v.Epoch, err)
	}
	for ; i < len(batches); i++ {
		if err := a.batch(&batches[i]); err != nil {
			return err
		}
	}
	a.close()
	for _, d := range a.added {
		v.add(d)
	}
	return nil
}
