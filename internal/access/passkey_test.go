package access_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/store"
)

func TestPasskeySignsIn(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, bea := f.founders()
	in, err := f.signIn(ada)
	if err != nil {
		t.Fatal(err)
	}
	s := f.mustSession(in.Token)
	if s.Person != ada.id || !s.Fresh() || len(s.Means) != 1 || s.Means[0] != gate.Passkey || in.Known == "" {
		t.Errorf("session %+v", s)
	}
	if !s.Ends.Equal(f.clock().Add(access.LastsForStrong)) {
		t.Errorf("an administrator's session ends %v", s.Ends)
	}
	// The browser's old session ends when it signs in again: the token changes.
	c, err := f.svc.BeginPasskey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.svc.Passkey(ctx, desk, in.Token, c.ID, ada.key.assert(t, c.Options))
	if err != nil || again.Token == in.Token {
		t.Fatalf("%v", err)
	}
	_, err = f.svc.Session(ctx, in.Token)
	wantReason(t, "the old cookie", err, "no-session")
	f.mustSession(again.Token)
	if got := f.records(access.RecordSignedIn); len(got) != 4 || fact(got[3], "means") != "passkey" {
		t.Errorf("%d records of sign-ins, want 4", len(got))
	}
	if _, err := f.signIn(bea); err != nil {
		t.Error(err)
	}
}

// TestPasskeyAnswersRefused: what is wrong with an answer is refused in one
// text, and nothing of it opens a session.
func TestPasskeyAnswersRefused(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, bea := f.founders()
	stranger := newKey(ada.id)
	try := func(k *key, change func(*access.Challenge, []byte) []byte) error {
		t.Helper()
		f.advance(time.Minute) // past any delay
		c, err := f.svc.BeginPasskey()
		if err != nil {
			t.Fatal(err)
		}
		body := k.assert(t, c.Options)
		if change != nil {
			body = change(&c, body)
		}
		_, err = f.svc.Passkey(ctx, desk, "", c.ID, body)
		return err
	}
	if err := try(ada.key, nil); err != nil {
		t.Fatalf("the right one: %v", err)
	}
	noUV, elsewhere, otherRP := *ada.key, *ada.key, *ada.key
	noUV.auth.Options.UserNotVerified = true
	elsewhere.rp.Origin = "https://console.northwind.example.evil.example"
	otherRP.rp.ID = "evil.example"
	for _, c := range []struct {
		what   string
		key    *key
		change func(*access.Challenge, []byte) []byte
	}{
		{"without user verification", &noUV, nil},
		{"from another site", &elsewhere, nil},
		{"for another site", &otherRP, nil},
		{"an unknown key", stranger, nil},
		{"another person's key", ada.key, func(_ *access.Challenge, b []byte) []byte { return userHandle(t, b, string(bea.id)) }},
		{"of nobody", ada.key, func(_ *access.Challenge, b []byte) []byte { return userHandle(t, b, "paaaaaaaaaaaa") }},
		{"without a name", ada.key, func(_ *access.Challenge, b []byte) []byte { return userHandle(t, b, "x") }},
		{"another challenge", ada.key, func(c *access.Challenge, b []byte) []byte {
			other, _ := f.svc.BeginPasskey()
			c.ID = other.ID
			return b
		}},
		{"a broken signature", ada.key, func(_ *access.Challenge, b []byte) []byte {
			return bytes.Replace(b, []byte(`"signature":"ME`), []byte(`"signature":"MF`), 1)
		}},
		{"no JSON", ada.key, func(*access.Challenge, []byte) []byte { return []byte("{") }},
		{"too long", ada.key, func(*access.Challenge, []byte) []byte { return make([]byte, 40<<10) }},
	} {
		before := len(f.records(access.RecordSignedIn))
		err := try(c.key, c.change)
		wantReason(t, c.what, err, "passkey-refused")
		if got := len(f.records(access.RecordSignedIn)); got != before {
			t.Errorf("%s: a session was opened", c.what)
		}
	}
	// An answer serves once, and not for ever.
	c, err := f.svc.BeginPasskey()
	if err != nil {
		t.Fatal(err)
	}
	body := ada.key.assert(t, c.Options)
	if _, err := f.svc.Passkey(ctx, desk, "", c.ID, body); err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Passkey(ctx, desk, "", c.ID, body)
	wantReason(t, "an answer again", err, "begin-again")
	if c, err = f.svc.BeginPasskey(); err != nil {
		t.Fatal(err)
	}
	body = ada.key.assert(t, c.Options)
	f.advance(5 * time.Minute)
	_, err = f.svc.Passkey(ctx, desk, "", c.ID, body)
	wantReason(t, "an answer after five minutes", err, "begin-again")
	if c, err = f.svc.BeginPasskey(); err != nil {
		t.Fatal(err)
	}
	body = ada.key.assert(t, c.Options)
	f.serve()
	_, err = f.svc.Passkey(ctx, desk, "", c.ID, body)
	wantReason(t, "an answer to a challenge before the restart", err, "passkey-refused")
}

