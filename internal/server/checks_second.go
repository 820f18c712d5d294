package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
)

// secondChecks hold that nothing risky is done on one person's word (CC 3.7).
func (s *server) secondChecks() []check.Check {
	x := &secondPersons{s: s}
	return []check.Check{{
		ID: "commands.second-person", Version: 1, Rows: []string{"3.7"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 3.7
		Says: "Every risky command that a device could get, and every change of a risky setting, was asked for by one person and agreed to by another, as the ledger has it.",
		Do:   "Cancel what still waits (`hawser command cancel`), set back what was set (`hawser setting back`), and find out who writes to control.db.",
		Look: x.look,
		Violations: []check.Violation{
			{ID: "second-written", Says: "Writes a second person's agreement into the database that nobody gave.", Do: own(writeSecond)},
			{ID: "second-is-first", Says: "Has the twin take the agreement of the person who asked.", Do: own(agreeAlone)},
			{ID: "setting-alone", Says: "Has the twin change a risky setting without asking anybody.", Do: own(setAlone)},
		},
	}}
}

type secondPersons struct {
	s *server

	mu       sync.Mutex // guards what follows
	after    uint64     // the command's number to go on from
	afterSet uint64     // and the settings' version
}

func (x *secondPersons) look(ctx context.Context, l *check.Look) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.s
	if err := s.sequenced(ctx); err != nil {
		return err
	}
	before := s.commands.EverSet()
	var newest, next []command.Command
	var sets []command.Settings
	total := 0
	err := s.store.View(ctx, func(tx *store.Tx) (err error) {
		if newest, err = tx.NewestCommands(ctx, newCommands); err != nil {
			return err
		}
		if next, err = tx.AllCommands(ctx, x.after, turnCommands); err != nil {
			return err
		}
		if total, err = tx.SettingsCount(ctx); err != nil {
			return err
		}
		sets, err = tx.AllSettings(ctx, x.afterSet, turnSettings)
		return err
	})
	if err != nil {
		return err
	}
	after := s.commands.EverSet()
	const population = "devices that were ever set, by memory; and commands and settings looked at"
	l.Touch("table", "control.db: device_command, device_setting")
	l.Touch("source", "ledger, records of kind "+string(command.RecordSeconded))
	l.Expect(population, 1)
	l.Holds(total >= before && total <= after, "devices that were ever set", "the table has %d, memory %d", total, after)
	x.after, x.afterSet = 0, 0
	if len(next) == turnCommands {
		x.after = next[len(next)-1].Number
	}
	if len(sets) == turnSettings {
		x.afterSet = sets[len(sets)-1].Version
	}
	hold := func(name string, why string, err error) error {
		l.Expect(population, 1)
		if errors.Is(err, seal.ErrNoKey) {
			l.Exclude(name, "its owner is being erased")
			return nil
		}
		if err == nil {
			l.Holds(why == "", name, "%s", why)
		}
		return err
	}
	seen := map[string]bool{}
	next = append(next, newest...)
	for i := range next {
		c := &next[i]
		if seen[c.ID] {
			continue
		}
		seen[c.ID] = true
		why, err := x.command(ctx, c)
		if err := hold(c.Name+" "+c.ID, why, err); err != nil {
			return err
		}
	}
	for i := range sets {
		r := &sets[i]
		name := "version " + strconv.FormatUint(r.Version, 10)
		if r.Subject.IsZero() {
			l.Expect(population, 1)
			l.Exclude(name, "its owner was erased; only the number is kept")
			continue
		}
		why, err := x.settings(ctx, r)
		if err := hold(name, why, err); err != nil {
			return err
		}
	}
	return nil
}

// command is what is wrong with a command, or nothing.
func (x *secondPersons) command(ctx context.Context, c *command.Command) (string, error) {
	pol, err := x.s.decl.ByHash(ctx, c.Policy)
	if core.KindOf(err) == core.Unknown {
		return "its declaration is none that was ever in force", nil
	}
	if err != nil {
		return "", err
	}
	if !command.IsRisky(c, pol) && !c.Risky {
		return "", nil
	}
	if c.Seconded.IsZero() {
		switch {
		case !c.Risky, !c.Taken.IsZero(), !slices.Contains([]command.End{command.Open, command.Expired, command.Cancelled, command.Withdrawn}, c.End):
			return "it is risky, and a device could get it with nobody's agreement", nil
		}
		return "", nil
	}
	return x.agreed(ctx, c.Subject, c.ID, c.By, &c.Second, strconv.FormatUint(c.Number, 10))
}

// settings is what is wrong with the settings of a device, or nothing.
func (x *secondPersons) settings(ctx context.Context, r *command.Settings) (string, error) {
	if r.Cause != command.BySet && r.Cause != command.ByBack {
		return "", nil
	}
	pol, err := x.s.decl.ByHash(ctx, r.Policy)
	if core.KindOf(err) == core.Unknown {
		return "its declaration is none that was ever in force", nil
	}
	if err != nil {
		return "", err
	}
	risky := slices.ContainsFunc(pol.Settings, func(p declaration.Setting) bool { return p.Risky && slices.Contains(r.Names, p.Name) })
	switch {
	case !risky:
		return "", nil
	case r.Asked == "":
		return "it changes something risky, and nobody else was asked", nil
	}
	return x.agreed(ctx, r.Subject, r.Asked, r.By, nil, "")
}

