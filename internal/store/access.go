package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/seal"
)

var _ access.Tx = (*Tx)(nil)

// words and unwords are a short list as one column.
func words[T ~string](list []T) string {
	parts := make([]string, len(list))
	for i, w := range list {
		parts[i] = string(w)
	}
	return strings.Join(parts, ",")
}

func unwords[T ~string](column string) []T {
	if column == "" {
		return nil
	}
	var out []T
	for w := range strings.SplitSeq(column, ",") {
		out = append(out, T(w))
	}
	return out
}

// orNull is bytes as a column, NULL for none.
func orNull(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

const personColumns = `id, subject, state, roles, approver, approver_us, founder, details, lookup, password, totp, totp_step, invited_us, inviter_kind, inviter_id, joined_us, disabled_us, period_from_us, period_until_us`

func scanPerson(row oneRow) (access.PersonRow, error) {
	var p access.PersonRow
	var subject, details, lookup, password, totp []byte
	var roles string
	var approver, invited, joined, disabled, from, until sql.NullInt64
	err := row.Scan(&p.ID, &subject, &p.State, &roles, &p.Approver, &approver, &p.Founder, &details, &lookup, &password, &totp, &p.TOTPStep,
		&invited, &p.InvitedBy.Kind, &p.InvitedBy.ID, &joined, &disabled, &from, &until)
	if err != nil {
		return p, err
	}
	p.Roles, p.Password = unwords[access.Role](roles), string(password)
	p.Details, p.TOTP = seal.SealedOf[access.Details](details), seal.SealedOf[[]byte](totp)
	p.ApproverFrom, p.Invited, p.Joined, p.Disabled = fromUS(approver), fromUS(invited), fromUS(joined), fromUS(disabled)
	p.Period = access.Period{From: fromUS(from), Until: fromUS(until)}
	return p, errors.Join(fill(p.Subject[:], subject, "subject"), fill(p.Lookup[:], lookup, "lookup"))
}

func (t *Tx) onePerson(ctx context.Context, where string, arg any) (access.PersonRow, error) {
	p, err := scanPerson(t.tx.QueryRowContext(ctx, `SELECT `+personColumns+` FROM person WHERE `+where, arg))
	if errors.Is(err, sql.ErrNoRows) {
		return p, core.E(core.Unknown, "unknown-person", "there is no such person", "see the page People")
	}
	if err != nil {
		return p, fmt.Errorf("read person: %w", err)
	}
	return p, nil
}

// Person reads one person.
func (t *Tx) Person(ctx context.Context, id access.PersonID) (access.PersonRow, error) {
	return t.onePerson(ctx, `id = ?`, id)
}

// PersonByLookup finds a person by the keyed hash of the mail address.
func (t *Tx) PersonByLookup(ctx context.Context, lookup core.Hash) (access.PersonRow, error) {
	return t.onePerson(ctx, `lookup = ?`, lookup[:])
}

// People are all persons.
func (t *Tx) People(ctx context.Context) ([]access.PersonRow, error) {
	var out []access.PersonRow
	err := t.rows(ctx, func(row oneRow) error {
		p, err := scanPerson(row)
		out = append(out, p)
		return err
	}, `SELECT `+personColumns+` FROM person ORDER BY invited_us, id`)
	if err != nil {
		return nil, fmt.Errorf("read people: %w", err)
	}
	return out, nil
}

// InsertPerson adds a person.
func (t *Tx) InsertPerson(ctx context.Context, p access.PersonRow) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO person (`+personColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		p.ID, subjectColumn(p.Subject), p.State, words(p.Roles), number(p.Approver), us(p.ApproverFrom), number(p.Founder), orNull(p.Details.Bytes()),
		digest(p.Lookup), orNull([]byte(p.Password)), orNull(p.TOTP.Bytes()), p.TOTPStep, p.Invited.UnixMicro(), p.InvitedBy.Kind, p.InvitedBy.ID,
		us(p.Joined), us(p.Disabled), us(p.Period.From), us(p.Period.Until))
	if err != nil {
		return fmt.Errorf("add person: %w", err)
	}
	return nil
}

// UpdatePerson replaces what may change of a person.
func (t *Tx) UpdatePerson(ctx context.Context, p access.PersonRow) error {
	if !p.Lookup.IsZero() {
		other, err := t.PersonByLookup(ctx, p.Lookup)
		if err == nil && other.ID != p.ID {
			return core.E(core.Conflict, "mail-taken", "somebody here has this mail address", "use your own")
		}
		if err != nil && core.KindOf(err) != core.Unknown {
			return err
		}
	}
	r, err := t.tx.ExecContext(ctx, `UPDATE person SET state = ?, roles = ?, approver = ?, approver_us = ?, founder = ?, details = ?, lookup = ?, password = ?,
		totp = ?, totp_step = ?, joined_us = ?, disabled_us = ? WHERE id = ?`,
		p.State, words(p.Roles), number(p.Approver), us(p.ApproverFrom), number(p.Founder), orNull(p.Details.Bytes()), digest(p.Lookup),
		orNull([]byte(p.Password)), orNull(p.TOTP.Bytes()), p.TOTPStep, us(p.Joined), us(p.Disabled), p.ID)
	return one(r, err, "update person")
}

// UseTOTPStep moves the last used time step forward.
func (t *Tx) UseTOTPStep(ctx context.Context, p access.PersonID, step int64) (bool, error) {
	return t.did(ctx, "use one-time code", `UPDATE person SET totp_step = ? WHERE id = ? AND totp_step < ?`, step, p, step)
}

// did runs a statement and reports whether it changed a row.
func (t *Tx) did(ctx context.Context, what, query string, args ...any) (bool, error) {
	r, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	return n > 0, nil
}

// ForgetPerson is the eraser `person`: nothing leads from the subject to a
// person any more, and no means or session is left.
func (t *Tx) ForgetPerson(ctx context.Context, subject core.Subject) error {
	var id access.PersonID
	err := t.tx.QueryRowContext(ctx, `SELECT id FROM person WHERE subject = ?`, subject[:]).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("forget person: %w", err)
	}
	for _, q := range []string{
		`DELETE FROM passkey WHERE person = ?`,
		`DELETE FROM recovery_code WHERE person = ?`,
		`DELETE FROM person_session WHERE person = ?`,
		`DELETE FROM person_notice WHERE person = ?`,
		`DELETE FROM person_refusal WHERE person = ?`,
		`UPDATE setup_link SET until_us = made_us WHERE person = ? AND used_us IS NULL`,
		`UPDATE person SET subject = NULL, details = NULL, lookup = NULL, password = NULL, totp = NULL, state = 'disabled',
			disabled_us = coalesce(disabled_us, joined_us, invited_us) WHERE id = ?`,
	} {
		if _, err := t.tx.ExecContext(ctx, q, id); err != nil {
			return fmt.Errorf("forget person: %w", err)
		}
	}
	return nil
}

const passkeyColumns = `id, person, public, count, flags, aaguid, transports, label, added_us, used_us, disabled_us`

// Passkeys are a person's, oldest first.
func (t *Tx) Passkeys(ctx context.Context, p access.PersonID) ([]access.PasskeyRow, error) {
	var out []access.PasskeyRow
	err := t.rows(ctx, func(row oneRow) error {
		var k access.PasskeyRow
		var label []byte
		var transports string
		var added, used, disabled sql.NullInt64
		if err := row.Scan(&k.ID, &k.Person, &k.Public, &k.Count, &k.Flags, &k.AAGUID, &transports, &label, &added, &used, &disabled); err != nil {
			return err
		}
		k.Transports, k.Label = unwords[string](transports), seal.SealedOf[string](label)
		k.Added, k.Used, k.Disabled = fromUS(added), fromUS(used), fromUS(disabled)
		out = append(out, k)
		return nil
	}, `SELECT `+passkeyColumns+` FROM passkey WHERE person = ? ORDER BY added_us, id`, p)
	if err != nil {
		return nil, fmt.Errorf("read passkeys: %w", err)
	}
	return out, nil
}

// InsertPasskey keeps a new passkey.
func (t *Tx) InsertPasskey(ctx context.Context, k access.PasskeyRow) error {
	fresh, err := t.did(ctx, "keep passkey", `INSERT INTO passkey (`+passkeyColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING`,
		k.ID, k.Person, k.Public, k.Count, k.Flags, orNull(k.AAGUID), words(k.Transports), k.Label.Bytes(), k.Added.UnixMicro(), us(k.Used), us(k.Disabled))
	if err != nil {
		return err
	}
	if !fresh {
		return core.E(core.Conflict, "passkey-exists", "this passkey is known here already", "make a new one")
	}
	return nil
}

// UpdatePasskey writes what a use of a passkey changes.
func (t *Tx) UpdatePasskey(ctx context.Context, k access.PasskeyRow) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE passkey SET count = ?, flags = ?, label = ?, used_us = ?, disabled_us = ? WHERE id = ?`,
		k.Count, k.Flags, k.Label.Bytes(), us(k.Used), us(k.Disabled), k.ID)
	return one(r, err, "update passkey")
}

// DeletePasskey removes one passkey of a person.
func (t *Tx) DeletePasskey(ctx context.Context, p access.PersonID, id []byte) error {
	r, err := t.tx.ExecContext(ctx, `DELETE FROM passkey WHERE person = ? AND id = ?`, p, id)
	return one(r, err, "remove passkey")
}

const linkColumns = `token, person, made_us, until_us, used_us, replays`

// InsertLink keeps a new set-up link.
func (t *Tx) InsertLink(ctx context.Context, l access.LinkRow) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO setup_link (`+linkColumns+`) VALUES (?,?,?,?,?,?)`,
		l.Token[:], l.Person, l.Made.UnixMicro(), l.Until.UnixMicro(), us(l.Used), l.Replays)
	if err != nil {
		return fmt.Errorf("keep set-up link: %w", err)
	}
	return nil
}

