package declaration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// commands holds who may give them within what bounds. CC 3.7.
func (j *judge) commands() {
	for _, p := range j.d.param {
		j.value(p.source, p.Param)
	}
	each(j.d.root, "commands", j.by)
}

// by holds that a service which may command or set is declared.
func (j *judge) by(c source) {
	for _, item := range c.n.sound("by") {
		if name, ok := strings.CutPrefix(item.text, "service:"); ok {
			if p := j.d.root.find("services"); p == nil || !p.value.bad && p.value.find(name) == nil {
				j.add(item.at, ruleCommandBy, fmt.Sprintf("the service %s is not declared", quote(name)), "declare it under `services`, or remove it")
			}
		}
	}
}

// listens lists the protocols that a way in needs a port for.
func listens(protocol string) bool {
	return slices.Contains([]string{"mqtts", "https", "wss", "coaps", "tls", "dtls", "ssh", "dns", "ntp", "nts", "mdns"}, protocol)
}

// interfaces holds that each has authentication (CC 1.9, 4.13: no shared or
// default credential), that none is cleartext (CC 2.8) and none inbound from
// the internet (CC 3.10); the last two stand in the words of their keys.
func (j *judge) interfaces() {
	first := map[string]int{}
	for _, s := range j.d.iface {
		if s.n.get("name") == nil {
			continue
		}
		if line, twice := first[s.name]; twice {
			j.add(s.n.get("name").at, ruleInterface, fmt.Sprintf("two interfaces are called %s; first on line %d", quote(s.name), line), "give each a name of its own")
		}
		first[s.name] = s.at.line
	}
	for _, s := range j.d.iface {
		direction, protocol, auth := text(s.n, "direction"), text(s.n, "protocol"), s.n.get("auth")
		if auth != nil && auth.text == "none" {
			open := slices.Contains([]string{"dns", "dhcp", "mdns", "ntp"}, protocol)
			if direction == "in" || direction == "out" && protocol != "" && !open {
				j.add(auth.at, ruleAuth, fmt.Sprintf("anybody can be at the other end of %s", quote(s.name)), "say how the other side proves who it is, such as server-certificate or owner-code")
			}
		}
		port := s.n.find("port")
		switch {
		case direction == "in" && listens(protocol) && port == nil:
			j.add(s.at, ruleInterface, fmt.Sprintf("%s listens for %s without a port", quote(s.name), protocol), "add `port`")
		case port != nil && protocol != "" && !listens(protocol) && protocol != "dhcp":
			j.add(port.at, ruleInterface, protocol+" has no port", "remove it")
		}
	}
}

// network holds that the allow-list of destinations is exact. CC 2.6, 4.16.
// CC 3.13: Wi-Fi is WPA2 or WPA3, by the words of its key.
func (j *judge) network() {
	gateway := false
	seen := map[Destination]bool{}
	for _, s := range j.d.to {
		to := destination(s)
		host := s.n.find("host")
		if to.Service == "gateway" {
			gateway = true
			if host != nil {
				j.add(host.at, ruleTalksTo, "the gateway has a host", "remove it: devices are given the gateway's address when they enrol")
			}
		} else if to.Service != "" && host == nil {
			j.add(s.at, ruleTalksTo, fmt.Sprintf("the destination %s has no host", quote(to.Service)), "add `host: "+to.Service+".example.com`")
		}
		if to.Service != "" && seen[to] && (host == nil || !host.value.bad) {
			j.add(s.at, ruleTalksTo, fmt.Sprintf("the destination %s stands here twice", quote(to.Service)), "remove one of them")
		}
		seen[to] = true
	}
	if v := j.d.root.get("network").get("talks_to"); v != nil && !gateway && !slices.ContainsFunc(v.list, func(n *node) bool { return n.bad || n.get("service") == nil }) {
		j.add(v.at, ruleTalksTo, "the product does not talk to the gateway", "add {service: gateway}")
	}
}

// updates holds how fixes come and until when. CC 5.14: on by default, or the
// reason is published. CC 7.11: a date and a cadence.
func (j *judge) updates() {
	n := j.d.root.get("updates")
	u := &j.d.p.Updates
	if a := n.get("automatic"); a != nil {
		why := n.find("why_manual")
		if !u.Automatic && why == nil {
			j.add(a.at, ruleUpdates, "security updates do not install themselves", "set `automatic: true`, or say why not in `why_manual`")
		}
		if u.Automatic && why != nil {
			j.add(why.at, ruleUpdates, "updates are automatic, and `why_manual` says why they are not", "remove one of them")
		}
	}
	bounds := func(n *node, key string, least, most string) bool {
		v := n.get(key)
		if v == nil {
			return false
		}
		d, ok := parseSpan(v.text)
		lo, _ := parseSpan(least)
		hi, _ := parseSpan(most)
		if !ok || d < lo || d > hi {
			j.add(v.at, ruleUpdates, fmt.Sprintf("`%s` is %s", key, v.text), "write a span between "+least+" and "+most)
			return false
		}
		return true
	}
	d := n.get("deadline")
	check := bounds(n, "check_every", "15m", "30d")
	critical, high := bounds(d, "critical", "1h", "30d"), bounds(d, "high", "1h", "90d")
	if critical && high && u.High < u.Critical {
		j.add(d.get("high").at, ruleUpdates, fmt.Sprintf("high (%s) is due before critical (%s)", span(u.High), span(u.Critical)), "write a longer one")
	}
	if critical && check && u.CheckEvery > u.Critical {
		j.add(n.get("check_every").at, ruleUpdates, fmt.Sprintf("a device that asks every %s cannot keep a deadline of %s", span(u.CheckEvery), span(u.Critical)), "ask more often, at least once per critical deadline")
	}
	if w := n.get("window"); w != nil && u.WindowStart == u.WindowEnd {
		j.add(w.at, ruleUpdates, "the window has no length", "write two different times, or leave it out for any time")
	}
	support := j.d.root.get("support")
	j.day(support, "security_updates_until", ruleSupport)
}

