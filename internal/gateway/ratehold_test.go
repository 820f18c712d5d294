package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Declared rates are held for every stream; what is over them is refused, and
// who keeps on is closed and kept out (CC 1.8).
func TestRateAndFlood(t *testing.T) {
	d := newDoor(t)
	for i, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		id := core.DeviceID(fmt.Sprintf("F%d", i))
		cert := d.enrol(id)
		c := d.connect(cert, v, "x")
		over := mqtt.QuotaExceeded
		if v == mqtt.V311 {
			over = 0
		}
		n := uint16(0)
		send := func(want mqtt.ReasonCode) {
			t.Helper()
			n++
			c.publish(n, "telemetry/slow", `{"tick":1}`)
			if got := c.acked(n); got != want {
				t.Fatalf("%v, message %d: %#x, want %#x", v, n, got, want)
			}
		}
		send(0)
		send(0)
		send(over)
		// The other stream has its own bucket.
		c.publish(500, "telemetry/light", level(1))
		if got := c.acked(500); got != 0 {
			t.Errorf("%v: the other stream: %#x", v, got)
		}
		for range 500 {
			n++
			b, err := mqtt.Append(nil, v, &mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: n, Topic: []byte("telemetry/slow"), Payload: []byte(`{"tick":1}`)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.c.Write(b); err != nil {
				break
			}
		}
		want := mqtt.MessageRateTooHigh
		if v == mqtt.V311 {
			want = 0
		}
		if got := c.closed(); got != want {
			t.Errorf("%v: the flood was told %#x, want %#x", v, got, want)
		}
		if got := d.ended(endFlood); got != uint64(i)+1 {
			t.Errorf("%v: %d floods counted", v, got)
		}
		late := mqtt.ConnectionRateExceeded
		if v == mqtt.V311 {
			late = mqtt.ServerUnavailable311
		}
		if got := d.tryConnect(cert, v, "x").ack.Code; got != late {
			t.Errorf("%v: back at once: %#x, want %#x", v, got, late)
		}
		d.advance(2 * time.Second)
		d.connect(cert, v, "x")
	}
	over := uint32(0)
	// The last ones were not acknowledged any more, and may be on their way to
	// the disk.
	eventually(t, "every refusal is on record", func() bool {
		got, refused := d.stored()
		if len(got) != 6 {
			t.Fatalf("%d stored, want 6", len(got))
		}
		over = 0
		for _, r := range refused {
			if r.Reason != telemetry.ReasonRate || r.Stream != "slow" {
				t.Fatalf("recorded %+v", r)
			}
			over += r.Count
		}
		return uint64(over) >= d.g.Stats().RefusedBy[string(telemetry.ReasonRate)]
	})
	if got := d.g.Stats().RefusedBy[string(telemetry.ReasonRate)]; uint64(over) != got || over < 2*patiencePoints {
		t.Errorf("%d refusals on record, %d counted", over, got)
	}
}

// An honest device that was away may send what it could have sent; coming
// back without having been away earns nothing.
func TestBackFromBeingAway(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	burst := func() (passed int) {
		c := d.connect(cert, mqtt.V5, "x")
		for i := range uint16(20) {
			c.publish(i+1, "telemetry/slow", `{"tick":1}`)
			if c.acked(i+1) == 0 {
				passed++
			}
		}
		c.write(&mqtt.Packet{Type: mqtt.DISCONNECT})
		c.closed()
		eventually(t, "left", func() bool { return d.g.Connected("A1") == 0 })
		return passed
	}
	for i, s := range []struct {
		away time.Duration
		want int
	}{{0, 2}, {0, 0}, {5*time.Hour + time.Minute, 5}, {time.Minute, 0}, {30 * time.Minute, 0}, {29 * time.Minute, 1}} {
		d.advance(s.away)
		if got := burst(); got != s.want {
			t.Errorf("visit %d, after %v: %d messages passed, want %d", i+1, s.away, got, s.want)
		}
	}
}

