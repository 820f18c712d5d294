package server

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway/est"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// maxHTTPSConnections bounds the connections of the HTTPS door: devices come
// here seldom, and each connection costs a handshake.
const maxHTTPSConnections = 1024

// httpsServer is the door for enrolment, the ledger's checkpoint and tiles,
// and health. Nothing else answers there.
func (s *server) httpsServer() (*http.Server, error) {
	enrol, err := est.New(est.Deps{Identity: s.devices, Bundle: s.ca.Bundle(), Log: s.log})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/.well-known/est/", enrol)
	mux.HandleFunc("GET /checkpoint", s.serveCheckpoint)
	mux.HandleFunc("GET /tile/", s.serveTile)
	mux.HandleFunc("GET /healthz", s.serveHealth)
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS13, // CC 2.8
			GetCertificate: s.cert.GetCertificate,
			ClientAuth:     tls.RequestClientCert, // who renews shows one; enrolment verifies it
			NextProtos:     []string{"http/1.1"},
			// A resumed session would skip what a handshake asks for.
			SessionTicketsDisabled: true,
		},
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
	h, err := api.Handler(api.Routes(api.Deps{
		Declarations: declarations{s}, Devices: s.devices, Data: data{s}, Ledger: s.ledger, Running: running{s},
	}), s.mayUseSocket, s.log)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.Handle("GET /metrics", s.metricsHandler())
	return &http.Server{
		Handler: mux, ConnContext: api.WithPeer,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}, nil
}

// capped bounds the connections of a listener; more wait in the kernel's queue.
type capped struct {
	net.Listener
	slots chan struct{}
}

func newCapped(l net.Listener, n int) *capped { return &capped{l, make(chan struct{}, n)} }

func (c *capped) Accept() (net.Conn, error) {
	c.slots <- struct{}{}
	conn, err := c.Listener.Accept()
	if err != nil {
		<-c.slots
		return nil, fmt.Errorf("accept: %w", err)
	}
	return &cappedConn{Conn: conn, slots: c.slots}, nil
}

type cappedConn struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

// Close gives the slot back, however often and by whomever it is called.
func (c *cappedConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}
