package console

import (
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Visitor is who looks at a page. The zero Visitor is nobody.
type Visitor struct {
	Actor     core.Actor
	Name      string   // as the person wants to be called; for the eyes of this session only
	Roles     []string // "support"
	Approver  bool
	Session   string    // names the session, never its secret
	SteppedUp time.Time // when a second factor was last proved
	// From is where an assessor's period begins: nothing from before is shown.
	// Zero for everybody else.
	From time.Time
	// Check is nil when the person may do what a permission names, core.Denied
	// when not, and core.Unready with reason "step-up" when a passkey must be
	// used first. Nil: nothing is permitted.
	Check func(permission string) error
}

// Signed reports whether somebody is signed in.
func (v Visitor) Signed() bool { return v.Actor.ID != "" }

// May is Check, for a visitor who may be nobody.
func (v Visitor) May(permission string) error {
	if v.Check == nil {
		return core.E(core.Denied, "not-allowed", "your roles do not allow this", "ask an administrator for a role that does")
	}
	return v.Check(permission)
}

// Holds reports whether the visitor's roles hold a permission, a passkey used
// lately or not: what is worth offering.
func (v Visitor) Holds(permission string) bool {
	err := v.May(permission)
	return err == nil || core.ReasonOf(err) == stepUp
}

// stepUp is the reason of a refusal that a fresh use of a passkey heals.
const stepUp = "step-up"
