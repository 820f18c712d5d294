package store

import (
	"context"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
)

// subjectColumns are the columns of the control database that an eraser empties
// of a subject: after an erasure it stands in none of them.
var subjectColumns = []struct{ table, column string }{
	{"ownership", "subject"},
	{"telemetry_count", "subject"},
	{"telemetry_subject", "subject"},
	{"undeclared_name", "subject"},
	{"ingest_answer", "subject"},
	{"person", "subject"},
	{"device_command", "subject"},
	{"device_session", "subject"},
	{"device_setting", "subject"},
	{"device_setting_before", "subject"},
	{"reader_subject", "subject"},
}

// SubjectTraces names the tables in which a subject still stands that its
// erasure empties (CC 4.8).
func (t *Tx) SubjectTraces(ctx context.Context, s core.Subject) ([]string, error) {
	var out []string
	for _, c := range subjectColumns {
		var n int
		err := t.tx.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM `+c.table+` WHERE `+c.column+` = ? LIMIT 1) AS found`, s[:]).Scan(&n)
		if err != nil {
			return nil, fmt.Errorf("look for a subject in %s: %w", c.table, err)
		}
		if n > 0 {
			out = append(out, c.table)
		}
	}
	return out, nil
}

// OwnersAfter are up to limit owners of devices whose pseudonyms follow one, in
// order.
func (t *Tx) OwnersAfter(ctx context.Context, after core.Subject, limit int) ([]core.Subject, error) {
	var out []core.Subject
	err := each(ctx, t.tx, `SELECT subject FROM ownership WHERE done = 1 AND subject > ? ORDER BY subject LIMIT ?`, []any{after[:], limit}, func(scan scanner) error {
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
		return nil, fmt.Errorf("list owners: %w", err)
	}
	return out, nil
}
