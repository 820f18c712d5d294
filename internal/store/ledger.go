package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// Record hands r to the ledger, in this transaction: it is evidence if and
// only if the state that it describes was committed. The entry has no index
// until the sequencer ran. It fails when r has no leaf (ledger.AppendLeaf).
func (t *Tx) Record(ctx context.Context, r core.Record) error {
	leaf, err := ledger.AppendLeaf(nil, &r)
	if err != nil {
		return err
	}
	topic, err := t.ledgerTopic(ctx, r.Kind, r.Product)
	if err != nil {
		return fmt.Errorf("record %s: %w", r.Kind, err)
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO ledger_pending (topic, subject, leaf) VALUES (?, ?, ?)`,
		topic, subjectColumn(r.Subject), leaf)
	if err != nil {
		return fmt.Errorf("record %s: %w", r.Kind, err)
	}
	return nil
}

// ledgerTopic is the number of a pair of kind and product, made when missing.
func (t *Tx) ledgerTopic(ctx context.Context, kind core.RecordKind, product core.ProductID) (int64, error) {
	const find = `SELECT id FROM ledger_topic WHERE kind = ? AND product = ?`
	var id int64
	err := t.tx.QueryRowContext(ctx, find, kind, product).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO ledger_topic (kind, product) VALUES (?, ?) ON CONFLICT (kind, product) DO NOTHING`, kind, product)
	if err != nil {
		return 0, err
	}
	err = t.tx.QueryRowContext(ctx, find, kind, product).Scan(&id)
	return id, err
}

// subjectColumn is NULL for nobody, so that the index leaves such rows out.
func subjectColumn(s core.Subject) []byte {
	if s.IsZero() {
		return nil
	}
	return s[:]
}

// LedgerOrigins are the origins in the order in which they began.
func (t *Tx) LedgerOrigins(ctx context.Context) ([]ledger.Origin, error) {
	rows, err := t.tx.QueryContext(ctx, `SELECT number, name, first, size, root, checkpoint FROM ledger_origin ORDER BY number`)
	if err != nil {
		return nil, fmt.Errorf("read ledger origins: %w", err)
	}
	defer func() { _ = rows.Close() }() // only read
	var out []ledger.Origin
	for rows.Next() {
		var o ledger.Origin
		var root []byte
		if err := rows.Scan(&o.Number, &o.Name, &o.First, &o.Size, &root, &o.Checkpoint); err != nil {
			return nil, fmt.Errorf("read ledger origins: %w", err)
		}
		copy(o.Root[:], root)
		out = append(out, o)
	}
	return out, rows.Err()
}

// AddLedgerOrigin adds an origin of size 1 and its first entry.
func (t *Tx) AddLedgerOrigin(ctx context.Context, o ledger.Origin, first core.Record) error {
	leaf, err := ledger.AppendLeaf(nil, &first)
	if err != nil {
		return err
	}
	topic, err := t.ledgerTopic(ctx, first.Kind, first.Product)
	if err != nil {
		return fmt.Errorf("add ledger origin: %w", err)
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO ledger_origin (number, name, first, size, root) VALUES (?, ?, ?, 1, ?)`,
		o.Number, o.Name, o.First, o.Root[:])
	if err != nil {
		return fmt.Errorf("add ledger origin: %w", err)
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO ledger_entry (pos, topic, subject, leaf) VALUES (?, ?, ?, ?)`,
		o.First, topic, subjectColumn(first.Subject), leaf)
	if err != nil {
		return fmt.Errorf("add ledger origin: %w", err)
	}
	return nil
}

// LedgerPending are records without an index, in order of insertion.
func (t *Tx) LedgerPending(ctx context.Context, limit int) ([]ledger.Pending, error) {
	rows, err := t.tx.QueryContext(ctx, `SELECT id, topic, subject, leaf FROM ledger_pending ORDER BY id LIMIT ?`, limit)
	if err != nil {
		return nil, fmt.Errorf("read pending ledger records: %w", err)
	}
	defer func() { _ = rows.Close() }() // only read
	var out []ledger.Pending
	for rows.Next() {
		var p ledger.Pending
		var subject []byte
		if err := rows.Scan(&p.ID, &p.Topic, &subject, &p.Leaf); err != nil {
			return nil, fmt.Errorf("read pending ledger records: %w", err)
		}
		copy(p.Subject[:], subject)
		out = append(out, p)
	}
	return out, rows.Err()
}

