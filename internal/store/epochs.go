package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const projectorReader = "projector"

// ProjectorMark is how far the projector has come; zero before the first.
func (t *Tx) ProjectorMark(ctx context.Context) (telemetry.Mark, error) {
	var m telemetry.Mark
	var seq int64
	err := t.tx.QueryRowContext(ctx, `SELECT journal, seq FROM telemetry_mark WHERE reader = ?`, projectorReader).Scan(&m.Journal, &seq)
	if errors.Is(err, sql.ErrNoRows) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("read watermark of the projector: %w", err)
	}
	m.Seq = uint64(seq)
	return m, nil
}

// PutProjectorMark notes how far the projector has come.
func (t *Tx) PutProjectorMark(ctx context.Context, m telemetry.Mark) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO telemetry_mark (reader, journal, seq) VALUES (?, ?, ?)
		ON CONFLICT (reader) DO UPDATE SET journal = excluded.journal, seq = excluded.seq`, projectorReader, m.Journal, int64(m.Seq))
	if err != nil {
		return fmt.Errorf("write watermark of the projector: %w", err)
	}
	return nil
}

// PutEpochHead notes how far a live epoch has come, and the epoch itself when
// it is new. One that is ending or has ended stays as it is.
func (t *Tx) PutEpochHead(ctx context.Context, e core.Epoch, h telemetry.Head, at time.Time) error {
	k := keyOf(e)
	_, err := t.tx.ExecContext(ctx, `INSERT INTO telemetry_epoch
			(keep_s, start_s, length_s, state, batches, rows, wrong_clock, chain, late_counted, detail, changed_us)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, '', ?)
		ON CONFLICT (keep_s, start_s) DO UPDATE SET batches = excluded.batches, rows = excluded.rows,
			wrong_clock = excluded.wrong_clock, chain = excluded.chain
		WHERE telemetry_epoch.state = ?`,
		k.keep, k.start, int64(e.Length/time.Second), string(telemetry.EpochLive),
		int64(h.Batches), int64(h.Rows), int64(h.WrongClock), h.Chain[:], at.UnixMicro(), string(telemetry.EpochLive))
	if err != nil {
		return fmt.Errorf("write head of epoch %s: %w", e, err)
	}
	return nil
}

// PutEpochState moves an epoch to another state, and notes the epoch itself
// when it is new.
func (t *Tx) PutEpochState(ctx context.Context, e core.Epoch, s telemetry.EpochState, detail string, at time.Time) error {
	k := keyOf(e)
	chain := telemetry.FirstChain(e)
	_, err := t.tx.ExecContext(ctx, `INSERT INTO telemetry_epoch
			(keep_s, start_s, length_s, state, batches, rows, wrong_clock, chain, late_counted, detail, changed_us)
			VALUES (?, ?, ?, ?, 0, 0, 0, ?, 0, ?, ?)
		ON CONFLICT (keep_s, start_s) DO UPDATE SET state = excluded.state, detail = excluded.detail, changed_us = excluded.changed_us`,
		k.keep, k.start, int64(e.Length/time.Second), string(s), chain[:], detail, at.UnixMicro())
	if err != nil {
		return fmt.Errorf("write state of epoch %s: %w", e, err)
	}
	return nil
}

// PutLateCounted notes that rows of the late lane up to id are counted.
func (t *Tx) PutLateCounted(ctx context.Context, e core.Epoch, id uint64) error {
	k := keyOf(e)
	_, err := t.tx.ExecContext(ctx, `UPDATE telemetry_epoch SET late_counted = ? WHERE keep_s = ? AND start_s = ?`, int64(id), k.keep, k.start)
	if err != nil {
		return fmt.Errorf("write late watermark of epoch %s: %w", e, err)
	}
	return nil
}

const epochColumns = `SELECT keep_s, start_s, length_s, state, batches, rows, wrong_clock, chain, late_counted, detail, changed_us,
	COALESCE((SELECT max(last_batch) FROM telemetry_root r WHERE r.keep_s = e.keep_s AND r.start_s = e.start_s), 0) FROM telemetry_epoch e`

func readEpoch(scan scanner) (telemetry.EpochInfo, error) {
	var i telemetry.EpochInfo
	var keep, length, changed int64
	var chain []byte
	err := scan(&keep, &i.Epoch.Start, &length, &i.State, &i.Head.Batches, &i.Head.Rows, &i.Head.WrongClock, &chain,
		&i.LateCounted, &i.Detail, &changed, &i.Sealed)
	i.Epoch.Keep, i.Epoch.Length = time.Duration(keep)*time.Second, time.Duration(length)*time.Second
	i.Changed = time.UnixMicro(changed).UTC()
	copyWhole(i.Head.Chain[:], chain)
	return i, err
}

func (t *Tx) epochs(ctx context.Context, where string, args ...any) ([]telemetry.EpochInfo, error) {
	var out []telemetry.EpochInfo
	err := each(ctx, t.tx, epochColumns+" WHERE "+where+" ORDER BY keep_s, start_s", args, func(scan scanner) error {
		i, err := readEpoch(scan)
		out = append(out, i)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read epochs: %w", err)
	}
	return out, nil
}

// Epoch is one epoch; false when it is not known.
func (t *Tx) Epoch(ctx context.Context, e core.Epoch) (telemetry.EpochInfo, bool, error) {
	k := keyOf(e)
	found, err := t.epochs(ctx, "keep_s = ? AND start_s = ?", k.keep, k.start)
	if err != nil || len(found) == 0 {
		return telemetry.EpochInfo{}, false, err
	}
	return found[0], true, nil
}

// Epochs are all those in one of the given states.
func (t *Tx) Epochs(ctx context.Context, states ...telemetry.EpochState) ([]telemetry.EpochInfo, error) {
	if len(states) == 0 {
		return nil, nil
	}
	args := make([]any, len(states))
	for i, s := range states {
		args[i] = string(s)
	}
	return t.epochs(ctx, "state IN (?"+strings.Repeat(", ?", len(states)-1)+")", args...)
}

// ForgetEpochs drops what is known of epochs that ended before a time.
func (t *Tx) ForgetEpochs(ctx context.Context, endedBefore time.Time) (int64, error) {
	_, err := t.tx.ExecContext(ctx, `DELETE FROM telemetry_root WHERE EXISTS (SELECT 1 FROM telemetry_epoch e
		WHERE e.keep_s = telemetry_root.keep_s AND e.start_s = telemetry_root.start_s AND e.state = ? AND e.changed_us < ?)`,
		string(telemetry.EpochEnded), endedBefore.UnixMicro())
	if err != nil {
		return 0, fmt.Errorf("forget roots of ended epochs: %w", err)
	}
	res, err := t.tx.ExecContext(ctx, `DELETE FROM telemetry_epoch WHERE state = ? AND changed_us < ?`,
		string(telemetry.EpochEnded), endedBefore.UnixMicro())
	if err != nil {
		return 0, fmt.Errorf("forget ended epochs: %w", err)
	}
	return res.RowsAffected()
}

// UnsealedEpochs are those with batches that no root entry covers yet.
func (t *Tx) UnsealedEpochs(ctx context.Context) ([]telemetry.EpochInfo, error) {
	return t.epochs(ctx, `state <> ? AND batches >
		COALESCE((SELECT max(last_batch) FROM telemetry_root r WHERE r.keep_s = e.keep_s AND r.start_s = e.start_s), 0)`,
		string(telemetry.EpochEnded))
}

// PutSealed writes one root entry.
func (t *Tx) PutSealed(ctx context.Context, s telemetry.Sealed) error {
	k := keyOf(s.Epoch)
	_, err := t.tx.ExecContext(ctx, `INSERT INTO telemetry_root (keep_s, start_s, last_batch, first_batch, rows, chain, sealed_us)
		VALUES (?, ?, ?, ?, ?, ?, ?)`, k.keep, k.start, int64(s.Last), int64(s.First), int64(s.Rows), s.Chain[:], s.At.UnixMicro())
	if err != nil {
		return fmt.Errorf("write root of epoch %s: %w", s.Epoch, err)
	}
	return nil
}

// SealedOf are the root entries of one epoch.
func (t *Tx) SealedOf(ctx context.Context, e core.Epoch) ([]telemetry.Sealed, error) {
	k := keyOf(e)
	var out []telemetry.Sealed
	err := each(ctx, t.tx, `SELECT last_batch, first_batch, rows, chain, sealed_us FROM telemetry_root
		WHERE keep_s = ? AND start_s = ? ORDER BY last_batch`, []any{k.keep, k.start}, func(scan scanner) error {
		s := telemetry.Sealed{Epoch: e}
		var chain []byte
		var at int64
		err := scan(&s.Last, &s.First, &s.Rows, &chain, &at)
		copyWhole(s.Chain[:], chain)
		s.At = time.UnixMicro(at).UTC()
		out = append(out, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read roots of epoch %s: %w", e, err)
	}
	return out, nil
}
