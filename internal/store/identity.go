package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
	"unique"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

var _ identity.Tx = (*Tx)(nil)

// us is a time as a column: Unix microseconds, NULL for the zero time.
func us(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func fromUS(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMicro(n.Int64).UTC()
}

// digest is a hash as a column, NULL for the zero hash.
func digest(h core.Hash) any {
	if h.IsZero() {
		return nil
	}
	return h[:]
}

// fill copies a column into an array of its very length; NULL leaves zeros.
func fill(dst, src []byte, what string) error {
	if src == nil {
		return nil
	}
	if len(src) != len(dst) {
		return fmt.Errorf("%s has %d bytes, not %d", what, len(src), len(dst))
	}
	copy(dst, src)
	return nil
}

// shared is one copy in memory of a word that many rows have.
func shared[T ~string](s T) T { return T(unique.Make(string(s)).Value()) }

type oneRow interface{ Scan(...any) error }

const deviceColumns = `id, product, unit, revision, added_us, code, code_until_us, spent, ownerships, revoked_us, suspect_us, suspicion, child`

func scanDevice(row oneRow) (identity.DeviceRow, error) {
	var d identity.DeviceRow
	var unit, code, spent []byte
	var added, until, revoked, suspect sql.NullInt64
	err := row.Scan(&d.ID, &d.Product, &unit, &d.Revision, &added, &code, &until, &spent, &d.Ownerships, &revoked, &suspect, &d.Suspicion, &d.Child)
	if err != nil {
		return d, err
	}
	d.Product = shared(d.Product)
	d.Added, d.CodeUntil, d.Revoked, d.Suspect = fromUS(added), fromUS(until), fromUS(revoked), fromUS(suspect)
	return d, errors.Join(fill(d.Unit[:], unit, "unit"), fill(d.Code[:], code, "code"), fill(d.Spent[:], spent, "spent code"))
}

// Device reads one unit of the register.
func (t *Tx) Device(ctx context.Context, id core.DeviceID) (identity.DeviceRow, error) {
	d, err := scanDevice(t.tx.QueryRowContext(ctx, `SELECT `+deviceColumns+` FROM device WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return d, core.E(core.Unknown, "unknown-device", "no such device", "see `hawser device list`")
	}
	if err != nil {
		return d, fmt.Errorf("read device: %w", err)
	}
	return d, nil
}

// InsertDevice adds a unit to the register.
func (t *Tx) InsertDevice(ctx context.Context, d identity.DeviceRow) error {
	r, err := t.tx.ExecContext(ctx, `INSERT INTO device (`+deviceColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING`,
		d.ID, d.Product, d.Unit[:], d.Revision, d.Added.UnixMicro(), digest(d.Code), us(d.CodeUntil), digest(d.Spent), d.Ownerships, us(d.Revoked), us(d.Suspect), d.Suspicion, number(d.Child))
	if err != nil {
		return fmt.Errorf("add device: %w", err)
	}
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, core.E(core.Conflict, "device-exists", "a device with this serial number is registered", "use its own code, or ask for a new one with `hawser device code`"))
	}
	return nil
}

// UpdateDevice replaces the revision before.
func (t *Tx) UpdateDevice(ctx context.Context, d identity.DeviceRow) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE device SET product = ?, revision = ?, code = ?, code_until_us = ?, spent = ?, ownerships = ?, revoked_us = ?, suspect_us = ?, suspicion = ?
		WHERE id = ? AND revision = ?`,
		d.Product, d.Revision, digest(d.Code), us(d.CodeUntil), digest(d.Spent), d.Ownerships, us(d.Revoked), us(d.Suspect), d.Suspicion, d.ID, d.Revision-1)
	return one(r, err, "update device")
}

// one turns a statement that did not change exactly one row into an error.
func one(r sql.Result, err error, what string) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n != 1 {
		return fmt.Errorf("%s: %d rows changed, want 1", what, n)
	}
	return nil
}

// DevicesAfter lists units by id.
func (t *Tx) DevicesAfter(ctx context.Context, after core.DeviceID, limit int) ([]identity.DeviceRow, error) {
	var out []identity.DeviceRow
	err := t.rows(ctx, func(row oneRow) error {
		d, err := scanDevice(row)
		out = append(out, d)
		return err
	}, `SELECT `+deviceColumns+` FROM device WHERE id > ? ORDER BY id LIMIT ?`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return out, nil
}

// rows runs a query and calls fn for each row.
func (t *Tx) rows(ctx context.Context, fn func(oneRow) error, query string, args ...any) error {
	rows, err := t.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err below has what matters
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

const certificateColumns = `serial, device, spki, fingerprint, not_before_us, not_after_us, state, door, code, issued_us, confirmed_us, ended_us, der`

func scanCertificate(row oneRow) (identity.CertificateRow, error) {
	var c identity.CertificateRow
	var serial, spki, print, code []byte
	var before, after, issued, confirmed, ended sql.NullInt64
	err := row.Scan(&serial, &c.Device, &spki, &print, &before, &after, &c.State, &c.Door, &code, &issued, &confirmed, &ended, &c.DER)
	if err != nil {
		return c, err
	}
	c.State, c.Door = shared(c.State), shared(c.Door)
	c.NotBefore, c.NotAfter, c.Issued = fromUS(before), fromUS(after), fromUS(issued)
	c.Confirmed, c.Ended = fromUS(confirmed), fromUS(ended)
	return c, errors.Join(fill(c.Serial[:], serial, "serial"), fill(c.Key[:], spki, "key"),
		fill(c.Fingerprint[:], print, "fingerprint"), fill(c.Code[:], code, "code"))
}

// Certificates are those of a device, oldest first.
func (t *Tx) Certificates(ctx context.Context, id core.DeviceID) ([]identity.CertificateRow, error) {
	var out []identity.CertificateRow
	err := t.rows(ctx, func(row oneRow) error {
		c, err := scanCertificate(row)
		out = append(out, c)
		return err
	}, `SELECT `+certificateColumns+` FROM certificate WHERE device = ? ORDER BY issued_us, serial`, id)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	return out, nil
}

// CertificateDevice is whose a certificate is or was; "" when it is not kept.
func (t *Tx) CertificateDevice(ctx context.Context, serial identity.Serial) (id core.DeviceID, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT device FROM certificate WHERE serial = ?`, serial[:]).Scan(&id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read whose a certificate is: %w", err)
	}
	return id, nil
}

