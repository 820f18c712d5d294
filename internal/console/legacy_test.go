package console

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// old registers a device that comes with a token, through a door that is open
// for a week.
func (w *world) old(t *testing.T, id core.DeviceID) {
	t.Helper()
	w.ids.SetLegacy("aria-thermostat", identity.LegacyTerms{Auth: identity.DeviceToken, Until: w.now.AddDate(0, 0, 7), MaxDevices: 1})
	_, _, err := w.ids.AddTokens(t.Context(), ada, "aria-thermostat", []identity.LegacyToken{{Device: id}}, "CHG-7")
	must(t, err)
}

// TestLegacyDevices: a device of before is found by its state, and its page says
// what it comes with, until when, and why it is not let in.
func TestLegacyDevices(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.publish(t, example(t, "aria-thermostat"))
		w.device(t, "A1", "aria-thermostat")
	})
	w.old(t, "OLD-1")
	w.serve(t)
	page := w.must200(t, "/devices?state=legacy")
	wants(t, "list", page, "OLD-1", `<span class="tag hot">legacy</span>`)
	lacks(t, "list", page, "/device/A1")
	wants(t, "page", w.must200(t, "/device/OLD-1"), "none yet: it comes to the door for old devices", "a token of its own, let in until "+day(w.now.AddDate(0, 0, 7)), "never used", "hawser legacy withdraw OLD-1")
	lacks(t, "another", w.must200(t, "/device/A1"), "Of before")
	w.ids.SetLegacy("aria-thermostat", identity.LegacyTerms{Auth: identity.DeviceToken, Until: w.now.Add(-time.Second), MaxDevices: 1})
	wants(t, "shut", w.must200(t, "/device/OLD-1"), "not let in: <code>legacy-door-closed</code>")
}
