package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

//go:embed late.sql
var lateSchema string

// lateSettings are those of the late lane: a commit is on disk, because the
// journal may forget what is parked.
const lateSettings = "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
	"&_pragma=secure_delete(OFF)&_pragma=cache_size(-8000)&_pragma=trusted_schema(OFF)"

// LateLane is DATA/telemetry/late.db. It is a telemetry.LateLane.
type LateLane struct {
	now     func() time.Time
	path    string
	w, r    *sql.DB
	damaged map[string]error // what was wrong with a file that was put aside at Open
}

// OpenLateLane opens the late lane in the folder of epoch files, or makes it.
// A damaged file is put aside and a new one begun: Damaged says so, until
// somebody removes the old one.
func OpenLateLane(ctx context.Context, o EpochFilesOptions) (*LateLane, error) {
	if o.Dir == "" || o.Now == nil {
		return nil, errors.New("late lane: Dir and Now are required")
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, fmt.Errorf("make telemetry folder: %w", err)
	}
	path := filepath.Join(o.Dir, "late.db")
	l, err := openLate(ctx, path, o.Now)
	if err == nil || !suspect(err) && resultCode(err) != 1 { // 1: SQLITE_ERROR, tables that are not ours
		return l, err
	}
	aside := path + asideMark + strconv.FormatInt(o.Now().Unix(), 10)
	if err := rename(path, aside); err != nil {
		return nil, fmt.Errorf("put damaged late lane aside: %w", err)
	}
	again, err2 := openLate(ctx, path, o.Now)
	if err2 != nil {
		return nil, errors.Join(err, err2)
	}
	again.damaged = map[string]error{filepath.Base(aside): err}
	return again, nil
}

func openLate(ctx context.Context, path string, now func() time.Time) (*LateLane, error) {
	l := &LateLane{path: path, now: now}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + lateSettings
	var err error
	if l.w, err = sql.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return nil, fmt.Errorf("open late lane: %w", err)
	}
	l.w.SetMaxOpenConns(1)
	if l.r, err = sql.Open("sqlite", dsn+"&_pragma=query_only(1)"); err != nil {
		return nil, fmt.Errorf("open late lane: %w", err)
	}
	l.r.SetMaxOpenConns(epochReaders)
	err = inTx(ctx, l.w, func(t *Tx) error {
		var n int
		if err := t.tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'`).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			if _, err := t.tx.ExecContext(ctx, lateSchema); err != nil {
				return err
			}
		}
		_, err := t.tx.ExecContext(ctx, `SELECT l.id, w.rows, j.id FROM late l, waiting w, journals j LIMIT 1`)
		return err
	})
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = l.Close() // the first error is the one to report
		return nil, fmt.Errorf("open late lane: %w", engineTrouble(err))
	}
	return l, nil
}

// Close closes the file. It must not run beside other calls.
func (l *LateLane) Close() error { return errors.Join(l.r.Close(), l.w.Close()) }

// Damaged names the files that were found damaged, at this Open or an earlier
// one, and put aside; empty when there is none. To remove them is to say that
// the loss is known.
func (l *LateLane) Damaged() string {
	all, err := os.ReadDir(filepath.Dir(l.path))
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, e := range all {
		name := e.Name()
		at, found := strings.CutPrefix(name, filepath.Base(l.path)+asideMark)
		sec, err := strconv.ParseInt(at, 10, 64)
		if !found || err != nil { // its log
			continue
		}
		if why := l.damaged[name]; why != nil {
			out = append(out, fmt.Sprintf("%v; put aside as %s", why, name))
		} else {
			out = append(out, fmt.Sprintf("found damaged on %s; put aside as %s", time.Unix(sec, 0).UTC().Format(time.DateOnly), name))
		}
	}
	return strings.Join(out, "; ")
}

// Park keeps rows; they are on disk when it returns.
func (l *LateLane) Park(ctx context.Context, rows []telemetry.Row) error {
	return l.park(ctx, rows, nil, l.now())
}

