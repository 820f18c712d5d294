package observe

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ask stands in a draft where a person has to answer. No rule takes it, so that
// a draft does not compile before.
const ask = `"?"`

// Draft writes a declaration of a product as it is, to be answered: what it is
// called and how it is guarded, and for each field its class, its purposes, how
// long it is kept and who reads it, is a question mark. A field that nobody
// needs is to be taken out: then it is dropped, and never kept.
func (p *Product) Draft(w io.Writer, r *Report) error {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("# What %s sends, as it was seen from %s to %s.", p.Name, stamp(r.From), stamp(r.To))
	say("# Answer every question mark; take out every field that nobody needs. Ranges and rates")
	say("# are wider than what was seen. Then: hawser declaration check FILE")
	say("declaration: 1")
	say("product: %s", strings.ReplaceAll(p.Name, "--", "-"))
	say("name: %s", ask)
	say("version: 1")
	say("risk: {purpose: %s, harm: %s, exposure: %s}", ask, ask, ask)
	say("audience: %s", ask)
	say("\ndata:")
	for _, s := range p.Streams {
		for _, f := range s.Fields {
			f.draft(say, s.Name)
		}
	}
	say("\nstreams:")
	for _, s := range p.Streams {
		if !s.declarable() {
			say("  # nothing of %s can be declared as it is", strings.Join(s.Topics, ", "))
			continue
		}
		say("  # from %s; devices of this installation send on telemetry/%s", strings.Join(s.Topics, ", "), s.Name)
		for _, what := range slices.Sorted(maps.Keys(s.Odd)) {
			say("  # %s messages were %s: they would be refused", number(s.Odd[what]), what)
		}
		every, burst := span(s.Every), strconv.Itoa(s.Burst)
		if s.Every == 0 {
			say("  # too few messages came to say how fast they may come")
			every, burst = ask, ask
		}
		say("  %s: {every: %s, burst: %s, max_bytes: %d, on_bad: field}", s.Name, every, burst, s.MaxBytes)
	}
	say("\ninterfaces:")
	say("  - {name: gateway, protocol: mqtts, direction: out, auth: device-certificate}")
	say("  # every other way into and out of the product: set-up, radio, service ports")
	say("  - {name: %s, protocol: %s, direction: %s, auth: %s}", ask, ask, ask, ask)
	say("\nnetwork:")
	say("  talks_to: [{service: gateway}, {service: %s, host: %s}]", ask, ask)
	say("\nupdates: {automatic: %s, check_every: %s, deadline: {critical: %s, high: %s}}", ask, ask, ask, ask)
	say("\nsupport:\n  security_updates_until: %s\n  afterwards: %s", ask, ask)
	say("\ncontacts: {security: %s, help: %s}", ask, ask)
	_, err := io.WriteString(w, b.String())
	return err
}

// Declarable reports whether any field of the product can be declared as it is.
func (p *Product) Declarable() bool {
	return slices.ContainsFunc(p.Streams, func(s Stream) bool { return s.declarable() })
}

func (s *Stream) declarable() bool {
	for _, f := range s.Fields {
		if f.Undeclarable == "" {
			return true
		}
	}
	return false
}

func (f *Field) draft(say func(string, ...any), stream string) {
	if f.Undeclarable != "" {
		say("  # %s (%s values) cannot be declared as it is: %s", strings.ReplaceAll(f.Name, "\n", " "), number(f.Seen), f.Undeclarable)
		return
	}
	if f.Look != "" {
		say("  # %s LOOKS LIKE %s: does anybody need it?", f.Name, strings.ToUpper(string(f.Look)))
	}
	say("  %s: # %s values", f.Name, number(f.Seen))
	if f.Lost > 0 {
		say("    # %s values were of another type: they would be dropped", number(f.Lost))
	}
	say("    about: %s", ask)
	say("    stream: %s", stream)
	say("    type: %s", f.Type)
	switch f.Type {
	case "integer", "number":
		say("    unit: %s", ask)
		say("    range: [%s, %s]", figure(f.Min), figure(f.Max))
		if f.Decimals > 1 {
			say("    # up to %d decimals were sent; `precision` keeps fewer", f.Decimals)
		}
	case "string":
		say("    max_length: %d # an enum says more, where there are few texts", f.MaxLength)
	}
	say("    class: %s", ask)
	say("    purposes: [%s]", ask)
	say("    keep: %s", ask)
	say("    readers: [%s]", ask)
	say("    when_done: %s", ask)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func number(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func figure(x float64) string {
	if x == math.Trunc(x) && math.Abs(x) < 1e15 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(math.Round(x*1e9)/1e9, 'f', -1, 64)
}

// span is a time as declarations write it.
func span(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d >= u.of && d%u.of == 0 {
			return fmt.Sprintf("%d%s", d/u.of, u.name)
		}
	}
	return fmt.Sprintf("%dms", d.Milliseconds())
}
