package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/seal"
)

// Invitation is what the set-up page shows to the holder of a link.
type Invitation struct {
	Roles       []Role
	Approver    bool
	Founder     bool
	Period      Period // of an assessor; zero: not one
	Waits       bool   // an approver, who approves nothing for ApproverWaits
	Until       time.Time
	MayPassword bool // password and one-time codes are enough for these roles
}

// maxReplays bounds what one used link can put into the ledger.
const maxReplays = 3

// Setup looks at a set-up link without using it: programs that look at mail
// open links too.
func (s *Service) Setup(ctx context.Context, f From, token string) (Invitation, error) {
	l, p, err := s.openLink(ctx, f, token)
	if err != nil {
		return Invitation{}, err
	}
	waits, err := view(ctx, s, func(tx Tx) (bool, error) { return s.waits(ctx, tx, p) })
	if err != nil {
		return Invitation{}, err
	}
	return Invitation{
		Roles: p.Roles, Approver: p.Approver, Founder: p.Founder, Period: p.Period, Waits: p.Approver && waits, Until: l.Until, MayPassword: !strong(p.Roles, p.Approver),
	}, nil
}

// openLink takes a link through the gate.
func (s *Service) openLink(ctx context.Context, f From, token string) (LinkRow, PersonRow, error) {
	if !validSecret(token) {
		return LinkRow{}, PersonRow{}, badLink()
	}
	account := linkAccount(token)
	t, err := s.d.Gate.Open(ctx, f.attempt(gate.SetupLink, account))
	if err != nil {
		return LinkRow{}, PersonRow{}, err
	}
	l, p, err := s.verifyLink(ctx, t, token)
	return l, p, settle(ctx, t, err)
}

func linkAccount(token string) string { return "link:" + secretHash(domainLink, token).String() }

// settle tells the gate how a comparison went. An error of ours leaves the
// attempt counted.
func settle(ctx context.Context, t *gate.Ticket, err error) error {
	switch {
	case err == nil:
		return t.Right(ctx)
	case core.KindOf(err) == core.Internal || core.KindOf(err) == core.Unavail:
		return err
	default:
		return errors.Join(err, t.Wrong(ctx))
	}
}

// verifyLink finds the link and its person, if it can be used now.
func (s *Service) verifyLink(ctx context.Context, t *gate.Ticket, token string) (LinkRow, PersonRow, error) {
	if err := t.Use(gate.SetupLink, linkAccount(token)); err != nil {
		return LinkRow{}, PersonRow{}, err
	}
	var l LinkRow
	var p PersonRow
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		l, p, err = s.liveLink(ctx, tx, token)
		return err
	})
	if core.ReasonOf(err) == "link-used" {
		err = errors.Join(err, s.replayed(ctx, token))
	}
	return l, p, err
}

func (s *Service) liveLink(ctx context.Context, tx Tx, token string) (LinkRow, PersonRow, error) {
	l, err := tx.Link(ctx, secretHash(domainLink, token))
	if core.KindOf(err) == core.Unknown {
		return l, PersonRow{}, badLink()
	}
	if err != nil {
		return l, PersonRow{}, err
	}
	p, err := tx.Person(ctx, l.Person)
	switch {
	case err != nil:
		return l, p, err
	case !l.Used.IsZero():
		return l, p, core.E(core.Conflict, "link-used", "this link was used already, on "+l.Used.Format("2 January 2006 at 15:04 UTC"),
			"if that was you, sign in; if not, tell an administrator at once")
	case p.State != Invited || !s.now().Before(l.Until) || p.assessor() && !p.Period.Contains(s.now()):
		return l, p, badLink()
	}
	return l, p, nil
}

func badLink() error {
	return core.E(core.Unknown, "bad-link", "this link does not work (any more)", "links work once and for two days; ask for a new one")
}

// replayed notes that a used link was opened again.
func (s *Service) replayed(ctx context.Context, token string) error {
	return s.d.Update(ctx, func(tx Tx) error {
		l, err := tx.Link(ctx, secretHash(domainLink, token))
		if err != nil || l.Replays >= maxReplays {
			return err
		}
		p, err := tx.Person(ctx, l.Person)
		if err != nil {
			return err
		}
		l.Replays++
		if err := tx.UpdateLink(ctx, l); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(RecordLinkReplay, core.Job("sign-in"), p))
	})
}

// joiner is what a person brings along when joining.
type joiner struct {
	details Details
	means   []gate.Means
	put     func(Tx, *PersonRow) error // writes the means, in the same transaction
}

