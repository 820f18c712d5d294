package mqtt

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

type malformedCase struct {
	name   string
	v      Version
	from   Sender
	in     []byte
	code   ReasonCode
	reason string
}

// raw builds a packet: the first byte, the remaining length, the parts.
func raw(first byte, parts ...any) []byte {
	body := join(parts...)
	return append(appendVarint([]byte{first}, uint32(len(body))), body...)
}

// join puts parts together: int is a byte, string a length-prefixed text,
// []byte stands for itself.
func join(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case string:
			b = append(append(b, byte(len(p)>>8), byte(len(p))), p...)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

// props is a property length and the properties.
func props(parts ...any) []byte {
	b := join(parts...)
	return append(appendVarint(nil, uint32(len(b))), b...)
}

func malformedCases() []malformedCase {
	const mqtt5, mqtt4 = "\x00\x04MQTT\x05", "\x00\x04MQTT\x04"
	head5, head4 := []byte(mqtt5), []byte(mqtt4)
	long := strings.Repeat("x", 1025)
	return []malformedCase{
		// Fixed header, section 2.1.
		{"nothing", V5, Anyone, nil, MalformedPacket, "truncated"},
		{"type 0", V5, Anyone, []byte{0x00, 0}, MalformedPacket, "type-reserved"},
		{"type 15 in 3.1.1", V311, Anyone, []byte{0xf0, 0}, MalformedPacket, "type-reserved"},
		{"CONNECT with header flags", V5, Anyone, []byte{0x11, 0}, MalformedPacket, "header-flags"},
		{"PINGREQ with header flags", V5, Anyone, []byte{0xc1, 0}, MalformedPacket, "header-flags"},
		{"SUBSCRIBE without header flags", V5, Anyone, raw(0x80, 0, 1, 0, "a", 0), MalformedPacket, "header-flags"},
		{"UNSUBSCRIBE without header flags", V5, Anyone, raw(0xa0, 0, 1, 0, "a"), MalformedPacket, "header-flags"},
		{"PUBREL without header flags", V5, Anyone, raw(0x60, 0, 1), MalformedPacket, "header-flags"},
		{"length not minimal", V5, Anyone, []byte{0xc0, 0x80, 0x00}, MalformedPacket, "length-not-minimal"},
		{"length over 4 bytes", V5, Anyone, []byte{0xc0, 0xff, 0xff, 0xff, 0xff, 0x01}, MalformedPacket, "length-over-4-bytes"},
		{"body cut off", V5, Anyone, []byte{0xe0, 5, 0}, MalformedPacket, "truncated"},
		{"bytes after the packet", V5, Anyone, []byte{0xc0, 0, 0}, MalformedPacket, "trailing-bytes"},
		{"PINGREQ with a body", V5, Anyone, raw(0xc0, 1), MalformedPacket, "trailing-bytes"},
		{"3.1.1 DISCONNECT with a body", V311, Anyone, raw(0xe0, 0), MalformedPacket, "trailing-bytes"},
		{"larger than allowed", V5, Anyone, raw(0x30, "a", 0, make([]byte, DefaultMaxPacket)), PacketTooLarge, "packet-too-large"},
		{"version never said", 3, Anyone, []byte{0xc0, 0}, ProtocolError, "version-unknown"},

		// Direction, table 2-1.
		{"CONNACK from a client", V5, Client, raw(0x20, 0, 0, 0), ProtocolError, "wrong-direction"},
		{"SUBACK from a client", V5, Client, raw(0x90, 0, 1, 0, 0), ProtocolError, "wrong-direction"},
		{"PINGRESP from a client", V5, Client, []byte{0xd0, 0}, ProtocolError, "wrong-direction"},
		{"CONNECT from a server", V5, Server, raw(0x10, head5, 2, 0, 0, 0, ""), ProtocolError, "wrong-direction"},
		{"SUBSCRIBE from a server", V5, Server, raw(0x82, 0, 1, 0, "a", 0), ProtocolError, "wrong-direction"},

		// CONNECT, section 3.1.
		{"wrong protocol name", V5, Client, raw(0x10, "MQTX", 5, 2, 0, 0, 0, ""), UnsupportedProtocolVersion, "protocol-name"},
		{"MQTT 3.1", V5, Client, raw(0x10, "MQIsdp", 3, 2, 0, 0, "a"), UnsupportedProtocolVersion, "protocol-name"},
		{"protocol level 6", V5, Client, raw(0x10, "MQTT", 6, 2, 0, 0, 0, ""), UnsupportedProtocolVersion, "protocol-level"},
		{"protocol level 3", V5, Client, raw(0x10, "MQTT", 3, 2, 0, 0, "a"), UnsupportedProtocolVersion, "protocol-level"},
		{"reserved connect flag", V5, Client, raw(0x10, head5, 3, 0, 0, 0, ""), MalformedPacket, "connect-reserved-flag"},
		{"3.1.1 reserved connect flag", V311, Client, raw(0x10, head4, 3, 0, 0, "a"), MalformedPacket, "connect-reserved-flag"},
		{"will QoS without will", V5, Client, raw(0x10, head5, 0x0a, 0, 0, 0, ""), MalformedPacket, "will-flags-without-will"},
		{"will retain without will", V311, Client, raw(0x10, head4, 0x22, 0, 0, "a"), MalformedPacket, "will-flags-without-will"},
		{"will QoS 3", V5, Client, raw(0x10, head5, 0x1e, 0, 0, 0, "", 0, "t", "p"), MalformedPacket, "will-qos-3"},
		{"3.1.1 password without user", V311, Client, raw(0x10, head4, 0x42, 0, 0, "a", "pw"), MalformedPacket, "password-without-username"},
		{"3.1.1 empty client id, kept session", V311, Client, raw(0x10, head4, 0, 0, 0, ""), ClientIDNotValid, "client-id-empty"},
		{"client id too long", V5, Client, raw(0x10, head5, 2, 0, 0, 0, strings.Repeat("i", 257)), ClientIDNotValid, "client-id-too-long"},
		{"client id not UTF-8", V5, Client, raw(0x10, head5, 2, 0, 0, 0, "a\xff"), MalformedPacket, "not-utf8"},
		{"client id with U+0000", V311, Client, raw(0x10, head4, 2, 0, 0, "a\x00"), MalformedPacket, "not-utf8"},
		{"client id with a surrogate", V5, Client, raw(0x10, head5, 2, 0, 0, 0, "\xed\xa0\x80"), MalformedPacket, "not-utf8"},
		{"user name not UTF-8", V5, Client, raw(0x10, head5, 0x82, 0, 0, 0, "", "\xc0\xaf"), MalformedPacket, "not-utf8"},
		{"user name missing", V5, Client, raw(0x10, head5, 0x82, 0, 0, 0, ""), MalformedPacket, "truncated"},
		{"password missing", V5, Client, raw(0x10, head5, 0x42, 0, 0, 0, ""), MalformedPacket, "truncated"},
		{"will topic with a wildcard", V5, Client, raw(0x10, head5, 6, 0, 0, 0, "", 0, "a/#", ""), TopicNameInvalid, "topic-wildcard"},
		{"will topic empty", V311, Client, raw(0x10, head4, 6, 0, 0, "a", "", ""), TopicNameInvalid, "topic-empty"},
		{"bytes after the CONNECT", V311, Client, raw(0x10, head4, 2, 0, 0, "a", 0), MalformedPacket, "trailing-bytes"},
		{"receive maximum 0", V5, Client, raw(0x10, head5, 2, 0, 0, props(0x21, 0, 0), ""), ProtocolError, "property-zero"},
		{"maximum packet size 0", V5, Client, raw(0x10, head5, 2, 0, 0, props(0x27, 0, 0, 0, 0), ""), ProtocolError, "property-zero"},
		{"request problem information 2", V5, Client, raw(0x10, head5, 2, 0, 0, props(0x17, 2), ""), ProtocolError, "property-flag-value"},
		{"authentication data alone", V5, Client, raw(0x10, head5, 2, 0, 0, props(0x16, "d"), ""), ProtocolError, "auth-data-without-method"},
		{"session expiry twice", V5, Client, raw(0x10, head5, 2, 0, 0, props(0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1), ""), ProtocolError, "property-twice"},
		{"topic alias in CONNECT", V5, Client, raw(0x10, head5, 2, 0, 0, props(0x23, 0, 1), ""), MalformedPacket, "property-misplaced"},
		{"will delay outside of the will", V5, Client, raw(0x10, head5, 2, 0, 0, props(0x18, 0, 0, 0, 1), ""), MalformedPacket, "property-misplaced"},
		{"receive maximum in the will", V5, Client, raw(0x10, head5, 6, 0, 0, 0, "", props(0x21, 0, 1), "t", ""), MalformedPacket, "property-misplaced"},
		{"unknown property", V5, Client, raw(0x10, head5, 2, 0, 0, props(0x7f), ""), MalformedPacket, "property-unknown"},
		{"property 0", V5, Client, raw(0x10, head5, 2, 0, 0, props(0, 0), ""), MalformedPacket, "property-unknown"},
		{"properties longer than the packet", V5, Client, raw(0x10, head5, 2, 0, 0, 0x7f, ""), MalformedPacket, "truncated"},
		{"property value cut off", V5, Client, raw(0x10, head5, 2, 0, 0, props(0x11, 0, 0), ""), MalformedPacket, "truncated"},
		{"property length not minimal", V5, Client, raw(0x10, head5, 2, 0, 0, 0x80, 0, ""), MalformedPacket, "length-not-minimal"},
		{"too many user properties", V5, Client, raw(0x10, head5, 2, 0, 0, props(bytes.Repeat(join(0x26, "a", "b"), 17)), ""), QuotaExceeded, "too-many-user-properties"},
		{"user property not UTF-8", V5, Client, raw(0x10, head5, 2, 0, 0, props(0x26, "a", "\xfe"), ""), MalformedPacket, "not-utf8"},

		// CONNACK, section 3.2.
		{"reserved acknowledge flags", V5, Server, raw(0x20, 2, 0, 0), MalformedPacket, "connack-flags"},
		{"session present with a refusal", V5, Server, raw(0x20, 1, 0x87, 0), ProtocolError, "session-present-with-refusal"},
		{"3.1.1 session present with a refusal", V311, Server, raw(0x20, 1, 5), ProtocolError, "session-present-with-refusal"},
		{"3.1.1 return code 6", V311, Server, raw(0x20, 0, 6), ProtocolError, "reason-code"},
		{"CONNACK with a code of another packet", V5, Server, raw(0x20, 0, 0x8e, 0), ProtocolError, "reason-code"},
		{"3.1.1 CONNACK with properties", V311, Server, raw(0x20, 0, 0, 0), MalformedPacket, "trailing-bytes"},
		{"maximum QoS 2", V5, Server, raw(0x20, 0, 0, props(0x24, 2)), ProtocolError, "property-flag-value"},
		{"retain available 9", V5, Server, raw(0x20, 0, 0, props(0x25, 9)), ProtocolError, "property-flag-value"},
		{"CONNACK without its properties", V5, Server, raw(0x20, 0, 0), MalformedPacket, "truncated"},

		// PUBLISH, section 3.3.
		{"QoS 3", V5, Client, raw(0x36, "a", 0, 1, 0), MalformedPacket, "qos-3"},
		{"DUP at QoS 0", V5, Client, raw(0x38, "a", 0), MalformedPacket, "dup-at-qos-0"},
		{"packet id 0", V5, Client, raw(0x32, "a", 0, 0, 0), MalformedPacket, "packet-id-zero"},
		{"3.1.1 packet id 0", V311, Client, raw(0x34, "a", 0, 0), MalformedPacket, "packet-id-zero"},
		{"wildcard +", V5, Client, raw(0x30, "a/+", 0), TopicNameInvalid, "topic-wildcard"},
		{"3.1.1 wildcard #", V311, Client, raw(0x30, "#"), TopicNameInvalid, "topic-wildcard"},
		{"topic empty without alias", V5, Client, raw(0x30, "", 0), ProtocolError, "topic-empty-without-alias"},
		{"3.1.1 topic empty", V311, Client, raw(0x30, ""), TopicNameInvalid, "topic-empty"},
		{"topic alias 0", V5, Client, raw(0x30, "a", props(0x23, 0, 0)), TopicAliasInvalid, "topic-alias-zero"},
		{"topic with U+0000", V5, Client, raw(0x30, "a\x00b", 0), MalformedPacket, "not-utf8"},
		{"topic not UTF-8", V311, Client, raw(0x30, "a\xff"), MalformedPacket, "not-utf8"},
		{"topic with a surrogate", V311, Client, raw(0x30, "\xed\xbf\xbf"), MalformedPacket, "not-utf8"},
		{"topic too long", V5, Client, raw(0x30, long, 0), TopicNameInvalid, "topic-too-long"},
		{"topic longer than the packet", V5, Client, raw(0x30, 0xff, 0xff, 'a'), MalformedPacket, "truncated"},
		{"payload format 2", V5, Client, raw(0x30, "a", props(1, 2)), ProtocolError, "property-flag-value"},
		{"response topic with a wildcard", V5, Client, raw(0x30, "a", props(8, "r/+")), TopicNameInvalid, "topic-wildcard"},
		{"response topic empty", V5, Client, raw(0x30, "a", props(8, "")), TopicNameInvalid, "topic-empty"},
		{"content type not UTF-8", V5, Client, raw(0x30, "a", props(3, "\x80")), MalformedPacket, "not-utf8"},
		{"subscription id from a client", V5, Client, raw(0x30, "a", props(0x0b, 1)), ProtocolError, "subscription-id-from-client"},
		{"subscription id 0", V5, Server, raw(0x30, "a", props(0x0b, 0)), ProtocolError, "property-zero"},
		{"too many subscription ids", V5, Server, raw(0x30, "a", props(bytes.Repeat([]byte{0x0b, 1}, 17))), QuotaExceeded, "too-many-subscription-ids"},
		{"session expiry in PUBLISH", V5, Client, raw(0x30, "a", props(0x11, 0, 0, 0, 1)), MalformedPacket, "property-misplaced"},
		{"properties missing", V5, Client, raw(0x30, "a"), MalformedPacket, "truncated"},

		// PUBACK to PUBCOMP, sections 3.4 to 3.7.
		{"PUBACK id 0", V5, Anyone, raw(0x40, 0, 0), MalformedPacket, "packet-id-zero"},
		{"PUBACK without id", V5, Anyone, raw(0x40, 1), MalformedPacket, "truncated"},
		{"3.1.1 PUBACK with a code", V311, Anyone, raw(0x40, 0, 1, 0), MalformedPacket, "trailing-bytes"},
		{"PUBACK with a code of another packet", V5, Anyone, raw(0x40, 0, 1, 0x92), ProtocolError, "reason-code"},
		{"PUBREL with a code of another packet", V5, Anyone, raw(0x62, 0, 1, 0x10), ProtocolError, "reason-code"},
		{"PUBACK with a code that does not exist", V5, Anyone, raw(0x40, 0, 1, 0x7f), ProtocolError, "reason-code"},
		{"topic alias in PUBACK", V5, Anyone, raw(0x40, 0, 1, 0, props(0x23, 0, 1)), MalformedPacket, "property-misplaced"},
		{"reason string twice", V5, Anyone, raw(0x40, 0, 1, 0, props(0x1f, "a", 0x1f, "a")), ProtocolError, "property-twice"},
		{"bytes after the PUBACK", V5, Anyone, raw(0x40, 0, 1, 0, 0, 0), MalformedPacket, "trailing-bytes"},
		{"subscription id in PUBACK", V5, Anyone, raw(0x40, 0, 1, 0, props(0x0b, 1)), MalformedPacket, "property-misplaced"},

		// SUBSCRIBE and UNSUBSCRIBE, sections 3.8 and 3.10.
		{"SUBSCRIBE cut after the filter", V5, Client, raw(0x82, 0, 1, 0, "a"), MalformedPacket, "truncated"},
		{"SUBSCRIBE id 0", V5, Client, raw(0x82, 0, 0, 0, "a", 0), MalformedPacket, "packet-id-zero"},
		{"SUBSCRIBE to nothing", V5, Client, raw(0x82, 0, 1, 0), ProtocolError, "no-filters"},
		{"3.1.1 SUBSCRIBE to nothing", V311, Client, raw(0x82, 0, 1), ProtocolError, "no-filters"},
		{"UNSUBSCRIBE from nothing", V5, Client, raw(0xa2, 0, 1, 0), ProtocolError, "no-filters"},
		{"empty filter", V5, Client, raw(0x82, 0, 1, 0, "", 0), TopicFilterInvalid, "filter-empty"},
		{"a# in a filter", V5, Client, raw(0x82, 0, 1, 0, "a#", 0), TopicFilterInvalid, "filter-wildcard"},
		{"#/a in a filter", V311, Client, raw(0x82, 0, 1, "#/a", 0), TopicFilterInvalid, "filter-wildcard"},
		{"a+/b in a filter", V5, Client, raw(0xa2, 0, 1, 0, "a+/b"), TopicFilterInvalid, "filter-wildcard"},
		{"share name empty", V5, Client, raw(0x82, 0, 1, 0, "$share//a", 0), TopicFilterInvalid, "filter-share"},
		{"share name with a wildcard", V5, Client, raw(0x82, 0, 1, 0, "$share/+/a", 0), TopicFilterInvalid, "filter-share"},
		{"share without a filter", V5, Client, raw(0x82, 0, 1, 0, "$share/g", 0), TopicFilterInvalid, "filter-share"},
		{"share with an empty filter", V5, Client, raw(0x82, 0, 1, 0, "$share/g/", 0), TopicFilterInvalid, "filter-empty"},
		{"filter with U+0000", V5, Client, raw(0x82, 0, 1, 0, "a\x00", 0), MalformedPacket, "not-utf8"},
		{"filter too long", V5, Client, raw(0x82, 0, 1, 0, long, 0), TopicFilterInvalid, "filter-too-long"},
		{"too many filters", V5, Client, raw(0x82, 0, 1, 0, bytes.Repeat(join("a", 0), 17)), QuotaExceeded, "too-many-filters"},
		{"subscribe QoS 3", V5, Client, raw(0x82, 0, 1, 0, "a", 3), ProtocolError, "subscribe-qos-3"},
		{"3.1.1 subscribe QoS 3", V311, Client, raw(0x82, 0, 1, "a", 3), MalformedPacket, "subscribe-options"},
		{"3.1.1 no-local", V311, Client, raw(0x82, 0, 1, "a", 4), MalformedPacket, "subscribe-options"},
		{"reserved subscribe options", V5, Client, raw(0x82, 0, 1, 0, "a", 0x40), MalformedPacket, "subscribe-options"},
		{"retain handling 3", V5, Client, raw(0x82, 0, 1, 0, "a", 0x30), ProtocolError, "retain-handling-3"},
		{"no-local on a shared subscription", V5, Client, raw(0x82, 0, 1, 0, "$share/g/a", 4), ProtocolError, "no-local-on-shared"},
		{"two subscription ids", V5, Client, raw(0x82, 0, 1, props(0x0b, 1, 0x0b, 2), "a", 0), ProtocolError, "property-twice"},
		{"subscription id too long", V5, Client, raw(0x82, 0, 1, props(0x0b, 0xff, 0xff, 0xff, 0xff, 1), "a", 0), MalformedPacket, "length-over-4-bytes"},
		{"subscription id in UNSUBSCRIBE", V5, Client, raw(0xa2, 0, 1, props(0x0b, 1), "a"), MalformedPacket, "property-misplaced"},

		// SUBACK and UNSUBACK, sections 3.9 and 3.11.
		{"SUBACK without codes", V5, Server, raw(0x90, 0, 1, 0), ProtocolError, "no-codes"},
		{"SUBACK with code 3", V5, Server, raw(0x90, 0, 1, 0, 3), ProtocolError, "reason-code"},
		{"3.1.1 SUBACK with code 0x87", V311, Server, raw(0x90, 0, 1, 0x87), ProtocolError, "reason-code"},
		{"SUBACK with too many codes", V5, Server, raw(0x90, 0, 1, 0, make([]byte, 17)), QuotaExceeded, "too-many-codes"},
		{"UNSUBACK without codes", V5, Server, raw(0xb0, 0, 1, 0), ProtocolError, "no-codes"},
		{"3.1.1 UNSUBACK with a code", V311, Server, raw(0xb0, 0, 1, 0), MalformedPacket, "trailing-bytes"},

		// DISCONNECT and AUTH, sections 3.14 and 3.15.
		{"DISCONNECT with a code of another packet", V5, Anyone, raw(0xe0, 0x92), ProtocolError, "reason-code"},
		{"client says session taken over", V5, Client, raw(0xe0, 0x8e), ProtocolError, "reason-code"},
		{"server says with will", V5, Server, raw(0xe0, 0x04), ProtocolError, "reason-code"},
		{"server sets the session expiry", V5, Server, raw(0xe0, 0, props(0x11, 0, 0, 0, 1)), ProtocolError, "session-expiry-from-server"},
		{"client names a server", V5, Client, raw(0xe0, 0, props(0x1c, "x")), ProtocolError, "server-reference-from-client"},
		{"AUTH without properties", V5, Anyone, raw(0xf0, 0x18), MalformedPacket, "truncated"},
		{"AUTH without a method", V5, Anyone, raw(0xf0, 0x18, 0), ProtocolError, "auth-without-method"},
		{"AUTH with a code of another packet", V5, Anyone, raw(0xf0, 0x80, props(0x15, "m")), ProtocolError, "reason-code"},
		{"client says success in AUTH", V5, Client, raw(0xf0, 0, props(0x15, "m")), ProtocolError, "reason-code"},
	}
}

func TestMalformed(t *testing.T) {
	var p Packet
	for _, c := range malformedCases() {
		t.Run(c.name, func(t *testing.T) {
			err := Decode(&p, c.v, c.in, &Limits{From: c.from})
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("decoded as %s, want %s", describe(&p), c.reason)
			}
			if e.Code != c.code || e.Reason != c.reason {
				t.Errorf("got %#x %s, want %#x %s", e.Code, e.Reason, c.code, c.reason)
			}
		})
	}
}

