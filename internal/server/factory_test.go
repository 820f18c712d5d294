package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// TestFactory is a week of a factory: a line lists its units and signs the list
// with ssh-keygen, an authority signs birth certificates; units of both enrol
// over TLS without a code, connect, and what is forged opens nothing (CC 1.7).
func TestFactory(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("ssh-keygen is missing: nobody signs like a factory")
	}
	t.Parallel()
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	dir := t.TempDir()
	keygen := func(args ...string) {
		t.Helper()
		cmd := exec.Command("ssh-keygen", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	until := time.Now().AddDate(0, 6, 0).UTC().Format(time.DateOnly)
	keygen("-q", "-t", "ed25519", "-N", "", "-f", "line")
	var f api.Factory
	l.call(t, "POST", "/v1/factory/lines", api.AddFactoryLineRequest{Line: "line-4", Product: "test-sensor", Key: read("line.pub"), Until: until, MaxUnits: 10}, &f)

	listed := selfShown(t)
	list := "# hawser factory list 1\r\n# product: test-sensor\r\n# line: line-4\r\n# list: w47\r\nserial,sha256\r\nF1," + keyOf(t, listed) + "\r\n"
	if err := os.WriteFile(filepath.Join(dir, "w47.csv"), []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	keygen("-q", "-Y", "sign", "-n", identity.ListNamespace, "-f", "line", "w47.csv")
	forged := api.TakeFactoryListRequest{List: strings.Replace(list, "F1", "F2", 1), Signature: read("w47.csv.sig")}
	if err := l.client.Call(t.Context(), "POST", "/v1/factory/lists", forged, nil); core.ReasonOf(err) != "list-signature" && (err == nil || !strings.Contains(err.Error(), "altered")) {
		t.Errorf("an altered list: %v", err)
	}
	var taken api.FactoryList
	l.call(t, "POST", "/v1/factory/lists", api.TakeFactoryListRequest{List: list, Signature: read("w47.csv.sig")}, &taken)
	if taken.Fresh != 1 || taken.Digest != fmt.Sprintf("%x", sha256.Sum256([]byte(list))) {
		t.Errorf("took %+v", taken)
	}

	ca, caKey := authority(t)
	caPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}))
	l.call(t, "POST", "/v1/factory/authorities", api.AddFactoryCARequest{Name: "works-2", Product: "test-sensor", Certificate: caPEM, SerialFrom: "serialNumber", Until: until, MaxUnits: 10}, &f)
	if len(f.Lines) != 1 || len(f.Lists) != 1 || len(f.CAs) != 1 {
		t.Errorf("the factory is %+v", f)
	}
	birth := birthCertificate(t, ca, caKey, "C1")
	stranger, strangerKey := authority(t)

	for name, c := range map[string]struct {
		path string
		cert *tls.Certificate
		want int
	}{
		"nothing shown":                    {"simpleenroll", nil, http.StatusUnauthorized},
		"a key that is not listed":         {"simpleenroll", selfShown(t), http.StatusUnauthorized},
		"a stranger's birth certificate":   {"simpleenroll", birthCertificate(t, stranger, strangerKey, "C1"), http.StatusUnauthorized},
		"a stranger's, at the renewal":     {"simplereenroll", birthCertificate(t, stranger, strangerKey, "C1"), http.StatusForbidden},
		"a certificate for a listed unit":  {"simpleenroll", birthCertificate(t, ca, caKey, "F1"), http.StatusUnauthorized},
		"a certificate with another's key": {"simpleenroll", &tls.Certificate{Certificate: birth.Certificate, PrivateKey: listed.PrivateKey}, 0},
	} {
		if got, body := l.bornEnrol(t, c.path, c.cert); got != c.want {
			t.Errorf("%s: %d %s, want %d", name, got, body, c.want)
		}
	}
	for id, c := range map[core.DeviceID]struct {
		cert    *tls.Certificate
		path    string
		door    string
		station string
	}{
		"F1": {listed, "simpleenroll", "factory-list", "line-4"},
		"C1": {birth, "simplereenroll", "factory-ca", "works-2"}, // as IEEE 802.1AR clients ask
	} {
		u := l.bornUnit(t, id, c.path, c.cert)
		dialMQTT(t, l, u).close(t)
		d := l.device(t, id)
		if d.Birth == nil || d.Birth.Door != c.door || d.Birth.Station != c.station || d.Birth.KeyOrigin != "device" || d.Birth.Source == "" || d.State != "active" {
			t.Errorf("%s: %+v, born %+v", id, d, d.Birth)
		}
		l.renew(t, u)
	}
	// What was spent opens nothing any more; the birth certificate stays.
	if got, body := l.bornEnrol(t, "simpleenroll", listed); got != http.StatusUnauthorized || !strings.Contains(body, "spent") {
		t.Errorf("the listed key again: %d %s", got, body)
	}
	if got, body := l.bornEnrol(t, "simpleenroll", birth); got != http.StatusOK {
		t.Errorf("the birth certificate again: %d %s", got, body)
	}
	l.call(t, "POST", "/v1/factory/authorities/works-2/end", api.EndFactoryRequest{Cause: "compromised"}, &f)
	if got, _ := l.bornEnrol(t, "simpleenroll", birth); got != http.StatusUnauthorized {
		t.Errorf("after its authority's end: %d", got)
	}
	for kind, want := range map[string]int{"factory-line-added": 1, "factory-list-taken": 1, "factory-ca-added": 1, "factory-ca-ended": 1} {
		waitFor(t, 5*time.Second, kind, func() bool { return l.records(t, kind) == want })
	}
}

// selfShown is a key, and a certificate by itself to show it in TLS.
func selfShown(t *testing.T) *tls.Certificate {
	t.Helper()
	key := p256(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)} // its dates say nothing
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyOf(t *testing.T, c *tls.Certificate) string {
	t.Helper()
	x, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(x.RawSubjectPublicKeyInfo))
}

func authority(t *testing.T) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := p256(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Works"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func birthCertificate(t *testing.T, ca *x509.Certificate, caKey *ecdsa.PrivateKey, serial string) *tls.Certificate {
	t.Helper()
	key := p256(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{SerialNumber: serial}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(9, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// bornEnrol asks for a certificate without a code; 0: TLS did not come about.
func (l *live) bornEnrol(t *testing.T, path string, cert *tls.Certificate) (int, string) {
	t.Helper()
	status, body, _ := l.bornAsk(t, path, cert)
	return status, body
}

func (l *live) bornAsk(t *testing.T, path string, cert *tls.Certificate) (int, string, *ecdsa.PrivateKey) {
	t.Helper()
	key := p256(t)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	conf := l.tls(nil)
	conf.Certificates, conf.GetClientCertificate = nil, nil
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+l.addr.HTTPS+"/.well-known/est/"+path, strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/pkcs10")
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, err.Error(), key
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error(), key
	}
	return resp.StatusCode, string(body), key
}

func (l *live) bornUnit(t *testing.T, id core.DeviceID, path string, cert *tls.Certificate) *unit {
	t.Helper()
	status, body, key := l.bornAsk(t, path, cert)
	if status != http.StatusOK {
		t.Fatalf("enrol %s: %d %s", id, status, body)
	}
	return l.unitOf(t, id, key, []byte(body))
}