// join uses a link up: the person becomes active, the means are kept and the
// first session begins, all or nothing.
func (s *Service) join(ctx context.Context, f From, token, old string, j joiner) (SignedIn, error) {
	_, p, err := s.openLink(ctx, f, token)
	if err != nil {
		return SignedIn{}, err
	}
	// The key lies outside the database. It is made before anything is sealed
	// under it; a crash here leaves a key without anything, which the next try
	// with the same link takes up.
	if !s.d.Keys.Has(p.Subject) {
		if err := s.d.Keys.AddSubject(ctx, p.Subject); err != nil {
			return SignedIn{}, fmt.Errorf("make key of person: %w", err)
		}
	}
	in, err := update(ctx, s, func(tx Tx) (SignedIn, error) {
		l, p, err := s.liveLink(ctx, tx, token)
		if err != nil {
			return SignedIn{}, err
		}
		if err := s.admit(ctx, tx, &p, j); err != nil {
			return SignedIn{}, err
		}
		l.Used = s.now()
		if err := tx.UpdateLink(ctx, l); err != nil {
			return SignedIn{}, err
		}
		by := p.ID.Actor()
		if err := tx.Record(ctx, s.record(RecordLinkUsed, by, p)); err != nil {
			return SignedIn{}, err
		}
		if err := tx.Record(ctx, s.record(RecordJoined, by, p, factRoles(p.Roles), factMeans(j.means), factYes("approver", p.Approver), factYes("founder", p.Founder))); err != nil {
			return SignedIn{}, err
		}
		if p.Approver && p.ApproverFrom.After(l.Used) {
			if err := s.announce(ctx, tx, by, p); err != nil {
				return SignedIn{}, err
			}
		}
		return s.open(ctx, tx, p, f, j.means, old)
	})
	if err != nil {
		return SignedIn{}, fmt.Errorf("join: %w", err)
	}
	return in, nil
}

// admit makes an invited person an active one.
func (s *Service) admit(ctx context.Context, tx Tx, p *PersonRow, j joiner) error {
	if strong(p.Roles, p.Approver) && !hasMeans(j.means, gate.Passkey) {
		return needsPasskeyToJoin()
	}
	if p.Founder {
		all, err := tx.People(ctx)
		if err != nil {
			return err
		}
		if joinedFounders(all) >= Founders {
			return badLink()
		}
	}
	now := s.now()
	var err error
	if p.Details, err = seal.Seal(s.d.Keys, p.Subject, sealDetails, j.details); err != nil {
		return err
	}
	p.State, p.Joined, p.Lookup = Active, now, s.lookup(j.details.Mail)
	if p.Approver {
		p.ApproverFrom = now
		waits, err := s.waits(ctx, tx, *p)
		if err != nil {
			return err
		}
		if waits {
			p.ApproverFrom = now.Add(ApproverWaits)
		}
	}
	if err := j.put(tx, p); err != nil {
		return err
	}
	return tx.UpdatePerson(ctx, *p)
}

// waits reports whether a new approver waits before approving anything: all do
// but the first two founders.
func (s *Service) waits(ctx context.Context, tx Tx, p PersonRow) (bool, error) {
	again, err := tx.Refoundings(ctx)
	return !p.Founder || len(again) > 0, err
}

func needsPasskeyToJoin() error {
	return core.E(core.Invalid, "passkey-only", "administrators and approvers sign in with a passkey, not with a password", "make a passkey with this device, your phone or a security key")
}

// SetupPasskey begins the making of a passkey by the holder of a link, and
// gives the options for navigator.credentials.create().
func (s *Service) SetupPasskey(ctx context.Context, f From, token string, d Details) ([]byte, error) {
	_, p, err := s.openLink(ctx, f, token)
	if err != nil {
		return nil, err
	}
	if d, err = d.clean(); err != nil {
		return nil, err
	}
	if err := s.mailIsFree(ctx, d.Mail); err != nil {
		return nil, err
	}
	return s.beginKey(linkAccount(token), p.ID, d, nil)
}

// SetupPasskeyDone ends the making of a passkey: the person joins and is
// signed in. body is what the browser answered.
func (s *Service) SetupPasskeyDone(ctx context.Context, f From, token, old string, body []byte) (SignedIn, error) {
	if _, _, err := s.openLink(ctx, f, token); err != nil {
		return SignedIn{}, err
	}
	row, o, err := s.finishKey(linkAccount(token), body)
	if err != nil {
		return SignedIn{}, err
	}
	return s.join(ctx, f, token, old, joiner{
		details: o.details, means: []gate.Means{gate.SetupLink, gate.Passkey},
		put: func(tx Tx, p *PersonRow) error { return s.keepKey(ctx, tx, *p, row, firstLabel, p.ID.Actor()) },
	})
}

// mailIsFree tells the holder of a link, before a passkey is made in vain,
// that somebody else has the address.
func (s *Service) mailIsFree(ctx context.Context, mail string) error {
	_, err := view(ctx, s, func(tx Tx) (PersonRow, error) { return tx.PersonByLookup(ctx, s.lookup(mail)) })
	switch {
	case err == nil:
		return core.E(core.Conflict, "mail-taken", "somebody here has this mail address", "use your own; if it is yours, you have joined before: sign in")
	case core.KindOf(err) == core.Unknown:
		return nil
	default:
		return err
	}
}
