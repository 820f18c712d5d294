package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// founderChecks hold that nobody may more than the ledger says, and that the
// way in of last resort does not stay unseen.
func (s *server) founderChecks() []check.Check {
	return []check.Check{
		{
			ID: "people.recorded", Version: 1, Rows: []string{"2.11"}, Kind: check.Query, MaxAge: check.Critical, // CC 2.11
			Says: "Everybody who may sign in or join has the roles, the trust and the period that the ledger holds of them.",
			Do:   "`hawser people disable PERSON`, and find out who writes to control.db.",
			Look: s.lookAtRecordedPeople,
			Violations: []check.Violation{
				{ID: "role-given", Says: "Gives an administrator the role security in the database behind the program's back.", Do: swapRows(
					`UPDATE person SET roles = 'administrator,security' WHERE state = 'active'`, `UPDATE person SET roles = 'administrator' WHERE state = 'active'`)},
				{ID: "person-added", Says: "Writes a third administrator into the database behind the program's back.", Do: swapRows(
					`INSERT INTO person SELECT 'pforgedforged', randomblob(16), state, roles, approver, approver_us, founder, details, NULL, password, totp, totp_step, invited_us, inviter_kind,
						inviter_id, joined_us, disabled_us, period_from_us, period_until_us FROM person WHERE state = 'active' LIMIT 1`,
					`DELETE FROM person WHERE id = 'pforgedforged'`)},
				{ID: "period-prolonged", Says: "Invites an assessor and writes a later end of the period into the database behind the program's back.", Do: prolongPeriod},
			},
		},
		{
			ID: "founders.reviewed", Version: 1, Rows: []string{"2.11"}, Kind: check.Query, MaxAge: check.Critical, // CC 2.11
			Says: "Whenever both founders were ended from the machine itself, two people of the console have reviewed it.",
			Do:   "Ask who did it, and why; then let two people review it on the page People. If nobody of yours did it, somebody has taken over the server.",
			Look: s.lookAtRefoundings,
			Violations: []check.Violation{{
				ID: "founders-replaced", Says: "Ends both founders through the local socket.", Do: own(replaceFounders),
			}},
		},
	}
}

// recorded is what the ledger holds of a person.
type recorded struct {
	roles    string
	approver bool
	founder  bool
	from     string // of the period; "" where there is none
	until    string
	joined   bool
	ended    bool
}

// recordedPeople is what the ledger holds of everybody, by staff id.
func (s *server) recordedPeople(ctx context.Context) (map[access.PersonID]*recorded, error) {
	all, err := s.staff.all(ctx, s.ledger)
	if err != nil {
		return nil, err
	}
	out := map[access.PersonID]*recorded{}
	for i := range all {
		r := &all[i].Record
		if r.Kind == access.RecordRefounded {
			for id := range strings.SplitSeq(factOf(r, "founders"), ",") {
				if p := out[access.PersonID(id)]; p != nil {
					p.founder = false
				}
			}
			continue
		}
		id := access.PersonID(factOf(r, "person"))
		if out[id] == nil {
			out[id] = &recorded{}
		}
		out[id].follow(r)
	}
	return out, nil
}

// follow takes the next record of a person.
func (p *recorded) follow(r *core.Record) {
	switch r.Kind {
	case access.RecordInvited:
		p.from, p.until = factOf(r, "from"), factOf(r, "until")
	case access.RecordJoined:
		p.joined = true
	case access.RecordDisabled:
		p.ended = true
	}
	switch r.Kind {
	case access.RecordInvited, access.RecordJoined:
		p.founder = factOf(r, "founder") == "yes"
		fallthrough
	case access.RecordRoles:
		p.roles, p.approver = factOf(r, "roles"), factOf(r, "approver") == "yes"
	}
}

