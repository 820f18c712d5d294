package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// kin says for whom a hub may speak: the register, unless a twin's trial has
// somebody else in place.
type kin struct {
	*identity.Service

	other atomic.Pointer[func(hub core.DeviceID, child []byte) *identity.Vouched]
}

// Vouched asks whoever is in place.
func (k *kin) Vouched(hub core.DeviceID, child []byte) *identity.Vouched {
	if f := k.other.Load(); f != nil {
		return (*f)(hub, child)
	}
	return k.Service.Vouched(hub, child)
}

// childChecks hold that nobody but its own hub speaks for a child, and that no
// two children are one (CC 3.6; decision 015).
func (s *server) childChecks() []check.Check {
	x := &childLinks{s: s, records: follow(identity.RecordLinked, identity.RecordMoved, identity.RecordUnlinked)}
	x.senders = telemetry.NewSenders(telemetry.CheckDeps{
		Rows: s.telem.files, Keys: s.ring, View: view[telemetry.ProjectionTx](s.store),
	}, x.sent)
	return []check.Check{
		{
			ID: "children.linked", Version: 1, Rows: []string{"3.6"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 3.6
			Says: "Every child has a subject and a key of its own, and the hub that the doors and the database take to speak for it is the one that the ledger has.",
			Do:   "Remove the child that the finding names (`hawser child remove`) and adopt it again, and find out who writes to control.db.",
			Look: x.lookAtLinks,
			Violations: []check.Violation{
				{ID: "link-changed", Says: "Gives a child to another hub in the database, behind the program's back.", Do: own(changeLink)},
				{ID: "link-slipped-in", Says: "Writes into the database that a hub speaks for a unit that nobody gave it.", Do: own(slipLink)},
				{ID: "one-subject-for-two", Says: "Has the twin's doors take two children of a hub for one subject.", Do: own(oneSubject)},
			},
		},
		{
			ID: "children.vouched", Version: 1, Rows: []string{"3.6"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 3.6
			Says: "Every stored reading of a child that is looked at came in on a session of the hub that was its hub at that time, as the ledger has it.",
			Do:   "Find out by which door it came: `hawser read` names the hub of each reading. `hawser erase` makes what is there unreadable for ever.",
			Look: x.lookAtRows,
			Violations: []check.Violation{
				{ID: "another-hub-spoke", Says: "Has the twin's doors ask no link, and a hub send for the child of another one.", Do: own(strangeHub)},
				{ID: "it-spoke-for-itself", Says: "Hands the journal a reading of a child that was sealed with the twin's own keys and has no hub's certificate for its sender.", Do: own(speaksForItself)},
			},
		},
	}
}

// stay is how long a message may be under way between the look at its link and
// its time of receipt, or a clock be set a little.
const stay = 10 * time.Second

// childLinks looks at children through the ledger's list of their links.
type childLinks struct {
	s       *server
	records *followed
	senders *telemetry.Senders

	mu     sync.Mutex // one look at a time; guards what follows
	by     map[core.Subject]*childhood
	holder map[telemetry.Sender]core.DeviceID
	began  time.Time
	failed error // of a question to the register, while rows are looked at
}

// childhood is the links of a child under one owner, as the ledger has them.
type childhood struct {
	child core.DeviceID
	links []linkSpan
	gone  bool // its owner was erased: nobody can read who spoke for it
}

type linkSpan struct {
	hub      core.DeviceID
	from, to time.Time // to zero: in force
}

// now is the hub that speaks for the child; "" for none.
func (c *childhood) now() core.DeviceID {
	if n := len(c.links); n > 0 && c.links[n-1].to.IsZero() {
		return c.links[n-1].hub
	}
	return ""
}

// histories read the ledger.
func (x *childLinks) histories(ctx context.Context) (map[core.Subject]*childhood, error) {
	entries, err := x.records.all(ctx, x.s.ledger)
	if err != nil {
		return nil, err
	}
	out := map[core.Subject]*childhood{}
	for i := range entries {
		if err := x.add(out, &entries[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (x *childLinks) add(out map[core.Subject]*childhood, e *ledger.Entry) error {
	r := &e.Record
	if r.Subject.IsZero() {
		return nil // of a child whose owner was gone already
	}
	c := out[r.Subject]
	if c == nil {
		c = &childhood{}
		out[r.Subject] = c
	}
	if n := len(c.links); n > 0 && c.links[n-1].to.IsZero() {
		c.links[n-1].to = r.Time
	}
	if r.Kind == identity.RecordUnlinked {
		return nil // its time says all that is needed
	}
	l, err := identity.OpenLink(x.s.ring.OpenValue, r)
	if errors.Is(err, seal.ErrNoKey) {
		c.gone = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("entry %d of the ledger: %w", e.Position, err)
	}
	c.child = l.Child
	c.links = append(c.links, linkSpan{hub: l.Hub, from: r.Time})
	return nil
}

// lookAtLinks compares the table, the ledger and the doors, link by link. What
// differs is compared once more a moment later: a commit and what memory shows
// of it are not one.
func (x *childLinks) lookAtLinks(ctx context.Context, l *check.Look) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	l.Touch("table", "control.db: child_link, ownership")
	l.Touch("source", "ledger, records of kinds child-linked, child-moved and child-unlinked")
	l.Touch("source", "the devices' door, asked for its own decision")
	var good, population int
	var bad []breach
	for n := range 4 {
		var err error
		if good, population, bad, err = x.compare(ctx); err != nil {
			return err
		}
		if len(bad) == 0 && good == population || n == 3 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
	l.Expect("the count of links in memory, and the links in the ledger that did not end", population)
	l.Pass(good)
	for _, w := range bad {
		l.Fail(w.subject, "%s", w.text)
	}
	return nil
}

// compare is one look at the links. population are those in force by the
// ledger, and those that only the table has.
func (x *childLinks) compare(ctx context.Context) (good, population int, bad []breach, err error) {
	by, err := x.histories(ctx)
	if err != nil {
		return 0, 0, nil, err
	}
	var links []identity.LinkRow
	owner := map[core.DeviceID]core.Subject{}
	err = x.s.store.View(ctx, func(tx *store.Tx) error {
		links = nil
		if err := tx.EachChildLink(ctx, func(l identity.LinkRow) error { links = append(links, l); return nil }); err != nil {
			return err
		}
		for _, l := range links {
			o, err := tx.Ownership(ctx, l.Child)
			if err != nil {
				return err
			}
			if o != nil && o.Done {
				owner[l.Child] = o.Subject
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, nil, err
	}
	open := map[core.Subject]bool{}
	for s, c := range by {
		if !c.gone && c.now() != "" {
			open[s] = true
		}
	}
	population = 1 + len(open)
	if n := x.s.devices.Counts().Linked; n == len(links) {
		good++ // also where there is none: then nobody speaks for anybody
	} else {
		bad = append(bad, breach{"the register", fmt.Sprintf("the doors have %d children with a hub, the database %d", n, len(links))})
	}
	taken := map[core.Subject]core.DeviceID{} // by the doors
	for i := range links {
		l := &links[i]
		subject := owner[l.Child]
		if !open[subject] {
			population++
		}
		delete(open, subject)
		name := x.s.devices.UnitName(l.Child)
		if why := x.wrong(l, subject, by[subject], taken); why != "" {
			bad = append(bad, breach{name, why})
			continue
		}
		good++
	}
	for s := range open {
		bad = append(bad, breach{x.s.devices.UnitName(by[s].child), "the ledger has a hub that speaks for it, and the database has none"})
	}
	return good, population, bad, nil
}

// wrong says what is wrong with a link of the table.
func (x *childLinks) wrong(l *identity.LinkRow, subject core.Subject, c *childhood, taken map[core.Subject]core.DeviceID) string {
	switch {
	case subject.IsZero():
		return "a hub speaks for it, and it has no owner"
	case !x.s.ring.Has(subject):
		return "a hub speaks for it, and its owner has no key"
	case c == nil || c.now() == "":
		return "the ledger has no record that a hub speaks for it"
	case c.now() != l.Hub:
		return "the database gives it to " + x.s.devices.UnitName(l.Hub) + ", the ledger to " + x.s.devices.UnitName(c.now())
	}
	v := x.s.kin.Vouched(l.Hub, []byte(l.Child))
	switch {
	case v == nil:
		return "the doors take nobody's word for it, and the database has a hub"
	case v.Subject != subject:
		return "the doors take its readings for another subject's"
	}
	if other, twice := taken[v.Subject]; twice {
		return "it has the subject of " + x.s.devices.UnitName(other)
	}
	taken[v.Subject] = l.Child
	return ""
}

// lookAtRows opens stored rows, of all subjects as they lie, and holds those of
// children against the ledger.
func (x *childLinks) lookAtRows(ctx context.Context, l *check.Look) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	began := x.s.opt.Now()
	by, err := x.histories(ctx)
	if err != nil {
		return err
	}
	l.Touch("source", "ledger, records of kinds child-linked, child-moved and child-unlinked")
	l.Touch("table", "control.db: certificate")
	x.by, x.began, x.holder, x.failed = by, began, map[telemetry.Sender]core.DeviceID{}, nil
	if err := x.senders.Look(ctx, l); err != nil {
		return err
	}
	return x.failed
}

// sent says what is wrong with who sent a row. A row of a unit that speaks for
// itself is as it should be, as far as this look goes.
func (x *childLinks) sent(r *telemetry.Row, by telemetry.Sender) (why, left string) {
	c := x.by[r.Reading.Subject]
	vouched := r.Reading.Flags&telemetry.FlagVouched != 0
	at := time.UnixMilli(r.Reading.Received)
	switch {
	case (c != nil || vouched) && !at.Before(x.began):
		return "", "came in while this looked: its link may be younger than the look"
	case c == nil && vouched:
		return "says that a hub vouched for it, and the ledger has no hub of its subject", ""
	case c == nil || c.gone:
		return "", ""
	case !vouched:
		return "is a child's, and does not say that a hub vouched for it", ""
	}
	hub, asked := x.holder[by]
	if !asked {
		// From the table, not from memory: raw against recorded.
		err := x.s.store.View(context.Background(), func(tx *store.Tx) (err error) {
			hub, err = tx.CertificateDevice(context.Background(), identity.Serial(by))
			return err
		})
		if err != nil {
			x.failed = err
			return "", "who sent it could not be looked up"
		}
		x.holder[by] = hub
	}
	for _, l := range c.links {
		in := !at.Before(l.from.Add(-stay)) && (l.to.IsZero() || at.Before(l.to.Add(stay)))
		switch {
		case !in:
		case hub == l.hub:
			return "", ""
		case hub == "" && by != (telemetry.Sender{}) && x.s.opt.Now().Sub(at) > keptCertificates:
			return "", "the certificate that it came with is not kept any more"
		}
	}
	switch {
	case hub == "":
		return "is a child's, and came with no certificate of a hub", ""
	case hub == c.child:
		return "is a child's, and came with a certificate of its own, which it cannot have", ""
	}
	return "is a child's, and came from " + x.s.devices.UnitName(hub) + ", which was not its hub then", ""
}

// keptCertificates is how long a certificate is kept after its end at least;
// see the job certificates-trim.
const keptCertificates = 90 * 24 * time.Hour
