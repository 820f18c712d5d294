package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// pgDict holds the numbers that stand for longer things in rows, as dictionary
// does for a file. New ones are numbered here and written with the next commit.
type pgDict struct {
	subjects    map[core.Subject]int64
	allSubjects bool  // what is not in the map is not in the partition
	lastSubject int64 // highest number given
	small
	fresh map[int64]bool // subjects numbered by the commit under way
}

func (d *pgDict) load(ctx context.Context, q pgQuerier, p *pgPart) error {
	*d = pgDict{subjects: map[core.Subject]int64{}}
	if err := pgLoadSmall(ctx, q, p, &d.small); err != nil {
		return err
	}
	if err := q.QueryRow(ctx, p.sql(`SELECT coalesce(max(id), 0)::bigint FROM {e}.subjects`), pgPlain).Scan(&d.lastSubject); err != nil {
		return err
	}
	if d.lastSubject > maxRemembered {
		return nil
	}
	d.allSubjects = true
	return pgEach(ctx, q, p.sql(`SELECT id, subject FROM {e}.subjects`), []any{pgPlain}, func(scan scanner) error {
		var id int64
		var b []byte
		if err := scan(&id, &b); err != nil {
			return err
		}
		if len(b) == len(core.Subject{}) { // another length is nobody's: verification names its rows
			d.subjects[core.Subject(b)] = id
		}
		return nil
	})
}

