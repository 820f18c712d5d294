package gateway

import (
	"sync"

	"github.com/hawser-iot/hawser/internal/mqtt"
)

// window is how many PUBLISH packets of one connection may be undecided. In
// 5.0 it is announced as Receive Maximum; in both versions the gateway stops
// reading when it is reached, which is the back-pressure.
const window = 32

type slotState uint8

const (
	undecided slotState = iota
	decided             // may be acknowledged, in its turn
	hopeless            // our trouble: never acknowledged, nor is anything after it
)

// slot is one PUBLISH between its arrival and its PUBACK.
type slot struct {
	id     uint16 // 0 at QoS 0: no PUBACK
	code   mqtt.ReasonCode
	state  slotState
	reason uint8  // index into Gateway.reasons, 0 for none
	rec    bool   // at QoS 2: PUBREC in place of PUBACK
	round  uint16 // at QoS 2: see inbox
}

// ring holds the slots in order of arrival. PUBACKs leave in that order
// [MQTT-4.6.0-2], whatever order the decisions come in.
type ring struct {
	slots      [window]slot
	head, tail uint32 // head is the oldest slot in use
}

func (r *ring) full() bool  { return r.tail-r.head == window }
func (r *ring) empty() bool { return r.tail == r.head }

func (r *ring) at(token uint32) *slot { return &r.slots[token%window] }

