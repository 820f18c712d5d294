package device

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/wire"
)

// session is one connection to the server, from dialling to its end. One
// goroutine, in run, does everything but reading.
type session struct {
	d    *Device
	conn *tls.Conn
	in   *reader
	id   *identity

	window  int // messages under way, at most
	maxSend int // bytes of a packet that the server takes
	alive   time.Duration

	out       []byte // buffer for one packet
	nextID    uint16
	inflight  map[uint16]flight
	answering map[uint64]bool // answers to commands that this session has sent
	sent      time.Time       // last write
	pinged    time.Time       // zero: no PINGREQ is unanswered
	held      bool            // the server leaves readings without an answer: see Status.Held
}

// flight is a message that was sent and not answered yet.
type flight struct {
	at     place // in the queue; raw messages have none
	stream string
	boot   uint64
	seq    uint64
	raw    chan<- rawResult
	answer uint64        // which answer to a command; 0: none
	told   *wire.Refusal // the notice that came before the answer
}

// ended is why a session is over.
type ended struct {
	err   error
	floor time.Duration // the least pause before the next one
}

var (
	errEnded   = errors.New("told to end")
	errRenewed = errors.New("a new certificate is there")
)

// connect dials, verifies the server, presents id and says CONNECT. A nil
// error means that the server has taken the identity.
func (d *Device) connect(ctx context.Context, id *identity) (*session, ended) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	raw, err := d.cfg.Dial(ctx, "tcp", d.cfg.Server)
	if err != nil {
		return nil, ended{err: dialFault(d.cfg.Server, err)}
	}
	conn := tls.Client(raw, d.trust.config(d.cfg.nameFor(d.cfg.Server), d.cfg.Server, id))
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	s := &session{d: d, conn: conn, id: id, inflight: make(map[uint16]flight), answering: map[uint64]bool{}, alive: d.cfg.KeepAlive}
	if e := s.greet(ctx); e.err != nil {
		_ = conn.Close() // the reason above is the one to tell
		if ctx.Err() != nil && reasonOf(e.err) == ServerUnreachable {
			e.err = fault(ServerUnreachable, ctx.Err(), "", "server %s does not answer", d.cfg.Server)
		}
		return nil, e
	}
	return s, ended{}
}

func (s *session) greet(ctx context.Context) ended {
	d := s.d
	if err := s.conn.HandshakeContext(ctx); err != nil {
		return ended{err: dialFault(d.cfg.Server, err)}
	}
	var p mqtt.Packet
	p.Reset(mqtt.CONNECT)
	p.Connect.Version = mqtt.V5
	p.Connect.CleanStart = true // the queue on disk is the session's memory
	p.Connect.KeepAlive = uint16(min(s.alive/time.Second, 0xffff))
	p.Connect.ClientID = []byte(d.cfg.Serial)
	p.Props.SetNumber(mqtt.PropReceiveMaximum, 16)
	p.Props.SetNumber(mqtt.PropMaximumPacketSize, wire.MaxPacket)
	p.Props.User = append(p.Props.User, mqtt.UserProperty{Name: []byte(wire.ProtocolProperty), Value: []byte(wire.Protocol)})
	unsaid := s.write(&p)
	// With TLS 1.3 the server judges the certificate after the client's side of
	// the handshake is done: its word is the first thing to read, also when it
	// closed the connection before CONNECT was written.
	s.in = newReader(s.conn)
	err := s.conn.SetReadDeadline(time.Now().Add(handshakeTimeout))
	if err == nil {
		err = s.in.read(&p)
	}
	if err != nil {
		f := readFault(d.cfg.Server, err)
		if unsaid != nil && f.Reason == ServerUnreachable {
			f.Err = unsaid
		}
		return ended{err: f}
	}
	switch {
	case p.Type == mqtt.DISCONNECT:
		return serverSays(d.cfg.Server, p.Code)
	case p.Type != mqtt.CONNACK:
		return ended{err: fault(ServerConfused, nil, "", "server %s answers CONNECT with %s", d.cfg.Server, p.Type), floor: refusedWait}
	case p.Code != mqtt.Success:
		return serverSays(d.cfg.Server, p.Code)
	case p.Props.NumberOr(mqtt.PropMaximumQoS, 1) == 0:
		return ended{err: fault(ServerConfused, nil, "", "server %s acknowledges no messages", d.cfg.Server), floor: refusedWait}
	}
	// [MQTT-3.1.2-21]: the server's keep-alive wins.
	if v, ok := p.Props.Number(mqtt.PropServerKeepAlive); ok {
		s.alive = time.Duration(v) * time.Second
	}
	s.window = min(d.cfg.Window, int(p.Props.NumberOr(mqtt.PropReceiveMaximum, 0xffff)))
	s.maxSend = int(min(p.Props.NumberOr(mqtt.PropMaximumPacketSize, wire.MaxPacket), wire.MaxPacket))
	return ended{}
}

