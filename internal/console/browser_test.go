package console

import (
	"context"
	"encoding/json"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/house"
	"github.com/hawser-iot/hawser/internal/sampling"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// browser is a real one with a tab at a console.
type browser struct {
	ctx context.Context
	url string
}

// newBrowser opens a browser on the world's console; the test is skipped by
// name where there is none.
func newBrowser(t *testing.T, w *world) *browser {
	t.Helper()
	srv := httptest.NewTLSServer(w.c)
	t.Cleanup(srv.Close)
	return &browser{house.Browser(t, 4*time.Minute), srv.URL}
}

func (b *browser) do(t *testing.T, a ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b.ctx, a...); err != nil {
		t.Fatal(err)
	}
}

func (b *browser) goTo(t *testing.T, path string) {
	t.Helper()
	b.do(t, chromedp.Navigate(b.url+path))
}

// ask evaluates an expression in the page.
func ask[T any](t *testing.T, b *browser, expression string) T {
	t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%.80s: %v", expression, err)
	}
	return v
}

func (b *browser) scheme(t *testing.T, s string) {
	t.Helper()
	b.do(t, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s}}})
		return err
	}))
}

// shoot keeps a picture of the whole page in the folder HAWSER_SHOTS, if it is
// set: for a person to look at.
func (b *browser) shoot(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("HAWSER_SHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	must(t, err)
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
}

// axe says what the accessibility rules of axe-core find serious or critical.
func (b *browser) axe(t *testing.T, source string) []string {
	t.Helper()
	b.do(t, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[*json.RawMessage](source+"; null"))
		return err
	}))
	return ask[[]string](t, b, `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.filter(v => ["serious", "critical"].includes(v.impact)).flatMap(v => v.nodes.map(n => v.id + ": " + n.html.slice(0, 160) + " " + n.failureSummary)))`)
}

