package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

var _ readers.Tx = (*Tx)(nil)

// microOf is a time as a column keeps it; 0 for none.
func microOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// timeOf is the inverse of microOf.
func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// Readers are all services that were ever registered, by name.
func (t *Tx) Readers(ctx context.Context) ([]readers.Reader, error) {
	var out []readers.Reader
	err := each(ctx, t.tx, `SELECT name, added_us, revoked_us, answer_s, cursor_key FROM reader ORDER BY name`, nil, func(scan scanner) error {
		var r readers.Reader
		var added, revoked, answer int64
		var key []byte
		if err := scan(&r.Name, &added, &revoked, &answer, &key); err != nil {
			return err
		}
		r.Added, r.Revoked, r.AnswerIn = timeOf(added), timeOf(revoked), time.Duration(answer)*time.Second
		err := fill(r.Key[:], key, "cursor key")
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read services: %w", err)
	}
	return out, nil
}

// PutReader keeps a service, new or changed.
func (t *Tx) PutReader(ctx context.Context, r readers.Reader) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO reader (name, added_us, revoked_us, answer_s, cursor_key, events) VALUES (?, ?, ?, ?, ?, 0)
		ON CONFLICT (name) DO UPDATE SET added_us = excluded.added_us, revoked_us = excluded.revoked_us,
			answer_s = excluded.answer_s, cursor_key = excluded.cursor_key`,
		r.Name, microOf(r.Added), microOf(r.Revoked), int64(r.AnswerIn/time.Second), r.Key[:])
	if err != nil {
		return fmt.Errorf("keep service %s: %w", r.Name, err)
	}
	return nil
}

// ReaderCertificates are all that are kept, oldest first.
func (t *Tx) ReaderCertificates(ctx context.Context) ([]readers.Certificate, error) {
	var out []readers.Certificate
	err := each(ctx, t.tx, `SELECT number, reader, der, issued_us, not_after_us, ended_us FROM reader_certificate ORDER BY issued_us, number`, nil, func(scan scanner) error {
		var c readers.Certificate
		var number []byte
		var issued, until, ended int64
		if err := scan(&number, &c.Reader, &c.DER, &issued, &until, &ended); err != nil {
			return err
		}
		c.Issued, c.NotAfter, c.Ended = timeOf(issued), timeOf(until), timeOf(ended)
		err := fill(c.Number[:], number, "certificate number")
		out = append(out, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read certificates of services: %w", err)
	}
	return out, nil
}

// PutReaderCertificate keeps a certificate, new or ended.
func (t *Tx) PutReaderCertificate(ctx context.Context, c readers.Certificate) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO reader_certificate (number, reader, der, issued_us, not_after_us, ended_us) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (number) DO UPDATE SET ended_us = excluded.ended_us`,
		c.Number[:], c.Reader, c.DER, microOf(c.Issued), microOf(c.NotAfter), microOf(c.Ended))
	if err != nil {
		return fmt.Errorf("keep a certificate of service %s: %w", c.Reader, err)
	}
	return nil
}

// DropReaderCertificates forgets those that ran out before a time.
func (t *Tx) DropReaderCertificates(ctx context.Context, before time.Time) error {
	_, err := t.tx.ExecContext(ctx, `DELETE FROM reader_certificate WHERE not_after_us < ?`, before.UnixMicro())
	if err != nil {
		return fmt.Errorf("forget certificates of services: %w", err)
	}
	return nil
}

