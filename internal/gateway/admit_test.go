package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
)

// refusedDial connects with a certificate that must not be admitted, and
// returns how the client sees that.
func (d *door) refusedDial(conf *tls.Config) error {
	d.t.Helper()
	c, err := tls.Dial("tcp", d.addr, conf)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		d.t.Fatal(err)
	}
	// In TLS 1.3 the client learns of the refusal with its first read.
	b, err := io.ReadAll(c)
	if err == nil {
		d.t.Fatalf("the connection was let in and closed without an alert, after % x", b)
	}
	return err
}

// selfMade is a certificate by an authority that nobody knows.
func selfMade(t *testing.T, uri string, usage ...x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	u := must[*url.URL](t)(url.Parse(uri))
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "A1"}, URIs: []*url.URL{u}, ExtKeyUsage: usage,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "me"}, SerialNumber: big.NewInt(1)}, &key.PublicKey, key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// CC 2.8, 3.1, 3.11, 4.17: each refusal has its reason inside, within seconds,
// and a plain alert outside.
func TestHandshakeRefusals(t *testing.T) {
	d := newDoor(t)
	live := newDoor(t, func(d *door) { d.env = core.Live })
	good := d.enrol("A1")
	foreign := live.enrol("A1")
	server := must[*identity.ServerCertificate](t)(identity.NewServerCertificate(d.ca, []string{"localhost"}))
	serverCert := *must[*tls.Certificate](t)(server.GetCertificate(nil))
	old := d.enrol("OLD")
	for _, c := range []struct {
		name   string
		conf   func() *tls.Config
		before func()
		want   refusal
		seen   string
	}{
		{"no certificate", func() *tls.Config { c := d.config(good); c.Certificates = nil; return c }, nil, refuseNoCert, "certificate required"},
		{"our own server's certificate", func() *tls.Config { return d.config(serverCert) }, nil, refuseUsage, "bad certificate"},
		{"of an unknown authority", func() *tls.Config {
			return d.config(selfMade(t, "urn:hawser:test:device:lamp:A1", x509.ExtKeyUsageClientAuth))
		}, nil, refuseAuthority, "bad certificate"},
		{"for more than clients", func() *tls.Config {
			return d.config(selfMade(t, "urn:hawser:test:device:lamp:A1", x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth))
		}, nil, refuseUsage, "bad certificate"},
		{"of the live environment", func() *tls.Config { return d.config(foreign) }, nil, refuseElsewhere, "bad certificate"},
		{"TLS 1.2 that no product declares", func() *tls.Config { c := d.config(good); c.MaxVersion = tls.VersionTLS12; return c }, nil, refuseVersion, "protocol version"},
		{"expired", func() *tls.Config { return d.config(old) }, func() { d.advance(31 * 24 * time.Hour) }, refuseExpired, "bad certificate"},
	} {
		if c.before != nil {
			c.before()
		}
		counted := d.ended(c.want)
		err := d.refusedDial(c.conf())
		if !strings.Contains(err.Error(), c.seen) {
			t.Errorf("%s: the client sees %q, want %q", c.name, err, c.seen)
		}
		eventually(t, c.name+" is counted as "+string(c.want), func() bool { return d.ended(c.want) == counted+1 })
	}
	if s := d.g.Stats(); s.Connected != 0 || s.Sessions != 0 {
		t.Errorf("%d sessions began", s.Connected)
	}
	seen := map[string]bool{}
	for _, r := range d.g.Refusals() {
		seen[r.Reason] = true
		if r.Source.Bits() != 24 {
			t.Errorf("the diary shows a whole address: %v", r.Source)
		}
	}
	for _, want := range []refusal{refuseNoCert, refuseUsage, refuseAuthority, refuseElsewhere, refuseVersion, refuseExpired} {
		if !seen[string(want)] {
			t.Errorf("the diary lacks %q: %v", want, seen)
		}
	}
	if strings.Contains(d.log.String(), "127.0.0.1:") {
		t.Errorf("the log holds a client's address:\n%s", d.log)
	}
}

