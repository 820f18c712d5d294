package declaration

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// The kinds of records of reviews. Their facts: review, hash (of the version
// that waits), version, widens.
const (
	RecordReviewOpened   core.RecordKind = "review-opened"
	RecordReviewVouched  core.RecordKind = "review-vouched"
	RecordReviewApproved core.RecordKind = "review-approved"
	RecordReviewRejected core.RecordKind = "review-rejected"
	RecordReviewTaken    core.RecordKind = "review-taken-back"
)

// Decision is what became of a review.
type Decision string

// The decisions. A review without one is open, or superseded.
const (
	Undecided Decision = ""
	Approved  Decision = "approved"
	Rejected  Decision = "rejected"
	TakenBack Decision = "taken-back"
)

// Review is a version that widens what was declared, and waits for a second
// person (CC 4.12). It names nobody but by pseudonym.
type Review struct {
	ID        string         `json:"id"`
	Product   core.ProductID `json:"product"`
	Version   int            `json:"version"`
	Hash      core.Hash      `json:"-"` // of Canonical
	Canonical []byte         `json:"-"`
	// Against is the version in force when it was asked for, by hash. Once
	// another one is in force there is nothing left to approve.
	Against  string     `json:"against"`
	Asked    time.Time  `json:"asked"`
	AskedBy  core.Actor `json:"asked_by"`
	Vouched  time.Time  `json:"vouched,omitzero"`
	Voucher  core.Actor `json:"voucher,omitzero"` // see Requester
	Decision Decision   `json:"decision,omitempty"`
	Decided  time.Time  `json:"decided,omitzero"`
	By       core.Actor `json:"by,omitzero"`
}

// Requester is the person who wants this version. On the machine itself nobody
// knows which person acts, so what is asked for there is a person's only once
// one who signed in has vouched for it. The zero Actor: nobody has.
func (r *Review) Requester() core.Actor {
	if onMachine(r.AskedBy) {
		return r.Voucher
	}
	return r.AskedBy
}

func onMachine(a core.Actor) bool { return a.Kind != core.ActorStaff || strings.HasPrefix(a.ID, "os:") }

// AskedAs says in what the review differs from the ledger's records of it, or
// nothing. Who asked, who vouched, and for which version, stand there: who
// writes to the database alone cannot turn the one who asked into a second
// person.
func (r *Review) AskedAs(records []core.Record) string {
	opened, vouched := core.Actor{}, core.Actor{}
	for i := range records {
		rec := &records[i]
		if factOf(rec, "review") != r.ID {
			continue
		}
		if factOf(rec, "hash") != r.Hash.String() {
			return "the ledger has this review of another version"
		}
		switch rec.Kind {
		case RecordReviewOpened:
			opened = rec.Actor
		case RecordReviewVouched:
			vouched = rec.Actor
		}
	}
	switch {
	case opened == (core.Actor{}):
		return "the ledger has no record that it was asked for"
	case opened != r.AskedBy:
		return "the ledger says that somebody else asked for it"
	case vouched != r.Voucher:
		return "the ledger says that somebody else vouched for it, or nobody"
	}
	return ""
}

