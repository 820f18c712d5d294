package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/seal"
)

// Account is what a person sees of their own means.
type Account struct {
	Person      Person
	Passkeys    []OwnPasskey
	MayPassword bool // password and one-time codes are enough for these roles
}

// OwnPasskey is one of the person's passkeys.
type OwnPasskey struct {
	Name     string // names it in Remove and in the ledger
	Label    string
	Added    time.Time
	Used     time.Time // zero: never
	Disabled time.Time // zero: not
	Synced   bool      // it may be on several devices of the person
}

// Account shows a person their own means.
func (s *Service) Account(ctx context.Context, by Session) (Account, error) {
	return view(ctx, s, func(tx Tx) (Account, error) {
		p, err := tx.Person(ctx, by.Person)
		if err != nil {
			return Account{}, err
		}
		out := Account{MayPassword: !strong(p.Roles, p.Approver)}
		if out.Person, err = s.show(ctx, tx, p); err != nil {
			return out, err
		}
		keys, err := tx.Passkeys(ctx, by.Person)
		if err != nil {
			return out, err
		}
		const backupEligible = 0x08
		for _, k := range keys {
			label, err := k.Label.Open(s.d.Keys, p.Subject, sealLabel)
			if err != nil {
				return out, err
			}
			out.Passkeys = append(out.Passkeys, OwnPasskey{
				Name: keyName(k.ID), Label: label, Added: k.Added, Used: k.Used, Disabled: k.Disabled, Synced: k.Flags&backupEligible != 0,
			})
		}
		return out, nil
	})
}

// mustBeVerified refuses to change means in a session whose person has not
// shown all of them within StepUpFor (ASVS 7.5.1).
func mustBeVerified(by Session) error {
	if by.fullyVerified() {
		return nil
	}
	return core.E(core.Unready, "sign-in-again", "changing how you sign in needs a fresh sign-in", "sign in again, and do the same within five minutes")
}

// changeMeans runs fn on the person of a session that may change means, and
// writes the person's row.
func (s *Service) changeMeans(ctx context.Context, by Session, fn func(Tx, *PersonRow) error) error {
	if err := mustBeVerified(by); err != nil {
		return err
	}
	return s.d.Update(ctx, func(tx Tx) error {
		p, err := tx.Person(ctx, by.Person)
		if err != nil {
			return err
		}
		if !p.mayEnter(s.now()) {
			return noSession()
		}
		if err := fn(tx, &p); err != nil {
			return err
		}
		return tx.UpdatePerson(ctx, p)
	})
}

func accountOffer(by Session) string { return "account:" + string(by.Person) + ":" + by.ID }

// AddPasskey begins the making of one more passkey, and gives the options for
// navigator.credentials.create().
func (s *Service) AddPasskey(ctx context.Context, by Session) ([]byte, error) {
	if err := mustBeVerified(by); err != nil {
		return nil, err
	}
	u, err := s.webUser(ctx, by.Person)
	if err != nil {
		return nil, err
	}
	if len(u.keys) >= maxPasskeys {
		return nil, core.E(core.Conflict, "passkeys", "you have ten passkeys", "remove one that you do not use")
	}
	return s.beginKey(accountOffer(by), u.id, u.d, u.keys)
}

// AddPasskeyDone ends it. label is what the person calls it; "" is replaced.
func (s *Service) AddPasskeyDone(ctx context.Context, by Session, label string, body []byte) error {
	if err := mustBeVerified(by); err != nil {
		return err
	}
	row, _, err := s.finishKey(accountOffer(by), body)
	if err != nil {
		return err
	}
	if label, err = cleanLabel(label); err != nil {
		return err
	}
	return s.changeMeans(ctx, by, func(tx Tx, p *PersonRow) error {
		if err := s.keepKey(ctx, tx, *p, row, label, by.Actor()); err != nil {
			return err
		}
		return s.tell(ctx, tx, p.ID, NoticeKeyAdded)
	})
}

func cleanLabel(typed string) (string, error) {
	label := strings.Join(strings.Fields(norm.NFC.String(typed)), " ")
	if label == "" {
		label = "a passkey"
	}
	if !utf8.ValidString(label) || utf8.RuneCountInString(label) > maxLabelRunes || strings.ContainsFunc(label, invisible) {
		return "", core.E(core.Invalid, "label", "this is no name for a passkey", "use up to 40 letters: \"blue key\", \"my phone\"")
	}
	return label, nil
}