func (t *Tx) oneLink(ctx context.Context, where string, arg any) (access.LinkRow, error) {
	var l access.LinkRow
	var token []byte
	var made, until, used sql.NullInt64
	err := t.tx.QueryRowContext(ctx, `SELECT `+linkColumns+` FROM setup_link WHERE `+where, arg).Scan(&token, &l.Person, &made, &until, &used, &l.Replays)
	if errors.Is(err, sql.ErrNoRows) {
		return l, core.E(core.Unknown, "unknown-link", "there is no such link", "")
	}
	if err != nil {
		return l, fmt.Errorf("read set-up link: %w", err)
	}
	l.Made, l.Until, l.Used = fromUS(made), fromUS(until), fromUS(used)
	return l, fill(l.Token[:], token, "token")
}

// Link finds a set-up link.
func (t *Tx) Link(ctx context.Context, token core.Hash) (access.LinkRow, error) {
	return t.oneLink(ctx, `token = ?`, token[:])
}

// LinkOf is a person's newest link.
func (t *Tx) LinkOf(ctx context.Context, p access.PersonID) (access.LinkRow, error) {
	return t.oneLink(ctx, `person = ? ORDER BY made_us DESC LIMIT 1`, p)
}

// UpdateLink writes the use of a link.
func (t *Tx) UpdateLink(ctx context.Context, l access.LinkRow) error {
	r, err := t.tx.ExecContext(ctx, `UPDATE setup_link SET until_us = ?, used_us = ?, replays = ? WHERE token = ?`, l.Until.UnixMicro(), us(l.Used), l.Replays, l.Token[:])
	return one(r, err, "update set-up link")
}

