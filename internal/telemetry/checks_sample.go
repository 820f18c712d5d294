package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/seal"
)

// What one look at stored rows may cost. Files that grew come first, then all
// in turn; of a file with more rows than its share, half a share are the newest
// and half lie together somewhere.
const (
	sampleFiles = 12
	sampleRows  = 6000
	maxOdd      = 32 // rows that were wrong, looked at again each time until they are not
)

// FileOf is where the file of an epoch lies, relative to the data folder.
func FileOf(keepSeconds, start int64) string {
	return "telemetry/" + core.Epoch{Keep: time.Duration(keepSeconds) * time.Second, Start: start}.String() + ".db"
}

// sampler opens stored rows and holds each against its declaration. What it
// opens never leaves it: docs/decisions/007-audit-is-no-read.md.
type sampler struct {
	d     CheckDeps
	fault func(p *declaration.Policy, r *Row, object []byte) string
	// sent, if it is there, is asked in place of fault: about who sent a row.
	sent func(r *Row, by Sender) (why, left string)

	mu   sync.Mutex            // guards what follows, and makes one look at a time
	seen map[core.Epoch]uint64 // rows that a file had at the last look
	last core.Epoch            // where the turn has come to
	odd  []spot
}

// spot is one row.
type spot struct {
	epoch core.Epoch
	row   int64
}

func (s *sampler) look(ctx context.Context, l *check.Look) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []EpochInfo
	err := s.d.View(ctx, func(tx ProjectionTx) (err error) { all, err = tx.Epochs(ctx, EpochLive); return err })
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: telemetry_epoch")
	o := &opener{s: s, l: l, policies: map[core.Hash]*declaration.Policy{}}
	for _, x := range slices.Clone(s.odd) {
		if err := o.again(ctx, x); err != nil {
			return err
		}
	}
	picked := s.pick(all)
	for i := range picked {
		share := int64(sampleRows / len(picked))
		rows, first := int64(picked[i].Head.Rows), int64(1)
		if rows > share {
			share /= 2
			at := 1 + rand.Int64N(rows-2*share+1)
			if err := o.rows(ctx, &picked[i], at, at+share-1); err != nil {
				return err
			}
			first = rows - share + 1
		}
		if err := o.rows(ctx, &picked[i], first, rows); err != nil {
			return err
		}
		// What the projector has not counted may be on its way, or was put
		// there by somebody else.
		if err := o.beyond(ctx, &picked[i]); err != nil {
			return err
		}
	}
	s.odd = o.odd
	return nil
}

// pick chooses the files to look into: those that grew, then the next ones.
func (s *sampler) pick(all []EpochInfo) []EpochInfo {
	grown, rest := []EpochInfo{}, []EpochInfo{}
	for _, i := range all {
		switch {
		case i.Head.Rows == 0:
		case i.Head.Rows != s.seen[i.Epoch] && len(grown) < sampleFiles*2/3:
			grown = append(grown, i)
		default:
			rest = append(rest, i)
		}
	}
	byName := func(a, b core.Epoch) int { return cmp.Or(cmp.Compare(a.Keep, b.Keep), cmp.Compare(a.Start, b.Start)) }
	slices.SortFunc(rest, func(a, b EpochInfo) int { return byName(a.Epoch, b.Epoch) })
	at, _ := slices.BinarySearchFunc(rest, s.last, func(i EpochInfo, e core.Epoch) int {
		return cmp.Or(byName(i.Epoch, e), -1)
	})
	rest = append(rest[at:], rest[:at]...)
	rest = rest[:min(len(rest), sampleFiles-len(grown))]
	if len(rest) > 0 {
		s.last = rest[len(rest)-1].Epoch
	}
	picked := append(grown, rest...)
	seen := make(map[core.Epoch]uint64, len(all))
	for _, i := range all {
		if n, ok := s.seen[i.Epoch]; ok {
			seen[i.Epoch] = n
		}
	}
	for _, i := range picked {
		seen[i.Epoch] = i.Head.Rows
	}
	s.seen = seen
	return picked
}

// opener opens rows for one look.
type opener struct {
	s        *sampler
	l        *check.Look
	policies map[core.Hash]*declaration.Policy // nil: there is none of that hash
	odd      []spot
	aad      []byte
	plain    []byte
}

