package bundle

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
	"github.com/hawser-iot/hawser/internal/sampling"
)

// Rounds is where rounds are kept; assurance.Service is one.
type Rounds interface {
	// Rounds are up to limit closed rounds from a number on.
	Rounds(ctx context.Context, from uint64, limit int) ([]assurance.StoredRound, error)
	// RoundAt is the first round that closed at or after t; 0: none.
	RoundAt(ctx context.Context, t time.Time) (uint64, error)
	// LastRound is the newest; number 0: none.
	LastRound() assurance.StoredRound
}

// Log is the ledger; *ledger.Ledger is one.
type Log interface {
	Latest() ledger.Checkpoint
	VerifierKey() string
	List(ctx context.Context, f ledger.Filter, from uint64, limit int) (found []ledger.Entry, next uint64, err error)
	Tile(ctx context.Context, t ledger.TileRef) ([]byte, error)
}

// Options say what is put together. Rounds, Log and Input are required.
type Options struct {
	// From is when the period begins; it always ends with the newest round that
	// the ledger's checkpoint covers. It begins earlier where a check was looked
	// at last before From, so that the verdicts are those of the running system.
	// Zero: as late as that allows.
	From time.Time
	// Input is what the verdicts are worked out from now (assurance.Service).
	// Its time is replaced by that of the last round.
	Input assurance.Input
	// Policies are the declarations in force, for their claims.
	Policies []*declaration.Policy
	Rounds   Rounds
	Log      Log
	// Checkpoint is the ledger's newest checkpoint with cosignatures of
	// witnesses. Nil: as the ledger has it.
	Checkpoint []byte
	// Earlier are checkpoints of the same ledger from before, out of which the
	// bundle is to show that it grew.
	Earlier [][]byte
	// Samplings are what assessors drew.
	Samplings []sampling.Sampling
}

// Bounds of what one bundle covers.
const (
	maxRounds  = 50_000
	maxEarlier = 64
	// maxWaiverRecords bounds what the ledger may hold of waivers.
	maxWaiverRecords = 100_000
	roundsAtime      = 64
)

// Draft is a bundle that nobody has signed yet: what was collected, without
// what follows from it. It holds no secret and no personal data.
type Draft struct{ f files }

// Collect puts evidence together. It fails with core.Unready while no round is
// under a signed checkpoint, and with core.Conflict where evidence was changed.
func Collect(ctx context.Context, o Options) (*Draft, error) {
	f, err := collect(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("collect evidence: %w", err)
	}
	var bad faults
	if open(f, &bad); len(bad.list) > 0 {
		return nil, core.E(core.Conflict, "evidence-altered", "the evidence does not agree with itself: "+bad.list[0],
			"the database was changed, or a clock was set back; run `hawser ledger verify` and look for who writes to control.db")
	}
	return &Draft{f}, nil
}

// collect puts the given files together and judges nothing.
func collect(ctx context.Context, o Options) (files, error) {
	c := collector{o: o, f: files{}}
	if err := c.head(); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{c.find, c.period, c.olderProofs, c.prove} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return c.f, c.state()
}

type collector struct {
	o       Options
	f       files
	cp      ledger.Checkpoint
	records map[uint64]ledger.Entry // of rounds, by number
	last    uint64
	first   uint64
	start   uint64 // first round whose record is in the bundle
	closed  time.Time
}

func unready(what string) error {
	return core.E(core.Unready, "no-evidence-yet", what, "checks run all the time; ask again in a minute")
}

// head chooses the checkpoint under which everything is proven.
func (c *collector) head() error {
	c.cp = c.o.Log.Latest()
	if c.o.Checkpoint != nil {
		given, err := verify.Signed(c.o.Checkpoint, c.o.Log.VerifierKey())
		if err != nil || given.Size > c.cp.Size {
			return core.E(core.Invalid, "bad-checkpoint", fmt.Sprintf("the cosigned checkpoint is not of this ledger: %v", err), "give the newest one that a witness cosigned")
		}
		c.cp = ledger.Checkpoint{Origin: given.Origin, Size: given.Size, Root: core.Hash(given.Root), Note: c.o.Checkpoint}
	}
	if c.cp.Size == 0 {
		return unready("the ledger is not signed yet")
	}
	if len(c.o.Earlier) > maxEarlier {
		return core.E(core.Invalid, "too-many-checkpoints", fmt.Sprintf("%d earlier checkpoints", len(c.o.Earlier)), fmt.Sprintf("give up to %d", maxEarlier))
	}
	c.f[nameCheckpoint] = c.cp.Note
	return nil
}

