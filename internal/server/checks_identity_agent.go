package server

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/wire"
)

// agentChecks hold that a device talks to nobody but its own server (CC 3.4).
func (s *server) agentChecks() []check.Check {
	return []check.Check{{
		ID: "agent.verifies-server", Version: 1, Rows: []string{"3.4"}, Kind: check.Probe, MaxAge: check.ProbeAge,
		Says: "The devices' own code, with the roots that devices are shipped, takes this server, and refuses one of another authority, of another name or out of its time, at the enrolment door and at the devices' door, without a word to it.",
		Do:   "Compare root.pem in the folder of the authority with the one beside the root's key, which was moved away after `hawser init`: whoever adds a root can pose as this server. Ship no firmware with that file.",
		Look: s.lookAtAgent,
		Violations: []check.Violation{
			{ID: "root-added", Says: "Adds another authority's certificate to the roots that devices are shipped.", Do: own(addRoot)},
			{ID: "root-replaced", Says: "Replaces the root that devices are shipped by another authority's.", Do: own(replaceRoot)},
		},
	}}
}

// shippedRoots is the file of the authority's folder that devices are given.
const shippedRoots = "root.pem"

// issuer is an authority of a look.
type issuer struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newIssuer(now time.Time) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "for a look"}, NotBefore: now.Add(-72 * time.Hour), NotAfter: now.Add(sideLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return &issuer{key, cert}, err
}

// sign makes a certificate for a public key.
func (a *issuer) sign(t *x509.Certificate, public any) ([]byte, error) {
	t.KeyUsage = x509.KeyUsageDigitalSignature
	var err error
	if t.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return der, nil
}

// server makes a certificate of a server.
func (a *issuer) server(name string, from, to time.Time, use x509.ExtKeyUsage) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	der, err := a.sign(&x509.Certificate{DNSNames: []string{name}, NotBefore: from, NotAfter: to, ExtKeyUsage: []x509.ExtKeyUsage{use}}, key.Public())
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// impostor is the authority of a server that is not ours. It is the same for
// as long as this server runs.
func (s *server) impostor() (*issuer, error) {
	s.other.mu.Lock()
	defer s.other.mu.Unlock()
	if s.other.is != nil {
		return s.other.is, nil
	}
	var err error
	s.other.is, err = newIssuer(s.opt.Now())
	return s.other.is, err
}

type otherAuthority struct {
	mu sync.Mutex
	is *issuer
}

// stage is what a device meets in a look: two doors, each with the certificate
// that it is given.
type stage struct {
	s    *server
	ca   *issuer      // of the devices that enrol here
	told atomic.Int32 // how often a device said something that is for its server only

	mu   sync.Mutex // guards over
	over bool
	work sync.WaitGroup
}

// close returns when nobody is served any more.
func (g *stage) close() {
	g.mu.Lock()
	g.over = true
	g.mu.Unlock()
	g.work.Wait()
}

// enter is false when the look is over.
func (g *stage) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		g.work.Add(1)
	}
	return !g.over
}

const (
	stageEST     = "enrolment.stage:8443"
	stageDevices = "devices.stage:8883"
	stageSerial  = "LOOK-1"
	stageName    = "stage.example"
)

// door connects a device to a server with that certificate; nil: without TLS.
func (g *stage) door(conf *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		far, near, err := g.s.connect(ctx)
		if err != nil {
			return nil, err
		}
		if !g.enter() {
			return nil, errors.Join(errors.New("the look is over"), far.Close(), near.Close())
		}
		go func() {
			defer g.work.Done()
			defer func() { _ = far.Close() }()           // the device hears the end
			_ = far.SetDeadline(time.Now().Add(ownWait)) // nobody is waited for longer
			if conf == nil {
				_, _ = io.WriteString(far, "220 this is no TLS\r\n") // what comes back does not matter
				_, _ = io.Copy(io.Discard, far)
				return
			}
			c := tls.Server(far, conf)
			switch {
			case c.HandshakeContext(ctx) != nil:
			case address == stageEST:
				g.enrol(c)
			default:
				g.greet(c)
			}
		}()
		return near, nil
	}
}

// enrol is as much of EST as a first certificate takes.
func (g *stage) enrol(c *tls.Conn) {
	in := bufio.NewReader(c)
	for {
		q, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(io.LimitReader(q.Body, wire.MaxESTBody))
		if err != nil {
			return
		}
		answer := g.ca.cert.Raw
		if q.URL.Path == wire.ESTEnrol {
			g.told.Add(1) // the code, above all
			if answer, err = g.issue(body); err != nil {
				return
			}
		}
		p7, err := pkcs7.DegenerateCertificate(answer)
		if err != nil {
			return
		}
		text := base64.StdEncoding.EncodeToString(p7)
		_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: %s; smime-type=%s\r\nContent-Length: %d\r\n\r\n%s", wire.PKCS7Type, wire.CertsOnly, len(text), text)
		if err != nil {
			return
		}
	}
}

