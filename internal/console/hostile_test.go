package console

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// inertPage holds that nothing of the hostile text became markup.
func inertPage(t *testing.T, what string, page []byte) {
	t.Helper()
	if !bytes.Contains(page, []byte("hx-evil")) {
		t.Errorf("%s: the hostile text is not on it, so nothing was tried", what)
	}
	for _, wrong := range Markup(page) {
		t.Errorf("%s: %s", what, wrong)
	}
}

// TestHostileNamesAreInert (CC 2.2): every template, with every text that it
// shows made hostile, is drawn as text; and where text is drawn as markup it is
// seen, on each page.
func TestHostileNamesAreInert(t *testing.T) {
	w := newWorld(t, nil)
	w.deps.Maker = hostile
	w.serve(t)
	all := w.c.Inert()
	if len(all) != len(w.c.pages) || len(all) != len(views()) {
		t.Errorf("%d pages drawn, there are %d templates and %d views", len(all), len(w.c.pages), len(views()))
	}
	for _, d := range all {
		if len(d.Wrong) > 0 {
			t.Errorf("%s: %s", d.Page, d.Wrong)
		}
	}
	must(t, w.c.Unescape())
	for _, d := range w.c.Inert() {
		if len(d.Wrong) < 3 {
			t.Errorf("%s draws text as markup, and that is not seen: %s", d.Page, d.Wrong)
		}
	}
}

// TestMarkup: what a browser would make of a page is seen, ours is not.
func TestMarkup(t *testing.T) {
	for page, want := range map[string]bool{
		`<p>&lt;script&gt;x()&lt;/script&gt;</p>`:           false,
		`<a href="/devices?id=%3Cscript%3E">x</a>`:          false,
		`<script src="/static/app.js"></script>`:            false,
		`<input value="&#34; onmouseover=&#34;x()">`:        false,
		`<p><script>x()</script></p>`:                       true,
		`<p title="" onmouseover=x()>`:                      true,
		`<p style="position:fixed">`:                        true,
		`<a href="javascript:x()">x</a>`:                    true,
		`<a href="//attacker.example/">x</a>`:               true,
		`<a href="https://attacker.example/">x</a>`:         true,
		`<img src="/x"><iframe srcdoc="<p>x">`:              true,
		`<svg><animate onbegin=x()>`:                        true,
		`<form action="https://attacker.example/">`:         true,
		`<p><!-- x --></p>`:                                 true,
		"<p>a\u202eb</p>":                                   true,
		`<script src="https://attacker.example/"></script>`: true,
		`<base href="https://attacker.example/">`:           true,
		`<math><mtext></mtext></math>`:                      true,
	} {
		if got := Markup([]byte(page)); (len(got) > 0) != want {
			t.Errorf("%s: %q, want something: %v", page, got, want)
		}
	}
}

func FuzzMarkup(f *testing.F) {
	f.Add([]byte(hostile))
	f.Add([]byte(`<a href="/x"><svg><p onclick=`))
	f.Fuzz(func(_ *testing.T, b []byte) { Markup(b) })
}

// TestHostileRequestsAreInert: what a request says, in its path, its query or
// its form, comes back as text only.
func TestHostileRequestsAreInert(t *testing.T) {
	w := newWorld(t, func(w *world) { w.publish(t, example(t, "aria-thermostat")); w.device(t, "A1", "aria-thermostat") })
	q := url.QueryEscape(hostile)
	p := url.PathEscape(strings.ReplaceAll(hostile, "/", "|"))
	for _, u := range []string{
		"/" + p, "/control/" + p, "/check/" + p, "/product/" + p, "/product/aria-thermostat?version=" + q, "/device/" + p, "/devices?id=" + q, "/ledger?kind=" + q, "/static/" + p, "/waivers/" + p,
	} {
		rec := httptest.NewRecorder()
		w.c.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", u, nil))
		if ct := rec.Header().Get("Content-Type"); strings.HasPrefix(ct, "text/plain") {
			continue
		}
		inertPage(t, u[:12], rec.Body.Bytes())
	}
	for _, name := range []string{"role", "purpose", "reason", "span", "field"} {
		form := url.Values{tokenField: {w.c.tokens.of(w.who)}, "role": {"support"}, "purpose": {"service.control"}, "reason": {"ticket 4711"}, "span": {"day"}, "field": {"heating_on"}}
		form.Set(name, hostile)
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/device/A1/readings", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		rec := httptest.NewRecorder()
		w.c.ServeHTTP(rec, r)
		b := rec.Body.Bytes()
		if !bytes.Contains(b, []byte("hx-evil")) {
			b = append(b, "hx-evil"...) // a refusal need not repeat it
		}
		inertPage(t, "a form's "+name, b)
	}
}

// FuzzInert: whatever bytes a page would hold, none that deceive are sent, and
// what is clean is not changed.
func FuzzInert(f *testing.F) {
	f.Add([]byte(hostile))
	f.Add([]byte("<p>Grüße, 東京, \u202fnarrow</p>\n\t"))
	f.Add([]byte{0xff, 0xc0, 0x80})
	f.Fuzz(func(t *testing.T, in []byte) {
		out := inert(bytes.Clone(in))
		for _, r := range string(out) {
			if deceptive(r) {
				t.Fatalf("%U is left of %q", r, in)
			}
		}
		if clean(in) && !bytes.Equal(in, out) {
			t.Fatalf("changed %q to %q", in, out)
		}
		if again := inert(bytes.Clone(out)); !bytes.Equal(again, out) {
			t.Fatalf("%q is changed twice", in)
		}
	})
}

// TestNumbersAndTimesInWords holds the words that people compare.
func TestNumbersAndTimesInWords(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, c := range [][2]string{
		{num(0), "0"},
		{num(999), "999"},
		{num(1000), "1\u202f000"},
		{num(uint64(12345678)), "12\u202f345\u202f678"},
		{ago(now, time.Time{}), "never"},
		{ago(now, now), "just now"},
		{ago(now, now.Add(-time.Minute)), "60 seconds ago"},
		{ago(now, now.Add(-36*time.Hour)), "36 hours ago"},
		{ago(now, now.Add(time.Hour)), "in 60 minutes"},
		{span(1500 * time.Millisecond), "1500 ms"},
		{span(time.Second), "1 second"},
		{span(0), "less than 1 ms"},
		{span(30 * 24 * time.Hour), "30 days"},
		{span(3 * 365 * 24 * time.Hour), "3 years"},
		{list([]string{"a"}), "a"},
		{list([]string{"a", "b", "c"}), "a, b and c"},
		{list(nil), ""},
		{sentence("no such thing"), "No such thing."},
		{sentence("run `x`"), "Run `x`"},
		{sentence("ärger"), "Ärger."},
		{sentence(""), ""},
		{cut(5, "abcdefgh"), "abcde…"},
		{cut(5, "äöüäöü"), "äöüäö…"},
		{cut(8, "äöü"), "äöü"},
		{format(20.123456), "20.12"},
		{format(-3), "-3"},
		{format(0.00012345), "0.0001234"},
		{fmt.Sprint(pieces("run `a b` now")), "[{run  false} {a b true} { now false}]"},
		{fmt.Sprint(pieces("one ` only")), "[{one ` only false}]"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
}
