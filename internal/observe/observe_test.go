package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/declaration"
)

var dawn = time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)

// sent is one message of a fleet.
type sent struct {
	topic   string
	payload []byte
	at      time.Time
}

// fleetProduct is a product as somebody's firmware team made it.
type fleetProduct struct {
	layout  string // of its topics: %[1]s device, %[2]s stream
	devices []string
	streams []fleetStream
}

type fleetStream struct {
	name   string
	every  time.Duration
	burst  int
	fields []fleetField
}

type fleetField struct {
	name string
	kind string
	lo   float64
	hi   float64
}

func (f fleetField) value(r *rand.Rand) any {
	x := f.lo + r.Float64()*(f.hi-f.lo)
	switch f.kind {
	case "integer":
		return int64(math.Round(x))
	case "number":
		return math.Round(x*100) / 100
	case "boolean":
		return r.IntN(2) == 0
	case "timestamp":
		return dawn.Add(time.Duration(r.IntN(1e6)) * time.Second).Format(time.RFC3339)
	}
	return strings.Repeat("abcdefgh ", 3)[:3+r.IntN(15)]
}

// fleet is twelve products, seeded: with topics in the ways that makers choose
// them, and devices named by address, serial, UUID, counter or room.
func fleet(seed uint64) []fleetProduct {
	r := rand.New(rand.NewPCG(seed, 12))
	layouts := []string{
		"lamps/%[1]s/%[2]s", "v1/sensors/%[1]s/%[2]s", "tele/plug/%[1]s/%[2]s", "%[1]s/meter/%[2]s", "home/%[1]s/bear/%[2]s", "gate/%[2]s/%[1]s",
		"northwind/eu/pump/%[1]s/%[2]s", "locks/%[1]s/evt/%[2]s", "%[1]s/valve/%[2]s", "rooms/%[1]s/%[2]s", "d/%[1]s/band/%[2]s", "oven/%[1]s/%[2]s",
	}
	names := []func(int) string{
		func(i int) string { return fmt.Sprintf("a4cf12%06x", 0x10f3+i*977) },
		func(i int) string { return fmt.Sprintf("SN%08d", 4400+i*13) },
		func(i int) string { return fmt.Sprintf("5b0c3f6e-9d1a-4c2b-8e77-0123456789%02x", i+16) },
		func(i int) string { return fmt.Sprintf("unit-%03d", i) },
		func(i int) string {
			return []string{"kitchen", "bath", "cellar", "attic", "hall", "garage", "porch", "nursery"}[i]
		},
	}
	words := strings.Fields("temp hum volts amps level state mode fault rssi uptime door lux tilt flow press count speed angle fw open")
	kinds := []string{"number", "integer", "boolean", "string", "timestamp"}
	var out []fleetProduct
	for i, layout := range layouts {
		p := fleetProduct{layout: layout}
		name := names[i%len(names)]
		if i == 4 || i == 8 || i == 10 { // rooms only where the layout has them
			name = names[i%4]
		}
		if i == 9 {
			name = names[4]
		}
		for d := range 8 {
			id := name(d)
			if i != 9 { // each product's devices are its own
				id = strings.Replace(id, "4cf12", fmt.Sprintf("4c%03x", i), 1)
				id = strings.Replace(id, "5b0c3f6e", fmt.Sprintf("5b0c3f%02x", i+16), 1)
				id = strings.Replace(id, "SN00", fmt.Sprintf("SN%02d", i+10), 1)
				id = strings.Replace(id, "unit-", fmt.Sprintf("unit-%d", i+10), 1)
			}
			p.devices = append(p.devices, id)
		}
		used := r.Perm(len(words))
		for s := range 1 + r.IntN(3) {
			st := fleetStream{name: []string{"state", "energy", "health"}[s], every: []time.Duration{time.Second, 10 * time.Second, time.Minute, 5 * time.Minute}[r.IntN(4)], burst: 1 + r.IntN(4)}
			for range 2 + r.IntN(4) {
				lo := float64(r.IntN(200) - 100)
				st.fields = append(st.fields, fleetField{words[used[0]] + []string{"", "_1", "Avg", ".raw"}[r.IntN(4)], kinds[r.IntN(len(kinds))], lo, lo + float64(1+r.IntN(500))})
				used = used[1:]
			}
			p.streams = append(p.streams, st)
		}
		out = append(out, p)
	}
	return out
}

