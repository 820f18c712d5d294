package server

import (
	"context"
	"slices"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/store"
)

// factorChecks hold that who has a passkey came in with it (CC 1.11).
func (s *server) factorChecks() []check.Check {
	const openAs = `INSERT INTO person_session (token, person, started_us, seen_us, ends_us, passkey_us, verified_us, means, browser)
		SELECT zeroblob(32), id, invited_us, invited_us + 300000000000000, invited_us + 300000000000000, `
	const one = ` WHERE id = (SELECT min(id) FROM person WHERE state = 'active' AND founder = 1)`
	const end = `DELETE FROM person_session WHERE token = zeroblob(32)`
	return []check.Check{{
		ID: "signin.passkey-used", Version: 1, Rows: []string{"1.11"}, Kind: check.Query, MaxAge: check.Critical,
		Says: "Every session of an administrator or approver was opened with a passkey, every other one with a passkey or with two factors, and nobody has one who is disabled.",
		Do:   "`hawser people disable PERSON` ends the sessions; then find out who writes to control.db, or report a vulnerability (SECURITY.md).",
		Look: s.lookAtPeoplesSessions,
		Violations: []check.Violation{
			{ID: "without-passkey", Says: "Opens a session of an administrator with a password and a one-time code behind the program's back.", Do: swapRows(
				openAs+`NULL, invited_us, 'password,totp', randomblob(40) FROM person`+one, end)},
			{ID: "one-factor", Says: "Opens a session of somebody of support with a password alone behind the program's back.", Do: swapRows(
				`UPDATE person SET roles = 'support', approver = 0`+one+`; `+openAs+`NULL, invited_us, 'password', randomblob(40) FROM person`+one,
				end+`; UPDATE person SET roles = 'administrator', approver = 1`+one)},
		},
	}}
}

// lookAtPeoplesSessions holds what each session was opened with against whose
// it is. People without a session count, too: so it is known of how many.
func (s *server) lookAtPeoplesSessions(ctx context.Context, l *check.Look) error {
	return s.store.View(ctx, func(tx *store.Tx) error {
		all, err := tx.People(ctx)
		if err != nil {
			return err
		}
		l.Touch("table", "control.db: person, person_session")
		for i := range all {
			p := &all[i]
			sessions, err := tx.Sessions(ctx, p.ID)
			if err != nil {
				return err
			}
			if p.State != access.Active && len(sessions) == 0 {
				continue
			}
			l.Expect("register of people", 1)
			why := ""
			for _, x := range sessions {
				if why == "" && l.Now.Before(x.Ends) {
					why = missesFactor(p, &x)
				}
			}
			l.Holds(why == "", string(p.ID), "%s", why)
		}
		return nil
	})
}

// missesFactor says what is wrong with how a session was opened, if anything.
func missesFactor(p *access.PersonRow, x *access.SessionRow) string {
	has := func(m gate.Means) bool { return slices.Contains(x.Means, m) }
	strong := p.Approver || slices.Contains(p.Roles, access.Administrator)
	switch {
	case p.State != access.Active:
		return "has a session and is not active"
	case has(gate.Passkey) && !x.Passkey.IsZero():
		return ""
	case strong:
		return "has a session, and showed no passkey, though administrators and approvers must"
	case has(gate.Password) && (has(gate.TOTP) || has(gate.RecoveryCode)):
		return ""
	}
	return "has a session that was opened with one factor"
}
