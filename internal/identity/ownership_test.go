package identity_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

func TestRecordsKeepDeviceAndSubjectApart(t *testing.T) {
	f := newFixture(t)
	c := f.device("SERIAL-77")
	who := f.mustIdentify(c)
	if _, err := f.svc.Revoke(t.Context(), admin, "SERIAL-77", identity.Why{Text: "Mrs Miller asked"}); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, kind := range []core.RecordKind{
		identity.RecordAdded, identity.RecordOwned, identity.RecordIssued, identity.RecordEnrolled, identity.RecordRevoked,
	} {
		for _, r := range f.records(kind) {
			text := fmt.Sprintf("%+v", r.Facts) + r.Actor.String()
			for _, secret := range []string{"SERIAL-77", who.Serial.String(), "Miller"} {
				if strings.Contains(text, secret) || bytes.Contains(r.Sealed, []byte(secret)) {
					t.Errorf("%s shows %q: %s", kind, secret, text)
				}
			}
			if !r.Subject.IsZero() {
				seen++
				if strings.Contains(text, "unit") {
					t.Errorf("%s names the unit beside the subject", kind)
				}
				plain, err := f.keys.OpenValue(r.Subject, "identity", r.Sealed)
				if err != nil || !bytes.Contains(plain, []byte("SERIAL-77")) {
					t.Errorf("%s: sealed part %q, %v", kind, plain, err)
				}
			}
		}
	}
	if seen < 4 {
		t.Errorf("only %d records have a subject", seen)
	}
}

func TestEndOwnershipAndReopen(t *testing.T) {
	f := newFixture(t)
	c := f.device("A1")
	first := f.mustIdentify(c).Subject
	if err := f.svc.Reopen(t.Context(), admin, "A1"); core.ReasonOf(err) != "owned" {
		t.Errorf("reopen while owned: %v", err)
	}
	for range 2 {
		if err := f.svc.EndOwnership(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.records(identity.RecordEnded)); n != 1 {
		t.Errorf("%d endings recorded, want 1", n)
	}
	for range 2 {
		if who := f.mustIdentify(c); !who.Subject.IsZero() || !who.OwnedSince.IsZero() || who.Device != "A1" {
			t.Errorf("after the end: %+v", who)
		}
		f.restart()
	}
	// A renewal and a new enrolment do not bring an owner back.
	chain, err := f.svc.Renew(t.Context(), c, csrFor(t, newKey(t), "A1"))
	if err != nil {
		t.Fatal(err)
	}
	if who := f.mustIdentify(leafOf(t, chain)); !who.Subject.IsZero() {
		t.Error("a renewal made an owner")
	}
	code, err := f.svc.NewCode(t.Context(), admin, "A1")
	if err != nil {
		t.Fatal(err)
	}
	c = f.mustEnrol("A1", code)
	if who := f.mustIdentify(c); !who.Subject.IsZero() {
		t.Error("an enrolment made a second owner")
	}
	f.advance(time.Hour)
	if err := f.svc.Reopen(t.Context(), admin, "A1"); err != nil {
		t.Fatal(err)
	}
	who := f.mustIdentify(c)
	if who.Subject.IsZero() || who.Subject == first || !who.OwnedSince.Equal(f.now) || !f.keys.Has(who.Subject) {
		t.Errorf("reopened as %+v", who)
	}
	if f.notified(identity.ChangeOwnership) != 3 {
		t.Errorf("changes %+v", f.changes)
	}
	if err := f.svc.Reopen(t.Context(), admin, "nobody"); core.KindOf(err) != core.Unknown {
		t.Errorf("unknown device: %v", err)
	}
}

func TestOwnershipCrashes(t *testing.T) {
	crash := errors.New("killed")
	commits := func(n int) func(string) error {
		return func(step string) error {
			if step == "commit" {
				if n--; n < 0 {
					return crash
				}
			}
			return nil
		}
	}
	at := func(name string) func(string) error {
		return func(step string) error {
			if step == name {
				return crash
			}
			return nil
		}
	}
	for _, c := range []struct {
		name string
		fail func(string) error
		owns bool // whether the owner is there after the restart alone
	}{
		{"before the intent", commits(0), false},
		{"after the intent, before the key", at("before-key"), true},
		{"after the key, before the completion", at("after-key"), true},
		{"at the completion", commits(1), true},
		{"after the completion, before the certificate", commits(2), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			code := f.mustAdd("A1")
			f.fail = c.fail
			if _, err := f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, newKey(t), "A1")); core.KindOf(err) != core.Unavail {
				t.Fatalf("crash was not noticed: %v", err)
			}
			f.restart()
			d, err := f.svc.Device("A1")
			if err != nil || d.Subject.IsZero() == c.owns {
				t.Errorf("after the restart: %+v, %v", d, err)
			}
			who := f.mustIdentify(f.mustEnrol("A1", code))
			if who.Subject.IsZero() || !f.keys.Has(who.Subject) || c.owns && who.Subject != d.Subject {
				t.Errorf("identified as %+v, was %+v", who, d)
			}
			if n := len(f.records(identity.RecordOwned)); n != 1 {
				t.Errorf("%d openings recorded, want 1", n)
			}
			if st, err := f.keys.State(t.Context()); err != nil || st.Subjects > 2 {
				t.Errorf("%d subjects in the keyring, %v", st.Subjects, err)
			}
		})
	}
}

func TestSubjectWithoutKeyIsNobody(t *testing.T) {
	f := newFixture(t)
	c := f.device("A1")
	subject := f.mustIdentify(c).Subject
	f.shred(subject)
	f.restart()
	if who := f.mustIdentify(c); !who.Subject.IsZero() {
		t.Errorf("identified as %+v", who)
	}
	if n := f.svc.Counts().KeysMissing; n != 1 {
		t.Errorf("%d keys missing, want 1", n)
	}
	if err := f.svc.Reopen(t.Context(), admin, "A1"); err != nil {
		t.Fatal(err)
	}
	if who := f.mustIdentify(c); who.Subject.IsZero() || who.Subject == subject {
		t.Errorf("reopened as %+v", who)
	}
}
