package declaration

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// judge holds a declaration of sound form against the rules. Each rule leaves
// out what already has a fault, so that one slip shows once.
type judge struct {
	*faults
	d *Declaration
}

func (j *judge) all() {
	j.product()
	j.streams()
	j.namesAlike()
	for i := range j.d.fields {
		f := &j.d.fields[i]
		j.value(f.source, Param{Type: f.Type, Unit: f.Unit, Values: f.Values, HasRange: f.HasRange, Min: f.Min, Max: f.Max, MinLength: f.MinLength, MaxLength: f.MaxLength})
		j.precision(f)
		j.keep(f)
		j.purposes(f)
		j.readers(f)
		j.protection(f)
		j.end(f)
		j.class(f)
	}
	j.keepClasses()
	j.groups()
	j.commands()
	j.settings()
	j.interfaces()
	j.network()
	j.updates()
	j.shares()
	j.promises()
}

// product bounds the life of certificates. CC 3.2: a stolen key loses its worth.
func (j *judge) product() {
	n := j.d.root.get("identity")
	if v := n.get("life"); v != nil {
		if l, ok := parseSpan(v.text); !ok || l < 7*day || l > 400*day {
			j.add(v.at, ruleIdentity, "a certificate that lives "+v.text, "write a life between 7d and 400d")
		}
	}
	if v := n.get("may_sleep"); v != nil && v.text != "until-end-of-support" {
		if l, ok := parseSpan(v.text); !ok || l > MaxKeep {
			j.add(v.at, ruleIdentity, "a device may sleep "+v.text, "write at most 10y, or until-end-of-support")
		}
	}
}

// streams holds that every field comes in a declared stream, and that streams
// are bounded. CC 1.2, 2.7, 4.3: what is not bounded is collected.
func (j *judge) streams() {
	used := map[string]bool{}
	known := j.d.root.get("streams")
	var names []string
	for _, p := range j.d.pairs("streams") {
		names = append(names, p.key)
	}
	for _, p := range j.d.pairs("data") {
		v := p.value.find("stream")
		if v == nil {
			continue
		}
		used[v.value.text] = true
		if known == nil || v.value.bad || slices.Contains(names, v.value.text) {
			continue
		}
		fix := "declare it under `streams`"
		if near := nearest(v.value.text, names); near != "" {
			fix = "did you mean " + near + "?"
			used[near] = true
		}
		j.add(v.value.at, ruleStream, fmt.Sprintf("no stream %s is declared", quote(v.value.text)), fix)
	}
	for _, s := range j.d.stream {
		if !used[s.name] {
			j.add(s.at, ruleEmpty, fmt.Sprintf("no field names the stream %s", quote(s.name)), "add a field with `stream: "+s.name+"`, or remove it")
		}
		if v := s.n.get("every"); v != nil {
			if d, ok := parseSpan(v.text); !ok || d < 1e6 || d > 366*day {
				j.add(v.at, ruleRate, "a message every "+v.text, "write a span between 1ms and 366d")
			}
		}
	}
}

func (j *judge) namesAlike() {
	seen := map[string]string{}
	for _, p := range j.d.pairs("data") {
		low := strings.ToLower(p.key)
		switch {
		case low == "t" || low == "boot" || low == "seq":
			j.add(p.at, ruleFieldName, fmt.Sprintf("a field is called %s, which every message has by itself", quote(p.key)), "rename it; in messages t, boot and seq need no declaration")
		case seen[low] != "":
			j.add(p.at, ruleFieldName, fmt.Sprintf("%s differs from %s only in case", quote(p.key), quote(seen[low])), "rename one of them")
		}
		seen[low] = p.key
	}
}

// value judges what fields and command parameters have in common.
func (j *judge) value(s source, v Param) {
	if u := s.n.get("unit"); u != nil && !knownUnit(u.text) {
		j.add(u.at, ruleUnit, quote(u.text)+" is no SenML or UCUM unit", fixUnit(u.text))
	}
	if r := s.n.get("range"); r != nil && v.HasRange && s.n.get("type") != nil {
		const whole = 1 << 53 // RFC 8259 §6: whole numbers beyond are not exact
		switch {
		case v.Min >= v.Max:
			j.add(r.at, ruleRange, fmt.Sprintf("the range goes from %s to %s", number(v.Min), number(v.Max)), "write the least value first, below the most")
		case v.Type == Integer && (v.Min != math.Trunc(v.Min) || v.Max != math.Trunc(v.Max)):
			j.add(r.at, ruleRange, "the range of an integer has a fraction", "write whole numbers")
		case v.Type == Integer && (v.Min < -whole || v.Max > whole):
			j.add(r.at, ruleRange, "the range of an integer goes beyond 2^53", "write bounds within ±9007199254740992")
		}
	}
	if s.n.get("max_length") != nil && v.MinLength > v.MaxLength {
		j.add(s.n.get("max_length").at, ruleLength, fmt.Sprintf("max_length %d is below min_length %d", v.MaxLength, v.MinLength), "write max_length at least as large")
	}
}

