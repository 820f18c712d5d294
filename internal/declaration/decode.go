package declaration

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Declaration is a parsed declaration that breaks no rule.
type Declaration struct {
	file    string
	p       Policy // without groups, indexes, canonical form and hash
	fields  []fieldSource
	stream  []source
	param   []paramSource
	setting []settingSource
	iface   []source
	to      []source
	serve   []source
	share   []shareSource
	claim   []source
	root    *node
}

// File is the name that Parse was given.
func (d *Declaration) File() string { return d.file }

// source is where something with a name stands.
type source struct {
	name string
	at   at    // of the name
	n    *node // a map
}

type fieldSource struct {
	source
	Field
}

type paramSource struct {
	source
	Param
}

type shareSource struct {
	source
	Share
	fields []*node
}

// decode takes the values out of a tree whose form was checked. What is missing
// or has a fault keeps its zero value; the rules ask the tree (get) before
// they judge a value.
func decode(file string, root *node) *Declaration {
	d := &Declaration{file: file, root: root}
	p := &d.p
	p.Product = core.ProductID(text(root, "product"))
	p.Name, p.Version = text(root, "name"), whole(root, "version")
	risk := root.get("risk")
	p.Risk = Risk{Purpose: text(risk, "purpose"), Harm: Harm(word(risk, "harm", harmWords())), Exposure: text(risk, "exposure")}
	p.Audience = Audience(word(root, "audience", audienceWords()))
	p.Health = yes(root, "health")
	d.identity()
	d.streams()
	d.data()
	d.services()
	d.commands()
	d.settings()
	d.interfaces()
	d.network()
	d.updates()
	support := root.get("support")
	p.SupportUntil, p.Afterwards = until(support, "security_updates_until"), text(support, "afterwards")
	d.shares()
	c := root.get("contacts")
	p.Contacts = Contacts{Security: text(c, "security"), Help: text(c, "help")}
	d.claims()
	if h := root.get("hub"); h != nil && h.kind == mapKind {
		p.Hub = &Hub{Max: whole(h, "max")}
		for _, id := range texts(h, "children") {
			p.Hub.Children = append(p.Hub.Children, core.ProductID(id))
		}
		slices.Sort(p.Hub.Children)
	}
	if l := root.get("legacy"); l != nil && l.kind == mapKind {
		p.Legacy = &Legacy{Auth: text(l, "auth"), Until: until(l, "until"), MaxDevices: whole(l, "max_devices")}
	}
	return d
}

func text(n *node, key string) string {
	if v := n.get(key); v != nil && v.kind == textKind {
		return v.text
	}
	return ""
}

func whole(n *node, key string) int {
	if v := n.get(key); v != nil && v.kind == numberKind {
		return int(v.num)
	}
	return 0
}

func decimal(n *node, key string) float64 {
	if v := n.get(key); v != nil && v.kind == numberKind {
		return v.num
	}
	return 0
}

func yes(n *node, key string) bool {
	v := n.get(key)
	return v != nil && v.yes
}

func word(n *node, key string, words []string) int {
	return max(0, slices.Index(words, text(n, key)))
}

func spanOr(n *node, key string, otherwise time.Duration) time.Duration {
	if d, ok := parseSpan(text(n, key)); ok {
		return d
	}
	return otherwise
}

func until(n *node, key string) time.Time {
	t, _ := parseDate(text(n, key)) // a bad date has its own rule
	return t
}

func texts(n *node, key string) []string {
	var out []string
	for _, item := range n.sound(key) {
		if item.kind == textKind {
			out = append(out, item.text)
		}
	}
	return out
}

// sorted is the list without an order of its own.
func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// each visits the entries of a table whose names and values are maps.
func each(n *node, key string, visit func(source)) {
	v := n.get(key)
	if v == nil {
		return
	}
	for _, p := range v.pairs {
		if !p.value.bad && p.value.kind == mapKind {
			visit(source{p.key, p.at, p.value})
		}
	}
}

// items visits the maps of a list.
func items(n *node, key string, visit func(source)) {
	for _, item := range n.sound(key) {
		if item.kind == mapKind {
			visit(source{text(item, "name"), item.at, item})
		}
	}
}

// pairs is the entries of a table, sound and faulty.
func (d *Declaration) pairs(table string) []pair {
	if p := d.root.find(table); p != nil {
		return p.value.pairs
	}
	return nil
}

func byName(a, b source) int { return strings.Compare(a.name, b.name) }

func (d *Declaration) identity() {
	n := d.root.get("identity")
	d.p.Identity = Identity{Life: spanOr(n, "life", 90*day), MaySleep: spanOr(n, "may_sleep", 0)}
}

func (d *Declaration) streams() {
	each(d.root, "streams", func(s source) { d.stream = append(d.stream, s) })
	slices.SortFunc(d.stream, byName)
	for _, s := range d.stream {
		d.p.Streams = append(d.p.Streams, Stream{
			Name: s.name, Every: spanOr(s.n, "every", 0), Burst: whole(s.n, "burst"),
			MaxBytes: whole(s.n, "max_bytes"), OnBad: OnBad(word(s.n, "on_bad", onBadWords())),
		})
	}
}

