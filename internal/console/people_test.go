package console

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/core"
)

// people is a small company, as its list stands.
type people struct {
	list      []access.Person
	refounded []access.Refounding
	period    access.Period // of the last assessor
}

func (p *people) People(context.Context) ([]access.Person, error) { return slices.Clone(p.list), nil }

func (p *people) Invite(_ context.Context, by core.Actor, roles []access.Role, approver bool) (string, error) {
	if len(roles) == 0 {
		return "", core.E(core.Invalid, "no-role", "a person without a role could do nothing", "choose at least one")
	}
	p.list = append(p.list, access.Person{ID: "pinvitedaaaaa", State: access.Invited, Roles: roles, Approver: approver, Invited: time.Now(), InvitedBy: by, LinkUntil: time.Now().Add(48 * time.Hour)})
	return "https://console.northwind.example/set-up/a-secret-of-256-bits", nil
}

func (p *people) InviteAssessor(_ context.Context, _ core.Actor, of access.Period) (string, error) {
	p.period = of
	return "https://console.northwind.example/set-up/an-assessors-secret", nil
}

func (p *people) of(id access.PersonID, change func(*access.Person)) error {
	for i := range p.list {
		if p.list[i].ID == id {
			change(&p.list[i])
			return nil
		}
	}
	return core.E(core.Unknown, "no-such-person", "there is no such person", "choose one from the list")
}

func (p *people) SetRoles(_ context.Context, _ core.Actor, id access.PersonID, roles []access.Role, approver bool) error {
	return p.of(id, func(x *access.Person) { x.Roles, x.Approver = roles, approver })
}

func (p *people) Erase(_ context.Context, _ core.Actor, id access.PersonID, why string) error {
	return p.of(id, func(x *access.Person) { x.Erased, x.Name = why != "", "" })
}

func (p *people) Refoundings(context.Context) ([]access.Refounding, error) { return p.refounded, nil }

func (p *people) Review(_ context.Context, by core.Actor) error {
	p.refounded[0].First = access.PersonID(by.ID)
	return nil
}

func (p *people) Disable(_ context.Context, _ core.Actor, id access.PersonID, _ string) error {
	return p.of(id, func(x *access.Person) { x.State, x.Disabled = access.Disabled, time.Now() })
}

// evidence is what a server says of its keys.
type evidence struct {
	info    EvidenceInfo
	body    string
	fails   error
	written []time.Time
}

func (e *evidence) Info(context.Context) (EvidenceInfo, error) { return e.info, nil }

func (e *evidence) Export(_ context.Context, _ core.Actor, since time.Time, w io.Writer) error {
	if e.fails != nil {
		return e.fails
	}
	e.written = append(e.written, since)
	_, err := io.WriteString(w, e.body)
	return err
}

func TestPeople(t *testing.T) {
	w := newWorld(t, nil)
	company := &people{}
	w.deps.People = company
	w.serve(t)
	wants(t, "nobody", w.must200(t, "/people"), "Nobody has joined yet.", "hawser people founder")
	company.list = []access.Person{
		{ID: "pabcdefghijkl", Name: "Ada Byron", Mail: "ada@northwind.example", State: access.Active, Roles: []access.Role{access.Administrator}, Approver: true, ApproverFrom: w.now.Add(-time.Hour), Founder: true, Joined: w.now.Add(-time.Hour), Passkeys: 2},
		{ID: "pnewcomeraaaa", Name: "Eve", State: access.Active, Roles: []access.Role{access.Support}, Approver: true, ApproverFrom: w.now.Add(70 * time.Hour), Joined: w.now, PasswordSet: true, RecoveryCodes: 7},
		{ID: "pgoneaaaaaaaa", State: access.Disabled, Disabled: w.now},
	}
	page := w.must200(t, "/people")
	wants(t, "people", page, "Ada Byron", "(you)", "2 passkeys", "7 recovery codes", "Eve becomes an approver in 3 days", "no name", "founder", "/people/pnewcomeraaaa/disable")
	lacks(t, "people", page, "/people/pabcdefghijkl/disable", "/people/pgoneaaaaaaaa/disable")
	code, body := w.post(t, "/people", "role", "support", "role", "auditor", "approver", "yes")
	wants(t, "invite", body, "https://console.northwind.example/set-up/a-secret-of-256-bits", "shown this once")
	if code != http.StatusOK {
		t.Errorf("invite: %d", code)
	}
	lacks(t, "invite", body, "example/set-up/https")
	lacks(t, "the list again", w.must200(t, "/people"), "a-secret")
	if code, body := w.post(t, "/people/assessor", "from", "2026-11-01", "until", "2026-12-31"); code != http.StatusOK || !strings.Contains(body, "an-assessors-secret") {
		t.Errorf("an assessor: %d", code)
	}
	if want := (access.Period{From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}); company.period != want {
		t.Errorf("the period is %v, want %v", company.period, want)
	}
	if code, _ := w.post(t, "/people/assessor", "from", "2026-11-31", "until", "2026-12-31"); code != http.StatusBadRequest {
		t.Errorf("a day that does not exist: %d", code)
	}
	if code, body := w.post(t, "/people"); code != http.StatusBadRequest || !strings.Contains(body, "Choose at least one.") {
		t.Errorf("without a role: %d", code)
	}
	if code, _ := w.post(t, "/people/pnewcomeraaaa/disable", "why", "left"); code != http.StatusSeeOther || company.list[1].State != access.Disabled {
		t.Errorf("disable: %d", code)
	}
	if code, _ := w.post(t, "/people/%3Cb%3E/disable", "why", "left"); code != http.StatusNotFound {
		t.Errorf("nobody of that id: %d", code)
	}
	// Roles of somebody who is active and not oneself; erasure of who is disabled.
	company.list[1].State, company.list[1].Disabled = access.Active, time.Time{}
	page = w.must200(t, "/people")
	wants(t, "changes", page, "/people/pnewcomeraaaa/roles", "/people/pgoneaaaaaaaa/erase")
	lacks(t, "changes", page, "/people/pabcdefghijkl/roles", "/people/pgoneaaaaaaaa/roles", "/people/pnewcomeraaaa/erase")
	if code, _ := w.post(t, "/people/pnewcomeraaaa/roles", "role", "security", "role", "auditor", "approver", "yes"); code != http.StatusSeeOther ||
		!slices.Equal(company.list[1].Roles, []access.Role{access.Security, access.Auditor}) || !company.list[1].Approver {
		t.Errorf("roles: %d, %+v", code, company.list[1])
	}
	if code, _ := w.post(t, "/people/pgoneaaaaaaaa/erase", "why", "asked for it"); code != http.StatusSeeOther || !company.list[2].Erased {
		t.Errorf("erase: %d", code)
	}
	page = w.must200(t, "/people")
	wants(t, "the erased one", page, "erased")
	lacks(t, "the erased one", page, "/people/pgoneaaaaaaaa/erase")
	// Who may not is not offered it.
	w.who.Check = func(p string) error {
		if p == "people.list" {
			return nil
		}
		return core.E(core.Denied, "not-allowed", "no", "")
	}
	lacks(t, "for who only looks", w.must200(t, "/people"), "Make a link", "Disable for good", "Erase for good", "end their sessions", ">Ledger<")
}

