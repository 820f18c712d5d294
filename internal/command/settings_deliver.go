package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/wire"
)

// SettingsDue reports whether a device is to be told how it is to be set, if it
// has an owner. have is the version that its session was sent already, 0 for
// none. It asks memory. What the device said that it has is not sent again.
func (s *Service) SettingsDue(id core.DeviceID, have uint64) bool {
	h, ok := s.heldOf(id)
	return ok && (h.subject.IsZero() || h.due(have))
}

func (h *held) due(have uint64) bool { return h.version != have && h.version != h.reported }

func (s *Service) heldOf(id core.DeviceID) (held, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h, ok := s.held[id]
	return h, ok
}

// Settings is the message for a device, if one is due. Under another owner than
// the one for whom it was set, everything is as declared.
func (s *Service) Settings(ctx context.Context, id core.DeviceID, subject core.Subject, have uint64) (m Message, due bool, err error) {
	h, ok := s.heldOf(id)
	if !ok || subject.IsZero() || h.subject == subject && !h.due(have) {
		return m, false, nil
	}
	s.change.Lock()
	defer s.change.Unlock()
	r, err := s.row(ctx, id)
	if err != nil {
		return m, false, err
	}
	if r.Subject != subject {
		if r, err = s.anew(ctx, id, subject); err != nil || r.Subject != subject {
			return m, false, gone(err)
		}
	}
	c, err := s.setContent(&r)
	if err != nil {
		return m, false, err
	}
	return Message{
		Number: r.Version, Payload: wire.AppendConfig(nil, &wire.ConfigMessage{Version: r.Version, Given: r.Changed.UnixMilli(), Settings: c.Values}),
	}, true, nil
}

// anew sets a device as declared, for another owner. The caller holds s.change.
func (s *Service) anew(ctx context.Context, id core.DeviceID, subject core.Subject) (Settings, error) {
	owned, err := s.d.Owner(ctx, id)
	if err != nil || owned.Subject != subject {
		return Settings{}, err // it went on meanwhile
	}
	pol, err := s.d.Policy(ctx, owned.Product)
	if err != nil {
		return Settings{}, err
	}
	return s.turn(ctx, turning{
		device: id, owned: owned, pol: pol, by: core.Job("settings"), cause: ByOwner,
		set: func(*Settings, []wire.Value) ([]wire.Value, error) { return nil, nil },
	})
}

// SettingsTaken notes that a device acknowledged a version.
func (s *Service) SettingsTaken(ctx context.Context, id core.DeviceID, version uint64) error {
	s.change.Lock()
	defer s.change.Unlock()
	r, err := s.row(ctx, id)
	if err != nil || r.Version != version || r.Subject.IsZero() || !r.Taken.IsZero() {
		return err
	}
	r.Taken = s.now()
	return gone(s.keep(ctx, &r, nil, nil))
}

// maxAhead is how far in the future a version may be that a device says it has:
// versions are made of the time.
const maxAhead = 24 * time.Hour

