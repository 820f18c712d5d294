package gateway

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"log/slog"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// Visit is one request of a device at a door without sessions. It stands on
// what the gateway knows of the device, so that one who uses two doors has one
// rate, one quarantine and one back-off. It is not for concurrent use.
type Visit struct {
	g       *Gateway
	id      identity.Identified
	dev     *device
	product *product
	src     *telemetry.Source
	stream  []byte
}

// Outcome is what became of one reading of a visit.
type Outcome = telemetry.Verdict

// visitRetry is after which time a device may try again what our own trouble or
// a quarantine kept it from.
const (
	visitRetry      = 5 * time.Second
	quarantineRetry = 10 * time.Minute
)

// Visit asks who holds a certificate, for one request made with it. first says
// that the request is the first of its connection: then a handshake has proved
// the key, which confirms a renewed certificate. Every other request asks anew
// without that, so that who was revoked meanwhile is refused at once. Errors
// are refusals for the device (core.Error, identity.RetryError).
func (g *Gateway) Visit(ctx context.Context, leaf *x509.Certificate, first bool) (*Visit, error) {
	if err := g.checkChain(leaf); err != nil {
		why := handshakeReason(err)
		g.ended.add(string(why))
		return nil, visitRefusal(why, err)
	}
	ask := func(leaf *x509.Certificate) (identity.Identified, error) { return g.deps.Identity.Identify(ctx, leaf) }
	if !first {
		ask = g.deps.Identity.Recheck
	}
	id, err := ask(leaf)
	if err != nil {
		g.ended.add(string(barred(err)))
		if barred(err) == refuseIdentity {
			return nil, retry(core.Unavail, "identity", "nobody can be identified at present", "send it again later", visitRetry)
		}
		return nil, visitRefusal(barred(err), err)
	}
	now := g.now()
	v := &Visit{g: g, id: id, dev: g.table.get(id.Device, now), product: g.product(id.Product)}
	if wait := v.dev.out(now); wait > 0 {
		return nil, retry(core.TooMany, "back-off", "the device broke the rules again and again", "send nothing until then", wait)
	}
	return v, nil
}

// visitRefusal says what to do about a certificate that is not welcome.
func visitRefusal(why refusal, err error) error {
	hint := "enrol the device with this installation"
	switch why {
	case refuseExpired:
		hint = "renew the certificate: POST " + wire.ESTReenrol
	case refuseElsewhere:
		hint = "it is one of another environment: test and live devices have servers of their own"
	case "revoked", "superseded":
		hint = "use the device's present certificate, or enrol it anew"
	}
	return &core.Error{Kind: core.Denied, Reason: string(why), Message: "the certificate is not accepted: " + string(why), Hint: hint, Err: err}
}

func retry(k core.Kind, reason, message, hint string, after time.Duration) error {
	return &identity.RetryError{Refusal: core.E(k, reason, message, hint), After: max(after, time.Second)}
}

// Device is who makes the request, and whose readings it brings.
func (v *Visit) Device() (core.DeviceID, core.Subject) { return v.id.Device, v.id.Subject }

// Begin asks whether the device may bring so many readings of a stream now. It
// takes all of them from the device's rate, or none.
func (v *Visit) Begin(ctx context.Context, stream string, readings, bytes int) error {
	g, now := v.g, v.g.now()
	topic := g.deps.Authority.Publish(v.id.Device, []byte("telemetry/"+stream))
	if topic.Kind != wire.Telemetry {
		return core.E(core.Unknown, string(telemetry.ReasonWrongTopic), "there is no such stream", "name a stream of the device's declaration")
	}
	v.stream = topic.Stream
	g.count.received.Add(uint64(readings))
	g.count.receivedBytes.Add(uint64(bytes))
	if v.id.Quarantined { // as in withhold: no answer that would be final
		g.count.withheld.Add(uint64(readings))
		return retry(core.Unavail, string(telemetry.ReasonQuarantined), withheldText, "keep the readings and send them after the release", quarantineRetry)
	}
	n := now.UnixNano()
	if wait := max(v.dev.arrivals.ahead(g.deviceMessages, n), v.dev.bytes.ahead(g.deviceBytes, n), v.product.arrivals.ahead(g.productMessages, n)); wait > 0 {
		g.count.pauses.Add(1)
		return retry(core.TooMany, "pace", "the device or its product sends faster than this server takes", "send it again after Retry-After", wait)
	}
	if r := v.product.rates.Load(); r != nil {
		if wait := v.dev.takeVisit(r, v.stream, readings, v.id, now); wait > 0 {
			g.refusedBy.add(string(telemetry.ReasonRate))
			if !v.dev.spend(pointsOverRate, now) {
				wait = max(wait, v.dev.strike(now))
			}
			return retry(core.TooMany, string(telemetry.ReasonRate), "the stream's rate does not allow so many readings now", "send them after Retry-After, or fewer at once", wait)
		}
	}
	v.dev.arrivals.reserve(g.deviceMessages, int64(readings), n)
	v.dev.bytes.reserve(g.deviceBytes, int64(bytes), n)
	v.product.arrivals.reserve(g.productMessages, int64(readings), n)
	v.src = g.deps.Intake.NewSource(telemetry.SourceInfo{
		Device: v.id.Device, Product: v.id.Product, Subject: v.id.Subject, OwnedSince: v.id.OwnedSince, Sender: [16]byte(v.id.Serial),
	})
	return nil
}

