package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/server"
	"github.com/hawser-iot/hawser/internal/simulate"
	"github.com/hawser-iot/hawser/internal/term"
)

func simulateCommands() []*command {
	return []*command{{
		name: "simulate", args: "FILE", nargs: [2]int{1, 1},
		short: "rehearse with a fleet of made-up devices",
		long: `Registers devices of the product that a declaration FILE is of with the running server,
which must be a test installation where exactly that version is in force, and has them live: each with the library that real firmware uses, its own
key, certificate and queue, measuring as often as the declaration says, every
field within its bounds. Connections are lost one by one (--loss) and all at once
(--storm), clocks are wrong (--skew), radios sleep (--sleep). What happens to which device
follows from --seed. At the end it says what was measured, taken, refused and lost. The
devices stay registered: the same seed goes on with them. The exit code is 0 if every
reading that was measured was taken.`,
		example: "hawser simulate examples/aria-thermostat.yaml --devices 3 --for 3s --storm 1s",
		flags: func(e *env) {
			e.str("devices", "20", "how `many`, 1 to 2,000")
			e.str("for", "1m", "how `long` they measure: 1s to 24h")
			e.str("settle", "1m", "how `long` after it their queues may take to run empty")
			e.str("seed", "1", "the `number` that everything made up follows from")
			e.str("storm", "0", "how `often` a part of the fleet loses its connections at once")
			e.str("storm-share", "0.1", "how large that `part` is, 0 to 1")
			e.str("loss", "0", "the `chance` that a connection dies in any minute, 0 to 1")
			e.str("skew", "0", "by how `much` clocks are wrong at most; every fourth of them says 1970")
			e.str("skew-share", "0.2", "the `part` of the clocks that are wrong, 0 to 1")
			e.str("sleep", "0", "how `long` radios sleep at a time")
			e.str("sleep-share", "0.2", "the `part` of the devices that do, 0 to 1")
			e.str("state", "", "a `folder` for the devices' keys and queues (default: beside the data)")
		},
		run: runSimulate,
	}}
}

// planOf reads the flags.
func planOf(e *env) (p simulate.Plan, err error) {
	span := func(name string, into *simulate.Plan, set func(*simulate.Plan, string) error) {
		if err == nil && *e.opt[name] != "0" {
			err = set(into, *e.opt[name])
		}
	}
	for name, set := range map[string]func(*simulate.Plan, string) error{
		"for":    func(p *simulate.Plan, s string) (err error) { p.For, err = spanOf("for", s); return err },
		"settle": func(p *simulate.Plan, s string) (err error) { p.Settle, err = spanOf("settle", s); return err },
		"storm":  func(p *simulate.Plan, s string) (err error) { p.StormEvery, err = spanOf("storm", s); return err },
		"skew":   func(p *simulate.Plan, s string) (err error) { p.SkewMost, err = spanOf("skew", s); return err },
		"sleep":  func(p *simulate.Plan, s string) (err error) { p.Sleep, err = spanOf("sleep", s); return err },
	} {
		span(name, &p, set)
	}
	for name, into := range map[string]*float64{"storm-share": &p.StormShare, "loss": &p.Loss, "skew-share": &p.SkewShare, "sleep-share": &p.SleepShare} {
		x, perr := strconv.ParseFloat(*e.opt[name], 64)
		if perr != nil && err == nil {
			err = core.E(core.Invalid, name, "--"+name+" is no number", "give 0 to 1, as in 0.1")
		}
		*into = x
	}
	if err != nil {
		return p, err
	}
	if p.SkewMost == 0 {
		p.SkewShare = 0
	}
	if p.Sleep == 0 {
		p.SleepShare = 0
	}
	if p.Seed, err = strconv.ParseUint(*e.opt["seed"], 10, 32); err != nil {
		return p, core.E(core.Invalid, "seed", "--seed is no number", "give 0 to 4294967295")
	}
	if p.Devices, err = strconv.Atoi(*e.opt["devices"]); err != nil {
		return p, core.E(core.Invalid, "devices", "--devices is no number", "give 1 to 2,000")
	}
	return p, nil
}

