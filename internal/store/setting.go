package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
)

// PutSettings keeps how a device is to be set, new or changed.
func (t *Tx) PutSettings(ctx context.Context, r command.Settings) error {
	if gone, err := t.erased(ctx, 1, func(int) core.Subject { return r.Subject }); err != nil {
		return err
	} else if gone[r.Subject] {
		return core.E(core.Conflict, "erased", "the owner is being erased", "nothing is kept of them any more")
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("keep settings: %w", err)
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO device_setting (device, subject, version, policy, shape, body, content, report)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (device) DO UPDATE SET subject = excluded.subject, version = excluded.version, policy = excluded.policy,
			shape = excluded.shape, body = excluded.body, content = excluded.content, report = excluded.report`,
		string(r.Device), r.Subject[:], int64(r.Version), r.Policy[:], r.Shape[:], b, r.Sealed, r.Report)
	if err != nil {
		return fmt.Errorf("keep settings: %w", err)
	}
	return nil
}

// Settings is that of a device; core.Unknown when it was never set.
func (t *Tx) Settings(ctx context.Context, id core.DeviceID) (command.Settings, error) {
	all, err := t.settings(ctx, `WHERE device = ?`, string(id))
	if err == nil && len(all) == 0 {
		err = core.E(core.Unknown, "never-set", "nothing was ever set on this device", "`hawser setting set` sets it")
	}
	if err != nil {
		return command.Settings{}, err
	}
	return all[0], nil
}

// AllSettings are up to limit with versions above one, in their order.
func (t *Tx) AllSettings(ctx context.Context, after uint64, limit int) ([]command.Settings, error) {
	return t.settings(ctx, `WHERE version > ? ORDER BY version LIMIT ?`, int64(after), limit)
}

// SettingsCount is how many devices were ever set.
func (t *Tx) SettingsCount(ctx context.Context) (n int, err error) {
	if err := t.tx.QueryRowContext(ctx, `SELECT count(*) FROM device_setting`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count settings: %w", err)
	}
	return n, nil
}

func (t *Tx) settings(ctx context.Context, where string, args ...any) (out []command.Settings, err error) {
	err = each(ctx, t.tx, `SELECT device, subject, version, policy, shape, body, content, report FROM device_setting `+where, args, func(scan scanner) error {
		var device string
		var version int64
		var subject, policy, shape, body, content, report []byte
		if err := scan(&device, &subject, &version, &policy, &shape, &body, &content, &report); err != nil {
			return err
		}
		var r command.Settings
		if err := json.Unmarshal(body, &r); err != nil {
			return err
		}
		if subject != nil {
			if err := fill(r.Subject[:], subject, "subject"); err != nil {
				return err
			}
		}
		if err := fill(r.Policy[:], policy, "policy"); err != nil {
			return err
		}
		if err := fill(r.Shape[:], shape, "shape"); err != nil {
			return err
		}
		r.Device, r.Version, r.Sealed, r.Report = core.DeviceID(device), uint64(version), content, report
		out = append(out, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return out, nil
}

// PutChanges keeps what was before a version.
func (t *Tx) PutChanges(ctx context.Context, list []command.Change) error {
	for i := range list {
		c := &list[i]
		_, err := t.tx.ExecContext(ctx, `INSERT INTO device_setting_before (device, version, name, subject, before, names, until_us, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			string(c.Device), int64(c.Version), c.Name, c.Subject[:], int64(c.Before), c.Of, c.Until.UnixMicro(), c.Sealed)
		if err != nil {
			return fmt.Errorf("keep what a setting was: %w", err)
		}
	}
	return nil
}

// Changes are all that are kept of a device under a subject, newest first.
func (t *Tx) Changes(ctx context.Context, id core.DeviceID, subject core.Subject) (out []command.Change, err error) {
	err = each(ctx, t.tx, `SELECT version, name, before, names, until_us, content FROM device_setting_before WHERE device = ? AND subject = ? ORDER BY version DESC, name`,
		[]any{string(id), subject[:]}, func(scan scanner) error {
			c := command.Change{Device: id, Subject: subject}
			var version, before, until int64
			if err := scan(&version, &c.Name, &before, &c.Of, &until, &c.Sealed); err != nil {
				return err
			}
			c.Version, c.Before, c.Until = uint64(version), uint64(before), time.UnixMicro(until).UTC()
			out = append(out, c)
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read what settings were: %w", err)
	}
	return out, nil
}

// DropChanges deletes up to limit whose time is over, and says how many.
func (t *Tx) DropChanges(ctx context.Context, now time.Time, limit int) (int, error) {
	res, err := t.tx.ExecContext(ctx, `DELETE FROM device_setting_before WHERE (device, version, name) IN
		(SELECT device, version, name FROM device_setting_before WHERE until_us <= ? LIMIT ?)`, now.UnixMicro(), limit)
	if err != nil {
		return 0, fmt.Errorf("drop what settings were: %w", err)
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// forgetSettings empties what is kept of a subject, but not the versions.
func (t *Tx) forgetSettings(ctx context.Context, s core.Subject) error {
	if _, err := t.tx.ExecContext(ctx, `UPDATE device_setting SET subject = NULL, body = '{}', content = NULL, report = NULL WHERE subject = ?`, s[:]); err != nil {
		return fmt.Errorf("forget settings: %w", err)
	}
	if _, err := t.tx.ExecContext(ctx, `DELETE FROM device_setting_before WHERE subject = ?`, s[:]); err != nil {
		return fmt.Errorf("forget what settings were: %w", err)
	}
	return nil
}
