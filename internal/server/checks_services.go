package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway/services"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry/readers"
)

// serviceChecks hold that only listed services come in, each with its own
// certificate, and that they do what they are ordered to (CC 1.6, 3.4).
func (s *server) serviceChecks() []check.Check {
	listed := &servicesListed{s: s, records: follow(readers.RecordAdded, readers.RecordCertified)}
	return []check.Check{
		{
			ID: "services.mutual", Version: 1, Rows: []string{"1.6", "3.4"}, Kind: check.Probe, MaxAge: check.ProbeAge, // CC 1.6, 3.4
			Says: "The services' door takes nobody without a certificate, with one of another authority, or with an old TLS, and notes who was refused.",
			Do:   "Close the port at the firewall and restart the server; see `hawser service list` for who came in, and report it.",
			Look: s.lookAtServiceDoor,
			Violations: []check.Violation{
				{ID: "takes-anybody", Says: "Has the services' door be one that asks for no certificate.", Do: own(serviceDoorLeads(serveAnybody))},
				{ID: "old-tls", Says: "Has the services' door be one that speaks TLS 1.1.", Do: own(serviceDoorLeads(serveOldTLS))},
			},
		},
		{
			ID: "services.listed", Version: 1, Rows: []string{"1.6"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 1.6
			Says: "Every service that may connect, and every certificate of one, was registered as the ledger has it.",
			Do:   "Revoke the service (`hawser service revoke`), and find out who writes to control.db.",
			Look: listed.look,
			Violations: []check.Violation{
				{ID: "service-slipped-in", Says: "Writes a service into the register that nobody added.", Do: slipService},
				{ID: "certificate-slipped-in", Says: "Writes a certificate into the register that nobody issued.", Do: slipServiceCertificate},
			},
		},
		{
			ID: assurance.CheckServicesErase, Version: 1, Rows: []string{"1.6"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 1.6
			Says: "Every service that was given readings answers each order to erase in time, and has erased the last canary that it was ordered to.",
			Do:   "Ask who runs the service that is named to erase what it was ordered to and to answer; `hawser service show` lists what is open. Revoke it if it does not.",
			Look: s.lookAtErasingServices,
			Violations: []check.Violation{
				{ID: "order-unanswered", Says: "Writes an order to a service whose time is over without an answer.", Do: slipOrder},
				{ID: "canary-kept", Says: "Writes that a service still has a canary that it was ordered to erase.", Do: slipCanary},
			},
		},
	}
}

// lookAtServiceDoor knocks as a stranger does: at the door where it is open,
// else at what would open, over a pipe.
func (s *server) lookAtServiceDoor(ctx context.Context, l *check.Look) error {
	other, err := s.impostor()
	if err != nil {
		return err
	}
	named, err := otherService(other, s.inst.Environment, l.Now)
	if err != nil {
		return err
	}
	at := s.services.address()
	if to := s.services.leads.Load(); to != nil {
		at = *to
	}
	if at == "" {
		l.Touch("door", "shut: no service is registered; what would open was asked")
	} else {
		l.Touch("address", at)
	}
	noted := len(s.services.readers.Refusals())
	knocks := []struct {
		what   string
		cert   *tls.Certificate
		most   uint16
		reason string
	}{
		{"nobody's certificate", nil, tls.VersionTLS13, "no-certificate"},
		{"a certificate of another authority that names a service", named, tls.VersionTLS13, "foreign-authority"},
		{"TLS 1.2", named, tls.VersionTLS12, ""},
	}
	l.Expect("knocks that the look makes", 2*len(knocks))
	for _, k := range knocks {
		refused, err := s.knockAsService(ctx, at, k.cert, k.most)
		if err != nil {
			return err
		}
		l.Holds(refused, k.what, "was let in at the services' door")
		if k.reason == "" {
			l.Pass(1) // there is nothing to note before a version is agreed on
			continue
		}
		found := false
		for _, r := range s.services.readers.Refusals() {
			found = found || r.Reason == k.reason && !r.Time.Before(l.Now.Add(-time.Second))
		}
		l.Holds(found, k.what, "was not noted among those refused (%d before)", noted)
	}
	return nil
}

// otherService is a certificate that names a service of ours, by an authority
// that is not ours.
func otherService(a *issuer, env core.Environment, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := a.sign(&x509.Certificate{
		URIs: []*url.URL{identity.ServiceURN(env, "stranger")}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key.Public())
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// knockAsService reports whether whoever shows cert is refused by the other end, which
// says so: a connection that just ends is no refusal.
func (s *server) knockAsService(ctx context.Context, at string, cert *tls.Certificate, most uint16) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, ownWait)
	defer cancel()
	var c net.Conn
	if at == "" {
		ours, theirs := net.Pipe()
		c = ours
		go func() {
			t := tls.Server(theirs, services.TLS(s.services.readers, s.cert.GetCertificate, s.ca.ClientPool, s.opt.Now))
			if t.HandshakeContext(ctx) == nil {
				_, _ = io.WriteString(t, "HTTP/1.1 200 OK\r\n") // let in
			}
			_ = theirs.Close() // the look is over
		}()
	} else {
		var d net.Dialer
		if c, err = d.DialContext(ctx, "tcp", at); err != nil {
			return false, fmt.Errorf("knock at the services' door: %w", err)
		}
	}
	defer func() { _ = c.Close() }() // it was only to knock
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return false, fmt.Errorf("knock at the services' door: %w", err)
	}
	conf := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: most} // who asks wants to know whether it is let in, not by whom
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	t := tls.Client(c, conf)
	if err = t.HandshakeContext(ctx); err == nil {
		_, err = t.Read(make([]byte, 1)) // a server of TLS 1.3 refuses after its own part
	}
	return err != nil && strings.Contains(err.Error(), "remote error: tls"), nil
}

