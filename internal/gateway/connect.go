package gateway

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// maxAliases is the Topic Alias Maximum that 5.0 clients are told.
const maxAliases = 16

// arrive is the goroutine of a new connection: TLS handshake, CONNECT, and
// then a fresh goroutine for the session, because a handshake leaves a stack
// of 16 KB behind and a session needs 4.
func (g *Gateway) arrive(tcp *net.TCPConn, from netip.Addr) {
	src := source(from)
	inLobby := true
	var sock *socket
	var c *conn
	handed := false
	defer func() {
		if r := recover(); r != nil {
			g.count.panics.Add(1)
			g.deps.Log.LogAttrs(g.ctx, slog.LevelError, "a connection's code failed before its session began", slog.Any("fault", r))
			g.ended.add(string(endPanic))
		}
		if inLobby {
			g.lobby.authenticated(src)
		}
		if handed {
			go c.serve() // g.work counts on
			return
		}
		if sock != nil {
			g.early.remove(sock)
			sock.established() // gives a slot back if it holds one
		}
		_ = tcp.Close() // refused, and said so where that is possible
		g.lobby.closed()
		g.work.Done()
	}()
	var err error
	if sock, err = newSocket(tcp, g.slots); err != nil {
		g.refuse(refuseHandshake, from, core.Subject{}, err)
		return
	}
	if !g.early.add(sock) {
		g.refuse(refuseStopping, from, core.Subject{}, nil)
		return
	}
	t := g.handshake(sock, from)
	if t == nil {
		return
	}
	id, why, err := g.identify(t)
	c = &conn{
		g: g, tls: t, sock: sock, from: from, id: id, device: id.Device, serial: id.Serial, barred: why, detail: err,
		tlsVersion: t.ConnectionState().Version, cipher: t.ConnectionState().CipherSuite,
		done: make(chan struct{}), gone: make(chan struct{}),
	}
	c.space.L = &c.mu
	if !c.greet() {
		return
	}
	g.early.remove(sock)
	g.lobby.authenticated(src)
	inLobby, handed = false, true
}

// handshake makes the TLS connection; nil when there is none.
func (g *Gateway) handshake(sock *socket, from netip.Addr) *tls.Conn {
	if err := sock.SetReadDeadline(time.Now().Add(g.conf.HandshakeTimeout)); err != nil {
		g.refuse(refuseGone, from, core.Subject{}, plain(err))
		return nil
	}
	t := tls.Server(sock, g.config())
	err := t.Handshake() // bounded by the socket's deadline; Shutdown closes the socket
	sock.established()
	if err != nil {
		why := handshakeReason(err)
		if g.stopping.Load() {
			why = refuseStopping
		}
		g.refuse(why, from, core.Subject{}, plain(err))
		sock.shut(lingerTimeout) // the alert that says so may still be on its way
		return nil
	}
	g.count.handshakes.Add(1)
	if t.ConnectionState().Version < tls.VersionTLS13 {
		g.count.tls12.Add(1)
	}
	return t
}

// greet reads CONNECT, answers it and makes the session. Whatever comes before
// a CONNECT was accepted is bounded by one deadline.
func (c *conn) greet() bool {
	g := c.g
	if c.sock.SetReadDeadline(time.Now().Add(g.conf.ConnectTimeout)) != nil {
		return false
	}
	b := g.bursts.Get().(*burst)
	defer g.bursts.Put(b)
	buf := g.buffers.get(0)
	defer func() { g.buffers.put(buf) }()
	size, end, err := 0, 0, error(nil)
	for size == 0 {
		if end == len(*buf) {
			next := g.buffers.get(2 * end)
			copy(*next, (*buf)[:end])
			g.buffers.put(buf)
			buf = next
		}
		n, err := c.tls.Read((*buf)[end:])
		if err != nil {
			why := refuseGone
			if errors.Is(err, os.ErrDeadlineExceeded) {
				why = refuseQuiet
			} else if r := handshakeReason(err); r == refuseByClient {
				why = r // in TLS 1.3 the client judges our certificate after our handshake is done
			}
			c.decline(why, nil)
			return false
		}
		end += n
		if mqtt.Type((*buf)[0]>>4) != mqtt.CONNECT {
			c.blame(refuseFirst, nil)
			return false
		}
		if size, err = mqtt.Frame((*buf)[:end], g.limits.MaxPacket); err != nil {
			c.blame(endMalformed, err)
			return false
		}
	}
	b.now = g.now()
	if err = mqtt.Decode(&b.packet, 0, (*buf)[:size], &g.limits); err != nil {
		c.badConnect(b, err)
		return false
	}
	if !c.connect(b) {
		return false
	}
	if size < end {
		c.leftover = append([]byte(nil), (*buf)[size:end]...)
	}
	return true
}

