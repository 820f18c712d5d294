package store

import (
	"context"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// NoteUndeclared notes that a stream had undeclared fields; false when that
// was noted before.
func (t *Tx) NoteUndeclared(ctx context.Context, u telemetry.UndeclaredStream) (bool, error) {
	res, err := t.tx.ExecContext(ctx, `INSERT INTO undeclared_stream (policy, stream, product, first_us) VALUES (?, ?, ?, ?)
		ON CONFLICT (policy, stream) DO NOTHING`, u.Policy[:], u.Stream, string(u.Product), u.First.UnixMicro())
	if err != nil {
		return false, fmt.Errorf("note undeclared fields: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// PutUndeclaredName keeps a name; false when the stream has no place left, or
// the subject is being erased.
func (t *Tx) PutUndeclaredName(ctx context.Context, n telemetry.UndeclaredName) (bool, error) {
	if gone, err := t.erased(ctx, 1, func(int) core.Subject { return n.Subject }); err != nil || gone[n.Subject] {
		return false, err
	}
	taken := [telemetry.MaxUndeclaredNames]bool{}
	err := each(ctx, t.tx, `SELECT place FROM undeclared_name WHERE policy = ? AND stream = ?`, []any{n.Policy[:], n.Stream}, func(scan scanner) error {
		var place int
		err := scan(&place)
		if err == nil && place >= 0 && place < len(taken) {
			taken[place] = true
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("keep undeclared name: %w", err)
	}
	for place := range taken {
		if taken[place] {
			continue
		}
		_, err := t.tx.ExecContext(ctx, `INSERT INTO undeclared_name (policy, stream, place, subject, name, first_us) VALUES (?, ?, ?, ?, ?, ?)`,
			n.Policy[:], n.Stream, place, n.Subject[:], n.Name.Bytes(), n.First.UnixMicro())
		if err != nil {
			return false, fmt.Errorf("keep undeclared name: %w", err)
		}
		return true, nil
	}
	return false, nil
}

// Undeclared is what was noted of a declaration: its streams, and the names
// that are kept.
func (t *Tx) Undeclared(ctx context.Context, policy core.Hash) (streams []telemetry.UndeclaredStream, names []telemetry.UndeclaredName, err error) {
	err = each(ctx, t.tx, `SELECT stream, product, first_us FROM undeclared_stream WHERE policy = ? ORDER BY stream`, []any{policy[:]}, func(scan scanner) error {
		u := telemetry.UndeclaredStream{Policy: policy}
		var first int64
		err := scan(&u.Stream, &u.Product, &first)
		u.First = time.UnixMicro(first).UTC()
		streams = append(streams, u)
		return err
	})
	if err == nil {
		err = each(ctx, t.tx, `SELECT stream, subject, name, first_us FROM undeclared_name WHERE policy = ? ORDER BY stream, place`, []any{policy[:]}, func(scan scanner) error {
			n := telemetry.UndeclaredName{Policy: policy}
			var first int64
			var subject []byte
			if err := scan(&n.Stream, &subject, &n.Name, &first); err != nil {
				return err
			}
			n.First = time.UnixMicro(first).UTC()
			names = append(names, n)
			return fill(names[len(names)-1].Subject[:], subject, "subject")
		})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read undeclared fields: %w", err)
	}
	return streams, names, nil
}
