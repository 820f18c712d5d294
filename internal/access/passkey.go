package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/seal"
)

const (
	firstLabel      = "my first passkey"
	maxLabelRunes   = 40
	maxPasskeys     = 10
	maxAnswerBytes  = 32 << 10 // of a browser; a passkey's is under 2 KB
	maxKeyIDBytes   = 1023     // WebAuthn §4, credential id
	maxTransports   = 8
	maxPublicBytes  = 4096
	keyTransportLen = 32
)

// webUser is a person as the WebAuthn library sees one.
type webUser struct {
	id   PersonID
	d    Details
	keys []PasskeyRow
}

func (u webUser) WebAuthnID() []byte          { return []byte(u.id) }
func (u webUser) WebAuthnName() string        { return u.d.Mail }
func (u webUser) WebAuthnDisplayName() string { return u.d.Name }

// WebAuthnCredentials leaves out what is switched off: it is as unknown as a
// key that never was.
func (u webUser) WebAuthnCredentials() []webauthn.Credential {
	var out []webauthn.Credential
	for _, k := range u.keys {
		if !k.Disabled.IsZero() {
			continue
		}
		c := webauthn.Credential{
			ID: k.ID, PublicKey: k.Public, AttestationFormat: string(protocol.AttestationFormatNone),
			Flags:         webauthn.NewCredentialFlags(protocol.AuthenticatorFlags(k.Flags)),
			Authenticator: webauthn.Authenticator{AAGUID: k.AAGUID, SignCount: k.Count},
		}
		for _, t := range k.Transports {
			c.Transport = append(c.Transport, protocol.AuthenticatorTransport(t))
		}
		out = append(out, c)
	}
	return out
}

// beginKey offers the making of a passkey. have are those that the person has
// already: the same authenticator is not taken twice.
func (s *Service) beginKey(whose string, id PersonID, d Details, have []PasskeyRow) ([]byte, error) {
	u := webUser{id: id, d: d, keys: have}
	options, session, err := s.web.BeginRegistration(u, webauthn.WithExclusions(webauthn.Credentials(u.WebAuthnCredentials()).CredentialDescriptors()))
	if err != nil {
		return nil, fmt.Errorf("begin passkey: %w", err)
	}
	b, err := json.Marshal(options)
	if err != nil {
		return nil, fmt.Errorf("begin passkey: %w", err)
	}
	s.putOffer(whose, offer{details: d, key: session})
	return b, nil
}

// finishKey takes the answer to beginKey: a new passkey, not yet kept. The
// challenge serves once, whatever comes of it.
func (s *Service) finishKey(whose string, body []byte) (PasskeyRow, offer, error) {
	o, err := s.takeOffer(whose)
	if err != nil {
		return PasskeyRow{}, o, err
	}
	if o.key == nil || len(body) > maxAnswerBytes {
		return PasskeyRow{}, o, badAnswer(nil)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(body)
	if err != nil {
		return PasskeyRow{}, o, badAnswer(err)
	}
	c, err := s.web.CreateCredential(webUser{id: PersonID(o.key.UserID), d: o.details}, *o.key, parsed)
	if err != nil {
		return PasskeyRow{}, o, badAnswer(err)
	}
	row := PasskeyRow{
		ID: c.ID, Person: PersonID(o.key.UserID), Public: c.PublicKey, Count: c.Authenticator.SignCount,
		Flags: byte(c.Flags.ProtocolValue()), AAGUID: c.Authenticator.AAGUID, Added: s.now(),
	}
	for _, t := range c.Transport {
		if len(t) <= keyTransportLen && len(row.Transports) < maxTransports {
			row.Transports = append(row.Transports, string(t))
		}
	}
	if len(row.ID) == 0 || len(row.ID) > maxKeyIDBytes || len(row.Public) > maxPublicBytes {
		return PasskeyRow{}, o, badAnswer(errors.New("credential id or key of a size that none has"))
	}
	return row, o, nil
}

// badAnswer is a browser's answer that is none to our question.
func badAnswer(err error) error {
	return &core.Error{
		Kind: core.Invalid, Reason: "passkey-answer", Message: "the passkey could not be made",
		Hint: "use a device that asks for your finger, face or PIN, and try again", Err: detail(err),
	}
}

// detail adds what the WebAuthn library tells developers only.
func detail(err error) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.DevInfo != "" {
		return fmt.Errorf("%w (%s)", err, e.DevInfo)
	}
	return err
}

