package device

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/wire"
)

// authority is a root with one intermediate for servers and one for devices,
// as an installation has them.
type authority struct {
	root, server, device ca
}

type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func serialNumber(tb testing.TB) *big.Int {
	tb.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func newCA(tb testing.TB, name string, parent *ca, curve elliptic.Curve, from, to time.Time) ca {
	tb.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	t := &x509.Certificate{
		SerialNumber: serialNumber(tb), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	up, signer := t, crypto.Signer(key)
	if parent != nil {
		up, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, up, key.Public(), signer)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return ca{cert, key}
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	from, to := time.Now().Add(-24*time.Hour), time.Now().Add(10*365*24*time.Hour)
	root := newCA(tb, "Test Root", nil, elliptic.P384(), from, to)
	return &authority{
		root:   root,
		server: newCA(tb, "Test Server CA", &root, elliptic.P256(), from, to),
		device: newCA(tb, "Test Device CA", &root, elliptic.P256(), from, to),
	}
}

func (a *authority) bundle() []byte { return encodePEM([]*x509.Certificate{a.root.cert}) }

// serverCert is the certificate of a server on loopback under name.
func (a *authority) serverCert(tb testing.TB, name string, from, to time.Time, usage x509.ExtKeyUsage) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	t := &x509.Certificate{
		SerialNumber: serialNumber(tb), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	if ip := net.ParseIP(name); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.server.cert, key.Public(), a.server.key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.server.cert.Raw}, PrivateKey: key}
}

func (a *authority) goodServer(tb testing.TB) tls.Certificate {
	tb.Helper()
	return a.serverCert(tb, "127.0.0.1", time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour), x509.ExtKeyUsageServerAuth)
}

// deviceCert certifies pub for the device serial.
func (a *authority) deviceCert(serial string, pub any, from, to time.Time) ([]byte, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: n, NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{{Scheme: "urn", Opaque: "hawser:test:device:aria:" + serial}},
	}
	return x509.CreateCertificate(rand.Reader, t, a.device.cert, pub, a.device.key)
}

// estPeer is an EST server on real TLS.
type estPeer struct {
	*httptest.Server
	auth *authority

	mu     sync.Mutex
	codes  map[string]string // serial → code; gone once used
	issued []string          // certificate serial numbers, in order
	keys   map[string]bool   // public keys certified so far
	life   time.Duration
	answer func(path string, w http.ResponseWriter) bool // may answer in its place
	sign   func(serial string, pub any) ([]byte, error)  // may certify in its place
}

func newESTPeer(tb testing.TB, a *authority) *estPeer {
	tb.Helper()
	e := &estPeer{auth: a, codes: map[string]string{"A1": "code-of-A1"}, keys: map[string]bool{}, life: time.Hour}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(e.serve))
	pool := x509.NewCertPool()
	pool.AddCert(a.root.cert)
	e.TLS = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{a.goodServer(tb)},
		ClientAuth: tls.RequestClientCert,
	}
	e.Config.ErrorLog = log.New(io.Discard, "", 0)
	e.StartTLS()
	tb.Cleanup(e.Close)
	return e
}

func (e *estPeer) addr() string { return e.Listener.Addr().String() }