func (d *Declaration) data() {
	each(d.root, "data", func(s source) {
		v := value(s)
		f := Field{
			Name: v.Name, Type: v.Type, Unit: v.Unit, Values: v.Values, HasRange: v.HasRange, Min: v.Min, Max: v.Max,
			MinLength: v.MinLength, MaxLength: v.MaxLength,
			Stream: text(s.n, "stream"), Precision: decimal(s.n, "precision"), Class: Class(word(s.n, "class", classWords())),
			Purposes: sorted(texts(s.n, "purposes")), Keep: spanOr(s.n, "keep", 0), Readers: sorted(texts(s.n, "readers")),
			WhenDone: canonicalEnd(text(s.n, "when_done")), About: text(s.n, "about"),
		}
		for _, x := range sorted(texts(s.n, "protection")) {
			f.Protection = append(f.Protection, Protection(x))
		}
		d.fields = append(d.fields, fieldSource{s, f})
	})
	slices.SortFunc(d.fields, func(a, b fieldSource) int { return strings.Compare(a.name, b.name) })
}

// value is what fields and parameters have in common.
func value(s source) Param {
	p := Param{
		Name: s.name, Type: FieldType(word(s.n, "type", typeWords())), Unit: text(s.n, "unit"), Values: texts(s.n, "values"),
		MinLength: whole(s.n, "min_length"), MaxLength: whole(s.n, "max_length"),
	}
	if r := s.n.get("range"); r != nil && len(r.list) == 2 {
		p.HasRange, p.Min, p.Max = true, r.list[0].num, r.list[1].num
	}
	return p
}

func (d *Declaration) services() {
	each(d.root, "services", func(s source) { d.serve = append(d.serve, s) })
	slices.SortFunc(d.serve, byName)
	for _, s := range d.serve {
		d.p.Services = append(d.p.Services, OwnService{Name: s.name, What: text(s.n, "what"), Purposes: sorted(texts(s.n, "purposes"))})
	}
}

func (d *Declaration) commands() {
	each(d.root, "commands", func(s source) {
		c := Command{Name: s.name, By: sorted(texts(s.n, "by")), Risky: yes(s.n, "risky")}
		each(s.n, "params", func(ps source) {
			v := value(ps)
			d.param = append(d.param, paramSource{ps, v})
			c.Params = append(c.Params, v)
		})
		slices.SortFunc(c.Params, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
		d.p.Commands = append(d.p.Commands, c)
	})
	slices.SortFunc(d.p.Commands, func(a, b Command) int { return strings.Compare(a.Name, b.Name) })
}

func (d *Declaration) interfaces() {
	items(d.root, "interfaces", func(s source) {
		d.iface = append(d.iface, s)
		d.p.Interfaces = append(d.p.Interfaces, Interface{
			Name: s.name, Protocol: text(s.n, "protocol"), Direction: text(s.n, "direction"), Port: whole(s.n, "port"),
			On: text(s.n, "on"), Auth: text(s.n, "auth"), Open: text(s.n, "open"),
		})
	})
	slices.SortStableFunc(d.iface, byName)
	slices.SortStableFunc(d.p.Interfaces, func(a, b Interface) int { return strings.Compare(a.Name, b.Name) })
}

func (d *Declaration) network() {
	n := d.root.get("network")
	net := &d.p.Network
	items(n, "talks_to", func(s source) {
		d.to = append(d.to, s)
		net.TalksTo = append(net.TalksTo, destination(s))
	})
	slices.SortStableFunc(d.to, func(a, b source) int { return destination(a).compare(destination(b)) })
	slices.SortStableFunc(net.TalksTo, Destination.compare)
	net.WiFi = sorted(texts(n, "wifi"))
	net.TLS = cmp.Or(text(n, "tls"), "1.3")
}

func destination(s source) Destination {
	return Destination{Service: text(s.n, "service"), Host: text(s.n, "host"), Port: whole(s.n, "port")}
}

func (a Destination) compare(b Destination) int {
	return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
}

func (d *Declaration) updates() {
	n := d.root.get("updates")
	deadline := n.get("deadline")
	d.p.Updates = Updates{
		Automatic: yes(n, "automatic"), WhyManual: text(n, "why_manual"), CheckEvery: spanOr(n, "check_every", 0),
		Critical: spanOr(deadline, "critical", 0), High: spanOr(deadline, "high", 0),
	}
	if from, to, ok := strings.Cut(text(n, "window"), "-"); ok {
		d.p.Updates.WindowStart, d.p.Updates.WindowEnd = clockTime(from), clockTime(to)
	}
}

func clockTime(s string) time.Duration {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0 // the pattern was checked
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

func (d *Declaration) shares() {
	each(d.root, "shares", func(s source) {
		x := shareSource{source: s, Share: Share{
			Name: s.name, Purpose: text(s.n, "purpose"), Transform: texts(s.n, "transform"), ContractUntil: until(s.n, "contract_until"),
		}}
		x.fields = s.n.sound("fields")
		d.share = append(d.share, x)
	})
	slices.SortFunc(d.share, func(a, b shareSource) int { return strings.Compare(a.name, b.name) })
}

func (d *Declaration) claims() {
	items(d.root, "claims", func(s source) {
		d.claim = append(d.claim, s)
		d.p.Claims = append(d.p.Claims, Claim{Say: text(s.n, "say"), RestsOn: sorted(texts(s.n, "rests_on"))})
	})
}