func factOf(r *core.Record, name string) string {
	for _, f := range r.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// ReviewState is a review as it stands.
type ReviewState struct {
	Review
	Superseded bool     // another version came in force meanwhile
	Changes    []Change // against the version that it was asked against; none when that is gone
}

// Open reports whether somebody may decide.
func (r *ReviewState) Open() bool { return r.Decision == Undecided && !r.Superseded }

// State is how it stands, in a word.
func (r *ReviewState) State() string {
	switch {
	case r.Superseded:
		return "superseded"
	case r.Decision == Undecided:
		return "open"
	}
	return string(r.Decision)
}

// Waits is what Publish answers for a version that waits for its review.
type Waits struct {
	Review string
	Text   string
}

// waitFor opens a review of a version, or finds the one that is open already,
// in the transaction of Publish.
func (s *Service) waitFor(ctx context.Context, tx Tx, by core.Actor, q, current *Policy, changes []Change, now time.Time) (*Waits, error) {
	all, err := tx.Reviews(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if r := &all[i]; r.Decision == Undecided && r.Hash == q.Hash && r.Against == current.Hash.String() {
			return &Waits{r.ID, listed(changes)}, nil
		}
	}
	id := make([]byte, 10)
	_, _ = rand.Read(id) // never fails
	r := Review{
		ID: "r" + strings.ToLower(base32.StdEncoding.EncodeToString(id)), Product: q.Product, Version: q.Version, Hash: q.Hash, Canonical: q.Canonical,
		Against: current.Hash.String(), Asked: now, AskedBy: by,
	}
	if err := tx.PutReview(ctx, r); err != nil {
		return nil, err
	}
	return &Waits{r.ID, listed(changes)}, tx.Record(ctx, reviewRecord(&r, RecordReviewOpened, by, now, changes))
}

func reviewRecord(r *Review, kind core.RecordKind, by core.Actor, now time.Time, changes []Change) core.Record {
	n := 0
	for _, c := range changes {
		if c.Direction == Widening {
			n++
		}
	}
	return core.Record{Time: now, Kind: kind, Actor: by, Product: r.Product, Facts: []core.Fact{
		{Name: "review", Value: r.ID}, {Name: "hash", Value: r.Hash.String()}, {Name: "version", Value: fmt.Sprint(r.Version)}, {Name: "widens", Value: fmt.Sprint(n)},
	}}
}

// err is Waits as an error.
func (w *Waits) err() error {
	return core.E(core.Unready, ruleWidening, "this version widens what was declared and waits for review "+w.Review+": "+w.Text,
		"in the console, under Reviews, one approver vouches for what was asked for on this machine, and another one decides; where there are none yet, `hawser people founder` makes the first two")
}

// Reviews are all that were ever opened, newest first.
func (s *Service) Reviews(ctx context.Context) ([]ReviewState, error) {
	var all []Review
	inForce := map[core.ProductID]core.Hash{}
	err := s.d.View(ctx, func(tx Tx) (err error) {
		if all, err = tx.Reviews(ctx); err != nil {
			return err
		}
		list, err := tx.CurrentDeclarations(ctx)
		for _, p := range list {
			inForce[p.Product] = p.Hash
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read reviews: %w", err)
	}
	slices.SortStableFunc(all, func(a, b Review) int { return b.Asked.Compare(a.Asked) })
	out := make([]ReviewState, len(all))
	for i, r := range all {
		out[i] = ReviewState{Review: r, Superseded: r.Decision == Undecided && inForce[r.Product].String() != r.Against}
		out[i].Changes = s.reviewed(ctx, &all[i])
	}
	return out, nil
}

// reviewed is what a review is about; none when the version before cannot be
// read any more.
func (s *Service) reviewed(ctx context.Context, r *Review) []Change {
	hash, err := core.ParseHash(r.Against)
	if err != nil {
		return nil
	}
	old, err := s.ByHash(ctx, hash)
	if err != nil {
		return nil
	}
	next, err := ParsePolicy(r.Canonical)
	if err != nil {
		return nil
	}
	return Diff(old, next)
}

// VouchForReview makes what was asked for on the machine itself the wish of a
// person who signed in, who by that cannot approve it any more.
func (s *Service) VouchForReview(ctx context.Context, by core.Actor, id string) error {
	now := s.d.Now().UTC().Truncate(time.Microsecond)
	return s.d.Update(ctx, func(tx Tx) error {
		r, current, err := s.undecided(ctx, tx, id)
		if err != nil {
			return err
		}
		switch {
		case onMachine(by):
			return core.E(core.Denied, "review-person", "a person who signed in vouches for a review", "do it in the console, under Reviews")
		case r.Requester() != (core.Actor{}):
			return core.E(core.Conflict, "review-vouched", "this version is asked for by a person already", "another approver decides")
		}
		next, err := ParsePolicy(r.Canonical)
		if err != nil {
			return err
		}
		r.Vouched, r.Voucher = now, by
		if err := tx.PutReview(ctx, *r); err != nil {
			return err
		}
		return tx.Record(ctx, reviewRecord(r, RecordReviewVouched, by, now, Diff(current, next)))
	})
}

// ApproveReview puts the version of a review in force, by another person than
// who wants it. What was held against publishing then is held against it now.
func (s *Service) ApproveReview(ctx context.Context, by core.Actor, id string) (*Policy, error) {
	now := s.d.Now().UTC().Truncate(time.Microsecond)
	var next *Policy
	err := s.d.Update(ctx, func(tx Tx) error {
		r, current, err := s.undecided(ctx, tx, id)
		if err != nil {
			return err
		}
		switch asked := r.Requester(); {
		case onMachine(by):
			return core.E(core.Denied, "review-person", "a review is approved by a person who signed in", "decide in the console, under Reviews")
		case asked == (core.Actor{}):
			return core.E(core.Denied, "review-unvouched", "this version was asked for on the machine itself, where nobody knows by whom", "one person vouches for it first, in the console, under Reviews; another approves")
		case asked == by:
			return core.E(core.Denied, "review-self", "who asked for a version, or vouched for it, cannot approve it", "ask a second person")
		}
		if next, err = ParsePolicy(r.Canonical); err != nil || next.Hash != r.Hash || next.Product != r.Product || next.Version != r.Version {
			return &core.Error{Kind: core.Internal, Reason: "review-altered", Message: "review " + id + " was altered in the database", Hint: "publish the version again, and find out who writes to control.db", Err: err}
		}
		facts, waits, err := s.admit(ctx, tx, next, now)
		if err != nil {
			return err
		}
		if waits == nil || facts == nil {
			return core.E(core.Conflict, "review-nothing", "there is nothing to approve: this version widens nothing, or is in force", "publish it")
		}
		if err := tx.PutDeclaration(ctx, Published{Product: next.Product, Version: next.Version, Hash: next.Hash, Canonical: next.Canonical, At: now}); err != nil {
			return fmt.Errorf("publish %s version %d: %w", next.Product, next.Version, err)
		}
		r.Decision, r.Decided, r.By = Approved, now, by
		if err := tx.PutReview(ctx, *r); err != nil {
			return err
		}
		if err := tx.Record(ctx, reviewRecord(r, RecordReviewApproved, by, now, Diff(current, next))); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{Time: now, Kind: RecordPublished, Actor: by, Product: next.Product, Policy: next.Hash, Facts: append(facts, core.Fact{Name: "review", Value: r.ID})})
	})
	if err != nil {
		return nil, err
	}
	return next, nil
}

// RejectReview ends a review without its version. One person is enough to be
// stricter; who asked takes it back instead.
func (s *Service) RejectReview(ctx context.Context, by core.Actor, id string) error {
	return s.end(ctx, by, id, Rejected, RecordReviewRejected)
}

// TakeReviewBack ends a review because it is wanted no more.
func (s *Service) TakeReviewBack(ctx context.Context, by core.Actor, id string) error {
	return s.end(ctx, by, id, TakenBack, RecordReviewTaken)
}

func (s *Service) end(ctx context.Context, by core.Actor, id string, d Decision, kind core.RecordKind) error {
	now := s.d.Now().UTC().Truncate(time.Microsecond)
	return s.d.Update(ctx, func(tx Tx) error {
		r, current, err := s.undecided(ctx, tx, id)
		if err != nil {
			return err
		}
		next, err := ParsePolicy(r.Canonical)
		if err != nil {
			return err
		}
		r.Decision, r.Decided, r.By = d, now, by
		if err := tx.PutReview(ctx, *r); err != nil {
			return err
		}
		return tx.Record(ctx, reviewRecord(r, kind, by, now, Diff(current, next)))
	})
}

// undecided is a review that somebody may decide, and the policy in force.
func (s *Service) undecided(ctx context.Context, tx Tx, id string) (*Review, *Policy, error) {
	all, err := tx.Reviews(ctx)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(all, func(r Review) bool { return r.ID == id })
	if i < 0 {
		return nil, nil, core.E(core.Unknown, "no-such-review", "there is no such review", "`hawser review list` shows them")
	}
	r := &all[i]
	if r.Decision != Undecided {
		return nil, nil, core.E(core.Conflict, "review-decided", "this review was decided already: "+string(r.Decision), "publish the version again to open a new one")
	}
	stored, err := tx.CurrentDeclaration(ctx, r.Product)
	if err != nil {
		return nil, nil, fmt.Errorf("read the declaration in force: %w", err)
	}
	if stored.Hash.String() != r.Against {
		return nil, nil, core.E(core.Conflict, "review-superseded", "another version came in force since this review was opened", "publish this one again: it is compared with what is in force now")
	}
	current, err := s.parsed(stored)
	return r, current, err
}
