package server

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// readChecks hold that nobody reads what is about a person without saying why
// (CC 3.15, 4.5).
func (s *server) readChecks() []check.Check {
	recorded, purposed := &sessions{s: s}, &sessions{s: s}
	recorded.wrong, purposed.wrong = recorded.unrecorded, purposed.unpurposed
	edit := func(change func(*core.Record)) func(context.Context, check.Twin) (func(context.Context) error, error) {
		return own(func(ctx context.Context, t *twin) (func(context.Context) error, error) {
			return editSession(ctx, t, change)
		})
	}
	return []check.Check{
		{
			ID: "reads.recorded", Version: 1, Rows: []string{"3.15"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 3.15
			Says: "Every read session in the ledger names who read what, keeps the reason sealed, and was closed with a count.",
			Do:   "A session without a count ended with the server: see its log. One without a reason was not made by this program: find out who writes to control.db.",
			Look: recorded.look,
			Violations: []check.Violation{
				{ID: "count-removed", Says: "Deletes the closing record of a read session behind the program's back.", Do: own(dropClosing)},
				{ID: "reason-removed", Says: "Takes the reason out of a read session's record behind the program's back.", Do: edit(func(r *core.Record) { r.Sealed = nil })},
			},
		},
		{
			ID: "reads.purposed", Version: 1, Rows: []string{"4.5"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 4.5
			Says: "Every read session in the ledger names a purpose that the product's declaration had.",
			Do:   "Name the purpose of each read (`hawser read --purpose`); ask whoever read without one why.",
			Look: purposed.look,
			Violations: []check.Violation{
				{ID: "purpose-removed", Says: "Takes the purpose out of a read session's record behind the program's back.", Do: edit(func(r *core.Record) {
					r.Facts = slices.DeleteFunc(r.Facts, func(f core.Fact) bool { return f.Name == "purpose" })
				})},
			},
		},
	}
}

// Positions of the ledger that each look goes over: the newest, and the next
// ones in turn.
const (
	newPositions  = 5000
	turnPositions = 5000
)

// sessions goes over the read sessions in the ledger.
type sessions struct {
	s     *server
	wrong func(context.Context, *ledger.Entry) (why, left string, err error)

	mu   sync.Mutex // guards what follows
	turn turn
	odd  []uint64 // positions of sessions that were not as they should be
}

func (x *sessions) look(ctx context.Context, l *check.Look) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.s.sequenced(ctx); err != nil {
		return err
	}
	var end uint64
	err := x.s.store.View(ctx, func(tx *store.Tx) error {
		all, err := tx.LedgerOrigins(ctx)
		if n := len(all); n > 0 {
			end = all[n-1].First + all[n-1].Size
		}
		return err
	})
	if err != nil {
		return err
	}
	l.Touch("source", "ledger, records of kind "+string(telemetry.RecordReadOpened)+" and "+string(telemetry.RecordReadClosed))
	recent := end - min(end, newPositions)
	from, to := x.turn.next(recent, turnPositions)
	type span struct{ from, to uint64 }
	spans := []span{{recent, end}, {from, to}}
	for _, p := range x.odd {
		if p < from || p >= to && p < recent {
			spans = append(spans, span{p, p + 1})
		}
	}
	x.odd = nil
	for _, sp := range spans {
		if sp.from >= sp.to {
			continue
		}
		if err := x.span(ctx, l, sp.from, sp.to); err != nil {
			return err
		}
	}
	return nil
}

// span holds the sessions opened there to what they must have. How many there
// should be say the closing records.
func (x *sessions) span(ctx context.Context, l *check.Look, from, to uint64) error {
	opened, err := x.s.recordsOf(ctx, telemetry.RecordReadOpened, from, to)
	if err != nil {
		return err
	}
	closed, err := x.s.recordsOf(ctx, telemetry.RecordReadClosed, from, to)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	l.Expect("sessions opened and sessions closed, of the newest 5,000 records and of others in turn", len(opened))
	for i := range opened {
		e := &opened[i]
		session := factOf(&e.Record, "session")
		known[session] = true
		why, left, err := x.wrong(ctx, e)
		switch {
		case err != nil:
			return err
		case left != "":
			l.Exclude(e.Record.Subject.String(), left)
		case why != "":
			l.Fail(fmt.Sprintf("session %.8s of %s", session, e.Record.Actor.ID), "%s (ledger entry %d, subject %s)", why, e.Position, e.Record.Subject)
			x.odd = append(x.odd, e.Position)
		default:
			l.Pass(1)
		}
	}
	for i := range closed {
		session := factOf(&closed[i].Record, "session")
		if known[session] {
			continue
		}
		e, err := x.other(ctx, &closed[i], telemetry.RecordReadOpened, 0)
		if err != nil {
			return err
		}
		if e == nil {
			l.Expect("", 1)
			l.Fail(fmt.Sprintf("session %.8s of %s", session, closed[i].Record.Actor.ID), "was closed, and never opened (ledger entry %d)", closed[i].Position)
		}
	}
	return nil
}

// other is the record of the same session of another kind, from a position on.
func (x *sessions) other(ctx context.Context, e *ledger.Entry, kind core.RecordKind, from uint64) (*ledger.Entry, error) {
	for {
		found, next, err := x.s.ledger.List(ctx, ledger.Filter{Kind: kind, Subject: e.Record.Subject}, from, ledger.MaxRange)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if factOf(&found[i].Record, "session") == factOf(&e.Record, "session") {
				return &found[i], nil
			}
		}
		if next == 0 {
			return nil, nil
		}
		from = next
	}
}

