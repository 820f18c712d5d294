package mqtt

// Append writes p for version v after dst and returns the longer slice. It
// holds what it writes to the same rules as Decode, so that it never sends
// what a strict peer must refuse; on an error dst comes back as it was. For a
// CONNECT, p.Connect.Version counts and v is ignored.
func Append(dst []byte, v Version, p *Packet) ([]byte, error) {
	start := len(dst)
	if p.Type == CONNECT {
		v = p.Connect.Version
	}
	if v != V311 && v != V5 {
		return dst, protocol("version-unknown")
	}
	// Room for the longest fixed header; it is moved up to the body at the end.
	e := encoder{b: append(dst, 0, 0, 0, 0, 0), v: v, p: p}
	e.body()
	remaining := len(e.b) - start - 5
	if e.err == nil && remaining > maxRemaining {
		e.err = &Error{Code: PacketTooLarge, Reason: "packet-too-large"}
	}
	if e.err != nil {
		return dst, e.err
	}
	var head [5]byte
	h := appendVarint(append(head[:0], e.first()), uint32(remaining))
	copy(e.b[start:], h)
	n := copy(e.b[start+len(h):], e.b[start+5:])
	return e.b[:start+len(h)+n], nil
}

type encoder struct {
	b   []byte
	v   Version
	p   *Packet
	err *Error
}

func (e *encoder) fail(err *Error) {
	if e.err == nil && err != nil {
		e.err = err
	}
}

func (e *encoder) first() byte {
	p := e.p
	b := byte(p.Type) << 4
	switch p.Type {
	case PUBLISH:
		b |= byte(p.QoS) << 1
		if p.Dup {
			b |= 8
		}
		if p.Retain {
			b |= 1
		}
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		b |= 2
	}
	return b
}

func (e *encoder) body() {
	p := e.p
	if e.v == V311 && (!p.Props.empty() || !p.Connect.Will.Props.empty() && p.Type == CONNECT) {
		e.fail(protocol("properties-in-3.1.1"))
	}
	switch p.Type {
	case CONNECT:
		e.connect()
	case CONNACK:
		e.connack()
	case PUBLISH:
		e.publish()
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		e.id(p.ID)
		e.tail()
	case SUBSCRIBE, UNSUBSCRIBE:
		e.filters()
	case SUBACK, UNSUBACK:
		e.codes()
	case DISCONNECT, AUTH:
		if p.Type == AUTH {
			e.fail(checkAuth(p))
			if e.v == V311 {
				e.fail(malformed("type-reserved"))
			}
		}
		e.tail()
	case PINGREQ, PINGRESP:
		e.noProps()
	default:
		e.fail(malformed("type-reserved"))
	}
}

// noProps refuses properties where the packet has no place for them.
func (e *encoder) noProps() {
	if !e.p.Props.empty() {
		e.fail(malformed("property-misplaced"))
	}
}

// tail writes a reason code and properties at the end of a packet, leaving out
// what may be left out (sections 3.4.2.1, 3.14.2.1, 3.15.2.1).
func (e *encoder) tail() {
	p := e.p
	switch {
	case e.v == V311:
		// 3.1.1 has no reason codes here: a refusal would read as success.
		if p.Code != Success {
			e.fail(protocol("reason-code"))
		}
		return
	case !codeAllowed(p.Type, fromEither, p.Code):
		e.fail(protocol("reason-code"))
		return
	case p.Props.empty() && p.Code == Success:
		return
	}
	e.b = append(e.b, byte(p.Code))
	if !p.Props.empty() {
		e.properties(&p.Props, 1<<p.Type)
	}
}

func (e *encoder) connect() {
	p := e.p
	c := &p.Connect
	var flags byte
	set := func(on bool, bit byte) {
		if on {
			flags |= bit
		}
	}
	set(c.CleanStart, 0x02)
	set(c.HasUsername, 0x80)
	set(c.HasPassword, 0x40)
	set(c.HasWill, 0x04)
	if c.HasWill {
		set(c.Will.Retain, 0x20)
		if c.Will.QoS > ExactlyOnce {
			e.fail(malformed("will-qos-3"))
		}
		flags |= byte(c.Will.QoS&3) << 3
	}
	e.fail(checkConnectFlags(e.v, flags))
	if len(c.ClientID) == 0 && !c.CleanStart && e.v == V311 {
		e.fail(&Error{Code: ClientIDNotValid, Reason: "client-id-empty"})
	}
	e.b = append(e.b, 0, 4, 'M', 'Q', 'T', 'T', byte(e.v), flags, byte(c.KeepAlive>>8), byte(c.KeepAlive))
	if e.v == V5 {
		e.properties(&p.Props, 1<<CONNECT)
	}
	e.text(c.ClientID)
	if c.HasWill {
		if e.v == V5 {
			e.properties(&c.Will.Props, inWill)
		}
		e.topic(c.Will.Topic)
		e.data(c.Will.Payload)
	}
	if c.HasUsername {
		e.text(c.Username)
	}
	if c.HasPassword {
		e.data(c.Password)
	}
}

func (e *encoder) connack() {
	p := e.p
	var flags byte
	if p.SessionPresent {
		flags = 1
		if p.Code != Success {
			e.fail(protocol("session-present-with-refusal"))
		}
	}
	if e.v == V311 && p.Code > NotAuthorized311 || e.v == V5 && !codeAllowed(CONNACK, fromEither, p.Code) {
		e.fail(protocol("reason-code"))
	}
	e.b = append(e.b, flags, byte(p.Code))
	if e.v == V5 {
		e.properties(&p.Props, 1<<CONNACK)
	}
}

