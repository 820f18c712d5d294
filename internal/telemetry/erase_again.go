package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// RecordErasedAgain says that a restored backup still linked a subject that
// was erased after it was taken, and that the erasers have run once more.
const RecordErasedAgain core.RecordKind = "subject-erased-again"

// EraseAgainTx is what EraseAgain needs of the control database.
type EraseAgainTx interface {
	// LinkedSubjects are those that the database ties to a device, or to one of
	// the maker's people who has joined.
	LinkedSubjects(context.Context) ([]core.Subject, error)
	// Erasure is the erasure of a subject; false when none was asked for.
	Erasure(context.Context, core.Subject) (ErasureRow, bool, error)
	InsertErasure(context.Context, ErasureRow) error
	Record(context.Context, core.Record) error
}

// EraseAgainDeps is what EraseAgain needs; all of it is required.
type EraseAgainDeps struct {
	Update func(context.Context, func(EraseAgainTx) error) error
	View   func(context.Context, func(EraseAgainTx) error) error
	Has    func(core.Subject) bool // of the newest keyring
	// Waiting names subjects of rows that wait to be filed and counted.
	Waiting func(context.Context) ([]core.Subject, error)
	Erasers []Eraser
	Now     func() time.Time
}

// EraseAgain runs the erasers for every subject of a restored database that
// has no key: it was erased after the backup was taken, and the backup still
// says whose it was, or still has readings of it that are not counted. Each
// gets an erasure of its own, or what is counted later would be counted as
// theirs again (CC 4.8); one that the backup was taken in the midst of keeps its
// own and is finished by the server. It returns how many there were. It is for
// restores alone, after the keyring was held against the backup's manifest:
// with a keyring that is too old it would unlink the living.
func EraseAgain(ctx context.Context, d EraseAgainDeps) (int, error) {
	if d.Update == nil || d.View == nil || d.Has == nil || d.Waiting == nil || d.Now == nil {
		return 0, errors.New("erase again: a dependency is missing")
	}
	var linked []core.Subject
	err := d.View(ctx, func(tx EraseAgainTx) (err error) {
		linked, err = tx.LinkedSubjects(ctx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("erase again: %w", err)
	}
	waiting, err := d.Waiting(ctx)
	if err != nil {
		return 0, fmt.Errorf("erase again: %w", err)
	}
	n, seen := 0, map[core.Subject]bool{}
	for i, s := range slices.Concat(linked, waiting) {
		if seen[s] || d.Has(s) {
			continue
		}
		seen[s] = true
		if i >= len(linked) {
			// Nothing leads from it to anybody. Who was erased before the
			// backup was taken is known already.
			known, err := d.known(ctx, s)
			if err != nil {
				return n, fmt.Errorf("erase again: %w", err)
			}
			if known {
				continue
			}
		}
		names := []string{EraserKey}
		for _, e := range d.Erasers {
			if err := e.Erase(ctx, s); err != nil {
				return n, fmt.Errorf("erase again: eraser %s: %w", e.Name, err)
			}
			names = append(names, e.Name)
		}
		if err := d.note(ctx, s, names); err != nil {
			return n, fmt.Errorf("erase again: %w", err)
		}
		n++
	}
	return n, nil
}

// known reports whether an erasure of the subject stands in the database.
func (d *EraseAgainDeps) known(ctx context.Context, s core.Subject) (some bool, err error) {
	err = d.View(ctx, func(tx EraseAgainTx) error {
		_, some, err = tx.Erasure(ctx, s)
		return err
	})
	return some, err
}

// note writes that a subject is erased, with the ledger's record of it.
func (d *EraseAgainDeps) note(ctx context.Context, s core.Subject, erasers []string) error {
	row := ErasureRow{
		Subject: s, Actor: core.Job("restore"), Requested: d.Now().UTC(), State: ErasureDone, Ended: d.Now().UTC(),
		Detail: "the key was destroyed after the backup was taken", ErasersNamed: erasers,
	}
	return d.Update(ctx, func(tx EraseAgainTx) error {
		_, some, err := tx.Erasure(ctx, s)
		if err != nil {
			return err
		}
		if !some {
			if err := tx.InsertErasure(ctx, row); err != nil {
				return err
			}
		}
		return tx.Record(ctx, core.Record{
			Time: row.Ended, Kind: RecordErasedAgain, Actor: row.Actor, Subject: s,
			Facts: []core.Fact{{Name: "erasers", Value: strings.Join(erasers, ",")}},
		})
	})
}
