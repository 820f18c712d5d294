package assurance

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// WaiverRecord is what the ledger holds of one step in the life of a waiver. A
// waiver counts only as far as its records say the same as it does.
type WaiverRecord struct {
	Kind   core.RecordKind
	Waiver string
	Digest core.Hash // of what is accepted (Waiver.Digest)
	Time   time.Time
	Actor  core.Actor
	// Earlier marks records from before the ledger began anew: nothing that is
	// signed now proves them.
	Earlier bool
}

// WaiverRecordKinds are the kinds of records of waivers.
func WaiverRecordKinds() []core.RecordKind {
	return []core.RecordKind{RecordWaiverAsked, RecordWaiverApproved, RecordWaiverEnded}
}

// Digest is of all that a waiver accepts: row, subjects, reason, what makes up
// for it, end, who asked and when. The ledger holds it in place of subjects and
// reason, which could name somebody.
func (w *Waiver) Digest() core.Hash {
	b, err := json.Marshal(struct {
		ID       string     `json:"id"`
		Row      RowID      `json:"row"`
		Subjects []string   `json:"subjects"`
		Reason   string     `json:"reason"`
		Instead  ControlID  `json:"instead"`
		Asked    time.Time  `json:"asked"`
		AskedBy  core.Actor `json:"asked_by"`
		Ends     time.Time  `json:"ends"`
	}{w.ID, w.Row, w.Subjects, w.Reason, w.Instead, w.Asked.UTC(), w.AskedBy, w.Ends.UTC()})
	if err != nil {
		return core.Hash{} // a time out of range: it agrees with nothing
	}
	return sha256.Sum256(append([]byte("hawser waiver v1\x00"), b...))
}

// RecordOf is what the ledger is told of a step: RecordWaiverAsked, -Approved
// or -Ended. Reason and subjects stay out of it.
func (w *Waiver) RecordOf(kind core.RecordKind, by core.Actor, at time.Time) core.Record {
	return core.Record{Time: at, Kind: kind, Actor: by, Facts: []core.Fact{
		{Name: "waiver", Value: w.ID},
		{Name: "row", Value: string(w.Row)},
		{Name: "instead", Value: string(w.Instead)},
		{Name: "subjects", Value: fmt.Sprint(len(w.Subjects))},
		{Name: "digest", Value: w.Digest().String()},
		{Name: "ends", Value: w.Ends.UTC().Format(time.RFC3339)},
	}}
}

// ParseWaiverRecord reads a record of a waiver: the facts of that kind, in
// their order, and no others.
func ParseWaiverRecord(r *core.Record) (WaiverRecord, error) {
	out := WaiverRecord{Kind: r.Kind, Time: r.Time, Actor: r.Actor}
	names := []string{"waiver", "row", "instead", "subjects", "digest", "ends"}
	if r.Kind != RecordWaiverAsked && r.Kind != RecordWaiverApproved && r.Kind != RecordWaiverEnded || len(r.Facts) != len(names) {
		return out, fmt.Errorf("it is no record of a waiver")
	}
	for i, n := range names {
		if r.Facts[i].Name != n {
			return out, fmt.Errorf("it has the fact %q where %q belongs", r.Facts[i].Name, n)
		}
	}
	out.Waiver = r.Facts[0].Value
	var err error
	out.Digest, err = core.ParseHash(r.Facts[4].Value)
	return out, err
}

// askedAs says where a waiver is not what the ledger holds that somebody asked
// for; empty when it is.
func (w *Waiver) askedAs(all []WaiverRecord) string {
	n := 0
	for _, r := range all {
		if r.Waiver != w.ID || r.Kind != RecordWaiverAsked {
			continue
		}
		switch n++; {
		case r.Earlier:
			return "it was recorded before the ledger began anew: ask for a new one"
		case r.Digest != w.Digest() || r.Actor != w.AskedBy || !r.Time.Equal(w.Asked):
			return "it is not what was asked for: the ledger holds another"
		}
	}
	switch n {
	case 0:
		return "the ledger does not say that anybody asked for it"
	case 1:
		return ""
	}
	return "the ledger says more than once that it was asked for"
}

// Altered says where a waiver that would be in force at a time is not what the
// ledger holds: edited, added, prolonged or given back behind the program's
// back. Empty when it is, and for one that counts for nothing anyway.
func (w *Waiver) Altered(all []WaiverRecord, at time.Time) string {
	if w.idle(at) != "" {
		return ""
	}
	if why := w.askedAs(all); why != "" {
		return why
	}
	approved := false
	for _, r := range all {
		if r.Waiver != w.ID {
			continue
		}
		switch r.Kind {
		case RecordWaiverEnded:
			if !r.Time.Equal(w.Ended) {
				return "the ledger says that it was taken back"
			}
		case RecordWaiverApproved:
			if r.Earlier || r.Digest != w.Digest() || r.Actor != w.By || !r.Time.Equal(w.Approved) || approved {
				return "it is not what was approved: the ledger holds another"
			}
			approved = true
		}
	}
	if !approved {
		return "the ledger does not say that anybody approved it"
	}
	return ""
}

// Lapsed reports whether a waiver was asked for in a ledger that ended with a
// restore: it counts for nothing, and nobody altered it.
func (w *Waiver) Lapsed(all []WaiverRecord) bool {
	for _, r := range all {
		if r.Waiver == w.ID && r.Kind == RecordWaiverAsked && r.Earlier && r.Digest == w.Digest() {
			return true
		}
	}
	return false
}

// onMachine reports whether somebody acted on the machine itself, whom the
// operating system names: one person may be several of its users.
func onMachine(a core.Actor) bool { return strings.HasPrefix(a.ID, "os:") }
