package gateway

import (
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

func oversized(t testing.TB, id uint16, n int) []byte {
	t.Helper()
	return must[[]byte](t)(mqtt.Append(nil, mqtt.V311, &mqtt.Packet{Type: mqtt.PUBLISH, QoS: 1, ID: id, Topic: []byte("telemetry/light"), Payload: make([]byte, n)}))
}

// Over a slow network a large message takes longer than the keep-alive and
// than one packet may take. As long as it makes progress its client is not
// closed: it would begin anew for ever.
func TestOversizeOverASlowNetwork(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(d *door) { d.wrap = func(deps *Deps) { deps.Config.PacketTimeout = 1500 * time.Millisecond } })
	c := d.connect(d.enrol("A1"), mqtt.V311, "x", func(p *mqtt.Packet) { p.Connect.KeepAlive = 1 })
	b := oversized(t, 1, 1<<20)
	for part := range 16 { // 64 KB each, four seconds in all
		c.raw(b[part*len(b)/16 : (part+1)*len(b)/16])
		time.Sleep(250 * time.Millisecond)
	}
	c.publish(2, "telemetry/light", level(1))
	c.acked(1)
	if got := c.acked(2); got != 0 {
		t.Errorf("the message behind it: %#x", got)
	}
}

// Who sends a large message in drips does not hold its connection for ever.
func TestOversizeInDrips(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(d *door) { d.wrap = func(deps *Deps) { deps.Config.PacketTimeout = time.Second } })
	c := d.connect(d.enrol("A1"), mqtt.V311, "x", func(p *mqtt.Packet) { p.Connect.KeepAlive = 0 })
	b := oversized(t, 1, 1<<20)
	c.raw(b[:1000])
	start := time.Now()
	for i := 1000; d.ended(endKeepAlive) == 0; i++ {
		if time.Since(start) > 20*time.Second {
			t.Fatal("the connection stays open")
		}
		if _, err := c.c.Write(b[i : i+1]); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	// The refusal is on record and was acknowledged before the end came.
	if c.acked(1); len(must2(d.stored())) != 1 {
		t.Error("the refusal is not on record")
	}
}

func must2(_ []telemetry.Reading, r []telemetry.Refusal) []telemetry.Refusal { return r }

// What is thrown away costs the device its pace in bytes, and the server no
// memory.
func TestOversizeIsPaced(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(d *door) { d.wrap = func(deps *Deps) { deps.Config.DeviceBytesPerSecond = 1 << 20 } })
	c := d.connect(d.enrol("A1"), mqtt.V311, "x")
	start := time.Now()
	go func() { _, _ = c.c.Write(oversized(t, 1, 3<<20)) }() // a failure shows in what follows
	c.acked(1)
	eventually(t, "all of it is read", func() bool { return d.g.Stats().SkippedBytes >= 3<<20-1 })
	if took := time.Since(start); took < 1500*time.Millisecond {
		t.Errorf("3 MB went through in %v, at 1 MB a second", took)
	}
}
