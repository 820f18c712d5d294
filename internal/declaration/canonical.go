package declaration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// canonical is p as canonical JSON (RFC 8785): keys sorted, shortest numbers,
// no white space, defaults filled in, lists without an order of their own
// sorted. It is itself a declaration: ParsePolicy and the JSON Schema take it.
func canonical(p *Policy) ([]byte, error) {
	c := &canon{}
	o := c.object()
	o.whole("declaration", 1)
	o.text("product", string(p.Product))
	o.text("name", p.Name)
	o.whole("version", p.Version)
	o.put("risk", c.object().text("purpose", p.Risk.Purpose).text("harm", p.Risk.Harm.String()).text("exposure", p.Risk.Exposure).bytes())
	o.text("audience", p.Audience.String())
	o.yes("health", p.Health)
	sleep := "until-end-of-support"
	if p.Identity.MaySleep > 0 {
		sleep = span(p.Identity.MaySleep)
	}
	o.put("identity", c.object().span("life", p.Identity.Life).text("may_sleep", sleep).bytes())
	o.put("streams", c.table(len(p.Streams), func(i int) (string, *object) {
		s := &p.Streams[i]
		return s.Name, c.object().span("every", s.Every).whole("burst", s.Burst).whole("max_bytes", s.MaxBytes).text("on_bad", s.OnBad.String())
	}))
	o.put("data", c.table(len(p.Fields), func(i int) (string, *object) { return p.Fields[i].Name, c.field(&p.Fields[i]) }))
	o.put("services", c.table(len(p.Services), func(i int) (string, *object) {
		s := &p.Services[i]
		return s.Name, c.object().text("what", s.What).texts("purposes", s.Purposes)
	}))
	o.put("commands", c.table(len(p.Commands), func(i int) (string, *object) {
		x := &p.Commands[i]
		params := c.table(len(x.Params), func(k int) (string, *object) { return x.Params[k].Name, c.value(&x.Params[k]) })
		return x.Name, c.object().put("params", params).texts("by", x.By).yes("risky", x.Risky)
	}))
	if len(p.Settings) > 0 { // left out when there are none: older declarations keep their hash
		o.put("settings", c.table(len(p.Settings), func(i int) (string, *object) { return p.Settings[i].Name, c.setting(&p.Settings[i]) }))
	}
	o.put("interfaces", c.list(len(p.Interfaces), func(i int) *object { return c.iface(&p.Interfaces[i]) }))
	talks := c.list(len(p.Network.TalksTo), func(i int) *object {
		t := &p.Network.TalksTo[i]
		return c.object().text("service", t.Service).some("host", t.Host).count("port", t.Port)
	})
	o.put("network", c.object().put("talks_to", talks).texts("wifi", p.Network.WiFi).text("tls", p.Network.TLS).bytes())
	o.put("updates", c.updates(&p.Updates).bytes())
	o.put("support", c.object().text("security_updates_until", date(p.SupportUntil)).text("afterwards", p.Afterwards).bytes())
	o.put("shares", c.table(len(p.Shares), func(i int) (string, *object) {
		s := &p.Shares[i]
		var names []string
		for _, k := range s.Fields {
			names = append(names, p.Fields[k].Name)
		}
		return s.Name, c.object().texts("fields", names).text("purpose", s.Purpose).texts("transform", s.Transform).
			text("contract_until", date(s.ContractUntil)).text("reidentify", "never")
	}))
	o.put("contacts", c.object().text("security", p.Contacts.Security).text("help", p.Contacts.Help).bytes())
	o.put("claims", c.list(len(p.Claims), func(i int) *object {
		return c.object().text("say", p.Claims[i].Say).texts("rests_on", p.Claims[i].RestsOn)
	}))
	if h := p.Hub; h != nil {
		var products []string
		for _, id := range h.Children {
			products = append(products, string(id))
		}
		o.put("hub", c.object().texts("children", products).whole("max", h.Max).bytes())
	}
	if l := p.Legacy; l != nil {
		o.put("legacy", c.object().text("auth", l.Auth).text("until", date(l.Until)).whole("max_devices", l.MaxDevices).bytes())
	}
	out := o.bytes()
	return out, c.err
}

