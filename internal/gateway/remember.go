package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
)

// Memory keeps what devices listen to between two runs of the server: the
// store's. A Listening whose Until is zero is to be dropped.
type Memory interface {
	Remember(context.Context, []command.Listening) error
}

// remembered is what Memory has of a session.
type remembered struct {
	clientID string
	subject  core.Subject
	subs     subscriptions
	inbox    []byte // see inbox.bytes
	until    int64  // Unix nanoseconds
}

// liveFor is how much longer than its expiry a session that lives is
// remembered: until its connection ends no time runs [MQTT-3.1.2-23]. It is
// more than twice as long as what tidy leaves of it.
const liveFor = 30 * 24 * time.Hour

// scribeEvery is how often notes are written. A session that was subscribed
// within it before a crash is subscribed again by its client: it is told that
// nothing was kept.
const scribeEvery = 250 * time.Millisecond

// scribe gathers what is to be remembered, and writes it a moment later, many
// at a time.
type scribe struct {
	kick    chan struct{} // somebody waits
	mu      sync.Mutex    // guards what follows
	pending map[sessionName]command.Listening
	after   []func(error) // told of the next writing
}

// then calls f when everything that was put down before is on disk, or could
// not be written. f is called by the scribe and must not wait.
func (s *scribe) then(f func(error)) {
	s.mu.Lock()
	s.after = append(s.after, f)
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default: // it is told already
	}
}

// forget drops what is not written yet.
func (s *scribe) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = nil
}

type sessionName struct {
	device   core.DeviceID
	clientID string
}

// note puts a session down, or, with the zero time, that there is none any
// more.
func (g *Gateway) note(id core.DeviceID, r remembered) {
	l := command.Listening{Device: id, Subject: r.subject, ClientID: r.clientID, Topics: uint16(r.subs), Inbox: r.inbox}
	if r.until > 0 {
		l.Until = time.Unix(0, r.until).UTC().Truncate(time.Microsecond)
	}
	s := &g.scribe
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil {
		s.pending = map[sessionName]command.Listening{}
	}
	s.pending[sessionName{id, r.clientID}] = l
}

// noteSession remembers a session that is to outlive its connection, if what is
// remembered of it is not true any more; and forgets one that is not. live says
// that the connection goes on.
func (c *conn) noteSession(now time.Time, live bool) {
	g := c.g
	if g.deps.Memory == nil || c.id.Subject.IsZero() || c.ceded.Load() {
		return
	}
	c.mu.Lock()
	subs, expiry, box := c.subs, c.expiry, c.inbox
	c.mu.Unlock()
	var inside []byte
	if box != nil {
		inside = box.bytes()
	}
	d := c.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	at := -1
	for i := range d.rows {
		if d.rows[i].clientID == c.clientID {
			at = i
		}
	}
	if expiry <= 0 || subs == 0 && inside == nil {
		if at >= 0 {
			d.rows = append(d.rows[:at], d.rows[at+1:]...)
			g.note(c.device, remembered{clientID: c.clientID, subject: c.id.Subject})
		}
		return
	}
	until := now.Add(expiry).UnixNano()
	if live {
		until += int64(liveFor)
		if at >= 0 && d.rows[at].subs == subs && bytes.Equal(d.rows[at].inbox, inside) && until-d.rows[at].until < int64(liveFor/2) {
			return
		}
	}
	if at < 0 {
		if len(d.rows) == maxSessions {
			g.note(c.device, remembered{clientID: d.rows[0].clientID, subject: c.id.Subject})
			d.rows = d.rows[1:]
		}
		d.rows = append(d.rows, remembered{})
		at = len(d.rows) - 1
	}
	d.rows[at] = remembered{c.clientID, c.id.Subject, subs, inside, until}
	g.note(c.device, d.rows[at])
}

// Recall brings back what was remembered. It is called before Serve.
func (g *Gateway) Recall(list []command.Listening) {
	now := g.now()
	for i := range list {
		l := &list[i]
		if !l.Until.After(now) {
			continue
		}
		d := g.table.get(l.Device, now)
		d.mu.Lock()
		g.recall(d, l, now)
		d.mu.Unlock()
	}
}

// recall brings one session back. d.mu is held.
func (g *Gateway) recall(d *device, l *command.Listening, now time.Time) {
	var box *inbox
	if l.Inbox != nil {
		var err error
		if box, err = readInbox(l.Inbox); err != nil {
			g.deps.Log.LogAttrs(g.ctx, slog.LevelWarn, "the session of a device is not kept", slog.Any("err", err))
			return // its client is told that nothing was kept
		}
	}
	d.touched = now.UnixNano()
	if len(d.rows) < maxSessions {
		d.rows = append(d.rows, remembered{l.ClientID, l.Subject, subscriptions(l.Topics), l.Inbox, l.Until.UnixNano()})
		d.keep(&kept{clientID: l.ClientID, until: l.Until.UnixNano(), subs: subscriptions(l.Topics), inbox: box}, now.UnixNano())
	}
}

// write writes what was noted; what could not be is tried again.
func (g *Gateway) write(ctx context.Context) {
	s := &g.scribe
	s.mu.Lock()
	taken, after := s.pending, s.after
	s.pending, s.after = nil, nil
	s.mu.Unlock()
	err := error(nil)
	defer func() {
		for _, f := range after {
			f(err)
		}
	}()
	if len(taken) == 0 {
		return
	}
	list := make([]command.Listening, 0, len(taken))
	for _, l := range taken {
		list = append(list, l)
	}
	err = g.deps.Memory.Remember(ctx, list)
	if err == nil {
		return
	}
	g.deps.Log.LogAttrs(ctx, slog.LevelWarn, "what devices listen to could not be written; it is tried again", slog.Any("err", plain(err)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.doubt.Load() {
		return
	}
	for k, l := range taken {
		if _, newer := s.pending[k]; newer {
			continue
		}
		if s.pending == nil {
			s.pending = map[sessionName]command.Listening{}
		}
		s.pending[k] = l
	}
}

// scribes writes until the gateway stops, and once more then.
func (g *Gateway) scribes() {
	t := time.NewTicker(scribeEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			g.write(g.ctx)
		case <-g.scribe.kick:
			g.write(g.ctx)
		case <-g.ctx.Done():
			return
		}
	}
}

// lengthen goes over live sessions, so that a long one is not past its time
// when the server dies.
func (g *Gateway) lengthen(now time.Time) {
	g.table.each(func(id core.DeviceID, d *device) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i := range d.rows {
			r := &d.rows[i]
			for _, c := range d.sessions {
				if c == nil || c.clientID != r.clientID || r.until-now.UnixNano() > int64(liveFor/2) {
					continue
				}
				r.until += int64(liveFor)
				g.note(id, *r)
			}
		}
	})
}
