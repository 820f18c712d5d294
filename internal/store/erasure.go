package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

var (
	_ telemetry.ReadTx  = (*Tx)(nil)
	_ telemetry.EraseTx = (*Tx)(nil)
	_ telemetry.HoldTx  = (*Tx)(nil)

	_ telemetry.EraseAgainTx = (*Tx)(nil)
)

const erasureColumns = `subject, product, actor_kind, actor_id, requested_us, state, root_before, root_after, destroys, detail, held, erasers, ended_us`

func scanErasure(row oneRow) (telemetry.ErasureRow, error) {
	var e telemetry.ErasureRow
	var subject []byte
	var asked, before, after int64
	var ended sql.NullInt64
	var held, erasers string
	err := row.Scan(&subject, &e.Product, &e.Actor.Kind, &e.Actor.ID, &asked, &e.State, &before, &after, &e.Destroys, &e.Detail, &held, &erasers, &ended)
	if err != nil {
		return e, err
	}
	e.Requested, e.Ended = fromUS(sql.NullInt64{Int64: asked, Valid: true}), fromUS(ended)
	e.RootBefore, e.RootAfter = uint64(before), uint64(after)
	e.Held, e.ErasersNamed = split(held), split(erasers)
	return e, fill(e.Subject[:], subject, "subject")
}

