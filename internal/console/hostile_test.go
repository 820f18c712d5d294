package console

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// hostile is what a device or a person could be called, and everything else
// that comes from outside: it would break out of text, attributes, addresses
// and scripts, and turn the direction of what stands behind it.
const hostile = `javascript:hx()//"'></title></script></textarea></table><hx-evil onmouseover=hx()><script>hx()</script><img src=x onerror=hx()>{{.}}` +
	"`${hx()}\x00\x1b[2J\x07\u202e\u2066\u200b\u2028\ufeff\U000e0041&#x202e;&lt;hx-evil&gt;"

// views is the data that each template is drawn with. One that is missing here
// fails the test.
func views() map[string]any {
	return map[string]any{
		"today": todayView{}, "control": controlView{}, "check": historyView{}, "products": []productLine{}, "product": productView{},
		"devices": devicesView{}, "device": deviceView{}, "readings": readingsView{}, "refusals": refusalsView{}, "people": peopleView{},
		"ledger": ledgerView{}, "evidence": evidenceView{}, "waivers": waiversView{}, "trouble": trouble{},
		"signin": signInForm{}, "stepup": signInForm{}, "setup": setUpForm{}, "offer": offerForm{}, "codes": codesForm{}, "account": accountView{},
	}
}

// fill puts the hostile text into every string that can be reached, and
// something into everything else.
func fill(v reflect.Value, yes bool, depth int) {
	if depth > 12 {
		return
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(hostile)
	case reflect.Bool:
		v.SetBool(yes)
	case reflect.Int, reflect.Int64:
		v.SetInt(1) // also an index
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(3)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), yes, depth+1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(hostile))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), yes, depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), yes, depth+1)
		}
	case reflect.Map:
		k, x := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(k, yes, depth+1)
		fill(x, yes, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, x)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() || f.Anonymous {
				fill(v.Field(i), yes, depth+1)
			}
		}
	case reflect.Interface:
		if v.Type() == reflect.TypeFor[error]() {
			v.Set(reflect.ValueOf(errors.New(hostile)))
		}
	}
}

// ours are the elements that our templates have.
var ours = strings.Fields(`html head meta title link script body a svg symbol circle path rect polygon polyline text use div header img span small nav ul ol li p form
	input button main h1 h2 h3 table caption thead tbody tr th td b strong br code details summary section article dl dt dd time pre label select option textarea fieldset
	legend figure figcaption noscript`)

// inertPage holds that nothing of the hostile text became markup.
func inertPage(t *testing.T, what string, page []byte) {
	t.Helper()
	for _, r := range string(page) {
		if deceptive(r) {
			t.Errorf("%s: the page holds %U", what, r)
			break
		}
	}
	if !bytes.Contains(page, []byte("hx-evil")) {
		t.Errorf("%s: the hostile text is not on it, so nothing was tried", what)
	}
	doc, err := html.Parse(bytes.NewReader(page))
	must(t, err)
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			if n.Type == html.CommentNode {
				t.Errorf("%s: a comment %q", what, n.Data)
			}
			continue
		}
		if !slices.Contains(ours, n.Data) {
			t.Errorf("%s: an element %s", what, n.Data)
		}
		var src bool
		for _, a := range n.Attr {
			key := strings.ToLower(a.Key)
			switch {
			case strings.HasPrefix(key, "on") || key == "style" || key == "srcdoc" || strings.Contains(key, "hx"):
				t.Errorf("%s: <%s %s=%q>", what, n.Data, a.Key, a.Val)
			case key == "href" || key == "src" || key == "action" || key == "formaction":
				if u, err := url.Parse(a.Val); err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#") || strings.HasPrefix(a.Val, "//") {
					t.Errorf("%s: <%s %s=%q> leads elsewhere", what, n.Data, a.Key, a.Val)
				}
				src = src || key == "src"
			}
		}
		if n.Data == "script" && (!src || n.FirstChild != nil) {
			t.Errorf("%s: a script of its own", what)
		}
	}
}

// TestHostileNamesAreInert (CC 2.2): every template, with every text that it
// shows made hostile, is drawn as text.
func TestHostileNamesAreInert(t *testing.T) {
	w := newWorld(t, nil)
	w.who.Name, w.who.Roles, w.who.Session = hostile, []string{hostile}, hostile
	w.deps.Maker = hostile
	w.serve(t)
	all := views()
	for name := range w.c.pages {
		data, ok := all[name]
		if !ok {
			t.Errorf("template %s is drawn with no hostile data here", name)
			continue
		}
		for _, yes := range []bool{true, false} {
			v := reflect.New(reflect.TypeOf(data)).Elem()
			fill(v, yes, 0)
			for _, header := range []string{"", "live"} {
				rec := httptest.NewRecorder()
				r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
				r.Header.Set(fragmentHeader, header)
				err := w.c.show(rec, r, w.who, http.StatusOK, name, page{Title: hostile, Lead: hostile, Up: []link{{hostile, hostile}}, Data: v.Interface()})
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				inertPage(t, name, rec.Body.Bytes())
			}
		}
	}
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
