package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
)

// settingChecks hold that devices are set only as a declaration allows, that it
// is on record, and that it can be set back (CC 3.7).
func (s *server) settingChecks() []check.Check {
	x := &settingsBounded{s: s}
	return []check.Check{{
		ID: "settings.bounded", Version: 1, Rows: []string{"3.7"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 3.7
		Says: "How every device is to be set is as the ledger has it: by a role and with values that the declaration of then allows; and what it was before is kept for its time, so that it can be set back.",
		Do:   "Set it back (`hawser setting back`) or anew (`hawser setting set`), find out who writes to control.db, and look at the devices that took it.",
		Look: x.look,
		Violations: []check.Violation{
			{ID: "setting-changed", Says: "Gives a device other settings, behind the program's back.", Do: own(changeSetting)},
			{ID: "setting-slipped-in", Says: "Writes settings of a device into the database that nobody set.", Do: own(slipSetting)},
			{ID: "way-back-cut", Says: "Deletes what a setting was before, behind the program's back.", Do: own(cutWayBack)},
			{ID: "setting-bounds-loosened", Says: "Has the twin set a value without looking at the declared bounds.", Do: own(loosenSetting)},
		},
	}}
}

// turnSettings is how many devices each look goes over, in turn.
const turnSettings = 500

type settingsBounded struct {
	s *server

	mu    sync.Mutex // guards what follows
	after uint64     // the version to go on from
}

func (x *settingsBounded) look(ctx context.Context, l *check.Look) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.s
	if err := s.sequenced(ctx); err != nil {
		return err
	}
	before := s.commands.EverSet()
	var list []command.Settings
	total := 0
	err := s.store.View(ctx, func(tx *store.Tx) (err error) {
		if total, err = tx.SettingsCount(ctx); err != nil {
			return err
		}
		list, err = tx.AllSettings(ctx, x.after, turnSettings)
		return err
	})
	if err != nil {
		return err
	}
	after := s.commands.EverSet()
	l.Touch("table", "control.db: device_setting, device_setting_before")
	l.Touch("source", "ledger, records of kind "+string(command.RecordSettings))
	l.Expect("devices that were ever set, by memory; and those looked at", 1)
	l.Holds(total >= before && total <= after, "devices that were ever set", "the table has %d, memory %d", total, after)
	x.after = 0
	if len(list) == turnSettings {
		x.after = list[len(list)-1].Version
	}
	for i := range list {
		r := &list[i]
		name := "version " + strconv.FormatUint(r.Version, 10)
		l.Expect("devices that were ever set, by memory; and those looked at", 1)
		if r.Subject.IsZero() {
			l.Exclude(name, "its owner was erased; only the number is kept")
			continue
		}
		why, err := x.wrong(ctx, r)
		if errors.Is(err, seal.ErrNoKey) {
			l.Exclude(name, "its owner is being erased")
			continue
		}
		if err != nil {
			return err
		}
		l.Holds(why == "", name, "%s", why)
	}
	return nil
}

// wrong is what is wrong with the settings of a device, or nothing.
func (x *settingsBounded) wrong(ctx context.Context, r *command.Settings) (string, error) {
	e, err := x.changed(ctx, r)
	if err != nil {
		return "", err
	}
	if e == nil {
		return "the ledger has no record of this version", nil
	}
	rec := &e.Record
	if factOf(rec, "role") != r.Role || factOf(rec, "cause") != string(r.Cause) || rec.Actor != r.By || rec.Policy != r.Policy {
		return "it is not what the ledger has", nil
	}
	pol, err := x.s.decl.ByHash(ctx, rec.Policy)
	if core.KindOf(err) == core.Unknown {
		return "its declaration is none that was ever in force", nil
	}
	if err != nil {
		return "", err
	}
	if why, err := x.s.commands.Settled(r, pol, factOf(rec, "values")); why != "" || err != nil {
		return why, err
	}
	return x.back(ctx, r, pol)
}

// back is what is wrong with the way back from a version, or nothing.
func (x *settingsBounded) back(ctx context.Context, r *command.Settings, pol *declaration.Policy) (string, error) {
	var kept []command.Change
	if err := x.s.store.View(ctx, func(tx *store.Tx) (err error) { kept, err = tx.Changes(ctx, r.Device, r.Subject); return err }); err != nil {
		return "", err
	}
	has := map[string]bool{}
	for i := range kept {
		if kept[i].Version == r.Version {
			has[kept[i].Name] = true
		}
	}
	if r.Cause == command.ByOwner {
		return "", nil // what it was is the former owner's
	}
	now := x.s.opt.Now()
	for i := range pol.Settings {
		p := &pol.Settings[i]
		changed := false
		for _, name := range r.Names {
			changed = changed || name == p.Name
		}
		if changed && !has[p.Name] && now.Before(r.Changed.Add(p.Keep)) {
			return "what " + p.Name + " was before is gone: it cannot be set back", nil
		}
	}
	return "", nil
}

