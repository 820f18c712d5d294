package gateway

import (
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// notices gathers what a device is told on the topic refused: at most one
// message a second for each stream and reason, with a count.
type notices struct {
	open  []openNotice // at most maxNotices
	timer *time.Timer  // set while something waits
}

type openNotice struct {
	wire.Refusal
	sent int64 // Unix nanoseconds of the last message
}

const (
	maxNotices     = 16
	noticeInterval = time.Second
)

// stop ends the timer. The connection's lock is held.
func (n *notices) stop() {
	if n.timer != nil {
		n.timer.Stop()
	}
}

// notice tells the device, if it listens, that a message was refused.
func (c *conn) notice(now time.Time, why telemetry.Reason, stream []byte, id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.notices
	if n == nil || c.ended {
		return
	}
	if !wire.ValidName(stream) {
		stream = nil
	}
	var o *openNotice
	for i := range n.open {
		if n.open[i].Reason == string(why) && n.open[i].Stream == string(stream) && n.open[i].Child == string(c.child) {
			o = &n.open[i]
		}
	}
	if o == nil {
		if len(n.open) == maxNotices {
			// The one that was quiet for longest makes room.
			oldest := 0
			for i := range n.open {
				if n.open[i].Count == 0 && (n.open[oldest].Count != 0 || n.open[i].sent < n.open[oldest].sent) {
					oldest = i
				}
			}
			if n.open[oldest].Count != 0 {
				return // all wait to be sent; the counters have it
			}
			n.open[oldest] = openNotice{}
			o = &n.open[oldest]
		} else {
			n.open = append(n.open, openNotice{})
			o = &n.open[len(n.open)-1]
		}
		o.Reason, o.Text, o.Stream = string(why), why.Text(), string(stream)
		o.Child = string(c.child)
		if why == telemetry.ReasonQuarantined {
			o.Text = withheldText
		}
	}
	o.Count++
	o.PacketID, o.Time = id, now.UnixMilli()
	if now.UnixNano()-o.sent >= int64(noticeInterval) {
		c.tell(o, now)
		return
	}
	if n.timer == nil {
		n.timer = time.AfterFunc(noticeInterval, c.tellAll)
	}
}

// tell puts a notice in line, in each form that the device listens to. The
// lock is held.
func (c *conn) tell(o *openNotice, now time.Time) {
	o.sent = now.UnixNano()
	r := o.Refusal
	if r.Count == 1 {
		r.Count = 0 // means one, and the packet id says which
	} else {
		r.PacketID = 0
	}
	o.Count = 0
	payload := wire.AppendRefusal(nil, &r)
	for _, form := range []wire.Form{wire.Relative, wire.Absolute} {
		if c.subs&bit(wire.Refused, form) == 0 {
			continue
		}
		topic := wire.AppendTopic(nil, string(c.device), form, wire.RefusedTopic)
		out, err := mqtt.AppendPublish(nil, c.version, topic, payload, mqtt.AtMostOnce, 0)
		if err != nil || len(out) > c.maxOut || len(c.out) > maxNoticeBacklog {
			continue // [MQTT-3.1.2-25]: the client cannot take it
		}
		c.out = append(c.out, out...)
		c.g.count.notices.Add(1)
	}
}

// maxNoticeBacklog bounds what waits in line of a connection.
const maxNoticeBacklog = 16 << 10

// tellAll is the timer's: it sends what has gathered.
func (c *conn) tellAll() {
	now := c.g.now()
	c.mu.Lock()
	if c.notices == nil || c.ended {
		c.mu.Unlock()
		return
	}
	c.notices.timer = nil
	for i := range c.notices.open {
		if o := &c.notices.open[i]; o.Count > 0 {
			c.tell(o, now)
		}
	}
	c.mu.Unlock()
	c.guardedFlush(nil)
}
