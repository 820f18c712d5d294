package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

const birthColumns = `door, station, operator, time_us, hardware, batch, source, code_bits, salt, key_origin, spki, enrolled_us`

// births are the columns of a birth record on their way into one.
type births struct {
	door, station, operator, hardware, batch, origin sql.NullString
	at, enrolled, bits                               sql.NullInt64
	source, salt, spki                               []byte
}

func (b *births) into() []any {
	return []any{&b.door, &b.station, &b.operator, &b.at, &b.hardware, &b.batch, &b.source, &b.bits, &b.salt, &b.origin, &b.spki, &b.enrolled}
}

func (b *births) row(id core.DeviceID) (identity.BirthRow, error) {
	out := identity.BirthRow{
		Device: id, Door: shared(identity.Door(b.door.String)), Station: shared(b.station.String), Operator: shared(b.operator.String), Time: fromUS(b.at),
		Hardware: shared(b.hardware.String), Batch: shared(b.batch.String), CodeBits: int(b.bits.Int64), KeyOrigin: shared(b.origin.String), Enrolled: fromUS(b.enrolled),
	}
	return out, errors.Join(fill(out.Source[:], b.source, "source"), fill(out.Salt[:], b.salt, "salt"), fill(out.Key[:], b.spki, "key"))
}

// Birth says where a unit comes from.
func (t *Tx) Birth(ctx context.Context, id core.DeviceID) (identity.BirthRow, error) {
	var b births
	err := t.tx.QueryRowContext(ctx, `SELECT `+birthColumns+` FROM device_birth WHERE device = ?`, id).Scan(b.into()...)
	if errors.Is(err, sql.ErrNoRows) {
		return identity.BirthRow{Device: id}, core.E(core.Unknown, "unknown-device", "no such device", "see `hawser device list`")
	}
	if err != nil {
		return identity.BirthRow{Device: id}, fmt.Errorf("read birth: %w", err)
	}
	return b.row(id)
}

// PutBirth writes where a unit comes from, and completes it at its first
// handshake.
func (t *Tx) PutBirth(ctx context.Context, b identity.BirthRow) error {
	var salt any
	if b.Salt != [16]byte{} {
		salt = b.Salt[:]
	}
	_, err := t.tx.ExecContext(ctx, `INSERT INTO device_birth (device, `+birthColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)
		ON CONFLICT (device) DO UPDATE SET key_origin = excluded.key_origin, spki = excluded.spki, enrolled_us = excluded.enrolled_us`,
		b.Device, b.Door, b.Station, b.Operator, b.Time.UnixMicro(), b.Hardware, b.Batch, digest(b.Source), b.CodeBits, salt,
		b.KeyOrigin, digest(b.Key), us(b.Enrolled))
	if err != nil {
		return fmt.Errorf("write birth: %w", err)
	}
	return nil
}

const selectBirths = `SELECT d.id, d.unit, b.device IS NOT NULL, coalesce(k.device, ''), b.door, b.station, b.operator, b.time_us, b.hardware, b.batch, b.source,
	b.code_bits, b.salt, b.key_origin, b.spki, b.enrolled_us
	FROM device d LEFT JOIN device_birth b ON b.device = d.id LEFT JOIN device_key k ON k.spki = b.spki`

func scanBirth(row oneRow) (identity.BirthStanding, error) {
	var out identity.BirthStanding
	var b births
	var unit []byte
	if err := row.Scan(append([]any{&out.Device, &unit, &out.Born, &out.Tied}, b.into()...)...); err != nil {
		return out, err
	}
	var err error
	out.Row, err = b.row(out.Device)
	return out, errors.Join(err, fill(out.Unit[:], unit, "unit"))
}

// EachBirth walks the units with their births.
func (t *Tx) EachBirth(ctx context.Context, fn func(identity.BirthStanding) error) error {
	err := t.rows(ctx, func(row oneRow) error {
		b, err := scanBirth(row)
		if err != nil {
			return err
		}
		return fn(b)
	}, selectBirths)
	if err != nil {
		return fmt.Errorf("read births: %w", err)
	}
	return nil
}

// BirthOf is the birth of one unit, by its random number.
func (t *Tx) BirthOf(ctx context.Context, unit [16]byte) (identity.BirthStanding, error) {
	b, err := scanBirth(t.tx.QueryRowContext(ctx, selectBirths+` WHERE d.unit = ?`, unit[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return b, core.E(core.Unknown, "unknown-device", "no such device", "see `hawser device list`")
	}
	if err != nil {
		return b, fmt.Errorf("read birth: %w", err)
	}
	return b, nil
}
