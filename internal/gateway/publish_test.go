package gateway

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// Every way that a message can be judged, in both versions (design, section 5,
// Messages).
func TestWhatBecomesOfAMessage(t *testing.T) {
	d := newDoor(t)
	cases := []struct {
		name, topic, payload string
		code                 mqtt.ReasonCode // of the PUBACK in 5.0
		why                  telemetry.Reason
		stream               string // in the refusal record
	}{
		{"good", "telemetry/light", level(1), 0, "", ""},
		{"good, by the device's own name", "devices/ID/telemetry/light", level(2), 0, "", ""},
		{"undeclared field", "telemetry/light", `{"level":3,"who":"anna"}`, 0, "", ""},
		{"a CBOR map", "telemetry/light", "\xa2\x65level\x03\x63who\x64anna", 0, "", ""},
		{"a SenML pack", "telemetry/light", `[{"bn":"urn:dev:mac:0024befffe804ff1/","n":"level","v":4},{"n":"who","vs":"anna"}]`, 0, "", ""},
		{"a SenML pack in CBOR", "telemetry/light", "\x82\xa2\x00\x65level\x02\x05\xa2\x00\x63who\x03\x64anna", 0, "", ""},
		{"a CBOR map that is cut off", "telemetry/light", "\xa2\x65level\x03", 0x99, telemetry.ReasonNotCBOR, "light"},
		{"a SenML pack of nothing", "telemetry/light", `[{"level":4}]`, 0x99, telemetry.ReasonNotSenML, "light"},
		{"a SenML pack of two times", "telemetry/heat", `[{"n":"heat","t":-2,"v":4},{"n":"heat","t":-1,"v":5}]`, 0x99, telemetry.ReasonSeveralTimes, "heat"},
		{"bad field, the rest kept", "telemetry/light", `{"level":-4,"boot":1,"seq":1}`, 0x99, telemetry.ReasonNothingLeft, "light"},
		{"bad field, the message refused", "telemetry/heat", `{"heat":1000}`, 0x99, telemetry.ReasonBadField, "heat"},
		{"nothing left", "telemetry/light", `{"who":"anna"}`, 0x99, telemetry.ReasonNothingLeft, "light"},
		{"not JSON", "telemetry/light", `level=1`, 0x99, telemetry.ReasonNotJSON, "light"},
		{"twice the same name", "telemetry/light", `{"level":1,"level":2}`, 0x99, telemetry.ReasonDuplicateKey, "light"},
		{"too large for the stream", "telemetry/light", `{"level":1,"x":"` + strings.Repeat("x", 600) + `"}`, 0x97, telemetry.ReasonTooLarge, "light"},
		{"no such stream", "telemetry/nowhere", level(1), 0x90, telemetry.ReasonUnknownStream, ""},
		{"no topic of ours", "zigbee2mqtt/lamp", level(1), 0x87, telemetry.ReasonWrongTopic, ""},
		{"another device's", "devices/OTHER/telemetry/light", level(1), 0x87, telemetry.ReasonWrongTopic, ""},
		{"another device's, as AWS has it", "$aws/things/OTHER/defender/metrics/json", `{}`, 0x87, telemetry.ReasonWrongTopic, ""},
		{"state", "state", `{}`, 0x83, telemetry.ReasonNotYet, ""},
		{"posture", "posture", `{}`, 0x83, telemetry.ReasonNotYet, ""},
		{"a child's", "child/K7/telemetry/light", level(1), 0x87, telemetry.ReasonNoChild, ""},
		{"a child with another device's id", "child/OTHER/telemetry/light", level(1), 0x87, telemetry.ReasonNoChild, ""},
		{"a child with its own id", "child/ID/telemetry/light", level(1), 0x87, telemetry.ReasonNoChild, ""},
		{"a command's reply", "command/blink/reply/7", `{}`, 0x90, telemetry.ReasonNoCommand, ""},
	}
	good := 0
	for _, m := range cases {
		if m.why == "" {
			good++
		}
	}
	for _, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		id := core.DeviceID("A-" + v.String())
		cert := d.enrol(id)
		c := d.connect(cert, v, "x")
		for i, m := range cases {
			before, refusedBefore := d.stored()
			c.publish(uint16(i+1), strings.Replace(m.topic, "ID", string(id), 1), m.payload)
			ack := c.read()
			if ack.Type != mqtt.PUBACK || ack.ID != uint16(i+1) {
				t.Fatalf("%v, %s: %v %d", v, m.name, ack.Type, ack.ID)
			}
			if why, _ := ack.Props.Data(mqtt.PropReasonString); v == mqtt.V5 && string(why) != string(m.why) {
				t.Errorf("%s: reason %q, want %q", m.name, why, m.why)
			}
			got := ack.Code
			want := m.code
			if v == mqtt.V311 {
				want = 0 // there are no codes: the record is what makes the ack honest
			}
			if got != want {
				t.Errorf("%v, %s: code %#x, want %#x", v, m.name, got, want)
			}
			after, refusedAfter := d.stored()
			if (m.why == "") != (len(after) == len(before)+1) {
				t.Errorf("%v, %s: %d readings stored", v, m.name, len(after)-len(before))
			}
			// The ack means "recorded": the refusal is on disk when it arrives.
			if m.why != "" {
				if len(refusedAfter) != len(refusedBefore)+1 {
					t.Fatalf("%v, %s: %d refusals recorded, want 1", v, m.name, len(refusedAfter)-len(refusedBefore))
				}
				if r := refusedAfter[len(refusedAfter)-1]; r.Reason != m.why || r.Stream != m.stream || r.Count != 1 {
					t.Errorf("%v, %s: recorded %+v, want %q of stream %q", v, m.name, r, m.why, m.stream)
				}
			}
		}
		// At QoS 0 nobody is told; the good ones are stored all the same.
		before, _ := d.stored()
		for _, m := range cases {
			c.write(&mqtt.Packet{Type: mqtt.PUBLISH, Topic: []byte(strings.Replace(m.topic, "ID", string(id), 1)), Payload: []byte(m.payload)})
		}
		c.publish(99, "telemetry/light", level(5)) // and the acknowledgements go on
		if got := c.acked(99); got != 0 {
			t.Errorf("%v: after QoS 0: %#x", v, got)
		}
		after, _ := d.stored()
		if got := len(after) - len(before); got != good+1 {
			t.Errorf("%v: %d readings stored of the messages at QoS 0 and one more, want %d", v, got, good+1)
		}
	}
	s := d.g.Stats()
	if want := uint64(2 * (len(cases) - good)); s.DroppedQoS0 != want || s.Refused != 2*want {
		t.Errorf("%d refused, %d of them at QoS 0; want %d and %d", s.Refused, s.DroppedQoS0, 2*want, want)
	}
	for _, r := range d.g.Refusals() {
		t.Errorf("a refused message ended a connection: %+v", r)
	}
}

