package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestTLS12EnrolsWhereDeclared: a device that may connect with TLS 1.2 can also
// enrol and renew with it, and no other one can (design, section 6; CC 2.8).
func TestTLS12EnrolsWhereDeclared(t *testing.T) {
	t.Parallel()
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	old := strings.NewReplacer("test-sensor", "old-sensor", "wifi: [wpa2, wpa3]", `wifi: [wpa2, wpa3], tls: "1.2"`).Replace(testDeclaration)
	conf := l.tls(nil)
	conf.MinVersion, conf.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if c, err := tls.Dial("tcp", l.addr.HTTPS, conf); err == nil {
		_ = c.Close()
		t.Fatal("the enrolment door speaks TLS 1.2 although no product declares it")
	}
	l.publish(t, old)

	weak := conf.Clone()
	weak.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	if c, err := tls.Dial("tcp", l.addr.HTTPS, weak); err == nil {
		t.Errorf("a suite without ephemeral keys or AEAD was taken: %x", c.ConnectionState().CipherSuite)
		_ = c.Close()
	}

	var key *ecdsa.PrivateKey // a new one for every request
	post := func(path, id, code string, cert *tls.Certificate, version uint16) (int, string) {
		t.Helper()
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		c := conf.Clone()
		c.MaxVersion = version
		if cert != nil {
			c.Certificates = []tls.Certificate{*cert}
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+l.addr.HTTPS+path, strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/pkcs10")
		if code != "" {
			req.SetBasicAuth(id, code)
		}
		resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for _, c := range []struct {
		product       core.ProductID
		enrol, renew  int
		differentNews string // what the refused one is told
	}{
		{"old-sensor", 200, 200, ""},
		{"test-sensor", 401, 403, "does not declare TLS 1.2"},
	} {
		id := core.DeviceID(c.product + "-1")
		var added api.DeviceAdded
		l.call(t, "POST", "/v1/devices", api.AddDeviceRequest{Device: id, Product: c.product}, &added)
		const enrol, renew = "/.well-known/est/simpleenroll", "/.well-known/est/simplereenroll"
		// A stranger does not learn which product declares what.
		if status, said := post(enrol, string(id), "00000-00000-00000-00000-00000-00000", nil, tls.VersionTLS12); status != 401 || strings.Contains(said, "TLS") {
			t.Errorf("%s, a wrong code: %d %s", c.product, status, said)
		}
		if status, said := post(enrol, string(id), added.Code, nil, tls.VersionTLS12); status != c.enrol || c.differentNews != "" && !strings.Contains(said, c.differentNews) {
			t.Errorf("%s enrols with TLS 1.2: %d %s, want %d", c.product, status, said, c.enrol)
		}
		status, said := post(enrol, string(id), added.Code, nil, tls.VersionTLS13) // again: the code is spent with the first handshake only
		if status != 200 {
			t.Fatalf("%s enrols with TLS 1.3: %d %s", c.product, status, said)
		}
		der, err := base64.StdEncoding.DecodeString(said)
		if err != nil {
			t.Fatal(err)
		}
		p7, err := pkcs7.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		cert := &tls.Certificate{Certificate: [][]byte{p7.Certificates[0].Raw}, PrivateKey: key}
		if status, said := post(renew, "", "", cert, tls.VersionTLS12); status != c.renew || c.differentNews != "" && !strings.Contains(said, c.differentNews) {
			t.Errorf("%s renews with TLS 1.2: %d %s, want %d", c.product, status, said, c.renew)
		}
	}
}

// maxChainBytes bounds what the server sends of its chain in every handshake: a
// device on a narrow network pays for each byte, and RAM for the longest.
const maxChainBytes = 2048

// TestServerChainIsSmall: leaf and issuer, without the root that devices hold,
// and nothing in them that small TLS libraries refuse: Mbed TLS and BearSSL know
// no name constraints, and refuse critical extensions that they do not know.
func TestServerChainIsSmall(t *testing.T) {
	t.Parallel()
	l := start(t, newHome(t, core.Test, ""))
	for _, addr := range []string{l.addr.Devices, l.addr.HTTPS} {
		c, err := tls.Dial("tcp", addr, l.tls(nil))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		sent := 0
		for _, x := range c.ConnectionState().PeerCertificates {
			sent += len(x.Raw)
			for _, e := range x.Extensions {
				if e.Critical && e.Id.String() != "2.5.29.15" && e.Id.String() != "2.5.29.19" {
					t.Errorf("%s: %s has the critical extension %s", addr, x.Subject, e.Id)
				}
			}
		}
		t.Logf("%s: %d certificates, %d bytes", addr, len(c.ConnectionState().PeerCertificates), sent)
		if n := len(c.ConnectionState().PeerCertificates); n != 2 || sent > maxChainBytes {
			t.Errorf("%s sends %d certificates of %d bytes, want 2 of at most %d", addr, n, sent, maxChainBytes)
		}
	}
	b, err := os.ReadFile(l.rootFile(t))
	if err != nil {
		t.Fatal(err)
	}
	if p, rest := pem.Decode(b); p == nil || len(bytes.TrimSpace(rest)) > 0 {
		t.Error("the roots file holds more than the root")
	}
}

// TestOlderAuthorityIsNamed: an installation whose server intermediate has the
// critical name constraint of before still opens, and says at its door that
// small TLS libraries refuse it.
func TestOlderAuthorityIsNamed(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Test, "")
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(home, "keys", name))
		if err != nil {
			t.Fatal(err)
		}
		p, _ := pem.Decode(b)
		return p.Bytes
	}
	root, err := x509.ParseCertificate(read("ca/root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	now, err := x509.ParseCertificate(read("ca/server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(read("ca-root/root-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	before := *now
	before.PermittedDNSDomainsCritical = true
	der, err := x509.CreateCertificate(rand.Reader, &before, root, now.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(home, "keys", "ca-root")); err != nil { // as one should
		t.Fatal(err)
	}
	for _, c := range []struct {
		small bool
		der   []byte
	}{{true, now.Raw}, {false, der}} {
		if err := os.WriteFile(filepath.Join(home, "keys", "ca", "server.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.der}), 0o600); err != nil {
			t.Fatal(err)
		}
		l := start(t, home)
		l.publish(t, testDeclaration)
		var d api.Door
		l.call(t, "GET", "/v1/declarations/test-sensor/door", nil, &d)
		_, mqtt, _ := strings.Cut(l.addr.Devices, ":")
		if d.SmallTLS != c.small || d.ChainBytes == 0 || d.ChainBytes > maxChainBytes || !strings.Contains(d.Roots, "CERTIFICATE") || strings.Contains(d.Roots, "KEY") ||
			len(d.Hosts) == 0 || d.Hosts[0] != "localhost" || strconv.Itoa(d.MQTTPort) != mqtt || d.Environment != "test" || !strings.Contains(d.Policy, "test-sensor") {
			t.Errorf("small %t: the door says %+v", c.small, d)
		}
		if err := l.client.Call(t.Context(), "GET", "/v1/declarations/nobody/door", nil, &d); core.KindOf(err) != core.Unknown {
			t.Errorf("the door of a product that nobody declared: %v", err)
		}
		if err := l.stop(); err != nil {
			t.Fatal(err)
		}
	}
}
