package store

import (
	"bytes"
	"compress/flate"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

// AddPending keeps observations and proofs that wait for their round.
func (t *Tx) AddPending(ctx context.Context, lines [][]byte) error {
	for _, l := range lines {
		if _, err := t.tx.ExecContext(ctx, `INSERT INTO assurance_pending (line) VALUES (?)`, l); err != nil {
			return fmt.Errorf("keep an observation: %w", err)
		}
	}
	return nil
}

// Pending are the lines that wait, in order.
func (t *Tx) Pending(ctx context.Context) (out [][]byte, err error) {
	err = each(ctx, t.tx, `SELECT line FROM assurance_pending ORDER BY id`, nil, func(scan scanner) error {
		var l []byte
		err := scan(&l)
		out = append(out, l)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read waiting observations: %w", err)
	}
	return out, nil
}

// CloseRound keeps a round and what is newest in it, and drops what waited.
func (t *Tx) CloseRound(ctx context.Context, r assurance.StoredRound, latest []assurance.Latest) error {
	body, err := deflate(r.Encoded)
	if err != nil {
		return fmt.Errorf("keep round %d: %w", r.Number, err)
	}
	if _, err := t.tx.ExecContext(ctx, `INSERT INTO assurance_round (number, closed_us, digest, ledger_from, body) VALUES (?, ?, ?, ?, ?)`,
		r.Number, r.Closed.UnixMicro(), r.Digest[:], r.From, body); err != nil {
		return fmt.Errorf("keep round %d: %w", r.Number, err)
	}
	for _, l := range latest {
		if _, err := t.tx.ExecContext(ctx, `INSERT INTO assurance_latest (key, round, line) VALUES (?, ?, ?)
			ON CONFLICT (key) DO UPDATE SET round = excluded.round, line = excluded.line`, l.Key, l.Round, l.Line); err != nil {
			return fmt.Errorf("keep the newest of round %d: %w", r.Number, err)
		}
	}
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM assurance_pending`); err != nil {
		return fmt.Errorf("drop what waited for round %d: %w", r.Number, err)
	}
	return nil
}

const selectRound = `SELECT number, closed_us, digest, ledger_from, body FROM assurance_round `

// LastRound is the newest round; core.Unknown when there is none.
func (t *Tx) LastRound(ctx context.Context) (assurance.StoredRound, error) {
	all, err := t.rounds(ctx, selectRound+`ORDER BY number DESC LIMIT 1`)
	if err == nil && len(all) == 0 {
		return assurance.StoredRound{}, core.E(core.Unknown, "no-round", "no round was closed yet", "")
	}
	if err != nil {
		return assurance.StoredRound{}, err
	}
	return all[0], nil
}

// Rounds are up to limit rounds from a number on.
func (t *Tx) Rounds(ctx context.Context, from uint64, limit int) ([]assurance.StoredRound, error) {
	return t.rounds(ctx, selectRound+`WHERE number >= ? ORDER BY number LIMIT ?`, from, limit)
}

func (t *Tx) rounds(ctx context.Context, query string, args ...any) (out []assurance.StoredRound, err error) {
	err = each(ctx, t.tx, query, args, func(scan scanner) error {
		var r assurance.StoredRound
		var closed int64
		var digest, body []byte
		if err := scan(&r.Number, &closed, &digest, &r.From, &body); err != nil {
			return err
		}
		r.Closed = time.UnixMicro(closed).UTC()
		copy(r.Digest[:], digest)
		r.Encoded = inflate(body, check.MaxRoundBytes)
		out = append(out, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read rounds: %w", err)
	}
	return out, nil
}

// RoundAt is the number of the first round that closed at or after a time.
func (t *Tx) RoundAt(ctx context.Context, at time.Time) (uint64, error) {
	var n sql.NullInt64
	err := t.tx.QueryRowContext(ctx, `SELECT min(number) FROM assurance_round WHERE closed_us >= ?`, at.UnixMicro()).Scan(&n)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("find round: %w", err)
	}
	return uint64(n.Int64), nil
}

// LatestEvidence is the newest of every key.
func (t *Tx) LatestEvidence(ctx context.Context) (out []assurance.Latest, err error) {
	err = each(ctx, t.tx, `SELECT key, round, line FROM assurance_latest ORDER BY key`, nil, func(scan scanner) error {
		var l assurance.Latest
		err := scan(&l.Key, &l.Round, &l.Line)
		out = append(out, l)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read newest evidence: %w", err)
	}
	return out, nil
}

// PutWaiver keeps a waiver, new or changed.
func (t *Tx) PutWaiver(ctx context.Context, w assurance.Waiver) error {
	b, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("keep waiver: %w", err)
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO assurance_waiver (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body`, w.ID, b)
	if err != nil {
		return fmt.Errorf("keep waiver: %w", err)
	}
	return nil
}

// Waivers are all, by id.
func (t *Tx) Waivers(ctx context.Context) (out []assurance.Waiver, err error) {
	err = each(ctx, t.tx, `SELECT body FROM assurance_waiver ORDER BY id`, nil, func(scan scanner) error {
		var b []byte
		if err := scan(&b); err != nil {
			return err
		}
		var w assurance.Waiver
		if err := json.Unmarshal(b, &w); err != nil {
			return err
		}
		out = append(out, w)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read waivers: %w", err)
	}
	return out, nil
}

func deflate(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// inflate gives what a damaged body still has: its digest then does not fit,
// which is for whoever reads it to say.
func inflate(b []byte, most int64) []byte {
	out, _ := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b)), most+1))
	return out
}
