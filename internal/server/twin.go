package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/store"
)

// twinDeclaration is the product of every twin: a field of each common kind,
// a coarse place, and fast streams, so that no trial waits for a rate.
const twinDeclaration = `declaration: 1
product: twin-sensor
name: Twin Sensor
version: 1
risk: {purpose: comfort, harm: low, exposure: home}
audience: general
identity: {life: 30d, may_sleep: until-end-of-support}
data:
  temp: {stream: climate, type: number, unit: Cel, range: [-40, 85], precision: 0.1, class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}
  latitude: {stream: climate, type: number, unit: deg, range: [-90, 90], precision: 0.01, class: personal, purposes: [service.control], keep: 10d, readers: [owner], when_done: shred}
streams:
  climate: {every: 10ms, burst: 1000, max_bytes: 512, on_bad: field}
hub: {children: [twin-contact], max: 16}
settings:
  valve: {type: boolean, default: false, class: public, keep: 30d, by: [support], risky: true}
  level: {type: integer, unit: "1", range: [0, 3], default: 1, class: public, keep: 30d, by: [support], risky: false}
commands:
  blink: {params: {seconds: {type: integer, unit: s, range: [1, 60]}}, by: [support], risky: false}
  melt: {by: [support], risky: true}
interfaces:
  - {name: gateway, protocol: mqtts, direction: out, auth: device-certificate}
network: {talks_to: [{service: gateway}], wifi: [wpa2, wpa3]}
updates: {automatic: true, check_every: 6h, window: "02:00-05:00", deadline: {critical: 3d, high: 14d}}
support: {security_updates_until: 2099-12-31, afterwards: "Measures, but tells nobody."}
contacts: {security: security@twin.example, help: help@twin.example}
claims:
  - {say: "Encrypted on its way and at rest.", rests_on: [RP-03]}
`

const (
	twinDevices = 3
	// settle is how long a trial waits for what it did to be seen, and for
	// everything else that is a moment's work on a quiet machine.
	settle = 15 * time.Second
	// leastLooks is how many looks it takes at least: a machine that is so slow
	// that one takes all the time is not to fail a trial.
	leastLooks = 3
	// trialTime is how long one look may take. A trial holds up nobody.
	trialTime = 30 * time.Second
)

// twin is a disposable installation that runs in this process, in a folder of
// its own, on loopback ports that the system chose. It has no address of
// anybody: its configuration is written here and names none.
type twin struct {
	home   string
	s      *server
	client *api.Client
	roots  *x509.CertPool
	addr   Addresses
	shift  atomic.Int64 // of its clock, nanoseconds
	units  []check.TwinDevice
	agents []*device.Device
	work   sync.WaitGroup
	cancel context.CancelFunc
	ended  chan error

	mu      sync.Mutex // guards what follows
	touched []check.Touch
}

