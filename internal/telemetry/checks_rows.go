package telemetry

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

// What one look at filed rows may cost.
const (
	filedFiles = 8      // files
	filedWhole = 20_000 // rows of a file that is compared as a whole
	filedPart  = 10_000 // rows of a larger one; a batch is never cut
)

// filedRows compares epoch files with the ledger, some at a time.
type filedRows struct {
	d CheckDeps

	mu   sync.Mutex            // guards what follows, and makes one look at a time
	seen map[core.Epoch]uint64 // rows under the ledger at the last look
	last string                // name of the file that the turn has come to
	odd  []core.Epoch          // files that were not as they should be: looked at again each time
}

func (f *filedRows) look(ctx context.Context, l *check.Look) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	epochs, err := f.d.SealedEpochs(ctx)
	if err != nil {
		return err
	}
	epochs = slices.DeleteFunc(epochs, func(e core.Epoch) bool { return !l.Now.Before(e.Due()) })
	l.Touch("source", "ledger, records of kind "+string(KindBatches))
	names, err := f.d.Rows.Names(ctx)
	if err != nil {
		return err
	}
	l.Touch("folder", "telemetry")
	there := map[string]bool{}
	for _, e := range names {
		there[e.String()] = true
	}
	for _, e := range epochs {
		if !there[e.String()] {
			l.Expect("", 1)
			l.Fail(e.String(), "the ledger has rows of this file, and it is gone before its time")
		}
	}
	epochs = slices.DeleteFunc(epochs, func(e core.Epoch) bool { return !there[e.String()] })
	picked, err := f.pick(ctx, epochs)
	if err != nil {
		return err
	}
	f.odd = f.odd[:0]
	for _, e := range picked {
		if err := f.file(ctx, l, e); err != nil {
			return err
		}
	}
	return nil
}

// pick chooses the files: those that were wrong, those that grew, the next ones.
func (f *filedRows) pick(ctx context.Context, epochs []core.Epoch) ([]core.Epoch, error) {
	var first, grown, rest []core.Epoch
	now := map[core.Epoch]uint64{}
	for _, e := range epochs {
		roots, err := f.d.Sealed(ctx, e)
		if err != nil {
			return nil, err
		}
		if len(roots) == 0 {
			continue
		}
		now[e] = roots[len(roots)-1].Rows
		switch {
		case slices.Contains(f.odd, e):
			first = append(first, e)
		case now[e] != f.seen[e] && len(grown) < filedFiles/2:
			grown = append(grown, e)
		default:
			rest = append(rest, e)
		}
	}
	slices.SortFunc(rest, func(a, b core.Epoch) int { return strings.Compare(a.String(), b.String()) })
	at := slices.IndexFunc(rest, func(e core.Epoch) bool { return e.String() > f.last })
	if at > 0 {
		rest = append(rest[at:], rest[:at]...)
	}
	first = append(first, grown...)
	rest = rest[:max(0, min(len(rest), filedFiles-len(first)))]
	if len(rest) > 0 {
		f.last = rest[len(rest)-1].String()
	}
	picked := append(first, rest...)
	seen := map[core.Epoch]uint64{}
	for e := range now {
		seen[e] = f.seen[e]
		if slices.Contains(picked, e) {
			seen[e] = now[e]
		}
	}
	f.seen = seen
	return picked, nil
}

func (f *filedRows) file(ctx context.Context, l *check.Look, e core.Epoch) error {
	name := FileOf(int64(e.Keep/time.Second), e.Start)
	roots, err := f.d.Sealed(ctx, e)
	if err != nil {
		return err
	}
	whole := roots[len(roots)-1].Rows <= filedWhole
	var v Verification
	var rows uint64
	// What is found is looked at twice: the ledger and the file move on while
	// both are read.
	for range 2 {
		v, rows, err = f.once(ctx, e, whole)
		if b, ok := AsBroken(err); ok {
			l.Touch("file", name)
			l.Expect("", 1)
			l.Fail(e.String(), "%v", b)
			f.odd = append(f.odd, e)
			return nil
		}
		if core.KindOf(err) == core.Unknown && err != nil {
			return nil // it ended between the listing and now, or is said to be gone the next time
		}
		if err != nil {
			return err
		}
		if v.OK() {
			break
		}
	}
	l.Touch("file", name)
	l.Expect("rows that the ledger vouches for: whole files up to 20,000 rows, stretches of larger ones, in turn", int(rows))
	for _, x := range v.Found {
		l.Fail(e.String(), "%v", x)
	}
	if v.OK() {
		l.Pass(int(min(v.Rows, rows)))
		return nil
	}
	f.odd = append(f.odd, e)
	return nil
}

// once compares a file, or two stretches of it, and says how many rows the
// ledger vouches for in what was compared.
func (f *filedRows) once(ctx context.Context, e core.Epoch, whole bool) (v Verification, rows uint64, err error) {
	if whole {
		roots, err := f.d.Sealed(ctx, e)
		if err != nil {
			return v, 0, err
		}
		v, err = f.d.Roots.VerifyFile(ctx, e)
		return v, roots[len(roots)-1].Rows, err
	}
	for _, pick := range []Pick{NewestEntry, AnyEntry} {
		s, want, err := f.d.Roots.VerifyStretch(ctx, f.d.Rows, e, pick, filedPart/2)
		if err != nil {
			return v, 0, err
		}
		rows += want
		v.Rows += s.Rows
		v.Found = append(v.Found, s.Found...)
	}
	return v, rows, nil
}