// RemovePasskey removes one of the person's passkeys, by name. The last means
// that is enough for the person's roles stays: no account is without one.
func (s *Service) RemovePasskey(ctx context.Context, by Session, name string) error {
	return s.changeMeans(ctx, by, func(tx Tx, p *PersonRow) error {
		keys, err := tx.Passkeys(ctx, p.ID)
		if err != nil {
			return err
		}
		var gone *PasskeyRow
		var rest []PasskeyRow
		for i, k := range keys {
			if keyName(k.ID) == name {
				gone = &keys[i]
			} else {
				rest = append(rest, k)
			}
		}
		if gone == nil {
			return core.E(core.Unknown, "no-such-passkey", "you have no such passkey", "look again; it may be gone")
		}
		if err := mustKeepStrong(*p, rest); err != nil {
			return err
		}
		if err := tx.DeletePasskey(ctx, p.ID, gone.ID); err != nil {
			return err
		}
		if err := s.tell(ctx, tx, p.ID, NoticeKeyRemoved); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(RecordKeyRemoved, by.Actor(), *p, factKey(gone.ID)))
	})
}

// mustKeepStrong refuses to leave a person without means that are enough.
func mustKeepStrong(p PersonRow, keys []PasskeyRow) error {
	if usable(keys) > 0 || !strong(p.Roles, p.Approver) && p.Password != "" && !p.TOTP.IsZero() {
		return nil
	}
	return core.E(core.Conflict, "last-means", "this is your last way in", "add another passkey first, then remove this one")
}

// Offer is the secret of one-time codes, for an authenticator app. It counts
// only when a first code from it has come back.
type Offer struct {
	Secret string // base 32, in groups of four
	URI    string // otpauth://…, what a QR code holds
}

func (s *Service) offerOf(d Details, secret []byte) Offer {
	var b strings.Builder
	for i, c := range totpText(secret) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return Offer{Secret: b.String(), URI: totpURI(s.d.Name, d.Mail, secret)}
}

// beginPassword checks and hashes a password, and offers one-time codes to go
// with it.
func (s *Service) beginPassword(ctx context.Context, whose string, d Details, password string) (Offer, error) {
	if err := s.judgePassword(password, d); err != nil {
		return Offer{}, err
	}
	hash, err := s.hash.make(ctx, password)
	if err != nil {
		return Offer{}, err
	}
	o := offer{details: d, password: hash, secret: newTOTPSecret()}
	s.putOffer(whose, o)
	return s.offerOf(d, o.secret), nil
}

// offered gives an offer again, for a page that is loaded once more.
func (s *Service) offered(whose string) (Offer, error) {
	s.mu.Lock()
	o, ok := s.offers[whose]
	s.mu.Unlock()
	if !ok || o.password == "" || !s.now().Before(o.until) {
		return Offer{}, core.E(core.Conflict, "begin-again", "this took longer than five minutes, or was done already", "begin again; nothing was changed")
	}
	return s.offerOf(o.details, o.secret), nil
}

// confirm compares the first one-time code with the secret that was offered.
// A wrong code leaves the offer: people mistype.
func (s *Service) confirm(ctx context.Context, f From, account PersonID, whose, code string) (offer, int64, error) {
	if _, err := s.offered(whose); err != nil {
		return offer{}, 0, err
	}
	t, err := s.d.Gate.Open(ctx, f.attempt(gate.TOTP, string(account)))
	if err != nil {
		return offer{}, 0, err
	}
	o, err := s.takeOffer(whose)
	if err != nil {
		return o, 0, settle(ctx, t, err)
	}
	step, ok, err := s.verifyTOTP(t, string(account), o.secret, 0, code)
	if err != nil {
		return o, 0, err
	}
	if !ok {
		s.mu.Lock()
		s.offers[whose] = o // with its old end
		s.mu.Unlock()
		return o, 0, errors.Join(core.E(core.Invalid, "code", "this is not the code that the app shows now", "wait for the next one and type it; the clock of the phone must be right"), t.Wrong(ctx))
	}
	return o, step, t.Right(ctx)
}

// keepPassword writes password, secret and new recovery codes into a row.
func (s *Service) keepPassword(ctx context.Context, tx Tx, p *PersonRow, o offer, step int64) ([]string, error) {
	var err error
	if p.TOTP, err = seal.Seal(s.d.Keys, p.Subject, sealTOTP, o.secret); err != nil {
		return nil, err
	}
	p.Password, p.TOTPStep = o.password, step
	codes, hashes := newRecoveryCodes()
	return codes, tx.ReplaceRecovery(ctx, p.ID, hashes, s.now())
}

// SetPassword begins to give the session's person a password, and offers
// one-time codes: one goes not without the other.
func (s *Service) SetPassword(ctx context.Context, by Session, password string) (Offer, error) {
	if err := mustBeVerified(by); err != nil {
		return Offer{}, err
	}
	p, err := s.person(ctx, by.Person)
	if err != nil {
		return Offer{}, err
	}
	if strong(p.Roles, p.Approver) {
		return Offer{}, needsPasskeyToJoin()
	}
	d, err := p.Details.Open(s.d.Keys, p.Subject, sealDetails)
	if err != nil {
		return Offer{}, err
	}
	return s.beginPassword(ctx, accountOffer(by), d, password)
}

// PasswordOffer gives the offer of SetPassword once more.
func (s *Service) PasswordOffer(by Session) (Offer, error) { return s.offered(accountOffer(by)) }

