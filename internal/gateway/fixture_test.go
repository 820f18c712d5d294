package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const lampDeclaration = `
declaration: 1
product: lamp
name: Lamp
version: 1
risk: {purpose: comfort, harm: low, exposure: home}
audience: general
identity: {life: 30d, may_sleep: until-end-of-support}
data:
  level: {about: How bright it is., stream: light, type: integer, unit: "1", range: [0, 1000000], class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}
  heat: {about: How hot it is., stream: heat, type: number, unit: Cel, range: [-40, 125], class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}
  tick: {about: That it lives., stream: slow, type: integer, unit: "1", range: [0, 1000000], class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}
streams:
  light: {every: 10ms, burst: 1000, max_bytes: 512, on_bad: field}
  heat: {every: 10ms, burst: 1000, max_bytes: 512, on_bad: message}
  slow: {every: 1h, burst: 2, max_bytes: 512, on_bad: field}
interfaces:
  - {name: gateway, protocol: mqtts, direction: out, auth: device-certificate}
network:
  talks_to: [{service: gateway}]
updates: {automatic: true, check_every: 6h, deadline: {critical: 3d, high: 14d}}
support:
  security_updates_until: 2040-12-31
  afterwards: "It still burns."
contacts: {security: security@northwind.example, help: help@northwind.example}
claims:
  - {say: "Encrypted on its way and at rest.", rests_on: [RP-03]}
`

// door is one installation with its devices' door open on loopback: a real
// authority, store, keyring, journal, judge and gateway.
type door struct {
	t      testing.TB
	env    core.Environment
	dir    string
	ca     *identity.CA
	store  *store.Store
	keys   *seal.Keyring
	jr     *journal.Journal
	ids    *identity.Service
	intake *telemetry.Intake
	g      *Gateway
	addr   string
	policy *declaration.Policy
	roots  *x509.CertPool // what devices trust
	log    *syncBuffer

	mu    sync.Mutex
	shift time.Duration // of the clock that is handed in

	wrap func(*Deps) // changes the gateway's dependencies before it is made
	opt  journal.Options
	edit func(string) string // changes the declaration's text
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (d *door) now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Add(d.shift)
}

func (d *door) advance(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shift += by
}

// Terms makes the door the Policies of identity.
func (d *door) Terms(_ context.Context, p core.ProductID) (identity.Terms, error) {
	if p != d.policy.Product {
		return identity.Terms{}, core.E(core.Unknown, "unknown-product", "no such product", "")
	}
	return identity.Terms{Life: d.policy.Identity.Life, MaySleep: d.policy.Identity.MaySleep, Policy: d.policy.Hash}, nil
}