// keepKey keeps a new passkey, in the transaction of what else it changes.
func (s *Service) keepKey(ctx context.Context, tx Tx, p PersonRow, row PasskeyRow, label string, by core.Actor) error {
	if row.Person != p.ID {
		return badAnswer(errors.New("the passkey was made for another person"))
	}
	var err error
	if row.Label, err = seal.Seal(s.d.Keys, p.Subject, sealLabel, label); err != nil {
		return err
	}
	if err := tx.InsertPasskey(ctx, row); err != nil {
		return err
	}
	return tx.Record(ctx, s.record(RecordKeyAdded, by, p, factKey(row.ID)))
}

// factKey names a passkey in the ledger by a hash: its id is the
// authenticator's.
func factKey(id []byte) core.Fact { return core.Fact{Name: "passkey", Value: keyName(id)} }

// Challenge is the question that a browser's passkey answers.
type Challenge struct {
	ID      string // to be given back with the answer
	Options []byte // for navigator.credentials.get()
}

// BeginPasskey asks for any passkey of this place. It costs nothing and keeps
// nothing, so strangers may ask as often as they like.
func (s *Service) BeginPasskey() (Challenge, error) {
	id, challenge := s.begun.begin(signInCeremony, s.now())
	options, _, err := s.web.BeginDiscoverableLogin(webauthn.WithChallenge(challenge), webauthn.WithUserVerification(protocol.VerificationRequired))
	return challengeOf(id, options, err)
}

func challengeOf(id string, options *protocol.CredentialAssertion, err error) (Challenge, error) {
	if err != nil {
		return Challenge{}, fmt.Errorf("ask for a passkey: %w", err)
	}
	b, err := json.Marshal(options)
	if err != nil {
		return Challenge{}, fmt.Errorf("ask for a passkey: %w", err)
	}
	return Challenge{ID: id, Options: b}, nil
}

// nobody is the account of an answer that names none of ours.
const nobody = "nobody"

// Passkey signs in with the answer to a challenge. old is the cookie that the
// browser had; its session ends.
func (s *Service) Passkey(ctx context.Context, f From, old, id string, body []byte) (SignedIn, error) {
	parsed, err := s.parseAnswer(id, body)
	if err != nil {
		return SignedIn{}, err
	}
	account := PersonID(parsed.Response.UserHandle)
	if !account.Valid() {
		account = nobody
	}
	row, t, err := s.tryKey(ctx, f, account, signInCeremony, id, parsed)
	if err != nil {
		return SignedIn{}, err
	}
	in, err := update(ctx, s, func(tx Tx) (SignedIn, error) {
		p, err := s.usedKey(ctx, tx, row)
		if err != nil {
			return SignedIn{}, err
		}
		return s.open(ctx, tx, p, f, []gate.Means{gate.Passkey}, old)
	})
	return in, s.afterKey(ctx, t, row, err)
}

// StepUpBegin asks for a passkey of the session's person.
func (s *Service) StepUpBegin(ctx context.Context, by Session) (Challenge, error) {
	u, err := s.webUser(ctx, by.Person)
	if err != nil {
		return Challenge{}, err
	}
	if usable(u.keys) == 0 {
		return Challenge{}, core.E(core.Unready, "no-passkey", "you have no passkey yet", "add one on the page Account")
	}
	id, challenge := s.begun.begin(stepUpCeremony(by), s.now())
	options, _, err := s.web.BeginLogin(u, webauthn.WithChallenge(challenge), webauthn.WithUserVerification(protocol.VerificationRequired))
	return challengeOf(id, options, err)
}

