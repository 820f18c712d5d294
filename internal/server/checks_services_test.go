package server

import (
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/check"
)

// TestServiceChecksTurnRed (CC 1.6, 3.4): each check of services is seen red by
// each of its violations, and green again.
func TestServiceChecksTurnRed(t *testing.T) {
	t.Parallel()
	proofs, err := Selftest(t.Context(), SelftestOptions{Version: "test", Only: func(id string) bool { return strings.HasPrefix(id, "services.") }})
	if err != nil {
		t.Fatal(err)
	}
	if len(proofs) != 6 {
		t.Errorf("%d trials", len(proofs))
	}
	for _, p := range proofs {
		if !p.OK() {
			t.Errorf("%s by %s: %s, %s, %s: %s", p.Check, p.Violation, p.Before, p.Red, p.After, p.Error)
		}
	}
}

// TestServiceChecksWithServices: the checks pass with services, and name who
// has proved nothing.
func TestServiceChecksWithServices(t *testing.T) {
	l, s, _ := inner(t)
	l.publish(t, readersDeclaration())
	l.keysHome = l.home
	u := l.enrol(t, "A1")
	app := l.service(t, "app-backend")
	newPoster(l, u, t).post(t, "climate", jsonType, `{"temp":20}`).want(t, "a reading", 200, "")
	app.gather(t, "", 1)
	for _, id := range []string{"services.mutual", "services.listed", "services.erase", "interfaces.declared", "doors.cleartext"} {
		o := check.Take(t.Context(), s.rounds.registry.Find(id), "test", s.opt.Now, trialTime)
		if o.Outcome != check.Pass {
			t.Errorf("%s: %s %s %+v", id, o.Outcome, o.Error, o.Findings)
		}
		if id == "services.erase" && (len(o.Left) != 1 || o.Left[0].Subject != "test-sensor/app-backend") {
			t.Errorf("left out: %+v", o.Left)
		}
	}
}