// Report takes what a device says of how it is set. It fails with wire.ErrReport
// for what is to be refused, with anything else for trouble of ours. A device
// that has a higher version than the server remembers, as after a restore, is
// told again with a higher one still: else it would never listen again.
func (s *Service) Report(ctx context.Context, id core.DeviceID, subject core.Subject, payload []byte) error {
	said, err := wire.ParseReport(payload)
	if err != nil {
		return err
	}
	now := s.now()
	if said.Version > uint64(now.Add(maxAhead).UnixMicro()) {
		return fmt.Errorf("%w: version %d was never given", wire.ErrReport, said.Version)
	}
	s.change.Lock()
	defer s.change.Unlock()
	r, err := s.row(ctx, id)
	if err != nil || r.Subject != subject || subject.IsZero() {
		return err // nothing was set for this owner
	}
	if said.Version > r.Version {
		return gone(s.above(ctx, &r, said.Version))
	}
	text := wire.AppendReport(nil, &said)
	if len(r.Report) > 0 && said.Version == r.Reported {
		before, err := s.d.Keys.OpenValue(r.Subject, sealReport, r.Report)
		if err != nil {
			return fmt.Errorf("open what a device said: %w", err)
		}
		if bytes.Equal(before, text) {
			return nil // it says so again
		}
	}
	if r.Report, err = s.d.Keys.SealValue(r.Subject, sealReport, text); err != nil {
		return gone(fmt.Errorf("seal what a device said: %w", err))
	}
	first := r.Reported != said.Version && said.Version == r.Version
	r.Reported, r.ReportedAt = said.Version, now
	if r.Taken.IsZero() && said.Version == r.Version {
		r.Taken = now // its acknowledgement was lost, or is still on its way
	}
	var rec *core.Record
	if first {
		rec = &core.Record{
			Time: now, Kind: RecordReported, Actor: core.Actor{Kind: core.ActorDevice, ID: subject.String()}, Subject: subject, Product: r.Product, Policy: r.Policy,
			Facts: []core.Fact{
				{Name: "version", Value: strconv.FormatUint(said.Version, 10)},
				{Name: "refused", Value: strings.Join(slices.Sorted(maps.Keys(said.Refused)), ",")},
			},
		}
	}
	return gone(s.keep(ctx, &r, nil, rec))
}

// above makes the same settings a version that a device takes. The caller holds
// s.change.
func (s *Service) above(ctx context.Context, r *Settings, version uint64) error {
	owned, err := s.d.Owner(ctx, r.Device)
	if err != nil || owned.Subject != r.Subject {
		return err
	}
	pol, err := s.d.Policy(ctx, owned.Product)
	if err != nil {
		return err
	}
	_, err = s.turn(ctx, turning{
		device: r.Device, owned: owned, pol: pol, by: core.Job("settings"), cause: ByDevice, above: version,
		set: func(_ *Settings, old []wire.Value) ([]wire.Value, error) { return old, nil },
	})
	return err
}

// follow brings what is set to the declarations in force: a value that is
// allowed no more gives way to the default, and a new setting is there.
func (s *Service) follow(ctx context.Context) error {
	shapes := map[core.ProductID]core.Hash{}
	s.mu.RLock()
	for _, h := range s.held {
		shapes[h.product] = core.Hash{}
	}
	s.mu.RUnlock()
	var errs []error
	for product := range shapes {
		pol, err := s.d.Policy(ctx, product)
		if err == nil {
			shapes[product], err = shapeOf(pol)
		}
		if err != nil {
			delete(shapes, product)
			errs = append(errs, err)
		}
	}
	var stale []core.DeviceID
	s.mu.RLock()
	for id, h := range s.held {
		if shape, ok := shapes[h.product]; ok && !h.subject.IsZero() && h.shape != shape && len(stale) < perTick {
			stale = append(stale, id)
		}
	}
	s.mu.RUnlock()
	for _, id := range stale {
		errs = append(errs, gone(s.follow1(ctx, id)))
	}
	return errors.Join(errs...)
}

func (s *Service) follow1(ctx context.Context, id core.DeviceID) error {
	s.change.Lock()
	defer s.change.Unlock()
	owned, err := s.d.Owner(ctx, id)
	if err != nil {
		return err
	}
	r, err := s.row(ctx, id)
	if err != nil || r.Subject != owned.Subject || r.Subject.IsZero() {
		return err // it is told when the next owner's device connects
	}
	pol, err := s.d.Policy(ctx, owned.Product)
	if err != nil {
		return err
	}
	_, err = s.turn(ctx, turning{
		device: id, owned: owned, pol: pol, by: core.Job("settings"), cause: ByDeclaration,
		set: func(_ *Settings, old []wire.Value) ([]wire.Value, error) { return old, nil },
	})
	return err
}
