package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/sampling"
)

// maxPopulationBytes is more than the longest ids of the largest population take.
const maxPopulationBytes = 100 << 20

// PutSampling keeps a sampling, new or drawn.
func (t *Tx) PutSampling(ctx context.Context, s sampling.Sampling) error {
	population, err := deflate([]byte(strings.Join(s.Population, "\n")))
	if err != nil {
		return fmt.Errorf("keep sample: %w", err)
	}
	s.Population = nil
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("keep sample: %w", err)
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO assurance_sampling (id, begun_us, body, population) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET body = excluded.body, population = excluded.population`, s.ID, s.Begun.UnixMicro(), body, population)
	if err != nil {
		return fmt.Errorf("keep sample: %w", err)
	}
	return nil
}

// Samplings are all, by when they were begun, without their populations.
func (t *Tx) Samplings(ctx context.Context) (out []sampling.Sampling, err error) {
	err = each(ctx, t.tx, `SELECT body FROM assurance_sampling ORDER BY begun_us, id`, nil, func(scan scanner) error {
		var b []byte
		if err := scan(&b); err != nil {
			return err
		}
		var s sampling.Sampling
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	return out, nil
}

// Sampling is one as a whole.
func (t *Tx) Sampling(ctx context.Context, id string) (s sampling.Sampling, err error) {
	var body, population []byte
	err = t.tx.QueryRowContext(ctx, `SELECT body, population FROM assurance_sampling WHERE id = ?`, id).Scan(&body, &population)
	if errors.Is(err, sql.ErrNoRows) {
		return s, core.E(core.Unknown, "no-such-sample", "there is no such sample", "`hawser sample list` shows them")
	}
	if err != nil {
		return s, fmt.Errorf("read sample: %w", err)
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("read sample: %w", err)
	}
	if text := inflate(population, maxPopulationBytes); len(text) > 0 {
		s.Population = strings.Split(string(text), "\n")
	}
	return s, nil
}

// DeleteSampling drops one; none is no error.
func (t *Tx) DeleteSampling(ctx context.Context, id string) error {
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM assurance_sampling WHERE id = ?`, id); err != nil {
		return fmt.Errorf("drop sample: %w", err)
	}
	return nil
}
