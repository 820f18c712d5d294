package console

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestCommands: who may give a command gets a form with its bounds; the rules
// hold whatever the form says; what waits can be cancelled (CC 3.7).
func TestCommands(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.publish(t, strings.Replace(example(t, "aria-thermostat"), "commands:\n", `commands:
  melt: {by: [support], risky: true}
  show: {params: {text: {type: string, min_length: 1, max_length: 8}, mode: {type: enum, values: [eco, warm]}, now: {type: boolean}, celsius: {type: number, unit: Cel, range: [5, 30]}}, by: [support], risky: false}
`, 1))
		w.device(t, "A1", "aria-thermostat")
	})
	w.serve(t)
	const at = "/device/A1/commands"
	page := w.must200(t, "/device/A1")
	wants(t, "forms", page, `name="param.seconds" type="number" min="1" max="60" step="1"`, `name="param.celsius" type="number" min="5" max="30" step="any"`, "<option>eco</option>", "<option>true</option>", `maxlength="8"`,
		"None was given", "Declared, and not given from here by you: set_target", "Ask for it, as support")
	give := func(form ...string) (int, string) {
		t.Helper()
		return w.post(t, at, append([]string{"role", "support", "reason", "ticket 4711"}, form...)...)
	}
	if code, body := give("command", "show", "param.text", "1234", "param.mode", "eco", "param.now", "true", "param.celsius", "21.5"); code != http.StatusSeeOther {
		t.Fatalf("give: %d %s", code, body)
	}
	if code, body := give("command", "blink", "param.seconds", "7"); code != http.StatusSeeOther {
		t.Fatalf("give: %d %s", code, body)
	}
	all, err := w.deps.Commands.List(t.Context(), "A1")
	must(t, err)
	if len(all) != 2 || all[0].Name != "blink" || all[0].By != ada || all[0].Role != "support" {
		t.Fatalf("%+v", all)
	}
	wants(t, "given", w.must200(t, "/device/A1"), "waiting", at+"/"+all[0].ID+"/cancel")
	for name, form := range map[string][]string{
		"out of bounds":   {"command", "blink", "param.seconds", "61"},
		"no number":       {"command", "blink", "param.seconds", `1,"x":2`},
		"nothing":         {"command", "blink"},
		"undeclared":      {"command", "explode"},
		"the owner's":     {"command", "set_target", "param.celsius", "21"},
		"another's role":  {"role", "legal", "command", "blink", "param.seconds", "7"},
		"as the owner":    {"role", "owner", "command", "set_target", "param.celsius", "21"},
		"too long a text": {"command", "show", "param.text", "123456789", "param.mode", "eco", "param.now", "true", "param.celsius", "21.5"},
	} {
		if form[0] == "role" {
			form = append([]string{"reason", "ticket 4711"}, form...)
		} else {
			form = append([]string{"role", "support", "reason", "ticket 4711"}, form...)
		}
		if code, _ := w.post(t, at, form...); code != http.StatusBadRequest && code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
	}
	if code, _ := w.post(t, at, "role", "support", "command", "blink", "param.seconds", "7"); code != http.StatusBadRequest {
		t.Errorf("without a reason: %d", code)
	}
	if code, body := w.post(t, at+"/"+all[0].ID+"/cancel"); code != http.StatusSeeOther {
		t.Errorf("cancel: %d %s", code, body)
	}
	page = w.must200(t, "/device/A1")
	wants(t, "cancelled", page, "cancelled")
	lacks(t, "cancelled", page, at+"/"+all[0].ID+"/cancel")
	if code, _ := w.post(t, at+"/cnone/cancel"); code != http.StatusNotFound {
		t.Errorf("cancel nothing: %d", code)
	}

	// What is risky waits for somebody else, who sees what it would do.
	if code, body := give("command", "melt"); code != http.StatusSeeOther {
		t.Fatalf("ask: %d %s", code, body)
	}
	all, err = w.deps.Commands.List(t.Context(), "A1")
	must(t, err)
	agree := at + "/" + all[0].ID + "/agree"
	page = w.must200(t, "/device/A1")
	wants(t, "asked for", page, "asked", "<code>{}</code>", "ticket 4711")
	lacks(t, "asked for", page, agree)
	if code, _ := w.post(t, agree); code != http.StatusForbidden {
		t.Errorf("who asked agrees: %d", code)
	}
	grace := w.visitor("support")
	grace.Actor.ID = "pgracehopper2"
	w.who = grace
	wants(t, "to another", w.must200(t, "/device/A1"), agree, "it waits for a second person", all[0].ID+"/cancel")
	w.who = w.visitor("operator")
	w.who.Actor.ID = "pgracehopper2"
	if code, _ := w.post(t, agree); code != http.StatusForbidden {
		t.Errorf("without the role: %d", code)
	}
	w.who = grace
	if code, body := w.post(t, agree); code != http.StatusSeeOther {
		t.Errorf("agree: %d %s", code, body)
	}
	page = w.must200(t, "/device/A1")
	wants(t, "agreed", page, "agreed to by <code>staff:pgracehopper2</code>", "waiting")
	lacks(t, "agreed", page, "ticket 4711", agree)
	w.who = w.visitor("operator")
	w.who.Check = func(p string) error {
		if p == "command.give" {
			return core.E(core.Denied, "not-allowed", "your roles do not allow this", "ask an administrator")
		}
		return nil
	}
	page = w.must200(t, "/device/A1")
	lacks(t, "an operator", page, "param.seconds", "/cancel")
	if code, _ := give("command", "blink", "param.seconds", "7"); code != http.StatusForbidden {
		t.Errorf("an operator gives it: %d", code)
	}
}
