package gate

import (
	"context"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// batch is one commit: everything that changed during the commit before. Many
// attempts at once cost one write to the disk.
type batch struct {
	done    chan struct{} // closed when err is final
	err     error
	waiting int
	records []core.Record
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// join makes the caller part of the next commit; mu is held.
func (g *Gate) join() *batch {
	g.batch.waiting++
	return g.batch
}

// wait comes back when the batch is on disk. One of those who wait commits for
// all; who gives up leaves the work to the next.
func (g *Gate) wait(ctx context.Context, b *batch) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("count an attempt: %w", ctx.Err())
	case g.turn <- struct{}{}:
	}
	defer func() { <-g.turn }()
	select {
	case <-b.done:
	default:
		g.flush(context.WithoutCancel(ctx), b) // others wait for it, too
	}
	return b.err
}

// Sweeps drop what says nothing any more: now and then, a little at a time.
const (
	sweepEvery = 10 * time.Minute
	sweepRows  = 2000
)

// flush commits b, which is the present batch; the turn is held.
func (g *Gate) flush(ctx context.Context, b *batch) {
	g.mu.Lock()
	now := g.now()
	if now.after(sweepEvery, g.swept) {
		g.sweep(now)
	}
	var put, gone []Counter
	changed := g.dirty
	for c := range changed {
		if r := c.t.rows[c.key]; r != nil {
			put = append(put, counterOf(c, r))
		} else {
			gone = append(gone, Counter{Scope: c.t.scope, Key: c.key})
		}
	}
	put = append(put, g.floors()...)
	at := Clock{Gate: now.time(), Machine: g.clock.machine.Round(0).UTC(), Check: g.check}
	g.dirty, g.batch = map[place]struct{}{}, newBatch()
	g.mu.Unlock()

	err := g.d.Update(ctx, func(tx Tx) error {
		if err := tx.PutGateClock(ctx, at); err != nil {
			return err
		}
		if err := tx.DeleteGateCounters(ctx, gone); err != nil {
			return err
		}
		if err := tx.PutGateCounters(ctx, put); err != nil {
			return err
		}
		for _, r := range b.records {
			if err := tx.Record(ctx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		g.mu.Lock()
		for c := range changed {
			g.dirty[c] = struct{}{}
		}
		g.batch.records = append(b.records, g.batch.records...)
		g.mu.Unlock()
		b.err = &core.Error{
			Kind: core.Unavail, Reason: "gate-trouble", Message: "nobody can be let in at present", Hint: "try again in a minute", Err: err,
		}
	}
	close(b.done)
}

// sweep drops some of what says nothing any more; mu is held.
func (g *Gate) sweep(now instant) (done int) {
	for _, s := range Scopes() {
		t := g.tables[s]
		done += t.sweep(now, g.lim.TellEvery, sweepRows-done, func(k Key) { g.dirty[place{t, k}] = struct{}{} })
	}
	if done < sweepRows {
		g.swept = now // all of it
	}
	return done
}

// Tidy deletes every counter that says nothing any more. A job calls it, so
// that they go when nobody comes, too.
func (g *Gate) Tidy(ctx context.Context) error {
	for {
		g.mu.Lock()
		n := g.sweep(g.now())
		b := g.join()
		g.mu.Unlock()
		if err := g.wait(ctx, b); err != nil {
			return err
		}
		if n < sweepRows {
			return nil
		}
	}
}

// floorKey is the row, among those of everybody, of a table's floor.
func floorKey(s Scope) Key {
	k := Key{0xfe}
	copy(k[1:], s)
	return k
}

// floors are those that still matter, as counters; mu is held.
func (g *Gate) floors() (out []Counter) {
	for _, s := range Scopes() {
		if t := g.tables[s]; t.floored && t.floor > g.clock.gate {
			out = append(out, Counter{Scope: All, Key: floorKey(s), Until: t.floor.time()})
		}
	}
	return out
}

func counterOf(c place, r *row) Counter {
	out := Counter{Scope: c.t.scope, Key: c.key, Wrong: int(r.wrong), Since: r.since.time(), Last: r.last.time(), Until: r.until.time()}
	if a := r.account; a != nil {
		out.Refused, out.Told, out.Noted, out.Nets = int(a.refused), a.told.time(), a.noted.time(), a.nets.bytes()
	}
	return out
}

// load reads what is on disk, at start.
func (g *Gate) load(ctx context.Context) error {
	g.clock.machine = g.d.Now()
	var at Clock
	err := g.d.View(ctx, func(tx Tx) (err error) { at, err = tx.GateClock(ctx); return err })
	if err != nil {
		return err
	}
	if at.Gate.IsZero() {
		g.clock.gate = instantOf(g.clock.machine)
		return nil
	}
	// What the machine's clock lost meanwhile is not taken from the Gate's.
	g.clock.gate = instantOf(at.Gate).add(max(0, g.clock.machine.Round(0).Sub(at.Machine)))
	if at.Check != g.check {
		return g.forget(ctx)
	}
	now := g.clock.gate
	err = g.d.View(ctx, func(tx Tx) error {
		return tx.EachGateCounter(ctx, func(c Counter) error {
			t := g.tables[c.Scope]
			if t == nil {
				return nil // of a later version
			}
			for _, s := range Scopes() {
				if c.Scope == All && c.Key == floorKey(s) {
					g.tables[s].floor = instantOf(c.Until)
					return nil
				}
			}
			r := &row{until: instantOf(c.Until), last: instantOf(c.Last), since: instantOf(c.Since), wrong: int32(min(c.Wrong, 1<<30))}
			if c.Scope == Account || c.Scope == MadeAccount {
				r.account = &account{told: instantOf(c.Told), noted: instantOf(c.Noted), refused: int32(min(c.Refused, 1<<30))}
				r.account.nets.fill(c.Nets)
			}
			if c.Scope == MadeSource { // what was under comparison when the process ended
				b := g.lim.MadeSource
				r.until = min(r.until, now.add(time.Duration(b.Burst)*b.Refill))
			}
			t.rows[c.Key] = r
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, t := range g.tables {
		if len(t.rows) > t.max {
			t.shrink(now, g.lim.TellEvery, func(k Key) { g.dirty[place{t, k}] = struct{}{} })
		}
	}
	return nil
}

// forget deletes counters that belong to another key: nobody can be found in
// them. Whoever takes the key away gives fresh tries to all, so it is evidence.
func (g *Gate) forget(ctx context.Context) error {
	return g.d.Update(ctx, func(tx Tx) error {
		n, err := tx.GateCounters(ctx)
		if err != nil {
			return err
		}
		if err := tx.ClearGate(ctx); err != nil {
			return err
		}
		if err := tx.PutGateClock(ctx, Clock{Gate: g.clock.gate.time(), Machine: g.clock.machine.Round(0).UTC(), Check: g.check}); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{
			Time: g.clock.machine.Round(0).UTC(), Kind: RecordForgotten, Actor: core.Job("gate"),
			Facts: []core.Fact{{Name: "counters", Value: fmt.Sprint(n)}},
		})
	})
}