// TestAccepted holds the edges of what the same rules allow.
func TestAccepted(t *testing.T) {
	head5, head4 := []byte("\x00\x04MQTT\x05"), []byte("\x00\x04MQTT\x04")
	var p Packet
	for _, c := range []struct {
		name string
		v    Version
		from Sender
		in   []byte
		want string
	}{
		{"the smallest CONNECT", 0, Client, raw(0x10, head5, 2, 0, 0, 0, ""), `CONNECT v=5 clean=true alive=0 id=""`},
		{"3.1.1 with all", 0, Client, raw(0x10, head4, 0xf6, 1, 0, "id", "w", "bye", "u", "p"), `CONNECT v=4 clean=true alive=256 id="id" user="u" password="p" will{qos=2 retain=true topic="w" payload="bye"}`},
		{"5.0 password without user", 0, Client, raw(0x10, head5, 0x42, 0, 0, 0, "i", "p"), `CONNECT v=5 clean=true alive=0 id="i" password="p"`},
		{"5.0 empty id, kept session", 0, Client, raw(0x10, head5, 0, 0, 0, 0, ""), `CONNECT v=5 clean=false alive=0 id=""`},
		{"client id of 256 bytes", 0, Client, raw(0x10, head5, 2, 0, 0, 0, strings.Repeat("i", 256)), `CONNECT v=5 clean=true alive=0 id="` + strings.Repeat("i", 256) + `"`},
		{"topic of 1024 bytes", V311, Client, raw(0x30, strings.Repeat("x", 1024)), `PUBLISH dup=false retain=false qos=0 topic="` + strings.Repeat("x", 1024) + `" id=0 payload=""`},
		{"U+FEFF is kept [MQTT-1.5.4-3]", V5, Client, raw(0x30, "\xef\xbb\xbfa", 0), `PUBLISH dup=false retain=false qos=0 topic="\ufeffa" id=0 payload=""`},
		{"alias instead of a topic", V5, Client, raw(0x30, "", props(0x23, 0, 7)), `PUBLISH dup=false retain=false qos=0 topic="" id=0 payload="" 35=7`},
		{"DUP at QoS 1", V311, Client, raw(0x3b, "a", 0, 9, []byte("x")), `PUBLISH dup=true retain=true qos=1 topic="a" id=9 payload="x"`},
		{"PUBACK without code", V5, Anyone, raw(0x40, 1, 2), "PUBACK id=258 code=0x0"},
		{"PUBACK without properties", V5, Anyone, raw(0x40, 1, 2, 0x99), "PUBACK id=258 code=0x99"},
		{"16 filters", V5, Client, raw(0xa2, 0, 1, 0, bytes.Repeat(join("a"), 16)), "UNSUBSCRIBE id=1" + strings.Repeat(` "a"`, 16)},
		{"shared is ordinary in 3.1.1", V311, Client, raw(0xa2, 0, 1, "$share//a"), `UNSUBSCRIBE id=1 "$share//a"`},
		{"DISCONNECT without code", V5, Client, raw(0xe0), "DISCONNECT code=0x0"},
		{"DISCONNECT with will", V5, Client, raw(0xe0, 4), "DISCONNECT code=0x4"},
		{"server: session taken over", V5, Server, raw(0xe0, 0x8e), "DISCONNECT code=0x8e"},
		{"AUTH without anything", V5, Server, raw(0xf0), "AUTH code=0x0"},
		{"several subscription ids", V5, Server, raw(0x30, "a", props(0x0b, 1, 0x0b, 0x80, 1)), `PUBLISH dup=false retain=false qos=0 topic="a" id=0 payload="" subscriptions=[1 128]`},
	} {
		if err := Decode(&p, c.v, c.in, &Limits{From: c.from}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := describe(&p); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestVersionToAnswerIn: a refused CONNECT still says in which form it wants
// to be told.
func TestVersionToAnswerIn(t *testing.T) {
	for _, c := range []struct {
		in   []byte
		want Version
	}{
		{raw(0x10, "MQIsdp", 3, 2, 0, 0, "a"), V311},
		{raw(0x10, "MQTT", 3, 2, 0, 0, "a"), V311},
		{raw(0x10, "MQTT", 4, 3, 0, 0, "a"), V311},
		{raw(0x10, "MQTT", 5, 3, 0, 0, 0, "a"), V5},
		{raw(0x10, "MQTT", 6, 2, 0, 0, 0, "a"), V5},
		{raw(0x10, "HTTP", 1, 2), 0},
		{raw(0x10, 0), 0},
	} {
		var p Packet
		p.Connect.Version = 9
		if err := Decode(&p, 0, c.in, &Limits{}); err == nil || p.Connect.Version != c.want {
			t.Errorf("%x: version %d, error %v, want %d and an error", c.in, p.Connect.Version, err, c.want)
		}
	}
}

func TestFrame(t *testing.T) {
	for _, c := range []struct {
		name   string
		in     []byte
		limit  int
		n      int
		reason string
	}{
		{"nothing yet", nil, 0, 0, ""},
		{"half a header", []byte{0x30}, 0, 0, ""},
		{"half a length", []byte{0x30, 0x80}, 0, 0, ""},
		{"no body yet", []byte{0x30, 3}, 0, 0, ""},
		{"whole", []byte{0xc0, 0}, 0, 2, ""},
		{"whole and more", []byte{0xc0, 0, 0x30}, 0, 2, ""},
		{"at the limit", raw(0x30, make([]byte, 98)), 100, 100, ""},
		{"over the limit, before its body", []byte{0x30, 99}, 100, 0, "packet-too-large"},
		{"over the default limit", []byte{0x30, 0xff, 0xff, 0x03}, 0, 0, "packet-too-large"},
		{"the largest length", []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, 0, 0, "packet-too-large"},
		{"five length bytes, seen after four", []byte{0x30, 0x80, 0x80, 0x80, 0x80}, 0, 0, "length-over-4-bytes"},
		{"not minimal", []byte{0x30, 0xff, 0x00}, 0, 0, "length-not-minimal"},
		{"flags, before anything else", []byte{0x36}, 0, 0, "qos-3"},
		{"a TLS client hello", []byte{0x16, 3, 1}, 0, 0, "header-flags"},
		{"an HTTP request", []byte("GET / HTTP/1.1"), 0, 0, "header-flags"},
	} {
		n, err := Frame(c.in, c.limit)
		reason := ""
		if e, ok := errors.AsType[*Error](err); ok {
			reason = e.Reason
		}
		if n != c.n || reason != c.reason {
			t.Errorf("%s: got %d %q, want %d %q", c.name, n, reason, c.n, c.reason)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 0x10000)
	for _, c := range []struct {
		name   string
		v      Version
		p      *Packet
		reason string
	}{
		{"unknown version", 3, packet(PINGREQ, func(*Packet) {}), "version-unknown"},
		{"no type", V5, packet(0, func(*Packet) {}), "type-reserved"},
		{"AUTH in 3.1.1", V311, packet(AUTH, func(*Packet) {}), "type-reserved"},
		{"properties in 3.1.1", V311, packet(PUBLISH, func(p *Packet) { p.Topic = []byte("a"); p.Props.SetNumber(PropTopicAlias, 1) }), "properties-in-3.1.1"},
		{"will properties in 3.1.1", V311, packet(CONNECT, func(p *Packet) {
			p.Connect.Version, p.Connect.CleanStart, p.Connect.HasWill, p.Connect.Will.Topic = V311, true, true, []byte("w")
			p.Connect.Will.Props.SetNumber(PropWillDelay, 1)
		}), "properties-in-3.1.1"},
		{"a refusing 3.1.1 PUBACK", V311, packet(PUBACK, func(p *Packet) { p.ID, p.Code = 1, NotAuthorized }), "reason-code"},
		{"id 0", V5, packet(PUBACK, func(*Packet) {}), "packet-id-zero"},
		{"code of another packet", V5, packet(PUBACK, func(p *Packet) { p.ID, p.Code = 1, SessionTakenOver }), "reason-code"},
		{"QoS 3", V5, packet(PUBLISH, func(p *Packet) { p.Topic, p.QoS, p.ID = []byte("a"), 3, 1 }), "qos-3"},
		{"DUP at QoS 0", V5, packet(PUBLISH, func(p *Packet) { p.Topic, p.Dup = []byte("a"), true }), "dup-at-qos-0"},
		{"wildcard topic", V5, packet(PUBLISH, func(p *Packet) { p.Topic = []byte("#") }), "topic-wildcard"},
		{"no topic", V5, packet(PUBLISH, func(*Packet) {}), "topic-empty"},
		{"long topic", V5, packet(PUBLISH, func(p *Packet) { p.Topic = long }), "topic-too-long"},
		{"text not UTF-8", V5, packet(CONNECT, func(p *Packet) { p.Connect.Version, p.Connect.ClientID = V5, []byte{0xff} }), "not-utf8"},
		{"long password", V5, packet(CONNECT, func(p *Packet) {
			p.Connect.Version, p.Connect.HasPassword, p.Connect.Password = V5, true, long
		}), "text-too-long"},
		{"will QoS 3", V5, packet(CONNECT, func(p *Packet) {
			p.Connect.Version, p.Connect.HasWill, p.Connect.Will = V5, true, Will{QoS: 3, Topic: []byte("a")}
		}), "will-qos-3"},
		{"property of another packet", V5, packet(PUBLISH, func(p *Packet) { p.Topic = []byte("a"); p.Props.SetNumber(PropReceiveMaximum, 1) }), "property-misplaced"},
		{"property in a PINGREQ", V5, packet(PINGREQ, func(p *Packet) { p.Props.SetData(PropReasonString, nil) }), "property-misplaced"},
		{"number too large", V5, packet(CONNECT, func(p *Packet) { p.Connect.Version = V5; p.Props.SetNumber(PropReceiveMaximum, 0x10000) }), "property-number-range"},
		{"subscription id too large", V5, packet(PUBLISH, func(p *Packet) { p.Topic = []byte("a"); p.Props.SubscriptionIDs = []uint32{maxRemaining + 1} }), "property-zero"},
		{"no filters", V5, packet(SUBSCRIBE, func(p *Packet) { p.ID = 1 }), "no-filters"},
		{"no codes", V5, packet(SUBACK, func(p *Packet) { p.ID = 1 }), "no-codes"},
		{"3.1.1 options", V311, packet(SUBSCRIBE, func(p *Packet) { p.ID = 1; p.Filters = []Filter{{Topic: []byte("a"), NoLocal: true}} }), "subscribe-options"},
		{"retain handling 4", V5, packet(SUBSCRIBE, func(p *Packet) { p.ID = 1; p.Filters = []Filter{{Topic: []byte("a"), RetainHandling: 4}} }), "subscribe-options"},
		{"AUTH without a method", V5, packet(AUTH, func(p *Packet) { p.Code = ContinueAuthentication }), "auth-without-method"},
		{"too large", V5, packet(PUBLISH, func(p *Packet) { p.Topic, p.Payload = []byte("a"), make([]byte, maxRemaining) }), "packet-too-large"},
	} {
		dst := []byte("kept")
		got, err := Append(dst, c.v, c.p)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Reason != c.reason || string(got) != "kept" {
			t.Errorf("%s: got %.20q, %v, want %s", c.name, got, err, c.reason)
		}
	}
}

func TestErrorText(t *testing.T) {
	if got, want := (&Error{Code: DisconnectWithWill, Reason: "x"}).Error(), "mqtt: x (0x04)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := malformed("qos-3").Error(), "mqtt: qos-3 (0x81)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
