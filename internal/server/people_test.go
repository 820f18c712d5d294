package server

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// office is a server that is open and serves nobody, and its people.
type office struct {
	t    *testing.T
	s    *server
	know *access.Service
	end  func()
}

const officeAddr = "localhost:8444"

var operator = core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}

func openOffice(t *testing.T, home string) *office {
	t.Helper()
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, s: newServer(c, Options{Now: time.Now})}
	if err := o.s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := false
	o.end = func() {
		if !ended {
			if err := o.s.close(); err != nil {
				t.Error(err)
			}
		}
		ended = true
	}
	t.Cleanup(o.end)
	if o.know, err = o.s.openAccess(t.Context(), officeAddr); err != nil {
		t.Fatal(err)
	}
	o.s.people.access = o.know
	return o
}

// join uses a set-up link with a made-up authenticator.
func (o *office) join(link, name string) access.Session {
	o.t.Helper()
	_, token, ok := strings.Cut(link, access.SetupPath)
	if !ok {
		o.t.Fatalf("the link %q leads nowhere", link)
	}
	from := access.From{Source: netip.MustParseAddr("192.0.2.7"), Agent: "a test"}
	options, err := o.know.SetupPasskey(o.t.Context(), from, token, access.Details{Name: name, Mail: strings.ToLower(name) + "@northwind.example"})
	if err != nil {
		o.t.Fatal(err)
	}
	asked, err := virtualwebauthn.ParseAttestationOptions(string(options))
	if err != nil {
		o.t.Fatal(err)
	}
	cred := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	for len(cred.Key.AttestationData()) != 77 { // the module drops leading zeros
		cred = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	answer := virtualwebauthn.CreateAttestationResponse(virtualwebauthn.RelyingParty{ID: "localhost", Name: "Hawser", Origin: "https://" + officeAddr},
		virtualwebauthn.NewAuthenticatorWithOptions(virtualwebauthn.AuthenticatorOptions{UserHandle: []byte(asked.UserID)}), cred, *asked)
	in, err := o.know.SetupPasskeyDone(o.t.Context(), from, token, "", []byte(answer))
	if err != nil {
		o.t.Fatal(err)
	}
	return in.Session
}

func (o *office) founders() (ada, bea access.Session) {
	o.t.Helper()
	var out [2]access.Session
	for i, name := range []string{"Ada", "Bea"} {
		link, err := o.know.FounderLink(o.t.Context(), operator)
		if err != nil {
			o.t.Fatal(err)
		}
		out[i] = o.join(link, name)
	}
	return out[0], out[1]
}

func (o *office) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) person(id access.PersonID) access.Person {
	o.t.Helper()
	all, err := o.know.People(o.t.Context())
	o.must(err)
	i := slices.IndexFunc(all, func(p access.Person) bool { return p.ID == id })
	if i < 0 {
		o.t.Fatalf("there is no %s", id)
	}
	return all[i]
}

func (o *office) records(kind core.RecordKind) (out []core.Record) {
	o.t.Helper()
	o.must(o.s.sequenced(o.t.Context()))
	found, _, err := o.s.ledger.List(o.t.Context(), ledger.Filter{Kind: kind}, 0, 0)
	o.must(err)
	for i := range found {
		out = append(out, found[i].Record)
	}
	return out
}

// TestErasedPeopleStayErased: a backup from before still knows who was erased;
// a restore from it erases again, and nobody else (CC 4.8).
func TestErasedPeopleStayErased(t *testing.T) {
	home := newHome(t, core.Test, "")
	o := openOffice(t, home)
	ada, _ := o.founders()
	link, err := o.know.Invite(t.Context(), ada.Actor(), []access.Role{access.Support}, false)
	o.must(err)
	sam := o.join(link, "Sam")
	_, err = o.know.Invite(t.Context(), ada.Actor(), []access.Role{access.Operator}, false) // has no key yet
	o.must(err)
	backup := filepath.Join(t.TempDir(), "backup")
	_, err = running{o.s}.Backup(t.Context(), operator, backup, func(int64, int64) {})
	o.must(err)
	var before core.Subject
	o.must(o.s.store.View(t.Context(), func(tx *store.Tx) error {
		p, err := tx.Person(t.Context(), sam.Person)
		before = p.Subject
		return err
	}))

	o.must(o.know.Disable(t.Context(), ada.Actor(), sam.Person, "left the company"))
	wantReason(t, "without a reason", o.know.Erase(t.Context(), ada.Actor(), sam.Person, ""), core.Invalid, "a reason is required")
	for range 2 {
		o.must(o.know.Erase(t.Context(), ada.Actor(), sam.Person, "asked for it in writing"))
	}
	if p := o.person(sam.Person); !p.Erased || p.Name != "" || p.Mail != "" {
		t.Errorf("after the erasure: %+v", p)
	}
	if o.s.ring.Has(before) {
		t.Error("the key is still there")
	}
	if r := o.records(telemetry.RecordErased); len(r) != 1 || r[0].Subject != before || r[0].Actor != ada.Actor() {
		t.Errorf("receipts: %+v", r)
	}
	o.end()

	o = openOffice(t, restore(t, home, backup))
	if p := o.person(sam.Person); !p.Erased || p.Name != "" || p.State != access.Disabled {
		t.Errorf("after the restore: %+v", p)
	}
	if r := o.records(telemetry.RecordErasedAgain); len(r) != 1 || r[0].Subject != before {
		t.Errorf("erased again: %+v", r)
	}
	all, err := o.know.People(t.Context())
	o.must(err)
	if len(all) != 4 || all[0].Name == "" || all[1].Name == "" {
		t.Errorf("the others after the restore: %+v", all)
	}
	if i := slices.IndexFunc(all, func(p access.Person) bool { return p.State == access.Invited }); i < 0 {
		t.Error("who was only invited was erased, too")
	}
}

