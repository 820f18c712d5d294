package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hawser-iot/hawser/internal/access"
)

// InsertRefounding keeps that both founders were ended. A number that exists
// is an error.
func (t *Tx) InsertRefounding(ctx context.Context, r access.Refounding) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO refounding (number, at_us, by_kind, by_id, first_us, first, second_us, second) VALUES (?,?,?,?,?,?,?,?)`,
		r.Number, r.At.UnixMicro(), r.By.Kind, r.By.ID, us(r.FirstAt), r.First, us(r.SecondAt), r.Second)
	if err != nil {
		return fmt.Errorf("keep the end of the founders: %w", err)
	}
	return nil
}

// Refoundings are all, oldest first.
func (t *Tx) Refoundings(ctx context.Context) ([]access.Refounding, error) {
	var out []access.Refounding
	err := t.rows(ctx, func(row oneRow) error {
		var r access.Refounding
		var at, first, second sql.NullInt64
		if err := row.Scan(&r.Number, &at, &r.By.Kind, &r.By.ID, &first, &r.First, &second, &r.Second); err != nil {
			return err
		}
		r.At, r.FirstAt, r.SecondAt = fromUS(at), fromUS(first), fromUS(second)
		out = append(out, r)
		return nil
	}, `SELECT number, at_us, by_kind, by_id, first_us, first, second_us, second FROM refounding ORDER BY number`)
	if err != nil {
		return nil, fmt.Errorf("read ends of the founders: %w", err)
	}
	return out, nil
}

// UpdateRefounding writes who looked at it.
func (t *Tx) UpdateRefounding(ctx context.Context, r access.Refounding) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE refounding SET first_us = ?, first = ?, second_us = ?, second = ? WHERE number = ?`,
		us(r.FirstAt), r.First, us(r.SecondAt), r.Second, r.Number)
	return one(res, err, "review the end of the founders")
}
