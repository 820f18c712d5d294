package ledger

import (
	"bytes"
	"context"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
)

// agreement is a database that contradicts no checkpoint that was signed.
type agreement struct {
	origin Origin
	signed Checkpoint // the newest checkpoint known; of the previous origin right after a new one began
	kept   bool       // the file outside holds signed.Note
}

// agree compares the database with the checkpoint kept outside and with the
// one it holds itself, and refuses
//   - a file that is not a checkpoint signed by this ledger's key,
//   - a missing file when this origin was signed before,
//   - a file of an origin that is neither this one nor the one it replaced,
//   - fewer entries than were signed: the database was rolled back,
//   - other entries than were signed: the database was changed or forked.
func (l *Ledger) agree(ctx context.Context, tx Tx) (agreement, error) {
	var a agreement
	var err error
	if a.origin, err = current(ctx, tx); err != nil {
		return a, err
	}
	outside, ok, err := readOutside(l.d.CheckpointFile)
	if err != nil {
		return a, err
	}
	var inside Checkpoint
	if a.origin.Checkpoint != nil {
		if inside, err = ParseCheckpoint(a.origin.Checkpoint); err != nil {
			return a, damaged("the stored checkpoint: %v", err)
		}
		if inside.Origin != a.origin.Name {
			return a, damaged("the stored checkpoint is of origin %s", inside.Origin)
		}
	}
	if !ok {
		if a.origin.Checkpoint == nil {
			return a, nil // never signed: stopped between the origin's first commit and its first signature
		}
		return a, core.E(core.Unready, "ledger-checkpoint-missing",
			"the last checkpoint, kept in "+l.d.CheckpointFile+", is missing",
			"put the file back; if it is lost, begin a new origin with `hawser ledger new-origin --lost \"...\"`, which says so for ever")
	}
	a.signed, a.kept = outside, true
	if outside.Origin != a.origin.Name {
		return a, l.follows(ctx, tx, a.origin, outside)
	}
	if err := outside.verify(l.d.Key.Public()); err != nil {
		return a, badOutside(l.d.CheckpointFile, err)
	}
	r := newNodes(tilesOf(ctx, tx, a.origin.Number))
	for _, c := range []Checkpoint{outside, inside} {
		if c.Note == nil {
			continue
		}
		if err := prefix(r, c, a.origin); err != nil {
			return a, err
		}
	}
	if inside.Size > outside.Size {
		a.signed, a.kept = inside, false
	}
	return a, nil
}

// prefix holds that origin's tree begins with the tree that c signed.
func prefix(r *nodes, c Checkpoint, o Origin) error {
	if c.Size > o.Size {
		return core.E(core.Unready, "ledger-rolled-back",
			fmt.Sprintf("the database has %d ledger entries, but %d were signed: it was rolled back", o.Size, c.Size),
			"if it was restored from a backup, finish with `hawser ledger new-origin --lost \"...\"`; if not, stop here, keep this data folder and the checkpoint as evidence, and restore a backup")
	}
	proof, err := r.consistency(c.Size, o.Size)
	if err != nil {
		return err
	}
	if err := checkConsistency(c.Size, o.Size, c.Root, o.Root, proof); err != nil {
		return &core.Error{
			Kind: core.Unready, Reason: "ledger-forked", Err: err,
			Message: "the database holds other ledger entries than were signed",
			Hint:    "somebody changed it: keep this data folder and the checkpoint as evidence, compare with an earlier export by `hawser ledger verify`, and restore a backup",
		}
	}
	return nil
}

// follows accepts the kept checkpoint of an earlier origin only when the first
// entry of this one names it as what it replaces: then the program stopped
// after the new origin was committed and before its first signature.
func (l *Ledger) follows(ctx context.Context, tx Tx, o Origin, outside Checkpoint) error {
	foreign := core.E(core.Unready, "ledger-other-origin",
		fmt.Sprintf("the checkpoint kept in %s is of origin %s, but the database continues %s", l.d.CheckpointFile, outside.Origin, o.Name),
		"if the database was restored from a backup, finish with `hawser ledger new-origin --lost \"...\"`; if not, the database or the file belongs to another installation: put the right one back")
	if o.Checkpoint != nil {
		return foreign
	}
	rows, err := tx.LedgerEntries(ctx, o.First, 1)
	if err != nil {
		return err
	}
	if len(rows) != 1 || rows[0].Position != o.First {
		return damaged("the first entry of %s is missing", o.Name)
	}
	first, err := ParseLeaf(rows[0].Leaf)
	if err != nil {
		return damaged("the first entry of %s: %v", o.Name, err)
	}
	if factOf(first, factPreviousNote) != string(outside.Note) {
		return foreign
	}
	return nil
}

func factOf(r core.Record, name string) string {
	for _, f := range r.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Checkpoint signs the committed head, unless it is signed already. The
// checkpoint is on disk outside the database before anybody sees it, so that
// nothing published can ever be taken back unnoticed.
func (l *Ledger) Checkpoint(ctx context.Context) (Checkpoint, error) {
	select {
	case l.signing <- struct{}{}:
		defer func() { <-l.signing }()
	case <-ctx.Done():
		return Checkpoint{}, ctx.Err()
	}
	c, err := l.sign(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			l.status.Trouble = err
		}
		return Checkpoint{}, fmt.Errorf("sign ledger head: %w", err)
	}
	l.last = c
	l.status.Origin, l.status.Signed, l.status.LastCheckpoint = c.Origin, c.Size, l.d.Now()
	l.status.Size = max(l.status.Size, c.Size)
	return c, nil
}

func (l *Ledger) sign(ctx context.Context) (Checkpoint, error) {
	var a agreement
	err := l.d.View(ctx, func(tx Tx) error {
		var err error
		a, err = l.agree(ctx, tx)
		return err
	})
	if err != nil {
		return Checkpoint{}, err
	}
	c := signCheckpoint(l.d.Key.priv, a.origin.Name, a.origin.Size, a.origin.Root)
	if !a.kept || !bytes.Equal(a.signed.Note, c.Note) {
		if err := writeOutside(l.d.CheckpointFile, c.Note); err != nil {
			return Checkpoint{}, err
		}
	}
	if !bytes.Equal(a.origin.Checkpoint, c.Note) {
		err = l.d.Update(ctx, func(tx Tx) error { return tx.PutLedgerCheckpoint(ctx, a.origin.Number, c.Note) })
		if err != nil {
			return Checkpoint{}, err
		}
	}
	return c, nil
}
