package mqtt

// SessionState says in a CONNACK whether the server has kept a session.
type SessionState uint8

// The two states of a session.
const (
	NewSession SessionState = iota
	KeptSession
)

// AppendConnack writes a CONNACK. For 3.1.1, code is translated by Return311
// and props must be nil or empty. A refusal never says that a session is
// present.
func AppendConnack(dst []byte, v Version, code ReasonCode, s SessionState, props *Properties) ([]byte, error) {
	p := Packet{Type: CONNACK, Code: code, SessionPresent: s == KeptSession && code == Success}
	if v == V311 {
		p.Code = Return311(code)
	}
	if props != nil {
		p.Props = *props
	}
	return Append(dst, v, &p)
}

// AppendPuback writes a PUBACK. 3.1.1 has no reason codes: there, whatever
// code is, the peer reads success. So a refusal may be written for 3.1.1 only
// once it needs no repetition.
func AppendPuback(dst []byte, v Version, id uint16, code ReasonCode) []byte {
	return appendAck(dst, byte(PUBACK)<<4, v, id, code)
}

// AppendPubrec writes a PUBREC; see AppendPuback about 3.1.1.
func AppendPubrec(dst []byte, v Version, id uint16, code ReasonCode) []byte {
	return appendAck(dst, byte(PUBREC)<<4, v, id, code)
}

// AppendPubrel writes a PUBREL.
func AppendPubrel(dst []byte, v Version, id uint16, code ReasonCode) []byte {
	return appendAck(dst, byte(PUBREL)<<4|2, v, id, code)
}

// AppendPubcomp writes a PUBCOMP.
func AppendPubcomp(dst []byte, v Version, id uint16, code ReasonCode) []byte {
	return appendAck(dst, byte(PUBCOMP)<<4, v, id, code)
}

func appendAck(dst []byte, first byte, v Version, id uint16, code ReasonCode) []byte {
	if v == V311 || code == Success {
		return append(dst, first, 2, byte(id>>8), byte(id))
	}
	return append(dst, first, 3, byte(id>>8), byte(id), byte(code))
}

// AppendPingreq writes a PINGREQ.
func AppendPingreq(dst []byte) []byte { return append(dst, byte(PINGREQ)<<4, 0) }

// AppendPingresp writes a PINGRESP.
func AppendPingresp(dst []byte) []byte { return append(dst, byte(PINGRESP)<<4, 0) }

// AppendDisconnect writes a DISCONNECT. 3.1.1 has no reason in it, and a 3.1.1
// server sends none.
func AppendDisconnect(dst []byte, v Version, code ReasonCode) []byte {
	if v == V311 || code == Success {
		return append(dst, byte(DISCONNECT)<<4, 0)
	}
	return append(dst, byte(DISCONNECT)<<4, 1, byte(code))
}

// AppendPublish writes a PUBLISH without properties, neither retained nor a
// duplicate. id is ignored at QoS 0.
func AppendPublish(dst []byte, v Version, topic, payload []byte, qos QoS, id uint16) ([]byte, error) {
	switch {
	case v != V311 && v != V5:
		return dst, protocol("version-unknown")
	case qos > ExactlyOnce:
		return dst, malformed("qos-3")
	case qos > AtMostOnce && id == 0:
		return dst, malformed("packet-id-zero")
	}
	if e := checkTopicName(topic, 0xffff); e != nil {
		return dst, e
	}
	n := 2 + len(topic) + len(payload)
	if qos > AtMostOnce {
		n += 2
	}
	if v == V5 {
		n++
	}
	if n > maxRemaining {
		return dst, &Error{Code: PacketTooLarge, Reason: "packet-too-large"}
	}
	dst = appendVarint(append(dst, byte(PUBLISH)<<4|byte(qos)<<1), uint32(n))
	dst = append(append(dst, byte(len(topic)>>8), byte(len(topic))), topic...)
	if qos > AtMostOnce {
		dst = append(dst, byte(id>>8), byte(id))
	}
	if v == V5 {
		dst = append(dst, 0)
	}
	return append(dst, payload...), nil
}
