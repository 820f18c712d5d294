package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Answer finds the answer that is kept of a key; false when there is none.
func (t *Tx) Answer(ctx context.Context, key [sha256.Size]byte) (telemetry.KeptAnswer, bool, error) {
	a := telemetry.KeptAnswer{Key: key}
	var subject, body []byte
	var at int64
	err := t.tx.QueryRowContext(ctx, `SELECT subject, body, answer, at_us FROM ingest_answer WHERE key = ?`, key[:]).Scan(&subject, &body, &a.Answer, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return a, false, nil
	}
	if err == nil && len(subject) > 0 {
		err = fill(a.Subject[:], subject, "subject")
	}
	if err == nil {
		err = fill(a.Body[:], body, "body")
	}
	if err != nil {
		return a, false, fmt.Errorf("read a kept answer: %w", err)
	}
	a.At = time.UnixMicro(at).UTC()
	return a, true, nil
}

// PutAnswer keeps an answer, in place of an older one of its key. The oldest of
// its subject go when there are too many; what is of a subject that is being
// erased is not kept.
func (t *Tx) PutAnswer(ctx context.Context, a telemetry.KeptAnswer) error {
	subject := []byte{}
	if !a.Subject.IsZero() {
		if gone, err := t.erased(ctx, 1, func(int) core.Subject { return a.Subject }); err != nil || gone[a.Subject] {
			return err
		}
		subject = a.Subject[:]
	}
	_, err := t.tx.ExecContext(ctx, `INSERT INTO ingest_answer (key, subject, body, answer, at_us) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (key) DO UPDATE SET subject = excluded.subject, body = excluded.body, answer = excluded.answer, at_us = excluded.at_us`,
		a.Key[:], subject, a.Body[:], a.Answer, a.At.UnixMicro())
	if err == nil {
		_, err = t.tx.ExecContext(ctx, `DELETE FROM ingest_answer WHERE subject = ? AND at_us <= (
			SELECT at_us FROM ingest_answer WHERE subject = ? ORDER BY at_us DESC LIMIT 1 OFFSET ?)`, subject, subject, telemetry.MaxAnswers)
	}
	if err != nil {
		return fmt.Errorf("keep an answer: %w", err)
	}
	return nil
}

// TrimAnswers forgets the answers given before a time, and the oldest of more
// than most.
func (t *Tx) TrimAnswers(ctx context.Context, before time.Time, most int) error {
	_, err := t.tx.ExecContext(ctx, `DELETE FROM ingest_answer WHERE at_us < ?`, before.UnixMicro())
	if err == nil {
		_, err = t.tx.ExecContext(ctx, `DELETE FROM ingest_answer WHERE at_us <= (
			SELECT at_us FROM ingest_answer ORDER BY at_us DESC LIMIT 1 OFFSET ?)`, most)
	}
	if err != nil {
		return fmt.Errorf("trim kept answers: %w", err)
	}
	return nil
}
