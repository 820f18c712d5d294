package command

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/wire"
)

// The kinds of records of what asks for a second person.
const (
	// RecordAsked is of a risky command that waits for a second person, in the
	// place of RecordGiven and with its facts.
	RecordAsked core.RecordKind = "command-asked"
	// RecordSeconded is of a second person who agreed. Its facts: command, name,
	// role, number: a new one.
	RecordSeconded core.RecordKind = "command-seconded"
)

// onMachine reports whether nobody knows which person acts: whoever is on the
// machine itself, and what is no person.
func onMachine(a core.Actor) bool { return a.Kind != core.ActorStaff || strings.HasPrefix(a.ID, "os:") }

// secondPerson holds the rule of two: both signed in, and not the same.
func secondPerson(first, second core.Actor) error {
	switch {
	case onMachine(first) || onMachine(second):
		return core.E(core.Denied, "second-local", "on the machine itself nobody knows which person acts, and this asks for two", "both sign in to the console and do it on the page of the device")
	case first == second:
		return core.E(core.Denied, "second-self", "who asked for it cannot agree to it", "ask a second person")
	}
	return nil
}

// Asked reports whether a command waits for a second person.
func (c *Command) Asked() bool { return c.Risky && c.End == Open && c.Seconded.IsZero() }

// Wanted is what a command that waits for a second person would do, and why:
// for whoever decides on it.
func (s *Service) Wanted(c *Command) (params json.RawMessage, reason string, err error) {
	if !c.Asked() {
		return nil, "", nil
	}
	said, err := s.content(c)
	return said.Params, said.Reason, err
}

// Agree has a risky command given that another person asked for. roles are
// those of who agrees: the declaration in force must let one of them give it
// themselves, and everything else of it is looked at again.
func (s *Service) Agree(ctx context.Context, by core.Actor, roles []string, id core.DeviceID, command string) (Command, error) {
	s.change.Lock()
	defer s.change.Unlock()
	c, err := s.Find(ctx, id, command)
	if err != nil {
		return c, err
	}
	if !c.Asked() || !c.Expires.After(s.now()) {
		return c, core.E(core.Conflict, "not-asked", "this command does not wait for a second person (any more)", "look at it on the page of the device")
	}
	if err := s.second(c.By, by); err != nil {
		return c, err
	}
	pol, err := s.d.Policy(ctx, c.Product)
	if err != nil {
		return c, err
	}
	said, err := s.content(&c)
	if err != nil {
		return c, err
	}
	if _, err := within(pol, &c, said.Params); err != nil {
		return c, err
	}
	role, err := s.mayAgree(ctx, pol, &c, said.Params, roles)
	if err != nil {
		return c, err
	}
	c.Second, c.Seconded = by, s.now()
	c.Number = s.number(c.Seconded, 0) // others were given meanwhile, and a device takes no lower number
	if err := s.d.Update(ctx, func(tx Tx) error {
		if err := tx.PutCommand(ctx, c); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{Time: c.Seconded, Kind: RecordSeconded, Actor: by, Subject: c.Subject, Product: c.Product, Policy: pol.Hash, Facts: []core.Fact{
			{Name: "command", Value: c.ID}, {Name: "name", Value: c.Name}, {Name: "role", Value: role}, {Name: "number", Value: strconv.FormatUint(c.Number, 10)},
		}})
	}); err != nil {
		return c, fmt.Errorf("agree to a command: %w", err)
	}
	s.remember(&c)
	if c.Kind != Order {
		return s.doSettings(ctx, c, pol, said)
	}
	s.d.Wake(c.Device)
	return c, nil
}

// ask has a risky change of settings wait for a second person. Nothing is
// changed before. The caller holds s.change.
func (s *Service) ask(ctx context.Context, c Command, owned Owned, pol *declaration.Policy, said content) (Settings, error) {
	if onMachine(c.By) {
		return Settings{}, core.E(core.Denied, "second-local", "this changes a setting that is declared risky: it asks for two persons, and on the machine itself nobody knows which one acts", "ask for it in the console, on the page of the device; another person agrees there")
	}
	c.Subject, c.Product, c.Policy, c.Risky = owned.Subject, owned.Product, pol.Hash, true
	if _, err := s.queue(ctx, c, UsualLife, said); err != nil {
		return Settings{}, err
	}
	return s.row(ctx, c.Device)
}