// SetPasswordDone ends it with a first code. The other sessions of the person
// end; the recovery codes are shown this once.
func (s *Service) SetPasswordDone(ctx context.Context, f From, by Session, code string) (codes []string, err error) {
	if err := mustBeVerified(by); err != nil {
		return nil, err
	}
	o, step, err := s.confirm(ctx, f, by.Person, accountOffer(by), code)
	if err != nil {
		return nil, err
	}
	err = s.changeMeans(ctx, by, func(tx Tx, p *PersonRow) error {
		if strong(p.Roles, p.Approver) {
			return needsPasskeyToJoin()
		}
		if codes, err = s.keepPassword(ctx, tx, p, o, step); err != nil {
			return err
		}
		if err := s.endOthers(ctx, tx, by); err != nil {
			return err
		}
		return s.meansChanged(ctx, tx, by, *p, gate.Password, gate.TOTP, gate.RecoveryCode)
	})
	return codes, err
}

// RemovePassword takes password, one-time codes and recovery codes away, all
// together, from a person who has a passkey.
func (s *Service) RemovePassword(ctx context.Context, by Session) error {
	return s.changeMeans(ctx, by, func(tx Tx, p *PersonRow) error {
		keys, err := tx.Passkeys(ctx, p.ID)
		if err != nil {
			return err
		}
		p.Password, p.TOTP, p.TOTPStep = "", seal.Sealed[[]byte]{}, 0
		if err := mustKeepStrong(*p, keys); err != nil {
			return err
		}
		if err := tx.ReplaceRecovery(ctx, p.ID, nil, s.now()); err != nil {
			return err
		}
		return s.meansChanged(ctx, tx, by, *p)
	})
}

// NewRecoveryCodes makes a new set; the old ones end. They are shown this once.
func (s *Service) NewRecoveryCodes(ctx context.Context, by Session) (codes []string, err error) {
	err = s.changeMeans(ctx, by, func(tx Tx, p *PersonRow) error {
		if p.Password == "" {
			return core.E(core.Conflict, "no-password", "recovery codes go with a password, and you have none", "add a second passkey instead")
		}
		var hashes []core.Hash
		codes, hashes = newRecoveryCodes()
		if err := tx.ReplaceRecovery(ctx, p.ID, hashes, s.now()); err != nil {
			return err
		}
		return s.meansChanged(ctx, tx, by, *p, gate.RecoveryCode)
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

func (s *Service) meansChanged(ctx context.Context, tx Tx, by Session, p PersonRow, means ...gate.Means) error {
	if err := s.tell(ctx, tx, p.ID, NoticeMeans); err != nil {
		return err
	}
	return tx.Record(ctx, s.record(RecordMeans, by.Actor(), p, factMeans(means)))
}

// endOthers ends the sessions of the person but the one that asks.
func (s *Service) endOthers(ctx context.Context, tx Tx, by Session) error {
	rows, err := tx.Sessions(ctx, by.Person)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if sessionID(r.Token) == by.ID {
			continue
		}
		if err := tx.DeleteSession(ctx, r.Token); err != nil {
			return err
		}
	}
	return nil
}

// SetupPassword begins to join with a password, for roles that may.
func (s *Service) SetupPassword(ctx context.Context, f From, token string, d Details, password string) (Offer, error) {
	_, p, err := s.openLink(ctx, f, token)
	if err != nil {
		return Offer{}, err
	}
	if strong(p.Roles, p.Approver) {
		return Offer{}, needsPasskeyToJoin()
	}
	if d, err = d.clean(); err != nil {
		return Offer{}, err
	}
	if err := s.mailIsFree(ctx, d.Mail); err != nil {
		return Offer{}, err
	}
	return s.beginPassword(ctx, linkAccount(token), d, password)
}

// SetupOffer gives the offer of SetupPassword once more, to the holder of the
// link.
func (s *Service) SetupOffer(ctx context.Context, f From, token string) (Offer, error) {
	if _, _, err := s.openLink(ctx, f, token); err != nil {
		return Offer{}, err
	}
	return s.offered(linkAccount(token))
}

// SetupPasswordDone ends it with a first code: the person joins and is signed
// in, and gets recovery codes.
func (s *Service) SetupPasswordDone(ctx context.Context, f From, token, old, code string) (SignedIn, error) {
	_, p, err := s.openLink(ctx, f, token)
	if err != nil {
		return SignedIn{}, err
	}
	o, step, err := s.confirm(ctx, f, p.ID, linkAccount(token), code)
	if err != nil {
		return SignedIn{}, err
	}
	var codes []string
	in, err := s.join(ctx, f, token, old, joiner{
		details: o.details, means: []gate.Means{gate.SetupLink, gate.Password, gate.TOTP},
		put: func(tx Tx, p *PersonRow) error {
			var err error
			codes, err = s.keepPassword(ctx, tx, p, o, step)
			return err
		},
	})
	if err != nil {
		return SignedIn{}, fmt.Errorf("join with a password: %w", err)
	}
	in.Codes = codes
	return in, nil
}
