package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-iot/hawser/internal/telemetry"
)

//go:embed pg_late.sql
var pgLateSchema string

const (
	pgLateName  = "late"                   // the schema of the late lane
	pgLateAside = pgLateName + pgAsideMark // of one that was put aside
	pgLateRows  = 1 << 10                  // of one statement
)

// PGLateLane is the late lane in PostgreSQL. It is a telemetry.LateLane.
type PGLateLane struct {
	pool *pgxpool.Pool
	now  func() time.Time

	mu    sync.Mutex        // guards aside
	aside map[string]string // what was found wrong with lanes that were put aside, by schema
}

var _ telemetry.MovableLane = (*PGLateLane)(nil)

// OpenPGLateLane finds the late lane, or makes it. One whose tables are not
// what they must be is put aside and a new one begun: Damaged says so, until
// somebody removes the old one.
func OpenPGLateLane(ctx context.Context, o PGEpochsOptions) (*PGLateLane, error) {
	if o.Pool == nil || o.Now == nil {
		return nil, errors.New("late lane in PostgreSQL: Pool and Now are required")
	}
	l := &PGLateLane{pool: o.Pool, now: o.Now, aside: map[string]string{}}
	detail, err := l.open(ctx)
	if err == nil && detail != "" {
		aside := pgLateAside + strconv.FormatInt(o.Now().Unix(), 10)
		if _, err = l.pool.Exec(ctx, `ALTER SCHEMA `+pgLateName+` RENAME TO `+aside); err == nil {
			l.aside[aside] = detail
			if detail, err = l.open(ctx); err == nil && detail != "" {
				err = errors.New(detail)
			}
		}
	}
	if err == nil {
		err = l.findAside(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open late lane: %w", pgTrouble(err))
	}
	return l, nil
}

// open makes the tables when there are none, and says what is wrong with those
// that there are.
func (l *PGLateLane) open(ctx context.Context) (detail string, err error) {
	var there bool
	if err := l.pool.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL`, pgLateName).Scan(&there); err != nil {
		return "", err
	}
	if !there {
		if _, err := l.pool.Exec(ctx, pgLateSchema, pgx.QueryExecModeSimpleProtocol); err != nil {
			return "", err
		}
	}
	_, err = l.pool.Exec(ctx, pgLateColumns+` JOIN late.waiting w ON w.keep_s = l.keep_s AND w.start_s = l.start_s AND w.length_s + w.rows + w.since_us = 0
		WHERE l.subject = '' AND l.grp = 0 LIMIT 1`, pgPlain)
	if pgAbsent(err) || pgSuspect(err) || strings.HasPrefix(pgCode(err), "42") {
		return strings.ReplaceAll(err.Error(), "\n", " "), nil
	}
	return "", err
}

func (l *PGLateLane) findAside(ctx context.Context) error {
	return pgEach(ctx, l.pool, `SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname, $1)`, []any{pgLateAside}, func(scan scanner) error {
		var name string
		if err := scan(&name); err != nil {
			return err
		}
		if sec, err := strconv.ParseInt(strings.TrimPrefix(name, pgLateAside), 10, 64); err == nil && l.aside[name] == "" {
			l.aside[name] = "found damaged on " + time.Unix(sec, 0).UTC().Format(time.DateOnly)
		}
		return nil
	})
}

// Close does nothing: the pool stays open.
func (l *PGLateLane) Close() error { return nil }

// Damaged names the lanes that were found damaged and put aside, as schemas of
// the database; empty when there is none. To drop them is to say that the loss
// is known; it is noticed at the next start.
func (l *PGLateLane) Damaged() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for name, why := range l.aside {
		out = append(out, fmt.Sprintf("%s; put aside as schema %s", why, name))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// Park keeps rows; they are on disk when it returns.
func (l *PGLateLane) Park(ctx context.Context, rows []telemetry.Row) error {
	return l.park(ctx, rows, nil, l.now())
}

// Adopt keeps rows of one epoch under numbers that they have elsewhere.
func (l *PGLateLane) Adopt(ctx context.Context, w telemetry.Waiting, ids []uint64, rows []telemetry.Row) error {
	return l.park(ctx, rows, ids, w.Since)
}

// park keeps rows that came in at a time, under numbers of their own unless
// ids are given.
func (l *PGLateLane) park(ctx context.Context, rows []telemetry.Row, ids []uint64, at time.Time) error {
	if len(rows) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pgAppendTime)
	defer cancel()
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		for from := 0; from < len(rows); {
			n, err := l.parkSome(ctx, tx, rows[from:min(from+pgLateRows, len(rows))], ids, from, at)
			if err != nil {
				return err
			}
			from += n
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("park rows in the late lane: %w", pgTrouble(err))
	}
	return nil
}

// parkSome keeps as many rows as go into one statement and says how many.
func (l *PGLateLane) parkSome(ctx context.Context, tx pgx.Tx, rows []telemetry.Row, ids []uint64, from int, at time.Time) (int, error) {
	var id, keep, start, seq, idx, length []int64
	var group []int32
	var first []bool
	var subject, record [][]byte
	var journal []string
	size := 0
	for i := range rows {
		r := &rows[i]
		if size += len(r.Part.Sealed); size > pgPageBytes && i > 0 {
			break
		}
		one := r.Reading
		one.Parts = []telemetry.Part{r.Part}
		k := keyOf(r.Part.Epoch)
		keep, start, length = append(keep, k.keep), append(start, k.start), append(length, int64(r.Part.Epoch.Length/time.Second))
		subject, journal = append(subject, r.Reading.Subject[:]), append(journal, r.Place.Journal)
		seq, idx, group = append(seq, int64(r.Place.Seq)), append(idx, int64(r.Place.Index)), append(group, int32(r.Part.Group))
		first, record = append(first, r.First), append(record, telemetry.AppendReading(nil, &one))
		if ids != nil {
			id = append(id, int64(ids[from+i]))
		}
	}
	_, err := tx.Exec(ctx, `INSERT INTO late.journals (journal) SELECT DISTINCT j FROM unnest($1::text[]) j
		WHERE NOT EXISTS (SELECT 1 FROM late.journals WHERE journal = j)`, pgPlain, journal)
	if err != nil {
		return 0, err
	}
	number, column := `nextval(pg_get_serial_sequence('late.late', 'id'))`, ``
	args := []any{pgPlain, keep, start, subject, journal, seq, idx, group, first, record, length, at.UnixMicro()}
	if ids != nil {
		number, column = `q.id`, `, $12::bigint[]`
		args = append(args, id)
	}
	names := `keep_s, start_s, subject, journal, seq, idx, grp, first, record, length_s`
	if ids != nil {
		names += `, id`
	}
	_, err = tx.Exec(ctx, `WITH q AS MATERIALIZED (
			SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::text[], $5::bigint[], $6::bigint[], $7::integer[], $8::boolean[], $9::bytea[], $10::bigint[]`+column+`)
			WITH ORDINALITY AS q (`+names+`, n) ORDER BY n),
		filed AS (
			INSERT INTO late.late (id, keep_s, start_s, subject, journal, seq, idx, grp, first, record)
			SELECT `+number+`, q.keep_s, q.start_s, q.subject, j.id, q.seq, q.idx, q.grp, q.first, q.record
			FROM (SELECT * FROM q ORDER BY n) q JOIN LATERAL (SELECT id FROM late.journals WHERE journal = q.journal LIMIT 1) j ON true
			ON CONFLICT (journal, seq, idx, grp, keep_s, start_s) DO NOTHING RETURNING keep_s, start_s)
		INSERT INTO late.waiting (keep_s, start_s, length_s, rows, since_us)
		SELECT f.keep_s, f.start_s, (SELECT max(length_s) FROM q WHERE q.keep_s = f.keep_s AND q.start_s = f.start_s), count(*), $11
		FROM filed f GROUP BY f.keep_s, f.start_s
		ON CONFLICT (keep_s, start_s) DO UPDATE SET rows = waiting.rows + excluded.rows`, args...)
	return len(keep), err
}

// Last is the highest number that was ever given to a row of the lane.
func (l *PGLateLane) Last(ctx context.Context) (uint64, error) {
	var last int64
	err := l.pool.QueryRow(ctx, `SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM late.late_id_seq`).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("read the late lane: %w", pgTrouble(err))
	}
	return uint64(last), nil
}

// Skip sees to it that no number up to last is given any more.
func (l *PGLateLane) Skip(ctx context.Context, last uint64) error {
	if last > math.MaxInt64 {
		return errors.New("write the late lane: its numbers end before that")
	}
	var v int64
	err := l.pool.QueryRow(ctx, `SELECT setval('late.late_id_seq', greatest($1::bigint, last_value), is_called OR $1::bigint >= last_value) FROM late.late_id_seq WHERE $1::bigint > 0
		UNION ALL SELECT 0 LIMIT 1`, int64(last)).Scan(&v)
	if err != nil {
		return fmt.Errorf("write the late lane: %w", pgTrouble(err))
	}
	return nil
}
