package mqtt

// maxRemaining is the largest remaining length that four bytes can say
// (section 2.1.4).
const maxRemaining = 268_435_455

// Frame reads the fixed header at the start of b and returns the length of the
// first packet, header included, once all of it is in b; 0 while more bytes
// are needed. It refuses as early as it can: a type that does not exist, wrong
// header flags, a length of more than four bytes or longer than it needs to
// be, and a packet of more than limit bytes (0: DefaultMaxPacket).
func Frame(b []byte, limit int) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if e := checkHeader(b[0]); e != nil {
		return 0, e
	}
	remaining, size, e := varint(b[1:])
	if e != nil {
		return 0, e
	}
	if size == 0 {
		return 0, nil
	}
	n := 1 + size + int(remaining)
	if n > orDefault(limit, DefaultMaxPacket) {
		return 0, &Error{Code: PacketTooLarge, Reason: "packet-too-large"} // [MQTT-3.1.2-24]
	}
	if len(b) < n {
		return 0, nil
	}
	return n, nil
}

// checkHeader holds tables 2-1 and 2-2: which types exist, and which flags
// each must have [MQTT-2.1.3-1]. AUTH is refused for 3.1.1 by Decode.
func checkHeader(first byte) *Error {
	t, flags := Type(first>>4), first&0x0f
	switch t {
	case 0:
		return malformed("type-reserved")
	case PUBLISH:
		qos := flags >> 1 & 3
		if qos == 3 {
			return malformed("qos-3") // [MQTT-3.3.1-4]
		}
		if qos == 0 && flags&8 != 0 {
			return malformed("dup-at-qos-0") // [MQTT-3.3.1-2]
		}
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		if flags != 2 { // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1]
			return malformed("header-flags")
		}
	default:
		if flags != 0 {
			return malformed("header-flags")
		}
	}
	return nil
}

// varint reads a variable byte integer. size is 0 while bytes are missing.
// An encoding longer than needed is refused [MQTT-1.5.5-1]; 3.1.1 does not ask
// for that, but no client is known to write one.
func varint(b []byte) (v uint32, size int, e *Error) {
	for i := range 4 {
		if i >= len(b) {
			return 0, 0, nil
		}
		v |= uint32(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			if i > 0 && b[i] == 0 {
				return 0, 0, malformed("length-not-minimal")
			}
			return v, i + 1, nil
		}
	}
	return 0, 0, malformed("length-over-4-bytes")
}

func varintSize(v uint32) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	default:
		return 4
	}
}

func appendVarint(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// cursor walks over the bytes of one packet. After the first fault every read
// gives zero values, so that callers check err once per group of fields; no
// read can pass the end.
type cursor struct {
	b   []byte
	err *Error
}

func (c *cursor) fail(e *Error) {
	if e == nil {
		return
	}
	if c.err == nil {
		c.err = e
	}
	c.b = nil
}

func (c *cursor) take(n int) []byte {
	if c.err != nil || n > len(c.b) {
		c.fail(malformed("truncated"))
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) u8() byte {
	if v := c.take(1); len(v) == 1 {
		return v[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if v := c.take(2); len(v) == 2 {
		return uint16(v[0])<<8 | uint16(v[1])
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if v := c.take(4); len(v) == 4 {
		return uint32(v[0])<<24 | uint32(v[1])<<16 | uint32(v[2])<<8 | uint32(v[3])
	}
	return 0
}

func (c *cursor) varint() uint32 {
	v, size, e := varint(c.b)
	if e != nil {
		c.fail(e)
		return 0
	}
	if size == 0 {
		c.fail(malformed("truncated"))
		return 0
	}
	c.b = c.b[size:]
	return v
}

// data reads bytes after their two-byte length.
func (c *cursor) data() []byte { return c.take(int(c.u16())) }

// text reads a UTF-8 string.
func (c *cursor) text() []byte {
	v := c.data()
	if c.err == nil && !validText(v) {
		c.fail(malformed("not-utf8"))
	}
	return v
}

// id reads a packet identifier, which is never 0 [MQTT-2.2.1-3], [MQTT-2.2.1-4];
// 3.1.1: [MQTT-2.3.1-1].
func (c *cursor) id() uint16 {
	v := c.u16()
	if c.err == nil && v == 0 {
		c.fail(malformed("packet-id-zero"))
	}
	return v
}
