// Package est is the devices' enrolment door: Enrolment over Secure Transport
// (RFC 7030, as clarified by RFC 8951) over HTTPS. It offers /cacerts, /csrattrs,
// /simpleenroll by a per-device enrolment code (HTTP Basic, user = serial
// number) or by the key or certificate that a unit was born with (mutual TLS),
// and /simplereenroll by the certificate that is to be renewed (mutual TLS). It
// translates requests into calls of identity and answers into certs-only
// PKCS#7; whom to give a certificate is decided there. Full CMC and
// server-side key generation are not offered.
package est

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"
	"golang.org/x/time/rate"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/wire"
)

// Limits of a request.
const (
	maxBodyBytes    = 16 << 10 // base64 and all
	bodyTimeout     = 10 * time.Second
	answerTimeout   = 20 * time.Second
	maxAtOnce       = 64
	waitForTurn     = 2 * time.Second
	retryWhenFull   = 5 * time.Second
	maxSerialChars  = wire.MaxSerial
	maxCodeChars    = wire.MaxCode
	logsPerSecond   = 20
	logsAtOnce      = 200
	textContentType = "text/plain; charset=utf-8"
)

// Identity decides. *identity.Service is one.
type Identity interface {
	Enrol(ctx context.Context, source netip.Addr, device core.DeviceID, code string, csrDER []byte) ([][]byte, error)
	EnrolBorn(ctx context.Context, source netip.Addr, shown []*x509.Certificate, csrDER []byte) ([][]byte, error)
	Renew(ctx context.Context, leaf *x509.Certificate, csrDER []byte) ([][]byte, error)
	// VerifyForRenewal is about a certificate that may have run out.
	VerifyForRenewal(leaf *x509.Certificate) error
}

// Deps is what the door stands on. Every field but TLS12 is required.
type Deps struct {
	Identity Identity
	Bundle   func() [][]byte // certificates of /cacerts, DER: identity.CA.Bundle
	Log      *slog.Logger
	// TLS12 reports whether a device's product declares TLS 1.2. Nil: none does.
	TLS12 func(core.DeviceID) bool
}

type door struct {
	d     Deps
	attrs []byte        // the ready answer of /csrattrs
	turns chan struct{} // one token per request at work
	logs  *rate.Limiter // strangers cannot fill the disk with their refusals
}

// New makes the handler for /.well-known/est/. It belongs behind TLS 1.3 (1.2
// where a product declares it, see gateway.WithTLS12) with
// ClientAuth tls.VerifyClientCertIfGiven or tls.RequestClientCert: a device that
// enrols has no certificate yet. It verifies what it uses itself.
func New(d Deps) (http.Handler, error) {
	if d.Identity == nil || d.Bundle == nil || d.Log == nil {
		return nil, errors.New("est: a dependency is missing")
	}
	e := &door{d: d, turns: make(chan struct{}, maxAtOnce), logs: rate.NewLimiter(logsPerSecond, logsAtOnce)}
	var err error
	if e.attrs, err = csrAttrs(); err != nil {
		return nil, err
	}
	const certs = wire.PKCS7Type + "; smime-type=" + wire.CertsOnly
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.ESTCACerts, e.serve(certs, e.bundle))
	mux.HandleFunc("GET "+wire.ESTCSRAttrs, e.serve(wire.CSRAttrType, e.attributes))
	mux.HandleFunc("POST "+wire.ESTEnrol, e.serve(certs, e.enrol))
	mux.HandleFunc("POST "+wire.ESTReenrol, e.serve(certs, e.reenrol))
	return mux, nil
}

// csrAttrs says what a certificate request is to be like (RFC 7030 §4.5.2): a
// key on the curve P-256, a signature with ECDSA and SHA-256. Names are not
// asked for: identity knows the device.
func csrAttrs() ([]byte, error) {
	key := struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.ObjectIdentifier `asn1:"set"`
	}{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, []asn1.ObjectIdentifier{{1, 2, 840, 10045, 3, 1, 7}}} // ecPublicKey, prime256v1
	attribute, err := asn1.Marshal(key)
	if err != nil {
		return nil, err
	}
	signature, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}) // ecdsa-with-SHA256
	if err != nil {
		return nil, err
	}
	der, err := asn1.Marshal([]asn1.RawValue{{FullBytes: attribute}, {FullBytes: signature}})
	return base64.StdEncoding.AppendEncode(nil, der), err
}

// certsOnly is a certs-only SignedData (RFC 5272 §4.1) of these certificates
// in base64 on one line: RFC 8951 §3.1 drops the line breaks of RFC 7030, and
// clients exist that fail on them.
func certsOnly(der []byte) ([]byte, error) {
	p7, err := pkcs7.DegenerateCertificate(der)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.AppendEncode(nil, p7), nil
}

