package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ClockSeen is the latest time at which the clock of this machine was
// believed; zero when that was never written.
func (t *Tx) ClockSeen(ctx context.Context) (time.Time, error) {
	var us int64
	err := t.tx.QueryRowContext(ctx, `SELECT seen_us FROM clock WHERE one = 1`).Scan(&us)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the time that was seen: %w", err)
	}
	return time.UnixMicro(us).UTC(), nil
}

// PutClockSeen writes it.
func (t *Tx) PutClockSeen(ctx context.Context, at time.Time) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO clock (one, seen_us) VALUES (1, ?)
		ON CONFLICT (one) DO UPDATE SET seen_us = excluded.seen_us`, at.UnixMicro())
	if err != nil {
		return fmt.Errorf("write the time that was seen: %w", err)
	}
	return nil
}
