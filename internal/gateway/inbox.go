package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"sync"

	"github.com/hawser-iot/hawser/internal/mqtt"
)

// maxTaken is how many messages at QoS 2 of one session may wait for their
// PUBREL. Stock clients keep 10 to 20 under way.
const maxTaken = 128

// maxUsed is how many packet identifiers an inbox counts one by one.
const maxUsed = 64

// inbox is what a 3.1.1 session has of its messages at QoS 2 (section 4.3.3):
// the packet identifiers that were taken and not released. From each it makes
// the number under which a reading without one of its own is stored, so that a
// message that comes again is stored once, also when the server died between
// the record and the PUBREC.
//
// The number is made of the identifier and of how often it was released. An
// identifier is used again only after its PUBCOMP, and that leaves when the
// release is on disk. So what a server that died took and had not written down
// gets the same number again, whatever the client sends first when it comes
// back: a message costs one note, at its PUBREL, and none when it comes. After
// many identifiers the counting begins anew, in another turn.
type inbox struct {
	mu    sync.Mutex
	salt  [16]byte
	turn  uint64
	used  map[uint16]uses // in this turn; the others were never released in it
	round uint16          // of the message taken last; never 0 once there is one
	taken map[uint16]takenOnce
	onto  bool // Memory has had this turn
}

// uses is how often an identifier was released in this turn.
type uses struct {
	n    uint32
	idle bool // and nothing came under it since
}

// takenOnce is one message between PUBLISH and PUBREL.
type takenOnce struct {
	turn  uint64
	n     uint32
	round uint16 // 0: an earlier connection took it
	done  bool   // it is decided, and that is on disk
}

// once is how a message at QoS 2 is to be treated. The zero value is that of
// every other one.
type once struct {
	round  uint16
	series uint64
	again  bool // it is taken already: it only gets its PUBREC
}

var (
	errTooMany   = errors.New("too many messages at QoS 2 wait for their PUBREL")
	errIDInUse   = errors.New("a packet identifier that is in use")
	errInboxSize = errors.New("a kept set of packet identifiers is damaged")
)

func newInbox() *inbox {
	x := &inbox{taken: map[uint16]takenOnce{}, used: map[uint16]uses{}}
	_, _ = rand.Read(x.salt[:]) // never fails (crypto/rand)
	return x
}

// series is the number of a message in place of the boot that it does not say.
func (x *inbox) series(t takenOnce, id uint16) uint64 {
	var b [30]byte
	copy(b[:], x.salt[:])
	binary.BigEndian.PutUint64(b[16:], t.turn)
	binary.BigEndian.PutUint32(b[24:], t.n)
	binary.BigEndian.PutUint16(b[28:], id)
	sum := sha256.Sum256(b[:])
	return binary.BigEndian.Uint64(sum[:8])
}

// take takes a message. note says that the inbox must be on disk before the
// message may be recorded.
func (x *inbox) take(id uint16, dup bool) (o once, note bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	t, there := x.taken[id]
	switch {
	case there && dup:
		if t.done {
			return once{again: true, round: t.round}, false, nil
		}
	case there && t.round != 0:
		return once{}, false, errIDInUse
	case there:
		// An earlier connection took one with this identifier, and this one is
		// not marked as sent before: its client has forgotten the other
		// [MQTT-3.3.1-1]. It is a new message, and must not be taken for the old.
		x.count(id)
		t, note = takenOnce{turn: x.turn, n: x.used[id].n}, true
	case len(x.taken) >= maxTaken:
		return once{}, false, errTooMany
	default:
		t = takenOnce{turn: x.turn, n: x.used[id].n}
	}
	if u, ok := x.used[id]; ok && u.idle {
		u.idle = false
		x.used[id] = u
	}
	if x.round++; x.round == 0 {
		x.round++
	}
	t.round = x.round
	x.taken[id] = t
	return once{round: t.round, series: x.series(t, id)}, note || !x.onto, nil
}

// count makes the next message of an identifier another one than the last. A
// new turn must be on disk before a message may be recorded in it.
func (x *inbox) count(id uint16) {
	u := x.used[id]
	if u.idle {
		return // nothing came under it since
	}
	if _, ok := x.used[id]; !ok && len(x.used) >= maxUsed || u.n == math.MaxUint32 {
		x.turn++
		x.onto = false
		clear(x.used)
		return
	}
	x.used[id] = uses{u.n + 1, true}
}

// decided notes that the message of a round is on disk.
func (x *inbox) decided(id, round uint16) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if t, ok := x.taken[id]; ok && t.round == round {
		t.done = true
		x.taken[id] = t
	}
}

