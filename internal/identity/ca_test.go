package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

func fixedClock() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func testCA(t testing.TB, env core.Environment) (*CA, string) {
	t.Helper()
	base := t.TempDir()
	o := CAOptions{Environment: env, RootDir: filepath.Join(base, "root"), Dir: filepath.Join(base, "ca"), Now: fixedClock}
	if err := CreateCA(o); err != nil {
		t.Fatal(err)
	}
	ca, err := OpenCA(OpenOptions{Environment: env, Dir: o.Dir, Now: fixedClock})
	if err != nil {
		t.Fatal(err)
	}
	return ca, base
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestDeviceCertificateIsWhatTheDesignSays(t *testing.T) {
	ca, _ := testCA(t, core.Test)
	key := p256(t)
	serial := newSerial()
	c, err := ca.issueDevice("aria-thermostat", "A1", serial, 30*24*time.Hour, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	now := fixedClock()
	if got := c.URIs[0].String(); len(c.URIs) != 1 || got != "urn:hawser:test:device:aria-thermostat:A1" {
		t.Errorf("URI names: %v", c.URIs)
	}
	if len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || c.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("usages: %v %v", c.ExtKeyUsage, c.KeyUsage)
	}
	if c.IsCA || len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses) > 0 {
		t.Error("the certificate is a CA or has other names")
	}
	if got, want := c.NotAfter, now.Add(30*24*time.Hour); !got.Equal(want) {
		t.Errorf("NotAfter %s, want %s", got, want)
	}
	if got, want := c.NotBefore, now.Add(-5*time.Minute); !got.Equal(want) {
		t.Errorf("NotBefore %s, want %s", got, want)
	}
	if len(c.SubjectKeyId) != 20 || string(c.AuthorityKeyId) != string(ca.operational().cert.SubjectKeyId) {
		t.Error("key identifiers are missing or wrong")
	}
	if got, ok := serialOf(c.SerialNumber); !ok || got != serial {
		t.Errorf("serial %x, want %s", c.SerialNumber, serial)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: ca.ClientPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("verify by the operational intermediate: %v", err)
	}
	roots, mid := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(ca.root)
	mid.AddCert(ca.operational().cert)
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mid, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("verify by the root: %v", err)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mid, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a device's certificate serves as a server's")
	}
}

func TestSerialsArePositiveAndDistinct(t *testing.T) {
	seen := map[Serial]bool{}
	for range 20000 {
		s := newSerial()
		if s[0] == 0 || s[0] > 0x7f || seen[s] {
			t.Fatalf("serial %s is short, negative or repeated", s)
		}
		seen[s] = true
		if back, ok := serialOf(s.int()); !ok || back != s {
			t.Fatalf("serial %s reads back as %s", s, back)
		}
	}
}

// countingSigner is the real key, counted.
type countingSigner struct {
	crypto.Signer
	signed int
}

func (s *countingSigner) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	s.signed++
	return s.Signer.Sign(r, digest, o)
}

