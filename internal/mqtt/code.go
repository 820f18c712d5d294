package mqtt

import "strconv"

// Version is the protocol level that a CONNECT names.
type Version uint8

// The two versions spoken here.
const (
	V311 Version = 4
	V5   Version = 5
)

// String is the version as people write it.
func (v Version) String() string {
	switch v {
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	default:
		return "level " + strconv.Itoa(int(v))
	}
}

// Type is the kind of a control packet (section 2.1.2).
type Type uint8

// The control packets. AUTH exists in 5.0 only.
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	PUBREC      Type = 5
	PUBREL      Type = 6
	PUBCOMP     Type = 7
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
	AUTH        Type = 15
)

// String is the packet's name as in the standard.
func (t Type) String() string {
	switch t {
	case CONNECT:
		return "CONNECT"
	case CONNACK:
		return "CONNACK"
	case PUBLISH:
		return "PUBLISH"
	case PUBACK:
		return "PUBACK"
	case PUBREC:
		return "PUBREC"
	case PUBREL:
		return "PUBREL"
	case PUBCOMP:
		return "PUBCOMP"
	case SUBSCRIBE:
		return "SUBSCRIBE"
	case SUBACK:
		return "SUBACK"
	case UNSUBSCRIBE:
		return "UNSUBSCRIBE"
	case UNSUBACK:
		return "UNSUBACK"
	case PINGREQ:
		return "PINGREQ"
	case PINGRESP:
		return "PINGRESP"
	case DISCONNECT:
		return "DISCONNECT"
	case AUTH:
		return "AUTH"
	default:
		return "type " + strconv.Itoa(int(t))
	}
}

// QoS is a quality of service: 0, 1 or 2.
type QoS uint8

// The three qualities of service.
const (
	AtMostOnce  QoS = 0
	AtLeastOnce QoS = 1
	ExactlyOnce QoS = 2
)

// ReasonCode is a reason code of MQTT 5 (section 2.4). In a CONNACK of 3.1.1
// it is that version's return code instead, 0 to 5 (see Return311).
type ReasonCode uint8

// The reason codes of MQTT 5. Below 0x80 is success.
const (
	Success                     ReasonCode = 0x00 // also: normal disconnection, granted QoS 0
	GrantedQoS1                 ReasonCode = 0x01
	GrantedQoS2                 ReasonCode = 0x02
	DisconnectWithWill          ReasonCode = 0x04
	NoMatchingSubscribers       ReasonCode = 0x10
	NoSubscriptionExisted       ReasonCode = 0x11
	ContinueAuthentication      ReasonCode = 0x18
	ReAuthenticate              ReasonCode = 0x19
	UnspecifiedError            ReasonCode = 0x80
	MalformedPacket             ReasonCode = 0x81
	ProtocolError               ReasonCode = 0x82
	ImplementationSpecificError ReasonCode = 0x83
	UnsupportedProtocolVersion  ReasonCode = 0x84
	ClientIDNotValid            ReasonCode = 0x85
	BadUserNameOrPassword       ReasonCode = 0x86
	NotAuthorized               ReasonCode = 0x87
	ServerUnavailable           ReasonCode = 0x88
	ServerBusy                  ReasonCode = 0x89
	Banned                      ReasonCode = 0x8A
	ServerShuttingDown          ReasonCode = 0x8B
	BadAuthenticationMethod     ReasonCode = 0x8C
	KeepAliveTimeout            ReasonCode = 0x8D
	SessionTakenOver            ReasonCode = 0x8E
	TopicFilterInvalid          ReasonCode = 0x8F
	TopicNameInvalid            ReasonCode = 0x90
	PacketIDInUse               ReasonCode = 0x91
	PacketIDNotFound            ReasonCode = 0x92
	ReceiveMaximumExceeded      ReasonCode = 0x93
	TopicAliasInvalid           ReasonCode = 0x94
	PacketTooLarge              ReasonCode = 0x95
	MessageRateTooHigh          ReasonCode = 0x96
	QuotaExceeded               ReasonCode = 0x97
	AdministrativeAction        ReasonCode = 0x98
	PayloadFormatInvalid        ReasonCode = 0x99
	RetainNotSupported          ReasonCode = 0x9A
	QoSNotSupported             ReasonCode = 0x9B
	UseAnotherServer            ReasonCode = 0x9C
	ServerMoved                 ReasonCode = 0x9D
	SharedSubsNotSupported      ReasonCode = 0x9E
	ConnectionRateExceeded      ReasonCode = 0x9F
	MaximumConnectTime          ReasonCode = 0xA0
	SubscriptionIDsNotSupported ReasonCode = 0xA1
	WildcardSubsNotSupported    ReasonCode = 0xA2
)