// InsertCertificate keeps a new certificate.
func (t *Tx) InsertCertificate(ctx context.Context, c identity.CertificateRow) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO certificate (`+certificateColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		c.Serial[:], c.Device, c.Key[:], c.Fingerprint[:], c.NotBefore.UnixMicro(), c.NotAfter.UnixMicro(), c.State, c.Door,
		digest(c.Code), c.Issued.UnixMicro(), us(c.Confirmed), us(c.Ended), c.DER)
	if err != nil {
		return fmt.Errorf("keep certificate: %w", err)
	}
	return nil
}

// UpdateCertificate changes where a certificate is in its life.
func (t *Tx) UpdateCertificate(ctx context.Context, c identity.CertificateRow) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE certificate SET state = ?, code = ?, confirmed_us = ?, ended_us = ?, der = ? WHERE serial = ?`,
		c.State, digest(c.Code), us(c.Confirmed), us(c.Ended), c.DER, c.Serial[:])
	return one(r, err, "update certificate")
}

// PruneCertificates deletes what is over since before.
func (t *Tx) PruneCertificates(ctx context.Context, before time.Time) (int, error) {
	// One that had run out when it was replaced is kept until that is long ago.
	r, err := t.tx.ExecContext(ctx, `DELETE FROM certificate WHERE not_after_us < ? AND state <> ? AND NOT (state = ? AND ended_us > not_after_us AND ended_us > ?)`,
		before.UnixMicro(), identity.Confirmed, identity.Superseded, before.Add(-identity.KeepOverslept).UnixMicro())
	if err != nil {
		return 0, fmt.Errorf("prune certificates: %w", err)
	}
	n, err := r.RowsAffected()
	return int(n), err
}

// ClaimKey ties a public key to the first device that shows it.
func (t *Tx) ClaimKey(ctx context.Context, key core.Hash, id core.DeviceID, now time.Time) (core.DeviceID, bool, error) {
	r, err := t.tx.ExecContext(ctx, `INSERT INTO device_key (spki, device, first_us) VALUES (?, ?, ?) ON CONFLICT (spki) DO NOTHING`, key[:], id, now.UnixMicro())
	if err != nil {
		return "", false, fmt.Errorf("claim key: %w", err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return "", false, fmt.Errorf("claim key: %w", err)
	}
	if n == 1 {
		return id, true, nil
	}
	var owner core.DeviceID
	if err := t.tx.QueryRowContext(ctx, `SELECT device FROM device_key WHERE spki = ?`, key[:]).Scan(&owner); err != nil {
		return "", false, fmt.Errorf("claim key: %w", err)
	}
	return owner, false, nil
}

const ownershipColumns = `subject, device, actor_kind, actor_id, opened_us, done`

func scanOwnership(row oneRow) (identity.OwnershipRow, error) {
	var o identity.OwnershipRow
	var subject []byte
	var opened sql.NullInt64
	if err := row.Scan(&subject, &o.Device, &o.Actor.Kind, &o.Actor.ID, &opened, &o.Done); err != nil {
		return o, err
	}
	o.Opened = fromUS(opened)
	return o, fill(o.Subject[:], subject, "subject")
}

func (t *Tx) ownership(ctx context.Context, where string, arg any) (*identity.OwnershipRow, error) {
	o, err := scanOwnership(t.tx.QueryRowContext(ctx, `SELECT `+ownershipColumns+` FROM ownership WHERE `+where, arg))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ownership: %w", err)
	}
	return &o, nil
}

