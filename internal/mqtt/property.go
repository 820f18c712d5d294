package mqtt

// NumberProperty is a property whose value is a number.
type NumberProperty uint8

// The properties with a number (section 2.2.2.2). Times are in seconds.
const (
	PropPayloadFormat       NumberProperty = 1 // 1: the payload is UTF-8
	PropMessageExpiry       NumberProperty = 2
	PropSessionExpiry       NumberProperty = 17
	PropServerKeepAlive     NumberProperty = 19
	PropRequestProblemInfo  NumberProperty = 23
	PropWillDelay           NumberProperty = 24
	PropRequestResponseInfo NumberProperty = 25
	PropReceiveMaximum      NumberProperty = 33
	PropTopicAliasMaximum   NumberProperty = 34
	PropTopicAlias          NumberProperty = 35
	PropMaximumQoS          NumberProperty = 36
	PropRetainAvailable     NumberProperty = 37
	PropMaximumPacketSize   NumberProperty = 39 // bytes
	PropWildcardSubs        NumberProperty = 40
	PropSubscriptionIDs     NumberProperty = 41 // whether they are available
	PropSharedSubs          NumberProperty = 42
)

// DataProperty is a property whose value is text or bytes.
type DataProperty uint8

// The properties with text or bytes.
const (
	PropContentType      DataProperty = 3
	PropResponseTopic    DataProperty = 8
	PropCorrelationData  DataProperty = 9 // bytes
	PropAssignedClientID DataProperty = 18
	PropAuthMethod       DataProperty = 21
	PropAuthData         DataProperty = 22 // bytes
	PropResponseInfo     DataProperty = 26
	PropServerReference  DataProperty = 28
	PropReasonString     DataProperty = 31
)

// The two properties that may come more than once; they have fields of their
// own in Properties.
const (
	propSubscriptionID = 11
	propUser           = 38
	lastProperty       = 42
)

// UserProperty is a name and a value that the standard gives no meaning.
type UserProperty struct{ Name, Value []byte }

// Properties are those of one 5.0 packet or will.
type Properties struct {
	set     uint64 // bit i: property i is there
	numbers [16]uint32
	data    [9][]byte

	// User are the user properties, in order.
	User []UserProperty

	// SubscriptionIDs are the subscription identifiers: in a SUBSCRIBE at most
	// one; in a PUBLISH from a server one per matching subscription.
	SubscriptionIDs []uint32
}

// Reset takes every property out.
func (p *Properties) Reset() {
	p.set = 0
	p.User, p.SubscriptionIDs = p.User[:0], p.SubscriptionIDs[:0]
}

// Number is the value of a property and whether it is there.
func (p *Properties) Number(id NumberProperty) (uint32, bool) {
	s, ok := specOf(uint8(id))
	if !ok || s.kind > kindUint32 || p.set&(1<<id) == 0 {
		return 0, false
	}
	return p.numbers[s.slot], true
}

// NumberOr is the value of a property, or def when it is not there.
func (p *Properties) NumberOr(id NumberProperty, def uint32) uint32 {
	if v, ok := p.Number(id); ok {
		return v
	}
	return def
}

// SetNumber puts a property in. Append refuses a value that does not fit.
func (p *Properties) SetNumber(id NumberProperty, v uint32) {
	if s, ok := specOf(uint8(id)); ok && s.kind <= kindUint32 {
		p.numbers[s.slot] = v
		p.set |= 1 << id
	}
}

// Data is the value of a property and whether it is there.
func (p *Properties) Data(id DataProperty) ([]byte, bool) {
	s, ok := specOf(uint8(id))
	if !ok || s.kind < kindText || p.set&(1<<id) == 0 {
		return nil, false
	}
	return p.data[s.slot], true
}

// SetData puts a property in. It keeps v, it does not copy it.
func (p *Properties) SetData(id DataProperty, v []byte) {
	if s, ok := specOf(uint8(id)); ok && s.kind >= kindText {
		p.data[s.slot] = v
		p.set |= 1 << id
	}
}

func (p *Properties) empty() bool {
	return p.set == 0 && len(p.User) == 0 && len(p.SubscriptionIDs) == 0
}

type kind uint8

const (
	kindFlag kind = iota // a byte that is 0 or 1
	kindUint16
	kindUint32
	kindText
	kindTopic // text that is a topic name
	kindBytes
)

type spec struct {
	kind    kind
	slot    uint8  // in numbers or data
	nonzero bool   // 0 is a protocol error
	in      uint16 // bit t: allowed in packets of type t; bit 0: in a will
}

const inWill = 1