// The return codes of a 3.1.1 CONNACK (3.1.1: table 3.1).
const (
	Accepted311            ReasonCode = 0
	UnacceptableVersion311 ReasonCode = 1
	IdentifierRejected311  ReasonCode = 2
	ServerUnavailable311   ReasonCode = 3
	BadUserOrPassword311   ReasonCode = 4
	NotAuthorized311       ReasonCode = 5
)

// Failed reports whether c says that something was refused.
func (c ReasonCode) Failed() bool { return c >= 0x80 }

// Return311 is the 3.1.1 return code that says most of what c says.
func Return311(c ReasonCode) ReasonCode {
	switch c {
	case Success:
		return Accepted311
	case UnsupportedProtocolVersion:
		return UnacceptableVersion311
	case ClientIDNotValid:
		return IdentifierRejected311
	case BadUserNameOrPassword, BadAuthenticationMethod:
		return BadUserOrPassword311
	case NotAuthorized, Banned:
		return NotAuthorized311
	default:
		return ServerUnavailable311
	}
}

// Error is why a packet is refused: the reason code for the peer, and a short
// stable reason for logs and counters ("connect-reserved-flag").
type Error struct {
	Code   ReasonCode
	Reason string
}

// Error is the reason and the code.
func (e *Error) Error() string {
	return "mqtt: " + e.Reason + " (0x" + strconv.FormatUint(uint64(e.Code)|0x100, 16)[1:] + ")"
}

func malformed(reason string) *Error { return &Error{Code: MalformedPacket, Reason: reason} }
func protocol(reason string) *Error  { return &Error{Code: ProtocolError, Reason: reason} }

const (
	fromServer = 1 << iota
	fromClient
	fromEither = fromServer | fromClient
)

// codeAllowed says whether an MQTT 5 packet of type t from a sender out of
// from may carry c (the tables of sections 3.2.2.2 to 3.15.2.1).
func codeAllowed(t Type, from uint8, c ReasonCode) bool {
	switch t {
	case CONNACK:
		switch c {
		case Success, UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecificError,
			UnsupportedProtocolVersion, ClientIDNotValid, BadUserNameOrPassword, NotAuthorized,
			ServerUnavailable, ServerBusy, Banned, BadAuthenticationMethod, TopicNameInvalid,
			PacketTooLarge, QuotaExceeded, PayloadFormatInvalid, RetainNotSupported, QoSNotSupported,
			UseAnotherServer, ServerMoved, ConnectionRateExceeded:
			return true
		}
	case PUBACK, PUBREC:
		switch c {
		case Success, NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
			TopicNameInvalid, PacketIDInUse, QuotaExceeded, PayloadFormatInvalid:
			return true
		}
	case PUBREL, PUBCOMP:
		return c == Success || c == PacketIDNotFound
	case SUBACK:
		switch c {
		case Success, GrantedQoS1, GrantedQoS2, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
			TopicFilterInvalid, PacketIDInUse, QuotaExceeded, SharedSubsNotSupported,
			SubscriptionIDsNotSupported, WildcardSubsNotSupported:
			return true
		}
	case UNSUBACK:
		switch c {
		case Success, NoSubscriptionExisted, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
			TopicFilterInvalid, PacketIDInUse:
			return true
		}
	case DISCONNECT:
		switch c {
		case Success, UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecificError,
			TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid, PacketTooLarge, MessageRateTooHigh,
			QuotaExceeded, AdministrativeAction, PayloadFormatInvalid:
			return true
		case DisconnectWithWill:
			return from&fromClient != 0
		// Bad authentication method is in table 2-6 for DISCONNECT, though not
		// in table 3-10.
		case NotAuthorized, ServerBusy, ServerShuttingDown, BadAuthenticationMethod, KeepAliveTimeout,
			SessionTakenOver, TopicFilterInvalid, RetainNotSupported, QoSNotSupported, UseAnotherServer,
			ServerMoved, SharedSubsNotSupported, ConnectionRateExceeded, MaximumConnectTime,
			SubscriptionIDsNotSupported, WildcardSubsNotSupported:
			return from&fromServer != 0
		}
	case AUTH:
		switch c {
		case Success:
			return from&fromServer != 0
		case ContinueAuthentication:
			return true
		case ReAuthenticate:
			return from&fromClient != 0
		}
	}
	return false
}
