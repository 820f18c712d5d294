package declaration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// RecordPublished is the kind of record of a published version. Its facts:
// version, previous_version (0 for the first), widens, narrows, fields, groups,
// level (of strictness, see Factors), support_until.
const RecordPublished core.RecordKind = "declaration-published"

// Published is one version of a product's declaration as it is stored.
type Published struct {
	Product   core.ProductID
	Version   int
	Hash      core.Hash // of Canonical
	Canonical []byte
	At        time.Time // UTC, microseconds
}

// Tx is what declarations need from storage.
type Tx interface {
	// PutDeclaration adds a version. A version or hash that exists is an error.
	PutDeclaration(ctx context.Context, p Published) error
	// CurrentDeclaration is a product's highest version; core.Unknown when
	// there is none.
	CurrentDeclaration(ctx context.Context, product core.ProductID) (Published, error)
	// CurrentDeclarations is the highest version of every product, by product.
	CurrentDeclarations(ctx context.Context) ([]Published, error)
	// Declarations is every version of a product, oldest first.
	Declarations(ctx context.Context, product core.ProductID) ([]Published, error)
	// DeclarationByHash is the version with that hash; core.Unknown when there
	// is none.
	DeclarationByHash(ctx context.Context, hash core.Hash) (Published, error)
	// FirstDeclared is when a product's first version was published;
	// core.Unknown when there is none.
	FirstDeclared(ctx context.Context, product core.ProductID) (time.Time, error)
	// PutReview keeps a review, new or decided.
	PutReview(ctx context.Context, r Review) error
	// Reviews are all that were ever opened.
	Reviews(ctx context.Context) ([]Review, error)
	// Record hands evidence to the ledger in the same transaction.
	Record(ctx context.Context, r core.Record) error
}

// Deps is what a Service stands on. All of it is required.
type Deps struct {
	Update      func(ctx context.Context, fn func(Tx) error) error
	View        func(ctx context.Context, fn func(Tx) error) error
	Now         func() time.Time
	Environment core.Environment
}

// Service publishes declarations and gives out the policies in force.
type Service struct {
	d Deps

	mu       sync.Mutex
	policies map[core.Hash]*Policy // parsed ones, at most maxPolicies
}

// maxPolicies bounds the parsed policies in memory. Readings name the version
// that they were judged by, so that a long history is read by hash.
const maxPolicies = 256

// NewService makes a Service. It fails when a dependency is missing.
func NewService(d Deps) (*Service, error) {
	if d.Update == nil || d.View == nil || d.Now == nil {
		return nil, errors.New("declaration service: Update, View and Now are required")
	}
	if !d.Environment.Valid() {
		return nil, fmt.Errorf("declaration service: environment %q is neither test nor live", d.Environment)
	}
	return &Service{d: d, policies: map[core.Hash]*Policy{}}, nil
}

// Publish puts a version of a product's declaration in force and records it in
// the same transaction. Publishing the version in force again changes nothing.
//
// CC 1.17, 7.10: the version number grows and old versions stay.
// CC 7.11: the support date never moves earlier.
// CC 4.12: on a live installation a version that widens anything opens a review
// and is refused (core.Unready, "widening") until a second person approved it;
// a product's first version widens nothing.
// CC 4.6: what has already ended is not published ("over").
func (s *Service) Publish(ctx context.Context, by core.Actor, p *Policy) error {
	if p == nil {
		return core.E(core.Invalid, "declaration-empty", "there is no declaration to publish", "compile one first")
	}
	// The bytes are what is stored, hashed and shown; nothing else counts.
	q, err := ParsePolicy(p.Canonical)
	if err != nil {
		return err
	}
	if q.Hash != p.Hash || q.Product != p.Product || q.Version != p.Version {
		return core.E(core.Invalid, "policy-altered", "the policy was changed after it was compiled", "compile the declaration again")
	}
	now := s.d.Now().UTC().Truncate(time.Microsecond)
	var blocked *Waits
	err = s.d.Update(ctx, func(tx Tx) error {
		facts, widens, err := s.admit(ctx, tx, q, now)
		if err != nil || facts == nil {
			return err
		}
		if widens != nil {
			blocked, err = s.waitFor(ctx, tx, by, q, widens.from, widens.changes, now)
			return err
		}
		if err := tx.PutDeclaration(ctx, Published{Product: q.Product, Version: q.Version, Hash: q.Hash, Canonical: q.Canonical, At: now}); err != nil {
			return fmt.Errorf("publish %s version %d: %w", q.Product, q.Version, err)
		}
		return tx.Record(ctx, core.Record{Time: now, Kind: RecordPublished, Actor: by, Product: q.Product, Policy: q.Hash, Facts: facts})
	})
	if err == nil && blocked != nil {
		return blocked.err()
	}
	return err
}

