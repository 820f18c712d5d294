package gateway

import (
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/wire"
)

// subscriptions are the topics a session listens to: there are few, so they
// are bits. A bit stands for a kind of topic in one of its two forms.
type subscriptions uint16

func bit(k wire.Kind, f wire.Form) subscriptions {
	var i uint
	switch k {
	case wire.Command:
		i = 0
	case wire.Config:
		i = 1
	case wire.Update:
		i = 2
	case wire.Notice:
		i = 3
	case wire.Refused:
		i = 4
	default:
		return 0
	}
	if f == wire.Absolute {
		i += 8
	}
	return 1 << i
}

// unsure marks that commands or settings are wanted at QoS 0 in a form.
func unsure(k wire.Kind, f wire.Form) subscriptions {
	var i uint
	switch k {
	case wire.Command:
		i = 5
	case wire.Config:
		i = 6
	default:
		return 0
	}
	if f == wire.Absolute {
		i += 8
	}
	return 1 << i
}

func (s subscriptions) has(k wire.Kind) bool {
	return s&(bit(k, wire.Relative)|bit(k, wire.Absolute)) != 0
}

// filter is the bit of a filter that the device own may subscribe to; 0 for every
// other one. A wildcard may stand only in command/#: nothing a device can name
// reaches beyond itself (CC 3.6).
func (g *Gateway) filter(own core.DeviceID, f []byte) subscriptions {
	kind, form, rel := g.deps.Authority.Subscribe(own, f)
	if kind == wire.Command && string(rel) != wire.CommandFilter {
		return 0
	}
	return bit(kind, form)
}

// subscribe grants the device's own topics at QoS 0 or 1 and refuses the rest,
// each by itself.
func (c *conn) subscribe(b *burst) bool {
	p := &b.packet
	if len(p.Props.SubscriptionIDs) > 0 {
		c.violation(endSubID, mqtt.SubscriptionIDsNotSupported, nil) // section 3.2.2.3.12
		return false
	}
	codes := make([]mqtt.ReasonCode, 0, len(p.Filters))
	var granted, plain, sure subscriptions
	for i := range p.Filters {
		f := c.g.filter(c.device, p.Filters[i].Topic)
		if f == 0 {
			c.g.count.subscribeRefused.Add(1)
			if c.version == mqtt.V5 {
				codes = append(codes, mqtt.NotAuthorized)
			} else {
				codes = append(codes, mqtt.UnspecifiedError) // 3.1.1: 0x80, failure
			}
			continue
		}
		c.g.count.subscribed.Add(1)
		granted |= f
		for _, kind := range []wire.Kind{wire.Command, wire.Config} {
			for _, form := range []wire.Form{wire.Relative, wire.Absolute} {
				if f != bit(kind, form) {
					continue
				}
				if p.Filters[i].QoS == mqtt.AtMostOnce {
					plain |= unsure(kind, form)
				} else {
					sure |= unsure(kind, form)
				}
			}
		}
		codes = append(codes, mqtt.ReasonCode(min(p.Filters[i].QoS, mqtt.AtLeastOnce)))
	}
	c.mu.Lock()
	c.subs = (c.subs | granted | plain) &^ sure
	if c.subs.has(wire.Refused) && c.notices == nil {
		c.notices = &notices{}
	}
	c.mu.Unlock()
	if !c.reply(&mqtt.Packet{Type: mqtt.SUBACK, ID: p.ID, Codes: codes}) {
		return false
	}
	c.noteSession(b.now, true)
	c.deliver()
	return true
}

func (c *conn) unsubscribe(b *burst) bool {
	p := &b.packet
	codes := make([]mqtt.ReasonCode, 0, len(p.Filters))
	c.mu.Lock()
	for i := range p.Filters {
		f := c.g.filter(c.device, p.Filters[i].Topic)
		if c.subs&f == 0 {
			codes = append(codes, mqtt.NoSubscriptionExisted)
			continue
		}
		c.subs &^= f
		codes = append(codes, mqtt.Success)
	}
	if !c.subs.has(wire.Refused) && c.notices != nil {
		c.notices.stop()
		c.notices = nil
	}
	c.mu.Unlock()
	c.noteSession(b.now, true)
	if c.version != mqtt.V5 {
		codes = nil
	}
	return c.reply(&mqtt.Packet{Type: mqtt.UNSUBACK, ID: p.ID, Codes: codes})
}

func (c *conn) reply(p *mqtt.Packet) bool {
	out, err := mqtt.Append(nil, c.version, p)
	if err != nil {
		panic(err) // we made the packet
	}
	c.send(out)
	return true
}
