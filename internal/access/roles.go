package access

import (
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// Role is a part that a person plays. The names are those that a declaration's
// readers may use.
type Role string

// The roles. Being an approver is no role but a trust of its own.
const (
	Administrator Role = "administrator" // people and the server; no data of anybody
	Operator      Role = "operator"      // declarations and devices
	Support       Role = "support"       // what a declaration lets support read, with a reason
	Security      Role = "security"      // checks, refusals, revocation, quarantine, waivers
	Auditor       Role = "auditor"       // all that is proof; nothing personal
)

// Roles are all roles, in the order in which they are shown.
func Roles() []Role { return []Role{Administrator, Operator, Support, Security, Auditor} }

// Says is what a role may do, in a sentence for the person who gives it.
func (r Role) Says() string {
	switch r {
	case Administrator:
		return "invites and disables people, looks after the server; sees no data of anybody"
	case Operator:
		return "publishes declarations and looks after devices"
	case Support:
		return "reads what a declaration lets support read, gives the commands it lets support give, and says why each time"
	case Security:
		return "runs checks, revokes devices, releases them from quarantine, decides on waivers"
	case Auditor:
		return "reads and exports everything that is proof, and nothing personal"
	default:
		return ""
	}
}

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return slices.Contains(Roles(), r) }

// Permission is what the routes of all doors ask for, and who has it.
type Permission struct {
	Name     string
	Roles    []Role
	Risky    bool // asks for a passkey that was used within StepUpFor
	Approver bool // asks for an approver, whatever the role
}

// Permissions is the whole table. What is not in it nobody may do.
func Permissions() []Permission {
	const risky, approver = true, true
	return []Permission{
		{"page.view", []Role{Administrator, Operator, Support, Security, Auditor}, !risky, !approver},

		{"server.status", []Role{Administrator, Operator, Security}, !risky, !approver},
		{"server.backup", []Role{Administrator}, risky, !approver},
		{"server.clock", []Role{Administrator}, risky, !approver},

		{"declaration.list", []Role{Administrator, Operator, Support, Security, Auditor}, !risky, !approver},
		{"declaration.publish", []Role{Operator}, risky, !approver},
		{"review.decide", []Role{Administrator, Operator, Security}, risky, approver},

		{"device.list", []Role{Administrator, Operator, Support, Security}, !risky, !approver},
		{"device.add", []Role{Operator}, !risky, !approver},
		{"child.add", []Role{Operator}, !risky, !approver},
		{"child.move", []Role{Operator}, risky, !approver},
		{"authority.renew", []Role{Administrator}, risky, !approver},
		{"factory.trust", []Role{Administrator, Security}, risky, !approver},
		{"device.revoke", []Role{Operator, Security}, risky, !approver},
		{"device.release", []Role{Security}, risky, !approver},
		{"device.reopen", []Role{Operator}, !risky, !approver},
		{"service.list", []Role{Administrator, Operator, Security, Auditor}, !risky, !approver},
		{"service.add", []Role{Administrator}, risky, !approver},
		{"service.revoke", []Role{Administrator, Security}, risky, !approver},
		{"command.give", []Role{Support}, !risky, !approver},
		{"setting.set", []Role{Support}, !risky, !approver},
		{"command.second", []Role{Support}, risky, !approver},

		{"data.read", []Role{Support}, !risky, !approver},
		{"data.erase", []Role{Operator}, risky, !approver},
		{"data.hold", []Role{Security}, risky, !approver},

		{"ledger.read", []Role{Administrator, Security, Auditor}, !risky, !approver},

		{"check.list", []Role{Administrator, Operator, Security, Auditor}, !risky, !approver},
		{"check.run", []Role{Administrator, Security}, !risky, !approver},
		{"evidence.export", []Role{Administrator, Security, Auditor}, !risky, !approver},
		{"evidence.sample", []Role{Auditor}, !risky, !approver},
		{"waiver.ask", []Role{Administrator, Operator, Security}, !risky, !approver},
		{"waiver.approve", []Role{Administrator, Security}, risky, approver},

		{"people.list", []Role{Administrator, Security}, !risky, !approver},
		{"people.invite", []Role{Administrator}, risky, !approver},
		{"people.disable", []Role{Administrator}, risky, !approver},
		{"people.roles", []Role{Administrator}, risky, !approver},
		{"people.erase", []Role{Administrator}, risky, !approver},
		{"people.review", reviewers(), !risky, !approver},
	}
}

// permissionOf finds a permission; false for one that is in no table.
func permissionOf(name string) (Permission, bool) {
	all := Permissions()
	i := slices.IndexFunc(all, func(p Permission) bool { return p.Name == name })
	if i < 0 {
		return Permission{}, false
	}
	return all[i], true
}

// Risky reports whether a permission asks for a fresh passkey. An unknown one
// does.
func Risky(permission string) bool {
	p, ok := permissionOf(permission)
	return !ok || p.Risky
}

// Allows reports whether the person of this session may do what the permission
// names. It does not ask for a fresh passkey: see May.
func (s Session) Allows(permission string) bool {
	p, ok := permissionOf(permission)
	if !ok || !s.Person.Valid() || !s.Period.allowed(permission, s.at) {
		return false
	}
	// ASVS 6.3.3: who is more than a reader came with a passkey, also when the
	// role was given while the session ran.
	if strong(s.Roles, s.trusted) && !slices.Contains(s.Means, gate.Passkey) {
		return false
	}
	if p.Approver && !s.Approver {
		return false
	}
	return slices.ContainsFunc(s.Roles, func(r Role) bool { return slices.Contains(p.Roles, r) })
}

// May is nil when the session may do it now. It is core.Denied when the person
// may not, and core.Unready when a passkey must be used again first.
func (s Session) May(permission string) error {
	if !s.Allows(permission) {
		return core.E(core.Denied, "not-allowed", "your roles do not allow this", "ask an administrator; the page People says who is one")
	}
	if Risky(permission) && !s.Fresh() {
		return NeedsPasskey()
	}
	return nil
}

// NeedsPasskey is the refusal that a fresh use of a passkey heals.
func NeedsPasskey() error {
	return core.E(core.Unready, "step-up", "this needs your passkey once more", "use it, and do the same again")
}
