package access_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/gate"
)

// session is a made-up one; only the service makes real ones.
func session(roles ...access.Role) access.Session {
	return access.Session{Person: "paaaaaaaaaaaa", Roles: roles, Means: []gate.Means{gate.Passkey}}
}

// TestEveryRoutesPermissionHasRoles: a permission that no role has would be a
// door that nobody opens, and a role that no table names could open any.
func TestEveryRoutesPermissionHasRoles(t *testing.T) {
	known := map[string]bool{}
	for _, p := range access.Permissions() {
		if known[p.Name] || len(p.Roles) == 0 {
			t.Errorf("permission %q stands there twice or has no role", p.Name)
		}
		known[p.Name] = true
		for _, r := range p.Roles {
			if !r.Valid() {
				t.Errorf("permission %q names the role %q", p.Name, r)
			}
		}
	}
	local := []string{"people.found"} // for the machine's own user, whatever the role
	for _, rt := range api.Routes(api.Deps{}) {
		if slices.Contains(local, rt.Permission) == known[rt.Permission] {
			t.Errorf("%s asks for %q, which no role has, or should have", rt.Pattern, rt.Permission)
		}
	}
	for _, p := range []string{"check.list", "check.run", "evidence.export", "waiver.ask", "waiver.approve", "people.list", "people.invite", "people.disable", "people.roles", "people.erase", "people.review", "evidence.sample", "page.view"} {
		if !known[p] {
			t.Errorf("no role has %s", p)
		}
	}
}

// TestWhatRolesMay is the table once more, by what must never be.
func TestWhatRolesMay(t *testing.T) {
	for _, p := range access.Permissions() {
		for _, r := range access.Roles() {
			has := session(r).Allows(p.Name)
			switch {
			case p.Approver && has:
				t.Errorf("%s has %s without being an approver", r, p.Name)
			case r == access.Administrator && strings.HasPrefix(p.Name, "data.") && has:
				t.Errorf("an administrator has %s", p.Name)
			case r == access.Auditor && has && (strings.HasPrefix(p.Name, "data.") || strings.HasPrefix(p.Name, "device.") || strings.HasPrefix(p.Name, "people.") && p.Name != "people.review" || p.Risky):
				t.Errorf("an auditor has %s", p.Name)
			case p.Name == "data.read" && has != (r == access.Support):
				t.Errorf("%s: data.read is %v", r, has)
			case strings.HasPrefix(p.Name, "people.") && p.Name != "people.list" && p.Name != "people.review" && has != (r == access.Administrator):
				t.Errorf("%s: %s is %v", r, p.Name, has)
			case p.Name == "page.view" && !has:
				t.Errorf("%s sees no page", r)
			}
		}
		if session().Allows(p.Name) {
			t.Errorf("%s without a role", p.Name)
		}
		if (access.Session{Roles: access.Roles(), Means: []gate.Means{gate.Passkey}}).Allows(p.Name) {
			t.Errorf("nobody has %s", p.Name)
		}
	}
	for _, unknown := range []string{"", "data", "data.*", "data.read ", "DATA.READ", "*"} {
		if session(access.Roles()...).Allows(unknown) || !access.Risky(unknown) {
			t.Errorf("the unknown permission %q is allowed", unknown)
		}
	}
	if session("god").Allows("page.view") {
		t.Error("an unknown role is one")
	}
	approver := session(access.Security)
	approver.Approver = true
	if !approver.Allows("waiver.approve") {
		t.Error("an approver may not approve")
	}
}

// TestRiskyPermissionsNeedAFreshPasskey: what cannot be undone asks for it.
func TestRiskyPermissionsNeedAFreshPasskey(t *testing.T) {
	f := newFixture(t)
	ada, _ := f.founders()
	s := f.mustSession(ada.in.Token)
	f.advance(access.StepUpFor)
	if err := f.mustSession(ada.in.Token).May("server.backup"); err != nil || s.May("server.backup") != nil {
		t.Errorf("after five minutes: %v", err)
	}
	f.advance(time.Second)
	stale := f.mustSession(ada.in.Token)
	for _, p := range access.Permissions() {
		if !slices.Contains(p.Roles, access.Administrator) {
			wantReason(t, p.Name, stale.May(p.Name), "not-allowed")
			continue
		}
		if err := stale.May(p.Name); (err != nil) != p.Risky {
			t.Errorf("%s, risky %v: %v", p.Name, p.Risky, err)
		}
	}
	for _, must := range []string{"people.invite", "people.disable", "data.erase", "device.revoke", "waiver.approve", "declaration.publish", "server.backup"} {
		if !access.Risky(must) {
			t.Errorf("%s is not risky", must)
		}
	}
}
