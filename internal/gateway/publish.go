package gateway

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// take handles one whole packet. It returns false when the session has ended.
func (c *conn) take(b *burst, raw []byte) bool {
	if c.over() {
		return false
	}
	p := &b.packet
	if err := mqtt.Decode(p, c.version, raw, &c.g.limits); err != nil {
		c.malformed(err)
		return false
	}
	if p.Type == mqtt.PUBLISH {
		return c.publish(b)
	}
	// What is not a message has its pace too.
	if !c.hold(b, c.dev.arrivals.reserve(c.g.deviceMessages, 1, b.now.UnixNano())) {
		return false
	}
	switch p.Type {
	case mqtt.PINGREQ:
		c.send(mqtt.AppendPingresp(nil))
		return true
	case mqtt.SUBSCRIBE:
		return c.subscribe(b)
	case mqtt.UNSUBSCRIBE:
		return c.unsubscribe(b)
	case mqtt.DISCONNECT:
		return c.disconnect(b)
	case mqtt.PUBACK:
		return c.downTaken(p)
	case mqtt.PUBREL:
		return c.released(b)
	default:
		// A second CONNECT [MQTT-3.1.0-2], AUTH without a method, and the
		// acknowledgements of messages at QoS 2, of which none is sent.
		c.violation(endMisplaced, mqtt.ProtocolError, errors.New(p.Type.String()))
		return false
	}
}

var errEnded = errors.New("the session has ended")

// oversize refuses a PUBLISH that is larger than any packet may be, without
// reading it into memory: a 3.1.1 client would else send it again after every
// reconnect, and nothing behind it would ever arrive. A 5.0 client was told the
// limit and gets the DISCONNECT that the standard has for it. It returns how
// many bytes it has used, 0 while more of the header must come; what follows
// is skipped, up to the largest packet that the protocol knows (256 MB, section
// 2.2.3). tooLarge is the codec's refusal, returned for what cannot be treated
// so.
//
// What that costs is bounded: one small buffer, the device's pace in bytes a
// second, and a connection for as long as its client keeps sending. The PUBACK
// leaves as soon as the refusal is on record, so that a client that reads while
// it writes has its answer even if it never comes to the end.
func (c *conn) oversize(b *burst, buf []byte, tooLarge error) (int, error) {
	e, ok := errors.AsType[*mqtt.Error](tooLarge)
	if !ok || e.Code != mqtt.PacketTooLarge || c.version != mqtt.V311 || mqtt.Type(buf[0]>>4) != mqtt.PUBLISH {
		return 0, tooLarge
	}
	remaining, size := binary.Uvarint(buf[1:min(5, len(buf))]) // the codec has found it whole
	if size <= 0 {
		return 0, tooLarge
	}
	head := 1 + size + 2
	if len(buf) < head {
		return 0, nil
	}
	body := 2 + int(binary.BigEndian.Uint16(buf[head-2:]))
	if body > mqtt.DefaultMaxTopic {
		return 0, tooLarge
	}
	if buf[0]&0x06 != 0 {
		body += 2 // the packet identifier
	}
	if head = 1 + size + body; len(buf) < head {
		return 0, nil
	}
	// The same PUBLISH with an empty payload, for the codec to check.
	small := append(binary.AppendUvarint([]byte{buf[0]}, uint64(body)), buf[1+size:head]...)
	if err := mqtt.Decode(&b.packet, c.version, small, &c.g.limits); err != nil {
		return 0, err
	}
	c.skip, c.skipped = 1+size+int(remaining)-head, 0
	c.large = true
	ok = c.publish(b)
	c.large = false
	if !ok {
		return 0, errEnded
	}
	return head, nil
}

// skipStep is how much of a packet that is thrown away must come within
// Config.PacketTimeout.
const skipStep = 64 << 10