// TestLocalDoorGivesNothing: on the machine roles are taken away and not given.
func TestLocalDoorGivesNothing(t *testing.T) {
	o := openOffice(t, newHome(t, core.Test, ""))
	ada, bea := o.founders()
	door := peopleAtSocket{o.s}
	roles := func(who access.Session, approver bool, roles ...access.Role) error {
		return door.SetRoles(t.Context(), operator, who.Person, roles, approver)
	}
	wantReason(t, "a role more", roles(bea, true, access.Administrator, access.Support), core.Denied, "only taken away")
	o.must(roles(bea, false, access.Administrator))
	wantReason(t, "the trust again", roles(bea, true, access.Administrator), core.Denied, "only taken away")
	wantReason(t, "the last approver", roles(ada, false, access.Administrator), core.Conflict, "last one who may approve")
	link, err := door.InviteAssessor(t.Context(), operator, access.Period{From: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)})
	o.must(err)
	zoe := o.join(link, "Zoe")
	if !zoe.Allows("evidence.export") || zoe.Allows("people.list") || zoe.Allows("device.list") {
		t.Errorf("an assessor's session: %+v", zoe)
	}
	o.must(door.Disable(t.Context(), operator, zoe.Person, "done earlier"))
	o.must(door.Erase(t.Context(), operator, zoe.Person, "the contract says so"))
	if got := o.records(access.RecordRoles); len(got) != 1 || got[0].Actor != operator {
		t.Errorf("changes of roles in the ledger: %+v", got)
	}
}

// TestPasswordsOfTheMaker: names of products and the maker's own list of
// breached passwords are held against new passwords, as the configuration says.
func TestPasswordsOfTheMaker(t *testing.T) {
	home := newHome(t, core.Test, "maker: Zorblax Lights\nbreached_passwords: list.txt\n")
	list := filepath.Join(home, "list.txt")
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	if err := newServer(c, Options{Now: time.Now}).openBreached(); core.ReasonOf(err) != "breached-passwords" {
		t.Errorf("a list that is not there: %v", err)
	}
	// SHA-1 of "gravel otter lantern quince".
	if err := os.WriteFile(list, []byte("0000000000000000000000000000000000000000:9\n4A96074E8D3B3EB6459CB3D134A58B17A96F67A0:3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := openOffice(t, home)
	r := o.s.passwordRules()
	if r.Breached != "list.txt" || r.BreachedBytes == 0 || !slices.Contains(r.Names, "Zorblax Lights") {
		t.Errorf("what is shown: %+v", r)
	}
	d, err := declaration.Parse("test.yaml", []byte(strings.Replace(testDeclaration, "Test Sensor", "Quokkabolt", 1)))
	o.must(err)
	p, err := declaration.Compile(d)
	o.must(err)
	o.must(o.s.decl.Publish(t.Context(), operator, p))
	ada, _ := o.founders()
	link, err := o.know.Invite(t.Context(), ada.Actor(), []access.Role{access.Support}, false)
	o.must(err)
	_, token, _ := strings.Cut(link, access.SetupPath)
	for password, want := range map[string]string{
		"gravel otter lantern quince": "password-breached", "quokkabolt-2026": "password-easy", "zorblaxlights-2026": "password-easy", "plinth warble oxide tundra": "",
	} {
		_, err := o.know.SetupPassword(t.Context(), access.From{Source: netip.MustParseAddr("192.0.2.7")}, token, access.Details{Name: "Sam", Mail: "sam@example.org"}, password)
		if core.ReasonOf(err) != want && (err != nil || want != "") {
			t.Errorf("%q: %v, want %q", password, err, want)
		}
	}
}
