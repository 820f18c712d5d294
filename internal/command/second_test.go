package command_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/store"
)

var (
	bea     = core.Actor{Kind: core.ActorStaff, ID: "pbeabeabeabea"}
	support = []string{"operator", "support"}
)

// risky makes the command for support a risky one.
func (f *fixture) risky() {
	f.t.Helper()
	f.pol.Commands = slices.Clone(f.pol.Commands)
	i := slices.IndexFunc(f.pol.Commands, func(c declaration.Command) bool { return c.Name == "blink" })
	f.pol.Commands[i].Risky = true
}

func (f *fixture) agree(by core.Actor, roles []string, c command.Command) (command.Command, error) {
	return f.svc.Agree(f.t.Context(), by, roles, "A1", c.ID)
}

func (f *fixture) sends() []command.Message {
	f.t.Helper()
	list, err := f.svc.Next(f.t.Context(), "A1", f.owner, 0, 9)
	f.must(err)
	if (len(list) > 0) != f.svc.Waiting("A1") {
		f.t.Error("memory and disk differ on what waits")
	}
	return list
}

// TestSecondPerson: a risky command waits for a person other than who asked for
// it, over a restart, and is sent after that with a number that its device takes
// (CC 3.7).
func TestSecondPerson(t *testing.T) {
	f := newFixture(t)
	f.risky()
	c := f.mustGive("7")
	if c.State() != "asked" || len(f.woken) != 0 || len(f.sends()) != 0 {
		t.Errorf("asked for: %s, woken %v", c.State(), f.woken)
	}
	params, reason, err := f.svc.Wanted(&c)
	if err != nil || string(params) != `{"seconds":7}` || reason != "a test gives it" {
		t.Errorf("who decides sees %s because of %q, %v", params, reason, err)
	}
	f.open() // a restart
	for name, x := range map[string]struct {
		by     core.Actor
		roles  []string
		reason string
	}{
		"who asked":        {ada, support, "second-self"},
		"on the machine":   {core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}, support, "second-local"},
		"a job":            {core.Job("commands"), support, "second-local"},
		"without the role": {bea, []string{"operator", "security"}, "command-by"},
	} {
		if _, err := f.agree(x.by, x.roles, c); core.ReasonOf(err) != x.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.svc.Reply(t.Context(), "A1", f.owner, c.Name, c.ID, []byte(`{"outcome":"done"}`)); err == nil {
		t.Error("what nobody agreed to is answered")
	}
	f.must(f.svc.Taken(t.Context(), "A1", c.Number, false))
	if len(f.sends()) != 0 {
		t.Error("it is sent before anybody agreed")
	}
	f.pol.Commands = slices.Clone(f.pol.Commands)
	i := slices.IndexFunc(f.pol.Commands, func(c declaration.Command) bool { return c.Name == "blink" })
	f.pol.Commands[i].Risky = false
	between := f.mustGive("3")
	f.pol.Commands[i].Risky = true
	agreed, err := f.agree(bea, support, c)
	f.must(err)
	if agreed.State() != "waiting" || agreed.Second != bea || agreed.By != ada || agreed.Number <= between.Number {
		t.Errorf("agreed: %+v", agreed)
	}
	f.open()
	f.pol.Hash = core.Hash{7} // it is looked at again before it is sent
	list := f.sends()
	if len(list) != 1 || list[0].ID != c.ID || !strings.Contains(string(list[0].Payload), `"seconds":7`) {
		t.Errorf("sent: %+v; what was given before it became risky is withdrawn", list)
	}
	if _, err := f.agree(bea, support, c); core.ReasonOf(err) != "not-asked" {
		t.Errorf("agreed to twice: %v", err)
	}
}

// TestSecondPersonTooLate: what is over, cancelled or allowed no more is agreed
// to by nobody; on the machine it is not even asked for.
func TestSecondPersonTooLate(t *testing.T) {
	f := newFixture(t)
	f.risky()
	local := core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}
	if _, err := f.svc.Give(t.Context(), local, command.Request{Device: "A1", Name: "blink", Params: []byte(`{"seconds":7}`), Role: "support", Reason: "a test gives it"}); core.ReasonOf(err) != "second-local" {
		t.Errorf("asked for on the machine: %v", err)
	}
	cancelled := f.mustGive("7")
	_, err := f.svc.Cancel(t.Context(), ada, "A1", cancelled.ID)
	f.must(err)
	bounds := f.mustGive("50")
	late := f.mustGive("8")
	f.pol.Commands[slices.IndexFunc(f.pol.Commands, func(c declaration.Command) bool { return c.Name == "blink" })].Params[0].Max = 40
	for c, reason := range map[*command.Command]string{&cancelled: "not-asked", &bounds: "command-params"} {
		if _, err := f.agree(bea, support, *c); core.ReasonOf(err) != reason {
			t.Errorf("%s: %v, want %s", c.State(), err, reason)
		}
	}
	f.now = f.now.Add(command.UsualLife)
	if _, err := f.agree(bea, support, late); core.ReasonOf(err) != "not-asked" {
		t.Errorf("too late: %v", err)
	}
	f.must(f.svc.Tick(t.Context()))
	if c, err := f.svc.Find(t.Context(), "A1", late.ID); err != nil || c.End != command.Expired {
		t.Errorf("what nobody agreed to ends as %s, %v", c.End, err)
	}
}

