package demo

import (
	"fmt"
	"slices"
)

// Figures is what `hawser demo --json` prints. Every number was read back from
// store, ledger, counters or disk by another process.
type Figures struct {
	Devices            int               `json:"devices"`
	Accepted           uint64            `json:"accepted"`
	DroppedFields      uint64            `json:"dropped_fields"`
	Refused            map[string]uint64 `json:"refused"`
	Stored             uint64            `json:"stored"`
	UndeclaredStored   int               `json:"undeclared_stored"`
	ReadBack           int               `json:"read_back"`
	Erased             int               `json:"erased"`
	OpenedAfterErasure int               `json:"opened_after_erasure"`
	SurvivorsOpened    int               `json:"survivors_opened"`
	CanaryFoundInClear int               `json:"canary_found_in_clear"`
	LedgerVerified     bool              `json:"ledger_verified"`
	SeenRed            int               `json:"seen_red"`     // trials in which a check turned red
	NotSeenRed         int               `json:"not_seen_red"` // trials in which it did not
	Rows               map[string]int    `json:"rows"`         // the rows of the mission, by verdict
	EvidenceVerified   bool              `json:"evidence_verified"`

	opened     int  // readings of all devices that opened before the erasure
	canarySeen bool // the planted value came back: it was really stored
}

// Faults lists what does not hold; nothing when all does.
func (f *Figures) Faults() []string {
	var out []string
	need := func(ok bool, text string, args ...any) {
		if !ok {
			out = append(out, fmt.Sprintf(text, args...))
		}
	}
	need(f.Devices == devices, "%d devices enrolled, want %d", f.Devices, devices)
	need(f.Accepted > 0, "no message was accepted")
	need(f.DroppedFields > 0, "no undeclared field was dropped")
	need(f.Stored > 0, "nothing was stored")
	need(f.UndeclaredStored == 0, "%d undeclared fields were stored", f.UndeclaredStored)
	need(f.ReadBack > 0, "nothing could be read back")
	need(f.Erased == 1, "%d erasures in the ledger, want 1", f.Erased)
	need(f.OpenedAfterErasure == 0, "%d readings of the erased device opened", f.OpenedAfterErasure)
	need(f.SurvivorsOpened == devices-1, "%d of the other devices opened after the restore, want %d", f.SurvivorsOpened, devices-1)
	need(f.CanaryFoundInClear == 0, "the planted value lies in clear in %d files", f.CanaryFoundInClear)
	need(f.canarySeen, "the planted value never came back: searching for it proves nothing")
	need(f.Stored <= f.Accepted && uint64(f.opened) >= f.Stored, "%d messages accepted, %d stored, but %d open", f.Accepted, f.Stored, f.opened)
	need(f.LedgerVerified, "the ledger does not verify")
	need(f.SeenRed > 0 && f.NotSeenRed == 0, "%d checks were seen to turn red, %d not", f.SeenRed, f.NotSeenRed)
	need(f.EvidenceVerified, "the evidence does not verify")
	rows := 0
	for _, n := range f.Rows {
		rows += n
	}
	need(rows == allRows, "%d rows, want %d", rows, allRows)
	need(f.Rows["met"] > 0 && f.Rows["failing"]+f.Rows["tampered"]+f.Rows["error"] == 0, "of the rows %s", tally(f.Rows))
	refused := uint64(0)
	for _, n := range f.Refused {
		refused += n
	}
	need(refused > 0, "nothing was refused although one device behaves badly")
	slices.Sort(out)
	return out
}