// park keeps rows that came in at a time, under numbers of their own unless
// ids are given.
func (l *LateLane) park(ctx context.Context, rows []telemetry.Row, ids []uint64, at time.Time) error {
	if len(rows) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // many short statements
	err := inTx(ctx, l.w, func(t *Tx) error {
		journals := map[string]int64{}
		added := map[core.Epoch]int64{}
		var buf []byte
		stmt, err := t.tx.PrepareContext(ctx, `INSERT INTO late (id, keep_s, start_s, subject, journal, seq, idx, grp, first, record)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (journal, seq, idx, grp, keep_s, start_s) DO NOTHING`)
		if err != nil {
			return err
		}
		defer func() { _ = stmt.Close() }() // its transaction is over
		for i := range rows {
			r := &rows[i]
			j, ok := journals[r.Place.Journal]
			if !ok {
				if j, err = lateJournal(ctx, t.tx.Tx, r.Place.Journal); err != nil {
					return err
				}
				journals[r.Place.Journal] = j
			}
			one := r.Reading
			one.Parts = []telemetry.Part{r.Part}
			buf = telemetry.AppendReading(buf[:0], &one)
			k := keyOf(r.Part.Epoch)
			var id any // the next one
			if ids != nil {
				id = int64(ids[i])
			}
			res, err := stmt.ExecContext(ctx, id, k.keep, k.start, r.Reading.Subject[:], j, int64(r.Place.Seq), int64(r.Place.Index), int64(r.Part.Group), r.First, buf)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			added[r.Part.Epoch] += n
		}
		for e, n := range added {
			k := keyOf(e)
			_, err := t.tx.ExecContext(ctx, `INSERT INTO waiting (keep_s, start_s, length_s, rows, since_us) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (keep_s, start_s) DO UPDATE SET rows = waiting.rows + excluded.rows`,
				k.keep, k.start, int64(e.Length/time.Second), n, at.UnixMicro())
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("park rows in the late lane: %w", engineTrouble(err))
	}
	return nil
}

func lateJournal(ctx context.Context, tx *sql.Tx, journal string) (int64, error) {
	var id int64
	err := tx.QueryRowContext(ctx, `SELECT id FROM journals WHERE journal = ?`, journal).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return insert(ctx, tx, `INSERT INTO journals (journal) VALUES (?)`, journal)
	}
	return id, err
}

// After names the parts of records after m that wait here.
func (l *LateLane) After(ctx context.Context, m telemetry.Mark) ([]telemetry.PartPlace, error) {
	var out []telemetry.PartPlace
	err := each(ctx, l.r, `SELECT l.seq, l.idx, l.grp, w.keep_s, w.start_s, w.length_s FROM late l
		JOIN journals j ON j.id = l.journal JOIN waiting w ON w.keep_s = l.keep_s AND w.start_s = l.start_s
		WHERE j.journal = ? AND l.seq > ?`, []any{m.Journal, int64(m.Seq)}, func(scan scanner) error {
		p := telemetry.PartPlace{Place: telemetry.Place{Journal: m.Journal}}
		var keep, length int64
		err := scan(&p.Place.Seq, &p.Place.Index, &p.Group, &keep, &p.Epoch.Start, &length)
		p.Epoch.Keep, p.Epoch.Length = time.Duration(keep)*time.Second, time.Duration(length)*time.Second
		out = append(out, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the late lane: %w", engineTrouble(err))
	}
	return out, nil
}

// Waiting says for each epoch what is here.
func (l *LateLane) Waiting(ctx context.Context) ([]telemetry.Waiting, error) {
	var out []telemetry.Waiting
	err := each(ctx, l.r, `SELECT keep_s, start_s, length_s, rows, since_us FROM waiting WHERE rows > 0 ORDER BY keep_s, start_s`, nil,
		func(scan scanner) error {
			var w telemetry.Waiting
			var keep, length, since int64
			err := scan(&keep, &w.Epoch.Start, &length, &w.Rows, &since)
			w.Epoch.Keep, w.Epoch.Length = time.Duration(keep)*time.Second, time.Duration(length)*time.Second
			w.Since = time.UnixMicro(since).UTC()
			out = append(out, w)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("read the late lane: %w", engineTrouble(err))
	}
	return out, nil
}

// Subjects are whom the rows that wait here are about.
func (l *LateLane) Subjects(ctx context.Context) ([]core.Subject, error) {
	var out []core.Subject
	err := each(ctx, l.r, `SELECT DISTINCT subject FROM late ORDER BY subject`, nil, func(scan scanner) error {
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
		return nil, fmt.Errorf("read the late lane: %w", engineTrouble(err))
	}
	return out, nil
}

const lateColumns = `SELECT l.id, j.journal, l.seq, l.idx, l.first, l.record FROM late l JOIN journals j ON j.id = l.journal`

// readLate gives the row of a query of lateColumns. Its bytes are valid until
// the next one.
func readLate(scan scanner, r *telemetry.Row) (uint64, error) {
	var id uint64
	var record sql.RawBytes
	if err := scan(&id, &r.Place.Journal, &r.Place.Seq, &r.Place.Index, &r.First, &record); err != nil {
		return 0, err
	}
	kind, err := telemetry.DecodeRecord(record, &r.Reading, new(telemetry.Refusal))
	if err != nil {
		return 0, fmt.Errorf("row %d of the late lane: %w", id, err)
	}
	if kind != telemetry.RecordReading || len(r.Reading.Parts) != 1 {
		return 0, fmt.Errorf("row %d of the late lane is not one part of a reading", id)
	}
	r.Part, r.Reading.Parts, r.Reading.Dropped = r.Reading.Parts[0], r.Reading.Parts[:0], 0
	return id, nil
}

// Take yields up to limit rows of e with numbers above after, in order.
func (l *LateLane) Take(ctx context.Context, e core.Epoch, after uint64, limit int, yield func(uint64, *telemetry.Row) error) error {
	k := keyOf(e)
	var r telemetry.Row
	err := each(ctx, l.r, lateColumns+` WHERE l.keep_s = ? AND l.start_s = ? AND l.id > ? ORDER BY l.id LIMIT ?`,
		[]any{k.keep, k.start, int64(after), limit}, func(scan scanner) error {
			id, err := readLate(scan, &r)
			if err != nil {
				return err
			}
			return yield(id, &r)
		})
	if err != nil {
		return fmt.Errorf("read the late lane of epoch %s: %w", e, engineTrouble(err))
	}
	return nil
}

// Scan yields e's rows that q wants, in the order in which they came.
func (l *LateLane) Scan(ctx context.Context, e core.Epoch, q *telemetry.Query, yield func(*telemetry.Row) error) error {
	k := keyOf(e)
	var r telemetry.Row
	err := each(ctx, l.r, lateColumns+` WHERE l.subject = ? AND l.keep_s = ? AND l.start_s = ? ORDER BY l.id`,
		[]any{q.Subject[:], k.keep, k.start}, func(scan scanner) error {
			if _, err := readLate(scan, &r); err != nil || !q.Wants(&r) {
				return err
			}
			return yield(&r)
		})
	if err != nil {
		return fmt.Errorf("read the late lane of epoch %s: %w", e, engineTrouble(err))
	}
	return nil
}

// Drop forgets e's rows up to a number.
func (l *LateLane) Drop(ctx context.Context, e core.Epoch, upTo uint64) (uint64, error) {
	k := keyOf(e)
	var n int64
	err := inTx(ctx, l.w, func(t *Tx) error {
		res, err := t.tx.ExecContext(ctx, `DELETE FROM late WHERE keep_s = ? AND start_s = ? AND id <= ?`, k.keep, k.start, int64(min(upTo, 1<<62)))
		if err != nil {
			return err
		}
		if n, err = res.RowsAffected(); err != nil {
			return err
		}
		_, err = t.tx.ExecContext(ctx, `UPDATE waiting SET rows = rows - ?, since_us = ? WHERE keep_s = ? AND start_s = ?`,
			n, l.now().UnixMicro(), k.keep, k.start)
		if err == nil {
			_, err = t.tx.ExecContext(ctx, `DELETE FROM waiting WHERE keep_s = ? AND start_s = ? AND rows <= 0`, k.keep, k.start)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("drop rows of the late lane: %w", engineTrouble(err))
	}
	return uint64(n), nil
}
