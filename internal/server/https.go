package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/gateway/est"
	"github.com/hawser-iot/hawser/internal/gateway/ingest"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// maxHTTPSConnections bounds the connections of the HTTPS door: devices come
// here seldom, and each connection costs a handshake. maxHTTPSPerSource bounds
// those of one address: a factory behind one, not a crowd.
const (
	maxHTTPSConnections = 1024
	maxHTTPSPerSource   = 256
	// maxHTTPSBodyBytes bounds a request there; EST has a bound of its own below.
	maxHTTPSBodyBytes = 64 << 10
)

// waits are how long a client of the HTTP doors may take.
type waits struct {
	header  time.Duration // for the head of a request
	request time.Duration // for all of it
	answer  time.Duration // to read an answer of the HTTPS door
	stall   time.Duration // without reading on in an answer of the local socket
	idle    time.Duration // between two requests
	grace   time.Duration // to finish when the server stops
}

func usualWaits() waits {
	return waits{
		header: 10 * time.Second, request: 20 * time.Second, answer: 30 * time.Second,
		stall: 15 * time.Minute, // somebody may be reading it in a pager
		idle:  30 * time.Second, grace: 5 * time.Second,
	}
}

// inside is who is being served at the HTTP doors. When the server stops it
// waits for them, and tells those who take long to end: no handler may outlive
// the stores.
type inside struct {
	ctx    context.Context // of every request
	cancel context.CancelFunc

	mu     sync.Mutex // guards what follows
	n      int
	closed bool
	empty  chan struct{} // closed when it is closed and nobody is inside
}

func newInside(ctx context.Context) *inside {
	in := &inside{empty: make(chan struct{})}
	in.ctx, in.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return in
}

func (in *inside) base(net.Listener) context.Context { return in.ctx }

func (in *inside) enter(by int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if by > 0 && in.closed {
		return false
	}
	if in.n += by; in.closed && in.n == 0 {
		close(in.empty)
	}
	return true
}

func (in *inside) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !in.enter(1) {
			panic(http.ErrAbortHandler) // the server has stopped
		}
		defer in.enter(-1)
		h.ServeHTTP(w, r)
	})
}

// wait lets nobody in any more, and returns when everybody is out.
func (in *inside) wait() {
	in.cancel()
	in.mu.Lock()
	if !in.closed {
		if in.closed = true; in.n == 0 {
			close(in.empty)
		}
	}
	in.mu.Unlock()
	<-in.empty
}

// httpsServer is the door for enrolment, devices' batches of readings, the ledger's checkpoint and tiles,
// health, the revocation list, and what strangers are to find: whom to tell of a
// hole, and the keys of the evidence. Nothing else answers there.
func (s *server) httpsServer() (*http.Server, error) {
	enrol, err := est.New(est.Deps{Identity: s.devices, Bundle: s.ca.Bundle, Log: s.log, TLS12: func(id core.DeviceID) bool {
		d, err := s.devices.Device(id)
		return err == nil && s.gateway.DeclaresTLS12(d.Product)
	}})
	if err != nil {
		return nil, err
	}
	readings, err := s.ingestDoor()
	if err != nil {
		return nil, err
	}
	doors := http.NewServeMux()
	doors.Handle(ingest.Pattern, readings) // has a bound of its own for bodies
	mux := http.NewServeMux()
	doors.Handle("/", http.MaxBytesHandler(mux, maxHTTPSBodyBytes))
	mux.Handle("/.well-known/est/", enrol)
	mux.HandleFunc("GET /checkpoint", s.serveCheckpoint)
	mux.HandleFunc("GET /tile/", s.serveTile)
	mux.HandleFunc("GET /healthz", s.serveHealth)
	mux.HandleFunc("GET "+crlPath, s.serveCRL)
	mux.HandleFunc("GET "+securityTXTPath, s.serveSecurityTXT)
	mux.HandleFunc("GET "+evidenceKeysPath, s.serveEvidenceKeys)
	only13 := &tls.Config{
		MinVersion:     tls.VersionTLS13, // CC 2.8
		GetCertificate: s.cert.GetCertificate,
		ClientAuth:     tls.RequestClientCert, // who renews shows one; enrolment verifies it
		NextProtos:     []string{"http/1.1"},
		// A resumed session would skip what a handshake asks for.
		SessionTicketsDisabled: true,
	}
	with12 := gateway.WithTLS12(only13)
	// A device that may connect with TLS 1.2 must be able to enrol with it.
	only13.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if s.gateway.OffersTLS12() {
			return with12, nil
		}
		return nil, nil
	}
	return &http.Server{
		Handler: s.inside.handler(doors), BaseContext: s.inside.base, ConnContext: ingest.WithConn,
		ReadHeaderTimeout: s.opt.waits.header, ReadTimeout: s.opt.waits.request,
		// Every answer here is small: it has this time as a whole.
		WriteTimeout: s.opt.waits.answer, IdleTimeout: s.opt.waits.idle, MaxHeaderBytes: 16 << 10,
		ErrorLog:  slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSConfig: only13,
	}, nil
}