// doSettings does what a second person agreed to. When power goes before it is
// done, it ends undone with its time: somebody asks again. The caller holds
// s.change.
func (s *Service) doSettings(ctx context.Context, c Command, pol *declaration.Policy, said content) (Command, error) {
	owned := Owned{Subject: c.Subject, Product: c.Product}
	var q turning
	if c.Kind == OfSettings {
		values, _, err := wire.ParseSome(settingParams(pol), said.Params)
		if err != nil {
			return c, err
		}
		q = setting(c.Device, owned, pol, c.By, c.Role, said.Reason, values)
	} else {
		version, err := versionOf(said.Params)
		if err != nil {
			return c, err
		}
		q = s.settingBack(ctx, owned, pol, c.By, said.Reason, BackRequest{Device: c.Device, Version: version, Role: c.Role})
	}
	q.asked = c.ID
	if _, err := s.turn(ctx, q); err != nil {
		return c, err
	}
	return s.end(ctx, c, Done, c.Second, "")
}

func versionOf(params []byte) (uint64, error) {
	var v struct{ Version uint64 }
	return v.Version, json.Unmarshal(params, &v)
}

// within holds what is kept of a command or a change of settings against a
// declaration, and says whether it is risky.
func within(pol *declaration.Policy, c *Command, params []byte) (risky bool, err error) {
	switch c.Kind {
	case Order:
		_, risky, err = allowed(pol, &Request{Name: c.Name, Role: c.Role, Params: params})
		return risky, err
	case OfSettings:
		values, refused, err := wire.ParseSome(settingParams(pol), params)
		if err != nil {
			return false, err
		}
		for name, why := range refused {
			return false, core.E(core.Conflict, "setting-value", name+" "+why, "ask for a value that is allowed now")
		}
		return maySet(pol, c.Role, namesOf(values))
	case OfSettingsBack:
	}
	return true, nil // what it changes is looked at when it is done
}

// IsRisky reports whether a stored command asks for a second person by the
// declaration that is said to have allowed it. Of settings only what is risky
// is stored so.
func IsRisky(c *Command, pol *declaration.Policy) bool {
	if c.Kind != Order {
		return true
	}
	x := commandOf(pol, c.Name)
	return x != nil && x.Risky
}

// mayAgree is the role in which somebody may agree: one that could do it.
func (s *Service) mayAgree(ctx context.Context, pol *declaration.Policy, c *Command, params []byte, roles []string) (string, error) {
	bys := [][]string{}
	switch c.Kind {
	case Order:
		bys = append(bys, commandOf(pol, c.Name).By)
	case OfSettings:
		values, _, err := wire.ParseSome(settingParams(pol), params)
		if err != nil {
			return "", err
		}
		for _, v := range values {
			bys = append(bys, settingOf(pol, v.Name).By)
		}
	case OfSettingsBack:
		version, err := versionOf(params)
		if err != nil {
			return "", err
		}
		var list []Change
		if err := s.d.View(ctx, func(tx Tx) (err error) { list, err = tx.Changes(ctx, c.Device, c.Subject); return err }); err != nil {
			return "", err
		}
		for i := range list {
			if x := settingOf(pol, list[i].Name); list[i].Version >= version && x != nil {
				bys = append(bys, x.By)
			}
		}
	}
	role := ""
	for _, by := range bys {
		if role = roleAmong(by, roles); role == "" {
			return "", core.E(core.Denied, "command-by", "none of your roles may do this, so none may agree to it", "the declaration lets: "+strings.Join(by, ", "))
		}
	}
	return role, nil
}

// second is the rule of two, unless a trial has put it out of force.
func (s *Service) second(first, second core.Actor) error {
	if s.d.Alone != nil && s.d.Alone() {
		return nil
	}
	return secondPerson(first, second)
}

func commandOf(pol *declaration.Policy, name string) *declaration.Command {
	i := slices.IndexFunc(pol.Commands, func(c declaration.Command) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &pol.Commands[i]
}

// roleAmong is the first of roles that by has; empty: none.
func roleAmong(by, roles []string) string {
	if i := slices.IndexFunc(by, func(role string) bool { return slices.Contains(roles, role) }); i >= 0 {
		return by[i]
	}
	return ""
}
