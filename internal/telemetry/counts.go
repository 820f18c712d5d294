package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// keepCounts is how long counts by minute are kept.
const keepCounts = 90 * 24 * time.Hour

// CountKind is what is counted.
type CountKind string

// The kinds of count. What becomes of a reading is what becomes of its first
// part.
const (
	CountAccepted     CountKind = "accepted"      // messages that were judged good and acknowledged
	CountStored       CountKind = "stored"        // readings filed in an epoch file
	CountDuplicate    CountKind = "duplicate"     // readings that had been filed before, under the same boot and seq
	CountExpired      CountKind = "expired"       // readings whose epoch had ended before they were filed
	CountDroppedField CountKind = "dropped-field" // fields dropped from accepted messages
	CountRefused      CountKind = "refused"       // messages not stored, by reason
	CountParked       CountKind = "parked"        // readings that went through the late lane; each is counted again by its end
)

// Minute is a Unix time in minutes.
type Minute int64

// MinuteOf is the minute of a Unix time in milliseconds.
func MinuteOf(ms int64) Minute {
	m := ms / 60_000
	if ms%60_000 < 0 {
		m--
	}
	return Minute(m)
}

// Count is how often something happened in one minute.
type Count struct {
	Minute  Minute // of receipt
	Product core.ProductID
	Subject core.Subject // zero for what is usual, and for the unowned
	Kind    CountKind
	Reason  Reason // of CountRefused
	N       uint64
}

// SubjectCount are the running figures of one subject, or what to add to them.
type SubjectCount struct {
	Subject                                              core.Subject
	Product                                              core.ProductID
	Accepted, Stored, Duplicates, DroppedFields, Refused uint64
	Last                                                 int64 // latest receipt, Unix milliseconds
}

// ReasonCount is how many messages were refused for one reason.
type ReasonCount struct {
	Reason Reason
	N      uint64
}

// Totals are counts since the beginning.
type Totals struct {
	Accepted, DroppedFields, Stored, Duplicates, Expired, Parked uint64
	Refused                                                      []ReasonCount // by reason
}

// RefusedBy is how many messages were refused for r.
func (t *Totals) RefusedBy(r Reason) uint64 {
	for _, c := range t.Refused {
		if c.Reason == r {
			return c.N
		}
	}
	return 0
}

// Counts reads and prunes the counts that the projector writes.
type Counts struct{ d CountsDeps }

// CountsDeps is what Counts needs; all of it is required.
type CountsDeps struct {
	Update func(context.Context, func(ProjectionTx) error) error
	View   func(context.Context, func(ProjectionTx) error) error
	Now    func() time.Time
}

// NewCounts checks its dependencies.
func NewCounts(d CountsDeps) (*Counts, error) {
	if d.Update == nil || d.View == nil || d.Now == nil {
		return nil, errors.New("telemetry counts: Update, View and Now are required")
	}
	return &Counts{d}, nil
}

// Totals are the counts since the beginning, of one product or, when it is
// empty, of all.
func (c *Counts) Totals(ctx context.Context, product core.ProductID) (Totals, error) {
	var t Totals
	err := c.d.View(ctx, func(tx ProjectionTx) (err error) {
		t, err = tx.Totals(ctx, product)
		return err
	})
	if err != nil {
		return Totals{}, fmt.Errorf("read telemetry totals: %w", err)
	}
	return t, nil
}

// Prune is the job that drops counts by minute, and what is known of ended
// epochs, after 90 days.
func (c *Counts) Prune(ctx context.Context) error {
	before := c.d.Now().Add(-keepCounts)
	err := c.d.Update(ctx, func(tx ProjectionTx) error {
		if _, err := tx.PruneCounts(ctx, MinuteOf(before.UnixMilli())); err != nil {
			return err
		}
		_, err := tx.ForgetEpochs(ctx, before)
		return err
	})
	if err != nil {
		return fmt.Errorf("prune telemetry counts: %w", err)
	}
	return nil
}

// tally gathers the counts of one group of batches.
type tally struct {
	counts   map[Count]uint64 // keyed by a Count whose N is 0
	subjects map[subjectKey]*SubjectCount
}

type subjectKey struct {
	subject core.Subject
	product core.ProductID
}

func newTally() *tally {
	return &tally{counts: map[Count]uint64{}, subjects: map[subjectKey]*SubjectCount{}}
}

func (t *tally) reset() {
	clear(t.counts)
	clear(t.subjects)
}

// add counts n messages. Only what is not usual is counted by subject and
// minute: what is usual would be one row for each device and minute.
func (t *tally) add(kind CountKind, reason Reason, product core.ProductID, subject core.Subject, received int64, n uint64) {
	if n == 0 {
		return
	}
	k := Count{Minute: MinuteOf(received), Product: product, Subject: subject, Kind: kind, Reason: reason}
	if kind == CountAccepted || kind == CountStored {
		k.Subject = core.Subject{}
	}
	t.counts[k] += n
	if subject.IsZero() {
		return
	}
	s := t.subjects[subjectKey{subject, product}]
	if s == nil {
		s = &SubjectCount{Subject: subject, Product: product}
		t.subjects[subjectKey{subject, product}] = s
	}
	s.Last = max(s.Last, received)
	switch kind {
	case CountAccepted:
		s.Accepted += n
	case CountStored:
		s.Stored += n
	case CountDuplicate:
		s.Duplicates += n
	case CountDroppedField:
		s.DroppedFields += n
	case CountRefused:
		s.Refused += n
	}
}

// write hands everything to the control database, in an order that keeps
// what lies together together.
func (t *tally) write(ctx context.Context, tx ProjectionTx) error {
	counts := make([]Count, 0, len(t.counts))
	for k, n := range t.counts {
		k.N = n
		counts = append(counts, k)
	}
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Minute, b.Minute), cmp.Compare(a.Product, b.Product),
			slices.Compare(a.Subject[:], b.Subject[:]), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Reason, b.Reason))
	})
	if err := tx.AddCounts(ctx, counts); err != nil {
		return err
	}
	subjects := make([]SubjectCount, 0, len(t.subjects))
	for _, s := range t.subjects {
		subjects = append(subjects, *s)
	}
	slices.SortFunc(subjects, func(a, b SubjectCount) int {
		return cmp.Or(slices.Compare(a.Subject[:], b.Subject[:]), cmp.Compare(a.Product, b.Product))
	})
	return tx.AddSubjectCounts(ctx, subjects)
}