// pass throws away n bytes of a packet that was refused. They cost the device
// its pace like any others, and each skipStep of them is a packet's worth of
// progress: a large packet over a slow network takes long, and that is no
// silence. It returns false when the session has ended.
func (c *conn) pass(b *burst, n int) bool {
	c.skip -= n
	c.skipped += n
	c.g.count.skippedBytes.Add(uint64(n))
	if !c.hold(b, c.dev.bytes.reserve(c.g.deviceBytes, int64(n), b.now.UnixNano())) {
		return false
	}
	if c.skipped >= skipStep || c.skip == 0 {
		c.skipped = 0
		c.partial = b.now.UnixNano()
	}
	return true
}

// disconnect ends the session as the client wishes.
func (c *conn) disconnect(b *burst) bool {
	p := &b.packet
	if c.version == mqtt.V5 {
		if asked, ok := p.Props.Number(mqtt.PropSessionExpiry); ok {
			// Section 3.14.2.2.2: a session that was to end cannot be kept now.
			if c.expiry == 0 && asked != 0 {
				c.violation(endMisplaced, mqtt.ProtocolError, errors.New("session expiry after 0"))
				return false
			}
			c.mu.Lock()
			c.expiry = c.expires(asked)
			c.mu.Unlock()
		}
	}
	c.left = p.Code != mqtt.DisconnectWithWill // [MQTT-3.14.4-3]
	c.end(endLeft, 0, nil)
	return false
}

// publish takes one message: topic, place, pace, rate, judgement. What it
// decides is written by flush, in the message's turn.
func (c *conn) publish(b *burst) bool {
	g, p := c.g, &b.packet
	g.count.received.Add(1)
	g.count.receivedBytes.Add(uint64(len(p.Payload)))
	if p.QoS > mqtt.AtLeastOnce && c.version == mqtt.V5 {
		c.violation(endQoS2, mqtt.QoSNotSupported, nil) // section 3.2.2.3.4
		return false
	}
	if p.QoS == mqtt.AtMostOnce {
		g.count.qos0.Add(1)
		p.ID = 0
	}
	if p.Retain {
		g.count.retained.Add(1) // nothing is ever retained (design, section 6)
	}
	topic, ok := c.topic(p)
	if !ok {
		return false
	}
	var one once
	if p.QoS == mqtt.ExactlyOnce {
		g.count.qos2.Add(1)
		if one, ok = c.once(b); !ok {
			return false
		}
	}
	token, ok := c.reserve(p.ID, p.QoS, one.round, &b.out)
	if !ok {
		return false
	}
	if !c.pause(b, len(p.Payload)) {
		c.giveUp(token)
		return false
	}
	if one.again {
		g.count.duplicates.Add(1)
		c.decide(token, mqtt.Success, 0)
		return true
	}
	c.renew()
	c.series = one.series
	free := false
	if p.Dup {
		g.count.duplicates.Add(1)
		free = c.wasSent(p.ID)
	}
	if !c.message(b, token, topic, free) {
		c.giveUp(token)
		return false
	}
	return true
}