// StepUp marks the session as one whose passkey was just used, under a new
// token; the old one ends. token is the session's cookie.
func (s *Service) StepUp(ctx context.Context, f From, by Session, token, id string, body []byte) (SignedIn, error) {
	ceremony := stepUpCeremony(by)
	parsed, err := s.parseAnswer(id, body)
	if err != nil {
		return SignedIn{}, err
	}
	row, t, err := s.tryKey(ctx, f, by.Person, ceremony, id, parsed)
	if err != nil {
		return SignedIn{}, err
	}
	in, err := update(ctx, s, func(tx Tx) (SignedIn, error) {
		if _, err := s.usedKey(ctx, tx, row); err != nil {
			return SignedIn{}, err
		}
		return s.renew(ctx, tx, token)
	})
	return in, s.afterKey(ctx, t, row, err)
}

// renew gives a session a new token after its passkey was used.
func (s *Service) renew(ctx context.Context, tx Tx, token string) (SignedIn, error) {
	if !validSecret(token) {
		return SignedIn{}, noSession()
	}
	row, p, err := s.liveSession(ctx, tx, secretHash(domainSession, token))
	if err != nil {
		return SignedIn{}, err
	}
	if err := tx.DeleteSession(ctx, row.Token); err != nil {
		return SignedIn{}, err
	}
	fresh, hash := newSecret(domainSession)
	now := s.now()
	row.Token, row.Seen, row.Passkey, row.Verified = hash, now, now, now
	if !hasMeans(row.Means, gate.Passkey) {
		row.Means = append(row.Means, gate.Passkey)
	}
	if err := tx.InsertSession(ctx, row); err != nil {
		return SignedIn{}, err
	}
	ses, err := s.sessionOf(row, p)
	return SignedIn{Token: fresh, Session: ses}, err
}

