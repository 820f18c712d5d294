// Package services is the door for the maker's own services that read: HTTPS
// with TLS 1.3 and a client certificate, on a listener of its own. It takes
// requests apart and writes pages of streams as JSON lines (long poll) or as
// server-sent events. Who may read what, and what a page holds, is decided in
// telemetry/readers.
package services

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// Deps is what the door needs; all of it is required.
type Deps struct {
	Readers *readers.Service
	Log     *slog.Logger
}

// Limits of the door.
const (
	maxBodyBytes = 16 << 10
	maxTarget    = 16 << 10         // bytes of a request's target
	writeTime    = 15 * time.Second // to take one page
	eventsBeat   = 15 * time.Second // a comment on a silent stream of events
	defaultWait  = 25 * time.Second
)

// SlowReader is the reason for which a reader that does not take its page is
// cut.
const SlowReader = "too-slow"

// Door is the handler. Its streams end when Stop is called: they would hold up
// an orderly stop.
type Door struct {
	Deps
	mux  http.Handler
	stop chan struct{}
	once sync.Once
}

// Stop ends every stream, and those that begin afterwards.
func (d *Door) Stop() { d.once.Do(func() { close(d.stop) }) }

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.mux.ServeHTTP(w, r) }

// New makes the handler.
func New(d Deps) (*Door, error) {
	if d.Readers == nil || d.Log == nil {
		return nil, errors.New("services' door: a dependency is missing")
	}
	x := &Door{Deps: d, stop: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /service/v1/stream/{product}", x.with(x.stream))
	mux.HandleFunc("POST /service/v1/receipts", x.with(x.receipt))
	mux.HandleFunc("POST /service/v1/certificate", x.with(x.renew))
	mux.HandleFunc("/", x.with(func(http.ResponseWriter, *http.Request, *readers.Peer) error {
		return core.E(core.Unknown, "no-such-path", "there is nothing here", "docs/readers.md lists what there is")
	}))
	x.mux = mux
	return x, nil
}

// TLS is how the door speaks: TLS 1.3, and only with a certificate of a
// registered service (CC 2.8, 3.4). pool holds the issuer of services'
// certificates.
func TLS(r *readers.Service, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), pool func() *x509.CertPool, now func() time.Time) *tls.Config {
	base := &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: certificate, Time: now,
		NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true,
		ClientAuth: tls.RequestClientCert, // required and verified below, so that who is refused is noted
	}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		source := hello.Conn.RemoteAddr().String()
		c := base.Clone()
		c.GetConfigForClient = nil
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				r.Refused(hello.Context(), "", "no-certificate", source)
				return core.E(core.Denied, "no-certificate", "a service shows its certificate here", "")
			}
			leaf := s.PeerCertificates[0]
			_, err := leaf.Verify(x509.VerifyOptions{Roots: pool(), CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			if err != nil {
				r.Refused(hello.Context(), "", "foreign-authority", source)
				return core.E(core.Denied, "foreign-authority", "this certificate is not accepted here", "")
			}
			if _, err := r.Admit(leaf); err != nil {
				r.Refused(hello.Context(), nameOf(leaf), core.ReasonOf(err), source)
				return err
			}
			return nil
		}
		return c, nil
	}
	return base
}

// nameOf is what a certificate with a verified chain says of itself.
func nameOf(leaf *x509.Certificate) string {
	if len(leaf.URIs) == 1 && strings.Contains(leaf.URIs[0].Opaque, ":service:") {
		return leaf.Subject.CommonName
	}
	return ""
}

// with lets in who is a registered service now: the connection may be older
// than a revocation.
func (d *Door) with(h func(http.ResponseWriter, *http.Request, *readers.Peer) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h2 := w.Header()
		h2.Set("Cache-Control", "no-store")
		h2.Set("X-Content-Type-Options", "nosniff")
		peer, err := d.peer(r)
		var leave func()
		if err == nil {
			leave, err = peer.Enter()
		}
		if err == nil {
			defer leave()
			r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
			err = h(w, r, peer)
		}
		if err != nil {
			d.refuse(w, r, peer, err)
		}
	}
}

