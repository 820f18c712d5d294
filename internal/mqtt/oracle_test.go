package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	paho5 "github.com/eclipse/paho.golang/packets"
	paho3 "github.com/eclipse/paho.mqtt.golang/packets"
)

// The packet codecs of two independent clients are the oracles: what we
// accept they must read as the same values, and what they accept and we do
// not must be a difference that is named here.

// ask lets the oracle of version v read b, and tells what it read as our own
// Packet. v comes from the CONNECT itself when b is one.
func ask(v Version, b []byte) (p *Packet, err error) {
	defer func() {
		// An oracle that panics has not accepted.
		if r := recover(); r != nil {
			err = fmt.Errorf("oracle panics: %v", r)
		}
	}()
	if v == V5 {
		cp, err := paho5.ReadPacket(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return fromPaho5(cp), nil
	}
	cp, err := paho3.ReadPacket(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return fromPaho3(cp), nil
}

func fromPaho5(cp *paho5.ControlPacket) *Packet {
	return packet(Type(cp.Type), func(p *Packet) {
		ack := func(id uint16, code byte, pr *paho5.Properties) {
			p.ID, p.Code = id, ReasonCode(code)
			fromPaho5Props(&p.Props, pr)
		}
		codes := func(b []byte) {
			for _, c := range b {
				p.Codes = append(p.Codes, ReasonCode(c))
			}
		}
		switch c := cp.Content.(type) {
		case *paho5.Connect:
			p.Connect = Connect{
				Version: Version(c.ProtocolVersion), CleanStart: c.CleanStart, HasWill: c.WillFlag,
				HasUsername: c.UsernameFlag, HasPassword: c.PasswordFlag, KeepAlive: c.KeepAlive,
				ClientID: []byte(c.ClientID), Username: []byte(c.Username), Password: c.Password,
			}
			fromPaho5Props(&p.Props, c.Properties)
			if c.WillFlag {
				w := &p.Connect.Will
				w.QoS, w.Retain, w.Topic, w.Payload = QoS(c.WillQOS), c.WillRetain, []byte(c.WillTopic), c.WillMessage
				fromPaho5Props(&w.Props, c.WillProperties)
			}
		case *paho5.Connack:
			p.SessionPresent = c.SessionPresent
			ack(0, c.ReasonCode, c.Properties)
		case *paho5.Publish:
			p.Dup, p.Retain, p.QoS, p.ID = c.Duplicate, c.Retain, QoS(c.QoS), c.PacketID
			p.Topic, p.Payload = []byte(c.Topic), c.Payload
			fromPaho5Props(&p.Props, c.Properties)
		case *paho5.Puback:
			ack(c.PacketID, c.ReasonCode, c.Properties)
		case *paho5.Pubrec:
			ack(c.PacketID, c.ReasonCode, c.Properties)
		case *paho5.Pubrel:
			ack(c.PacketID, c.ReasonCode, c.Properties)
		case *paho5.Pubcomp:
			ack(c.PacketID, c.ReasonCode, c.Properties)
		case *paho5.Subscribe:
			ack(c.PacketID, 0, c.Properties)
			for _, s := range c.Subscriptions {
				p.Filters = append(p.Filters, Filter{[]byte(s.Topic), QoS(s.QoS), s.NoLocal, s.RetainAsPublished, s.RetainHandling})
			}
		case *paho5.Suback:
			ack(c.PacketID, 0, c.Properties)
			codes(c.Reasons)
		case *paho5.Unsubscribe:
			ack(c.PacketID, 0, c.Properties)
			for _, s := range c.Topics {
				p.Filters = append(p.Filters, Filter{Topic: []byte(s)})
			}
		case *paho5.Unsuback:
			ack(c.PacketID, 0, c.Properties)
			codes(c.Reasons)
		case *paho5.Disconnect:
			ack(0, c.ReasonCode, c.Properties)
		case *paho5.Auth:
			ack(0, c.ReasonCode, c.Properties)
		}
	})
}

func fromPaho5Props(to *Properties, p *paho5.Properties) {
	if p == nil {
		return
	}
	flag := func(id NumberProperty, v *byte) {
		if v != nil {
			to.SetNumber(id, uint32(*v))
		}
	}
	u16 := func(id NumberProperty, v *uint16) {
		if v != nil {
			to.SetNumber(id, uint32(*v))
		}
	}
	u32 := func(id NumberProperty, v *uint32) {
		if v != nil {
			to.SetNumber(id, *v)
		}
	}
	text := func(id DataProperty, v string) {
		if v != "" {
			to.SetData(id, []byte(v))
		}
	}
	flag(PropPayloadFormat, p.PayloadFormat)
	u32(PropMessageExpiry, p.MessageExpiry)
	text(PropContentType, p.ContentType)
	text(PropResponseTopic, p.ResponseTopic)
	text(PropCorrelationData, string(p.CorrelationData))
	if p.SubscriptionIdentifier != nil {
		to.SubscriptionIDs = []uint32{uint32(*p.SubscriptionIdentifier)}
	}
	u32(PropSessionExpiry, p.SessionExpiryInterval)
	text(PropAssignedClientID, p.AssignedClientID)
	u16(PropServerKeepAlive, p.ServerKeepAlive)
	text(PropAuthMethod, p.AuthMethod)
	text(PropAuthData, string(p.AuthData))
	flag(PropRequestProblemInfo, p.RequestProblemInfo)
	u32(PropWillDelay, p.WillDelayInterval)
	flag(PropRequestResponseInfo, p.RequestResponseInfo)
	text(PropResponseInfo, p.ResponseInfo)
	text(PropServerReference, p.ServerReference)
	text(PropReasonString, p.ReasonString)
	u16(PropReceiveMaximum, p.ReceiveMaximum)
	u16(PropTopicAliasMaximum, p.TopicAliasMaximum)
	u16(PropTopicAlias, p.TopicAlias)
	flag(PropMaximumQoS, p.MaximumQOS)
	flag(PropRetainAvailable, p.RetainAvailable)
	u32(PropMaximumPacketSize, p.MaximumPacketSize)
	flag(PropWildcardSubs, p.WildcardSubAvailable)
	flag(PropSubscriptionIDs, p.SubIDAvailable)
	flag(PropSharedSubs, p.SharedSubAvailable)
	for _, u := range p.User {
		to.User = append(to.User, UserProperty{[]byte(u.Key), []byte(u.Value)})
	}
}

func fromPaho3(cp paho3.ControlPacket) *Packet {
	var p Packet
	switch c := cp.(type) {
	case *paho3.ConnectPacket:
		p.Type = CONNECT
		p.Connect = Connect{
			Version: Version(c.ProtocolVersion), CleanStart: c.CleanSession, HasWill: c.WillFlag,
			HasUsername: c.UsernameFlag, HasPassword: c.PasswordFlag, KeepAlive: c.Keepalive,
			ClientID: []byte(c.ClientIdentifier), Username: []byte(c.Username), Password: c.Password,
			Will: Will{QoS: QoS(c.WillQos), Retain: c.WillRetain, Topic: []byte(c.WillTopic), Payload: c.WillMessage},
		}
	case *paho3.ConnackPacket:
		p.Type, p.SessionPresent, p.Code = CONNACK, c.SessionPresent, ReasonCode(c.ReturnCode)
	case *paho3.PublishPacket:
		p.Type, p.Dup, p.Retain, p.QoS, p.ID = PUBLISH, c.Dup, c.Retain, QoS(c.Qos), c.MessageID
		p.Topic, p.Payload = []byte(c.TopicName), c.Payload
	case *paho3.PubackPacket:
		p.Type, p.ID = PUBACK, c.MessageID
	case *paho3.PubrecPacket:
		p.Type, p.ID = PUBREC, c.MessageID
	case *paho3.PubrelPacket:
		p.Type, p.ID = PUBREL, c.MessageID
	case *paho3.PubcompPacket:
		p.Type, p.ID = PUBCOMP, c.MessageID
	case *paho3.SubscribePacket:
		p.Type, p.ID = SUBSCRIBE, c.MessageID
		for i, s := range c.Topics {
			p.Filters = append(p.Filters, Filter{Topic: []byte(s), QoS: QoS(c.Qoss[i])})
		}
	case *paho3.SubackPacket:
		p.Type, p.ID = SUBACK, c.MessageID
		for _, r := range c.ReturnCodes {
			p.Codes = append(p.Codes, ReasonCode(r))
		}
	case *paho3.UnsubscribePacket:
		p.Type, p.ID = UNSUBSCRIBE, c.MessageID
		for _, s := range c.Topics {
			p.Filters = append(p.Filters, Filter{Topic: []byte(s)})
		}
	case *paho3.UnsubackPacket:
		p.Type, p.ID = UNSUBACK, c.MessageID
	case *paho3.PingreqPacket:
		p.Type = PINGREQ
	case *paho3.PingrespPacket:
		p.Type = PINGRESP
	case *paho3.DisconnectPacket:
		p.Type = DISCONNECT
	}
	return &p
}

// asOracleSees takes out of p what the oracle's form cannot say: a text
// property that is there but empty, and all subscription identifiers but the
// last.
func asOracleSees(p *Packet) string {
	q := *p
	for _, pr := range []*Properties{&q.Props, &q.Connect.Will.Props} {
		for id := range uint8(lastProperty + 1) {
			if d, ok := pr.Data(DataProperty(id)); ok && len(d) == 0 {
				pr.set &^= 1 << id
			}
		}
		if n := len(pr.SubscriptionIDs); n > 1 {
			pr.SubscriptionIDs = pr.SubscriptionIDs[n-1:]
		}
	}
	return describe(&q)
}

// oracleStricter names the packets that the standard allows and the oracle
// does not read.
func oracleStricter(v Version, p *Packet, b []byte) string {
	if v == V5 && p.Type == DISCONNECT && len(b) == 2 {
		return "paho.golang wants a reason code in DISCONNECT; section 3.14.2.1 lets it be left out"
	}
	return ""
}

// differences are where the oracles are laxer than the standard, by our
// reason, each with a packet that the oracle takes.
func differences() []malformedCase {
	head5 := []byte("\x00\x04MQTT\x05")
	head4 := []byte("\x00\x04MQTT\x04")
	return []malformedCase{
		{"paho.golang ignores header flags", V5, 0, []byte{0xc1, 0}, MalformedPacket, "header-flags"},
		{"paho.mqtt.golang ignores header flags", V311, 0, []byte{0xc1, 0}, MalformedPacket, "header-flags"},
		{"paho.golang takes QoS 3", V5, 0, raw(0x36, "a", 0, 1, 0), MalformedPacket, "qos-3"},
		{"paho.mqtt.golang takes QoS 3", V311, 0, raw(0x36, "a", 0, 1), MalformedPacket, "qos-3"},
		{"both take DUP at QoS 0", V311, 0, raw(0x38, "a"), MalformedPacket, "dup-at-qos-0"},
		{"both take a length longer than needed", V5, 0, []byte{0xc0, 0x80, 0}, MalformedPacket, "length-not-minimal"},
		{"paho.mqtt.golang stops at four length bytes", V311, 0, []byte{0xc0, 0x80, 0x80, 0x80, 0x80}, MalformedPacket, "length-over-4-bytes"},
		{"both ignore bytes after the fields", V311, 0, raw(0xc0, 1), MalformedPacket, "trailing-bytes"},
		{"paho.golang takes properties longer than the packet", V5, 0, raw(0x40, 0, 1, 0, 0x7f), MalformedPacket, "truncated"},
		{"both take any level and name", V5, 0, raw(0x10, "MQTX", 9, 2, 0, 0, 0, ""), UnsupportedProtocolVersion, "protocol-name"},
		{"both take any level", V311, 0, raw(0x10, "MQTT", 3, 2, 0, 0, "a"), UnsupportedProtocolVersion, "protocol-level"},
		{"paho.golang takes the reserved flag", V5, 0, raw(0x10, head5, 3, 0, 0, 0, ""), MalformedPacket, "connect-reserved-flag"},
		{"both take will flags without a will", V5, 0, raw(0x10, head5, 0x0a, 0, 0, 0, ""), MalformedPacket, "will-flags-without-will"},
		{"both take will QoS 3", V311, 0, raw(0x10, head4, 0x1e, 0, 0, "a", "t", "p"), MalformedPacket, "will-qos-3"},
		{"left to Validate by paho.mqtt.golang", V311, 0, raw(0x10, head4, 0x42, 0, 0, "a", "pw"), MalformedPacket, "password-without-username"},
		{"left to Validate by paho.mqtt.golang, too", V311, 0, raw(0x10, head4, 0, 0, 0, ""), ClientIDNotValid, "client-id-empty"},
		{"neither checks UTF-8", V5, 0, raw(0x30, "\xff", 0), MalformedPacket, "not-utf8"},
		{"neither checks topics for wildcards", V311, 0, raw(0x30, "#"), TopicNameInvalid, "topic-wildcard"},
		{"neither minds an empty topic", V311, 0, raw(0x30, ""), TopicNameInvalid, "topic-empty"},
		{"paho.golang leaves the alias to the session", V5, 0, raw(0x30, "", 0), ProtocolError, "topic-empty-without-alias"},
		{"paho.golang takes alias 0", V5, 0, raw(0x30, "a", props(0x23, 0, 0)), TopicAliasInvalid, "topic-alias-zero"},
		{"neither minds packet id 0", V311, 0, raw(0x40, 0, 0), MalformedPacket, "packet-id-zero"},
		{"neither checks filters", V5, 0, raw(0x82, 0, 1, 0, "a#", 0), TopicFilterInvalid, "filter-wildcard"},
		{"neither minds an empty filter", V5, 0, raw(0x82, 0, 1, 0, "", 0), TopicFilterInvalid, "filter-empty"},
		{"paho.golang does not know shares", V5, 0, raw(0x82, 0, 1, 0, "$share/g", 0), TopicFilterInvalid, "filter-share"},
		{"neither minds no filters", V5, 0, raw(0x82, 0, 1, 0), ProtocolError, "no-filters"},
		{"neither minds no codes", V5, 0, raw(0x90, 0, 1, 0), ProtocolError, "no-codes"},
		{"neither checks reserved options", V5, 0, raw(0x82, 0, 1, 0, "a", 0x40), MalformedPacket, "subscribe-options"},
		{"paho.golang takes subscribe QoS 3", V5, 0, raw(0x82, 0, 1, 0, "a", 3), ProtocolError, "subscribe-qos-3"},
		{"paho.golang takes retain handling 3", V5, 0, raw(0x82, 0, 1, 0, "a", 0x30), ProtocolError, "retain-handling-3"},
		{"paho.golang takes no-local on shares", V5, 0, raw(0x82, 0, 1, 0, "$share/g/a", 4), ProtocolError, "no-local-on-shared"},
		{"neither checks reason codes", V5, 0, raw(0x40, 0, 1, 0x7f), ProtocolError, "reason-code"},
		{"neither checks CONNACK flags", V5, 0, raw(0x20, 2, 0, 0), MalformedPacket, "connack-flags"},
		{"neither minds a session with a refusal", V5, 0, raw(0x20, 1, 0x87, 0), ProtocolError, "session-present-with-refusal"},
		{"paho.golang takes a property twice", V5, 0, raw(0x40, 0, 1, 0, props(0x1f, "a", 0x1f, "b")), ProtocolError, "property-twice"},
		{"paho.golang takes CONNECT's properties in a will", V5, 0, raw(0x10, head5, 6, 0, 0, 0, "", props(0x21, 0, 1), "t", ""), MalformedPacket, "property-misplaced"},
		{"paho.golang takes flags that are no flags", V5, 0, raw(0x30, "a", props(1, 2)), ProtocolError, "property-flag-value"},
		{"paho.golang takes zeros that mean nothing", V5, 0, raw(0x30, "a", props(0x0b, 0)), ProtocolError, "property-zero"},
		{"paho.golang takes data without a method", V5, 0, raw(0xf0, 0, props(0x16, "d")), ProtocolError, "auth-data-without-method"},
		{"paho.golang takes AUTH without a method", V5, 0, raw(0xf0, 0x18, 0), ProtocolError, "auth-without-method"},
	}
}

// TestOraclesAreLaxer proves each named difference: the oracle takes the
// packet and we refuse it for the reason named.
func TestOraclesAreLaxer(t *testing.T) {
	for _, c := range differences() {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ask(c.v, c.in); err != nil {
				t.Errorf("the oracle refuses it as well: %v; it is no difference", err)
			}
			var p Packet
			e, ok := errors.AsType[*Error](Decode(&p, c.v, c.in, wideLimits()))
			if !ok || e.Reason != c.reason || e.Code != c.code {
				t.Errorf("got %v, want %s", e, c.reason)
			}
		})
	}
}

