package gateway

import (
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// will is the message that is published when the client is lost.
type will struct {
	topic, payload []byte
	qos            mqtt.QoS
}

func newWill(k *mqtt.Connect) *will {
	if !k.HasWill {
		return nil
	}
	return &will{
		topic:   append([]byte(nil), k.Will.Topic...),
		payload: append([]byte(nil), k.Will.Payload...),
		qos:     k.Will.QoS,
	}
}

// fireWill judges the will like any message of the device, at once: a will
// delay is not kept. Who was cut off for good has no will, and a server that
// stops makes none: its devices are not lost.
func (c *conn) fireWill(now time.Time) {
	w := c.will
	c.will = nil
	c.mu.Lock()
	why := c.why
	c.mu.Unlock()
	if w == nil || c.left || c.revoked.Load() || why == refuseStopping || why == endPanic {
		return
	}
	g := c.g
	g.count.wills.Add(1)
	c.renew()
	refuse := func(stream []byte, r telemetry.Reason) {
		g.count.willsRefused.Add(1)
		g.refusedBy.add(string(r))
		if g.deps.Intake.Refuse(c.src, stream, r, nil, 0) != nil {
			g.count.missedRefused.Add(1)
		}
	}
	t := g.deps.Authority.Publish(c.device, w.topic)
	switch t.Kind {
	case wire.Telemetry:
		if c.id.Quarantined {
			refuse(t.Stream, telemetry.ReasonQuarantined)
			return
		}
	case wire.ChildTelemetry, wire.State, wire.Posture, wire.CommandReply:
		refuse(nil, telemetry.ReasonNotYet)
		return
	default:
		refuse(nil, telemetry.ReasonWrongTopic)
		return
	}
	if r := c.product.rates.Load(); r != nil && !c.dev.take(r, t.Stream, now.UnixNano()) {
		refuse(t.Stream, telemetry.ReasonRate)
		return
	}
	switch v := g.deps.Intake.Message(c.src, t.Stream, w.payload, nil, 0); v.Action {
	case telemetry.Refuse:
		refuse(t.Stream, v.Reason)
	case telemetry.Drop:
		if g.deps.Intake.Refuse(c.src, t.Stream, v.Reason, nil, 0) != nil {
			g.count.missedRefused.Add(1)
		}
	case telemetry.Trouble:
		g.count.trouble.Add(1)
	}
}