// serverSays turns a refusing CONNACK or a DISCONNECT into an error.
func serverSays(server string, c mqtt.ReasonCode) ended {
	e := ended{floor: floorFor(c)}
	switch c {
	case mqtt.NotAuthorized, mqtt.Banned, mqtt.BadUserNameOrPassword:
		e.err = fault(IdentityRefused, nil, "ask the maker whether the device was revoked", "server %s refuses this device (reason 0x%02x)", server, uint8(c))
	case mqtt.SessionTakenOver:
		e.err = fault(ServerBusy, nil, "another process, or a copy of this device, uses the same certificate", "server %s gave the session to another connection of this device", server)
	case mqtt.MalformedPacket, mqtt.ProtocolError, mqtt.UnsupportedProtocolVersion:
		e.err = fault(ServerConfused, nil, "", "server %s does not understand this device (reason 0x%02x)", server, uint8(c))
	default:
		e.err = fault(ServerBusy, nil, "", "server %s ended the session (reason 0x%02x)", server, uint8(c))
	}
	return e
}

// readFault: an alert in place of an answer is the server's word on this
// device's certificate; an *mqtt.Error is the server's fault.
func readFault(server string, err error) *Error {
	if _, ok := errors.AsType[*mqtt.Error](err); ok {
		return fault(ServerConfused, err, "", "server %s speaks no MQTT 5", server)
	}
	return dialFault(server, err)
}

// run serves the session until it ends.
func (s *session) run(ctx context.Context, renewed <-chan struct{}) ended {
	defer s.conn.Close() // ending is the purpose
	stop := make(chan struct{})
	in, gone := make(chan packetIn), make(chan error, 1)
	go func() { gone <- s.receive(in, stop) }()
	e := s.serve(ctx, in, gone, renewed)
	// The reader ends with the connection; wait for it.
	close(stop)
	_ = s.conn.Close()
	<-gone
	for _, f := range s.inflight {
		if f.raw != nil {
			f.raw <- rawResult{err: e.err}
		}
	}
	return e
}

// serve is the session's one loop. gone is refilled, so that run can wait on
// it too.
func (s *session) serve(ctx context.Context, in <-chan packetIn, gone chan error, renewed <-chan struct{}) ended {
	if err := s.subscribe(); err != nil {
		return ended{err: dialFault(s.d.cfg.Server, err)}
	}
	s.d.orders.wake() // answers that no session before brought home
	tick := time.NewTicker(max(s.alive/4, 250*time.Millisecond))
	defer tick.Stop()
	var closing <-chan time.Time // after ctx ended or a renewal: until then acks are awaited
	var why error
	done := ctx.Done()
	for {
		if why != nil && len(s.inflight) == 0 {
			return s.bye(why)
		}
		queue, raws, answers := s.d.queue.ready, s.d.raws, s.d.orders.ready
		if why != nil || len(s.inflight) >= s.window {
			queue, raws, answers = nil, nil, nil
		}
		if s.held {
			queue = nil
		}
		var err error
		select {
		case <-done:
			why, done, renewed = errEnded, nil, nil
			closing = time.After(s.d.cfg.Grace)
		case <-renewed:
			why, renewed = errRenewed, nil
			closing = time.After(s.d.cfg.Grace)
		case <-closing:
			return s.bye(why)
		case err = <-gone:
			gone <- nil // for run
			if err == nil || errors.Is(err, io.EOF) {
				err = fault(ServerUnreachable, nil, "", "server %s closed the connection", s.d.cfg.Server)
			}
			return ended{err: readFault(s.d.cfg.Server, err)}
		case p := <-in:
			if e := s.packet(p); e.err != nil {
				return e
			}
			if why == nil {
				err = s.fill()
			}
		case <-queue:
			err = s.fill()
		case <-answers:
			err = s.sendAnswers()
		case m := <-raws:
			err = s.sendRaw(m)
		case <-tick.C:
			err = s.keepAlive()
		}
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				err = dialFault(s.d.cfg.Server, err)
			}
			return ended{err: err}
		}
	}
}

// bye ends the session in good order.
func (s *session) bye(why error) ended {
	s.out = mqtt.AppendDisconnect(s.out[:0], mqtt.V5, mqtt.Success)
	_ = s.flush() // the session ends either way
	return ended{err: why}
}

