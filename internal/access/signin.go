package access

import (
	"context"
	"errors"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// Password signs in with a mail address, a password and a one-time code, all
// at once: nobody learns which of them was wrong, nor whether there is such an
// account. Administrators and approvers are sent to their passkey.
func (s *Service) Password(ctx context.Context, f From, old, mail, password, code string) (SignedIn, error) {
	return s.twoFactors(ctx, f, old, mail, password, code, gate.TOTP)
}

// Recovery is Password with a recovery code in place of the one-time code.
func (s *Service) Recovery(ctx context.Context, f From, old, mail, password, code string) (SignedIn, error) {
	return s.twoFactors(ctx, f, old, mail, password, code, gate.RecoveryCode)
}

// notRight is the one text for every pair that is not right.
func notRight() error {
	return core.E(core.Denied, "not-right", "mail address, password and code do not belong together", "try again; a one-time code works once, so wait for the next one")
}

// errNotRight ends the transaction of such a pair without a trace.
var errNotRight = errors.New("not right")

func (s *Service) twoFactors(ctx context.Context, f From, old, mail, password, code string, second gate.Means) (SignedIn, error) {
	p, account, err := s.byMail(ctx, mail)
	if err != nil {
		return SignedIn{}, err
	}
	first, err := s.d.Gate.Open(ctx, f.attempt(gate.Password, account))
	if err != nil {
		return SignedIn{}, err
	}
	other, err := s.d.Gate.Open(ctx, f.attempt(second, account))
	if err != nil {
		return SignedIn{}, err
	}
	right, err := s.verifyPassword(ctx, first, account, p.Password, password, s.knows(f, account))
	if err != nil {
		return SignedIn{}, err
	}
	var in SignedIn
	err = s.d.Update(ctx, func(tx Tx) error {
		var ok bool
		var err error
		if second == gate.TOTP {
			ok, err = s.useTOTP(ctx, tx, other, account, p, code)
		} else {
			ok, err = s.verifyRecovery(ctx, tx, other, account, p.ID, code)
		}
		switch {
		case err != nil:
			return err
		case !right || !ok:
			return errNotRight
		case strong(p.Roles, p.Approver):
			return core.E(core.Denied, "passkey-only", "your roles sign in with a passkey", "use the passkey that you have added; without one, ask an administrator for a new link")
		}
		if second == gate.RecoveryCode {
			if err := s.countCodes(ctx, tx, p); err != nil {
				return err
			}
		}
		in, err = s.open(ctx, tx, p, f, []gate.Means{gate.Password, second}, old)
		return err
	})
	if errors.Is(err, errNotRight) {
		s.refused(p.ID)
		err = notRight()
		// Neither is given back when one is wrong: which it was shows nowhere.
		return SignedIn{}, errors.Join(err, first.Wrong(ctx), other.Wrong(ctx))
	}
	if err != nil && core.ReasonOf(err) != "passkey-only" {
		return SignedIn{}, err
	}
	return in, errors.Join(err, first.Right(ctx), other.Right(ctx))
}

// byMail finds the person of a mail address, and the account as the gate knows
// it. Of nobody it is an empty row and an account of its own.
func (s *Service) byMail(ctx context.Context, mail string) (PersonRow, string, error) {
	clean, ok := cleanMail(mail)
	if !ok {
		clean = ""
	}
	hash := s.lookup(clean)
	p, err := view(ctx, s, func(tx Tx) (PersonRow, error) { return tx.PersonByLookup(ctx, hash) })
	switch {
	case core.KindOf(err) == core.Unknown, err == nil && !p.mayEnter(s.now()):
		return PersonRow{}, "mail:" + hash.String(), nil
	case err != nil:
		return PersonRow{}, "", err
	}
	return p, string(p.ID), nil
}

// useTOTP compares a code and uses its time step up.
func (s *Service) useTOTP(ctx context.Context, tx Tx, t *gate.Ticket, account string, p PersonRow, code string) (bool, error) {
	var secret []byte
	if !p.TOTP.IsZero() {
		var err error
		if secret, err = p.TOTP.Open(s.d.Keys, p.Subject, sealTOTP); err != nil {
			return false, err
		}
		defer clear(secret)
	}
	step, ok, err := s.verifyTOTP(t, account, secret, p.TOTPStep, code)
	if err != nil {
		return false, err
	}
	// ASVS 6.5.1: written in the very transaction that it opens, so that of two
	// sign-ins with one code one fails.
	fresh, err := tx.UseTOTPStep(ctx, p.ID, step)
	return ok && fresh, err
}

// countCodes tells a person whose recovery codes run out.
func (s *Service) countCodes(ctx context.Context, tx Tx, p PersonRow) error {
	n, err := tx.RecoveryLeft(ctx, p.ID)
	if err != nil || n > recoveryScarce {
		return err
	}
	return s.tell(ctx, tx, p.ID, NoticeCodesScarce)
}

// refused counts refused sign-ins of people that exist, by person and hour;
// Tick writes them down. Writing each at once would take longer for an account
// that exists than for one that does not.
func (s *Service) refused(p PersonID) {
	if !p.Valid() {
		return
	}
	key := refusalKey{p, s.now().Truncate(time.Hour)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, counted := s.refusals[key]; counted || len(s.refusals) < maxPeople {
		s.refusals[key]++
	}
}

type refusalKey struct {
	person PersonID
	hour   time.Time
}

// Tell hears from the gate that an account is being guessed at. It takes as
// long for accounts that are nobody's: Tick tells the person.
func (s *Service) Tell(_ context.Context, n gate.Notice) {
	id := PersonID(n.Account)
	if !id.Valid() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.guessed) < maxPeople {
		s.guessed[id] = true
	}
}

// takeCounts gives what is to be written down since the last time.
func (s *Service) takeCounts() (map[refusalKey]int, map[PersonID]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counted, guessed := s.refusals, s.guessed
	s.refusals, s.guessed = map[refusalKey]int{}, map[PersonID]bool{}
	return counted, guessed
}
