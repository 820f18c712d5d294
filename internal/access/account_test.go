package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
)

// TestOwnMeans: a person adds and removes means, each time told and recorded,
// and never the last that is enough.
func TestOwnMeans(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, bea := f.founders()
	account := func(by access.Session) access.Account {
		t.Helper()
		a, err := f.svc.Account(ctx, by)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first := account(ada.session).Passkeys[0]
	if first.Label == "" || !first.Disabled.IsZero() {
		t.Errorf("passkey %+v", first)
	}
	wantReason(t, "the last passkey", f.svc.RemovePasskey(ctx, ada.session, first.Name), "last-means")
	spare := f.addKey(ada.session, " blue   key ")
	keys := account(ada.session).Passkeys
	if len(keys) != 2 || keys[1].Label != "blue key" && keys[0].Label != "blue key" {
		t.Fatalf("passkeys %+v", keys)
	}
	wantReason(t, "another person's passkey", f.svc.RemovePasskey(ctx, bea.session, first.Name), "no-such-passkey")
	if err := f.svc.RemovePasskey(ctx, ada.session, first.Name); err != nil {
		t.Fatal(err)
	}
	_, err := f.signIn(ada)
	wantReason(t, "the removed passkey", err, "passkey-refused")
	if _, err := f.signIn(&person{key: spare}); err != nil {
		t.Errorf("the other one: %v", err)
	}
	if n, err := f.svc.Notices(ctx, ada.session); err != nil || len(n) != 2 || n[0].Kind != access.NoticeKeyRemoved || n[1].Kind != access.NoticeKeyAdded {
		t.Errorf("notices %+v, %v", n, err)
	}
	if got := f.records(access.RecordKeyRemoved); len(got) != 1 || fact(got[0], "passkey") != first.Name {
		t.Errorf("records %+v", got)
	}
	// The same authenticator is not taken twice, nor a bad name, nor ten more.
	options, err := f.svc.AddPasskey(ctx, ada.session)
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, "the same key", f.svc.AddPasskeyDone(ctx, ada.session, "x", spare.attest(t, options)), "passkey-exists")
	if options, err = f.svc.AddPasskey(ctx, ada.session); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "a bad name", f.svc.AddPasskeyDone(ctx, ada.session, "x\u202e", newKey("").attest(t, options)), "label")
	if options, err = f.svc.AddPasskey(ctx, bea.session); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "what another began", f.svc.AddPasskeyDone(ctx, ada.session, "x", newKey("").attest(t, options)), "begin-again")
	for range 9 {
		f.addKey(ada.session, "one more")
	}
	_, err = f.svc.AddPasskey(ctx, ada.session)
	wantReason(t, "an eleventh", err, "passkeys")
}

// TestChangingMeansNeedsAFreshSignIn: five minutes after it nothing changes
// (ASVS 7.5.1), and what was begun in time ends with it.
func TestChangingMeansNeedsAFreshSignIn(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, _ := f.founders()
	cleo := f.joinByPassword(f.invite(ada, false, access.Operator), "Cleo", "cleo@northwind.example")
	f.advance(access.StepUpFor + time.Second)
	s := f.mustSession(cleo.in.Token)
	again := func(what string, err error) {
		t.Helper()
		wantReason(t, what, err, "sign-in-again")
	}
	_, err := f.svc.AddPasskey(ctx, s)
	again("add a passkey", err)
	again("finish a passkey", f.svc.AddPasskeyDone(ctx, s, "x", nil))
	again("remove a passkey", f.svc.RemovePasskey(ctx, s, "x"))
	_, err = f.svc.SetPassword(ctx, s, passphrase)
	again("set a password", err)
	_, err = f.svc.SetPasswordDone(ctx, desk, s, "123456")
	again("finish a password", err)
	again("remove the password", f.svc.RemovePassword(ctx, s))
	_, err = f.svc.NewRecoveryCodes(ctx, s)
	again("make recovery codes", err)
}

