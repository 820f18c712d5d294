package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
)

// PutCommand keeps a command, new or changed.
func (t *Tx) PutCommand(ctx context.Context, c command.Command) error {
	if gone, err := t.erased(ctx, 1, func(int) core.Subject { return c.Subject }); err != nil {
		return err
	} else if gone[c.Subject] {
		return core.E(core.Conflict, "erased", "the owner is being erased", "nothing is kept of them any more")
	}
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("keep command: %w", err)
	}
	ended := int64(0)
	if c.End != command.Open {
		ended = c.Ended.UnixMicro()
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO device_command (id, device, subject, number, expires_us, ended_us, policy, body, content, answer)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET number = excluded.number, ended_us = excluded.ended_us, body = excluded.body, answer = excluded.answer`,
		c.ID, string(c.Device), c.Subject[:], int64(c.Number), c.Expires.UnixMicro(), ended, c.Policy[:], b, c.Sealed, c.Answer)
	if err != nil {
		return fmt.Errorf("keep command: %w", err)
	}
	return nil
}

// OpenCommands are all without an end, oldest first.
func (t *Tx) OpenCommands(ctx context.Context) ([]command.Command, error) {
	return t.commands(ctx, `WHERE ended_us = 0 ORDER BY number`)
}

// Command is one; core.Unknown when there is none.
func (t *Tx) Command(ctx context.Context, id string) (command.Command, error) {
	all, err := t.commands(ctx, `WHERE id = ?`, id)
	if err == nil && len(all) == 0 {
		err = core.E(core.Unknown, "no-such-command", "there is no such command", "`hawser command list` shows them")
	}
	if err != nil {
		return command.Command{}, err
	}
	return all[0], nil
}

// Commands are up to limit of a device under a subject, newest first.
func (t *Tx) Commands(ctx context.Context, subject core.Subject, limit int) ([]command.Command, error) {
	return t.commands(ctx, `WHERE subject = ? ORDER BY number DESC LIMIT ?`, subject[:], limit)
}

// NewestCommands are up to limit of all, newest first.
func (t *Tx) NewestCommands(ctx context.Context, limit int) ([]command.Command, error) {
	return t.commands(ctx, `ORDER BY number DESC LIMIT ?`, limit)
}

// AllCommands are up to limit with numbers above one, oldest first.
func (t *Tx) AllCommands(ctx context.Context, after uint64, limit int) ([]command.Command, error) {
	return t.commands(ctx, `WHERE number > ? ORDER BY number LIMIT ?`, int64(after), limit)
}

func (t *Tx) commands(ctx context.Context, where string, args ...any) (out []command.Command, err error) {
	err = each(ctx, t.tx, `SELECT device, subject, policy, body, content, answer FROM device_command `+where, args, func(scan scanner) error {
		var device string
		var subject, policy, body, content, answer []byte
		if err := scan(&device, &subject, &policy, &body, &content, &answer); err != nil {
			return err
		}
		var c command.Command
		if err := json.Unmarshal(body, &c); err != nil {
			return err
		}
		if err := fill(c.Subject[:], subject, "subject"); err != nil {
			return err
		}
		if err := fill(c.Policy[:], policy, "policy"); err != nil {
			return err
		}
		c.Device, c.Sealed, c.Answer = core.DeviceID(device), content, answer
		out = append(out, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read commands: %w", err)
	}
	return out, nil
}

// DropCommands deletes up to limit that ended before a time.
func (t *Tx) DropCommands(ctx context.Context, endedBefore time.Time, limit int) (int, error) {
	res, err := t.tx.ExecContext(ctx, `DELETE FROM device_command WHERE id IN (SELECT id FROM device_command WHERE ended_us > 0 AND ended_us < ? LIMIT ?)`,
		endedBefore.UnixMicro(), limit)
	if err != nil {
		return 0, fmt.Errorf("drop old commands: %w", err)
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// ForgetCommands is the eraser of commands and settings.
func (t *Tx) ForgetCommands(ctx context.Context, s core.Subject) error {
	for _, table := range []string{"device_command", "device_session"} {
		if _, err := t.tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE subject = ?`, s[:]); err != nil {
			return fmt.Errorf("forget commands: %w", err)
		}
	}
	return t.forgetSettings(ctx, s)
}