func (s *session) subscribe() error {
	var p mqtt.Packet
	p.Reset(mqtt.SUBSCRIBE)
	p.ID = s.takeID()
	p.Filters = append(p.Filters, mqtt.Filter{Topic: []byte(wire.RefusedTopic), QoS: mqtt.AtLeastOnce})
	if len(s.d.cfg.Commands) > 0 {
		p.Filters = append(p.Filters, mqtt.Filter{Topic: []byte(wire.CommandFilter), QoS: mqtt.AtLeastOnce})
	}
	if len(s.d.cfg.Settings) > 0 {
		p.Filters = append(p.Filters, mqtt.Filter{Topic: []byte(wire.ConfigTopic), QoS: mqtt.AtLeastOnce})
	}
	return s.write(&p)
}

// fill sends from the queue until the window is full.
func (s *session) fill() error {
	for len(s.inflight) < s.window && !s.held {
		r, at, ok, err := s.d.queue.next()
		if err != nil {
			return fault(StateUnusable, err, "check the disk of the device", "the queue cannot be read")
		}
		if !ok {
			return nil
		}
		id := s.takeID()
		s.out, err = mqtt.AppendPublish(s.out[:0], mqtt.V5, []byte(topicOf(r.stream)), r.payload, mqtt.AtLeastOnce, id)
		if err != nil || len(s.out) > s.maxSend {
			// No server could take it, now or later.
			stream, child := streamOf(r.stream)
			s.d.refused(Refusal{Reason: "too-large", Text: "The reading is larger than the server takes.", Stream: stream, Child: child, Boot: r.boot, Seq: r.seq})
			if err := s.d.queue.ack(at); err != nil {
				return fault(StateUnusable, err, "check the disk of the device", "the queue cannot be written")
			}
			continue
		}
		if err := s.flush(); err != nil {
			return err
		}
		s.inflight[id] = flight{at: at, stream: r.stream, boot: r.boot, seq: r.seq}
		s.d.count(func(st *Status) { st.Sent++ })
	}
	// The window is full; there may be more.
	s.d.queue.wake()
	return nil
}

func (s *session) sendRaw(m rawMessage) error {
	id := s.takeID()
	var err error
	s.out, err = mqtt.AppendPublish(s.out[:0], mqtt.V5, []byte(m.topic), m.payload, mqtt.AtLeastOnce, id)
	if err == nil && len(s.out) > s.maxSend {
		err = fmt.Errorf("message of %d bytes, the server takes %d", len(s.out), s.maxSend)
	}
	if err != nil {
		m.result <- rawResult{err: fault(BadReading, err, "", "the message cannot be sent")}
		return nil
	}
	s.inflight[id] = flight{raw: m.result}
	return s.flush()
}

// packet handles one packet from the server.
func (s *session) packet(p packetIn) ended {
	switch p.typ {
	case mqtt.PUBACK:
		return ended{err: s.acked(p)}
	case mqtt.PUBLISH:
		return ended{err: s.delivered(p)}
	case mqtt.PINGRESP:
		s.pinged = time.Time{}
	case mqtt.SUBACK:
		if slices.ContainsFunc(p.codes, mqtt.ReasonCode.Failed) {
			s.d.cfg.Log.Warn("server refuses a subscription to notices, commands or settings")
		}
	case mqtt.DISCONNECT:
		return serverSays(s.d.cfg.Server, p.code)
	default:
		return ended{err: fault(ServerConfused, nil, "", "server %s sends %s in a session", s.d.cfg.Server, p.typ), floor: refusedWait}
	}
	return ended{}
}

// acked takes the answer to a message. Success or not, it is final: a failing
// PUBACK is never used for trouble that passes (design, section 5, Messages).
func (s *session) acked(p packetIn) error {
	f, ok := s.inflight[p.id]
	if !ok {
		return fault(ServerConfused, nil, "", "server %s acknowledges what was not sent", s.d.cfg.Server)
	}
	delete(s.inflight, p.id)
	if f.raw != nil {
		f.raw <- rawResult{code: p.code, reason: p.reason}
		return nil
	}
	if f.answer != 0 {
		// Success or not, it is final; there may be more than the window took.
		s.d.orders.wake()
		if err := s.d.orders.told(f.answer); err != nil {
			return fault(StateUnusable, err, "check the disk of the device", "what the device was told cannot be noted")
		}
		return nil
	}
	if err := s.d.queue.ack(f.at); err != nil {
		return fault(StateUnusable, err, "check the disk of the device", "the queue cannot be written")
	}
	r := Refusal{Via: ByAck, Reason: p.reason, Boot: f.boot, Seq: f.seq}
	r.Stream, r.Child = streamOf(f.stream)
	if f.told != nil {
		r.Reason, r.Text = f.told.Reason, f.told.Text
	}
	if !p.code.Failed() {
		s.d.count(func(st *Status) { st.Acked++ })
		if f.told != nil {
			s.d.refused(r)
		}
		return nil
	}
	if r.Reason == "" {
		r.Reason = "0x" + strconv.FormatUint(uint64(p.code), 16)
	}
	s.d.count(func(st *Status) { st.Refused++ })
	s.d.refused(r)
	return nil
}