// decline closes without a word, for a reason that is nobody's breach.
func (c *conn) decline(why refusal, err error) {
	c.g.refuse(why, c.from, c.id.Subject, plain(err))
}

// blame closes for a breach of the protocol.
func (c *conn) blame(why refusal, err error) {
	c.strike()
	c.decline(why, err)
}

// strike counts a breach against the device, if it is one that is welcome.
func (c *conn) strike() {
	if c.barred == "" && c.device != "" {
		now := c.g.now()
		c.g.table.get(c.device, now).strike(now)
	}
}

// answer refuses the CONNECT with a code that the client understands.
func (c *conn) answer(b *burst, why refusal, code mqtt.ReasonCode) bool {
	c.decline(why, c.detail)
	out, err := mqtt.AppendConnack(b.out[:0], b.packet.Connect.Version, code, mqtt.NewSession, nil)
	if err != nil {
		return false
	}
	if _, err := c.tls.Write(out); err == nil && c.tls.CloseWrite() == nil {
		c.sock.shut(lingerTimeout)
	}
	return false
}

// badConnect answers a CONNECT that the codec refused. [MQTT-3.1.2-1],
// 3.1.1: [MQTT-3.1.2-2]: an unknown version is told so in its own form.
func (c *conn) badConnect(b *burst, err error) {
	c.strike()
	var e *mqtt.Error
	if !errors.As(err, &e) {
		c.decline(endMalformed, err)
		return
	}
	why := endMalformed
	switch e.Code {
	case mqtt.ClientIDNotValid: // 3.1.1: also for no name of a session that is to stay [MQTT-3.1.3-8]
		why = refuseClientID
	case mqtt.UnsupportedProtocolVersion:
		why = refuseProtocol
	}
	switch v := b.packet.Connect.Version; {
	case e.Code == mqtt.UnsupportedProtocolVersion && v != 0:
		c.answer(b, refuseProtocol, e.Code)
	case v == mqtt.V5, v == mqtt.V311 && e.Code == mqtt.ClientIDNotValid:
		c.answer(b, why, e.Code)
	default:
		c.decline(why, err)
	}
}

// connect judges a CONNECT and, if all is well, enters the session and says
// so. The identity is the certificate's: user name and password are ignored,
// and the client id only tells sessions of one device apart (CC 1.9, 3.1). Who
// showed none is asked for a token, while that is declared.
func (c *conn) connect(b *burst) bool {
	g, p := c.g, &b.packet
	k := &p.Connect
	c.version, c.clean, c.since = k.Version, k.CleanStart, b.now
	if c.barred != "" {
		code := mqtt.NotAuthorized
		if c.barred == refuseIdentity {
			code = mqtt.ServerUnavailable
		}
		return c.answer(b, c.barred, code)
	}
	if why, code := c.unacceptable(p); why != "" {
		c.strike()
		return c.answer(b, why, code)
	}
	if c.device == "" && !c.byToken(b) {
		return false
	}
	c.dev = g.table.get(c.device, b.now)
	if g.stopping.Load() {
		return c.answer(b, refuseStopping, mqtt.ServerUnavailable)
	}
	if g.doubt.Load() {
		return c.answer(b, endDoubt, mqtt.ServerBusy)
	}
	if why := c.dev.admit(b.now); why != "" {
		return c.answer(b, why, mqtt.ConnectionRateExceeded)
	}
	c.findings(k)
	assigned := len(k.ClientID) == 0
	c.clientID = string(k.ClientID)
	if assigned {
		c.clientID = "auto-" + rand.Text()
	}
	c.product = g.product(c.id.Product)
	c.terms(p)
	resumed, ok := c.enter(b)
	if !ok {
		return false
	}
	state := mqtt.NewSession
	if resumed != nil {
		state = mqtt.KeptSession
		c.subs, c.resent = resumed.subs, &resumed.recent
		c.resumeDown(resumed)
		if c.inbox = resumed.inbox; c.inbox != nil {
			c.inbox.resume()
		}
		if c.subs.has(wire.Refused) {
			c.notices = &notices{}
		}
	}
	c.will = newWill(k)
	c.heard = b.now.UnixNano()
	props := c.offer(p, assigned)
	out, err := mqtt.AppendConnack(b.out[:0], c.version, mqtt.Success, state, props)
	if err == nil && len(out) > c.maxOut { // [MQTT-3.1.2-24]; who takes this takes every SUBACK
		c.leaveEarly("")
		return c.answer(b, endPacketLarge, mqtt.PacketTooLarge)
	}
	if err == nil {
		_, err = c.tls.Write(out)
	}
	if err != nil {
		c.leaveEarly(endLost)
		return false
	}
	g.count.connected.Add(1)
	c.noteSession(b.now, true)
	c.deliver()
	if g.deps.Log.Enabled(g.ctx, slog.LevelDebug) {
		g.deps.Log.LogAttrs(g.ctx, slog.LevelDebug, "device connected", slog.String("product", string(c.id.Product)),
			slog.String("subject", c.id.Subject.String()), slog.String("version", c.version.String()), slog.String("source", shorten(c.from).String()))
	}
	return true
}