// release forgets a message: its identifier may name another one. So may one
// that is not there: if the server died, what came after the last release is
// not known.
func (x *inbox) release(id uint16) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.taken, id)
	x.count(id)
}

// resume marks what is there as taken by an earlier connection.
func (x *inbox) resume() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, t := range x.taken {
		t.round = 0
		x.taken[id] = t
	}
}

// The form on disk: salt, turn, how many identifiers were used, each of these
// with its count, and what is taken with its turn and count each.
const (
	inboxHead = 16 + 8 + 2
	inboxUsed = 2 + 4
	inboxStep = 2 + 8 + 4
)

func (x *inbox) bytes() []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := make([]byte, 0, inboxHead+inboxUsed*len(x.used)+inboxStep*len(x.taken))
	b = append(b, x.salt[:]...)
	b = binary.BigEndian.AppendUint64(b, x.turn)
	b = binary.BigEndian.AppendUint16(b, uint16(len(x.used)))
	for id, u := range x.used {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), u.n)
	}
	for id, t := range x.taken {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(b, id), t.turn)
		b = binary.BigEndian.AppendUint32(b, t.n)
	}
	return b
}

func readInbox(b []byte) (*inbox, error) {
	if len(b) < inboxHead {
		return nil, errInboxSize
	}
	x := &inbox{taken: map[uint16]takenOnce{}, used: map[uint16]uses{}, onto: true, turn: binary.BigEndian.Uint64(b[16:])}
	copy(x.salt[:], b)
	used := int(binary.BigEndian.Uint16(b[24:])) * inboxUsed
	b = b[inboxHead:]
	if used > maxUsed*inboxUsed || used > len(b) || (len(b)-used)%inboxStep != 0 || (len(b)-used)/inboxStep > maxTaken {
		return nil, errInboxSize
	}
	for u := b[:used]; len(u) > 0; u = u[inboxUsed:] {
		x.used[binary.BigEndian.Uint16(u)] = uses{n: binary.BigEndian.Uint32(u[2:])} // whether something came under it is not known
	}
	for b = b[used:]; len(b) > 0; b = b[inboxStep:] {
		x.taken[binary.BigEndian.Uint16(b)] = takenOnce{turn: binary.BigEndian.Uint64(b[2:]), n: binary.BigEndian.Uint32(b[10:])}
	}
	return x, nil
}

// lasting reports whether what the session has is to outlive the connection,
// and the server.
func (c *conn) lasting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expiry > 0 && c.g.deps.Memory != nil && !c.id.Subject.IsZero()
}

// once takes a message at QoS 2 of a 3.1.1 client. It waits for the disk when
// it is the session's first. It returns false when the session has ended.
func (c *conn) once(b *burst) (once, bool) {
	p := &b.packet
	c.mu.Lock()
	if c.inbox == nil {
		c.inbox = newInbox()
	}
	x := c.inbox
	c.mu.Unlock()
	o, note, err := x.take(p.ID, p.Dup)
	x.mu.Lock()
	turn := x.turn
	x.mu.Unlock()
	if err != nil {
		c.violation(endQoS2, mqtt.ProtocolError, err)
		return once{}, false
	}
	if !note || !c.lasting() {
		return o, true
	}
	b.out = c.flush(b.out)
	c.noteSession(b.now, true)
	written := make(chan error, 1)
	c.g.scribe.then(func(err error) { written <- err })
	select {
	case err = <-written:
	case <-c.done:
		return once{}, false
	}
	if err != nil {
		c.trouble(err)
		return once{}, false
	}
	x.mu.Lock()
	x.onto = x.onto || x.turn == turn // of another connection's turn it says nothing
	x.mu.Unlock()
	return o, true
}

// released takes a PUBREL. Its PUBCOMP lets the client use the identifier for
// another message, so it leaves when the release is on disk. One for what is
// not there is answered as well: its PUBCOMP was lost [MQTT-4.3.3-2], or the
// server died meanwhile.
func (c *conn) released(b *burst) bool {
	p := &b.packet
	c.mu.Lock()
	x := c.inbox
	c.mu.Unlock()
	if c.version != mqtt.V311 {
		c.violation(endMisplaced, mqtt.ProtocolError, errors.New(p.Type.String()))
		return false
	}
	done := mqtt.AppendPubcomp(nil, c.version, p.ID, mqtt.Success)
	if x != nil {
		x.release(p.ID)
	}
	if x == nil || !c.lasting() {
		c.send(done)
		return true
	}
	c.noteSession(b.now, true)
	c.g.scribe.then(func(err error) {
		if err != nil {
			c.trouble(err)
			return
		}
		c.send(done)
		c.g.writers.push(c)
	})
	return true
}
