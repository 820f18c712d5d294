package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
)

func TestRouteWithoutPermission(t *testing.T) {
	w := newWorld(t, nil)
	ok := func(http.ResponseWriter, *http.Request, Visitor) error { return nil }
	for name, bad := range map[string]Route{
		"no permission":              {"GET /x", "", ok},
		"no handler":                 {"GET /x", "device.list", nil},
		"public and not listed":      {"GET /x", Public, ok},
		"listed and not public":      {"GET /sign-in", "device.list", ok},
		"listed and for the signed":  {"GET /sign-in", SignedIn, ok},
		"no pattern is no open door": {"", "device.list", ok},
	} {
		d := w.deps
		d.Doors = []Route{bad}
		if _, err := New(d); err == nil {
			t.Errorf("%s: the console starts", name)
		}
	}
	d := w.deps
	d.Doors = []Route{{"GET /sign-in", Public, ok}}
	if _, err := New(d); err != nil {
		t.Errorf("a listed public route: %v", err)
	}
	d.Ledger = nil
	if _, err := New(d); err == nil {
		t.Error("without a ledger the console starts")
	}
}

// TestHeaders holds that every answer, also an error, a redirect and a file,
// lets the browser do nothing that we do not need (CC 2.2).
func TestHeaders(t *testing.T) {
	w := newWorld(t, nil)
	style, err := w.c.assets.url("console.css")
	must(t, err)
	for _, url := range []string{"/products", "/nowhere", "/device/%3Cscript%3E", style, "/static/none.css"} {
		rec := httptest.NewRecorder()
		w.c.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", url, nil))
		h := rec.Header()
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Strict-Transport-Security": "max-age=63072000", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", url, name, got, want)
			}
		}
		if got := h.Get("Cache-Control"); got != "no-store" && url != style {
			t.Errorf("%s: Cache-Control is %q", url, got)
		}
	}
	for _, never := range []string{"unsafe-", "data:", "*", "http"} {
		if strings.Contains(policy, never) {
			t.Errorf("the policy has %s", never)
		}
	}
}

// TestNobodySeesNothing holds that who is not signed in gets the way in and
// not a word of any page, and who may not is told so.
func TestNobodySeesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.publish(t, example(t, "aria-thermostat"))
	whole := w.who
	for _, rt := range w.c.routes() {
		method, pattern, _ := strings.Cut(rt.Pattern, " ")
		url := strings.NewReplacer("{$}", "", "{product}", "aria-thermostat", "{device}", "A1", "{control}", "DS-05", "{check}", "x", "{person}", "p1", "{waiver}", "w1", "{name}", "x", "{deed}", "x").Replace(pattern)
		if rt.Permission == Public {
			continue
		}
		w.who = Visitor{}
		rec := httptest.NewRecorder()
		w.c.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), method, url, nil))
		if rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != "/sign-in" || strings.Contains(rec.Body.String(), "Aria") {
			t.Errorf("%s for nobody: %d to %q", rt.Pattern, rec.Code, rec.Header().Get("Location"))
		}
		w.who = whole
		w.who.Check = func(p string) error {
			if p == rt.Permission {
				return core.E(core.Denied, "not-allowed", "your roles do not allow this", "ask an administrator")
			}
			return nil
		}
		code, body := w.ask(t, httptest.NewRequestWithContext(t.Context(), method, url, nil))
		if code != http.StatusForbidden || !strings.Contains(body, "Your roles do not allow this.") {
			t.Errorf("%s without %s: %d", rt.Pattern, rt.Permission, code)
		}
	}
}

