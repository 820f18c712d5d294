package est_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/gateway/est"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/wire"
)

const product core.ProductID = "aria-thermostat"

var admin = core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}

type terms map[core.ProductID]identity.Terms

func (p terms) Terms(_ context.Context, id core.ProductID) (identity.Terms, error) {
	if t, ok := p[id]; ok {
		return t, nil
	}
	return identity.Terms{}, core.E(core.Unknown, "unknown-product", "no such product", "")
}

// door is one installation with its enrolment door on loopback.
type door struct {
	t    testing.TB
	dir  string
	ca   *identity.CA
	svc  *identity.Service
	url  string
	addr string
	log  *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newDoor(t testing.TB) *door {
	t.Helper()
	d := &door{t: t, dir: t.TempDir(), log: &logBuffer{}}
	folder := filepath.Join(d.dir, "ca")
	if err := identity.CreateCA(identity.CAOptions{Environment: core.Test, RootDir: filepath.Join(d.dir, "root"), Dir: folder, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.ca, err = identity.OpenCA(identity.OpenOptions{Environment: core.Test, Dir: folder, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Options{Dir: filepath.Join(d.dir, "data")})
	if err != nil {
		t.Fatal(err)
	}
	roots, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(d.dir, "roots")})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.Create(t.Context(), seal.Options{
		Copies: []string{filepath.Join(d.dir, "a", "keyring"), filepath.Join(d.dir, "b", "keyring")}, Roots: roots, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	turnstile, err := gate.New(t.Context(), gate.Deps{
		Update: func(ctx context.Context, fn func(gate.Tx) error) error {
			return st.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(gate.Tx) error) error {
			return st.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Now: time.Now, Key: make([]byte, 32),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.svc, err = identity.New(t.Context(), identity.Deps{
		Gate: turnstile, CA: d.ca, Keys: keys, Now: time.Now, Notify: func(identity.Change) {},
		Policies: terms{product: {Life: 30 * 24 * time.Hour}},
		Update: func(ctx context.Context, fn func(identity.Tx) error) error {
			return st.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(identity.Tx) error) error {
			return st.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := est.New(est.Deps{Identity: d.svc, Bundle: d.ca.Bundle, Log: slog.New(slog.NewTextHandler(d.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := identity.NewServerCertificate(d.ca, []string{"localhost", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelInfo),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, GetCertificate: cert.GetCertificate,
			ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: d.ca.ClientPool(),
		},
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		_ = keys.Close()
		_ = st.Close()
	})
	d.addr = l.Addr().String()
	d.url = "https://" + d.addr
	return d
}

// client is a device's HTTPS client; cert may be nil.
func (d *door) client(cert *tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(d.ca.Root())
	c := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: c}}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func csr(t testing.TB, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (d *door) post(c *http.Client, path, user, code, contentType, body string) answer {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, code)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return d.do(c, r)
}

func (d *door) do(c *http.Client, r *http.Request) answer {
	d.t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		d.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (a answer) certificates(t testing.TB) []*x509.Certificate {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/pkcs7-mime; smime-type=certs-only" {
		t.Errorf("Content-Type %q", got)
	}
	if got := a.header.Get("Content-Length"); got != fmt.Sprint(len(a.body)) {
		t.Errorf("Content-Length %q of %d", got, len(a.body))
	}
	if strings.ContainsAny(a.body, "\r\n ") {
		t.Error("the answer is broken into lines")
	}
	der, err := base64.StdEncoding.DecodeString(a.body)
	if err != nil {
		t.Fatal(err)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return p7.Certificates
}

func (d *door) add(id core.DeviceID) string {
	d.t.Helper()
	code, err := d.svc.AddDevice(d.t.Context(), admin, product, id)
	if err != nil {
		d.t.Fatal(err)
	}
	return code
}

func TestEnrolAndRenewOverTLS(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	code := d.add("A1")
	anon := d.client(nil)

	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+wire.ESTCACerts, nil)
	bundle := d.do(anon, r).certificates(t)
	if len(bundle) != 2 || !bundle[0].Equal(d.ca.Root()) || !bundle[1].IsCA {
		t.Fatalf("cacerts: %d certificates", len(bundle))
	}

	key := newKey(t)
	body := csr(t, key)
	got := d.post(anon, wire.ESTEnrol, "A1", code, wire.PKCS10Type, body).certificates(t)
	if len(got) != 1 { // RFC 7030 §4.2.3
		t.Fatalf("enrolment answers %d certificates", len(got))
	}
	leaf := got[0]
	if !key.PublicKey.Equal(leaf.PublicKey) || leaf.URIs[0].String() != "urn:hawser:test:device:aria-thermostat:A1" {
		t.Fatalf("certificate for %v", leaf.URIs)
	}
	// The answer is lost; asked again, with line breaks as RFC 7030 had them.
	var wrapped strings.Builder
	for i := 0; i < len(body); i += 64 {
		wrapped.WriteString(body[i:min(i+64, len(body))] + "\r\n")
	}
	again := d.post(anon, wire.ESTEnrol, "A1", strings.ToLower(code), wire.PKCS10Type+"; charset=x", wrapped.String()).certificates(t)
	if !again[0].Equal(leaf) {
		t.Error("asked again with the same key: another certificate")
	}

	old := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	next := newKey(t)
	renewed := d.post(d.client(old), wire.ESTReenrol, "", "", wire.PKCS10Type, csr(t, next)).certificates(t)
	if len(renewed) != 1 || !next.PublicKey.Equal(renewed[0].PublicKey) {
		t.Fatal("renewal gave another key's certificate")
	}
	a := d.post(anon, wire.ESTEnrol, "A1", code, wire.PKCS10Type, csr(t, newKey(t)))
	if a.status != http.StatusUnauthorized {
		t.Errorf("a spent code: status %d", a.status)
	}
	// The new one is used; the old one cannot renew any more.
	d.post(d.client(&tls.Certificate{Certificate: [][]byte{renewed[0].Raw}, PrivateKey: next}), wire.ESTReenrol, "", "", wire.PKCS10Type, csr(t, newKey(t))).certificates(t)
	a = d.post(d.client(old), wire.ESTReenrol, "", "", wire.PKCS10Type, csr(t, newKey(t)))
	if a.status != http.StatusForbidden {
		t.Errorf("renewal by a superseded certificate: status %d: %s", a.status, a.body)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	code := d.add("A1")
	undeclared, err := d.svc.AddDevice(t.Context(), admin, "undeclared", "U1")
	if err != nil {
		t.Fatal(err)
	}
	good := csr(t, newKey(t))
	caTrue, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"x.example"}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name                   string
		path, user, code, kind string
		body                   string
		status                 int
		reason                 string
	}{
		{"no credentials", wire.ESTEnrol, "", "", wire.PKCS10Type, good, 401, "no-credentials"},
		{"wrong code", wire.ESTEnrol, "A1", undeclared, wire.PKCS10Type, good, 401, "wrong-code"},
		{"mistyped code", wire.ESTEnrol, "A1", "admin", wire.PKCS10Type, good, 401, "code-mistyped"},
		{"unknown device", wire.ESTEnrol, "Z9", code, wire.PKCS10Type, good, 401, "unknown-device"},
		{"long name", wire.ESTEnrol, strings.Repeat("x", 200), code, wire.PKCS10Type, good, 401, "credentials-size"},
		{"undeclared product", wire.ESTEnrol, "U1", undeclared, wire.PKCS10Type, good, 409, "product-not-declared"},
		{"no content type", wire.ESTEnrol, "A1", code, "", good, 400, "content-type"},
		{"other content type", wire.ESTEnrol, "A1", code, "application/json", good, 400, "content-type"},
		{"empty body", wire.ESTEnrol, "A1", code, wire.PKCS10Type, "", 400, "body-base64"},
		{"not base64", wire.ESTEnrol, "A1", code, wire.PKCS10Type, "*", 400, "body-base64"},
		{"PEM", wire.ESTEnrol, "A1", code, wire.PKCS10Type, "-----BEGIN CERTIFICATE REQUEST-----\n" + good, 400, "body-pem"},
		{"rubbish in base64", wire.ESTEnrol, "A1", code, wire.PKCS10Type, "AAAA", 400, "csr-malformed"},
		{"17 KB", wire.ESTEnrol, "A1", code, wire.PKCS10Type, strings.Repeat("A", 17<<10), 413, "body-size"},
		{"12 KB", wire.ESTEnrol, "A1", code, wire.PKCS10Type, strings.Repeat("A", 12<<10), 413, "csr-size"},
		{"foreign name", wire.ESTEnrol, "A1", code, wire.PKCS10Type, base64.StdEncoding.EncodeToString(caTrue), 400, "csr-foreign-name"},
		{"renewal without a certificate", wire.ESTReenrol, "A1", code, wire.PKCS10Type, good, 403, "no-certificate"},
	} {
		a := d.post(d.client(nil), c.path, c.user, c.code, c.kind, c.body)
		if a.status != c.status {
			t.Errorf("%s: status %d, want %d: %s", c.name, a.status, c.status, a.body)
		}
		if len(a.body) > 400 || strings.Count(a.body, "\n") != 1 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: answer %q of %q", c.name, a.body, a.header.Get("Content-Type"))
		}
		if strings.Contains(a.body, c.reason) {
			t.Errorf("%s: a stranger reads the inner reason: %q", c.name, a.body)
		}
		if (a.header.Get("WWW-Authenticate") != "") != (c.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", c.name, a.header.Get("WWW-Authenticate"))
		}
		if !strings.Contains(d.log.String(), "reason="+c.reason) {
			t.Errorf("%s: the log does not name %q", c.name, c.reason)
		}
	}
	if strings.Contains(d.log.String(), code) {
		t.Error("the log shows an enrolment code")
	}
	for path, want := range map[string]int{wire.ESTEnrol: 405, "/.well-known/est/serverkeygen": 404, "/": 404} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+path, nil)
		if a := d.do(d.client(nil), r); a.status != want {
			t.Errorf("GET %s: status %d, want %d", path, a.status, want)
		}
	}
	// After all of this the device still gets its certificate.
	if a := d.post(d.client(nil), wire.ESTEnrol, "A1", code, wire.PKCS10Type, good); a.status != 200 {
		t.Errorf("the device itself: status %d: %s", a.status, a.body)
	}
}

// CC 1.9: two installations have no credential in common, and none that comes
// with everything.
func TestKnownDefaultsOnTwoInstallations(t *testing.T) {
	t.Parallel()
	a, b := newDoor(t), newDoor(t)
	codeA, codeB := a.add("A1"), b.add("A1")
	for _, d := range []*door{a, b} {
		hits, tries := 0, 0
		for _, user := range []string{"A1", "admin", "root", "user", "device"} {
			for _, p := range []string{"", "admin", "password", "root", "1234", "123456", "default", "00000-00000-00000-00000-00000-00000"} {
				tries++
				switch s := d.post(d.client(nil), wire.ESTEnrol, user, p, wire.PKCS10Type, csr(t, newKey(t))); s.status {
				case 200:
					hits++
				case 401, 429:
				default:
					t.Errorf("%s/%s: status %d", user, p, s.status)
				}
			}
		}
		if hits != 0 || tries < 40 {
			t.Errorf("%d of %d known credentials opened the door", hits, tries)
		}
	}
	if codeA == codeB {
		t.Error("two installations made the same code")
	}
	if a.ca.Root().Equal(b.ca.Root()) || a.ca.Root().Subject.String() == b.ca.Root().Subject.String() {
		t.Error("two installations have the same root")
	}
	// Row 1.14: one source that tries and tries is held.
	r := a.post(a.client(nil), wire.ESTEnrol, "A1", codeA, wire.PKCS10Type, csr(t, newKey(t)))
	if r.status != 429 || r.header.Get("Retry-After") == "" {
		t.Errorf("after 40 tries: status %d, Retry-After %q", r.status, r.header.Get("Retry-After"))
	}
}

func TestRenewalRefusesForeignCertificates(t *testing.T) {
	t.Parallel()
	d, foreign := newDoor(t), newDoor(t)
	key := newKey(t)
	leaf := foreign.post(foreign.client(nil), wire.ESTEnrol, "A1", foreign.add("A1"), wire.PKCS10Type, csr(t, key)).certificates(t)[0]
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+wire.ESTReenrol, strings.NewReader(csr(t, newKey(t))))
	r.Header.Set("Content-Type", wire.PKCS10Type)
	c := d.client(nil)
	c.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}, nil
	}
	resp, err := c.Do(r)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode == 200 {
			t.Error("another installation's certificate was renewed")
		}
	}
}

// A client that sends its body drop by drop is cut, and holds nobody up.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("short: waits for a timeout of ten seconds")
	}
	d := newDoor(t)
	code := d.add("A1")
	pool := x509.NewCertPool()
	pool.AddCert(d.ca.Root())
	start := time.Now()
	var slow []net.Conn
	for range 80 { // more than may be at work at once
		c, err := tls.Dial("tcp", d.addr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
		_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eDp4\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\nA", wire.ESTEnrol, wire.PKCS10Type)
	}
	if a := d.post(d.client(nil), wire.ESTEnrol, "A1", code, wire.PKCS10Type, csr(t, newKey(t))); a.status != 200 || time.Since(start) > 8*time.Second {
		t.Errorf("status %d after %s", a.status, time.Since(start))
	}
	for _, c := range slow {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatal("a slow client is not cut")
		}
		_ = c.Close()
	}
	if e := time.Since(start); e > 16*time.Second {
		t.Errorf("slow clients were cut after %s", e)
	}
}

// BenchmarkEnrolOverTLS is a device's first enrolment with everything: a full
// TLS 1.3 handshake, the request, owner, key, lint, signature, ledger. The
// client's half (key, request, handshake) runs on the same cores.
func BenchmarkEnrolOverTLS(b *testing.B) {
	d := newDoor(b)
	codes := make([]string, b.N)
	bodies := make([]string, b.N)
	for i := range codes {
		codes[i] = d.add(core.DeviceID(fmt.Sprintf("D%07d", i)))
		bodies[i] = csr(b, newKey(b))
	}
	b.ResetTimer()
	for i := range codes {
		if a := d.post(d.client(nil), wire.ESTEnrol, fmt.Sprintf("D%07d", i), codes[i], wire.PKCS10Type, bodies[i]); a.status != http.StatusOK {
			b.Fatalf("status %d: %s", a.status, a.body)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "enrolments/s")
}
