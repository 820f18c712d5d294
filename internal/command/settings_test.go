package command_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/wire"
)

func (f *fixture) set(values string) (command.Settings, error) {
	return f.svc.Set(f.t.Context(), ada, command.SetRequest{Device: "A1", Values: []byte(values), Role: "support", Reason: "a test sets it"})
}

func (f *fixture) mustSet(values string) command.Settings {
	f.t.Helper()
	r, err := f.set(values)
	f.must(err)
	return r
}

func (f *fixture) back(version uint64) (command.Settings, error) {
	return f.svc.SetBack(f.t.Context(), ada, command.BackRequest{Device: "A1", Version: version, Role: "support", Reason: "a test sets it back"})
}

// due is what a device is sent that has a version in its session.
func (f *fixture) due(have uint64) (wire.ConfigMessage, bool) {
	f.t.Helper()
	m, due, err := f.svc.Settings(f.t.Context(), "A1", f.owner, have)
	f.must(err)
	if due && f.svc.SettingsDue("A1", m.Number) {
		f.t.Error("what was sent is due again, by memory")
	}
	if !due {
		return wire.ConfigMessage{}, false
	}
	c, err := wire.ParseConfig(m.Payload)
	f.must(err)
	if c.Version != m.Number || m.ID != "" || !m.Expires.IsZero() {
		f.t.Errorf("message %+v of version %d", m, c.Version)
	}
	return c, true
}

func (f *fixture) sent(want string) uint64 {
	f.t.Helper()
	c, due := f.due(0)
	if !due || string(c.Settings) != want {
		f.t.Errorf("sent %s (%t), want %s", c.Settings, due, want)
	}
	return c.Version
}

func (f *fixture) report(version uint64, values string, refused map[string]string) {
	f.t.Helper()
	f.must(f.svc.Report(f.t.Context(), "A1", f.owner, wire.AppendReport(nil, &wire.SettingsReport{Version: version, Values: []byte(values), Refused: refused})))
}

func (f *fixture) shown() command.ShownSettings {
	f.t.Helper()
	s, err := f.svc.Show(f.t.Context(), "A1")
	f.must(err)
	return s
}

func (f *fixture) stands(want string) {
	f.t.Helper()
	if got := f.shown().State; got != want {
		f.t.Errorf("state %q, want %q", got, want)
	}
}

const (
	asDeclared = `{"display":"dim","night_setback":16}`
	brighter   = `{"display":"bright","night_setback":16}`
)

// TestSet: what is set is sent whole, until the device says that it has it, over
// restarts of the server (CC 3.7).
func TestSet(t *testing.T) {
	f := newFixture(t)
	if _, due := f.due(0); due {
		t.Error("something is due of a device that was never set")
	}
	f.stands(command.NeverSet)
	first := f.mustSet(`{"display":"bright"}`)
	if !slices.Equal(first.Names, []string{"display"}) || len(f.woken) != 1 {
		t.Errorf("changed %v, woken %v", first.Names, f.woken)
	}
	f.stands(command.SetWaiting)
	if v := f.sent(brighter); v != first.Version {
		t.Errorf("version %d, want %d", v, first.Version)
	}
	if _, due := f.due(first.Version); due {
		t.Error("what the session was sent is due again")
	}
	f.must(f.svc.SettingsTaken(t.Context(), "A1", first.Version))
	f.stands(command.SetTaken)
	f.open() // a restart
	f.sent(brighter)
	f.report(first.Version, brighter, nil)
	f.stands(command.SetInForce)
	f.open()
	if _, due := f.due(0); due {
		t.Error("what the device says that it has is sent again")
	}
	if same := f.mustSet(`{"display":"bright"}`); same.Version != first.Version {
		t.Error("what is so already makes a new version")
	}
	second := f.mustSet(`{"night_setback":12.5}`)
	if second.Version <= first.Version {
		t.Errorf("version %d after %d", second.Version, first.Version)
	}
	f.sent(`{"display":"bright","night_setback":12.5}`)
	f.report(second.Version, `{"display":"dim","night_setback":12.50}`, map[string]string{"display": "is none of dim"})
	f.stands(command.SetOtherwise)
	s := f.shown()
	if s.List[0].Device != "refused" || s.List[0].Why == "" || s.List[1].Device != command.SetInForce {
		t.Errorf("shown %+v", s.List)
	}
	if s.List[0].Value != `"bright"` || s.List[1].Value != "" || !s.List[1].Set {
		t.Errorf("a public value is shown, a personal one is not: %+v", s.List)
	}
}