func (g *stage) issue(body []byte) ([]byte, error) {
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	name := &url.URL{Scheme: "urn", Opaque: fmt.Sprintf("hawser:%s:device:look:%s", g.s.inst.Environment, stageSerial)}
	return g.ca.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: stageSerial}, URIs: []*url.URL{name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(90 * 24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, csr.PublicKey)
}

// greet takes a CONNECT and says yes.
func (g *stage) greet(c *tls.Conn) {
	var b [512]byte
	if n, _ := c.Read(b[:]); n > 0 && b[0] == 0x10 {
		g.told.Add(1)
		_, _ = io.WriteString(c, "\x20\x03\x00\x00\x00") // CONNACK; the device may be gone
		_, _ = io.Copy(io.Discard, c)                    // until it leaves
	}
}

// wrongServer is one that no device may talk to.
type wrongServer struct {
	says string
	conf *tls.Config // nil: it speaks no TLS
}

// servers are the right one of a stage, and the wrong ones.
func (g *stage) servers(ctx context.Context) (right *tls.Config, wrong []wrongServer, err error) {
	other, err := g.s.impostor()
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	soon := now.Add(24 * time.Hour)
	conf := func(a *issuer, name string, from, to time.Time, use x509.ExtKeyUsage) *tls.Config {
		cert, cerr := a.server(name, from, to, use)
		err = errors.Join(err, cerr)
		return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert}
	}
	const serve = x509.ExtKeyUsageServerAuth
	before := now.Add(-time.Hour)
	right = conf(g.ca, stageName, before, soon, serve)
	old := right.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	wrong = []wrongServer{
		{"the right name, of another authority", conf(other, stageName, before, soon, serve)},
		{"a certificate that ran out", conf(g.ca, stageName, now.Add(-48*time.Hour), before, serve)},
		{"a certificate of the future", conf(g.ca, stageName, soon, soon.Add(time.Hour), serve)},
		{"another name", conf(g.ca, "somebody.example", before, soon, serve)},
		{"a certificate that is not for servers", conf(g.ca, stageName, before, soon, x509.ExtKeyUsageClientAuth)},
		{"nothing newer than TLS 1.2", old},
		{"no TLS", nil},
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return right, wrong, err
}

// lookAtAgent runs the devices' own code against servers of all kinds.
func (s *server) lookAtAgent(ctx context.Context, l *check.Look) error {
	dir, err := os.MkdirTemp("", "hawser-look-")
	if err != nil {
		return fmt.Errorf("make a device: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // keys of nobody
	l.Expect("servers that a device could meet, by door", 0)
	if err := s.shipped(ctx, l, dir); err != nil {
		return err
	}
	ca, err := newIssuer(time.Now())
	if err != nil {
		return err
	}
	g := &stage{s: s, ca: ca}
	defer g.close()
	right, wrong, err := g.servers(ctx)
	if err != nil {
		return err
	}
	l.Touch("program", "package device, over connections of this process")
	conf := device.Config{
		Serial: stageSerial, Server: stageDevices, EnrolServer: stageEST, ServerName: stageName, Roots: pemOf(ca.cert.Raw),
		EnrolmentCode: func() (string, error) { return "LOOK-CODE", nil }, Grace: time.Millisecond,
	}
	for i, w := range wrong {
		conf.Dial = g.door(w.conf)
		conf.StateDir = filepath.Join(dir, fmt.Sprint("wrong-", i))
		said, err := g.tryEnrol(ctx, conf)
		l.Expect("", 1)
		l.Holds(err != nil && said == 0, "the enrolment door", "a device tells its code to a server with %s", w.says)
	}
	conf.Dial = g.door(right)
	conf.StateDir = filepath.Join(dir, "right")
	if said, err := g.tryEnrol(ctx, conf); err != nil || said != 1 {
		return fmt.Errorf("a device does not enrol at the right server either: %w", err)
	}
	for _, w := range wrong {
		conf.Dial = g.door(w.conf)
		up, said, err := g.trySession(ctx, conf)
		if err != nil {
			return err
		}
		l.Expect("", 1)
		l.Holds(!up && said == 0, "the devices' door", "a device opens a session at a server with %s", w.says)
	}
	conf.Dial = g.door(right)
	if up, _, err := g.trySession(ctx, conf); err != nil || !up {
		return fmt.Errorf("a device opens no session at the right server either: %w", err)
	}
	return nil
}

// tryEnrol has a new device enrol, and says how often it told its code.
func (g *stage) tryEnrol(ctx context.Context, conf device.Config) (said int32, refused error) {
	d, err := device.Open(conf)
	if err != nil {
		return 0, err
	}
	defer func() { _ = d.Close() }() // its folder is thrown away
	before := g.told.Load()
	ctx, cancel := context.WithTimeout(ctx, ownWait)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Enrol(ctx) }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case refused = <-ended:
			return g.told.Load() - before, refused
		case <-tick.C:
			if d.Status().LastError != "" {
				cancel() // it would try again, and again
			}
		}
	}
}

