package demo

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func sound() Figures {
	return Figures{
		Devices: devices, Accepted: 100, DroppedFields: 6, Refused: map[string]uint64{"rate": 200}, Stored: 100,
		ReadBack: 20, Erased: 1, SurvivorsOpened: devices - 1, LedgerVerified: true, opened: 100, canarySeen: true,
		SeenRed: 9, EvidenceVerified: true, Rows: map[string]int{"met": 5, "unproven": allRows - 5},
	}
}

// TestFiguresMustAllHold: the demo succeeds only if everything that it shows
// holds; each figure alone makes it fail.
func TestFiguresMustAllHold(t *testing.T) {
	good := sound()
	if f := good.Faults(); len(f) != 0 {
		t.Fatalf("sound figures have faults: %v", f)
	}
	for name, spoil := range map[string]func(*Figures){
		"enrolled":               func(f *Figures) { f.Devices-- },
		"accepted":               func(f *Figures) { f.Accepted, f.Stored, f.opened = 0, 0, 0 },
		"undeclared field":       func(f *Figures) { f.DroppedFields = 0 },
		"refused":                func(f *Figures) { f.Refused = nil },
		"stored":                 func(f *Figures) { f.Stored, f.opened = 0, 0 },
		"undeclared fields were": func(f *Figures) { f.UndeclaredStored = 1 },
		"read back":              func(f *Figures) { f.ReadBack = 0 },
		"erasures":               func(f *Figures) { f.Erased = 0 },
		"erased device opened":   func(f *Figures) { f.OpenedAfterErasure = 1 },
		"other devices":          func(f *Figures) { f.SurvivorsOpened-- },
		"in clear":               func(f *Figures) { f.CanaryFoundInClear = 1 },
		"proves nothing":         func(f *Figures) { f.canarySeen = false },
		"but":                    func(f *Figures) { f.opened-- },
		"ledger":                 func(f *Figures) { f.LedgerVerified = false },
		"evidence":               func(f *Figures) { f.EvidenceVerified = false },
		"turn red, 1 not":        func(f *Figures) { f.NotSeenRed = 1 },
		"0 checks were seen":     func(f *Figures) { f.SeenRed = 0 },
		"rows, want":             func(f *Figures) { f.Rows = map[string]int{"met": 5} },
		"1 failing":              func(f *Figures) { f.Rows = map[string]int{"met": 5, "failing": 1, "unproven": allRows - 6} },
		"of the rows":            func(f *Figures) { f.Rows = map[string]int{"unproven": allRows} },
	} {
		f := sound()
		spoil(&f)
		if all := f.Faults(); !slices.ContainsFunc(all, func(s string) bool { return strings.Contains(s, name) }) {
			t.Errorf("%s: nothing is said of it: %q", name, all)
		}
	}
}

// TestFiguresHaveTheirNames: programs read them.
func TestFiguresHaveTheirNames(t *testing.T) {
	b, err := json.Marshal(sound())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"devices", "accepted", "dropped_fields", "refused", "stored", "undeclared_stored", "read_back", "erased",
		"opened_after_erasure", "survivors_opened", "canary_found_in_clear", "ledger_verified",
		"seen_red", "not_seen_red", "rows", "evidence_verified",
	}
	for _, name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing in %s", name, b)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d figures, want %d: %s", len(got), len(want), b)
	}
}
