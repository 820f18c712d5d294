package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// slot is what a group holds for one epoch.
type slot struct {
	epoch core.Epoch
	late  bool  // every row in it came after the end of the epoch
	rows  []Row // Part.Sealed lies in the group's arena
	fate  []Fate
}

// group is what goes through in one commit.
type group struct {
	name    string // the journal's incarnation
	slots   map[core.Epoch]*slot
	spare   []*slot
	rows    int
	bytes   int
	onTime  int
	last    uint64 // last batch in it; 0: nothing was read
	tally   *tally
	loss    Loss
	arena   arena
	reading Reading
	refusal Refusal
}

func newGroup(name string) *group {
	return &group{name: name, slots: map[core.Epoch]*slot{}, tally: newTally()}
}

// reset makes g empty and keeps its memory.
func (g *group) reset() {
	for e, s := range g.slots {
		delete(g.slots, e)
		if len(g.spare) < 8 {
			s.rows, s.fate = s.rows[:0], s.fate[:0]
			g.spare = append(g.spare, s)
		}
	}
	g.rows, g.bytes, g.onTime, g.last, g.loss = 0, 0, 0, 0, Loss{}
	g.tally.reset()
	g.arena.reset()
}

func (g *group) slot(e core.Epoch) *slot {
	if s := g.slots[e]; s != nil {
		return s
	}
	s := &slot{}
	if n := len(g.spare); n > 0 {
		s, g.spare = g.spare[n-1], g.spare[:n-1]
	}
	s.epoch, s.late = e, true
	g.slots[e] = s
	return s
}

func (g *group) full(l *ProjectorLimits) bool {
	return g.rows >= l.Rows || g.bytes >= l.Bytes || g.onTime >= l.OnTime
}

// gather reads batches into g: whatever waits, up to the limits. When that does
// not fill g it lingers once for more, so that a stream of small batches does
// not become as many commits; when nothing comes at all it returns after a
// while with an empty group. After an error it may be called again with the
// same group and goes on.
func (p *Projector) gather(ctx context.Context, g *group) error {
	if p.pos >= p.last {
		p.last = p.d.Journal.Last()
	}
	if p.pos >= p.last {
		b, err := p.next(ctx, min(idleEvery, 20*p.l.Linger))
		if errors.Is(err, errNothingYet) {
			return nil
		}
		if err != nil {
			return err
		}
		p.take(ctx, g, &b)
	} else if err := p.collect(ctx, g); err != nil || g.full(&p.l) {
		return err
	}
	if err := p.linger(ctx); err != nil {
		return err
	}
	p.last = p.d.Journal.Last()
	return p.collect(ctx, g)
}

// collect takes what waits, up to the limits.
func (p *Projector) collect(ctx context.Context, g *group) error {
	for p.pos < p.last && !g.full(&p.l) {
		b, err := p.next(ctx, readGrace)
		if errors.Is(err, errNothingYet) {
			return nil
		}
		if err != nil {
			return err
		}
		p.take(ctx, g, &b)
	}
	return nil
}

var errNothingYet = errors.New("nothing yet")

// readGrace is how long a batch that is there may take to arrive.
const readGrace = 5 * time.Second

// next reads one batch, or gives errNothingYet when none comes in time.
func (p *Projector) next(ctx context.Context, within time.Duration) (JournalBatch, error) {
	wait, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	b, err := p.rd.Next(wait)
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		return b, errNothingYet
	}
	return b, err
}

// linger waits for company of the first batch, unless somebody waits for it.
func (p *Projector) linger(ctx context.Context) error {
	select {
	case <-time.After(p.l.Linger):
	case <-p.hurry:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// take adds a batch to g.
func (p *Projector) take(ctx context.Context, g *group, b *JournalBatch) {
	p.pos, g.last = b.Seq, b.Seq
	g.loss.Missing += b.Missing
	if b.Damaged != nil {
		g.loss.Damaged++
		p.d.Log.ErrorContext(ctx, "a batch of the journal cannot be read", slog.Uint64("seq", b.Seq), slog.Any("err", b.Damaged))
		return
	}
	if err := g.take(b); err != nil {
		p.d.Log.ErrorContext(ctx, "records of the journal cannot be read", slog.Uint64("seq", b.Seq), slog.Any("err", err))
	}
}

// take adds one batch's records. A record that cannot be read is counted and
// left out; the error is of the last such.
func (g *group) take(b *JournalBatch) error {
	var bad error
	for i, rec := range b.Records {
		kind, err := DecodeRecord(rec, &g.reading, &g.refusal)
		if err == nil && i >= MaxIndex {
			err = fmt.Errorf("record %d of one batch", i)
		}
		if err != nil {
			g.loss.Records++
			bad = err
			continue
		}
		if kind == RecordRefusal {
			f := &g.refusal
			g.tally.add(CountRefused, f.Reason, f.Product, f.Subject, f.Received, uint64(f.Count))
			continue
		}
		g.add(&g.reading, Place{Journal: g.name, Seq: b.Seq, Index: uint32(i)})
	}
	return bad
}

// add adds one reading's parts.
func (g *group) add(r *Reading, at Place) {
	g.tally.add(CountAccepted, "", r.Product, r.Subject, r.Received, 1)
	g.tally.add(CountDroppedField, "", r.Product, r.Subject, r.Received, uint64(r.Dropped))
	for i := range r.Parts {
		part := r.Parts[i]
		s := g.slot(part.Epoch)
		if s.late && r.Received < part.Epoch.End().UnixMilli() {
			s.late = false
			g.onTime++
		}
		part.Sealed = g.arena.keep(part.Sealed)
		row := Row{Reading: *r, Part: part, Place: at, First: i == 0}
		row.Reading.Parts, row.Reading.Dropped = nil, 0
		s.rows = append(s.rows, row)
		g.rows++
		g.bytes += len(part.Sealed)
	}
}

// arena keeps copies of many small byte slices until reset.
type arena struct {
	chunks [][]byte
	n      int // chunk in use
}

const arenaChunk = 1 << 20

func (a *arena) keep(b []byte) []byte {
	for {
		if a.n == len(a.chunks) {
			a.chunks = append(a.chunks, make([]byte, 0, max(arenaChunk, len(b))))
		}
		c := a.chunks[a.n]
		if cap(c)-len(c) >= len(b) {
			c = append(c, b...)
			a.chunks[a.n] = c
			return c[len(c)-len(b) : len(c) : len(c)]
		}
		a.n++
	}
}

func (a *arena) reset() {
	for i := range a.chunks {
		a.chunks[i] = a.chunks[i][:0]
	}
	a.n = 0
}
