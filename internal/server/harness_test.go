package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// testDeclaration is the product that the server's tests use: fast streams, so
// that no test waits for a rate.
const testDeclaration = `
declaration: 1
product: test-sensor
name: Test Sensor
version: 1
risk: {purpose: comfort, harm: low, exposure: home}
audience: general
identity: {life: 30d, may_sleep: until-end-of-support}
data:
  temp: {stream: climate, type: number, unit: Cel, range: [-40, 85], precision: 0.1, class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}
  note: {stream: climate, type: string, min_length: 1, max_length: 64, class: personal, purposes: [service.control], keep: 30d, readers: [owner, support], when_done: shred}
  secret: {stream: climate, type: integer, unit: "1", range: [0, 1000], class: personal, purposes: [service.control], keep: 10d, readers: [owner], when_done: shred}
streams:
  climate: {every: 10ms, burst: 1000, max_bytes: 512, on_bad: field}
interfaces:
  - {name: gateway, protocol: mqtts, direction: out, auth: device-certificate}
network: {talks_to: [{service: gateway}], wifi: [wpa2, wpa3]}
updates: {automatic: true, check_every: 6h, window: "02:00-05:00", deadline: {critical: 3d, high: 14d}}
support: {security_updates_until: 2032-12-31, afterwards: "Measures, but tells nobody."}
contacts: {security: security@northwind.example, help: help@northwind.example}
`

// live is a running server of its own home folder.
type live struct {
	home, keysHome string

	addr   Addresses
	client *api.Client
	roots  *x509.CertPool
	stop   func() error
	log    *lockedBuffer
	now    func() time.Time // the server's clock, and its clients'; nil: the system's
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newHome makes an installation whose doors the system chooses.
func newHome(t testing.TB, env core.Environment, more string) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "h")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("HAWSER_TEST_STORE") == "postgres" && !strings.Contains(more, "store: ") {
		more += "store: " + pgtest.Database(t) + "\n" // every test of a server, on the second engine
	}
	conf := "devices: 127.0.0.1:0\nhttps: 127.0.0.1:0\nconsole: 127.0.0.1:0\nservices: 127.0.0.1:0\nnames: [localhost, 127.0.0.1]\n" + more
	if err := os.WriteFile(filepath.Join(home, "config.yaml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), home, env); err != nil {
		t.Fatal(err)
	}
	return home
}

// start runs the server of a home folder until the test ends or stop is called.
func start(t testing.TB, home string) *live { t.Helper(); return startIn(t, home, home) }

// startIn is start for a home folder whose keys lie in another one.
func startIn(t testing.TB, home, keysHome string) *live {
	t.Helper()
	return startAt(t, home, keysHome, nil)
}

// startAt is startIn with a clock; nil: the system's.
func startAt(t testing.TB, home, keysHome string, now func() time.Time) *live {
	t.Helper()
	return startWith(t, home, keysHome, Options{Now: now})
}

// startWith is startIn with options.
func startWith(t testing.TB, home, keysHome string, o Options) *live {
	t.Helper()
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &live{home: home, client: api.NewClient(c.Socket), log: &lockedBuffer{}, now: o.Now}
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	go func() {
		o.Version, o.Log, o.Ready = "test", l.log, func(a Addresses) { ready <- a }
		ended <- Run(ctx, c, o)
	}()
	select {
	case l.addr = <-ready:
	case err := <-ended:
		cancel()
		t.Fatalf("server did not start: %v\n%s", err, l.log)
	case <-time.After(30 * time.Second):
		cancel()
		t.Fatalf("server is not ready after 30 s\n%s", l.log)
	}
	l.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := l.stop(); err != nil {
			t.Errorf("server ended with: %v", err)
		}
		if t.Failed() {
			t.Logf("server's log:\n%s", l.log)
		}
	})
	l.keysHome = keysHome
	pemRoot, err := os.ReadFile(l.rootFile(t))
	if err != nil {
		t.Fatal(err)
	}
	l.roots = x509.NewCertPool()
	if !l.roots.AppendCertsFromPEM(pemRoot) {
		t.Fatal("no root certificate")
	}
	return l
}

func (l *live) rootFile(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(l.keysHome, "keys/ca/root.*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("root certificate: %v %v", found, err)
	}
	return found[0]
}

func (l *live) call(t testing.TB, method, path string, in, out any) {
	t.Helper()
	if err := l.client.Call(t.Context(), method, path, in, out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

// publish puts a declaration in force.
func (l *live) publish(t testing.TB, source string) {
	t.Helper()
	l.call(t, "POST", "/v1/declarations", api.PublishRequest{File: "test.yaml", Source: source}, nil)
}

// unit is an enrolled device: key and certificate as files and in memory.
type unit struct {
	id        core.DeviceID
	cert      tls.Certificate
	certFile  string
	keyFile   string
	rootsFile string
}

// enrol adds a device and gets its certificate over EST, as a client that is
// not ours would.
func (l *live) enrol(t testing.TB, id core.DeviceID) *unit {
	t.Helper()
	var added api.DeviceAdded
	l.call(t, "POST", "/v1/devices", api.AddDeviceRequest{Device: id, Product: "test-sensor"}, &added)
	return l.enrolWith(t, id, added.Code)
}

func (l *live) enrolWith(t testing.TB, id core.DeviceID, code string) *unit {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+l.addr.HTTPS+"/.well-known/est/simpleenroll",
		bytes.NewReader([]byte(base64.StdEncoding.EncodeToString(csr))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/pkcs10")
	req.SetBasicAuth(string(id), code)
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.roots}, DisableKeepAlives: true}}
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("enrol %s: %s: %s", id, resp.Status, body)
	}
	return l.unitOf(t, id, key, body)
}

// unitOf is a unit with the certificate of an answer of EST.
func (l *live) unitOf(t testing.TB, id core.DeviceID, key *ecdsa.PrivateKey, body []byte) *unit {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		t.Fatal(err)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	u := &unit{id: id, rootsFile: l.rootFile(t)}
	dir := t.TempDir()
	var chain []byte
	for _, c := range p7.Certificates {
		if c.IsCA && bytes.Equal(c.RawIssuer, c.RawSubject) {
			continue
		}
		u.cert.Certificate = append(u.cert.Certificate, c.Raw)
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	u.cert.PrivateKey = key
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	u.certFile, u.keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string][]byte{u.certFile: chain, u.keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func (l *live) tls(u *unit) *tls.Config {
	c := &tls.Config{RootCAs: l.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13, Time: l.now}
	if u != nil {
		c.Certificates = []tls.Certificate{u.cert}
	}
	return c
}

// readAll reads a device through the public read path.
func (l *live) readAll(t testing.TB, id core.DeviceID) ([]api.ReadLine, error) {
	t.Helper()
	var out []api.ReadLine
	err := l.client.Stream(t.Context(), "POST", "/v1/devices/"+string(id)+"/read", api.ReadRequest{Purpose: "service.control", Reason: "a test reads back"}, func(line []byte) error {
		var x api.ReadLine
		if err := json.Unmarshal(line, &x); err != nil {
			return err
		}
		if x.Problem != nil {
			return fmt.Errorf("read broke off: %s", x.Problem.Title)
		}
		if x.Done == nil {
			out = append(out, x)
		}
		return nil
	})
	return out, err
}

// waitFor asks until ok says yes.
func waitFor(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %s, but not: %s", limit, what)
}
