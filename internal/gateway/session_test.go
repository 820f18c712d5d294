package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

func TestConnackSaysWhatIsOffered(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	ack := d.connect(cert, mqtt.V5, "", func(p *mqtt.Packet) {
		p.Props.SetNumber(mqtt.PropSessionExpiry, 0xffffffff)
		p.Props.User = []mqtt.UserProperty{{Name: []byte(wire.ProtocolProperty), Value: []byte("2020-01-01")}}
	}).ack
	for _, c := range []struct {
		name string
		id   mqtt.NumberProperty
		want uint32
	}{
		{"receive maximum", mqtt.PropReceiveMaximum, 32},
		{"maximum QoS", mqtt.PropMaximumQoS, 1},
		{"topic alias maximum", mqtt.PropTopicAliasMaximum, 16},
		{"maximum packet size", mqtt.PropMaximumPacketSize, 4096},
		{"shared subscriptions", mqtt.PropSharedSubs, 0},
		{"subscription identifiers", mqtt.PropSubscriptionIDs, 0},
		{"session expiry, bounded", mqtt.PropSessionExpiry, 7 * 24 * 3600},
	} {
		if got, ok := ack.Props.Number(c.id); !ok || got != c.want {
			t.Errorf("%s: %d (%v), want %d", c.name, got, ok, c.want)
		}
	}
	if id, ok := ack.Props.Data(mqtt.PropAssignedClientID); !ok || len(id) < 16 {
		t.Errorf("assigned client id %q", id)
	}
	if len(ack.Props.User) != 1 || string(ack.Props.User[0].Value) != wire.Protocol {
		t.Errorf("protocol version: %v", ack.Props.User)
	}
	plain := d.connect(cert, mqtt.V5, "named").ack
	if _, ok := plain.Props.Data(mqtt.PropAssignedClientID); ok || len(plain.Props.User) != 0 {
		t.Error("a stock client with a name was told of an assigned one, or of our protocol")
	}
}

func TestConnectsThatAreRefused(t *testing.T) {
	d := newDoor(t)
	for i, c := range []struct {
		name string
		v    mqtt.Version
		edit func(*mqtt.Packet)
		want mqtt.ReasonCode
		why  refusal
	}{
		{"enhanced authentication", mqtt.V5, func(p *mqtt.Packet) { p.Props.SetData(mqtt.PropAuthMethod, []byte("SCRAM")) }, mqtt.BadAuthenticationMethod, refuseAuth},
		{"will at QoS 2", mqtt.V5, func(p *mqtt.Packet) {
			p.Connect.HasWill = true
			p.Connect.Will = mqtt.Will{QoS: 2, Topic: []byte("telemetry/light")}
		}, mqtt.QoSNotSupported, refuseWillQoS},
	} {
		// Each breach counts against the device, so each has its own.
		cert := d.enrol(core.DeviceID(fmt.Sprintf("R%d", i)))
		if got := d.tryConnect(cert, c.v, "x", c.edit).ack.Code; got != c.want {
			t.Errorf("%s: code %#x, want %#x", c.name, got, c.want)
		}
		if got := d.ended(c.why); got != 1 {
			t.Errorf("%s: counted %d times as %q: %v", c.name, got, c.why, d.g.Stats().Ended)
		}
	}
	// 3.1.1: [MQTT-3.1.3-8]: a session that is to stay needs a name.
	nameless := &client{t: t, c: d.dial(d.enrol("R8")), v: mqtt.V311}
	nameless.raw([]byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 60, 0, 0})
	if p := nameless.read(); p.Code != mqtt.IdentifierRejected311 || d.ended(refuseClientID) != 1 {
		t.Errorf("no name for a session that is to stay: %#x", p.Code)
	}
	// The other way round: a will at QoS 2 harms nobody in 3.1.1, where it
	// cannot be refused by code.
	d.connect(d.enrol("R9"), mqtt.V311, "x", func(p *mqtt.Packet) {
		p.Connect.HasWill = true
		p.Connect.Will = mqtt.Will{QoS: 2, Topic: []byte("telemetry/light")}
	})
}