// reserve waits for a free slot and takes it. It fails when the session ends.
// scratch is as for flush: what the reader itself decided is written before it
// waits for others.
func (c *conn) reserve(id uint16, qos mqtt.QoS, round uint16, scratch *[]byte) (token uint32, ok bool) {
	c.mu.Lock()
	if c.ring.full() {
		c.mu.Unlock()
		*scratch = c.flush(*scratch)
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	for c.ring.full() && !c.ended {
		c.space.Wait()
	}
	if c.ended {
		return 0, false
	}
	token = c.ring.tail
	*c.ring.at(token) = slot{id: id, rec: qos == mqtt.ExactlyOnce, round: round}
	c.ring.tail++
	return token, true
}

// decide sets what PUBACK the slot gets and lets it go in its turn.
func (c *conn) decide(token uint32, code mqtt.ReasonCode, reason uint8) {
	c.mu.Lock()
	s := c.ring.at(token)
	s.code, s.reason, s.state = code, reason, decided
	c.mu.Unlock()
}

// giveUp says that the session ended over a message, so that nobody waits for its
// decision, unless the journal brings one.
func (c *conn) giveUp(token uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.ring.at(token); s.state == undecided {
		s.state = hopeless
	}
}

// foretell sets the code of a slot whose decision is still being recorded.
func (c *conn) foretell(token uint32, code mqtt.ReasonCode, reason uint8) {
	c.mu.Lock()
	s := c.ring.at(token)
	s.code, s.reason = code, reason
	c.mu.Unlock()
}

// Done hears from the journal that the record of a message is on disk, or that
// it may not be. It is called by the journal's committer and does not wait.
func (c *conn) Done(token uint64, err error) {
	c.mu.Lock()
	s := c.ring.at(uint32(token))
	if err != nil {
		s.state = hopeless
		c.mu.Unlock()
		c.trouble(err)
		return
	}
	s.state = decided
	// Whoever flushes now, or is queued to, finds this slot too.
	wake := uint32(token) == c.ring.head && !c.queued && !c.flushing
	if wake {
		c.queued = true
	}
	c.mu.Unlock()
	if wake {
		c.g.writers.push(c)
	}
}

// send puts bytes in line to be written after what is already there. flush
// sends them.
func (c *conn) send(b []byte) {
	c.mu.Lock()
	c.out = append(c.out, b...)
	c.mu.Unlock()
}

// flush writes every acknowledgement whose turn has come, and what send put in
// line, as one TLS record. Only one goroutine flushes at a time; the others
// leave at once, because that one looks again before it stops. It never waits
// for the client. scratch is memory to write from; it is returned for reuse.
func (c *conn) flush(scratch []byte) []byte {
	if k := c.g.deps.Knows; k != nil && !k() {
		c.withholdAcks()
	}
	c.mu.Lock()
	c.queued = false
	if c.flushing {
		c.mu.Unlock()
		return scratch
	}
	c.flushing = true
	for {
		scratch = c.collect(scratch[:0])
		if len(scratch) == 0 {
			break
		}
		c.mu.Unlock()
		_, err := c.tls.Write(scratch)
		c.mu.Lock()
		if err != nil {
			c.flushing = false
			c.mu.Unlock()
			c.writeFailed(err)
			return scratch
		}
	}
	c.flushing = false
	c.mu.Unlock()
	return scratch
}

// withholdAcks ends the session without another acknowledgement.
func (c *conn) withholdAcks() {
	c.mu.Lock()
	if !c.ring.empty() {
		c.ring.at(c.ring.head).state = hopeless
	}
	c.mu.Unlock()
	c.end(endDoubt, mqtt.ServerBusy, nil)
}

// collect takes what may be written now. The lock is held.
func (c *conn) collect(b []byte) []byte {
	before := c.ring.head
	acks := uint64(0)
	for !c.ring.empty() {
		s := c.ring.at(c.ring.head)
		if s.state != decided {
			break
		}
		switch {
		case s.id == 0:
		case s.rec:
			c.inbox.decided(s.id, s.round)
			b = mqtt.AppendPubrec(b, c.version, s.id, mqtt.Success)
			acks++
		default:
			b = c.appendPuback(b, s)
			acks++
		}
		c.ring.head++
	}
	if c.ring.head != before {
		c.space.Broadcast()
	}
	if acks > 0 {
		c.g.count.acks.Add(acks)
		c.g.count.ackWrites.Add(1)
	}
	if len(c.out) > 0 {
		b = append(b, c.out...)
		c.out = nil
	}
	return b
}

func (c *conn) appendPuback(b []byte, s *slot) []byte {
	if s.code.Failed() && s.reason != 0 && c.version == mqtt.V5 && c.tellProblems {
		p := mqtt.Packet{Type: mqtt.PUBACK, ID: s.id, Code: s.code}
		p.Props.SetData(mqtt.PropReasonString, []byte(c.g.reasons[s.reason]))
		// [MQTT-3.4.2-2]: no reason string if the client would find the packet
		// too large.
		if out, err := mqtt.Append(b, c.version, &p); err == nil && len(out)-len(b) <= c.maxOut {
			return out
		}
	}
	return mqtt.AppendPuback(b, c.version, s.id, s.code)
}

// writers are the goroutines that write acknowledgements. Completions only put
// a connection in their queue, each at most once; by the time that a writer
// comes to it, the acknowledgements of a whole commit are there.
type writers struct {
	mu     sync.Mutex
	ready  sync.Cond
	queue  []*conn
	idle   int
	closed bool
	wg     sync.WaitGroup
}

func (w *writers) start(n int) {
	w.ready.L = &w.mu
	for range n {
		w.wg.Go(w.run)
	}
}

func (w *writers) push(c *conn) {
	w.mu.Lock()
	w.queue = append(w.queue, c)
	wake := w.idle > 0
	w.mu.Unlock()
	if wake {
		w.ready.Signal()
	}
}

func (w *writers) run() {
	var mine []*conn
	scratch := make([]byte, 0, 512)
	for {
		w.mu.Lock()
		for len(w.queue) == 0 {
			if w.closed {
				w.mu.Unlock()
				return
			}
			w.idle++
			w.ready.Wait()
			w.idle--
		}
		// Half of the queue, so that another writer can share the work.
		n := min((len(w.queue)+1)/2, 32)
		mine = append(mine[:0], w.queue[:n]...)
		rest := copy(w.queue, w.queue[n:])
		clear(w.queue[rest:])
		w.queue = w.queue[:rest]
		wake := rest > 0 && w.idle > 0
		w.mu.Unlock()
		if wake {
			w.ready.Signal()
		}
		for _, c := range mine {
			scratch = c.guardedFlush(scratch)
		}
		clear(mine)
	}
}

// stop ends the writers after everything queued was written.
func (w *writers) stop() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.ready.Broadcast()
	w.wg.Wait()
}

// guardedFlush confines a fault of ours to the connection.
func (c *conn) guardedFlush(scratch []byte) []byte {
	defer func() {
		if r := recover(); r != nil {
			c.crashed(r)
		}
	}()
	return c.flush(scratch)
}
