package access_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// TestRefound: both founders lost every means. Somebody on the machine ends
// them, two others join, wait, and everybody sees it until two have reviewed it.
func TestRefound(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	refound := func(by core.Actor, why string) error { _, err := f.svc.Refound(ctx, by, why); return err }
	wantReason(t, "before there are two", refound(machine, "both keys burnt"), "founders")
	ada, bea := f.founders()
	sam := f.join(f.invite(ada, false, access.Security), "Sam", "sam@northwind.example")
	joe := f.join(f.invite(ada, false, access.Operator), "Joe", "joe@northwind.example")
	wantReason(t, "from the console", refound(ada.id.Actor(), "both keys burnt"), "founder-local")
	wantReason(t, "without a reason", refound(machine, ""), "why")
	wantReason(t, "a review of nothing", f.svc.Review(ctx, ada.id.Actor()), "nothing-to-review")

	third := f.join(f.invite(ada, false, access.Administrator), "Tom", "tom@northwind.example")
	wantReason(t, "with another administrator left", refound(machine, "both keys burnt"), "another-administrator")
	if err := f.svc.Disable(ctx, ada.id.Actor(), third.id, ""); err != nil {
		t.Fatal(err)
	}

	r, err := f.svc.Refound(ctx, machine, "both keys burnt")
	if err != nil || r.Number != 1 || r.By != machine {
		t.Fatalf("refound: %+v, %v", r, err)
	}
	for _, p := range []*person{ada, bea} {
		if _, err := f.svc.Session(ctx, p.in.Token); core.KindOf(err) != core.Denied {
			t.Errorf("a former founder's session: %v", err)
		}
		if _, err := f.signIn(p); err == nil {
			t.Error("a former founder signs in")
		}
	}
	f.mustSession(sam.in.Token) // others go on
	rec := f.records(access.RecordRefounded)
	if len(rec) != 1 || rec[0].Actor != machine || !strings.Contains(fact(rec[0], "founders"), string(ada.id)) || !strings.Contains(fact(rec[0], "founders"), string(bea.id)) || fact(rec[0], "number") != "1" {
		t.Errorf("the ledger says: %+v", rec)
	}
	ended := f.records(access.RecordDisabled)
	if n := len(ended); n != 3 || fact(ended[n-1], "cause") != "refounded" || len(ended[n-1].Sealed) == 0 || strings.Contains(string(ended[n-1].Sealed), "burnt") {
		t.Errorf("the ledger says of the two: %+v", ended)
	}
	told, err := f.svc.Notices(ctx, sam.session)
	if err != nil || len(told) == 0 || told[0].Kind != access.NoticeRefounded {
		t.Errorf("the others are told %v, %v", told, err)
	}

	// Two new ones, and no third. Neither approves for 72 hours.
	var anew [2]*person
	for i, name := range []string{"Cleo", "Dora"} {
		link, err := f.svc.FounderLink(ctx, machine)
		if err != nil {
			t.Fatal(err)
		}
		seen, err := f.svc.Setup(ctx, desk, tokenOf(t, link))
		if err != nil || !seen.Waits {
			t.Errorf("the new founder's link says %+v, %v", seen, err)
		}
		anew[i] = f.join(link, name, strings.ToLower(name)+"@northwind.example")
	}
	_, err = f.svc.FounderLink(ctx, machine)
	wantReason(t, "a third new founder", err, "founders-complete")
	for _, p := range anew {
		if s := f.mustSession(p.in.Token); s.Approver || !s.Allows("people.invite") {
			t.Errorf("a new founder approves at once, or does not administer: %+v", s)
		}
	}
	if got := f.records(access.RecordWaiting); len(got) != 2 {
		t.Errorf("%d announcements, want 2", len(got))
	}

	// Who may review it, and that it takes two.
	open := func() bool {
		all, err := f.svc.Refoundings(ctx)
		if err != nil || len(all) != 1 {
			t.Fatalf("refoundings: %v, %v", all, err)
		}
		return !all[0].Reviewed()
	}
	zoe := func() *person {
		link, err := f.svc.InviteAssessor(ctx, machine, f.span(day, day))
		if err != nil {
			t.Fatal(err)
		}
		return f.join(link, "Zoe", "zoe@assessors.example")
	}()
	wantReason(t, "a review by an operator", f.svc.Review(ctx, joe.id.Actor()), "not-reviewer")
	wantReason(t, "a review by an assessor", f.svc.Review(ctx, zoe.id.Actor()), "not-reviewer")
	wantReason(t, "a review by a former founder", f.svc.Review(ctx, ada.id.Actor()), "not-reviewer")
	wantReason(t, "a review from the machine", f.svc.Review(ctx, machine), "not-reviewer")
	if err := f.svc.Review(ctx, sam.id.Actor()); err != nil || !open() {
		t.Errorf("the first review: %v, open %v", err, open())
	}
	wantReason(t, "the same person again", f.svc.Review(ctx, sam.id.Actor()), "reviewed-by-you")
	if err := f.svc.Review(ctx, anew[0].id.Actor()); err != nil || open() {
		t.Errorf("the second review: %v, open %v", err, open())
	}
	if got := f.records(access.RecordReviewed); len(got) != 2 {
		t.Errorf("%d reviews in the ledger, want 2", len(got))
	}
	f.advance(access.ApproverWaits)
	if in, err := f.signIn(anew[0]); err != nil || !in.Session.Approver {
		t.Errorf("a new founder after 72 hours: %+v, %v", in.Session, err)
	}
}

