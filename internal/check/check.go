package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is how a check looks (mission, second table).
type Kind string

// The kinds of check.
const (
	Query       Kind = "query"       // at the program's own live state
	Probe       Kind = "probe"       // from outside, as a stranger
	Bench       Kind = "bench"       // at a device on a bench, bound to a firmware digest
	Artefact    Kind = "artefact"    // at a signed file, a test result, a generated page
	Attestation Kind = "attestation" // at a person's signed statement, which expires
)

// Kinds are all kinds, the one that proves most first.
func Kinds() []Kind { return []Kind{Query, Probe, Bench, Artefact, Attestation} }

// Check is one thing that the program looks at, again and again. A Check
// without Look is not built yet; it keeps its rows unproven and says why.
type Check struct {
	// ID is stable and names area and thing: "listeners.cleartext".
	ID string
	// Version grows when the check looks differently. Observations and proofs
	// of an older version count no more.
	Version int
	// Rows are the rows of the mission that stand on it: "2.8".
	Rows []string
	Kind Kind
	// Says is what must be true, in one plain sentence.
	Says string
	// Do is what to do when it is not.
	Do string
	// MaxAge is how long an observation counts.
	MaxAge time.Duration
	// Look looks. An error means that it could not, not that something is wrong.
	Look func(context.Context, *Look) error
	// Missing says why there is no Look.
	Missing string
	// Violations are what the check must catch, each tried on a twin.
	Violations []Violation
}

// Critical is the longest age of what security stands on from one minute to
// the next: listeners, revocations, journal, keyring, the way staff sign in.
const Critical = time.Minute

// The ages of the other kinds, where a check names none of its own.
const (
	QueryAge    = time.Hour
	ProbeAge    = 24 * time.Hour
	ArtefactAge = 7 * 24 * time.Hour
)

// Every is how often a check is run, so that one missed run does not make its
// evidence stale: also not where a product asks for a quarter of its age.
func (c *Check) Every() time.Duration {
	if c.MaxAge <= Critical {
		return c.MaxAge / 3
	}
	return max(c.MaxAge/10, Critical/3)
}

// Built reports whether the check can look.
func (c *Check) Built() bool { return c.Look != nil }

// Valid says what is wrong with how a check is declared.
func (c *Check) Valid() error {
	switch {
	case c.ID == "" || c.Says == "" || c.Version < 1 || len(c.Rows) == 0:
		return fmt.Errorf("check %q: ID, Version, Rows and Says are required", c.ID)
	case !slices.Contains(Kinds(), c.Kind):
		return fmt.Errorf("check %s: %q is no kind", c.ID, c.Kind)
	case c.Look == nil && c.Missing == "":
		return fmt.Errorf("check %s: it cannot look and does not say why", c.ID)
	case c.Look == nil:
		return nil
	case c.Missing != "":
		return fmt.Errorf("check %s: it looks, and says that it cannot", c.ID)
	case c.Do == "" || c.MaxAge < time.Second:
		return fmt.Errorf("check %s: Do and MaxAge are required", c.ID)
	case c.Kind != Attestation && len(c.Violations) == 0:
		return fmt.Errorf("check %s: no violation, so it could never be seen red", c.ID)
	}
	for _, v := range c.Violations {
		if v.ID == "" || v.Says == "" || v.Do == nil {
			return fmt.Errorf("check %s: a violation has no id, no words or no deed", c.ID)
		}
	}
	return nil
}

// Registry is all checks of a program, by id.
type Registry struct {
	checks []*Check
	byID   map[string]*Check
}

// NewRegistry takes the checks of all capabilities. Two of one id, or one that
// is not valid, is an error.
func NewRegistry(all ...[]Check) (*Registry, error) {
	r := &Registry{byID: map[string]*Check{}}
	var errs []error
	for _, some := range all {
		for i := range some {
			c := some[i]
			if err := c.Valid(); err != nil {
				errs = append(errs, err)
			}
			if r.byID[c.ID] != nil {
				errs = append(errs, fmt.Errorf("check %s: there are two of this id", c.ID))
			}
			r.checks = append(r.checks, &c)
			r.byID[c.ID] = &c
		}
	}
	slices.SortFunc(r.checks, func(a, b *Check) int { return strings.Compare(a.ID, b.ID) })
	return r, errors.Join(errs...)
}

// All are the checks by id.
func (r *Registry) All() []*Check { return r.checks }

// Find is the check of that id, or nil.
func (r *Registry) Find(id string) *Check { return r.byID[id] }

// OfRow are the checks that a row stands on, by id.
func (r *Registry) OfRow(row string) []*Check {
	var out []*Check
	for _, c := range r.checks {
		if slices.Contains(c.Rows, row) {
			out = append(out, c)
		}
	}
	return out
}
