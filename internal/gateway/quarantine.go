package gateway

import (
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// withheldText is what a device in quarantine reads on the topic refused.
const withheldText = "The device is in quarantine: two machines seem to use its certificate. Its readings get no answer until the maker has looked; keep them."

// withhold leaves a message of a device in quarantine without an answer, and
// without a trace: it is not known yet who sent it. A quarantine passes and a
// failing PUBACK is final, so none is sent, and none that would be a promise;
// the device keeps the message and sends it again in the session after the
// release (decision 004). Everything else on the connection goes on.
//
// Acknowledgements stay in the order of arrival [MQTT-4.6.0-2]: in this session
// the message never gets one. At QoS 0 nobody keeps anything, so there it is
// refused for good.
func (c *conn) withhold(b *burst, token uint32, stream []byte) bool {
	g, p := c.g, &b.packet
	if p.QoS == mqtt.AtMostOnce {
		return c.refused(b, token, stream, telemetry.ReasonQuarantined, 0)
	}
	g.count.withheld.Add(1)
	c.forgo(token)
	if now := b.now.UnixNano(); c.warned == 0 || now-c.warned >= int64(time.Minute) {
		c.warned = now // some clients send again every second
		c.notice(b.now, telemetry.ReasonQuarantined, stream, p.ID)
	}
	c.withheld.Store(true)
	// The release may have come between the last look at c.fresh and now. Then
	// either it has seen withheld, or this sees what it has left.
	if id := c.fresh.Load(); id != nil && !id.Quarantined {
		c.end(endReleased, mqtt.AdministrativeAction, nil)
		return false
	}
	return true
}

// forgo gives a slot back: its message gets no PUBACK.
func (c *conn) forgo(token uint32) {
	c.mu.Lock()
	s := c.ring.at(token)
	s.id, s.state = 0, decided
	c.mu.Unlock()
}

// release lets a device out of quarantine. A session in which messages were
// withheld ends, because only a new one makes its client send them again
// [MQTT-4.4.0-1]; the others go on.
func (g *Gateway) release(id core.DeviceID) {
	d := g.table.find(id)
	if d == nil {
		return
	}
	d.makeUp(g.now())
	for _, c := range d.live() {
		if !c.withheld.Load() {
			c.refresh()
		}
		if c.withheld.Load() {
			c.end(endReleased, mqtt.AdministrativeAction, nil)
		}
	}
}