// agreed is what is wrong with the agreement to a command, or nothing. second is
// who agreed and number the command's, where they are known.
func (x *secondPersons) agreed(ctx context.Context, subject core.Subject, id string, first core.Actor, second *core.Actor, number string) (string, error) {
	for from := uint64(0); ; {
		found, next, err := x.s.ledger.List(ctx, ledger.Filter{Kind: command.RecordSeconded, Subject: subject}, from, ledger.MaxRange)
		if err != nil {
			return "", err
		}
		for i := range found {
			if factOf(&found[i].Record, "command") != id {
				continue
			}
			e, err := x.s.ledger.Get(ctx, found[i].Position)
			if err != nil {
				return "", err
			}
			switch by := e.Record.Actor; {
			case by == first:
				return "who asked for it agreed to it", nil
			case by.Kind != core.ActorStaff || second != nil && by != *second || number != "" && factOf(&e.Record, "number") != number:
				return "its agreement is not what the ledger has", nil
			}
			return "", nil
		}
		if next == 0 {
			return "the ledger has nobody's agreement to it", nil
		}
		from = next
	}
}

// Two people who exist in trials only.
func trialPersons() (first, second core.Actor) {
	return core.Actor{Kind: core.ActorStaff, ID: "ptrialtrialaa"}, core.Actor{Kind: core.ActorStaff, ID: "ptrialtrialbb"}
}

// askedFor asks for something risky on the twin's first device.
func (t *twin) askedFor(ctx context.Context) (command.Command, error) {
	first, _ := trialPersons()
	t.Touch("service", "command.give")
	return t.s.commands.Give(ctx, first, command.Request{Device: t.units[0].ID, Name: "melt", Role: "support", Reason: "a trial asks for it"})
}

// over ends a trial's command and takes it out of the table.
func (t *twin) over(ctx context.Context, id string) error {
	first, _ := trialPersons()
	if _, err := t.s.commands.Cancel(ctx, first, t.units[0].ID, id); err != nil && core.KindOf(err) != core.Conflict {
		return err
	}
	return t.Exec(ctx, "control.db", `DELETE FROM device_command WHERE id = ?`, id)
}

func writeSecond(ctx context.Context, t *twin) (func(context.Context) error, error) {
	c, err := t.askedFor(ctx)
	if err != nil {
		return nil, err
	}
	var body []byte
	if err := t.Query(ctx, "control.db", `SELECT body FROM device_command WHERE id = ?`, []any{c.ID}, &body); err != nil {
		return nil, err
	}
	_, c.Second = trialPersons()
	c.Seconded = time.Now().UTC().Truncate(time.Microsecond)
	forged, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	const set = `UPDATE device_command SET body = ? WHERE id = ?`
	return func(ctx context.Context) error {
		return errors.Join(t.Exec(ctx, "control.db", set, body, c.ID), t.over(ctx, c.ID))
	}, t.Exec(ctx, "control.db", set, forged, c.ID)
}

func agreeAlone(ctx context.Context, t *twin) (func(context.Context) error, error) {
	c, err := t.askedFor(ctx)
	if err != nil {
		return nil, err
	}
	agree := func() error {
		_, err := t.s.commands.Agree(ctx, c.By, []string{"support"}, c.Device, c.ID)
		return err
	}
	if agree() == nil {
		return nil, errors.New("the twin takes the agreement of who asked")
	}
	t.s.loose.alone.Store(true)
	err = agree()
	t.s.loose.alone.Store(false)
	return func(ctx context.Context) error { return t.over(ctx, c.ID) }, err
}

func setAlone(ctx context.Context, t *twin) (func(context.Context) error, error) {
	first, second := trialPersons()
	id := t.units[0].ID
	set := func(ctx context.Context, values string) error {
		_, err := t.s.commands.Set(ctx, first, command.SetRequest{Device: id, Values: []byte(values), Role: "support", Reason: "a trial sets it"})
		return err
	}
	if _, err := t.turned(ctx, 1); err != nil {
		return nil, err
	}
	t.s.loose.calm.Store(true)
	err := set(ctx, `{"valve":true}`)
	t.s.loose.calm.Store(false)
	return func(ctx context.Context) error {
		if err := set(ctx, `{"valve":false}`); err != nil {
			return err
		}
		all, err := t.s.commands.List(ctx, id)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(c command.Command) bool { return c.Asked() && c.Kind == command.OfSettings })
		if i < 0 {
			return fmt.Errorf("the twin does not ask before it sets something risky")
		}
		_, err = t.s.commands.Agree(ctx, second, []string{"support"}, id, all[i].ID)
		return err
	}, err
}