// ReaderAliases are those that a service knows of some subjects.
func (t *Tx) ReaderAliases(ctx context.Context, reader string, subjects []core.Subject) (map[core.Subject]core.Subject, error) {
	out := make(map[core.Subject]core.Subject, len(subjects))
	for len(subjects) > 0 {
		some := subjects[:min(len(subjects), 500)] // far below the engines' bounds
		subjects = subjects[len(some):]
		args := []any{reader}
		for i := range some {
			args = append(args, some[i][:])
		}
		err := each(ctx, t.tx, `SELECT subject, alias FROM reader_subject WHERE reader = ? AND subject IN (?`+strings.Repeat(", ?", len(some)-1)+`)`, args, func(scan scanner) error {
			var subject, alias []byte
			if err := scan(&subject, &alias); err != nil {
				return err
			}
			var s, a core.Subject
			if err := fill(s[:], subject, "subject"); err != nil {
				return err
			}
			err := fill(a[:], alias, "alias")
			out[s] = a
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read what service %s knows subjects by: %w", reader, err)
		}
	}
	return out, nil
}

// AddReaderAlias keeps a new one, unless the subject is erased or about to be.
func (t *Tx) AddReaderAlias(ctx context.Context, reader string, a readers.Alias) (bool, error) {
	gone, err := t.erased(ctx, 1, func(int) core.Subject { return a.Subject })
	if err != nil || gone[a.Subject] {
		return false, err
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO reader_subject (reader, subject, alias, product, since_us) VALUES (?, ?, ?, ?, ?)`,
		reader, a.Subject[:], a.Alias[:], string(a.Product), microOf(a.Since))
	if err != nil {
		return false, fmt.Errorf("keep what service %s knows a subject by: %w", reader, err)
	}
	return true, nil
}

// AliasesOf are what services know a subject by.
func (t *Tx) AliasesOf(ctx context.Context, subject core.Subject) (map[string]readers.Alias, error) {
	out := map[string]readers.Alias{}
	err := each(ctx, t.tx, `SELECT reader, alias, product, since_us FROM reader_subject WHERE subject = ?`, []any{subject[:]}, func(scan scanner) error {
		a := readers.Alias{Subject: subject}
		var reader string
		var alias []byte
		var since int64
		if err := scan(&reader, &alias, &a.Product, &since); err != nil {
			return err
		}
		a.Since = timeOf(since)
		err := fill(a.Alias[:], alias, "alias")
		out[reader] = a
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what services know a subject by: %w", err)
	}
	return out, nil
}

// ForgetAliases drops what services know a subject by.
func (t *Tx) ForgetAliases(ctx context.Context, subject core.Subject) error {
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM reader_subject WHERE subject = ?`, subject[:]); err != nil {
		return fmt.Errorf("forget what services know a subject by: %w", err)
	}
	return nil
}

// CountAliases is how many subjects of a product a service has readings of.
func (t *Tx) CountAliases(ctx context.Context, reader string, product core.ProductID) (n int, err error) {
	err = t.tx.QueryRowContext(ctx, `SELECT count(*) FROM reader_subject WHERE reader = ? AND product = ?`, reader, string(product)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the subjects that service %s knows: %w", reader, err)
	}
	return n, nil
}

// ReaderProducts are those of which a service was given something.
func (t *Tx) ReaderProducts(ctx context.Context, reader string) ([]core.ProductID, error) {
	var out []core.ProductID
	err := each(ctx, t.tx, `SELECT product FROM reader_subject WHERE reader = ? UNION SELECT product FROM reader_epoch WHERE reader = ?
		UNION SELECT product FROM reader_event WHERE reader = ? ORDER BY product`, []any{reader, reader, reader}, func(scan scanner) error {
		var p core.ProductID
		err := scan(&p)
		out = append(out, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the products of service %s: %w", reader, err)
	}
	return out, nil
}

// AddReaderEpochs notes of which epochs a service gets readings.
func (t *Tx) AddReaderEpochs(ctx context.Context, reader string, product core.ProductID, es []core.Epoch) error {
	for _, e := range es {
		k := keyOf(e)
		_, err := t.tx.ExecContext(ctx, `INSERT INTO reader_epoch (reader, product, keep_s, start_s, length_s) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (reader, product, keep_s, start_s) DO NOTHING`, reader, string(product), k.keep, k.start, int64(e.Length/time.Second))
		if err != nil {
			return fmt.Errorf("note an epoch of service %s: %w", reader, err)
		}
	}
	return nil
}

const readerSessions = `SELECT reader, product, session, opened_us, readings, gaps FROM reader_session`

func readReaderSession(scan scanner) (readers.Session, error) {
	var x readers.Session
	var opened int64
	err := scan(&x.Reader, &x.Product, &x.Name, &opened, &x.Readings, &x.Gaps)
	x.Opened = timeOf(opened)
	return x, err
}

func (t *Tx) readerSessions(ctx context.Context, where string, args ...any) ([]readers.Session, error) {
	var out []readers.Session
	err := each(ctx, t.tx, readerSessions+where+` ORDER BY reader, product`, args, func(scan scanner) error {
		x, err := readReaderSession(scan)
		out = append(out, x)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read sessions of services: %w", err)
	}
	return out, nil
}

// ReaderSession is the open one of a service and product; false when there is none.
func (t *Tx) ReaderSession(ctx context.Context, reader string, product core.ProductID) (readers.Session, bool, error) {
	all, err := t.readerSessions(ctx, ` WHERE reader = ? AND product = ?`, reader, string(product))
	if err != nil || len(all) == 0 {
		return readers.Session{}, false, err
	}
	return all[0], true, nil
}

// ReaderSessions are all open ones.
func (t *Tx) ReaderSessions(ctx context.Context) ([]readers.Session, error) {
	return t.readerSessions(ctx, "")
}

// PutReaderSession keeps the session of its service and product.
func (t *Tx) PutReaderSession(ctx context.Context, x readers.Session) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO reader_session (reader, product, session, opened_us, readings, gaps) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (reader, product) DO UPDATE SET session = excluded.session, opened_us = excluded.opened_us,
			readings = excluded.readings, gaps = excluded.gaps`,
		x.Reader, string(x.Product), x.Name, microOf(x.Opened), int64(x.Readings), int64(x.Gaps))
	if err != nil {
		return fmt.Errorf("keep the session of service %s: %w", x.Reader, err)
	}
	return nil
}

// DropReaderSession forgets the session of a service and product.
func (t *Tx) DropReaderSession(ctx context.Context, reader string, product core.ProductID) error {
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM reader_session WHERE reader = ? AND product = ?`, reader, string(product)); err != nil {
		return fmt.Errorf("forget the session of service %s: %w", reader, err)
	}
	return nil
}

// PutSeen notes how far a service has come.
func (t *Tx) PutSeen(ctx context.Context, x readers.Seen) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO reader_position (reader, product, cursor, made_us, seen_us) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (reader, product) DO UPDATE SET cursor = excluded.cursor, made_us = excluded.made_us, seen_us = excluded.seen_us`,
		x.Reader, string(x.Product), x.Cursor, microOf(x.Made), microOf(x.At))
	if err != nil {
		return fmt.Errorf("note how far service %s has come: %w", x.Reader, err)
	}
	return nil
}

// SeenBy is how far a service has come, by product.
func (t *Tx) SeenBy(ctx context.Context, reader string) ([]readers.Seen, error) {
	var out []readers.Seen
	err := each(ctx, t.tx, `SELECT product, cursor, made_us, seen_us FROM reader_position WHERE reader = ? ORDER BY product`, []any{reader}, func(scan scanner) error {
		x := readers.Seen{Reader: reader}
		var made, seen int64
		err := scan(&x.Product, &x.Cursor, &made, &seen)
		x.Made, x.At = timeOf(made), timeOf(seen)
		out = append(out, x)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read how far service %s has come: %w", reader, err)
	}
	return out, nil
}
