package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
)

// commandChecks hold that devices are told only what a declaration allows, and
// that it is on record (CC 3.7).
func (s *server) commandChecks() []check.Check {
	x := &commandsGiven{s: s}
	return []check.Check{{
		ID: "commands.allowed", Version: 1, Rows: []string{"3.7"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 3.7
		Says: "Every command to a device, open or ended lately, was given as the ledger has it: by a role and with values that the declaration of then allows.",
		Do:   "Cancel what still waits (`hawser command cancel`), find out who writes to control.db, and look at the devices that took one.",
		Look: x.look,
		Violations: []check.Violation{
			{ID: "command-slipped-in", Says: "Writes a command to a device into the database that nobody gave.", Do: own(slipCommand)},
			{ID: "command-changed", Says: "Gives a command that waits other values, behind the program's back.", Do: own(changeCommand)},
			{ID: "command-dropped", Says: "Deletes a command that waits, behind the program's back.", Do: own(dropCommand)},
			{ID: "bounds-loosened", Says: "Has the twin give a command without looking at the declared bounds.", Do: own(loosenBounds)},
		},
	}}
}

// Commands that each look goes over: the newest, and the next ones in turn.
const (
	newCommands  = 500
	turnCommands = 500
)

type commandsGiven struct {
	s *server

	mu    sync.Mutex // guards what follows
	after uint64     // the number to go on from
}

func (x *commandsGiven) look(ctx context.Context, l *check.Look) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.s
	if err := s.sequenced(ctx); err != nil {
		return err
	}
	before := s.commands.Open()
	var opened, newest, next []command.Command
	err := s.store.View(ctx, func(tx *store.Tx) (err error) {
		if opened, err = tx.OpenCommands(ctx); err != nil {
			return err
		}
		if newest, err = tx.NewestCommands(ctx, newCommands); err != nil {
			return err
		}
		next, err = tx.AllCommands(ctx, x.after, turnCommands)
		return err
	})
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: device_command")
	l.Touch("source", "ledger, records of kind "+string(command.RecordGiven))
	// Commands come and go while this looks.
	after := s.commands.Open()
	l.Expect("commands that wait, by memory; and those looked at", 1)
	l.Holds(len(opened) >= min(before, after) && len(opened) <= max(before, after), "open commands", "the table has %d, memory %d", len(opened), after)
	x.after = 0
	if len(next) == turnCommands {
		x.after = next[len(next)-1].Number
	}
	seen := map[string]bool{}
	for _, list := range [][]command.Command{newest, next} {
		for i := range list {
			c := &list[i]
			if seen[c.ID] {
				continue
			}
			seen[c.ID] = true
			l.Expect("commands that wait, by memory; and those looked at", 1)
			why, err := x.wrong(ctx, c)
			if errors.Is(err, seal.ErrNoKey) {
				l.Exclude(c.ID, "its owner is being erased")
				continue
			}
			if err != nil {
				return err
			}
			l.Holds(why == "", fmt.Sprintf("%s %s", c.Name, c.ID), "%s", why)
		}
	}
	return nil
}

// wrong is what is wrong with a command, or nothing.
func (x *commandsGiven) wrong(ctx context.Context, c *command.Command) (string, error) {
	e, err := x.given(ctx, c)
	if err != nil {
		return "", err
	}
	if e == nil {
		return "the ledger has no record that it was given", nil
	}
	r := &e.Record
	if factOf(r, "name") != c.Name || factOf(r, "role") != c.Role || c.Seconded.IsZero() && factOf(r, "number") != strconv.FormatUint(c.Number, 10) || r.Actor != c.By || r.Policy != c.Policy || !bytes.Equal(r.Sealed, c.Sealed) {
		return "it is not what the ledger has", nil
	}
	pol, err := x.s.decl.ByHash(ctx, r.Policy)
	if core.KindOf(err) == core.Unknown {
		return "its declaration is none that was ever in force", nil
	}
	if err != nil {
		return "", err
	}
	switch err := x.s.commands.Within(c, pol); {
	case errors.Is(err, seal.ErrNoKey):
		return "", err
	case err != nil:
		return "the declaration does not allow it: " + core.ReasonOf(err), nil
	}
	return "", nil
}

