package server

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// TestOthersAreOthers: 10,000 different ids, none of them whose neighbours they
// are, with the devices that are there and names that resemble (CC 3.6).
func TestOthersAreOthers(t *testing.T) {
	s := opened(t, newHome(t, core.Test, ""))
	defer func() { _ = s.close() }() // the test is over
	if _, err := s.devices.AddDevice(t.Context(), core.Job("test"), "test-sensor", "B2"); err != nil {
		t.Fatal(err)
	}
	for _, own := range []core.DeviceID{"A1", "x", "LOOK-1"} {
		ids, registered := s.others(own)
		seen := map[core.DeviceID]bool{}
		for _, id := range ids {
			if id == own {
				t.Errorf("%s is its own neighbour", own)
			}
			seen[id] = true
		}
		if registered != 1 || ids[0] != "B2" || len(seen) < otherIDs-5 || len(ids) > otherIDs+20 {
			t.Errorf("%s: %d ids, %d of them different, %d registered", own, len(ids), len(seen), registered)
		}
		if own == "A1" && (!seen["a1"] || !seen["A10"] || !seen["A"]) {
			t.Error("names that resemble are not tried")
		}
	}
}

// TestSideDoorLeavesNothing: what is tried at a side door moves no count of the
// running one, and stores nothing (CC 1.8, 3.6).
func TestSideDoorLeavesNothing(t *testing.T) {
	s := opened(t, newHome(t, core.Test, ""))
	defer func() { _ = s.close() }() // the test is over
	before, size := s.gateway.Stats(), s.ledger.Latest().Size
	o := check.Take(t.Context(), s.rounds.registry.Find("neighbours.session"), "test", time.Now, time.Minute)
	if o.Outcome != check.Pass || o.Passing < 2*otherIDs {
		t.Fatalf("%s: %d of %d: %s %v", o.Outcome, o.Passing, o.Population, o.Error, o.Findings)
	}
	after := s.gateway.Stats()
	if after.Accepted != before.Accepted || after.Refused != before.Refused || after.SubscribeDenied != before.SubscribeDenied || after.Devices != before.Devices {
		t.Errorf("the running door counts: %+v", after)
	}
	if n, err := s.ledger.Sequence(t.Context()); err != nil || n != 0 || s.ledger.Latest().Size != size {
		t.Errorf("%d new entries in the ledger, %v", n, err)
	}
	if got := s.intake.Counters(); got.Accepted != 0 {
		t.Errorf("the intake counts %+v", got)
	}
}

// TestMissesFactor: which session was opened with too little (CC 1.11).
func TestMissesFactor(t *testing.T) {
	now := time.Now()
	admin, support := []access.Role{access.Administrator}, []access.Role{access.Support}
	for _, c := range []struct {
		name     string
		state    access.State
		roles    []access.Role
		approver bool
		means    []gate.Means
		passkey  time.Time
		good     bool
	}{
		{"administrator, passkey", access.Active, admin, false, []gate.Means{gate.Passkey}, now, true},
		{"administrator who joined", access.Active, admin, true, []gate.Means{gate.SetupLink, gate.Passkey}, now, true},
		{"administrator, two factors", access.Active, admin, false, []gate.Means{gate.Password, gate.TOTP}, time.Time{}, false},
		{"approver of support, two factors", access.Active, support, true, []gate.Means{gate.Password, gate.TOTP}, time.Time{}, false},
		{"passkey claimed, never used", access.Active, admin, false, []gate.Means{gate.Passkey}, time.Time{}, false},
		{"support, two factors", access.Active, support, false, []gate.Means{gate.Password, gate.TOTP}, time.Time{}, true},
		{"support, recovery code", access.Active, support, false, []gate.Means{gate.Password, gate.RecoveryCode}, time.Time{}, true},
		{"support, password", access.Active, support, false, []gate.Means{gate.Password}, time.Time{}, false},
		{"support, nothing", access.Active, support, false, nil, time.Time{}, false},
		{"disabled", access.Disabled, support, false, []gate.Means{gate.Passkey}, now, false},
	} {
		why := missesFactor(&access.PersonRow{State: c.state, Roles: c.roles, Approver: c.approver}, &access.SessionRow{Means: c.means, Passkey: c.passkey})
		if (why == "") != c.good {
			t.Errorf("%s: %q", c.name, why)
		}
	}
}
