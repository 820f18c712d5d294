package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/seal"
)

// How long sessions last (ASVS 7.3.1, 7.3.2) and how long a passkey counts as
// just used (7.5.3).
const (
	IdleFor          = 30 * time.Minute
	LastsFor         = 12 * time.Hour
	LastsForStrong   = 8 * time.Hour // administrators and approvers
	StepUpFor        = 5 * time.Minute
	touchEvery       = time.Minute
	maxSessions      = 20 // of one person; the oldest makes room
	sessionBytes     = 32
	sessionIDDigits  = 12
	sessionTokenSize = (sessionBytes*8 + 5) / 6
)

// Session is one signed-in browser, as it stands at one moment.
type Session struct {
	ID        string // beginning of the token's hash: names it, opens nothing
	Person    PersonID
	Name      string
	Roles     []Role
	Approver  bool // now: one who waits is none yet
	Started   time.Time
	Ends      time.Time // at the latest
	SteppedUp time.Time // last use of a passkey; zero: none
	Verified  time.Time // last full sign-in or use of a passkey
	Means     []gate.Means
	Period    Period // of an assessor: what is shown is limited to it; zero: not one

	trusted bool      // an approver, waiting or not
	at      time.Time // when it was looked at
}

// Actor is whom the ledger names for what is done in the session.
func (s Session) Actor() core.Actor { return s.Person.Actor() }

// Fresh reports whether a passkey was used within StepUpFor.
func (s Session) Fresh() bool {
	return !s.SteppedUp.IsZero() && s.at.Sub(s.SteppedUp) <= StepUpFor && !s.SteppedUp.After(s.at.Add(time.Minute))
}

// fullyVerified reports whether the person has just shown all means: the
// condition for changing them (ASVS 7.5.1).
func (s Session) fullyVerified() bool {
	return s.at.Sub(s.Verified) <= StepUpFor && !s.Verified.After(s.at.Add(time.Minute))
}

// newSecret makes a secret of 256 bits for a cookie or a link, and what is
// kept of it.
func newSecret(domain string) (string, core.Hash) {
	var b [sessionBytes]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	text := base64.RawURLEncoding.EncodeToString(b[:])
	return text, secretHash(domain, text)
}

// secretHash is what is kept of a machine-made secret. At this strength it
// needs no slow hash (CC 1.12).
func secretHash(domain, text string) core.Hash {
	return sha256.Sum256([]byte("hawser " + domain + " v1\x00" + text))
}