// TestOraclesReadWhatWeWrite: both oracles read every packet that Append
// makes, as the same values.
func TestOraclesReadWhatWeWrite(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		for seed := range uint64(4000) {
			p := randomPacket(rand.New(rand.NewPCG(seed, 77)), v)
			b, err := Append(nil, v, p)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ask(v, b)
			if err != nil {
				if oracleStricter(v, p, b) != "" {
					continue
				}
				t.Fatalf("seed %d: the oracle cannot read %s: %v", seed, describe(p), err)
			}
			if g, w := describe(got), asOracleSees(p); g != w {
				t.Fatalf("seed %d:\noracle %s\n  ours %s", seed, g, w)
			}
		}
	}
}

// TestWeReadWhatOraclesWrite lets both oracles write what they have read, and
// reads it.
func TestWeReadWhatOraclesWrite(t *testing.T) {
	var got Packet
	for _, v := range []Version{V311, V5} {
		for seed := range uint64(3000) {
			p := randomPacket(rand.New(rand.NewPCG(seed, 31)), v)
			b, err := Append(nil, v, p)
			if err != nil {
				t.Fatal(err)
			}
			var theirs bytes.Buffer
			if v == V5 {
				cp, err := paho5.ReadPacket(bytes.NewReader(b))
				if err != nil {
					continue // oracleStricter; counted by the test above
				}
				if p.Type == CONNECT && p.Connect.HasWill && !p.Connect.Will.Props.empty() {
					continue // paho.golang writes a will's properties where CONNECT's belong
				}
				_, err = cp.WriteTo(&theirs)
				if err != nil {
					t.Fatal(err)
				}
			} else {
				cp, err := paho3.ReadPacket(bytes.NewReader(b))
				if err != nil {
					t.Fatal(err)
				}
				if err := cp.Write(&theirs); err != nil {
					t.Fatal(err)
				}
			}
			if err := Decode(&got, v, theirs.Bytes(), wideLimits()); err != nil {
				t.Fatalf("seed %d: we refuse what the oracle wrote for %s: %v\n%x", seed, describe(p), err, theirs.Bytes())
			}
			if g, w := describe(&got), asOracleSees(p); g != w {
				t.Fatalf("seed %d:\n got %s\nwant %s", seed, g, w)
			}
		}
	}
}