// furnish fills a world with what a maker has after a while.
func furnish(t *testing.T) *world {
	t.Helper()
	var subjects []core.Subject
	w := newWorld(t, func(w *world) {
		source := example(t, "aria-thermostat")
		w.publish(t, source)
		w.now = w.now.Add(time.Second)
		w.publish(t, strings.NewReplacer("version: 3", "version: 4", "precision: 0.1 ", "precision: 0.5 ").Replace(source))
		w.now = w.now.Add(time.Second)
		w.publish(t, strings.NewReplacer("version: 3", "version: 5", "precision: 0.1 ", "precision: 0.5 ", "readers: [owner, support]", "readers: [owner, security, support]").Replace(source))
		for _, p := range []string{"pulse-band", "story-bear", "yard-gate", "nest-hub", "leaf-contact"} {
			w.publish(t, example(t, p))
		}
		w.family(t)
		for i := range 64 {
			p := []core.ProductID{"aria-thermostat", "pulse-band", "yard-gate"}[i%3]
			if i%9 == 8 {
				must(t, w.store.Update(t.Context(), func(tx *store.Tx) error {
					return w.deviceIn(t.Context(), tx, core.DeviceID("NW-24-"+number2(i)), p, core.Subject{})
				}))
				continue
			}
			subjects = append(subjects, w.device(t, core.DeviceID("NW-24-"+number2(i)), p))
			w.running.connected[core.DeviceID("NW-24-"+number2(i))] = i%4 != 1
		}
	})
	var sent []reading
	for i := range 96 * 3 {
		if i > 150 && i < 170 {
			continue // it was switched off
		}
		at := w.now.Add(-time.Duration(i) * 5 * time.Minute)
		sent = append(sent, reading{at, map[string]any{"room_temperature": math.Round((20.5+2.2*math.Sin(float64(i)/40)+.4*math.Sin(float64(i)/3))*2) / 2, "heating_on": i%50 < 18}})
	}
	w.send(t, "aria-thermostat", "climate", subjects[0], sent...)
	w.running.counted = Counted{Accepted: 1_284_031, Stored: 1_283_420, DroppedFields: 912, Duplicates: 611, Refused: []telemetry.ReasonCount{
		{Reason: telemetry.ReasonBadField, N: 41}, {Reason: telemetry.ReasonRate, N: 1207}, {Reason: telemetry.ReasonUndeclared, N: 12},
	}}
	for i := range 30 {
		w.running.connections = append(w.running.connections, Connection{w.now.Add(-time.Duration(40-i) * 7 * time.Minute), []string{"certificate-revoked", "superseded-certificate", "no-certificate", "rate"}[i%4], "192.0.2.0/24", subjects[i%3]})
	}
	w.prove(t, "area.4-7", w.manyChecks()...)
	for range 30 {
		w.now = w.now.Add(20 * time.Second)
		w.look(t)
	}
	w.settle(t, "NW-24-00000")
	w.old(t, "OLD-1")
	_, err := w.log.Checkpoint(t.Context())
	must(t, err)
	key, err := bundle.CreateKey(w.dir + "/evidence.key")
	must(t, err)
	w.deps.Evidence = &evidence{info: EvidenceInfo{Keys: []EvidenceKey{EvidenceKeyOf(key.Public())}, SignsHere: true, Witnesses: []Witness{{"nas.northwind.example/1", w.now.Add(-time.Minute), 90}}}}
	w.deps.People = &people{refounded: []access.Refounding{{Number: 1, At: w.now.Add(-26 * time.Hour), By: core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}, First: "pmaryjacksonn", FirstAt: w.now.Add(-20 * time.Hour)}}, list: []access.Person{
		{ID: "pabcdefghijkl", Name: "Ada Byron", Mail: "ada@northwind.example", State: access.Active, Roles: []access.Role{access.Administrator}, Approver: true, ApproverFrom: w.now.Add(-time.Hour), Founder: true, Joined: w.now.Add(-90 * 24 * time.Hour), InvitedBy: core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}, Passkeys: 2},
		{ID: "pgracehopper2", Name: "Grace Hopper", Mail: "grace@northwind.example", State: access.Active, Roles: []access.Role{access.Administrator, access.Security}, Approver: true, ApproverFrom: w.now.Add(-time.Hour), Founder: true, Joined: w.now.Add(-89 * 24 * time.Hour), InvitedBy: core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}, Passkeys: 1},
		{ID: "pmaryjacksonn", Name: "Mary Jackson", Mail: "mary@northwind.example", State: access.Active, Roles: []access.Role{access.Operator}, Approver: true, ApproverFrom: w.now.Add(50 * time.Hour), Joined: w.now.Add(-22 * time.Hour), InvitedBy: ada, Passkeys: 1},
		{ID: "pleocadiaaaaa", Name: "Leo Marks", Mail: "leo@northwind.example", State: access.Active, Roles: []access.Role{access.Support}, Joined: w.now.Add(-40 * 24 * time.Hour), InvitedBy: ada, PasswordSet: true, RecoveryCodes: 8},
		{ID: "pinvitedaaaaa", State: access.Invited, Roles: []access.Role{access.Auditor}, Invited: w.now.Add(-3 * time.Hour), InvitedBy: ada, LinkUntil: w.now.Add(45 * time.Hour)},
		{ID: "passessoraaaa", Name: "Zoe Okafor", Mail: "zoe@assessors.example", State: access.Active, Roles: []access.Role{access.Auditor}, Period: access.Period{From: w.now.AddDate(0, -2, 0), Until: w.now.AddDate(0, 1, 0)}, Joined: w.now.Add(-5 * 24 * time.Hour), InvitedBy: ada, PasswordSet: true, RecoveryCodes: 10},
		{ID: "pgoneaaaaaaaa", Name: "Jack Kilby", Mail: "jack@northwind.example", State: access.Disabled, Roles: []access.Role{access.Support}, Joined: w.now.Add(-80 * 24 * time.Hour), Disabled: w.now.Add(-30 * 24 * time.Hour), InvitedBy: ada},
	}}
	w.deps.Passwords = func() PasswordRules {
		return PasswordRules{Names: []string{"Northwind Home", "iot.northwind.example"}, Products: 3}
	}
	w.serve(t)
	st, err := w.proof.State(t.Context())
	must(t, err)
	var met assurance.ControlID
	for _, c := range st.Controls {
		if c.Verdict == assurance.Met {
			met = c.Control.ID
		}
	}
	_, err = w.proof.AskWaiver(t.Context(), ada, assurance.WaiverRequest{Row: "7.6", Reason: "the help desk moves to another building; mail is answered by hand meanwhile", Instead: met, Days: 14})
	must(t, err)
	asked, err := w.proof.AskWaiver(t.Context(), core.Actor{Kind: core.ActorStaff, ID: "pgracehopper2"}, assurance.WaiverRequest{Row: "6.11", Reason: "one vendor's contract is being renewed", Instead: met, Days: 30})
	must(t, err)
	_, err = w.proof.ApproveWaiver(t.Context(), ada, asked.ID)
	must(t, err)
	return w
}