// asked is the one thing that waits for a second person.
func (f *fixture) asked() command.Command {
	f.t.Helper()
	list, err := f.svc.List(f.t.Context(), "A1")
	f.must(err)
	list = slices.DeleteFunc(list, func(c command.Command) bool { return !c.Asked() })
	if len(list) != 1 {
		f.t.Fatalf("%d things wait for a second person", len(list))
	}
	return list[0]
}

// TestSecondPersonForSettings: a risky setting is not changed, and not changed
// back, before a second person agreed; what nobody needs to agree to is not held
// up by it.
func TestSecondPersonForSettings(t *testing.T) {
	f := newFixture(t)
	before := f.mustSet(`{"night_setback":11}`)
	f.pol.Settings[1].Risky = true
	if r := f.mustSet(`{"night_setback":12,"display":"bright"}`); r.Version != before.Version {
		t.Error("it is set before anybody agreed")
	}
	c := f.asked()
	if params, reason, err := f.svc.Wanted(&c); err != nil || string(params) != `{"display":"bright","night_setback":12}` || reason != "a test sets it" || c.Kind != command.OfSettings {
		t.Errorf("who decides sees %s because of %q, %v", params, reason, err)
	}
	f.sent(`{"display":"dim","night_setback":11}`)
	f.open() // a restart
	if f.svc.Waiting("A1") {
		t.Error("it waits for the device")
	}
	if _, err := f.agree(ada, support, c); core.ReasonOf(err) != "second-self" {
		t.Errorf("who asked agrees: %v", err)
	}
	if _, err := f.agree(bea, []string{"security"}, c); core.ReasonOf(err) != "command-by" {
		t.Errorf("without the role: %v", err)
	}
	done, err := f.agree(bea, support, c)
	f.must(err)
	if done.End != command.Done || done.EndedBy != bea {
		t.Errorf("agreed: %+v", done)
	}
	f.sent(`{"display":"bright","night_setback":12}`)
	if s := f.shown(); s.Asked != c.ID || s.By != ada || s.Cause != command.BySet {
		t.Errorf("shown: %+v", s.Settings)
	}
	if _, err := f.agree(bea, support, c); core.ReasonOf(err) != "not-asked" {
		t.Errorf("agreed to twice: %v", err)
	}

	changed := f.mustSet(`{"display":"dim"}`) // nobody is asked
	if !slices.Equal(changed.Names, []string{"display"}) || changed.Asked != "" {
		t.Errorf("%+v", changed)
	}
	_, err = f.back(0) // only the display: nobody is asked
	f.must(err)
	f.sent(`{"display":"bright","night_setback":12}`)
	_, err = f.back(riskyVersion(f))
	f.must(err)
	c = f.asked()
	if c.Kind != command.OfSettingsBack {
		t.Errorf("taking back something risky: %+v", c)
	}
	f.sent(`{"display":"bright","night_setback":12}`)
	if _, err := f.agree(bea, []string{"legal"}, c); core.ReasonOf(err) != "command-by" {
		t.Errorf("without the role: %v", err)
	}
	_, err = f.agree(bea, support, c)
	f.must(err)
	f.sent(`{"display":"dim","night_setback":11}`)
	local := core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}
	if _, err := f.svc.Set(t.Context(), local, command.SetRequest{Device: "A1", Values: []byte(`{"night_setback":13}`), Role: "support", Reason: "a test sets it"}); core.ReasonOf(err) != "second-local" {
		t.Errorf("asked for on the machine: %v", err)
	}
	f.mustSet(`{"night_setback":20}`)
	cut := f.asked() // and the power goes before what was agreed to is done
	cut.Second, cut.Seconded = bea, f.now
	f.must(f.store.Update(t.Context(), func(tx *store.Tx) error { return tx.PutCommand(t.Context(), cut) }))
	f.open()
	if len(f.sends()) != 0 {
		t.Error("settings are sent as a command")
	}
	_, err = f.svc.Cancel(t.Context(), ada, "A1", cut.ID)
	f.must(err)
	f.mustSet(`{"night_setback":20}`)
	f.pol.Settings[1].Max = 19
	if _, err := f.agree(bea, support, f.asked()); core.ReasonOf(err) != "setting-value" {
		t.Errorf("a value that is allowed no more: %v", err)
	}
}

// riskyVersion is the version that was made when the second person agreed first.
func riskyVersion(f *fixture) uint64 {
	f.t.Helper()
	for _, b := range f.shown().Backs {
		if slices.Contains(b.Names, "night_setback") {
			return b.Version
		}
	}
	f.t.Fatal("there is no such version")
	return 0
}
