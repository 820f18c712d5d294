package console

import (
	"context"
	"encoding/json"
	"math"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	devpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/hawser-iot/hawser/internal/core"
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
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium: `make deps` installs it")
	}
	srv := httptest.NewTLSServer(w.c)
	t.Cleanup(srv.Close)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.IgnoreCertErrors, chromedp.Headless, chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("no-pings", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	b := &browser{ctx, srv.URL}
	// What the page's policy stops is remembered from the first moment on.
	b.do(t, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, devpage.AddScriptToEvaluateOnNewDocument, devpage.AddScriptToEvaluateOnNewDocumentParams{
			Source: `window.stopped = []; addEventListener("securitypolicyviolation", e => stopped.push(e.violatedDirective + " " + e.blockedURI + " " + e.sample)); addEventListener("error", e => stopped.push("error " + e.message))`,
		})
		return err
	}))
	return b
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
		for _, p := range []string{"pulse-band", "story-bear", "yard-gate"} {
			w.publish(t, example(t, p))
		}
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
	for i := range 96 * 3 {
		if i > 150 && i < 170 {
			continue // it was switched off
		}
		at := w.now.Add(-time.Duration(i) * 5 * time.Minute)
		w.send(t, "aria-thermostat", "climate", subjects[0], at, map[string]any{"room_temperature": math.Round((20.5+2.2*math.Sin(float64(i)/40)+.4*math.Sin(float64(i)/3))*2) / 2, "heating_on": i%50 < 18})
	}
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
	_, err := w.log.Checkpoint(t.Context())
	must(t, err)
	return w
}

// pages are the pages that a person comes to, by a name for their picture.
func pagesToSee() [][2]string {
	return [][2]string{
		{"today", "/"},
		{"today-failing", "/?show=failing"},
		{"control", "/control/RP-03"},
		{"control-failing", "/control/DS-07"},
		{"check", "/check/area.2-8"},
		{"products", "/products"},
		{"product", "/product/aria-thermostat"},
		{"product-diff", "/product/aria-thermostat?from=3&to=5"},
		{"devices", "/devices"},
		{"device", "/device/NW-24-00000"},
		{"refusals", "/refusals"},
		{"ledger", "/ledger"},
		{"trouble", "/control/XX-99"},
	}
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
	for _, p := range pagesToSee() {
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
