package mqtt

// Decode reads one whole packet from b, whose length is what Frame returned,
// into p, whose slices then alias b. v is the version that the CONNECT of the
// connection named; a CONNECT says its own and ignores v. Every error is an
// *Error, and p is then of no use but for Type and, of a CONNECT,
// Connect.Version.
func Decode(p *Packet, v Version, b []byte, l *Limits) error {
	// An *Error in an error must not be a typed nil.
	if e := decode(p, v, b, l); e != nil {
		return e
	}
	return nil
}

func decode(p *Packet, v Version, b []byte, l *Limits) *Error {
	p.reset()
	if len(b) == 0 {
		return malformed("truncated")
	}
	first := b[0]
	p.Type = Type(first >> 4)
	if e := checkHeader(first); e != nil {
		return e
	}
	remaining, size, e := varint(b[1:])
	switch {
	case e != nil:
		return e
	case size == 0 || len(b) < 1+size+int(remaining):
		return malformed("truncated")
	case len(b) > 1+size+int(remaining):
		return malformed("trailing-bytes")
	case len(b) > orDefault(l.MaxPacket, DefaultMaxPacket):
		return &Error{Code: PacketTooLarge, Reason: "packet-too-large"}
	case !l.From.sends(p.Type):
		return protocol("wrong-direction")
	case p.Type != CONNECT && v != V311 && v != V5:
		return protocol("version-unknown")
	case p.Type == AUTH && v == V311:
		return malformed("type-reserved") // 3.1.1: table 2.1
	}
	c := cursor{b: b[1+size:]}
	d := decoder{cursor: &c, p: p, v: v, l: l}
	switch p.Type {
	case CONNECT:
		p.Connect.reset()
		d.connect()
	case CONNACK:
		d.connack()
	case PUBLISH:
		p.Dup, p.QoS, p.Retain = first&8 != 0, QoS(first>>1&3), first&1 != 0
		d.publish()
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		d.ack()
	case SUBSCRIBE, UNSUBSCRIBE:
		d.filters()
	case SUBACK, UNSUBACK:
		d.codes()
	case DISCONNECT, AUTH:
		d.end()
	}
	if c.err == nil && len(c.b) > 0 {
		return malformed("trailing-bytes")
	}
	return c.err
}

// decoder reads the fields of one packet.
type decoder struct {
	*cursor
	p *Packet
	v Version
	l *Limits
}

func (d *decoder) connect() {
	name, level := d.data(), d.u8()
	if d.err != nil {
		return
	}
	co := &d.p.Connect
	if string(name) != "MQTT" { // [MQTT-3.1.2-1]
		d.fail(&Error{Code: UnsupportedProtocolVersion, Reason: "protocol-name"})
		if string(name) == "MQIsdp" { // MQTT 3.1, which reads 3.1.1's CONNACK
			co.Version = V311
		}
		return
	}
	switch {
	case Version(level) == V311, Version(level) == V5:
		co.Version = Version(level)
	case level < byte(V311):
		co.Version = V311
	default:
		co.Version = V5
	}
	d.v = co.Version
	if Version(level) != co.Version {
		d.fail(&Error{Code: UnsupportedProtocolVersion, Reason: "protocol-level"}) // [MQTT-3.1.2-2]
		return
	}
	flags := d.u8()
	co.KeepAlive = d.u16()
	if d.err != nil {
		return
	}
	if e := checkConnectFlags(d.v, flags); e != nil {
		d.fail(e)
		return
	}
	co.CleanStart, co.HasWill = flags&0x02 != 0, flags&0x04 != 0
	co.HasPassword, co.HasUsername = flags&0x40 != 0, flags&0x80 != 0
	if d.v == V5 {
		d.properties(&d.p.Props, 1<<CONNECT)
	}
	co.ClientID = d.text() // [MQTT-3.1.3-1], [MQTT-3.1.3-4]
	switch {
	case d.err != nil:
		return
	case len(co.ClientID) > orDefault(d.l.MaxClientID, DefaultMaxClientID):
		d.fail(&Error{Code: ClientIDNotValid, Reason: "client-id-too-long"})
		return
	case len(co.ClientID) == 0 && !co.CleanStart && d.v == V311:
		// 3.1.1: [MQTT-3.1.3-8]
		d.fail(&Error{Code: ClientIDNotValid, Reason: "client-id-empty"})
		return
	}
	if co.HasWill {
		w := &co.Will
		w.QoS, w.Retain = QoS(flags>>3&3), flags&0x20 != 0
		if d.v == V5 {
			d.properties(&w.Props, inWill)
		}
		w.Topic = d.topic() // [MQTT-3.1.3-11]
		w.Payload = d.data()
	}
	if co.HasUsername {
		co.Username = d.text() // [MQTT-3.1.3-12]
	}
	if co.HasPassword {
		co.Password = d.data()
	}
}

