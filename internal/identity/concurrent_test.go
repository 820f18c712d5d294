package identity_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// sized is a number of repetitions: a third where the race detector makes each
// cost tenfold.
func sized(n int) int {
	if testing.Short() {
		return n / 3
	}
	return n
}

// A fleet that comes up at once: every first handshake is durable, and many
// share one commit.
func TestFleetComesUpAtOnce(t *testing.T) {
	f := newFixture(t)
	n := sized(120)
	certs := make([]*x509.Certificate, n)
	for i := range certs {
		id := core.DeviceID(fmt.Sprintf("D%03d", i))
		certs[i] = f.mustEnrol(id, f.mustAdd(id))
	}
	var commits atomic.Int64
	f.fail = func(step string) error {
		if step == "commit" {
			commits.Add(1)
			time.Sleep(time.Millisecond) // a disk that takes its time
		}
		return nil
	}
	var wg sync.WaitGroup
	for i, c := range certs {
		for range 3 { // some connect twice at once
			wg.Go(func() {
				who, err := f.svc.Identify(t.Context(), c)
				if err != nil || who.Device != core.DeviceID(fmt.Sprintf("D%03d", i)) || who.Quarantined {
					t.Errorf("device %d: %+v, %v", i, who, err)
				}
			})
		}
	}
	wg.Wait()
	if got := len(f.records(identity.RecordEnrolled)); got != n {
		t.Errorf("%d enrolments recorded, want %d", got, n)
	}
	if c := int(commits.Load()); c >= n {
		t.Errorf("%d commits for %d handshakes", c, n)
	} else {
		t.Logf("%d commits for %d handshakes", c, n)
	}
	f.restart()
	if got := f.svc.Counts(); got.ByState[identity.StateActive] != n {
		t.Errorf("after a restart: %+v", got)
	}
}

// A transaction that fails takes only its own handshakes with it, and the
// queue goes on.
func TestConfirmQueueSurvivesTrouble(t *testing.T) {
	f := newFixture(t)
	n := sized(40)
	certs := make([]*x509.Certificate, n)
	for i := range certs {
		id := core.DeviceID(fmt.Sprintf("D%03d", i))
		certs[i] = f.mustEnrol(id, f.mustAdd(id))
	}
	var k atomic.Int64
	f.fail = func(string) error {
		time.Sleep(time.Millisecond)
		if k.Add(1)%2 == 0 {
			return errors.New("disk full")
		}
		return nil
	}
	var wg sync.WaitGroup
	for _, c := range certs {
		wg.Go(func() {
			for range 100 {
				if _, err := f.svc.Identify(t.Context(), c); err == nil {
					return
				} else if core.KindOf(err) != core.Unavail {
					t.Errorf("got %v", err)
				}
			}
			t.Error("never admitted")
		})
	}
	wg.Wait()
	if got := len(f.records(identity.RecordEnrolled)); got != n {
		t.Errorf("%d enrolments recorded, want %d", got, n)
	}
}

// One code, many requests at once: one owner, one good certificate.
func TestManyEnrolmentsAtOnce(t *testing.T) {
	f := newFixture(t)
	code := f.mustAdd("A1")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var got []*x509.Certificate
	for range 5 {
		csr := csrFor(t, newKey(t), "A1")
		for range 2 {
			wg.Go(func() {
				chain, err := f.svc.Enrol(t.Context(), home, "A1", code, csr)
				if err != nil {
					if k := core.KindOf(err); k != core.TooMany && k != core.Conflict && k != core.Invalid {
						t.Errorf("got %v", err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, leafOf(t, chain))
			})
		}
	}
	wg.Wait()
	if len(got) == 0 {
		t.Fatal("nobody was served")
	}
	if n := len(f.records(identity.RecordOwned)); n != 1 {
		t.Errorf("%d owners", n)
	}
	st, err := f.keys.State(t.Context())
	if err != nil || st.Subjects != 1 {
		t.Errorf("%d subjects, %v", st.Subjects, err)
	}
	// Exactly one of them can become the good certificate.
	last := f.mustEnrol("A1", f.newCode("A1"))
	f.mustIdentify(last)
	if d, err := f.svc.Device("A1"); err != nil || d.State != identity.StateActive {
		t.Errorf("%+v, %v", d, err)
	}
	for _, c := range got {
		if who, err := f.svc.Identify(t.Context(), c); err == nil && !who.Quarantined {
			t.Error("two certificates of one device are good")
		}
	}
}

// Revocation against a storm of admissions: once Revoke has returned, nobody
// is admitted.
func TestRevokeAgainstIdentify(t *testing.T) {
	f := newFixture(t)
	for round := range sized(9) {
		id := core.DeviceID(fmt.Sprintf("R%d", round))
		c := f.mustEnrol(id, f.mustAdd(id)) // unconfirmed: the first handshake races too
		var revoked atomic.Bool
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					before := revoked.Load()
					if _, err := f.svc.Identify(t.Context(), c); err == nil && before {
						t.Error("admitted after Revoke returned")
					}
				}
			})
		}
		if _, err := f.svc.Revoke(t.Context(), admin, id, identity.Why{Text: "race"}); err != nil {
			t.Fatal(err)
		}
		revoked.Store(true)
		wg.Wait()
		f.restart()
		if _, err := f.svc.Identify(t.Context(), c); core.ReasonOf(err) != "revoked" {
			t.Errorf("after a restart: %v", err)
		}
	}
}

// A session that lives on is asked about without a handshake: what was
// superseded meanwhile is refused, and is no sign of a copy.
func TestRecheck(t *testing.T) {
	f := newFixture(t)
	old := f.device("A1")
	chain, err := f.svc.Renew(t.Context(), old, csrFor(t, newKey(t), "A1"))
	if err != nil {
		t.Fatal(err)
	}
	if who, err := f.svc.Recheck(old); err != nil || who.Quarantined {
		t.Errorf("before the new one was used: %+v, %v", who, err)
	}
	next := leafOf(t, chain)
	want := f.mustIdentify(next)
	_, err = f.svc.Recheck(old)
	wantReason(t, err, "superseded")
	if got, err := f.svc.Recheck(next); err != nil || got != want || got.Quarantined {
		t.Errorf("the new one: %+v, %v", got, err)
	}
	if _, err := f.svc.Revoke(t.Context(), admin, "A1", identity.Why{Text: "stolen"}); err != nil {
		t.Fatal(err)
	}
	_, err = f.svc.Recheck(next)
	wantReason(t, err, "revoked")
}

// CC 3.2: what the gateway saw is enough for a quarantine, and it lasts.
func TestSuspect(t *testing.T) {
	f := newFixture(t)
	c := f.device("A1")
	for range 2 {
		if err := f.svc.Suspect(t.Context(), "A1", "two-places-at-once"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.records(identity.RecordQuarantined)); n != 1 {
		t.Errorf("%d quarantines recorded, want 1", n)
	}
	f.restart()
	if who := f.mustIdentify(c); !who.Quarantined {
		t.Error("not held")
	}
	if d, _ := f.svc.Device("A1"); d.State != identity.StateQuarantined || d.Suspicion != "two-places-at-once" {
		t.Errorf("%+v", d)
	}
	if _, err := f.svc.Renew(t.Context(), c, csrFor(t, newKey(t), "A1")); err != nil {
		t.Errorf("a device in quarantine loses its identity: %v", err)
	}
	if err := f.svc.Suspect(t.Context(), "nobody", "x"); core.KindOf(err) != core.Unknown {
		t.Errorf("unknown device: %v", err)
	}
}
