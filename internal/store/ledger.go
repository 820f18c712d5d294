package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

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