// rows looks at the rows first to last, which the projector has counted.
func (o *opener) rows(ctx context.Context, i *EpochInfo, first, last int64) error {
	o.l.Touch("file", FileOf(int64(i.Epoch.Keep/time.Second), i.Epoch.Start))
	want, got := int(last-first+1), 0
	o.l.Expect("rows that the projector counted: the newest of each file that grew, and stretches in turn", want)
	err := o.s.d.Rows.Stretch(ctx, i.Epoch, first, last, func(r *Row) error {
		got++
		return o.row(ctx, r, false)
	})
	if b, ok := AsBroken(err); ok {
		o.l.Fail(i.Epoch.String(), "%v", b)
		return nil
	}
	if core.KindOf(err) == core.Unknown && err != nil && !o.l.Now.Before(i.Epoch.Due()) {
		for range want - got {
			o.l.Exclude(i.Epoch.String(), "it has just ended")
		}
		return nil
	}
	if err != nil && core.KindOf(err) != core.Unknown {
		return err
	}
	if got < want {
		o.l.Fail(i.Epoch.String(), "%d of the rows %d to %d that were filed are gone", want-got, first, last)
	}
	return nil
}

// again looks once more at a row that was wrong, if it is still there.
func (o *opener) again(ctx context.Context, x spot) error {
	err := o.s.d.Rows.Stretch(ctx, x.epoch, x.row, x.row, func(r *Row) error {
		o.l.Expect("", 1)
		return o.row(ctx, r, false)
	})
	if _, broken := AsBroken(err); broken || err != nil && core.KindOf(err) == core.Unknown {
		return nil // the file's own trouble, or its end
	}
	return err
}

// maxBeyond bounds how many rows beyond those counted are looked at.
const maxBeyond = 1000

// beyond looks at rows that the projector has not counted.
func (o *opener) beyond(ctx context.Context, i *EpochInfo) error {
	n := 0
	stop := errors.New("enough")
	err := o.s.d.Rows.Stretch(ctx, i.Epoch, int64(i.Head.Rows)+1, math.MaxInt64, func(r *Row) error {
		if n++; n > maxBeyond {
			return stop
		}
		o.l.Expect("", 1)
		return o.row(ctx, r, true)
	})
	if _, broken := AsBroken(err); broken || errors.Is(err, stop) || err != nil && core.KindOf(err) == core.Unknown {
		return nil // said already, or there is nothing
	}
	return err
}

// row opens one row, holds it against its declaration, and forgets it.
func (o *opener) row(ctx context.Context, r *Row, uncounted bool) error {
	defer func() { clear(o.plain[:cap(o.plain)]) }()
	why, left, err := o.judge(ctx, r)
	switch {
	case err != nil:
		return err
	case left != "":
		o.l.Exclude(r.Part.Epoch.String(), left)
	case why != "":
		o.l.Fail(fmt.Sprintf("%s row %d", r.Part.Epoch, r.ID), "%s (subject %s, stream %s)", why, r.Reading.Subject, r.Reading.Stream)
		if x := (spot{r.Part.Epoch, r.ID}); len(o.odd) < maxOdd && !slices.Contains(o.odd, x) {
			o.odd = append(o.odd, x)
		}
	case uncounted:
		o.l.Exclude(r.Part.Epoch.String(), "rows that are being filed")
	default:
		o.l.Pass(1)
	}
	return nil
}

// judge says what is wrong with a row, or why it is left out.
func (o *opener) judge(ctx context.Context, r *Row) (why, left string, err error) {
	key, err := o.s.d.Keys.Lease(r.Reading.Subject, r.Part.Epoch)
	if err == nil {
		o.aad = AppendAAD(o.aad[:0], &r.Reading, &r.Part)
		if o.plain, err = key.Open(o.plain[:0], r.Part.Sealed, o.aad); errors.Is(err, seal.ErrLeaseOver) {
			return o.judge(ctx, r)
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, seal.ErrNoKey):
		return "", "its subject was erased or its epoch has ended: nobody can open it", nil
	case core.KindOf(err) == core.Invalid:
		return "does not open: it was changed, or belongs to somebody else", "", nil
	default:
		return "", "", err
	}
	sender, object, err := CutPlain(o.plain)
	if err != nil {
		return "was not sealed by the intake", "", nil
	}
	if o.s.sent != nil {
		why, left = o.s.sent(r, sender)
		return why, left, nil
	}
	p, known := o.policies[r.Reading.Policy]
	if !known {
		if p, err = o.s.d.Policy(ctx, r.Reading.Policy); err != nil && core.KindOf(err) != core.Unknown {
			return "", "", err
		}
		o.policies[r.Reading.Policy] = p
	}
	if p == nil {
		return "names a declaration that is not stored", "", nil
	}
	return o.s.fault(p, r, object), "", nil
}
