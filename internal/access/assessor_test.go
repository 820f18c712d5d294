package access_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

const day = 24 * time.Hour

// span is a period around the fixture's now.
func (f *fixture) span(before, after time.Duration) access.Period {
	return access.Period{From: f.clock().Add(-before), Until: f.clock().Add(after)}
}

// TestAssessor: somebody of another house sees what is proved in one period,
// changes nothing, and is out when it ends, to the second.
func TestAssessor(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	_, err := f.svc.InviteAssessor(ctx, machine, f.span(day, day))
	wantReason(t, "before there are founders", err, "founders")
	ada, _ := f.founders()
	mia := f.join(f.invite(ada, false, access.Support), "Mia", "mia@northwind.example")
	_, err = f.svc.InviteAssessor(ctx, mia.id.Actor(), f.span(day, day))
	wantReason(t, "by who is no administrator", err, "not-administrator")
	for name, c := range map[string]struct {
		period access.Period
		want   string
	}{
		"no period":        {access.Period{}, "period"},
		"no end":           {access.Period{From: f.clock()}, "period"},
		"turned round":     {access.Period{From: f.clock().Add(day), Until: f.clock()}, "period"},
		"a second too far": {access.Period{From: f.clock().Add(-access.MaxPeriod), Until: f.clock().Add(time.Second)}, "period-long"},
		"later":            {access.Period{From: f.clock().Add(time.Hour), Until: f.clock().Add(day)}, "period-later"},
		"over":             {access.Period{From: f.clock().Add(-day), Until: f.clock()}, "period-over"},
	} {
		_, err := f.svc.InviteAssessor(ctx, ada.id.Actor(), c.period)
		wantReason(t, name, err, c.want)
	}

	period := f.span(30*day, 10*day)
	link, err := f.svc.InviteAssessor(ctx, ada.id.Actor(), period)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := f.svc.Setup(ctx, desk, tokenOf(t, link))
	if err != nil || seen.Period != period || seen.Approver || !slices.Equal(seen.Roles, []access.Role{access.Auditor}) {
		t.Errorf("the link shows %+v, %v", seen, err)
	}
	zoe := f.joinByPassword(link, "Zoe", "zoe@assessors.example")
	if zoe.session.Period != period {
		t.Errorf("the session's period is %v", zoe.session.Period)
	}
	var may []string
	for _, p := range access.Permissions() {
		if zoe.session.Allows(p.Name) {
			may = append(may, p.Name)
		}
	}
	if want := []string{"page.view", "ledger.read", "check.list", "evidence.export", "evidence.sample"}; !slices.Equal(may, want) {
		t.Errorf("an assessor may %v, want %v", may, want)
	}
	r := f.records(access.RecordInvited)
	last := r[len(r)-1]
	if fact(last, "from") != period.From.Format(time.RFC3339) || fact(last, "until") != period.Until.Format(time.RFC3339) || fact(last, "roles") != "auditor" {
		t.Errorf("the ledger says of the invitation: %v", last.Facts)
	}
	// What the maker's people are told is not for an assessor.
	f.join(f.invite(ada, true, access.Security), "Sam", "sam@northwind.example")
	if n, err := f.svc.Notices(ctx, zoe.session); err != nil || len(n) != 0 {
		t.Errorf("an assessor is told %v, %v", n, err)
	}
	wantReason(t, "another role", f.svc.SetRoles(ctx, ada.id.Actor(), zoe.id, []access.Role{access.Security}, false), "assessor")

	// The last moment, and the first one after it. No job has run.
	f.advance(10*day - time.Minute)
	in, err := f.svc.Password(ctx, desk, "", zoe.mail, passphrase, f.code(zoe))
	if err != nil {
		t.Fatal(err)
	}
	if !in.Session.Ends.Equal(period.Until) {
		t.Errorf("a session of the last minute ends %s, the period %s", in.Session.Ends, period.Until)
	}
	f.mustSession(in.Token)
	held := in.Session
	f.advance(time.Minute)
	if _, err := f.svc.Session(ctx, in.Token); core.KindOf(err) != core.Denied {
		t.Errorf("a session after the period: %v", err)
	}
	if !held.Allows("check.list") {
		t.Error("a session as it stood a minute ago was not good then")
	}
	if _, err := f.svc.Password(ctx, desk, "", zoe.mail, passphrase, f.code(zoe)); core.ReasonOf(err) != "not-right" {
		t.Errorf("a sign-in after the period: %v", err)
	}
	if all, err := f.svc.People(ctx); err != nil || stateOf(all, zoe.id) != access.Disabled {
		t.Errorf("after the period the list says %v, %v", stateOf(all, zoe.id), err)
	}
	if got := f.records(access.RecordDisabled); len(got) != 0 {
		t.Errorf("written down before the job ran: %v", got)
	}
	for range 2 {
		if err := f.svc.Tick(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.records(access.RecordDisabled); len(got) != 1 || fact(got[0], "cause") != "period-over" || fact(got[0], "person") != string(zoe.id) {
		t.Errorf("the ledger says of the end: %v", got)
	}
	if all, err := f.svc.People(ctx); err != nil || stateOf(all, ada.id) != access.Active || stateOf(all, mia.id) != access.Active {
		t.Errorf("others ended, too: %v", err)
	}
}

func stateOf(all []access.Person, id access.PersonID) access.State {
	for _, p := range all {
		if p.ID == id {
			return p.State
		}
	}
	return ""
}

// TestAssessorByPasskey: a passkey opens nothing after the period either, and
// neither does a link that was not used in it.
func TestAssessorByPasskey(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.founders()
	invite := func() string {
		link, err := f.svc.InviteAssessor(ctx, machine, f.span(day, day))
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	used, unused := invite(), invite()
	zoe := f.join(used, "Zoe", "zoe@assessors.example")
	if _, err := f.signIn(zoe); err != nil {
		t.Fatal(err)
	}
	f.outlive(zoe)
	f.advance(day)
	if _, err := f.svc.Session(ctx, zoe.in.Token); core.KindOf(err) != core.Denied {
		t.Errorf("a session whose own end is later: %v", err)
	}
	if _, err := f.signIn(zoe); err == nil {
		t.Error("a passkey signs in after the period")
	}
	_, err := f.svc.Setup(ctx, desk, tokenOf(t, unused))
	wantReason(t, "a link after the period", err, "bad-link")
}

// outlive writes a later end into a person's sessions, and that they were just
// in use.
func (f *fixture) outlive(p *person) {
	f.t.Helper()
	ctx := f.t.Context()
	err := f.store.Update(ctx, func(tx *store.Tx) error {
		all, err := tx.Sessions(ctx, p.id)
		if err != nil {
			return err
		}
		for _, s := range all {
			if err := tx.DeleteSession(ctx, s.Token); err != nil {
				return err
			}
			s.Ends, s.Seen = s.Ends.Add(10*day), f.clock().Add(day)
			if err := tx.InsertSession(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// TestPeriod: half a period is none that contains anything: a row of which one
// end is missing lets nobody in.
func TestPeriod(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	whole := access.Period{From: at, Until: at.Add(time.Hour)}
	for _, c := range []struct {
		p    access.Period
		at   time.Time
		want bool
	}{
		{whole, at, true},
		{whole, at.Add(-1), false},
		{whole, whole.Until, false},
		{whole, whole.Until.Add(-1), true},
		{access.Period{From: at}, at, false},
		{access.Period{Until: whole.Until}, at, false},
		{access.Period{}, at, false},
	} {
		if got := c.p.Contains(c.at); got != c.want {
			t.Errorf("%v contains %s: %v", c.p, c.at, got)
		}
	}
}
