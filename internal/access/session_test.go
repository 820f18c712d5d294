package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// TestSessionEnds: by idleness, by age, by sign-out, and with its person.
func TestSessionEnds(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, bea := f.founders()
	ended := func(what, token string) {
		t.Helper()
		_, err := f.svc.Session(ctx, token)
		wantReason(t, what, err, "no-session")
		if core.KindOf(err) != core.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	in, err := f.signIn(ada)
	if err != nil {
		t.Fatal(err)
	}
	f.advance(access.IdleFor - time.Second)
	f.mustSession(in.Token)
	f.advance(access.IdleFor - time.Second) // the request before counted
	f.mustSession(in.Token)
	f.advance(access.IdleFor)
	ended("idle for half an hour", in.Token)

	if in, err = f.signIn(ada); err != nil {
		t.Fatal(err)
	}
	for range int(access.LastsForStrong/(20*time.Minute)) - 1 {
		f.advance(20 * time.Minute)
		f.mustSession(in.Token)
	}
	f.advance(20 * time.Minute)
	ended("after eight hours", in.Token)

	if in, err = f.signIn(ada); err != nil {
		t.Fatal(err)
	}
	if err := f.svc.SignOut(ctx, in.Token); err != nil {
		t.Fatal(err)
	}
	ended("signed out", in.Token)
	if err := f.svc.SignOut(ctx, in.Token); err != nil {
		t.Errorf("signing out twice: %v", err)
	}
	for _, bad := range []string{"", "x", strings.Repeat("A", 43), in.Token + "A", strings.Repeat("\xff", 43)} {
		ended("cookie "+bad, bad)
	}

	// Two sessions; one ends the other, then all.
	one, err := f.signIn(ada)
	if err != nil {
		t.Fatal(err)
	}
	two, err := f.signIn(ada)
	if err != nil {
		t.Fatal(err)
	}
	all, err := f.svc.Sessions(ctx, two.Session)
	if err != nil || len(all) != 2 || all[0].Browser.Agent != desk.Agent || all[0].Browser.Source != "192.0.2.7" {
		t.Fatalf("sessions %+v, %v", all, err)
	}
	if err := f.svc.EndSession(ctx, two.Session, one.Session.ID); err != nil {
		t.Fatal(err)
	}
	ended("ended by the other", one.Token)
	wantReason(t, "ending another person's session", f.svc.EndSession(ctx, bea.session, two.Session.ID), "no-such-session")
	f.mustSession(two.Token)
	if err := f.svc.SignOutEverywhere(ctx, two.Session); err != nil {
		t.Fatal(err)
	}
	ended("signed out everywhere", two.Token)
	if got := f.records(access.RecordEnded); len(got) != 1 || fact(got[0], "cause") != "signed-out-everywhere" {
		t.Errorf("records %+v", got)
	}
}

// TestDisableEndsSessions: with the next request, for good, and a passkey does
// not help (ASVS 7.4.2).
func TestDisableEndsSessions(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, bea := f.founders()
	cleo := f.join(f.invite(ada, false, access.Operator), "Cleo", "cleo@northwind.example")
	waiting := f.invite(ada, false, access.Operator)
	wantReason(t, "by an operator", f.svc.Disable(ctx, cleo.id.Actor(), bea.id, ""), "not-administrator")
	wantReason(t, "by a job", f.svc.Disable(ctx, core.Job("x"), bea.id, ""), "not-administrator")
	wantReason(t, "one's own", f.svc.Disable(ctx, ada.id.Actor(), ada.id, ""), "own-account")

	f.mustSession(cleo.in.Token)
	if err := f.svc.Disable(ctx, ada.id.Actor(), cleo.id, "left the firm for Acme"); err != nil {
		t.Fatal(err)
	}
	_, err := f.svc.Session(ctx, cleo.in.Token)
	wantReason(t, "a session of a disabled person", err, "no-session")
	_, err = f.signIn(cleo)
	wantReason(t, "a passkey of a disabled person", err, "passkey-refused")
	if err := f.svc.Disable(ctx, ada.id.Actor(), cleo.id, ""); err != nil {
		t.Errorf("twice: %v", err)
	}
	got := f.records(access.RecordDisabled)
	if len(got) != 1 || len(got[0].Sealed) == 0 || strings.Contains(string(got[0].Sealed), "Acme") {
		t.Errorf("records %+v", got)
	}
	if got := f.records(access.RecordEnded); len(got) != 1 || fact(got[0], "cause") != "disabled" || fact(got[0], "sessions") != "1" {
		t.Errorf("records of ended sessions: %+v", got)
	}

	// What counts is what stands in the store, whoever wrote it.
	dora := f.join(f.invite(ada, false, access.Operator), "Dora", "dora@northwind.example")
	if err := f.store.Update(ctx, func(tx *store.Tx) error {
		p, err := tx.Person(ctx, dora.id)
		if err != nil {
			return err
		}
		p.State = access.Disabled
		return tx.UpdatePerson(ctx, p)
	}); err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Session(ctx, dora.in.Token)
	wantReason(t, "a session that outlived its person", err, "no-session")

	// A person who has not joined yet cannot any more.
	people, err := f.svc.People(ctx)
	if err != nil || len(people) != 5 {
		t.Fatalf("%+v, %v", people, err)
	}
	for _, p := range people {
		if p.State != access.Invited {
			continue
		}
		if err := f.svc.Disable(ctx, ada.id.Actor(), p.ID, ""); err != nil {
			t.Fatal(err)
		}
	}
	_, err = f.svc.Setup(ctx, desk, tokenOf(t, waiting))
	wantReason(t, "the link of a disabled invitation", err, "bad-link")

	// Somebody must be left who can let others in.
	if err := f.svc.Disable(ctx, ada.id.Actor(), bea.id, ""); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "the last administrator", f.svc.Disable(ctx, machine, ada.id, ""), "last-administrator")
}

