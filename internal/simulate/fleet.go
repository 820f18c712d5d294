package simulate

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/core"
)

// Doors are where the fleet goes.
type Doors struct {
	Server, Enrol string // HOST:PORT of MQTT and of EST
	Name          string // in the server's certificate, where it is not the host
	Roots         []byte // PEM
	// Code gives a device its enrolment code; it registers it first where it
	// must. It is called once for each device.
	Code func(ctx context.Context, id core.DeviceID) (string, error)
	Dial func(ctx context.Context, network, address string) (net.Conn, error) // nil: a net.Dialer
	Log  *slog.Logger                                                         // of the devices; nil: nothing
}

// Figures are how far a rehearsal is.
type Figures struct {
	Devices   int    `json:"devices"`
	Connected int    `json:"connected"`
	Measured  uint64 `json:"measured"` // readings that devices made and have safe on their disk
	Taken     uint64 `json:"taken"`    // of them, the server acknowledged
	Refused   uint64 `json:"refused"`  // of them, the server refused for good
	Waiting   int    `json:"waiting"`  // of them, in a device's queue
}

// Report is what came of it.
type Report struct {
	Figures
	Dropped uint64 `json:"dropped"` // readings lost because a device's queue was full
	// Unmeasured are readings that a device could not make: its disk or its
	// sensor failed.
	Unmeasured uint64         `json:"unmeasured"`
	Reasons    map[string]int `json:"reasons"` // of what the server refused, dropped or withheld, as the devices were told
	Dials      int            `json:"dials"`   // connections that devices opened
	Cuts       int            `json:"cuts"`    // connections that were cut on purpose
	Storms     int            `json:"storms"`
	Seconds    float64        `json:"seconds"` // from the first device on until every queue was empty, or Settle was over
	Lost       uint64         `json:"lost"`    // measured, and neither taken, refused, dropped nor waiting: there are none
	Errors     []string       `json:"errors"`  // of devices that could not go on, the first ten
}

// member is a device of the fleet that runs.
type member struct {
	*unit
	d     *device.Device
	radio *radio

	measured, unmeasured atomic.Uint64
}

type fleet struct {
	p       Plan
	doors   Doors
	began   time.Time
	members []*member

	mu      sync.Mutex // guards what follows
	reasons map[string]int
	errs    []string
	storms  int
}

// Run has a fleet live as planned. tell, if it is not nil, hears about once a
// second how far it is. An error is one of the rehearsal itself; what devices
// ran into is in the report.
func Run(ctx context.Context, p Plan, doors Doors, tell func(Figures)) (Report, error) {
	if err := p.Check(); err != nil {
		return Report{}, core.E(core.Invalid, "simulate-plan", err.Error(), "`hawser simulate --help` says what can be asked")
	}
	if doors.Dial == nil {
		doors.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	f := &fleet{p: p, doors: doors, began: time.Now(), reasons: map[string]int{}}
	defer func() {
		for _, m := range f.members {
			_ = m.d.Close() // its queue is on disk
		}
	}()
	for _, u := range p.units() {
		m, err := f.open(u)
		if err != nil {
			return Report{}, err
		}
		f.members = append(f.members, m)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	measuring, enough := context.WithTimeout(running, p.For)
	defer enough()
	var devices, others sync.WaitGroup
	gate := make(chan struct{}, enrolAtOnce)
	for _, m := range f.members {
		devices.Go(func() { f.live(running, measuring, gate, m) })
	}
	others.Go(func() { f.weather(measuring) })
	others.Go(func() { f.tellAll(running, tell) })
	<-measuring.Done()
	f.settle(running)
	stop()
	devices.Wait()
	others.Wait()
	return f.report(), ctx.Err()
}

// enrolAtOnce is how many devices enrol at the same time: a factory's line, not
// a flood.
const enrolAtOnce = 8

func (f *fleet) open(u *unit) (*member, error) {
	m := &member{unit: u, radio: newRadio(f.doors.Dial)}
	code := sync.OnceValues(func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return f.doors.Code(ctx, u.id)
	})
	var err error
	m.d, err = device.Open(device.Config{
		Serial: string(u.id), Server: f.doors.Server, EnrolServer: f.doors.Enrol, ServerName: f.doors.Name, Roots: f.doors.Roots,
		StateDir: filepath.Join(f.p.Dir, string(u.id)), EnrolmentCode: code, Dial: m.radio.connect, Log: f.doors.Log,
		Now: func() time.Time { return u.now(f.began) }, Refused: f.refused,
	})
	if err != nil {
		return nil, fmt.Errorf("open device %s: %w", u.id, err)
	}
	return m, nil
}

func (f *fleet) refused(r device.Refusal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reasons[r.Reason] += r.Count
}

func (f *fleet) failed(m *member, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) < 10 {
		f.errs = append(f.errs, fmt.Sprintf("%s: %v", m.id, err))
	}
}

