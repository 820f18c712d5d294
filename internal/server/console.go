package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/console"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// maxConsoleConnections bounds the connections of the console: a browser opens
// six, and a maker has few people. maxConsolePerSource leaves room for others
// when one address goes wild.
const (
	maxConsoleConnections = 512
	maxConsolePerSource   = 128
)

// consoleServer is the door for people. Its certificate is the maker's, or the
// one of our own authority.
func (s *server) consoleServer(know *access.Service, origin string) (*http.Server, error) {
	pages, err := s.console(know, origin)
	if err != nil {
		return nil, err
	}
	s.pages.Store(pages)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.pages.Load().ServeHTTP(w, r) })
	certificate := s.cert.GetCertificate
	if s.c.ConsoleCertificate != "" || s.c.ConsoleKey != "" {
		pair, err := tls.LoadX509KeyPair(s.c.ConsoleCertificate, s.c.ConsoleKey)
		if err != nil {
			return nil, &core.Error{Kind: core.Invalid, Reason: "console-certificate", Message: "the console's certificate cannot be used", Hint: "the keys `console_certificate` and `console_key` name PEM files that belong together", Err: err}
		}
		certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return &http.Server{
		Handler: s.inside.handler(handler), BaseContext: s.inside.base,
		ReadHeaderTimeout: s.opt.waits.header, ReadTimeout: s.opt.waits.request, WriteTimeout: s.opt.waits.answer,
		IdleTimeout: s.opt.waits.idle, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS13, // CC 2.8
			GetCertificate: certificate, NextProtos: []string{"http/1.1"},
			SessionTicketsDisabled: true,
		},
	}, nil
}

// console puts the pages together.
func (s *server) console(know *access.Service, origin string) (*console.Console, error) {
	door, err := console.NewSignIn(console.SignInDeps{Access: know})
	if err != nil {
		return nil, err
	}
	c, err := door.Console(console.Deps{
		Proof: s.assure, Declarations: s.decl, Reviews: declarations{s}, Devices: s.devices, Data: s.telem.read, Running: onPages{s}, Ledger: s.ledger,
		People: know, Evidence: evidence{s}, Samples: s.samples, Commands: s.commands, Settings: s.commands, Origin: origin, Maker: s.c.Maker, Passwords: s.passwordRules,
		Now: s.opt.Now, Log: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("open the console: %w", err)
	}
	return c, nil
}

// onPages gives the console the running server.
type onPages struct{ s *server }

func (p onPages) Counts(ctx context.Context, product core.ProductID) (console.Counted, error) {
	t, err := p.s.telem.counts.Totals(ctx, product)
	return console.Counted{Accepted: t.Accepted, Stored: t.Stored, DroppedFields: t.DroppedFields, Duplicates: t.Duplicates, Refused: t.Refused}, err
}

func (p onPages) CountsOf(ctx context.Context, subject core.Subject) (out console.Counted, err error) {
	err = p.s.store.View(ctx, func(tx *store.Tx) error {
		sums, err := tx.SubjectCount(ctx, subject)
		if err != nil {
			return err
		}
		for _, c := range sums {
			out.Accepted += c.Accepted
			out.Stored += c.Stored
			out.DroppedFields += c.DroppedFields
			out.Duplicates += c.Duplicates
		}
		refused, err := tx.SubjectRefusals(ctx, subject)
		for _, r := range refused {
			out.Refused = append(out.Refused, telemetry.ReasonCount{Reason: r.Reason, N: r.N})
		}
		return err
	})
	if err != nil {
		return out, fmt.Errorf("read counts of a subject: %w", err)
	}
	return out, nil
}

func (p onPages) Connected(id core.DeviceID) bool { return p.s.connected(id) }

func (p onPages) Sessions() int { return p.s.connections() }

func (p onPages) Connections() []console.Connection {
	var out []console.Connection
	for _, r := range p.s.gateway.Refusals() {
		out = append(out, console.Connection{Time: r.Time.UTC(), Reason: r.Reason, Source: r.Source.String(), Subject: r.Subject})
	}
	return out
}