// day judges that a date of the right form exists.
func (j *judge) day(n *node, key, rule string) {
	v := n.get(key)
	if v == nil {
		return
	}
	if _, ok := parseDate(v.text); !ok {
		j.add(v.at, ruleDate, v.text+" is no day of the calendar", "write a day that exists")
		v.bad = true
	}
}

// shares holds that what leaves is declared at the field, for a purpose of the
// field, and made coarser. CC 4.6, 4.11, 6.15.
func (j *judge) shares() {
	for i := range j.d.share {
		s := &j.d.share[i]
		j.day(s.n, "contract_until", ruleShareEnd)
		worst := Public
		counted := false
		for _, t := range s.Transform {
			name, arg := transform(t)
			if n, _ := strconv.Atoi(arg); name == "k" && n >= 20 { // the pattern allows digits only
				counted = true
			}
		}
		var child string
		for _, item := range s.fields {
			k := slices.IndexFunc(j.d.fields, func(f fieldSource) bool { return f.name == item.text })
			if k < 0 {
				j.shareUnknown(item)
				continue
			}
			f := &j.d.fields[k]
			worst = max(worst, f.Class)
			if f.Class == Child {
				child = f.name
			}
			if f.n.get("readers") != nil && !slices.Contains(f.Readers, "share:"+s.name) {
				j.add(item.at, ruleShareField, fmt.Sprintf("%s does not list share:%s among its readers", f.name, s.name), "add it there: every reader of a field stands at the field")
			}
			if f.n.get("purposes") != nil && s.Purpose != "" && !slices.Contains(f.Purposes, s.Purpose) {
				j.add(item.at, ruleShareWhy, fmt.Sprintf("%s is not collected for %s", f.name, s.Purpose), "add the purpose to the field if it is true, or take the field out")
			}
		}
		j.transforms(s, worst)
		if child != "" && !counted {
			j.add(s.at, ruleChildShare, fmt.Sprintf("the share %s has the child data %s", s.name, child), "add k(20) to its transform, or take the field out")
		}
	}
}

func (j *judge) shareUnknown(item *node) {
	if data := j.d.root.get("data"); data == nil || data.find(item.text) != nil {
		return
	}
	var names []string
	for _, f := range j.d.fields {
		names = append(names, f.name)
	}
	fix := "take a field from `data`"
	if near := nearest(item.text, names); near != "" {
		fix = "did you mean " + near + "?"
	}
	j.add(item.at, ruleShareField, fmt.Sprintf("no field %s is declared", quote(item.text)), fix)
}

func (j *judge) transforms(s *shareSource, worst Class) {
	v := s.n.find("transform")
	if worst > Public && (v == nil || !v.value.bad && len(v.value.list) == 0) {
		j.add(s.n.place("transform", s.at), ruleTransform, fmt.Sprintf("the share %s hands out %s data as it is", s.name, worst), "add `transform`, for example [hour, k(20)]")
	}
	if v == nil || v.value.bad {
		return
	}
	seen := map[string]bool{}
	for _, item := range v.value.list {
		name, arg := transform(item.text)
		kind := name
		if slices.Contains([]string{"hour", "day", "week", "month"}, name) {
			kind = "time"
		}
		if seen[kind] {
			j.add(item.at, ruleTransform, fmt.Sprintf("the share %s transforms its %s twice", s.name, kind), "keep the coarser one")
		}
		seen[kind] = true
		if k, err := strconv.Atoi(arg); name == "k" && err == nil && k < 10 {
			j.add(item.at, ruleTransform, fmt.Sprintf("counts of %d point at people", k), "write k(10) or more")
		}
	}
}

// empty lists words in claims that no check can show to be true.
func empty() []string {
	return []string{"unhackable", "hack-proof", "hackproof", "unbreakable", "100% secure", "100 % secure", "completely secure", "totally secure", "absolutely secure", "fully secure", "perfectly secure", "military-grade", "military grade", "bank-grade", "bank grade", "guaranteed secure", "never be hacked"}
}

// promises holds claims to what can be shown (CC 8.1) and the door for old
// devices to an end (CC 3.1).
func (j *judge) promises() {
	for _, s := range j.d.claim {
		v := s.n.get("say")
		if v == nil {
			continue
		}
		low := strings.ToLower(v.text)
		for _, w := range empty() {
			if strings.Contains(low, w) {
				j.add(v.at, ruleClaimWords, fmt.Sprintf("no check can show %s", quote(w)), "say what is done, and which controls show it")
				break
			}
		}
	}
	j.hub()
	l := j.d.root.get("legacy")
	if l == nil {
		return
	}
	j.day(l, "until", ruleLegacy)
	u := l.get("until")
	support := j.d.root.get("support").get("security_updates_until")
	if u != nil && support != nil && j.d.p.Legacy != nil && j.d.p.Legacy.Until.After(j.d.p.SupportUntil) {
		j.add(u.at, ruleLegacy, fmt.Sprintf("the door closes on %s, after support has ended on %s", u.text, support.text), "let it close while security updates still come")
	}
}

// hub holds that no hub is its own kind of child: a child has no certificate and
// speaks for nobody.
func (j *judge) hub() {
	h := j.d.root.get("hub")
	if h == nil || h.kind != mapKind {
		return
	}
	for _, item := range h.sound("children") {
		if item.text != "" && item.text == string(j.d.p.Product) {
			j.add(item.at, ruleHub, quote(item.text)+" is this product itself", "a child has no certificate and speaks for nobody: remove it")
		}
	}
}