// delivered takes a message from the server.
func (s *session) delivered(p packetIn) error {
	if p.qos == mqtt.ExactlyOnce {
		return fault(ServerConfused, nil, "", "server %s sends at QoS 2, which was not asked for", s.d.cfg.Server)
	}
	switch {
	case p.topic == wire.RefusedTopic:
		s.noticed(p.payload)
	case p.topic == wire.ConfigTopic:
		if err := s.configured(p); err != nil {
			return err // not acknowledged: it comes again
		}
	case strings.HasPrefix(p.topic, "command/"):
		if err := s.commanded(p); err != nil {
			return err // not acknowledged: it comes again
		}
	}
	if p.qos == mqtt.AtLeastOnce {
		s.out = mqtt.AppendPuback(s.out[:0], mqtt.V5, p.id, mqtt.Success)
		return s.flush()
	}
	return nil
}

// noticed takes a notice on the topic refused. One on a message that waits for
// its answer is told together with the answer, so that a refusal is told once.
func (s *session) noticed(payload []byte) {
	n, err := wire.ParseRefusal(payload)
	if err != nil {
		s.d.cfg.Log.Warn("notice cannot be read", slog.Any("err", err))
		return
	}
	if n.Reason == heldReason {
		s.hold(n)
		return
	}
	r := Refusal{Via: ByNotice, Reason: n.Reason, Text: n.Text, Stream: n.Stream, Child: n.Child, Dropped: n.Dropped, Count: int(n.Count)}
	if f, ok := s.inflight[n.PacketID]; ok && f.raw == nil {
		if !n.Dropped {
			f.told = &n
			s.inflight[n.PacketID] = f
			return
		}
		r.Boot, r.Seq = f.boot, f.seq
	}
	s.d.refused(r)
}

// heldReason is the server's word for a device in quarantine.
const heldReason = "quarantined"

// hold stops sending readings until the server ends this session: it leaves
// them without an answer, and what has no answer stays in the queue. The next
// session sends them again.
func (s *session) hold(n wire.Refusal) {
	if s.held {
		return
	}
	s.held = true
	s.d.count(func(st *Status) { st.Held = true })
	s.d.cfg.Log.Warn("the server holds this device's readings back; they stay queued", slog.String("reason", n.Reason), slog.String("text", n.Text))
	s.d.cfg.Refused(Refusal{Via: ByNotice, Held: true, Reason: n.Reason, Text: n.Text, Stream: n.Stream, Count: 1})
}

// keepAlive keeps the connection known to be good: a PINGREQ when nothing was
// written for half of the keep-alive, and an end when it is not answered
// within half of it.
func (s *session) keepAlive() error {
	if s.alive == 0 {
		return nil // the server switched it off
	}
	now := time.Now()
	if !s.pinged.IsZero() {
		if now.Sub(s.pinged) > s.alive/2 {
			return fault(ServerUnreachable, nil, "", "server %s is silent", s.d.cfg.Server)
		}
		return nil
	}
	// Also while messages are awaited: sending is no sign of life of the peer.
	if now.Sub(s.sent) < s.alive/2 && len(s.inflight) == 0 {
		return nil
	}
	s.out = mqtt.AppendPingreq(s.out[:0])
	if err := s.flush(); err != nil {
		return err
	}
	s.pinged = now
	return nil
}

// takeID gives a packet id that is not in use.
func (s *session) takeID() uint16 {
	for {
		s.nextID++
		if _, used := s.inflight[s.nextID]; s.nextID != 0 && !used {
			return s.nextID
		}
	}
}

func (s *session) write(p *mqtt.Packet) error {
	var err error
	if s.out, err = mqtt.Append(s.out[:0], mqtt.V5, p); err != nil {
		return err
	}
	return s.flush()
}

func (s *session) flush() error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	s.sent = time.Now()
	_, err := s.conn.Write(s.out)
	return err
}
