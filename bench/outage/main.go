// Command outage measures the day after: devices whose certificates all ran out
// while nothing could be reached come back at once. The devices are those of
// package device, each with a folder of its own, over real TLS; the server is the
// whole one, in this process, because only so can its clock be set.
//
// It prints one JSON object and fails when a device is not back, when what it
// sent is not stored, or when it took more than -factor times as many connections
// as a device needs that is alone.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hawser-iot/hawser/bench/soak/rig"
	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/server"
)

//go:embed outage.yaml
var declared []byte

// life is how long a certificate of the declaration lives.
const life = 7 * 24 * time.Hour

type options struct {
	hawser, dir   string
	devices, wide int
	away          time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.hawser, "hawser", "bin/hawser", "the program for commands")
	flag.StringVar(&o.dir, "dir", "", "where the devices and the server are; needs 50 KB a device")
	flag.IntVar(&o.devices, "devices", 100000, "devices")
	flag.IntVar(&o.wide, "at-once", 64, "devices that are on their way at the same time")
	flag.DurationVar(&o.away, "away", 10*24*time.Hour, "how long after their certificates ended everything is there again")
	flag.Parse()
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "outage:", err)
		os.Exit(1)
	}
}

// result is what became of them.
type result struct {
	Devices     int     `json:"devices"`
	Back        int64   `json:"back"`
	Connections int64   `json:"connections"` // that the devices opened after the outage
	Renewed     uint64  `json:"renewed"`
	Acked       uint64  `json:"acked"`
	Stored      int     `json:"stored"` // of the devices that were read back
	ReadBack    int     `json:"read_back"`
	EnrolTook   float64 `json:"enrol_seconds"`
	Took        float64 `json:"seconds"` // until the last was back
	PerSecond   float64 `json:"devices_per_second"`
	CPUms       float64 `json:"cpu_ms_per_device"` // both ends
	SlowestMS   float64 `json:"slowest_ms"`        // of one device, from its first step
}

// patience is how long one device may take.
const patience = 3 * time.Minute

// readBack is of how many devices what is stored is looked at.
const readBack = 200

func run(ctx context.Context, o *options) (err error) {
	dir, err := os.MkdirTemp(o.dir, "hawser-outage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.hawser, err = filepath.Abs(o.hawser); err != nil {
		return err
	}
	h, err := rig.Make(ctx, o.hawser, filepath.Join(dir, "home"), "")
	if err != nil {
		return err
	}
	x := &outage{o: o, home: h, dir: dir}
	r := &result{Devices: o.devices}
	began := time.Now()
	if err := x.serve(ctx, 0, func(ctx context.Context) error {
		if err := h.Publish(ctx, "outage.yaml", declared); err != nil {
			return err
		}
		return x.each(ctx, "enrolled", x.wake)
	}); err != nil {
		return err
	}
	r.EnrolTook = time.Since(began).Seconds()
	x.dials.Store(0)
	x.back.Store(0)
	x.slowest.Store(0)
	x.renewed.Store(0)
	x.acked.Store(0)
	if err := x.serve(ctx, life+o.away, func(ctx context.Context) error {
		began, used := time.Now(), cpu()
		if err := x.each(ctx, "back", x.wake); err != nil {
			return err
		}
		r.Took = time.Since(began).Seconds()
		r.CPUms = (cpu() - used) * 1e3 / float64(o.devices)
		return x.look(ctx, r)
	}); err != nil {
		return err
	}
	r.Back, r.Connections, r.Renewed, r.Acked = x.back.Load(), x.dials.Load(), x.renewed.Load(), x.acked.Load()
	r.PerSecond, r.SlowestMS = float64(r.Back)/r.Took, float64(x.slowest.Load())/1e3
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	switch {
	case r.Back != int64(o.devices) || r.Renewed < uint64(o.devices) || r.Acked < uint64(o.devices):
		return fmt.Errorf("%d of %d devices are back, with %d certificates and %d readings taken", r.Back, o.devices, r.Renewed, r.Acked)
	case r.ReadBack == 0 || r.Stored != 2*r.ReadBack: // one of before the outage and one of after
		return fmt.Errorf("of %d devices that were read back %d readings are stored, of %d", r.ReadBack, r.Stored, 2*r.ReadBack)
	case r.Connections > 3*int64(o.devices):
		return fmt.Errorf("%d connections for %d devices", r.Connections, o.devices)
	}
	return nil
}

