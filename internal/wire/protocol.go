package wire

import "time"

// Protocol is the dated version of what this package describes. An agent
// sends it in its CONNECT as the user property ProtocolProperty; a server
// answers with its own in the CONNACK. Neither refuses the other by it: each
// speaks what the older of the two dates knows. Stock clients send none.
//
// Log of versions:
//
//	2026-11-22  telemetry over MQTT, `refused`, EST enrolment and renewal
const Protocol = "2026-11-22"

// ProtocolProperty is the name of the MQTT 5 user property that carries
// Protocol.
const ProtocolProperty = "hawser-protocol"

// MaxProtocol is the most bytes of a protocol version that are looked at.
const MaxProtocol = 32

// The ports that are used when nothing else is configured. There is no
// cleartext port.
const (
	MQTTPort = 8883 // MQTT over TLS 1.3, mutual
	ESTPort  = 8443 // EST over HTTPS
)

// Enrolment over Secure Transport (RFC 7030, clarified by RFC 8951). Bodies
// are base64 in one line: some clients fail on line breaks, and RFC 8951 §3.1
// drops the need for them.
const (
	ESTCACerts  = "/.well-known/est/cacerts"
	ESTEnrol    = "/.well-known/est/simpleenroll"   // HTTP Basic: serial, enrolment code
	ESTReenrol  = "/.well-known/est/simplereenroll" // mutual TLS with the certificate to renew
	ESTCSRAttrs = "/.well-known/est/csrattrs"       // what a request should be like
	PKCS10Type  = "application/pkcs10"
	PKCS7Type   = "application/pkcs7-mime"
	CSRAttrType = "application/csrattrs"
	CertsOnly   = "certs-only"         // smime-type of every answer
	MaxESTBody  = 64 << 10             // bytes of a request or an answer, base64 and all
	ESTTimeout  = 30 * time.Second     // of one request, handshake included
	ESTEncoding = "base64"             // Content-Transfer-Encoding
	ESTRealm    = "hawser device door" // of the Basic challenge
)

// Bounds that both sides keep.
const (
	MaxSerial     = 64        // characters of a device's serial number
	MaxStream     = 63        // characters of a stream's name
	MaxName       = 63        // characters of a command's name and of its id
	MaxPacket     = 64 << 10  // bytes of one MQTT packet
	MaxPayload    = 32 << 10  // bytes of one message, before the stream's own max_bytes
	MaxNotice     = 4 << 10   // bytes of one message from the server to a device
	MaxNumber     = 1<<53 - 1 // of boot and seq: what every JSON parser keeps exact (RFC 7493 §2.2)
	MaxCode       = 128       // characters of an enrolment code
	MinCodeBits   = 128       // of randomness in an enrolment code (CC 1.9)
	MaxClockAhead = 5 * time.Minute
)

// The names in a message that are not fields of the declaration. A message is
// one JSON object or CBOR map: these, and the declared fields. In a SenML pack
// (RFC 8428) boot and seq are records, and the time has labels of its own.
const (
	TimeKey = "t"    // Unix time of the reading in milliseconds, an integer
	BootKey = "boot" // number of the device's start; with seq it names the reading for ever
	SeqKey  = "seq"  // number of the reading within the start
)
