package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
)

// TableCopy is one table of the control database as it was copied.
type TableCopy struct {
	Table  string    `json:"table"`
	Rows   int64     `json:"rows"`
	Digest core.Hash `json:"digest"` // over every value of every row, by key
}

const (
	copyRows  = 500     // rows of one INSERT, at most
	copyBytes = 4 << 20 // bytes of one INSERT, about
	copyArgs  = 30_000  // values of one INSERT; both engines bear a few more

	arriving = "@here" // stands in moved_to while everything is being moved there
)

// holder is the table that says who may write; it is never copied.
const holder = "store_holder"

// table is a table of the control database: its columns, those of its key
// first, and the tables that it refers to.
type table struct {
	name    string
	columns []tableColumn
	keys    int
	after   []string
	counted string // column that the engine counts, "" for none
}

type tableColumn struct{ name, kind string } // kind: INTEGER, TEXT, BLOB

// tables are all of them, each behind those that it refers to. They are read
// from the database that the migrations made, in the embedded engine: there is
// one set of migrations.
func (s *Store) tables(ctx context.Context) (out []table, err error) {
	var names []string
	ask := func(query string, args []any, fn func(scanner) error) {
		if err == nil {
			err = s.View(ctx, func(t *Tx) error { return each(ctx, t.tx, query, args, fn) })
		}
	}
	ask(`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT IN ('schema_migrations', '`+holder+`') ORDER BY name`, nil, func(scan scanner) error {
		var n string
		defer func() { names = append(names, n) }()
		return scan(&n)
	})
	for _, n := range names {
		t := table{name: n}
		type part struct {
			tableColumn

			key int
		}
		var cols []part
		ask(`SELECT name, type, pk FROM pragma_table_info(?)`, []any{n}, func(scan scanner) error {
			var p part
			err := scan(&p.name, &p.kind, &p.key)
			if p.kind == "BIGINT" {
				p.kind = "INTEGER"
			}
			cols = append(cols, p)
			return err
		})
		slices.SortStableFunc(cols, func(a, b part) int { return cmp.Compare(cmp.Or(a.key, 1000), cmp.Or(b.key, 1000)) })
		for _, c := range cols {
			t.columns = append(t.columns, c.tableColumn)
			if c.key > 0 {
				t.keys++
			}
		}
		if t.keys == 1 && t.columns[0].kind == "INTEGER" {
			t.counted = t.columns[0].name
		}
		ask(`SELECT DISTINCT "table" FROM pragma_foreign_key_list(?)`, []any{n}, func(scan scanner) error {
			var to string
			defer func() { t.after = append(t.after, to) }()
			return scan(&to)
		})
		out = append(out, t)
	}
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	return inOrder(out)
}

// inOrder puts each table behind those that it refers to.
func inOrder(all []table) ([]table, error) {
	var out []table
	done := map[string]bool{}
	for len(out) < len(all) {
		before := len(out)
		for _, t := range all {
			ready := !done[t.name] && !slices.ContainsFunc(t.after, func(a string) bool { return a != t.name && !done[a] })
			if ready {
				out, done[t.name] = append(out, t), true
			}
		}
		if len(out) == before {
			return nil, errors.New("tables refer to each other in a circle")
		}
	}
	for _, t := range out {
		if t.keys == 0 {
			return nil, fmt.Errorf("table %s has no key", t.name)
		}
	}
	return out, nil
}

func (t *table) list() string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return strings.Join(names, ", ")
}

// query asks for all rows, by key.
func (t *table) query() string {
	names := make([]string, t.keys)
	for i := range names {
		names[i] = t.columns[i].name
	}
	return `SELECT ` + t.list() + ` FROM ` + t.name + ` ORDER BY ` + strings.Join(names, ", ")
}

// read yields every row of a table, as numbers, texts and bytes, and gives their
// count and digest.
func (t *table) read(ctx context.Context, tx *Tx, yield func([]any) error) (TableCopy, error) {
	out := TableCopy{Table: t.name}
	sum := sha256.New()
	row, into := make([]any, len(t.columns)), make([]any, len(t.columns))
	for i := range row {
		into[i] = &row[i]
	}
	err := each(ctx, tx.tx, t.query(), nil, func(scan scanner) error {
		if err := scan(into...); err != nil {
			return err
		}
		for i := range row {
			v, err := t.columns[i].canonical(row[i])
			if err != nil {
				return fmt.Errorf("row %d, column %s: %w", out.Rows+1, t.columns[i].name, err)
			}
			row[i] = v
			addValue(sum, v)
		}
		out.Rows++
		if yield == nil {
			return nil
		}
		return yield(row)
	})
	sum.Sum(out.Digest[:0])
	if err != nil {
		return out, fmt.Errorf("read table %s: %w", t.name, err)
	}
	return out, nil
}

