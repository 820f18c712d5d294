package declaration

import (
	"fmt"
	"strings"
	"time"
)

// What a version changes about the ways into and out of a product, about its
// updates and about what it promises.

func (d *differ) commands(old, next *Policy) {
	pairs(
		old.Commands, next.Commands, func(c *Command) string { return c.Name },
		func(c *Command) { d.add(Narrowing, "command", "commands."+c.Name, "the command is gone") },
		func(c *Command) {
			d.add(Widening, "command", "commands."+c.Name, "a new command for %s", strings.Join(c.By, ", "))
		},
		func(a, b *Command) {
			at := "commands." + b.Name
			d.sets(Widening, Narrowing, "command", at, "by", a.By, b.By)
			if a.Risky != b.Risky {
				dir := Narrowing
				if a.Risky {
					dir = Widening // it no longer asks for a second factor
				}
				d.add(dir, "command", at, "risky from %t to %t", a.Risky, b.Risky)
			}
			pairs(
				a.Params, b.Params, func(p *Param) string { return p.Name },
				func(p *Param) { d.add(Narrowing, "command", at, "the parameter %s is gone", p.Name) },
				func(p *Param) { d.add(Widening, "command", at, "a new parameter %s", p.Name) },
				func(x, y *Param) { d.value("command", at+"."+y.Name, x, y) },
			)
		},
	)
}

func (d *differ) interfaces(old, next *Policy) {
	pairs(
		old.Interfaces, next.Interfaces, func(i *Interface) string { return i.Name },
		func(i *Interface) { d.add(Narrowing, "interface", "interfaces."+i.Name, "the interface is gone") },
		func(i *Interface) {
			d.add(Widening, "interface", "interfaces."+i.Name, "a new way %s: %s, %s", i.Direction, i.Protocol, i.Auth)
		},
		func(a, b *Interface) {
			at := "interfaces." + b.Name
			port := func(n int) string {
				if n == 0 {
					return ""
				}
				return plain(n)
			}
			// Which of two protocols or authentications is stronger depends on
			// the product: a person decides.
			d.changed(Widening, "interface", at, "protocol", a.Protocol, b.Protocol)
			d.changed(Widening, "interface", at, "direction", a.Direction, b.Direction)
			d.changed(Widening, "interface", at, "port", port(a.Port), port(b.Port))
			d.changed(Widening, "interface", at, "on", a.On, b.On)
			d.changed(Widening, "interface", at, "auth", a.Auth, b.Auth)
			dir := Widening
			if a.Open == "always" {
				dir = Narrowing
			}
			d.changed(dir, "interface", at, "open", a.Open, b.Open)
		},
	)
}

func (d *differ) network(a, b *Network) {
	text := func(list []Destination) []string {
		var out []string
		for _, t := range list {
			s := t.Service
			if t.Host != "" {
				s += " at " + t.Host
			}
			if t.Port != 0 {
				s += fmt.Sprintf(":%d", t.Port)
			}
			out = append(out, s)
		}
		return out
	}
	d.sets(Widening, Narrowing, "network", "network.talks_to", "destination", text(a.TalksTo), text(b.TalksTo))
	d.sets(Widening, Narrowing, "network", "network.wifi", "Wi-Fi", a.WiFi, b.WiFi)
	less(d, "network", "network.tls", "oldest TLS", a.TLS, b.TLS, func(s string) string { return s })
}

func (d *differ) updates(a, b *Updates) {
	const at = "updates"
	if a.Automatic != b.Automatic {
		dir := Narrowing
		if a.Automatic {
			dir = Widening // holes stay open until somebody acts
		}
		d.add(dir, "update", at, "automatic from %t to %t", a.Automatic, b.Automatic)
	}
	d.changed(Neutral, "text", at, "why_manual", a.WhyManual, b.WhyManual)
	more(d, "update", at, "check_every", int64(a.CheckEvery), int64(b.CheckEvery), spanText)
	more(d, "update", at, "deadline for critical", int64(a.Critical), int64(b.Critical), spanText)
	more(d, "update", at, "deadline for high", int64(a.High), int64(b.High), spanText)
	if a.WindowStart != b.WindowStart || a.WindowEnd != b.WindowEnd {
		d.add(Neutral, "update", at, "the window is another one")
	}
}

