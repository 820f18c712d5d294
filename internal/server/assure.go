package server

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/sampling"
)

const (
	// checkTime is how long one check may look before it counts as hung.
	checkTime = 10 * time.Second
	// lookAgainIn is how soon a check that could not look tries again.
	lookAgainIn = 5 * time.Minute
	// roundEvery is how often what was observed goes under the ledger.
	roundEvery = time.Minute
	// renewProofs is how long before a proof ends its trial is repeated.
	renewProofs = 24 * time.Hour
)

// openAssurance gathers the checks of all capabilities and brings back what
// was observed before.
func (s *server) openAssurance(ctx context.Context) error {
	s.waivers = roundsIn{s.ledger, follow(assurance.WaiverRecordKinds()...)}
	s.staff = follow(access.RecordInvited, access.RecordJoined, access.RecordRoles, access.RecordDisabled, access.RecordRefounded, access.RecordReviewed)
	registry, err := check.NewRegistry(s.checks()...)
	if err != nil {
		return fmt.Errorf("gather checks: %w", err)
	}
	// What was recorded before a stop has its place before it is asked for.
	if err := s.sequenced(ctx); err != nil {
		return err
	}
	if s.assure, err = assurance.New(ctx, assurance.Deps{
		Update: update[assurance.Tx](s.store), View: view[assurance.Tx](s.store), Checks: registry,
		Declarations: s.decl, Ledger: s.waivers, Program: s.opt.Version, Now: s.opt.Now,
	}); err != nil {
		return err
	}
	if s.samples, err = sampling.New(sampling.Deps{
		Update: update[sampling.Tx](s.store), View: view[sampling.Tx](s.store), Populations: populations{s}, Now: s.opt.Now,
	}); err != nil {
		return err
	}
	s.rounds = &checker{s: s, registry: registry, running: map[string]bool{}, next: map[string]time.Time{}}
	s.jobs = append(s.jobs,
		&job{name: "evidence-rounds", period: roundEvery, run: s.assure.CloseRound},
	)
	if s.opt.Selftest != nil {
		s.jobs = append(s.jobs, &job{name: "selftest", period: time.Hour, run: func(ctx context.Context) error {
			due, err := s.untried(ctx)
			if err != nil || !due {
				return err
			}
			_, err = s.selftest(ctx, nil)
			return err
		}})
	}
	return nil
}

// roundsIn finds the records of rounds and of waivers in the ledger.
type roundsIn struct {
	l       *ledger.Ledger
	waivers *followed
}

// Waivers are the records of waivers, oldest first.
func (r roundsIn) Waivers(ctx context.Context) ([]assurance.WaiverRecord, error) {
	all, err := r.waivers.all(ctx, r.l)
	if err != nil {
		return nil, err
	}
	origin := r.l.Status().Origin
	out := make([]assurance.WaiverRecord, 0, len(all))
	for i := range all {
		w, err := assurance.ParseWaiverRecord(&all[i].Record)
		if err != nil {
			return nil, fmt.Errorf("ledger entry %d: %w", all[i].Position, err)
		}
		w.Earlier = all[i].Origin != origin
		out = append(out, w)
	}
	return out, nil
}

// Round looks from a position on. A record that is not hashed into the tree as
// it stands is an error, not unknown.
func (r roundsIn) Round(ctx context.Context, number, from uint64) (assurance.RoundRecord, error) {
	want := strconv.FormatUint(number, 10)
	for {
		found, next, err := r.l.List(ctx, ledger.Filter{Kind: assurance.RecordObserved}, from, 16)
		if err != nil {
			return assurance.RoundRecord{}, err
		}
		for i := range found {
			if factOf(&found[i].Record, "round") != want {
				continue
			}
			e, err := r.l.Get(ctx, found[i].Position)
			if err != nil {
				return assurance.RoundRecord{}, err
			}
			h, err := core.ParseHash(factOf(&e.Record, "digest"))
			if err != nil {
				return assurance.RoundRecord{}, err
			}
			n, err := 0, error(nil)
			if text := factOf(&e.Record, "waivers"); text != "" { // an older version did not count them
				n, err = strconv.Atoi(text)
			}
			return assurance.RoundRecord{Position: e.Position, Digest: h, Time: e.Record.Time, Waivers: n}, err
		}
		if next == 0 {
			return assurance.RoundRecord{}, core.E(core.Unknown, "no-round-record", "the ledger has no record of round "+want, "")
		}
		from = next
	}
}