// live is the life of one device: it enrols, measures, and sends when its
// radio is on.
func (f *fleet) live(running, measuring context.Context, gate chan struct{}, m *member) {
	select {
	case gate <- struct{}{}:
	case <-running.Done():
		return
	}
	err := m.d.Enrol(running)
	<-gate
	if err != nil {
		if running.Err() == nil {
			f.failed(m, err)
		}
		return
	}
	var work sync.WaitGroup
	for i := range f.p.Policy.Streams {
		s := &f.p.Policy.Streams[i]
		r := rand.New(rand.NewPCG(f.p.Seed, m.rand.Uint64()))
		own := *m.unit
		own.rand = r // each stream is a goroutine
		work.Go(func() { f.measure(measuring, m, &own, s.Name, s.Every) })
	}
	for running.Err() == nil {
		on, cancel := running, context.CancelFunc(func() {})
		if m.sleeps && measuring.Err() == nil {
			on, cancel = context.WithTimeout(running, f.p.Sleep/4)
		}
		if err := m.d.Run(on); err != nil {
			f.failed(m, err)
			cancel()
			break
		}
		cancel()
		if m.sleeps && measuring.Err() == nil {
			pause(measuring, f.p.Sleep)
		}
	}
	work.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// measure makes readings of one stream as often as is declared.
func (f *fleet) measure(ctx context.Context, m *member, u *unit, stream string, every time.Duration) {
	every = max(every, 10*time.Millisecond)
	// Not all at the same moment, and each once also in a short rehearsal.
	pause(ctx, time.Duration(u.rand.Float64()*float64(min(every, f.p.For/2))))
	t := time.NewTicker(every)
	defer t.Stop()
	for ctx.Err() == nil {
		if err := m.d.Send(stream, u.reading(f.p.Policy, stream, m.now(f.began))); err != nil {
			m.unmeasured.Add(1)
			f.failed(m, err)
			return
		}
		m.measured.Add(1)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
}

// weather cuts connections: storms at once, losses one by one.
func (f *fleet) weather(ctx context.Context) {
	r := rand.New(rand.NewPCG(f.p.Seed, 0x73746f726d))
	second := time.NewTicker(time.Second)
	defer second.Stop()
	storm := time.Now().Add(f.p.StormEvery)
	for {
		select {
		case <-ctx.Done():
			return
		case <-second.C:
		}
		if f.p.StormEvery > 0 && !time.Now().Before(storm) {
			storm = storm.Add(f.p.StormEvery)
			f.mu.Lock()
			f.storms++
			f.mu.Unlock()
			for _, i := range r.Perm(len(f.members))[:int(f.p.StormShare*float64(len(f.members))+0.5)] {
				f.members[i].radio.cut()
			}
		}
		for _, m := range f.members {
			if r.Float64() < f.p.Loss/60 {
				m.radio.cut()
			}
		}
	}
}

// settle returns when every queue is empty, or the time for it is over.
func (f *fleet) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, f.p.Settle)
	defer cancel()
	for ctx.Err() == nil && f.figures().Waiting > 0 {
		pause(ctx, 100*time.Millisecond)
	}
}

func (f *fleet) figures() Figures {
	out := Figures{Devices: len(f.members)}
	for _, m := range f.members {
		s := m.d.Status()
		if s.Connected {
			out.Connected++
		}
		out.Measured += m.measured.Load()
		out.Taken += s.Acked
		out.Refused += s.Refused
		out.Waiting += s.Queued
	}
	return out
}

func (f *fleet) tellAll(ctx context.Context, tell func(Figures)) {
	if tell == nil {
		return
	}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			tell(f.figures())
		case <-ctx.Done():
			return
		}
	}
}

func (f *fleet) report() Report {
	out := Report{Figures: f.figures(), Seconds: time.Since(f.began).Seconds()}
	out.Connected = 0
	for _, m := range f.members {
		s := m.d.Status()
		out.Dropped += s.Dropped
		out.Unmeasured += m.unmeasured.Load()
		dials, cuts := m.radio.counts()
		out.Dials += dials
		out.Cuts += cuts
	}
	// A reading of which the acknowledgement was lost is sent and taken twice,
	// and counted once by the queue.
	if known := out.Taken + out.Refused + out.Dropped + uint64(out.Waiting); known < out.Measured {
		out.Lost = out.Measured - known
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out.Reasons, out.Errors, out.Storms = maps.Clone(f.reasons), append([]string{}, f.errs...), f.storms
	return out
}

// Told are the reasons, most often first.
func (r *Report) Told() []string {
	return slices.SortedFunc(maps.Keys(r.Reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Reasons[b], r.Reasons[a]), cmp.Compare(a, b))
	})
}
