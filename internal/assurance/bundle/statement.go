package bundle

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// format is the version of the form of a bundle.
const format = 1

// Statement is input.json: everything besides the rounds that the verdicts are
// worked out from.
type Statement struct {
	Format int `json:"evidence"`
	// Origin is the ledger that everything stands in.
	Origin string `json:"origin"`
	// First and Last are the rounds of the period, without a gap. Verdicts are
	// of the time at which the last one closed.
	First uint64 `json:"first_round"`
	Last  uint64 `json:"last_round"`
	// Catalogue is the digest of controls, rows and cross-walk.
	Catalogue string          `json:"catalogue"`
	Claims    []Claim         `json:"claims"`
	Input     assurance.Input `json:"input"`
}

// Claim is one public promise of a declaration in force.
type Claim struct {
	Product core.ProductID `json:"product"`
	Say     string         `json:"say"`
	RestsOn []string       `json:"rests_on"`
}

func claimsOf(in []*declaration.Policy) []Claim {
	out := []Claim{}
	for _, p := range in {
		for _, c := range p.Claims {
			out = append(out, Claim{p.Product, c.Say, c.RestsOn})
		}
	}
	return out
}

// judged says how the promises stand.
func (s *Statement) judged(st *assurance.State) []assurance.ClaimState {
	var in []*declaration.Policy
	for _, c := range s.Claims {
		in = append(in, &declaration.Policy{Product: c.Product, Claims: []declaration.Claim{{Say: c.Say, RestsOn: c.RestsOn}}})
	}
	return assurance.ClaimsOf(in, st)
}

// catalogue is what this program judges by; it never changes while it runs.
type catalogue struct {
	crosswalk []byte
	digest    core.Hash
}

var catalogueOnce = sync.OnceValues(func() (catalogue, error) {
	var c catalogue
	var csv bytes.Buffer
	if err := assurance.Crosswalk(&csv); err != nil {
		return c, fmt.Errorf("write the cross-walk: %w", err)
	}
	digest, err := assurance.Digest()
	if err != nil {
		return c, err
	}
	return catalogue{csv.Bytes(), digest}, nil
})

// Seen is what a check was seen to say over a period.
type Seen struct {
	Looks   int // observations
	Passing int // of them
	Failing int
}

// fold is what rounds come to, one after the other.
type fold struct {
	latest       map[string]check.Observation
	proofs       map[string][]check.Proof
	seen         map[string]Seen
	observations int
	trials       int
}

func newFold() *fold {
	return &fold{latest: map[string]check.Observation{}, proofs: map[string][]check.Proof{}, seen: map[string]Seen{}}
}

// round takes a round of the period.
func (f *fold) round(r *check.Round) {
	f.older(r)
	for i := range r.Observations {
		o := &r.Observations[i]
		f.latest[o.Check] = *o
		s := f.seen[o.Check]
		s.Looks++
		switch o.Outcome {
		case check.Pass:
			s.Passing++
		case check.Fail:
			s.Failing++
		case check.Error, check.Empty:
		}
		f.seen[o.Check] = s
		f.observations++
	}
}

// older takes the proofs of a round, and nothing else: between rounds before
// the period there are others that the bundle does not hold, which may hold
// newer observations but no newer proofs.
func (f *fold) older(r *check.Round) {
	for i := range r.Proofs {
		p := &r.Proofs[i]
		list := f.proofs[p.Check]
		if at := slices.IndexFunc(list, func(q check.Proof) bool { return q.Violation == p.Violation }); at >= 0 {
			list[at] = *p
		} else {
			f.proofs[p.Check] = append(list, *p)
		}
		f.trials++
	}
}

// judge works out how everything stood.
func (s *Statement) judge(f *fold) assurance.State {
	in := s.Input
	in.Latest, in.Proofs = f.latest, f.proofs
	return assurance.Judge(in)
}

// differing says which declared checks are not those that a program knows.
func differing(declared, known []assurance.Declared) (out []string) {
	find := func(list []assurance.Declared, id string) *assurance.Declared {
		if i := slices.IndexFunc(list, func(d assurance.Declared) bool { return d.ID == id }); i >= 0 {
			return &list[i]
		}
		return nil
	}
	for i := range declared {
		switch k := find(known, declared[i].ID); {
		case k == nil:
			out = append(out, fmt.Sprintf("check %s is not known", inert(declared[i].ID)))
		case !sameJSON(&declared[i], k):
			out = append(out, fmt.Sprintf("check %s is declared otherwise", inert(declared[i].ID)))
		}
	}
	for i := range known {
		if find(declared, known[i].ID) == nil {
			out = append(out, fmt.Sprintf("check %s is left out", known[i].ID))
		}
	}
	return out
}

func sameJSON(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return cmp.Or(err, err2) == nil && slices.Equal(x, y)
}
