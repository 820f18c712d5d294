package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hawser-iot/hawser/internal/gate"
)

var _ gate.Tx = (*Tx)(nil)

// GateClock is the time that was put last.
func (t *Tx) GateClock(ctx context.Context) (gate.Clock, error) {
	var c gate.Clock
	var at, machine sql.NullInt64
	var check []byte
	err := t.tx.QueryRowContext(ctx, `SELECT gate_us, machine_us, key_check FROM gate_clock WHERE one = 1`).Scan(&at, &machine, &check)
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read the gate's clock: %w", err)
	}
	c.Gate, c.Machine = fromUS(at), fromUS(machine)
	return c, fill(c.Check[:], check, "check of the gate's key")
}

// PutGateClock replaces it.
func (t *Tx) PutGateClock(ctx context.Context, c gate.Clock) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO gate_clock (one, gate_us, machine_us, key_check) VALUES (1, ?, ?, ?)
		ON CONFLICT (one) DO UPDATE SET gate_us = excluded.gate_us, machine_us = excluded.machine_us, key_check = excluded.key_check`,
		c.Gate.UnixMicro(), c.Machine.UnixMicro(), c.Check[:])
	if err != nil {
		return fmt.Errorf("write the gate's clock: %w", err)
	}
	return nil
}

// EachGateCounter walks all counters.
func (t *Tx) EachGateCounter(ctx context.Context, fn func(gate.Counter) error) error {
	err := t.rows(ctx, func(row oneRow) error {
		var c gate.Counter
		var key []byte
		var since, last, until, told, noted sql.NullInt64
		if err := row.Scan(&c.Scope, &key, &c.Wrong, &c.Refused, &since, &last, &until, &told, &noted, &c.Nets); err != nil {
			return err
		}
		c.Scope = shared(c.Scope)
		c.Since, c.Last, c.Until, c.Told, c.Noted = fromUS(since), fromUS(last), fromUS(until), fromUS(told), fromUS(noted)
		if err := fill(c.Key[:], key, "key"); err != nil {
			return err
		}
		return fn(c)
	}, `SELECT scope, key, wrong, refused, since_us, last_us, until_us, told_us, noted_us, nets FROM gate_counter`)
	if err != nil {
		return fmt.Errorf("read the gate's counters: %w", err)
	}
	return nil
}

// PutGateCounters replaces counters or makes them.
func (t *Tx) PutGateCounters(ctx context.Context, all []gate.Counter) error {
	return t.eachGate(ctx, "write the gate's counters", all, `INSERT INTO gate_counter (scope, key, wrong, refused, since_us, last_us, until_us, told_us, noted_us, nets)
		VALUES (?,?,?,?,?,?,?,?,?,?)
		ON CONFLICT (scope, key) DO UPDATE SET wrong = excluded.wrong, refused = excluded.refused, since_us = excluded.since_us, last_us = excluded.last_us,
		until_us = excluded.until_us, told_us = excluded.told_us, noted_us = excluded.noted_us, nets = excluded.nets`, func(c gate.Counter) []any {
		return []any{c.Scope, c.Key[:], c.Wrong, c.Refused, us(c.Since), us(c.Last), us(c.Until), us(c.Told), us(c.Noted), c.Nets}
	})
}

// DeleteGateCounters deletes counters by scope and key.
func (t *Tx) DeleteGateCounters(ctx context.Context, all []gate.Counter) error {
	return t.eachGate(ctx, "delete the gate's counters", all, `DELETE FROM gate_counter WHERE scope = ? AND key = ?`, func(c gate.Counter) []any {
		return []any{c.Scope, c.Key[:]}
	})
}

// eachGate runs one statement for each counter.
func (t *Tx) eachGate(ctx context.Context, what string, all []gate.Counter, query string, args func(gate.Counter) []any) error {
	if len(all) == 0 {
		return nil
	}
	st, err := t.tx.PrepareContext(ctx, query)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = st.Close() }() // the statements have run
	for _, c := range all {
		if _, err := st.ExecContext(ctx, args(c)...); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// ClearGate deletes all counters.
func (t *Tx) ClearGate(ctx context.Context) error {
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM gate_counter`); err != nil {
		return fmt.Errorf("clear the gate's counters: %w", err)
	}
	return nil
}

// GateCounters is how many are kept.
func (t *Tx) GateCounters(ctx context.Context) (int, error) {
	var n int
	if err := t.tx.QueryRowContext(ctx, `SELECT count(*) FROM gate_counter`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the gate's counters: %w", err)
	}
	return n, nil
}
