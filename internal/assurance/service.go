package assurance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// The kinds of records that assurance writes.
const (
	// RecordObserved closes a round. Its facts: round, digest, previous,
	// observations, proofs, failing, waivers (how many records of waivers
	// the ledger held before it).
	RecordObserved       core.RecordKind = "observations"
	RecordWaiverAsked    core.RecordKind = "waiver-asked"
	RecordWaiverApproved core.RecordKind = "waiver-approved"
	RecordWaiverEnded    core.RecordKind = "waiver-ended"
)

// StoredRound is a closed round as it is kept.
type StoredRound struct {
	Number uint64
	Closed time.Time
	Digest core.Hash
	// From is a position of the ledger at or before the round's record.
	From    uint64
	Encoded []byte // check.Round.Encode
}

// Latest is the newest observation or proof of a kind, and its round.
type Latest struct {
	Key   string // "o/CHECK" or "p/CHECK/VIOLATION"
	Round uint64
	Line  []byte // as it stands in the round, without the line's end
}

// Tx is what assurance needs from storage.
type Tx interface {
	// AddPending keeps lines that wait for their round, in order.
	AddPending(ctx context.Context, lines [][]byte) error
	// Pending are the lines that wait, in order.
	Pending(ctx context.Context) ([][]byte, error)
	// CloseRound keeps a round, replaces the latest of its keys, and drops
	// what waited. A number that exists is an error.
	CloseRound(ctx context.Context, r StoredRound, latest []Latest) error
	// LastRound is the newest; core.Unknown when there is none.
	LastRound(ctx context.Context) (StoredRound, error)
	// Rounds are up to limit rounds from a number on.
	Rounds(ctx context.Context, from uint64, limit int) ([]StoredRound, error)
	// RoundAt is the number of the first round that closed at or after t; 0 when none.
	RoundAt(ctx context.Context, t time.Time) (uint64, error)
	LatestEvidence(ctx context.Context) ([]Latest, error)
	PutWaiver(ctx context.Context, w Waiver) error
	Waivers(ctx context.Context) ([]Waiver, error)
	// Record hands evidence to the ledger in the same transaction.
	Record(ctx context.Context, r core.Record) error
}

// Declarations knows what is in force.
type Declarations interface {
	All(context.Context) ([]*declaration.Policy, error)
}

// Ledger finds the record of a round.
type Ledger interface {
	// Round gives the facts of the record of a round, looking from a position
	// on; core.Unknown when it is not there (yet).
	Round(ctx context.Context, number, from uint64) (RoundRecord, error)
	// Waivers are the records of waivers, oldest first, each as it is hashed into
	// the tree: all that were written before the call.
	Waivers(ctx context.Context) ([]WaiverRecord, error)
}

// RoundRecord is what the ledger holds of a round.
type RoundRecord struct {
	Position uint64
	Digest   core.Hash
	Time     time.Time
	Waivers  int // records of waivers before it
}

// Deps is what a Service stands on. All of it is required.
type Deps struct {
	Update       func(context.Context, func(Tx) error) error
	View         func(context.Context, func(Tx) error) error
	Checks       *check.Registry
	Declarations Declarations
	Ledger       Ledger
	Program      string // version of the program
	Now          func() time.Time
}

// Service keeps what was observed and says how everything stands. It is safe
// for concurrent use.
type Service struct {
	d        Deps
	declared []Declared

	mu      sync.Mutex // guards what follows
	latest  map[string]check.Observation
	proofs  map[string][]check.Proof
	pending [][]byte // as it was handed to storage since the last round
	last    StoredRound
	waivers int      // records of waivers in the ledger
	broken  []string // found when it was loaded or written
	// examined is what the last look at the rounds found wrong.
	examined []string
}

// New loads the newest evidence and holds it against the rounds that it came
// from. Evidence that does not agree is not an error: everything is tampered
// until somebody looks.
func New(ctx context.Context, d Deps) (*Service, error) {
	if d.Update == nil || d.View == nil || d.Checks == nil || d.Declarations == nil || d.Ledger == nil || d.Program == "" || d.Now == nil {
		return nil, errors.New("assurance: Update, View, Checks, Declarations, Ledger, Program and Now are required")
	}
	s := &Service{d: d, latest: map[string]check.Observation{}, proofs: map[string][]check.Proof{}}
	for _, c := range d.Checks.All() {
		for _, r := range c.Rows {
			if _, ok := FindRow(RowID(r)); !ok {
				return nil, fmt.Errorf("assurance: check %s names row %s, which the mission does not have", c.ID, r)
			}
		}
		s.declared = append(s.declared, Declare(c))
	}
	return s, s.load(ctx)
}

// Observe keeps an observation. It counts from now on, and is in the ledger
// with the next round.
func (s *Service) Observe(ctx context.Context, o ...check.Observation) error {
	return s.keep(ctx, o, nil)
}

// Prove keeps proofs that checks can turn red.
func (s *Service) Prove(ctx context.Context, p ...check.Proof) error {
	return s.keep(ctx, nil, p)
}

