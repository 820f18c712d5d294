package store

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Reading goes by pages: each is one short statement, and nothing is held in
// the database while its rows are looked at. So a reader who takes his time
// holds up nobody, least of all the end of an epoch.
const (
	pgFirstPage = 1 << 10 // rows of the first page; each next one is twice as long
	pgLastPage  = 1 << 14 // but never longer
	pgPageBytes = 8 << 20 // of sealed bytes, after which a page ends early
)

// pgRow is a row as it lies in the table.
type pgRow struct {
	id, boot, seq, t int64
	subject, lane    int64
	head, sealed     []byte // in the page's memory
}

// pgReader makes telemetry rows of table rows. The row and its bytes are used
// again for the next one.
type pgReader struct {
	small
	s        *PGEpochs
	p        *pgPart
	limit    int
	rows     []pgRow
	mem      []byte
	subjects map[int64]core.Subject
	row      telemetry.Row
}

func (s *PGEpochs) reader(ctx context.Context, e core.Epoch) (*pgReader, error) {
	p, err := s.part(e)
	if err != nil {
		return nil, err
	}
	x := &pgReader{s: s, p: p, limit: pgFirstPage, subjects: map[int64]core.Subject{}}
	if p.epoch, err = p.readHead(ctx, s.pool, ""); err != nil {
		return nil, err
	}
	if keyOf(p.epoch) != keyOf(e) || e.Length != 0 && p.epoch.Length != e.Length {
		return nil, &damageError{fmt.Sprintf("the partition says that it belongs to epoch %s of length %s", p.epoch, p.epoch.Length)}
	}
	return x, pgLoadSmall(ctx, s.pool, p, &x.small)
}

// reading runs fn with a reader of e's partition.
func (s *PGEpochs) reading(ctx context.Context, e core.Epoch, fn func(*pgReader) error) error {
	x, err := s.reader(ctx, e)
	if err == nil {
		err = fn(x)
	}
	if err == nil {
		return nil
	}
	if _, broken := telemetry.AsBroken(err); broken {
		return err
	}
	return s.judge(ctx, e, err)
}

const pgColumns = `SELECT id, subject::bigint, lane::bigint, boot, seq, t, head, sealed FROM {e}.rows `