// message authorises and judges one message. It is called for every PUBLISH
// after its alias was resolved (CC 3.6).
func (c *conn) message(b *burst, token uint32, topic []byte, free bool) bool {
	g, p := c.g, &b.packet
	t := g.deps.Authority.Publish(c.device, topic)
	src, dev, pr := c.src, c.dev, c.product
	c.of, c.child = src, ""
	switch t.Kind {
	case wire.Telemetry:
		if c.large {
			return c.refused(b, token, t.Stream, telemetry.ReasonTooLarge, pointsOverRate)
		}
		if c.id.Quarantined {
			return c.withhold(b, token, t.Stream)
		}
	case wire.Foreign:
		return c.refused(b, token, nil, telemetry.ReasonWrongTopic, pointsForeignTopic)
	case wire.CommandReply:
		if c.large {
			return c.refused(b, token, nil, telemetry.ReasonTooLarge, pointsOverRate)
		}
		return c.commandReply(b, token, t)
	case wire.ChildTelemetry, wire.ChildProposal:
		switch {
		case c.large:
			return c.refused(b, token, nil, telemetry.ReasonTooLarge, pointsOverRate)
		case c.id.Quarantined: // who vouches is not known
			return c.withhold(b, token, nil)
		case t.Kind == wire.ChildProposal:
			return c.proposal(b, token, t)
		}
		k := c.kid(b, t.Child)
		if k == nil {
			return c.notMine(b, token)
		}
		src, dev, pr = k.src, k.dev, k.product
		c.of, c.child = src, k.v.Child
		// The pace of the child's product, besides that of the hub and its own.
		if !c.hold(b, pr.arrivals.reserve(g.productMessages, 1, b.now.UnixNano())) {
			return false
		}
	case wire.State:
		return c.stateReport(b, token)
	case wire.Posture:
		return c.refused(b, token, nil, telemetry.ReasonNotYet, pointsWrongPlace)
	default:
		return c.refused(b, token, nil, telemetry.ReasonWrongTopic, pointsWrongPlace)
	}
	if r := pr.rates.Load(); r != nil && !free && !dev.take(r, t.Stream, b.now.UnixNano()) {
		return c.refused(b, token, t.Stream, telemetry.ReasonRate, pointsOverRate)
	}
	for try := 0; ; try++ {
		if p.QoS == mqtt.ExactlyOnce {
			src.NumberNext(c.series)
		}
		v := g.deps.Intake.Message(src, t.Stream, p.Payload, c, uint64(token))
		switch v.Action {
		case telemetry.Pending:
			g.count.pending.Add(1)
			return true
		case telemetry.Drop:
			return c.dropped(b, token, t.Stream, v.Reason)
		case telemetry.Refuse:
			points := 0
			if v.Reason == telemetry.ReasonUnknownStream {
				points = pointsWrongPlace
			}
			return c.refused(b, token, t.Stream, v.Reason, points)
		}
		// Ours. It may pass within a moment: reading stops meanwhile.
		if try == 0 {
			b.out = c.flush(b.out)
		}
		if try == troubleTries || !c.wait(troubleDelay(try)) {
			c.trouble(g.ourTrouble())
			return false
		}
	}
}

var errIntake = errors.New("a message could be neither judged nor recorded")

// ourTrouble is why nothing can be acknowledged at present, as far as it is
// known.
func (g *Gateway) ourTrouble() error {
	if g.deps.Trouble != nil {
		if err := g.deps.Trouble(); err != nil {
			return err
		}
	}
	return errIntake
}

// troubleTries with troubleDelay make about a second and a half.
const troubleTries = 6

func troubleDelay(try int) time.Duration { return 25 * time.Millisecond << try }

// refused refuses one message: the refusal is recorded first, without content,
// and acknowledged when that is on disk. A 5.0 client reads the reason in the
// PUBACK; a 3.1.1 client gets an ordinary one, so that it does not send the
// message for ever, and reads why on the topic refused (design, section 5).
func (c *conn) refused(b *burst, token uint32, stream []byte, why telemetry.Reason, points int) bool {
	g, p := c.g, &b.packet
	g.count.refused.Add(1)
	g.refusedBy.add(string(why))
	c.notice(b.now, why, stream, p.ID)
	err := error(nil)
	if p.QoS == mqtt.AtMostOnce {
		g.count.dropped.Add(1)
		c.decide(token, mqtt.Success, 0)
		if g.deps.Intake.Refuse(c.of, stream, why, nil, 0) != nil {
			g.count.missedRefused.Add(1) // nobody waits for an answer
		}
	} else {
		c.foretell(token, refusalCode(why), g.reasonIndex(why))
		err = g.deps.Intake.Refuse(c.of, stream, why, c, uint64(token))
	}
	if err != nil {
		c.trouble(err)
		return false
	}
	if points == 0 || c.dev.spend(points, b.now) {
		return true
	}
	b.out = c.flush(b.out)
	if points == pointsForeignTopic {
		c.violation(endForeign, mqtt.NotAuthorized, nil)
	} else {
		c.violation(endFlood, mqtt.MessageRateTooHigh, nil)
	}
	return false
}

