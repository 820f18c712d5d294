package access

import (
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/hawser-iot/hawser/internal/core"
)

// PersonID is a staff id: "p" and 12 random base-32 characters. It stands in
// clear in the ledger and says nothing of whose it is.
type PersonID string

const (
	idAlphabet = "abcdefghijklmnopqrstuvwxyz234567"
	idChars    = 12
)

// Valid reports whether p has the form of a staff id.
func (p PersonID) Valid() bool {
	if len(p) != 1+idChars || p[0] != 'p' {
		return false
	}
	return strings.Trim(string(p[1:]), idAlphabet) == ""
}

// Actor is the person as somebody who does or asks something.
func (p PersonID) Actor() core.Actor { return core.Actor{Kind: core.ActorStaff, ID: string(p)} }

func newPersonID() PersonID {
	var b [idChars]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	for i := range b {
		b[i] = idAlphabet[b[i]&31] // 256 is a multiple of 32: no bias
	}
	return PersonID("p" + string(b[:]))
}

// State is where a person is in their life here.
type State string

// The states of a person. A person never comes back from disabled: a new
// invitation makes a new one.
const (
	Invited  State = "invited"  // a set-up link waits
	Active   State = "active"   //
	Disabled State = "disabled" // nothing of theirs works any more
)

// Person is one of the maker's people, as other people may see them.
type Person struct {
	ID            PersonID
	Name          string // "" while invited, and for one who was erased
	Mail          string
	State         State
	Roles         []Role
	Approver      bool      // may approve, from ApproverFrom on
	ApproverFrom  time.Time // zero: not an approver, or not joined
	Founder       bool
	Invited       time.Time
	InvitedBy     core.Actor
	LinkUntil     time.Time // of the open set-up link; zero: none
	Joined        time.Time // zero: not yet
	Disabled      time.Time // zero: not
	Passkeys      int       // that can be used
	PasswordSet   bool
	RecoveryCodes int    // not used
	Period        Period // of an assessor; zero: not one
	Erased        bool
}

// Details is what a person says of themselves; it is kept sealed.
type Details struct {
	Name string `json:"name"`
	Mail string `json:"mail"`
}

// LogValue keeps the details out of every log.
func (Details) LogValue() slog.Value { return slog.StringValue("[sealed]") }

const (
	maxNameRunes = 80
	maxMailBytes = 254 // RFC 5321 §4.5.3.1.3, less the brackets
)

// clean brings details into the one form that is kept and looked up.
func (d Details) clean() (Details, error) {
	d.Name = strings.Join(strings.Fields(norm.NFC.String(d.Name)), " ")
	switch {
	case d.Name == "":
		return d, core.E(core.Invalid, "name", "your name is missing", "say how your colleagues know you")
	case !utf8.ValidString(d.Name) || utf8.RuneCountInString(d.Name) > maxNameRunes:
		return d, core.E(core.Invalid, "name", "the name is longer than 80 characters", "use a shorter form of it")
	case strings.ContainsFunc(d.Name, invisible):
		return d, core.E(core.Invalid, "name", "the name has characters that cannot be seen", "type it instead of pasting it")
	}
	mail, ok := cleanMail(d.Mail)
	if !ok {
		return d, core.E(core.Invalid, "mail", "this is not a mail address", "write it like ada@maker.example")
	}
	d.Mail = mail
	return d, nil
}

// invisible is what can make one name look like another, or turn a line round.
func invisible(r rune) bool {
	return unicode.Is(unicode.C, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) || r == unicode.ReplacementChar
}

// cleanMail is a mail address as it is compared: composed, in lower case. It
// must have one @ with something on both sides; whether mail arrives there is
// not asked.
func cleanMail(typed string) (string, bool) {
	m := strings.ToLower(norm.NFC.String(strings.TrimSpace(typed)))
	at := strings.LastIndexByte(m, '@')
	if !utf8.ValidString(typed) || len(m) > maxMailBytes || at < 1 || at == len(m)-1 || strings.Count(m, "@") != 1 ||
		strings.ContainsFunc(m, func(r rune) bool { return unicode.IsSpace(r) || invisible(r) || strings.ContainsRune(`"(),:;<>[\]`, r) }) {
		return "", false
	}
	return m, true
}

// strong reports whether these roles sign in by passkey only.
func strong(roles []Role, approver bool) bool {
	return approver || slices.Contains(roles, Administrator)
}