// checkConnectFlags holds section 3.1.2.3 to 3.1.2.9.
func checkConnectFlags(v Version, flags byte) *Error {
	will, willQoS, willRetain := flags&0x04 != 0, flags>>3&3, flags&0x20 != 0
	switch {
	case flags&0x01 != 0:
		return malformed("connect-reserved-flag") // [MQTT-3.1.2-3]
	case willQoS == 3:
		return malformed("will-qos-3") // [MQTT-3.1.2-12]
	case !will && (willQoS != 0 || willRetain):
		return malformed("will-flags-without-will") // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
	case v == V311 && flags&0xc0 == 0x40:
		return malformed("password-without-username") // 3.1.1: [MQTT-3.1.2-22]
	}
	return nil
}

func (d *decoder) connack() {
	p := d.p
	flags := d.u8()
	p.Code = ReasonCode(d.u8())
	switch {
	case d.err != nil:
		return
	case flags > 1:
		d.fail(malformed("connack-flags")) // [MQTT-3.2.2-1]
		return
	case flags == 1 && p.Code != Success:
		d.fail(protocol("session-present-with-refusal")) // [MQTT-3.2.2-6]; 3.1.1: [MQTT-3.2.2-4]
		return
	case d.v == V311 && p.Code > NotAuthorized311:
		d.fail(protocol("reason-code")) // 3.1.1: table 3.1
		return
	}
	p.SessionPresent = flags == 1
	if d.v == V5 {
		d.checkCode(p.Code)
		d.properties(&p.Props, 1<<CONNACK)
	}
}

func (d *decoder) publish() {
	p := d.p
	if d.v == V311 {
		p.Topic = d.topic()
	} else {
		p.Topic = d.data()
	}
	if p.QoS > 0 {
		p.ID = d.id()
	}
	if d.v == V5 {
		d.properties(&p.Props, 1<<PUBLISH)
		if d.err != nil {
			return
		}
		if len(p.Topic) == 0 {
			if _, alias := p.Props.Number(PropTopicAlias); !alias {
				d.fail(protocol("topic-empty-without-alias")) // section 3.3.2.1
				return
			}
		} else if e := checkTopicName(p.Topic, d.maxTopic()); e != nil {
			d.fail(e)
			return
		}
	}
	p.Payload = d.take(len(d.b))
}

// ack reads PUBACK, PUBREC, PUBREL and PUBCOMP. In 5.0 the code and the
// properties may be left out (section 3.4.2.1).
func (d *decoder) ack() {
	d.p.ID = d.id()
	if d.err != nil || d.v == V311 || len(d.b) == 0 {
		return
	}
	d.p.Code = ReasonCode(d.u8())
	d.checkCode(d.p.Code)
	if len(d.b) > 0 {
		d.properties(&d.p.Props, 1<<d.p.Type)
	}
}

func (d *decoder) filters() {
	p := d.p
	p.ID = d.id()
	if d.v == V5 {
		d.properties(&p.Props, 1<<p.Type)
	}
	limit := orDefault(d.l.MaxFilters, DefaultMaxFilters)
	for d.err == nil && len(d.b) > 0 {
		if len(p.Filters) == limit {
			d.fail(&Error{Code: QuotaExceeded, Reason: "too-many-filters"})
			return
		}
		f := Filter{Topic: d.data()}
		if d.err == nil {
			d.fail(checkFilter(d.v, f.Topic, d.maxTopic()))
		}
		if p.Type == SUBSCRIBE {
			o := d.u8()
			f.QoS, f.NoLocal, f.RetainAsPublished, f.RetainHandling = QoS(o&3), o&4 != 0, o&8 != 0, o>>4&3
			if d.err == nil {
				d.fail(checkOptions(d.v, o, f.Topic))
			}
		}
		p.Filters = append(p.Filters, f)
	}
	if d.err == nil && len(p.Filters) == 0 {
		d.fail(protocol("no-filters")) // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
	}
}

// checkOptions holds section 3.8.3.1; 3.1.1: [MQTT-3-8.3-4].
func checkOptions(v Version, o byte, filter []byte) *Error {
	switch {
	case v == V311 && o > 2, o&0xc0 != 0:
		return malformed("subscribe-options") // [MQTT-3.8.3-5]
	case o&3 == 3:
		return protocol("subscribe-qos-3")
	case o>>4&3 == 3:
		return protocol("retain-handling-3")
	case o&4 != 0 && len(filter) > 7 && string(filter[:7]) == "$share/":
		return protocol("no-local-on-shared") // [MQTT-3.8.3-4]
	}
	return nil
}

