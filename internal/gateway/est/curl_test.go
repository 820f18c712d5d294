package est_test

import (
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/wire"
)

// shell runs outside tools in one folder.
type shell struct {
	t   *testing.T
	dir string
}

func (s shell) run(name string, args ...string) string {
	s.t.Helper()
	out, err := s.try(name, args...)
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (s shell) try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s shell) write(name string, b []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s shell) read(name string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// request makes a key and a request with openssl, in base64 as base64(1)
// writes it, with line breaks.
func (s shell) request(name string, extra ...string) {
	s.t.Helper()
	s.run("openssl", append([]string{
		"req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", name + ".key", "-outform", "DER", "-out", name + ".csr",
	}, extra...)...)
	s.run("openssl", "base64", "-in", name+".csr", "-out", name+".b64")
}

// certificate unpacks an answer with openssl alone.
func (s shell) certificate(name string) string {
	s.t.Helper()
	der, err := base64.StdEncoding.DecodeString(string(s.read(name + ".p7")))
	if err != nil {
		s.t.Fatalf("answer %q: %v", s.read(name+".p7"), err)
	}
	s.write(name+".p7der", der)
	s.run("openssl", "pkcs7", "-inform", "DER", "-in", name+".p7der", "-print_certs", "-out", name+".pem")
	return s.run("openssl", "x509", "-in", name+".pem", "-noout", "-text")
}

// TestCurlEST is a whole life with tools that know nothing of us: curl speaks,
// openssl makes keys and judges certificates.
func TestCurlEST(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: no outside EST client", tool)
		}
	}
	d := newDoor(t)
	s := shell{t, t.TempDir()}
	s.write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.ca.Root().Raw}))
	code := d.add("A1")
	curl := func(args ...string) string {
		return s.run("curl", append([]string{"-sS", "--cacert", "root.pem", "--max-time", "20", "-w", "%{http_code} %{content_type}"}, args...)...)
	}
	const ok = "200 application/pkcs7-mime; smime-type=certs-only"

	if got := curl("-o", "ca.p7", d.url+wire.ESTCACerts); got != ok {
		t.Fatalf("cacerts: %s", got)
	}
	s.certificate("ca")
	if n := strings.Count(string(s.read("ca.pem")), "BEGIN CERTIFICATE"); n != 2 {
		t.Fatalf("cacerts: %d certificates", n)
	}

	// What a request should be like, read by openssl.
	if got := curl("-o", "attrs.b64", d.url+wire.ESTCSRAttrs); got != "200 application/csrattrs" {
		t.Errorf("csrattrs: %s", got)
	}
	s.run("openssl", "base64", "-d", "-A", "-in", "attrs.b64", "-out", "attrs.der")
	attrs := s.run("openssl", "asn1parse", "-inform", "DER", "-in", "attrs.der")
	for _, want := range []string{"id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"} {
		if !strings.Contains(attrs, want) {
			t.Errorf("csrattrs do not ask for %s:\n%s", want, attrs)
		}
	}

	s.request("first", "-subj", "/CN=A1")
	enrol := func(name, user, code string) string {
		return curl("--user", user+":"+code, "--data-binary", "@"+name+".b64", "-H", "Content-Type: application/pkcs10", "-o", name+".p7", d.url+wire.ESTEnrol)
	}
	if got := enrol("first", "A1", code); got != ok {
		t.Fatalf("simpleenroll: %s\n%s", got, s.read("first.p7"))
	}
	text := s.certificate("first")
	for _, want := range []string{
		"URI:urn:hawser:test:device:aria-thermostat:A1", "TLS Web Client Authentication", "CA:FALSE", "Digital Signature", "NIST CURVE: P-256", "ecdsa-with-SHA256",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the certificate has no %q:\n%s", want, text)
		}
	}
	for _, not := range []string{"TLS Web Server Authentication", "Certificate Sign", "CA:TRUE", "DNS:"} {
		if strings.Contains(text, not) {
			t.Errorf("the certificate has %q", not)
		}
	}
	verify := []string{"verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "ca.pem"}
	s.run("openssl", append(verify, "-purpose", "sslclient", "first.pem")...)
	if out, err := s.try("openssl", append(verify, "-purpose", "sslserver", "first.pem")...); err == nil {
		t.Errorf("openssl takes the device for a server: %s", out)
	}

	// Renewal with the certificate itself.
	s.request("second", "-subj", "/CN=A1")
	renew := func(name, with string) string {
		return curl("--cert", with+".pem", "--key", with+".key", "--data-binary", "@"+name+".b64", "-H", "Content-Type: application/pkcs10", "-o", name+".p7", d.url+wire.ESTReenrol)
	}
	if got := renew("second", "first"); got != ok {
		t.Fatalf("simplereenroll: %s\n%s", got, s.read("second.p7"))
	}
	s.certificate("second")
	s.run("openssl", append(verify, "-purpose", "sslclient", "second.pem")...)

	// What must not work, asked in the same words.
	for _, c := range []struct {
		name, want string
		try        func(name string) string
		extra      []string
	}{
		{"spent", "401", func(n string) string { return enrol(n, "A1", code) }, []string{"-subj", "/CN=A1"}},
		{"stranger", "401", func(n string) string { return enrol(n, "Z9", code) }, []string{"-subj", "/CN=Z9"}},
		{"anonymous", "403", func(n string) string {
			return curl("--data-binary", "@"+n+".b64", "-H", "Content-Type: application/pkcs10", "-o", n+".p7", d.url+wire.ESTReenrol)
		}, []string{"-subj", "/CN=A1"}},
		{"other", "400", func(n string) string { return renew(n, "first") }, []string{"-subj", "/CN=B2"}},
		{"ca", "400", func(n string) string { return renew(n, "first") }, []string{"-subj", "/CN=A1", "-addext", "basicConstraints=critical,CA:TRUE"}},
		{"host", "400", func(n string) string { return renew(n, "first") }, []string{"-subj", "/CN=A1", "-addext", "subjectAltName=DNS:iot.northwind.example"}},
		{"server", "400", func(n string) string { return renew(n, "first") }, []string{"-subj", "/CN=A1", "-addext", "extendedKeyUsage=serverAuth"}},
	} {
		s.request(c.name, c.extra...)
		if got := c.try(c.name); !strings.HasPrefix(got, c.want+" text/plain") {
			t.Errorf("%s: got %s, want %s\n%s", c.name, got, c.want, s.read(c.name+".p7"))
		}
	}
	s.run("openssl", "genrsa", "-out", "rsa.key", "2048")
	s.run("openssl", "req", "-new", "-key", "rsa.key", "-subj", "/CN=A1", "-outform", "DER", "-out", "rsa.csr")
	s.run("openssl", "base64", "-in", "rsa.csr", "-out", "rsa.b64")
	if got := renew("rsa", "first"); !strings.HasPrefix(got, "400 ") || !strings.Contains(string(s.read("rsa.p7")), "RSA") {
		t.Errorf("RSA: %s\n%s", got, s.read("rsa.p7"))
	}
	// A device that pins the root does not talk to anybody else.
	if out, err := s.try("curl", "-sS", "--cacert", "first.pem", d.url+wire.ESTCACerts); err == nil {
		t.Errorf("curl trusts a server of another root: %s", out)
	}
}