func TestUnknownProtocolLevels(t *testing.T) {
	d := newDoor(t)
	for i, c := range []struct {
		level byte
		name  string
		want  []byte
	}{
		{3, "MQIsdp", []byte{0x20, 2, 0, 1}},
		{6, "MQTT", []byte{0x20, 3, 0, 0x84, 0}},
	} {
		cl := &client{t: t, c: d.dial(d.enrol(core.DeviceID(fmt.Sprintf("L%d", i)))), v: mqtt.V5}
		body := append([]byte{0, byte(len(c.name))}, c.name...)
		body = append(body, c.level, 2, 0, 60)
		if c.level > 5 {
			body = append(body, 0)
		}
		body = append(body, 0, 1, 'x')
		cl.raw(append([]byte{0x10, byte(len(body))}, body...))
		_ = cl.c.SetReadDeadline(time.Now().Add(5 * time.Second)) // a failure shows in the read
		got := make([]byte, 64)
		n, _ := cl.c.Read(got)
		if !bytes.Equal(got[:n], c.want) {
			t.Errorf("level %d is answered % x, want % x", c.level, got[:n], c.want)
		}
	}
}

// The identity is the certificate: user name, password and client id are
// nothing (CC 1.9, 3.1).
func TestPasswordIsIgnoredWithAFinding(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	for range 3 {
		c := d.connect(cert, mqtt.V311, "admin", func(p *mqtt.Packet) {
			p.Connect.HasUsername, p.Connect.HasPassword = true, true
			p.Connect.Username, p.Connect.Password = []byte("hunter"), []byte("hunter2")
		})
		c.publish(1, "telemetry/light", level(3))
		c.acked(1)
	}
	if s := d.g.Stats(); s.Passwords != 1 {
		t.Errorf("the finding was noted %d times, want once", s.Passwords)
	}
	if strings.Contains(d.log.String(), "hunter") {
		t.Error("the log holds what a device sent as its user name or password")
	}
	if got, _ := d.stored(); len(got) != 3 {
		t.Errorf("%d readings stored, want 3", len(got))
	}
}

func TestTakeOver(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	for _, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		first := d.connect(cert, v, "one")
		second := d.connect(cert, v, "one")
		want := mqtt.SessionTakenOver
		if v == mqtt.V311 {
			want = 0 // it has no DISCONNECT from a server
		}
		if got := first.closed(); got != want {
			t.Errorf("%v: the first session was told %#x, want %#x", v, got, want)
		}
		second.publish(1, "telemetry/light", level(1))
		if got := second.acked(1); got != 0 {
			t.Errorf("%v: the second session: %#x", v, got)
		}
		second.write(&mqtt.Packet{Type: mqtt.DISCONNECT})
		second.closed()
	}
	if got := d.g.Stats().TakeOvers; got != 2 {
		t.Errorf("%d take-overs counted, want 2", got)
	}
}

// A session takes nothing more before the one that takes over takes its first:
// else a device's readings could be stored out of order.
func TestTakeOverWaitsForTheOldSession(t *testing.T) {
	slow := &slowIntake{begun: make(chan struct{}), free: make(chan struct{})}
	d := newDoor(t, func(d *door) { d.wrap = func(deps *Deps) { slow.Intake = deps.Intake; deps.Intake = slow } })
	cert := d.enrol("A1")
	old := d.connect(cert, mqtt.V5, "x")
	old.publish(1, "telemetry/light", `{"level":99}`)
	<-slow.begun
	taken := make(chan *client)
	go func() { taken <- d.tryConnect(cert, mqtt.V5, "x") }()
	select {
	case <-taken:
		t.Error("the new session began while the old one was still at work")
	case <-time.After(300 * time.Millisecond):
	}
	close(slow.free)
	if c := <-taken; c.ack.Code != 0 {
		t.Errorf("the new session: %#x", c.ack.Code)
	}
}

// slowIntake is the real intake, with one message that takes its time.
type slowIntake struct {
	Intake
	begun, free chan struct{}
}

func (s *slowIntake) Message(src *telemetry.Source, stream, payload []byte, c telemetry.Completion, token uint64) telemetry.Verdict {
	if string(payload) == `{"level":99}` {
		close(s.begun)
		<-s.free
	}
	return s.Intake.Message(src, stream, payload, c, token)
}