// ReplaceRecovery replaces a person's recovery codes.
func (t *Tx) ReplaceRecovery(ctx context.Context, p access.PersonID, codes []core.Hash, now time.Time) error {
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM recovery_code WHERE person = ?`, p); err != nil {
		return fmt.Errorf("drop recovery codes: %w", err)
	}
	for _, c := range codes {
		if _, err := t.tx.ExecContext(ctx, `INSERT INTO recovery_code (code, person, made_us) VALUES (?,?,?)`, c[:], p, now.UnixMicro()); err != nil {
			return fmt.Errorf("keep recovery code: %w", err)
		}
	}
	return nil
}

// SpendRecovery uses a recovery code up.
func (t *Tx) SpendRecovery(ctx context.Context, p access.PersonID, code core.Hash, now time.Time) (bool, error) {
	return t.did(ctx, "use recovery code", `UPDATE recovery_code SET used_us = ? WHERE code = ? AND person = ? AND used_us IS NULL`, now.UnixMicro(), code[:], p)
}

// RecoveryLeft counts a person's unused recovery codes.
func (t *Tx) RecoveryLeft(ctx context.Context, p access.PersonID) (n int, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT count(*) FROM recovery_code WHERE person = ? AND used_us IS NULL`, p).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count recovery codes: %w", err)
	}
	return n, nil
}

