package server

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestHostileRequestsAtTheDoor: whoever holds a good code and asks for more
// than a device's certificate gets nothing, is told why, and has not spent the
// code (CC 3.1, 1.9).
func TestHostileRequestsAtTheDoor(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	code := l.add(t, "A1")
	other := l.enrol(t, "B1")
	ext := func(id asn1.ObjectIdentifier, value any) []pkix.Extension {
		der, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return []pkix.Extension{{Id: id, Value: der}}
	}
	type basicConstraints struct {
		CA bool `asn1:"optional"`
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	urn := func(s string) []*url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	broken := []byte(csrOf(t, newKey(t), x509.CertificateRequest{}))
	der, err := base64.StdEncoding.DecodeString(string(broken))
	if err != nil {
		t.Fatal(err)
	}
	der[len(der)-3] ^= 1
	otherKey, ok := other.cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal("the neighbour's key is of another kind")
	}
	cases := []struct{ name, body string }{
		{"CA:TRUE", csrOf(t, newKey(t), x509.CertificateRequest{ExtraExtensions: ext(asn1.ObjectIdentifier{2, 5, 29, 19}, basicConstraints{CA: true})})},
		{"key usage certSign", csrOf(t, newKey(t), x509.CertificateRequest{ExtraExtensions: ext(asn1.ObjectIdentifier{2, 5, 29, 15}, asn1.BitString{Bytes: []byte{0x06}, BitLength: 8})})},
		{"server authentication", csrOf(t, newKey(t), x509.CertificateRequest{ExtraExtensions: ext(asn1.ObjectIdentifier{2, 5, 29, 37}, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}})})},
		{"another's common name", csrOf(t, newKey(t), x509.CertificateRequest{Subject: pkix.Name{CommonName: "B1"}})},
		{"another's URI", csrOf(t, newKey(t), x509.CertificateRequest{URIs: urn("urn:hawser:test:device:test-sensor:B1")})},
		{"the live environment", csrOf(t, newKey(t), x509.CertificateRequest{URIs: urn("urn:hawser:live:device:test-sensor:A1")})},
		{"a host name", csrOf(t, newKey(t), x509.CertificateRequest{DNSNames: []string{"localhost"}})},
		{"RSA", csrOf(t, rsaKey, x509.CertificateRequest{})},
		{"Ed25519", csrOf(t, edKey, x509.CertificateRequest{})},
		{"P-384", csrOf(t, p384, x509.CertificateRequest{})},
		{"a neighbour's key", csrOf(t, otherKey, x509.CertificateRequest{})},
		{"a broken signature", base64.StdEncoding.EncodeToString(der)},
		{"not base64", "\x00\x01\x02"},
		{"not a request", base64.StdEncoding.EncodeToString([]byte(strings.Repeat("0", 3000)))},
		{"empty", ""},
		{"huge", strings.Repeat("QUFB", 6<<10)},
	}
	for _, c := range cases {
		status, answer := l.est(t, estCall{path: "simpleenroll", user: "A1", code: code, body: c.body})
		if status < 400 || status >= 500 {
			t.Errorf("%s: %d: %s", c.name, status, answer)
		}
		if len(strings.TrimSpace(answer)) < 10 || strings.Contains(answer, "internal") {
			t.Errorf("%s: the answer does not say why: %q", c.name, answer)
		}
	}
	if d := l.device(t, "A1"); d.Certificate != "" {
		t.Errorf("a certificate came of it: %+v", d)
	}
	u := l.enrolWith(t, "A1", code) // the code is still good for what it is for
	dialMQTT(t, l, u).publish(t, "telemetry/climate", `{"temp":20}`)
	leaf, err := x509.ParseCertificate(u.cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if leaf.IsCA || len(leaf.DNSNames) != 0 || len(leaf.URIs) != 1 || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
		t.Errorf("the certificate is more than a device's: %+v", leaf)
	}
	// After the first handshake the code opens nothing any more.
	if status, _ := l.est(t, estCall{path: "simpleenroll", user: "A1", code: code, body: csrOf(t, newKey(t), x509.CertificateRequest{})}); status != http.StatusUnauthorized {
		t.Errorf("a spent code: %d", status)
	}
}

// TestGuessingCodes: one source that guesses is slowed down, whatever the
// serial numbers; who comes from elsewhere, the guessed device above all, is
// not locked out (CC 1.13, 1.14). Existing and made-up devices get the same
// answer.
func TestGuessingCodes(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	code := l.add(t, "target")
	wrong := l.add(t, "another") // well-formed, and not the target's
	answers := map[string]bool{}
	throttled, tries := 0, 0
	for i := range 60 {
		id := "target"
		if i%2 == 1 {
			id = fmt.Sprintf("made-up-%d", i)
		}
		tries++
		status, answer := l.est(t, estCall{path: "simpleenroll", user: id, code: wrong, body: csrOf(t, newKey(t), x509.CertificateRequest{}), from: "127.0.0.2"})
		switch status {
		case http.StatusUnauthorized:
			answers[answer] = true
		case http.StatusTooManyRequests:
			throttled++
		default:
			t.Fatalf("try %d: %d: %s", i, status, answer)
		}
	}
	if throttled < tries/2 {
		t.Errorf("%d of %d guesses throttled", throttled, tries)
	}
	if len(answers) != 1 {
		t.Errorf("existing and made-up devices can be told apart: %v", answers)
	}
	// While it is throttled, not even the right code is looked at from there...
	if status, _ := l.est(t, estCall{path: "simpleenroll", user: "target", code: code, body: csrOf(t, newKey(t), x509.CertificateRequest{}), from: "127.0.0.2"}); status != http.StatusTooManyRequests {
		t.Errorf("the right code from the guesser's address: %d", status)
	}
	// ...and from anywhere else it is good.
	if status, answer := l.est(t, estCall{path: "simpleenroll", user: "target", code: code, body: csrOf(t, newKey(t), x509.CertificateRequest{}), from: "127.0.0.3"}); status != http.StatusOK {
		t.Errorf("the device was locked out by a stranger: %d: %s", status, answer)
	}
}

// TestCodesAreSecretsOfOneUnit: 1,000 codes are all distinct and long, and
// nothing on the disk is or leads back to one of them (CC 1.9, 1.12).
func TestCodesAreSecretsOfOneUnit(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	seen := map[string]bool{}
	for i := range 1000 {
		code := l.add(t, core.DeviceID(fmt.Sprintf("unit-%d", i)))
		if seen[code] {
			t.Fatalf("code %d was given before", i)
		}
		seen[code] = true
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	var disk []byte
	err := filepath.Walk(l.home, func(p string, st os.FileInfo, err error) error {
		if err != nil || !st.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		disk = append(disk, b...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all := string(disk) + l.log.String()
	n := 0
	for code := range seen {
		bare := strings.NewReplacer("-", "", " ", "").Replace(code)
		if len(bare)*5 < 128 {
			t.Fatalf("%q has fewer than 128 bits", code)
		}
		if n++; n > 100 {
			continue // a hundred searches through all of the disk are enough
		}
		for _, form := range []string{code, bare, strings.ToLower(bare), bare[:16], base64.StdEncoding.EncodeToString([]byte(bare))} {
			if strings.Contains(all, form) {
				t.Fatalf("a code lies on the disk or in the log as %q", form)
			}
		}
	}
	if !strings.Contains(all, "unit-999") {
		t.Error("the search does not even find a serial number: it proves nothing")
	}
}