// What is sent again after a lost connection is not charged twice.
func TestSentAgainIsNotChargedTwice(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	stay := func(p *mqtt.Packet) { p.Connect.CleanStart = false }
	c := d.connect(cert, mqtt.V311, "x", stay)
	c.publish(1, "telemetry/slow", `{"tick":1}`)
	c.publish(2, "telemetry/slow", `{"tick":2}`)
	c.acked(1)
	c.acked(2)
	for range 3 {
		_ = c.c.Close() // the acknowledgement was lost, for all the device knows
		eventually(t, "left", func() bool { return d.g.Connected("A1") == 0 })
		c = d.connect(cert, mqtt.V311, "x", stay)
		c.write(&mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: 2, Dup: true, Topic: []byte("telemetry/slow"), Payload: []byte(`{"tick":2}`)})
		c.acked(2)
	}
	if got := d.g.Stats().Refused; got != 0 {
		t.Errorf("%d messages sent again were refused", got)
	}
	// But the mark alone is no free ticket.
	c.write(&mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: 2, Dup: true, Topic: []byte("telemetry/slow"), Payload: []byte(`{"tick":2}`)})
	c.acked(2)
	c.write(&mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: 77, Dup: true, Topic: []byte("telemetry/slow"), Payload: []byte(`{"tick":3}`)})
	c.acked(77)
	if got := d.g.Stats().RefusedBy[string(telemetry.ReasonRate)]; got != 2 {
		t.Errorf("%d refused, want 2", got)
	}
}

// Naming other devices again and again ends the connection (CC 3.6).
func TestForeignTopicsAgainAndAgain(t *testing.T) {
	d := newDoor(t)
	victim := d.connect(d.enrol("VICTIM"), mqtt.V5, "v")
	c := d.connect(d.enrol("A1"), mqtt.V5, "x")
	sent := 0
	for i := range uint16(200) {
		b, err := mqtt.Append(nil, mqtt.V5, &mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: i + 1, Topic: []byte("devices/VICTIM/telemetry/light"), Payload: []byte(level(1))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.c.Write(b); err != nil {
			break
		}
		sent++
	}
	if got := c.closed(); got != mqtt.NotAuthorized {
		t.Errorf("told %#x", got)
	}
	if got := d.ended(endForeign); got != 1 {
		t.Errorf("counted %d", got)
	}
	if s := d.g.Stats(); s.Refused > patiencePoints/pointsForeignTopic+2 {
		t.Errorf("%d were judged before the end", s.Refused)
	}
	victim.publish(1, "telemetry/light", level(2))
	victim.acked(1)
	if got, _ := d.stored(); len(got) != 1 {
		t.Errorf("%d stored, want the victim's own one; sent %d", len(got), sent)
	}
}

// The pace of a device is back-pressure: the gateway reads later, and drops
// nothing.
func TestPaceDropsNothing(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(d *door) { d.wrap = func(deps *Deps) { deps.Config.DeviceMessagesPerSecond = 100 } })
	c := d.connect(d.enrol("A1"), mqtt.V5, "x")
	start := time.Now()
	const messages = 250
	go func() {
		for i := range uint16(messages) {
			b, err := mqtt.Append(nil, mqtt.V5, &mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: i + 1, Topic: []byte("telemetry/light"), Payload: []byte(level(1))})
			if err == nil {
				_, err = c.c.Write(b)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range uint16(messages) {
		if got := c.acked(i + 1); got != 0 {
			t.Fatalf("message %d: %#x", i+1, got)
		}
	}
	if took := time.Since(start); took < 1200*time.Millisecond {
		t.Errorf("%d messages took %v at a pace of 100 a second and a burst of as many", messages, took)
	}
	if s := d.g.Stats(); s.Refused != 0 || s.Pauses == 0 || s.PausedSeconds < 1 {
		t.Errorf("%d refused, %d pauses of %.1f s", s.Refused, s.Pauses, s.PausedSeconds)
	}
}

// A new declaration holds for live sessions from their next message on, and
// what a device has spent of the old rate stays spent.
func TestNewDeclarationReachesLiveSessions(t *testing.T) {
	d := newDoor(t)
	c := d.connect(d.enrol("A1"), mqtt.V5, "x")
	n := uint16(0)
	send := func(stream, payload string) mqtt.ReasonCode {
		n++
		c.publish(n, "telemetry/"+stream, payload)
		return c.acked(n)
	}
	for _, want := range []mqtt.ReasonCode{0, 0, mqtt.QuotaExceeded} {
		if got := send("slow", `{"tick":1}`); got != want {
			t.Fatalf("before: %#x, want %#x", got, want)
		}
	}
	next := *d.policy
	next.Version++
	next.Streams = append([]declaration.Stream(nil), d.policy.Streams...)
	for i := range next.Streams {
		if next.Streams[i].Name == "light" {
			next.Streams[i].Every, next.Streams[i].Burst = time.Hour, 1
		}
	}
	d.g.SetPolicy(&next)
	if got := send("slow", `{"tick":1}`); got != mqtt.QuotaExceeded {
		t.Errorf("a new declaration filled the bucket of an old stream: %#x", got)
	}
	if got := send("light", level(1)); got != 0 {
		t.Errorf("the first message of the slower stream: %#x", got)
	}
	if got := send("light", level(1)); got != mqtt.QuotaExceeded {
		t.Errorf("the second one: %#x", got)
	}
}