func newDoor(t testing.TB, change ...func(*door)) *door {
	t.Helper()
	d := &door{t: t, env: core.Test, dir: t.TempDir(), log: &syncBuffer{}, edit: func(s string) string { return s }}
	for _, f := range change {
		f(d)
	}
	d.open()
	return d
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (d *door) open() {
	t := d.t
	t.Helper()
	ctx := t.Context()
	caDir := filepath.Join(d.dir, "ca")
	if err := identity.CreateCA(identity.CAOptions{Environment: d.env, RootDir: filepath.Join(d.dir, "root"), Dir: caDir, Now: d.now}); err != nil {
		t.Fatal(err)
	}
	d.ca = must[*identity.CA](t)(identity.OpenCA(identity.OpenOptions{Environment: d.env, Dir: caDir, Now: d.now}))
	d.store = must[*store.Store](t)(store.Open(ctx, store.Options{Dir: filepath.Join(d.dir, "data")}))
	roots := must[*kms.File](t)(kms.OpenFile(kms.FileOptions{Dir: filepath.Join(d.dir, "roots")}))
	d.keys = must[*seal.Keyring](t)(seal.Create(ctx, seal.Options{
		Copies: []string{filepath.Join(d.dir, "a", "keyring"), filepath.Join(d.dir, "b", "keyring")}, Roots: roots, Now: d.now,
	}))
	d.opt.Dir, d.opt.Now = filepath.Join(d.dir, "journal"), d.now
	d.jr = must[*journal.Journal](t)(journal.Open(ctx, d.opt))
	parsed, err := declaration.Parse("lamp.yaml", []byte(d.edit(lampDeclaration)))
	if f, ok := errors.AsType[declaration.Faults](err); ok {
		var b strings.Builder
		_ = f.Render(&b) // a strings.Builder does not fail
		t.Fatal(b.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	d.policy = must[*declaration.Policy](t)(declaration.Compile(parsed))
	turnstile := must[*gate.Gate](t)(gate.New(ctx, gate.Deps{
		Update: func(ctx context.Context, fn func(gate.Tx) error) error {
			return d.store.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(gate.Tx) error) error {
			return d.store.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Now: d.now, Key: make([]byte, 32),
	}))
	d.ids = must[*identity.Service](t)(identity.New(ctx, identity.Deps{
		Gate: turnstile, CA: d.ca, Policies: d, Keys: d.keys, Now: d.now,
		Update: func(ctx context.Context, fn func(identity.Tx) error) error {
			return d.store.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(identity.Tx) error) error {
			return d.store.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Notify: func(c identity.Change) {
			if d.g != nil {
				d.g.Follow(c)
			}
		},
	}))
	d.intake = must[*telemetry.Intake](t)(telemetry.NewIntake(telemetry.IntakeDeps{Keys: d.keys, Journal: records{d.jr}, Now: d.now}))
	d.intake.SetPlan(must[*telemetry.Plan](t)(telemetry.NewPlan(d.policy, d.now().Add(-24*time.Hour))))
	cert := must[*identity.ServerCertificate](t)(identity.NewServerCertificate(d.ca, []string{"localhost", "127.0.0.1"}))
	deps := Deps{
		Config:      Config{DeviceMessagesPerSecond: -1, DeviceBytesPerSecond: -1},
		Environment: d.env, Certificate: cert.GetCertificate, DeviceCAs: d.ca.ClientPool,
		Identity: d.ids, Intake: d.intake, Now: d.now, Log: slog.New(slog.NewTextHandler(d.log, nil)),
	}
	if d.wrap != nil {
		d.wrap(&deps)
	}
	d.g = must[*Gateway](t)(New(deps))
	d.g.SetPolicy(d.policy)
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	d.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- d.g.Serve(context.Background(), l) }()
	d.roots = x509.NewCertPool()
	d.roots.AddCert(d.ca.Root())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.g.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := d.jr.Close(ctx); err != nil {
			t.Errorf("close journal: %v", err)
		}
		_ = d.keys.Close()  // the folder goes too
		_ = d.store.Close() // the folder goes too
		if s := d.g.Stats(); s.Panics > 0 && !strings.Contains(t.Name(), "Panic") {
			t.Errorf("%d panics:\n%s", s.Panics, d.log)
		}
	})
}

var staff = core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}

// enrol registers a device and gets it a certificate, as EST does.
func (d *door) enrol(id core.DeviceID) tls.Certificate {
	d.t.Helper()
	code, err := d.ids.AddDevice(d.t.Context(), staff, "lamp", id)
	if err != nil {
		d.t.Fatal(err)
	}
	key, csr := newCSR(d.t)
	chain, err := d.ids.Enrol(d.t.Context(), netip.MustParseAddr("127.0.0.1"), id, code, csr)
	if err != nil {
		d.t.Fatal(err)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: key}
}

func newCSR(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return key, must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
}

func (d *door) config(cert tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: d.roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, Time: d.now}
}

// stored reads the journal: every reading in order, and every refusal.
func (d *door) stored() (readings []telemetry.Reading, refusals []telemetry.Refusal) {
	d.t.Helper()
	last := d.jr.State().Last
	if last == 0 {
		return nil, nil
	}
	r := d.jr.Reader(0)
	for {
		b, err := r.Next(d.t.Context())
		if err != nil {
			d.t.Fatal(err)
		}
		for _, rec := range b.Records {
			var reading telemetry.Reading
			var refusal telemetry.Refusal
			kind, err := telemetry.DecodeRecord(rec, &reading, &refusal)
			if err != nil {
				d.t.Fatal(err)
			}
			switch kind {
			case telemetry.RecordReading:
				for i := range reading.Parts { // they alias the batch
					reading.Parts[i].Sealed = bytes.Clone(reading.Parts[i].Sealed)
				}
				readings = append(readings, reading)
			case telemetry.RecordRefusal:
				refusals = append(refusals, refusal)
			}
		}
		if b.Seq >= last {
			return readings, refusals
		}
	}
}

// sender opens what a reading says of who sent it.
func (d *door) sender(r *telemetry.Reading) telemetry.Sender {
	d.t.Helper()
	p := &r.Parts[0]
	key := must[*seal.Key](d.t)(d.keys.Lease(r.Subject, p.Epoch))
	s, _, err := telemetry.CutPlain(must[[]byte](d.t)(key.Open(nil, p.Sealed, telemetry.AppendAAD(nil, r, p))))
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// ended is how many connections ended for a reason.
func (d *door) ended(why refusal) uint64 { return d.g.Stats().Ended[string(why)] }

// client is a device that speaks MQTT packet by packet.
type client struct {
	t   testing.TB
	c   *tls.Conn
	v   mqtt.Version
	buf []byte
	ack *mqtt.Packet // the CONNACK
}

// dial opens TLS only.
func (d *door) dial(cert tls.Certificate) *tls.Conn {
	d.t.Helper()
	c, err := tls.Dial("tcp", d.addr, d.config(cert))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close() })
	return c
}

