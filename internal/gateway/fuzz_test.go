package gateway

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
)

// FuzzSession sends any bytes into a session: none may end more than that
// session, and none may bring a fault of ours to light.
func FuzzSession(f *testing.F) {
	add := func(v mqtt.Version, packets ...*mqtt.Packet) {
		var all []byte
		for _, p := range packets {
			b, err := mqtt.Append(nil, v, p)
			if err != nil {
				f.Fatal(err)
			}
			all = append(all, b...)
		}
		f.Add(byte(v), all)
	}
	for _, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		good := &mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: 7, Topic: []byte("telemetry/light"), Payload: []byte(level(1))}
		add(v, good, good)
		add(v, &mqtt.Packet{Type: mqtt.SUBSCRIBE, ID: 1, Filters: []mqtt.Filter{{Topic: []byte("refused")}, {Topic: []byte("#")}}},
			&mqtt.Packet{Type: mqtt.PUBLISH, Topic: []byte("a/b"), Payload: []byte("{}")}, &mqtt.Packet{Type: mqtt.PINGREQ})
		add(v, &mqtt.Packet{Type: mqtt.UNSUBSCRIBE, ID: 1, Filters: []mqtt.Filter{{Topic: []byte("refused")}}}, &mqtt.Packet{Type: mqtt.DISCONNECT})
		add(v, &mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: 7, Topic: []byte("telemetry/light"), Payload: make([]byte, 70<<10)}, good)
	}
	alias := &mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: 7, Topic: []byte("telemetry/light"), Payload: []byte(level(1))}
	alias.Props.SetNumber(mqtt.PropTopicAlias, 3)
	add(mqtt.V5, alias)
	d := newDoor(f)
	cert := d.enrol("FUZZ")
	f.Fuzz(func(t *testing.T, version byte, b []byte) {
		d.t = t
		v := mqtt.V5
		if version%2 == 0 {
			v = mqtt.V311
		}
		d.device("FUZZ").forgive()
		c := d.connect(cert, v, "x")
		if _, err := c.c.Write(b); err == nil {
			// Whatever it was, the session answers a PINGREQ or has ended.
			_, _ = c.c.Write([]byte{0xc0, 0}) // in a skipped packet this is content
			_ = c.c.CloseWrite()              // an end that the gateway sees
		}
		for {
			if _, err := c.next(10 * time.Second); err != nil {
				break
			}
		}
		if s := d.g.Stats(); s.Panics > 0 {
			t.Fatalf("a fault of ours:\n%s", d.log)
		}
	})
}
