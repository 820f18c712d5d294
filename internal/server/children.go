package server

import (
	"context"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// vouchers says of a child's readings which hub vouched for each: whose
// certificate the session had. Nothing proves more than that. It is nil for a
// device that speaks for itself.
type vouchers struct {
	s     *server
	known map[telemetry.Sender]core.DeviceID
}

// unknownHub is shown where the certificate of the hub is not kept any more.
const unknownHub core.DeviceID = "?"

func (s *server) vouchers(id core.DeviceID) *vouchers {
	if d, err := s.devices.Device(id); err != nil || !d.Child {
		return nil
	}
	return &vouchers{s: s, known: map[telemetry.Sender]core.DeviceID{}}
}

func (v *vouchers) of(ctx context.Context, sender telemetry.Sender) (core.DeviceID, error) {
	if v == nil {
		return "", nil
	}
	if hub, ok := v.known[sender]; ok {
		return hub, nil
	}
	hub, err := v.s.devices.Holder(ctx, identity.Serial(sender))
	if err != nil {
		return "", err
	}
	if hub == "" {
		hub = unknownHub
	}
	v.known[sender] = hub
	return hub, nil
}
