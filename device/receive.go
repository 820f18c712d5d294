package device

import (
	"net"
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/wire"
)

// packetIn is one packet from the server, copied out of the read buffer.
type packetIn struct {
	typ     mqtt.Type
	id      uint16
	qos     mqtt.QoS
	code    mqtt.ReasonCode
	codes   []mqtt.ReasonCode
	topic   string
	payload []byte
	reason  string // the reason string, if there is one
}

// receive reads packets until the connection ends.
func (s *session) receive(in chan<- packetIn, stop <-chan struct{}) error {
	if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	var p mqtt.Packet
	for {
		if err := s.in.read(&p); err != nil {
			return err
		}
		reason, _ := p.Props.Data(mqtt.PropReasonString)
		m := packetIn{
			typ: p.Type, id: p.ID, qos: p.QoS, code: p.Code, codes: append([]mqtt.ReasonCode(nil), p.Codes...),
			topic: string(p.Topic), payload: append([]byte(nil), p.Payload...), reason: plain(reason),
		}
		select {
		case in <- m:
		case <-stop:
			return nil
		}
	}
}

// reader cuts a connection into packets.
type reader struct {
	conn   net.Conn
	buf    []byte
	n      int // bytes in buf
	used   int // bytes of the packet that was given last
	limits mqtt.Limits
}

func newReader(conn net.Conn) *reader {
	return &reader{conn: conn, buf: make([]byte, 1<<10), limits: mqtt.Limits{MaxPacket: wire.MaxPacket, From: mqtt.Server}}
}

// read decodes the next packet into p, whose slices are good until the next
// read.
func (r *reader) read(p *mqtt.Packet) error {
	r.n = copy(r.buf, r.buf[r.used:r.n])
	r.used = 0
	for {
		n, err := mqtt.Frame(r.buf[:r.n], wire.MaxPacket)
		if err != nil {
			return err
		}
		if n > 0 {
			r.used = n
			return mqtt.Decode(p, mqtt.V5, r.buf[:n], &r.limits)
		}
		if r.n == len(r.buf) {
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		m, err := r.conn.Read(r.buf[r.n:])
		r.n += m
		if m == 0 && err != nil {
			return err
		}
	}
}