// Number gives the readings of this visit that have no number of their own one
// each, made of series and their token: what comes again under the same series
// is then stored once. Call it after Begin.
func (v *Visit) Number(series [8]byte) { v.src.Number(binary.BigEndian.Uint64(series[:])) }

// Message judges one reading and records what was decided. Unless the action is
// telemetry.Trouble, c.Done(token, …) is called once, when it is on disk.
func (v *Visit) Message(payload []byte, c telemetry.Completion, token uint64) Outcome {
	g := v.g
	o := g.deps.Intake.Message(v.src, v.stream, payload, c, token)
	switch o.Action {
	case telemetry.Pending:
		g.count.pending.Add(1)
		return o
	case telemetry.Drop:
		g.count.ackedByRule.Add(1)
	case telemetry.Refuse:
		g.count.refused.Add(1)
		g.refusedBy.add(string(o.Reason))
		if o.Reason == telemetry.ReasonUnknownStream && !v.dev.spend(pointsWrongPlace, g.now()) {
			v.dev.strike(g.now())
		}
	default:
		g.count.trouble.Add(1)
		return o
	}
	if err := g.deps.Intake.Refuse(v.src, v.stream, o.Reason, c, token); err != nil {
		g.count.trouble.Add(1)
		return Outcome{Action: telemetry.Trouble, Reason: telemetry.ReasonTrouble}
	}
	return o
}

// Trouble is what a device is told while nothing can be recorded.
func (v *Visit) Trouble() error {
	err := v.g.ourTrouble()
	if !errors.Is(err, errIntake) {
		v.g.deps.Log.WarnContext(v.g.ctx, "a batch of a device was not taken", slog.Any("err", err))
	}
	return retry(core.Unavail, string(telemetry.ReasonTrouble), "the server can record nothing at present", "keep the readings and send the batch again", visitRetry)
}

// Close ends the visit.
func (v *Visit) Close() {
	if v.src != nil {
		v.src.Close()
	}
}

// out is for how long the device is still kept out.
func (d *device) out(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touched = now.UnixNano()
	return time.Duration(max(d.outUntil-d.touched, 0))
}

// takeVisit pays for n messages at once, or says after which time to try again
// and takes nothing. A device without a session was away until now, and makes
// up for it as if it had connected; one with a session goes by that.
func (d *device) takeVisit(r *rates, stream []byte, n int, id identity.Identified, now time.Time) time.Duration {
	i, ok := r.index[string(stream)]
	if !ok {
		return 0 // telemetry refuses it
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sessions == [maxSessions]*conn{} {
		d.back(r, id, now)
		d.left = now.UnixNano()
	} else {
		d.fit(r, now.UnixNano())
		d.buckets[i].fill(r.by[i], now.UnixNano())
	}
	return d.buckets[i].takeAll(r.by[i], int64(n))
}

// takeAll pays for n messages from what the bucket holds, or says how long it
// is until it holds enough.
func (b *bucket) takeAll(r rate, n int64) time.Duration {
	if r.every <= 0 {
		return 0
	}
	cost := rate{every: r.every, burst: n}.capacity()
	if b.content < cost {
		return time.Duration(cost - b.content)
	}
	b.content -= cost
	return 0
}

// ahead is how long whoever is ahead of its pace has to wait, booking nothing.
func (p *pacer) ahead(a pace, now int64) time.Duration {
	if a.every == 0 {
		return 0
	}
	return time.Duration(max(p.due.Load()-now-a.slack, 0))
}
