package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const (
	smallBuffer = 512
	// skipBuffer is what a large packet is read into that is thrown away: one
	// record of TLS at a time.
	skipBuffer = 16 << 10
	// lingerTimeout is how long the end of a connection may take, so that the
	// client reads why.
	lingerTimeout = 500 * time.Millisecond
)

// conn is one device's connection and, after CONNECT, its session. Its one
// goroutine reads; whoever has something to say writes, without waiting. It
// holds no buffer but a small one while it has nothing to do.
type conn struct {
	g                  *Gateway
	tls                *tls.Conn
	sock               *socket
	from               netip.Addr
	done               chan struct{} // closed when the session must end
	gone               chan struct{} // closed when its goroutine takes nothing more
	device             core.DeviceID
	serial             identity.Serial
	tlsVersion, cipher uint16 // negotiated

	barred refusal // why the device is not welcome; its CONNECT is answered with it

	// Set by CONNECT, then constant.
	version      mqtt.Version
	tellProblems bool // the client wants reason strings
	clean        bool
	clientID     string
	since        time.Time
	keepAlive    time.Duration // 0: none
	maxOut       int           // bytes of a packet to the client
	takes        int           // messages to the client without its acknowledgement, at most
	resumed      bool          // it goes on with the state of an earlier connection
	dev          *device
	product      *product

	// Only for the reading goroutine.
	id       identity.Identified
	src      *telemetry.Source
	kids     map[core.DeviceID]*kid // of a hub
	of       *telemetry.Source      // whose the message at hand is: src, or a child's
	child    core.DeviceID          // of the message at hand; "": it is the device's own
	strange  int64                  // Unix minute in which it last spoke for a child that it does not have
	will     *will
	aliases  *[maxAliases][]byte
	resent   *[window]uint16 // packet ids that may come again without charge
	heard    int64           // Unix nanoseconds of the last whole packet
	partial  int64           // since when a packet is incomplete; 0: none is
	skip     int             // bytes of a refused packet that are still to come
	skipped  int             // bytes of it that came since it last made progress
	warned   int64           // Unix nanoseconds of the last notice about withheld messages
	large    bool            // the packet at hand is one to be refused for its size
	series   uint64          // the packet at hand is one at QoS 2: its number
	left     bool            // DISCONNECT came: no will
	fresh    atomic.Pointer[identity.Identified]
	revoked  atomic.Bool // no will, nothing more to be judged
	withheld atomic.Bool // messages were left without an answer, for a quarantine
	ceded    atomic.Bool // another gateway has its session
	token    uint64      // of its claim
	reading  atomic.Bool // it waits for the client, with nothing left to do
	leftover []byte      // what came together with CONNECT

	mu       sync.Mutex // guards what follows; never held over I/O
	space    sync.Cond
	ring     ring
	out      []byte // in line to be written
	queued   bool   // in the writers' queue
	flushing bool
	ended    bool
	why      refusal
	code     mqtt.ReasonCode // of the DISCONNECT that says so; 0: none is sent
	detail   error
	goesOn   bool          // another connection took the session over and goes on with it
	rival    *Comer        // that took its place, if how the client answers is worth a look
	expiry   time.Duration // of the session after its connection
	subs     subscriptions
	notices  *notices
	down     *downward // nil: nothing was ever on its way to the device
	inbox    *inbox    // nil: it never sent at QoS 2

	small [smallBuffer]byte
}

// burst is what decoding and writing need while packets are there. It is
// pooled, so a connection that says nothing holds none.
type burst struct {
	packet mqtt.Packet
	out    []byte
	now    time.Time
}

func newBurst() any { return &burst{out: make([]byte, 0, 512)} }

// end ends the session: the first call says why, and with which code the
// client is told. It does not wait and may be called from anywhere.
func (c *conn) end(why refusal, code mqtt.ReasonCode, detail error) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended, c.why, c.code, c.detail = true, why, code, detail
	c.space.Broadcast()
	c.mu.Unlock()
	close(c.done)
	_ = c.sock.SetReadDeadline(time.Unix(1, 0)) // wakes the reader; if that fails, so does its read
}

// over reports whether the session has been ended.
func (c *conn) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// trouble ends the session because of ours: nothing more is acknowledged, and
// a 5.0 client is told that it passes (design, section 5).
func (c *conn) trouble(err error) {
	c.g.count.trouble.Add(1)
	code := mqtt.ServerBusy
	if core.ReasonOf(err) == "journal-full" || core.ReasonOf(err) == "disk-full" {
		code = mqtt.QuotaExceeded
	}
	c.end(endTrouble, code, err)
}

