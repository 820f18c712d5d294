package server

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// sideDoor is a devices' door for one look, so that a check may misbehave as a
// device without a unit in the register and without a count of any product. It
// runs the code of the running door over real sockets and TLS, goes by its
// authority, its rates and its judge as they are now, and has devices, an
// authority for certificates and a journal of its own, which only counts.
// Nobody else can reach it: see connect.
type sideDoor struct {
	s     *server
	g     *gateway.Gateway
	key   *ecdsa.PrivateKey
	ca    *x509.Certificate
	pool  *x509.CertPool
	conns handed
	began time.Time
	ended chan error

	mu      sync.Mutex // guards what follows
	shift   time.Duration
	units   map[string]identity.Identified // by public key of the certificate
	sources map[*telemetry.Source]telemetry.SourceInfo
	taken   []taken
	refused map[telemetry.Reason]int
}

// taken is one message that the door took, and what the judge let through of it.
type taken struct {
	by     core.DeviceID
	fields []byte // compact JSON objects
	strays int    // fields that were dropped as undeclared
}

// openSideDoor makes one. Whoever made it closes it.
func (s *server) openSideDoor() (*sideDoor, error) {
	d := &sideDoor{
		s: s, began: time.Now(), conns: handed{c: make(chan net.Conn), done: make(chan struct{})}, ended: make(chan error, 1), pool: x509.NewCertPool(),
		units: map[string]identity.Identified{}, sources: map[*telemetry.Source]telemetry.SourceInfo{}, refused: map[telemetry.Reason]int{},
	}
	var err error
	if d.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "for one look"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(sideLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "for one look"}}, d.key.Public(), crypto.Signer(d.key))
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	if d.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("read an authority: %w", err)
	}
	d.pool.AddCert(d.ca)
	if d.g, err = s.gateway.Sibling(gateway.Deps{
		Config:      gateway.Config{MaxConnections: 8, DeviceMessagesPerSecond: -1, DeviceBytesPerSecond: -1},
		Environment: s.inst.Environment, Certificate: s.cert.GetCertificate, DeviceCAs: func() *x509.CertPool { return d.pool },
		Identity: d, Intake: d, Now: d.now,
	}); err != nil {
		return nil, fmt.Errorf("open a door for one look: %w", err)
	}
	go func() { d.ended <- d.g.Serve(context.Background(), &d.conns) }()
	return d, nil
}

// sideLife is how long its certificates are good: its clock is moved by hours.
const sideLife = 20 * 365 * 24 * time.Hour

// close ends every session and returns when all of it has stopped.
func (d *sideDoor) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return errors.Join(d.g.Shutdown(ctx), <-d.ended)
}

// now is the door's own clock: it stands still until we advance it, so that a
// slow machine looks no different.
func (d *sideDoor) now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.began.Add(d.shift)
}

func (d *sideDoor) advance(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shift += by
}

// handed is a listener whose connections are handed to it.
type handed struct {
	c    chan net.Conn
	once sync.Once
	done chan struct{}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.c:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error   { h.once.Do(func() { close(h.done) }); return nil }
func (h *handed) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// connect gives both ends of one loopback connection. The port that is needed
// for that is there for a moment, during which nobody here looks for ports, and
// takes nobody but us.
func (s *server) connect(ctx context.Context) (far, near net.Conn, err error) {
	err = s.sockets.while(func() error {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("make a connection: %w", err)
		}
		defer func() { _ = l.Close() }() // it has done what it was for
		if near, err = (&net.Dialer{Timeout: ownWait}).DialContext(ctx, "tcp", l.Addr().String()); err != nil {
			return fmt.Errorf("make a connection: %w", err)
		}
		for {
			if far, err = l.Accept(); err != nil {
				return errors.Join(fmt.Errorf("make a connection: %w", err), near.Close())
			}
			if far.RemoteAddr().String() == near.LocalAddr().String() {
				return nil
			}
			_ = far.Close() // somebody else's
		}
	})
	return far, near, err
}

// Identify knows the devices that were made for this look, and nobody else.
func (d *sideDoor) Identify(_ context.Context, leaf *x509.Certificate) (identity.Identified, error) {
	return d.Recheck(leaf)
}