// unacceptable says what is wrong with a CONNECT that is well-formed.
func (c *conn) unacceptable(p *mqtt.Packet) (refusal, mqtt.ReasonCode) {
	k := &p.Connect
	if _, enhanced := p.Props.Data(mqtt.PropAuthMethod); enhanced {
		return refuseAuth, mqtt.BadAuthenticationMethod
	}
	// [MQTT-3.2.2-12]. In 3.1.1 the will's QoS changes nothing: it is judged
	// here and goes no further.
	if k.Version == mqtt.V5 && k.HasWill && k.Will.QoS > mqtt.AtLeastOnce {
		return refuseWillQoS, mqtt.QoSNotSupported
	}
	return "", 0
}

// findings notes, once per device, what a well-made device would not do.
func (c *conn) findings(k *mqtt.Connect) {
	if !k.HasUsername && !k.HasPassword || c.id.Credential == identity.DeviceToken {
		return
	}
	c.dev.mu.Lock()
	first := c.dev.told&toldPassword == 0
	c.dev.told |= toldPassword
	c.dev.mu.Unlock()
	if first {
		c.g.count.passwords.Add(1)
		c.g.deps.Log.LogAttrs(c.g.ctx, slog.LevelInfo, "a device sends a user name or password, which is ignored",
			slog.String("product", string(c.id.Product)), slog.String("subject", c.id.Subject.String()))
	}
}

// terms takes over what the client asks of the session.
func (c *conn) terms(p *mqtt.Packet) {
	c.keepAlive = time.Duration(p.Connect.KeepAlive) * time.Second
	c.maxOut = int(p.Props.NumberOr(mqtt.PropMaximumPacketSize, wire.MaxPacket))
	c.takes = int(p.Props.NumberOr(mqtt.PropReceiveMaximum, 0xffff))
	c.tellProblems = p.Props.NumberOr(mqtt.PropRequestProblemInfo, 1) == 1
	longest := c.g.conf.SessionExpiry
	if c.version == mqtt.V311 {
		if !c.clean {
			c.expiry = longest
		}
		return
	}
	c.expiry = c.expires(p.Props.NumberOr(mqtt.PropSessionExpiry, 0))
}

func (c *conn) expires(seconds uint32) time.Duration {
	return min(time.Duration(seconds)*time.Second, c.g.conf.SessionExpiry)
}

