package device

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/mqtt"
)

type mqttCode = mqtt.ReasonCode

// Enrol gets the device its first certificate, if it has none. It tries again
// while the server has passing trouble, and returns an error of reason
// EnrolmentRefused, NotEnrolled or one about the server's authenticity when
// trying again is of no use.
func (d *Device) Enrol(ctx context.Context) error {
	if !d.running.TryLock() {
		return fault(BadConfig, nil, "", "Enrol was called while Run is running")
	}
	defer d.running.Unlock()
	return d.enrol(ctx)
}

func (d *Device) enrol(ctx context.Context) error {
	wait := backoff{first: d.pause, draw: d.draw}
	for {
		ids, err := d.keep.all()
		if err != nil {
			return fault(StateUnusable, err, "", "the device's identity cannot be read")
		}
		if len(ids) > 0 {
			return nil
		}
		if d.cfg.EnrolmentCode == nil {
			return fault(NotEnrolled, nil, "give the device its enrolment code", "the device has no certificate")
		}
		code, err := d.cfg.EnrolmentCode()
		if err != nil {
			return fault(NotEnrolled, err, "give the device its enrolment code", "the device has no certificate, and no code to get one")
		}
		if err = d.enrolWith(ctx, code); err == nil {
			return nil
		}
		least, again := passes(err)
		if !again || ctx.Err() != nil {
			return err
		}
		pause := wait.next(least)
		d.fault("enrolment failed", err, pause)
		if !sleep(ctx, pause) {
			return err
		}
	}
}

// Run keeps the device enrolled, connected and its queue empty until ctx ends,
// and then returns nil once what is under way was answered, or Config.Grace
// has passed. It returns an error only when nothing that the device can do
// would help: it has no certificate and cannot get one, or its own disk fails.
// A server that it cannot verify is such an error only before the first
// certificate; afterwards it is tried again for ever, because the fault may be
// the server's.
func (d *Device) Run(ctx context.Context) error {
	if !d.running.TryLock() {
		return fault(BadConfig, nil, "", "Run was called twice at a time")
	}
	defer d.running.Unlock()
	var work sync.WaitGroup
	defer work.Wait() // a command that is being done ends first
	obeying, enough := context.WithCancel(ctx)
	defer enough()
	work.Go(func() { d.obey(obeying) })
	wait := backoff{first: d.pause, draw: d.draw}
	use := 0 // which identity, counted from the newest
	woken := d.cfg.Sleeps
	for ctx.Err() == nil {
		if err := d.enrol(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		ids, err := d.keep.all()
		if err != nil {
			return fault(StateUnusable, err, "", "the device's identity cannot be read")
		}
		id := ids[min(use, len(ids)-1)]
		at, trusted := d.clock.read()
		if woken && !trusted && use == 0 {
			err := d.renewWith(ctx, id, func(ctx context.Context, id *identity) (*privateKey, []*x509.Certificate, error) {
				return d.est.reenrolIf(ctx, id, func() bool { at, _ := d.clock.read(); return at.After(id.leaf().NotAfter) })
			})
			if err == nil {
				woken = false
				continue
			}
			// Any other outcome is met again below, by the usual way.
			at, _ = d.clock.read()
		}
		woken = false
		if at.After(id.leaf().NotAfter) || use == 0 && at.After(id.renewAt()) {
			// Renewal was missed while there was no network.
			if err := d.renew(ctx, id); err == nil {
				use = 0
				continue
			} else if ctx.Err() != nil {
				return nil
			} else if at.After(id.leaf().NotAfter) {
				// An expired certificate opens nothing but its renewal. The newest may
				// be one that was never used: the server knows the one before it.
				if reasonOf(err) == IdentityRefused && use+1 < len(ids) {
					use++
					continue
				}
				if reasonOf(err) == IdentityRefused && d.enrolAnew(ctx) == nil {
					use = 0
					continue
				}
				use = 0
				pause := wait.next(leastPause(err))
				d.fault("certificate expired and not renewed", err, pause)
				sleep(ctx, pause)
				continue
			}
		}
		began := time.Now()
		end := d.session(ctx, id, use > 0)
		switch {
		case errors.Is(end.err, errEnded):
			return nil
		case errors.Is(end.err, errRenewed):
			use = 0
			wait.reset()
			continue
		case reasonOf(end.err) == StateUnusable:
			return end.err
		}
		if time.Since(began) > stableAfter {
			wait.reset()
		}
		if reasonOf(end.err) == IdentityRefused && use+1 < len(ids) {
			// The new certificate is refused and the old one is still there: that
			// is what it was kept for.
			use++
			end.floor = 0
		} else {
			use = 0
			if now, _ := d.clock.read(); reasonOf(end.err) == IdentityRefused && now.After(id.leaf().NotAfter) && !at.After(id.leaf().NotAfter) {
				continue // it is later than the device knew: its certificate ran out, and is renewed
			}
			if reasonOf(end.err) == IdentityRefused {
				end.floor = max(end.floor, refusedWait)
			}
		}
		pause := wait.next(end.floor)
		d.fault("no session", end.err, pause)
		sleep(ctx, pause)
	}
	return nil
}

// enrolAnew is the last way in for a device whose certificate expired and is
// not renewed: a new enrolment code, if the maker has given it one.
func (d *Device) enrolAnew(ctx context.Context) error {
	if d.cfg.EnrolmentCode == nil {
		return fault(NotEnrolled, nil, "", "there is no enrolment code")
	}
	code, err := d.cfg.EnrolmentCode()
	if err != nil {
		return err
	}
	return d.enrolWith(ctx, code)
}

func (d *Device) enrolWith(ctx context.Context, code string) error {
	key, chain, err := d.est.enrol(ctx, code)
	if err != nil {
		return err
	}
	id, err := d.keep.add(key, chain)
	if err == nil {
		err = d.trust.keep(d.cfg.StateDir, d.trust.extra)
	}
	if err != nil {
		return fault(StateUnusable, err, "", "the device's identity cannot be kept")
	}
	d.cfg.Log.Info("enrolled", slog.Time("not_after", id.leaf().NotAfter))
	return nil
}

func leastPause(err error) time.Duration {
	least, again := passes(err)
	if !again {
		return refusedWait
	}
	return least
}

// session connects with id and serves until the connection ends. fallen says
// that a newer certificate was refused just before.
func (d *Device) session(ctx context.Context, id *identity, fallen bool) ended {
	s, end := d.connect(ctx, id)
	if end.err != nil {
		if ctx.Err() != nil {
			end.err = errEnded
		}
		return end
	}
	// The server has taken this identity: older ones are of no more use.
	if err := d.keep.prove(id); err != nil {
		_ = s.conn.Close()
		return ended{err: fault(StateUnusable, err, "", "the device's identity cannot be kept")}
	}
	d.queue.rewind() // what was under way in the last session goes again
	d.count(func(st *Status) {
		st.Connected, st.Held, st.NotAfter, st.LastError = true, false, id.leaf().NotAfter, ""
	})
	d.cfg.Log.Info("connected", slog.String("server", d.cfg.Server), slog.Int("window", s.window),
		slog.Time("not_after", id.leaf().NotAfter))

	renewed := make(chan struct{})
	renewing, stop := context.WithCancel(ctx)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		if d.renewInTime(renewing, id, fallen) {
			close(renewed)
		}
	}()
	end = s.run(ctx, renewed)
	stop()
	<-finished
	d.count(func(st *Status) { st.Connected = false })
	select {
	case <-renewed:
		if !errors.Is(end.err, errEnded) {
			end = ended{err: errRenewed}
		}
	default:
	}
	if errors.Is(end.err, errEnded) {
		d.cfg.Log.Info("disconnected")
	}
	return end
}