// Authorised after the alias was resolved, on each publish (CC 3.6).
func TestTopicAliases(t *testing.T) {
	d := newDoor(t)
	c := d.connect(d.enrol("A1"), mqtt.V5, "x")
	send := func(id uint16, topic string, alias uint32) mqtt.ReasonCode {
		t.Helper()
		p := &mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: id, Topic: []byte(topic), Payload: []byte(level(int(id)))}
		p.Props.SetNumber(mqtt.PropTopicAlias, alias)
		c.write(p)
		return c.acked(id)
	}
	for i, s := range []struct {
		topic string
		alias uint32
		want  mqtt.ReasonCode
	}{
		{"telemetry/light", 1, 0},
		{"", 1, 0},
		{"devices/OTHER/telemetry/light", 1, mqtt.NotAuthorized},
		{"", 1, mqtt.NotAuthorized},
		{"telemetry/nowhere", 16, mqtt.TopicNameInvalid},
		{"", 16, mqtt.TopicNameInvalid},
		{"telemetry/light", 16, 0},
		{"", 16, 0},
	} {
		if got := send(uint16(i+1), s.topic, s.alias); got != s.want {
			t.Errorf("step %d: %#x, want %#x", i+1, got, s.want)
		}
	}
	if got, _ := d.stored(); len(got) != 4 {
		t.Errorf("%d stored, want 4", len(got))
	}
}

