package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// RecordErasedAgain says that a restored backup still linked a subject that
// was erased after it was taken, and that the erasers have run once more.
const RecordErasedAgain core.RecordKind = "subject-erased-again"

// EraseAgainTx is what EraseAgain needs of the control database.
type EraseAgainTx interface {
	// LinkedSubjects are those that the database ties to a device.
	LinkedSubjects(context.Context) ([]core.Subject, error)
	Record(context.Context, core.Record) error
}

// EraseAgainDeps is what EraseAgain needs; all of it is required.
type EraseAgainDeps struct {
	Update  func(context.Context, func(EraseAgainTx) error) error
	View    func(context.Context, func(EraseAgainTx) error) error
	Has     func(core.Subject) bool // of the newest keyring
	Erasers []Eraser
	Now     func() time.Time
}

// EraseAgain runs the erasers for every subject of a restored database that
// has no key: it was erased after the backup was taken, and the backup still
// says whose it was. It returns how many there were. It is for restores alone,
// after the keyring was held against the backup's manifest: with a keyring that
// is too old it would unlink the living.
func EraseAgain(ctx context.Context, d EraseAgainDeps) (int, error) {
	if d.Update == nil || d.View == nil || d.Has == nil || d.Now == nil {
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
	n := 0
	for _, s := range linked {
		if d.Has(s) {
			continue
		}
		names := []string{EraserKey}
		for _, e := range d.Erasers {
			if err := e.Erase(ctx, s); err != nil {
				return n, fmt.Errorf("erase again: eraser %s: %w", e.Name, err)
			}
			names = append(names, e.Name)
		}
		r := core.Record{
			Time: d.Now().UTC(), Kind: RecordErasedAgain, Actor: core.Job("restore"), Subject: s,
			Facts: []core.Fact{{Name: "erasers", Value: strings.Join(names, ",")}},
		}
		if err := d.Update(ctx, func(tx EraseAgainTx) error { return tx.Record(ctx, r) }); err != nil {
			return n, fmt.Errorf("erase again: %w", err)
		}
		n++
	}
	return n, nil
}
