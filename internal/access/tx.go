package access

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/seal"
)

// PersonRow is what is kept of a person.
type PersonRow struct {
	ID           PersonID
	Subject      core.Subject // zero: erased
	State        State
	Roles        []Role
	Approver     bool
	ApproverFrom time.Time
	Founder      bool
	Details      seal.Sealed[Details]
	Lookup       core.Hash // keyed hash of the mail address; zero: none
	Password     string    // argon2id, encoded; "" for none
	TOTP         seal.Sealed[[]byte]
	TOTPStep     int64 // last time step that was used, RFC 6238 §5.2
	Invited      time.Time
	InvitedBy    core.Actor
	Joined       time.Time
	Disabled     time.Time
	Period       Period // of an assessor; zero: not one
}

// PasskeyRow is the public part of a passkey. Nothing in it lets anybody in.
type PasskeyRow struct {
	ID         []byte // credential id, chosen by the authenticator
	Person     PersonID
	Public     []byte // COSE key
	Count      uint32 // signature counter at its last use
	Flags      byte   // authenticator flags at its last use
	AAGUID     []byte // make of the authenticator, zeros for most
	Transports []string
	Label      seal.Sealed[string]
	Added      time.Time
	Used       time.Time // zero: never
	Disabled   time.Time // zero: not
}

// LinkRow is one set-up link.
type LinkRow struct {
	Token   core.Hash // of the secret in the link
	Person  PersonID
	Made    time.Time
	Until   time.Time
	Used    time.Time // zero: not
	Replays int       // how often it was opened after its use
}

// SessionRow is one signed-in browser.
type SessionRow struct {
	Token    core.Hash // of the cookie
	Person   PersonID
	Started  time.Time
	Seen     time.Time
	Ends     time.Time    // whatever is done in it
	Passkey  time.Time    // last use of a passkey; zero: none
	Verified time.Time    // last full sign-in or use of a passkey
	Means    []gate.Means // what was shown
	Browser  seal.Sealed[Browser]
}

// Browser is what a person recognises a session by; it is kept sealed.
type Browser struct {
	Agent  string `json:"agent"`
	Source string `json:"source"`
}

// NoticeRow is something that a person is told at the next sign-in.
type NoticeRow struct {
	ID     int64
	Person PersonID // who is told
	Kind   NoticeKind
	About  PersonID // whom it is about; "" for nobody
	At     time.Time
	Seen   time.Time // zero: not yet
}

// RefusalRow counts refused sign-ins of one person in one hour.
type RefusalRow struct {
	Person PersonID
	Hour   time.Time
	Count  int
}

// Tx is what access needs from storage, in one transaction.
type Tx interface {
	// Person is core.Unknown when there is none.
	Person(context.Context, PersonID) (PersonRow, error)
	// PersonByLookup finds a person by the keyed hash of the mail address.
	PersonByLookup(context.Context, core.Hash) (PersonRow, error)
	// People are all persons, in the order of their invitation.
	People(context.Context) ([]PersonRow, error)
	InsertPerson(context.Context, PersonRow) error
	// UpdatePerson replaces all but id, subject and invitation. It is
	// core.Conflict when another person has the lookup.
	UpdatePerson(context.Context, PersonRow) error
	// UseTOTPStep moves the last used step forward; false when it is not
	// forward.
	UseTOTPStep(ctx context.Context, p PersonID, step int64) (bool, error)
	// ForgetPerson empties everything that leads from a subject to a person,
	// and all their means. Nobody with this subject is no error.
	ForgetPerson(context.Context, core.Subject) error

	// Passkeys are a person's, oldest first, disabled ones too.
	Passkeys(context.Context, PersonID) ([]PasskeyRow, error)
	// InsertPasskey is core.Conflict when the id is taken.
	InsertPasskey(context.Context, PasskeyRow) error
	// UpdatePasskey writes count, flags, label, use and end.
	UpdatePasskey(context.Context, PasskeyRow) error
	DeletePasskey(ctx context.Context, p PersonID, id []byte) error

	InsertLink(context.Context, LinkRow) error
	// Link is core.Unknown when there is none.
	Link(context.Context, core.Hash) (LinkRow, error)
	// LinkOf is a person's newest link; core.Unknown when there is none.
	LinkOf(context.Context, PersonID) (LinkRow, error)
	// UpdateLink writes end, use and replays.
	UpdateLink(context.Context, LinkRow) error

	// ReplaceRecovery drops a person's recovery codes and keeps these instead.
	ReplaceRecovery(ctx context.Context, p PersonID, codes []core.Hash, now time.Time) error
	// SpendRecovery marks a code as used; false when it is not an unused one
	// of this person.
	SpendRecovery(ctx context.Context, p PersonID, code core.Hash, now time.Time) (bool, error)
	// RecoveryLeft counts the unused codes.
	RecoveryLeft(context.Context, PersonID) (int, error)

	InsertSession(context.Context, SessionRow) error
	// Session is core.Unknown when there is none.
	Session(context.Context, core.Hash) (SessionRow, error)
	// TouchSession writes when a session was last seen.
	TouchSession(ctx context.Context, token core.Hash, seen time.Time) error
	DeleteSession(context.Context, core.Hash) error
	// Sessions are a person's, newest first.
	Sessions(context.Context, PersonID) ([]SessionRow, error)
	// DeleteSessions ends all of a person, and says how many.
	DeleteSessions(context.Context, PersonID) (int, error)
	// PruneSessions deletes what ended, or was not seen since idle.
	PruneSessions(ctx context.Context, now, idle time.Time) (int, error)

	InsertNotice(context.Context, NoticeRow) error
	// Notices are a person's newest, at most limit, newest first.
	Notices(ctx context.Context, p PersonID, limit int) ([]NoticeRow, error)
	// SeeNotices marks a person's notices up to one as seen.
	SeeNotices(ctx context.Context, p PersonID, upTo int64, now time.Time) error

	// CountRefusals adds refused sign-ins of a person in an hour. Of nobody it
	// does nothing.
	CountRefusals(context.Context, RefusalRow) error
	// TakeRefusals gives and deletes what was counted before an hour.
	TakeRefusals(ctx context.Context, before time.Time) ([]RefusalRow, error)

	// InsertRefounding fails for a number that exists.
	InsertRefounding(context.Context, Refounding) error
	// Refoundings are all, oldest first.
	Refoundings(context.Context) ([]Refounding, error)
	// UpdateRefounding writes who has looked at it.
	UpdateRefounding(context.Context, Refounding) error

	// Record hands evidence to the ledger.
	Record(context.Context, core.Record) error
}