// newTwin makes an installation, starts it, and fills it: a declaration,
// enrolled devices, stored readings.
func newTwin(ctx context.Context, version string) (_ *twin, err error) {
	home, err := os.MkdirTemp("", "hawser-twin-")
	if err != nil {
		return nil, fmt.Errorf("make a twin: %w", err)
	}
	t := &twin{home: home, ended: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make a twin: %w", err), t.close())
		}
	}()
	conf := "devices: 127.0.0.1:0\nhttps: 127.0.0.1:0\nconsole: 127.0.0.1:0\nservices: 127.0.0.1:0\nnames: [localhost, 127.0.0.1]\n"
	if err := os.WriteFile(filepath.Join(home, "config.yaml"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	if _, err := Init(ctx, home, core.Live); err != nil {
		return nil, err
	}
	if err := t.start(ctx, version); err != nil {
		return nil, err
	}
	return t, t.fill(ctx)
}

func (t *twin) start(ctx context.Context, version string) error {
	c, err := LoadConfig(t.home)
	if err != nil {
		return err
	}
	t.client = api.NewClient(c.Socket)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t.cancel = cancel
	ready := make(chan Addresses, 1)
	t.s = newServer(c, Options{Version: version, Log: io.Discard, Now: t.Now, Ready: func(a Addresses) { ready <- a }, still: true})
	go func() { t.ended <- t.s.run(run) }()
	select {
	case t.addr = <-ready:
	case err := <-t.ended:
		t.ended <- nil
		return errors.Join(errors.New("it did not start"), err)
	case <-ctx.Done():
		return ctx.Err()
	}
	t.roots = x509.NewCertPool()
	t.roots.AddCert(t.s.ca.Root())
	return nil
}

// fill gives the twin what checks look at. Everything goes through its doors.
func (t *twin) fill(ctx context.Context) error {
	if err := t.Call(ctx, "POST", "/v1/declarations", api.PublishRequest{File: "twin.yaml", Source: twinDeclaration}, nil); err != nil {
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := t.cancel
	t.cancel = func() { cancel(); t.work.Wait(); stop() }
	for i := range twinDevices {
		if err := t.addDevice(ctx, run, core.DeviceID(fmt.Sprintf("TWIN-%d", i+1))); err != nil {
			return err
		}
	}
	for i, d := range t.units {
		for n := range 5 {
			if err := t.Publish(ctx, d, "climate", fmt.Sprintf(`{"temp":%d.5,"latitude":52.%d}`, 18+n, 10+i)); err != nil {
				return err
			}
		}
	}
	if err := t.fillChildren(ctx); err != nil {
		return err
	}
	if err := t.person(ctx); err != nil {
		return err
	}
	if err := t.fillData(ctx, run); err != nil {
		return err
	}
	if err := t.fillWaiver(ctx); err != nil {
		return err
	}
	// Evidence of its own, for the checks that look at evidence.
	return t.Call(ctx, "POST", "/v1/checks/run", api.RunRequest{Check: "jobs.heartbeat"}, nil)
}

// person opens the console with the founders' links, and lets both founders
// join: a browser with a passkey is not at hand, so rows and ledger say that
// there was one.
func (t *twin) person(ctx context.Context) error {
	for range access.Founders {
		if err := t.Call(ctx, "POST", "/v1/people/founder", nil, nil); err != nil {
			return err
		}
	}
	if err := t.Exec(ctx, "control.db", `UPDATE person SET state = 'active', joined_us = invited_us, approver_us = invited_us WHERE state = 'invited' AND founder = 1`); err != nil {
		return err
	}
	if err := t.Exec(ctx, "control.db", `INSERT INTO passkey (id, person, public, count, flags, transports, label, added_us)
		SELECT randomblob(16), id, randomblob(77), 0, 5, 'internal', randomblob(40), invited_us FROM person
		WHERE state = 'active' AND id NOT IN (SELECT person FROM passkey)`); err != nil {
		return err
	}
	return t.s.store.Update(ctx, func(tx *store.Tx) error {
		all, err := tx.People(ctx)
		if err != nil {
			return err
		}
		for _, p := range all {
			if p.State != access.Active {
				continue
			}
			if err := tx.Record(ctx, core.Record{Time: t.Now().UTC().Truncate(time.Microsecond), Kind: access.RecordJoined, Actor: p.ID.Actor(), Subject: p.Subject, Facts: []core.Fact{
				{Name: "person", Value: string(p.ID)}, {Name: "roles", Value: string(access.Administrator)}, {Name: "approver", Value: "yes"}, {Name: "founder", Value: "yes"},
			}}); err != nil {
				return err
			}
		}
		return nil
	})
}

// breakGate puts a gate over another database's counters in place, with limits
// that nobody reaches.
func (t *twin) breakGate() (undo func(), err error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	broken, err := gate.NewBroken(context.Background(), gate.Deps{Update: update[gate.Tx](t.s.store), View: view[gate.Tx](t.s.store), Now: t.Now, Key: key})
	if err != nil {
		return nil, err
	}
	t.Touch("gate", "limits that nobody reaches")
	whole := t.s.gate
	t.s.gate = broken
	return func() { t.s.gate = whole }, nil
}

func (t *twin) addDevice(ctx, run context.Context, id core.DeviceID) error {
	var added api.DeviceAdded
	if err := t.Call(ctx, "POST", "/v1/devices", api.AddDeviceRequest{Device: id, Product: check.TwinProduct}, &added); err != nil {
		return err
	}
	dir := filepath.Join(t.home, "devices", string(id))
	root := pemOf(t.s.ca.Root().Raw)
	d, err := device.Open(device.Config{
		Serial: string(id), Server: t.addr.Devices, EnrolServer: t.addr.HTTPS, ServerName: "localhost", Roots: root, StateDir: dir,
		EnrolmentCode: func() (string, error) { return added.Code, nil }, Now: t.Now, Grace: time.Second,
	})
	if err != nil {
		return err
	}
	t.agents = append(t.agents, d)
	t.work.Go(func() { _ = d.Run(run) }) // its session's end is the twin's end
	if err := t.until(ctx, func() bool { return d.Status().Connected }); err != nil {
		return fmt.Errorf("connect %s: %w", id, err)
	}
	cert, err := certificateIn(dir)
	if err != nil {
		return err
	}
	known, err := t.s.devices.Device(id)
	if err != nil {
		return err
	}
	t.units = append(t.units, check.TwinDevice{ID: id, Subject: known.Subject, Certificate: cert})
	return nil
}

// certificateIn is the key and certificate that a device keeps in its folder.
func certificateIn(dir string) (cert tls.Certificate, err error) {
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "chain.pem" {
			return err
		}
		cert, err = tls.LoadX509KeyPair(p, filepath.Join(filepath.Dir(p), "key.pem"))
		return err
	})
	if err == nil && cert.PrivateKey == nil {
		err = errors.New("the device has no certificate in " + dir)
	}
	return cert, err
}

