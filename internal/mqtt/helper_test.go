package mqtt

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
)

// describe is everything a packet of its type says, as text, so that two
// packets can be compared and their difference read.
func describe(p *Packet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", p.Type)
	switch p.Type {
	case CONNECT:
		c := &p.Connect
		fmt.Fprintf(&b, " v=%d clean=%t alive=%d id=%q", c.Version, c.CleanStart, c.KeepAlive, c.ClientID)
		if c.HasUsername {
			fmt.Fprintf(&b, " user=%q", c.Username)
		}
		if c.HasPassword {
			fmt.Fprintf(&b, " password=%q", c.Password)
		}
		if c.HasWill {
			w := &c.Will
			fmt.Fprintf(&b, " will{qos=%d retain=%t topic=%q payload=%q%s}", w.QoS, w.Retain, w.Topic, w.Payload, describeProps(&w.Props))
		}
	case CONNACK:
		fmt.Fprintf(&b, " present=%t code=%#x", p.SessionPresent, p.Code)
	case PUBLISH:
		fmt.Fprintf(&b, " dup=%t retain=%t qos=%d topic=%q id=%d payload=%q", p.Dup, p.Retain, p.QoS, p.Topic, p.ID, p.Payload)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		fmt.Fprintf(&b, " id=%d code=%#x", p.ID, p.Code)
	case SUBSCRIBE:
		fmt.Fprintf(&b, " id=%d", p.ID)
		for _, f := range p.Filters {
			fmt.Fprintf(&b, " %q qos=%d nolocal=%t asis=%t retain=%d", f.Topic, f.QoS, f.NoLocal, f.RetainAsPublished, f.RetainHandling)
		}
	case UNSUBSCRIBE:
		fmt.Fprintf(&b, " id=%d", p.ID)
		for _, f := range p.Filters {
			fmt.Fprintf(&b, " %q", f.Topic)
		}
	case SUBACK, UNSUBACK:
		fmt.Fprintf(&b, " id=%d codes=%v", p.ID, p.Codes)
	case DISCONNECT, AUTH:
		fmt.Fprintf(&b, " code=%#x", p.Code)
	}
	return b.String() + describeProps(&p.Props)
}

func describeProps(p *Properties) string {
	var b strings.Builder
	for id := range uint8(lastProperty + 1) {
		if v, ok := p.Number(NumberProperty(id)); ok {
			fmt.Fprintf(&b, " %d=%d", id, v)
		}
		if v, ok := p.Data(DataProperty(id)); ok {
			fmt.Fprintf(&b, " %d=%q", id, v)
		}
	}
	if len(p.SubscriptionIDs) > 0 {
		fmt.Fprintf(&b, " subscriptions=%v", p.SubscriptionIDs)
	}
	for _, u := range p.User {
		fmt.Fprintf(&b, " %q:%q", u.Name, u.Value)
	}
	return b.String()
}

func packet(t Type, fill func(*Packet)) *Packet {
	p := new(Packet)
	p.Reset(t)
	fill(p)
	return p
}

