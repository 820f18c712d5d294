package access_test

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// TestPasswordAndCode: both at once, each code once, one text for whatever is
// wrong.
func TestPasswordAndCode(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, _ := f.founders()
	cleo := f.joinByPassword(f.invite(ada, false, access.Operator), "Cleo", "cleo@northwind.example")
	dora := f.joinByPassword(f.invite(ada, false, access.Operator), "Dora", "dora@northwind.example")
	if len(cleo.codes) != 10 {
		t.Fatalf("%d recovery codes", len(cleo.codes))
	}
	s := f.mustSession(cleo.in.Token)
	if !s.Allows("device.add") || s.Fresh() || !s.Ends.Equal(f.clock().Add(access.LastsFor)) {
		t.Errorf("session %+v", s)
	}
	wantReason(t, "a risky permission without any passkey", s.May("device.revoke"), "step-up")
	_, err := f.svc.StepUpBegin(ctx, s)
	wantReason(t, "a step-up without any passkey", err, "no-passkey")

	// The code that joined is used up, and so is any other afterwards.
	_, err = f.svc.Password(ctx, desk, "", cleo.mail, passphrase, f.code(cleo))
	wantReason(t, "the code of the joining", err, "not-right")
	f.advance(time.Minute)
	old := f.code(cleo)
	in, err := f.svc.Password(ctx, desk, cleo.in.Token, " CLEO@northwind.example", passphrase, " "+old[:3]+" "+old[3:])
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Session(ctx, cleo.in.Token)
	wantReason(t, "the session before", err, "no-session")
	if s := f.mustSession(in.Token); len(s.Means) != 2 || s.Means[0] != gate.Password || s.Means[1] != gate.TOTP {
		t.Errorf("means %v", s.Means)
	}
	for what, c := range map[string][3]string{
		"a code again":           {cleo.mail, passphrase, old},
		"a wrong password":       {cleo.mail, passphrase + "!", "now"},
		"no password":            {cleo.mail, "", "now"},
		"a very long password":   {cleo.mail, strings.Repeat("p", 5000), "now"},
		"both wrong":             {cleo.mail, passphrase + "!", "000000"},
		"a wrong code":           {cleo.mail, passphrase, "000000"},
		"no code":                {cleo.mail, passphrase, ""},
		"a recovery code":        {cleo.mail, passphrase, cleo.codes[0]},
		"nobody":                 {"nobody@northwind.example", passphrase, "now"},
		"no address":             {"", passphrase, "000000"},
		"another's account":      {dora.mail, passphrase, "now"},
		"somebody with no means": {ada.mail, passphrase, "now"},
	} {
		f.advance(time.Hour)
		if c[2] == "now" { // the one factor is right
			c[2] = f.code(cleo)
		}
		_, err := f.svc.Password(ctx, desk, "", c[0], c[1], c[2])
		wantReason(t, what, err, "not-right")
		if core.KindOf(err) != core.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	// One step late or early is taken, two are not.
	for _, c := range []struct {
		after time.Duration
		ok    bool
	}{{-30 * time.Second, true}, {30 * time.Second, true}, {-60 * time.Second, false}, {60 * time.Second, false}} {
		f.advance(time.Hour)
		code := f.codeAt(cleo, c.after)
		if _, err := f.svc.Password(ctx, desk, "", cleo.mail, passphrase, code); (err == nil) != c.ok {
			t.Errorf("a code of %v: %v", c.after, err)
		}
	}
	// Once more on one step, from many sides at once: one gets in.
	f.advance(time.Hour)
	code := f.code(cleo)
	var wg sync.WaitGroup
	var mu sync.Mutex
	right := 0
	for i := range 4 {
		wg.Go(func() {
			from := access.From{Source: netip.AddrFrom4([4]byte{198, 51, byte(i), 7})}
			if _, err := f.svc.Password(ctx, from, "", cleo.mail, passphrase, code); err == nil {
				mu.Lock()
				right++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if right != 1 {
		t.Errorf("one code opened %d sessions, want 1", right)
	}
}

func (f *fixture) codeAt(p *person, after time.Duration) string {
	f.advance(after)
	defer f.advance(-after)
	return f.code(p)
}

// TestRecoveryCode: each takes the place of a one-time code once.
func TestRecoveryCode(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, _ := f.founders()
	cleo := f.joinByPassword(f.invite(ada, false, access.Operator), "Cleo", "cleo@northwind.example")
	dora := f.joinByPassword(f.invite(ada, false, access.Operator), "Dora", "dora@northwind.example")
	try := func(code string) error {
		f.advance(time.Hour)
		_, err := f.svc.Recovery(ctx, desk, "", cleo.mail, passphrase, code)
		return err
	}
	typed := strings.ReplaceAll(strings.ToLower(cleo.codes[0]), "-", " ")
	typed = strings.NewReplacer("0", "o", "1", "l").Replace(typed)
	_, err := f.svc.Recovery(ctx, desk, "", cleo.mail, "not the password at all", typed)
	wantReason(t, "with a wrong password", err, "not-right")
	if err := try(typed); err != nil { // it was not spent by the wrong try
		t.Errorf("typed by hand: %v", err)
	}
	for what, code := range map[string]string{
		"again": cleo.codes[0], "another's": dora.codes[0], "a one-time code": f.code(cleo), "short": cleo.codes[1][:20], "nothing": "", "long": strings.Repeat("A", 1000), "odd": "é" + cleo.codes[1],
	} {
		wantReason(t, what, try(code), "not-right")
	}
	for i := 1; i < 8; i++ {
		if err := try(cleo.codes[i]); err != nil {
			t.Errorf("code %d: %v", i, err)
		}
	}
	n, err := f.svc.Notices(ctx, cleo.session)
	if err != nil || len(n) == 0 || n[0].Kind != access.NoticeCodesScarce {
		t.Errorf("notices %+v, %v", n, err)
	}
}

// TestStrongRolesNeedAPasskey: a password is never enough for administrators
// and approvers, however they came to it (ASVS 6.3.3).
func TestStrongRolesNeedAPasskey(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, _ := f.founders()
	for _, c := range []struct {
		role     access.Role
		approver bool
	}{{access.Administrator, false}, {access.Operator, true}} {
		token := tokenOf(t, f.invite(ada, c.approver, c.role))
		inv, err := f.svc.Setup(ctx, desk, token)
		if err != nil || inv.MayPassword {
			t.Errorf("%v: may join with a password", c)
		}
		_, err = f.svc.SetupPassword(ctx, desk, token, access.Details{Name: "X", Mail: "x@northwind.example"}, passphrase)
		wantReason(t, "joining with a password", err, "passkey-only")
	}
	_, err := f.svc.SetPassword(ctx, ada.session, passphrase)
	wantReason(t, "an administrator's password", err, "passkey-only")

	// An operator with a password cannot be made more than that.
	cleo := f.joinByPassword(f.invite(ada, false, access.Operator), "Cleo", "cleo@northwind.example")
	for _, c := range []struct {
		role     access.Role
		approver bool
	}{{access.Administrator, false}, {access.Operator, true}} {
		wantReason(t, "a strong role without a passkey", f.svc.SetRoles(ctx, ada.id.Actor(), cleo.id, []access.Role{c.role}, c.approver), "no-passkey")
	}
	cleo.key = f.addKey(cleo.session, "second")
	if err := f.svc.SetRoles(ctx, ada.id.Actor(), cleo.id, []access.Role{access.Administrator}, false); err != nil {
		t.Fatal(err)
	}
	f.advance(time.Minute)
	_, err = f.svc.Password(ctx, desk, "", cleo.mail, passphrase, f.code(cleo))
	wantReason(t, "an administrator's old password", err, "passkey-only")
	f.advance(time.Minute)
	_, err = f.svc.Password(ctx, desk, "", cleo.mail, "some other password", f.code(cleo))
	wantReason(t, "an administrator's wrong password", err, "not-right")
	in, err := f.signIn(cleo)
	if err != nil {
		t.Fatal(err)
	}
	if !f.mustSession(in.Token).Allows("people.list") {
		t.Error("an administrator with a passkey may not act")
	}
	// A session without a passkey is worth nothing to an administrator.
	s := in.Session
	s.Means = []gate.Means{gate.Password, gate.TOTP}
	for _, p := range access.Permissions() {
		if s.Allows(p.Name) {
			t.Errorf("%s without a passkey", p.Name)
		}
	}
}

// addKey adds a passkey to the account of a session.
func (f *fixture) addKey(by access.Session, label string) *key {
	f.t.Helper()
	options, err := f.svc.AddPasskey(f.t.Context(), by)
	if err != nil {
		f.t.Fatal(err)
	}
	k := newKey("")
	if err := f.svc.AddPasskeyDone(f.t.Context(), by, label, k.attest(f.t, options)); err != nil {
		f.t.Fatal(err)
	}
	return k
}

// TestGuessersDoNotLockTheOwnerOut: strangers use the account's tries up; the
// owner gets in on a known device, and with a passkey from anywhere (CC 1.13).
func TestGuessersDoNotLockTheOwnerOut(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, _ := f.founders()
	cleo := f.joinByPassword(f.invite(ada, false, access.Operator), "Cleo", "cleo@northwind.example")
	cleo.key = f.addKey(cleo.session, "mine")
	f.advance(time.Minute)
	tried, refused := 0, 0
	for i := range 60 {
		from := access.From{Source: netip.AddrFrom4([4]byte{10, byte(i), 0, 1})}
		_, err := f.svc.Password(ctx, from, "", cleo.mail, "password number "+strconv.Itoa(i), "123456")
		switch core.ReasonOf(err) {
		case "not-right":
			tried++
		case "account-throttled":
			refused++
		default:
			t.Fatal(err)
		}
	}
	if tried > 50 || refused == 0 {
		t.Errorf("%d guesses compared, %d refused", tried, refused)
	}
	_, err := f.svc.Password(ctx, desk, "", cleo.mail, passphrase, f.code(cleo))
	wantReason(t, "the owner on a strange device", err, "account-throttled")
	known := desk
	known.Known = cleo.in.Known
	if _, err := f.svc.Password(ctx, known, "", cleo.mail, passphrase, f.code(cleo)); err != nil {
		t.Errorf("the owner on a known device: %v", err)
	}
	if _, err := f.signIn(cleo); err != nil {
		t.Errorf("the owner with a passkey: %v", err)
	}
	// The owner is told, once; the ledger hears of the hour when it is over.
	for range 3 {
		if err := f.svc.Tick(ctx); err != nil {
			t.Fatal(err)
		}
	}
	n, err := f.svc.Notices(ctx, cleo.session)
	if err != nil || n[0].Kind != access.NoticeGuessing || len(n) > 2 {
		t.Errorf("notices %+v, %v", n, err)
	}
	if got := f.records(access.RecordRefused); len(got) != 0 {
		t.Errorf("the ledger hears of an hour that is not over: %+v", got)
	}
	f.advance(time.Hour)
	for range 3 {
		if err := f.svc.Tick(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.records(access.RecordRefused); len(got) != 1 || fact(got[0], "attempts") != strconv.Itoa(tried) || fact(got[0], "person") != string(cleo.id) {
		t.Errorf("records of refusals: %+v, want one of %d", got, tried)
	}
}

// TestStrangersDoNotGrowTheLedger: refusals of nobody's account are nowhere.
func TestStrangersDoNotGrowTheLedger(t *testing.T) {
	f := newFixture(t)
	for i := range 30 {
		from := access.From{Source: netip.AddrFrom4([4]byte{10, byte(i), 0, 1})}
		_, _ = f.svc.Password(t.Context(), from, "", "n"+strconv.Itoa(i)+"@x.example", "password number 1", "123456")
		_, _ = f.svc.Setup(t.Context(), from, strings.Repeat("A", 43))
		c, err := f.svc.BeginPasskey()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.svc.Passkey(t.Context(), from, "", c.ID, newKey("paaaaaaaaaaaa").assert(t, c.Options))
	}
	f.advance(2 * time.Hour)
	if err := f.svc.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []core.RecordKind{access.RecordRefused, access.RecordLinkReplay, access.RecordSignedIn} {
		if got := f.records(kind); len(got) != 0 {
			t.Errorf("%d records %s", len(got), kind)
		}
	}
}
