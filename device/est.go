package device

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/hawser-iot/hawser/internal/wire"
)

// est speaks Enrolment over Secure Transport (RFC 7030, clarified by RFC 8951)
// with the server.
type est struct {
	addr   string // host:port
	name   string // in the server's certificate
	serial string
	trust  *trust
	keys   Keys
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
}

// passing is an answer that may be another one later.
type passing struct {
	after time.Duration // what the server asked for; 0: nothing
	err   error
}

func (p *passing) Error() string { return p.err.Error() }
func (p *passing) Unwrap() error { return p.err }

// enrol gets the first certificate: HTTP Basic with the serial number and the
// enrolment code, over TLS that verified the server (RFC 7030 §4.2.1, §3.2.3).
func (e *est) enrol(ctx context.Context, code string) (*privateKey, []*x509.Certificate, error) {
	if code == "" || len(code) > wire.MaxCode || strings.ContainsAny(code, "\r\n\x00") {
		return nil, nil, fault(BadConfig, nil, "give the code that the server made for this serial number", "the enrolment code is empty or no code")
	}
	return e.certify(ctx, wire.ESTEnrol, nil, func(r *http.Request) { r.SetBasicAuth(e.serial, code) })
}

// reenrol gets the next certificate, for a new key, on the strength of the
// present one (RFC 7030 §4.2.2). The present one may have expired: the server
// decides (design, section 5, Identity).
func (e *est) reenrol(ctx context.Context, id *identity) (*privateKey, []*x509.Certificate, error) {
	return e.certify(ctx, wire.ESTReenrol, id, func(*http.Request) {})
}

// errUnneeded says that there was nothing to renew after all.
var errUnneeded = errors.New("the certificate has not run out")

// reenrolIf is reenrol, unless over, which is asked once the server's own
// certificate has said how late it is at least, finds that the present one has
// not run out: then it fails with errUnneeded.
func (e *est) reenrolIf(ctx context.Context, id *identity, over func() bool) (*privateKey, []*x509.Certificate, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	key, chain, err := e.certify(ctx, wire.ESTReenrol, id, func(*http.Request) {
		if !over() {
			cancel(errUnneeded)
		}
	})
	if err != nil && errors.Is(context.Cause(ctx), errUnneeded) {
		err = errUnneeded
	}
	return key, chain, err
}

func (e *est) certify(ctx context.Context, path string, id *identity, auth func(*http.Request)) (*privateKey, []*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, wire.ESTTimeout)
	defer cancel()
	client := e.client(id)
	defer client.CloseIdleConnections()
	// First the authorities: an answer may hold the leaf alone (RFC 7030
	// §4.2.3), and the chain above it is needed to check it and to present it.
	ca, err := e.caCerts(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	key, err := newKey(e.keys)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: e.serial}, SignatureAlgorithm: x509.ECDSAWithSHA256,
	}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	body := base64.StdEncoding.EncodeToString(csr)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+e.addr+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", wire.PKCS10Type)
	req.Header.Set("Content-Transfer-Encoding", wire.ESTEncoding)
	auth(req)
	certs, err := e.ask(client, req)
	if err != nil {
		return nil, nil, err
	}
	e.trust.extra = ca
	chain, err := e.trust.checkIssued(e.serial, key, certs)
	return key, chain, err
}

// caCerts asks for the authorities (RFC 7030 §4.1) and keeps those under the
// pinned roots.
func (e *est) caCerts(ctx context.Context, client *http.Client) ([]*x509.Certificate, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+e.addr+wire.ESTCACerts, nil)
	if err != nil {
		return nil, err
	}
	certs, err := e.ask(client, req)
	if err != nil {
		return nil, err
	}
	return e.trust.learn(certs), nil
}