func (e *estPeer) serve(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.answer != nil && e.answer(r.URL.Path, w) {
		return
	}
	switch r.URL.Path {
	case wire.ESTCACerts:
		e.certs(w, e.auth.device.cert.Raw, e.auth.server.cert.Raw, e.auth.root.cert.Raw)
	case wire.ESTEnrol:
		serial, code, ok := r.BasicAuth()
		if !ok || e.codes[serial] != code || code == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="est"`)
			http.Error(w, "unknown serial number or wrong code", http.StatusUnauthorized)
			return
		}
		e.issue(w, r, serial)
	case wire.ESTReenrol:
		if len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "no certificate", http.StatusForbidden)
			return
		}
		leaf := r.TLS.PeerCertificates[0]
		if err := leaf.CheckSignatureFrom(e.auth.device.cert); err != nil {
			http.Error(w, "foreign certificate", http.StatusForbidden)
			return
		}
		e.issue(w, r, leaf.URIs[0].Opaque[len("hawser:test:device:aria:"):])
	default:
		http.NotFound(w, r)
	}
}

func (e *estPeer) issue(w http.ResponseWriter, r *http.Request, serial string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, wire.MaxESTBody))
	if err != nil || r.Header.Get("Content-Type") != wire.PKCS10Type {
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		http.Error(w, "not base64 in one line", http.StatusBadRequest)
		return
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil || e.keys[string(csr.RawSubjectPublicKeyInfo)] {
		http.Error(w, "bad or reused key", http.StatusBadRequest)
		return
	}
	e.keys[string(csr.RawSubjectPublicKeyInfo)] = true
	now := time.Now()
	var cert []byte
	if e.sign != nil {
		cert, err = e.sign(serial, csr.PublicKey)
	} else {
		cert, err = e.auth.deviceCert(serial, csr.PublicKey, now, now.Add(e.life))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if c, err := x509.ParseCertificate(cert); err == nil {
		e.issued = append(e.issued, c.SerialNumber.String())
	}
	// The leaf alone, as RFC 7030 §4.2.3 says.
	e.certs(w, cert)
}

func (e *estPeer) certs(w http.ResponseWriter, ders ...[]byte) {
	p7, err := pkcs7.DegenerateCertificate(bytes.Join(ders, nil))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", wire.PKCS7Type+"; smime-type="+wire.CertsOnly)
	w.Header().Set("Content-Transfer-Encoding", "base64")
	_, _ = io.WriteString(w, base64.StdEncoding.EncodeToString(p7)) // the client's trouble if it left
}

// got is one reading as the peer received it.
type got struct {
	Topic     string
	Boot, Seq uint64
	Payload   string
}

// mqttPeer is an MQTT 5 server on real TLS that answers as told.
type mqttPeer struct {
	tb   testing.TB
	ln   net.Listener
	auth *authority
	wg   sync.WaitGroup

	mu         sync.Mutex
	conns      map[net.Conn]bool
	seen       []string // certificate serial numbers of sessions, in order
	readings   []got    // in order of arrival, repeats included
	subscribed []string
	byes       int       // orderly DISCONNECTs
	last       time.Time // of the last packet
	raw        bool      // payloads need not be JSON
	connack    func(cert *x509.Certificate) (mqtt.ReasonCode, uint16)
	judge      func(p *mqtt.Packet, g got) verdict
	refuseCert func(cert *x509.Certificate) error
}

// verdict is what the peer does with a PUBLISH.
type verdict struct {
	code   mqtt.ReasonCode
	reason string
	silent bool            // no PUBACK
	bye    mqtt.ReasonCode // a DISCONNECT instead
	cut    bool            // close without a word
	notice *wire.Refusal   // on topic refused, before the PUBACK
}

func newMQTTPeer(tb testing.TB, a *authority, cert tls.Certificate) *mqttPeer {
	tb.Helper()
	p := &mqttPeer{tb: tb, auth: a, conns: map[net.Conn]bool{}}
	pool := x509.NewCertPool()
	pool.AddCert(a.root.cert)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		VerifyConnection: func(cs tls.ConnectionState) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.refuseCert != nil {
				return p.refuseCert(cs.PeerCertificates[0])
			}
			return nil
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	p.ln = ln
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[c] = true
			p.mu.Unlock()
			p.wg.Add(1)
			go func() {
				defer p.wg.Done()
				p.serve(c.(*tls.Conn))
				p.mu.Lock()
				delete(p.conns, c)
				p.mu.Unlock()
			}()
		}
	}()
	tb.Cleanup(p.stop)
	return p
}

func (p *mqttPeer) addr() string { return p.ln.Addr().String() }

func (p *mqttPeer) stop() {
	_ = p.ln.Close()
	p.cut()
	p.wg.Wait()
}

// cut drops every connection without a word.
func (p *mqttPeer) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now() // who comes back gets the time to speak
	for c := range p.conns {
		_ = c.(*tls.Conn).NetConn().Close()
	}
}

func (p *mqttPeer) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *mqttPeer) serve(c *tls.Conn) {
	defer c.Close() // a test's connection
	r := newReader(c)
	r.limits.From = mqtt.Client
	var in mqtt.Packet
	var out []byte
	for {
		if err := r.read(&in); err != nil {
			if e, ok := errors.AsType[*mqtt.Error](err); ok {
				p.tb.Errorf("the device sent what the codec refuses: %v", e)
			}
			return
		}
		var stop bool
		out, stop = p.packet(c, &in, out[:0])
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
		if stop {
			return
		}
	}
}

func (p *mqttPeer) packet(c *tls.Conn, in *mqtt.Packet, out []byte) (answer []byte, stop bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	leaf := c.ConnectionState().PeerCertificates[0]
	p.last = time.Now()
	switch in.Type {
	case mqtt.CONNECT:
		code, window := mqtt.Success, uint16(0)
		if p.connack != nil {
			code, window = p.connack(leaf)
		}
		var props mqtt.Properties
		if window > 0 {
			props.SetNumber(mqtt.PropReceiveMaximum, uint32(window))
		}
		if code == mqtt.Success {
			p.seen = append(p.seen, leaf.SerialNumber.String())
		}
		out, err := mqtt.AppendConnack(out, mqtt.V5, code, mqtt.NewSession, &props)
		if err != nil {
			p.tb.Error(err)
		}
		return out, code != mqtt.Success
	case mqtt.SUBSCRIBE:
		p.subscribed = append(p.subscribed, string(in.Filters[0].Topic))
		var ack mqtt.Packet
		ack.Reset(mqtt.SUBACK)
		ack.ID, ack.Codes = in.ID, append(ack.Codes, mqtt.GrantedQoS1)
		out, err := mqtt.Append(out, mqtt.V5, &ack)
		if err != nil {
			p.tb.Error(err)
		}
		return out, false
	case mqtt.PINGREQ:
		return mqtt.AppendPingresp(out), false
	case mqtt.PUBLISH:
		return p.publish(in, out)
	case mqtt.DISCONNECT:
		p.byes++
		return out, true
	}
	return out, false
}

func (p *mqttPeer) publish(in *mqtt.Packet, out []byte) (answer []byte, stop bool) {
	g := got{Topic: string(in.Topic), Payload: string(in.Payload)}
	if err := json.Unmarshal(in.Payload, &g); err != nil && !p.raw {
		p.tb.Errorf("payload is no JSON object: %v: %q", err, in.Payload)
	}
	var v verdict
	if p.judge != nil {
		v = p.judge(in, g)
	}
	if v.cut {
		return nil, true
	}
	if v.bye != 0 {
		return mqtt.AppendDisconnect(out, mqtt.V5, v.bye), true
	}
	p.readings = append(p.readings, g)
	if v.notice != nil {
		var err error
		if out, err = mqtt.AppendPublish(out, mqtt.V5, []byte(wire.RefusedTopic), wire.AppendRefusal(nil, v.notice), mqtt.AtLeastOnce, 1); err != nil {
			p.tb.Error(err)
		}
	}
	if v.silent {
		return out, false
	}
	var ack mqtt.Packet
	ack.Reset(mqtt.PUBACK)
	ack.ID, ack.Code = in.ID, v.code
	if v.reason != "" {
		ack.Props.SetData(mqtt.PropReasonString, []byte(v.reason))
	}
	out, err := mqtt.Append(out, mqtt.V5, &ack)
	if err != nil {
		p.tb.Error(err)
	}
	return out, false
}

func (p *mqttPeer) taken() []got {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]got(nil), p.readings...)
}

func (p *mqttPeer) orderly() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byes
}

// idle reports whether nothing was said for a while.
func (p *mqttPeer) idle(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.last) > d
}

func (p *mqttPeer) sessions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.seen...)
}

// bench is a device with its two peers.
type testBench struct {
	auth *authority
	est  *estPeer
	mqtt *mqttPeer
	cfg  Config
}

func newBench(t *testing.T) *testBench {
	t.Helper()
	a := newAuthority(t)
	b := &testBench{auth: a, est: newESTPeer(t, a), mqtt: newMQTTPeer(t, a, a.goodServer(t))}
	b.cfg = Config{
		Serial: "A1", Server: b.mqtt.addr(), EnrolServer: b.est.addr(), Roots: a.bundle(), StateDir: t.TempDir(),
		EnrolmentCode: func() (string, error) { return "code-of-A1", nil },
		Grace:         time.Second,
	}
	return b
}

// open makes a device that waits little between tries.
func (b *testBench) open(t *testing.T) *Device {
	t.Helper()
	d, err := Open(b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.draw, d.pause = func() float64 { return 0 }, 20*time.Millisecond
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// start runs d until the test, or the returned function, ends it.
func start(t *testing.T, d *Device) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			select {
			case err = <-ended:
			case <-time.After(waitLimit):
				err = errors.New("Run does not return")
			}
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// waitLimit is how long a test waits for what must happen: long, because the
// race detector and a busy machine make everything slow. Nothing waits in vain.
const waitLimit = 60 * time.Second

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitLimit)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", waitLimit, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func mustSend(t *testing.T, d *Device, n int) {
	t.Helper()
	for i := range n {
		if err := d.Send("climate", NewReading(d.cfg.Now()).Int("n", int64(i))); err != nil {
			t.Fatal(err)
		}
	}
}

// wantOnce holds that every reading arrived, in order, each (boot, seq) with
// one payload.
func wantOnce(t *testing.T, all []got, n int) {
	t.Helper()
	byName := map[[2]uint64]string{}
	var last [2]uint64
	for _, g := range all {
		name := [2]uint64{g.Boot, g.Seq}
		if before, again := byName[name]; again {
			if before != g.Payload {
				t.Errorf("(%d, %d) names two readings: %s and %s", g.Boot, g.Seq, before, g.Payload)
			}
			continue
		}
		byName[name] = g.Payload
		if name[0] < last[0] || name[0] == last[0] && name[1] < last[1] {
			t.Errorf("(%d, %d) came after (%d, %d)", name[0], name[1], last[0], last[1])
		}
		last = name
	}
	if len(byName) != n {
		t.Errorf("%d readings arrived, want %d", len(byName), n)
	}
}

func isReason(t *testing.T, err error, want Reason) {
	t.Helper()
	if got := reasonOf(err); got != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}
