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

const legacyColumns = `id, device, kind, proof, alone, key_id, ca, not_after_us, operator, added_us, seen_us, ended_us, why`

func scanLegacy(row oneRow) (identity.LegacyRow, error) {
	var r identity.LegacyRow
	var id, proof, alone, ca []byte
	var notAfter, added, seen, ended sql.NullInt64
	if err := row.Scan(&id, &r.Device, &r.Kind, &proof, &alone, &r.KeyID, &ca, &notAfter, &r.Operator, &added, &seen, &ended, &r.Why); err != nil {
		return r, err
	}
	if len(r.KeyID) == 0 {
		r.KeyID = nil
	}
	r.Kind, r.Why = shared(r.Kind), shared(r.Why)
	r.NotAfter, r.Added, r.Seen, r.Ended = fromUS(notAfter), fromUS(added), fromUS(seen), fromUS(ended)
	return r, errors.Join(fill(r.ID[:], id, "id"), fill(r.Proof[:], proof, "proof"), fill(r.Alone[:], alone, "alone"), fill(r.CA[:], ca, "authority"))
}

func (t *Tx) legacy(ctx context.Context, where string, arg any) (*identity.LegacyRow, error) {
	r, err := scanLegacy(t.tx.QueryRowContext(ctx, `SELECT `+legacyColumns+` FROM legacy_credential WHERE `+where, arg))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read legacy credential: %w", err)
	}
	return &r, nil
}

// Legacy is the latest legacy credential of a device: the live one, if any.
func (t *Tx) Legacy(ctx context.Context, id core.DeviceID) (*identity.LegacyRow, error) {
	return t.legacy(ctx, `device = ? ORDER BY CASE WHEN ended_us IS NULL THEN 0 ELSE 1 END, added_us DESC, id LIMIT 1`, id)
}

// LegacyAlone finds a legacy credential by what no two devices may share.
func (t *Tx) LegacyAlone(ctx context.Context, alone core.Hash) (*identity.LegacyRow, error) {
	return t.legacy(ctx, `alone = ?`, alone[:])
}

// InsertLegacy keeps the legacy credential of a device.
func (t *Tx) InsertLegacy(ctx context.Context, r identity.LegacyRow) error {
	keyID := r.KeyID
	if keyID == nil {
		keyID = []byte{}
	}
	_, err := t.tx.ExecContext(ctx, `INSERT INTO legacy_credential (`+legacyColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		r.ID[:], r.Device, r.Kind, r.Proof[:], r.Alone[:], keyID, digest(r.CA), us(r.NotAfter), r.Operator, r.Added.UnixMicro(), us(r.Seen), us(r.Ended), r.Why)
	if err != nil {
		return fmt.Errorf("keep legacy credential: %w", err)
	}
	return nil
}

// UpdateLegacy notes a use or the end of a legacy credential.
func (t *Tx) UpdateLegacy(ctx context.Context, r identity.LegacyRow) error {
	x, err := t.tx.ExecContext(ctx, `UPDATE legacy_credential SET seen_us = ?, ended_us = ?, why = ? WHERE id = ?`, us(r.Seen), us(r.Ended), r.Why, r.ID[:])
	return one(x, err, "update legacy credential")
}

// EachLegacy walks all legacy credentials, oldest first.
func (t *Tx) EachLegacy(ctx context.Context, fn func(identity.LegacyRow) error) error {
	err := t.rows(ctx, func(row oneRow) error {
		r, err := scanLegacy(row)
		if err != nil {
			return err
		}
		return fn(r)
	}, `SELECT `+legacyColumns+` FROM legacy_credential ORDER BY added_us, id`)
	if err != nil {
		return fmt.Errorf("read legacy credentials: %w", err)
	}
	return nil
}

const legacyCAColumns = `id, name, der, product, reason, operator, added_us, ended_us`

// LegacyCAs are all authorities of the maker's own, by name.
func (t *Tx) LegacyCAs(ctx context.Context) ([]identity.LegacyCA, error) {
	var out []identity.LegacyCA
	err := t.rows(ctx, func(row oneRow) error {
		var c identity.LegacyCA
		var id []byte
		var added, ended sql.NullInt64
		if err := row.Scan(&id, &c.Name, &c.DER, &c.Product, &c.Reason, &c.Operator, &added, &ended); err != nil {
			return err
		}
		c.Added, c.Ended = fromUS(added), fromUS(ended)
		out = append(out, c)
		return fill(out[len(out)-1].ID[:], id, "id")
	}, `SELECT `+legacyCAColumns+` FROM legacy_ca ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read legacy authorities: %w", err)
	}
	return out, nil
}

// InsertLegacyCA adds an authority of the maker's own.
func (t *Tx) InsertLegacyCA(ctx context.Context, c identity.LegacyCA) error {
	r, err := t.tx.ExecContext(ctx, `INSERT INTO legacy_ca (`+legacyCAColumns+`) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`,
		c.ID[:], c.Name, c.DER, c.Product, c.Reason, c.Operator, c.Added.UnixMicro(), us(c.Ended))
	return taken(r, err, core.E(core.Conflict, "legacy-ca-exists", "an authority of this name, or with this certificate, is there", "`hawser legacy list PRODUCT` shows it; one authority is for one product, and one that ended is not taken again"))
}

// EndLegacyCA ends an authority of the maker's own.
func (t *Tx) EndLegacyCA(ctx context.Context, name string, at time.Time) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE legacy_ca SET ended_us = ? WHERE name = ? AND ended_us IS NULL`, at.UnixMicro(), name)
	return one(r, err, "end legacy authority")
}