// canonical is a value as its column means it, whatever the engine kept it as.
func (c tableColumn) canonical(v any) (any, error) {
	switch x := v.(type) {
	case nil:
		return nil, nil
	case int64:
		if c.kind == "INTEGER" {
			return x, nil
		}
	case bool:
		if c.kind == "INTEGER" {
			return int64(number(x)), nil
		}
	case string:
		switch c.kind {
		case "TEXT":
			if !utf8.ValidString(x) || strings.ContainsRune(x, 0) {
				return nil, core.E(core.Conflict, "not-text", "what stands there is no text that both engines can keep", "look at the row; a device or a person sent it")
			}
			return x, nil
		case "BLOB":
			return []byte(x), nil
		}
	case []byte:
		switch c.kind {
		case "BLOB":
			if x == nil { // no bytes is not NULL
				x = []byte{}
			}
			return x, nil
		case "TEXT":
			return c.canonical(string(x))
		}
	}
	return nil, fmt.Errorf("a value of the form %T in a column of %s", v, c.kind)
}

// addValue adds a value to a digest so that no two lists of values look alike.
func addValue(h hash.Hash, v any) {
	var head [9]byte
	var body []byte
	switch x := v.(type) {
	case nil:
		head[0] = 'n'
	case int64:
		head[0] = 'i'
		binary.BigEndian.PutUint64(head[1:], uint64(x))
	case string:
		head[0], body = 't', []byte(x)
		binary.BigEndian.PutUint64(head[1:], uint64(len(x)))
	case []byte:
		head[0], body = 'b', x
		binary.BigEndian.PutUint64(head[1:], uint64(len(x)))
	}
	h.Write(head[:])
	h.Write(body)
}

// tableWriter inserts rows, many at once.
type tableWriter struct {
	t     *table
	tx    *Tx
	args  []any
	rows  int
	bytes int
}

func (w *tableWriter) add(ctx context.Context, row []any) error {
	for _, v := range row {
		switch x := v.(type) {
		case []byte:
			v = slices.Clone(x) // the driver uses it again
			w.bytes += len(x)
		case string:
			w.bytes += len(x)
		}
		w.args = append(w.args, v)
	}
	w.rows++
	if w.rows == min(copyRows, copyArgs/len(row)) || w.bytes > copyBytes {
		return w.flush(ctx)
	}
	return nil
}

func (w *tableWriter) flush(ctx context.Context) error {
	if w.rows == 0 {
		return nil
	}
	one := "(?" + strings.Repeat(", ?", len(w.t.columns)-1) + ")"
	_, err := w.tx.tx.ExecContext(ctx, `INSERT INTO `+w.t.name+` (`+w.t.list()+`) VALUES `+one+strings.Repeat(", "+one, w.rows-1), w.args...)
	w.args, w.rows, w.bytes = w.args[:0], 0, 0
	return err
}

// embedded is whichever of two stores is SQLite.
func embedded(a, b *Store) *Store {
	if a.pg == nil {
		return a
	}
	return b
}

