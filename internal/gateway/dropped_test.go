package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// What is by rule not stored is acknowledged like a good message, but not
// before its count is on disk (design, section 5: an ack means decided and
// recorded), and in its turn. A window of such messages shares records.
func TestDroppedIsRecordedBeforeItsAck(t *testing.T) {
	d := newDoor(t)
	const messages = 200
	for _, v := range []mqtt.Version{mqtt.V5, mqtt.V311} {
		c := d.connect(d.enrol(core.DeviceID("A-"+v.String())), v, "x")
		before := fmt.Sprintf(`{"level":1,"t":%d}`, d.now().Add(-time.Hour).UnixMilli()) // of an owner before this one
		counted := func() (n, records int) {
			_, refusals := d.stored()
			for _, r := range refusals {
				if r.Reason == telemetry.ReasonBeforeOwner {
					n, records = n+int(r.Count), records+1
				}
			}
			return n, records
		}
		already, _ := counted()
		for i := range 5 {
			c.publish(uint16(i+1), "telemetry/light", before)
			if code := c.acked(uint16(i + 1)); code != mqtt.Success {
				t.Fatalf("%v: %#x", v, code)
			}
			if n, _ := counted(); n != already+i+1 {
				t.Errorf("%v: %d messages acknowledged, %d counted on disk", v, i+1, n-already)
			}
		}
		n0, r0 := counted()
		go func() {
			for i := range messages {
				c.publish(uint16(i+1), "telemetry/light", map[bool]string{true: level(i), false: before}[i%10 == 0])
			}
		}()
		for i := range messages {
			if code := c.acked(uint16(i + 1)); code != mqtt.Success {
				t.Fatalf("%v: message %d: %#x", v, i, code)
			}
		}
		n, r := counted()
		if n-n0 != messages/10*9 || r-r0 > messages/3 {
			t.Errorf("%v: %d of %d messages counted in %d records", v, n-n0, messages/10*9, r-r0)
		}
	}
	if s := d.g.Stats(); s.AckedByRule != 2*(5+messages/10*9) {
		t.Errorf("%d acknowledged by rule", s.AckedByRule)
	}
}

// While the journal takes nothing, what would be dropped is not acknowledged
// either: it could not be counted.
func TestDroppedIsNotAckedInTrouble(t *testing.T) {
	d := newDoor(t)
	c := d.connect(d.enrol("A1"), mqtt.V5, "x")
	if err := d.jr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.publish(1, "telemetry/light", fmt.Sprintf(`{"level":1,"t":%d}`, d.now().Add(-time.Hour).UnixMilli()))
	if code := c.closed(); code == 0 || d.g.Stats().Acks != 0 {
		t.Errorf("ended with %#x, %d acknowledged", code, d.g.Stats().Acks)
	}
}