// TestOneFounderLeft: the other one ends the account and invites anew; nothing
// of the machine is needed, and there is no third founder.
func TestOneFounderLeft(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, bea := f.founders()
	if err := f.svc.Disable(ctx, ada.id.Actor(), bea.id, "lost both keys"); err != nil {
		t.Fatal(err)
	}
	_, err := f.svc.FounderLink(ctx, machine)
	wantReason(t, "a founder in her place", err, "founders-complete")
	again := f.join(f.invite(ada, true, access.Administrator), "Bea", "bea@northwind.example")
	if s := f.mustSession(again.in.Token); s.Approver {
		t.Error("she approves at once")
	}
}

// TestSomebodyIsLeft: neither the last administrator nor the last who may
// approve now goes, whichever way.
func TestSomebodyIsLeft(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, bea := f.founders()
	sam := f.join(f.invite(ada, true, access.Security), "Sam", "sam@northwind.example") // waits
	set := func(by, who *person, approver bool, roles ...access.Role) error {
		return f.svc.SetRoles(ctx, by.id.Actor(), who.id, roles, approver)
	}
	if err := set(ada, bea, false, access.Administrator); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "the trust of the last approver", set(bea, ada, false, access.Administrator), "last-approver")
	wantReason(t, "the last approver", f.svc.Disable(ctx, bea.id.Actor(), ada.id, ""), "last-approver")
	wantReason(t, "the last approver, from the machine", f.svc.Disable(ctx, machine, ada.id, ""), "last-approver")
	f.advance(access.ApproverWaits)
	if err := set(bea, ada, false, access.Operator); err != nil { // Sam approves now
		t.Fatal(err)
	}
	if err := f.svc.SetRoles(ctx, machine, sam.id, []access.Role{access.Security}, true); err != nil {
		t.Errorf("as it is: %v", err)
	}
	wantReason(t, "roles from the machine", f.svc.SetRoles(ctx, machine, sam.id, []access.Role{access.Security, access.Support}, true), "roles-given")
	wantReason(t, "trust from the machine", f.svc.SetRoles(ctx, machine, ada.id, []access.Role{access.Operator}, true), "roles-given")
	wantReason(t, "the last administrator, from the machine", f.svc.Disable(ctx, machine, bea.id, ""), "last-administrator")
}

// TestEraseAPerson: key, name and means are gone; the staff id stays.
func TestEraseAPerson(t *testing.T) {
	var f *fixture
	f = newFixtureWith(t, func(d *access.Deps) {
		d.Erase = func(ctx context.Context, _ core.Actor, s core.Subject, _ string) error {
			if _, err := f.keys.Shred(ctx, seal.Order{Subjects: []core.Subject{s}}); err != nil {
				return err
			}
			return f.svc.Forget(ctx, s)
		}
	})
	ctx := t.Context()
	ada, bea := f.founders()
	sam := f.join(f.invite(ada, false, access.Support), "Sam", "sam@northwind.example")
	wantReason(t, "one who can still sign in", f.svc.Erase(ctx, ada.id.Actor(), sam.id, ""), "not-disabled")
	if err := f.svc.Disable(ctx, ada.id.Actor(), sam.id, "left"); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "by a supporter", f.svc.Erase(ctx, sam.id.Actor(), sam.id, ""), "not-administrator")
	wantReason(t, "nobody", f.svc.Erase(ctx, machine, "pnobodyaaaaaa", ""), "unknown-person")
	wantReason(t, "a long reason", f.svc.Erase(ctx, machine, sam.id, strings.Repeat("x", 501)), "why")
	for range 2 {
		if err := f.svc.Erase(ctx, machine, sam.id, "asked for it"); err != nil {
			t.Fatal(err)
		}
	}
	all, err := f.svc.People(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(p access.Person) bool { return p.ID == sam.id })
	if i < 0 || all[i].Name != "" || all[i].Mail != "" || !all[i].Erased || all[i].Passkeys != 0 || all[i].State != access.Disabled {
		t.Errorf("the list says %+v", all)
	}
	// The address is free again, for somebody else.
	f.join(f.invite(bea, false, access.Support), "Sam", "sam@northwind.example")
}
