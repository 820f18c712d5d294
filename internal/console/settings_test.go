package console

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/wire"
)

// TestSettings: who may set something gets a form with its bounds; what is
// personal is set and not shown; a version can be taken back (CC 3.7).
func TestSettings(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.publish(t, strings.Replace(example(t, "aria-thermostat"), "settings:", `settings:
  heat: {type: boolean, default: false, class: personal, keep: 30d, by: [support], risky: true}
  mine: {type: string, min_length: 1, max_length: 8, default: home, class: personal, keep: 30d, by: [owner], risky: false}`, 1))
		w.device(t, "A1", "aria-thermostat")
	})
	w.serve(t)
	const at = "/device/A1/settings"
	page := w.must200(t, "/device/A1")
	wants(t, "forms", page, `name="param.night_setback" type="number" min="10" max="20" step="any"`, "<option>bright</option>", "nobody set anything", "Set it, as support")
	wants(t, "a risky one", page, `name="param.heat"`, "risky: a second person agrees")
	lacks(t, "forms", page, `name="param.mine"`, "Take back")
	set := func(form ...string) (int, string) {
		t.Helper()
		return w.post(t, at, append([]string{"role", "support", "reason", "ticket 4712"}, form...)...)
	}
	if code, body := set("param.night_setback", "12.5", "param.display", "bright"); code != http.StatusSeeOther {
		t.Fatalf("set: %d %s", code, body)
	}
	s, err := w.deps.Settings.Show(t.Context(), "A1")
	must(t, err)
	page = w.must200(t, "/device/A1")
	wants(t, "set", page, "waits for the device", "&#34;bright&#34;", "the value is the owner", fmt.Sprint(s.Version), "Take back")
	lacks(t, "set", page, "12.5")
	for name, form := range map[string][]string{
		"out of bounds": {"param.night_setback", "9"},
		"no number":     {"param.night_setback", `12,"x":2`},
		"nothing":       {},
		"the owner's":   {"param.mine", "away"},
	} {
		if code, _ := set(form...); code != http.StatusBadRequest && code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
	}
	for name, form := range map[string][]string{
		"another's role": {"role", "legal", "reason", "ticket 4712", "param.display", "dim"}, "without a reason": {"role", "support", "param.display", "dim"},
	} {
		if code, _ := w.post(t, at, form...); code != http.StatusBadRequest && code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
	}
	said := wire.AppendReport(nil, &wire.SettingsReport{Version: s.Version, Values: []byte(`{"display":"bright","night_setback":16,"heat":false,"mine":"home"}`), Refused: map[string]string{"night_setback": "<b>no</b>"}})
	must(t, w.deps.Commands.(*command.Service).Report(t.Context(), "A1", s.Subject, said))
	page = w.must200(t, "/device/A1")
	wants(t, "refused", page, "the device says that it is not set so", "&lt;b&gt;no&lt;/b&gt;", "set so")
	if code, _ := w.post(t, at+"/back", "role", "support", "reason", "it was the cable", "version", "x"); code != http.StatusBadRequest {
		t.Errorf("no version: %d", code)
	}
	if code, body := w.post(t, at+"/back", "role", "support", "reason", "it was the cable", "version", fmt.Sprint(s.Version)); code != http.StatusSeeOther {
		t.Fatalf("set back: %d %s", code, body)
	}
	wants(t, "set back", w.must200(t, "/device/A1"), "set back display, night_setback", "as declared")
	if code, body := set("param.heat", "true"); code != http.StatusSeeOther {
		t.Fatalf("ask: %d %s", code, body)
	}
	grace := w.visitor("support")
	grace.Actor.ID = "pgracehopper2"
	w.who = grace
	all, err := w.deps.Commands.List(t.Context(), "A1")
	must(t, err)
	agree := "/device/A1/commands/" + all[0].ID + "/agree"
	wants(t, "asked for", w.must200(t, "/device/A1"), agree, "&#34;heat&#34;:true", "ticket 4712")
	if code, body := w.post(t, agree); code != http.StatusSeeOther {
		t.Errorf("agree: %d %s", code, body)
	}
	wants(t, "agreed", w.must200(t, "/device/A1"), "set heat", "agreed to by")
	w.who = w.visitor("operator")
	w.who.Check = func(p string) error {
		if p == "setting.set" {
			return core.E(core.Denied, "not-allowed", "your roles do not allow this", "ask an administrator")
		}
		return nil
	}
	lacks(t, "an operator", w.must200(t, "/device/A1"), "param.display", "settings/back")
	if code, _ := set("param.display", "bright"); code != http.StatusForbidden {
		t.Errorf("an operator sets it: %d", code)
	}
}

// settle has a device set twice, and the device's word on it.
func (w *world) settle(t *testing.T, id core.DeviceID) {
	t.Helper()
	told := w.deps.Commands.(*command.Service)
	for _, values := range []string{`{"night_setback":14}`, `{"display":"bright","night_setback":12}`} {
		_, err := told.Set(t.Context(), ada, command.SetRequest{Device: id, Values: []byte(values), Role: "support", Reason: "ticket 4712: too warm at night"})
		must(t, err)
	}
	s, err := told.Show(t.Context(), id)
	must(t, err)
	said := wire.AppendReport(nil, &wire.SettingsReport{Version: s.Version, Values: []byte(`{"display":"dim","night_setback":12}`), Refused: map[string]string{"display": "is none of dim"}})
	must(t, told.Report(t.Context(), id, s.Subject, said))
}