func (e *est) client(id *identity) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: e.dial, TLSClientConfig: e.trust.config(e.name, e.addr, id),
			TLSHandshakeTimeout: handshakeTimeout, ForceAttemptHTTP2: false,
			MaxResponseHeaderBytes: 16 << 10, DisableCompression: true,
		},
		// A redirect would lead away from the server that was verified.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (e *est) ask(client *http.Client, req *http.Request) ([]*x509.Certificate, error) {
	resp, err := client.Do(req)
	if err != nil {
		if f := dialFault(e.addr, err); f.Reason != ServerUnreachable {
			return nil, f
		}
		return nil, &passing{err: dialFault(e.addr, err)}
	}
	defer resp.Body.Close() // read to the end or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxESTBody+1))
	if err != nil {
		return nil, &passing{err: dialFault(e.addr, err)}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, e.refusal(resp, body, req.URL.Path)
	}
	if len(body) > wire.MaxESTBody {
		return nil, fault(ServerConfused, nil, "", "server %s answers %s with more than %d bytes", e.addr, req.URL.Path, wire.MaxESTBody)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != wire.PKCS7Type {
		return nil, fault(ServerConfused, err, "check that the address is the EST port", "server %s answers %s with content type %q", e.addr, req.URL.Path, resp.Header.Get("Content-Type"))
	}
	certs, err := parseCertsOnly(body)
	if err != nil {
		return nil, fault(ServerConfused, err, "", "server %s answers %s with something that is no set of certificates", e.addr, req.URL.Path)
	}
	return certs, nil
}

// refusal is what an HTTP status other than 200 means to the device.
func (e *est) refusal(resp *http.Response, body []byte, path string) error {
	said := plain(body)
	status := resp.StatusCode
	switch {
	case status == http.StatusAccepted, status == http.StatusTooManyRequests, status >= 500:
		err := fault(ServerBusy, nil, "", "server %s says %s to %s: %s", e.addr, resp.Status, path, said)
		return &passing{after: retryAfter(resp.Header.Get("Retry-After")), err: err}
	case path == wire.ESTReenrol:
		return fault(IdentityRefused, nil, "ask the maker whether the device was revoked", "server %s refuses to renew: %s: %s", e.addr, resp.Status, said)
	case path == wire.ESTEnrol:
		return fault(EnrolmentRefused, nil, "check the serial number and the code; a code works once, for its own serial number",
			"server %s refuses to enrol: %s: %s", e.addr, resp.Status, said)
	default:
		return fault(ServerConfused, nil, "check that the address is the EST port", "server %s says %s to %s", e.addr, resp.Status, path)
	}
}

// retryAfter bounds what a server may ask for (RFC 9110 §10.2.3, in seconds).
func retryAfter(h string) time.Duration {
	n, err := strconv.Atoi(h)
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}

// plain is the beginning of a text from outside, fit for a log line.
func plain(b []byte) string {
	b = b[:min(len(b), 200)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, strings.TrimSpace(string(b)))
}

// parseCertsOnly reads a certs-only PKCS#7 (RFC 5272 §4.1, a degenerate
// SignedData) in base64, with or without line breaks.
func parseCertsOnly(body []byte) (certs []*x509.Certificate, err error) {
	der := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	body = bytes.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, body)
	n, err := base64.StdEncoding.Decode(der, body)
	if err != nil {
		return nil, err
	}
	// The parser is another's; what it does with hostile bytes must not end the
	// firmware.
	defer func() {
		if r := recover(); r != nil {
			certs, err = nil, fmt.Errorf("parse PKCS#7: %v", r)
		}
	}()
	p7, err := pkcs7.Parse(der[:n])
	if err != nil {
		return nil, err
	}
	if len(p7.Certificates) == 0 || len(p7.Certificates) > maxCerts {
		return nil, fmt.Errorf("%d certificates", len(p7.Certificates))
	}
	return p7.Certificates, nil
}

// passes reports whether err may be gone with the next try, and after how long
// at least.
func passes(err error) (time.Duration, bool) {
	if p, ok := errors.AsType[*passing](err); ok {
		return p.after, true
	}
	return 0, false
}