// serviceDoorLeads has the address of the services' door lead to a port beside.
func serviceDoorLeads(serve func(context.Context, *twin) func(net.Conn)) func(context.Context, *twin) (func(context.Context) error, error) {
	return func(ctx context.Context, t *twin) (func(context.Context) error, error) {
		at, undo, err := besideAt(ctx, t, serve(ctx, t))
		if err != nil {
			return nil, err
		}
		t.Touch("name", "services leads to "+at)
		t.s.services.leads.Store(&at)
		return func(ctx context.Context) error { t.s.services.leads.Store(nil); return undo(ctx) }, nil
	}
}

// servicesListed holds the register to the ledger.
type servicesListed struct {
	s       *server
	records *followed
}

func (x *servicesListed) look(ctx context.Context, l *check.Look) error {
	l.Touch("table", "control.db: reader, reader_certificate")
	l.Touch("source", "ledger, records of kind "+string(readers.RecordAdded)+" and "+string(readers.RecordCertified))
	var all []readers.Reader
	var certs []readers.Certificate
	err := x.s.store.View(ctx, func(tx *store.Tx) (err error) {
		if all, err = tx.Readers(ctx); err != nil {
			return err
		}
		certs, err = tx.ReaderCertificates(ctx)
		return err
	})
	if err != nil {
		return err
	}
	entries, err := x.records.all(ctx, x.s.ledger)
	if err != nil {
		return err
	}
	added, certified := map[string]bool{}, map[string]string{}
	for i := range entries {
		r := &entries[i].Record
		if r.Kind == readers.RecordAdded {
			added[factOf(r, "service")] = true
		} else {
			certified[factOf(r, "certificate")] = factOf(r, "service")
		}
	}
	listed, err := x.s.services.readers.List(ctx)
	if err != nil {
		return err
	}
	l.Expect("services in memory; and services and certificates in the ledger", 1+len(all)+len(certs))
	l.Holds(len(listed) == len(all), "register", "memory has %d services, the table %d", len(listed), len(all))
	for _, r := range all {
		l.Holds(added[r.Name], r.Name, "the ledger has no record that this service was added")
	}
	for _, c := range certs {
		n := hex.EncodeToString(c.Number[:])
		l.Holds(certified[n] == c.Reader, c.Reader+" "+n, "the ledger has no record that this certificate was issued to it")
	}
	return nil
}

