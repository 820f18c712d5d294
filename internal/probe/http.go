package probe

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/wire"
)

const maxBodyBytes = 256 << 10

// client asks over HTTPS. Who answers was judged before (askCertificate): a
// chain that is not trusted must not hide what else is wrong.
func (p *run) client() *http.Client {
	return &http.Client{
		Timeout: oneTime,
		Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, addr string) (net.Conn, error) { return p.dial(ctx, addr) },
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// reply is what an HTTPS door answered.
type reply struct {
	status int
	head   http.Header
	body   []byte
}

func (p *run) fetch(q *http.Request) (*reply, error) {
	a, err := p.client().Do(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Body.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(a.Body, maxBodyBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxBodyBytes {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxBodyBytes)
	}
	return &reply{a.StatusCode, a.Header, b}, nil
}

func (p *run) get(ctx context.Context, address string) (*reply, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return p.fetch(q)
}

// Credential is a user name and a password that some product was sold with.
type Credential struct{ User, Password string }

// KnownDefaults are credentials that products are sold with, the ones that
// botnets try first (CC 1.9).
func KnownDefaults() []Credential {
	return []Credential{
		{"admin", "admin"},
		{"admin", "password"},
		{"admin", "1234"},
		{"admin", ""},
		{"root", "root"},
		{"root", "xc3511"},
		{"root", "vizxv"},
		{"user", "user"},
		{"guest", "guest"},
		{"ubnt", "ubnt"},
	}
}

// askEnrolment tries known defaults where devices get their certificates.
func (p *run) askEnrolment(ctx context.Context) {
	rows := []string{"1.9"}
	asked := fmt.Sprintf("a certificate for %d users and passwords that products are sold with", len(KnownDefaults()))
	csr, err := request()
	if err != nil {
		p.say("default-enrolment", rows, asked, Mute, "%v", err)
		return
	}
	refused, waits := 0, 0
	for _, c := range KnownDefaults() {
		q, err := EnrolRequest(ctx, p.base, c, csr)
		if err != nil {
			p.say("default-enrolment", rows, asked, Mute, "%v", plain(err))
			return
		}
		a, err := p.fetch(q)
		switch {
		case err != nil:
			p.say("default-enrolment", rows, asked, Mute, "%v", plain(err))
			return
		case a.status == http.StatusOK:
			p.say("default-enrolment", rows, asked, Bad, "%s / %s gets a certificate", c.User, c.Password)
			return
		case a.status == http.StatusTooManyRequests:
			waits++
		case a.status == http.StatusNotFound:
			p.say("default-enrolment", rows, asked, Seen, "nobody enrols at this address")
			return
		default:
			refused++
		}
	}
	if refused == 0 {
		p.say("default-enrolment", rows, asked, Mute, "all %d were told to wait", waits)
		return
	}
	p.say("default-enrolment", rows, asked, Good, "%d refused, %d told to wait", refused, waits)
}

// EnrolRequest asks for a certificate with a credential (RFC 7030 §4.2.1).
func EnrolRequest(ctx context.Context, base string, c Credential, csr string) (*http.Request, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, base+wire.ESTEnrol, strings.NewReader(csr))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Content-Type", wire.PKCS10Type)
	q.SetBasicAuth(c.User, c.Password)
	return q, nil
}

// request is a well-made request for a certificate, in base64.
func request() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "probe"}}, key)
	if err != nil {
		return "", fmt.Errorf("make a request: %w", err)
	}
	return base64.StdEncoding.EncodeToString(der), nil
}

// askSecurityTXT looks for how to report a hole (RFC 9116).
func (p *run) askSecurityTXT(ctx context.Context) {
	rows := []string{"6.1"}
	const asked = "security.txt"
	a, err := p.get(ctx, p.base+"/.well-known/security.txt")
	switch {
	case err != nil:
		p.say("security-txt", rows, asked, Mute, "%v", plain(err))
		return
	case a.status == http.StatusNotFound:
		p.say("security-txt", rows, asked, Seen, "there is none at this address")
		return
	case a.status != http.StatusOK:
		p.say("security-txt", rows, asked, Seen, "status %d", a.status)
		return
	}
	if wrong := judgeSecurityTXT(a.head, a.body, p.o.Now()); wrong != "" {
		p.say("security-txt", rows, asked, Bad, "%s", wrong)
		return
	}
	p.say("security-txt", rows, asked, Good, "it says whom to tell, and has not run out")
}

// judgeSecurityTXT says what is wrong with a security.txt.
func judgeSecurityTXT(h http.Header, body []byte, now time.Time) string {
	if !strings.HasPrefix(h.Get("Content-Type"), "text/plain") { // RFC 9116 §3
		return "it is not served as text/plain"
	}
	contact, expires := false, ""
	n := 0
	for line := range strings.Lines(string(body)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		switch strings.ToLower(name) {
		case "contact":
			contact = true
		case "expires":
			n++
			expires = strings.TrimSpace(value)
		}
	}
	until, err := time.Parse(time.RFC3339, expires)
	switch {
	case !contact: // RFC 9116 §2.5.3
		return "it has no Contact"
	case n != 1: // RFC 9116 §2.5.5
		return fmt.Sprintf("it has %d Expires, not one", n)
	case err != nil:
		return fmt.Sprintf("its Expires is no date: %q", expires)
	case !now.Before(until):
		return "it ran out on " + until.UTC().Format(time.DateOnly)
	}
	return ""
}