// day is what a fleet sends in some hours, in the order in which it arrives.
func day(all []fleetProduct, seed uint64) (out []sent) {
	r := rand.New(rand.NewPCG(seed, 7))
	for _, p := range all {
		for _, s := range p.streams {
			for _, d := range p.devices {
				at := dawn.Add(time.Duration(r.IntN(int(s.every))))
				for range 60 {
					for range 1 + r.IntN(s.burst) {
						body := map[string]any{}
						for _, f := range s.fields {
							if r.IntN(10) > 0 {
								body[f.name] = f.value(r)
							}
						}
						body[s.fields[0].name] = s.fields[0].value(r)
						b, _ := json.Marshal(body) // maps of plain values
						out = append(out, sent{fmt.Sprintf(p.layout, d, s.name), b, at})
						at = at.Add(time.Duration(r.IntN(int(s.every / 20))))
					}
					at = at.Add(s.every*9/10 + time.Duration(r.IntN(int(s.every/5))))
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b sent) int { return a.at.Compare(b.at) })
	return out
}

// answered is a draft with every question mark answered by somebody who keeps
// all fields.
func answered(t testing.TB, draft string) string {
	t.Helper()
	answer := strings.NewReplacer(
		`name: "?"`, `name: A product`, `risk: {purpose: "?", harm: "?", exposure: "?"}`, `risk: {purpose: comfort, harm: low, exposure: home}`, `audience: "?"`, `audience: general`,
		`about: "?"`, `about: What it is.`, `unit: "?"`, `unit: "1"`, `class: "?"`, `class: personal`, `purposes: ["?"]`, `purposes: [service.control]`, `keep: "?"`, `keep: 30d`,
		`readers: ["?"]`, `readers: [owner]`, `when_done: "?"`, `when_done: shred`,
		"  - {name: \"?\", protocol: \"?\", direction: \"?\", auth: \"?\"}\n", "", `, {service: "?", host: "?"}`, "",
		`{automatic: "?", check_every: "?", deadline: {critical: "?", high: "?"}}`, `{automatic: true, check_every: 6h, deadline: {critical: 3d, high: 14d}}`,
		`security_updates_until: "?"`, `security_updates_until: 2032-12-31`, `afterwards: "?"`, `afterwards: It stays dark.`,
		`{security: "?", help: "?"}`, `{security: security@example.com, help: help@example.com}`,
	).Replace(draft)
	if strings.Contains(answer, `"?"`) {
		t.Fatalf("a question is not answered:\n%s", answer)
	}
	return answer
}

func compiled(t testing.TB, source string) *declaration.Policy {
	t.Helper()
	d, err := declaration.Parse("draft.yaml", []byte(source))
	if f, ok := err.(declaration.Faults); ok {
		var b strings.Builder
		_ = f.Render(&b)
		t.Fatalf("%s\n%s", b.String(), source)
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := declaration.Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFleetOfTwelve: every topic and field of twelve products is found, no
// draft compiles while a question is open, and once all are answered nothing
// that the fleet sends would be dropped or refused.
func TestFleetOfTwelve(t *testing.T) {
	for seed := range uint64(8) {
		all := fleet(seed)
		messages := day(all, seed)
		r := New()
		for _, m := range messages {
			r.Take(m.topic, m.payload, m.at)
		}
		report := r.Report()
		if len(report.Products) != 12 || report.Messages != uint64(len(messages)) || report.NotLooked != 0 {
			t.Errorf("seed %d: %d products of 12, %d messages of %d, %d not looked at", seed, len(report.Products), report.Messages, len(messages), report.NotLooked)
		}
		found := map[string][]string{}
		for _, p := range report.Products {
			if p.Devices != 8 {
				t.Errorf("seed %d: %s has %d devices of 8", seed, p.Name, p.Devices)
			}
			for _, s := range p.Streams {
				for _, f := range s.Fields {
					for _, topic := range s.Topics {
						found[topic] = append(found[topic], f.Name)
					}
				}
			}
		}
		for _, p := range all {
			for _, s := range p.streams {
				topic := fmt.Sprintf(p.layout, variable, s.name)
				for _, f := range s.fields {
					if !slices.Contains(found[topic], f.name) {
						t.Errorf("seed %d: %s on %s is not found: %v", seed, f.name, topic, found[topic])
					}
				}
			}
		}
		var policies []*declaration.Policy
		for i := range report.Products {
			var draft bytes.Buffer
			if err := report.Products[i].Draft(&draft, report); err != nil {
				t.Fatal(err)
			}
			if d, err := declaration.Parse("draft.yaml", draft.Bytes()); err == nil {
				if _, err := declaration.Compile(d); err == nil {
					t.Errorf("seed %d: a draft compiles with its questions open", seed)
				}
			}
			policies = append(policies, compiled(t, answered(t, draft.String())))
		}
		h, err := NewHolder(policies)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			h.Take(m.topic, m.payload, m.at)
		}
		if e := h.Enforced(); e.Accepted != uint64(len(messages)) || len(e.Refused) != 0 || len(e.Dropped) != 0 || e.BadValues != 0 {
			t.Errorf("seed %d: of %d accepted %d, refused %v, dropped %v, %d bad values", seed, len(messages), e.Accepted, e.Refused, e.Dropped, e.BadValues)
		}
	}
}

// TestEveryQuestionIsAFault: each single question that stays open keeps a draft
// from compiling.
func TestEveryQuestionIsAFault(t *testing.T) {
	r := New()
	for i := range 10 {
		r.Take("lamp/unit-01/state", fmt.Appendf(nil, `{"temp":%d,"name":"abc","ok":true}`, i), dawn.Add(time.Duration(i)*time.Minute))
	}
	report := r.Report()
	var b bytes.Buffer
	if err := report.Products[0].Draft(&b, report); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	full := strings.Split(answered(t, b.String()), "\n")
	questions := regexp.MustCompile(`"\?"`)
	n := 0
	for i, line := range lines {
		if !questions.MatchString(line) || strings.Contains(line, "- {name:") {
			continue // the example of an interface is taken out by who has none
		}
		at := slices.Index(full, strings.Split(answered(t, line), "\n")[0])
		if at < 0 {
			t.Fatalf("line %d has no answer: %s", i, line)
		}
		one := slices.Clone(full)
		one[at] = line
		n++
		d, err := declaration.Parse("draft.yaml", []byte(strings.Join(one, "\n")))
		if err == nil {
			_, err = declaration.Compile(d)
		}
		if err == nil {
			t.Errorf("it compiles with the question open in: %s", line)
		}
	}
	if n < 20 {
		t.Errorf("%d questions were left open one by one", n)
	}
}

// TestNamesOfThings: what names one thing is kept nowhere, neither of a topic
// nor of a field; what names a quantity stays.
func TestNamesOfThings(t *testing.T) {
	r := New()
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	r.Take("site/9f8e7d6c5b4a/state", []byte(`{"a4c138e2b7f0": 21.5, "A4:C1:38:E2:B7:F1": 20, "NWX-00017-2291": 1, "90017": 2, "pm25": 4, "sensor_01": 1, "temperature": 3, "co2": 400, "facade": 1}`), at)
	rep := r.Report()
	b, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"9f8e7d6c5b4a", "a4c138e2b7f0", "A4:C1", "NWX-00017", "90017"} {
		if strings.Contains(string(b), name) {
			t.Errorf("%s is in the report", name)
		}
	}
	for _, name := range []string{"pm25", "sensor_01", "temperature", "co2", "facade", "names look like those of devices"} {
		if !strings.Contains(string(b), name) {
			t.Errorf("%s is not in the report", name)
		}
	}
}