// widening is a step that waits for a second person.
type widening struct {
	from    *Policy
	changes []Change
}

// admit holds a version against the rules of publishing. It returns the facts
// of its record, none when the version is already in force, and what it widens
// where that waits for a second person.
func (s *Service) admit(ctx context.Context, tx Tx, q *Policy, now time.Time) ([]core.Fact, *widening, error) {
	if err := over(q, now); err != nil {
		return nil, nil, err
	}
	stored, err := tx.CurrentDeclaration(ctx, q.Product)
	if core.KindOf(err) == core.Unknown && err != nil {
		if q.SupportUntil.Before(now) {
			return nil, nil, core.E(core.Conflict, ruleOver, fmt.Sprintf("support for %s would already be over: %s", q.Product, date(q.SupportUntil)), "set `support.security_updates_until` to a day to come")
		}
		return published(q, 0, nil), nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the declaration in force: %w", err)
	}
	if stored.Hash == q.Hash {
		return nil, nil, nil
	}
	current, err := s.parsed(stored)
	if err != nil {
		return nil, nil, err
	}
	if q.Version <= current.Version {
		return nil, nil, core.E(core.Conflict, ruleVersionGrows, fmt.Sprintf("version %d of %s is in force; this is version %d and says something else", current.Version, q.Product, q.Version), fmt.Sprintf("set `version: %d`", current.Version+1))
	}
	if q.SupportUntil.Before(current.SupportUntil) {
		return nil, nil, core.E(core.Conflict, ruleNotEarlier, fmt.Sprintf("support was promised until %s; this version ends it on %s", date(current.SupportUntil), date(q.SupportUntil)), "restore the date, or choose a later one")
	}
	changes := Diff(current, q)
	facts := published(q, current.Version, changes)
	if s.d.Environment == core.Live && Widens(changes) {
		return facts, &widening{current, changes}, nil
	}
	return facts, nil, nil
}

// over refuses what has passed.
func over(p *Policy, now time.Time) error {
	for _, s := range p.Shares {
		if s.ContractUntil.Before(now) {
			return core.E(core.Conflict, ruleOver, fmt.Sprintf("the contract of the share %s ended on %s", s.Name, date(s.ContractUntil)), "remove the share, or set the new contract's end")
		}
	}
	if p.Legacy != nil && p.Legacy.Until.Before(now) {
		return core.E(core.Conflict, ruleOver, "the door for old devices closed on "+date(p.Legacy.Until), "remove `legacy`")
	}
	return nil
}

func published(p *Policy, previous int, changes []Change) []core.Fact {
	var widens, narrows int
	for _, c := range changes {
		switch c.Direction {
		case Widening:
			widens++
		case Narrowing:
			narrows++
		case Neutral:
		}
	}
	return []core.Fact{
		{Name: "version", Value: strconv.Itoa(p.Version)},
		{Name: "previous_version", Value: strconv.Itoa(previous)},
		{Name: "widens", Value: strconv.Itoa(widens)},
		{Name: "narrows", Value: strconv.Itoa(narrows)},
		{Name: "fields", Value: strconv.Itoa(len(p.Fields))},
		{Name: "groups", Value: strconv.Itoa(len(p.Groups))},
		{Name: "level", Value: p.Factors().Level.String()},
		{Name: "support_until", Value: date(p.SupportUntil)},
	}
}

