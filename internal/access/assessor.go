package access

import (
	"context"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// MaxPeriod is the longest period of an assessor.
const MaxPeriod = 400 * 24 * time.Hour

// Period is what an assessor's account is for: it shows what is proved from
// the beginning on, and ends with the end. The zero Period is that of people
// who are no assessors.
type Period struct {
	From  time.Time
	Until time.Time // the first moment after it
}

// IsZero reports whether there is none.
func (p Period) IsZero() bool { return p.From.IsZero() && p.Until.IsZero() }

// Contains reports whether t lies in the period. A period of which one end is
// missing contains nothing.
func (p Period) Contains(t time.Time) bool {
	return !p.From.IsZero() && !p.Until.IsZero() && !t.Before(p.From) && t.Before(p.Until)
}

// ends is when sessions of an account of this period end at the latest.
func (p Period) ends(latest time.Time) time.Time {
	if !p.IsZero() && p.Until.Before(latest) {
		return p.Until
	}
	return latest
}

// assessorMay is all that an assessor may do, whatever the role grants: see
// what is proved, what it rests on and the ledger; draw samples; take the
// evidence along. No data, no people, no change.
func assessorMay() []string {
	return []string{"page.view", "check.list", "ledger.read", "evidence.export", "evidence.sample"}
}

// allowed reports whether a period permits what a permission names, at a time.
func (p Period) allowed(permission string, at time.Time) bool {
	return p.IsZero() || p.Contains(at) && slices.Contains(assessorMay(), permission)
}

// mayEnter reports whether a person's means open anything at a time. The end
// of an assessor's period is read off here, each time: no job has to have run.
func (p PersonRow) mayEnter(now time.Time) bool {
	return p.State == Active && (p.Period.IsZero() || p.Period.Contains(now))
}

// assessor reports whether a person is one.
func (p PersonRow) assessor() bool { return !p.Period.IsZero() }

// InviteAssessor makes a set-up link like Invite, for somebody who sees what
// is proved in one period, changes nothing, and whose account ends with it. An
// administrator asks, or somebody on the machine itself.
func (s *Service) InviteAssessor(ctx context.Context, by core.Actor, p Period) (string, error) {
	p.From, p.Until = p.From.UTC().Truncate(time.Second), p.Until.UTC().Truncate(time.Second)
	now := s.now()
	switch {
	case p.From.IsZero() || p.Until.IsZero() || !p.From.Before(p.Until):
		return "", core.E(core.Invalid, "period", "the period has no beginning or no end after it", "give both days")
	case p.Until.Sub(p.From) > MaxPeriod:
		return "", core.E(core.Invalid, "period-long", "the period is longer than 400 days", "invite once for each period")
	case p.From.After(now):
		return "", core.E(core.Invalid, "period-later", "the period begins later", "invite when it has begun: a link works for two days only")
	case !p.Until.After(now):
		return "", core.E(core.Invalid, "period-over", "the period is over, and the account with it", "let it end on the day by which the assessment is to be done")
	}
	return s.invite(ctx, by, PersonRow{Roles: []Role{Auditor}, Period: p}, func(tx Tx, all []PersonRow) error {
		if local(by) {
			return mustHaveFounders(all)
		}
		return s.mayInvite(ctx, tx, by, all)
	})
}

// endAssessors disables the accounts whose period is over. They have opened
// nothing since it was.
func (s *Service) endAssessors(ctx context.Context, tx Tx, now time.Time) error {
	all, err := tx.People(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if !p.assessor() || p.State == Disabled || now.Before(p.Period.Until) {
			continue
		}
		if err := s.end(ctx, tx, core.Job("people"), p, nil, core.Fact{Name: "cause", Value: "period-over"}); err != nil {
			return err
		}
	}
	return nil
}

// factsPeriod says in the ledger for when an assessor was invited.
func factsPeriod(p Period) []core.Fact {
	if p.IsZero() {
		return nil
	}
	return []core.Fact{{Name: "from", Value: p.From.Format(time.RFC3339)}, {Name: "until", Value: p.Until.Format(time.RFC3339)}}
}