// TestCopiedPasskey: a counter that goes back switches the passkey off, and
// its person is told.
func TestCopiedPasskey(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, _ := f.founders()
	for range 3 {
		if _, err := f.signIn(ada); err != nil {
			t.Fatal(err)
		}
	}
	copied := *ada.key
	copied.cred.Counter = 1
	c, err := f.svc.BeginPasskey()
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Passkey(ctx, desk, "", c.ID, copied.assert(t, c.Options))
	wantReason(t, "the copy", err, "passkey-copied")
	_, err = f.signIn(ada)
	wantReason(t, "the original, afterwards", err, "passkey-refused")
	n, err := f.svc.Notices(ctx, ada.session)
	if err != nil || len(n) != 1 || n[0].Kind != access.NoticeKeySuspect {
		t.Errorf("notices %+v, %v", n, err)
	}
	if got := f.records(access.RecordKeySuspect); len(got) != 1 {
		t.Errorf("%d records, want 1", len(got))
	}
	a, err := f.svc.Account(ctx, ada.session)
	if err != nil || len(a.Passkeys) != 1 || a.Passkeys[0].Disabled.IsZero() || a.Person.Passkeys != 0 {
		t.Errorf("account %+v, %v", a, err)
	}
}

// TestTwoAnswersAtOnce: of two answers with the same counter one is a copy's,
// however close together they come: both are found right before either is
// written down.
func TestTwoAnswersAtOnce(t *testing.T) {
	var both sync.WaitGroup
	var waiting atomic.Int32
	f := newFixtureWith(t, func(d *access.Deps) {
		update := d.Update
		d.Update = func(ctx context.Context, fn func(access.Tx) error) error {
			if waiting.Add(-1) >= 0 {
				both.Done()
				both.Wait()
			}
			return update(ctx, fn)
		}
	})
	ctx := t.Context()
	ada, _ := f.founders()
	var bodies [2][]byte
	var ids [2]string
	for i := range bodies {
		c, err := f.svc.BeginPasskey()
		if err != nil {
			t.Fatal(err)
		}
		k := *ada.key
		ids[i], bodies[i] = c.ID, k.assert(t, c.Options)
	}
	both.Add(2)
	waiting.Store(2)
	var wg sync.WaitGroup
	var errs [2]error
	for i := range bodies {
		wg.Go(func() { _, errs[i] = f.svc.Passkey(ctx, desk, "", ids[i], bodies[i]) })
	}
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("two equal answers: %v and %v, want one refusal", errs[0], errs[1])
	}
	wantReason(t, "the second", errors.Join(errs[:]...), "passkey-copied")
	a, err := f.svc.Account(ctx, ada.session)
	if err != nil || a.Passkeys[0].Disabled.IsZero() {
		t.Errorf("the passkey is still good: %+v, %v", a.Passkeys, err)
	}
}

