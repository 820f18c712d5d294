package console

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	text "text/template"
	"time"

	"golang.org/x/net/html"
)

// hostile is what a device or a person could be called, and everything else
// that comes from outside: it would break out of text, attributes, addresses
// and scripts, and turn the direction of what stands behind it.
const hostile = `javascript:hx()//"'></title></script></textarea></table><hx-evil onmouseover=hx()><script>hx()</script><img src=x onerror=hx()>{{.}}` +
	"`${hx()}\x00\x1b[2J\x07\u202e\u2066\u200b\u2028\ufeff\U000e0041&#x202e;&lt;hx-evil&gt;"

// views is what each template is drawn with. One that is missing here is found
// by Inert, and fails a test.
func views() map[string]any {
	return map[string]any{
		"today": todayView{}, "control": controlView{}, "check": historyView{}, "products": []productLine{}, "product": productView{},
		"devices": devicesView{}, "device": deviceView{}, "readings": readingsView{}, "refusals": refusalsView{}, "people": peopleView{},
		"ledger": ledgerView{}, "evidence": evidenceView{}, "waivers": waiversView{}, "reviews": reviewsView{}, "sample": sampleView{}, "trouble": trouble{},
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
func ours() []string {
	return strings.Fields(`html head meta title link script body a svg symbol circle path rect polygon polyline text use div header img span small nav ul ol li p form
	input button main h1 h2 h3 table caption thead tbody tr th td b strong br code details summary section article dl dt dd time pre label select option textarea fieldset
	legend figure figcaption noscript`)
}

// Markup says what on a page is no markup of ours: elements and attributes that
// our templates do not have, scripts inside, addresses that lead elsewhere, and
// characters that deceive the eye. It reads the page as a browser does (CC 2.2).
func Markup(page []byte) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, r := range string(page) {
		if deceptive(r) {
			say("the page holds %U", r)
			break
		}
	}
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		return append(wrong, "it is no page: "+err.Error())
	}
	known := ours()
	for n := range doc.Descendants() {
		switch {
		case n.Type == html.CommentNode:
			say("a comment %q", n.Data)
		case n.Type == html.ElementNode:
			if !slices.Contains(known, n.Data) {
				say("an element %s", n.Data)
			}
			wrong = append(wrong, attributes(n)...)
		}
	}
	return wrong
}

// attributes says what is wrong with those of one element.
func attributes(n *html.Node) (wrong []string) {
	src := false
	for _, a := range n.Attr {
		key := strings.ToLower(a.Key)
		switch {
		case strings.HasPrefix(key, "on") || key == "style" || key == "srcdoc" || strings.Contains(key, "hx"):
			wrong = append(wrong, fmt.Sprintf("<%s %s=%q>", n.Data, a.Key, a.Val))
		case key == "href" || key == "src" || key == "action" || key == "formaction":
			if !atHome(a.Val) {
				wrong = append(wrong, fmt.Sprintf("<%s %s=%q> leads elsewhere", n.Data, a.Key, a.Val))
			}
			src = src || key == "src"
		}
	}
	if n.Data == "script" && (!src || n.FirstChild != nil) {
		wrong = append(wrong, "a script inside the page")
	}
	return wrong
}

// atHome reports whether an address is one of ours.
func atHome(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "" && u.Host == "" && !strings.HasPrefix(address, "//") && (strings.HasPrefix(address, "/") || strings.HasPrefix(address, "#"))
}

// Hostile is a text that would become markup wherever text is not kept text,
// break out of attributes, scripts and addresses, and turn the direction of
// what stands behind it.
func Hostile() string { return hostile }

// Drawn is one page that Inert drew.
type Drawn struct {
	Page  string   // its template
	Wrong []string // what of the hostile text became more than text
}

// Inert draws every page of this console with hostile text in every place that
// holds text: names of devices and people, reasons, fields, findings. Nobody
// sees the pages (CC 2.2).
func (c *Console) Inert() []Drawn {
	data := views()
	who := Visitor{Name: hostile, Roles: []string{hostile}, Session: hostile}
	who.Actor.ID = hostile
	var out []Drawn
	for _, name := range slices.Sorted(maps.Keys(c.pages)) {
		d := Drawn{Page: name}
		kind, ok := data[name]
		if !ok {
			d.Wrong = []string{"nothing hostile is known to draw it with"}
		}
		for _, yes := range []bool{true, false} {
			for _, part := range []string{"", "live"} {
				if !ok || len(d.Wrong) > 0 {
					continue
				}
				page, err := c.drawHostile(name, part, kind, who, yes)
				switch {
				case err != nil:
					d.Wrong = []string{"it cannot be drawn: " + err.Error()}
				case !bytes.Contains(page, []byte("hx-evil")):
					d.Wrong = []string{"the hostile text is not on it: nothing was tried"}
				default:
					d.Wrong = Markup(page)
				}
			}
		}
		out = append(out, d)
	}
	return out
}

func (c *Console) drawHostile(name, part string, kind any, who Visitor, yes bool) ([]byte, error) {
	v := reflect.New(reflect.TypeOf(kind)).Elem()
	fill(v, yes, 0)
	if yes { // what is only for some is drawn, too
		who.Check = func(string) error { return nil }
	}
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{}}
	r.Header.Set(fragmentHeader, part)
	var w kept
	err := c.show(&w, r, who, http.StatusOK, name, page{Title: hostile, Lead: hostile, Up: []link{{hostile, hostile}}, Data: v.Interface()})
	return w.b.Bytes(), err
}

// kept is an answer that goes nowhere.
type kept struct {
	b bytes.Buffer
	h http.Header
}

func (k *kept) Header() http.Header {
	if k.h == nil {
		k.h = http.Header{}
	}
	return k.h
}
func (k *kept) Write(p []byte) (int, error) { return k.b.Write(p) }
func (k *kept) WriteHeader(int)             {}

// drawer draws a template.
type drawer interface {
	ExecuteTemplate(w io.Writer, name string, data any) error
}

// Unescape has this console draw every text as markup, for good. It is what
// Inert must catch: a twin's trial does it, and nobody else.
func (c *Console) Unescape() error {
	fresh, err := loadPages(c.assets) // one that has drawn already has its escapes inside
	if err != nil {
		return err
	}
	for _, set := range fresh {
		raw := text.New("raw").Funcs(text.FuncMap(funcs(c.assets)))
		for _, t := range set.trees() {
			if _, err := raw.AddParseTree(t.Name, t); err != nil {
				return fmt.Errorf("read templates: %w", err)
			}
		}
		set.t = raw
	}
	c.pages = fresh
	return nil
}