// find reads the records of rounds that may be needed out of the ledger, and
// chooses the last round.
func (c *collector) find(ctx context.Context) error {
	newest := c.o.Rounds.LastRound()
	if newest.Number == 0 {
		return unready("no round of checks is closed yet")
	}
	back := newest.Closed.Add(-check.ProofAge)
	if !c.o.From.IsZero() && c.o.From.Before(back) {
		back = c.o.From
	}
	oldest, err := c.o.Rounds.RoundAt(ctx, back)
	if err != nil {
		return err
	}
	if oldest > 1 {
		oldest--
	}
	kept, err := c.o.Rounds.Rounds(ctx, oldest, 1)
	if err != nil {
		return err
	}
	if len(kept) == 0 {
		return core.E(core.Conflict, "evidence-altered", fmt.Sprintf("round %d is gone", oldest), "restore a backup; find out who writes to control.db")
	}
	return c.list(ctx, kept[0].From)
}

// list reads the records of rounds from a position of the ledger on.
func (c *collector) list(ctx context.Context, from uint64) error {
	c.records, c.last = map[uint64]ledger.Entry{}, 0
	for more := true; more; {
		found, next, err := c.o.Log.List(ctx, ledger.Filter{Kind: assurance.RecordObserved}, from, 0)
		if err != nil {
			return err
		}
		for _, e := range found {
			n, err := strconv.ParseUint(factOf(&e.Record, "round"), 10, 63)
			if e.Origin != c.cp.Origin || e.Index >= c.cp.Size || err != nil {
				continue
			}
			c.records[n] = e
			c.last = max(c.last, n)
		}
		from, more = next, next != 0
	}
	if c.last == 0 {
		return unready("no round of checks is under a signed checkpoint yet")
	}
	return nil
}

// round reads one round, as it is kept.
func (c *collector) round(ctx context.Context, n uint64) (*check.Round, []byte, error) {
	kept, err := c.o.Rounds.Rounds(ctx, n, 1)
	if err != nil {
		return nil, nil, err
	}
	if len(kept) == 0 || kept[0].Number != n {
		return nil, nil, core.E(core.Conflict, "evidence-altered", fmt.Sprintf("round %d is gone", n), "restore a backup; find out who writes to control.db")
	}
	r, err := check.ParseRound(kept[0].Encoded)
	if err != nil {
		return nil, nil, core.E(core.Conflict, "evidence-altered", err.Error(), "restore a backup; find out who writes to control.db")
	}
	return r, kept[0].Encoded, nil
}

// period takes rounds from the last one back, until the asked beginning is
// reached and every check that was ever looked at was seen.
func (c *collector) period(ctx context.Context) error {
	want := map[string]bool{}
	for _, d := range c.o.Input.Checks {
		if o, ok := c.o.Input.Latest[d.ID]; ok && d.Missing == "" && o.Version == d.Version {
			want[d.ID] = true
		}
	}
	total := 0
	for n := c.last; n > 0; n-- {
		r, b, err := c.round(ctx, n)
		if err != nil {
			return err
		}
		if n == c.last {
			c.closed = r.Closed
		}
		enough := c.o.From.IsZero() || r.Closed.Before(c.o.From)
		if n < c.last && len(want) == 0 && enough {
			break
		}
		if total += len(b); total > maxTotalBytes/2 || c.last-n >= maxRounds {
			if !enough {
				return core.E(core.Invalid, "period-too-long", fmt.Sprintf("the period holds more than %d rounds or %d bytes", maxRounds, maxTotalBytes/2), "ask for a shorter one; several bundles cover a longer one")
			}
			break // a check that was not looked at for so long is stale either way
		}
		if _, ok := c.records[n]; !ok {
			break // from before this ledger began, or longer ago than find looked
		}
		c.f[roundName(n)] = b
		c.first = n
		for i := range r.Observations {
			delete(want, r.Observations[i].Check)
		}
	}
	if c.first == 0 {
		return unready("no round of checks can be proved by this ledger")
	}
	return nil
}

// olderProofs takes the rounds before the period that hold trials, back to the
// oldest that still counts.
func (c *collector) olderProofs(ctx context.Context) error {
	want := map[string]bool{}
	for _, d := range c.o.Input.Checks {
		for _, v := range d.Violations {
			want[d.ID+"/"+v] = d.Missing == ""
		}
	}
	strike := func(r *check.Round) (any bool) {
		for i := range r.Proofs {
			key := r.Proofs[i].Check + "/" + r.Proofs[i].Violation
			any = any || want[key]
			delete(want, key)
		}
		return any
	}
	for n := c.last; n >= c.first; n-- {
		r, err := check.ParseRound(c.f[roundName(n)])
		if err != nil {
			return err
		}
		strike(r)
	}
	c.start = c.first
	if _, ok := c.records[c.first-1]; ok {
		c.start = c.first - 1
	}
	between := files{} // rounds with trials that nothing older asks for yet
	for n := c.first - 1; n > 0; n-- {
		rec, ok := c.records[n]
		if !ok || c.last-n > maxRounds {
			break
		}
		if factOf(&rec.Record, "proofs") == "0" {
			continue
		}
		r, b, err := c.round(ctx, n)
		if err != nil {
			return err
		}
		if between[olderName(n)] = b; !strike(r) {
			continue
		}
		c.start = min(c.start, n)
		for name, b := range between {
			c.f[name] = b
		}
	}
	return nil
}