// TestSetRefused: nothing is set that the declaration does not allow, and the
// reason names it.
func TestSetRefused(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ values, role, reason string }{
		{`{"night_setback":9.9}`, "support", "setting-value"},
		{`{"night_setback":"16"}`, "support", "setting-value"},
		{`{"display":"bright","night_setback":99}`, "support", "setting-value"},
		{`{"display":"off"}`, "support", "setting-value"},
		{`{"other":1}`, "support", "setting-undeclared"},
		{`{}`, "support", "setting-value"},
		{`[]`, "support", "setting-value"},
		{`{"display":"dim","display":"bright"}`, "support", "setting-value"},
		{`{"display":"bright"}`, "security", "setting-by"},
		{`{"display":"bright"}`, "owner", "command-by"},
	} {
		_, err := f.svc.Set(t.Context(), ada, command.SetRequest{Device: "A1", Values: []byte(c.values), Role: c.role, Reason: "a test sets it"})
		if core.ReasonOf(err) != c.reason {
			t.Errorf("%s as %s: %v, want %s", c.values, c.role, err, c.reason)
		}
	}
	if _, err := f.svc.Set(t.Context(), ada, command.SetRequest{Device: "A1", Values: []byte(`{"display":"bright"}`), Role: "support"}); core.ReasonOf(err) != "reason" {
		t.Errorf("without a reason: %v", err)
	}
	f.owner = core.Subject{}
	if _, err := f.set(`{"display":"bright"}`); core.ReasonOf(err) != "unowned" {
		t.Errorf("of nobody: %v", err)
	}
	f.owner = core.Subject{1}
	f.stands(command.NeverSet)
	if len(f.woken) != 0 {
		t.Error("a device was woken for what was refused")
	}
}

// TestSetBack: a version can be taken back, and so can several, while what was
// before is kept, and no longer.
func TestSetBack(t *testing.T) {
	f := newFixture(t)
	if _, err := f.back(0); core.ReasonOf(err) != "nothing-before" {
		t.Errorf("of a device that was never set: %v", err)
	}
	one := f.mustSet(`{"display":"bright"}`)
	f.mustSet(`{"night_setback":12}`)
	three := f.mustSet(`{"night_setback":11,"display":"dim"}`)
	backs := f.shown().Backs
	if len(backs) != 3 || backs[0].Version != three.Version || len(backs[0].Names) != 2 {
		t.Errorf("what can be taken back: %+v", backs)
	}
	_, err := f.back(0)
	f.must(err)
	f.sent(`{"display":"bright","night_setback":12}`)
	_, err = f.back(0) // the taking back is a change like another
	f.must(err)
	f.sent(`{"display":"dim","night_setback":11}`)
	_, err = f.back(one.Version)
	f.must(err)
	if _, err := f.back(f.shown().Version + 1); core.ReasonOf(err) != "nothing-before" {
		t.Errorf("a version that never was: %v", err)
	}
	f.sent(asDeclared)
	if s := f.shown(); s.List[0].Set || s.List[1].Set {
		t.Errorf("nobody set anything any more: %+v", s.List)
	}
	f.mustSet(`{"display":"bright"}`)
	f.now = f.now.Add(30*24*time.Hour + time.Second)
	if _, err := f.back(0); core.ReasonOf(err) != "nothing-before" {
		t.Errorf("after its keep-time: %v", err)
	}
	f.must(f.svc.Tick(t.Context()))
	f.must(f.store.View(t.Context(), func(tx *store.Tx) error {
		list, err := tx.Changes(t.Context(), "A1", f.owner)
		if len(list) != 0 {
			t.Errorf("%d changes are kept after their time", len(list))
		}
		return err
	}))
	f.sent(brighter)
}

// TestSetBackRefused: what may not be set may not be set back to either.
func TestSetBackRefused(t *testing.T) {
	f := newFixture(t)
	f.mustSet(`{"night_setback":11}`)
	f.mustSet(`{"night_setback":15}`)
	f.pol.Settings[1].Min = 12
	if _, err := f.back(0); core.ReasonOf(err) != "setting-value" {
		t.Errorf("a value out of the bounds of now: %v", err)
	}
	f.pol.Settings[1].By = []string{"owner"}
	if _, err := f.back(0); core.ReasonOf(err) != "setting-by" {
		t.Errorf("by a role that may no more: %v", err)
	}
}

// TestSettingsOfAnotherOwner: a device comes to its next owner as declared, with
// a version that it takes, and nothing of the former one is left.
func TestSettingsOfAnotherOwner(t *testing.T) {
	f := newFixture(t)
	old := f.mustSet(`{"night_setback":11}`)
	f.report(old.Version, `{"display":"dim","night_setback":11}`, nil)
	former := f.owner
	f.svc.Forget(former)
	f.must(f.store.Update(t.Context(), func(tx *store.Tx) error { return tx.ForgetCommands(t.Context(), former) }))
	f.owner = core.Subject{}
	if _, due := f.due(0); due {
		t.Error("a device of nobody is sent something")
	}
	f.open()
	f.owner = core.Subject{2}
	if !f.svc.SettingsDue("A1", 0) {
		t.Error("nothing is due for the next owner, by memory")
	}
	f.stands(command.NeverSet)
	if v := f.sent(asDeclared); v <= old.Version {
		t.Errorf("version %d after %d of the former owner", v, old.Version)
	}
	if _, err := f.back(0); core.ReasonOf(err) != "nothing-before" {
		t.Errorf("back to what the former owner had: %v", err)
	}
	// The former session's word does not count.
	f.must(f.svc.Report(t.Context(), "A1", former, wire.AppendReport(nil, &wire.SettingsReport{Version: f.shown().Version, Values: []byte(asDeclared)})))
	f.stands(command.SetWaiting)
}