// TestFoundersEnded: what was done on the machine stands on the page until two
// have reviewed it, and the way to do so for who has not.
func TestFoundersEnded(t *testing.T) {
	w := newWorld(t, nil)
	company := &people{refounded: []access.Refounding{{Number: 1, At: w.now.Add(-time.Hour), By: core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}}}}
	w.deps.People = company
	w.serve(t)
	page := w.must200(t, "/people")
	wants(t, "nobody has reviewed it", page, "Both founders were ended from the machine itself", "os:root(0)", "Two people", "/people/review")
	if code, _ := w.post(t, "/people/review"); code != http.StatusSeeOther {
		t.Errorf("review: %d", code)
	}
	page = w.must200(t, "/people")
	wants(t, "one has", page, "One more person", string(company.refounded[0].First))
	lacks(t, "to who has", page, "/people/review")
	company.refounded[0].Second, company.refounded[0].SecondAt = "psecondaaaaaa", w.now
	page = w.must200(t, "/people")
	wants(t, "both have", page, "reviewed by", "psecondaaaaaa")
	lacks(t, "both have", page, "/people/review", `role="alert"`)
}

// TestPasswordRulesAreShown: who runs it sees what new passwords are held against.
func TestPasswordRulesAreShown(t *testing.T) {
	w := newWorld(t, nil)
	rules := PasswordRules{Names: []string{"Northwind Home", "iot.northwind.example"}, Products: 2}
	w.deps.Passwords = func() PasswordRules { return rules }
	w.serve(t)
	wants(t, "without a list", w.must200(t, "/people"), "Northwind Home and iot.northwind.example", "no list of breached passwords is configured")
	rules.Breached, rules.BreachedBytes = "sha1.txt", 40_000_000_000
	wants(t, "with one", w.must200(t, "/people"), "sha1.txt", "40\u202f000\u202f000\u202f000 bytes")
}