// MoveLedgerHead is the compare-and-set that keeps the ledger from forking.
func (t *Tx) MoveLedgerHead(ctx context.Context, old ledger.Origin, size uint64, root core.Hash) error {
	res, err := t.tx.ExecContext(ctx, `UPDATE ledger_origin SET size = ?, root = ? WHERE number = ? AND size = ? AND root = ?
		AND NOT EXISTS (SELECT 1 FROM ledger_origin later WHERE later.number > ?)`,
		size, root[:], old.Number, old.Size, old.Root[:], old.Number)
	if err != nil {
		return fmt.Errorf("move ledger head: %w", err)
	}
	return exactly(res, 1)
}

// exactly reports that a row which was seen is there no longer.
func exactly(res sql.Result, want int64) error {
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	if n != want {
		return ledger.ErrHeadMoved
	}
	return nil
}

// TakeLedgerPending turns pending rows into entries. Each row is taken by its
// own id: a row that was committed meanwhile with a smaller id stays.
func (t *Tx) TakeLedgerPending(ctx context.Context, position uint64, rows []ledger.Pending) error {
	del, err := t.tx.PrepareContext(ctx, `DELETE FROM ledger_pending WHERE id = ?`)
	if err != nil {
		return fmt.Errorf("take pending ledger records: %w", err)
	}
	defer func() { _ = del.Close() }() // the transaction decides
	ins, err := t.tx.PrepareContext(ctx, `INSERT INTO ledger_entry (pos, topic, subject, leaf) VALUES (?, ?, ?, ?)`)
	if err != nil {
		return fmt.Errorf("take pending ledger records: %w", err)
	}
	defer func() { _ = ins.Close() }() // the transaction decides
	for i, r := range rows {
		res, err := del.ExecContext(ctx, r.ID)
		if err != nil {
			return fmt.Errorf("take pending ledger record: %w", err)
		}
		if err := exactly(res, 1); err != nil {
			return err
		}
		if _, err := ins.ExecContext(ctx, position+uint64(i), r.Topic, subjectColumn(r.Subject), r.Leaf); err != nil {
			return fmt.Errorf("write ledger entry %d: %w", position+uint64(i), err)
		}
	}
	return nil
}

// LedgerTile is a stored tile, as many hashes of it as there are.
func (t *Tx) LedgerTile(ctx context.Context, origin, level int, n uint64) ([]byte, error) {
	var b []byte
	err := t.tx.QueryRowContext(ctx, `SELECT hashes FROM ledger_tile WHERE origin = ? AND level = ? AND n = ?`, origin, level, n).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, core.E(core.Unknown, "no-such-tile", "no such tile", "")
	}
	if err != nil {
		return nil, fmt.Errorf("read ledger tile %d/%d: %w", level, n, err)
	}
	return b, nil
}

// PutLedgerTiles writes tiles; a longer tile replaces a shorter one.
func (t *Tx) PutLedgerTiles(ctx context.Context, origin int, tiles []ledger.Tile) error {
	for _, tile := range tiles {
		_, err := t.tx.ExecContext(ctx, `INSERT INTO ledger_tile (origin, level, n, hashes) VALUES (?, ?, ?, ?)
			ON CONFLICT (origin, level, n) DO UPDATE SET hashes = excluded.hashes`, origin, tile.Level, tile.N, tile.Hashes)
		if err != nil {
			return fmt.Errorf("write ledger tile %d/%d: %w", tile.Level, tile.N, err)
		}
	}
	return nil
}

// PutLedgerCheckpoint keeps the last signed checkpoint of an origin.
func (t *Tx) PutLedgerCheckpoint(ctx context.Context, origin int, note []byte) error {
	if _, err := t.tx.ExecContext(ctx, `UPDATE ledger_origin SET checkpoint = ? WHERE number = ?`, note, origin); err != nil {
		return fmt.Errorf("write ledger checkpoint: %w", err)
	}
	return nil
}