// FuzzOracles: for any bytes, what we accept the oracle reads as the same
// values, and what only the oracle accepts is a named difference.
func FuzzOracles(f *testing.F) {
	for _, v := range []Version{V311, V5} {
		for seed := range uint64(40) {
			b, err := Append(nil, v, randomPacket(rand.New(rand.NewPCG(seed, 3)), v))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(v), b)
		}
	}
	known := map[string]bool{"topic-too-long": true, "client-id-too-long": true}
	for _, c := range differences() {
		f.Add(uint8(c.v), c.in)
		known[c.reason] = true
	}
	var p Packet
	f.Fuzz(func(t *testing.T, version uint8, b []byte) {
		v := V5
		if version%2 == 0 {
			v = V311
		}
		n, err := Frame(b, 1<<16)
		if err != nil || n == 0 {
			return
		}
		b = b[:n]
		if Type(b[0]>>4) == CONNECT {
			// The oracles do not choose by the CONNECT's own level.
			if i := bytes.Index(b, []byte("\x00\x04MQTT")); i < 0 || i+6 >= len(b) || Version(b[i+6]) != v {
				return
			}
		}
		theirs, oracleErr := ask(v, b)
		err = Decode(&p, v, b, wideLimits())
		switch e, refused := errors.AsType[*Error](err); {
		case refused && oracleErr == nil && !known[e.Reason]:
			t.Errorf("only the oracle accepts, and %q is no named difference: %s", e.Reason, describe(theirs))
		case !refused && oracleErr != nil:
			if oracleStricter(v, &p, b) == "" {
				t.Errorf("only we accept %s: %v", describe(&p), oracleErr)
			}
		case !refused:
			if g, w := asOracleSees(&p), describe(theirs); g != w {
				t.Errorf("\n  ours %s\noracle %s", g, w)
			}
		}
	})
}
