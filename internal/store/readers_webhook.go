package store

import (
	"context"
	"fmt"

	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// ReaderWebhooks are all, by service.
func (t *Tx) ReaderWebhooks(ctx context.Context) ([]readers.Webhook, error) {
	var out []readers.Webhook
	err := each(ctx, t.tx, `SELECT reader, url, set_us FROM reader_webhook ORDER BY reader`, nil, func(scan scanner) error {
		var w readers.Webhook
		var set int64
		err := scan(&w.Reader, &w.URL, &set)
		w.Set = timeOf(set)
		out = append(out, w)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read webhooks: %w", err)
	}
	return out, nil
}

// PutReaderWebhook keeps a webhook in place of an older one.
func (t *Tx) PutReaderWebhook(ctx context.Context, w readers.Webhook) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO reader_webhook (reader, url, set_us) VALUES (?, ?, ?)
		ON CONFLICT (reader) DO UPDATE SET url = excluded.url, set_us = excluded.set_us`, w.Reader, w.URL, microOf(w.Set))
	if err != nil {
		return fmt.Errorf("keep the webhook of service %s: %w", w.Reader, err)
	}
	return nil
}

// DropReaderWebhook forgets the webhook of a service.
func (t *Tx) DropReaderWebhook(ctx context.Context, reader string) error {
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM reader_webhook WHERE reader = ?`, reader); err != nil {
		return fmt.Errorf("forget the webhook of service %s: %w", reader, err)
	}
	return nil
}