// At most two client ids of one device: a third takes the place of the oldest.
// Another device with the same client id is another session.
func TestTwoClientsOfOneDevice(t *testing.T) {
	d := newDoor(t)
	cert, other := d.enrol("A1"), d.enrol("B1")
	neighbour := d.connect(other, mqtt.V5, "one")
	one, two := d.connect(cert, mqtt.V5, "one"), d.connect(cert, mqtt.V5, "two")
	three := d.connect(cert, mqtt.V5, "three")
	if got := one.closed(); got != mqtt.SessionTakenOver {
		t.Errorf("the oldest was told %#x", got)
	}
	for i, c := range []*client{two, three, neighbour} {
		c.publish(7, "telemetry/light", level(1))
		if got := c.acked(7); got != 0 {
			t.Errorf("session %d: %#x", i, got)
		}
	}
	if got := d.g.Connected("A1"); got != 2 {
		t.Errorf("%d sessions of A1, want 2", got)
	}
}

func TestSessionPresent(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	stay := func(p *mqtt.Packet) {
		p.Connect.CleanStart = false
		p.Props.SetNumber(mqtt.PropSessionExpiry, 100)
	}
	stay311 := func(p *mqtt.Packet) { p.Connect.CleanStart = false }
	leave := func(c *client) {
		c.write(&mqtt.Packet{Type: mqtt.DISCONNECT})
		c.closed()
		eventually(t, "left", func() bool { return d.g.Connected("A1") == 0 })
	}
	c := d.connect(cert, mqtt.V5, "s", stay)
	if c.ack.SessionPresent {
		t.Error("a session is present before there was one")
	}
	c.write(&mqtt.Packet{Type: mqtt.SUBSCRIBE, ID: 1, Filters: []mqtt.Filter{{Topic: []byte("refused"), QoS: 1}}})
	c.read()
	leave(c)
	if c = d.connect(cert, mqtt.V5, "s", stay); !c.ack.SessionPresent {
		t.Error("the session was not kept")
	}
	c.publish(1, "telemetry/nowhere", level(1)) // the subscription was kept too
	kinds := []mqtt.Type{c.read().Type, c.read().Type}
	if !slices.Contains(kinds, mqtt.PUBLISH) || !slices.Contains(kinds, mqtt.PUBACK) {
		t.Errorf("the kept subscription brought %v", kinds)
	}
	leave(c)
	d.advance(101 * time.Second)
	if c = d.connect(cert, mqtt.V5, "s", stay); c.ack.SessionPresent {
		t.Error("a session outlived its expiry")
	}
	leave(c)
	if c = d.connect(cert, mqtt.V5, "s"); c.ack.SessionPresent {
		t.Error("a clean start found a session")
	}
	leave(c)
	if c = d.connect(cert, mqtt.V5, "s", stay); c.ack.SessionPresent {
		t.Error("a session that ended with its connection was kept")
	}
	leave(c)
	c = d.connect(cert, mqtt.V311, "old", stay311)
	second := d.connect(cert, mqtt.V311, "old", stay311) // takes over while it lives
	c.closed()
	if !second.ack.SessionPresent {
		t.Error("3.1.1: a session was lost in a take-over")
	}
	leave(second)
	if c = d.connect(cert, mqtt.V311, "old", stay311); !c.ack.SessionPresent {
		t.Error("3.1.1: the session was not kept")
	}
}

