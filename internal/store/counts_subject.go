package store

import (
	"context"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// SubjectRefusals is how many messages of a subject were refused, by reason,
// in the minutes that are kept.
func (t *Tx) SubjectRefusals(ctx context.Context, s core.Subject) ([]telemetry.ReasonCount, error) {
	var out []telemetry.ReasonCount
	err := each(ctx, t.tx, `SELECT reason, sum(n) FROM telemetry_count WHERE subject = ? AND kind = ? GROUP BY reason ORDER BY reason`,
		[]any{s[:], string(telemetry.CountRefused)}, func(scan scanner) error {
			var c telemetry.ReasonCount
			if err := scan(&c.Reason, &c.N); err != nil {
				return err
			}
			out = append(out, c)
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read refusals of a subject: %w", err)
	}
	return out, nil
}