// parseAnswer reads a browser's answer to a challenge that is ours, in time
// and not answered before.
func (s *Service) parseAnswer(id string, body []byte) (*protocol.ParsedCredentialAssertionData, error) {
	if !s.begun.open(id, s.now()) {
		return nil, core.E(core.Conflict, "begin-again", "this took longer than five minutes, or was done already", "begin again; nothing was changed")
	}
	if len(body) > maxAnswerBytes {
		return nil, keyRefused(errors.New("the answer is too long"))
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(body)
	if err != nil {
		return nil, keyRefused(detail(err))
	}
	return parsed, nil
}

// keyRefused is the one text for every passkey that is not taken.
func keyRefused(err error) error {
	return &core.Error{
		Kind: core.Denied, Reason: "passkey-refused", Message: "this passkey was not accepted",
		Hint: "use one that you have added here, on a device that asks for your finger, face or PIN", Err: err,
	}
}

// tryKey takes an answer through the gate. The ticket is still open when it
// returns without an error.
func (s *Service) tryKey(ctx context.Context, f From, account PersonID, ceremony, id string, parsed *protocol.ParsedCredentialAssertionData) (PasskeyRow, *gate.Ticket, error) {
	t, err := s.d.Gate.Open(ctx, f.attempt(gate.Passkey, string(account)))
	if err != nil {
		return PasskeyRow{}, nil, err
	}
	row, err := s.verifyPasskey(ctx, t, account, ceremony, id, parsed)
	if err != nil {
		s.refused(account)
		return row, nil, settle(ctx, t, err)
	}
	return row, t, nil
}

// verifyPasskey checks the answer: origin, RP ID, challenge, user verification
// and signature (WebAuthn §7.2). It gives the passkey with its new counter, or
// with Disabled set where the counter betrays a copy.
func (s *Service) verifyPasskey(ctx context.Context, t *gate.Ticket, account PersonID, ceremony, id string, parsed *protocol.ParsedCredentialAssertionData) (PasskeyRow, error) {
	if err := t.Use(gate.Passkey, string(account)); err != nil {
		return PasskeyRow{}, err
	}
	challenge, ok := s.begun.take(ceremony, id, s.now())
	if !ok {
		return PasskeyRow{}, core.E(core.Conflict, "begin-again", "this was done already", "begin again; nothing was changed")
	}
	u, err := s.webUser(ctx, account)
	if core.KindOf(err) == core.Unknown {
		return PasskeyRow{}, keyRefused(err)
	}
	if err != nil {
		return PasskeyRow{}, err
	}
	session := webauthn.SessionData{
		Challenge: challenge.String(), RelyingPartyID: s.host, UserID: u.WebAuthnID(), UserVerification: protocol.VerificationRequired,
	}
	c, err := s.web.ValidateLogin(u, session, parsed)
	if err != nil {
		return PasskeyRow{}, keyRefused(detail(err))
	}
	for _, row := range u.keys {
		if bytes.Equal(row.ID, c.ID) {
			row.Count, row.Flags, row.Used = c.Authenticator.SignCount, byte(c.Flags.ProtocolValue()), s.now()
			if c.Authenticator.CloneWarning {
				row.Disabled = s.now()
			}
			return row, nil
		}
	}
	return PasskeyRow{}, keyRefused(errors.New("the passkey is gone"))
}

// webUser is a person with all passkeys; core.Unknown for one that is not
// active.
func (s *Service) webUser(ctx context.Context, id PersonID) (webUser, error) {
	return view(ctx, s, func(tx Tx) (webUser, error) {
		p, err := tx.Person(ctx, id)
		if err != nil {
			return webUser{}, err
		}
		if !p.mayEnter(s.now()) || p.Subject.IsZero() {
			return webUser{}, core.E(core.Unknown, "not-active", "this person is not active", "")
		}
		d, err := p.Details.Open(s.d.Keys, p.Subject, sealDetails)
		if err != nil {
			return webUser{}, err
		}
		keys, err := tx.Passkeys(ctx, id)
		return webUser{id: id, d: d, keys: keys}, err
	})
}

// errCopied leaves the transaction of a sign-in by a copied passkey.
var errCopied = errors.New("the passkey's counter went back")

// usedKey writes what a passkey's use changed. The counter is compared once
// more: of two answers at the same time one is a copy's.
func (s *Service) usedKey(ctx context.Context, tx Tx, row PasskeyRow) (PersonRow, error) {
	p, err := tx.Person(ctx, row.Person)
	if err != nil {
		return p, err
	}
	keys, err := tx.Passkeys(ctx, row.Person)
	if err != nil {
		return p, err
	}
	for _, k := range keys {
		if !bytes.Equal(k.ID, row.ID) {
			continue
		}
		switch {
		case !k.Disabled.IsZero() || !p.mayEnter(s.now()):
			return p, keyRefused(errors.New("disabled meanwhile"))
		case !row.Disabled.IsZero() || row.Count <= k.Count && (row.Count != 0 || k.Count != 0):
			return p, errCopied
		}
		return p, tx.UpdatePasskey(ctx, row)
	}
	return p, keyRefused(errors.New("the passkey is gone"))
}

// afterKey tells the gate how it went, and switches a copied passkey off.
func (s *Service) afterKey(ctx context.Context, t *gate.Ticket, row PasskeyRow, err error) error {
	if errors.Is(err, errCopied) {
		s.refused(row.Person)
		err = errors.Join(core.E(core.Denied, "passkey-copied", "this passkey seems to have been copied, so it is switched off now",
			"sign in with another one, remove this one, and tell an administrator"), s.suspect(ctx, row))
	}
	return settle(ctx, t, err)
}

// suspect switches a passkey off whose counter went back, and tells its person.
func (s *Service) suspect(ctx context.Context, row PasskeyRow) error {
	return s.d.Update(ctx, func(tx Tx) error {
		p, err := tx.Person(ctx, row.Person)
		if err != nil {
			return err
		}
		row.Disabled = s.now()
		if err := tx.UpdatePasskey(ctx, row); err != nil {
			return err
		}
		if err := s.tell(ctx, tx, p.ID, NoticeKeySuspect); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(RecordKeySuspect, core.Job("sign-in"), p, factKey(row.ID)))
	})
}