// CC 2.8: nothing but TLS is spoken here.
func TestCleartextIsRefused(t *testing.T) {
	d := newDoor(t)
	connect := must[[]byte](t)(mqtt.Append(nil, mqtt.V311, &mqtt.Packet{Type: mqtt.CONNECT, Connect: mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: []byte("x")}}))
	for i, first := range [][]byte{connect, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), {0, 0, 0, 0, 0, 0, 0, 0}} {
		c := must[net.Conn](t)(net.Dial("tcp", d.addr))
		if _, err := c.Write(first); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second)) // a failure shows in the read
		b, err := io.ReadAll(c)
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Error("the connection stayed open")
		}
		if len(b) > 0 && b[0] != 21 {
			t.Errorf("answered % x, which is no TLS alert", b)
		}
		_ = c.Close() // read to its end
		eventually(t, "counted", func() bool { return d.ended(refuseNotTLS) == uint64(i)+1 })
	}
}

// A certificate that was revoked is told so at CONNECT, in the client's form,
// after it has proved that it holds the key.
func TestRevokedAndUnknownDevices(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	d.connect(cert, mqtt.V5, "one").write(&mqtt.Packet{Type: mqtt.DISCONNECT})
	eventually(t, "left", func() bool { return d.g.Connected("A1") == 0 }) // else the revocation ends it, and counts
	if _, err := d.ids.Revoke(t.Context(), staff, "A1", identity.Why{Text: "lost"}); err != nil {
		t.Fatal(err)
	}
	for v, want := range map[mqtt.Version]mqtt.ReasonCode{mqtt.V5: mqtt.NotAuthorized, mqtt.V311: mqtt.NotAuthorized311} {
		if got := d.tryConnect(cert, v, "one").ack.Code; got != want {
			t.Errorf("%v: code %#x, want %#x", v, got, want)
		}
	}
	if got := d.ended("revoked"); got != 2 {
		t.Errorf("counted %d times, want 2: %v", got, d.g.Stats().Ended)
	}
}

// Slow-drip and never-finishing handshakes end at the deadline, whatever they
// send meanwhile, and hold no processor slot.
func TestHandshakesThatDoNotFinish(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(d *door) {
		d.wrap = func(deps *Deps) {
			deps.Config.HandshakeTimeout, deps.Config.HandshakesAtOnce = 400*time.Millisecond, 1
		}
	})
	cert := d.enrol("A1")
	hello := clientHello(t, d.config(cert))
	var slow []net.Conn
	for i := range 40 {
		c := must[net.Conn](t)(net.Dial("tcp", d.addr))
		defer c.Close()
		slow = append(slow, c)
		go func() { // one byte at a time, some stop in the middle, some never begin
			for j := range hello[:min(len(hello), i*20)] {
				if _, err := c.Write(hello[j : j+1]); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	start := time.Now()
	d.connect(cert, mqtt.V5, "good")
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("a good device waited %v behind slow ones", took)
	}
	eventually(t, "all slow ones are closed", func() bool { return d.ended(refuseSlow) == uint64(len(slow)) })
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("slow handshakes lived for %v", took)
	}
}

// clientHello is the first flight of a real client.
func clientHello(t *testing.T, conf *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	go func() { _ = tls.Client(a, conf).Handshake() }() // ends when b closes
	buf := make([]byte, 8192)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	return buf[:n]
}