type outage struct {
	o     *options
	home  *rig.Home
	dir   string
	now   func() time.Time
	doors server.Addresses
	roots []byte

	dials, back, slowest atomic.Int64
	renewed, acked       atomic.Uint64
}

// serve runs the server with its clock so far ahead, and does work meanwhile.
func (x *outage) serve(ctx context.Context, ahead time.Duration, work func(ctx context.Context) error) error {
	c, err := server.LoadConfig(x.home.Dir)
	if err != nil {
		return err
	}
	x.now = func() time.Time { return time.Now().Add(ahead) }
	log, err := os.OpenFile(filepath.Join(x.home.Dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // it is for whoever looks at a failure
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ready, ended := make(chan server.Addresses, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, c, server.Options{Now: x.now, Log: log, Ready: func(a server.Addresses) { ready <- a }})
	}()
	select {
	case x.doors = <-ready:
	case err := <-ended:
		return fmt.Errorf("the server ended before it was ready: %w", err)
	}
	if x.roots, err = x.home.CA(); err != nil {
		return err
	}
	err = work(ctx)
	stop()
	return errors.Join(err, <-ended)
}

// each does step for all devices, some at once, and says how far it is.
func (x *outage) each(ctx context.Context, done string, step func(ctx context.Context, i int) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next, n atomic.Int64
	var all sync.WaitGroup
	for range x.o.wide {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < x.o.devices && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := step(ctx, i); err != nil {
					stop(fmt.Errorf("%s: %w", x.name(i), err))
					return
				}
				if at := n.Add(1); at%10000 == 0 {
					fmt.Fprintf(os.Stderr, "%d of %d %s\n", at, x.o.devices, done)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

func (x *outage) name(i int) core.DeviceID { return core.DeviceID(fmt.Sprintf("away-%06d", i)) }

// open is device i, at an address of its own.
func (x *outage) open(i int) (*device.Device, error) {
	from := &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(1+i/62500), byte(i/250%250), byte(1+i%250))}}
	return device.Open(device.Config{
		Serial: string(x.name(i)), Server: x.doors.Devices, EnrolServer: x.doors.HTTPS, ServerName: "localhost", Roots: x.roots,
		StateDir: filepath.Join(x.dir, "devices", fmt.Sprint(i/1000), fmt.Sprint(i)), QueueBytes: 64 << 10, Now: x.now, Sleeps: true,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			x.dials.Add(1)
			return from.DialContext(ctx, network, address)
		},
		EnrolmentCode: func() (string, error) { return x.home.Code(context.Background(), "outage", x.name(i)) },
	})
}

// wake is what device i does when it is there for the first time, and after the
// outage: measure, send, and be told that it was taken.
func (x *outage) wake(ctx context.Context, i int) (err error) {
	began := time.Now()
	d, err := x.open(i)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if d.Status().NotAfter.IsZero() { // what was measured before is nobody's
		if err := d.Enrol(ctx); err != nil {
			return err
		}
	}
	if err := d.Send("work", device.NewReading(x.now()).Int("number", int64(i))); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	ended := make(chan error, 1)
	running, end := context.WithCancel(ctx)
	go func() { ended <- d.Run(running) }()
	err = d.Flush(ctx)
	end()
	if err = errors.Join(err, <-ended); err != nil {
		return fmt.Errorf("%w: %+v", err, d.Status())
	}
	s := d.Status()
	x.renewed.Add(s.Renewals)
	x.acked.Add(s.Acked)
	x.back.Add(1)
	for took := time.Since(began).Microseconds(); ; {
		most := x.slowest.Load()
		if took <= most || x.slowest.CompareAndSwap(most, took) {
			return nil
		}
	}
}

// look reads some of the devices back.
func (x *outage) look(ctx context.Context, r *result) error {
	for _, i := range rand.Perm(x.o.devices)[:min(x.o.devices, readBack)] {
		lines, err := x.home.Read(ctx, string(x.name(i)), "what came after an outage is compared")
		if err != nil {
			return err
		}
		r.ReadBack++
		r.Stored += len(lines)
	}
	_, err := fmt.Fprintf(os.Stderr, "%d devices read back\n", r.ReadBack)
	return err
}

// cpu is what this process has used, in seconds.
func cpu() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
