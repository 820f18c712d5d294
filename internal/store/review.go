package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/hawser-iot/hawser/internal/declaration"
)

// PutReview keeps a review, new or decided.
func (t *Tx) PutReview(ctx context.Context, r declaration.Review) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("keep review: %w", err)
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO declaration_review (id, asked_us, canonical, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET body = excluded.body`, r.ID, r.Asked.UnixMicro(), r.Canonical, b)
	if err != nil {
		return fmt.Errorf("keep review: %w", err)
	}
	return nil
}

// Reviews are all that were ever opened, oldest first.
func (t *Tx) Reviews(ctx context.Context) (out []declaration.Review, err error) {
	err = each(ctx, t.tx, `SELECT canonical, body FROM declaration_review ORDER BY asked_us, id`, nil, func(scan scanner) error {
		var canonical, b []byte
		if err := scan(&canonical, &b); err != nil {
			return err
		}
		var r declaration.Review
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		r.Canonical, r.Hash = canonical, sha256.Sum256(canonical)
		out = append(out, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read reviews: %w", err)
	}
	return out, nil
}
