package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// EachStanding walks the certificates with what else is known of their keys.
func (t *Tx) EachStanding(ctx context.Context, fn func(identity.Standing) error) error {
	err := t.rows(ctx, func(row oneRow) error {
		var c identity.Standing
		var serial, spki, print []byte
		var after sql.NullInt64
		if err := row.Scan(&serial, &c.Device, &spki, &print, &c.State, &after, &c.Tied); err != nil {
			return err
		}
		c.State, c.NotAfter = shared(c.State), fromUS(after)
		if err := errors.Join(fill(c.Serial[:], serial, "serial"), fill(c.Key[:], spki, "key"), fill(c.Fingerprint[:], print, "fingerprint")); err != nil {
			return err
		}
		return fn(c)
	}, `SELECT c.serial, c.device, c.spki, c.fingerprint, c.state, c.not_after_us, coalesce(k.device, '')
		FROM certificate c LEFT JOIN device_key k ON k.spki = c.spki`)
	if err != nil {
		return fmt.Errorf("read certificates and keys: %w", err)
	}
	return nil
}

// EachCode walks the units with their codes.
func (t *Tx) EachCode(ctx context.Context, fn func(identity.CodeStanding) error) error {
	err := t.rows(ctx, func(row oneRow) error {
		var c identity.CodeStanding
		if err := row.Scan(&c.Device, &c.Code, &c.Spent, &c.Bits, &c.Door); err != nil {
			return err
		}
		return fn(c)
	}, `SELECT d.id, d.code, d.spent, coalesce(b.code_bits, 0), coalesce(b.door, '') FROM device d LEFT JOIN device_birth b ON b.device = d.id`)
	if err != nil {
		return fmt.Errorf("read enrolment codes: %w", err)
	}
	return nil
}

// CodeShared is how many units there are, and how many others have a code that
// the given one has or had.
func (t *Tx) CodeShared(ctx context.Context, id core.DeviceID) (units, others int, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM device), count(DISTINCT o.id) FROM device d JOIN device o
		ON o.id <> d.id AND (o.code = d.code OR o.code = d.spent OR o.spent = d.code OR o.spent = d.spent) WHERE d.id = ?`, id).Scan(&units, &others)
	if err != nil {
		return 0, 0, fmt.Errorf("compare enrolment codes: %w", err)
	}
	return units, others, nil
}

// UnitsOfKey is how many units have a certificate of a public key or first
// showed it.
func (t *Tx) UnitsOfKey(ctx context.Context, key core.Hash) (n int, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT device FROM certificate WHERE spki = ? UNION SELECT device FROM device_key WHERE spki = ?) AS units`,
		key[:], key[:]).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("compare public keys: %w", err)
	}
	return n, nil
}

// EachEnded walks the certificates that are over before their time. It names
// its indexes: the planner, which knows no numbers, would read the register.
func (t *Tx) EachEnded(ctx context.Context, now time.Time, fn func(identity.Ended) error) error {
	err := t.rows(ctx, func(row oneRow) error {
		var c identity.Ended
		var serial []byte
		if err := row.Scan(&serial, &c.Device, &c.Revoked, &c.Suspected); err != nil {
			return err
		}
		if err := fill(c.Serial[:], serial, "serial"); err != nil {
			return err
		}
		return fn(c)
	}, `SELECT c.serial, c.device, c.state = 'revoked' OR d.revoked_us IS NOT NULL, d.suspect_us IS NOT NULL
		FROM certificate c INDEXED BY certificate_over CROSS JOIN device d ON d.id = c.device WHERE c.not_after_us > ? AND c.state IN ('revoked', 'superseded')
		UNION ALL
		SELECT c.serial, c.device, d.revoked_us IS NOT NULL, d.suspect_us IS NOT NULL
		FROM device d INDEXED BY device_revoked CROSS JOIN certificate c ON c.device = d.id WHERE d.revoked_us IS NOT NULL AND c.state NOT IN ('revoked', 'superseded')`, now.UnixMicro())
	if err != nil {
		return fmt.Errorf("read ended certificates: %w", err)
	}
	return nil
}