// Recheck is Identify.
func (d *sideDoor) Recheck(leaf *x509.Certificate) (identity.Identified, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, ok := d.units[string(leaf.RawSubjectPublicKeyInfo)]
	if !ok {
		return identity.Identified{}, core.E(core.Denied, "unknown-certificate", "this certificate is not accepted here", "")
	}
	return id, nil
}

// Suspect is for a door with real devices.
func (d *sideDoor) Suspect(context.Context, core.DeviceID, string) error { return nil }

// NewSource notes whose messages come.
func (d *sideDoor) NewSource(i telemetry.SourceInfo) *telemetry.Source {
	d.mu.Lock()
	defer d.mu.Unlock()
	src := new(telemetry.Source)
	d.sources[src] = i
	return src
}

// Message judges as the running door does, by the plan that is in force there,
// and keeps in mind what would be stored.
func (d *sideDoor) Message(src *telemetry.Source, stream, payload []byte, c telemetry.Completion, token uint64) telemetry.Verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	info := d.sources[src]
	if info.Product == "" { // of a device without a product: that it came here is enough
		d.taken = append(d.taken, taken{by: info.Device})
		done(c, token)
		return telemetry.Verdict{Action: telemetry.Pending}
	}
	plan := d.s.intake.Plan(info.Product)
	if plan == nil {
		return telemetry.Verdict{Action: telemetry.Refuse, Reason: telemetry.ReasonNoPlan}
	}
	sp := plan.Stream(stream)
	if sp == nil {
		return telemetry.Verdict{Action: telemetry.Refuse, Reason: telemetry.ReasonUnknownStream}
	}
	var j telemetry.Judged
	why := sp.Judge(&j, payload, d.s.opt.Now())
	if why != "" {
		return telemetry.Verdict{Action: telemetry.Refuse, Reason: why}
	}
	t := taken{by: info.Device, strays: j.Undeclared}
	for _, p := range j.Parts() {
		t.fields = append(t.fields, p.Plain...)
	}
	d.taken = append(d.taken, t)
	done(c, token)
	return telemetry.Verdict{Action: telemetry.Pending}
}

// Refuse counts, as the running door has the journal count.
func (d *sideDoor) Refuse(_ *telemetry.Source, _ []byte, why telemetry.Reason, c telemetry.Completion, token uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused[why]++
	done(c, token)
	return nil
}

// done is what the journal says when a record is on disk; at QoS 0 nobody waits.
func done(c telemetry.Completion, token uint64) {
	if c != nil {
		c.Done(token, nil)
	}
}

// counted is how many messages were refused for a reason; "": for any.
func (d *sideDoor) counted(why telemetry.Reason) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for r, k := range d.refused {
		if why == "" || r == why {
			n += k
		}
	}
	return n
}

func (d *sideDoor) took() []taken {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]taken(nil), d.taken...)
}

// sideClient is a device of a side door: it speaks MQTT 5.0 and does what it
// is told, not what it should.
type sideClient struct {
	own   core.DeviceID
	leaf  *x509.Certificate
	c     *tls.Conn
	buf   []byte
	names uint16
}

// device makes a device with a valid certificate and connects it.
func (d *sideDoor) device(ctx context.Context, l *check.Look, product core.ProductID, own core.DeviceID) (*sideClient, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: string(own)}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(sideLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, d.ca, key.Public(), crypto.Signer(d.key))
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	id := identity.Identified{Device: own, Product: product, OwnedSince: d.now(), NotAfter: leaf.NotAfter}
	_, _ = rand.Read(id.Subject[:]) // never fails
	_, _ = rand.Read(id.Serial[:])
	id.Serial[0] &= 0x7f // as our certificates have it: positive
	d.mu.Lock()
	d.units[string(leaf.RawSubjectPublicKeyInfo)] = id
	d.mu.Unlock()
	far, near, err := d.s.connect(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case d.conns.c <- far:
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), far.Close(), near.Close())
	}
	l.Touch("address", "a door of this program for one look, at "+near.RemoteAddr().String())
	c := &sideClient{own: own, leaf: leaf, c: tls.Client(near, &tls.Config{
		InsecureSkipVerify: true, ServerName: "localhost", MinVersion: tls.VersionTLS13, // we are both ends
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})}
	if deadline, ok := ctx.Deadline(); ok {
		_ = near.SetDeadline(deadline) // a look has its time; without one it waits
	}
	return c, c.hello()
}