// whole compares what concerns the product as a whole.
func (d *differ) whole(old, next *Policy) {
	d.changed(Neutral, "text", "name", "name", old.Name, next.Name)
	d.changed(Neutral, "risk", "risk", "purpose", old.Risk.Purpose, next.Risk.Purpose)
	less(d, "risk", "risk", "harm", uint8(old.Risk.Harm), uint8(next.Risk.Harm), func(n uint8) string { return Harm(n).String() })
	d.changed(Neutral, "risk", "risk", "exposure", old.Risk.Exposure, next.Risk.Exposure)
	less(d, "audience", "audience", "audience", uint8(old.Audience), uint8(next.Audience), func(n uint8) string { return Audience(n).String() })
	if old.Health != next.Health {
		dir := Narrowing
		if old.Health {
			dir = Widening // duties fall away
		}
		d.add(dir, "audience", "health", "health from %t to %t", old.Health, next.Health)
	}
	more(d, "identity", "identity", "life", int64(old.Identity.Life), int64(next.Identity.Life), spanText)
	sleep := func(i Identity) int64 {
		if i.MaySleep == 0 {
			return 1 << 62 // to the end of support
		}
		return int64(i.MaySleep)
	}
	more(d, "identity", "identity", "may_sleep", sleep(old.Identity), sleep(next.Identity), func(n int64) string {
		if n == 1<<62 {
			return "the end of support"
		}
		return spanText(n)
	})
	less(d, "support", "support", "security_updates_until", old.SupportUntil.Unix(), next.SupportUntil.Unix(), func(n int64) string { return date(time.Unix(n, 0)) })
	d.changed(Neutral, "text", "support", "afterwards", old.Afterwards, next.Afterwards)
	d.changed(Neutral, "text", "contacts", "security", old.Contacts.Security, next.Contacts.Security)
	d.changed(Neutral, "text", "contacts", "help", old.Contacts.Help, next.Contacts.Help)
	says := func(list []Claim) []string {
		var out []string
		for _, c := range list {
			out = append(out, fmt.Sprintf("“%s” (%s)", c.Say, strings.Join(c.RestsOn, ", ")))
		}
		return out
	}
	d.sets(Neutral, Neutral, "claim", "claims", "claim", says(old.Claims), says(next.Claims))
	d.hub(old.Hub, next.Hub)
	d.legacy(old.Legacy, next.Legacy)
}

// hub widens where devices may bring more into a home.
func (d *differ) hub(a, b *Hub) {
	const what, at = "hub", "hub"
	text := func(h *Hub) []string {
		var out []string
		for _, id := range h.Children {
			out = append(out, string(id))
		}
		return out
	}
	switch {
	case a == nil && b == nil:
	case a == nil:
		d.add(Widening, what, at, "speaks for up to %d children: %s", b.Max, strings.Join(text(b), ", "))
	case b == nil:
		d.add(Narrowing, what, at, "no longer speaks for children")
	default:
		d.sets(Widening, Narrowing, what, at, "child product", text(a), text(b))
		more(d, what, at, "max", a.Max, b.Max, plain)
	}
}

func (d *differ) legacy(a, b *Legacy) {
	const what, at = "legacy", "legacy"
	switch {
	case a == nil && b == nil:
	case a == nil:
		d.add(Widening, what, at, "a door for %d old devices with %s until %s", b.MaxDevices, b.Auth, date(b.Until))
	case b == nil:
		d.add(Narrowing, what, at, "the door for old devices is gone")
	default:
		d.changed(Widening, what, at, "auth", a.Auth, b.Auth)
		more(d, what, at, "until", a.Until.Unix(), b.Until.Unix(), func(n int64) string { return date(time.Unix(n, 0)) })
		more(d, what, at, "max_devices", a.MaxDevices, b.MaxDevices, plain)
	}
}