func TestNoCONNECTInTime(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(d *door) { d.wrap = func(deps *Deps) { deps.Config.ConnectTimeout = 300 * time.Millisecond } })
	cert := d.enrol("A1")
	silent := &client{t: t, c: d.dial(cert), v: mqtt.V5}
	drip := &client{t: t, c: d.dial(cert), v: mqtt.V5}
	go func() {
		for range 100 {
			if _, err := drip.c.Write([]byte{0x10}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	if got := silent.closed(); got != 0 {
		t.Errorf("a silent client was told %#x", got)
	}
	drip.closed()
	eventually(t, "counted", func() bool { return d.ended(refuseQuiet)+d.ended(endMalformed) == 2 && d.ended(refuseQuiet) >= 1 })
}

func TestUnauthenticatedConnectionsAreBounded(t *testing.T) {
	d := newDoor(t, func(d *door) {
		d.wrap = func(deps *Deps) { deps.Config.MaxUnauthenticatedPerSource = 5 }
	})
	cert := d.enrol("A1")
	session := d.connect(cert, mqtt.V5, "in")
	eventually(t, "the session does not count any more", func() bool { return d.g.Stats().Unauthenticated == 0 })
	for range 8 {
		if c, err := net.Dial("tcp", d.addr); err == nil { // else it was reset already
			defer c.Close()
		}
	}
	eventually(t, "three are closed at once", func() bool { return d.ended(refuseSource) == 3 })
	if s := d.g.Stats(); s.Unauthenticated != 5 || s.Open != 6 {
		t.Errorf("%d unauthenticated of %d open, want 5 of 6", s.Unauthenticated, s.Open)
	}
	session.publish(1, "telemetry/light", level(1))
	if got := session.acked(1); got != mqtt.Success {
		t.Errorf("the session that was in: %#x", got)
	}
}

// TLS 1.2 is offered while a product in support declares it, to that product
// alone (design, section 6).
func TestTLS12OnlyWhereDeclared(t *testing.T) {
	d := newDoor(t, func(d *door) {
		d.edit = func(s string) string {
			return strings.Replace(s, "talks_to: [{service: gateway}]", "talks_to: [{service: gateway}]\n  tls: \"1.2\"", 1)
		}
	})
	cert := d.enrol("A1")
	conf := d.config(cert)
	conf.MaxVersion = tls.VersionTLS12
	dial := func() (*tls.Conn, error) { return tls.Dial("tcp", d.addr, conf) }
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	// The clock must not move before the server has seen the handshake to its end.
	eventually(t, "the handshake is counted", func() bool { return d.g.Stats().TLS12 == 1 })
	_ = c.Close() // only the handshake matters
	weak := conf.Clone()
	weak.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	if c, err := tls.Dial("tcp", d.addr, weak); err == nil {
		t.Errorf("a suite without ephemeral keys or AEAD was taken: %x", c.ConnectionState().CipherSuite)
	}
	d.advance(20 * 365 * 24 * time.Hour) // past the product's support: the door closes for it
	if _, err := dial(); err == nil {
		t.Error("TLS 1.2 was spoken after the end of support")
	}
	eventually(t, "counted", func() bool { return d.ended(refuseVersion) >= 1 && d.ended(refuseCipher) >= 1 })
	if d.g.Stats().TLS12 != 1 {
		t.Errorf("%d handshakes of TLS 1.2 counted, want 1", d.g.Stats().TLS12)
	}
}

// What crypto/tls keeps no promise about: no ticket is given, so there is
// nothing to resume.
func TestNoSessionIsEverResumed(t *testing.T) {
	d := newDoor(t)
	cert := d.enrol("A1")
	conf := d.config(cert)
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	for range 2 {
		c := must[*tls.Conn](t)(tls.Dial("tcp", d.addr, conf))
		cl := &client{t: t, c: c, v: mqtt.V5}
		cl.write(&mqtt.Packet{Type: mqtt.CONNECT, Connect: mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("x")}})
		cl.read()
		if c.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
		_ = c.Close() // the next one might resume it
	}
}

// The hybrid key exchange is what a client of today gets.
func TestHybridKeyExchange(t *testing.T) {
	d := newDoor(t)
	c := d.dial(d.enrol("A1"))
	if got := c.ConnectionState().CurveID; got != tls.X25519MLKEM768 {
		t.Errorf("key exchange %v, want X25519MLKEM768", got)
	}
}
