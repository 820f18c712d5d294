package services

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// Poster posts pages to services. It dials public addresses only, follows no
// redirection, and goes through no proxy: an address in the register must not
// become a way into the maker's own network.
type Poster struct {
	// Secret is the key of a service's signatures.
	Secret func(service string) []byte
	Now    func() time.Time

	http *http.Client
}

const postTime = 10 * time.Second

// NewPoster makes a Poster. roots is whom it trusts; nil: the system's.
// private lets it dial private addresses, too.
func NewPoster(secret func(string) []byte, roots *x509.CertPool, private bool, now func() time.Time) *Poster {
	d := &net.Dialer{Timeout: postTime, Control: func(_, address string, _ syscall.RawConn) error {
		// The address that is dialled, after the name was looked up: a name
		// that changes its mind gains nothing.
		a, err := netip.ParseAddrPort(address)
		if err != nil || !private && !public(a.Addr().Unmap()) {
			return core.E(core.Denied, "private-address", "the address is not a public one", "a key of the configuration allows private ones: insecure_private_webhooks")
		}
		return nil
	}}
	return &Poster{Secret: secret, Now: now, http: &http.Client{
		Timeout:       postTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: nil, DialContext: d.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: postTime, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, DisableCompression: true,
			MaxResponseHeaderBytes: 16 << 10,
		},
	}}
}

// public reports whether an address is one of the Internet's, and of nobody's
// own network, link, host or test (RFC 6890).
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Zone() != "" {
		return false
	}
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2001:db8::/32", "2002::/16",
	} {
		if netip.MustParsePrefix(p).Contains(a) {
			return false
		}
	}
	return true
}

// Signature is what a post is signed with: HMAC-SHA-256 over the time, a dot
// and the body.
func Signature(secret []byte, at int64, body []byte) string {
	m := hmac.New(sha256.New, secret)
	_, _ = fmt.Fprintf(m, "%d.", at) // a hash takes everything
	_, _ = m.Write(body)
	return "v1=" + hex.EncodeToString(m.Sum(nil))
}

// Post sends one page. Any 2xx says that the service has it.
func (p *Poster) Post(ctx context.Context, to, name string, product core.ProductID, page *readers.Page) error {
	if err := readers.CheckWebhook(to); err != nil {
		return err
	}
	body, err := lines(page)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post to %s: %w", name, err)
	}
	at := p.Now().Unix()
	h := req.Header
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("User-Agent", "hawser")
	h.Set("Hawser-Service", name)
	h.Set("Hawser-Product", string(product))
	h.Set("Hawser-Timestamp", strconv.FormatInt(at, 10))
	h.Set("Hawser-Signature", Signature(p.Secret(name), at, body))
	resp, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("post to %s: %w", name, err)
	}
	defer func() { _ = resp.Body.Close() }() // nothing of it is wanted
	_, _ = io.CopyN(io.Discard, resp.Body, 16<<10)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("post to %s: it answered %s", name, resp.Status)
	}
	return nil
}
