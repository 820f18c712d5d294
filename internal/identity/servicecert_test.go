package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

func requestOf(t *testing.T, key *ecdsa.PrivateKey, tmpl x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestServiceCertificates (CC 3.4): a service gets a certificate in its own
// name for its own key, and nobody's else; no device's name is one, and no
// service's certificate is a device.
func TestServiceCertificates(t *testing.T) {
	f := newFixture(t)
	a, err := identity.NewServiceAuthority(f.ca)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	leaf, err := a.Issue("app-backend", requestOf(t, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "app-backend"}}))
	if err != nil {
		t.Fatal(err)
	}
	if name, serial, ok := a.Named(leaf); !ok || name != "app-backend" || serial.IsZero() {
		t.Errorf("named %q %s %v", name, serial, ok)
	}
	if pub, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		t.Error("it is of another key")
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 31*24*time.Hour {
		t.Errorf("it lives for %s", life)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: f.ca.ClientPool(), CurrentTime: leaf.NotBefore.Add(15 * 24 * time.Hour), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("verify: %v", err)
	}
	if _, err := f.svc.Identify(t.Context(), leaf); core.ReasonOf(err) != "not-a-device" {
		t.Errorf("as a device: %v", err)
	}
	big, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, csr := range map[string][]byte{
		"another name":     requestOf(t, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "other"}}),
		"a device's name":  requestOf(t, key, x509.CertificateRequest{URIs: []*url.URL{identity.DeviceURN(core.Test, "thermostat", "app-backend")}}),
		"a server's name":  requestOf(t, key, x509.CertificateRequest{DNSNames: []string{"iot.example"}}),
		"a larger curve":   requestOf(t, big, x509.CertificateRequest{}),
		"nothing":          nil,
		"something behind": append(requestOf(t, key, x509.CertificateRequest{}), 0),
	} {
		if _, err := a.Issue("app-backend", csr); err == nil {
			t.Errorf("%s was certified", what)
		}
	}
	for _, name := range []string{"", "App", "-a", "a b", "a:b", "ä"} {
		if _, err := a.Issue(name, requestOf(t, key, x509.CertificateRequest{})); err == nil {
			t.Errorf("a service called %q was certified", name)
		}
	}
	other := *leaf
	other.URIs = []*url.URL{identity.ServiceURN(core.Live, "app-backend")}
	if _, _, ok := a.Named(&other); ok {
		t.Error("a service of another environment is named") // CC 3.11
	}
}
