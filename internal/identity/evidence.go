package identity

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// The kinds of records that identity writes.
const (
	RecordAdded       core.RecordKind = "device-added"
	RecordCode        core.RecordKind = "enrolment-code-issued"
	RecordIssued      core.RecordKind = "certificate-issued"
	RecordEnrolled    core.RecordKind = "device-enrolled"
	RecordOwned       core.RecordKind = "ownership-opened"
	RecordEnded       core.RecordKind = "ownership-ended"
	RecordRevoked     core.RecordKind = "device-revoked"
	RecordQuarantined core.RecordKind = "device-quarantined"
	RecordReleased    core.RecordKind = "device-released"
	RecordFinding     core.RecordKind = "identity-finding"
	RecordLinked      core.RecordKind = "child-linked"
	RecordMoved       core.RecordKind = "child-moved"
	RecordUnlinked    core.RecordKind = "child-unlinked"
)

// sealContext says what the sealed part of our records is.
const sealContext = "identity"

// sealedPart is what a record says about a device under its owner's key, and
// nowhere else.
type sealedPart struct {
	Device      core.DeviceID `json:"device"`
	Hub         core.DeviceID `json:"hub,omitempty"`        // that speaks for it from then on, or did until then
	HubBefore   core.DeviceID `json:"hub_before,omitempty"` // of a move
	Certificate string        `json:"certificate,omitempty"`
	Reason      string        `json:"reason,omitempty"` // a person's own words
}

// record makes a record about a device. With an owner, the device is named
// only in the part that is sealed under the owner's key, so that an erasure
// leaves who did what and takes away to whom (design, section 5, Ledger).
// Without one, it is named by its random unit number, which no record with a
// subject ever carries.
func (s *Service) record(st *state, kind core.RecordKind, by core.Actor, part sealedPart, facts ...core.Fact) core.Record {
	r := core.Record{Time: s.d.Now().UTC(), Kind: kind, Actor: by, Product: st.dev.Product, Facts: facts}
	subject := st.subject()
	if subject.IsZero() {
		// What is in part has no key to be sealed under, and may name a person:
		// it is left out.
		r.Facts = append(r.Facts, core.Fact{Name: "unit", Value: core.Subject(st.dev.Unit).String()})
		return r
	}
	r.Subject = subject
	part.Device = st.dev.ID
	if b, err := json.Marshal(part); err == nil {
		// The key may be gone since: an erasure runs. Then there is nobody
		// left whom the record could name.
		if sealed, err := s.d.Keys.SealValue(subject, sealContext, b); err == nil {
			r.Sealed = sealed
		}
	}
	return r
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// refusals counts refusals by reason since the start. Reasons are words of
// this package, so their number is bounded.
type refusals struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (r *refusals) add(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = map[string]uint64{}
	}
	r.n[reason]++
}

// Refusals is how often enrolment, renewal and admission were refused since
// the start, by reason.
func (s *Service) Refusals() map[string]uint64 {
	s.refusals.mu.Lock()
	defer s.refusals.mu.Unlock()
	out := make(map[string]uint64, len(s.refusals.n))
	for k, v := range s.refusals.n {
		out[k] = v
	}
	return out
}

// refused counts an error's reason and hands the error on.
func (s *Service) refused(err error) error {
	if err != nil {
		s.refusals.add(core.ReasonOf(err))
	}
	return err
}

// maxSeen bounds the findings that are recorded in one minute.
const maxSeen = 4096

// seen lets one finding per device, reason and minute into the ledger, so that
// nobody can grow it (design, section 5, Ledger).
type seen struct {
	mu     sync.Mutex
	minute int64
	keys   map[string]struct{}
}

func (n *seen) first(id core.DeviceID, reason string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := now.Unix() / 60; m != n.minute || n.keys == nil {
		n.minute, n.keys = m, map[string]struct{}{}
	}
	key := string(id) + "\x00" + reason
	if _, old := n.keys[key]; old || len(n.keys) >= maxSeen {
		return false
	}
	n.keys[key] = struct{}{}
	return true
}

// finding records that somebody who holds a device's secret did what the
// device would not do. It is evidence, so a failure to write it is returned.
func (s *Service) finding(ctx context.Context, id core.DeviceID, reason string) error {
	if !s.seen.first(id, reason, s.d.Now()) {
		return nil
	}
	return s.d.Update(ctx, func(tx Tx) error {
		st, err := read(ctx, tx, id)
		if err != nil {
			return err
		}
		return tx.Record(ctx, s.record(st, RecordFinding, core.Job("identity"), sealedPart{}, core.Fact{Name: "finding", Value: reason}))
	})
}
