package gateway

import (
	"errors"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// commandReply takes what a device says of a command.
func (c *conn) commandReply(b *burst, token uint32, t wire.Topic) bool {
	g := c.g
	if g.deps.Downlink == nil {
		return c.refused(b, token, nil, telemetry.ReasonNoCommand, pointsWrongPlace)
	}
	if c.id.Quarantined {
		return c.withhold(b, token, nil)
	}
	ctx, cancel := g.noting()
	defer cancel()
	err := g.deps.Downlink.Reply(ctx, c.device, c.id.Subject, string(t.Name), string(t.ID), b.packet.Payload)
	switch {
	case errors.Is(err, command.ErrNoCommand):
		return c.refused(b, token, nil, telemetry.ReasonNoCommand, pointsOverRate)
	case errors.Is(err, command.ErrReply):
		return c.refused(b, token, nil, telemetry.ReasonBadReply, pointsOverRate)
	case err != nil:
		c.trouble(err)
		return false
	}
	g.count.replies.Add(1)
	c.decide(token, mqtt.Success, 0)
	return true
}

// carrySettings sends how the device is to be set, if it does not say that it
// is, once in a session for each version.
func (c *conn) carrySettings(id identity.Identified) error {
	c.mu.Lock()
	have, free := c.down.config, c.downFree()
	over := c.ended || !c.subs.has(wire.Config)
	c.mu.Unlock()
	if over || free <= 0 {
		return nil
	}
	m, due, err := c.g.deps.Downlink.Settings(c.g.ctx, c.device, id.Subject, have)
	if err != nil || !due {
		return err
	}
	c.send1(&m, nil)
	c.flush(nil)
	return nil
}

// reportRate bounds how often a device may say how it is set: each report that
// differs from the last one is written.
func reportRate() rate { return rate{every: int64(10 * time.Second), burst: 10} }

// takeReport pays for one report.
func (d *device) takeReport(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reports == nil {
		full := fullBucket(reportRate(), now)
		d.reports = &full
	}
	return d.reports.take(reportRate(), now.UnixNano())
}

// stateReport takes what a device says of how it is set.
func (c *conn) stateReport(b *burst, token uint32) bool {
	g := c.g
	switch {
	case g.deps.Downlink == nil:
		return c.refused(b, token, nil, telemetry.ReasonNotYet, pointsWrongPlace)
	case c.id.Quarantined:
		return c.withhold(b, token, nil)
	case !c.dev.takeReport(b.now):
		return c.refused(b, token, nil, telemetry.ReasonRate, pointsOverRate)
	}
	ctx, cancel := g.noting()
	defer cancel()
	err := g.deps.Downlink.Report(ctx, c.device, c.id.Subject, b.packet.Payload)
	switch {
	case errors.Is(err, wire.ErrReport):
		return c.refused(b, token, nil, telemetry.ReasonBadReport, pointsOverRate)
	case err != nil:
		c.trouble(err)
		return false
	}
	g.count.reports.Add(1)
	c.decide(token, mqtt.Success, 0)
	return true
}
