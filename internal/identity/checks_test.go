package identity_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

func (f *fixture) look(id string) check.Observation {
	f.t.Helper()
	for _, c := range f.svc.Checks() {
		if c.ID == id {
			return check.Take(f.t.Context(), &c, "test", f.clock, 10*time.Second)
		}
	}
	f.t.Fatalf("there is no check %s", id)
	return check.Observation{}
}

// TestChecksOfALife: whatever a unit goes through by the rules, no check of
// the register turns red; with no unit, they prove nothing.
func TestChecksOfALife(t *testing.T) {
	f := newFixture(t)
	all := []string{"devices.own-key", "codes.distinct", "devices.index"}
	for _, id := range all {
		if o := f.look(id); o.Outcome != check.Empty {
			t.Errorf("%s on an empty register: %s %s", id, o.Outcome, o.Error)
		}
	}
	still := func(when string) {
		t.Helper()
		for _, id := range all {
			if o := f.look(id); o.Outcome != check.Pass {
				t.Errorf("%s, %s: %s %s %v", when, id, o.Outcome, o.Error, o.Findings)
			}
		}
	}
	f.device("A1")
	f.device("A2")
	still("two units")
	f.mustEnrol("A1", f.newCode("A1"))
	still("a certificate not used yet")
	if _, err := f.svc.Revoke(t.Context(), admin, "A2", identity.Why{Cause: identity.Causes()[0]}); err != nil {
		t.Fatal(err)
	}
	still("one revoked")
	over, err := f.svc.Ended(t.Context())
	if err != nil || len(over) != 1 {
		t.Errorf("%d certificates over, %v; want 1", len(over), err)
	}
	for serial := range over {
		if f.svc.Admitted(serial) {
			t.Error("a revoked certificate would be let in")
		}
	}
	f.advance(500 * 24 * time.Hour)
	still("all ran out")
	if _, err := f.svc.Trim(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	still("trimmed")
}

// TestCommitIsNoDifference: units that enrol while the register is compared
// with memory are no finding.
func TestCommitIsNoDifference(t *testing.T) {
	f := newFixture(t)
	f.device("A0")
	done := make(chan error, 1)
	go func() {
		for n := range 20 {
			id := core.DeviceID(fmt.Sprintf("B%d", n))
			code, err := f.svc.AddDevice(t.Context(), admin, product, id)
			if err != nil {
				done <- err
				return
			}
			chain, err := f.svc.Enrol(t.Context(), home, id, code, csrFor(t, newKey(t), id))
			if err != nil {
				done <- err
				return
			}
			if _, err := f.svc.Identify(t.Context(), leafOf(t, chain)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for over := false; !over; {
		select {
		case err := <-done:
			if over = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
		for _, id := range []string{"devices.index", "codes.distinct", "devices.own-key"} {
			if o := f.look(id); o.Outcome == check.Fail {
				t.Errorf("%s: %v", id, o.Findings)
			}
		}
	}
}
