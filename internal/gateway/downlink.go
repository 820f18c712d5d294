package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/wire"
)

const (
	// downWindow is how many messages to one device may be without its
	// acknowledgement; a 5.0 client may want fewer (Receive Maximum).
	downWindow = 8
	// couriersAtOnce is how many devices are served at the same time: what they
	// are sent comes from the disk.
	couriersAtOnce = 4
	// courierRetry is the pause after trouble of ours.
	courierRetry = 2 * time.Second
)

// Downlink is what waits for devices: command.Service. Waiting and SettingsDue
// ask memory, the others may ask the disk.
type Downlink interface {
	Waiting(core.DeviceID) bool
	Next(ctx context.Context, id core.DeviceID, subject core.Subject, after uint64, n int) ([]command.Message, error)
	Taken(ctx context.Context, id core.DeviceID, number uint64, refused bool) error
	Reply(ctx context.Context, id core.DeviceID, subject core.Subject, name, call string, payload []byte) error
	SettingsDue(id core.DeviceID, have uint64) bool
	Settings(ctx context.Context, id core.DeviceID, subject core.Subject, have uint64) (m command.Message, due bool, err error)
	SettingsTaken(ctx context.Context, id core.DeviceID, version uint64) error
	Report(ctx context.Context, id core.DeviceID, subject core.Subject, payload []byte) error
}

// sentDown is a message to the device without its acknowledgement.
type sentDown struct {
	id     uint16 // packet identifier; 0: the place is free
	number uint64 // of the message
	again  bool   // an earlier connection of the session sent it
	config bool   // settings, not a command
}

// downward is what a session has under way to its device. The connection's
// lock guards it.
type downward struct {
	sent   [downWindow]sentDown
	after  uint64     // the last command that was sent
	config uint64     // the version of the settings that was sent; 0: none
	nextID uint16     // the last packet identifier
	acks   []sentDown // acknowledged, to be noted; at most downWindow
	errs   []bool     // of acks: the client's code was an error
	queued bool       // a courier has it, or will
	wake   bool       // something came while one had it
	timer  *time.Timer
}

// deliver has a courier look what waits for the device, if it listens. It does
// not wait.
func (c *conn) deliver() {
	g := c.g
	if g.deps.Downlink == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || !c.subs.has(wire.Command) && !c.subs.has(wire.Config) {
		return
	}
	if c.down == nil {
		if (!c.subs.has(wire.Command) || !g.deps.Downlink.Waiting(c.device)) && (!c.subs.has(wire.Config) || !g.deps.Downlink.SettingsDue(c.device, 0)) {
			return // most have nothing: they hold no memory for it
		}
		c.down = &downward{}
	}
	c.queue()
}

// queue hands the session to a courier, once. The lock is held.
func (c *conn) queue() {
	if c.down.queued {
		c.down.wake = true
		return
	}
	c.down.queued = true
	c.g.couriers.push(c)
}

// Wake delivers what waits for a device, if it is connected.
func (g *Gateway) Wake(id core.DeviceID) {
	if d := g.table.find(id); d != nil {
		for _, c := range d.live() {
			c.deliver()
		}
	}
}

// downTaken takes the client's acknowledgement of a message. One that nobody
// waits for is a breach, unless the session was resumed, or there was something
// to acknowledge before [MQTT-4.13.1-1].
func (c *conn) downTaken(p *mqtt.Packet) bool {
	c.mu.Lock()
	d := c.down
	if d == nil {
		c.mu.Unlock()
		if c.resumed {
			return true
		}
		c.violation(endMisplaced, mqtt.ProtocolError, errors.New(p.Type.String()))
		return false
	}
	defer c.mu.Unlock()
	for i := range d.sent {
		if s := &d.sent[i]; s.id == p.ID && s.number != 0 {
			d.acks, d.errs = append(d.acks, *s), append(d.errs, p.Code.Failed())
			s.id = 0 // its place stays taken until it is noted
			c.queue()
			break
		}
	}
	return true
}