func (s *server) serveCheckpoint(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(s.ledger.Latest().Note) // the client left; nothing to do
}

// serveTile serves the hashes of the ledger's tree, so that anybody proves a
// checkpoint consistent with an earlier one. The entries themselves are not
// for strangers.
func (s *server) serveTile(w http.ResponseWriter, r *http.Request) {
	ref, err := ledger.ParseTilePath(strings.TrimPrefix(r.URL.Path, "/tile/"))
	if err != nil || ref.Kind != ledger.HashTile {
		http.Error(w, "there is no such tile", http.StatusNotFound)
		return
	}
	b, err := s.ledger.Tile(r.Context(), ref)
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(b) // the client left; nothing to do
	case core.KindOf(err) == core.Unknown:
		http.Error(w, "there is no such tile", http.StatusNotFound)
	default:
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

// serveHealth answers machines that watch: 200 while messages are taken. It
// tells strangers nothing else.
func (s *server) serveHealth(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if s.journal.State().Trouble != nil || s.ledger.Status().Trouble != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "trouble: ask `hawser doctor`\n") // the client left
		return
	}
	_, _ = io.WriteString(w, "ok\n") // the client left
}

// localServer is the JSON door on the local socket.
func (s *server) localServer() (*http.Server, error) {
	routes := api.Routes(api.Deps{
		Declarations: declarations{s}, Devices: s.devices, Data: data{s}, Ledger: s.ledger, Running: running{s}, Proof: proof{s.assure, s}, People: peopleAtSocket{s}, Evidence: evidence{s}, Units: units{s}, Reviews: s.decl, Samples: s.samples, Commands: orders{s}, Settings: settings{s}, Services: ownServices{s},
	})
	metrics := s.metricsHandler()
	routes = append(routes, api.Route{Pattern: "GET /metrics", Permission: "server.status", Handle: func(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
		metrics.ServeHTTP(w, r)
		return nil
	}})
	h, err := api.Handler(routes, api.Options{Allow: s.mayUseSocket, Log: s.log, Stall: s.opt.waits.stall})
	if err != nil {
		return nil, err
	}
	return &http.Server{
		Handler: s.inside.handler(h), BaseContext: s.inside.base, ConnContext: api.WithPeer,
		// WriteTimeout is for what net/http answers by itself; for every other
		// answer it begins anew with each piece (api.Options).
		ReadHeaderTimeout: s.opt.waits.header, ReadTimeout: s.opt.waits.request, WriteTimeout: s.opt.waits.stall,
		IdleTimeout: s.opt.waits.idle, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}, nil
}

// crowd bounds the connections of a door, at all its addresses together: in
// all, where more wait in the kernel's queue, and of one source, where more are
// closed, so that nobody keeps the others out.
type crowd struct {
	slots chan struct{}
	each  int

	mu sync.Mutex // guards what follows
	by map[netip.Prefix]int
}

func newCrowd(all, each int) *crowd {
	return &crowd{slots: make(chan struct{}, all), each: each, by: map[netip.Prefix]int{}}
}

// at is one address of the door.
func (c *crowd) at(l net.Listener) net.Listener { return &capped{Listener: l, crowd: c} }

type capped struct {
	net.Listener
	crowd *crowd
}

// Accept waits for a place first: who comes meanwhile waits in the kernel.
func (c *capped) Accept() (net.Conn, error) {
	c.crowd.slots <- struct{}{}
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			<-c.crowd.slots
			return nil, fmt.Errorf("accept: %w", err)
		}
		from := sourceOf(conn)
		if c.crowd.enter(from) {
			return &cappedConn{Conn: conn, in: c.crowd, from: from}, nil
		}
		_ = conn.Close() // there is nothing to say before TLS
	}
}

func (c *crowd) enter(from netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[from] >= c.each {
		return false
	}
	c.by[from]++
	return true
}

func (c *crowd) leave(from netip.Prefix) {
	c.mu.Lock()
	if c.by[from]--; c.by[from] <= 0 {
		delete(c.by, from)
	}
	c.mu.Unlock()
	<-c.slots
}

// sourceOf is what counts as one source: an IPv4 address, or the /64 that one
// IPv6 subscriber is given.
func sourceOf(conn net.Conn) netip.Prefix {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	p, err := a.Prefix(min(a.BitLen(), 64))
	if err != nil {
		return netip.Prefix{} // no address: all of these are one source
	}
	return p
}

type cappedConn struct {
	net.Conn
	in   *crowd
	from netip.Prefix
	once sync.Once
}

// Close gives the place back, however often and by whomever it is called.
func (c *cappedConn) Close() error {
	c.once.Do(func() { c.in.leave(c.from) })
	return c.Conn.Close()
}