// connect opens a session with a clean start, or fails the test.
func (d *door) connect(cert tls.Certificate, v mqtt.Version, id string, change ...func(*mqtt.Packet)) *client {
	d.t.Helper()
	c := d.tryConnect(cert, v, id, change...)
	if c.ack.Code != mqtt.Success {
		d.t.Fatalf("CONNECT was refused: %#x; ended %v", c.ack.Code, d.g.Stats().Ended)
	}
	return c
}

func (d *door) tryConnect(cert tls.Certificate, v mqtt.Version, id string, change ...func(*mqtt.Packet)) *client {
	d.t.Helper()
	c := &client{t: d.t, c: d.dial(cert), v: v}
	p := &mqtt.Packet{Type: mqtt.CONNECT, Connect: mqtt.Connect{Version: v, CleanStart: true, KeepAlive: 60, ClientID: []byte(id)}}
	for _, f := range change {
		f(p)
	}
	c.write(p)
	c.ack = c.read()
	if c.ack.Type != mqtt.CONNACK {
		d.t.Fatalf("%v instead of CONNACK", c.ack.Type)
	}
	return c
}

func (c *client) write(p *mqtt.Packet) {
	c.t.Helper()
	b, err := mqtt.Append(nil, c.v, p)
	if err != nil {
		c.t.Fatal(err)
	}
	c.raw(b)
}

func (c *client) raw(b []byte) {
	c.t.Helper()
	if _, err := c.c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// next reads one packet, or says why there is none.
func (c *client) next(within time.Duration) (*mqtt.Packet, error) {
	if err := c.c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	for {
		n, err := mqtt.Frame(c.buf, 0)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			p := &mqtt.Packet{}
			err := mqtt.Decode(p, c.v, append([]byte(nil), c.buf[:n]...), &mqtt.Limits{From: mqtt.Server})
			c.buf = c.buf[n:]
			return p, err
		}
		b := make([]byte, 4096)
		n, err = c.c.Read(b)
		if err != nil {
			return nil, err
		}
		c.buf = append(c.buf, b[:n]...)
	}
}

func (c *client) read() *mqtt.Packet {
	c.t.Helper()
	p, err := c.next(10 * time.Second)
	if err != nil {
		c.t.Fatalf("waiting for a packet: %v", err)
	}
	return p
}

// publish sends a QoS 1 message and does not wait for its acknowledgement.
func (c *client) publish(id uint16, topic, payload string) {
	c.t.Helper()
	c.write(&mqtt.Packet{Type: mqtt.PUBLISH, QoS: mqtt.AtLeastOnce, ID: id, Topic: []byte(topic), Payload: []byte(payload)})
}

// acked waits for the acknowledgement of a message and returns its code.
func (c *client) acked(id uint16) mqtt.ReasonCode {
	c.t.Helper()
	p := c.read()
	if p.Type != mqtt.PUBACK || p.ID != id {
		c.t.Fatalf("%v %d (%#x) instead of PUBACK %d", p.Type, p.ID, p.Code, id)
	}
	return p.Code
}

// closed waits for the end and returns the code of the DISCONNECT before it,
// or 0 when there was none.
func (c *client) closed() mqtt.ReasonCode {
	c.t.Helper()
	code := mqtt.ReasonCode(0)
	for {
		p, err := c.next(10 * time.Second)
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				c.t.Fatal("the connection stayed open")
			}
			return code
		}
		if p.Type == mqtt.DISCONNECT {
			code = p.Code
		}
	}
}

func level(n int) string { return fmt.Sprintf(`{"level":%d}`, n) }

func parseLeaf(t *testing.T, c tls.Certificate) *x509.Certificate {
	t.Helper()
	return must[*x509.Certificate](t)(x509.ParseCertificate(c.Certificate[0]))
}

// records is the journal as telemetry wants it.
type records struct{ j *journal.Journal }

func (r records) Submit(rec []byte, c telemetry.Completion, token uint64) error {
	return r.j.Submit(rec, c, token)
}

// fuse is the real intake with a fault of ours for one payload.
type fuse struct{ Intake }

func (f fuse) Message(src *telemetry.Source, stream, payload []byte, c telemetry.Completion, token uint64) telemetry.Verdict {
	if string(payload) == `{"level":13}` {
		panic("a fault")
	}
	return f.Intake.Message(src, stream, payload, c, token)
}
