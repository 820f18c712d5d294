package identity_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// CC 3.2, 1.10: from a code to a confirmed certificate, step by step.

func TestEnrolment(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("A1")
	if d, _ := f.svc.Device("A1"); d.State != identity.StateAdded || !d.CodeOpen || !d.Subject.IsZero() {
		t.Errorf("after add: %+v", d)
	}
	c := f.mustEnrol("A1", code)
	who := f.mustIdentify(c)
	if who.Device != "A1" || who.Product != product || who.Subject.IsZero() || who.Quarantined || !who.NotAfter.Equal(c.NotAfter) || !who.OwnedSince.Equal(f.now) {
		t.Errorf("identified as %+v", who)
	}
	if !f.keys.Has(who.Subject) {
		t.Error("the subject has no key")
	}
	if d, _ := f.svc.Device("A1"); d.State != identity.StateActive || d.CodeOpen || d.Subject != who.Subject {
		t.Errorf("after the first handshake: %+v", d)
	}
	// The code is spent, also for whoever starts the server anew.
	for _, when := range []string{"at once", "after a restart"} {
		_, err := f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, newKey(t), "A1"))
		wantReason(t, err, "code-spent")
		if when == "at once" {
			f.restart()
		}
		if got := f.mustIdentify(c); got != who {
			t.Errorf("%s identified as %+v, want %+v", when, got, who)
		}
	}
	if n := len(f.records(identity.RecordFinding)); n < 1 {
		t.Error("a spent code was used and nothing records it")
	}
	b, err := f.svc.Birth(t.Context(), "A1")
	if err != nil || b.Operator != admin.ID || b.KeyOrigin != "device" || b.CodeBits < 128 || b.Key.IsZero() || b.Enrolled.IsZero() {
		t.Errorf("birth record %+v, %v", b, err) // CC 1.7
	}
	for kind, want := range map[core.RecordKind]int{
		identity.RecordAdded: 1, identity.RecordOwned: 1, identity.RecordIssued: 1, identity.RecordEnrolled: 1, identity.RecordQuarantined: 0,
	} {
		if got := len(f.records(kind)); got != want {
			t.Errorf("%d records %s, want %d", got, kind, want)
		}
	}
}

// No ledger record names the device beside its subject in clear.

// CC 1.1: no first device without a declaration; the answer says what is missing.

func TestProductMustBeDeclaredFirst(t *testing.T) {
	f := newFixture(t)
	code, err := f.svc.AddDevice(t.Context(), admin, "new-product", "N1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Enrol(t.Context(), home, "N1", code, csrFor(t, newKey(t), "N1"))
	wantReason(t, err, "product-not-declared")
	if core.KindOf(err) != core.Unready || !strings.Contains(err.Error(), "inventory of data") {
		t.Errorf("got %v", err)
	}
	if may := f.svc.MayEnrol(t.Context(), "new-product"); may == nil || may.Error() != err.Error() {
		t.Errorf("asked beforehand: %v", may)
	}
	f.terms["new-product"] = identity.Terms{Life: 7 * 24 * time.Hour, Missing: []string{"list of interfaces"}}
	_, err = f.svc.Enrol(t.Context(), home, "N1", code, csrFor(t, newKey(t), "N1"))
	if core.KindOf(err) != core.Unready || !strings.Contains(err.Error(), "list of interfaces") {
		t.Errorf("got %v", err)
	}
	f.terms["new-product"] = identity.Terms{Life: 7 * 24 * time.Hour}
	if n := f.svc.Enrolled()["new-product"]; n != 0 {
		t.Errorf("%d devices count as enrolled before the first one was", n)
	}
	if c := f.mustEnrol("N1", code); c.NotAfter.Sub(f.now) != 7*24*time.Hour {
		t.Errorf("life %s", c.NotAfter.Sub(f.now))
	}
	if n := f.svc.Enrolled()["new-product"]; n != 1 {
		t.Errorf("%d devices count as enrolled, want 1", n)
	}
	if may := f.svc.MayEnrol(t.Context(), "new-product"); may != nil {
		t.Errorf("asked when it is declared: %v", may)
	}
}

// An answer that is lost costs nothing: the same code works until the first

// handshake, and only the certificate that was used is good.

func TestLostAnswer(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("A1")
	key := newKey(t)
	csr := csrFor(t, key, "A1")
	first, err := f.svc.Enrol(t.Context(), home, "A1", code, csr)
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.svc.Enrol(t.Context(), home, "A1", code, csr)
	if err != nil || !bytes.Equal(first[0], again[0]) {
		t.Fatalf("same key, other certificate: %v", err)
	}
	f.restart()
	again, err = f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, key, "A1"))
	if err != nil || !bytes.Equal(first[0], again[0]) {
		t.Fatalf("after a restart: same key, other certificate: %v", err)
	}
	second := f.mustEnrol("A1", code) // a new key
	who := f.mustIdentify(second)
	if who.Quarantined {
		t.Error("quarantined without cause")
	}
	if got := f.mustIdentify(leafOf(t, first)); !got.Quarantined {
		t.Error("the certificate that a later one replaced is as good as it")
	}
	if _, err := f.svc.Enrol(t.Context(), home, "A1", code, csr); err == nil {
		t.Error("the code works after it was spent")
	}
}