func (s *Service) keep(ctx context.Context, observed []check.Observation, proofs []check.Proof) error {
	lines, err := encodeLines(observed, proofs)
	if err != nil || len(lines) == 0 {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.d.Update(ctx, func(tx Tx) error { return tx.AddPending(ctx, lines) }); err != nil {
		return fmt.Errorf("keep observations: %w", err)
	}
	s.pending = append(s.pending, lines...)
	s.take(observed, proofs)
	return nil
}

// take makes observations and proofs the newest. Called with mu held.
func (s *Service) take(observed []check.Observation, proofs []check.Proof) {
	for _, o := range observed {
		s.latest[o.Check] = o
	}
	for _, p := range proofs {
		list := slices.DeleteFunc(slices.Clone(s.proofs[p.Check]), func(q check.Proof) bool { return q.Violation == p.Violation })
		s.proofs[p.Check] = append(list, p)
	}
}

// CloseRound puts everything observed since the last round under the ledger.
// Nothing observed is no round.
func (s *Service) CloseRound(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		return nil
	}
	closed := s.d.Now().UTC().Truncate(time.Microsecond)
	round := check.Round{Number: s.last.Number + 1, Closed: closed, Previous: s.last.Digest}
	var latest []Latest
	var kept StoredRound
	from := s.behind(ctx)
	err := s.d.Update(ctx, func(tx Tx) error {
		stored, err := tx.Pending(ctx)
		if err != nil {
			return fmt.Errorf("close round %d: %w", round.Number, err)
		}
		if !slices.EqualFunc(stored, s.pending, slices.Equal) {
			s.breaks("observations that waited for round %d were changed in the database", round.Number)
			return core.E(core.Conflict, "pending-altered", "the observations in the database are not those that were made", "find out who writes to control.db; restart the server to begin a new round with what is left")
		}
		if round.Observations, round.Proofs, latest, err = sortLines(stored, round.Number); err != nil {
			return fmt.Errorf("close round %d: %w", round.Number, err)
		}
		encoded, err := round.Encode()
		if err != nil {
			return err
		}
		kept = StoredRound{Number: round.Number, Closed: closed, Digest: check.DigestOf(encoded), From: from, Encoded: encoded}
		if err := tx.CloseRound(ctx, kept, latest); err != nil {
			return fmt.Errorf("close round %d: %w", round.Number, err)
		}
		if err := tx.Record(ctx, roundRecord(&round, kept, s.waivers)); err != nil {
			return fmt.Errorf("close round %d: %w", round.Number, err)
		}
		return nil
	})
	if err == nil {
		s.last, s.pending = kept, nil
	}
	return err
}

// behind is a position of the ledger that the next round's record lies behind:
// the last round's, when it has its place already.
func (s *Service) behind(ctx context.Context) uint64 {
	if s.last.Number == 0 {
		return 0
	}
	if rec, err := s.d.Ledger.Round(ctx, s.last.Number, s.last.From); err == nil {
		return rec.Position
	}
	return s.last.From
}

func roundRecord(r *check.Round, kept StoredRound, waivers int) core.Record {
	failing := 0
	for i := range r.Observations {
		if r.Observations[i].Outcome == check.Fail {
			failing++
		}
	}
	return core.Record{Time: r.Closed, Kind: RecordObserved, Actor: core.Job("checks"), Facts: []core.Fact{
		{Name: "round", Value: strconv.FormatUint(r.Number, 10)},
		{Name: "digest", Value: kept.Digest.String()},
		{Name: "previous", Value: r.Previous.String()},
		{Name: "observations", Value: strconv.Itoa(len(r.Observations))},
		{Name: "proofs", Value: strconv.Itoa(len(r.Proofs))},
		{Name: "failing", Value: strconv.Itoa(failing)},
		{Name: "waivers", Value: strconv.Itoa(waivers)},
	}}
}

func (s *Service) breaks(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	if !slices.Contains(s.broken, why) {
		s.broken = append(s.broken, why)
	}
}

// Input is what verdicts are worked out from now.
func (s *Service) Input(ctx context.Context) (Input, error) {
	policies, err := s.d.Declarations.All(ctx)
	if err != nil {
		return Input{}, fmt.Errorf("read declarations in force: %w", err)
	}
	var waivers []Waiver
	if err := s.d.View(ctx, func(tx Tx) error { waivers, err = tx.Waivers(ctx); return err }); err != nil {
		return Input{}, fmt.Errorf("read waivers: %w", err)
	}
	var recorded []WaiverRecord
	if len(waivers) > 0 { // else there is nothing to hold against it
		if recorded, err = s.d.Ledger.Waivers(ctx); err != nil {
			return Input{}, fmt.Errorf("read what the ledger holds of waivers: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in := Input{
		At: s.d.Now().UTC().Truncate(time.Microsecond), Program: s.d.Program, Facts: FactsOf(policies), Checks: slices.Clone(s.declared),
		Waivers: waivers, Broken: slices.Concat(s.broken, s.examined), Latest: map[string]check.Observation{}, Proofs: map[string][]check.Proof{},
		Recorded: recorded,
	}
	for id, o := range s.latest {
		in.Latest[id] = o
	}
	for id, p := range s.proofs {
		in.Proofs[id] = slices.Clone(p)
	}
	return in, nil
}

// State is how everything stands now.
func (s *Service) State(ctx context.Context) (State, error) {
	in, err := s.Input(ctx)
	if err != nil {
		return State{}, err
	}
	return Judge(in), nil
}

// Newest is the newest observation of a check.
func (s *Service) Newest(id string) (check.Observation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.latest[id]
	return o, ok
}

// LastRound is the newest closed round; number 0 when there is none.
func (s *Service) LastRound() StoredRound {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Claims are the promises of the declarations in force and how they stand.
func (s *Service) Claims(ctx context.Context) ([]ClaimState, error) {
	st, err := s.State(ctx)
	if err != nil {
		return nil, err
	}
	policies, err := s.d.Declarations.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("read declarations in force: %w", err)
	}
	return ClaimsOf(policies, &st), nil
}