// courier serves one session: it notes what was taken, and sends what waits,
// as far as the client takes it.
func (c *conn) courier() {
	defer func() {
		if r := recover(); r != nil {
			c.crashed(r)
		}
	}()
	for {
		err := c.carry()
		c.mu.Lock()
		d := c.down
		if d.wake && err == nil && !c.ended {
			d.wake = false
			c.mu.Unlock()
			continue
		}
		d.queued, d.wake = false, false
		if err != nil && !c.ended && d.timer == nil {
			d.timer = time.AfterFunc(courierRetry, c.retryDown)
		}
		c.mu.Unlock()
		if err != nil {
			c.g.count.downTrouble.Add(1)
			c.g.deps.Log.LogAttrs(c.g.ctx, slog.LevelWarn, "what waits for a device could not be sent; it is tried again", slog.Any("err", plain(err)))
		}
		return
	}
}

func (c *conn) retryDown() {
	c.mu.Lock()
	if c.down != nil {
		c.down.timer = nil
	}
	c.mu.Unlock()
	c.deliver()
}

func (c *conn) carry() error {
	g := c.g
	// Noted first, also when the session is over: what is taken is taken.
	for {
		c.mu.Lock()
		if len(c.down.acks) == 0 {
			c.mu.Unlock()
			break
		}
		s, failed := c.down.acks[0], c.down.errs[0]
		c.mu.Unlock()
		ctx, cancel := g.noting()
		var err error
		switch {
		case !s.config:
			err = g.deps.Downlink.Taken(ctx, c.device, s.number, failed)
		case !failed:
			err = g.deps.Downlink.SettingsTaken(ctx, c.device, s.number)
		}
		cancel()
		if err != nil {
			return err
		}
		g.count.downTaken.Add(1)
		c.mu.Lock()
		d := c.down
		d.acks, d.errs = d.acks[1:], d.errs[1:]
		for i := range d.sent {
			if d.sent[i].number == s.number {
				d.sent[i] = sentDown{}
			}
		}
		c.mu.Unlock()
	}
	id, err := c.recheck()
	if err != nil || id.Quarantined || id.Subject.IsZero() {
		return nil // not for whoever this is; Refresh or release come back to it
	}
	if err := c.resend(id); err != nil {
		return err
	}
	if err := c.carrySettings(id); err != nil {
		return err
	}
	for {
		c.mu.Lock()
		free, after := c.downFree(), c.down.after
		over := c.ended || !c.subs.has(wire.Command)
		c.mu.Unlock()
		if over || free <= 0 {
			return nil
		}
		list, err := g.deps.Downlink.Next(g.ctx, c.device, id.Subject, after, free)
		if err != nil || len(list) == 0 {
			return err
		}
		for i := range list {
			c.send1(&list[i], nil)
		}
		c.flush(nil)
	}
}

// noting bounds a note of what a device did. It goes on while the server stops.
func (g *Gateway) noting() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(g.ctx), 10*time.Second)
}

// downFree is how many messages the client takes now. The lock is held.
func (c *conn) downFree() int {
	free := min(downWindow, c.takes)
	for i := range c.down.sent {
		if c.down.sent[i].number != 0 {
			free--
		}
	}
	return free
}

// resend sends again what an earlier connection of the session sent, with its
// packet identifiers [MQTT-4.4.0-1].
func (c *conn) resend(id identity.Identified) error {
	c.mu.Lock()
	sent := c.down.sent
	c.mu.Unlock()
	slices.SortFunc(sent[:], func(a, b sentDown) int { return cmp.Compare(a.number, b.number) }) // [MQTT-4.6.0-1]
	for _, s := range sent {
		if !s.again {
			continue
		}
		list, err := c.sentBefore(id, &s)
		if err != nil {
			return err
		}
		if len(list) == 1 && list[0].Number == s.number {
			c.send1(&list[0], &s)
			continue
		}
		c.mu.Lock()
		for i := range c.down.sent {
			if c.down.sent[i].number == s.number {
				c.down.sent[i] = sentDown{} // over meanwhile
			}
		}
		c.mu.Unlock()
	}
	c.flush(nil)
	return nil
}

