package identity

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
)

// Cause is why staff ended something, as one of a few words. It stands in clear
// in the ledger, where nothing can ever be erased; so it can name nobody.
type Cause string

// The causes.
const (
	CauseStolen      Cause = "stolen"
	CauseLost        Cause = "lost"
	CauseSold        Cause = "sold"        // given on to somebody else
	CauseFaulty      Cause = "faulty"      // broken, or does what it must not
	CauseCompromised Cause = "compromised" // its key is, or may be, in other hands
	CauseRetired     Cause = "retired"     // out of use
	CauseCopyFound   Cause = "copy-found"  // which of two is the device is known
	CauseFalseAlarm  Cause = "false-alarm" // there was only one
	CauseTest        Cause = "test"
	CauseOther       Cause = "other"
)

// Causes are all that there are.
func Causes() []Cause {
	return []Cause{
		CauseStolen, CauseLost, CauseSold, CauseFaulty, CauseCompromised, CauseRetired,
		CauseCopyFound, CauseFalseAlarm, CauseTest, CauseOther,
	}
}

// Why is why staff did something: a cause, and what they want to add. The text
// may name a person, so it is kept only sealed under the key of the device's
// present owner, and is left out when there is none.
type Why struct {
	Cause Cause  // "": CauseOther, if there is a text
	Text  string // "": nothing to add
}

// isWord reports whether s is a word of this program, not of a person: lower
// case, hyphens.
func isWord(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-") == ""
}

// checked gives a Why whose cause is one of the known, or says what is wrong.
func (w Why) checked() (Why, error) {
	if w.Cause == "" && w.Text != "" {
		w.Cause = CauseOther
	}
	var words []string
	for _, c := range Causes() {
		words = append(words, string(c))
	}
	hint := "causes: " + strings.Join(words, ", ")
	switch {
	case w.Cause == "":
		return w, core.E(core.Invalid, "no-reason", "a cause is required", hint)
	case !slices.Contains(Causes(), w.Cause):
		return w, core.E(core.Invalid, "unknown-cause", "this is no cause that the ledger knows", hint)
	case len(w.Text) > maxReason || !utf8.ValidString(w.Text):
		return w, core.E(core.Invalid, "long-reason", "the text is too long, or no text", "use at most 1,000 bytes")
	}
	return w, nil
}