// CC 3.6: a device reads its own topics and nothing else.
func TestSubscribeReachesNothingForeign(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	allowed := []string{
		"command/#", "config", "update", "notice", "refused",
		"devices/A1/command/#", "devices/A1/config", "devices/A1/update", "devices/A1/notice", "devices/A1/refused",
	}
	denied := []string{
		"#", "+", "+/+", "+/#", "/#", "$SYS/#", "$SYS/broker/uptime", "devices/#", "devices/+/command/#", "devices/A1/#", "devices/A1/+",
		"devices/B1/command/#", "devices/B1/config", "devices/a1/config", "command/+", "command/x/#", "telemetry/#", "telemetry/light",
		"state", "$aws/things/B1/#", "$share/g/command/#", "$share/g/#", "config/#", "refused/+", "devices//config",
	}
	for i := range 10_000 {
		denied = append(denied, fmt.Sprintf("devices/B%d/config", i))
	}
	for _, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		c := d.connect(cert, v, "s")
		failure := mqtt.NotAuthorized
		if v == mqtt.V311 {
			failure = 0x80
		}
		ask := func(filters []string, want mqtt.ReasonCode) {
			t.Helper()
			for i := 0; i < len(filters); i += 16 {
				batch := filters[i:min(i+16, len(filters))]
				p := &mqtt.Packet{Type: mqtt.SUBSCRIBE, ID: 9}
				for _, f := range batch {
					if v == mqtt.V311 && strings.HasPrefix(f, "$share/") {
						f = "x/" + f // a plain filter in 3.1.1, and as little ours
					}
					p.Filters = append(p.Filters, mqtt.Filter{Topic: []byte(f), QoS: 2})
				}
				c.write(p)
				ack := c.read()
				if ack.Type != mqtt.SUBACK || len(ack.Codes) != len(batch) {
					t.Fatalf("%v: %v with %d codes for %d filters", v, ack.Type, len(ack.Codes), len(batch))
				}
				for j, code := range ack.Codes {
					if code != want {
						t.Errorf("%v: %q: %#x, want %#x", v, batch[j], code, want)
					}
				}
			}
		}
		ask(allowed, mqtt.GrantedQoS1)
		ask(denied, failure)
		c.write(&mqtt.Packet{Type: mqtt.UNSUBSCRIBE, ID: 10, Filters: []mqtt.Filter{{Topic: []byte("config")}, {Topic: []byte("devices/B1/config")}}})
		ack := c.read()
		if v == mqtt.V5 && !slices.Equal(ack.Codes, []mqtt.ReasonCode{mqtt.Success, mqtt.NoSubscriptionExisted}) || ack.Type != mqtt.UNSUBACK {
			t.Errorf("%v: UNSUBACK %v %v", v, ack.Type, ack.Codes)
		}
	}
	// A neighbour's message, refused or not, never shows here.
	mine := d.connect(cert, mqtt.V5, "watch")
	mine.write(&mqtt.Packet{Type: mqtt.SUBSCRIBE, ID: 1, Filters: []mqtt.Filter{{Topic: []byte("refused")}, {Topic: []byte("command/#")}}})
	mine.read()
	b := d.connect(d.enrol("B1"), mqtt.V5, "b")
	b.publish(1, "telemetry/light", level(1))
	b.acked(1)
	b.publish(2, "telemetry/nowhere", level(1))
	b.acked(2)
	if p, err := mine.next(200 * time.Millisecond); err == nil {
		t.Errorf("a neighbour's message was delivered: %v %s", p.Type, p.Payload)
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	cert := d.enrol("A1")
	short := func(p *mqtt.Packet) { p.Connect.KeepAlive = 2 }
	quiet := d.connect(cert, mqtt.V5, "quiet", short)
	alive := d.connect(cert, mqtt.V311, "alive", short)
	start := time.Now()
	done := make(chan error, 1)
	go func() {
		for time.Since(start) < 6*time.Second {
			time.Sleep(200 * time.Millisecond)
			if _, err := alive.c.Write([]byte{0xc0, 0}); err != nil {
				done <- err
				return
			}
			if p, err := alive.next(5 * time.Second); err != nil || p.Type != mqtt.PINGRESP {
				done <- fmt.Errorf("%v, %v", p, err)
				return
			}
		}
		done <- nil
	}()
	if got := quiet.closed(); got != mqtt.KeepAliveTimeout {
		t.Errorf("the quiet client was told %#x", got)
	}
	if took := time.Since(start); took < 2900*time.Millisecond || took > 10*time.Second {
		t.Errorf("closed after %v, want 1.5 times the keep-alive", took)
	}
	if err := <-done; err != nil {
		t.Errorf("the client that pinged: %v", err)
	}
}

