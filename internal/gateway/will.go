package gateway

import (
	"time"

	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// will is the message that is published when the client is lost.
type will struct {
	topic, payload []byte
	qos            mqtt.QoS
	delay          time.Duration
}

func newWill(k *mqtt.Connect) *will {
	if !k.HasWill {
		return nil
	}
	return &will{
		topic:   append([]byte(nil), k.Will.Topic...),
		payload: append([]byte(nil), k.Will.Payload...),
		qos:     k.Will.QoS,
		delay:   time.Duration(k.Will.Props.NumberOr(mqtt.PropWillDelay, 0)) * time.Second,
	}
}

// waitingWill is one whose delay runs.
type waitingWill struct {
	clientID string
	timer    *time.Timer
	fire     func()
}

// fireWill judges the will like any message of the device: at once, or after
// its delay, unless the session is resumed before (5.0, section 3.1.3.2.2). Who
// was cut off for good has no will, and a server that stops makes none: its
// devices are not lost.
func (c *conn) fireWill(now time.Time) {
	w := c.will
	c.will = nil
	c.mu.Lock()
	why, delay, resumed := c.why, c.expiry, c.goesOn
	c.mu.Unlock()
	if w == nil || c.left || c.revoked.Load() || why == refuseStopping || why == endDoubt || why == endPanic {
		return
	}
	// The session's end is the latest that a will is published.
	if delay = min(w.delay, delay); delay <= 0 {
		c.renew()
		c.g.publishWill(c, c.id, w, now)
		return
	}
	if resumed {
		return // [MQTT-3.1.3-9]
	}
	if why == endTakeOver { // by a clean start: the session has ended
		delay = 0
	}
	heir, who := c.heir(), c.rechecker()
	x := &waitingWill{clientID: c.clientID}
	x.fire = func() { heir.g.lateWill(heir, who, w) }
	c.dev.holdWill(x, delay)
}

// heir is what of a connection its will needs: the rest is let go.
func (c *conn) heir() *conn {
	return &conn{g: c.g, dev: c.dev, product: c.product, device: c.device}
}

// holdWill has a will wait.
func (d *device) holdWill(x *waitingWill, delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.wills) >= maxSessions { // of sessions long gone: the oldest does not wait
		if d.wills[0].timer.Stop() {
			go d.wills[0].fire()
		}
		d.wills = d.wills[1:]
	}
	d.wills = append(d.wills, x)
	x.timer = time.AfterFunc(delay, func() {
		d.mu.Lock()
		mine := d.dropWill(x)
		d.mu.Unlock()
		if mine {
			x.fire()
		}
	})
}

// dropWill takes a will out; false: it was taken out before. The lock is held.
func (d *device) dropWill(x *waitingWill) bool {
	for i, o := range d.wills {
		if o == x {
			d.wills = append(d.wills[:i:i], d.wills[i+1:]...)
			return true
		}
	}
	return false
}

// claimWill ends the wait of the session that comes back: its will is not
// published, or at once where it begins anew. The lock is held.
func (d *device) claimWill(c *conn) {
	for _, x := range d.wills {
		if x.clientID != c.clientID || !d.dropWill(x) {
			continue
		}
		x.timer.Stop()
		if c.clean {
			go x.fire()
		}
		return
	}
}

// lateWill publishes a will whose delay has passed, for whoever the device is by
// then.
func (g *Gateway) lateWill(c *conn, who func() (identity.Identified, error), w *will) {
	g.mu.Lock()
	if g.stopping.Load() {
		g.mu.Unlock()
		return
	}
	g.work.Add(1)
	g.mu.Unlock()
	defer g.work.Done()
	defer func() {
		if r := recover(); r != nil {
			g.count.panics.Add(1) // no connection is there to be closed
		}
	}()
	id, err := who()
	if err != nil {
		return
	}
	c.src = c.source(id)
	defer c.src.Close()
	g.publishWill(c, id, w, g.now())
}

func (g *Gateway) publishWill(c *conn, id identity.Identified, w *will, now time.Time) {
	g.count.wills.Add(1)
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
		if id.Quarantined {
			refuse(t.Stream, telemetry.ReasonQuarantined)
			return
		}
	case wire.ChildTelemetry, wire.ChildProposal, wire.State, wire.Posture, wire.CommandReply:
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