// changed is the record of a version, held against the tree; nil: there is none.
func (x *settingsBounded) changed(ctx context.Context, r *command.Settings) (*ledger.Entry, error) {
	version := strconv.FormatUint(r.Version, 10)
	for from := uint64(0); ; {
		found, next, err := x.s.ledger.List(ctx, ledger.Filter{Kind: command.RecordSettings, Subject: r.Subject}, from, ledger.MaxRange)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if factOf(&found[i].Record, "version") == version {
				e, err := x.s.ledger.Get(ctx, found[i].Position)
				return &e, err
			}
		}
		if next == 0 {
			return nil, nil
		}
		from = next
	}
}

// turned sets something on the twin's first device.
func (t *twin) turned(ctx context.Context, level int) (s api.DeviceSettings, err error) {
	err = t.Call(ctx, "POST", "/v1/devices/"+string(t.units[0].ID)+"/settings", api.SettingsRequest{
		Values: json.RawMessage(fmt.Sprintf(`{"level":%d}`, level)), As: "support", Reason: "a trial sets it",
	}, &s)
	return s, err
}

// turnedAnew sets another value than the present one.
func (t *twin) turnedAnew(ctx context.Context) error {
	var s api.DeviceSettings
	if err := t.Call(ctx, "GET", "/v1/devices/"+string(t.units[0].ID)+"/settings", nil, &s); err != nil {
		return err
	}
	level := 2
	if string(s.Settings[0].Value) == "2" {
		level = 3
	}
	_, err := t.turned(ctx, level)
	return err
}

func changeSetting(ctx context.Context, t *twin) (func(context.Context) error, error) {
	if err := t.turnedAnew(ctx); err != nil {
		return nil, err
	}
	d, err := t.s.devices.Device(t.units[0].ID)
	if err != nil {
		return nil, err
	}
	sealed, err := t.s.ring.SealValue(d.Subject, "settings", []byte(`{"set":{"level":0},"values":{"level":0},"salt":"AAAA"}`))
	if err != nil {
		return nil, err
	}
	var was []byte
	if err := t.Query(ctx, "control.db", `SELECT content FROM device_setting WHERE device = ?`, []any{string(d.ID)}, &was); err != nil {
		return nil, err
	}
	const set = `UPDATE device_setting SET content = ? WHERE device = ?`
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", set, was, string(d.ID)) }, t.Exec(ctx, "control.db", set, sealed, string(d.ID))
}

func slipSetting(ctx context.Context, t *twin) (func(context.Context) error, error) {
	if err := t.turnedAnew(ctx); err != nil {
		return nil, err
	}
	err := t.Exec(ctx, "control.db", `INSERT INTO device_setting (device, subject, version, policy, shape, body, content)
		SELECT ?, subject, version + 1, policy, shape, body, content FROM device_setting WHERE device = ?`, string(t.units[1].ID), string(t.units[0].ID))
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `DELETE FROM device_setting WHERE device = ?`, string(t.units[1].ID))
	}, err
}

func cutWayBack(ctx context.Context, t *twin) (func(context.Context) error, error) {
	if err := t.turnedAnew(ctx); err != nil {
		return nil, err
	}
	if err := t.Exec(ctx, "control.db", `CREATE TABLE dropped_setting AS SELECT * FROM device_setting_before`); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := t.Exec(ctx, "control.db", `INSERT INTO device_setting_before SELECT * FROM dropped_setting`); err != nil {
			return err
		}
		return t.Exec(ctx, "control.db", `DROP TABLE dropped_setting`)
	}, t.Exec(ctx, "control.db", `DELETE FROM device_setting_before`)
}

func loosenSetting(ctx context.Context, t *twin) (func(context.Context) error, error) {
	if _, err := t.turned(ctx, 600); err == nil {
		return nil, errors.New("the twin sets a value that is out of bounds")
	}
	t.s.loose.on.Store(true)
	if _, err := t.turned(ctx, 600); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		t.s.loose.on.Store(false)
		_, err := t.turned(ctx, 1)
		return err
	}, nil
}