// The retain flag is cleared: nothing is ever retained or delivered again.
func TestRetainIsCleared(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	c := d.connect(cert, mqtt.V311, "x")
	c.write(&mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: 1, Retain: true, Topic: []byte("telemetry/light"), Payload: []byte(level(1))})
	c.acked(1)
	if s := d.g.Stats(); s.Retained != 1 || s.Submitted != 1 {
		t.Errorf("%d retain flags cleared, %d stored; want 1 and 1", s.Retained, s.Submitted)
	}
}

// PUBACKs leave in the order of the PUBLISH packets, whatever is decided at
// once and whatever waits for the disk [MQTT-4.6.0-2].
func TestAcksInOrder(t *testing.T) {
	d := newDoor(t)
	const devices, messages = 8, 400
	var wg sync.WaitGroup
	for i := range devices {
		v := []mqtt.Version{mqtt.V5, mqtt.V311}[i%2]
		cert := d.enrol(core.DeviceID(fmt.Sprintf("A%d", i)))
		wg.Go(func() {
			c := d.connect(cert, v, "x")
			go func() {
				var all []byte
				for n := range messages {
					p := &mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: uint16(n + 1), Topic: []byte("telemetry/light"), Payload: fmt.Appendf(nil, `{"level":%d,"boot":1,"seq":%d}`, n, n)}
					switch n % 5 {
					case 1:
						p.Payload = []byte("not JSON")
					case 3:
						p.Topic = []byte("telemetry/heat")
						p.Payload = []byte(`{"heat":-1e9}`)
					case 4:
						p.QoS, p.ID = 0, 0
					}
					b, err := mqtt.Append(nil, v, p)
					if err != nil {
						t.Error(err)
						return
					}
					all = append(all, b...)
				}
				if _, err := c.c.Write(all); err != nil {
					t.Error(err)
				}
			}()
			for n := range messages {
				if n%5 == 4 {
					continue
				}
				if p, err := c.next(20 * time.Second); err != nil || p.Type != mqtt.PUBACK || p.ID != uint16(n+1) {
					t.Errorf("device %d: %+v, %v instead of PUBACK %d", i, p, err, n+1)
					return
				}
			}
		})
	}
	wg.Wait()
	got, _ := d.stored()
	last := map[core.Subject]uint64{}
	for _, r := range got {
		if r.HasSeq && r.Seq < last[r.Subject] {
			t.Fatalf("a device's readings were stored out of order: %d after %d", r.Seq, last[r.Subject])
		}
		last[r.Subject] = r.Seq
	}
	if want := devices * messages / 5 * 3; len(got) != want {
		t.Errorf("%d stored, want %d", len(got), want)
	}
}

// The window is back-pressure: the gateway stops reading when 32 messages are
// undecided, and goes on when they are decided.
func TestWindowStopsReading(t *testing.T) {
	gate := &gated{}
	d := newDoor(t, func(d *door) { d.wrap = func(deps *Deps) { gate.Intake = deps.Intake; deps.Intake = gate } })
	c := d.connect(d.enrol("A1"), mqtt.V311, "x")
	gate.close()
	for i := range uint16(100) {
		c.publish(i+1, "telemetry/light", level(int(i)))
	}
	eventually(t, "32 are taken", func() bool { return gate.held() == window })
	time.Sleep(50 * time.Millisecond)
	if got := gate.held(); got != window {
		t.Errorf("%d undecided messages, want %d", got, window)
	}
	if p, err := c.next(50 * time.Millisecond); err == nil {
		t.Errorf("%v before anything was on disk", p.Type)
	}
	gate.open()
	for i := range uint16(100) {
		c.acked(i + 1)
	}
}

// gated is the real intake whose completions can be held back, as by a slow
// disk.
type gated struct {
	Intake
	mu     sync.Mutex
	shut   bool
	behind []func()
}

type late struct {
	g *gated
	c telemetry.Completion
}

func (l late) Done(token uint64, err error) {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	if l.g.shut {
		l.g.behind = append(l.g.behind, func() { l.c.Done(token, err) })
		return
	}
	l.c.Done(token, err)
}

func (g *gated) Message(src *telemetry.Source, stream, payload []byte, c telemetry.Completion, token uint64) telemetry.Verdict {
	return g.Intake.Message(src, stream, payload, late{g, c}, token)
}

func (g *gated) close() {
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
}