// page reads one page of a query of pgColumns that ends with its LIMIT, and
// says whether there may be more.
func (x *pgReader) page(ctx context.Context, query string, args ...any) (more bool, err error) {
	x.rows, x.mem = x.rows[:0], x.mem[:0]
	rows, err := x.s.pool.Query(ctx, x.p.sql(pgColumns+query), append(append([]any{pgPlain}, args...), x.limit)...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	type span struct{ head, sealed, end int }
	var spans []span
	var r pgRow
	var head, sealed pgtype.DriverBytes
	for rows.Next() {
		if err := rows.Scan(&r.id, &r.subject, &r.lane, &r.boot, &r.seq, &r.t, &head, &sealed); err != nil {
			return false, err
		}
		sp := span{head: len(x.mem)}
		x.mem = append(x.mem, head...)
		sp.sealed = len(x.mem)
		x.mem = append(x.mem, sealed...)
		sp.end = len(x.mem)
		x.rows, spans = append(x.rows, r), append(spans, sp)
		if more = len(x.mem) > pgPageBytes; more {
			rows.Close()
			break
		}
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	for i, sp := range spans {
		x.rows[i].head, x.rows[i].sealed = x.mem[sp.head:sp.sealed:sp.sealed], x.mem[sp.sealed:sp.end:sp.end]
	}
	more = more || len(x.rows) == x.limit
	x.limit = min(2*x.limit, pgLastPage)
	return more, x.names(ctx)
}

// names makes sure that the dictionaries have what the page's rows name, as far
// as the partition has it.
func (x *pgReader) names(ctx context.Context) error {
	var ask []int32
	stale := false
	for i := range x.rows {
		r := &x.rows[i]
		if _, known := x.subjects[r.subject]; !known {
			x.subjects[r.subject] = core.Subject{}
			ask = append(ask, int32(r.subject))
		}
		l, known := x.lanesAt[r.lane]
		stale = stale || !known
		if h, ok := parseRowHead(r.head); ok {
			_, known = x.contextsAt[h.context]
			stale = stale || !known
		}
		if known && !l.numbered {
			_, known = x.journalsAt[r.boot]
			stale = stale || !known
		}
	}
	if stale { // filed since they were read; or nobody knows them
		if err := pgLoadSmall(ctx, x.s.pool, x.p, &x.small); err != nil {
			return err
		}
	}
	if len(ask) == 0 {
		return nil
	}
	if len(x.subjects) > maxRemembered+pgLastPage {
		clear(x.subjects)
		return x.names(ctx)
	}
	return pgEach(ctx, x.s.pool, x.p.sql(`SELECT id::bigint, subject FROM {e}.subjects WHERE id = ANY ($1::integer[])`), []any{pgPlain, ask}, func(scan scanner) error {
		var id int64
		var b []byte
		if err := scan(&id, &b); err != nil {
			return err
		}
		var s core.Subject
		copyWhole(s[:], b)
		x.subjects[id] = s
		return nil
	})
}

// read makes a row of row i of the page.
func (x *pgReader) read(i int) (*telemetry.Row, error) {
	raw, r := &x.rows[i], &x.row
	h, ok := parseRowHead(raw.head)
	if !ok {
		return nil, fmt.Errorf("row %d: its head is not one", raw.id)
	}
	l, c := x.lanesAt[raw.lane], x.contextsAt[h.context]
	r.ID = raw.id
	rd := &r.Reading
	*rd = telemetry.Reading{
		Product: c.product, Policy: c.policy, Gateway: c.gateway, Stream: l.stream, Subject: x.subjects[raw.subject],
		T: x.p.epoch.Start*1000 + raw.t, HasSeq: l.numbered, Flags: h.flags, Counter: h.counter,
	}
	rd.Received = rd.T + h.lag
	r.Place = telemetry.Place{}
	if l.numbered {
		rd.Boot, rd.Seq = uint64(raw.boot), uint64(raw.seq)
	} else {
		r.Place = telemetry.Place{
			Journal: x.journalsAt[raw.boot], Seq: uint64(raw.seq) / telemetry.MaxIndex, Index: uint32(uint64(raw.seq) % telemetry.MaxIndex),
		}
	}
	r.Part = telemetry.Part{Epoch: x.p.epoch, Group: l.group, Sealed: raw.sealed}
	return r, nil
}

// numberOf is the number of a subject, 0 when it has no rows.
func (x *pgReader) numberOf(ctx context.Context, s core.Subject) (int64, error) {
	var id int64
	err := x.s.pool.QueryRow(ctx, x.p.sql(`SELECT id::bigint FROM {e}.subjects WHERE subject = $1`), pgPlain, s[:]).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return id, err
}

// Scan yields e's rows that q wants, by time and then by number: those that
// were filed when it was called.
func (s *PGEpochs) Scan(ctx context.Context, e core.Epoch, q *telemetry.Query, yield func(*telemetry.Row) error) error {
	err := s.reading(ctx, e, func(x *pgReader) error {
		var lanes []int32
		for id, l := range x.lanesAt {
			for _, c := range x.contextsAt {
				if q.Want == nil || q.Want(c.policy, l.stream, l.group) {
					lanes = append(lanes, int32(id))
					break
				}
			}
		}
		subject, err := x.numberOf(ctx, q.Subject)
		if err != nil || subject == 0 || len(lanes) == 0 {
			return err
		}
		base, upto := x.p.epoch.Start*1000, int64(x.p.head.Rows)
		from, to := q.From.UnixMilli()-base, ceilMilli(q)-base
		t, boot, seq, id := from, int64(math.MinInt64), int64(math.MinInt64), int64(math.MinInt64)
		for more := true; more; {
			more, err = x.page(ctx, `WHERE subject = $1 AND lane = ANY ($2::integer[]) AND id <= $3 AND t >= $4 AND t < $5 AND (t, boot, seq, id) > ($4, $6, $7, $8)
				ORDER BY t, boot, seq, id LIMIT $9`, int32(subject), lanes, upto, t, to, boot, seq, id)
			if err != nil {
				return err
			}
			for i := range x.rows {
				r, err := x.read(i)
				if err != nil {
					return err
				}
				if q.Want != nil && !q.Want(r.Reading.Policy, r.Reading.Stream, r.Part.Group) {
					continue
				}
				if err := yield(r); err != nil {
					return err
				}
			}
			if n := len(x.rows); n > 0 {
				last := &x.rows[n-1]
				t, boot, seq, id = last.t, last.boot, last.seq, last.id
			}
		}
		return nil
	})
	if err = pgIgnoreMissing(err); err != nil {
		return fmt.Errorf("read partition %s: %w", e, err)
	}
	return nil
}

// pgIgnoreMissing makes an absent partition an empty one.
func pgIgnoreMissing(err error) error {
	if errors.Is(err, errNoFile) {
		return nil
	}
	return pgTrouble(err)
}

// Mark is how far e's partition has come in the given journal and the late lane.
func (s *PGEpochs) Mark(ctx context.Context, e core.Epoch, journal string) (telemetry.Mark, uint64, error) {
	x, _, err := s.Extent(ctx, e)
	if x.Mark.Journal != journal {
		x.Mark = telemetry.Mark{}
	}
	return x.Mark, x.Late, err
}

// Highest gives for each series the largest (boot, seq).
func (s *PGEpochs) Highest(ctx context.Context, e core.Epoch, series []telemetry.Series) ([][2]uint64, error) {
	out := make([][2]uint64, len(series))
	err := s.reading(ctx, e, func(x *pgReader) error {
		var at, lane []int32
		var subject [][]byte
		ask := func() error {
			err := pgEach(ctx, s.pool, x.p.sql(`SELECT q.at, r.boot, r.seq FROM unnest($1::integer[], $2::bytea[], $3::integer[]) AS q (at, subject, lane)
				JOIN {e}.subjects s ON s.subject = q.subject
				CROSS JOIN LATERAL (SELECT boot, seq FROM {e}.rows WHERE subject = s.id AND lane = q.lane ORDER BY boot DESC, seq DESC LIMIT 1) r`),
				[]any{pgPlain, at, subject, lane}, func(scan scanner) error {
					var i int32
					var boot, seq int64
					if err := scan(&i, &boot, &seq); err != nil {
						return err
					}
					// PostgreSQL's integers have a sign. A negative one stands for
					// a large number and may hide a larger one: say the largest.
					out[i] = [2]uint64{uint64(boot), uint64(seq)}
					if boot < 0 {
						out[i] = [2]uint64{math.MaxUint64, math.MaxUint64}
					} else if seq < 0 {
						out[i][1] = math.MaxUint64
					}
					return nil
				})
			at, lane, subject = at[:0], lane[:0], subject[:0]
			return err
		}
		for i := range series {
			q := &series[i]
			l, ok := x.lanes[laneKey{q.Stream, q.Group, true}]
			if !ok {
				continue
			}
			at, lane, subject = append(at, int32(i)), append(lane, int32(l)), append(subject, q.Subject[:])
			if len(at) == pgAskAtOnce {
				if err := ask(); err != nil {
					return err
				}
			}
		}
		if len(at) == 0 {
			return nil
		}
		return ask()
	})
	if err = pgIgnoreMissing(err); err != nil {
		return nil, fmt.Errorf("read partition %s: %w", e, err)
	}
	return out, nil
}

// Find gives the row that has r's key.
func (s *PGEpochs) Find(ctx context.Context, e core.Epoch, r *telemetry.Row) (found telemetry.Row, ok bool, err error) {
	err = s.reading(ctx, e, func(x *pgReader) error {
		lane := x.lanes[laneKey{r.Reading.Stream, r.Part.Group, r.Reading.HasSeq}]
		boot, seq := int64(r.Reading.Boot), int64(r.Reading.Seq)
		if !r.Reading.HasSeq {
			boot, seq = x.journals[r.Place.Journal], placeNumber(r.Place)
		}
		subject, err := x.numberOf(ctx, r.Reading.Subject)
		if err != nil || subject == 0 || lane == 0 {
			return err
		}
		_, err = x.page(ctx, `WHERE subject = $1 AND lane = $2 AND boot = $3 AND seq = $4 LIMIT $5`, int32(subject), int32(lane), boot, seq)
		if err != nil || len(x.rows) == 0 {
			return err
		}
		got, err := x.read(0)
		if err == nil {
			found, ok = *got, true
		}
		return err
	})
	if err = pgIgnoreMissing(err); err != nil {
		return telemetry.Row{}, false, fmt.Errorf("read partition %s: %w", e, err)
	}
	return found, ok, nil
}