// split is the inverse of strings.Join with a comma; of nothing it is nil.
func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// Erasure is the erasure of a subject; false when none was asked for.
func (t *Tx) Erasure(ctx context.Context, s core.Subject) (telemetry.ErasureRow, bool, error) {
	e, err := scanErasure(t.tx.QueryRowContext(ctx, `SELECT `+erasureColumns+` FROM erasure WHERE subject = ?`, s[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return e, false, nil
	}
	if err != nil {
		return e, false, fmt.Errorf("read erasure: %w", err)
	}
	return e, true, nil
}

// InsertErasure writes the intent.
func (t *Tx) InsertErasure(ctx context.Context, e telemetry.ErasureRow) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO erasure (`+erasureColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		e.Subject[:], e.Product, e.Actor.Kind, e.Actor.ID, e.Requested.UnixMicro(), e.State, int64(e.RootBefore), int64(e.RootAfter),
		string(e.Destroys), e.Detail, strings.Join(e.Held, ","), strings.Join(e.ErasersNamed, ","), us(e.Ended))
	if err != nil {
		return fmt.Errorf("write erasure: %w", err)
	}
	return nil
}

// UpdateErasure writes how far an erasure has come.
func (t *Tx) UpdateErasure(ctx context.Context, e telemetry.ErasureRow) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE erasure SET state = ?, root_before = ?, root_after = ?, destroys = ?, detail = ?, held = ?, erasers = ?, ended_us = ?
		WHERE subject = ?`, e.State, int64(e.RootBefore), int64(e.RootAfter), string(e.Destroys), e.Detail,
		strings.Join(e.Held, ","), strings.Join(e.ErasersNamed, ","), us(e.Ended), e.Subject[:])
	return one(r, err, "update erasure")
}

// OpenErasures are those that are not done, oldest first.
func (t *Tx) OpenErasures(ctx context.Context) ([]telemetry.ErasureRow, error) {
	var out []telemetry.ErasureRow
	err := t.rows(ctx, func(row oneRow) error {
		e, err := scanErasure(row)
		out = append(out, e)
		return err
	}, `SELECT `+erasureColumns+` FROM erasure WHERE state <> 'done' ORDER BY requested_us, subject`)
	if err != nil {
		return nil, fmt.Errorf("list erasures: %w", err)
	}
	return out, nil
}

// LinkedSubjects are those that the database ties to a device, or to a person
// who has joined: one who was only invited has no key yet.
func (t *Tx) LinkedSubjects(ctx context.Context) ([]core.Subject, error) {
	var out []core.Subject
	err := t.rows(ctx, func(row oneRow) error {
		var b []byte
		if err := row.Scan(&b); err != nil {
			return err
		}
		var s core.Subject
		out = append(out, s)
		return fill(out[len(out)-1][:], b, "subject")
	}, `SELECT subject FROM ownership WHERE done = 1
		UNION SELECT subject FROM person WHERE subject IS NOT NULL AND joined_us IS NOT NULL ORDER BY subject`)
	if err != nil {
		return nil, fmt.Errorf("list who is linked: %w", err)
	}
	return out, nil
}

const holdColumns = `id, hold_key, subject, product, actor_kind, actor_id, placed_us, state, note`

func scanHold(row oneRow) (telemetry.HoldRow, error) {
	var h telemetry.HoldRow
	var key, subject []byte
	var placed int64
	if err := row.Scan(&h.ID, &key, &subject, &h.Product, &h.Actor.Kind, &h.Actor.ID, &placed, &h.State, &h.Note); err != nil {
		return h, err
	}
	h.Placed = fromUS(sql.NullInt64{Int64: placed, Valid: true})
	return h, errors.Join(fill(h.Key[:], key, "hold key"), fill(h.Subject[:], subject, "subject"))
}

func (t *Tx) holds(ctx context.Context, where string, args ...any) ([]telemetry.HoldRow, error) {
	var out []telemetry.HoldRow
	err := t.rows(ctx, func(row oneRow) error {
		h, err := scanHold(row)
		out = append(out, h)
		return err
	}, `SELECT `+holdColumns+` FROM legal_hold `+where+` ORDER BY placed_us, id`, args...)
	if err != nil {
		return nil, fmt.Errorf("read legal holds: %w", err)
	}
	return out, nil
}

// Hold is one hold; false when there is none with that id.
func (t *Tx) Hold(ctx context.Context, id string) (telemetry.HoldRow, bool, error) {
	out, err := t.holds(ctx, `WHERE id = ?`, id)
	if err != nil || len(out) == 0 {
		return telemetry.HoldRow{}, false, err
	}
	return out[0], true, nil
}

// Holds are all of them, by the time at which they were placed.
func (t *Tx) Holds(ctx context.Context) ([]telemetry.HoldRow, error) { return t.holds(ctx, ``) }

// HoldsOn are those on one subject.
func (t *Tx) HoldsOn(ctx context.Context, s core.Subject) ([]telemetry.HoldRow, error) {
	return t.holds(ctx, `WHERE subject = ?`, s[:])
}

// InsertHold writes the intent.
func (t *Tx) InsertHold(ctx context.Context, h telemetry.HoldRow) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO legal_hold (`+holdColumns+`) VALUES (?,?,?,?,?,?,?,?,?)`,
		h.ID, h.Key[:], h.Subject[:], h.Product, h.Actor.Kind, h.Actor.ID, h.Placed.UnixMicro(), h.State, sealedColumn(h.Note))
	if err != nil {
		return fmt.Errorf("write legal hold: %w", err)
	}
	return nil
}

// UpdateHold writes who acts, the state and the note.
func (t *Tx) UpdateHold(ctx context.Context, h telemetry.HoldRow) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE legal_hold SET actor_kind = ?, actor_id = ?, state = ?, note = ? WHERE id = ?`,
		h.Actor.Kind, h.Actor.ID, h.State, sealedColumn(h.Note), h.ID)
	return one(r, err, "update legal hold")
}

// DeleteHold ends a hold.
func (t *Tx) DeleteHold(ctx context.Context, id string) error {
	r, err := t.tx.ExecContext(ctx, `DELETE FROM legal_hold WHERE id = ?`, id)
	return one(r, err, "delete legal hold")
}

// sealedColumn is a personal value as a column, NULL for none.
func sealedColumn[T any](v seal.Sealed[T]) any {
	if v.IsZero() {
		return nil
	}
	return v.Bytes()
}