// TestPasswordOfOnesOwn: set, changed with its codes, and taken away only
// together and with a passkey left.
func TestPasswordOfOnesOwn(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, _ := f.founders()
	cleo := f.join(f.invite(ada, false, access.Operator), "Cleo", "cleo@northwind.example")
	_, err := f.svc.NewRecoveryCodes(ctx, cleo.session)
	wantReason(t, "recovery codes without a password", err, "no-password")
	set := func() {
		t.Helper()
		offer, err := f.svc.SetPassword(ctx, cleo.session, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := f.svc.PasswordOffer(cleo.session); err != nil || again != offer || !strings.HasPrefix(offer.URI, "otpauth://totp/Northwind:cleo@northwind.example?") {
			t.Errorf("the offer again: %+v, %v", again, err)
		}
		cleo.secret = strings.ReplaceAll(offer.Secret, " ", "")
		_, err = f.svc.SetPasswordDone(ctx, desk, cleo.session, "000000")
		wantReason(t, "a mistyped code", err, "code")
		if cleo.codes, err = f.svc.SetPasswordDone(ctx, desk, cleo.session, f.code(cleo)); err != nil || len(cleo.codes) != 10 {
			t.Fatal(err)
		}
	}
	other, err := f.signIn(cleo)
	if err != nil {
		t.Fatal(err)
	}
	set()
	_, err = f.svc.Session(ctx, other.Token)
	wantReason(t, "the other session after a new password", err, "no-session")
	cleo.session = f.mustSession(cleo.in.Token)
	oldSecret, oldCode := cleo.secret, cleo.codes[0]
	set()
	_, err = f.svc.Recovery(ctx, desk, "", cleo.mail, passphrase, oldCode)
	wantReason(t, "a recovery code of before", err, "not-right")
	f.advance(time.Minute)
	_, err = f.svc.Password(ctx, desk, "", cleo.mail, passphrase, f.code(&person{secret: oldSecret}))
	wantReason(t, "the secret of before", err, "not-right")
	f.advance(time.Minute)
	in, err := f.svc.Password(ctx, desk, "", cleo.mail, passphrase, f.code(cleo))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.svc.RemovePassword(ctx, in.Session); err != nil {
		t.Fatal(err)
	}
	f.advance(time.Minute)
	_, err = f.svc.Password(ctx, desk, "", cleo.mail, passphrase, f.code(cleo))
	wantReason(t, "the removed password", err, "not-right")
	a, err := f.svc.Account(ctx, in.Session)
	if err != nil || a.Person.PasswordSet || a.Person.RecoveryCodes != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	// With a password alone it stays.
	dora := f.joinByPassword(f.invite(ada, false, access.Operator), "Dora", "dora@northwind.example")
	wantReason(t, "the only means", f.svc.RemovePassword(ctx, dora.session), "last-means")
	k := f.addKey(dora.session, "key")
	if err := f.svc.RemovePassword(ctx, dora.session); err != nil {
		t.Error(err)
	}
	a, err = f.svc.Account(ctx, dora.session)
	if err != nil || len(a.Passkeys) != 1 {
		t.Fatal(err)
	}
	wantReason(t, "the only passkey then", f.svc.RemovePasskey(ctx, dora.session, a.Passkeys[0].Name), "last-means")
	_ = k
	if got := f.records(access.RecordMeans); len(got) != 4 || !strings.Contains(fact(got[0], "means"), string(gate.TOTP)) {
		t.Errorf("%d records of changed means, want 4", len(got))
	}
}

// TestForget: an erased person is nobody any more: no name, no means, no
// session; what they did stays, under their staff id.
func TestForget(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, _ := f.founders()
	cleo := f.joinByPassword(f.invite(ada, false, access.Operator), "Cleo", "cleo@northwind.example")
	cleo.key = f.addKey(cleo.session, "mine")
	var subject core.Subject
	if err := f.store.View(ctx, func(tx *store.Tx) error {
		p, err := tx.Person(ctx, cleo.id)
		subject = p.Subject
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.keys.Shred(ctx, seal.Order{Subjects: []core.Subject{subject}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.svc.Forget(ctx, subject); err != nil {
			t.Fatal(err)
		}
	}
	_, err := f.svc.Session(ctx, cleo.in.Token)
	wantReason(t, "the session", err, "no-session")
	_, err = f.signIn(cleo)
	wantReason(t, "the passkey", err, "passkey-refused")
	f.advance(time.Minute)
	_, err = f.svc.Password(ctx, desk, "", cleo.mail, passphrase, f.code(cleo))
	wantReason(t, "the password", err, "not-right")
	people, err := f.svc.People(ctx)
	if err != nil || len(people) != 3 {
		t.Fatalf("%+v, %v", people, err)
	}
	for _, p := range people {
		if p.ID == cleo.id && (p.Name != "" || p.Mail != "" || p.Passkeys != 0 || p.State != access.Disabled) {
			t.Errorf("what is left: %+v", p)
		}
	}
	if got := f.records(access.RecordJoined); len(got) != 3 {
		t.Errorf("%d records of joining, want 3", len(got))
	}
	if _, err := f.svc.Notices(ctx, ada.session); err != nil {
		t.Error(err)
	}
}