// offer is what a 5.0 client is told of the session.
func (c *conn) offer(p *mqtt.Packet, assigned bool) *mqtt.Properties {
	if c.version != mqtt.V5 {
		return nil
	}
	o := &mqtt.Properties{}
	o.SetNumber(mqtt.PropReceiveMaximum, window)
	o.SetNumber(mqtt.PropMaximumQoS, 1)
	o.SetNumber(mqtt.PropMaximumPacketSize, uint32(c.maxPacket()))
	o.SetNumber(mqtt.PropTopicAliasMaximum, maxAliases)
	o.SetNumber(mqtt.PropSharedSubs, 0)
	o.SetNumber(mqtt.PropSubscriptionIDs, 0)
	if asked := p.Props.NumberOr(mqtt.PropSessionExpiry, 0); time.Duration(asked)*time.Second != c.expiry {
		o.SetNumber(mqtt.PropSessionExpiry, uint32(c.expiry/time.Second)) // [MQTT-3.2.2-14]
	}
	if assigned {
		o.SetData(mqtt.PropAssignedClientID, []byte(c.clientID)) // [MQTT-3.1.3-7], [MQTT-3.2.2-16]
	}
	for _, u := range p.Props.User {
		if string(u.Name) == wire.ProtocolProperty {
			o.User = append(o.User, mqtt.UserProperty{Name: []byte(wire.ProtocolProperty), Value: []byte(wire.Protocol)})
			break
		}
	}
	return o
}

// enter makes c the device's session. Sessions that it takes over have
// stopped taking messages when it returns, so that none of theirs comes after
// one of c's. Whether the device is still welcome is asked after the session
// can be found by kick: a revocation meets it either there or here.
func (c *conn) enter(b *burst) (*kept, bool) {
	g := c.g
	if !c.claim(b) {
		return nil, false
	}
	out, why, resumed := c.dev.enter(c, b.now)
	for i, old := range out {
		if old == nil {
			continue
		}
		g.count.takeOvers.Add(1)
		old.takenBy(c.comer(), why[i])
		t := time.NewTimer(2 * time.Second)
		select {
		case <-old.gone:
		case <-t.C: // it hangs in a fault of ours; it has ended all the same
		}
		t.Stop()
	}
	if c.claimLost() {
		c.leaveEarly("")
		c.answer(b, endTakeOver, mqtt.ServerBusy)
		return nil, false
	}
	id, err := c.recheck()
	if err != nil {
		c.leaveEarly("")
		c.detail = err
		c.answer(b, barred(err), mqtt.NotAuthorized)
		return nil, false
	}
	c.id = id
	c.src = c.source(id)
	if c.over() { // taken over or cut meanwhile
		c.leaveEarly("")
		c.answer(b, c.why, inConnack(c.code))
		return nil, false
	}
	return resumed, true
}

// inConnack is the code of a CONNACK that says what a DISCONNECT was to say to
// a session that never came to be (tables 3-1 and 3-10: they differ).
func inConnack(code mqtt.ReasonCode) mqtt.ReasonCode {
	switch code {
	case mqtt.SessionTakenOver:
		return mqtt.ServerBusy
	case mqtt.NotAuthorized, mqtt.QuotaExceeded, mqtt.ServerBusy, mqtt.UnspecifiedError:
		return code
	default: // shutting down, ended by an operator, none
		return mqtt.ServerUnavailable
	}
}

func (c *conn) source(id identity.Identified) *telemetry.Source {
	return c.g.deps.Intake.NewSource(telemetry.SourceInfo{
		Device: id.Device, Product: id.Product, Subject: id.Subject, OwnedSince: id.OwnedSince, Sender: [16]byte(id.Serial),
	})
}

// leaveEarly takes back a session that never served.
func (c *conn) leaveEarly(why refusal) {
	c.end(endLost, 0, nil)
	close(c.gone)
	c.dev.leave(c, nil, c.g.now())
	if why != "" {
		c.g.ended.add(string(why))
	}
}

// refresh asks anew who the device is: the session goes on under the new
// subject from its next message on, or ends if the device is not welcome. No
// handshake took place, so it must not count as a use of the certificate: one
// that was just replaced would accuse its innocent device of being a copy.
func (c *conn) refresh() {
	id, err := c.recheck()
	if err != nil {
		why := endWithdrawn
		if c.serial.Credential().Legacy() {
			why = barred(err)
		}
		c.cut(why, mqtt.NotAuthorized)
		return
	}
	c.fresh.Store(&id)
	c.deliver()
}

// cut ends the session of a device that is not welcome any more. What it sent
// before and was not judged yet is not judged now, and its will does not fire.
func (c *conn) cut(why refusal, code mqtt.ReasonCode) {
	c.revoked.Store(true)
	c.end(why, code, nil)
}