func (s *server) lookAtRecordedPeople(ctx context.Context, l *check.Look) error {
	var rows []access.PersonRow
	if err := s.store.View(ctx, func(tx *store.Tx) (err error) { rows, err = tx.People(ctx); return err }); err != nil {
		return err
	}
	known, err := s.recordedPeople(ctx)
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: person")
	l.Touch("source", "ledger, records of people")
	const source = "people who may sign in or join, by the ledger"
	seen := map[access.PersonID]bool{}
	for i := range rows {
		p := &rows[i]
		seen[p.ID] = true
		if p.State == access.Disabled {
			continue
		}
		l.Expect(source, 1)
		if why := differs(p, known[p.ID]); why != "" {
			l.Fail(string(p.ID), "%s", why)
		} else {
			l.Pass(1)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if k := known[id]; !seen[id] && !k.ended {
			l.Expect(source, 1)
			l.Fail(string(id), "is in the ledger, and not in the register")
		}
	}
	return nil
}

// differs says what a row has that the ledger does not hold, if anything.
func differs(p *access.PersonRow, k *recorded) string {
	if k == nil {
		return "nobody invited them: the ledger has no record of it"
	}
	var roles []string
	for _, r := range p.Roles {
		roles = append(roles, string(r))
	}
	period := [2]string{}
	if !p.Period.IsZero() {
		period = [2]string{p.Period.From.Format(time.RFC3339), p.Period.Until.Format(time.RFC3339)}
	}
	switch {
	case k.ended:
		return "was disabled, by the ledger, and is " + string(p.State)
	case p.State == access.Active && !k.joined:
		return "has not joined, by the ledger, and is active"
	case strings.Join(roles, ",") != k.roles:
		return fmt.Sprintf("has the roles %s, by the ledger %s", strings.Join(roles, ","), k.roles)
	case p.Approver != k.approver:
		return "is an approver in one of register and ledger only"
	case p.Founder != k.founder:
		return "is a founder in one of register and ledger only"
	case period != [2]string{k.from, k.until}:
		return fmt.Sprintf("is to look from %s until %s, by the ledger from %s until %s", period[0], period[1], k.from, k.until)
	}
	return ""
}

// prolongPeriod invites an assessor and gives the account a year more.
func prolongPeriod(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	now := t.Now().UTC()
	if err := t.Call(ctx, "POST", "/v1/people/assessor", api.AssessorRequest{From: now.AddDate(0, -1, 0), Until: now.AddDate(0, 1, 0)}, nil); err != nil {
		return nil, err
	}
	return swapRows(`UPDATE person SET period_until_us = period_until_us + 31536000000000 WHERE period_until_us IS NOT NULL`,
		`UPDATE person SET period_until_us = period_until_us - 31536000000000 WHERE period_until_us IS NOT NULL`)(ctx, t)
}

// lookAtRefoundings goes by the ledger: what the table says of reviews is for
// pages.
func (s *server) lookAtRefoundings(ctx context.Context, l *check.Look) error {
	all, err := s.staff.all(ctx, s.ledger)
	if err != nil {
		return err
	}
	reviewed := map[string][]core.Actor{}
	for i := range all {
		r := &all[i].Record
		if n := factOf(r, "number"); r.Kind == access.RecordReviewed && !slices.Contains(reviewed[n], r.Actor) {
			reviewed[n] = append(reviewed[n], r.Actor)
		}
	}
	l.Touch("source", "ledger, records of kind founders-ended and founders-reviewed")
	l.Touch("table", "control.db: refounding")
	var kept []access.Refounding
	if err := s.store.View(ctx, func(tx *store.Tx) (err error) { kept, err = tx.Refoundings(ctx); return err }); err != nil {
		return err
	}
	n := 0
	for i := range all {
		r := &all[i].Record
		if r.Kind != access.RecordRefounded {
			continue
		}
		n++
		number := factOf(r, "number")
		l.Expect("the register itself, and each time both founders were ended, by the ledger", 1)
		l.Holds(len(reviewed[number]) >= 2, "end of the founders "+number, "%s ended both founders at %s, and %d of 2 people have reviewed it",
			r.Actor, r.Time.UTC().Format(time.RFC3339), len(reviewed[number]))
	}
	l.Expect("the register itself, and each time both founders were ended, by the ledger", 1)
	l.Holds(len(kept) == n, "register", "%d ends of the founders are in the register, %d in the ledger", len(kept), n)
	return nil
}

// replaceFounders ends both founders of the twin; what takes it back is that
// two others join and review it.
func replaceFounders(ctx context.Context, t *twin) (func(context.Context) error, error) {
	if err := t.Call(ctx, "POST", "/v1/people/refound", api.ReasonRequest{Reason: "a trial ends both founders"}, nil); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := t.person(ctx); err != nil {
			return err
		}
		know := t.s.people.service()
		all, err := know.People(ctx)
		if err != nil {
			return err
		}
		for _, p := range all {
			if p.State == access.Active && p.Founder {
				if err := know.Review(ctx, p.ID.Actor()); err != nil {
					return err
				}
			}
		}
		return nil
	}, nil
}