// TestStepUp: a fresh passkey makes the session fresh under a new token, for
// five minutes; somebody else's does not.
func TestStepUp(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ada, bea := f.founders()
	in, err := f.signIn(ada)
	if err != nil {
		t.Fatal(err)
	}
	f.advance(access.StepUpFor + time.Second)
	s := f.mustSession(in.Token)
	if s.Fresh() {
		t.Error("fresh after five minutes")
	}
	wantReason(t, "a risky permission", s.May("people.invite"), "step-up")
	if err := s.May("people.list"); err != nil {
		t.Errorf("a harmless permission: %v", err)
	}
	step := func(k *key, by access.Session, token string) (access.SignedIn, error) {
		t.Helper()
		c, err := f.svc.StepUpBegin(ctx, by)
		if err != nil {
			t.Fatal(err)
		}
		return f.svc.StepUp(ctx, desk, by, token, c.ID, k.assert(t, c.Options))
	}
	_, err = step(bea.key, s, in.Token)
	wantReason(t, "another's passkey", err, "passkey-refused")
	// A sign-in's challenge is none for a step-up.
	c, err := f.svc.BeginPasskey()
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.StepUp(ctx, desk, s, in.Token, c.ID, ada.key.assert(t, c.Options))
	wantReason(t, "an answer to a sign-in", err, "passkey-refused")
	f.advance(time.Minute)

	out, err := step(ada.key, f.mustSession(in.Token), in.Token)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Session(ctx, in.Token)
	wantReason(t, "the cookie before", err, "no-session")
	s2 := f.mustSession(out.Token)
	if !s2.Fresh() || !s2.Started.Equal(s.Started) || !s2.Ends.Equal(s.Ends) || s2.May("people.invite") != nil {
		t.Errorf("after it: %+v", s2)
	}
	if got := len(f.records(access.RecordSignedIn)); got != 3 {
		t.Errorf("%d records of sign-ins, want 3: a step-up is none", got)
	}
}

// TestSetupAnswersRefused: a passkey is made only here, with user verification,
// for the one who asked.
func TestSetupAnswersRefused(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	link, err := f.svc.FounderLink(ctx, machine)
	if err != nil {
		t.Fatal(err)
	}
	token := tokenOf(t, link)
	ada := access.Details{Name: "Ada", Mail: "ada@northwind.example"}
	for what, change := range map[string]func(*key){
		"without user verification": func(k *key) { k.auth.Options.UserNotVerified = true },
		"without a touch":           func(k *key) { k.auth.Options.UserNotPresent = true },
		"from another site":         func(k *key) { k.rp.Origin = "https://evil.example" },
		"for another site":          func(k *key) { k.rp.ID = "evil.example" },
	} {
		options, err := f.svc.SetupPasskey(ctx, desk, token, ada)
		if err != nil {
			t.Fatal(err)
		}
		k := newKey("")
		change(k)
		_, err = f.svc.SetupPasskeyDone(ctx, desk, token, "", k.attest(t, options))
		wantReason(t, what, err, "passkey-answer")
	}
	options, err := f.svc.SetupPasskey(ctx, desk, token, ada)
	if err != nil {
		t.Fatal(err)
	}
	var o struct {
		PublicKey struct {
			Attestation            string
			AuthenticatorSelection struct{ ResidentKey, UserVerification string }
			User                   struct{ ID string }
		}
	}
	if err := json.Unmarshal(options, &o); err != nil {
		t.Fatal(err)
	}
	if p := o.PublicKey; p.AuthenticatorSelection.ResidentKey != "required" || p.AuthenticatorSelection.UserVerification != "required" || p.Attestation != "none" {
		t.Errorf("options %s", options)
	}
	k := newKey("")
	answer := k.attest(t, options)
	f.advance(5 * time.Minute)
	_, err = f.svc.SetupPasskeyDone(ctx, desk, token, "", answer)
	wantReason(t, "after five minutes", err, "begin-again")
	_, err = f.svc.SetupPasskeyDone(ctx, desk, token, "", answer)
	wantReason(t, "without having begun", err, "begin-again")

	// One authenticator's key is one person's.
	ada1 := f.join(link, "Ada", "ada@northwind.example")
	second, err := f.svc.FounderLink(ctx, machine)
	if err != nil {
		t.Fatal(err)
	}
	if options, err = f.svc.SetupPasskey(ctx, desk, tokenOf(t, second), access.Details{Name: "Bea", Mail: "bea@northwind.example"}); err != nil {
		t.Fatal(err)
	}
	same := *ada1.key
	_, err = f.svc.SetupPasskeyDone(ctx, desk, tokenOf(t, second), "", same.attest(t, options))
	wantReason(t, "another's key", err, "passkey-exists")
	f.join(second, "Bea", "bea@northwind.example") // the link was not used up
}

// TestNoPerson: nobody exists before somebody made them.
func TestNoPerson(t *testing.T) {
	f := newFixture(t)
	err := f.store.View(t.Context(), func(tx *store.Tx) error {
		people, err := tx.People(t.Context())
		if len(people) != 0 { // ASVS 6.3.2
			t.Errorf("a new installation has people: %+v", people)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.svc.Session(t.Context(), ""); core.KindOf(err) != core.Denied {
		t.Errorf("no cookie: %v", err)
	}
}
