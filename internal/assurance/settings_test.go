package assurance

import (
	"testing"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// TestSettingsCount holds that a setting makes rows apply as a command does.
// CC 3.7, 3.8.
func TestSettingsCount(t *testing.T) {
	applies := func(row RowID, p *declaration.Policy) bool {
		facts := FactsOf([]*declaration.Policy{p}).Products[0]
		for _, m := range moots() {
			if m.row == row {
				return m.applies(&facts)
			}
		}
		t.Fatalf("no row %s", row)
		return false
	}
	none := &declaration.Policy{Product: "lamp"}
	one := &declaration.Policy{Product: "lamp", Settings: []declaration.Setting{{Class: declaration.Health, Risky: true}}}
	for _, row := range []RowID{"3.7", "3.8"} {
		if applies(row, none) || !applies(row, one) {
			t.Errorf("row %s: without a setting %t, with one %t; want false, true", row, applies(row, none), applies(row, one))
		}
	}
	if p := FactsOf([]*declaration.Policy{one}).Products[0]; p.Risky != 1 || !p.Guarded || !p.Health {
		t.Errorf("got %+v; want risky, guarded and health", p)
	}
}