// askConsole looks at the headers of the way in, and at what it says of
// unknown users and known defaults.
func (p *run) askConsole(ctx context.Context) {
	base := strings.TrimSuffix(p.o.Console, "/")
	a, err := p.get(ctx, base+"/sign-in")
	if err != nil {
		p.say("console", []string{"2.2"}, "its way in", Mute, "%v", plain(err))
		return
	}
	p.say("console", []string{"2.2"}, "its way in", or(a.status == http.StatusOK), "status %d", a.status)
	wrong := judgeHeaders(a.head)
	came := "as they should be"
	if len(wrong) > 0 {
		came = strings.Join(wrong, "; ")
	}
	p.say("console-headers", []string{"2.2"}, "its security headers", or(len(wrong) == 0), "%s", came)
	a, err = p.get(ctx, base+"/")
	if err != nil {
		p.say("console-closed", []string{"3.1"}, "its first page without signing in", Mute, "%v", plain(err))
		return
	}
	p.say("console-closed", []string{"3.1"}, "its first page without signing in", or(a.status >= 300 && a.status < 500), "status %d", a.status)
	if !p.o.Gentle {
		p.askUsers(ctx, base)
	}
}

// judgeHeaders says what is missing in the headers of a page.
func judgeHeaders(h http.Header) (wrong []string) {
	need := func(ok bool, what string) {
		if !ok {
			wrong = append(wrong, what)
		}
	}
	csp := h.Get("Content-Security-Policy")
	need(csp != "", "no Content-Security-Policy")
	need(!strings.Contains(csp, "unsafe-"), "Content-Security-Policy allows unsafe-…")
	need(strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "default-src 'self'"), "Content-Security-Policy has no strict default-src")
	need(strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "frame-ancestors 'self'"), "others may frame it")
	need(strings.Contains(h.Get("Strict-Transport-Security"), "max-age="), "no Strict-Transport-Security")
	need(strings.EqualFold(h.Get("X-Content-Type-Options"), "nosniff"), "no X-Content-Type-Options: nosniff")
	need(h.Get("Referrer-Policy") != "", "no Referrer-Policy")
	need(h.Get("X-Powered-By") == "" && !strings.ContainsAny(h.Get("Server"), "0123456789"), "it tells which software and version it is")
	for _, c := range (&http.Response{Header: h}).Cookies() {
		need(c.Secure && c.HttpOnly && c.SameSite != http.SameSiteNoneMode && c.SameSite != 0, "the cookie "+c.Name+" is not Secure, HttpOnly and SameSite")
	}
	return wrong
}

// askUsers tries a few known defaults, and compares what is said of users that
// are likely to exist with what is said of users that cannot (CC 1.14).
func (p *run) askUsers(ctx context.Context, base string) {
	host := p.where.host
	likely := []string{"admin@" + host, "security@" + host, "info@" + host}
	absurd := make([]string, 0, len(likely))
	for range likely {
		absurd = append(absurd, strings.ToLower(rand.Text())+"@"+host)
	}
	type said struct {
		status int
		text   string
	}
	var all []said
	for _, user := range slices.Concat(absurd, likely) {
		a, err := p.signIn(ctx, base, user, "admin", "123456")
		if err != nil {
			p.say("console-users", []string{"1.9", "1.14"}, "to sign in as users that do not exist", Mute, "%v", plain(err))
			return
		}
		if a.status >= 300 && a.status < 400 {
			p.say("console-users", []string{"1.9", "1.14"}, "to sign in as "+user+" with the password admin", Bad, "let in")
			return
		}
		all = append(all, said{a.status, strings.ReplaceAll(string(a.body), user, "USER")})
	}
	first := all[0]
	for _, s := range all[1:] {
		if s != first {
			if s.status == http.StatusTooManyRequests || first.status == http.StatusTooManyRequests {
				p.say("console-users", []string{"1.14"}, "whether likely users are answered like impossible ones", Mute, "told to wait in between")
				return
			}
			p.say("console-users", []string{"1.14"}, "whether likely users are answered like impossible ones", Bad, "the answers differ: status %d and %d", first.status, s.status)
			return
		}
	}
	p.say("console-users", []string{"1.9", "1.14"}, "to sign in as likely and as impossible users, with known passwords", Good, "all refused alike, status %d", first.status)
}

func (p *run) signIn(ctx context.Context, base, user, password, code string) (*reply, error) {
	form := url.Values{"mail": {user}, "password": {password}, "code": {code}}.Encode()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/sign-in/password", bytes.NewReader([]byte(form)))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	q.Header.Set("Origin", base)
	a, err := p.fetch(q)
	if err != nil {
		return nil, err
	}
	if a.status == http.StatusNotFound {
		return nil, errors.New("there is no such way in")
	}
	return a, nil
}