// CopyControl copies the whole control database of one store into another one
// of the other engine, in one transaction of each: all of it, as it was at one
// moment, or nothing. It then reads what arrived and compares. The other one
// must be empty. Progress, if given, is told after each table.
func CopyControl(ctx context.Context, from, to *Store, progress func(done, total int)) ([]TableCopy, error) {
	if (from.pg == nil) == (to.pg == nil) {
		return nil, errors.New("copy the control database: both are of one engine")
	}
	tables, err := embedded(from, to).tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("copy the control database: %w", err)
	}
	var out []TableCopy
	err = from.View(ctx, func(src *Tx) error {
		return to.Update(ctx, func(dst *Tx) error {
			for i, t := range tables {
				c, err := copyTable(ctx, &t, src, dst)
				if err != nil {
					return err
				}
				out = append(out, c)
				if progress != nil {
					progress(i+1, len(tables))
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("copy the control database: %w", err)
	}
	return out, CompareControl(ctx, out, to, tables)
}

func copyTable(ctx context.Context, t *table, src, dst *Tx) (TableCopy, error) {
	var n int
	if err := dst.tx.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM `+t.name+` LIMIT 1) AS found`).Scan(&n); err != nil {
		return TableCopy{}, fmt.Errorf("table %s: %w", t.name, err)
	}
	if n > 0 {
		return TableCopy{}, core.E(core.Conflict, "not-empty", "the store to move to is not empty: table "+t.name, "name an empty database")
	}
	w := tableWriter{t: t, tx: dst}
	c, err := t.read(ctx, src, func(row []any) error { return w.add(ctx, row) })
	if err == nil {
		err = w.flush(ctx)
	}
	if err == nil && dst.tx.engine == postgresEngine && t.counted != "" {
		// What the engine counts goes on behind what there is.
		_, err = dst.tx.ExecContext(ctx, `SELECT setval(seq, greatest((SELECT max(`+t.counted+`) FROM `+t.name+`), 1), EXISTS (SELECT 1 FROM `+t.name+`))
			FROM (SELECT pg_get_serial_sequence('`+t.name+`', '`+t.counted+`') AS seq) AS own WHERE seq IS NOT NULL`)
	}
	if err != nil {
		return c, fmt.Errorf("table %s: %w", t.name, err)
	}
	return c, nil
}

// CompareControl reads a control database and says whether it holds exactly
// what was copied. Tables nil means: find them.
func CompareControl(ctx context.Context, want []TableCopy, s *Store, tables []table) error {
	got, err := digestOf(ctx, s, tables)
	if err != nil {
		return fmt.Errorf("compare the control database: %w", err)
	}
	for i, w := range want {
		if i >= len(got) || got[i] != w {
			return core.E(core.Conflict, "copy-differs", fmt.Sprintf("table %s is not what was copied", w.Table), "nothing was marked as moved; look at both stores, and begin again with an empty one")
		}
	}
	return nil
}

func digestOf(ctx context.Context, s *Store, tables []table) (out []TableCopy, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		for _, t := range tables {
			c, err := t.read(ctx, tx, nil)
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return nil
	})
	return out, err
}

// SameControl compares two control databases, one of each engine, table by
// table and value by value.
func SameControl(ctx context.Context, a, b *Store) ([]TableCopy, error) {
	tables, err := embedded(a, b).tables(ctx)
	if err != nil {
		return nil, err
	}
	want, err := digestOf(ctx, a, tables)
	if err != nil {
		return nil, err
	}
	return want, CompareControl(ctx, want, b, tables)
}

// EmptyControl deletes everything from a control database to which a move was
// not finished; the other store is the one that it came from.
func EmptyControl(ctx context.Context, from, to *Store) error {
	if _, here, err := to.Moved(ctx); err != nil || !here {
		return errors.Join(err, core.E(core.Conflict, "not-empty", "the store to move to holds an installation of its own", "name an empty database"))
	}
	tables, err := embedded(from, to).tables(ctx)
	if err != nil {
		return fmt.Errorf("empty the control database: %w", err)
	}
	return to.Update(ctx, func(tx *Tx) error {
		for _, t := range slices.Backward(tables) {
			if _, err := tx.tx.ExecContext(ctx, `DELETE FROM `+t.name); err != nil {
				return fmt.Errorf("empty table %s: %w", t.name, err)
			}
		}
		return nil
	})
}

// Moved is where everything was moved from this store, and when; "" when it is
// here. Arriving says that everything is being moved to it.
func (s *Store) Moved(ctx context.Context) (to string, arrivingHere bool, err error) {
	err = s.View(ctx, func(t *Tx) error {
		return t.tx.QueryRowContext(ctx, `SELECT moved_to FROM `+holder+` WHERE one = 1`).Scan(&to)
	})
	if to == arriving {
		return "", true, err
	}
	return to, false, err
}

// MarkMoved says that everything was moved to somewhere else: no server begins
// on this store any more.
func (s *Store) MarkMoved(ctx context.Context, to string, at time.Time) error {
	return s.Update(ctx, func(t *Tx) error { return t.putMoved(ctx, to, at.UnixMicro()) })
}

// MarkArriving says that everything is being moved to this store: no server
// begins on it before Arrived.
func (s *Store) MarkArriving(ctx context.Context) error {
	return s.Update(ctx, func(t *Tx) error { return t.putMoved(ctx, arriving, nil) })
}

// Arrived says that everything is here: a server may begin on this store.
func (t *Tx) Arrived(ctx context.Context) error { return t.putMoved(ctx, "", nil) }

func (t *Tx) putMoved(ctx context.Context, to string, us any) error {
	if _, err := t.tx.ExecContext(ctx, `UPDATE `+holder+` SET moved_to = ?, moved_us = ? WHERE one = 1`, to, us); err != nil {
		return fmt.Errorf("mark the store: %w", err)
	}
	return nil
}

// Name says where the store is, for people: a folder, or a database without
// who uses it.
func (s *Store) Name() string {
	if s.pg == nil {
		return "the files in " + s.dir
	}
	c := s.pg.wpool.Config().ConnConfig
	return "the PostgreSQL database " + c.Database + " on " + c.Host
}
