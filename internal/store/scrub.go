package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

const (
	scrubWait  = 250 * time.Millisecond // how long one attempt holds up the writers
	scrubPause = 50 * time.Millisecond  // and how long they have between two
)

// Scrub empties the write-ahead log of the control database. What was deleted
// is overwritten in the database file, but stays readable in the log until the
// log is written anew: an erasure is not done before (CC 4.8). While somebody
// reads an old snapshot the log cannot be emptied; Scrub tries again until ctx
// ends, and then fails with core.Unavail, "log-in-use".
//
// On PostgreSQL it is the tables from which erasers delete that are cleaned;
// what that engine keeps beyond them is said in docs/runbook.md.
func (s *Store) Scrub(ctx context.Context) error {
	if s.pg != nil {
		return s.pg.scrub(ctx)
	}
	for {
		busy, err := s.truncateLog(ctx)
		if err == nil && !busy {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("empty the log of the control database: %w", err)
		}
		select {
		case <-ctx.Done():
			return &core.Error{
				Kind: core.Unavail, Reason: "log-in-use", Err: errors.Join(ctx.Err(), err),
				Message: "deleted rows are still readable in the log of the control database, which somebody reads",
				Hint:    "let a backup or a long query that is under way end",
			}
		case <-time.After(scrubPause):
		}
	}
}

// truncateLog tries once; busy says that somebody was in its way.
func (s *Store) truncateLog(ctx context.Context) (busy bool, err error) {
	c, err := s.w.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	wait := func(d time.Duration) error {
		_, err := c.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf(`PRAGMA busy_timeout = %d`, d.Milliseconds()))
		return err
	}
	if err := wait(scrubWait); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, wait(busyTimeout)) }()
	var frames, moved sql.NullInt64
	err = c.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
	if resultCode(err) == 5 { // SQLITE_BUSY
		return true, nil
	}
	return busy, err
}