func (d *decoder) codes() {
	p := d.p
	p.ID = d.id()
	if d.v == V5 {
		d.properties(&p.Props, 1<<p.Type)
	} else if p.Type == UNSUBACK {
		return // 3.1.1: section 3.11.3, no payload
	}
	limit := orDefault(d.l.MaxFilters, DefaultMaxFilters)
	for d.err == nil && len(d.b) > 0 {
		if len(p.Codes) == limit {
			d.fail(&Error{Code: QuotaExceeded, Reason: "too-many-codes"})
			return
		}
		c := ReasonCode(d.u8())
		if d.v == V311 && c > GrantedQoS2 && c != UnspecifiedError {
			d.fail(protocol("reason-code")) // 3.1.1: [MQTT-3.9.3-2]
		} else if d.v == V5 {
			d.checkCode(c)
		}
		p.Codes = append(p.Codes, c)
	}
	if d.err == nil && len(p.Codes) == 0 {
		d.fail(protocol("no-codes")) // [MQTT-3.9.3-1], [MQTT-3.11.3-1]
	}
}

// end reads DISCONNECT and AUTH. In 5.0 all may be left out (sections 3.14.2.1
// and 3.15.2.1); in 3.1.1 there is nothing.
func (d *decoder) end() {
	p := d.p
	if d.v == V311 || len(d.b) == 0 {
		return
	}
	p.Code = ReasonCode(d.u8())
	d.checkCode(p.Code)
	if len(d.b) > 0 || p.Type == AUTH {
		d.properties(&p.Props, 1<<p.Type)
	}
	if d.err == nil && p.Type == AUTH {
		d.fail(checkAuth(p))
	}
}

// checkAuth: an AUTH names its method (section 3.15.2.2.2), unless it says
// nothing at all (section 3.15.2.1).
func checkAuth(p *Packet) *Error {
	if _, ok := p.Props.Data(PropAuthMethod); !ok && (p.Code != Success || !p.Props.empty()) {
		return protocol("auth-without-method")
	}
	return nil
}

func (d *decoder) checkCode(c ReasonCode) {
	if d.err == nil && !codeAllowed(d.p.Type, d.l.From.mask(), c) {
		// [MQTT-3.4.2-1] and its likes: one of the table.
		d.fail(protocol("reason-code"))
	}
}

func (d *decoder) maxTopic() int { return orDefault(d.l.MaxTopic, DefaultMaxTopic) }

func (d *decoder) topic() []byte {
	v := d.data()
	if d.err == nil {
		d.fail(checkTopicName(v, d.maxTopic()))
	}
	return v
}

// properties reads a property length and that many bytes of properties, all
// of which must be allowed in place (section 2.2.2).
func (d *decoder) properties(into *Properties, place uint16) {
	n := d.varint()
	if d.err != nil {
		return
	}
	c := cursor{b: d.take(int(n))}
	if d.err != nil {
		return
	}
	limit := orDefault(d.l.MaxUserProps, DefaultMaxUserProps)
	for c.err == nil && len(c.b) > 0 {
		id := c.u8() // a variable byte integer, of which all defined values fit one byte
		switch id {
		case propUser:
			u := UserProperty{Name: c.text(), Value: c.text()}
			if len(into.User) == limit {
				c.fail(&Error{Code: QuotaExceeded, Reason: "too-many-user-properties"})
			}
			into.User = append(into.User, u)
		case propSubscriptionID:
			v := c.varint()
			switch {
			case c.err != nil:
			case place&(1<<PUBLISH|1<<SUBSCRIBE) == 0:
				c.fail(malformed("property-misplaced"))
			case v == 0:
				c.fail(protocol("property-zero")) // section 3.8.2.1.2
			case len(into.SubscriptionIDs) == limit:
				c.fail(&Error{Code: QuotaExceeded, Reason: "too-many-subscription-ids"})
			default:
				into.SubscriptionIDs = append(into.SubscriptionIDs, v)
			}
		default:
			c.property(into, id, place, d.maxTopic())
		}
	}
	if c.err == nil {
		c.err = into.check(d.p.Type, d.l.From.mask())
	}
	d.fail(c.err)
}

// property reads the value of a property that may come once.
func (c *cursor) property(into *Properties, id uint8, place uint16, maxTopic int) {
	s, ok := specOf(id)
	switch {
	case !ok:
		c.fail(malformed("property-unknown"))
		return
	case s.in&place == 0:
		c.fail(malformed("property-misplaced")) // section 2.2.2.2
		return
	case into.set&(1<<id) != 0:
		c.fail(protocol("property-twice"))
		return
	}
	var e *Error
	if s.kind <= kindUint32 {
		var n uint32
		switch s.kind {
		case kindFlag:
			n = uint32(c.u8())
		case kindUint16:
			n = uint32(c.u16())
		default:
			n = c.u32()
		}
		into.numbers[s.slot] = n
		e = s.checkNumber(id, n)
	} else {
		data := c.data()
		into.data[s.slot] = data
		e = s.checkData(data, maxTopic)
	}
	c.fail(e)
	into.set |= 1 << id
}
