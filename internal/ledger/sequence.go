package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// The rhythm of the ledger's job.
const (
	sequenceEvery   = 200 * time.Millisecond // how long a record waits for its index
	checkpointEvery = time.Second            // at most one signature in this time
	idleEvery       = time.Hour              // a head that stands still is compared and signed again
	retryEvery      = 10 * time.Second       // after trouble
	batchMax        = 4096                   // records that one transaction takes
)

// Sequence gives the records that wait their indexes, in the order in which
// they were written, and moves the head, in one transaction. It takes at most
// 4,096 and returns how many: call it again while there are more. Two
// sequencers at once never fork the tree: the slower one finds the head moved,
// writes nothing and starts anew.
func (l *Ledger) Sequence(ctx context.Context) (int, error) {
	const tries = 16
	err := ErrHeadMoved
	for n := 0; errors.Is(err, ErrHeadMoved) && n < tries; n++ {
		var took int
		if took, err = l.sequence(ctx); err == nil {
			return took, nil
		}
	}
	return 0, fmt.Errorf("sequence ledger: %w", err)
}

func (l *Ledger) sequence(ctx context.Context) (int, error) {
	var o Origin
	var rows []Pending
	var e edge
	err := l.d.View(ctx, func(tx Tx) error {
		var err error
		if o, err = current(ctx, tx); err != nil {
			return err
		}
		if rows, err = tx.LedgerPending(ctx, batchMax); err != nil || len(rows) == 0 {
			return err
		}
		e, err = loadEdge(o.Size, tilesOf(ctx, tx, o.Number))
		return err
	})
	if err != nil {
		return 0, err
	}
	if len(rows) > 0 {
		if o.Size, err = l.extend(ctx, o, &e, rows); err != nil {
			return 0, err
		}
	}
	now := l.d.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status.Origin, l.status.Size, l.status.LastSequence = o.Name, o.Size, now
	return len(rows), nil
}

// extend appends rows to the tree of o and commits the new head.
func (l *Ledger) extend(ctx context.Context, o Origin, e *edge, rows []Pending) (uint64, error) {
	if e.root() != o.Root {
		return 0, damaged("the right edge of %d entries does not hash to the root", o.Size)
	}
	if o.Size+uint64(len(rows)) > maxSize {
		return 0, core.E(core.Internal, "ledger-full", "the ledger has as many entries as its layout can hold", "")
	}
	tiles := map[tileKey][]core.Hash{}
	for i := range rows {
		e.append(LeafHash(rows[i].Leaf), tiles)
	}
	for level, hs := range e.levels {
		// A partial tile of a level that did not change is written again
		// only where it is short: level by level the changes thin out 256-fold.
		n := e.size >> (tileHeight * level)
		if len(hs) > 0 && n > o.Size>>(tileHeight*level) {
			tiles[tileKey{level, n / tileWidth}] = hs
		}
	}
	put := make([]Tile, 0, len(tiles))
	for _, k := range slices.SortedFunc(maps.Keys(tiles), func(a, b tileKey) int {
		if a.level != b.level {
			return a.level - b.level
		}
		return int(int64(a.n) - int64(b.n))
	}) {
		put = append(put, Tile{Level: k.level, N: k.n, Hashes: joinHashes(tiles[k])})
	}
	root := e.root()
	err := l.d.Update(ctx, func(tx Tx) error {
		if err := tx.MoveLedgerHead(ctx, o, e.size, root); err != nil {
			return err
		}
		if err := tx.TakeLedgerPending(ctx, o.First+o.Size, rows); err != nil {
			return err
		}
		return tx.PutLedgerTiles(ctx, o.Number, put)
	})
	return e.size, err
}

// Run sequences and signs until ctx is done: records get their index within
// about 200 ms, a checkpoint follows within about a second, and once an hour a
// head that stands still is compared with the kept checkpoint again. Trouble
// never ends it; it shows in Status and in the log, and while the database
// contradicts what was signed nothing is added to it.
func (l *Ledger) Run(ctx context.Context) error {
	tick := time.NewTicker(sequenceEvery)
	defer tick.Stop()
	var signed, failed time.Time // when we last signed, and when something last went wrong
	for {
		now := l.d.Now()
		if failed.IsZero() || now.Sub(failed) >= retryEvery {
			sign, err := l.turn(ctx, now.Sub(signed))
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				failed = now
				l.troubled(ctx, err)
			default:
				failed = time.Time{}
				if sign {
					signed = now
				}
				l.mu.Lock()
				l.status.Trouble = nil
				l.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// turn does what is due; since is the time since the last signature. It
// reports whether it signed.
func (l *Ledger) turn(ctx context.Context, since time.Duration) (bool, error) {
	if l.Status().Trouble != nil { // only a head that agrees with what was signed may grow
		if _, err := l.Checkpoint(ctx); err != nil {
			return false, err
		}
		since = 0
	}
	for {
		n, err := l.Sequence(ctx)
		if err != nil {
			return false, err
		}
		if n < batchMax {
			break
		}
	}
	st := l.Status()
	if due := since >= idleEvery || (since >= checkpointEvery && st.Size != st.Signed); !due {
		return false, nil
	}
	_, err := l.Checkpoint(ctx)
	return err == nil, err
}

func (l *Ledger) troubled(ctx context.Context, err error) {
	l.mu.Lock()
	before := l.status.Trouble
	l.status.Trouble = err
	l.mu.Unlock()
	if before == nil || before.Error() != err.Error() {
		l.d.Log.ErrorContext(ctx, "ledger is in trouble", slog.Any("err", err))
	}
}