func (d *Door) peer(r *http.Request) (*readers.Peer, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, core.E(core.Denied, "no-certificate", "a service shows its certificate here", "")
	}
	leaf := r.TLS.PeerCertificates[0]
	p, err := d.Readers.Admit(leaf)
	if err != nil {
		d.Readers.Refused(r.Context(), nameOf(leaf), core.ReasonOf(err), r.RemoteAddr)
	}
	return p, err
}

// problem is RFC 9457's.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"` // what to do
	Reason string `json:"reason"`
}

func statusOf(k core.Kind) int {
	switch k {
	case core.Invalid:
		return http.StatusBadRequest
	case core.Denied:
		return http.StatusForbidden
	case core.Unknown:
		return http.StatusNotFound
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

func (d *Door) refuse(w http.ResponseWriter, r *http.Request, peer *readers.Peer, err error) {
	if r.Context().Err() != nil {
		return // the client left, or the server stops
	}
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Kind == core.Internal {
		d.Log.ErrorContext(r.Context(), "a service's request failed", slog.String("route", r.Pattern), slog.Any("err", err))
		e = core.E(core.Internal, "internal", "internal error", "ask again later with the same cursor")
	}
	if peer != nil && e.Kind == core.Denied {
		d.Readers.Refused(r.Context(), peer.Name, e.Reason, r.RemoteAddr)
	}
	status := statusOf(e.Kind)
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if status == http.StatusTooManyRequests || status >= 500 {
		h.Set("Retry-After", "5")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(problem{Type: "about:blank", Title: e.Message, Status: status, Detail: e.Hint, Reason: e.Reason}) // the client left
}

// stream serves the pages of one product's stream.
func (d *Door) stream(w http.ResponseWriter, r *http.Request, peer *readers.Peer) error {
	ask, err := askOf(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { // a revocation cuts what is under way
		select {
		case <-peer.Gone():
			cancel()
		case <-d.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	x := &out{w: w, c: http.NewResponseController(w), r: r}
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		err = d.events(ctx, x, peer, ask)
	} else {
		err = d.poll(ctx, x, peer, ask)
	}
	if x.slow {
		d.Readers.Refused(r.Context(), peer.Name, SlowReader, r.RemoteAddr)
		panic(http.ErrAbortHandler) // so that it does not take half a page for a whole one
	}
	select {
	case <-d.stop:
		if x.begun || r.Context().Err() != nil {
			return nil // a stream of events ends with the server
		}
		if err != nil {
			err = core.E(core.Unavail, "stopping", "the server stops", "ask again in a moment with the same cursor")
		}
	default:
	}
	if err != nil && x.begun {
		panic(http.ErrAbortHandler)
	}
	return err
}

// askOf reads the query of a request.
func askOf(r *http.Request) (readers.Ask, error) {
	bad := func(what, hint string) (readers.Ask, error) {
		return readers.Ask{}, core.E(core.Invalid, "query", what, hint)
	}
	if len(r.RequestURI) > maxTarget {
		return bad("the request's target is too long", "give the last cursor and few fields")
	}
	ask := readers.Ask{Product: core.ProductID(r.PathValue("product")), Wait: defaultWait}
	for name, values := range r.URL.Query() {
		if len(values) != 1 {
			return bad("a parameter stands there twice", "give each once")
		}
		v := values[0]
		switch name {
		case "cursor":
			ask.Cursor = v
		case "fields":
			ask.Fields = strings.Split(v, ",")
		case "limit":
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 || n > readers.MaxPage {
				return bad("limit is no number of lines", "give 1 to "+strconv.Itoa(readers.MaxPage))
			}
			ask.Limit = n
		case "wait":
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 || time.Duration(n)*time.Second > readers.MaxWait {
				return bad("wait is no number of seconds", "give 0 to 60")
			}
			ask.Wait = time.Duration(n) * time.Second
		default:
			return bad("there is no parameter "+strconv.Quote(name), "cursor, fields, limit and wait are the parameters")
		}
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		ask.Cursor = id // a browser's or library's reconnection
	}
	return ask, nil
}

// out is an answer that is written page by page.
type out struct {
	w     http.ResponseWriter
	c     *http.ResponseController
	r     *http.Request
	begun bool
	slow  bool
}

func (o *out) write(b []byte) error {
	o.begun = true
	_ = o.c.SetWriteDeadline(time.Now().Add(writeTime)) // unsupported in tests without a connection
	_, err := o.w.Write(b)
	if err == nil {
		err = o.c.Flush()
	}
	if err != nil && o.r.Context().Err() == nil {
		o.slow = true
	}
	return err
}

// poll answers with one page, its cursor in the last line and in the head.
func (d *Door) poll(ctx context.Context, o *out, peer *readers.Peer, ask readers.Ask) error {
	p, err := d.Readers.Next(ctx, peer, ask)
	if err != nil {
		return err
	}
	b, err := lines(p)
	if err != nil {
		return err
	}
	h := o.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Hawser-Cursor", p.Cursor)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	return o.write(b)
}

// lines is a page as JSON lines, its cursor the last one.
func lines(p *readers.Page) ([]byte, error) {
	var b bytes.Buffer
	for _, l := range p.Lines {
		b.Write(l)
		b.WriteByte('\n')
	}
	last, err := json.Marshal(readers.Line{Type: "cursor", Cursor: p.Cursor})
	if err != nil {
		return nil, fmt.Errorf("write a cursor: %w", err)
	}
	b.Write(last)
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// events answers with server-sent events until somebody leaves. Only the last
// event of a page has an id: who reconnects gets the page once more rather than
// miss a part of it.
func (d *Door) events(ctx context.Context, o *out, peer *readers.Peer, ask readers.Ask) error {
	ask.Wait = eventsBeat
	for {
		p, err := d.Readers.Next(ctx, peer, ask)
		if err != nil {
			return err
		}
		if !o.begun {
			o.w.Header().Set("Content-Type", "text/event-stream")
		}
		var b bytes.Buffer
		for _, l := range p.Lines {
			b.WriteString("data: ")
			b.Write(l)
			b.WriteString("\n\n")
		}
		b.WriteString("event: cursor\nid: " + p.Cursor + "\ndata: {\"type\":\"cursor\"}\n\n")
		if err := o.write(b.Bytes()); err != nil {
			return err
		}
		ask.Cursor = p.Cursor
	}
}

// receipt takes a service's answer to an order, signed by the key of the
// certificate that it shows.
func (d *Door) receipt(w http.ResponseWriter, r *http.Request, peer *readers.Peer) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, readers.MaxReceipt+1))
	if err != nil {
		return core.E(core.Invalid, "body", "the receipt was cut", "send it again")
	}
	signature, err := readers.ParseSignature(r.Header.Get("Hawser-Signature"))
	if err != nil {
		return err
	}
	if err := d.Readers.Answer(r.Context(), peer, body, signature); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// renew gives a service its next certificate, over the connection that shows
// the one before.
func (d *Door) renew(w http.ResponseWriter, r *http.Request, peer *readers.Peer) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return core.E(core.TooLarge, "body-size", "the request is larger than 16 KB, or was cut", "send a PKCS#10 request in PEM")
	}
	block, rest := pem.Decode(body)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
		return core.E(core.Invalid, "csr-pem", "the body is not one PEM block of a certificate request", "make one with `openssl req -new`")
	}
	c, err := d.Readers.Certify(r.Context(), core.Actor{Kind: core.ActorService, ID: peer.Name}, peer.Name, block.Bytes)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(PEM(c)) // the client left; it asks again
	return nil
}

// PEM is a certificate with its chain as a file.
func PEM(c readers.Issued) []byte {
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate})
	for _, der := range c.Chain {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return b
}
