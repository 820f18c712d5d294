package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// TestTwoFounders: the first two join by two links from the machine itself,
// each link works once, and there is no third.
func TestTwoFounders(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	_, err := f.svc.FounderLink(ctx, core.Actor{Kind: core.ActorStaff, ID: "paaaaaaaaaaaa"})
	wantReason(t, "a founder's link from elsewhere", err, "founder-local")

	first, err := f.svc.FounderLink(ctx, machine)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.svc.FounderLink(ctx, machine)
	if err != nil {
		t.Fatal(err)
	}
	if len(tokenOf(t, first)) < 26 || first == second {
		t.Errorf("links %q and %q", first, second)
	}
	_, err = f.svc.FounderLink(ctx, machine)
	wantReason(t, "a third link", err, "founder-links")

	ada := f.join(first, "Ada", "Ada@Northwind.example")
	_, err = f.svc.Invite(ctx, ada.id.Actor(), []access.Role{access.Operator}, false)
	wantReason(t, "an invitation before the second founder", err, "founders")
	_, err = f.svc.FounderLink(ctx, machine)
	wantReason(t, "a third link, one founder joined", err, "founder-links")
	bea := f.join(second, "Bea", "bea@northwind.example")
	_, err = f.svc.FounderLink(ctx, machine)
	wantReason(t, "a third founder", err, "founders-complete")

	for _, p := range []*person{ada, bea} {
		s := f.mustSession(p.in.Token)
		if !s.Approver || !s.Allows("people.invite") || s.Allows("data.read") || !s.Fresh() {
			t.Errorf("founder %s: approver %v, roles %v, fresh %v", p.id, s.Approver, s.Roles, s.Fresh())
		}
	}
	if got := f.mustSession(ada.in.Token); got.Name != "Ada" || got.Actor() != ada.id.Actor() {
		t.Errorf("session of %q, %v", got.Name, got.Actor())
	}
	for kind, want := range map[core.RecordKind]int{
		access.RecordInvited: 2, access.RecordLinkUsed: 2, access.RecordJoined: 2, access.RecordKeyAdded: 2, access.RecordSignedIn: 2, access.RecordWaiting: 0,
	} {
		if got := f.records(kind); len(got) != want {
			t.Errorf("%d records %s, want %d", len(got), kind, want)
		}
	}
	if r := f.records(access.RecordInvited)[0]; r.Actor != machine || fact(r, "founder") != "yes" || fact(r, "roles") != "administrator" {
		t.Errorf("the ledger says of a founder's link: %+v", r)
	}
}

// TestFounderLinkRunsOut: a founder's link that was not used in time makes room
// for another, and so does one that was ended.
func TestFounderLinkRunsOut(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	old, err := f.svc.FounderLink(ctx, machine)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.svc.FounderLink(ctx, machine); err != nil {
		t.Fatal(err)
	}
	people, err := f.svc.People(ctx)
	if err != nil || len(people) != 2 || people[1].State != access.Invited || people[1].LinkUntil.IsZero() {
		t.Fatalf("people %+v, %v", people, err)
	}
	if err := f.svc.Disable(ctx, machine, people[1].ID, ""); err != nil {
		t.Fatal(err)
	}
	third, err := f.svc.FounderLink(ctx, machine)
	if err != nil {
		t.Errorf("after one link was ended: %v", err)
	}
	f.advance(access.LinkLasts - time.Second)
	if _, err := f.svc.Setup(ctx, desk, tokenOf(t, third)); err != nil {
		t.Errorf("a second before the end: %v", err)
	}
	f.advance(time.Second)
	if _, err = f.svc.FounderLink(ctx, machine); err != nil {
		t.Errorf("after the links ran out: %v", err)
	}
	for _, link := range []string{old, third} {
		_, err = f.svc.Setup(ctx, desk, tokenOf(t, link))
		wantReason(t, "a link after two days", err, "bad-link")
	}
}

// TestSetupLinkWorksOnce: a used link joins nobody, whoever holds it, and the
// ledger says a few times that somebody tried.
func TestSetupLinkWorksOnce(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	link, err := f.svc.FounderLink(ctx, machine)
	if err != nil {
		t.Fatal(err)
	}
	token := tokenOf(t, link)
	for range 3 { // looking does not use it
		inv, err := f.svc.Setup(ctx, desk, token)
		if err != nil || !inv.Founder || inv.MayPassword {
			t.Fatalf("%+v, %v", inv, err)
		}
	}
	// Two browsers begin; the one that is first joins.
	slow, err := f.svc.SetupPasskey(ctx, desk, token, access.Details{Name: "Mallory", Mail: "m@evil.example"})
	if err != nil {
		t.Fatal(err)
	}
	ada := f.join(link, "Ada", "ada@northwind.example")
	_, err = f.svc.SetupPasskeyDone(ctx, desk, token, "", newKey("").attest(t, slow))
	wantReason(t, "the slower browser", err, "link-used")
	for range 10 {
		_, err = f.svc.Setup(ctx, desk, token)
		wantReason(t, "a used link", err, "link-used")
	}
	_, err = f.svc.SetupPassword(ctx, desk, token, access.Details{Name: "M", Mail: "m@evil.example"}, "plinth warble oxide tundra")
	wantReason(t, "a used link with a password", err, "link-used")
	if got := f.records(access.RecordLinkReplay); len(got) != 3 || got[0].Subject.IsZero() {
		t.Errorf("%d records of replays, want 3: the first few", len(got))
	}
	people, err := f.svc.People(ctx)
	if err != nil || len(people) != 1 || people[0].ID != ada.id || people[0].Passkeys != 1 {
		t.Errorf("people %+v, %v", people, err)
	}
	for _, bad := range []string{"", "x", token[:20], token + "A", strings.Repeat("A", 43), strings.Repeat("=", 43), strings.Repeat("é", 30)} {
		_, err := f.svc.Setup(ctx, desk, bad)
		wantReason(t, "link "+bad, err, "bad-link")
	}
}

