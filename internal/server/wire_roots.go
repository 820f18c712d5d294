package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// ledgerRoots finds the batch roots that the ledger holds. It reads the ledger
// once and then only what came since.
type ledgerRoots struct {
	l *ledger.Ledger

	mu   sync.Mutex // guards what follows, and makes one reader at a time
	next uint64     // position to go on from
	by   map[core.Epoch][]telemetry.Sealed
}

// Roots are the root entries of an epoch, oldest first.
func (r *ledgerRoots) Roots(ctx context.Context, e core.Epoch) ([]telemetry.Sealed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.follow(ctx); err != nil {
		return nil, err
	}
	return r.by[e], nil
}

// Epochs are those that the ledger has roots of, in order.
func (r *ledgerRoots) Epochs(ctx context.Context) ([]core.Epoch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.follow(ctx); err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Keys(r.by), func(a, b core.Epoch) int { return strings.Compare(a.String(), b.String()) }), nil
}

// follow reads what the ledger holds beyond what was read. r.mu is held.
func (r *ledgerRoots) follow(ctx context.Context) error {
	if r.by == nil {
		r.by = map[core.Epoch][]telemetry.Sealed{}
	}
	for {
		found, next, err := r.l.List(ctx, ledger.Filter{Kind: telemetry.KindBatches}, r.next, ledger.MaxRange)
		if err != nil {
			return fmt.Errorf("read batch roots from the ledger: %w", err)
		}
		for i := range found {
			sealed, err := telemetry.SealedOfRecord(&found[i].Record)
			if err != nil {
				return fmt.Errorf("read batch roots from ledger entry %d: %w", found[i].Position, err)
			}
			for _, s := range sealed {
				r.by[s.Epoch] = append(r.by[s.Epoch], s)
			}
			r.next = found[i].Position + 1
		}
		if next == 0 {
			return nil
		}
		r.next = next
	}
}

// Verify seals what is filed so far, and compares every row of every epoch
// file with the ledger: a row that was changed, dropped, added or doubled is
// named, and so is a file that is damaged or gone before its time (CC 3.3).
func (d data) Verify(ctx context.Context, progress func(done, total int64)) (api.RowsCheck, error) {
	s := d.s
	out := api.RowsCheck{Faults: []string{}}
	if err := s.settle(ctx); err != nil {
		return out, err
	}
	if err := s.telem.roots.SealMinute(ctx); err != nil {
		return out, err
	}
	for {
		n, err := s.ledger.Sequence(ctx)
		if err != nil {
			return out, err
		}
		if n == 0 {
			break
		}
	}
	epochs, err := s.telem.files.List(ctx)
	if err != nil {
		return out, err
	}
	sealed, err := s.telem.sealed.Epochs(ctx)
	if err != nil {
		return out, err
	}
	for _, e := range sealed {
		if !slices.Contains(epochs, e) && s.opt.Now().Before(e.Due()) {
			out.Faults = append(out.Faults, fmt.Sprintf("%s: the ledger holds roots of this file, and it is gone", e))
		}
	}
	for i, e := range epochs {
		progress(int64(i), int64(len(epochs)))
		r, err := s.telem.roots.VerifyFile(ctx, e)
		if broken, ok := telemetry.AsBroken(err); ok {
			out.Faults = append(out.Faults, broken.Error())
			continue
		}
		if err != nil {
			return out, err
		}
		out.Files++
		out.Batches += int(r.Batches)
		out.Rows += int(r.Rows)
		for _, f := range r.Found {
			out.Faults = append(out.Faults, fmt.Sprintf("%s: %v", e, f))
		}
		if r.More > 0 {
			out.Faults = append(out.Faults, fmt.Sprintf("%s: %d more", e, r.More))
		}
	}
	return out, nil
}