// TestBadProfileIsStopped gives the linter certificates that must not be, and
// holds that the real key never signs one.
func TestBadProfileIsStopped(t *testing.T) {
	ca, _ := testCA(t, core.Test)
	key := &countingSigner{Signer: ca.operational().signer}
	good := func() *x509.Certificate {
		return deviceTemplate(core.Test, "p", "A1", newSerial(), fixedClock(), 30*24*time.Hour)
	}
	urn, _ := url.Parse("urn:hawser:test:device:p:B2")
	for _, c := range []struct {
		name string
		bend func(*x509.Certificate)
	}{
		{"a CA", func(t *x509.Certificate) { t.IsCA = true; t.KeyUsage |= x509.KeyUsageCertSign }},
		{"a CA by usage only", func(t *x509.Certificate) { t.KeyUsage |= x509.KeyUsageCertSign }},
		{"a server", func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }},
		{"client and server", func(t *x509.Certificate) { t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }},
		{"any usage", func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }},
		{"no usage", func(t *x509.Certificate) { t.ExtKeyUsage = nil }},
		{"two devices", func(t *x509.Certificate) { t.URIs = append(t.URIs, urn) }},
		{"another device by common name", func(t *x509.Certificate) { t.Subject = pkix.Name{CommonName: "B2"} }},
		{"an organisation", func(t *x509.Certificate) { t.Subject.Organization = []string{"Foreign"} }},
		{"a host name", func(t *x509.Certificate) { t.DNSNames = []string{"iot.example"} }},
		{"an address", func(t *x509.Certificate) { t.IPAddresses = []net.IP{{192, 0, 2, 1}} }},
		{"no name", func(t *x509.Certificate) { t.URIs = nil }},
		{"no basic constraints", func(t *x509.Certificate) { t.BasicConstraintsValid = false }},
		{"a short serial", func(t *x509.Certificate) { t.SerialNumber = big.NewInt(7) }},
		{"a long serial", func(t *x509.Certificate) { t.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 150) }},
		{"an end before its beginning", func(t *x509.Certificate) { t.NotAfter = t.NotBefore.Add(-time.Hour) }},
		{"a life of two years", func(t *x509.Certificate) { t.NotAfter = t.NotBefore.Add(2 * 365 * 24 * time.Hour) }},
		{"an unknown extension", func(t *x509.Certificate) {
			t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: []byte{5, 0}}}
		}},
		{"a broken hash", func(t *x509.Certificate) { t.SignatureAlgorithm = x509.ECDSAWithSHA1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl := good()
			c.bend(tmpl)
			if der, err := ca.lint.sign(kindDevice, tmpl, ca.operational().cert, p256(t).Public(), key); err == nil {
				t.Errorf("issued %d bytes", len(der))
			} else {
				t.Log(err)
			}
		})
	}
	if key.signed != 0 {
		t.Errorf("the real key signed %d bad certificates", key.signed)
	}
	if _, err := ca.lint.sign(kindDevice, good(), ca.operational().cert, p256(t).Public(), key); err != nil || key.signed != 1 {
		t.Errorf("a good one: %v, signed %d times", err, key.signed)
	}
}

func TestLintsThemselvesBite(t *testing.T) {
	ca, _ := testCA(t, core.Test)
	// Our own comparison passes over it, RFC 5280's lints do not.
	tmpl := serverTemplate([]string{"iot..example"}, nil, fixedClock())
	_, err := ca.lint.sign(kindServer, tmpl, ca.server().cert, p256(t).Public(), ca.server().signer)
	if err == nil || !strings.HasPrefix(err.Error(), "lint server certificate: e_") {
		t.Errorf("a host name with an empty label: %v", err)
	}
	t.Log(err)
}

