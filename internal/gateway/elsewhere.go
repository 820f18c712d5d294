package gateway

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
)

// Several gateways may serve one installation. A session is at one of them: who
// begins one claims it first, and has it when every other has let go. With it
// come what the device may still send, so that changing the gateway earns it
// nothing, and what its sessions listen to (design, section 8).

// Sessions says where sessions are: the Registry of this server, or of another.
type Sessions interface {
	// Claim makes the session of c one of this gateway's. When it returns,
	// no other gateway takes anything from one of the same name.
	Claim(ctx context.Context, c Claim) (Handed, error)
	// Fought notes how a connection answered whose session was taken over, and
	// reports whether two holders of one certificate are at work.
	Fought(ctx context.Context, f Fight) (two bool, err error)
	// Calm notes that a connection of a device died of silence. It does not wait.
	Calm(core.DeviceID)
}

// Comer is who takes a session over.
type Comer struct {
	Serial identity.Serial // of its certificate
	From   netip.Addr
	Clean  bool // it does not go on with the session's state
}

// Claim is a session that is to begin.
type Claim struct {
	Device   core.DeviceID
	ClientID string
	By       Comer
	Others   int // sessions of the device, under other names, at the gateway that claims
}

// Handed is what comes with a claim.
type Handed struct {
	// Token is greater than that of every claim of the device before.
	Token uint64
	// Moved says that the device was elsewhere, or that nobody knows where it
	// was; then Sessions are all that are kept of it, and Account what it may
	// still send; nil: nobody knows.
	Moved    bool
	Sessions []command.Listening
	Account  *Account
}

// Yield asks a gateway to let go of a session.
type Yield struct {
	Device   core.DeviceID
	ClientID string
	By       Comer
	Token    uint64 // of the claim
	Oldest   bool   // of the oldest session there, whatever its name: the device has too many
}

// Yielded is what a gateway let go of.
type Yielded struct {
	Left    int // sessions of the device that are there still
	Account *Account
}

// Fight is a take-over of a session, as the connection that was told of it
// answered.
type Fight struct {
	Device   core.DeviceID
	Answer   uint8
	Old, New netip.Prefix // where the two connections came from
}

// Account is what a device may still send, and what it has to answer for.
// Times are Unix nanoseconds.
type Account struct {
	Streams   map[string]Balance // by the name of the stream
	Patience  Balance
	Connects  Balance
	Left      int64 // when its last session ended; 0: one is there, or it is not known
	Strikes   int
	StruckAt  int64
	OutUntil  int64
	Passwords bool // that it sends one was noted
}

// Balance is a token bucket.
type Balance struct{ Content, At int64 }

func (b bucket) balance() Balance { return Balance{b.content, b.at} }
func (b Balance) bucket() bucket  { return bucket{b.Content, b.At} }

func (c *conn) comer() Comer { return Comer{Serial: c.serial, From: c.from, Clean: c.clean} }

// claim has every other gateway let go of the session. It is false when c was
// refused for that.
func (c *conn) claim(b *burst) bool {
	g := c.g
	if g.deps.Sessions == nil {
		return true
	}
	others := 0
	for _, o := range c.dev.live() {
		if o.clientID != c.clientID {
			others++
		}
	}
	ctx, cancel := context.WithTimeout(g.ctx, g.conf.ConnectTimeout)
	defer cancel()
	h, err := g.deps.Sessions.Claim(ctx, Claim{Device: c.device, ClientID: c.clientID, By: c.comer(), Others: others})
	if err != nil {
		c.detail = err
		c.answer(b, refuseClaim, mqtt.ServerUnavailable)
		return false
	}
	c.token = h.Token
	if h.Moved {
		g.install(c.device, &h)
	}
	return true
}

// claimLost reports whether another gateway claimed the session before it was
// to be found here.
func (c *conn) claimLost() bool {
	c.dev.mu.Lock()
	defer c.dev.mu.Unlock()
	return c.token < c.dev.ceded || c.g.doubt.Load()
}

// calm notes that the connection died of silence.
func (c *conn) calm() {
	if s := c.g.deps.Sessions; s != nil {
		s.Calm(c.device)
		return
	}
	c.dev.calm()
}

// install puts what came with a claim in the place of what this gateway had of
// the device, but for sessions that live here.
func (g *Gateway) install(id core.DeviceID, h *Handed) {
	now := g.now()
	d := g.table.get(id, now)
	d.mu.Lock()
	defer d.mu.Unlock()
	here := func(name string) bool {
		return slices.ContainsFunc(d.sessions[:], func(c *conn) bool { return c != nil && c.clientID == name })
	}
	d.rows = slices.DeleteFunc(d.rows, func(r remembered) bool { return !here(r.clientID) })
	d.kept = [maxSessions]*kept{}
	for i := range h.Sessions {
		if l := &h.Sessions[i]; l.Until.After(now) && !here(l.ClientID) {
			g.recall(d, l, now)
		}
	}
	if a := h.Account; a != nil {
		d.settle(a, now)
	}
}