// TestJoinSaysWhoOneIs: names and addresses are checked, kept sealed, and
// nobody takes another's address.
func TestJoinSaysWhoOneIs(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, _ := f.founders()
	link := f.invite(ada, false, access.Operator)
	token := tokenOf(t, link)
	for _, c := range []struct{ name, mail, want string }{
		{"", "c@x.example", "name"},
		{"   ", "c@x.example", "name"},
		{strings.Repeat("n", 81), "c@x.example", "name"},
		{"Cleo\u202eadA", "c@x.example", "name"},
		{"Cleo\x00", "c@x.example", "name"},
		{"Cleo\xff", "c@x.example", "name"},
		{"Cleo", "", "mail"},
		{"Cleo", "c", "mail"},
		{"Cleo", "@x", "mail"},
		{"Cleo", "c@", "mail"},
		{"Cleo", "c@x@y", "mail"},
		{"Cleo", "c d@x.example", "mail"},
		{"Cleo", strings.Repeat("c", 250) + "@x.example", "mail"},
		{"Cleo", " ADA@northwind.example ", "mail-taken"},
	} {
		_, err := f.svc.SetupPasskey(ctx, desk, token, access.Details{Name: c.name, Mail: c.mail})
		wantReason(t, c.name+" "+c.mail, err, c.want)
	}
	cleo := f.join(link, "  <b>Cleo</b>   & sons ", "Cleo@Northwind.Example")
	if s := f.mustSession(cleo.in.Token); s.Name != "<b>Cleo</b> & sons" { // pages escape it
		t.Errorf("name %q", s.Name)
	}
	dump := dumpTables(t, f)
	for _, secret := range []string{"Cleo", "cleo", "northwind", "Firefox", "192.0.2.7", cleo.in.Token, token} {
		if strings.Contains(dump, secret) {
			t.Errorf("the database holds %q in clear", secret)
		}
	}
}

// dumpTables is everything that the control database holds, as bytes.
func dumpTables(t *testing.T, f *fixture) string {
	t.Helper()
	var b strings.Builder
	err := f.store.View(t.Context(), func(tx *store.Tx) error {
		people, err := tx.People(t.Context())
		if err != nil {
			return err
		}
		for _, p := range people {
			b.WriteString(string(p.Details.Bytes()) + string(p.TOTP.Bytes()) + string(p.Lookup[:]) + string(p.ID) + string(p.Password))
			ss, err := tx.Sessions(t.Context(), p.ID)
			if err != nil {
				return err
			}
			for _, s := range ss {
				b.WriteString(string(s.Token[:]) + string(s.Browser.Bytes()))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"control.db", "control.db-wal"} {
		b.WriteString(readFile(t, f.dir+"/data/"+name))
	}
	return b.String()
}

// TestNewApproverWaits: after the founders a new approver waits 72 hours, and
// everybody is told.
func TestNewApproverWaits(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, bea := f.founders()
	cleo := f.join(f.invite(ada, true, access.Security), "Cleo", "cleo@northwind.example")
	s := f.mustSession(cleo.in.Token)
	if s.Approver || s.Allows("waiver.approve") || !s.Allows("waiver.ask") {
		t.Errorf("a new approver: approver %v, approves %v, asks %v", s.Approver, s.Allows("waiver.approve"), s.Allows("waiver.ask"))
	}
	for _, p := range []*person{ada, bea, cleo} {
		n, err := f.svc.Notices(ctx, p.session)
		if err != nil || len(n) == 0 || n[0].Kind != access.NoticeApprover || n[0].About != cleo.id || n[0].Name != "Cleo" || !n[0].Until.Equal(f.clock().Add(access.ApproverWaits)) {
			t.Errorf("notices of %s: %+v, %v", p.id, n, err)
		}
	}
	if got := f.records(access.RecordWaiting); len(got) != 1 || fact(got[0], "person") != string(cleo.id) {
		t.Errorf("records of waiting approvers: %+v", got)
	}
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{{access.ApproverWaits - time.Second, false}, {time.Second, true}} {
		f.advance(c.after)
		in, err := f.signIn(cleo)
		if err != nil {
			t.Fatal(err)
		}
		if s := f.mustSession(in.Token); s.Approver != c.want || s.Allows("waiver.approve") != c.want {
			t.Errorf("approver %v, want %v", s.Approver, c.want)
		}
	}
}
