package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/kit"
)

// liar is an enrolment door that answers whatever it is told to, under a
// certificate that the kit trusts: the worst that a server can do to a unit.
type liar struct {
	t      *testing.T
	l      net.Listener
	roots  []byte
	ca     *x509.Certificate
	key    *ecdsa.PrivateKey
	answer atomic.Pointer[func(net.Conn, *ecdsa.PublicKey)] // of the next connection
}

func (d *liar) say(f func(net.Conn, *ecdsa.PublicKey)) { d.answer.Store(&f) }

func newLiar(t *testing.T) *liar {
	t.Helper()
	d := &liar{t: t}
	var err error
	if d.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "liar"}, DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, d.key.Public(), d.key)
	if err != nil {
		t.Fatal(err)
	}
	if d.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	d.roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	d.l, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: d.key}}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := d.l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			d.serve(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = d.l.Close(); <-done })
	return d
}

func (d *liar) serve(c net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16)) // what is cut short parses as nothing
	csr, err := base64.StdEncoding.DecodeString(string(b))
	if err != nil {
		return
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return
	}
	// A server of another test in this process asks every door in it.
	if pub, ok := req.PublicKey.(*ecdsa.PublicKey); ok && d.answer.Load() != nil {
		(*d.answer.Load())(c, pub)
	}
}

// certificate is what an honest door would answer for a key, as PKCS#7.
func (d *liar) certificate(pub any) []byte {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "A1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, d.ca, pub, d.key)
	if err != nil {
		d.t.Error(err)
		return nil
	}
	p7, err := pkcs7.DegenerateCertificate(der)
	if err != nil {
		d.t.Error(err)
	}
	return p7
}

// lies are malformed and malicious answers; der is the honest PKCS#7.
func lies(der, other []byte) map[string]string {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/pkcs7-mime; smime-type=certs-only\r\n"
	whole := func(body string) string { return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", ok, len(body), body) }
	b64 := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	out := map[string]string{
		"nothing":                 "",
		"a line without an end":   "HTTP/1.1 200",
		"no HTTP":                 strings.Repeat("\x00\xff", 300),
		"no length":               ok + "\r\n" + b64(der),
		"a length too small":      ok + "Content-Length: 10\r\n\r\n" + b64(der),
		"a length too large":      ok + "Content-Length: 100000\r\n\r\n" + b64(der),
		"a negative length":       ok + "Content-Length: -1\r\n\r\n" + b64(der),
		"a length beyond all":     ok + "Content-Length: 99999999999999999999999999\r\n\r\n" + b64(der),
		"chunks":                  ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nAAAAA\r\n0\r\n\r\n",
		"another type":            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
		"no type":                 fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b64(der)), b64(der)),
		"a redirect":              "HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n",
		"an empty body":           whole(""),
		"no base64":               whole("!!!! not base64 !!!!"),
		"base64 cut":              whole(b64(der)[:len(b64(der))-3]),
		"a zero in the body":      whole(b64(der)[:100] + "\x00" + b64(der)[101:]),
		"somebody else's key":     whole(b64(other)),
		"bytes after":             whole(b64(append(der[:len(der):len(der)], 0))),
		"an endless header":       "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200_000),
		"an endless body":         ok + "Content-Length: 1000000000\r\n\r\n" + strings.Repeat("QUFB", 100_000),
		"a large body":            whole(strings.Repeat("QUFB", 30_000)),
		"later, and never":        "HTTP/1.1 503 No\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n",
		"a refusal with controls": "HTTP/1.1 401 No\r\nContent-Length: 400\r\n\r\n" + strings.Repeat("\x1b[2J%s%n\x07\xff", 40),
		"an indefinite length":    whole(b64(append([]byte{0x30, 0x80}, der[4:]...))),
		"a length of 4 GB":        whole(b64(append([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, der[4:]...))),
		"deep nesting":            whole(b64(bytes.Repeat([]byte{0x30, 0x80}, 1000))),
	}
	for n := 0; n < len(der); n += max(1, len(der)/24) { // cut everywhere
		out[fmt.Sprintf("cut at %d", n)] = whole(b64(der[:n]))
	}
	for n := 0; n < len(der); n += max(1, len(der)/40) { // a bit turned everywhere
		b := bytes.Clone(der)
		b[n] ^= 0x81
		out[fmt.Sprintf("turned at %d", n)] = whole(b64(b))
	}
	return out
}