// pages are the pages that a person comes to, by a name for their picture.
func pagesToSee() [][2]string {
	return [][2]string{
		{"today", "/"},
		{"today-failing", "/?show=failing"},
		{"control", "/control/RP-03"},
		{"control-failing", "/control/RP-02"},
		{"check", "/check/area.2-8"},
		{"products", "/products"},
		{"product", "/product/aria-thermostat"},
		{"product-diff", "/product/aria-thermostat?from=3&to=5"},
		{"devices", "/devices"},
		{"device", "/device/NW-24-00000"},
		{"hub", "/device/HUB-1"},
		{"child", "/device/LEAF-1"},
		{"legacy", "/device/OLD-1"},
		{"refusals", "/refusals"},
		{"people", "/people"},
		{"ledger", "/ledger"},
		{"evidence", "/evidence"},
		{"waivers", "/waivers"},
		{"reviews", "/reviews"},
		{"trouble", "/control/XX-99"},
	}
}

// drawSamples has a sample drawn and one waiting, and says where they are.
func (w *world) drawSamples(t *testing.T) [][2]string {
	t.Helper()
	drawn, err := w.deps.Samples.Begin(t.Context(), ada, sampling.Request{Of: sampling.Devices, Size: 5})
	must(t, err)
	_, err = w.deps.Samples.Draw(t.Context(), ada, drawn.ID, []byte("sixteen bytes :-)"))
	must(t, err)
	open, err := w.deps.Samples.Begin(t.Context(), ada, sampling.Request{Of: sampling.RecordsOf("observations"), Size: 3, From: w.now.AddDate(0, 0, -1), Until: w.now.AddDate(0, 0, 1)})
	must(t, err)
	return [][2]string{{"sample", "/evidence/samples/" + drawn.ID}, {"sample-open", "/evidence/samples/" + open.ID}}
}

// TestPagesInABrowser opens every page in a real browser, light and dark: the
// page's policy stops nothing of ours, the accessibility rules find nothing
// serious, every control can be reached with the keyboard, and the page is
// small.
func TestPagesInABrowser(t *testing.T) {
	w := furnish(t)
	b := newBrowser(t, w)
	axe, err := os.ReadFile("../../tools/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Skip("there is no axe-core: `make deps` installs it")
	}
	for _, p := range append(pagesToSee(), w.drawSamples(t)...) {
		for _, scheme := range []string{"light", "dark"} {
			name := p[0] + "-" + scheme
			b.scheme(t, scheme)
			b.do(t, chromedp.EmulateViewport(1360, 900))
			b.goTo(t, p[1])
			b.judge(t, name, string(axe))
		}
		b.do(t, chromedp.EmulateViewport(420, 900))
		b.goTo(t, p[1])
		if wide := ask[int](t, b, `document.documentElement.scrollWidth`); wide > 420 {
			t.Errorf("%s: %d wide on a small screen", p[0], wide)
		}
		b.shoot(t, p[0]+"-small")
	}
}

// TestReadingsInABrowser fills in the form with the keyboard, reads, and looks
// at the charts.
func TestReadingsInABrowser(t *testing.T) {
	w := furnish(t)
	b := newBrowser(t, w)
	axe, err := os.ReadFile("../../tools/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Skip("there is no axe-core: `make deps` installs it")
	}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(t, scheme)
		b.do(t, chromedp.EmulateViewport(1360, 900))
		b.goTo(t, "/device/NW-24-00000")
		b.do(t, chromedp.Focus("#purpose"), chromedp.SendKeys("#purpose", "service.c"), chromedp.Focus("#reason"), chromedp.SendKeys("#reason", "ticket 4711: the owner says it is cold"),
			chromedp.Focus("form.tall button"), chromedp.KeyEvent("\r"), chromedp.WaitVisible(".chart"))
		if n := ask[int](t, b, `document.querySelectorAll(".chart polyline").length`); n < 2 {
			t.Errorf("%d lines are drawn", n)
		}
		b.judge(t, "readings-"+scheme, string(axe))
	}
	if n := len(w.records(t, "read-session-opened")); n != 2 {
		t.Errorf("%d read sessions in the ledger, want 2", n)
	}
}