// dropped takes one message that is by rule not stored: it is counted, and
// acknowledged like a good one when the count is on disk. The device reads why
// on the topic refused.
func (c *conn) dropped(b *burst, token uint32, stream []byte, why telemetry.Reason) bool {
	g := c.g
	g.count.ackedByRule.Add(1)
	c.notice(b.now, why, stream, b.packet.ID)
	if b.packet.QoS == mqtt.AtMostOnce {
		c.decide(token, mqtt.Success, 0)
		if g.deps.Intake.Refuse(c.of, stream, why, nil, 0) != nil {
			g.count.missedRefused.Add(1) // nobody waits for an answer
		}
		return true
	}
	c.foretell(token, mqtt.Success, 0)
	if err := g.deps.Intake.Refuse(c.of, stream, why, c, uint64(token)); err != nil {
		c.trouble(err)
		return false
	}
	return true
}

// refusalCode is the PUBACK reason code of 5.0 for a reason (section 3.4.2.1).
func refusalCode(why telemetry.Reason) mqtt.ReasonCode {
	switch why {
	case telemetry.ReasonWrongTopic, telemetry.ReasonNoChild:
		return mqtt.NotAuthorized
	case telemetry.ReasonUnknownStream, telemetry.ReasonNoCommand:
		return mqtt.TopicNameInvalid
	case telemetry.ReasonRate, telemetry.ReasonTooLarge:
		return mqtt.QuotaExceeded // 0x95 is no code of a PUBACK
	case telemetry.ReasonNotYet, telemetry.ReasonNoPlan:
		return mqtt.ImplementationSpecificError
	default:
		return mqtt.PayloadFormatInvalid
	}
}

// topic is the topic of a PUBLISH, after its alias. Section 3.3.2.3.4.
func (c *conn) topic(p *mqtt.Packet) ([]byte, bool) {
	if c.version != mqtt.V5 {
		return p.Topic, true
	}
	a, given := p.Props.Number(mqtt.PropTopicAlias)
	if !given {
		return p.Topic, true // the codec refuses an empty topic without an alias
	}
	if a == 0 || a > maxAliases {
		c.violation(endAliasRange, mqtt.TopicAliasInvalid, nil) // [MQTT-3.3.2-9]
		return nil, false
	}
	if c.aliases == nil {
		c.aliases = new([maxAliases][]byte)
	}
	slot := &c.aliases[a-1]
	if len(p.Topic) > 0 {
		*slot = append((*slot)[:0], p.Topic...)
		return p.Topic, true
	}
	if len(*slot) == 0 {
		c.violation(endAliasRange, mqtt.ProtocolError, nil)
		return nil, false
	}
	return *slot, true
}

// pause holds the connection to the pace of its device and product: it stops
// reading, and drops nothing.
func (c *conn) pause(b *burst, payload int) bool {
	g := c.g
	now := b.now.UnixNano()
	return c.hold(b, max(
		c.dev.arrivals.reserve(g.deviceMessages, 1, now),
		c.dev.bytes.reserve(g.deviceBytes, int64(payload), now),
		c.product.arrivals.reserve(g.productMessages, 1, now),
	))
}

// hold waits as long as a pace says.
func (c *conn) hold(b *burst, wait time.Duration) bool {
	g := c.g
	if wait < time.Millisecond {
		return true
	}
	g.count.pauses.Add(1)
	b.out = c.flush(b.out)
	ok := c.wait(wait)
	now2 := g.now()
	g.count.pausedNanos.Add(uint64(max(now2.Sub(b.now), 0)))
	b.now = now2
	return ok
}

// wait sleeps, unless the session ends.
func (c *conn) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.done:
		return false
	}
}

// renew goes over to a new owner, if Refresh has brought one.
func (c *conn) renew() {
	if c.fresh.Load() == nil {
		return
	}
	if id := c.fresh.Swap(nil); id != nil {
		c.id = *id
		c.src.Close()
		c.src = c.source(*id)
	}
}