func (e *encoder) publish() {
	p := e.p
	if p.QoS > ExactlyOnce {
		e.fail(malformed("qos-3"))
	}
	if p.QoS == AtMostOnce && p.Dup {
		e.fail(malformed("dup-at-qos-0"))
	}
	if _, alias := p.Props.Number(PropTopicAlias); len(p.Topic) == 0 && alias && e.v == V5 {
		e.b = append(e.b, 0, 0)
	} else {
		e.topic(p.Topic)
	}
	if p.QoS > AtMostOnce {
		e.id(p.ID)
	}
	if e.v == V5 {
		e.properties(&p.Props, 1<<PUBLISH)
	}
	e.b = append(e.b, p.Payload...)
}

func (e *encoder) filters() {
	p := e.p
	e.id(p.ID)
	if e.v == V5 {
		e.properties(&p.Props, 1<<p.Type)
	}
	if len(p.Filters) == 0 {
		e.fail(protocol("no-filters"))
	}
	for i := range p.Filters {
		f := &p.Filters[i]
		e.fail(checkFilter(e.v, f.Topic, 0xffff))
		e.data(f.Topic)
		if p.Type == UNSUBSCRIBE {
			continue
		}
		if f.QoS > ExactlyOnce || f.RetainHandling > 2 {
			e.fail(malformed("subscribe-options"))
		}
		o := byte(f.QoS&3) | f.RetainHandling&3<<4
		if f.NoLocal {
			o |= 4
		}
		if f.RetainAsPublished {
			o |= 8
		}
		e.fail(checkOptions(e.v, o, f.Topic))
		e.b = append(e.b, o)
	}
}

func (e *encoder) codes() {
	p := e.p
	e.id(p.ID)
	if e.v == V5 {
		e.properties(&p.Props, 1<<p.Type)
	} else if p.Type == UNSUBACK {
		if len(p.Codes) > 0 {
			e.fail(protocol("reason-code"))
		}
		return
	}
	if len(p.Codes) == 0 {
		e.fail(protocol("no-codes"))
	}
	for _, c := range p.Codes {
		if e.v == V311 && c > GrantedQoS2 && c != UnspecifiedError || e.v == V5 && !codeAllowed(p.Type, fromEither, c) {
			e.fail(protocol("reason-code"))
		}
		e.b = append(e.b, byte(c))
	}
}

func (e *encoder) id(id uint16) {
	if id == 0 {
		e.fail(malformed("packet-id-zero"))
	}
	e.b = append(e.b, byte(id>>8), byte(id))
}

func (e *encoder) data(d []byte) {
	if len(d) > 0xffff {
		e.fail(malformed("text-too-long"))
		return
	}
	e.b = append(append(e.b, byte(len(d)>>8), byte(len(d))), d...)
}

func (e *encoder) text(d []byte) {
	if !validText(d) {
		e.fail(malformed("not-utf8"))
	}
	e.data(d)
}

func (e *encoder) topic(t []byte) {
	e.fail(checkTopicName(t, 0xffff))
	e.data(t)
}

// properties writes the property length and the properties in the order of
// their numbers, user properties in their own order after the others.
func (e *encoder) properties(p *Properties, place uint16) {
	if p.empty() {
		e.b = append(e.b, 0)
		return
	}
	e.fail(p.check(e.p.Type, fromEither))
	// Four bytes of room for the length; the properties are moved up to it.
	start := len(e.b)
	e.b = append(e.b, 0, 0, 0, 0)
	for id := uint8(1); id <= lastProperty; id++ {
		if p.set&(1<<id) != 0 {
			e.property(p, id, place)
		}
	}
	for _, id := range p.SubscriptionIDs {
		if place&(1<<PUBLISH|1<<SUBSCRIBE) == 0 {
			e.fail(malformed("property-misplaced"))
		}
		if id == 0 || id > maxRemaining {
			e.fail(protocol("property-zero"))
		}
		e.b = appendVarint(append(e.b, propSubscriptionID), id)
	}
	for _, u := range p.User {
		e.b = append(e.b, propUser)
		e.text(u.Name)
		e.text(u.Value)
	}
	n := len(e.b) - start - 4
	if n > maxRemaining {
		e.fail(&Error{Code: PacketTooLarge, Reason: "packet-too-large"})
		return
	}
	size := varintSize(uint32(n))
	appendVarint(e.b[start:start], uint32(n))
	copy(e.b[start+size:], e.b[start+4:])
	e.b = e.b[:start+size+n]
}

func (e *encoder) property(p *Properties, id uint8, place uint16) {
	s, ok := specOf(id)
	if !ok || s.in&place == 0 {
		e.fail(malformed("property-misplaced"))
		return
	}
	e.b = append(e.b, id)
	switch s.kind {
	case kindFlag, kindUint16, kindUint32:
		n := p.numbers[s.slot]
		e.fail(s.checkNumber(id, n))
		switch s.kind {
		case kindFlag:
			e.b = append(e.b, byte(n))
		case kindUint16:
			e.b = append(e.b, byte(n>>8), byte(n))
		default:
			e.b = append(e.b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		}
	default:
		d := p.data[s.slot]
		e.fail(s.checkData(d, 0xffff))
		e.data(d)
	}
}
