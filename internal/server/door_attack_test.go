package server

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// estCall is one request at the enrolment door.
type estCall struct {
	path     string
	user     string // empty: none
	code     string
	body     string
	client   *tls.Certificate // shown in the handshake; nil: none
	from     string           // local address to come from; empty: any
	plainTyp bool             // not as application/pkcs10
}

func (l *live) est(t testing.TB, c estCall) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+l.addr.HTTPS+"/.well-known/est/"+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	if !c.plainTyp {
		req.Header.Set("Content-Type", "application/pkcs10")
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.code)
	}
	conf := &tls.Config{RootCAs: l.roots, MinVersion: tls.VersionTLS13}
	if c.client != nil {
		conf.Certificates = []tls.Certificate{*c.client}
	}
	d := &net.Dialer{}
	if c.from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(c.from)}
	}
	tr := &http.Transport{TLSClientConfig: conf, DialContext: d.DialContext, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	return resp.StatusCode, string(b)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csrOf(t testing.TB, key crypto.Signer, req x509.CertificateRequest) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &req, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// add registers a device and gives its enrolment code.
func (l *live) add(t testing.TB, id core.DeviceID) string {
	t.Helper()
	var added api.DeviceAdded
	l.call(t, "POST", "/v1/devices", api.AddDeviceRequest{Device: id, Product: "test-sensor"}, &added)
	return added.Code
}

// renew gets the next certificate of a unit over EST, with the present one.
func (l *live) renew(t testing.TB, u *unit) *unit {
	t.Helper()
	key := newKey(t)
	status, body := l.est(t, estCall{path: "simplereenroll", client: &u.cert, body: csrOf(t, key, x509.CertificateRequest{})})
	if status != http.StatusOK {
		t.Fatalf("renew %s: %d: %s", u.id, status, body)
	}
	der, err := base64.StdEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	next := &unit{id: u.id, cert: tls.Certificate{PrivateKey: key}}
	for _, c := range p7.Certificates {
		if !c.IsCA {
			next.cert.Certificate = append(next.cert.Certificate, c.Raw)
		}
	}
	if len(next.cert.Certificate) != 1 {
		t.Fatalf("%d leaves in the answer", len(next.cert.Certificate))
	}
	return next
}

func (l *live) device(t testing.TB, id core.DeviceID) api.Device {
	t.Helper()
	var d api.Device
	l.call(t, "GET", "/v1/devices/"+string(id), nil, &d)
	return d
}

func (l *live) status(t testing.TB) api.Status {
	t.Helper()
	var s api.Status
	l.call(t, "GET", "/v1/status", nil, &s)
	return s
}

// finding is the first finding of an area, or empty.
func (l *live) finding(t testing.TB, area string) string {
	t.Helper()
	for _, f := range l.status(t).Findings {
		if f.Area == area {
			return f.Severity + ": " + f.Text
		}
	}
	return ""
}

// records counts the ledger's entries of a kind.
func (l *live) records(t testing.TB, kind string) int {
	t.Helper()
	var page api.Entries
	l.call(t, "GET", "/v1/ledger/entries?from=0&kind="+kind, nil, &page)
	return len(page.Entries)
}

// TestCopiedCertificate: a certificate that is used after its successor is held
// by two. Both keep their sessions, neither's readings are stored, doctor says
// so, and a person's decision ends it (CC 3.2).
func TestCopiedCertificate(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	first := l.enrol(t, "A1")
	stolen := *first // a second machine has key and certificate
	dialMQTT(t, l, first).publish(t, "telemetry/climate", `{"temp":1}`)

	second := l.renew(t, first)
	// Two-phase: until the new one was used, the old one is good.
	dialMQTT(t, l, first).publish(t, "telemetry/climate", `{"temp":2}`)
	honest := dialMQTT(t, l, second)
	honest.publish(t, "telemetry/climate", `{"temp":3}`)
	if d := l.device(t, "A1"); d.State == "quarantined" {
		t.Fatal("an ordinary renewal ended in quarantine")
	}

	clone := dialMQTT(t, l, &stolen)
	// silent says whether a reading gets no answer for a while.
	silent := func(c *mqttClient, payload string) bool {
		answered := make(chan struct{})
		go func() {
			if _, err := c.try("telemetry/climate", payload); err == nil {
				close(answered)
			}
		}()
		select {
		case <-answered:
			return false
		case <-time.After(500 * time.Millisecond):
			return true
		}
	}
	if !silent(clone, `{"temp":66}`) {
		t.Error("the copy has an answer to a reading")
	}
	waitFor(t, 5*time.Second, "the other session is held, too", func() bool { return silent(honest, `{"temp":67}`) })
	for name, c := range map[string]*mqttClient{"the copy": clone, "the device": honest} {
		select {
		case <-c.gone:
			t.Errorf("%s was cut; both must be held", name)
		default:
		}
	}
	if d := l.device(t, "A1"); d.State != "quarantined" || d.Suspicion != "superseded-certificate-used" || d.Quarantined == nil {
		t.Errorf("state %q since %v for %q", d.State, d.Quarantined, d.Suspicion)
	}
	if f := l.finding(t, "devices"); !strings.Contains(f, "quarantine") {
		t.Errorf("doctor says %q", f)
	}
	if n := l.records(t, "device-quarantined"); n != 1 {
		t.Errorf("%d entries in the ledger, want 1", n)
	}
	newPoster(l, &stolen, t).post(t, "climate", jsonType, `{"temp":66}`).want(t, "a batch over HTTPS", 503, "quarantined")
	// The copy can renew nothing for itself, the device can.
	if status, _ := l.est(t, estCall{path: "simplereenroll", client: &stolen.cert, body: csrOf(t, newKey(t), x509.CertificateRequest{})}); status == http.StatusOK {
		t.Error("the copy got a certificate")
	}

	l.call(t, "POST", "/v1/devices/A1/release", api.ReasonRequest{Reason: "the copy was found and destroyed"}, nil)
	select {
	case <-clone.gone:
	case <-time.After(2 * time.Second):
		t.Error("the copy's session outlives the release")
	}
	select {
	case <-honest.gone: // so that its client sends again
	case <-time.After(2 * time.Second):
		t.Error("the device is not told to send again")
	}
	dialMQTT(t, l, second).publish(t, "telemetry/climate", `{"temp":4}`)
	raw, err := tls.Dial("tcp", l.addr.Devices, l.tls(&stolen))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	connack := make([]byte, 4)
	if _, err := raw.Write([]byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(raw, connack); err != nil || connack[0] != 0x20 || connack[3] != 0x87 {
		t.Errorf("the copy comes back and is answered % x, %v; want CONNACK 0x87", connack, err)
	}
	if d := l.device(t, "A1"); d.State == "quarantined" {
		t.Error("the copy puts the device in quarantine again")
	}
	lines, err := l.readAll(t, "A1")
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for _, x := range lines {
		switch v := string(x.Values); v {
		case `{"temp":1}`, `{"temp":2}`, `{"temp":3}`, `{"temp":4}`:
			own++
		case `{"temp":67}`: // the device may have got one in before it was held
		default:
			t.Errorf("stored %s", v)
		}
	}
	if own != 4 {
		t.Errorf("%d readings, want 4", own)
	}
}

// closesWithin reads a raw connection until it ends and says how long it took.
func closesWithin(c net.Conn, limit time.Duration) (time.Duration, bool) {
	began := time.Now()
	_ = c.SetReadDeadline(began.Add(limit)) // a closed one reads EOF anyway
	_, err := io.Copy(io.Discard, c)
	return time.Since(began), err == nil || !strings.Contains(err.Error(), "i/o timeout")
}

// TestSlowAndSilentHandshakes: who drips bytes, stops half-way or says nothing
// is closed in its time, at both doors, and a device connects meanwhile.
func TestSlowAndSilentHandshakes(t *testing.T) {
	t.Parallel()
	l := start(t, newHome(t, core.Test, "handshake_timeout: 2s\n"))
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	hello := recordedHello(t)
	const each = 40
	type stuck struct {
		name string
		c    net.Conn
	}
	var all []stuck
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range each {
		for name, play := range map[string]func(net.Conn){
			"silent": func(net.Conn) {},
			"half a ClientHello": func(c net.Conn) {
				_, _ = c.Write(hello[:len(hello)/2]) // it may be closed already
			},
			"never answers": func(c net.Conn) {
				_, _ = c.Write(hello) // as above
			},
			"drips": func(c net.Conn) {
				for _, b := range hello {
					if _, err := c.Write([]byte{b}); err != nil || ctx.Err() != nil {
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			},
		} {
			c, err := net.Dial("tcp", l.addr.Devices)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			go play(c)
			if i == 0 {
				all = append(all, stuck{name, c})
			}
		}
	}
	began := time.Now()
	c := dialMQTT(t, l, u)
	c.publish(t, "telemetry/climate", `{"temp":20}`)
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("a device waited %s behind %d stuck handshakes", d, 4*each)
	}
	for _, s := range all {
		if d, closed := closesWithin(s.c, 8*time.Second); !closed {
			t.Errorf("%s: still open after %s", s.name, d)
		}
	}
	// After the handshake the CONNECT has its own limit.
	quiet, err := tls.Dial("tcp", l.addr.Devices, l.tls(u))
	if err != nil {
		t.Fatal(err)
	}
	if d, closed := closesWithin(quiet, 8*time.Second); !closed {
		t.Errorf("no CONNECT: still open after %s", d)
	}
	c.publish(t, "telemetry/climate", `{"temp":21}`)
	if f := l.finding(t, "gateway"); f != "" {
		t.Errorf("doctor: %s", f)
	}
}

// recordedHello is what a TLS client says first.
func recordedHello(t *testing.T) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() {
		_ = tls.Client(a, &tls.Config{ServerName: "localhost"}).Handshake() // never answered
	}()
	buf := make([]byte, 4096)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// TestMalformedAndOversize: packets that break the protocol end their own
// connection and nobody else's.
func TestMalformedAndOversize(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	bystander := dialMQTT(t, l, l.enrol(t, "bystander"))
	connect := "\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01x"
	cases := map[string]string{
		"reserved type":            "\x00\x00",
		"PUBLISH before CONNECT":   "\x30\x05\x00\x01a\x00x",
		"endless length":           "\x10\xff\xff\xff\xff\x7f",
		"huge CONNECT":             "\x10\xff\xff\xff\x7f",
		"bad protocol name":        "\x10\x0e\x00\x04MQXX\x05\x02\x00\x3c\x00\x00\x01x",
		"reserved connect flag":    "\x10\x0e\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x01x",
		"client id past the end":   "\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\xff\xffx",
		"two CONNECTs":             connect + connect,
		"PUBLISH QoS 3":            connect + "\x36\x09\x00\x01a\x00\x01\x00xyz",
		"PUBLISH with a wildcard":  connect + "\x32\x0f\x00\x0atelemetry/#\x00\x01\x00x",
		"topic not UTF-8":          connect + "\x32\x07\x00\x02\xff\xfe\x00\x01\x00",
		"SUBSCRIBE without filter": connect + "\x82\x03\x00\x01\x00",
		"packet over the limit":    connect + "\x32\xff\xff\x7f" + strings.Repeat("A", 1<<17),
		"property twice":           connect + "\x30\x0c\x00\x01a\x08\x01\x00\x01\x00\x23\x00\x01\x00",
	}
	i := 0
	for name, bytes := range cases {
		// A device of its own each: who breaks the protocol is kept out for a while.
		u := l.enrol(t, core.DeviceID("bad-"+string(rune('a'+i))))
		i++
		c, err := tls.Dial("tcp", l.addr.Devices, l.tls(u))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(bytes)) // it may be closed before all is written
		if d, closed := closesWithin(c, 5*time.Second); !closed {
			t.Errorf("%s: still open after %s", name, d)
		}
		_ = c.Close()
	}
	bystander.publish(t, "telemetry/climate", `{"temp":20}`)
	if f := l.finding(t, "gateway"); f != "" {
		t.Errorf("doctor: %s", f)
	}
}

// TestCertificatesRefused: no certificate, a self-made one, one of our root's
// server authority, an expired one and one of another installation get nobody
// in, and a good one does (CC 3.1, 3.2, 3.11).
func TestCertificatesRefused(t *testing.T) {
	home := newHome(t, core.Test, "")
	other := start(t, newHome(t, core.Test, ""))
	other.publish(t, testDeclaration)
	foreign := other.enrol(t, "A1")
	l := start(t, home)
	l.publish(t, testDeclaration)
	good := l.enrol(t, "A1")

	key := newKey(t)
	leaf, err := x509.ParseCertificate(good.cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{RawSubject: leaf.RawIssuer, SubjectKeyId: leaf.AuthorityKeyId, PublicKey: key.Public()}
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]*tls.Certificate{
		"none":                        nil,
		"copied names, own signature": {Certificate: append([][]byte{der}, good.cert.Certificate[1:]...), PrivateKey: key},
		"another installation":        &foreign.cert,
		"without its key":             {Certificate: good.cert.Certificate, PrivateKey: key},
	} {
		conf := l.tls(nil)
		if cert != nil {
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
		if err := handshakeAndRead(l.addr.Devices, conf); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
	dialMQTT(t, l, good).publish(t, "telemetry/climate", `{"temp":20}`)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	// 31 days later the same certificate has run out.
	late := startAt(t, home, home, func() time.Time { return time.Now().Add(31 * 24 * time.Hour) })
	conf := late.tls(good)
	conf.Time = func() time.Time { return time.Now().Add(31 * 24 * time.Hour) }
	if err := handshakeAndRead(late.addr.Devices, conf); err == nil {
		t.Error("an expired certificate was let in")
	}
}

// handshakeAndRead reports why a connection is not welcome; nil when it was
// still open after CONNECT was answered with success.
func handshakeAndRead(addr string, conf *tls.Config) error {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, conf)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01x")); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second)) // a closed one reads EOF anyway
	ack := make([]byte, 4)
	if _, err := io.ReadFull(c, ack); err != nil {
		return err
	}
	if ack[3] != 0 {
		return core.E(core.Denied, "connack", "refused in CONNACK", "")
	}
	return nil
}
