package server

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// localRole is what whoever asks on the local socket is to a device's owner:
// the maker's support. Other roles come with people who sign in.
const localRole = "support"

// data gives the local door the readings.
type data struct{ s *server }

func (d data) Read(ctx context.Context, by core.Actor, id core.DeviceID, r api.ReadRequest, yield func(api.ReadLine) error) (api.ReadDone, error) {
	q := telemetry.ReadRequest{Device: id, Fields: r.Fields, From: r.From, To: r.To, Purpose: r.Purpose, Reason: r.Reason, Role: localRole}
	vouch := d.s.vouchers(id)
	done, err := d.s.telem.read.Read(ctx, by, q, func(o *telemetry.OpenReading) error {
		l := api.ReadLine{Time: o.Time, Received: o.Received, Stream: o.Stream, WrongClock: o.WrongClock, Values: o.Values}
		if o.HasSeq {
			l.Boot, l.Seq = &o.Boot, &o.Seq
		}
		var err error
		if l.VouchedBy, err = vouch.of(ctx, o.Sender); err != nil {
			return err
		}
		return yield(l)
	})
	if err != nil {
		return api.ReadDone{}, err
	}
	out := api.ReadDone{Readings: done.Readings, Unreadable: done.Unreadable, Undeclared: done.Undeclared, Behind: done.Behind, Damaged: done.Damaged, Withheld: []string{}}
	for _, w := range done.Withheld {
		out.Withheld = append(out.Withheld, w.Field+" ("+w.Why+")")
	}
	return out, nil
}

func (d data) Erase(ctx context.Context, by core.Actor, id core.DeviceID, reason string) (api.Receipt, error) {
	r, err := d.s.telem.erase.Erase(ctx, by, id, reason)
	if err != nil {
		return api.Receipt{}, err
	}
	return api.Receipt{
		Kind: string(telemetry.RecordErased), Time: r.Ended, Device: id, Subject: r.Subject.String(), Destroys: string(r.Destroys),
		Facts: map[string]string{
			"requested": r.Requested.Format(time.RFC3339), "root_before": strconv.FormatUint(r.RootBefore, 10),
			"root_after": strconv.FormatUint(r.RootAfter, 10), "destruction": r.Detail,
			"erasers": strings.Join(r.Erasers, ", "), "held": strings.Join(r.Held, ", "),
		},
	}, nil
}

func (d data) PlaceHold(ctx context.Context, by core.Actor, id core.DeviceID, reason string) (api.Receipt, error) {
	h, err := d.s.telem.holds.Place(ctx, by, id, reason)
	if err != nil {
		return api.Receipt{}, err
	}
	return api.Receipt{
		Kind: string(telemetry.RecordHoldPlaced), Time: h.Placed, Device: id, Subject: h.Subject.String(),
		Facts: map[string]string{"hold": h.ID, "rows": strconv.FormatInt(h.Rows, 10)},
	}, nil
}

func (d data) ReleaseHold(ctx context.Context, by core.Actor, hold, reason string) (api.Receipt, error) {
	if _, err := d.s.telem.holds.Release(ctx, by, hold, reason); err != nil {
		return api.Receipt{}, err
	}
	return api.Receipt{Kind: string(telemetry.RecordHoldReleased), Time: d.s.opt.Now().UTC(), Facts: map[string]string{"hold": hold}}, nil
}

func (d data) Holds(ctx context.Context) ([]api.Hold, error) {
	all, err := d.s.telem.holds.List(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.Hold{}
	for _, h := range all {
		out = append(out, api.Hold{ID: h.ID, Subject: h.Subject.String(), Device: h.Device, Since: h.Placed, By: h.By.String(), Reason: h.Reason, Rows: h.Rows})
	}
	return out, nil
}

// running gives the local door the server itself.
type running struct{ s *server }

func (r running) Status(ctx context.Context) (api.Status, error) {
	counts, err := r.Counts(ctx, core.Subject{})
	if err != nil {
		return api.Status{}, err
	}
	return api.Status{
		Version: r.s.opt.Version, Environment: string(r.s.inst.Environment), Started: r.s.started.UTC(),
		Devices: r.s.addr.Devices, HTTPS: r.s.addr.HTTPS, Connected: r.s.connections(), Gateways: r.s.gateways(),
		Counts: counts, Findings: r.s.findings(ctx),
	}, nil
}

// byRule are the reasons for which a message is acknowledged and dropped
// because a rule says so, not because anything is wrong with it.
var byRule = []telemetry.Reason{telemetry.ReasonUnowned, telemetry.ReasonBeforeOwner, telemetry.ReasonTooOld}

// Counts are what the store counted, of one subject or of all.
func (r running) Counts(ctx context.Context, subject core.Subject) (api.Counts, error) {
	out := api.Counts{Refused: map[string]uint64{}, Dropped: map[string]uint64{}}
	put := func(reason telemetry.Reason, n uint64) {
		if slices.Contains(byRule, reason) {
			out.Dropped[string(reason)] += n
		} else {
			out.Refused[string(reason)] += n
		}
	}
	if subject.IsZero() {
		t, err := r.s.telem.counts.Totals(ctx, "")
		if err != nil {
			return out, err
		}
		out.Accepted, out.Stored, out.DroppedFields, out.Duplicates = t.Accepted, t.Stored, t.DroppedFields, t.Duplicates
		for _, c := range t.Refused {
			put(c.Reason, c.N)
		}
		return out, nil
	}
	err := r.s.store.View(ctx, func(tx *store.Tx) error {
		sums, err := tx.SubjectCount(ctx, subject)
		if err != nil {
			return err
		}
		for _, c := range sums {
			out.Accepted += c.Accepted
			out.Stored += c.Stored
			out.DroppedFields += c.DroppedFields
			out.Duplicates += c.Duplicates
		}
		refused, err := tx.SubjectRefusals(ctx, subject)
		if err != nil {
			return err
		}
		for _, c := range refused {
			put(c.Reason, c.N)
		}
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("read counts of a subject: %w", err)
	}
	return out, nil
}

// Refusals are the last connections of a subject's device that were refused or
// ended.
func (r running) Refusals(subject core.Subject) (out []api.Refusal) {
	for _, x := range r.s.gateway.Refusals() {
		if x.Subject == subject {
			out = append(out, api.Refusal{Time: x.Time.UTC(), Reason: x.Reason, Source: x.Source.String()})
		}
	}
	return out
}

func (r running) ConfirmClock(ctx context.Context, by core.Actor, date string) (api.Clock, error) {
	c, err := r.s.clock.confirm(ctx, by, date)
	if err != nil {
		return api.Clock{}, err
	}
	for _, j := range r.s.jobs { // what waited for it
		j.hurry()
	}
	return c, nil
}

func (r running) Connected(id core.DeviceID) bool { return r.s.connected(id) }

func (r running) Refresh(id core.DeviceID) {
	r.s.gateway.Refresh(id)
	if r.s.links.Keeper != nil {
		r.s.links.Refresh(id)
	}
}
