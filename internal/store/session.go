package store

import (
	"context"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
)

// Remember keeps what sessions of devices listen to, and drops those whose
// Until is zero. Of a subject that is being erased nothing is kept.
func (t *Tx) Remember(ctx context.Context, list []command.Listening) error {
	gone, err := t.erased(ctx, len(list), func(i int) core.Subject { return list[i].Subject })
	if err != nil {
		return err
	}
	for i := range list {
		l := &list[i]
		if l.Until.IsZero() || gone[l.Subject] {
			_, err = t.tx.ExecContext(ctx, `DELETE FROM device_session WHERE device = ? AND client = ?`, string(l.Device), l.ClientID)
		} else {
			_, err = t.tx.ExecContext(ctx, `INSERT INTO device_session (device, client, subject, topics, inbox, until_us) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (device, client) DO UPDATE SET subject = excluded.subject, topics = excluded.topics, inbox = excluded.inbox, until_us = excluded.until_us`,
				string(l.Device), l.ClientID, l.Subject[:], int64(l.Topics), l.Inbox, l.Until.UnixMicro())
		}
		if err != nil {
			return fmt.Errorf("keep what a device listens to: %w", err)
		}
	}
	return nil
}

// Remembered are those whose time is not over, by device and client. The others
// are dropped.
func (t *Tx) Remembered(ctx context.Context, now time.Time) (out []command.Listening, err error) {
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM device_session WHERE until_us <= ?`, now.UnixMicro()); err != nil {
		return nil, fmt.Errorf("drop old sessions of devices: %w", err)
	}
	return t.sessions(ctx, `ORDER BY device, client`)
}

// RememberedOf are those of one device whose time is not over, by client.
func (t *Tx) RememberedOf(ctx context.Context, id core.DeviceID, now time.Time) ([]command.Listening, error) {
	return t.sessions(ctx, `WHERE device = ? AND until_us > ? ORDER BY client`, string(id), now.UnixMicro())
}

func (t *Tx) sessions(ctx context.Context, which string, args ...any) (out []command.Listening, err error) {
	err = each(ctx, t.tx, `SELECT device, client, subject, topics, inbox, until_us FROM device_session `+which, args, func(scan scanner) error {
		var l command.Listening
		var subject []byte
		var topics, until int64
		if err := scan((*string)(&l.Device), &l.ClientID, &subject, &topics, &l.Inbox, &until); err != nil {
			return err
		}
		l.Topics, l.Until = uint16(topics), time.UnixMicro(until).UTC()
		err := fill(l.Subject[:], subject, "subject")
		out = append(out, l)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what devices listen to: %w", err)
	}
	return out, nil
}