// CC 3.2: a revocation cuts the live session within a second.
func TestRevocationCutsTheLiveSession(t *testing.T) {
	d := newDoor(t)
	for i, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		id := core.DeviceID(fmt.Sprintf("A%d", i))
		cert := d.enrol(id)
		c := d.connect(cert, v, "one", func(p *mqtt.Packet) {
			p.Connect.HasWill = true
			p.Connect.Will = mqtt.Will{QoS: 1, Topic: []byte("telemetry/light"), Payload: []byte(level(666))}
		})
		second := d.connect(cert, v, "two")
		other := d.connect(d.enrol(id+"n"), v, "one")
		c.publish(1, "telemetry/light", level(1))
		c.acked(1)
		start := time.Now()
		if _, err := d.ids.Revoke(t.Context(), staff, id, identity.Why{Text: "stolen"}); err != nil {
			t.Fatal(err)
		}
		want := mqtt.NotAuthorized
		if v == mqtt.V311 {
			want = 0
		}
		for _, c := range []*client{c, second} {
			if got := c.closed(); got != want {
				t.Errorf("%v: told %#x, want %#x", v, got, want)
			}
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%v: the cut took %v", v, took)
		}
		other.publish(1, "telemetry/light", level(2))
		if got := other.acked(1); got != 0 {
			t.Errorf("%v: the neighbour: %#x", v, got)
		}
	}
	if got, _ := d.stored(); len(got) != 4 {
		t.Errorf("%d readings, want 4: a revoked device's will must not fire", len(got))
	}
}

// A renewed certificate ends the session of the one before it.
func TestSupersededCertificateIsCut(t *testing.T) {
	d := newDoor(t)
	old := d.enrol("A1")
	c := d.connect(old, mqtt.V5, "old", func(p *mqtt.Packet) { p.Connect.KeepAlive = 0 })
	d.advance(24 * time.Hour)
	key, csr := newCSR(t)
	chain, err := d.ids.Renew(t.Context(), parseLeaf(t, old), csr)
	if err != nil {
		t.Fatal(err)
	}
	fresh := old
	fresh.Certificate, fresh.PrivateKey, fresh.Leaf = chain, key, nil
	n := d.connect(fresh, mqtt.V5, "new")
	if got := c.closed(); got != mqtt.NotAuthorized {
		t.Errorf("the old certificate's session was told %#x", got)
	}
	n.publish(1, "telemetry/light", level(1))
	if got := n.acked(1); got != 0 {
		t.Errorf("the new one's: %#x", got)
	}
}

func TestMalformedBytesEndOneConnectionOnly(t *testing.T) {
	d := newDoor(t)
	witness := d.connect(d.enrol("W"), mqtt.V5, "w")
	for i, c := range []struct {
		name string
		v    mqtt.Version
		raw  []byte
		want mqtt.ReasonCode
	}{
		{"reserved type", mqtt.V5, []byte{0x00, 0}, mqtt.MalformedPacket},
		{"QoS 3", mqtt.V5, []byte{0x36, 5, 0, 1, 'a', 0, 1}, mqtt.MalformedPacket},
		{"truncated SUBSCRIBE", mqtt.V5, []byte{0x82, 5, 0, 1, 0, 0, 5}, mqtt.MalformedPacket},
		{"length of five bytes", mqtt.V5, []byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, mqtt.MalformedPacket},
		{"a packet of 256 MB", mqtt.V5, []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, mqtt.PacketTooLarge},
		{"topic with a wildcard", mqtt.V5, []byte{0x30, 5, 0, 1, '#', 0, 'x'}, mqtt.TopicNameInvalid},
		{"second CONNECT", mqtt.V5, []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0, 0}, mqtt.ProtocolError},
		{"AUTH", mqtt.V5, []byte{0xf0, 0}, mqtt.ProtocolError},
		{"PUBREL", mqtt.V5, []byte{0x62, 2, 0, 1}, mqtt.ProtocolError},
		{"CONNACK", mqtt.V5, []byte{0x20, 3, 0, 0, 0}, mqtt.ProtocolError},
		{"QoS 2", mqtt.V5, []byte{0x34, 7, 0, 1, 'a', 0, 1, 0, 'x'}, mqtt.QoSNotSupported},
		{"PUBCOMP in 3.1.1", mqtt.V311, []byte{0x70, 2, 0, 1}, 0},
		{"unknown alias", mqtt.V5, []byte{0x30, 6, 0, 0, 3, 35, 0, 1}, mqtt.ProtocolError},
		{"alias 17", mqtt.V5, []byte{0x30, 7, 0, 1, 'a', 3, 35, 0, 17}, mqtt.TopicAliasInvalid},
		{"subscription identifier", mqtt.V5, []byte{0x82, 10, 0, 1, 2, 11, 1, 0, 2, 'a', '/', 0}, 0xA1},
		{"session expiry raised from 0", mqtt.V5, []byte{0xe0, 7, 0, 5, 17, 0, 0, 0, 9}, mqtt.ProtocolError},
	} {
		id := core.DeviceID(fmt.Sprintf("M%d", i))
		cert := d.enrol(id)
		cl := d.connect(cert, c.v, "x")
		struck := time.Now()
		cl.raw(c.raw)
		if got := cl.closed(); got != c.want {
			t.Errorf("%s: told %#x, want %#x", c.name, got, c.want)
		}
		// It is kept out for a moment.
		dev := d.g.table.find(id)
		dev.mu.Lock()
		if dev.strikes != 1 {
			t.Errorf("%s: %d strikes, want 1", c.name, dev.strikes)
		}
		dev.mu.Unlock()
		if got := d.tryConnect(cert, mqtt.V5, "x").ack.Code; got != mqtt.ConnectionRateExceeded && time.Since(struck) < time.Second {
			t.Errorf("%s: connected again at once: %#x", c.name, got)
		}
	}
	witness.publish(1, "telemetry/light", level(1))
	if got := witness.acked(1); got != 0 {
		t.Errorf("the witness: %#x", got)
	}
	if s := d.g.Stats(); s.Panics != 0 {
		t.Errorf("%d panics", s.Panics)
	}
}