// serve bounds a request in time, and turns an error into its
// answer.
func (e *door) serve(contentType string, handle func(*http.Request) ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				e.d.Log.ErrorContext(r.Context(), "enrolment request panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
				e.refuse(w, r, errors.New("panic"))
			}
		}()
		if r.Method == http.MethodPost {
			// A later request on this connection would be made with a
			// certificate that may be superseded by then.
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("Cache-Control", "no-store")
		c := http.NewResponseController(w)
		now := time.Now()
		_ = errors.Join(c.SetReadDeadline(now.Add(bodyTimeout)), c.SetWriteDeadline(now.Add(answerTimeout))) // unsupported in tests without a connection
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		answer, err := handle(r.WithContext(ctx))
		if err != nil {
			e.refuse(w, r, err)
			return
		}
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Content-Transfer-Encoding", wire.ESTEncoding) // RFC 8951 §3.1: of no meaning; old clients look for it
		h.Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer) // the client left; it will ask again
	}
}

// take waits a moment for one of maxAtOnce turns, so that a renewal storm
// queues in the clients and not in our memory. The body is read before, so that
// a client that sends it drop by drop holds no turn.
func (e *door) take(ctx context.Context) error {
	select {
	case e.turns <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(waitForTurn)
	defer t.Stop()
	select {
	case e.turns <- struct{}{}:
		return nil
	case <-t.C:
	case <-ctx.Done():
	}
	return &identity.RetryError{
		Refusal: core.E(core.Unavail, "door-full", "too many devices enrol at once", "try again in a few seconds"),
		After:   retryWhenFull,
	}
}

func (e *door) give() { <-e.turns }

func (e *door) bundle(*http.Request) ([]byte, error) {
	var all []byte
	for _, der := range e.d.Bundle() {
		all = append(all, der...)
	}
	return certsOnly(all)
}

func (e *door) attributes(*http.Request) ([]byte, error) { return e.attrs, nil }

func (e *door) enrol(r *http.Request) ([]byte, error) {
	user, code, ok := r.BasicAuth()
	if !ok && r.Header.Get("Authorization") == "" {
		certs := shown(r)
		answer, err := e.enrolBorn(r, certs)
		if k := core.KindOf(err); err != nil && len(certs) == 0 && (k == core.Invalid || k == core.TooLarge || core.ReasonOf(err) == "unknown-birth-key") {
			return nil, noCredentials() // many clients ask without, and then with what they are asked for
		}
		return answer, err
	}
	if !ok || len(user) == 0 {
		return nil, noCredentials()
	}
	if len(user) > maxSerialChars || len(code) > maxCodeChars {
		return nil, core.E(core.Denied, "credentials-size", "serial number or enrolment code are too long", "check both")
	}
	csr, err := readCSR(r)
	if err != nil {
		return nil, err
	}
	if err := e.take(r.Context()); err != nil {
		return nil, err
	}
	defer e.give()
	chain, err := e.d.Identity.Enrol(r.Context(), source(r), core.DeviceID(user), code, csr)
	if err != nil {
		return nil, err
	}
	// Only who proved to be the device learns what its product declares. The
	// certificate that it is not given was never used: the code stays good.
	if err := e.modern(r, core.DeviceID(user)); err != nil {
		return nil, err
	}
	return leafOnly(chain, nil)
}

// modern refuses TLS 1.2 to a device whose product does not declare it: the
// door offers it to strangers while any product does (design, section 6).
func (e *door) modern(r *http.Request, id core.DeviceID) error {
	if r.TLS == nil || r.TLS.Version >= tls.VersionTLS13 || e.d.TLS12 != nil && e.d.TLS12(id) {
		return nil
	}
	return core.E(core.Denied, "tls-1.2-not-declared", "this product does not declare TLS 1.2", "connect with TLS 1.3, or declare `tls: \"1.2\"` under `network`")
}

func noCredentials() error {
	return core.E(core.Denied, "no-credentials", "an enrolment code is required", "HTTP Basic: the serial number as user, the enrolment code as password; a unit that its factory has listed needs none")
}

// shown is what the client proved in the handshake to hold the key of, and
// what it sent along; nothing of it is verified.
func shown(r *http.Request) []*x509.Certificate {
	if r.TLS == nil {
		return nil
	}
	return r.TLS.PeerCertificates
}

// enrolBorn is for units that come without a code: a production line listed
// their key, or a factory's authority signed their birth certificate.
func (e *door) enrolBorn(r *http.Request, certs []*x509.Certificate) ([]byte, error) {
	csr, err := readCSR(r)
	if err != nil {
		return nil, err
	}
	if err := e.take(r.Context()); err != nil {
		return nil, err
	}
	defer e.give()
	chain, err := e.d.Identity.EnrolBorn(r.Context(), source(r), certs, csr)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("parse issued certificate: %w", err)
	}
	if err := e.modern(r, core.DeviceID(leaf.Subject.CommonName)); err != nil {
		return nil, err
	}
	return leafOnly(chain, nil)
}

