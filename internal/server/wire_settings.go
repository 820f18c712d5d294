package server

import (
	"context"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
)

// settings says at the local door how devices are to be set.
type settings struct{ s *server }

func (x settings) Show(ctx context.Context, id core.DeviceID) (api.DeviceSettings, error) {
	if _, err := x.s.devices.Device(id); err != nil {
		return api.DeviceSettings{}, err
	}
	shown, err := x.s.commands.Show(ctx, id)
	if err != nil {
		return api.DeviceSettings{}, err
	}
	return api.DeviceSettingsOf(&shown), nil
}

func (x settings) Set(ctx context.Context, by core.Actor, id core.DeviceID, r api.SettingsRequest) (api.DeviceSettings, error) {
	if _, err := x.s.commands.Set(ctx, by, command.SetRequest{Device: id, Values: r.Values, Role: r.As, Reason: r.Reason}); err != nil {
		return api.DeviceSettings{}, err
	}
	return x.Show(ctx, id)
}

func (x settings) SetBack(ctx context.Context, by core.Actor, id core.DeviceID, r api.SettingsBack) (api.DeviceSettings, error) {
	if _, err := x.s.commands.SetBack(ctx, by, command.BackRequest{Device: id, Version: r.Version, Role: r.As, Reason: r.Reason}); err != nil {
		return api.DeviceSettings{}, err
	}
	return x.Show(ctx, id)
}