// TestFormsAreOurs (CC 2.3): a form from another site, without a token, or
// with another session's token changes nothing.
func TestFormsAreOurs(t *testing.T) {
	w := newWorld(t, func(w *world) { w.publish(t, example(t, "aria-thermostat")); w.device(t, "A1", "aria-thermostat") })
	send := func(token, origin, site string) int {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "https://console.example/device/A1/readings", strings.NewReader("token="+token+"&role=support&purpose=service.control&reason=because+I+must&span=day&field=heating_on"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		if site != "" {
			r.Header.Set("Sec-Fetch-Site", site)
		}
		code, _ := w.ask(t, r)
		return code
	}
	mine := w.c.tokens.of(w.who)
	other := w.who
	other.Session = "s2"
	for name, code := range map[string]int{
		"no token":                send("", "https://console.example", "same-origin"),
		"another session's token": send(w.c.tokens.of(other), "https://console.example", "same-origin"),
		"another site":            send(mine, "https://evil.example", "cross-site"),
		"another origin":          send(mine, "https://evil.example", ""),
		"a sister site":           send(mine, "https://other.console.example", "same-site"),
	} {
		if code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
	}
	if found := w.records(t, "read-session-opened"); len(found) != 0 {
		t.Errorf("%d reads were begun by forms that are not ours", len(found))
	}
	if code := send(mine, "https://console.example", "same-origin"); code != http.StatusOK {
		t.Errorf("our own form: %d\n%s", code, w.broken)
	}
}

func (w *world) records(t testing.TB, kind core.RecordKind) []ledger.Entry {
	t.Helper()
	_, err := w.log.Sequence(t.Context())
	must(t, err)
	found, _, err := w.log.List(t.Context(), ledger.Filter{Kind: kind}, 0, 1000)
	must(t, err)
	return found
}

// TestStepUp: what asks for a fresh passkey says so and leads there.
func TestStepUp(t *testing.T) {
	w := newWorld(t, nil)
	w.who.Check = func(string) error {
		return core.E(core.Unready, stepUp, "this needs your passkey once more", "use it, and do the same again")
	}
	code, body := w.get(t, "/ledger")
	if code != http.StatusConflict {
		t.Errorf("code %d", code)
	}
	wants(t, "step-up", body, `href="/step-up?next=%2Fledger"`, "This needs your passkey once more.", ">Ledger<")
}

// TestTrouble: an error page says what was tried, what is wrong and what to
// do, and nothing of the inside.
func TestTrouble(t *testing.T) {
	w := newWorld(t, nil)
	code, body := w.get(t, "/device/NONE")
	if code != http.StatusNotFound {
		t.Errorf("code %d", code)
	}
	wants(t, "unknown device", body, "Opening /device/NONE", "What is wrong", "What to do", `href="/devices"`)
	must(t, w.store.Close())
	code, body = w.get(t, "/products")
	if code != http.StatusInternalServerError {
		t.Errorf("without a store: %d", code)
	}
	wants(t, "without a store", body, "Something went wrong inside the server.")
	lacks(t, "without a store", body, "sqlite", "sql:", "database is closed", w.dir)
	wants(t, "log", w.broken.String(), "page failed")
}

// TestStaticNames: a file's name holds its digest, and only that name works.
func TestStaticNames(t *testing.T) {
	w := newWorld(t, nil)
	for name, a := range w.c.assets.byName {
		code, body := w.get(t, a.url)
		if code != http.StatusOK || body != string(a.body) {
			t.Errorf("%s: %d, %d bytes", a.url, code, len(body))
		}
		if code, _ := w.get(t, staticPrefix+name); code != http.StatusNotFound {
			t.Errorf("%s without its digest: %d", name, code)
		}
	}
	for _, bad := range []string{"/static/../console.go", "/static/%2e%2e/console.go", "/static/"} {
		if code, body := w.get(t, bad); code == http.StatusOK {
			t.Errorf("%s: %d %s", bad, code, body)
		}
	}
	if _, err := w.c.assets.url("none.css"); err == nil {
		t.Error("a template may name a file that does not exist")
	}
}

func TestProducts(t *testing.T) {
	w := newWorld(t, nil)
	lacks(t, "a page without a part that changes", w.must200(t, "/products"), "live.", "data-live")
	wants(t, "no product", w.must200(t, "/products"), "No product has a declaration yet.", "hawser declaration publish")
	source := example(t, "aria-thermostat")
	w.publish(t, source)
	w.publish(t, strings.NewReplacer("version: 3", "version: 4", "precision: 0.1 ", "precision: 0.5 ").Replace(source))
	w.publish(t, strings.NewReplacer("version: 3", "version: 5", "precision: 0.1 ", "precision: 0.5 ", "readers: [owner, support]", "readers: [owner, security, support]").Replace(source))
	wants(t, "list", w.must200(t, "/products"), "Aria Thermostat", "/product/aria-thermostat", "raised", "31 December 2032")
	page := w.must200(t, "/product/aria-thermostat")
	wants(t, "product", page, "version 5", "room_temperature", "-40 to 85 Cel, rounded to 0.5", "30 days", "then shred", "weatherco", "Heats by its dial", "widens 1", "narrows 1", "compare with 3", "wpa3", "Your readings are gone after 30 days.", "not proved", "/control/DM-05", "of 132 rows", "row-2.14")
	wants(t, "diff", w.must200(t, "/product/aria-thermostat?from=3&to=5"), "From version 3 to version 5", "data.heating_on", "data.room_temperature", ">narrows<", ">widens<", "security")
	wants(t, "old", w.must200(t, "/product/aria-thermostat?version=3"), "not in force: version 5 is", "rounded to 0.1")
	for _, bad := range []string{"/product/none", "/product/%3Cb%3E", "/product/aria-thermostat?version=9", "/product/aria-thermostat?version=x", "/product/aria-thermostat?from=3&to=8"} {
		if code, _ := w.get(t, bad); code != http.StatusNotFound {
			t.Errorf("%s: %d", bad, code)
		}
	}
}

func TestDevices(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.publish(t, example(t, "aria-thermostat"))
		must(t, w.store.Update(t.Context(), func(tx *store.Tx) error {
			for i := range 120 {
				if err := w.deviceIn(t.Context(), tx, core.DeviceID("NW-"+number2(i)), "aria-thermostat", core.Subject{}); err != nil {
					return err
				}
			}
			return nil
		}))
		w.device(t, "ZZ-1", "aria-thermostat")
		w.device(t, "ZZ-2", "other-thing")
	})
	page := w.must200(t, "/devices")
	wants(t, "first page", page, "122 devices", "NW-00000", "NW-00049", "after=NW-00049", "active (2)", "added (120)")
	lacks(t, "first page", page, "NW-00050", "First page")
	wants(t, "second page", w.must200(t, "/devices?after=NW-00049"), "NW-00050", "NW-00099", "First page")
	page = w.must200(t, "/devices?after=NW-00099")
	wants(t, "last page", page, "NW-00119", "ZZ-2")
	lacks(t, "last page", page, "Next page")
	page = w.must200(t, "/devices?state=active&product=aria-thermostat")
	wants(t, "filter", page, "ZZ-1", "1 device fits")
	lacks(t, "filter", page, ">ZZ-2<", ">NW-")
	wants(t, "prefix", w.must200(t, "/devices?id=NW-0001"), "NW-00010", "10 devices fit")
	wants(t, "nothing fits", w.must200(t, "/devices?id=nw"), "No device fits.")
	for _, bad := range []string{"/devices?state=x", "/devices?product=%3C", "/devices?after=%3Cscript"} {
		if code, _ := w.get(t, bad); code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, code)
		}
	}
	d, err := w.ids.Device("ZZ-1")
	must(t, err)
	w.running.connections = []Connection{{w.now.Add(-time.Minute), "certificate-revoked", "192.0.2.0/24", d.Subject}, {w.now, "not-of-this-device", "192.0.2.0/24", core.Subject{1}}}
	w.running.connected["ZZ-1"] = true
	page = w.must200(t, "/device/ZZ-1")
	wants(t, "device", page, "connected now", "certificate-revoked", "60 seconds ago", "128 bits", "made by the device", "good for 20 days", d.Serial.String(), d.Subject.String())
	lacks(t, "device", page, "not-of-this-device")
	wants(t, "nobody's device", w.must200(t, "/device/NW-00001"), "There are no readings", "nobody's", "none yet")
	wants(t, "undeclared device", w.must200(t, "/device/ZZ-2"), "has no declaration in force")
}

