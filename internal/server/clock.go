package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// A clock that is wrong by years would end every keep-time at once, for ever
// (docs/decisions/005-clock-jump.md).
const (
	// clockSlack is how far the clock may be ahead of the time that was seen
	// last and be believed all the same.
	clockSlack = 24 * time.Hour
	// clockSteady is how long a clock that was found ahead must go steadily
	// before it is believed without a person: a weekend.
	clockSteady = 72 * time.Hour
	// clockAlone is the longest gap that is closed without a person: a server
	// that was off for a season, not a date of another year.
	clockAlone = 100 * 24 * time.Hour
	// clockDrift is what a steady clock may be set right by meanwhile.
	clockDrift = 5 * time.Minute
	// clockKeep is how often the time that was seen is written.
	clockKeep = 10 * time.Minute
)

// The records of a clock that is not believed, and of its being believed again.
const (
	recordClockAhead     core.RecordKind = "clock-ahead"
	recordClockConfirmed core.RecordKind = "clock-confirmed"
)

// clock says whether the machine's clock is to be believed in what cannot be
// undone. It remembers the latest time that was believed, over restarts.
type clock struct {
	update func(context.Context, func(*store.Tx) error) error
	view   func(context.Context, func(*store.Tx) error) error
	now    func() time.Time
	steady func() time.Duration // time that passed, whatever the clock says

	mu    sync.Mutex    // guards what follows, and makes one judge at a time
	seen  time.Time     // latest time that was believed
	kept  time.Time     // what of it is written
	ahead bool          // the clock is not believed
	since time.Time     // what it said when it began to go steadily
	from  time.Duration // and when that was
	says  time.Time     // what it said last
}

// openClock reads the time that was seen; an installation that never wrote one
// was right when it was made.
func openClock(ctx context.Context, st *store.Store, inst store.Installation, now func() time.Time) (*clock, error) {
	began := time.Now()
	c := &clock{update: st.Update, view: st.View, now: now, steady: func() time.Duration { return time.Since(began) }}
	err := c.view(ctx, func(tx *store.Tx) (err error) {
		c.seen, err = tx.ClockSeen(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if c.kept = c.seen; c.seen.IsZero() {
		c.seen = inst.Created
	}
	_, err = c.trusted(ctx, now())
	return c, err
}

// trusted reports whether the clock, which says at, is believed, and takes note
// of it. One that is ahead is believed when a person has confirmed it, when it
// came back, or when it has gone steadily for days and is not ahead by more than
// a season.
func (c *clock) trusted(ctx context.Context, at time.Time) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at = at.Round(0).UTC()
	c.says = at
	if at.Sub(c.seen) <= clockSlack {
		c.ahead = false
		c.seen = later(c.seen, at)
		if c.seen.Sub(c.kept) < clockKeep {
			return true, nil
		}
		return true, c.keep(ctx, nil)
	}
	passed := c.steady()
	off := at.Sub(c.since) - (passed - c.from)
	switch {
	case !c.ahead || off.Abs() > clockDrift:
		c.since, c.from = at, passed
		if c.ahead {
			return false, nil
		}
		err := c.update(ctx, func(tx *store.Tx) error { return tx.Record(ctx, c.record(recordClockAhead, core.Job("clock"))) })
		c.ahead = err == nil // without the record it is found again
		return false, err
	case passed-c.from >= clockSteady && c.since.Sub(c.seen) <= clockAlone:
		r := c.record(recordClockConfirmed, core.Job("clock"))
		if err := c.believe(ctx, at, &r); err != nil {
			return false, err
		}
		return true, nil
	}
	return false, nil
}

// confirm believes the clock because a person says that its date is right.
func (c *clock) confirm(ctx context.Context, by core.Actor, date string) (api.Clock, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.now().Round(0).UTC()
	day, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return api.Clock{}, core.E(core.Invalid, "date", fmt.Sprintf("%q is no date", date), "give today's date as in 2026-11-22")
	}
	// Wherever the person is, its date is at most a day away from that of UTC.
	if d := at.Truncate(24 * time.Hour).Sub(day); d.Abs() > 24*time.Hour {
		return api.Clock{}, core.E(core.Conflict, "other-date", fmt.Sprintf("the clock of the server says %s", at.Format(time.DateOnly)),
			"set the clock of the machine right; the server follows by itself")
	}
	c.says = at
	r := c.record(recordClockConfirmed, by)
	out := api.Clock{Time: at, Seen: c.seen}
	return out, c.believe(ctx, at, &r)
}

// believe takes the clock as right, with the ledger's record of it. c.mu is held.
func (c *clock) believe(ctx context.Context, at time.Time, r *core.Record) error {
	old := c.seen
	c.seen = at
	if err := c.keep(ctx, r); err != nil {
		c.seen = old
		return err
	}
	c.ahead = false
	return nil
}

// keep writes the time that was seen. c.mu is held.
func (c *clock) keep(ctx context.Context, r *core.Record) error {
	err := c.update(ctx, func(tx *store.Tx) error {
		if err := tx.PutClockSeen(ctx, c.seen); err != nil || r == nil {
			return err
		}
		return tx.Record(ctx, *r)
	})
	if err == nil {
		c.kept = c.seen
	}
	return err
}

// record is a ledger record about the clock. c.mu is held.
func (c *clock) record(kind core.RecordKind, by core.Actor) core.Record {
	return core.Record{
		Time: c.says, Kind: kind, Actor: by,
		Facts: []core.Fact{
			{Name: "clock", Value: c.says.Format(time.RFC3339)},
			{Name: "seen", Value: c.seen.Format(time.RFC3339)},
		},
	}
}

// finding tells doctor of a clock that is not believed.
func (c *clock) finding(d *diagnosis) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ahead {
		return
	}
	gap := c.says.Sub(c.seen)
	alone := "a gap of this size is not accepted without it"
	if c.since.Sub(c.seen) <= clockAlone {
		alone = fmt.Sprintf("without it the clock is believed when it has gone steadily for %d hours", int(clockSteady.Hours()))
	}
	d.err("clock", fmt.Sprintf("it says %s, %d days after the time that was seen last, %s; nothing is expired until it is confirmed",
		c.says.Format(time.RFC3339), int(gap.Hours()/24), c.seen.Format(time.RFC3339)),
		fmt.Sprintf("if it is wrong, set it right; if today is %[1]s: `hawser clock confirm %[1]s`; %[2]s", c.says.Format(time.DateOnly), alone))
}

// unlessAhead is a job that destroys, and does nothing while the clock is not
// believed.
func (c *clock) unlessAhead(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ok, err := c.trusted(ctx, c.now())
		if err != nil || !ok {
			return err
		}
		return run(ctx)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
