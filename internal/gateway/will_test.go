package gateway

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

func TestWillsAreJudgedWhenTheyFire(t *testing.T) {
	d := newDoor(t)
	will := func(topic, payload string) func(*mqtt.Packet) {
		return func(p *mqtt.Packet) {
			p.Connect.HasWill = true
			p.Connect.Will = mqtt.Will{QoS: 1, Retain: true, Topic: []byte(topic), Payload: []byte(payload)}
			if p.Connect.Version == mqtt.V5 {
				p.Connect.Will.Props.SetNumber(mqtt.PropWillDelay, 3600) // the session ends with its connection: it fires at once
			}
		}
	}
	cert := d.enrol("A1")
	drop := func(c *client) { _ = c.c.NetConn().Close() } // the network went away
	leave := func(code mqtt.ReasonCode) func(*client) {
		return func(c *client) { c.write(&mqtt.Packet{Type: mqtt.DISCONNECT, Code: code}); c.closed() }
	}
	for i, s := range []struct {
		name           string
		v              mqtt.Version
		topic, payload string
		end            func(*client)
		stored         int
		refused        telemetry.Reason
	}{
		{"lost", mqtt.V5, "telemetry/light", level(0), drop, 1, ""},
		{"lost, 3.1.1", mqtt.V311, "devices/A1/telemetry/light", level(0), drop, 1, ""},
		{"left", mqtt.V5, "telemetry/light", level(0), leave(0), 0, ""},
		{"left with will", mqtt.V5, "telemetry/light", level(0), leave(mqtt.DisconnectWithWill), 1, ""},
		{"left, 3.1.1", mqtt.V311, "telemetry/light", level(0), leave(0), 0, ""},
		{"a will of rubbish", mqtt.V5, "telemetry/light", "offline", drop, 0, telemetry.ReasonNotJSON},
		{"a will elsewhere", mqtt.V311, "lamps/A1/status", "offline", drop, 0, telemetry.ReasonWrongTopic},
		{"another device's will", mqtt.V5, "devices/B1/telemetry/light", level(0), drop, 0, telemetry.ReasonWrongTopic},
		{"state", mqtt.V5, "state", "{}", drop, 0, telemetry.ReasonNotYet},
	} {
		before, refusedBefore := d.stored()
		c := d.connect(cert, s.v, "x", will(s.topic, s.payload))
		s.end(c)
		eventually(t, "the session ended", func() bool { return d.g.Stats().Disconnected == uint64(i)+1 && d.g.Connected("A1") == 0 })
		want := len(refusedBefore)
		if s.refused != "" {
			want++
		}
		var after []telemetry.Reading
		var refused []telemetry.Refusal
		eventually(t, s.name+" is on record", func() bool {
			after, refused = d.stored()
			return len(after) >= len(before)+s.stored && len(refused) >= want
		})
		if len(after)-len(before) != s.stored || len(refused) != want {
			t.Errorf("%s: %d stored and %d refused, want %d and %d", s.name, len(after)-len(before), len(refused)-len(refusedBefore), s.stored, want-len(refusedBefore))
		}
		if s.refused != "" && refused[len(refused)-1].Reason != s.refused {
			t.Errorf("%s: refused for %q, want %q", s.name, refused[len(refused)-1].Reason, s.refused)
		}
	}
}

// TestWillDelay: a will waits for its delay, or for the end of its session if
// that comes first, and is not published when the session is resumed before
// [MQTT-3.1.3-9]; when it begins anew, it is published at once.
func TestWillDelay(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	cert := d.enrol("A1")
	want := func(what string, n int) {
		t.Helper()
		eventually(t, what, func() bool { after, _ := d.stored(); return len(after) >= n })
		time.Sleep(100 * time.Millisecond)
		if after, _ := d.stored(); len(after) != n {
			t.Errorf("%s: %d wills are stored, want %d", what, len(after), n)
		}
	}
	dies := func(id string, delay, expiry uint32) {
		t.Helper()
		c := d.connect(cert, mqtt.V5, id, func(p *mqtt.Packet) {
			p.Connect.HasWill = true
			p.Connect.Will = mqtt.Will{QoS: 1, Topic: []byte("telemetry/light"), Payload: []byte(level(0))}
			p.Connect.Will.Props.SetNumber(mqtt.PropWillDelay, delay)
			p.Props.SetNumber(mqtt.PropSessionExpiry, expiry)
		})
		before := d.g.Stats().Disconnected
		_ = c.c.NetConn().Close() // the network went away
		eventually(t, "the session ended", func() bool { return d.g.Stats().Disconnected == before+1 })
	}
	back := func(id string, clean bool) {
		t.Helper()
		c := d.connect(cert, mqtt.V5, id, func(p *mqtt.Packet) {
			p.Connect.CleanStart = clean
			p.Props.SetNumber(mqtt.PropSessionExpiry, 100)
		})
		c.write(&mqtt.Packet{Type: mqtt.DISCONNECT})
		c.closed()
	}
	dies("waits", 1, 100)
	time.Sleep(300 * time.Millisecond)
	want("before its time", 0)
	want("after its delay", 1)
	dies("short", 3600, 1)
	want("at the end of its session", 2)
	dies("back", 1, 100)
	back("back", false)
	time.Sleep(1200 * time.Millisecond)
	want("after the session was resumed", 2)
	dies("anew", 3600, 100)
	back("anew", true)
	want("after a clean start", 3)
	// Who is revoked has no will, whatever waits.
	dies("gone", 1, 100)
	if _, err := d.ids.Revoke(t.Context(), staff, "A1", identity.Why{Text: "stolen"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1300 * time.Millisecond)
	want("after the revocation", 3)
}

// A device reads on the topic refused why its messages were, at most once a
// second for each stream and reason.
func TestRefusedNotices(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		id := core.DeviceID("A-" + v.String())
		c := d.connect(d.enrol(id), v, "x")
		topic := "refused"
		if v == mqtt.V5 {
			topic = "devices/" + string(id) + "/refused" // it is told in the form it asked in
		}
		c.write(&mqtt.Packet{Type: mqtt.SUBSCRIBE, ID: 1, Filters: []mqtt.Filter{{Topic: []byte(topic), QoS: 1}}})
		c.read()
		for i := range uint16(30) {
			c.publish(i+1, "telemetry/light", "not JSON")
		}
		c.publish(31, "telemetry/nowhere", "{}")
		total, kinds, notices := uint32(0), map[string]bool{}, 0
		for total < 31 {
			p, err := c.next(5 * time.Second)
			if err != nil {
				t.Fatalf("%v: told of %d refusals, want 31: %v", v, total, err)
			}
			if p.Type == mqtt.PUBACK {
				continue
			}
			if p.Type != mqtt.PUBLISH || string(p.Topic) != topic || p.QoS != 0 || p.Retain {
				t.Fatalf("%v: %+v", v, p)
			}
			r, err := wire.ParseRefusal(p.Payload)
			if err != nil {
				t.Fatal(err)
			}
			notices++
			total += max(r.Count, 1)
			kinds[r.Reason+" of "+r.Stream] = true
			if r.Text == "" || r.Time == 0 || r.Count == 0 && r.PacketID == 0 {
				t.Errorf("%v: a notice that says too little: %s", v, p.Payload)
			}
		}
		if total != 31 || notices > 6 || !kinds["not-json of light"] || !kinds["unknown-stream of nowhere"] {
			t.Errorf("%v: %d notices for %d refusals: %v", v, notices, total, kinds)
		}
	}
}
