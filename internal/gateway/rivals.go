package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
)

// Two machines with one certificate take each other's session for ever: each
// comes back as soon as it is told that the other has it. An honest device
// takes its own session, too, after every loss that the server has not noticed;
// but then nobody is left at the other end of the old connection who could
// answer. So a take-over counts as fought over only if the connection that was
// told of it answers like somebody who was there, and only an unbroken row of
// such take-overs accuses (CC 3.2; design, section 5, Identity).
//
// What an answer is worth:
//
//   - The end of TLS (close_notify), sent after the connection was told: only
//     who holds the session's keys can send it. Linux answers for a process
//     that is gone with a reset, a rebooted device too, and a device behind
//     another address not at all.
//   - The end of TCP alone. Not every client sends more, but a balancer or a
//     mobile operator's proxy may send it for a device that is gone. So it
//     counts only where two addresses take turns: who comes is who was told
//     the last time.
//
// A reset, silence, and an end that was there before the connection was told
// are what flaky networks, reboots and impatient clients leave behind. Each
// breaks the row, and so does a connection that dies of silence.
const (
	rivalTakeOvers = 5         // fought over, in a row
	rivalSpan      = time.Hour // within which they are
	// answerTime is how long a connection that was told of a take-over may take
	// to answer: a bad mobile network, and no longer, because what an old
	// connection sends late is no answer.
	answerTime = time.Second
	// rivalsReason is the word under which the device is put in quarantine.
	rivalsReason = "certificate-used-twice"
)

// answer is what the end of a connection that was taken over did.
type answer uint8

const (
	answerNone   answer = iota // nothing, or a reset
	answerClosed               // ended TCP
	answerSpoke                // ended TLS
)

// rivals watches the take-overs of one device. The device's lock guards it.
type rivals struct {
	at     [rivalTakeOvers]int64 // Unix nanoseconds of those fought over
	n      int                   // in a row
	before netip.Prefix          // source of the connection that was told last
}

// note adds a take-over: what the connection from old answered when one from
// by took its place. It reports whether two holders of the certificate are at
// work.
func (r *rivals) note(a answer, old, by netip.Prefix, now int64) bool {
	fought := a == answerSpoke || a == answerClosed && apart(old, by) && (r.n == 0 || by == r.before)
	r.before = old
	if !fought {
		r.n = 0
		return false
	}
	r.at[r.n%rivalTakeOvers] = now
	r.n++
	if r.n < rivalTakeOvers || now-r.at[r.n%rivalTakeOvers] > int64(rivalSpan) {
		return false
	}
	r.n = 0
	return true
}

// apart reports whether two sources are different places. One device may have
// an address of each family.
func apart(a, b netip.Prefix) bool {
	return a.IsValid() && b.IsValid() && a != b && a.Addr().Is4() == b.Addr().Is4()
}

// takenBy ends c because its device came anew. Only a connection that waited
// for its client can tell who is there: in one that was not read, the client
// may have said goodbye long ago.
func (c *conn) takenBy(by Comer, why refusal) {
	c.mu.Lock()
	if !c.ended && why == endTakeOver && by.Serial == c.serial && c.reading.Load() {
		c.rival = &by
	}
	c.goesOn = c.goesOn || !c.ended && why == endTakeOver && !by.Clean
	c.mu.Unlock()
	c.end(why, mqtt.SessionTakenOver, nil) // [MQTT-3.1.4-3]
}

// contest listens to what a connection that was told of a take-over answers,
// and puts the device in quarantine when two are at work. It is the reading
// goroutine's last act but closing.
func (c *conn) contest(by *Comer) {
	a := c.answered()
	d, now := c.dev, c.g.now()
	if s := c.g.deps.Sessions; s != nil {
		ctx, cancel := c.g.noting()
		defer cancel()
		two, err := s.Fought(ctx, Fight{Device: c.device, Answer: uint8(a), Old: source(c.from), New: source(by.From)})
		if err != nil {
			c.g.deps.Log.LogAttrs(ctx, slog.LevelError, "a session was fought over, and that could not be noted", slog.Any("err", plain(err)))
		}
		if two {
			c.g.count.rivals.Add(1)
		}
		return
	}
	d.mu.Lock()
	two := d.rivals.note(a, source(c.from), source(by.From), now.UnixNano())
	d.mu.Unlock()
	if !two {
		return
	}
	// Shutdown waits for this connection, and the store outlives the gateway.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.g.ctx), 10*time.Second)
	defer cancel()
	c.g.count.rivals.Add(1)
	if err := c.g.deps.Identity.Suspect(ctx, c.device, rivalsReason); err != nil {
		c.g.deps.Log.LogAttrs(ctx, slog.LevelError, "a certificate is used twice, and its device could not be put in quarantine", slog.Any("err", err))
		d.mu.Lock()
		d.rivals.n = rivalTakeOvers - 1 // the next one tries again
		d.mu.Unlock()
	}
}

// answered waits for the client's answer to the end of its session. A 5.0
// client has been told by DISCONNECT and closes by itself (section 3.14.4); a
// 3.1.1 client is told by the end of TLS.
func (c *conn) answered() answer {
	if c.version != mqtt.V5 && c.tls.CloseWrite() != nil {
		return answerNone
	}
	if c.sock.SetReadDeadline(time.Now().Add(answerTime)) != nil {
		return answerNone
	}
	var trash [512]byte
	for range 256 {
		_, err := c.tls.Read(trash[:])
		switch {
		case err == nil:
			continue // on its way before the client heard
		case errors.Is(err, os.ErrDeadlineExceeded):
			return answerNone
		case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return answerNone
		case c.sock.ended:
			return answerClosed
		}
		return answerSpoke
	}
	return answerNone
}
