package assurance

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// TestClaimsCountReadersThatProvedIt (CC 8.1): a promise about the end of data
// is proved where every service that has some proved its part; another promise
// does not ask for that.
func TestClaimsCountReadersThatProvedIt(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	p := &declaration.Policy{
		Product: "aria", Services: []declaration.OwnService{{Name: "app-backend"}},
		Claims: []declaration.Claim{{Say: "Gone after 30 days.", RestsOn: []string{"DM-03", "DM-05"}}, {Say: "Encrypted.", RestsOn: []string{"RP-03"}}},
	}
	seen := func(left, failing []check.Finding, expires time.Time) *check.Observation {
		return &check.Observation{Check: CheckServicesErase, Expires: expires, Failing: len(failing), Excluded: len(left), Findings: failing, Left: left}
	}
	fresh, its := at.Add(time.Hour), []check.Finding{{Subject: "aria/app-backend"}}
	const inside = "proven inside Hawser; not proven at app-backend"
	for name, c := range map[string]struct {
		o    *check.Observation
		want string // "": proved
	}{
		"proved":             {seen(nil, nil, fresh), ""},
		"of another product": {seen([]check.Finding{{Subject: "bear/app-backend"}}, nil, fresh), ""},
		"not proved yet":     {seen(its, nil, fresh), inside},
		"refuted":            {seen(nil, its, fresh), inside},
		"nobody looked":      {nil, inside},
		"looked long ago":    {seen(nil, nil, at.Add(-time.Second)), inside},
		"more than is told":  {&check.Observation{Expires: fresh, Excluded: 1}, inside},
		"could not look":     {&check.Observation{Expires: fresh, Error: "disk"}, inside},
	} {
		st := &State{At: at}
		for _, id := range []ControlID{"DM-03", "DM-05", "RP-03"} {
			st.Controls = append(st.Controls, ControlState{Control: Control{ID: id}, Verdict: Met})
		}
		st.Controls = append(st.Controls, ControlState{Control: Control{ID: "DS-01"}, Rows: []RowState{{Checks: []CheckState{{Declared: Declared{ID: CheckServicesErase}, Observation: c.o}}}}})
		claims := ClaimsOf([]*declaration.Policy{p}, st)
		if claims[0].Proved != (c.want == "") || c.want != "" && claims[0].Why != c.want {
			t.Errorf("%s: proved %v: %s", name, claims[0].Proved, claims[0].Why)
		}
		if !claims[1].Proved {
			t.Errorf("%s: a promise about something else: %s", name, claims[1].Why)
		}
		st.Controls[1].Verdict, st.Controls[1].Why = Failing, "rows are left"
		if cs := ClaimsOf([]*declaration.Policy{p}, st)[0]; cs.Proved || c.want != "" && cs.Why != "unproven: DM-05 is failing: rows are left; not proven at app-backend" {
			t.Errorf("%s, with a control that fails: %s", name, cs.Why)
		}
	}
}