// TestRolesChangeAtOnce: a changed role holds from the next request on.
func TestRolesChangeAtOnce(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, bea := f.founders()
	cleo := f.join(f.invite(ada, false, access.Operator), "Cleo", "cleo@northwind.example")
	if s := f.mustSession(cleo.in.Token); !s.Allows("device.add") || s.Allows("people.list") {
		t.Errorf("an operator: %+v", s)
	}
	for what, err := range map[string]error{
		"not-administrator": f.svc.SetRoles(ctx, cleo.id.Actor(), cleo.id, []access.Role{access.Administrator}, false),
		"own-account":       f.svc.SetRoles(ctx, ada.id.Actor(), ada.id, []access.Role{access.Administrator, access.Operator}, true),
		"role":              f.svc.SetRoles(ctx, ada.id.Actor(), cleo.id, []access.Role{"god"}, false),
	} {
		wantReason(t, what, err, what)
	}
	wantReason(t, "no role", f.svc.SetRoles(ctx, ada.id.Actor(), cleo.id, nil, false), "role")
	if err := f.svc.SetRoles(ctx, ada.id.Actor(), cleo.id, []access.Role{access.Auditor, access.Auditor}, true); err != nil {
		t.Fatal(err)
	}
	_, err := f.svc.Session(ctx, cleo.in.Token)
	wantReason(t, "the session before", err, "no-session")
	in, err := f.signIn(cleo)
	if err != nil {
		t.Fatal(err)
	}
	s := f.mustSession(in.Token)
	if s.Allows("device.add") || !s.Allows("evidence.export") || s.Approver || len(s.Roles) != 1 {
		t.Errorf("an auditor who waits to approve: %+v", s)
	}
	if n, err := f.svc.Notices(ctx, bea.session); err != nil || len(n) != 1 || n[0].Kind != access.NoticeApprover {
		t.Errorf("notices %+v, %v", n, err)
	}
	if got := f.records(access.RecordRoles); len(got) != 1 || fact(got[0], "roles") != "auditor" || fact(got[0], "approver") != "yes" {
		t.Errorf("records %+v", got)
	}
	if err := f.svc.SetRoles(ctx, ada.id.Actor(), bea.id, []access.Role{access.Operator}, false); err != nil {
		t.Fatal(err)
	}
	if err := f.svc.Disable(ctx, machine, ada.id, ""); core.ReasonOf(err) != "last-administrator" {
		t.Errorf("%v", err)
	}
}