// trySession has the enrolled device connect until it is in, or says why not.
func (g *stage) trySession(ctx context.Context, conf device.Config) (up bool, said int32, err error) {
	d, err := device.Open(conf)
	if err != nil {
		return false, 0, err
	}
	before := g.told.Load()
	ctx, cancel := context.WithTimeout(ctx, ownWait)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	for ctx.Err() == nil && !up && d.Status().LastError == "" {
		time.Sleep(2 * time.Millisecond)
		up = d.Status().Connected
	}
	tried := up || d.Status().LastError != ""
	cancel()
	err = errors.Join(<-ended, d.Close())
	if err == nil && !tried {
		err = errors.New("a device did not even try to connect")
	}
	return up, g.told.Load() - before, err
}

// shipped tries the roots that devices are given, at this server's own
// enrolment door and at one of an impostor.
func (s *server) shipped(ctx context.Context, l *check.Look, dir string) error {
	roots, err := os.ReadFile(filepath.Join(s.c.CA, shippedRoots))
	if err != nil {
		return fmt.Errorf("read the roots that devices are shipped: %w", err)
	}
	l.Touch("file", "the authority's "+shippedRoots)
	l.Touch("address", s.addr.HTTPS)
	other, err := s.impostor()
	if err != nil {
		return err
	}
	name := s.c.Names[0]
	now := s.opt.Now()
	cert, err := other.server(name, now.Add(-time.Hour), now.Add(time.Hour), x509.ExtKeyUsageServerAuth)
	if err != nil {
		return err
	}
	g := &stage{s: s, ca: other}
	defer g.close()
	real := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialOwn(ctx, "tcp", reachable(s.addr.HTTPS), ownWait)
	}
	for i, c := range []struct {
		says string
		name string
		dial func(context.Context, string, string) (net.Conn, error)
		ago  time.Duration // how long the device's clock says that the server's certificate ran out
		want []device.Reason
	}{
		// Whoever is told that serial number and code do not belong together has
		// taken the server for the right one.
		{"this server is refused by a device with the roots that devices are shipped", name, real, 0, []device.Reason{device.EnrolmentRefused, device.ServerBusy}},
		{"a device takes this server under another name", "somebody.example", real, 0, []device.Reason{device.ServerWrongName}},
		{"a device takes this server long after its certificate ran out", name, real, sideLife, []device.Reason{device.ServerExpired}},
		{"a device takes an impostor, by the roots that devices are shipped", name, g.door(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}), 0, []device.Reason{device.ServerForeign}},
	} {
		said, err := g.tryEnrol(ctx, device.Config{
			Serial: stageSerial, Server: stageDevices, EnrolServer: stageEST, ServerName: c.name, Roots: roots, Dial: c.dial, StateDir: filepath.Join(dir, fmt.Sprint("shipped-", i)),
			EnrolmentCode: func() (string, error) { return "LOOK-CODE", nil }, Now: func() time.Time { return s.opt.Now().Add(c.ago) },
		})
		l.Expect("", 1)
		reason := device.Reason("none")
		if e, ok := errors.AsType[*device.Error](err); ok {
			reason = e.Reason
		}
		if reason == device.ServerUnreachable {
			return fmt.Errorf("reach %s: %w", s.addr.HTTPS, err)
		}
		l.Holds(said == 0 && slices.Contains(c.want, reason), "the roots that devices are shipped", "%s (%s)", c.says, reason)
	}
	return nil
}

// reachable is an address of a door at which it can be dialled from here.
func reachable(door string) string {
	host, port, err := net.SplitHostPort(door)
	if err != nil || host != "" && !net.ParseIP(host).IsUnspecified() {
		return door
	}
	if strings.Contains(host, ".") {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return net.JoinHostPort("localhost", port)
}

// editRoots changes the file of the roots that devices are shipped.
func editRoots(t *twin, edit func(before, other []byte) []byte) (func(context.Context) error, error) {
	other, err := t.s.impostor()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(t.s.c.CA, shippedRoots)
	before, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t.Touch("file", path)
	return func(context.Context) error { return os.WriteFile(path, before, 0o600) }, os.WriteFile(path, edit(before, pemOf(other.cert.Raw)), 0o600)
}

func addRoot(_ context.Context, t *twin) (func(context.Context) error, error) {
	return editRoots(t, func(before, other []byte) []byte { return append(append([]byte(nil), before...), other...) })
}

func replaceRoot(_ context.Context, t *twin) (func(context.Context) error, error) {
	return editRoots(t, func(_, other []byte) []byte { return other })
}