// TestReadingsNeedAReason: nothing of a device's readings is on any page
// before a session with purpose and reason stands in the ledger (CC 4.1, 3.15).
func TestReadingsNeedAReason(t *testing.T) {
	w := newWorld(t, nil)
	w.publish(t, strings.Replace(example(t, "aria-thermostat"), "heating_on:", "serial_note:\n    about: a note\n    stream: climate\n    type: string\n    max_length: 200\n    class: personal\n    purposes: [service.control]\n    keep: 30d\n    readers: [owner, support]\n    when_done: shred\n  hidden_one:\n    stream: climate\n    type: integer\n    unit: \"1\"\n    range: [0, 1000000000000]\n    class: personal\n    purposes: [service.control]\n    keep: 30d\n    readers: [owner]\n    when_done: shred\n  heating_on:", 1))
	s := w.addLater(t, "A1", "aria-thermostat")
	var sent []reading
	for i := range 40 {
		sent = append(sent, reading{w.now.Add(-time.Duration(i) * 20 * time.Minute), map[string]any{"room_temperature": 19.25 + float64(i)/10, "heating_on": i%2 == 0, "serial_note": "<b>canary</b>", "hidden_one": 271828182845}})
	}
	w.send(t, "aria-thermostat", "climate", s, sent...)
	page := w.must200(t, "/device/A1")
	wants(t, "before", page, "Nothing is shown before you say why", "service.control", "Not for your roles: hidden_one", `name="token"`)
	lacks(t, "before", page, "canary", "polyline")
	good := []string{"role", "support", "purpose", "service.control", "reason", "ticket 4711: it is cold", "span", "day", "field", "room_temperature", "field", "heating_on", "field", "serial_note"}
	without := func(name string, value ...string) []string {
		var out []string
		for i := 0; i < len(good); i += 2 {
			if good[i] != name {
				out = append(out, good[i], good[i+1])
			}
		}
		return append(out, value...)
	}
	for name, form := range map[string][]string{
		"no reason": without("reason"), "a short reason": without("reason", "reason", "abc"), "no purpose": without("purpose"), "a purpose of its own": without("purpose", "purpose", "curiosity"),
		"another's role": without("role", "role", "owner"), "no field": without("field"), "only a hidden field": without("field", "field", "hidden_one"), "no span": without("span"),
	} {
		code, body := w.post(t, "/device/A1/readings", form...)
		if code == http.StatusOK || strings.Contains(body, "canary") || strings.Contains(body, "polyline") {
			t.Errorf("%s: %d and readings", name, code)
		}
	}
	if n := len(w.records(t, "read-session-opened")); n != 0 {
		t.Errorf("%d sessions were opened without a reason or purpose", n)
	}
	code, body := w.post(t, "/device/A1/readings", good...)
	if code != http.StatusOK {
		t.Fatalf("a good read: %d\n%s\n%s", code, body, w.broken)
	}
	wants(t, "readings", body, "40 readings", "<polyline", "<table>", "&lt;b&gt;canary", "as support, for service.control", "share of yes")
	lacks(t, "readings", body, "271828182845", "271 828 182 845", "<b>canary")
	opened := w.records(t, "read-session-opened")
	if len(opened) != 1 || opened[0].Record.Actor != ada || len(w.records(t, "read-session-closed")) != 1 {
		t.Errorf("the ledger has %v", opened)
	}
	if len(body) > 100<<10 {
		t.Errorf("the page has %d bytes", len(body))
	}
	w.who = w.visitor("auditor")
	if code, body := w.post(t, "/device/A1/readings", good...); code != http.StatusForbidden || strings.Contains(body, "canary") {
		t.Errorf("an auditor reads: %d", code)
	}
}

