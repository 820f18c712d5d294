package store

import (
	"context"
	"fmt"
)

// Behind opens a database file as somebody would who writes to it behind the
// program's back: no lock of the folder, no schema, no record. Only twins are
// treated like this, to see that it is noticed.
func Behind(ctx context.Context, path, stmt string, args ...any) (int64, error) {
	db, err := openSQLite(path, "")
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }() // the statement is what counts
	res, err := db.ExecContext(ctx, stmt, args...)
	if err != nil {
		return 0, fmt.Errorf("write behind the program's back: %w", err)
	}
	return res.RowsAffected()
}

// LookBehind reads one row of a database file in the same way.
func LookBehind(ctx context.Context, path, query string, args []any, into ...any) error {
	db, err := openSQLite(path, "_pragma=query_only(1)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // only read
	if err := db.QueryRowContext(ctx, query, args...).Scan(into...); err != nil {
		return fmt.Errorf("read behind the program's back: %w", err)
	}
	return nil
}