// randomPacket makes a packet that Append must take, out of r alone.
func randomPacket(r *rand.Rand, v Version) *Packet {
	types := []Type{CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT}
	if v == V5 {
		types = append(types, AUTH)
	}
	return packet(types[r.IntN(len(types))], func(p *Packet) {
		switch p.Type {
		case CONNECT:
			c := &p.Connect
			c.Version, c.CleanStart, c.KeepAlive = v, coin(r), uint16(r.Uint32())
			c.HasUsername, c.HasWill = coin(r), coin(r)
			c.HasPassword = coin(r) && (v == V5 || c.HasUsername)
			c.ClientID = text(r, 20)
			if len(c.ClientID) == 0 {
				c.CleanStart = true
			}
			if c.HasUsername {
				c.Username = text(r, 20)
			}
			if c.HasPassword {
				c.Password = junk(r, 20)
			}
			if c.HasWill {
				c.Will = Will{QoS: QoS(r.IntN(3)), Retain: coin(r), Topic: topic(r), Payload: junk(r, 50)}
				randomProps(r, v, &c.Will.Props, inWill)
			}
		case CONNACK:
			if v == V311 {
				p.Code = ReasonCode(r.IntN(6))
			} else {
				p.Code = randomCode(r, p.Type)
			}
			p.SessionPresent = p.Code == 0 && coin(r)
		case PUBLISH:
			p.QoS, p.Retain, p.Topic, p.Payload = QoS(r.IntN(3)), coin(r), topic(r), junk(r, 300)
			if p.QoS > 0 {
				p.Dup, p.ID = coin(r), randomID(r)
			}
		case PUBACK, PUBREC, PUBREL, PUBCOMP:
			p.ID = randomID(r)
			if v == V5 {
				p.Code = randomCode(r, p.Type)
			}
		case SUBSCRIBE, UNSUBSCRIBE:
			p.ID = randomID(r)
			for range 1 + r.IntN(4) {
				f := Filter{Topic: filter(r)}
				if p.Type == SUBSCRIBE {
					f.QoS = QoS(r.IntN(3))
					if v == V5 {
						f.NoLocal, f.RetainAsPublished, f.RetainHandling = coin(r), coin(r), uint8(r.IntN(3))
					}
				}
				p.Filters = append(p.Filters, f)
			}
		case SUBACK, UNSUBACK:
			p.ID = randomID(r)
			for range 1 + r.IntN(4) {
				switch {
				case v == V5:
					p.Codes = append(p.Codes, randomCode(r, p.Type))
				case p.Type == SUBACK:
					p.Codes = append(p.Codes, []ReasonCode{0, 1, 2, 0x80}[r.IntN(4)])
				}
			}
		case DISCONNECT, AUTH:
			if v == V5 {
				p.Code = randomCode(r, p.Type)
			}
		}
		if p.Type != PINGREQ && p.Type != PINGRESP {
			randomProps(r, v, &p.Props, 1<<p.Type)
		}
		if p.Type == AUTH && (p.Code != 0 || !p.Props.empty()) {
			p.Props.SetData(PropAuthMethod, append(text(r, 10), 'm'))
		}
		if p.Type == PUBLISH && v == V5 && r.IntN(4) == 0 {
			p.Props.SetNumber(PropTopicAlias, 1+r.Uint32N(100))
			p.Topic = nil
		}
	})
}

func randomProps(r *rand.Rand, v Version, p *Properties, place uint16) {
	if v == V311 || coin(r) {
		return
	}
	for id := range uint8(lastProperty + 1) {
		s, ok := specOf(id)
		if !ok || s.in&place == 0 || r.IntN(3) > 0 {
			continue
		}
		switch s.kind {
		case kindFlag:
			p.SetNumber(NumberProperty(id), r.Uint32N(2))
		case kindUint16:
			p.SetNumber(NumberProperty(id), 1+r.Uint32N(0xffff))
		case kindUint32:
			p.SetNumber(NumberProperty(id), 1+r.Uint32N(1<<31))
		case kindTopic:
			p.SetData(DataProperty(id), topic(r))
		case kindText:
			p.SetData(DataProperty(id), append(text(r, 30), 'x'))
		default:
			p.SetData(DataProperty(id), append(junk(r, 30), 0))
		}
	}
	if _, ok := p.Data(PropAuthData); ok {
		p.SetData(PropAuthMethod, []byte("method"))
	}
	if place&(1<<PUBLISH|1<<SUBSCRIBE) != 0 && coin(r) {
		p.SubscriptionIDs = append(p.SubscriptionIDs, 1+r.Uint32N(maxRemaining))
	}
	for range r.IntN(3) {
		p.User = append(p.User, UserProperty{text(r, 10), text(r, 200)})
	}
}

func coin(r *rand.Rand) bool       { return r.IntN(2) == 0 }
func randomID(r *rand.Rand) uint16 { return 1 + uint16(r.IntN(0xffff)) }
func topic(r *rand.Rand) []byte    { return append([]byte("t/"), text(r, 20)...) }
func junk(r *rand.Rand, n int) []byte {
	b := make([]byte, r.IntN(n+1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func text(r *rand.Rand, n int) []byte {
	var b []byte
	for range r.IntN(n + 1) {
		b = append(b, []string{"a", "Z", "0", "/", " ", "é", "水", "😀", "$", "_"}[r.IntN(10)]...)
	}
	return b
}

func filter(r *rand.Rand) []byte {
	levels := make([]string, 1+r.IntN(4))
	for i := range levels {
		levels[i] = []string{"a", "+", "", "état", "b"}[r.IntN(5)]
	}
	b := []byte(strings.Join(levels, "/"))
	if len(b) == 0 || coin(r) {
		b = append(bytes.TrimSuffix(b, []byte("+")), "x/#"...)
	}
	if !ValidFilter(V5, b) {
		return []byte("a/#")
	}
	return b
}

func randomCode(r *rand.Rand, t Type) ReasonCode {
	for {
		if c := ReasonCode(r.IntN(0xa3)); codeAllowed(t, fromEither, c) {
			return c
		}
	}
}