func (g *gated) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
	slices.Reverse(g.behind) // decisions in any order
	for _, f := range g.behind {
		f()
	}
	g.behind = nil
}

func (g *gated) held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.behind)
}

// Our trouble is never acknowledged: the journal is full, the client is told
// that it passes, and what was not acknowledged is stored once there is room.
func TestFullJournalAcknowledgesNothing(t *testing.T) {
	d := newDoor(t, func(d *door) {
		d.opt = journal.Options{MaxBytes: 4 << 20}
		d.wrap = func(deps *Deps) { deps.Trouble = func() error { return d.jr.State().Trouble } }
	})
	cert, cert3 := d.enrol("A5"), d.enrol("A3")
	big := make([]byte, 400<<10)
	for d.jr.Submit(big, nil, 0) == nil { // what a stopped projector leaves behind
		time.Sleep(10 * time.Millisecond)
	}
	c, c3 := d.connect(cert, mqtt.V5, "x"), d.connect(cert3, mqtt.V311, "x")
	for i := range uint16(5) {
		c.publish(i+1, "telemetry/light", level(1))
		c3.publish(i+1, "telemetry/light", level(1))
	}
	if p := c.read(); p.Type != mqtt.DISCONNECT || p.Code != mqtt.QuotaExceeded {
		t.Errorf("5.0 got %v %#x, want DISCONNECT 0x97", p.Type, p.Code)
	}
	if p, err := c3.next(10 * time.Second); err == nil {
		t.Errorf("3.1.1 got %v", p.Type)
	}
	if s := d.g.Stats(); s.Acks != 0 || s.Trouble == 0 || s.Ended[string(endTrouble)] != 2 {
		t.Errorf("%d acknowledged, %d in trouble, ended %v", s.Acks, s.Trouble, s.Ended)
	}
	// A refusal is not acknowledged either when it cannot be recorded.
	c3 = d.connect(cert3, mqtt.V311, "x")
	c3.publish(1, "telemetry/light", "not JSON")
	if p, err := c3.next(10 * time.Second); err == nil {
		t.Errorf("a refusal that is not on record was answered with %v", p.Type)
	}
	if err := d.jr.Trim(t.Context(), d.jr.State().Last); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room again", func() bool { return d.jr.State().Trouble == nil })
	c = d.connect(cert, mqtt.V5, "x")
	c.publish(1, "telemetry/light", level(1))
	if got := c.acked(1); got != 0 {
		t.Errorf("after the trouble: %#x", got)
	}
}

// CC 1.8, the layers one by one: a stolen certificate sends odd data, too
// fast, elsewhere; none of it is stored and all of it is counted.
func TestStolenCertificateGainsNothing(t *testing.T) {
	d := newDoor(t)
	thief := d.connect(d.enrol("A1"), mqtt.V5, "thief")
	for i, m := range []struct{ topic, payload string }{
		{"devices/B1/telemetry/light", level(1)},
		{"telemetry/light", `{"secret":"x"}`},
		{"telemetry/light", strings.Repeat("[", 400)},
	} {
		thief.publish(uint16(i+1), m.topic, m.payload)
		if got := thief.acked(uint16(i + 1)); !got.Failed() {
			t.Errorf("%s: %#x", m.topic, got)
		}
	}
	thief.write(&mqtt.Packet{Type: mqtt.SUBSCRIBE, ID: 9, Filters: []mqtt.Filter{{Topic: []byte("#")}, {Topic: []byte("devices/B1/#")}}})
	for i, code := range thief.read().Codes {
		if code != mqtt.NotAuthorized {
			t.Errorf("filter %d: %#x", i, code)
		}
	}
	if got, _ := d.stored(); len(got) != 0 {
		t.Errorf("%d readings stored", len(got))
	}
	if s := d.g.Stats(); s.Refused != 3 || s.SubscribeDenied != 2 {
		t.Errorf("unnoticed: %d refused, %d filters denied", s.Refused, s.SubscribeDenied)
	}
}