// specOf is the row of table 2-4 for a property other than the two that may
// repeat.
func specOf(id uint8) (spec, bool) {
	const (
		connect    = 1 << CONNECT
		connack    = 1 << CONNACK
		publish    = 1 << PUBLISH
		disconnect = 1 << DISCONNECT
		auth       = 1 << AUTH
		acks       = 1<<PUBACK | 1<<PUBREC | 1<<PUBREL | 1<<PUBCOMP | 1<<SUBACK | 1<<UNSUBACK
		message    = publish | inWill
	)
	switch id {
	case uint8(PropPayloadFormat):
		return spec{kindFlag, 0, false, message}, true
	case uint8(PropMessageExpiry):
		return spec{kindUint32, 1, false, message}, true
	case uint8(PropSessionExpiry):
		return spec{kindUint32, 2, false, connect | connack | disconnect}, true
	case uint8(PropServerKeepAlive):
		return spec{kindUint16, 3, false, connack}, true
	case uint8(PropRequestProblemInfo):
		return spec{kindFlag, 4, false, connect}, true
	case uint8(PropWillDelay):
		return spec{kindUint32, 5, false, inWill}, true
	case uint8(PropRequestResponseInfo):
		return spec{kindFlag, 6, false, connect}, true
	case uint8(PropReceiveMaximum):
		return spec{kindUint16, 7, true, connect | connack}, true
	case uint8(PropTopicAliasMaximum):
		return spec{kindUint16, 8, false, connect | connack}, true
	case uint8(PropTopicAlias):
		return spec{kindUint16, 9, true, publish}, true
	case uint8(PropMaximumQoS):
		return spec{kindFlag, 10, false, connack}, true
	case uint8(PropRetainAvailable):
		return spec{kindFlag, 11, false, connack}, true
	case uint8(PropMaximumPacketSize):
		return spec{kindUint32, 12, true, connect | connack}, true
	case uint8(PropWildcardSubs):
		return spec{kindFlag, 13, false, connack}, true
	case uint8(PropSubscriptionIDs):
		return spec{kindFlag, 14, false, connack}, true
	case uint8(PropSharedSubs):
		return spec{kindFlag, 15, false, connack}, true
	case uint8(PropContentType):
		return spec{kindText, 0, false, message}, true
	case uint8(PropResponseTopic):
		return spec{kindTopic, 1, false, message}, true
	case uint8(PropCorrelationData):
		return spec{kindBytes, 2, false, message}, true
	case uint8(PropAssignedClientID):
		return spec{kindText, 3, false, connack}, true
	case uint8(PropAuthMethod):
		return spec{kindText, 4, false, connect | connack | auth}, true
	case uint8(PropAuthData):
		return spec{kindBytes, 5, false, connect | connack | auth}, true
	case uint8(PropResponseInfo):
		return spec{kindText, 6, false, connack}, true
	case uint8(PropServerReference):
		return spec{kindText, 7, false, connack | disconnect}, true
	case uint8(PropReasonString):
		return spec{kindText, 8, false, connack | disconnect | auth | acks}, true
	}
	return spec{}, false
}

// checkNumber says what is wrong with v as the value of property id.
func (s spec) checkNumber(id uint8, v uint32) *Error {
	switch {
	case s.kind == kindFlag && v > 1:
		return protocol("property-flag-value") // sections 3.1.2.11.6, 3.2.2.3 and others
	case s.kind == kindUint16 && v > 0xffff:
		return malformed("property-number-range")
	case s.nonzero && v == 0 && id == uint8(PropTopicAlias):
		return &Error{Code: TopicAliasInvalid, Reason: "topic-alias-zero"} // [MQTT-3.3.2-8]
	case s.nonzero && v == 0:
		return protocol("property-zero") // sections 3.1.2.11.3, 3.1.2.11.4
	}
	return nil
}

// checkData says what is wrong with v as the value of a text or byte property.
func (s spec) checkData(v []byte, maxTopic int) *Error {
	switch s.kind {
	case kindText:
		if !validText(v) {
			return malformed("not-utf8") // [MQTT-1.5.4-1], [MQTT-1.5.4-2]
		}
	case kindTopic:
		return checkTopicName(v, maxTopic) // [MQTT-3.3.2-13], [MQTT-3.3.2-14]
	}
	return nil
}

// check holds the rules that join several properties of one packet.
func (p *Properties) check(t Type, from uint8) *Error {
	const method, data = 1 << PropAuthMethod, 1 << PropAuthData
	if p.set&data != 0 && p.set&method == 0 {
		return protocol("auth-data-without-method") // section 3.1.2.11.10
	}
	switch t {
	case PUBLISH:
		// [MQTT-3.3.4-6]: a client never sends a subscription identifier.
		if len(p.SubscriptionIDs) > 0 && from == fromClient {
			return protocol("subscription-id-from-client")
		}
	case SUBSCRIBE:
		if len(p.SubscriptionIDs) > 1 {
			return protocol("property-twice") // section 3.8.2.1.2
		}
	case DISCONNECT:
		if p.set&(1<<PropSessionExpiry) != 0 && from == fromServer {
			return protocol("session-expiry-from-server") // [MQTT-3.14.2-2]
		}
		if p.set&(1<<PropServerReference) != 0 && from == fromClient {
			return protocol("server-reference-from-client") // section 3.14.2.2.5
		}
	}
	return nil
}
