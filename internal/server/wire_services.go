package server

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/gate"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway/services"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// Bounds of the services' door.
const (
	maxServiceConnections = 256
	maxServicePerSource   = 64
)

// serviceParts are what serves the maker's own services. The door opens when
// the first of them is registered.
type serviceParts struct {
	readers *readers.Service
	serve   func(*http.Server, net.Listener) // set before anybody can ask
	hookKey []byte                           // of which each service's secret is made
	leads   atomic.Pointer[string]           // where a look knocks instead; nil but in trials

	mu   sync.Mutex // guards what follows
	http *http.Server
	addr string
}

// serviceAuthority gives readers the installation's authority.
type serviceAuthority struct{ *identity.ServiceAuthority }

func (a serviceAuthority) Named(leaf *x509.Certificate) (string, readers.Number, bool) {
	name, serial, ok := a.ServiceAuthority.Named(leaf)
	return name, readers.Number(serial), ok
}

func (s *server) openReaders(ctx context.Context) error {
	authority, err := identity.NewServiceAuthority(s.ca)
	if err != nil {
		return err
	}
	s.services.readers, err = readers.New(ctx, readers.Deps{
		Update: update[readers.Tx](s.store), View: view[readers.Tx](s.store), Authority: serviceAuthority{authority},
		Files: s.telem.files, Keys: s.ring, Versions: s.decl.Versions, Current: s.decl.All, Moved: s.telem.projector.Moved,
		Now: s.opt.Now, Log: s.log,
	})
	if err != nil {
		return err
	}
	poster, err := s.poster()
	if err != nil {
		return err
	}
	s.jobs = append(s.jobs,
		&job{name: "service-webhooks", period: webhookEvery, run: func(ctx context.Context) error { return s.services.readers.PostPages(ctx, poster.Post) }},
		&job{name: "service-sessions", period: time.Minute, run: s.services.readers.CloseSessions},
		&job{name: "service-expiry", period: time.Minute, run: s.services.readers.OrderExpiry},
		&job{name: "service-canaries", period: time.Minute, run: s.clock.unlessAhead(s.services.readers.Canaries)})
	return nil
}

// webhookEvery is how often it is looked for what is new to post.
const webhookEvery = 2 * time.Second

func (s *server) poster() (*services.Poster, error) {
	var roots *x509.CertPool
	if s.c.WebhookRoots != "" {
		b, err := os.ReadFile(s.c.WebhookRoots)
		if err != nil {
			return nil, fmt.Errorf("read webhook_roots: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(b) {
			return nil, core.E(core.Unready, "webhook-roots", "webhook_roots holds no certificate", "the key names a PEM file; leave it out to trust the system's authorities")
		}
	}
	gateKey, _, err := gate.OpenKey(s.c.GateKey)
	if err != nil {
		return nil, err
	}
	if s.services.hookKey, err = hkdf.Key(sha256.New, gateKey, nil, "hawser webhooks v1", sha256.Size); err != nil {
		return nil, fmt.Errorf("derive the key of webhooks: %w", err)
	}
	return services.NewPoster(s.services.secret, roots, s.c.InsecurePrivateWebhooks, s.opt.Now), nil
}

// secret is what a service verifies its posts with.
func (p *serviceParts) secret(name string) []byte {
	m := hmac.New(sha256.New, p.hookKey)
	_, _ = io.WriteString(m, "service\x00"+name) // a hash takes everything
	return m.Sum(nil)
}

// openServiceDoorForSomebody opens the door where a service is registered.
func (s *server) openServiceDoorForSomebody(ctx context.Context) error {
	if !s.services.readers.Any() {
		return nil
	}
	return s.openServiceDoor(ctx)
}

// openServiceDoor opens the services' door, if it is not open.
func (s *server) openServiceDoor(ctx context.Context) error {
	p := &s.services
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.http != nil {
		return nil
	}
	h, err := services.New(services.Deps{Readers: p.readers, Log: s.log})
	if err != nil {
		return err
	}
	l, err := door("tcp", s.c.Services, "services")
	if err != nil {
		return err
	}
	p.http = &http.Server{
		Handler: s.inside.handler(h), BaseContext: s.inside.base,
		ReadHeaderTimeout: s.opt.waits.header, ReadTimeout: s.opt.waits.request, IdleTimeout: 2 * readers.MaxWait, MaxHeaderBytes: 24 << 10,
		ErrorLog:  slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSConfig: services.TLS(p.readers, s.cert.GetCertificate, s.ca.ClientPool, s.opt.Now),
	}
	p.http.RegisterOnShutdown(h.Stop)
	p.addr = l.Addr().String()
	p.serve(p.http, l)
	s.log.InfoContext(ctx, "the services' door is open", slog.String("address", p.addr))
	return nil
}

// servicesFindings names services that do not do what they were ordered to.
func (s *server) servicesFindings(ctx context.Context, d *diagnosis) {
	all, err := s.services.readers.Standings(ctx)
	if err != nil {
		d.err("services", err.Error(), "see the log")
		return
	}
	if s.c.InsecurePrivateWebhooks {
		d.warn("services", "webhooks may lead into private networks", "take the key `insecure_private_webhooks` out of config.yaml where no service needs it")
	}
	for _, x := range all {
		if since, why := s.services.readers.NotTaken(x.Reader); !since.IsZero() && s.opt.Now().Sub(since) > time.Hour {
			d.warn("services", fmt.Sprintf("%s takes nothing at its webhook since %s: %v", x.Reader, since.UTC().Format(time.RFC3339), why), "mend its webhook; what it did not get waits until its keep-time is over")
		}
		if x.Bad {
			d.err("services", x.Reader+", of "+string(x.Product)+": "+x.Why, "ask who runs it to erase what it was ordered to, and to answer; `hawser service show "+x.Reader+"` lists what is open")
		}
	}
}

func (p *serviceParts) server() *http.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.http
}