// A packet larger than any may be is refused like any bad message in 3.1.1,
// so that a persistent client gets past it; a 5.0 client was told the limit
// and gets 0x95.
func TestOversize(t *testing.T) {
	d := newDoor(t)
	huge := func(v mqtt.Version, id uint16, topic string, n int) []byte {
		return must[[]byte](t)(mqtt.Append(nil, v, &mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: id, Topic: []byte(topic), Payload: make([]byte, n)}))
	}
	c := d.connect(d.enrol("A3"), mqtt.V311, "x")
	for i, n := range []int{100 << 10, wire.MaxPacket, 1000 << 10} {
		id := uint16(2*i + 1)
		go c.raw(append(huge(mqtt.V311, id, "telemetry/light", n), must[[]byte](t)(mqtt.Append(nil, mqtt.V311, &mqtt.Packet{
			Type: mqtt.PUBLISH, QoS: 1, ID: id + 1, Topic: []byte("telemetry/light"), Payload: []byte(level(i)),
		}))...))
		c.acked(id)
		c.acked(id + 1)
	}
	for _, b := range huge(mqtt.V311, 90, "devices/OTHER/state", 70<<10)[:2000] { // in drips, across the header
		c.raw([]byte{b})
	}
	c.raw(huge(mqtt.V311, 90, "devices/OTHER/state", 70<<10)[2000:])
	c.acked(90)
	got, refused := d.stored()
	if len(got) != 3 || len(refused) != 4 {
		t.Errorf("%d stored and %d refused, want 3 and 4", len(got), len(refused))
	}
	for i, r := range refused[:min(3, len(refused))] {
		if r.Reason != telemetry.ReasonTooLarge || r.Stream != "light" {
			t.Errorf("refusal %d: %+v", i, r)
		}
	}
	if r := refused[len(refused)-1]; r.Reason != telemetry.ReasonWrongTopic {
		t.Errorf("another device's topic in a huge packet: %+v", r)
	}
	five := d.connect(d.enrol("A5"), mqtt.V5, "x")
	go func() { _, _ = five.c.Write(huge(mqtt.V5, 7, "telemetry/light", 100<<10)) }()
	if got := five.closed(); got != mqtt.PacketTooLarge {
		t.Errorf("5.0 was told %#x", got)
	}
	if got := d.ended(endPacketLarge); got != 1 {
		t.Errorf("counted %d: %v", got, d.g.Stats().Ended)
	}
	// What is over the announced size and not over the hard limit is refused
	// politely in both.
	five = d.connect(d.enrol("B5"), mqtt.V5, "x")
	five.raw(huge(mqtt.V5, 7, "telemetry/light", 32<<10))
	if got := five.acked(7); got != mqtt.QuotaExceeded {
		t.Errorf("32 KB: %#x", got)
	}
}

// A new owner's readings are the new owner's from the next message on, in the
// session that was there before; without an owner nothing is stored.
func TestOwnershipChangesUnderALiveSession(t *testing.T) {
	d := newDoor(t)
	c := d.connect(d.enrol("A1"), mqtt.V5, "x")
	n := uint16(0)
	send := func() {
		n++
		c.publish(n, "telemetry/light", level(int(n)))
		if got := c.acked(n); got != 0 {
			t.Fatalf("message %d: %#x", n, got)
		}
	}
	send()
	first, _ := d.stored()
	owner := first[0].Subject
	if err := d.ids.EndOwnership(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	d.g.Refresh("A1") // and not only whenever its turn comes
	send()
	if got, _ := d.stored(); len(got) != 1 {
		t.Errorf("%d stored, want 1: nobody owns the device", len(got))
	}
	if err := d.ids.Reopen(t.Context(), staff, "A1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new owner's readings are kept", func() bool {
		send()
		got, _ := d.stored()
		return len(got) == 2
	})
	got, _ := d.stored()
	if s := got[1].Subject; s == owner || s.IsZero() {
		t.Errorf("the new owner's reading is %v's", s)
	}
}

// A session does not outlive its certificate.
func TestCertificateEndsDuringTheSession(t *testing.T) {
	d := newDoor(t)
	t.Parallel()
	cert := d.enrol("A1")
	d.advance(time.Until(parseLeaf(t, cert).NotAfter) - 3*time.Second)
	c := d.connect(cert, mqtt.V5, "x")
	if got := c.closed(); got != mqtt.NotAuthorized {
		t.Errorf("told %#x", got)
	}
	if got := d.ended(endExpired); got != 1 {
		t.Errorf("counted %d: %v", got, d.g.Stats().Ended)
	}
}