func (x *sessions) unrecorded(ctx context.Context, e *ledger.Entry) (why, left string, err error) {
	r := &e.Record
	if r.Actor.ID == "" || factOf(r, "session") == "" || factOf(r, "role") == "" {
		return "does not say who read", "", nil
	}
	if len(r.Sealed) == 0 {
		return "has no reason", "", nil
	}
	c, err := x.other(ctx, e, telemetry.RecordReadClosed, e.Position)
	switch {
	case err != nil:
		return "", "", err
	case c != nil && factOf(&c.Record, "readings") != "":
		return "", "", nil
	case c == nil && x.s.opt.Now().Sub(r.Time) < openTime:
		return "", "the session goes on", nil
	}
	return "was never closed with a count", "", nil
}

func (x *sessions) unpurposed(ctx context.Context, e *ledger.Entry) (why, left string, err error) {
	purpose := factOf(&e.Record, "purpose")
	if purpose == "" {
		return "names no purpose", "", nil
	}
	all, err := x.s.decl.Versions(ctx, e.Record.Product)
	if err != nil {
		return "", "", err
	}
	for _, p := range all {
		for _, f := range p.Fields {
			if slices.Contains(f.Purposes, purpose) {
				return "", "", nil
			}
		}
	}
	return "names a purpose that no declaration of the product has", "", nil
}

// oneSession is the first read session of the twin.
func oneSession(ctx context.Context, t *twin, kind core.RecordKind) (*ledger.Entry, error) {
	all, err := t.s.recordsOf(ctx, kind, 0, 1<<62)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errNoSession
	}
	return &all[0], nil
}

// dropClosing deletes the count of a session. The session is hours old then:
// one that is still open is given its time.
func dropClosing(ctx context.Context, t *twin) (func(context.Context) error, error) {
	e, err := oneSession(ctx, t, telemetry.RecordReadClosed)
	if err != nil {
		return nil, err
	}
	t.Advance(2 * openTime)
	return dropEntry(ctx, t, e.Position)
}

func editSession(ctx context.Context, t *twin, change func(*core.Record)) (func(context.Context) error, error) {
	e, err := oneSession(ctx, t, telemetry.RecordReadOpened)
	if err != nil {
		return nil, err
	}
	r := e.Record
	r.Facts = slices.Clone(r.Facts)
	change(&r)
	leaf, err := ledger.AppendLeaf(nil, &r)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", setLeaf, e.Leaf, int64(e.Position)) }, t.Exec(ctx, "control.db", setLeaf, leaf, int64(e.Position))
}