func (c *canon) field(f *Field) *object {
	o := c.value(&Param{Type: f.Type, Unit: f.Unit, Values: f.Values, HasRange: f.HasRange, Min: f.Min, Max: f.Max, MinLength: f.MinLength, MaxLength: f.MaxLength})
	o.text("stream", f.Stream).text("class", f.Class.String()).texts("purposes", f.Purposes).span("keep", f.Keep)
	o.texts("readers", f.Readers).text("when_done", f.WhenDone).some("about", f.About)
	if f.Precision != 0 {
		o.number("precision", f.Precision)
	}
	if len(f.Protection) > 0 {
		var words []string
		for _, p := range f.Protection {
			words = append(words, string(p))
		}
		o.texts("protection", words)
	}
	return o
}

func (c *canon) value(v *Param) *object {
	o := c.object().text("type", v.Type.String()).some("unit", v.Unit)
	if v.HasRange {
		o.put("range", slices.Concat([]byte{'['}, c.json(v.Min), []byte{','}, c.json(v.Max), []byte{']'}))
	}
	if v.Type == Enum {
		o.texts("values", v.Values)
	}
	if v.Type == String {
		o.whole("min_length", v.MinLength).whole("max_length", v.MaxLength)
	}
	return o
}

func (c *canon) iface(i *Interface) *object {
	return c.object().text("name", i.Name).text("protocol", i.Protocol).text("direction", i.Direction).count("port", i.Port).
		some("on", i.On).text("auth", i.Auth).some("open", i.Open)
}

func (c *canon) updates(u *Updates) *object {
	o := c.object().yes("automatic", u.Automatic).some("why_manual", u.WhyManual).span("check_every", u.CheckEvery)
	if u.WindowStart != u.WindowEnd {
		clock := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60) }
		o.text("window", clock(u.WindowStart)+"-"+clock(u.WindowEnd))
	}
	return o.put("deadline", c.object().span("critical", u.Critical).span("high", u.High).bytes())
}

// canon keeps the first error of encoding.
type canon struct{ err error }

func (c *canon) object() *object { return &object{c: c} }

func (c *canon) json(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	// encoding/json writes numbers as ECMAScript does, which RFC 8785
	// §3.2.2.3 asks for. It would escape U+2028; no text here can hold it.
	if err := e.Encode(v); err != nil && c.err == nil {
		c.err = err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

func (c *canon) table(n int, entry func(int) (string, *object)) []byte {
	o := c.object()
	for i := range n {
		name, value := entry(i)
		o.put(name, value.bytes())
	}
	return o.bytes()
}

func (c *canon) list(n int, item func(int) *object) []byte {
	out := []byte{'['}
	for i := range n {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, item(i).bytes()...)
	}
	return append(out, ']')
}

// object collects members and writes them by key (RFC 8785 §3.2.3; all keys
// are ASCII, so that UTF-16 order is byte order).
type object struct {
	c       *canon
	members []member
}

type member struct {
	key   string
	value []byte
}

func (o *object) put(key string, value []byte) *object {
	o.members = append(o.members, member{key, value})
	return o
}

func (o *object) text(key, v string) *object               { return o.put(key, o.c.json(v)) }
func (o *object) whole(key string, v int) *object          { return o.put(key, o.c.json(v)) }
func (o *object) number(key string, v float64) *object     { return o.put(key, o.c.json(v)) }
func (o *object) yes(key string, v bool) *object           { return o.put(key, o.c.json(v)) }
func (o *object) span(key string, v time.Duration) *object { return o.text(key, span(v)) }

func (o *object) texts(key string, v []string) *object {
	if v == nil {
		v = []string{}
	}
	return o.put(key, o.c.json(v))
}

// some writes text that may be missing.
func (o *object) some(key, v string) *object {
	if v == "" {
		return o
	}
	return o.text(key, v)
}

// count writes a number that may be missing.
func (o *object) count(key string, v int) *object {
	if v == 0 {
		return o
	}
	return o.whole(key, v)
}

func (o *object) bytes() []byte {
	slices.SortFunc(o.members, func(a, b member) int { return strings.Compare(a.key, b.key) })
	out := []byte{'{'}
	for i, m := range o.members {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, o.c.json(m.key)...)
		out = append(out, ':')
		out = append(out, m.value...)
	}
	return append(out, '}')
}