// validSecret reports whether text has the form of a secret of ours: what has
// not is not even looked up.
func validSecret(text string) bool {
	if len(text) != sessionTokenSize {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil
}

const (
	domainSession = "session"
	domainLink    = "setup link"
)

func sessionID(h core.Hash) string { return h.String()[:sessionIDDigits] }

func noSession() error {
	return core.E(core.Denied, "no-session", "you are not signed in, or the session has ended", "sign in again")
}

// Session finds the session of a cookie. It is core.Denied when there is none,
// when it has ended, or when its person was disabled: that is read anew each
// time, so an end takes effect with the next request.
func (s *Service) Session(ctx context.Context, token string) (Session, error) {
	if !validSecret(token) {
		return Session{}, noSession()
	}
	row, p, err := s.sessionRow(ctx, secretHash(domainSession, token))
	if err != nil {
		return Session{}, err
	}
	now := s.now()
	if now.Sub(row.Seen) >= touchEvery {
		err := s.d.Update(ctx, func(tx Tx) error { return tx.TouchSession(ctx, row.Token, now) })
		if err != nil {
			return Session{}, fmt.Errorf("touch session: %w", err)
		}
	}
	return s.sessionOf(row, p)
}

func (s *Service) sessionRow(ctx context.Context, token core.Hash) (row SessionRow, p PersonRow, err error) {
	err = s.d.View(ctx, func(tx Tx) error {
		row, p, err = s.liveSession(ctx, tx, token)
		return err
	})
	return row, p, err
}

// liveSession reads a session that is good now, and its person.
func (s *Service) liveSession(ctx context.Context, tx Tx, token core.Hash) (SessionRow, PersonRow, error) {
	row, err := tx.Session(ctx, token)
	if core.KindOf(err) == core.Unknown {
		return row, PersonRow{}, noSession()
	}
	if err != nil {
		return row, PersonRow{}, err
	}
	p, err := tx.Person(ctx, row.Person)
	if err != nil {
		return row, p, err
	}
	now := s.now()
	if !now.Before(row.Ends) || now.Sub(row.Seen) >= IdleFor || !p.mayEnter(now) || p.Subject.IsZero() {
		return row, p, noSession()
	}
	return row, p, nil
}

func (s *Service) sessionOf(row SessionRow, p PersonRow) (Session, error) {
	d, err := p.Details.Open(s.d.Keys, p.Subject, sealDetails)
	if err != nil {
		return Session{}, fmt.Errorf("open person %s: %w", p.ID, err)
	}
	now := s.now()
	return Session{
		ID: sessionID(row.Token), Person: p.ID, Name: d.Name, Roles: p.Roles, Approver: mayApprove(p, now),
		Started: row.Started, Ends: row.Ends, SteppedUp: row.Passkey, Verified: row.Verified, Means: row.Means, Period: p.Period,
		trusted: p.Approver, at: now,
	}, nil
}

func mayApprove(p PersonRow, now time.Time) bool {
	return p.Approver && p.mayEnter(now) && !p.ApproverFrom.IsZero() && !now.Before(p.ApproverFrom)
}

// SignedIn is what a browser gets for showing its person's means.
type SignedIn struct {
	Token   string // for the cookie
	Known   string // for the known-device cookie
	Session Session
	Codes   []string // recovery codes that were just made; shown once
}

// open begins a session inside the transaction in which its means were right.
// old is the session that the browser had: it ends.
func (s *Service) open(ctx context.Context, tx Tx, p PersonRow, f From, means []gate.Means, old string) (SignedIn, error) {
	now := s.now()
	token, hash := newSecret(domainSession)
	browser, err := seal.Seal(s.d.Keys, p.Subject, sealBrowser, f.browser())
	if err != nil {
		return SignedIn{}, err
	}
	row := SessionRow{
		Token: hash, Person: p.ID, Started: now, Seen: now, Ends: now.Add(LastsFor), Verified: now, Means: means, Browser: browser,
	}
	if strong(p.Roles, p.Approver) {
		row.Ends = now.Add(LastsForStrong)
	}
	row.Ends = p.Period.ends(row.Ends)
	if hasMeans(means, gate.Passkey) {
		row.Passkey = now
	}
	if validSecret(old) {
		if err := tx.DeleteSession(ctx, secretHash(domainSession, old)); err != nil {
			return SignedIn{}, err
		}
	}
	if err := s.makeRoom(ctx, tx, p.ID); err != nil {
		return SignedIn{}, err
	}
	if err := tx.InsertSession(ctx, row); err != nil {
		return SignedIn{}, err
	}
	if err := tx.Record(ctx, s.record(RecordSignedIn, p.ID.Actor(), p, factMeans(means), core.Fact{Name: "session", Value: sessionID(hash)})); err != nil {
		return SignedIn{}, err
	}
	known, err := s.remember(p.ID)
	if err != nil {
		return SignedIn{}, err
	}
	ses, err := s.sessionOf(row, p)
	return SignedIn{Token: token, Known: known, Session: ses}, err
}

// makeRoom ends a person's oldest sessions when there are too many.
func (s *Service) makeRoom(ctx context.Context, tx Tx, p PersonID) error {
	rows, err := tx.Sessions(ctx, p)
	if err != nil {
		return err
	}
	for i := maxSessions - 1; i < len(rows); i++ {
		if err := tx.DeleteSession(ctx, rows[i].Token); err != nil {
			return err
		}
	}
	return nil
}

func hasMeans(all []gate.Means, m gate.Means) bool {
	for _, x := range all {
		if x == m {
			return true
		}
	}
	return false
}

// SignOut ends a session. Ending what has ended is no error.
func (s *Service) SignOut(ctx context.Context, token string) error {
	if !validSecret(token) {
		return nil
	}
	return s.d.Update(ctx, func(tx Tx) error { return tx.DeleteSession(ctx, secretHash(domainSession, token)) })
}

// OwnSession is one of a person's sessions, as the person sees it.
type OwnSession struct {
	ID      string
	Browser Browser
	Started time.Time
	Seen    time.Time
	Ends    time.Time
	Means   []gate.Means
	This    bool // the one that asks
}

// Sessions are the person's sessions that are good now, newest first.
func (s *Service) Sessions(ctx context.Context, by Session) ([]OwnSession, error) {
	return view(ctx, s, func(tx Tx) ([]OwnSession, error) {
		p, err := tx.Person(ctx, by.Person)
		if err != nil {
			return nil, err
		}
		rows, err := tx.Sessions(ctx, by.Person)
		if err != nil {
			return nil, err
		}
		var out []OwnSession
		now := s.now()
		for _, r := range rows {
			if !now.Before(r.Ends) || now.Sub(r.Seen) >= IdleFor {
				continue
			}
			b, err := r.Browser.Open(s.d.Keys, p.Subject, sealBrowser)
			if err != nil {
				return nil, err
			}
			id := sessionID(r.Token)
			out = append(out, OwnSession{ID: id, Browser: b, Started: r.Started, Seen: r.Seen, Ends: r.Ends, Means: r.Means, This: id == by.ID})
		}
		return out, nil
	})
}

// EndSession ends one of the person's own sessions.
func (s *Service) EndSession(ctx context.Context, by Session, id string) error {
	return s.d.Update(ctx, func(tx Tx) error {
		rows, err := tx.Sessions(ctx, by.Person)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if sessionID(r.Token) == id {
				return tx.DeleteSession(ctx, r.Token)
			}
		}
		return core.E(core.Unknown, "no-such-session", "there is no such session of yours", "it may have ended; look again")
	})
}