func (e *door) reenrol(r *http.Request) ([]byte, error) {
	certs := shown(r)
	if len(certs) == 0 {
		return nil, core.E(core.Denied, "no-certificate", "a device renews with its present certificate", "connect with it (mutual TLS)")
	}
	leaf := certs[0]
	if err := e.d.Identity.VerifyForRenewal(leaf); core.ReasonOf(err) == "untrusted" {
		return e.enrolBorn(r, certs) // not ours: a birth certificate, as IEEE 802.1AR has it
	} else if err != nil {
		return nil, err
	}
	// The common name of what our authority signed is the device.
	if err := e.modern(r, core.DeviceID(leaf.Subject.CommonName)); err != nil {
		return nil, err
	}
	csr, err := readCSR(r)
	if err != nil {
		return nil, err
	}
	if err := e.take(r.Context()); err != nil {
		return nil, err
	}
	defer e.give()
	return leafOnly(e.d.Identity.Renew(r.Context(), leaf, csr))
}

// leafOnly answers with the issued certificate and nothing else (RFC 7030
// §4.2.3); its issuer is in /cacerts.
func leafOnly(chain [][]byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return certsOnly(chain[0])
}

// source is the address of the peer; behind a balancer, the server has
// replaced it by what PROXY v2 said.
func source(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // counted with all other unknown sources
	}
	return ap.Addr()
}

// readCSR reads the body of an enrolment: a PKCS#10 request in base64.
func readCSR(r *http.Request) ([]byte, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != wire.PKCS10Type {
		return nil, core.E(core.Invalid, "content-type", "the body is not declared as "+wire.PKCS10Type, "send Content-Type: "+wire.PKCS10Type)
	}
	if r.ContentLength > maxBodyBytes {
		return nil, tooLarge()
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	if err != nil {
		return nil, &core.Error{Kind: core.Invalid, Reason: "body", Message: "the body did not arrive whole", Hint: "send it again", Err: err}
	}
	if len(b) > maxBodyBytes {
		return nil, tooLarge()
	}
	return decodeBody(b)
}

func tooLarge() error {
	return core.E(core.TooLarge, "body-size", "the request is larger than 16 KB", "send a PKCS#10 request in base64; a usual one has 500 bytes")
}

// decodeBody reads base64 with or without line breaks (RFC 8951 §3.1).
func decodeBody(b []byte) ([]byte, error) {
	if strings.HasPrefix(string(b[:min(len(b), 64)]), "-----BEGIN") {
		return nil, core.E(core.Invalid, "body-pem", "the body is PEM", "send the base64 of the DER only, without the lines that begin with dashes")
	}
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c != '\r' && c != '\n' && c != ' ' && c != '\t' {
			out = append(out, c)
		}
	}
	n, err := base64.StdEncoding.Strict().Decode(out, out)
	if err != nil || n == 0 {
		return nil, &core.Error{Kind: core.Invalid, Reason: "body-base64", Message: "the body is not base64", Hint: "send the base64 of a PKCS#10 request in DER", Err: err}
	}
	return out[:n], nil
}

// status maps kinds to HTTP for this door.
func status(err error, path string) int {
	switch core.KindOf(err) {
	case core.Invalid:
		return http.StatusBadRequest
	case core.Denied, core.Unknown:
		if path == wire.ESTEnrol {
			return http.StatusUnauthorized
		}
		return http.StatusForbidden
	case core.Conflict, core.Unready:
		return http.StatusConflict
	case core.TooLarge:
		return http.StatusRequestEntityTooLarge
	case core.TooMany:
		return http.StatusTooManyRequests
	case core.Unavail:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// refuse answers with one short line of plain text (RFC 7030 §4.2.3 leaves the
// form open). The reason goes to the log, and neither serial number nor
// certificate do.
func (e *door) refuse(w http.ResponseWriter, r *http.Request, err error) {
	code := status(err, r.URL.Path)
	level := slog.LevelInfo
	if code >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	if e.logs.Allow() {
		attrs := []slog.Attr{
			slog.String("path", r.URL.Path), slog.String("reason", core.ReasonOf(err)),
			slog.Int("status", code), slog.String("source", shortened(source(r))),
		}
		if code == http.StatusInternalServerError {
			attrs = append(attrs, slog.Any("err", err)) // ours; what a client did wrong may name a certificate
		}
		e.d.Log.LogAttrs(r.Context(), level, "enrolment refused", attrs...)
	}
	text := "internal error; the server's log says more"
	if f, ok := errors.AsType[*core.Error](err); ok && f.Kind != core.Internal {
		text = f.Message
		if f.Hint != "" {
			text += "; " + f.Hint
		}
	}
	h := w.Header()
	if code == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="`+wire.ESTRealm+`", charset="UTF-8"`)
	}
	if after, ok := errors.AsType[*identity.RetryError](err); ok {
		h.Set("Retry-After", strconv.Itoa(int((after.After+time.Second-1)/time.Second)))
	} else if code == http.StatusServiceUnavailable {
		h.Set("Retry-After", "30")
	}
	text += "\n"
	h.Set("Content-Type", textContentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	// A body that is still on its way when the connection closes resets it, and
	// the client never reads why it was refused.
	_, _ = io.CopyN(io.Discard, r.Body, maxBodyBytes) // shorter, as a rule
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // the client left; nothing to do
}

// shortened is the network that a client comes from: enough to see where an
// attack comes from, too little to be somebody's address.
func shortened(a netip.Addr) string {
	bits := 48
	if a = a.Unmap(); a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}