// pgEach calls fn for every row of a query.
func pgEach(ctx context.Context, q pgQuerier, query string, args []any, fn func(scanner) error) error {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// pgLoadSmall reads the small dictionaries.
func pgLoadSmall(ctx context.Context, q pgQuerier, p *pgPart, m *small) error {
	*m = small{
		lanes: map[laneKey]int64{}, lanesAt: map[int64]laneKey{},
		contexts: map[contextKey]int64{}, contextsAt: map[int64]contextKey{},
		journals: map[string]int64{}, journalsAt: map[int64]string{},
	}
	// One statement, one snapshot, one way there and back.
	return pgEach(ctx, q, p.sql(`SELECT 0, id::bigint, stream, grp, numbered, ''::bytea, ''::bytea FROM {e}.lanes
		UNION ALL SELECT 1, id, product, 0, 0, policy, gateway FROM {e}.contexts
		UNION ALL SELECT 2, id, journal, 0, 0, ''::bytea, ''::bytea FROM {e}.journals`), []any{pgPlain}, func(scan scanner) error {
		var what, group, numbered int32
		var id int64
		var text string
		var policy, gateway []byte
		if err := scan(&what, &id, &text, &group, &numbered, &policy, &gateway); err != nil {
			return err
		}
		switch what {
		case 0:
			k := laneKey{text, uint8(group), numbered == 1}
			m.lanes[k], m.lanesAt[id] = id, k
		case 1:
			k := contextKey{product: core.ProductID(text)}
			copyWhole(k.policy[:], policy)
			copyWhole(k.gateway[:], gateway)
			m.contexts[k], m.contextsAt[id] = id, k
		case 2:
			m.journals[text], m.journalsAt[id] = id, text
		}
		return nil
	})
}

// number gives every row its numbers and writes those that are new.
func (d *pgDict) number(ctx context.Context, tx pgx.Tx, p *pgPart, rows []telemetry.Row) ([]numbers, error) {
	if err := d.people(ctx, tx, p, rows); err != nil {
		return nil, err
	}
	nums := make([]numbers, len(rows))
	var err error
	for i := range rows {
		rd, n := &rows[i].Reading, &nums[i]
		n.subject = d.subjects[rd.Subject]
		if n.lane, err = d.lane(ctx, tx, p, laneKey{rd.Stream, rows[i].Part.Group, rd.HasSeq}); err != nil {
			return nil, err
		}
		if n.context, err = d.context(ctx, tx, p, contextKey{rd.Product, rd.Policy, rd.Gateway}); err != nil {
			return nil, err
		}
		if rd.HasSeq {
			n.boot, n.seq = int64(rd.Boot), int64(rd.Seq)
			continue
		}
		n.seq = placeNumber(rows[i].Place)
		if n.boot, err = d.journal(ctx, tx, p, rows[i].Place.Journal); err != nil {
			return nil, err
		}
	}
	return nums, nil
}

// people puts the subjects of rows into d.subjects.
func (d *pgDict) people(ctx context.Context, tx pgx.Tx, p *pgPart, rows []telemetry.Row) error {
	d.fresh = map[int64]bool{}
	if len(d.subjects) > maxRemembered {
		clear(d.subjects)
		d.allSubjects = false
	}
	missing := map[core.Subject]bool{}
	var ask [][]byte
	for i := range rows {
		s := &rows[i].Reading.Subject
		if _, ok := d.subjects[*s]; !ok && !missing[*s] {
			missing[*s] = true
			ask = append(ask, s[:])
		}
	}
	if len(ask) == 0 {
		return nil
	}
	if !d.allSubjects {
		err := pgEach(ctx, tx, p.sql(`SELECT id::bigint, subject FROM {e}.subjects WHERE subject = ANY ($1::bytea[])`), []any{pgPlain, ask}, func(scan scanner) error {
			var id int64
			var b []byte
			if err := scan(&id, &b); err != nil {
				return err
			}
			s := core.Subject(b)
			d.subjects[s] = id
			delete(missing, s)
			return nil
		})
		if err != nil {
			return err
		}
	}
	var ids []int32
	var names [][]byte
	for _, b := range ask {
		if s := core.Subject(b); missing[s] {
			d.lastSubject++
			d.subjects[s], d.fresh[d.lastSubject] = d.lastSubject, true
			ids, names = append(ids, int32(d.lastSubject)), append(names, b)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, p.sql(`INSERT INTO {e}.subjects (id, subject) SELECT * FROM unnest($1::integer[], $2::bytea[])`), pgPlain, ids, names)
	return err
}

func (d *pgDict) lane(ctx context.Context, tx pgx.Tx, p *pgPart, k laneKey) (int64, error) {
	if id, ok := d.lanes[k]; ok {
		return id, nil
	}
	id := nextID(d.lanesAt)
	numbered := 0
	if k.numbered {
		numbered = 1
	}
	_, err := tx.Exec(ctx, p.sql(`INSERT INTO {e}.lanes (id, stream, grp, numbered) VALUES ($1, $2, $3, $4)`), pgPlain, id, k.stream, int(k.group), numbered)
	if err == nil {
		d.lanes[k], d.lanesAt[id] = id, k
	}
	return id, err
}

// nextID is a number above all that are given.
func nextID[V any](given map[int64]V) int64 {
	last := int64(0)
	for id := range given {
		last = max(last, id)
	}
	return last + 1
}

func (d *pgDict) context(ctx context.Context, tx pgx.Tx, p *pgPart, k contextKey) (int64, error) {
	if id, ok := d.contexts[k]; ok {
		return id, nil
	}
	id := nextID(d.contextsAt)
	_, err := tx.Exec(ctx, p.sql(`INSERT INTO {e}.contexts (id, product, policy, gateway) VALUES ($1, $2, $3, $4)`), pgPlain, id, string(k.product), k.policy[:], k.gateway[:])
	if err == nil {
		d.contexts[k], d.contextsAt[id] = id, k
	}
	return id, err
}

func (d *pgDict) journal(ctx context.Context, tx pgx.Tx, p *pgPart, k string) (int64, error) {
	if id, ok := d.journals[k]; ok {
		return id, nil
	}
	id := nextID(d.journalsAt)
	_, err := tx.Exec(ctx, p.sql(`INSERT INTO {e}.journals (id, journal) VALUES ($1, $2)`), pgPlain, id, k)
	if err == nil {
		d.journals[k], d.journalsAt[id] = id, k
	}
	return id, err
}
