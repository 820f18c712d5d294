package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hawser-iot/hawser/bench/soak/rig"
	"github.com/hawser-iot/hawser/internal/core"
)

// raised is what the benches' configuration raises.
const raised = "device_messages_per_second: 10000\nproduct_messages_per_second: 10000000\n"

// groups is how many sealed groups the twelve fields of a message fall into.
type groups int

const (
	oneGroup    groups = 1
	threeGroups groups = 3
)

// declaration declares the load generator's message.
func declaration(g groups) []byte {
	var s strings.Builder
	s.WriteString(`declaration: 1
product: bench
name: Bench
version: 1
risk: {purpose: comfort, harm: low, exposure: home}
audience: general
identity: {life: 30d, may_sleep: until-end-of-support}
data:
`)
	for i, f := range []string{
		"temp: {type: number, unit: Cel, range: [-40, 85], precision: 0.1", "humidity: {type: number, unit: \"%RH\", range: [0, 100]",
		"press: {type: number, unit: hPa, range: [300, 1100]", "co2: {type: integer, unit: ppm, range: [0, 10000]",
		"target: {type: number, unit: Cel, range: [5, 30]", "heating: {type: boolean", "mode: {type: enum, values: [comfort, eco, away]",
		"valve: {type: integer, unit: \"%\", range: [0, 100]", "batt: {type: number, unit: V, range: [0, 5]",
		"rssi: {type: integer, unit: dBm, range: [-130, 0]", "lux: {type: integer, unit: lx, range: [0, 200000]", "open: {type: boolean",
	} {
		kept := "keep: 30d, readers: [owner, support]"
		if g == threeGroups && i%3 == 1 {
			kept = "keep: 30d, readers: [owner]"
		}
		if g == threeGroups && i%3 == 2 {
			kept = "keep: 10d, readers: [owner, support]"
		}
		fmt.Fprintf(&s, "  %s, stream: climate, class: personal, purposes: [service.control], %s, when_done: shred}\n", f, kept)
	}
	s.WriteString(`streams:
  climate: {every: 1ms, burst: 10000, max_bytes: 512, on_bad: field}
interfaces:
  - {name: gateway, protocol: mqtts, direction: out, auth: device-certificate}
network:
  talks_to: [{service: gateway}]
updates: {automatic: true, check_every: 6h, deadline: {critical: 3d, high: 14d}}
support: {security_updates_until: 2040-12-31, afterwards: "It still heats."}
contacts: {security: security@northwind.example, help: help@northwind.example}
claims:
  - {say: "Encrypted on its way and at rest.", rests_on: [RP-03]}
`)
	return []byte(s.String())
}

// home is a running server with n enrolled devices of the declared product,
// and the folder of their certificates. Whoever asked stops it.
func (b *bench) home(ctx context.Context, name string, g groups, n int) (h *rig.Home, certs string, err error) {
	root := b.dir
	if b.homes != "" {
		root = b.homes
	}
	dir := filepath.Join(root, fmt.Sprintf("%s-%d", name, n))
	certs = filepath.Join(dir, "devices")
	if _, err := os.Stat(filepath.Join(certs, "ca.crt")); err == nil {
		h = rig.Open(b.hawser, dir)
		return h, certs, h.Start(ctx)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	if h, err = rig.Make(ctx, b.hawser, dir, raised); err != nil {
		return nil, "", err
	}
	if err := h.Start(ctx); err != nil {
		return nil, "", err
	}
	if err := h.Publish(ctx, "bench.yaml", declaration(g)); err != nil {
		return nil, "", errors.Join(err, h.Stop())
	}
	ids := make([]core.DeviceID, n)
	for i := range ids {
		ids[i] = core.DeviceID(fmt.Sprintf("dev-%05d", i))
	}
	units, err := h.Enrol(ctx, "bench", ids)
	if err == nil {
		err = h.WriteUnits(certs, units)
	}
	if err != nil {
		return nil, "", errors.Join(err, h.Stop())
	}
	return h, certs, nil
}