func TestEvidencePage(t *testing.T) {
	w := newWorld(t, nil)
	e := &evidence{body: "a tar stream"}
	w.deps.Evidence = e
	w.serve(t)
	wants(t, "empty", w.must200(t, "/evidence"), "There is nothing to export yet.", "No key signs evidence yet.", "Nobody witnesses this ledger.")
	key, err := bundle.CreateKey(w.dir + "/evidence.key")
	must(t, err)
	e.info = EvidenceInfo{Keys: []EvidenceKey{EvidenceKeyOf(key.Public())}, SignsHere: true, Witnesses: []Witness{{Name: "nas.northwind.example", Last: w.now.Add(-time.Minute), Size: 12}}}
	w.prove(t, "", aCheck("a.b", "1.9", "It is so.", passes(1)))
	w.deps.Evidence = e
	page := w.must200(t, "/evidence")
	wants(t, "evidence", page, key.Public().Fingerprint(), "ssh-ed25519 ", "v=hawser-evidence1", "_hawser-evidence", "Hawser-Evidence-Key", "nas.northwind.example", "ssh-keygen -Y verify", "1 round")
	code, body := w.post(t, "/evidence", "span", "month")
	if code != http.StatusOK || body != "a tar stream" || len(e.written) != 1 || !e.written[0].Equal(w.now.Add(-30*24*time.Hour)) {
		t.Errorf("export: %d %q %v", code, body, e.written)
	}
	if code, _ := w.post(t, "/evidence", "span", "century"); code != http.StatusBadRequest {
		t.Errorf("a span that does not exist: %d", code)
	}
	e.fails = core.E(core.Unready, "not-signed-yet", "no round is under a signed checkpoint yet", "ask again in a minute")
	code, body = w.post(t, "/evidence", "span", "now")
	if code != http.StatusConflict || !strings.Contains(body, "No round is under a signed checkpoint yet.") {
		t.Errorf("not ready: %d", code)
	}
	e.fails = errors.New("disk")
	if code, _ := w.post(t, "/evidence", "span", "now"); code != http.StatusInternalServerError {
		t.Errorf("our fault: %d", code)
	}
}

// TestWaivers: asked for by one person, approved by another, taken back by
// either; the rules are assurance's.
func TestWaivers(t *testing.T) {
	w := newWorld(t, nil)
	wants(t, "none", w.must200(t, "/waivers"), "Nothing is waived.", "No control is met that could make up")
	w.prove(t, "",
		aCheck("passwords.a", "1.9", "So.", passes(4)), aCheck("passwords.b", "1.10", "So.", passes(4)), aCheck("passwords.c", "2.15", "So.", passes(4)),
		aCheck("expiry.ran", "4.4", "Expiry ran.", fails(9, "is 2 days late", "k2592000/20261001T000000Z")),
	)
	page := w.must200(t, "/waivers?row=4.4")
	wants(t, "ask", page, `<option value="4.4" selected>`, `<option value="DS-05">`)
	if code, body := w.post(t, "/waivers", "row", "7.6", "reason", "nobody has looked at it yet", "instead", "DS-05", "days", "10", "subjects", ""); code != http.StatusConflict || !strings.Contains(body, "No check looks at row 7.6 yet") {
		t.Errorf("a row that nothing looks at: %d", code)
	}
	form := []string{"row", "4.4", "reason", "the disk is being replaced this week", "instead", "DS-05", "days", "10", "subjects", ""}
	if code, body := w.post(t, "/waivers", form...); code != http.StatusSeeOther {
		t.Fatalf("ask: %d %s", code, body)
	}
	all, err := w.proof.Waivers(t.Context())
	must(t, err)
	if len(all) != 1 || all[0].AskedBy != ada || !slices.Equal(all[0].Subjects, []string{"expiry.ran/k2592000/20261001T000000Z"}) {
		t.Fatalf("waivers %+v", all)
	}
	page = w.must200(t, "/waivers")
	wants(t, "asked", page, "waits for a second person", "(you)", "/end")
	lacks(t, "asked", page, "/approve")
	if code, _ := w.post(t, "/waivers/"+all[0].ID+"/approve"); code != http.StatusForbidden {
		t.Errorf("who asked approves: %d", code)
	}
	w.who.Actor.ID = "pgraceaaaaaaa"
	wants(t, "for the second", w.must200(t, "/waivers"), "/approve")
	if code, _ := w.post(t, "/waivers/"+all[0].ID+"/approve"); code != http.StatusSeeOther {
		t.Errorf("approve: %d", code)
	}
	wants(t, "approved", w.must200(t, "/waivers"), ">counts<")
	wants(t, "control", w.must200(t, "/control/DM-03"), "Waived until", "The disk is being replaced this week.", ">Waived<")
	wants(t, "today", w.must200(t, "/?show=waived"), "DM-03", "Waived")
	if code, _ := w.post(t, "/waivers/"+all[0].ID+"/end"); code != http.StatusSeeOther {
		t.Errorf("end: %d", code)
	}
	wants(t, "taken back", w.must200(t, "/waivers"), ">taken back<")
	w.who.From = w.now.Add(time.Hour)
	lacks(t, "an assessor of later", w.must200(t, "/waivers"), ">taken back<")
	w.who.From = time.Time{}
	for name, bad := range map[string][]string{
		"no reason": {"row", "4.4", "reason", "", "instead", "DS-05", "days", "10"}, "no days": {"row", "4.4", "reason", "the disk is being replaced", "instead", "DS-05", "days", "x"},
		"never": {"row", "1.9", "reason", "the disk is being replaced", "instead", "DS-05", "days", "10"}, "no row": {"row", "<b>", "reason", "the disk is being replaced", "instead", "DS-05", "days", "10"},
	} {
		if code, _ := w.post(t, "/waivers", bad...); code < 400 || code >= 500 {
			t.Errorf("%s: %d", name, code)
		}
	}
	if code, _ := w.post(t, "/waivers/none/approve"); code != http.StatusNotFound {
		t.Errorf("no such waiver: %d", code)
	}
}