// listed names the first widening changes.
func listed(changes []Change) string {
	const most = 5
	var out []string
	more := 0
	for _, c := range changes {
		switch {
		case c.Direction != Widening:
		case len(out) == most:
			more++
		default:
			out = append(out, c.Where+": "+c.Text)
		}
	}
	s := strings.Join(out, "; ")
	if more > 0 {
		s += fmt.Sprintf("; and %d more", more)
	}
	return s
}

// Current is the policy of a product in force; core.Unknown when it has none.
func (s *Service) Current(ctx context.Context, product core.ProductID) (*Policy, error) {
	return s.one(ctx, func(tx Tx) (Published, error) { return tx.CurrentDeclaration(ctx, product) })
}

// ByHash is the policy with that hash, of whatever version; core.Unknown when
// there is none.
func (s *Service) ByHash(ctx context.Context, hash core.Hash) (*Policy, error) {
	if p := s.cached(hash); p != nil {
		return p, nil
	}
	return s.one(ctx, func(tx Tx) (Published, error) { return tx.DeclarationByHash(ctx, hash) })
}

// All is the policy in force of every product, by product.
func (s *Service) All(ctx context.Context) ([]*Policy, error) {
	return s.many(ctx, func(tx Tx) ([]Published, error) { return tx.CurrentDeclarations(ctx) })
}

// Versions is every version of a product, oldest first; none when it has none.
func (s *Service) Versions(ctx context.Context, product core.ProductID) ([]*Policy, error) {
	return s.many(ctx, func(tx Tx) ([]Published, error) { return tx.Declarations(ctx, product) })
}

// Version is a version of a product's declaration and when it came in force.
type Version struct {
	Policy *Policy
	Since  time.Time // UTC, microseconds
}

// History is every version of a product with its time, oldest first; none when
// the product has none.
func (s *Service) History(ctx context.Context, product core.ProductID) ([]Version, error) {
	var since []time.Time
	list, err := s.many(ctx, func(tx Tx) ([]Published, error) {
		stored, err := tx.Declarations(ctx, product)
		since = since[:0]
		for _, x := range stored {
			since = append(since, x.At)
		}
		return stored, err
	})
	if err != nil {
		return nil, err
	}
	out := make([]Version, len(list))
	for i, p := range list {
		out[i] = Version{p, since[i]}
	}
	return out, nil
}

// FirstPublished is when the first version of a product was published: no
// reading of it can be older. core.Unknown when there is none.
func (s *Service) FirstPublished(ctx context.Context, product core.ProductID) (time.Time, error) {
	var at time.Time
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		at, err = tx.FirstDeclared(ctx, product)
		return err
	})
	return at, err
}

func (s *Service) one(ctx context.Context, get func(Tx) (Published, error)) (*Policy, error) {
	list, err := s.many(ctx, func(tx Tx) ([]Published, error) {
		p, err := get(tx)
		return []Published{p}, err
	})
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func (s *Service) many(ctx context.Context, get func(Tx) ([]Published, error)) ([]*Policy, error) {
	var stored []Published
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		stored, err = get(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]*Policy, 0, len(stored))
	for _, x := range stored {
		p, err := s.parsed(x)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// parsed is the policy of a stored version. What no longer has the hash that
// it was stored under was changed behind our back.
func (s *Service) parsed(x Published) (*Policy, error) {
	if p := s.cached(x.Hash); p != nil {
		return p, nil
	}
	p, err := ParsePolicy(x.Canonical)
	if err != nil || p.Hash != x.Hash || p.Product != x.Product || p.Version != x.Version {
		return nil, &core.Error{
			Kind: core.Internal, Reason: "policy-altered", Message: fmt.Sprintf("version %d of %s was altered in the database", x.Version, x.Product),
			Hint: "restore the database from a backup", Err: err,
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.policies) >= maxPolicies {
		clear(s.policies)
	}
	s.policies[p.Hash] = p
	return p, nil
}

func (s *Service) cached(hash core.Hash) *Policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policies[hash]
}