func (c *conn) writeFailed(err error) {
	if errors.Is(err, errSlowReader) {
		c.g.count.slowReaders.Add(1)
		c.end(endSlowReader, 0, nil)
		return
	}
	c.end(endLost, 0, nil)
}

// violation ends the session for a breach of the protocol, and keeps the
// device out for a while.
func (c *conn) violation(why refusal, code mqtt.ReasonCode, detail error) {
	c.dev.strike(c.g.now())
	c.end(why, code, detail)
}

// crashed confines a fault of ours to this connection.
func (c *conn) crashed(r any) {
	c.g.count.panics.Add(1)
	c.g.deps.Log.LogAttrs(c.g.ctx, slog.LevelError, "a connection's code failed; the connection is closed",
		slog.String("fault", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
	c.end(endPanic, mqtt.UnspecifiedError, nil)
}

// serve is the connection's goroutine after CONNECT was accepted. It begins
// with a small stack: the handshake's large one ended with its goroutine.
func (c *conn) serve() {
	defer c.g.work.Done()
	defer c.finish()
	defer func() {
		if r := recover(); r != nil {
			c.crashed(r)
		}
	}()
	c.read()
}

// read takes packets until the session ends.
func (c *conn) read() {
	buf := c.small[:]
	var large *[]byte
	defer func() { c.g.buffers.put(large) }()
	start, end := 0, 0
	if !c.arm() {
		return
	}
	if n := len(c.leftover); n > 0 {
		large = c.g.buffers.get(n)
		buf = *large
		end = copy(buf, c.leftover)
		c.leftover = nil
		if start = c.packets(buf, start, end); start < 0 {
			return
		}
	}
	for {
		switch {
		case start == end:
			start, end = 0, 0
			if c.skip == 0 {
				c.partial = 0
			}
		case start > 0:
			end = copy(buf, buf[start:end])
			start = 0
		case end == len(buf):
			// Grows with what has come, not with what is promised.
			next := c.g.buffers.get(2 * end)
			copy(*next, buf[:end])
			c.g.buffers.put(large)
			large, buf = next, *next
		}
		if c.skip > len(buf) && large == nil {
			large = c.g.buffers.get(skipBuffer) // no matter what is in small: it is passed
			copy(*large, buf[start:end])
			buf, start, end = *large, 0, end-start
		}
		if (end > 0 || c.skip > 0) && c.partial == 0 {
			c.partial = c.g.now().UnixNano()
			if !c.arm() {
				return
			}
		}
		c.reading.Store(true)
		n, err := c.tls.Read(buf[end:])
		c.reading.Store(false)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && c.arm() {
				continue
			}
			c.end(endLost, 0, nil)
			return
		}
		full := end+n == len(buf)
		end += n
		if start = c.packets(buf, start, end); start < 0 {
			return
		}
		if start == end && large != nil && !full && n < smallBuffer/2 {
			c.g.buffers.put(large)
			large, buf = nil, c.small[:]
			start, end = 0, 0
		}
	}
}

// packets takes the whole packets in buf[start:end] and returns where the
// first incomplete one begins, or -1 when the session has ended.
func (c *conn) packets(buf []byte, start, end int) int {
	b := c.g.bursts.Get().(*burst)
	b.now = c.g.now()
	begin := start
	for start < end {
		if c.skip > 0 {
			n := min(c.skip, end-start)
			if !c.pass(b, n) {
				start = -1
				break
			}
			start += n
			continue
		}
		n, err := mqtt.Frame(buf[start:end], c.g.limits.MaxPacket)
		if err != nil {
			if n, err = c.oversize(b, buf[start:end], err); err == errEnded {
				start = -1
				break
			} else if err == nil && n > 0 {
				start += n
				continue
			}
		}
		if err != nil {
			c.malformed(err)
			start = -1
			break
		}
		if n == 0 {
			break
		}
		if !c.take(b, buf[start:start+n]) {
			start = -1
			break
		}
		start += n
	}
	// Bytes of a packet are a sign of life, too: over a slow network a large one
	// may take longer than the keep-alive, and its client would begin it anew
	// for ever. PacketTimeout bounds what that gives to drips.
	c.heard = c.g.now().UnixNano()
	if start > begin && c.skip == 0 {
		c.partial = 0
	}
	b.out = c.flush(b.out)
	c.g.bursts.Put(b)
	return start
}

// malformed answers what the codec refused.
func (c *conn) malformed(err error) {
	code, why := mqtt.MalformedPacket, endMalformed
	var e *mqtt.Error
	if errors.As(err, &e) {
		code = e.Code
		if code == mqtt.PacketTooLarge {
			why = endPacketLarge
		}
	}
	c.violation(why, code, err)
}

// arm sets the deadline of the next read by what is true now, or ends the
// session because it has passed. Deadlines are not moved at every packet: when
// one passes, this looks again. 3.1.1: [MQTT-3.1.2-24]; 5.0: [MQTT-3.1.2-22].
func (c *conn) arm() bool {
	now := c.g.now()
	until := c.id.NotAfter
	why, code := endExpired, mqtt.NotAuthorized
	if c.serial.Credential().Legacy() {
		why = endLegacyClosed
	}
	if c.keepAlive > 0 {
		if t := time.Unix(0, c.heard).Add(c.keepAlive + c.keepAlive/2); t.Before(until) {
			until, why, code = t, endKeepAlive, mqtt.KeepAliveTimeout
		}
	}
	if c.partial != 0 {
		if t := time.Unix(0, c.partial).Add(c.g.conf.PacketTimeout); t.Before(until) {
			until, why, code = t, endKeepAlive, mqtt.KeepAliveTimeout
		}
	}
	if !now.Before(until) {
		c.end(why, code, nil)
		return false
	}
	// The system's clock need not be the one that is handed in.
	if c.sock.SetReadDeadline(time.Now().Add(until.Sub(now))) != nil || c.over() {
		return false
	}
	return true
}

// finish ends the connection once its goroutine takes nothing more.
func (c *conn) finish() {
	g := c.g
	defer func() {
		if r := recover(); r != nil {
			c.crashed(r)
		}
		_ = c.sock.Close() // nothing is left to lose on it
		g.lobby.closed()
	}()
	c.end(endLost, 0, nil) // if nothing else did
	now := g.now()
	g.count.disconnected.Add(1)
	func() {
		defer close(c.gone)
		c.fireWill(now)
		c.src.Close()
		for _, k := range c.kids {
			c.dropKid(k, now)
		}
	}()
	c.mu.Lock()
	why, code, detail, rival := c.why, c.code, c.detail, c.rival
	if c.notices != nil {
		c.notices.stop()
	}
	if c.down != nil && c.down.timer != nil {
		c.down.timer.Stop()
	}
	c.mu.Unlock()
	var k *kept
	if !c.revoked.Load() && !c.ceded.Load() {
		k = c.state(now)
		c.noteSession(now, false)
	}
	c.dev.leave(c, k, now)
	if why == endKeepAlive {
		c.calm()
	}
	switch why {
	case endLeft, endLost:
		g.ended.add(string(why))
	default:
		g.refuse(why, c.from, c.id.Subject, detail)
	}
	if why == refuseStopping {
		c.drainAcks()
	}
	if why == endLost || why == endSlowReader {
		return
	}
	if code != 0 && c.version == mqtt.V5 {
		c.send(mqtt.AppendDisconnect(nil, c.version, code))
	}
	c.settle()
	if rival != nil && why == endTakeOver {
		c.contest(rival)
	}
	if c.tls.CloseWrite() == nil {
		c.sock.shut(lingerTimeout)
	}
}

// settle writes what is in line, or waits for whoever is writing it: the end
// of TLS must not overtake the DISCONNECT.
func (c *conn) settle() {
	for range 50 {
		c.flush(nil)
		c.mu.Lock()
		busy := c.flushing
		c.mu.Unlock()
		if !busy {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// drainAcks waits until what was taken is decided, as long as the shutdown
// allows.
func (c *conn) drainAcks() {
	for {
		c.mu.Lock()
		waiting := false
		if !c.ring.empty() {
			waiting = c.ring.at(c.ring.head).state != hopeless
		}
		c.mu.Unlock()
		if !waiting || c.g.hurry() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// state is what is kept of the session for the client's return.
func (c *conn) state(now time.Time) *kept {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expiry <= 0 {
		return nil
	}
	k := &kept{clientID: c.clientID, until: now.Add(c.expiry).UnixNano(), subs: c.subs, inbox: c.inbox}
	if c.down != nil {
		k.down, k.config = c.down.sent, c.down.config
	}
	for i := range c.ring.slots {
		k.recent[i] = c.ring.slots[i].id
	}
	return k
}

// wasSent reports, once, whether a message marked as sent before is one of the
// last that an earlier connection took.
func (c *conn) wasSent(id uint16) bool {
	if c.resent == nil || id == 0 {
		return false
	}
	for i, r := range c.resent {
		if r == id {
			c.resent[i] = 0
			return true
		}
	}
	return false
}