const sessionColumns = `token, person, started_us, seen_us, ends_us, passkey_us, verified_us, means, browser`

func scanSession(row oneRow) (access.SessionRow, error) {
	var s access.SessionRow
	var token, browser []byte
	var means string
	var started, seen, ends, passkey, verified sql.NullInt64
	if err := row.Scan(&token, &s.Person, &started, &seen, &ends, &passkey, &verified, &means, &browser); err != nil {
		return s, err
	}
	s.Started, s.Seen, s.Ends, s.Passkey, s.Verified = fromUS(started), fromUS(seen), fromUS(ends), fromUS(passkey), fromUS(verified)
	s.Means, s.Browser = unwords[gate.Means](means), seal.SealedOf[access.Browser](browser)
	return s, fill(s.Token[:], token, "token")
}

// InsertSession keeps a new session.
func (t *Tx) InsertSession(ctx context.Context, s access.SessionRow) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO person_session (`+sessionColumns+`) VALUES (?,?,?,?,?,?,?,?,?)`,
		s.Token[:], s.Person, s.Started.UnixMicro(), s.Seen.UnixMicro(), s.Ends.UnixMicro(), us(s.Passkey), s.Verified.UnixMicro(), words(s.Means), s.Browser.Bytes())
	if err != nil {
		return fmt.Errorf("keep session: %w", err)
	}
	return nil
}

// Session finds a session.
func (t *Tx) Session(ctx context.Context, token core.Hash) (access.SessionRow, error) {
	s, err := scanSession(t.tx.QueryRowContext(ctx, `SELECT `+sessionColumns+` FROM person_session WHERE token = ?`, token[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return s, core.E(core.Unknown, "unknown-session", "there is no such session", "")
	}
	if err != nil {
		return s, fmt.Errorf("read session: %w", err)
	}
	return s, nil
}

// TouchSession writes when a session was last seen.
func (t *Tx) TouchSession(ctx context.Context, token core.Hash, seen time.Time) error {
	_, err := t.did(ctx, "touch session", `UPDATE person_session SET seen_us = ? WHERE token = ?`, seen.UnixMicro(), token[:])
	return err
}

// DeleteSession ends a session.
func (t *Tx) DeleteSession(ctx context.Context, token core.Hash) error {
	_, err := t.did(ctx, "end session", `DELETE FROM person_session WHERE token = ?`, token[:])
	return err
}

// Sessions are a person's, newest first.
func (t *Tx) Sessions(ctx context.Context, p access.PersonID) ([]access.SessionRow, error) {
	var out []access.SessionRow
	err := t.rows(ctx, func(row oneRow) error {
		s, err := scanSession(row)
		out = append(out, s)
		return err
	}, `SELECT `+sessionColumns+` FROM person_session WHERE person = ? ORDER BY started_us DESC, token`, p)
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	return out, nil
}

// DeleteSessions ends all sessions of a person.
func (t *Tx) DeleteSessions(ctx context.Context, p access.PersonID) (int, error) {
	return t.deleted(ctx, "end sessions", `DELETE FROM person_session WHERE person = ?`, p)
}

// PruneSessions deletes sessions that ended.
func (t *Tx) PruneSessions(ctx context.Context, now, idle time.Time) (int, error) {
	return t.deleted(ctx, "prune sessions", `DELETE FROM person_session WHERE ends_us <= ? OR seen_us <= ?`, now.UnixMicro(), idle.UnixMicro())
}

func (t *Tx) deleted(ctx context.Context, what, query string, args ...any) (int, error) {
	r, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return int(n), nil
}

// InsertNotice keeps something that a person is to be told.
func (t *Tx) InsertNotice(ctx context.Context, n access.NoticeRow) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO person_notice (person, kind, about, at_us) VALUES (?,?,?,?)`, n.Person, n.Kind, n.About, n.At.UnixMicro())
	if err != nil {
		return fmt.Errorf("keep notice: %w", err)
	}
	return nil
}

