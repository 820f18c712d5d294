package declaration

import (
	"slices"
	"strings"
	"testing"
)

// edited is the sound file with replacements, compiled.
func edited(t *testing.T, replace ...string) *Policy {
	t.Helper()
	src := string(read(t, "testdata/sound.yaml"))
	for i := 0; i+1 < len(replace); i += 2 {
		if !strings.Contains(src, replace[i]) {
			t.Fatalf("the file does not say %q", replace[i])
		}
		src = strings.Replace(src, replace[i], replace[i+1], 1)
	}
	return mustCompile(t, "edited.yaml", []byte(src))
}

// TestDiff makes one change at a time and looks at it from both sides: what
// widens in one direction narrows in the other, if it can be weighed at all.
func TestDiff(t *testing.T) {
	const neither = "" // the other direction is not asked
	for _, c := range []struct {
		name          string
		edit          []string
		there, back   string // directions
		what, where   string
		textHas       string
		mayBringOther bool // the edit needs other changes to be sound
	}{
		{"new field", []string{"streams:\n", "  lid: {stream: events, type: boolean, class: personal, purposes: [service.alert], keep: 7d, readers: [owner, support], when_done: shred}\nstreams:\n"}, "widens", "narrows", "collection", "data.lid", "new field", false},
		{"longer keep", []string{"keep: 7d", "keep: 8d"}, "widens", "narrows", "keep-time", "data.pressed", "7d to 8d", false},
		{"new reader", []string{"readers: [owner, support]\n", "readers: [owner, support, household]\n"}, "widens", "narrows", "reader", "data.pressed", "household is new", false},
		{"new purpose", []string{"[service.alert]\n", "[service.alert, service.history]\n"}, "widens", "narrows", "purpose", "data.pressed", "service.history is new", false},
		{"higher class", []string{"class: personal", "class: sensitive\n    protection: [two-persons]"}, "widens", "widens", "class", "data.pressed", "personal to sensitive", true},
		{"more protection", []string{"class: personal", "class: personal\n    protection: [step-up]"}, "narrows", "widens", "protection", "data.pressed", "step-up is new", false},
		{"finer precision", []string{"precision: 1\n", "precision: 0.5\n"}, "widens", "narrows", "collection", "data.battery", "1 to 0.5", false},
		{"no precision", []string{"    precision: 1\n", ""}, "widens", "narrows", "collection", "data.battery", "as fine as it comes", false},
		{"wider range above", []string{"[0, 100]", "[0, 120]"}, "widens", "narrows", "collection", "data.battery", "100 to 120", false},
		{"wider range below", []string{"[0, 100]", "[-20, 100]"}, "widens", "narrows", "collection", "data.battery", "0 to -20", false},
		{"another type", []string{"type: boolean", "type: timestamp"}, "widens", "widens", "collection", "data.pressed", "boolean to timestamp", false},
		{"another unit", []string{`unit: "%"`, "unit: V"}, "widens", "widens", "collection", "data.battery", "% to V", false},
		{"an aggregate stays", []string{"when_done: shred", "when_done: aggregate(k=20, by=day)"}, "widens", "narrows", "end", "data.pressed", "aggregate", false},
		{"smaller k", []string{"k=20, by=day", "k=10, by=day"}, "widens", "narrows", "end", "data.battery", "k=10", false},
		{"finer time of aggregate", []string{"by=day", "by=hour"}, "widens", "narrows", "end", "data.battery", "by=hour", false},
		{"moves to a faster stream", []string{"stream: health\n", "stream: events\n", "  health: {every: 1h, burst: 2, max_bytes: 128}\n", ""}, "widens", neither, "collection", "data.battery", "health to events", true},
		{"higher rate", []string{"every: 10s", "every: 5s"}, "widens", "narrows", "rate", "streams.events", "10s to 5s", false},
		{"larger burst", []string{"burst: 5", "burst: 50"}, "widens", "narrows", "rate", "streams.events", "5 to 50", false},
		{"larger message", []string{"max_bytes: 256", "max_bytes: 1024"}, "widens", "narrows", "rate", "streams.events", "256 to 1024", false},
		{"on_bad", []string{"max_bytes: 256", "max_bytes: 256, on_bad: message"}, "narrows", "widens", "collection", "streams.events", "field to message", false},
		{"new service", []string{"services:\n", "services:\n  cloud: {what: Counts., purposes: [service.alert]}\n"}, "widens", "narrows", "reader", "services.cloud", "new service", false},
		{"service reads for more", []string{"purposes: [service.alert]}", "purposes: [service.alert, service.x]}"}, "widens", "narrows", "purpose", "services.app", "service.x is new", false},
		{"share ends later", []string{"2027-06-30", "2028-06-30"}, "widens", "narrows", "share", "shares.gridco", "2027-06-30 to 2028-06-30", false},
		{"share with a transform", []string{"fields: [battery],", "fields: [battery], transform: [day],"}, "narrows", "widens", "share", "shares.gridco", "nothing to day", false},
		{"share for another purpose", []string{"[support.battery]\n", "[support.battery, research.cells]\n", "purpose: support.battery,", "purpose: research.cells,"}, "widens", "widens", "share", "shares.gridco", "support.battery to research.cells", true},
		{"no share", []string{", share:gridco", "", "shares:\n  gridco: {fields: [battery], purpose: support.battery, contract_until: 2027-06-30, reidentify: never}\n", ""}, "narrows", "widens", "share", "shares.gridco", "gone", true},
		{"new command", []string{"commands:\n", "commands:\n  mute: {by: [owner], risky: false}\n"}, "widens", "narrows", "command", "commands.mute", "new command", false},
		{"command by more", []string{"by: [owner, service:app]", "by: [owner, household, service:app]"}, "widens", "narrows", "command", "commands.ring", "household", false},
		{"command risky", []string{"risky: false", "risky: true"}, "narrows", "widens", "command", "commands.ring", "false to true", false},
		{"wider parameter", []string{"range: [1, 10]", "range: [1, 20]"}, "widens", "narrows", "command", "commands.ring.seconds", "10 to 20", false},
		{"new setting", []string{"interfaces:\n", "settings:\n  chime: {type: integer, unit: \"1\", range: [0, 3], default: 1, class: personal, keep: 7d, by: [owner], risky: false}\ninterfaces:\n"}, "widens", "narrows", "setting", "settings.chime", "new setting", false},
		{"new interface", []string{"interfaces:\n", "interfaces:\n  - {name: debug, protocol: usb, direction: in, on: cable, auth: button, open: always}\n"}, "widens", "narrows", "interface", "interfaces.debug", "new way in", false},
		{"interface always open", []string{"open: until-claimed", "open: always"}, "widens", "narrows", "interface", "interfaces.setup", "until-claimed to always", false},
		{"interface with another authentication", []string{"auth: pairing-code", "auth: button"}, "widens", "widens", "interface", "interfaces.setup", "pairing-code to button", false},
		{"new destination", []string{"host: ntp.example.com}", "host: ntp.example.com}, {service: maps, host: maps.example.com, port: 443}"}, "widens", "narrows", "network", "network.talks_to", "maps at maps.example.com:443 is new", false},
		{"weaker Wi-Fi", []string{"wifi: [wpa2, wpa3]", "wifi: [wpa3]"}, "narrows", "widens", "network", "network.wifi", "wpa2 is gone", false},
		{"older TLS", []string{"wifi: [wpa2, wpa3]", "wifi: [wpa2, wpa3]\n  tls: \"1.2\""}, "widens", "narrows", "network", "network.tls", "1.3 to 1.2", false},
		{"manual updates", []string{"automatic: true", "automatic: false, why_manual: It must not restart by itself."}, "widens", "narrows", "update", "updates", "true to false", true},
		{"slower fixes", []string{"critical: 3d", "critical: 10d"}, "widens", "narrows", "update", "updates", "3d to 10d", false},
		{"another window", []string{"02:00-05:00", "03:00-05:00"}, "neutral", "neutral", "update", "updates", "window", false},
		{"longer support", []string{"2032-12-31", "2033-12-31"}, "narrows", "widens", "support", "support", "2032-12-31 to 2033-12-31", false},
		{"longer certificates", []string{"audience: general\n", "audience: general\nidentity: {life: 1y}\n"}, "widens", "narrows", "identity", "identity", "90d to 365d", false},
		{"shorter sleep", []string{"audience: general\n", "audience: general\nidentity: {may_sleep: 30d}\n"}, "narrows", "widens", "identity", "identity", "the end of support to 30d", false},
		{"legacy door", []string{"claims:\n", "legacy: {auth: own-ca, until: 2028-01-01, max_devices: 5}\nclaims:\n"}, "widens", "narrows", "legacy", "legacy", "door", false},
		{"children of a hub", []string{"claims:\n", "hub: {children: [bulb], max: 5}\nclaims:\n"}, "widens", "narrows", "hub", "hub", "up to 5 children: bulb", false},
		{"less harm", []string{"harm: medium", "harm: low"}, "widens", "narrows", "risk", "risk", "medium to low", false},
		{"children", []string{"audience: general", "audience: mixed"}, "narrows", "widens", "audience", "audience", "general to mixed", false},
		{"health duties", []string{"audience: general\n", "audience: general\nhealth: true\n"}, "narrows", "widens", "audience", "health", "false to true", false},
		{"another claim", []string{"rests_on: [RP-03]", "rests_on: [RP-03, MR-04]"}, "neutral", "neutral", "claim", "claims", "", true},
		{"another name", []string{"name: Door Bell", "name: Bell"}, "neutral", "neutral", "text", "name", "Door Bell to Bell", false},
		{"another contact", []string{"security@example.com", "psirt@example.com"}, "neutral", "neutral", "text", "contacts", "psirt", false},
	} {
		a, b := edited(t), edited(t, c.edit...)
		for _, x := range []struct {
			changes []Change
			want    string
		}{{Diff(a, b), c.there}, {Diff(b, a), c.back}} {
			if x.want == neither {
				continue
			}
			i := slices.IndexFunc(x.changes, func(y Change) bool { return y.What == c.what && y.Where == c.where })
			if i < 0 {
				t.Errorf("%s: no change of %s at %s in %v", c.name, c.what, c.where, x.changes)
				continue
			}
			if got := x.changes[i].Direction.String(); got != x.want {
				t.Errorf("%s: %s, want %s: %v", c.name, got, x.want, x.changes[i])
			}
			if !c.mayBringOther && len(x.changes) != 1 {
				t.Errorf("%s: %d changes, want one: %v", c.name, len(x.changes), x.changes)
			}
			if Widens(x.changes) != slices.ContainsFunc(x.changes, func(y Change) bool { return y.Direction == Widening }) {
				t.Errorf("%s: Widens disagrees with %v", c.name, x.changes)
			}
		}
		if got := Diff(a, b); !slices.ContainsFunc(got, func(y Change) bool { return strings.Contains(y.Text, c.textHas) }) {
			t.Errorf("%s: no change says %q: %v", c.name, c.textHas, got)
		}
	}
}