func TestServerIntermediateCannotNameADevice(t *testing.T) {
	ca, _ := testCA(t, core.Test)
	key := p256(t)
	tmpl := deviceTemplate(core.Test, "p", "A1", newSerial(), fixedClock(), 30*24*time.Hour)
	tmpl.ExtKeyUsage = nil // or the usage alone would refuse it
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.server().cert, key.Public(), ca.server().signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots, mid := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(ca.root)
	mid.AddCert(ca.server().cert)
	_, err = c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mid, CurrentTime: fixedClock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err == nil || !strings.Contains(err.Error(), "constraints") {
		t.Errorf("a device named by the server's branch: %v", err)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: ca.ClientPool(), Intermediates: mid, CurrentTime: fixedClock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("the devices' pool takes a certificate of the server's branch")
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is missing: its verdict on the name constraint is not checked")
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"root.pem": certPEM(ca.root.Raw), "mid.pem": certPEM(ca.server().cert.Raw), "leaf.pem": certPEM(der)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := opensslVerify(dir, "-CAfile", "root.pem", "-untrusted", "mid.pem", "leaf.pem")
	if err == nil {
		t.Errorf("openssl takes a device named by the server's branch: %s", out)
	}
}

// opensslVerify runs openssl verify at the tests' fixed time.
func opensslVerify(dir string, args ...string) (string, error) {
	cmd := exec.Command("openssl", append([]string{"verify", "-x509_strict", "-attime", "1795348800"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestOpenSSLAgrees asks a second implementation about everything we issue.
func TestOpenSSLAgrees(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is missing: no second opinion on our certificates")
	}
	ca, _ := testCA(t, core.Live)
	dev, err := ca.issueDevice("p", "A-1.x_2", newSerial(), 400*24*time.Hour, p256(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	srv, err := NewServerCertificate(ca, []string{"localhost", "127.0.0.1", "::1", "iot.northwind.example"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{
		"root.pem": certPEM(ca.root.Raw), "op.pem": certPEM(ca.operational().cert.Raw), "srvca.pem": certPEM(ca.server().cert.Raw),
		"dev.pem": certPEM(dev.Raw), "srv.pem": certPEM(srv.Leaf().Raw),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		good bool
		args []string
	}{
		{"device as client", true, []string{"-CAfile", "root.pem", "-untrusted", "op.pem", "-purpose", "sslclient", "dev.pem"}},
		{"device as server", false, []string{"-CAfile", "root.pem", "-untrusted", "op.pem", "-purpose", "sslserver", "dev.pem"}},
		{"server as server", true, []string{"-CAfile", "root.pem", "-untrusted", "srvca.pem", "-purpose", "sslserver", "-verify_hostname", "iot.northwind.example", "srv.pem"}},
		{"server by address", true, []string{"-CAfile", "root.pem", "-untrusted", "srvca.pem", "-purpose", "sslserver", "-verify_ip", "127.0.0.1", "srv.pem"}},
		{"server as client", false, []string{"-CAfile", "root.pem", "-untrusted", "srvca.pem", "-purpose", "sslclient", "srv.pem"}},
		{"server by another name", false, []string{"-CAfile", "root.pem", "-untrusted", "srvca.pem", "-purpose", "sslserver", "-verify_hostname", "other.example", "srv.pem"}},
		{"device without its intermediate", false, []string{"-CAfile", "root.pem", "-purpose", "sslclient", "dev.pem"}},
		{"intermediate", true, []string{"-CAfile", "root.pem", "op.pem"}},
	} {
		out, err := opensslVerify(dir, c.args...)
		if (err == nil) != c.good {
			t.Errorf("%s: accepted %t, want %t: %s", c.name, err == nil, c.good, out)
		}
	}
}

func TestCAFolder(t *testing.T) {
	_, base := testCA(t, core.Test)
	dir := filepath.Join(base, "ca")
	open := func(env core.Environment) error {
		_, err := OpenCA(OpenOptions{Environment: env, Dir: dir, Now: fixedClock})
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, fileRootKey)); err == nil {
		t.Error("the root's key lies in the working folder")
	}
	for _, name := range []string{fileOperationalKey, fileServerKey} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", name, st.Mode(), err)
		}
	}
	if err := os.RemoveAll(filepath.Join(base, "root")); err != nil { // the root goes to a safe
		t.Fatal(err)
	}
	if err := open(core.Test); err != nil {
		t.Errorf("without the root's folder: %v", err)
	}
	for _, c := range []struct {
		name, reason string
		spoil        func()
	}{
		{"another environment", "foreign-environment", func() {}},
		{"key readable by others", "ca-file-open", func() { chmod(t, filepath.Join(dir, fileOperationalKey), 0o440) }},
		{"folder writable by others", "ca-folder-open", func() { chmod(t, filepath.Join(dir, fileOperationalKey), 0o400); chmod(t, dir, 0o777) }},
		{"the root's key in it", "root-key-near", func() {
			chmod(t, dir, 0o700)
			if err := os.WriteFile(filepath.Join(dir, fileRootKey), nil, 0o400); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		c.spoil()
		env := core.Test
		if c.reason == "foreign-environment" {
			env = core.Live
		}
		if got := core.ReasonOf(open(env)); got != c.reason {
			t.Errorf("%s: reason %q, want %q", c.name, got, c.reason)
		}
	}
	if err := os.Remove(filepath.Join(dir, fileRootKey)); err != nil {
		t.Fatal(err)
	}
	swap := filepath.Join(dir, "swap")
	for _, mv := range [][2]string{{fileOperationalKey, "swap"}, {fileServerKey, fileOperationalKey}, {"swap", fileServerKey}} {
		if err := os.Rename(filepath.Join(dir, mv[0]), filepath.Join(dir, mv[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(core.Test); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("keys exchanged: %v (%s)", err, swap)
	}
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func TestCreateCARefuses(t *testing.T) {
	base := t.TempDir()
	make := func(root, dir string) error {
		return CreateCA(CAOptions{Environment: core.Test, RootDir: filepath.Join(base, root), Dir: filepath.Join(base, dir), Now: fixedClock})
	}
	if err := make("ca/root", "ca"); core.ReasonOf(err) != "root-inside" {
		t.Errorf("root inside: %v", err)
	}
	if err := make("x", "x"); core.ReasonOf(err) != "root-inside" {
		t.Errorf("one folder: %v", err)
	}
	if err := make("root", "ca"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(base, "root", fileRootKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := make("root", "ca2"); core.ReasonOf(err) != "ca-exists" {
		t.Errorf("made a second time: %v", err)
	}
	after, err := os.ReadFile(filepath.Join(base, "root", fileRootKey))
	if err != nil || string(before) != string(after) {
		t.Errorf("the root was touched: %v", err)
	}
}

func TestIntermediateAboutToEnd(t *testing.T) {
	ca, _ := testCA(t, core.Test)
	late := ca.operational().cert.NotAfter.Add(-29 * 24 * time.Hour)
	ca.now = func() time.Time { return late }
	if _, err := ca.issueDevice("p", "A1", newSerial(), 30*24*time.Hour, p256(t).Public()); core.ReasonOf(err) != "ca-expires" {
		t.Errorf("certificate beyond its issuer's end: %v", err)
	}
	if _, err := ca.issueDevice("p", "A1", newSerial(), 28*24*time.Hour, p256(t).Public()); err != nil {
		t.Errorf("certificate within: %v", err)
	}
}

func TestServerCertificateRenewsItself(t *testing.T) {
	ca, _ := testCA(t, core.Test)
	now := fixedClock()
	ca.now = func() time.Time { return now }
	s, err := NewServerCertificate(ca, []string{"localhost", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(serverRenewAfter - time.Second)
	if again, _ := s.GetCertificate(nil); again != first {
		t.Error("renewed too early")
	}
	now = now.Add(2 * time.Second)
	second, err := s.GetCertificate(nil)
	if err != nil || second == first {
		t.Fatalf("not renewed at half its life: %v", err)
	}
	if !now.Before(first.Leaf.NotAfter) {
		t.Error("renewed after the end")
	}
	if second.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(first.Leaf.PublicKey) {
		t.Error("the key is the old one")
	}
	// Whatever the year, the server's certificate never outlives its issuer.
	now = ca.server().cert.NotAfter.Add(-time.Hour)
	last, err := s.GetCertificate(nil)
	if err != nil || last.Leaf.NotAfter.After(ca.server().cert.NotAfter) {
		t.Errorf("near the issuer's end: %v, %v", last.Leaf.NotAfter, err)
	}
	now = ca.server().cert.NotAfter.Add(time.Hour)
	if _, err := s.GetCertificate(nil); err == nil {
		t.Error("a certificate after the issuer's end")
	}
}

func TestServerNames(t *testing.T) {
	ca, _ := testCA(t, core.Test)
	for _, bad := range [][]string{nil, {""}, {"https://x"}, {"x:8443"}, {"*.example"}, {"-x"}, {"a..b"}, {"localhost", "ü"}, {"fe80::1%eth0"}} {
		if _, err := NewServerCertificate(ca, bad); core.ReasonOf(err) != "server-names" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// BenchmarkIssue is lint and signature of one device certificate.
func BenchmarkIssue(b *testing.B) {
	ca, _ := testCA(b, core.Test)
	key := p256(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ca.issueDevice("p", "A1", newSerial(), 30*24*time.Hour, key.Public()); err != nil {
			b.Fatal(err)
		}
	}
}