// SignOutEverywhere ends all sessions of the person, this one too.
func (s *Service) SignOutEverywhere(ctx context.Context, by Session) error {
	return s.d.Update(ctx, func(tx Tx) error {
		_, err := s.endAll(ctx, tx, by.Actor(), by.Person, "signed-out-everywhere")
		return err
	})
}

// endAll ends all sessions of a person and says so in the ledger.
func (s *Service) endAll(ctx context.Context, tx Tx, by core.Actor, id PersonID, why string) (int, error) {
	p, err := tx.Person(ctx, id)
	if err != nil {
		return 0, err
	}
	n, err := tx.DeleteSessions(ctx, id)
	if err != nil || n == 0 {
		return n, err
	}
	return n, tx.Record(ctx, s.record(RecordEnded, by, p, core.Fact{Name: "sessions", Value: strconv.Itoa(n)}, core.Fact{Name: "cause", Value: why}))
}

// Tick deletes sessions that ended, tells the ledger of refused sign-ins, one
// record for each person and hour, and drops what was offered and not taken.
// It is for a job that runs every few minutes.
func (s *Service) Tick(ctx context.Context) error {
	now := s.now()
	s.dropOffers(now)
	counted, guessed := s.takeCounts()
	err := s.d.Update(ctx, func(tx Tx) error {
		for id := range guessed {
			if err := s.tellGuessing(ctx, tx, id); err != nil {
				return err
			}
		}
		for k, n := range counted {
			if err := tx.CountRefusals(ctx, RefusalRow{Person: k.person, Hour: k.hour, Count: n}); err != nil {
				return err
			}
		}
		if err := s.endAssessors(ctx, tx, now); err != nil {
			return err
		}
		if _, err := tx.PruneSessions(ctx, now, now.Add(-IdleFor)); err != nil {
			return err
		}
		rows, err := tx.TakeRefusals(ctx, now.Truncate(time.Hour))
		if err != nil {
			return err
		}
		for _, r := range rows {
			p, err := tx.Person(ctx, r.Person)
			if err != nil {
				return err
			}
			if err := tx.Record(ctx, s.record(RecordRefused, core.Job("sign-in"), p,
				core.Fact{Name: "hour", Value: r.Hour.UTC().Format(time.RFC3339)}, core.Fact{Name: "attempts", Value: strconv.Itoa(r.Count)})); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("tidy sign-ins: %w", err)
	}
	return nil
}