// LedgerCount is how many records of a kind there are, with those that wait for
// their place.
func (t *Tx) LedgerCount(ctx context.Context, kind core.RecordKind) (int, error) {
	topics, err := t.ledgerTopics(ctx, ledger.Filter{Kind: kind})
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, topic := range topics {
		var n int
		err := t.tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM ledger_entry WHERE topic = ?) + (SELECT count(*) FROM ledger_pending WHERE topic = ?)`, topic, topic).Scan(&n)
		if err != nil {
			return 0, fmt.Errorf("count ledger entries: %w", err)
		}
		sum += n
	}
	return sum, nil
}

const selectLedgerEntry = `SELECT e.pos, k.kind, k.product, e.subject, e.leaf FROM ledger_entry e JOIN ledger_topic k ON k.id = e.topic `

// LedgerEntries are up to limit entries from a position on.
func (t *Tx) LedgerEntries(ctx context.Context, from uint64, limit int) ([]ledger.Stored, error) {
	return t.ledgerEntries(ctx, selectLedgerEntry+`WHERE e.pos >= ? ORDER BY e.pos LIMIT ?`, from, limit)
}

// LedgerFind are up to limit entries that pass f, from a position on.
func (t *Tx) LedgerFind(ctx context.Context, f ledger.Filter, from uint64, limit int) ([]ledger.Stored, error) {
	if !f.Subject.IsZero() { // few entries: the index finds them, the rest is a look at each
		return t.ledgerEntries(ctx, selectLedgerEntry+`WHERE e.subject = ? AND e.pos >= ?
			AND (k.kind = ? OR ? = '') AND (k.product = ? OR ? = '') ORDER BY e.pos LIMIT ?`,
			f.Subject[:], from, f.Kind, f.Kind, f.Product, f.Product, limit)
	}
	if f.Kind == "" && f.Product == "" {
		return t.LedgerEntries(ctx, from, limit)
	}
	// Every topic has its entries in order in the index. Taking the first few
	// of each and sorting these costs topics × limit, however long the ledger.
	topics, err := t.ledgerTopics(ctx, f)
	if err != nil {
		return nil, err
	}
	var out []ledger.Stored
	for _, topic := range topics {
		rows, err := t.ledgerEntries(ctx, selectLedgerEntry+`WHERE e.topic = ? AND e.pos >= ? ORDER BY e.pos LIMIT ?`, topic, from, limit)
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	slices.SortFunc(out, func(a, b ledger.Stored) int { return cmp.Compare(a.Position, b.Position) })
	return out[:min(limit, len(out))], nil
}

// ledgerTopics are the numbers of the topics that pass f.
func (t *Tx) ledgerTopics(ctx context.Context, f ledger.Filter) ([]int64, error) {
	rows, err := t.tx.QueryContext(ctx, `SELECT id FROM ledger_topic WHERE (kind = ? OR ? = '') AND (product = ? OR ? = '')`,
		f.Kind, f.Kind, f.Product, f.Product)
	if err != nil {
		return nil, fmt.Errorf("read ledger topics: %w", err)
	}
	defer func() { _ = rows.Close() }() // only read
	var out []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read ledger topics: %w", err)
		}
		out = append(out, id)
	}
	return out, rows.Err()
}

func (t *Tx) ledgerEntries(ctx context.Context, query string, args ...any) ([]ledger.Stored, error) {
	rows, err := t.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read ledger entries: %w", err)
	}
	defer func() { _ = rows.Close() }() // only read
	var out []ledger.Stored
	for rows.Next() {
		var s ledger.Stored
		var subject []byte
		if err := rows.Scan(&s.Position, &s.Kind, &s.Product, &subject, &s.Leaf); err != nil {
			return nil, fmt.Errorf("read ledger entries: %w", err)
		}
		copy(s.Subject[:], subject)
		out = append(out, s)
	}
	return out, rows.Err()
}