// TestKitHostileDoor: whatever the enrolment door answers, the unit's program
// says so and ends in order, under the sanitizers and within its time; it keeps
// nothing that is not a certificate for its own key.
func TestKitHostileDoor(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("some hundred processes; not in -short")
	}
	for _, c := range []struct{ platform, folder, header, pkg string }{
		{"zephyr", "host", "mbedtls/ssl.h", "libmbedtls-dev"},
		{"linux", "", "MQTTClient.h", "libpaho-mqtt-dev, libssl-dev"},
	} {
		t.Run(c.platform, func(t *testing.T) {
			header(t, c.header, c.pkg)
			d := newLiar(t)
			_, port, err := net.SplitHostPort(d.l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := declaration.Parse("kit.yaml", []byte(kitProduct("kit-sensor-old", true)))
			if err != nil {
				t.Fatal(err)
			}
			policy, err := declaration.Compile(parsed)
			if err != nil {
				t.Fatal(err)
			}
			door := kit.Door{Environment: core.Test, Host: "localhost", MQTTPort: 1, ESTHost: "localhost", Roots: d.roots, SmallTLS: true}
			if _, err := fmt.Sscan(port, &door.ESTPort); err != nil {
				t.Fatal(err)
			}
			files, err := kit.Render(kit.Facts{Policy: policy, Door: door}, kit.Platform(c.platform))
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "kit")
			if err := writeKit(dir, files); err != nil {
				t.Fatal(err)
			}
			build(t, filepath.Join(dir, c.folder), sanitizers)
			code := filepath.Join(dir, "code")
			if err := os.WriteFile(code, []byte("AAAAA-AAAAA\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			enrol := func(name string, must, may bool) {
				t.Helper()
				state := filepath.Join(t.TempDir(), "state")
				ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
				defer cancel()
				out, _ := exec.CommandContext(ctx, filepath.Join(dir, c.folder, "unit"), "--serial", "A1", "--state", state, "--code-file", code, "--once").CombinedOutput()
				text := string(out) // how it ended stands in it
				enrolled := strings.Contains(text, "enrolled\n")
				if ctx.Err() != nil || strings.Contains(text, "Sanitizer") || strings.Contains(text, "runtime error") || !enrolled && !strings.Contains(text, "enrolment failed") {
					t.Errorf("%s: %v\n%s", name, ctx.Err(), text)
				}
				if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
					t.Errorf("%s: the program repeats control characters: %q", name, text)
				}
				kept, _ := filepath.Glob(filepath.Join(state, "identity*")) // the pattern is good
				if enrolled && !may || !enrolled && (must || len(kept) > 0) {
					t.Errorf("%s: enrolled %t; kept %v\n%s", name, enrolled, kept, text)
				}
			}
			honest := func(c net.Conn, pub *ecdsa.PublicKey) {
				body := base64.StdEncoding.EncodeToString(d.certificate(pub))
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/pkcs7-mime\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			}
			d.say(honest) // or this test could not fail
			enrol("the truth", true, true)
			other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			foreign := d.certificate(other.Public())
			for name := range lies(foreign, foreign) {
				d.say(func(c net.Conn, pub *ecdsa.PublicKey) {
					_, _ = io.WriteString(c, lies(d.certificate(pub), foreign)[name]) // the client hangs up early on what is endless
				})
				// A turned bit may lie in a name or in the signature, which a
				// unit does not check of its own certificate.
				enrol(name, false, strings.HasPrefix(name, "turned"))
			}
		})
	}
}