// until waits, at most for settle, until ok says yes.
func (t *twin) until(ctx context.Context, ok func() bool) error {
	end := time.Now().Add(settle)
	for !ok() {
		if time.Now().After(end) {
			return fmt.Errorf("not within %s", settle)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// close stops the twin and removes its folder.
func (t *twin) close() error {
	var errs []error
	if t.cancel != nil {
		t.cancel()
		errs = append(errs, <-t.ended)
	}
	for _, a := range t.agents {
		errs = append(errs, a.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(t.home))...)
}

func (t *twin) Home() string                { return t.home }
func (t *twin) Data() string                { return t.s.c.Data }
func (t *twin) Roots() *x509.CertPool       { return t.roots }
func (t *twin) Devices() []check.TwinDevice { return t.units }
func (t *twin) Now() time.Time              { return time.Now().Add(time.Duration(t.shift.Load())) }

// Advance moves the clock, and lets every job see that its time has come.
func (t *twin) Advance(d time.Duration) {
	t.shift.Add(int64(d))
	for _, j := range t.s.jobs {
		j.hurry()
	}
}

func (t *twin) Address(door string) string {
	switch door {
	case "devices":
		return t.addr.Devices
	case "https":
		return t.addr.HTTPS
	case "console":
		return t.s.people.address()
	}
	return ""
}

func (t *twin) Touch(what, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.touched = append(t.touched, check.Touch{What: what, Name: strings.ReplaceAll(name, t.home, "TWIN")})
}

func (t *twin) takeTouched() []check.Touch {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.touched
	t.touched = nil
	return out
}

func (t *twin) Call(ctx context.Context, method, path string, in, out any) error {
	t.Touch("socket", method+" "+path)
	return t.client.Call(ctx, method, path, in, out)
}

func (t *twin) Exec(ctx context.Context, db, stmt string, args ...any) error {
	t.Touch("file", db)
	_, err := store.Behind(ctx, filepath.Join(t.Data(), db), stmt, args...)
	return err
}

func (t *twin) Query(ctx context.Context, db, query string, args []any, into ...any) error {
	return store.LookBehind(ctx, filepath.Join(t.Data(), db), query, args, into...)
}

func (t *twin) Publish(ctx context.Context, d check.TwinDevice, stream, payload string) error {
	t.Touch("device", string(d.ID)+" telemetry/"+stream)
	for i := range t.units {
		if t.units[i].ID != d.ID {
			continue
		}
		if err := t.until(ctx, func() bool { return t.agents[i].Status().Connected }); err != nil {
			return err
		}
		_, err := t.agents[i].PublishRaw(ctx, "telemetry/"+stream, []byte(payload))
		if err != nil {
			return fmt.Errorf("publish as %s: %w", d.ID, err)
		}
		return t.s.telem.projector.Settle(ctx)
	}
	return fmt.Errorf("publish as %s: the twin has no such device", d.ID)
}

// Hook holds a job still ("job:NAME"), puts a gate in place that slows nobody
// ("gate:broken"), stores what was not declared ("data:…"), or opens a door
// wider than it should be ("door:…").
func (t *twin) Hook(name string) (undo func(), err error) {
	if strings.HasPrefix(name, "data:") {
		return t.dataHook(name)
	}
	if name == "gate:broken" {
		return t.breakGate()
	}
	if strings.HasPrefix(name, "door:") {
		return t.doorHook(name)
	}
	for _, j := range t.s.jobs {
		if "job:"+j.name == name {
			t.Touch("job", j.name)
			j.held.Store(true)
			return func() { j.held.Store(false); j.hurry() }, nil
		}
	}
	return nil, fmt.Errorf("a twin has no fault named %q", name)
}

// SelftestOptions say what a selftest tries.
type SelftestOptions struct {
	Version  string
	Only     func(id string) bool // nil: all
	Alone    bool                 // nothing else listens in this process
	Progress func(p check.Proof, done, total int)
}

// Selftest tries every violation of every check on a twin and says what came
// of it. A twin that a trial could not be taken back from is thrown away, and
// the next trial has a new one.
func Selftest(ctx context.Context, o SelftestOptions) (out []check.Proof, err error) {
	t, err := newTwin(ctx, o.Version)
	if err != nil {
		return nil, err
	}
	t.s.opt.Alone = o.Alone
	defer func() {
		if t != nil {
			err = errors.Join(err, t.close())
		}
	}()
	type trial struct {
		c *check.Check
		v check.Violation
	}
	var trials []trial
	for _, c := range t.s.rounds.registry.All() {
		if c.Built() && (o.Only == nil || o.Only(c.ID)) {
			for _, v := range c.Violations {
				trials = append(trials, trial{c, v})
			}
		}
	}
	network := wayOut()
	for i, x := range trials {
		if t == nil {
			if t, err = newTwin(ctx, o.Version); err != nil {
				return out, err
			}
			t.s.opt.Alone = o.Alone
		}
		// A new twin has checks of its own; the trial is of the same name.
		c := t.s.rounds.registry.Find(x.c.ID)
		v := x.v
		for _, w := range c.Violations {
			if w.ID == v.ID {
				v = w
			}
		}
		p := t.try(ctx, c, v)
		p.Touched = append([]check.Touch{network}, p.Touched[:min(len(p.Touched), check.MaxTouched-1)]...)
		out = append(out, p)
		if o.Progress != nil {
			o.Progress(p, i+1, len(trials))
		}
		if err := ctx.Err(); err != nil {
			return out, err
		}
		if p.After != check.Pass {
			spoilt := t
			t = nil
			if err := spoilt.close(); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// try is one trial: green, violated and red, taken back and green again.
func (t *twin) try(ctx context.Context, c *check.Check, v check.Violation) (p check.Proof) {
	p = check.Proof{Check: c.ID, Version: c.Version, Program: t.s.opt.Version, Violation: v.ID}
	defer func() {
		if x := recover(); x != nil {
			p.Error = fmt.Sprintf("the trial panicked: %v", x)
		}
		// The proof is of the installation that asked for it, not of the
		// twin's clock, which may have been moved.
		p.Taken = time.Now().UTC().Truncate(time.Microsecond)
		p.Expires = p.Taken.Add(check.ProofAge)
		p.Touched = t.takeTouched()
		p.Touched = p.Touched[:min(len(p.Touched), check.MaxTouched)]
	}()
	look := func(want check.Outcome) (o check.Observation) {
		end := time.Now().Add(settle)
		for n := 1; ; n++ { // what is not reached shows in the outcome
			o = check.Take(ctx, c, t.s.opt.Version, t.Now, trialTime)
			if o.Outcome == want || ctx.Err() != nil || n >= leastLooks && time.Now().After(end) {
				return o
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	before := look(check.Pass)
	if p.Before = before.Outcome; p.Before != check.Pass {
		p.Error = "it was not green before: " + why(&before)
		return p
	}
	t.takeTouched()
	undo, err := v.Do(ctx, t)
	if err != nil {
		p.Error = "the violation did not succeed: " + err.Error()
		return p
	}
	red := look(check.Fail)
	p.Red = red.Outcome
	if len(red.Findings) > 0 {
		p.Saw = red.Findings[0].Subject + ": " + red.Findings[0].Text
	}
	if undo == nil {
		p.Error = "the violation cannot be taken back"
		return p
	}
	if err := undo(ctx); err != nil {
		p.Error = "the violation could not be taken back: " + err.Error()
		return p
	}
	after := look(check.Pass)
	if p.After = after.Outcome; p.After != check.Pass {
		p.Error = "it was not green after: " + why(&after)
	}
	return p
}

func why(o *check.Observation) string {
	switch {
	case o.Error != "":
		return o.Error
	case len(o.Findings) > 0:
		return o.Findings[0].Subject + ": " + o.Findings[0].Text
	}
	return string(o.Outcome)
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
