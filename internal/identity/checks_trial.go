package identity

import (
	"context"
	"errors"
	"fmt"

	"github.com/hawser-iot/hawser/internal/check"
)

// undo is what takes a violation back.
type undo = func(context.Context) error

// twoUnits are the first two units of a twin.
func twoUnits(t check.Twin) (one, two string, err error) {
	d := t.Devices()
	if len(d) < 2 {
		return "", "", errors.New("the twin has too few units")
	}
	return string(d[0].ID), string(d[1].ID), nil
}

// swap sets one column of a unit's row in control.db and gives what sets it
// back. table and column are ours, never a stranger's.
func swap(ctx context.Context, t check.Twin, table, column, where, unit string, value any) (undo, error) {
	var before any
	if err := t.Query(ctx, "control.db", fmt.Sprintf(`SELECT %s FROM %s WHERE %s = ?`, column, table, where), []any{unit}, &before); err != nil {
		return nil, fmt.Errorf("find the row of %s: %w", table, err)
	}
	set := fmt.Sprintf(`UPDATE %s SET %s = ? WHERE %s = ?`, table, column, where)
	if err := t.Exec(ctx, "control.db", set, value, unit); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", set, before, unit) }, nil
}

// shareColumn gives the second unit's certificate what the first one's has.
func shareColumn(ctx context.Context, t check.Twin, column string) (undo, error) {
	one, two, err := twoUnits(t)
	if err != nil {
		return nil, err
	}
	var value []byte
	if err := t.Query(ctx, "control.db", fmt.Sprintf(`SELECT %s FROM certificate WHERE device = ? AND state = 'confirmed'`, column), []any{one}, &value); err != nil {
		return nil, fmt.Errorf("find a certificate: %w", err)
	}
	return swap(ctx, t, "certificate", column, "state = 'confirmed' AND device", two, value)
}

func shareKey(ctx context.Context, t check.Twin) (undo, error) { return shareColumn(ctx, t, "spki") }

func sharePrint(ctx context.Context, t check.Twin) (undo, error) {
	return shareColumn(ctx, t, "fingerprint")
}

func shareCode(ctx context.Context, t check.Twin) (undo, error) {
	one, two, err := twoUnits(t)
	if err != nil {
		return nil, err
	}
	var spent []byte
	if err := t.Query(ctx, "control.db", `SELECT spent FROM device WHERE id = ?`, []any{one}, &spent); err != nil {
		return nil, fmt.Errorf("find a code: %w", err)
	}
	return swap(ctx, t, "device", "code", "id", two, spent)
}

func clearCode(ctx context.Context, t check.Twin) (undo, error) {
	one, _, err := twoUnits(t)
	if err != nil {
		return nil, err
	}
	code, _ := newCode()
	return swap(ctx, t, "device", "code", "id", one, code)
}

func shortCode(ctx context.Context, t check.Twin) (undo, error) {
	one, _, err := twoUnits(t)
	if err != nil {
		return nil, err
	}
	return swap(ctx, t, "device_birth", "code_bits", "device", one, 32)
}

func dropCertificate(ctx context.Context, t check.Twin) (undo, error) {
	one, _, err := twoUnits(t)
	if err != nil {
		return nil, err
	}
	const columns = `serial, device, spki, fingerprint, not_before_us, not_after_us, state, door, code, issued_us, confirmed_us, ended_us, der`
	row := make([]any, 13)
	into := make([]any, len(row))
	for i := range row {
		into[i] = &row[i]
	}
	if err := t.Query(ctx, "control.db", `SELECT `+columns+` FROM certificate WHERE device = ? AND state = 'confirmed'`, []any{one}, into...); err != nil {
		return nil, fmt.Errorf("find a certificate: %w", err)
	}
	if err := t.Exec(ctx, "control.db", `DELETE FROM certificate WHERE serial = ?`, row[0]); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `INSERT INTO certificate (`+columns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`, row...)
	}, nil
}

func moveCertificate(ctx context.Context, t check.Twin) (undo, error) {
	one, two, err := twoUnits(t)
	if err != nil {
		return nil, err
	}
	var serial []byte
	if err := t.Query(ctx, "control.db", `SELECT serial FROM certificate WHERE device = ? AND state = 'confirmed'`, []any{two}, &serial); err != nil {
		return nil, fmt.Errorf("find a certificate: %w", err)
	}
	const move = `UPDATE certificate SET device = ? WHERE serial = ?`
	if err := t.Exec(ctx, "control.db", move, one, serial); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", move, two, serial) }, nil
}