// Attack 26: what a hostile request gets.

// Renewal in two phases, and what happens when the old one shows up again.

func TestRenewal(t *testing.T) {
	f := newFixture(t)
	old := f.device("A1")
	f.advance(20 * 24 * time.Hour)
	csr := csrFor(t, newKey(t), "A1")
	chain, err := f.svc.Renew(t.Context(), old, csr)
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.svc.Renew(t.Context(), old, csr)
	if err != nil || !bytes.Equal(chain[0], again[0]) {
		t.Fatalf("the same request gave another certificate: %v", err)
	}
	next := leafOf(t, chain)
	if who := f.mustIdentify(old); who.Quarantined {
		t.Error("the old certificate is not good before the new one was used")
	}
	f.restart()
	if who := f.mustIdentify(next); who.Quarantined {
		t.Error("quarantined by a plain renewal")
	}
	if f.notified(identity.ChangeSuperseded) != 1 {
		t.Errorf("changes: %+v", f.changes)
	}
	if n := len(f.records(identity.RecordEnrolled)); n != 1 {
		t.Errorf("%d enrolments in the ledger, want 1", n)
	}
	// CC 3.2: the old one again is a copy; both are held, none is cut.
	if who := f.mustIdentify(old); !who.Quarantined {
		t.Error("a superseded certificate is not held")
	}
	if who := f.mustIdentify(next); !who.Quarantined {
		t.Error("its successor is not held")
	}
	if f.notified(identity.ChangeQuarantined) != 1 || len(f.records(identity.RecordQuarantined)) != 1 {
		t.Errorf("quarantine: changes %+v", f.changes)
	}
	f.restart()
	if who := f.mustIdentify(next); !who.Quarantined {
		t.Error("a restart ends a quarantine")
	}
	if _, err := f.svc.Renew(t.Context(), old, csrFor(t, newKey(t), "A1")); err == nil {
		t.Error("a superseded certificate can be renewed")
	}
	if _, err := f.svc.Release(t.Context(), admin, "A1", identity.Why{Text: "the twin was found and destroyed"}); err != nil {
		t.Fatal(err)
	}
	if who := f.mustIdentify(next); who.Quarantined || f.notified(identity.ChangeReleased) != 1 {
		t.Errorf("after release: %+v", who)
	}
	// The copy comes back, and puts nobody in quarantine any more.
	_, err = f.svc.Identify(t.Context(), old)
	wantReason(t, err, "revoked")
	f.restart()
	_, err = f.svc.Identify(t.Context(), old)
	wantReason(t, err, "revoked")
	if who := f.mustIdentify(next); who.Quarantined {
		t.Error("a copy that was found puts the device in quarantine again")
	}
}