// Ownership is a device's present one.
func (t *Tx) Ownership(ctx context.Context, id core.DeviceID) (*identity.OwnershipRow, error) {
	return t.ownership(ctx, `device = ?`, id)
}

// OwnershipOf is the one with this subject.
func (t *Tx) OwnershipOf(ctx context.Context, s core.Subject) (*identity.OwnershipRow, error) {
	return t.ownership(ctx, `subject = ?`, s[:])
}

// InsertOwnership ties a device to a subject.
func (t *Tx) InsertOwnership(ctx context.Context, o identity.OwnershipRow) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO ownership (`+ownershipColumns+`) VALUES (?,?,?,?,?,?)`,
		o.Subject[:], o.Device, o.Actor.Kind, o.Actor.ID, o.Opened.UnixMicro(), number(o.Done))
	if err != nil {
		return fmt.Errorf("open ownership: %w", err)
	}
	return nil
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// CompleteOwnership marks an intent as done.
func (t *Tx) CompleteOwnership(ctx context.Context, s core.Subject) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE ownership SET done = 1 WHERE subject = ? AND done = 0`, s[:])
	return one(r, err, "complete ownership")
}

// DeleteOwnership unlinks device and subject.
func (t *Tx) DeleteOwnership(ctx context.Context, s core.Subject) error {
	r, err := t.tx.ExecContext(ctx, `DELETE FROM ownership WHERE subject = ?`, s[:])
	return one(r, err, "end ownership")
}

// OwnershipIntents are those that a crash left.
func (t *Tx) OwnershipIntents(ctx context.Context) ([]identity.OwnershipRow, error) {
	var out []identity.OwnershipRow
	err := t.rows(ctx, func(row oneRow) error {
		o, err := scanOwnership(row)
		out = append(out, o)
		return err
	}, `SELECT `+ownershipColumns+` FROM ownership WHERE done = 0 ORDER BY opened_us`)
	if err != nil {
		return nil, fmt.Errorf("read ownership intents: %w", err)
	}
	return out, nil
}

// EachIdentity walks all devices with what is good of their certificates.
// It reads three tables whole: it runs once, at start.
func (t *Tx) EachIdentity(ctx context.Context, now time.Time, fn func(identity.DeviceRow, []identity.CertificateRow, *identity.OwnershipRow) error) error {
	certs := map[core.DeviceID][]identity.CertificateRow{}
	err := t.rows(ctx, func(row oneRow) error {
		c, err := scanCertificate(row)
		certs[c.Device] = append(certs[c.Device], c)
		return err
	}, `SELECT `+certificateColumns+` FROM certificate
		WHERE not_after_us > ? OR state = ? OR state = ? AND ended_us > not_after_us AND ended_us > ? ORDER BY device, issued_us, serial`,
		now.UnixMicro(), identity.Confirmed, identity.Superseded, now.Add(-identity.KeepOverslept).UnixMicro())
	if err != nil {
		return fmt.Errorf("read certificates: %w", err)
	}
	owners := map[core.DeviceID]*identity.OwnershipRow{}
	err = t.rows(ctx, func(row oneRow) error {
		o, err := scanOwnership(row)
		owners[o.Device] = &o
		return err
	}, `SELECT `+ownershipColumns+` FROM ownership`)
	if err != nil {
		return fmt.Errorf("read ownerships: %w", err)
	}
	err = t.rows(ctx, func(row oneRow) error {
		d, err := scanDevice(row)
		if err != nil {
			return err
		}
		mine, own := certs[d.ID], owners[d.ID]
		for i := range mine {
			mine[i].Device = d.ID
		}
		if own != nil {
			own.Device = d.ID
		}
		return fn(d, mine, own)
	}, `SELECT `+deviceColumns+` FROM device`)
	if err != nil {
		return fmt.Errorf("read devices: %w", err)
	}
	return nil
}
