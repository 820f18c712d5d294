package mqtt

// Packet is any control packet of either version. One Packet serves for many:
// Decode clears it first and keeps what its lists have allocated. Which fields
// mean something depends on Type.
type Packet struct {
	Type Type

	// PUBLISH.
	Dup     bool
	Retain  bool
	QoS     QoS
	Topic   []byte // may be empty in 5.0 when a topic alias is given
	Payload []byte

	// ID is the packet identifier: PUBLISH with QoS > 0, the acknowledgements,
	// SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK. Never 0 there.
	ID uint16

	// Code is the reason code of CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP,
	// DISCONNECT and AUTH. 3.1.1 has one in CONNACK only: its own return code.
	Code ReasonCode

	// SessionPresent is of CONNACK.
	SessionPresent bool

	// Filters are of SUBSCRIBE and UNSUBSCRIBE, at least one.
	Filters []Filter

	// Codes are of SUBACK and UNSUBACK, one per filter asked for. A 3.1.1
	// UNSUBACK has none.
	Codes []ReasonCode

	// Connect is of CONNECT.
	Connect Connect

	// Props are the properties of a 5.0 packet; the will's own are in
	// Connect.Will.
	Props Properties
}

// Connect is what only a CONNECT says.
type Connect struct {
	// Version is what the client speaks. It is set by Decode as soon as it was
	// read, also when the CONNECT is refused, so that the answer can be in the
	// client's own form; 0 when it could not be read.
	Version Version

	CleanStart  bool // 3.1.1: Clean Session
	HasWill     bool
	HasUsername bool
	HasPassword bool
	KeepAlive   uint16 // seconds; 0 switches it off
	ClientID    []byte // may be empty
	Username    []byte
	Password    []byte
	Will        Will
}

// Will is the message that the server publishes when the client is lost.
type Will struct {
	QoS     QoS
	Retain  bool
	Topic   []byte
	Payload []byte
	Props   Properties
}

// Filter is one line of a SUBSCRIBE or UNSUBSCRIBE. For UNSUBSCRIBE only
// Topic means something.
type Filter struct {
	Topic             []byte
	QoS               QoS  // the highest that the client wants
	NoLocal           bool // 5.0
	RetainAsPublished bool // 5.0
	RetainHandling    uint8
}

// Sender is which side wrote the packets that are decoded.
type Sender uint8

// Which side writes. Anyone accepts what either side may send.
const (
	Anyone Sender = iota
	Client
	Server
)

func (s Sender) mask() uint8 {
	switch s {
	case Client:
		return fromClient
	case Server:
		return fromServer
	default:
		return fromEither
	}
}

// sends says whether this side may send a packet of type t (table 2-1).
func (s Sender) sends(t Type) bool {
	switch t {
	case CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ:
		return s != Server
	case CONNACK, SUBACK, UNSUBACK, PINGRESP:
		return s != Client
	default:
		return true
	}
}

// Limits bound what Decode accepts, in bytes and counts. A field left 0 has
// the default given with it. From narrows what is accepted to one side.
type Limits struct {
	MaxPacket    int // whole packet with its header; 65,536
	MaxTopic     int // a topic name or filter; 1,024
	MaxClientID  int // 256
	MaxFilters   int // in one SUBSCRIBE or UNSUBSCRIBE; 16
	MaxUserProps int // user properties, and subscription identifiers, each; 16
	From         Sender
}

// The defaults of Limits.
const (
	DefaultMaxPacket    = 64 << 10
	DefaultMaxTopic     = 1024
	DefaultMaxClientID  = 256
	DefaultMaxFilters   = 16
	DefaultMaxUserProps = 16
)

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

// reset clears p for the next packet and keeps the room of its lists. The
// properties need no clearing beyond their marks.
func (p *Packet) reset() {
	p.Type, p.Dup, p.Retain, p.QoS = 0, false, false, 0
	p.Topic, p.Payload = nil, nil
	p.ID, p.Code, p.SessionPresent = 0, 0, false
	p.Filters, p.Codes = p.Filters[:0], p.Codes[:0]
	p.Props.Reset()
}

func (c *Connect) reset() {
	c.Version, c.KeepAlive = 0, 0
	c.CleanStart, c.HasWill, c.HasUsername, c.HasPassword = false, false, false, false
	c.ClientID, c.Username, c.Password = nil, nil, nil
	w := &c.Will
	w.QoS, w.Retain, w.Topic, w.Payload = 0, false, nil, nil
	w.Props.Reset()
}

// Reset makes p an empty packet of type t, ready to be filled and appended.
func (p *Packet) Reset(t Type) {
	p.reset()
	p.Connect.reset()
	p.Type = t
}
