package access

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

const (
	// LinkLasts is how long a set-up link can be used.
	LinkLasts = 48 * time.Hour
	// ApproverWaits is how long a new approver waits before anything can be
	// approved, so that the others see it coming.
	ApproverWaits = 72 * time.Hour
	// Founders is how many people join by the local socket.
	Founders = 2
	// maxPeople bounds who can be told of something.
	maxPeople = 2000
)

// SetupPath is where a set-up link leads, below the origin.
const SetupPath = "/set-up/"

// Invite makes a person to be and the link that the person joins by: it works
// once, for LinkLasts. Only an administrator invites, and only when both
// founders have joined. The link is a secret; nothing here keeps it.
func (s *Service) Invite(ctx context.Context, by core.Actor, roles []Role, approver bool) (string, error) {
	roles, err := cleanRoles(roles)
	if err != nil {
		return "", err
	}
	return s.invite(ctx, by, PersonRow{Roles: roles, Approver: approver}, func(tx Tx, all []PersonRow) error {
		return s.mayInvite(ctx, tx, by, all)
	})
}

// mayInvite is nil when an administrator asks, and both founders have joined.
func (s *Service) mayInvite(ctx context.Context, tx Tx, by core.Actor, all []PersonRow) error {
	if err := s.mustAdminister(ctx, tx, by); err != nil {
		return err
	}
	return mustHaveFounders(all)
}

func mustHaveFounders(all []PersonRow) error {
	if n := joinedFounders(all); n < Founders {
		return core.E(core.Unready, "founders", fmt.Sprintf("only %d of 2 founders have joined", n), "let the second founder join first: `hawser people founder`")
	}
	return nil
}

// FounderLink makes the link of one of the two founders, who are administrators
// and approvers from the first moment on. Only somebody on the local socket
// can ask for it, and a third time is refused.
func (s *Service) FounderLink(ctx context.Context, by core.Actor) (string, error) {
	founder := PersonRow{Roles: []Role{Administrator}, Approver: true, Founder: true}
	return s.invite(ctx, by, founder, func(tx Tx, all []PersonRow) error {
		if !local(by) {
			return core.E(core.Denied, "founder-local", "founders are named on the machine itself", "run `hawser people founder` there")
		}
		taken := 0
		for _, p := range all {
			if !p.Founder {
				continue
			}
			open, err := s.linkOpen(ctx, tx, p)
			if err != nil {
				return err
			}
			if !p.Joined.IsZero() || open {
				taken++
			}
		}
		if taken < Founders {
			return nil
		}
		if joinedFounders(all) < Founders {
			return core.E(core.Conflict, "founder-links", "both founders have a link that still works", "use the links, or end one: `hawser people disable`")
		}
		return core.E(core.Conflict, "founders-complete", "both founders have joined", "from now on an administrator invites, on the page People; when neither founder can sign in any more: `hawser people refound`")
	})
}

func (s *Service) invite(ctx context.Context, by core.Actor, p PersonRow, may func(Tx, []PersonRow) error) (string, error) {
	token, hash := newSecret(domainLink)
	err := s.d.Update(ctx, func(tx Tx) error {
		all, err := tx.People(ctx)
		if err != nil {
			return err
		}
		if err := may(tx, all); err != nil {
			return err
		}
		if len(all) >= maxPeople {
			return core.E(core.Conflict, "people", "there are too many people", "this program is for up to 2000 of them")
		}
		now := s.now()
		p.ID, p.State, p.Invited, p.InvitedBy = newPersonID(), Invited, now, by
		_, _ = rand.Read(p.Subject[:]) // crypto/rand.Read never fails
		if err := tx.InsertPerson(ctx, p); err != nil {
			return err
		}
		if err := tx.InsertLink(ctx, LinkRow{Token: hash, Person: p.ID, Made: now, Until: now.Add(LinkLasts)}); err != nil {
			return err
		}
		facts := append([]core.Fact{factRoles(p.Roles), factYes("approver", p.Approver), factYes("founder", p.Founder)}, factsPeriod(p.Period)...)
		return tx.Record(ctx, s.record(RecordInvited, by, p, facts...))
	})
	if err != nil {
		return "", fmt.Errorf("invite: %w", err)
	}
	return s.d.Origin + SetupPath + token, nil
}

// local reports whether somebody asks on the machine itself.
func local(by core.Actor) bool { return by.Kind == core.ActorStaff && strings.HasPrefix(by.ID, "os:") }

func joinedFounders(all []PersonRow) int {
	n := 0
	for _, p := range all {
		if p.Founder && !p.Joined.IsZero() {
			n++
		}
	}
	return n
}

func (s *Service) linkOpen(ctx context.Context, tx Tx, p PersonRow) (bool, error) {
	if p.State != Invited {
		return false, nil
	}
	l, err := tx.LinkOf(ctx, p.ID)
	if core.KindOf(err) == core.Unknown {
		return false, nil
	}
	return err == nil && l.Used.IsZero() && s.now().Before(l.Until), err
}

