package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// followed are the entries of some kinds that the ledger holds, each as it is
// hashed into the tree. It reads the ledger once and then only what came since:
// what was seen stays seen, whoever writes to the database.
type followed struct {
	kinds []core.RecordKind

	mu      sync.Mutex // guards what follows, and makes one reader at a time
	next    []uint64   // of each kind, the position to go on from
	entries []ledger.Entry
}

func follow(kinds ...core.RecordKind) *followed {
	return &followed{kinds: kinds, next: make([]uint64, len(kinds))}
}

// all are the entries that were written before the call, oldest first. It
// fails where one is not what was recorded.
func (f *followed) all(ctx context.Context, l *ledger.Ledger) ([]ledger.Entry, error) {
	for {
		n, err := l.Sequence(ctx)
		if err != nil {
			return nil, fmt.Errorf("sequence the ledger: %w", err)
		}
		if n == 0 {
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	known := len(f.entries)
	for i, kind := range f.kinds {
		for more := true; more; {
			found, next, err := l.List(ctx, ledger.Filter{Kind: kind}, f.next[i], 0)
			if err != nil {
				return nil, fmt.Errorf("read the ledger: %w", err)
			}
			for _, e := range found {
				if e, err = l.Get(ctx, e.Position); err != nil { // held against the tree
					return nil, err
				}
				f.entries = append(f.entries, e)
				f.next[i] = e.Position + 1
			}
			more = next != 0
		}
	}
	if len(f.entries) > known {
		slices.SortFunc(f.entries, func(a, b ledger.Entry) int { return cmp.Compare(a.Position, b.Position) })
	}
	return slices.Clone(f.entries), nil
}