func TestRevoke(t *testing.T) {
	f := newFixture(t)
	c := f.device("A1")
	pendingChain, err := f.svc.Renew(t.Context(), c, csrFor(t, newKey(t), "A1"))
	if err != nil {
		t.Fatal(err)
	}
	bystander := f.device("B2")
	if _, err := f.svc.Revoke(t.Context(), admin, "A1", identity.Why{}); core.ReasonOf(err) != "no-reason" {
		t.Errorf("without a reason: %v", err)
	}
	subject := f.mustIdentify(c).Subject
	r, err := f.svc.Revoke(t.Context(), admin, "A1", identity.Why{Text: "stolen"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Certificates != 2 || r.Subject != subject || r.Time.IsZero() {
		t.Errorf("receipt %+v", r)
	}
	for range 2 {
		for name, cert := range map[string]*x509.Certificate{"good": c, "pending": leafOf(t, pendingChain)} {
			_, err := f.svc.Identify(t.Context(), cert)
			wantReason(t, err, "revoked")
			if core.KindOf(err) != core.Denied || strings.Contains(err.Error(), "revoked") {
				t.Errorf("%s: a stranger reads %q", name, err)
			}
			if _, err := f.svc.Renew(t.Context(), cert, csrFor(t, newKey(t), "A1")); err == nil {
				t.Errorf("%s: renewed", name)
			}
		}
		f.mustIdentify(bystander)
		f.restart()
	}
	if f.notified(identity.ChangeRevoked) != 1 {
		t.Errorf("changes %+v", f.changes)
	}
	f.advance(time.Hour)
	again, err := f.svc.Revoke(t.Context(), admin, "A1", identity.Why{Text: "stolen"})
	if err != nil || !again.Time.Equal(r.Time) || again.Certificates != 0 {
		t.Errorf("second receipt %+v, %v", again, err)
	}
	recs := f.records(identity.RecordRevoked)
	if len(recs) != 1 || recs[0].Subject != subject || recs[0].Actor != admin {
		t.Errorf("ledger: %+v", recs)
	}
	// A new code is the way back, with a new key; the old certificate stays dead.
	code, err := f.svc.NewCode(t.Context(), admin, "A1")
	if err != nil {
		t.Fatal(err)
	}
	f.mustIdentify(f.mustEnrol("A1", code))
	_, err = f.svc.Identify(t.Context(), c)
	wantReason(t, err, "revoked")
	if _, err := f.svc.Revoke(t.Context(), admin, "nobody", identity.Why{Text: "gone"}); core.KindOf(err) != core.Unknown {
		t.Errorf("unknown device: %v", err)
	}
}

// CC 3.11, 1.8: what is not ours, or not of here, is not admitted.

func TestIdentifyRefuses(t *testing.T) {
	f := newFixture(t)
	c := f.device("A1")
	live := newFixtureIn(t, core.Live)
	_, err := live.svc.Identify(t.Context(), c)
	wantReason(t, err, "foreign-environment")
	if err := live.svc.VerifyLeaf(c); core.ReasonOf(err) != "untrusted" {
		t.Errorf("live's authority trusts test's: %v", err)
	}
	twin := newFixture(t) // same environment, another installation
	_, err = twin.svc.Identify(t.Context(), c)
	wantReason(t, err, "unknown-certificate")
	if err := twin.svc.VerifyLeaf(c); core.ReasonOf(err) != "untrusted" {
		t.Errorf("two installations share an authority: %v", err)
	}
	if err := f.svc.VerifyLeaf(c); err != nil {
		t.Errorf("our own: %v", err)
	}
	srv, err := identity.NewServerCertificate(f.ca, []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Identify(t.Context(), srv.Leaf())
	wantReason(t, err, "not-a-device")
	if err := f.svc.VerifyLeaf(srv.Leaf()); core.ReasonOf(err) != "untrusted" {
		t.Errorf("the server's own certificate as a client: %v", err)
	}
	changed := *c
	changed.Raw = append([]byte(nil), c.Raw...)
	changed.Raw[len(changed.Raw)-1] ^= 1
	_, err = f.svc.Identify(t.Context(), &changed)
	wantReason(t, err, "not-issued-here")
	_, err = f.svc.Identify(t.Context(), f.ca.Root())
	wantReason(t, err, "not-a-device")
	f.advance(-time.Hour)
	_, err = f.svc.Identify(t.Context(), c)
	wantReason(t, err, "not-yet")
	f.advance(31 * 24 * time.Hour)
	_, err = f.svc.Identify(t.Context(), c)
	wantReason(t, err, "expired")
	if err := f.svc.VerifyLeaf(c); core.ReasonOf(err) != "expired" {
		t.Errorf("expired: %v", err)
	}
	if d, _ := f.svc.Device("A1"); d.State != identity.StateExpired {
		t.Errorf("state %s", d.State)
	}
}

// An erasure unlinks: the device is nobody's until it is opened anew, with a

// subject that has nothing of the old one.

// A crash at each arrow of intent → key → completion leaves one owner with one

// key, once the server is up again.

// A crash right after the first handshake cannot bring a spent code back: the

// handshake is admitted only once that is durable.

func TestCodeIsSpentBeforeTheConnectionIsAdmitted(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("A1")
	c := f.mustEnrol("A1", code)
	f.fail = func(string) error { return errors.New("disk full") }
	_, err := f.svc.Identify(t.Context(), c)
	if core.KindOf(err) != core.Unavail {
		t.Fatalf("admitted without a record: %v", err)
	}
	f.fail = nil
	f.mustIdentify(c)
	f.restart() // whatever was not durable is gone now
	_, err = f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, newKey(t), "A1"))
	wantReason(t, err, "code-spent")
}

// A subject whose key is gone (a restore from before its erasure) is nobody.

// CC 1.12 and attack 27: guessing is slowed by source; nobody is locked out by

// strangers, and who does not exist looks like who does.

// Row 1.14: an absent device and a wrong code cost the same time.

// CC 1.12: who has the whole data folder has no code.

// One device that asks and asks gets a few certificates and then a pause.

func TestAddDeviceTwice(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("A1")
	if _, err := f.svc.AddDevice(t.Context(), admin, product, "A1"); core.ReasonOf(err) != "device-exists" {
		t.Errorf("second add: %v", err)
	}
	for _, bad := range []core.DeviceID{"", "-x", "a b", core.DeviceID(strings.Repeat("x", 65))} {
		if _, err := f.svc.AddDevice(t.Context(), admin, product, bad); core.ReasonOf(err) != "device-id" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	f.mustEnrol("A1", code)
	// A new code withdraws the old one and the certificate that nobody used.
	stale := f.mustEnrol("A1", code)
	fresh, err := f.svc.NewCode(t.Context(), admin, "A1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, newKey(t), "A1"))
	wantReason(t, err, "code-spent")
	_, err = f.svc.Identify(t.Context(), stale)
	wantReason(t, err, "revoked")
	f.mustIdentify(f.mustEnrol("A1", fresh))
	for i := range 5 {
		f.mustAdd(core.DeviceID(fmt.Sprintf("C%d", i)))
	}
	page, err := f.svc.Devices(t.Context(), "A1", 3)
	if err != nil || len(page) != 3 || page[0].ID != "C0" || page[2].ID != "C2" {
		t.Errorf("page %+v, %v", page, err)
	}
}

func TestMissingDependency(t *testing.T) {
	if _, err := identity.New(context.Background(), identity.Deps{}); err == nil {
		t.Error("a service without dependencies starts")
	}
}

func TestTrim(t *testing.T) {
	f := newFixture(t)
	c := f.device("A1")
	for range 3 {
		f.advance(15 * 24 * time.Hour)
		chain, err := f.svc.Renew(t.Context(), c, csrFor(t, newKey(t), "A1"))
		if err != nil {
			t.Fatal(err)
		}
		c = leafOf(t, chain)
		f.mustIdentify(c)
	}
	n, err := f.svc.Trim(t.Context(), time.Hour)
	if err != nil || n != 1 {
		t.Errorf("pruned %d, %v; want 1", n, err)
	}
	f.mustIdentify(c)
	f.advance(400 * 24 * time.Hour)
	if n, err := f.svc.Trim(t.Context(), time.Hour); err != nil || n != 2 {
		t.Errorf("pruned %d, %v; want 2", n, err)
	}
	f.restart()
	if d, err := f.svc.Device("A1"); err != nil || d.State != identity.StateExpired || d.Serial.IsZero() {
		t.Errorf("the last certificate is forgotten: %+v, %v", d, err)
	}
}

func TestCodeRunsOut(t *testing.T) {
	f := newFixture(t)
	f.life = 24 * time.Hour
	f.restart()
	code := f.mustAdd("A1")
	f.advance(24*time.Hour - time.Second)
	f.mustEnrol("A1", code)
	f.advance(2 * time.Second)
	_, err := f.svc.Enrol(t.Context(), home, "A1", code, csrFor(t, newKey(t), "A1"))
	wantReason(t, err, "code-expired")
	f.restart()
	f.mustIdentify(f.mustEnrol("A1", f.newCode("A1")))
}