// A fault of ours ends one connection; the others go on.
func TestPanicIsConfined(t *testing.T) {
	d := newDoor(t, func(d *door) {
		d.wrap = func(deps *Deps) { deps.Intake = fuse{deps.Intake} }
	})
	good, bad := d.connect(d.enrol("GOOD"), mqtt.V5, "x"), d.connect(d.enrol("BAD"), mqtt.V5, "x")
	bad.publish(1, "telemetry/light", `{"level":13}`)
	if got := bad.closed(); got != mqtt.UnspecifiedError {
		t.Errorf("told %#x", got)
	}
	good.publish(1, "telemetry/light", level(1))
	if got := good.acked(1); got != 0 {
		t.Errorf("the other connection: %#x", got)
	}
	if s := d.g.Stats(); s.Panics != 1 || s.Sessions != 1 {
		t.Errorf("%d panics, %d sessions", s.Panics, s.Sessions)
	}
	if !strings.Contains(d.log.String(), "fixture_test.go") && !strings.Contains(d.log.String(), "session_test.go") {
		t.Error("the log holds no stack")
	}
}

func TestShutdownFlushesAndSaysSo(t *testing.T) {
	d := newDoor(t)
	v5, v3 := d.connect(d.enrol("A5"), mqtt.V5, "x"), d.connect(d.enrol("A3"), mqtt.V311, "x")
	early := must[net.Conn](t)(net.Dial("tcp", d.addr)) // never says a word
	defer early.Close()
	eventually(t, "the silent one is in", func() bool { return d.g.Stats().Open == 3 })
	for i := range uint16(20) {
		v5.publish(i+1, "telemetry/light", level(1))
		v3.publish(i+1, "telemetry/light", level(1))
	}
	eventually(t, "all arrived", func() bool { return d.g.Stats().Received == 40 })
	stopped := make(chan error, 1)
	start := time.Now()
	go func() { stopped <- d.g.Shutdown(t.Context()) }()
	for _, c := range []*client{v5, v3} {
		for i := range uint16(20) {
			if got := c.acked(i + 1); got != 0 {
				t.Errorf("%v: message %d: %#x", c.v, i+1, got)
			}
		}
	}
	if got := v5.closed(); got != mqtt.ServerShuttingDown {
		t.Errorf("5.0 was told %#x", got)
	}
	v3.closed()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	if _, err := net.DialTimeout("tcp", d.addr, time.Second); err == nil {
		t.Error("the door still listens")
	} else if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Error("the door hangs")
	}
}