// Notices are a person's newest.
func (t *Tx) Notices(ctx context.Context, p access.PersonID, limit int) ([]access.NoticeRow, error) {
	var out []access.NoticeRow
	err := t.rows(ctx, func(row oneRow) error {
		n := access.NoticeRow{Person: p}
		var at, seen sql.NullInt64
		if err := row.Scan(&n.ID, &n.Kind, &n.About, &at, &seen); err != nil {
			return err
		}
		n.At, n.Seen = fromUS(at), fromUS(seen)
		out = append(out, n)
		return nil
	}, `SELECT id, kind, about, at_us, seen_us FROM person_notice WHERE person = ? ORDER BY id DESC LIMIT ?`, p, limit)
	if err != nil {
		return nil, fmt.Errorf("read notices: %w", err)
	}
	return out, nil
}

// SeeNotices marks notices as seen.
func (t *Tx) SeeNotices(ctx context.Context, p access.PersonID, upTo int64, now time.Time) error {
	_, err := t.did(ctx, "see notices", `UPDATE person_notice SET seen_us = ? WHERE person = ? AND id <= ? AND seen_us IS NULL`, now.UnixMicro(), p, upTo)
	return err
}

// CountRefusals adds to the refused sign-ins of a person.
func (t *Tx) CountRefusals(ctx context.Context, r access.RefusalRow) error {
	_, err := t.did(ctx, "count refusals", `INSERT INTO person_refusal (person, hour_s, n) SELECT id, ?, ? FROM person WHERE id = ?
		ON CONFLICT (person, hour_s) DO UPDATE SET n = person_refusal.n + excluded.n`, r.Hour.Unix(), r.Count, r.Person)
	return err
}

// TakeRefusals gives and deletes the counts of hours that are over.
func (t *Tx) TakeRefusals(ctx context.Context, before time.Time) ([]access.RefusalRow, error) {
	var out []access.RefusalRow
	err := t.rows(ctx, func(row oneRow) error {
		var r access.RefusalRow
		var hour int64
		if err := row.Scan(&r.Person, &hour, &r.Count); err != nil {
			return err
		}
		r.Hour = time.Unix(hour, 0).UTC()
		out = append(out, r)
		return nil
	}, `SELECT person, hour_s, n FROM person_refusal WHERE hour_s < ? ORDER BY hour_s, person`, before.Unix())
	if err != nil {
		return nil, fmt.Errorf("read refusals: %w", err)
	}
	if _, err := t.deleted(ctx, "drop refusals", `DELETE FROM person_refusal WHERE hour_s < ?`, before.Unix()); err != nil {
		return nil, err
	}
	return out, nil
}