func (j *judge) precision(f *fieldSource) {
	v := f.n.get("precision")
	if v == nil || !f.HasRange {
		return
	}
	switch {
	case f.Precision > f.Max-f.Min && f.Max > f.Min:
		j.add(v.at, rulePrecision, fmt.Sprintf("the precision %s is wider than the range", number(f.Precision)), "write a smaller precision")
	case f.Type == Integer && f.n.get("type") != nil && f.Precision != math.Trunc(f.Precision):
		j.add(v.at, rulePrecision, "the precision of an integer has a fraction", "write a whole number")
	}
}

// keep holds the bounds of keep-times. CC 4.4: nothing is kept for ever.
// CC 2.13: child data is kept shorter.
func (j *judge) keep(f *fieldSource) {
	v := f.n.get("keep")
	if v == nil {
		return
	}
	d, ok := parseSpan(v.text)
	switch {
	case !ok || d > MaxKeep:
		j.add(v.at, ruleKeep, v.text+" is more than 10 years", "write at most 10y; keep less where less will do")
	case d < MinKeep:
		j.add(v.at, ruleKeep, v.text+" is less than one hour", "write at least 1h")
	case d%1e9 != 0:
		j.add(v.at, ruleKeep, v.text+" is not whole seconds", "write whole seconds")
	case f.Class == Child && d > 365*day:
		j.add(v.at, ruleKeepChild, "child data is kept "+v.text, "write at most 365d")
	}
}

func family(purpose string) string {
	f, _, _ := strings.Cut(purpose, ".")
	return f
}

func hasFamily(purposes []string, name string) bool {
	return slices.ContainsFunc(purposes, func(p string) bool { return family(p) == name })
}

// purposes keeps apart what must not mix. CC 4.5, 4.9: what has no purpose is
// not collected, and marketing gets nothing that was collected for security.
func (j *judge) purposes(f *fieldSource) {
	v := f.n.get("purposes")
	if v == nil {
		return
	}
	marketing := hasFamily(f.Purposes, "marketing")
	if marketing && hasFamily(f.Purposes, "security") {
		j.add(v.at, rulePurposeMix, fmt.Sprintf("%s is collected for security and for marketing", f.name), "keep one of the two; collect the other as a field of its own with another keep-time")
	}
	if marketing && f.Class == Child {
		j.add(v.at, ruleChildMarket, f.name+" is child data with a marketing purpose", "remove the marketing purpose")
	}
}

// keepClasses holds security and marketing apart: readings of one keep-time
// share the key of an epoch.
func (j *judge) keepClasses() {
	security := map[int64]string{}
	for _, f := range j.d.fields {
		if hasFamily(f.Purposes, "security") && f.Keep > 0 && security[int64(f.Keep)] == "" {
			security[int64(f.Keep)] = f.name
		}
	}
	for _, f := range j.d.fields {
		other := security[int64(f.Keep)]
		if other == "" || !hasFamily(f.Purposes, "marketing") || hasFamily(f.Purposes, "security") || f.n.get("keep") == nil {
			continue
		}
		j.add(f.n.get("keep").at, rulePurposeMix, fmt.Sprintf("%s is for marketing and kept %s, as %s is for security", f.name, span(f.Keep), other), "give one of them another keep-time")
	}
}

func isStaff(role string) bool { return slices.Contains(staffRoles(), role) }

// readers binds readers to declared services and shares, and reading to a
// purpose. CC 1.6, 3.15: an unlisted peer reads nothing.
func (j *judge) readers(f *fieldSource) {
	for _, item := range f.n.sound("readers") {
		kind, name, named := strings.Cut(item.text, ":")
		switch {
		case item.text == "marketing" && f.n.get("purposes") != nil && !hasFamily(f.Purposes, "marketing"):
			j.add(item.at, ruleReaderWhy, fmt.Sprintf("marketing reads %s, which has no marketing purpose", f.name), "remove the reader, or add the purpose if it is true")
		case named && kind == "service":
			j.service(item, f, name)
		case named && kind == "share":
			j.shareReader(item, f, name)
		}
	}
}