// TestKeyboardReachesEverything walks each page with the tabulator: every link,
// button and field gets the focus once, shows that it has it, and the first
// stop leads past the list at the side.
func TestKeyboardReachesEverything(t *testing.T) {
	w := furnish(t)
	b := newBrowser(t, w)
	b.do(t, chromedp.EmulateViewport(1360, 900))
	for _, p := range [][2]string{{"today", "/?show=failing"}, {"device", "/device/NW-24-00000"}, {"people", "/people"}, {"waivers", "/waivers"}, {"products", "/products"}} {
		b.goTo(t, p[1])
		want := ask[int](t, b, `(() => {
			window.stops = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")].filter(x => x.checkVisibility() && !x.disabled);
			window.seen = new Set(); window.blind = [];
			document.addEventListener("focusin", e => { seen.add(e.target); const s = getComputedStyle(e.target); if (s.outlineStyle === "none" || parseFloat(s.outlineWidth) < 2) blind.push(e.target.outerHTML.slice(0, 80)) });
			return stops.length })()`)
		parts := 3 * ask[int](t, b, `document.querySelectorAll("input[type=date]").length`) // day, month, year and the calendar stop one by one
		for i := range want + parts + 2 {
			b.do(t, chromedp.KeyEvent("\t"))
			if i == 0 {
				if first := ask[string](t, b, `document.activeElement.getAttribute("href")`); first != "#main" {
					t.Errorf("%s: the first stop is %q", p[0], first)
				}
			}
		}
		if missed := ask[[]string](t, b, `stops.filter(x => !seen.has(x)).map(x => x.outerHTML.slice(0, 100))`); len(missed) > 0 || want < 8 {
			t.Errorf("%s: of %d stops the keyboard does not reach %q", p[0], want, missed)
		}
		if blind := ask[[]string](t, b, `blind`); len(blind) > 0 {
			t.Errorf("%s: one does not see the focus on %q", p[0], blind)
		}
	}
	b.goTo(t, "/")
	b.do(t, chromedp.KeyEvent("\t"), chromedp.KeyEvent("\r"))
	if here := ask[string](t, b, `document.activeElement.id`); here != "main" {
		t.Errorf("the skip link leads to %q", here)
	}
}

// TestLiveInABrowser: a page that is open follows what happens, keeps what is
// unfolded, leaves the focus alone, and says when the session is over.
func TestLiveInABrowser(t *testing.T) {
	bad := atomic.Bool{}
	w := newWorld(t, nil)
	w.prove(t, "", aCheck("passwords.a", "1.9", "So.", passes(4)), aCheck("passwords.b", "1.10", "So.", passes(4)), aCheck("passwords.c", "2.15", "So.", func(ctx context.Context, l *check.Look) error {
		if bad.Load() {
			return fails(5, "shares its password", "twin-7")(ctx, l)
		}
		return passes(5)(ctx, l)
	}))
	b := newBrowser(t, w)
	b.goTo(t, "/control/DS-05")
	ask[*bool](t, b, `document.getElementById("touched-1.9-passwords.a").open = true, null`)
	bad.Store(true)
	w.look(t)
	b.do(t, chromedp.WaitVisible(`.v-failing`))
	wants(t, "after the look", ask[string](t, b, `document.querySelector("main").innerText`), "twin-7", "shares its password")
	if !ask[bool](t, b, `document.getElementById("touched-1.9-passwords.a").open`) {
		t.Error("what was unfolded is folded")
	}
	if stopped := ask[[]string](t, b, `stopped`); len(stopped) > 0 {
		t.Errorf("the page's policy stopped %q", stopped)
	}
	// Who reads with the keyboard is not interrupted.
	ask[*bool](t, b, `document.querySelector("[data-live] a").focus(), null`)
	bad.Store(false)
	w.look(t)
	time.Sleep(time.Second)
	if n := ask[int](t, b, `document.querySelectorAll(".v-failing").length`); n == 0 {
		t.Error("the page changed under the focus")
	}
	w.whoIs(Visitor{})
	ask[*bool](t, b, `document.activeElement.blur(), null`)
	b.do(t, chromedp.WaitVisible(`.live:not(:empty)`))
	wants(t, "signed out", ask[string](t, b, `document.querySelector(".live").textContent`), "Your session has ended")
}

// judge holds the page that is open against the rules of every page.
func (b *browser) judge(t *testing.T, name, axe string) {
	t.Helper()
	b.shoot(t, name)
	if n := ask[int](t, b, `performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation")).reduce((n, e) => n + e.encodedBodySize, 0)`); n > 100<<10 || n == 0 {
		t.Errorf("%s: %d bytes with its files", name, n)
	}
	if n := ask[int](t, b, `document.querySelectorAll("h1").length`); n != 1 {
		t.Errorf("%s: %d first headings", name, n)
	}
	if bad := ask[[]string](t, b, `[...document.querySelectorAll("table")].filter(x => !x.caption?.textContent.trim()).map(x => x.textContent.slice(0, 60))`); len(bad) > 0 {
		t.Errorf("%s: tables without a caption: %q", name, bad)
	}
	for _, x := range b.axe(t, axe) {
		t.Errorf("%s: %s", name, x)
	}
	if stopped := ask[[]string](t, b, `stopped`); len(stopped) > 0 {
		t.Errorf("%s: the page's policy stopped %q", name, stopped)
	}
}
