package device

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/wire"
)

func someSettings() []Setting {
	return []Setting{
		{Param: Param{Name: "level", Type: "integer", Max: 3}, Default: 1},
		{Param: Param{Name: "mode", Type: "enum", Values: []string{"eco", "warm"}}, Default: "eco"},
	}
}

// panel is a device as far as its settings go, and what was applied on it.
type panel struct {
	*Device

	t       *testing.T
	dir     string
	applied []string
	fail    func(values string) error
}

func newPanel(t *testing.T, dir string) *panel {
	t.Helper()
	p := &panel{t: t, dir: dir}
	o, err := openOrders(ordersPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSettings(settingsPath(dir), someSettings())
	if err != nil {
		t.Fatal(err)
	}
	p.Device = &Device{orders: o, settings: s, cfg: Config{Settings: someSettings(), Log: slog.New(slog.DiscardHandler), Apply: func(_ context.Context, v map[string]any) error {
		b, err := json.Marshal(v)
		p.applied = append(p.applied, string(b))
		if err == nil && p.fail != nil {
			err = p.fail(string(b))
		}
		return err
	}}}
	return p
}

func (p *panel) come(version uint64, values string) {
	p.t.Helper()
	s := &session{d: p.Device}
	payload := wire.AppendConfig(nil, &wire.ConfigMessage{Version: version, Settings: []byte(values)})
	if err := s.configured(packetIn{topic: wire.ConfigTopic, payload: payload}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *panel) apply1() {
	p.t.Helper()
	if err := p.applySettings(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// said is the report that waits for the server; there is one at most.
func (p *panel) said() string {
	p.t.Helper()
	var out []string
	for _, a := range p.orders.answers() {
		if a.Topic != wire.StateTopic {
			p.t.Errorf("an answer on %s", a.Topic)
		}
		if _, err := wire.ParseReport(a.Payload); err != nil {
			p.t.Errorf("the server cannot read %s: %v", a.Payload, err)
		}
		out = append(out, string(a.Payload))
	}
	return strings.Join(out, "|")
}

func (p *panel) did(want ...string) {
	p.t.Helper()
	if !slices.Equal(p.applied, want) {
		p.t.Errorf("applied %v, want %v", p.applied, want)
	}
}

// TestSettingsTaken: what is within the device's own bounds is in force, the
// rest keeps its value and is reported with why; nothing that is not newer
// changes anything, also after a restart (CC 3.7).
func TestSettingsTaken(t *testing.T) {
	dir := t.TempDir()
	p := newPanel(t, dir)
	p.apply1()
	p.did(`{"level":1,"mode":"eco"}`)
	if p.said() != "" {
		t.Errorf("nothing was set, and it reports %s", p.said())
	}
	p.come(7, `{"level":3,"mode":"hot","door":"open","A b":1}`)
	p.apply1()
	p.did(`{"level":1,"mode":"eco"}`, `{"level":3,"mode":"eco"}`)
	const want = `{"settings":{"version":7,"values":{"level":3,"mode":"eco"},"refused":{"door":"is not known","mode":"is none of eco, warm"}}}`
	if p.said() != want {
		t.Errorf("said %s, want %s", p.said(), want)
	}
	for _, a := range p.orders.answers() {
		if err := p.orders.told(a.ID); err != nil {
			t.Fatal(err)
		}
	}
	p.come(6, `{"level":0}`)
	if p.settings.now().pending() || p.said() != "" {
		t.Error("an older version does something")
	}
	p.come(7, `{"level":0}`)
	if p.settings.now().pending() || p.said() != want {
		t.Errorf("the same version once more: said %s", p.said())
	}
	p = newPanel(t, dir)
	p.come(7, `{"level":0}`)
	p.apply1()
	p.did(`{"level":3,"mode":"eco"}`)
	p.come(8, `{"mode":"warm"}`) // what is not named stays
	p.apply1()
	if want := `{"settings":{"version":8,"values":{"level":3,"mode":"warm"}}}`; p.said() != want {
		t.Errorf("said %s, want %s", p.said(), want)
	}
	s := &session{d: p.Device}
	for _, payload := range []string{"", "{", `{"version":9}`, `{"version":0,"settings":{}}`} {
		if err := s.configured(packetIn{payload: []byte(payload)}); err != nil || p.settings.now().Version != 8 {
			t.Errorf("%q: %v", payload, err)
		}
	}
	p.come(9, `{"level":{"x":1}}`)
	p.apply1()
	if now := p.settings.now(); now.Version != 9 || string(now.Values) != `{"level":3,"mode":"warm"}` || now.Refused["level"] == "" {
		t.Errorf("a message whose values cannot be read: %+v", now)
	}
}

// TestSettingsFail: what the device's code cannot apply is not in force: what
// was before is applied again, and the server is told why.
func TestSettingsFail(t *testing.T) {
	p := newPanel(t, t.TempDir())
	p.fail = func(values string) error {
		switch {
		case strings.Contains(values, `"level":3`):
			return errors.New("the valve is stuck")
		case strings.Contains(values, `"level":2`):
			panic("a fault in the code")
		}
		return nil
	}
	p.come(1, `{"level":3,"mode":"warm"}`)
	p.apply1()
	p.did(`{"level":3,"mode":"warm"}`, `{"level":1,"mode":"eco"}`)
	if want := `{"settings":{"version":1,"values":{"level":1,"mode":"eco"},"refused":{"level":"the valve is stuck","mode":"the valve is stuck"}}}`; p.said() != want {
		t.Errorf("said %s, want %s", p.said(), want)
	}
	p.come(2, `{"level":2}`)
	p.apply1()
	if want := `{"settings":{"version":2,"values":{"level":1,"mode":"eco"},"refused":{"level":"the device's code failed"}}}`; p.said() != want {
		t.Errorf("said %s, want %s", p.said(), want)
	}
}

// TestSettingsCut: power that goes between the note and the code loses nothing,
// and a version that comes while another is applied is applied after it.
func TestSettingsCut(t *testing.T) {
	dir := t.TempDir()
	p := newPanel(t, dir)
	p.come(1, `{"level":2}`) // and the power goes
	p = newPanel(t, dir)
	p.apply1()
	p.did(`{"level":2,"mode":"eco"}`)
	if want := `{"settings":{"version":1,"values":{"level":2,"mode":"eco"}}}`; p.said() != want {
		t.Errorf("said %s, want %s", p.said(), want)
	}
	once := false
	p.fail = func(string) error {
		if !once {
			once = true
			p.come(3, `{"level":0}`)
			return errors.New("too late")
		}
		return nil
	}
	p.come(2, `{"level":3}`)
	p.apply1()
	if !p.settings.now().pending() {
		t.Fatal("the later version is forgotten")
	}
	p.fail = func(string) error { return errors.New("broken") }
	p.apply1() // back to what was in force before both
	if want := `{"settings":{"version":3,"values":{"level":2,"mode":"eco"},"refused":{"level":"broken"}}}`; p.said() != want {
		t.Errorf("said %s, want %s", p.said(), want)
	}
	once = false
	p.fail = func(string) error {
		if !once {
			once = true
			p.come(5, `{"level":0}`)
			return nil
		}
		return nil
	}
	p.come(4, `{"level":3}`)
	p.apply1()
	p.fail = func(string) error { return errors.New("broken") }
	p.apply1() // back to the one that was applied between
	if want := `{"settings":{"version":5,"values":{"level":3,"mode":"eco"},"refused":{"level":"broken"}}}`; p.said() != want {
		t.Errorf("said %s, want %s", p.said(), want)
	}
}

// TestSettingsKept: a note that cannot be read or written stops everything,
// rather than let something old be set again; bounds that a newer firmware
// narrowed hold for what was kept.
func TestSettingsKept(t *testing.T) {
	dir := t.TempDir()
	p := newPanel(t, dir)
	p.come(5, `{"level":3,"mode":"warm"}`)
	p.apply1()
	narrow := someSettings()
	narrow[0].Max = 2
	s, err := openSettings(settingsPath(dir), narrow)
	if err != nil {
		t.Fatal(err)
	}
	if now := s.now(); string(now.Values) != `{"level":1,"mode":"warm"}` || now.Version != 5 {
		t.Errorf("kept %+v", now)
	}
	p.settings.path = filepath.Join(dir, "nowhere", "settings")
	err = (&session{d: p.Device}).configured(packetIn{payload: []byte(`{"version":9,"settings":{"level":0}}`)})
	if reasonOf(err) != StateUnusable || p.settings.now().Version != 5 {
		t.Errorf("taken and not noted: %v", err)
	}
	if err := os.WriteFile(settingsPath(dir), []byte(`{"version":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openSettings(settingsPath(dir), someSettings()); err == nil {
		t.Error("a torn note is taken for none")
	}
}

// TestSettingsChecked: settings that cannot work are refused at once.
func TestSettingsChecked(t *testing.T) {
	apply := func(context.Context, map[string]any) error { return nil }
	if err := checkSettings(someSettings(), apply); err != nil {
		t.Error(err)
	}
	if err := checkSettings(nil, nil); err != nil {
		t.Error(err)
	}
	for name, list := range map[string][]Setting{
		"a default out of bounds": {{Param: Param{Name: "a", Type: "integer", Max: 3}, Default: 4}},
		"of another type":         {{Param: Param{Name: "a", Type: "integer", Max: 3}, Default: "1"}},
		"without one":             {{Param: Param{Name: "a", Type: "integer", Max: 3}}},
		"twice":                   {someSettings()[0], someSettings()[0]},
		"no name":                 {{Param: Param{Name: "A b", Type: "integer", Max: 3}, Default: 1}},
	} {
		if err := checkSettings(list, apply); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := checkSettings(someSettings(), nil); err == nil {
		t.Error("settings that nothing applies are taken")
	}
}

// TestReportFits: whatever was refused, the server can take the report.
func TestReportFits(t *testing.T) {
	st := settingsState{Version: 1, Values: []byte(`{"a":"` + strings.Repeat("x", 1500) + `"}`), Refused: map[string]string{}}
	for i := range 60 {
		st.Refused["s"+strings.Repeat("y", 20)+string(rune('a'+i%26))+string(rune('a'+i/26))] = strings.Repeat("ä", 190)
	}
	if _, err := wire.ParseReport(st.report()); err != nil {
		t.Error(err)
	}
}