// address is where services come in; "" while nobody is registered.
func (p *serviceParts) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

func (p *serviceParts) Shutdown(ctx context.Context) error {
	if h := p.server(); h != nil {
		return h.Shutdown(ctx)
	}
	return nil
}

func (p *serviceParts) Close() error {
	if h := p.server(); h != nil {
		return h.Close()
	}
	return nil
}

// ownServices gives the local door the maker's services.
type ownServices struct{ s *server }

func (o ownServices) Add(ctx context.Context, by core.Actor, name string, answerIn time.Duration) (api.Service, error) {
	if _, err := o.s.services.readers.Add(ctx, by, name, answerIn); err != nil {
		return api.Service{}, err
	}
	if err := o.s.openServiceDoor(ctx); err != nil {
		return api.Service{}, err
	}
	return o.Find(ctx, name)
}

func (o ownServices) Certify(ctx context.Context, by core.Actor, name, csr string) (api.ServiceCertificate, error) {
	block, _ := pem.Decode([]byte(csr))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return api.ServiceCertificate{}, core.E(core.Invalid, "csr-pem", "this is no PEM block of a certificate request", "make one with `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes`")
	}
	c, err := o.s.services.readers.Certify(ctx, by, name, block.Bytes)
	if err != nil {
		return api.ServiceCertificate{}, err
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.s.ca.Root().Raw})
	return api.ServiceCertificate{Service: name, Certificate: string(services.PEM(c)), Root: string(root), NotAfter: c.NotAfter, Address: o.s.services.address()}, nil
}

func (o ownServices) SetWebhook(ctx context.Context, by core.Actor, name, to string) (api.ServiceWebhook, error) {
	if err := o.s.services.readers.SetWebhook(ctx, by, name, to); err != nil {
		return api.ServiceWebhook{}, err
	}
	w := api.ServiceWebhook{Service: name, URL: to}
	if to != "" {
		w.Secret = hex.EncodeToString(o.s.services.secret(name))
	}
	return w, nil
}

func (o ownServices) Revoke(ctx context.Context, by core.Actor, name, cause string) error {
	return o.s.services.readers.Revoke(ctx, by, name, cause)
}

func (o ownServices) List(ctx context.Context) ([]api.Service, error) {
	all, err := o.s.services.readers.List(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.Service{}
	for i := range all {
		out = append(out, o.shown(&all[i]))
	}
	return out, nil
}

func (o ownServices) Find(ctx context.Context, name string) (api.Service, error) {
	x, err := o.s.services.readers.Find(ctx, name)
	if err != nil {
		return api.Service{}, err
	}
	return o.shown(&x), nil
}

func (o ownServices) shown(x *readers.Shown) api.Service {
	out := api.Service{Service: x.Name, State: "good", Added: x.Added, AnswerSeconds: int64(x.AnswerIn / time.Second), Address: o.s.services.address(), Products: []api.ServiceProduct{}, Open: []api.ServiceOrder{}}
	if !x.Revoked.IsZero() {
		out.State = "revoked"
	} else if x.Certificates == 0 {
		out.State = "no-certificate"
	}
	if !x.Until.IsZero() {
		out.CertificateUntil = &x.Until
	}
	for _, p := range x.Products {
		y := api.ServiceProduct{Product: p.Product, Fields: p.Fields, Purposes: p.Purposes, Subjects: p.Subjects}
		if !p.Seen.IsZero() {
			y.Seen = &p.Seen
		}
		switch st := p.Standing; {
		case st == nil:
			y.Erases = "nothing-given"
		case st.Proved:
			y.Erases = "proved"
		case st.Bad:
			y.Erases, y.Why = "refuted", st.Why
		default:
			y.Erases, y.Why = "not-proved", st.Why
		}
		out.Products = append(out.Products, y)
	}
	for _, e := range x.Open {
		out.Open = append(out.Open, api.ServiceOrder{Order: e.ID, Product: e.Product, Do: string(e.Kind), Given: e.At, By: e.Due})
	}
	for _, r := range x.Refusals {
		out.Refusals = append(out.Refusals, api.Refusal{Time: r.Time, Reason: r.Reason, Source: r.Source})
	}
	return out
}