func TestDiffOfTheSame(t *testing.T) {
	for _, file := range examples(t) {
		p := mustCompile(t, file, read(t, file))
		if got := Diff(p, p); len(got) != 0 {
			t.Errorf("%s differs from itself: %v", file, got)
		}
	}
}

// TestDiffSeesEverything changes single values of every example: two policies
// with different canonical forms always show a change, except for the version.
func TestDiffSeesEverything(t *testing.T) {
	words := []string{"1", "2", "77", "true", "false", "x", "9d", "1h", "2031-01-01", "owner", "wpa3", "home", "public", "high", "service.other", "h.example.com", "a text that is long enough", "lan", "gate", "DS-01"}
	changed := 0
	for _, file := range examples(t) {
		src := string(read(t, file))
		p := mustCompile(t, file, []byte(src))
		at := 0
		for i := range len(src) {
			if src[i] != ' ' && src[i] != '[' && src[i] != '"' {
				continue
			}
			end := i + 1 + strings.IndexAny(src[i+1:]+",", ",]}\n\"")
			if end-i < 2 || end > len(src) {
				continue
			}
			for range 2 {
				w := words[at%len(words)]
				at++
				d, err := Parse(file, []byte(src[:i+1]+w+src[end:]))
				if err != nil {
					continue
				}
				q, err := Compile(d)
				if err != nil {
					t.Fatal(err)
				}
				if q.Hash == p.Hash || q.Version != p.Version || q.Product != p.Product {
					continue
				}
				changed++
				if len(Diff(p, q)) == 0 || len(Diff(q, p)) == 0 {
					t.Errorf("%s: %q for %q shows no change", file, w, src[i+1:end])
				}
			}
		}
	}
	if changed < 100 {
		t.Errorf("only %d changes were sound", changed)
	}
	t.Logf("%d changes", changed)
}
