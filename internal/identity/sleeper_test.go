package identity_test

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// TestSleeper: a certificate that ran out does one thing: it gets its device a
// new one, for a new key, within the time that is declared, and only if it is
// the latest and was not revoked (design, section 5, Identity; CC 3.2).
func TestSleeper(t *testing.T) {
	const day = 24 * time.Hour
	f := newFixture(t)
	terms := f.terms[product]
	terms.MaySleep = 180 * day
	f.terms[product] = terms
	key := newKey(t)
	first, err := f.svc.Enrol(t.Context(), home, "A1", f.mustAdd("A1"), csrFor(t, key, "A1"))
	if err != nil {
		t.Fatal(err)
	}
	old := leafOf(t, first)
	subject := f.mustIdentify(old).Subject
	revoked, late := f.device("B2"), f.device("C3")
	f.advance(terms.Life + 100*day)
	if _, err := f.svc.Trim(t.Context(), 30*day); err != nil { // what the daily job forgets is not this
		t.Fatal(err)
	}
	f.restart()
	_, err = f.svc.Identify(t.Context(), old)
	wantReason(t, err, "expired")
	_, err = f.svc.Recheck(old)
	wantReason(t, err, "expired")
	wantReason(t, f.svc.VerifyLeaf(old), "expired")
	if err := f.svc.VerifyForRenewal(old); err != nil {
		t.Fatal(err)
	}
	if _, err := f.svc.Renew(t.Context(), old, csrFor(t, key, "A1")); err == nil {
		t.Error("renewed for the old key")
	}
	if _, err := f.svc.Renew(t.Context(), old, csrFor(t, newKey(t), "C3")); err == nil {
		t.Error("renewed for another device")
	}
	csr := csrFor(t, newKey(t), "A1")
	chain, err := f.svc.Renew(t.Context(), old, csr)
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.svc.Renew(t.Context(), old, csr) // the answer was lost
	if err != nil || string(again[0]) != string(chain[0]) {
		t.Errorf("the same request again: %v", err)
	}
	_, err = f.svc.Identify(t.Context(), old)
	wantReason(t, err, "expired")
	next := leafOf(t, chain)
	if who := f.mustIdentify(next); who.Subject != subject || who.Quarantined {
		t.Errorf("after its sleep it is %+v", who)
	}
	// Another machine has the same key, and wakes later: one of the two is a
	// copy, and who was first may be it.
	f.advance(20 * day)
	if _, err := f.svc.Trim(t.Context(), 30*day); err != nil {
		t.Fatal(err)
	}
	f.restart()
	_, err = f.svc.Renew(t.Context(), old, csrFor(t, newKey(t), "A1"))
	wantReason(t, err, "superseded")
	if who := f.mustIdentify(next); !who.Quarantined {
		t.Error("two held a certificate that ran out, and nobody is told")
	}
	doors := 0
	for _, r := range f.records(identity.RecordIssued) {
		for _, x := range r.Facts {
			if x.Name == "door" && x.Value == string(identity.DoorSleeper) {
				doors++
			}
		}
	}
	if doors != 1 {
		t.Errorf("%d records of a renewal after sleep, want 1", doors)
	}

	if _, err := f.svc.Revoke(t.Context(), admin, "B2", identity.Why{Text: "stolen"}); err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Renew(t.Context(), revoked, csrFor(t, newKey(t), "B2"))
	wantReason(t, err, "revoked", "unknown-certificate")
	f.advance(60*day + time.Second)
	_, err = f.svc.Renew(t.Context(), late, csrFor(t, newKey(t), "C3"))
	wantReason(t, err, "slept-too-long")
	terms.MaySleep, terms.Supported = 0, f.clock().Add(time.Hour)
	f.terms[product] = terms
	if _, err := f.svc.Renew(t.Context(), late, csrFor(t, newKey(t), "C3")); err != nil {
		t.Errorf("within support: %v", err)
	}
	terms.Supported = f.clock().Add(-time.Second)
	f.terms[product] = terms
	_, err = f.svc.Renew(t.Context(), late, csrFor(t, newKey(t), "C3"))
	wantReason(t, err, "slept-too-long")

	// What another authority signed renews nothing, however old it says it is.
	stranger := newFixture(t)
	foreign := stranger.device("A1")
	wantReason(t, f.svc.VerifyForRenewal(foreign), "untrusted")
	if _, err := f.svc.Renew(t.Context(), foreign, csrFor(t, newKey(t), "A1")); core.KindOf(err) != core.Denied {
		t.Errorf("a foreign certificate: %v", err)
	}
}