// prove makes the proofs that all of it is in the ledger.
func (c *collector) prove(ctx context.Context) error {
	p := ledger.NewProver(c.cp.Size, func(t ledger.TileRef) ([]byte, error) { return c.o.Log.Tile(ctx, t) })
	one := func(e ledger.Entry) (inclusion, error) {
		path, err := p.Inclusion(e.Index)
		return inclusion{Index: e.Index, Leaf: string(e.Leaf), Path: proofsOf(path)}, err
	}
	out := logProofs{Key: c.o.Log.VerifierKey(), Rounds: []inclusion{}, Waivers: []inclusion{}, Grown: []growth{}}
	begun, err := c.begun(ctx)
	if err != nil {
		return err
	}
	first, err := one(begun)
	if err != nil {
		return err
	}
	out.Begun = &first
	for n := c.start; n <= c.last; n++ {
		e, ok := c.records[n]
		if !ok {
			return core.E(core.Conflict, "evidence-altered", fmt.Sprintf("the ledger has no record of round %d", n), "run `hawser ledger verify`")
		}
		x, err := one(e)
		if err != nil {
			return err
		}
		out.Rounds = append(out.Rounds, x)
	}
	waivers, err := c.waivers(ctx)
	if err != nil {
		return err
	}
	for _, e := range waivers {
		x, err := one(e)
		if err != nil {
			return err
		}
		out.Waivers = append(out.Waivers, x)
	}
	for _, note := range c.o.Earlier {
		old, err := verify.Signed(note, out.Key)
		if err != nil || old.Size > c.cp.Size || old.Size == 0 {
			return core.E(core.Invalid, "bad-checkpoint", fmt.Sprintf("an earlier checkpoint is not of this ledger, or is not earlier: %v", err), "give checkpoints of "+c.cp.Origin)
		}
		if slices.ContainsFunc(out.Grown, func(g growth) bool { return g.Size == old.Size }) {
			continue
		}
		path, err := p.Consistency(old.Size)
		if err != nil {
			return err
		}
		out.Grown = append(out.Grown, growth{old.Size, proofsOf(path)})
	}
	if c.f[nameProofs], err = encode(&out); err != nil {
		return err
	}
	return c.samples(ctx, one)
}

// all are the entries of a kind in this ledger, under the checkpoint.
func (c *collector) all(ctx context.Context, kind core.RecordKind) (out []ledger.Entry, err error) {
	var from uint64
	for more := true; more; {
		found, next, err := c.o.Log.List(ctx, ledger.Filter{Kind: kind}, from, 0)
		if err != nil {
			return nil, err
		}
		for _, e := range found {
			if e.Origin == c.cp.Origin && e.Index < c.cp.Size {
				out = append(out, e)
			}
		}
		from, more = next, next != 0
	}
	return out, nil
}

// waivers are all records of waivers, in their order: the verdicts rest on
// them, and rounds say how many there are.
func (c *collector) waivers(ctx context.Context) (out []ledger.Entry, err error) {
	for _, kind := range assurance.WaiverRecordKinds() {
		found, err := c.all(ctx, kind)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	if len(out) > maxWaiverRecords {
		return nil, core.E(core.Invalid, "too-many-waivers", fmt.Sprintf("the ledger holds %d records of waivers", len(out)), "begin a new ledger: `hawser ledger new-origin`")
	}
	slices.SortFunc(out, func(a, b ledger.Entry) int { return cmp.Compare(a.Index, b.Index) })
	return out, nil
}

// begun is entry 0 of the ledger.
func (c *collector) begun(ctx context.Context) (ledger.Entry, error) {
	var from uint64
	for more := true; more; {
		found, next, err := c.o.Log.List(ctx, ledger.Filter{Kind: recordBegun}, from, 0)
		if err != nil {
			return ledger.Entry{}, err
		}
		for _, e := range found {
			if e.Origin == c.cp.Origin && e.Index == 0 {
				return e, nil
			}
		}
		from, more = next, next != 0
	}
	return ledger.Entry{}, core.E(core.Conflict, "evidence-altered", "the ledger does not say how it began", "run `hawser ledger verify`")
}

// state writes what else the verdicts are worked out from.
func (c *collector) state() error {
	cat, err := catalogueOnce()
	if err != nil {
		return err
	}
	st := Statement{Format: format, Origin: c.cp.Origin, First: c.first, Last: c.last, Catalogue: cat.digest.String(), Claims: claimsOf(c.o.Policies), Input: c.o.Input}
	st.Input.At = c.closed.UTC()
	st.Input.Waivers = nil
	for _, w := range c.o.Input.Waivers {
		w.Void = "" // worked out again by who judges
		// One of an earlier ledger counts for nothing, and cannot be proved.
		if !w.Asked.After(st.Input.At) && !w.Lapsed(c.o.Input.Recorded) {
			st.Input.Waivers = append(st.Input.Waivers, w)
		}
	}
	c.f[nameInput], err = encode(&st)
	return err
}