// TestSettingsFollow: another declaration in force changes what is set, and
// only where it must.
func TestSettingsFollow(t *testing.T) {
	f := newFixture(t)
	first := f.mustSet(`{"night_setback":11,"display":"bright"}`)
	f.must(f.svc.Tick(t.Context()))
	shape := f.shown().Shape
	f.pol.Settings[1].Max = 19 // the value is still within
	f.must(f.svc.Tick(t.Context()))
	if f.shown().Shape == shape {
		t.Error("it is not known that the declaration of now was looked at")
	}
	if v := f.sent(`{"display":"bright","night_setback":11}`); v != first.Version {
		t.Error("a declaration that leaves it alone made a new version")
	}
	f.pol.Settings[1].Min = 12
	f.must(f.svc.Tick(t.Context()))
	if v := f.sent(brighter); v <= first.Version {
		t.Errorf("version %d after %d", v, first.Version)
	}
	if s := f.shown(); s.Cause != command.ByDeclaration || !slices.Equal(s.Names, []string{"night_setback"}) {
		t.Errorf("cause %s of %v", s.Cause, s.Names)
	}
}

// TestReportAhead: a device that has a version this server does not remember is
// told again with one that it takes; one that no clock could have given is
// refused.
func TestReportAhead(t *testing.T) {
	f := newFixture(t)
	r := f.mustSet(`{"display":"bright"}`)
	ahead := r.Version + 5_000_000
	f.report(ahead, `{"display":"dim","night_setback":16}`, nil)
	if v := f.sent(brighter); v <= ahead {
		t.Errorf("version %d, and the device has %d", v, ahead)
	}
	for _, payload := range []string{
		string(wire.AppendReport(nil, &wire.SettingsReport{Version: r.Version + uint64(25*time.Hour/time.Microsecond), Values: []byte(`{}`)})),
		`{"settings":{"version":1}}`, `{}`, strings.Repeat("x", wire.MaxNotice+1),
	} {
		if err := f.svc.Report(t.Context(), "A1", f.owner, []byte(payload)); !errors.Is(err, wire.ErrReport) {
			t.Errorf("%.60s: %v", payload, err)
		}
	}
}

// TestSettingsRecorded: each change is in the ledger, without its values, and
// what was kept is held against it.
func TestSettingsRecorded(t *testing.T) {
	f := newFixture(t)
	f.mustSet(`{"night_setback":11.25}`)
	r, err := f.back(0)
	f.must(err)
	f.report(r.Version, asDeclared, map[string]string{"night_setback": "no"})
	f.report(r.Version, asDeclared, map[string]string{"night_setback": "not now"})
	var kinds []string
	digest := ""
	f.must(f.store.View(t.Context(), func(tx *store.Tx) error {
		list, err := tx.LedgerPending(t.Context(), 100)
		for _, p := range list {
			r, err := ledger.ParseLeaf(p.Leaf)
			if err != nil {
				return err
			}
			kinds = append(kinds, string(r.Kind))
			for _, x := range r.Facts {
				if strings.Contains(x.Value, "11.25") {
					t.Errorf("the record gives a value away: %s=%s", x.Name, x.Value)
				}
				if x.Name == "values" {
					digest = x.Value
				}
			}
		}
		return err
	}))
	if want := []string{"settings-changed", "settings-changed", "settings-reported"}; !slices.Equal(kinds, want) {
		t.Errorf("recorded %v, want %v", kinds, want)
	}
	row := f.shown().Settings
	if why, err := f.svc.Settled(&row, f.pol, digest); err != nil || why != "" {
		t.Errorf("as it was made: %s, %v", why, err)
	}
	if why, _ := f.svc.Settled(&row, f.pol, strings.Repeat("0", 64)); why == "" {
		t.Error("another digest is taken")
	}
	row.Role = "security"
	if why, _ := f.svc.Settled(&row, f.pol, digest); why == "" {
		t.Error("a role that may not set it is taken")
	}
	f.pol.Settings[1].Min = 17
	if why, _ := f.svc.Settled(&row, f.pol, digest); why == "" {
		t.Error("a value out of bounds is taken")
	}
}

// TestSettingsErased: nothing is set for an owner who is being erased.
func TestSettingsErased(t *testing.T) {
	f := newFixture(t)
	f.mustSet(`{"night_setback":11}`)
	_, err := f.ring.Shred(t.Context(), seal.Order{Subjects: []core.Subject{f.owner}})
	f.must(err)
	if _, err := f.set(`{"night_setback":12}`); err == nil {
		t.Error("something is set for an erased owner")
	}
}
