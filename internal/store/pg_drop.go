package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-iot/hawser/internal/core"
)

// pgDropSchema removes a schema with all that is in it. It waits a short time
// for whoever has a lock there, a long query or a dump; then it ends their
// sessions and tries again. Meanwhile nobody else who wants to read there waits
// longer than that.
func pgDropSchema(ctx context.Context, pool *pgxpool.Pool, schema string) error {
	name := pgx.Identifier{schema}.Sanitize()
	drop := func() error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL lock_timeout = %d; SET LOCAL client_min_messages = warning; DROP SCHEMA IF EXISTS %s CASCADE`,
				pgRemoveWait.Milliseconds(), name), pgx.QueryExecModeSimpleProtocol)
			return err
		})
	}
	err := drop()
	if pgCode(err) != "55P03" { // lock_not_available
		return pgTrouble(err)
	}
	rows, qerr := pool.Query(ctx, `SELECT DISTINCT l.pid, coalesce(a.application_name, '')
		FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE n.nspname = $1 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> pg_backend_pid()`, schema)
	if qerr != nil {
		return pgTrouble(qerr)
	}
	type holder struct {
		PID int32
		App string
	}
	holders, qerr := pgx.CollectRows(rows, pgx.RowToStructByPos[holder])
	if qerr != nil {
		return pgTrouble(qerr)
	}
	var stay []string
	for _, h := range holders {
		var sent bool
		if err := pool.QueryRow(ctx, `SELECT pg_terminate_backend($1, 1000)`, h.PID).Scan(&sent); err != nil || !sent {
			stay = append(stay, fmt.Sprintf("process %d (%s)", h.PID, h.App))
		}
	}
	if err = drop(); pgCode(err) == "55P03" {
		return &core.Error{
			Kind: core.Unavail, Reason: "partition-locked", Err: err,
			Message: "PostgreSQL sessions that Hawser may not end hold rows that are to be removed: " + strings.Join(stay, ", "),
			Hint:    "end them; the key of these rows is destroyed already, and removal is tried again each minute",
		}
	}
	return pgTrouble(err)
}