// settle makes an account the device's. d.mu is held.
func (d *device) settle(a *Account, now time.Time) {
	d.patience, d.connects, d.left = a.Patience.bucket(), a.Connects.bucket(), a.Left
	if d.left == 0 { // it was not away
		d.left = now.UnixNano()
	}
	d.strikes, d.struckAt, d.outUntil = a.Strikes, a.StruckAt, a.OutUntil
	if a.Passwords {
		d.told |= toldPassword
	}
	d.connects.take(connectRate(), now.UnixNano()) // the connection that claims
	d.carried = a.Streams
	d.rates, d.buckets = nil, nil // they are made of what was carried here
}

// account is what another gateway has to know of the device. d.mu is held.
func (d *device) account() *Account {
	a := &Account{
		Patience: d.patience.balance(), Connects: d.connects.balance(), Left: d.left,
		Strikes: d.strikes, StruckAt: d.struckAt, OutUntil: d.outUntil, Passwords: d.told&toldPassword != 0,
		Streams: d.carried,
	}
	if d.rates != nil {
		a.Streams = make(map[string]Balance, len(d.buckets))
		for name, i := range d.rates.index {
			a.Streams[name] = d.buckets[i].balance()
		}
	}
	return a
}

// Yield ends a session that began elsewhere, and gives away what there is of
// the device. When it returns, nothing more of that session is taken here.
func (g *Gateway) Yield(ctx context.Context, y Yield) (Yielded, error) {
	now := g.now()
	d := g.table.get(y.Device, now)
	why := endTakeOver
	d.mu.Lock()
	d.ceded = max(d.ceded, y.Token)
	at := -1
	for i, c := range d.sessions {
		switch {
		case c == nil:
		case y.Oldest && (at < 0 || c.since.Before(d.sessions[at].since)):
			at, why = i, endThird
		case !y.Oldest && c.clientID == y.ClientID:
			at = i
		}
	}
	var old *conn
	if at >= 0 {
		old, d.sessions[at] = d.sessions[at], nil
		old.ceded.Store(true) // what it listens to is the other's to note from now on
	}
	d.mu.Unlock()
	if old != nil {
		g.count.takeOvers.Add(1)
		old.takenBy(y.By, why)
		t := time.NewTimer(2 * time.Second)
		select {
		case <-old.gone:
		case <-t.C: // it hangs in a fault of ours; it has ended all the same
		}
		t.Stop()
	}
	if err := g.noted(ctx); err != nil {
		return Yielded{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	left := 0
	for _, c := range d.sessions {
		if c != nil {
			left++
		}
	}
	if old != nil && left == 0 {
		d.left = now.UnixNano()
		for i := range d.buckets {
			d.buckets[i].fill(d.rates.by[i], d.left)
		}
	}
	out := Yielded{Left: left, Account: d.account()}
	if left == 0 {
		d.kept, d.rows = [maxSessions]*kept{}, nil
		for _, w := range d.wills { // the device is back: they are not to fire
			w.timer.Stop()
		}
		d.wills = nil
	}
	return out, nil
}

// noted returns when everything that was put down of sessions is on disk.
func (g *Gateway) noted(ctx context.Context) error {
	if g.deps.Memory == nil {
		return nil
	}
	done := make(chan error, 1)
	g.scribe.then(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-g.ctx.Done():
		return g.ctx.Err()
	}
}

// Held is a live session, for a registry that begins.
type Held struct {
	Device   core.DeviceID
	ClientID string
}

// Held are the live sessions, in no order.
func (g *Gateway) Held() []Held {
	var out []Held
	g.table.each(func(id core.DeviceID, d *device) {
		for _, c := range d.live() {
			out = append(out, Held{id, c.clientID})
		}
	})
	return out
}

// Doubt ends every session and lets nobody begin one until it is called with
// false: this gateway does not know who is welcome any more. Clients are told
// that the server is not there.
func (g *Gateway) Doubt(doubt bool) {
	if g.doubt.Swap(doubt) == doubt || !doubt {
		return
	}
	g.scribe.forget() // others may know better by the time that it could be written
	n := 0
	g.table.each(func(_ core.DeviceID, d *device) {
		for _, c := range d.live() {
			c.ceded.Store(true)
			c.end(endDoubt, mqtt.ServerBusy, nil)
			n++
		}
		d.mu.Lock()
		d.kept, d.rows = [maxSessions]*kept{}, nil
		d.mu.Unlock()
	})
	g.deps.Log.LogAttrs(g.ctx, slog.LevelWarn, "who is welcome is not known any more: nobody is taken in", slog.Int("sessions_ended", n))
}
