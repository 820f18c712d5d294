package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

//go:embed pg_hold.sql
var pgHoldSchema string

const (
	pgHoldPrefix = "hold_" // of the names of schemas that are holds
	pgHoldRows   = 1 << 10 // of one statement
)

// PGHolds keep what legal holds put aside, each in a schema of its own. They
// are a telemetry.HoldFiles.
type PGHolds struct{ pool *pgxpool.Pool }

var _ telemetry.HoldFiles = (*PGHolds)(nil)

// OpenPGHolds gives the holds of a database.
func OpenPGHolds(pool *pgxpool.Pool) *PGHolds { return &PGHolds{pool} }

// pgHold is the schema of a hold. Ids are made by us and name nothing else; a
// name of PostgreSQL ends after 63 bytes.
func pgHold(id string) (string, error) {
	if id == "" || len(pgHoldPrefix+id) > 63 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", core.E(core.Invalid, "hold-id", "this is not the id of a hold", "see `hawser hold list`")
	}
	return pgHoldPrefix + id, nil
}

func pgHoldSQL(schema, query string) string {
	return strings.ReplaceAll(query, "{h}", pgx.Identifier{schema}.Sanitize())
}

// with runs fn in a transaction on a hold; write puts the hold's schema into a
// statement that says {h}.
func (f *PGHolds) with(ctx context.Context, id string, fn func(tx pgx.Tx, sql func(string) string) error) error {
	schema, err := pgHold(id)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, f.pool, func(tx pgx.Tx) error {
		return fn(tx, func(q string) string { return pgHoldSQL(schema, q) })
	})
	if err != nil {
		return fmt.Errorf("hold %s: %w", id, pgTrouble(err))
	}
	return nil
}

// Create makes an empty hold; one that exists stays as it is.
func (f *PGHolds) Create(ctx context.Context, id string) error {
	schema, err := pgHold(id)
	if err != nil {
		return err
	}
	return f.with(ctx, id, func(tx pgx.Tx, sql func(string) string) error {
		var there bool
		// Quoted: to_regnamespace reads its argument as an identifier.
		if err := tx.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL`, pgx.Identifier{schema}.Sanitize()).Scan(&there); err != nil || there {
			return err
		}
		_, err := tx.Exec(ctx, sql(pgHoldSchema), pgx.QueryExecModeSimpleProtocol)
		return err
	})
}

// Upto is the number up to which the filed rows of an epoch are all kept.
func (f *PGHolds) Upto(ctx context.Context, id string, e core.Epoch) (upto int64, err error) {
	k := keyOf(e)
	err = f.with(ctx, id, func(tx pgx.Tx, sql func(string) string) error {
		err := tx.QueryRow(ctx, sql(`SELECT upto FROM {h}.epochs WHERE keep_s = $1 AND start_s = $2`), pgPlain, k.keep, k.start).Scan(&upto)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return upto, err
}

// Append keeps rows of an epoch.
func (f *PGHolds) Append(ctx context.Context, id string, e core.Epoch, rows []telemetry.HeldRow, upto int64) error {
	k := keyOf(e)
	return f.with(ctx, id, func(tx pgx.Tx, sql func(string) string) error {
		var epoch int64
		err := tx.QueryRow(ctx, sql(`INSERT INTO {h}.epochs AS old (keep_s, start_s, length_s, upto) VALUES ($1, $2, $3, $4)
			ON CONFLICT (keep_s, start_s) DO UPDATE SET upto = greatest(old.upto, excluded.upto) RETURNING id`), pgPlain,
			k.keep, k.start, int64(e.Length/time.Second), upto).Scan(&epoch)
		if err != nil {
			return err
		}
		for len(rows) > 0 {
			var parts, sealed [][]byte
			size := 0
			for len(rows) > 0 && len(parts) < pgHoldRows && size < pgPageBytes {
				r := &rows[0]
				parts, sealed, size = append(parts, r.Key[:]), append(sealed, r.Sealed), size+len(r.Sealed)
				rows = rows[1:]
			}
			_, err := tx.Exec(ctx, sql(`INSERT INTO {h}.rows (epoch, part, sealed) SELECT $1, q.* FROM unnest($2::bytea[], $3::bytea[]) q
				ON CONFLICT (epoch, part) DO NOTHING`), pgPlain, epoch, parts, sealed)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Count is how many rows a hold keeps.
func (f *PGHolds) Count(ctx context.Context, id string) (n int64, err error) {
	err = f.with(ctx, id, func(tx pgx.Tx, sql func(string) string) error {
		return tx.QueryRow(ctx, sql(`SELECT count(*) FROM {h}.rows`), pgPlain).Scan(&n)
	})
	return n, err
}

// Each yields every row of a hold, by epoch. Nothing is held in the database
// while a row is looked at.
func (f *PGHolds) Each(ctx context.Context, id string, yield func(core.Epoch, telemetry.HeldRow) error) error {
	type held struct {
		e core.Epoch
		r telemetry.HeldRow
	}
	keep, start, part := int64(-1), int64(-1<<62), []byte{}
	for {
		var page []held
		size := 0
		err := f.with(ctx, id, func(tx pgx.Tx, sql func(string) string) error {
			rows, err := tx.Query(ctx, sql(`SELECT keep_s, start_s, length_s, part, sealed FROM {h}.rows JOIN {h}.epochs ON epochs.id = epoch
				WHERE (start_s, keep_s, part) > ($1, $2, $3) ORDER BY start_s, keep_s, part LIMIT $4`), pgPlain, start, keep, part, pgHoldRows)
			if err != nil {
				return err
			}
			defer rows.Close()
			for size < pgPageBytes && rows.Next() {
				var h held
				var k, length int64
				var key pgtype.DriverBytes
				if err := rows.Scan(&k, &h.e.Start, &length, &key, &h.r.Sealed); err != nil {
					return err
				}
				if err := fill(h.r.Key[:], key, "part"); err != nil {
					return err
				}
				h.e.Keep, h.e.Length = time.Duration(k)*time.Second, time.Duration(length)*time.Second
				page, size = append(page, h), size+len(h.r.Sealed)
			}
			return rows.Err()
		})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for i := range page {
			if err := yield(page[i].e, page[i].r); err != nil {
				return fmt.Errorf("hold %s: %w", id, err)
			}
		}
		last := &page[len(page)-1]
		k := keyOf(last.e)
		keep, start, part = k.keep, k.start, last.r.Key[:]
	}
}

// Remove removes a hold with all that it keeps.
func (f *PGHolds) Remove(ctx context.Context, id string) error {
	schema, err := pgHold(id)
	if err != nil {
		return err
	}
	if err := pgDropSchema(ctx, f.pool, schema); err != nil {
		return fmt.Errorf("remove hold %s: %w", id, err)
	}
	return nil
}
