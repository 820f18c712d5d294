package store

import (
	"context"
	"database/sql"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// maxRemembered bounds the subjects whose numbers are kept in memory for each
// open file. The others are looked up.
const maxRemembered = 1 << 18

type laneKey struct {
	stream   string
	group    uint8
	numbered bool
}

type contextKey struct {
	product core.ProductID
	policy  core.Hash
	gateway [8]byte
}

// dictionary holds the numbers that stand for longer things in rows. The
// small ones are held both ways and whole.
type dictionary struct {
	subjects    map[core.Subject]int64
	allSubjects bool // what is not in the map is not in the file
	small
}

type small struct {
	lanes      map[laneKey]int64
	lanesAt    map[int64]laneKey
	contexts   map[contextKey]int64
	contextsAt map[int64]contextKey
	journals   map[string]int64
	journalsAt map[int64]string
}

// load reads the small dictionaries, and the large one while it is small.
func (d *dictionary) load(ctx context.Context, tx *sql.Tx) error {
	*d = dictionary{subjects: map[core.Subject]int64{}}
	if err := d.small.load(ctx, tx); err != nil {
		return err
	}
	err := each(ctx, tx, `SELECT id, subject FROM subjects LIMIT ?`, []any{maxRemembered + 1}, func(scan scanner) error {
		var id int64
		var b sql.RawBytes
		if err := scan(&id, &b); err != nil {
			return err
		}
		if len(b) == len(core.Subject{}) { // another length is nobody's: verification names its rows
			d.subjects[core.Subject(b)] = id
		}
		return nil
	})
	d.allSubjects = err == nil
	if len(d.subjects) > maxRemembered {
		clear(d.subjects)
		d.allSubjects = false
	}
	return err
}

// querier is a transaction or a connection.
type querier interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// asked is who answers queries: a transaction of either engine.
type asked interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

type scanner func(...any) error

// each calls fn for every row of a query.
func each(ctx context.Context, q asked, query string, args []any, fn func(scanner) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // read to the end or given up
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (m *small) load(ctx context.Context, q querier) error {
	*m = small{
		lanes: map[laneKey]int64{}, lanesAt: map[int64]laneKey{},
		contexts: map[contextKey]int64{}, contextsAt: map[int64]contextKey{},
		journals: map[string]int64{}, journalsAt: map[int64]string{},
	}
	var id int64
	err := each(ctx, q, `SELECT id, stream, grp, numbered FROM lanes`, nil, func(scan scanner) error {
		var k laneKey
		if err := scan(&id, &k.stream, &k.group, &k.numbered); err != nil {
			return err
		}
		m.lanes[k], m.lanesAt[id] = id, k
		return nil
	})
	if err != nil {
		return err
	}
	err = each(ctx, q, `SELECT id, product, policy, gateway FROM contexts`, nil, func(scan scanner) error {
		var k contextKey
		var policy, gateway []byte
		if err := scan(&id, &k.product, &policy, &gateway); err != nil {
			return err
		}
		copyWhole(k.policy[:], policy)
		copyWhole(k.gateway[:], gateway)
		m.contexts[k], m.contextsAt[id] = id, k
		return nil
	})
	if err != nil {
		return err
	}
	return each(ctx, q, `SELECT id, journal FROM journals`, nil, func(scan scanner) error {
		var j string
		if err := scan(&id, &j); err != nil {
			return err
		}
		m.journals[j], m.journalsAt[id] = id, j
		return nil
	})
}

// numbers are what stands for a row's longer columns.
type numbers struct {
	subject, lane, boot, seq, context int64
}

// numbersOf gives r's numbers and makes those that are missing.
func (d *dictionary) numbersOf(ctx context.Context, tx *sql.Tx, r *telemetry.Row) (n numbers, err error) {
	rd := &r.Reading
	if n.subject, err = d.subject(ctx, tx, rd.Subject); err != nil {
		return n, err
	}
	lane := laneKey{rd.Stream, r.Part.Group, rd.HasSeq}
	if n.lane, err = d.lane(ctx, tx, lane); err != nil {
		return n, err
	}
	if n.context, err = d.context(ctx, tx, contextKey{rd.Product, rd.Policy, rd.Gateway}); err != nil {
		return n, err
	}
	if rd.HasSeq {
		n.boot, n.seq = int64(rd.Boot), int64(rd.Seq)
		return n, nil
	}
	n.seq = placeNumber(r.Place)
	n.boot, err = d.journal(ctx, tx, r.Place.Journal)
	return n, err
}

// placeNumber packs what a place is within its journal.
func placeNumber(p telemetry.Place) int64 { return int64(p.Seq*telemetry.MaxIndex + uint64(p.Index)) }

func (d *dictionary) subject(ctx context.Context, tx *sql.Tx, k core.Subject) (int64, error) {
	if id, ok := d.subjects[k]; ok {
		return id, nil
	}
	if len(d.subjects) >= maxRemembered {
		clear(d.subjects)
		d.allSubjects = false
	}
	if !d.allSubjects {
		var id int64
		err := tx.QueryRowContext(ctx, `SELECT id FROM subjects WHERE subject = ?`, k[:]).Scan(&id)
		if err == nil {
			d.subjects[k] = id
			return id, nil
		}
		if err != sql.ErrNoRows {
			return 0, err
		}
	}
	id, err := insert(ctx, tx, `INSERT INTO subjects (subject) VALUES (?)`, k[:])
	if err == nil {
		d.subjects[k] = id
	}
	return id, err
}

func insert(ctx context.Context, tx *sql.Tx, query string, args ...any) (int64, error) {
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

func (m *small) lane(ctx context.Context, tx *sql.Tx, k laneKey) (int64, error) {
	if id, ok := m.lanes[k]; ok {
		return id, nil
	}
	id, err := insert(ctx, tx, `INSERT INTO lanes (stream, grp, numbered) VALUES (?, ?, ?)`, k.stream, k.group, k.numbered)
	if err == nil {
		m.lanes[k], m.lanesAt[id] = id, k
	}
	return id, err
}

func (m *small) context(ctx context.Context, tx *sql.Tx, k contextKey) (int64, error) {
	if id, ok := m.contexts[k]; ok {
		return id, nil
	}
	id, err := insert(ctx, tx, `INSERT INTO contexts (product, policy, gateway) VALUES (?, ?, ?)`, string(k.product), k.policy[:], k.gateway[:])
	if err == nil {
		m.contexts[k], m.contextsAt[id] = id, k
	}
	return id, err
}

func (m *small) journal(ctx context.Context, tx *sql.Tx, k string) (int64, error) {
	if id, ok := m.journals[k]; ok {
		return id, nil
	}
	id, err := insert(ctx, tx, `INSERT INTO journals (journal) VALUES (?)`, k)
	if err == nil {
		m.journals[k], m.journalsAt[id] = id, k
	}
	return id, err
}