// given is the record of a command, held against the tree; nil: there is none.
func (x *commandsGiven) given(ctx context.Context, c *command.Command) (*ledger.Entry, error) {
	kind := command.RecordGiven
	if c.Risky {
		kind = command.RecordAsked
	}
	for from := uint64(0); ; {
		found, next, err := x.s.ledger.List(ctx, ledger.Filter{Kind: kind, Subject: c.Subject}, from, ledger.MaxRange)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if factOf(&found[i].Record, "command") == c.ID {
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

// loose gives the declaration in force, and in a trial without some of its
// rules.
type loose struct {
	on    atomic.Bool
	calm  atomic.Bool // nothing is risky
	alone atomic.Bool // who asked may agree
}

func (x *loose) policy(decl *declaration.Service) func(context.Context, core.ProductID) (*declaration.Policy, error) {
	return func(ctx context.Context, id core.ProductID) (*declaration.Policy, error) {
		p, err := decl.Current(ctx, id)
		if err != nil || !x.on.Load() && !x.calm.Load() {
			return p, err
		}
		wide := *p
		if x.calm.Load() {
			wide.Settings = slices.Clone(p.Settings)
			for i := range wide.Settings {
				wide.Settings[i].Risky = false
			}
			return &wide, nil
		}
		wide.Commands = nil
		for _, c := range p.Commands {
			params := c.Params
			c.Params = nil
			for _, v := range params {
				v.Min, v.Max = -1e9, 1e9
				c.Params = append(c.Params, v)
			}
			wide.Commands = append(wide.Commands, c)
		}
		wide.Settings = slices.Clone(p.Settings)
		for i := range wide.Settings {
			wide.Settings[i].Min, wide.Settings[i].Max = -1e9, 1e9
		}
		return &wide, nil
	}
}

// told gives the twin's first device a command.
func (t *twin) told(ctx context.Context, seconds int) (c api.Command, err error) {
	err = t.Call(ctx, "POST", "/v1/devices/"+string(t.units[0].ID)+"/commands", api.CommandRequest{
		Name: "blink", Params: json.RawMessage(fmt.Sprintf(`{"seconds":%d}`, seconds)), As: "support", Reason: "a trial gives a command",
	}, &c)
	return c, err
}

func slipCommand(ctx context.Context, t *twin) (func(context.Context) error, error) {
	c, err := t.told(ctx, 5)
	if err != nil {
		return nil, err
	}
	const slipped = "cslippedslippedx"
	err = t.Exec(ctx, "control.db", `INSERT INTO device_command (id, device, subject, number, expires_us, ended_us, policy, body, content)
		SELECT ?, device, subject, number + 1, expires_us, 1, policy, replace(body, id, ?), content FROM device_command WHERE id = ?`, slipped, slipped, c.Command)
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `DELETE FROM device_command WHERE id = ?`, slipped)
	}, err
}

func changeCommand(ctx context.Context, t *twin) (func(context.Context) error, error) {
	c, err := t.told(ctx, 6)
	if err != nil {
		return nil, err
	}
	d, err := t.s.devices.Device(t.units[0].ID)
	if err != nil {
		return nil, err
	}
	sealed, err := t.s.ring.SealValue(d.Subject, "command", []byte(`{"params":"eyJzZWNvbmRzIjo1OX0=","reason":"a trial gives a command"}`))
	if err != nil {
		return nil, err
	}
	var was []byte
	if err := t.Query(ctx, "control.db", `SELECT content FROM device_command WHERE id = ?`, []any{c.Command}, &was); err != nil {
		return nil, err
	}
	const set = `UPDATE device_command SET content = ? WHERE id = ?`
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", set, was, c.Command) }, t.Exec(ctx, "control.db", set, sealed, c.Command)
}

func dropCommand(ctx context.Context, t *twin) (func(context.Context) error, error) {
	c, err := t.told(ctx, 7)
	if err != nil {
		return nil, err
	}
	if err := t.Exec(ctx, "control.db", `CREATE TABLE dropped_command AS SELECT * FROM device_command WHERE id = ?`, c.Command); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := t.Exec(ctx, "control.db", `INSERT INTO device_command SELECT * FROM dropped_command`); err != nil {
			return err
		}
		return t.Exec(ctx, "control.db", `DROP TABLE dropped_command`)
	}, t.Exec(ctx, "control.db", `DELETE FROM device_command WHERE id = ?`, c.Command)
}

func loosenBounds(ctx context.Context, t *twin) (func(context.Context) error, error) {
	if _, err := t.told(ctx, 600); err == nil {
		return nil, errors.New("the twin gives a command that is out of bounds")
	}
	t.s.loose.on.Store(true)
	c, err := t.told(ctx, 600)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		t.s.loose.on.Store(false)
		if err := t.Call(ctx, "POST", "/v1/devices/"+string(t.units[0].ID)+"/commands/"+c.Command+"/cancel", nil, nil); err != nil {
			return err
		}
		return t.Exec(ctx, "control.db", `DELETE FROM device_command WHERE id = ?`, c.Command)
	}, nil
}