func factOf(r *core.Record, name string) string {
	for _, f := range r.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// checker runs every check in its turn. One that hangs is left behind and not
// started again until it came back; the others go on.
type checker struct {
	s        *server
	registry *check.Registry

	mu      sync.Mutex           // guards what follows
	running map[string]bool      // looks that have not come back
	next    map[string]time.Time // when each check is due
	looks   []*look              // the last ones, some of which knocked at our own doors
}

// look is when a check looked, by the installation's clock; it goes on while
// there is no end.
type look struct{ began, ended time.Time }

const (
	keptLooks = 512         // an hour of them and more
	lateNote  = time.Second // how long after a look its knock may still be noted
)

// looking reports whether a check was looking at a time: what knocked at our
// doors then, from this very machine, may have been us.
func (c *checker) looking(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.looks, func(l *look) bool {
		return !at.Before(l.began) && (l.ended.IsZero() || !at.After(l.ended.Add(lateNote)))
	})
}

// loop looks for checks that are due, until ctx is done.
func (c *checker) loop(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if c.turn(ctx); ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// turn runs the checks that are due, until ctx is done.
func (c *checker) turn(ctx context.Context) {
	for _, k := range c.due() {
		o, err := c.run(ctx, k)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.s.log.ErrorContext(ctx, "an observation was not kept", slog.String("check", k.ID), slog.Any("err", err))
		}
		if err != nil || o.Outcome == check.Error {
			c.soon(k)
		}
	}
}

// due are the checks whose time has come, by the system's clock: a clock of
// the installation that stands still must not stop the checks.
func (c *checker) due() []*check.Check {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*check.Check
	for _, k := range c.registry.All() {
		if !k.Built() || c.running[k.ID] || now.Before(c.next[k.ID]) {
			continue
		}
		c.next[k.ID] = now.Add(k.Every())
		out = append(out, k)
	}
	return out
}

// soon has a check that could not look try again before its time.
func (c *checker) soon(k *check.Check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := time.Now().Add(lookAgainIn); at.Before(c.next[k.ID]) {
		c.next[k.ID] = at
	}
}

// run takes one look and keeps what came of it.
func (c *checker) run(ctx context.Context, k *check.Check) (check.Observation, error) {
	c.mu.Lock()
	c.running[k.ID] = true
	c.mu.Unlock()
	inner := *k
	inner.Look = func(ctx context.Context, l *check.Look) error {
		defer func() { c.mu.Lock(); delete(c.running, k.ID); c.mu.Unlock() }()
		return k.Look(ctx, l)
	}
	now := &look{began: c.s.opt.Now()}
	c.mu.Lock()
	c.looks = append(c.looks[max(0, len(c.looks)-keptLooks+1):], now)
	c.mu.Unlock()
	o := check.Take(ctx, &inner, c.s.opt.Version, c.s.opt.Now, checkTime)
	c.mu.Lock()
	now.ended = c.s.opt.Now()
	c.mu.Unlock()
	if ctx.Err() != nil {
		return o, nil // the server stops: that the look was cut says nothing
	}
	return o, c.s.assure.Observe(ctx, o)
}

// runAll takes one look with every check that has one, or those of one row, in
// their order, and says how everything stands then.
func (c *checker) runAll(ctx context.Context, only func(*check.Check) bool, progress func(done, total int64)) error {
	var list []*check.Check
	for _, k := range c.registry.All() {
		if k.Built() && only(k) {
			list = append(list, k)
		}
	}
	for i, k := range list {
		if _, err := c.run(ctx, k); err != nil {
			return err
		}
		if progress != nil {
			progress(int64(i+1), int64(len(list)))
		}
	}
	return ctx.Err()
}

// DeclaredChecks are the checks of this very program, as its evidence declares
// them: whoever verifies a bundle of the same version compares.
func DeclaredChecks() []assurance.Declared {
	registry, err := check.NewRegistry((&server{}).checks()...)
	if err != nil {
		return nil // the server does not start with such checks either
	}
	var out []assurance.Declared
	for _, c := range registry.All() {
		out = append(out, assurance.Declare(c))
	}
	return out
}
