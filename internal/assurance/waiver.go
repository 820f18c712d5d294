package assurance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// The longest a waiver may last, and how long it lasts where nobody says.
const (
	MaxWaiver   = 90 * 24 * time.Hour
	UsualWaiver = 30 * 24 * time.Hour
)

// Waiver accepts, for a while, that a row is failing or unproven for exactly
// these subjects. It never makes a row met.
type Waiver struct {
	ID  string `json:"id"`
	Row RowID  `json:"row"`
	// Subjects are what is accepted, each as CHECK/SUBJECT of a finding, or as
	// CHECK for one that is unproven. When anything else fails, the waiver is
	// void.
	Subjects []string `json:"subjects"`
	Reason   string   `json:"reason"`
	// Instead is the control that makes up for it. It must itself be met.
	Instead  ControlID  `json:"instead"`
	Asked    time.Time  `json:"asked"`
	AskedBy  core.Actor `json:"asked_by"`
	Approved time.Time  `json:"approved,omitzero"` // zero: not yet, so it counts for nothing
	By       core.Actor `json:"by,omitzero"`
	Ends     time.Time  `json:"ends"`
	Ended    time.Time  `json:"ended,omitzero"` // taken back before its end
	// Void says why it counts for nothing at the time of judging.
	Void string `json:"void,omitempty"`
}

// neverWaived says why a row cannot be waived, or nothing.
func neverWaived(r RowID) string {
	row, ok := FindRow(r)
	switch {
	case !ok:
		return "there is no row " + string(r)
	case row.Control == "DS-05":
		return "shared and default passwords are never accepted (DS-05)"
	case row.Control == "MR-07":
		return "an update process that others can use is never accepted (MR-07)"
	case r == "3.3" || r == "5.8":
		return "the integrity of the evidence is never accepted as broken"
	}
	return ""
}

// void says why a waiver counts for nothing at a time, whatever the state.
func (w *Waiver) void(at time.Time, recorded []WaiverRecord) string {
	if why := w.idle(at); why != "" {
		return why
	}
	return w.Altered(recorded, at)
}

// idle says why a waiver counts for nothing by what it says of itself.
func (w *Waiver) idle(at time.Time) string {
	switch why := neverWaived(w.Row); {
	case why != "":
		return why
	case w.Approved.IsZero():
		return "a second person has not approved it"
	case w.By == w.AskedBy:
		return "who asked for it approved it"
	case onMachine(w.By) || onMachine(w.AskedBy):
		return "it was asked for or approved on the machine itself, where nobody knows which person it was"
	case !w.Ended.IsZero() && !at.Before(w.Ended):
		return "it was taken back"
	case w.Ends.Sub(w.Approved) > MaxWaiver:
		return "it lasts longer than 90 days"
	case at.Before(w.Approved):
		return "it was approved at a time to come: a clock was set back"
	case !at.Before(w.Ends):
		return "it ended on " + stamp(w.Ends)
	}
	return ""
}

// exposed are the subjects for which a row is failing or unproven, in the
// words of Waiver.Subjects, and why they cannot be named when they cannot.
func exposed(r *RowState) (subjects []string, why string) {
	for _, c := range r.Checks {
		switch c.Verdict {
		case Failing:
			o := c.Observation
			if o.Failing > len(o.Findings) {
				return nil, fmt.Sprintf("%s fails for %d, more than can be named", c.ID, o.Failing)
			}
			for _, f := range o.Findings {
				subjects = append(subjects, c.ID+"/"+f.Subject)
			}
		case Unproven:
			subjects = append(subjects, c.ID)
		case Tampered, Errored, Stale:
			return nil, c.ID + " is " + string(c.Verdict) + ": that is mended, not waived"
		case Waived, Attested, NotApplicable, Met:
		}
	}
	return subjects, ""
}

// applyWaivers turns failing and unproven rows into waived ones where a waiver
// covers all that is exposed and what makes up for it is met.
func applyWaivers(in *Input, rows map[RowID]*RowState) {
	met := func(id ControlID) bool {
		var of []RowState
		for _, r := range RowsOf(id) {
			of = append(of, *rows[r.ID])
		}
		v, _, _ := judgeControl(of)
		return v == Met
	}
	waived := map[RowID]Verdict{} // applied together: no waiver leans on another's effect
	for i := range in.Waivers {
		w := in.Waivers[i]
		r := rows[w.Row]
		if r == nil || r.Verdict != Failing && r.Verdict != Unproven {
			continue
		}
		if w.Void = w.void(in.At, in.Recorded); w.Void == "" {
			w.Void = uncovered(&w, r, met)
		}
		if w.Void == "" || r.Waiver == nil {
			r.Waiver = &w
		}
		if w.Void == "" {
			waived[w.Row] = r.Verdict
		}
	}
	for id, was := range waived {
		r := rows[id]
		r.Verdict, r.Why = Waived, fmt.Sprintf("%s, accepted until %s: %s", was, r.Waiver.Ends.UTC().Format(time.DateOnly), r.Waiver.Reason)
	}
}

func uncovered(w *Waiver, r *RowState, met func(ControlID) bool) string {
	subjects, why := exposed(r)
	if why != "" {
		return why
	}
	var beyond []string
	for _, s := range subjects {
		if !slices.Contains(w.Subjects, s) {
			beyond = append(beyond, s)
		}
	}
	switch {
	case len(beyond) > 0:
		return "its scope has grown: " + strings.Join(beyond, ", ")
	case len(subjects) == 0:
		return "nothing is exposed that could be waived"
	case !met(w.Instead):
		return string(w.Instead) + ", which is to make up for it, is not met"
	}
	return ""
}