func (c *sideClient) close() { _ = c.c.Close() } // whatever it had to say was said

func (c *sideClient) hello() error {
	var p mqtt.Packet
	p.Reset(mqtt.CONNECT)
	p.Connect.Version, p.Connect.CleanStart, p.Connect.ClientID = mqtt.V5, true, []byte("look")
	err := c.send(&p)
	if err == nil {
		err = c.next(&p)
	}
	if err == nil && (p.Type != mqtt.CONNACK || p.Code != mqtt.Success) {
		err = fmt.Errorf("%s with 0x%02x", p.Type, uint8(p.Code))
	}
	if err != nil {
		c.close()
		return fmt.Errorf("connect as a device: %w", err)
	}
	return nil
}

func (c *sideClient) send(p *mqtt.Packet) error {
	b, err := mqtt.Append(nil, mqtt.V5, p)
	if err != nil {
		return fmt.Errorf("write %s: %w", p.Type, err)
	}
	_, err = c.c.Write(b)
	return err
}

// next reads one packet. What it holds is good until the next call.
func (c *sideClient) next(p *mqtt.Packet) error {
	for {
		n, err := mqtt.Frame(c.buf, 0)
		if err != nil {
			return fmt.Errorf("read a packet: %w", err)
		}
		if n > 0 && n <= len(c.buf) {
			raw := c.buf[:n:n]
			c.buf = c.buf[n:]
			return mqtt.Decode(p, mqtt.V5, raw, &mqtt.Limits{From: mqtt.Server})
		}
		next := make([]byte, len(c.buf), len(c.buf)+4<<10)
		copy(next, c.buf)
		k, err := c.c.Read(next[len(next):cap(next)])
		c.buf = next[:len(next)+k]
		if err != nil && k == 0 {
			return fmt.Errorf("read a packet: %w", noEOF(err))
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the door closed the connection")
	}
	return err
}

// answered reads on until a packet of a type comes. Notices may come before it.
func (c *sideClient) answered(p *mqtt.Packet, t mqtt.Type) error {
	for {
		if err := c.next(p); err != nil || p.Type == t {
			return err
		}
		if p.Type == mqtt.DISCONNECT {
			return fmt.Errorf("the door ended the session with 0x%02x", uint8(p.Code))
		}
	}
}

// subscribe asks for filters and says which were granted.
func (c *sideClient) subscribe(filters []string) (granted []string, err error) {
	for from := 0; from < len(filters); from += mqtt.DefaultMaxFilters {
		some := filters[from:min(from+mqtt.DefaultMaxFilters, len(filters))]
		var p mqtt.Packet
		p.Reset(mqtt.SUBSCRIBE)
		c.names = c.names%0xfff0 + 1
		p.ID = c.names
		for _, f := range some {
			p.Filters = append(p.Filters, mqtt.Filter{Topic: []byte(f), QoS: mqtt.AtLeastOnce})
		}
		if err := c.send(&p); err != nil {
			return granted, err
		}
		if err := c.answered(&p, mqtt.SUBACK); err != nil {
			return granted, err
		}
		if len(p.Codes) != len(some) {
			return granted, fmt.Errorf("%d filters were asked for and %d answered", len(some), len(p.Codes))
		}
		for i, code := range p.Codes {
			if !code.Failed() {
				granted = append(granted, some[i])
			}
		}
	}
	return granted, nil
}

// message is one that a side client sends.
type message struct{ topic, payload string }

// publish sends messages, a few at a time, and gives the code of each answer.
// before is called before each few.
func (c *sideClient) publish(all []message, few int, before func()) (codes []mqtt.ReasonCode, err error) {
	for from := 0; from < len(all); from += few {
		some := all[from:min(from+few, len(all))]
		before()
		var out []byte
		for _, m := range some {
			c.names = c.names%0xfff0 + 1
			if out, err = mqtt.AppendPublish(out, mqtt.V5, []byte(m.topic), []byte(m.payload), mqtt.AtLeastOnce, c.names); err != nil {
				return codes, fmt.Errorf("write a message: %w", err)
			}
		}
		if _, err := c.c.Write(out); err != nil {
			return codes, err
		}
		var p mqtt.Packet
		for range some {
			if err := c.answered(&p, mqtt.PUBACK); err != nil {
				return codes, err
			}
			codes = append(codes, p.Code)
		}
	}
	return codes, nil
}