func cleanRoles(roles []Role) ([]Role, error) {
	for _, r := range roles {
		if !r.Valid() {
			return nil, core.E(core.Invalid, "role", fmt.Sprintf("there is no role %q", r), "the roles are administrator, operator, support, security, auditor")
		}
	}
	var out []Role
	for _, r := range Roles() { // each once, in one order
		if slices.Contains(roles, r) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, core.E(core.Invalid, "role", "a person without a role can do nothing", "choose at least one role")
	}
	return out, nil
}

// mustAdminister is nil when by is an active administrator. Edges ask for the
// permission first; that a caller forgot it must not make anybody powerful.
func (s *Service) mustAdminister(ctx context.Context, tx Tx, by core.Actor) error {
	p, err := tx.Person(ctx, PersonID(by.ID))
	if by.Kind != core.ActorStaff || core.KindOf(err) == core.Unknown {
		return notAdministrator()
	}
	if err != nil {
		return err
	}
	if p.State != Active || !slices.Contains(p.Roles, Administrator) {
		return notAdministrator()
	}
	return nil
}

func notAdministrator() error {
	return core.E(core.Denied, "not-administrator", "only an administrator may do this", "ask one; the page People says who is one")
}

// People are all of them, in the order of their invitation.
func (s *Service) People(ctx context.Context) ([]Person, error) {
	return view(ctx, s, func(tx Tx) ([]Person, error) {
		rows, err := tx.People(ctx)
		if err != nil {
			return nil, err
		}
		out := make([]Person, 0, len(rows))
		for _, r := range rows {
			p, err := s.show(ctx, tx, r)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
		return out, nil
	})
}

func (s *Service) show(ctx context.Context, tx Tx, r PersonRow) (Person, error) {
	p := Person{
		ID: r.ID, State: r.State, Roles: r.Roles, Approver: r.Approver, ApproverFrom: r.ApproverFrom, Founder: r.Founder,
		Invited: r.Invited, InvitedBy: r.InvitedBy, Joined: r.Joined, Disabled: r.Disabled, PasswordSet: r.Password != "",
		Period: r.Period, Erased: r.Subject.IsZero(),
	}
	if r.assessor() && !s.now().Before(r.Period.Until) {
		p.State = Disabled // whether the job has written it down or not
	}
	if !r.Details.IsZero() {
		d, err := r.Details.Open(s.d.Keys, r.Subject, sealDetails)
		if err == nil {
			p.Name, p.Mail = d.Name, d.Mail
		} else if s.d.Keys.Has(r.Subject) { // otherwise the person was erased
			return p, err
		}
	}
	keys, err := tx.Passkeys(ctx, r.ID)
	if err != nil {
		return p, err
	}
	p.Passkeys = usable(keys)
	if p.RecoveryCodes, err = tx.RecoveryLeft(ctx, r.ID); err != nil {
		return p, err
	}
	if open, err := s.linkOpen(ctx, tx, r); err != nil || !open {
		return p, err
	}
	l, err := tx.LinkOf(ctx, r.ID)
	p.LinkUntil = l.Until
	return p, err
}

func usable(keys []PasskeyRow) int {
	n := 0
	for _, k := range keys {
		if k.Disabled.IsZero() {
			n++
		}
	}
	return n
}

const maxWhyBytes = 500

func mustSayWhy(why string) error {
	if len(why) > maxWhyBytes {
		return core.E(core.Invalid, "why", "the reason is longer than 500 bytes", "say it shorter")
	}
	return nil
}

// Disable ends a person's access for good: sessions with their next request,
// an open set-up link at once. Disabling twice is no error. Nobody disables
// themselves, the last administrator or the last approver. why is kept sealed.
func (s *Service) Disable(ctx context.Context, by core.Actor, id PersonID, why string) error {
	if err := mustSayWhy(why); err != nil {
		return err
	}
	err := s.d.Update(ctx, func(tx Tx) error {
		if !local(by) {
			if err := s.mustAdminister(ctx, tx, by); err != nil {
				return err
			}
		}
		p, err := tx.Person(ctx, id)
		if err != nil || p.State == Disabled {
			return err
		}
		if by == id.Actor() {
			return core.E(core.Conflict, "own-account", "nobody disables their own account", "ask another administrator")
		}
		if err := s.mustLeaveSomebody(ctx, tx, p, nil, false); err != nil {
			return err
		}
		return s.end(ctx, tx, by, p, []byte(why))
	})
	if err != nil {
		return fmt.Errorf("disable person: %w", err)
	}
	return nil
}

// end disables a person, with all sessions and an open link.
func (s *Service) end(ctx context.Context, tx Tx, by core.Actor, p PersonRow, why []byte, facts ...core.Fact) error {
	if _, err := s.endAll(ctx, tx, by, p.ID, "disabled"); err != nil {
		return err
	}
	p.State, p.Disabled = Disabled, s.now()
	p.Lookup = core.Hash{} // whoever comes back by a new invitation has the same address
	if err := tx.UpdatePerson(ctx, p); err != nil {
		return err
	}
	if err := s.closeLink(ctx, tx, p.ID); err != nil {
		return err
	}
	rec := s.record(RecordDisabled, by, p, facts...)
	if len(why) > 0 && s.d.Keys.Has(p.Subject) {
		text, err := json.Marshal(struct {
			Reason string `json:"reason"`
		}{string(why)})
		if err != nil {
			return err
		}
		if rec.Sealed, err = s.d.Keys.SealValue(p.Subject, "record."+string(RecordDisabled), text); err != nil {
			return err
		}
	}
	return tx.Record(ctx, rec)
}

func (s *Service) closeLink(ctx context.Context, tx Tx, id PersonID) error {
	l, err := tx.LinkOf(ctx, id)
	if core.KindOf(err) == core.Unknown {
		return nil
	}
	if err != nil || !l.Used.IsZero() {
		return err
	}
	l.Until = l.Made // in the past
	return tx.UpdateLink(ctx, l)
}

// mustLeaveSomebody refuses to take away the last active administrator, and
// the last one who may approve now: what is left of a person's roles and trust
// is given.
func (s *Service) mustLeaveSomebody(ctx context.Context, tx Tx, p PersonRow, roles []Role, approver bool) error {
	now := s.now()
	administrator := p.State == Active && slices.Contains(p.Roles, Administrator) && !slices.Contains(roles, Administrator)
	approves := mayApprove(p, now) && !approver
	if !administrator && !approves {
		return nil
	}
	all, err := tx.People(ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.ID == p.ID || o.State != Active {
			continue
		}
		administrator = administrator && !slices.Contains(o.Roles, Administrator)
		approves = approves && !mayApprove(o, now)
	}
	switch {
	case administrator:
		return core.E(core.Conflict, "last-administrator", "this is the last administrator", "make somebody else one first")
	case approves:
		return core.E(core.Conflict, "last-approver", "this is the last one who may approve now", "make somebody else an approver first, and wait until they may approve")
	}
	return nil
}

// SetRoles changes what another active person may do, from the next request
// on; the person's sessions end. One who becomes an approver waits
// ApproverWaits, and everybody is told. An administrator asks; somebody on the
// machine itself can take away, and give nothing.
func (s *Service) SetRoles(ctx context.Context, by core.Actor, id PersonID, roles []Role, approver bool) error {
	roles, err := cleanRoles(roles)
	if err != nil {
		return err
	}
	err = s.d.Update(ctx, func(tx Tx) error {
		if !local(by) {
			if err := s.mustAdminister(ctx, tx, by); err != nil {
				return err
			}
		}
		if by == id.Actor() {
			return core.E(core.Conflict, "own-account", "nobody changes their own roles", "ask another administrator")
		}
		p, err := tx.Person(ctx, id)
		if err != nil {
			return err
		}
		switch {
		case p.State != Active:
			return core.E(core.Conflict, "not-active", "this person is not active", "roles of an invitation are changed by a new invitation")
		case p.assessor():
			return core.E(core.Conflict, "assessor", "an assessor has the one role that goes with it", "disable the account, and invite anew")
		case slices.Equal(p.Roles, roles) && p.Approver == approver:
			return nil
		case local(by) && (approver && !p.Approver || slices.ContainsFunc(roles, func(r Role) bool { return !slices.Contains(p.Roles, r) })):
			return core.E(core.Denied, "roles-given", "from the machine itself roles are only taken away", "an administrator gives them, on the page People")
		}
		if err := s.mustLeaveSomebody(ctx, tx, p, roles, approver); err != nil {
			return err
		}
		if err := s.mustHavePasskey(ctx, tx, id, roles, approver); err != nil {
			return err
		}
		becomes := approver && !p.Approver
		p.Roles, p.Approver = roles, approver
		switch {
		case becomes:
			p.ApproverFrom = s.now().Add(ApproverWaits)
		case !approver:
			p.ApproverFrom = time.Time{}
		}
		if _, err := s.endAll(ctx, tx, by, id, "roles-changed"); err != nil {
			return err
		}
		if err := tx.UpdatePerson(ctx, p); err != nil {
			return err
		}
		if err := tx.Record(ctx, s.record(RecordRoles, by, p, factRoles(roles), factYes("approver", approver))); err != nil {
			return err
		}
		if becomes {
			return s.announce(ctx, tx, by, p)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("change roles: %w", err)
	}
	return nil
}

// mustHavePasskey refuses roles that need a passkey to a person without one.
func (s *Service) mustHavePasskey(ctx context.Context, tx Tx, id PersonID, roles []Role, approver bool) error {
	if !strong(roles, approver) {
		return nil
	}
	keys, err := tx.Passkeys(ctx, id)
	if err != nil {
		return err
	}
	if usable(keys) == 0 {
		return core.E(core.Unready, "no-passkey", "this person has no passkey", "administrators and approvers sign in with one; let the person add it first")
	}
	return nil
}

// announce tells the ledger and everybody that a new approver waits.
func (s *Service) announce(ctx context.Context, tx Tx, by core.Actor, p PersonRow) error {
	if err := tx.Record(ctx, s.record(RecordWaiting, by, p, core.Fact{Name: "until", Value: p.ApproverFrom.Format(time.RFC3339)})); err != nil {
		return err
	}
	return s.tellAll(ctx, tx, NoticeApprover, p.ID)
}
