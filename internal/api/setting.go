package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
)

// Settings says how devices are to be set.
type Settings interface {
	Show(ctx context.Context, id core.DeviceID) (DeviceSettings, error)
	Set(ctx context.Context, by core.Actor, id core.DeviceID, r SettingsRequest) (DeviceSettings, error)
	SetBack(ctx context.Context, by core.Actor, id core.DeviceID, r SettingsBack) (DeviceSettings, error)
}

// SettingsRequest is what is to be set on a device.
type SettingsRequest struct {
	Values json.RawMessage `json:"values"` // an object of declared settings
	As     string          `json:"as"`     // the role, among the declaration's `by`: "support"
	Reason string          `json:"reason"`
}

// Validate bounds the request; the rest is for the rules.
func (r *SettingsRequest) Validate() error {
	if len(r.Values) == 0 {
		return core.E(core.Invalid, "setting-value", "no setting is named", "give `values`, as in {\"level\": 3}")
	}
	return checkAs(r.As, r.Reason)
}

// SettingsBack is what is to be as it was.
type SettingsBack struct {
	Version uint64 `json:"version,omitempty"` // this one and all after it are taken back; 0: the newest
	As      string `json:"as"`
	Reason  string `json:"reason"`
}

// Validate bounds the request; the rest is for the rules.
func (r *SettingsBack) Validate() error { return checkAs(r.As, r.Reason) }

func checkAs(as, reason string) error {
	if as == "" || len(as) > 80 {
		return core.E(core.Invalid, "setting-as", "the role is missing or none", "give `as`, one of those that the declaration lets set it")
	}
	return checkReason(reason)
}

// DeviceSettings is how a device is to be set, and what it says of it. Values
// whose class is not public are the owner's, and are not in it.
type DeviceSettings struct {
	State    string          `json:"state"`             // never-set, waiting, taken, in-force or otherwise
	Version  uint64          `json:"version,omitempty"` // grows with every change
	Changed  *time.Time      `json:"changed,omitempty"`
	By       string          `json:"by,omitempty"`
	Role     string          `json:"role,omitempty"`
	Cause    string          `json:"cause,omitempty"` // set, back, owner, declaration or device
	Names    []string        `json:"names,omitempty"` // what the version changed
	Taken    *time.Time      `json:"taken,omitempty"`
	Reported *time.Time      `json:"reported,omitempty"` // when the device last said how it is set
	Settings []DeviceSetting `json:"settings"`
	Back     []SettingBack   `json:"back,omitempty"` // what can be taken back, newest first
}

// DeviceSetting is one setting of a device.
type DeviceSetting struct {
	Name    string          `json:"name"`
	Class   string          `json:"class"`
	Unit    string          `json:"unit,omitempty"`
	Default json.RawMessage `json:"default"`
	Set     bool            `json:"set"`              // somebody set it; else the default is meant
	Value   json.RawMessage `json:"value,omitempty"`  // of a public one
	Device  string          `json:"device,omitempty"` // in-force, otherwise or refused, by the device's word
	Why     string          `json:"why,omitempty"`    // what the device says of one that it refused
	Risky   bool            `json:"risky"`
	By      []string        `json:"by"`
}

// SettingBack is a version that can be taken back, until its time is over.
type SettingBack struct {
	Version uint64    `json:"version"`
	Names   []string  `json:"names"`
	Until   time.Time `json:"until"`
}

// DeviceSettingsOf are settings as they are shown.
func DeviceSettingsOf(s *command.ShownSettings) DeviceSettings {
	out := DeviceSettings{
		State: s.State, Version: s.Version, Role: s.Role, Cause: string(s.Cause), Names: s.Names,
		Changed: timeOrNil(s.Changed), Taken: timeOrNil(s.Taken), Reported: timeOrNil(s.ReportedAt), Settings: []DeviceSetting{},
	}
	if s.Version != 0 {
		out.By = s.By.String()
	}
	for i := range s.List {
		l := &s.List[i]
		x := DeviceSetting{Name: l.Name, Class: l.Class.String(), Unit: l.Unit, Default: json.RawMessage(l.Default), Set: l.Set, Device: l.Device, Why: l.Why, Risky: l.Risky, By: l.By}
		if l.Value != "" {
			x.Value = json.RawMessage(l.Value)
		}
		out.Settings = append(out.Settings, x)
	}
	for _, b := range s.Backs {
		out.Back = append(out.Back, SettingBack(b))
	}
	return out
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func settingRoutes(h handlers) []Route {
	return []Route{
		{"GET /v1/devices/{device}/settings", "device.list", h.settings},
		{"POST /v1/devices/{device}/settings", "setting.set", h.set},
		{"POST /v1/devices/{device}/settings/back", "setting.set", h.setBack},
	}
}

func (h handlers) settings(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	s, err := h.Settings.Show(r.Context(), id)
	if err != nil {
		return err
	}
	return writeJSON(w, s)
}

func (h handlers) set(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	var req SettingsRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	s, err := h.Settings.Set(r.Context(), by, id, req)
	if err != nil {
		return err
	}
	return writeJSON(w, s)
}

func (h handlers) setBack(w http.ResponseWriter, r *http.Request, by core.Actor) error {
	id, err := deviceIn(r)
	if err != nil {
		return err
	}
	var req SettingsBack
	if err := decode(r, &req); err != nil {
		return err
	}
	s, err := h.Settings.SetBack(r.Context(), by, id, req)
	if err != nil {
		return err
	}
	return writeJSON(w, s)
}