func (s *server) lookAtErasingServices(ctx context.Context, l *check.Look) error {
	l.Touch("table", "control.db: reader_event, reader_canary")
	all, err := s.services.readers.Standings(ctx)
	if err != nil {
		return err
	}
	late, err := s.services.readers.Overdue(ctx)
	if err != nil {
		return err
	}
	in, err := s.decl.All(ctx)
	if err != nil {
		return err
	}
	stands := map[string]readers.Standing{}
	for _, x := range all {
		stands[assurance.ReaderName(x.Product, x.Reader)] = x
	}
	l.Expect("services that a declaration in force names, those that were given readings, and all orders", 1)
	l.Holds(len(late) == 0, "orders", "%d orders were not answered in time, the oldest by %s", len(late), firstReader(late))
	for _, p := range in {
		for i := range p.Services {
			name := assurance.ReaderName(p.Product, p.Services[i].Name)
			if _, given := stands[name]; !given {
				l.Expect("", 1)
				l.Pass(1) // it was given nothing
			}
		}
	}
	for name, x := range stands {
		l.Expect("", 1)
		switch {
		case x.Proved:
			l.Pass(1)
		case x.Bad:
			l.Fail(name, "%s", x.Why)
		default:
			l.Exclude(name, x.Why)
		}
	}
	return nil
}

func firstReader(late []readers.Event) string {
	if len(late) == 0 {
		return ""
	}
	return late[0].Reader
}

// slipService writes a service behind the program's back.
func slipService(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	err := t.Exec(ctx, "control.db", `INSERT INTO reader (name, added_us, revoked_us, answer_s, cursor_key, events) VALUES ('unlisted', 1, 0, 3600, ?, 0)`, make([]byte, 32))
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `DELETE FROM reader WHERE name = 'unlisted'`)
	}, err
}

func slipServiceCertificate(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	err := t.Exec(ctx, "control.db", `INSERT INTO reader_certificate (number, reader, der, issued_us, not_after_us, ended_us) VALUES (?, 'unlisted', ?, 1, 1, 0)`, make([]byte, 16), []byte{0})
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `DELETE FROM reader_certificate WHERE reader = 'unlisted'`)
	}, err
}

func slipOrder(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	err := t.Exec(ctx, "control.db", `INSERT INTO reader_event (reader, number, product, id, kind, alias, keep_s, start_s, length_s, body, made_us, due_us, answered_us, held)
		VALUES ('unlisted', 1, 'twin-sensor', 'ounlisted', 'erase', ?, 0, 0, 0, ?, 1, 2, 0, 0)`, make([]byte, 16), []byte{})
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `DELETE FROM reader_event WHERE reader = 'unlisted'`)
	}, err
}

// slipCanary writes what a service that keeps a canary leaves behind.
func slipCanary(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	undo := func(ctx context.Context) error {
		for _, stmt := range []string{
			`DELETE FROM reader WHERE name = 'unlisted'`, `DELETE FROM reader_epoch WHERE reader = 'unlisted'`, `DELETE FROM reader_canary WHERE reader = 'unlisted'`,
		} {
			if err := t.Exec(ctx, "control.db", stmt); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := slipService(ctx, t); err != nil {
		return nil, err
	}
	err := t.Exec(ctx, "control.db", `INSERT INTO reader_epoch (reader, product, keep_s, start_s, length_s) VALUES ('unlisted', 'twin-sensor', 2592000, 4102444800, 86400)`)
	if err == nil {
		err = t.Exec(ctx, "control.db", `INSERT INTO reader_canary (alias, reader, product, state, event, changed_us) VALUES (?, 'unlisted', 'twin-sensor', 'still-held', 1, 1)`, make([]byte, 16))
	}
	return undo, err
}
