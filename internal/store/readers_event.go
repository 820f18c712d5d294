package store

import (
	"context"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// AddReaderEvent gives e the next number of its service and keeps it.
func (t *Tx) AddReaderEvent(ctx context.Context, e *readers.Event) error {
	if _, err := t.tx.ExecContext(ctx, `UPDATE reader SET events = events + 1 WHERE name = ?`, e.Reader); err != nil {
		return fmt.Errorf("number an event of service %s: %w", e.Reader, err)
	}
	last, err := t.LastReaderEvent(ctx, e.Reader)
	if err != nil {
		return err
	}
	e.Number = last
	alias := []byte{}
	if !e.Alias.IsZero() {
		alias = e.Alias[:]
	}
	body := e.Body
	if body == nil {
		body = []byte{}
	}
	k := keyOf(e.Epoch)
	_, err = t.tx.ExecContext(ctx, `INSERT INTO reader_event (reader, number, product, id, kind, alias, keep_s, start_s, length_s, body, made_us, due_us, answered_us, held)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)`, e.Reader, int64(e.Number), string(e.Product), e.ID, string(e.Kind), alias,
		k.keep, k.start, int64(e.Epoch.Length/time.Second), body, microOf(e.At), microOf(e.Due))
	if err != nil {
		return fmt.Errorf("keep an event of service %s: %w", e.Reader, err)
	}
	return nil
}

// LastReaderEvent is the number of the last event of a service.
func (t *Tx) LastReaderEvent(ctx context.Context, reader string) (uint64, error) {
	var n int64
	if err := t.tx.QueryRowContext(ctx, `SELECT events FROM reader WHERE name = ?`, reader).Scan(&n); err != nil {
		return 0, fmt.Errorf("read the last event of service %s: %w", reader, err)
	}
	return uint64(n), nil
}

func (t *Tx) readerEvents(ctx context.Context, where string, args ...any) ([]readers.Event, error) {
	var out []readers.Event
	err := each(ctx, t.tx, `SELECT reader, number, product, id, kind, alias, keep_s, start_s, length_s, body, made_us, due_us, answered_us, held,
		receipt, signature, certificate FROM reader_event `+where, args, func(scan scanner) error {
		var e readers.Event
		var number, keep, length, made, due, answered int64
		var alias, certificate []byte
		err := scan(&e.Reader, &number, &e.Product, &e.ID, &e.Kind, &alias, &keep, &e.Epoch.Start, &length, &e.Body, &made, &due, &answered, &e.Held,
			&e.Receipt, &e.Signature, &certificate)
		if err != nil {
			return err
		}
		e.Number, e.At, e.Due, e.Answered = uint64(number), timeOf(made), timeOf(due), timeOf(answered)
		e.Epoch.Keep, e.Epoch.Length = time.Duration(keep)*time.Second, time.Duration(length)*time.Second
		if len(e.Body) == 0 {
			e.Body = nil
		}
		if len(alias) > 0 {
			if err := fill(e.Alias[:], alias, "alias"); err != nil {
				return err
			}
		}
		err = fill(e.Certificate[:], certificate, "certificate number")
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read events of services: %w", err)
	}
	return out, nil
}

func (t *Tx) readerEvent(ctx context.Context, where string, args ...any) (readers.Event, bool, error) {
	all, err := t.readerEvents(ctx, where, args...)
	if err != nil || len(all) == 0 {
		return readers.Event{}, false, err
	}
	return all[0], true, nil
}

// ReaderEvents are up to limit of a product's after a number, in order.
func (t *Tx) ReaderEvents(ctx context.Context, reader string, product core.ProductID, after uint64, limit int) ([]readers.Event, error) {
	return t.readerEvents(ctx, `WHERE reader = ? AND product = ? AND number > ? ORDER BY number LIMIT ?`, reader, string(product), int64(after), limit)
}

// ReaderEvent is one of a service by its id; false when it has none.
func (t *Tx) ReaderEvent(ctx context.Context, reader, id string) (readers.Event, bool, error) {
	return t.readerEvent(ctx, `WHERE reader = ? AND id = ?`, reader, id)
}

// ReaderEventAt is one of a service by its number; false when it has none.
func (t *Tx) ReaderEventAt(ctx context.Context, reader string, number uint64) (readers.Event, bool, error) {
	return t.readerEvent(ctx, `WHERE reader = ? AND number = ?`, reader, int64(number))
}

// AnswerReaderEvent keeps the answer to an event, if none is kept.
func (t *Tx) AnswerReaderEvent(ctx context.Context, e readers.Event) error {
	_, err := t.tx.ExecContext(ctx, `UPDATE reader_event SET answered_us = ?, held = ?, receipt = ?, signature = ?, certificate = ?
		WHERE reader = ? AND number = ? AND answered_us = 0`,
		microOf(e.Answered), int64(e.Held), e.Receipt, e.Signature, e.Certificate[:], e.Reader, int64(e.Number))
	if err != nil {
		return fmt.Errorf("keep an answer of service %s: %w", e.Reader, err)
	}
	return nil
}

// OpenReaderEvents are those that wait for an answer, oldest first.
func (t *Tx) OpenReaderEvents(ctx context.Context) ([]readers.Event, error) {
	return t.readerEvents(ctx, `WHERE due_us > 0 AND answered_us = 0 ORDER BY due_us, reader, number`)
}

// DropReaderEvents forgets what was made before a time and waits for nothing.
func (t *Tx) DropReaderEvents(ctx context.Context, before time.Time) error {
	_, err := t.tx.ExecContext(ctx, `DELETE FROM reader_event WHERE made_us < ? AND (due_us = 0 OR answered_us > 0)`, before.UnixMicro())
	if err == nil {
		_, err = t.tx.ExecContext(ctx, `DELETE FROM reader_canary WHERE changed_us < ? AND state IN ('proved', 'not-kept', 'still-held', 'unanswered')`, before.UnixMicro())
	}
	if err != nil {
		return fmt.Errorf("forget events of services: %w", err)
	}
	return nil
}

// EndedReaderEpochs are epochs of which a service has readings and that have
// ended.
func (t *Tx) EndedReaderEpochs(ctx context.Context) ([]readers.ReaderEpoch, error) {
	var out []readers.ReaderEpoch
	err := each(ctx, t.tx, `SELECT r.reader, r.product, r.keep_s, r.start_s, r.length_s FROM reader_epoch r
		LEFT JOIN telemetry_epoch e ON e.keep_s = r.keep_s AND e.start_s = r.start_s
		WHERE e.state IS NULL OR e.state = ? ORDER BY r.reader, r.product, r.start_s, r.keep_s`, []any{string(telemetry.EpochEnded)}, func(scan scanner) error {
		var x readers.ReaderEpoch
		var keep, length int64
		err := scan(&x.Reader, &x.Product, &keep, &x.Epoch.Start, &length)
		x.Epoch.Keep, x.Epoch.Length = time.Duration(keep)*time.Second, time.Duration(length)*time.Second
		out = append(out, x)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read ended epochs of services: %w", err)
	}
	return out, nil
}

// DropReaderEpoch forgets that a service has readings of an epoch.
func (t *Tx) DropReaderEpoch(ctx context.Context, x readers.ReaderEpoch) error {
	k := keyOf(x.Epoch)
	_, err := t.tx.ExecContext(ctx, `DELETE FROM reader_epoch WHERE reader = ? AND product = ? AND keep_s = ? AND start_s = ?`, x.Reader, string(x.Product), k.keep, k.start)
	if err != nil {
		return fmt.Errorf("forget an epoch of service %s: %w", x.Reader, err)
	}
	return nil
}

// PutReaderCanary keeps a canary, new or further on.
func (t *Tx) PutReaderCanary(ctx context.Context, c readers.Canary) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO reader_canary (alias, reader, product, state, event, changed_us) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (alias) DO UPDATE SET state = excluded.state, event = excluded.event, changed_us = excluded.changed_us`,
		c.Alias[:], c.Reader, string(c.Product), string(c.State), int64(c.Event), microOf(c.Changed))
	if err != nil {
		return fmt.Errorf("keep a canary of service %s: %w", c.Reader, err)
	}
	return nil
}

// ReaderCanaries are those that have not ended, and the newest that has of each
// service and product, oldest first.
func (t *Tx) ReaderCanaries(ctx context.Context) ([]readers.Canary, error) {
	type of struct {
		reader  string
		product core.ProductID
	}
	var all []readers.Canary
	newest := map[of]int{}
	err := each(ctx, t.tx, `SELECT alias, reader, product, state, event, changed_us FROM reader_canary ORDER BY changed_us, alias`, nil, func(scan scanner) error {
		var c readers.Canary
		var alias []byte
		var event, changed int64
		if err := scan(&alias, &c.Reader, &c.Product, &c.State, &event, &changed); err != nil {
			return err
		}
		c.Event, c.Changed = uint64(event), timeOf(changed)
		err := fill(c.Alias[:], alias, "alias")
		if c.State.Ended() {
			newest[of{c.Reader, c.Product}] = len(all)
		}
		all = append(all, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read canaries of services: %w", err)
	}
	var out []readers.Canary
	for i, c := range all {
		if !c.State.Ended() || newest[of{c.Reader, c.Product}] == i {
			out = append(out, c)
		}
	}
	return out, nil
}

// AnAlias is the first that a service knows of a product from one on, or the
// first of all; false when it knows none.
func (t *Tx) AnAlias(ctx context.Context, reader string, product core.ProductID, from core.Subject) (core.Subject, bool, error) {
	for _, at := range []core.Subject{from, {}} {
		var a core.Subject
		found := false
		err := each(ctx, t.tx, `SELECT alias FROM reader_subject WHERE reader = ? AND product = ? AND alias >= ? ORDER BY alias LIMIT 1`,
			[]any{reader, string(product), at[:]}, func(scan scanner) error {
				var b []byte
				if err := scan(&b); err != nil {
					return err
				}
				found = true
				return fill(a[:], b, "alias")
			})
		if err != nil || found {
			return a, found, err
		}
	}
	return core.Subject{}, false, nil
}