// addLater registers a device after the register was opened, and opens it anew.
func (w *world) addLater(t testing.TB, id core.DeviceID, product core.ProductID) core.Subject {
	t.Helper()
	s := w.device(t, id, product)
	ca, err := identity.OpenCA(identity.OpenOptions{Environment: core.Test, Dir: w.dir + "/ca", Now: func() time.Time { return w.now }})
	must(t, err)
	w.ids = w.register(t, ca)
	w.deps.Devices = w.ids
	w.serve(t)
	return s
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, nil)
	wants(t, "nothing refused", w.must200(t, "/refusals"), "No message was refused.", "Nobody was turned away.", "No connection was refused.")
}

// TestLedgerPages walks the ledger backwards, with and without a filter.
func TestLedgerPages(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 700 {
		kind := core.RecordKind("device-added")
		if i == 3 {
			kind = "device-revoked"
		}
		must(t, w.store.Update(t.Context(), func(tx *store.Tx) error {
			return tx.Record(t.Context(), core.Record{Time: w.now, Kind: kind, Actor: ada, Product: "aria-thermostat", Facts: []core.Fact{{Name: "n", Value: "i" + number2(i)}}})
		}))
	}
	page := w.must200(t, "/ledger")
	wants(t, "newest", page, "i00699", "i00660", "before=661", "not signed yet", "hawser/test")
	lacks(t, "newest", page, "i00659")
	wants(t, "older", w.must200(t, "/ledger?before=661"), "i00659", "i00620", ">Newest<")
	wants(t, "the first", w.must200(t, "/ledger?before=20"), "ledger-origin-begun")
	page = w.must200(t, "/ledger?kind=device-revoked")
	wants(t, "one kind", page, "i00003")
	lacks(t, "one kind", page, "i00699", ">Older<")
	wants(t, "none of a kind", w.must200(t, "/ledger?kind=device-released"), "There is no entry of the kind device-released.")
	_, err := w.log.Checkpoint(t.Context())
	must(t, err)
	lacks(t, "signed", w.must200(t, "/ledger"), "not signed yet")
	if code, _ := w.get(t, "/ledger?before=x"); code != http.StatusBadRequest {
		t.Errorf("a bad place: %d", code)
	}
}