func runSimulate(ctx context.Context, e *env) error {
	p, err := planOf(e)
	if err != nil {
		return err
	}
	if p.Policy, err = compile(e.args[0]); err != nil {
		return faulty(e, err)
	}
	conf, err := server.LoadConfig(e.home)
	if err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var st api.Status
	if err := c.Call(ctx, "GET", "/v1/status", nil, &st); err != nil {
		return err
	}
	if st.Environment != string(core.Test) {
		return core.E(core.Denied, "simulate-live", "this is a live installation: made-up devices have no place among real ones", "make one for rehearsals: hawser init --environment test --home rehearsal")
	}
	var all []api.Declaration
	if err := c.Call(ctx, "GET", "/v1/declarations", nil, &all); err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(d api.Declaration) bool { return d.Hash == p.Policy.Hash.String() }) {
		return core.E(core.Conflict, "simulate-version", fmt.Sprintf("version %d of %s, as the file has it, is not in force", p.Policy.Version, p.Policy.Product), "hawser declaration publish "+e.args[0])
	}
	if p.Dir = *e.opt["state"]; p.Dir == "" {
		p.Dir = filepath.Join(e.home, "simulated")
	}
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return fmt.Errorf("make a folder for the devices' state: %w", err)
	}
	roots, err := os.ReadFile(filepath.Join(conf.CA, "root.pem"))
	if err != nil {
		return fmt.Errorf("read the bundle of roots: %w", err)
	}
	doors := simulate.Doors{Server: localDoor(st.Devices), Enrol: localDoor(st.HTTPS), Name: "localhost", Roots: roots, Code: func(ctx context.Context, id core.DeviceID) (string, error) {
		var added api.DeviceAdded
		err := c.Call(ctx, "POST", "/v1/devices", api.AddDeviceRequest{Device: id, Product: p.Policy.Product}, &added)
		if core.KindOf(err) == core.Conflict { // registered by an earlier rehearsal
			err = c.Call(ctx, "POST", "/v1/devices/"+url.PathEscape(string(id))+"/code", nil, &added)
		}
		return added.Code, err
	}}
	say := e.progress("rehearsing")
	r, err := simulate.Run(ctx, p, doors, func(f simulate.Figures) {
		say.say(fmt.Sprintf("%d of %d connected, %d measured, %d taken, %d refused, %d waiting", f.Connected, f.Devices, f.Measured, f.Taken, f.Refused, f.Waiting))
	})
	say.end()
	if err != nil {
		return err
	}
	if err := e.print(r, func(w io.Writer) { simulateText(w, &r) }); err != nil {
		return err
	}
	if r.Taken+r.Dropped != r.Measured || r.Dropped > 0 || r.Unmeasured > 0 || len(r.Errors) > 0 {
		return &quiet{exitFailed}
	}
	return nil
}

// localDoor is a door of this machine, as something on it dials it.
func localDoor(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func simulateText(w io.Writer, r *simulate.Report) {
	fmt.Fprintf(w, "%d devices for %.1f s, %d connections opened", r.Devices, r.Seconds, r.Dials)
	if r.Cuts > 0 {
		fmt.Fprintf(w, ", %d cut on purpose in %d storms and between them", r.Cuts, r.Storms)
	}
	fmt.Fprintf(w, "\n\nmeasured  %d\ntaken     %d\nrefused   %d\nwaiting   %d\ndropped   %d (a device's queue was full)\nlost      %d\n", r.Measured, r.Taken, r.Refused, r.Waiting, r.Dropped, r.Lost)
	for _, why := range r.Told() {
		fmt.Fprintf(w, "  %s: %d times\n", term.Safe(why), r.Reasons[why])
	}
	for _, text := range r.Errors {
		paragraph(w, "  "+term.Safe(text), 4)
	}
}