func (j *judge) service(item *node, f *fieldSource, name string) {
	p := j.d.root.find("services")
	if p != nil && p.value.bad {
		return
	}
	var n *node
	if p != nil {
		n = p.value
	}
	if n.find(name) == nil {
		var names []string
		for _, s := range j.d.serve {
			names = append(names, s.name)
		}
		fix := fmt.Sprintf("add `services: {%s: {what: …, purposes: […]}}`", name)
		if near := nearest(name, names); near != "" {
			fix = "did you mean service:" + near + "?"
		}
		j.add(item.at, ruleReader, fmt.Sprintf("the service %s is not declared", quote(name)), fix)
		return
	}
	for i, s := range j.d.serve {
		if s.name != name || s.n.get("purposes") == nil || f.n.get("purposes") == nil {
			continue
		}
		its := j.d.p.Services[i].Purposes
		if !slices.ContainsFunc(its, func(p string) bool { return slices.Contains(f.Purposes, p) }) {
			j.add(item.at, ruleReaderWhy, fmt.Sprintf("service:%s reads for %s; %s is collected for %s", name, strings.Join(its, ", "), f.name, strings.Join(f.Purposes, ", ")), "remove the reader, or give both a purpose in common if it is true")
		}
	}
}

func (j *judge) shareReader(item *node, f *fieldSource, name string) {
	i := slices.IndexFunc(j.d.share, func(s shareSource) bool { return s.name == name })
	if i < 0 {
		if p := j.d.root.find("shares"); p != nil && (p.value.bad || p.value.find(name) != nil) {
			return
		}
		j.add(item.at, ruleReader, fmt.Sprintf("the share %s is not declared", quote(name)), "declare it under `shares`, or remove the reader")
		return
	}
	s := j.d.share[i]
	if s.n.get("fields") != nil && !slices.ContainsFunc(s.fields, func(x *node) bool { return x.text == f.name }) {
		j.add(item.at, ruleShareField, fmt.Sprintf("the share %s does not list %s", name, f.name), "add it to the share's fields, or remove the reader")
	}
}

// protection holds what a file says of a field against the rest of the file.
// CC 2.10: data that can do harm gets more than the sealing that all has.
func (j *judge) protection(f *fieldSource) {
	for _, item := range f.n.sound("protection") {
		switch Protection(item.text) {
		case NoStaff:
			if i := slices.IndexFunc(f.Readers, isStaff); i >= 0 {
				j.add(item.at, ruleProtection, fmt.Sprintf("%s says no-staff and lists %s as a reader", f.name, f.Readers[i]), "remove the reader or the protection")
			}
		case NoShares:
			if i := slices.IndexFunc(f.Readers, func(r string) bool { return strings.HasPrefix(r, "share:") }); i >= 0 {
				j.add(item.at, ruleProtection, fmt.Sprintf("%s says no-shares and lists %s as a reader", f.name, f.Readers[i]), "remove the reader or the protection")
			}
		case Coarse:
			numeric := f.Type == Number || f.Type == Integer
			if f.n.get("type") != nil && (!numeric || f.HasRange && f.Precision*1000 < f.Max-f.Min) {
				j.add(item.at, ruleProtection, fmt.Sprintf("%s says coarse but has no precision of at least a thousandth of its range", f.name), "add a `precision`, or take another protection")
			}
		}
	}
}

// end holds that disposal is planned. CC 4.7: no field without it. CC 4.11: an
// aggregate is over enough devices.
func (j *judge) end(f *fieldSource) {
	v := f.n.get("when_done")
	if v == nil {
		return
	}
	k, _ := aggregate(v.text)
	least := 10
	if f.Class >= Sensitive {
		least = 20
	}
	switch {
	case k == 0:
	case k < least:
		j.add(v.at, ruleEnd, fmt.Sprintf("an aggregate over %d devices of %s data", k, f.Class), fmt.Sprintf("write k=%d or more, or shred", least))
	case (f.Type == String || f.Type == Timestamp) && f.n.get("type") != nil:
		j.add(v.at, ruleEnd, fmt.Sprintf("a %s cannot be aggregated", f.Type), "write shred")
	}
}

// class ties duties to classes. CC 2.12, 2.13, 2.14.
func (j *judge) class(f *fieldSource) {
	v := f.n.get("class")
	if v == nil {
		return
	}
	health := j.d.root.find("health")
	if f.Class == Health && !j.d.p.Health && (health == nil || !health.value.bad) {
		j.add(v.at, ruleHealthDuty, f.name+" is health data, and the product does not say `health: true`", "add `health: true`")
	}
	if a := j.d.root.get("audience"); f.Class == Child && a != nil && j.d.p.Audience == GeneralAudience {
		j.add(v.at, ruleChildSelf, f.name+" is child data, and the audience is general", "set `audience: mixed` or `audience: child`")
	}
}

func (j *judge) groups() {
	seen := map[string]bool{}
	for _, f := range j.d.fields {
		if f.n.get("class") == nil || f.n.get("keep") == nil || f.n.get("readers") == nil {
			continue
		}
		id := groupID(&f.Field)
		if seen[id] {
			continue
		}
		seen[id] = true
		if len(seen) == MaxGroups+1 {
			j.add(f.at, ruleGroups, fmt.Sprintf("%s begins the group %d of class, readers and keep-time", f.name, len(seen)), fmt.Sprintf("give fields of one kind the same readers and keep-time: at most %d groups", MaxGroups))
		}
	}
}