// renewInTime waits until id is to be renewed and then tries until it is, or
// ctx ends. After a certificate that was refused, the next one is asked for
// later: a quarter of what id has left, at least a minute.
func (d *Device) renewInTime(ctx context.Context, id *identity, fallen bool) bool {
	wait := backoff{first: d.pause, draw: d.draw}
	if fallen {
		at, _ := d.clock.read()
		if !sleep(ctx, max(refusedWait, id.leaf().NotAfter.Sub(at)/4)) {
			return false
		}
	}
	for {
		at, _ := d.clock.read()
		pause := id.renewAt().Sub(at)
		if wait.tries == 0 && pause > 0 {
			// In steps, because a clock that is set meanwhile moves the date.
			if !sleep(ctx, min(pause, time.Hour)) {
				return false
			}
			continue
		}
		err := d.renew(ctx, id)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		pause = wait.next(leastPause(err))
		d.fault("renewal failed", err, pause)
		if !sleep(ctx, pause) {
			return false
		}
	}
}

// renew gets the certificate after id, for a new key. id stays good and on
// disk until the new one has been taken by the server.
func (d *Device) renew(ctx context.Context, id *identity) error {
	return d.renewWith(ctx, id, d.est.reenrol)
}

func (d *Device) renewWith(ctx context.Context, id *identity, ask func(context.Context, *identity) (*privateKey, []*x509.Certificate, error)) error {
	d.keep.step("renewal begins")
	key, chain, err := ask(ctx, id)
	if err != nil {
		return err
	}
	d.keep.step("certificate issued")
	next, err := d.keep.add(key, chain)
	if err == nil {
		err = d.trust.keep(d.cfg.StateDir, d.trust.extra)
	}
	if err != nil {
		return fault(StateUnusable, err, "", "the device's identity cannot be kept")
	}
	d.count(func(st *Status) { st.Renewals++ })
	d.cfg.Log.Info("certificate renewed", slog.Time("not_after", next.leaf().NotAfter))
	return nil
}

// fault notes and logs trouble after which the device tries again.
func (d *Device) fault(what string, err error, pause time.Duration) {
	d.count(func(st *Status) { st.LastError = err.Error() })
	attrs := []any{slog.String("reason", string(reasonOf(err))), slog.Any("err", err), slog.Duration("again_in", pause.Round(time.Millisecond))}
	if e, ok := errors.AsType[*Error](err); ok && e.Hint != "" {
		attrs = append(attrs, slog.String("hint", e.Hint))
	}
	d.cfg.Log.Warn(what, attrs...)
}

// sleep waits; false: ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