// sentBefore is a message that an earlier connection sent, if it still stands.
func (c *conn) sentBefore(id identity.Identified, s *sentDown) ([]command.Message, error) {
	if !s.config {
		return c.g.deps.Downlink.Next(c.g.ctx, c.device, id.Subject, s.number-1, 1)
	}
	m, due, err := c.g.deps.Downlink.Settings(c.g.ctx, c.device, id.Subject, 0)
	if err != nil || !due {
		return nil, err
	}
	return []command.Message{m}, nil
}

// send1 puts a message in line. again is where it was sent before.
func (c *conn) send1(m *command.Message, again *sentDown) {
	kind, rel := wire.Command, wire.CommandTopic(m.Name, m.ID)
	if m.ID == "" {
		kind, rel = wire.Config, wire.ConfigTopic
	}
	left := m.Expires.Sub(c.g.now())
	if left <= 0 && !m.Expires.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.down
	p := mqtt.Packet{Type: mqtt.PUBLISH, QoS: mqtt.AtLeastOnce, Payload: m.Payload}
	form := wire.Relative
	if c.subs&bit(kind, wire.Relative) == 0 {
		form = wire.Absolute
	}
	if c.subs&unsure(kind, form) != 0 {
		p.QoS = mqtt.AtMostOnce // what the client wants; its answer is the acknowledgement then
	}
	p.Topic = wire.AppendTopic(nil, string(c.device), form, rel)
	if c.version == mqtt.V5 && !m.Expires.IsZero() {
		p.Props.SetNumber(mqtt.PropMessageExpiry, uint32(max(1, left/time.Second))) // section 3.3.2.3.3
	}
	place := -1
	switch {
	case p.QoS == mqtt.AtMostOnce:
	case again != nil:
		p.ID, p.Dup = again.id, true
		for i := range d.sent {
			if d.sent[i].number == again.number {
				d.sent[i].again = false
			}
		}
	default:
		for i := range d.sent {
			if d.sent[i].number == 0 {
				place = i
			}
		}
		if place < 0 {
			return
		}
		p.ID = d.takeID()
	}
	out, err := mqtt.Append(nil, c.version, &p)
	if kind == wire.Config {
		d.config = max(d.config, m.Number)
	} else {
		d.after = max(d.after, m.Number)
	}
	if err != nil || len(out) > c.maxOut {
		// [MQTT-3.1.2-25]: the client cannot take it. It waits for one that can,
		// until its time is over.
		c.g.count.downTooLarge.Add(1)
		return
	}
	if place >= 0 {
		d.sent[place] = sentDown{id: p.ID, number: m.Number, config: kind == wire.Config}
	}
	c.out = append(c.out, out...)
	c.g.count.downSent.Add(1)
}

// takeID gives a packet identifier that is not in use.
func (d *downward) takeID() uint16 {
next:
	for {
		if d.nextID++; d.nextID == 0 {
			continue
		}
		for i := range d.sent {
			if d.sent[i].id == d.nextID {
				continue next
			}
		}
		return d.nextID
	}
}

// resumeDown goes on with what the session had under way before.
func (c *conn) resumeDown(k *kept) {
	c.resumed = true
	if k.down == [downWindow]sentDown{} && k.config == 0 {
		return
	}
	c.down = &downward{sent: k.down, config: k.config}
	for i := range c.down.sent {
		s := &c.down.sent[i]
		c.down.nextID = max(c.down.nextID, s.id)
		if !s.config {
			c.down.after = max(c.down.after, s.number)
		}
		if s.id == 0 {
			*s = sentDown{} // it was acknowledged, and is being noted
		}
		s.again = s.number != 0
	}
}
