package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// KindBatches records how far epoch files have come: one fact for each file
// that got rows since the record before (mission row 3.3).
const KindBatches core.RecordKind = "telemetry-batches"

// maxSealed is how many files one record names: far below what a ledger entry
// can hold.
const maxSealed = 128

// LedgerRoots reads the root entries of an epoch back from the ledger.
type LedgerRoots interface {
	Roots(context.Context, core.Epoch) ([]Sealed, error)
}

// RootsDeps is what Roots needs. All but Ledger is required.
type RootsDeps struct {
	Files  Partitions
	Update func(context.Context, func(ProjectionTx) error) error
	View   func(context.Context, func(ProjectionTx) error) error
	Now    func() time.Time
	// Ledger is asked by VerifyFile; without it only the control database's
	// own list is compared.
	Ledger LedgerRoots
}

// Roots ties epoch files to the ledger and finds what was changed since.
type Roots struct{ d RootsDeps }

// NewRoots checks its dependencies.
func NewRoots(d RootsDeps) (*Roots, error) {
	if d.Files == nil || d.Update == nil || d.View == nil || d.Now == nil {
		return nil, errors.New("batch roots: Files, Update, View and Now are required")
	}
	return &Roots{d}, nil
}

// SealMinute is the job that records, once a minute, how far every epoch file
// has come. It reads no file: what it records is what the projector wrote
// down when the rows were durable.
func (x *Roots) SealMinute(ctx context.Context) error {
	for {
		more := false
		err := x.d.Update(ctx, func(tx ProjectionTx) error {
			open, err := tx.UnsealedEpochs(ctx)
			if err != nil {
				return err
			}
			if more = len(open) > maxSealed; more {
				open = open[:maxSealed]
			}
			if len(open) == 0 {
				return nil
			}
			now := x.d.Now().UTC()
			rec := core.Record{Time: now, Kind: KindBatches, Actor: core.Job("seal-minute")}
			for n, i := range open {
				s := Sealed{Epoch: i.Epoch, First: i.Sealed + 1, Last: i.Head.Batches, Rows: i.Head.Rows, Chain: i.Head.Chain, At: now}
				if err := tx.PutSealed(ctx, s); err != nil {
					return err
				}
				rec.Facts = append(rec.Facts, core.Fact{Name: "file_" + strconv.Itoa(n+1), Value: s.fact()})
			}
			return tx.Record(ctx, rec)
		})
		if err != nil {
			return fmt.Errorf("seal batch roots: %w", err)
		}
		if !more {
			return nil
		}
	}
}

// fact is s as one value of a record:
// "k2592000/20261122T000000Z 86400 4-9 1034 HEX": epoch, its length in
// seconds, batches, rows so far, chain.
func (s *Sealed) fact() string {
	return fmt.Sprintf("%s %d %d-%d %d %s", s.Epoch, int64(s.Epoch.Length/time.Second), s.First, s.Last, s.Rows, s.Chain)
}

// SealedOfRecord reads the root entries of a KindBatches record.
func SealedOfRecord(r *core.Record) ([]Sealed, error) {
	if r.Kind != KindBatches {
		return nil, fmt.Errorf("a record of kind %q has no batch roots", r.Kind)
	}
	out := make([]Sealed, 0, len(r.Facts))
	for _, f := range r.Facts {
		s, err := parseSealed(f.Value)
		if err != nil || !strings.HasPrefix(f.Name, "file_") {
			return nil, fmt.Errorf("batch roots: fact %s %q: not understood", f.Name, f.Value)
		}
		s.At = r.Time
		out = append(out, s)
	}
	return out, nil
}

func parseSealed(text string) (Sealed, error) {
	var s Sealed
	bad := errors.New("malformed")
	w := strings.Split(text, " ")
	if len(w) != 5 {
		return s, bad
	}
	class, start, ok := strings.Cut(w[0], "/")
	keep, err1 := strconv.ParseInt(strings.TrimPrefix(class, "k"), 10, 32)
	at, err2 := time.Parse("20060102T150405Z", start)
	length, err3 := strconv.ParseInt(w[1], 10, 32)
	if !ok || err1 != nil || err2 != nil || err3 != nil {
		return s, bad
	}
	s.Epoch = core.Epoch{Keep: time.Duration(keep) * time.Second, Start: at.Unix(), Length: time.Duration(length) * time.Second}
	first, last, ok := strings.Cut(w[2], "-")
	var err4 error
	s.First, err1 = strconv.ParseUint(first, 10, 64)
	s.Last, err2 = strconv.ParseUint(last, 10, 64)
	s.Rows, err3 = strconv.ParseUint(w[3], 10, 64)
	s.Chain, err4 = core.ParseHash(w[4])
	if !ok || err1 != nil || err2 != nil || err3 != nil || err4 != nil || s.fact() != text {
		return s, bad
	}
	return s, nil
}
