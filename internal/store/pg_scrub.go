package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// scrub removes the dead rows of the tables from which erasers delete. A row
// that some snapshot may still see cannot be removed: scrub waits until all
// snapshots that began before it are gone (CC 4.8).
//
// Afterwards no query of any user finds the rows. Their bytes stay where a page
// has room that nothing needed yet, in the write-ahead log until its files are
// used again, and in whatever was copied from either.
func (p *pgControl) scrub(ctx context.Context) error {
	if err := p.lostWhy(); err != nil {
		return err
	}
	c, err := p.wpool.Acquire(ctx)
	if err != nil {
		return pgTrouble(fmt.Errorf("clean the control database: %w", err))
	}
	defer c.Release()
	var now string
	if err := c.QueryRow(ctx, `SELECT pg_current_xact_id()::xid::text`).Scan(&now); err != nil {
		return pgTrouble(fmt.Errorf("clean the control database: %w", err))
	}
	for {
		var older int
		err := c.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND age(backend_xmin) > age($1::text::xid)`, now).Scan(&older)
		if err == nil && older == 0 {
			break
		}
		if err != nil && ctx.Err() == nil {
			return pgTrouble(fmt.Errorf("clean the control database: %w", err))
		}
		select {
		case <-ctx.Done():
			return &core.Error{
				Kind: core.Unavail, Reason: "log-in-use", Err: errors.Join(ctx.Err(), err),
				Message: "deleted rows of the control database are still in the snapshot of somebody who reads",
				Hint:    "let a backup or a long query that is under way end",
			}
		case <-time.After(scrubPause):
		}
	}
	var tables []string
	for _, s := range subjectColumns {
		if !slices.Contains(tables, s.table) {
			tables = append(tables, s.table)
		}
	}
	for _, table := range tables {
		// Not in a transaction, and one at a time: none holds up the writers.
		if _, err := c.Exec(ctx, `VACUUM (INDEX_CLEANUP ON, TRUNCATE ON) `+table); err != nil {
			return pgTrouble(fmt.Errorf("clean %s: %w", table, err))
		}
	}
	return nil
}
