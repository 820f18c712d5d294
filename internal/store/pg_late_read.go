package store

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// After names the parts of records after m that wait here.
func (l *PGLateLane) After(ctx context.Context, m telemetry.Mark) ([]telemetry.PartPlace, error) {
	var out []telemetry.PartPlace
	err := pgEach(ctx, l.pool, `SELECT l.seq, l.idx, l.grp, w.keep_s, w.start_s, w.length_s FROM late.late l
		JOIN late.journals j ON j.id = l.journal JOIN late.waiting w ON w.keep_s = l.keep_s AND w.start_s = l.start_s
		WHERE j.journal = $1 AND l.seq > $2`, []any{pgPlain, m.Journal, int64(m.Seq)}, func(scan scanner) error {
		p := telemetry.PartPlace{Place: telemetry.Place{Journal: m.Journal}}
		var seq, idx, keep, length int64
		var group int32
		err := scan(&seq, &idx, &group, &keep, &p.Epoch.Start, &length)
		p.Place.Seq, p.Place.Index, p.Group = uint64(seq), uint32(idx), uint8(group)
		p.Epoch.Keep, p.Epoch.Length = time.Duration(keep)*time.Second, time.Duration(length)*time.Second
		out = append(out, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the late lane: %w", pgTrouble(err))
	}
	return out, nil
}

// Waiting says for each epoch what is here.
func (l *PGLateLane) Waiting(ctx context.Context) ([]telemetry.Waiting, error) {
	var out []telemetry.Waiting
	err := pgEach(ctx, l.pool, `SELECT keep_s, start_s, length_s, rows, since_us FROM late.waiting WHERE rows > 0 ORDER BY keep_s, start_s`, []any{pgPlain},
		func(scan scanner) error {
			var w telemetry.Waiting
			var keep, length, since, rows int64
			err := scan(&keep, &w.Epoch.Start, &length, &rows, &since)
			w.Epoch.Keep, w.Epoch.Length = time.Duration(keep)*time.Second, time.Duration(length)*time.Second
			w.Since, w.Rows = time.UnixMicro(since).UTC(), uint64(rows)
			out = append(out, w)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read the late lane: %w", pgTrouble(err))
	}
	return out, nil
}

// Subjects are whom the rows that wait here are about.
func (l *PGLateLane) Subjects(ctx context.Context) ([]core.Subject, error) {
	var out []core.Subject
	err := pgEach(ctx, l.pool, `SELECT DISTINCT subject FROM late.late ORDER BY subject`, []any{pgPlain}, func(scan scanner) error {
		var b []byte
		if err := scan(&b); err != nil {
			return err
		}
		var s core.Subject
		err := fill(s[:], b, "subject")
		out = append(out, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the late lane: %w", pgTrouble(err))
	}
	return out, nil
}

const pgLateColumns = `SELECT l.id, j.journal, l.seq, l.idx, l.first, l.record FROM late.late l JOIN late.journals j ON j.id = l.journal`

// pgLateRow is a row of the lane as it lies there.
type pgLateRow struct {
	id, seq, idx int64
	journal      string
	first        bool
	record       []byte
}

// page reads a page of rows of a query of pgLateColumns, and says whether there
// may be more. Nothing is held in the database while they are looked at.
func (l *PGLateLane) page(ctx context.Context, query string, limit int, args ...any) (out []pgLateRow, more bool, err error) {
	rows, err := l.pool.Query(ctx, pgLateColumns+query, append(append([]any{pgPlain}, args...), limit)...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	size := 0
	for rows.Next() {
		var r pgLateRow
		var record pgtype.DriverBytes
		if err := rows.Scan(&r.id, &r.journal, &r.seq, &r.idx, &r.first, &record); err != nil {
			return nil, false, err
		}
		r.record = bytes.Clone(record)
		out = append(out, r)
		if size += len(r.record); size > pgPageBytes {
			return out, true, nil
		}
	}
	return out, len(out) == limit, rows.Err()
}

// read makes a row of one of the lane. Its bytes are those of raw.
func (raw *pgLateRow) read(r *telemetry.Row) error {
	kind, err := telemetry.DecodeRecord(raw.record, &r.Reading, new(telemetry.Refusal))
	if err != nil {
		return fmt.Errorf("row %d of the late lane: %w", raw.id, err)
	}
	if kind != telemetry.RecordReading || len(r.Reading.Parts) != 1 {
		return fmt.Errorf("row %d of the late lane is not one part of a reading", raw.id)
	}
	r.Place = telemetry.Place{Journal: raw.journal, Seq: uint64(raw.seq), Index: uint32(raw.idx)}
	r.First, r.Part, r.Reading.Parts, r.Reading.Dropped = raw.first, r.Reading.Parts[0], r.Reading.Parts[:0], 0
	return nil
}

// Take yields up to limit rows of e with numbers above after, in order.
func (l *PGLateLane) Take(ctx context.Context, e core.Epoch, after uint64, limit int, yield func(uint64, *telemetry.Row) error) error {
	k := keyOf(e)
	at := int64(min(after, 1<<62))
	var r telemetry.Row
	for more := true; more && limit > 0; {
		var rows []pgLateRow
		var err error
		rows, more, err = l.page(ctx, ` WHERE l.keep_s = $1 AND l.start_s = $2 AND l.id > $3 ORDER BY l.id LIMIT $4`, min(limit, pgLateRows), k.keep, k.start, at)
		if err != nil {
			return fmt.Errorf("read the late lane of epoch %s: %w", e, pgTrouble(err))
		}
		for i := range rows {
			if err := rows[i].read(&r); err != nil {
				return fmt.Errorf("read the late lane of epoch %s: %w", e, err)
			}
			if err := yield(uint64(rows[i].id), &r); err != nil {
				return fmt.Errorf("read the late lane of epoch %s: %w", e, err)
			}
			at = rows[i].id
		}
		limit -= len(rows)
	}
	return nil
}

// Scan yields e's rows that q wants, in the order in which they came.
func (l *PGLateLane) Scan(ctx context.Context, e core.Epoch, q *telemetry.Query, yield func(*telemetry.Row) error) error {
	k := keyOf(e)
	at := int64(0)
	var r telemetry.Row
	for more := true; more; {
		var rows []pgLateRow
		var err error
		rows, more, err = l.page(ctx, ` WHERE l.subject = $1 AND l.keep_s = $2 AND l.start_s = $3 AND l.id > $4 ORDER BY l.id LIMIT $5`, pgLateRows,
			q.Subject[:], k.keep, k.start, at)
		if err != nil {
			return fmt.Errorf("read the late lane of epoch %s: %w", e, pgTrouble(err))
		}
		for i := range rows {
			at = rows[i].id
			if err := rows[i].read(&r); err != nil {
				return fmt.Errorf("read the late lane of epoch %s: %w", e, err)
			}
			if !q.Wants(&r) {
				continue
			}
			if err := yield(&r); err != nil {
				return fmt.Errorf("read the late lane of epoch %s: %w", e, err)
			}
		}
	}
	return nil
}

// Drop forgets e's rows up to a number.
func (l *PGLateLane) Drop(ctx context.Context, e core.Epoch, upTo uint64) (uint64, error) {
	k := keyOf(e)
	var n int64
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `DELETE FROM late.late WHERE keep_s = $1 AND start_s = $2 AND id <= $3`, pgPlain, k.keep, k.start, int64(min(upTo, 1<<62)))
		if err != nil {
			return err
		}
		n = done.RowsAffected()
		_, err = tx.Exec(ctx, `UPDATE late.waiting SET rows = rows - $1, since_us = $2 WHERE keep_s = $3 AND start_s = $4`, pgPlain,
			n, l.now().UnixMicro(), k.keep, k.start)
		if err == nil {
			_, err = tx.Exec(ctx, `DELETE FROM late.waiting WHERE keep_s = $1 AND start_s = $2 AND rows <= 0`, pgPlain, k.keep, k.start)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("drop rows of the late lane: %w", pgTrouble(err))
	}
	return uint64(n), nil
}
