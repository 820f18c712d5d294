package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/probe"
	"github.com/hawser-iot/hawser/internal/store"
)

// strangerChecks knock at the doors as a stranger would, over real sockets
// (CC 1.9, 3.1, 3.11, 4.17, 5.10).
func (s *server) strangerChecks() []check.Check {
	return []check.Check{
		{
			ID: "devices.no-anonymous", Version: 1, Rows: []string{"3.1", "1.9"}, Kind: check.Probe, MaxAge: check.ProbeAge,
			Says: "No port of this program lets a device in that shows no certificate, one of somebody else, one that ran out, a password, or a key that many share.",
			Do:   "Find out with `ss -ltnp` which port it is and end what opened it; if it is the devices' door, stop the server and report a vulnerability.",
			Look: s.lookAtAnonymous,
			Violations: []check.Violation{
				{ID: "anonymous-door", Says: "Opens a listener beside the server that takes anonymous MQTT over TLS.", Do: doorBeside(tls.NoClientCert, func([]byte) bool { return true })},
				{ID: "password-door", Says: "Opens a listener beside the server that takes MQTT over TLS with a user name and password.", Do: doorBeside(tls.NoClientCert, hasPassword)},
				{ID: "any-certificate-door", Says: "Opens a listener beside the server that takes MQTT over TLS with anybody's certificate.", Do: doorBeside(tls.RequireAnyClientCert, func([]byte) bool { return true })},
			},
		},
		{
			ID: "environment.apart", Version: 1, Rows: []string{"3.11"}, Kind: check.Probe, MaxAge: check.ProbeAge,
			Says: "A device of the other environment is refused at every port, and the installation is of the environment that its authority was made for.",
			Do:   "Find out who opened the port, or who wrote to control.db; an installation's environment never changes.",
			Look: s.lookAtEnvironment,
			Violations: []check.Violation{
				{ID: "door-of-both", Says: "Opens a listener beside the server that takes devices of the other environment.", Do: doorBeside(tls.RequireAnyClientCert, func([]byte) bool { return true })},
				{ID: "environment-changed", Says: "Makes the installation one of the other environment in the store behind the program's back.", Do: changeEnvironment},
			},
		},
		{
			ID: "handshakes.visible", Version: 1, Rows: []string{"4.17"}, Kind: check.Probe, MaxAge: check.ProbeAge,
			Says: "A handshake that fails at a port for devices is seen, with its reason, within five seconds.",
			Do:   "Find out who opened the port that tells nobody whom it refuses (`ss -ltnp`); if it is the devices' door, restart the server.",
			Look: s.lookAtHandshakes,
			Violations: []check.Violation{
				{ID: "silent-door", Says: "Opens a listener beside the server that refuses devices and tells nobody.", Do: doorBeside(tls.RequireAnyClientCert, func([]byte) bool { return false })},
			},
		},
		{
			ID: "sessions.encrypted", Version: 1, Rows: []string{"5.10"}, Kind: check.Query, MaxAge: check.QueryAge,
			Says: "Every live session speaks TLS 1.3, or 1.2 with authenticated encryption where its product declares it now.",
			Do:   "Restart the server: every device negotiates anew, and what is not declared is refused.",
			Look: s.lookAtSessions,
			Violations: []check.Violation{
				{ID: "old-session", Says: "Connects a device with TLS 1.2, then takes TLS 1.2 out of its product's declaration while it is connected.", Do: oldSession},
			},
		},
		{
			ID: "credentials.defaults", Version: 2, Rows: []string{"1.9"}, Kind: check.Probe, MaxAge: check.ProbeAge,
			Says: "No user name and password that products are sold with gets a certificate at any port.",
			Do:   "End what opened the port (`ss -ltnp`); this program has no such credential.",
			Look: s.lookAtDefaults,
			Violations: []check.Violation{
				{ID: "default-door", Says: "Opens a listener beside the server that gives certificates to admin with the password admin.", Do: defaultDoor},
			},
		},
	}
}

// maxOwnDoors bounds the ports of ours that one look knocks at.
const maxOwnDoors = 16

// ownDoors are the listening sockets that this process holds, as the kernel
// says, with the addresses at which they are reached from here.
func (s *server) ownDoors(l *check.Look) ([]listener, error) {
	all, err := s.sockets.listeners()
	if err != nil {
		return nil, err
	}
	l.Touch("file", "/proc/net/tcp, /proc/net/tcp6")
	all = slices.DeleteFunc(all, func(x listener) bool { return !x.ours })
	if len(all) > maxOwnDoors {
		return nil, fmt.Errorf("this process listens on %d ports, more than the %d that are asked", len(all), maxOwnDoors)
	}
	for _, x := range all {
		l.Touch("address", x.addr.String())
	}
	return all, nil
}

// knock lets a stranger try at an address.
func (s *server) knock(ctx context.Context, addr string, who *probe.Stranger) (in bool, came string, err error) {
	c, err := dialDoor(ctx, addr)
	if err != nil {
		return false, "", err
	}
	defer func() { _ = c.Close() }() // the answer is what counts
	return who.Try(ctx, c, "localhost", s.inst.Environment, s.opt.Now())
}

func dialDoor(ctx context.Context, addr string) (net.Conn, error) {
	c, err := dialOwn(ctx, "tcp", addr, ownWait)
	if err != nil {
		return nil, fmt.Errorf("reach %s: %w", addr, err)
	}
	if err := c.SetDeadline(time.Now().Add(ownWait)); err != nil {
		_ = c.Close() // the error says it
		return nil, err
	}
	return c, nil
}

// strangersAt lets those strangers knock at every port of ours.
func (s *server) strangersAt(ctx context.Context, l *check.Look, who []probe.Stranger) error {
	doors, err := s.ownDoors(l)
	if err != nil {
		return err
	}
	l.Expect("listening sockets of this process in the kernel's table, by who knocks", len(doors)*len(who))
	for _, x := range doors {
		for i := range who {
			in, came, err := s.knock(ctx, x.reach(), &who[i])
			if err != nil {
				return fmt.Errorf("%s at %s: %w", who[i].Says, x.addr, err)
			}
			l.Holds(!in, x.addr.String(), "%s: %s", who[i].Says, came)
		}
	}
	return nil
}

func (s *server) lookAtAnonymous(ctx context.Context, l *check.Look) error {
	who := slices.DeleteFunc(probe.Strangers(), func(x probe.Stranger) bool { return !slices.Contains(x.Rows, "3.1") })
	if err := s.strangersAt(ctx, l, who); err != nil {
		return err
	}
	doors, err := s.ownDoors(l)
	if err != nil {
		return err
	}
	l.Expect("", len(doors))
	for _, x := range doors {
		took, err := probe.SharedKey(func() (net.Conn, error) { return dialDoor(ctx, x.reach()) }, "localhost")
		if err != nil {
			return err
		}
		l.Holds(took == "", x.addr.String(), "it takes %s", took)
	}
	return nil
}

func (s *server) lookAtEnvironment(ctx context.Context, l *check.Look) error {
	who := slices.DeleteFunc(probe.Strangers(), func(x probe.Stranger) bool { return x.ID != "other-environment" })
	if err := s.strangersAt(ctx, l, who); err != nil {
		return err
	}
	var stored store.Installation
	if err := s.store.View(ctx, func(tx *store.Tx) (err error) { stored, err = tx.Installation(ctx); return err }); err != nil {
		return fmt.Errorf("read the installation: %w", err)
	}
	l.Touch("table", "control.db: installation")
	l.Touch("certificate", "the authority's")
	l.Expect("", 1)
	authority, err := x509.ParseCertificate(s.ca.Bundle()[1])
	if err != nil {
		return fmt.Errorf("read the authority's certificate: %w", err)
	}
	named := authority.Subject.CommonName
	l.Holds(strings.HasPrefix(named, fmt.Sprintf("Hawser %s operational", stored.Environment)), "the installation",
		"the store says that it is of %s, its authority is %q", stored.Environment, named)
	return nil
}

// visibleWithin is how soon a failed handshake is to be seen (CC 4.17).
const visibleWithin = 5 * time.Second

func (s *server) lookAtHandshakes(ctx context.Context, l *check.Look) error {
	doors, err := s.ownDoors(l)
	if err != nil {
		return err
	}
	l.Touch("source", "the gateway's list of refused connections")
	l.Expect("listening sockets of this process in the kernel's table", len(doors))
	who := probe.Strangers()[0]
	for _, x := range doors {
		if x.is(s.addr.HTTPS) || x.is(s.people.address()) {
			l.Exclude(x.addr.String(), "no door for devices' sessions: whom it refuses stands in the log")
			continue
		}
		began := s.opt.Now()
		in, came, err := s.knock(ctx, x.reach(), &who)
		if err != nil {
			return fmt.Errorf("%s at %s: %w", who.Says, x.addr, err)
		}
		if in {
			l.Fail(x.addr.String(), "%s: %s", who.Says, came)
			continue
		}
		seen := s.refusedSince(ctx, began, who.Reason)
		l.Holds(seen, x.addr.String(), "%s was refused, and %s later nobody knows", who.Says, visibleWithin)
	}
	return nil
}

// refusedSince waits for a refusal from this very machine.
func (s *server) refusedSince(ctx context.Context, began time.Time, reason string) bool {
	end := time.Now().Add(visibleWithin)
	for {
		if slices.ContainsFunc(s.gateway.Refusals(), func(r gateway.Refusal) bool { return !r.Time.Before(began) && r.Reason == reason }) {
			return true
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *server) lookAtSessions(ctx context.Context, l *check.Look) error {
	var stored []declaration.Published
	if err := s.store.View(ctx, func(tx *store.Tx) (err error) { stored, err = tx.CurrentDeclarations(ctx); return err }); err != nil {
		return fmt.Errorf("read declarations: %w", err)
	}
	with12 := map[core.ProductID]bool{}
	for _, d := range stored {
		if p, err := declaration.ParsePolicy(d.Canonical); err == nil {
			with12[p.Product] = p.Network.TLS == "1.2"
		}
	}
	live, err := s.allSessions(ctx)
	if err != nil {
		return err
	}
	l.Touch("source", "live sessions at the devices' door")
	l.Touch("table", "control.db: declaration")
	l.Expect("live sessions at the devices' door", len(live))
	for _, x := range live {
		d, err := s.devices.Device(x.Device)
		if err != nil {
			l.Fail(s.devices.UnitName(x.Device), "is connected and is not registered")
			continue
		}
		suite := tls.CipherSuiteName(x.Cipher)
		ok := x.TLS >= tls.VersionTLS13 || x.TLS == tls.VersionTLS12 && with12[d.Product] && authenticated(suite)
		l.Holds(ok, s.devices.UnitName(x.Device), "speaks %s with %s, which %s does not declare", tls.VersionName(x.TLS), suite, d.Product)
	}
	return nil
}

// authenticated reports whether a suite of TLS 1.2 has ephemeral keys and
// authenticated encryption (RFC 9325 §4.2).
func authenticated(suite string) bool {
	return strings.HasPrefix(suite, "TLS_ECDHE_") && (strings.Contains(suite, "_GCM_") || strings.Contains(suite, "_CHACHA20_"))
}

func (s *server) lookAtDefaults(ctx context.Context, l *check.Look) error {
	doors, err := s.ownDoors(l)
	if err != nil {
		return err
	}
	list := probe.KnownDefaults()
	csr, err := newRequest("PROBE-1")
	if err != nil {
		return err
	}
	l.Expect("listening sockets of this process in the kernel's table, by known credentials", len(doors)*len(list))
	for _, x := range doors {
		if x.is(s.addr.Devices) {
			for range list {
				l.Exclude(x.addr.String(), "speaks MQTT; who knocks there with a password is another check")
			}
			continue
		}
		// A door that has compared some makes us wait for the others: each look
		// begins with others.
		mrand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		compared, waits := 0, false
		for _, c := range list {
			if waits {
				l.Exclude(x.addr.String(), "was not asked: a source that tries so many is told to wait")
				continue
			}
			status, err := askEST(ctx, x.reach(), c, base64.StdEncoding.EncodeToString(csr.der))
			switch {
			case err != nil:
				return fmt.Errorf("ask %s: %w", x.addr, err)
			case status == http.StatusTooManyRequests:
				l.Exclude(x.addr.String(), "was not compared: a source that tries so many is told to wait")
				waits = true
				continue
			}
			compared++
			l.Holds(status != http.StatusOK, x.addr.String(), "%s with the password %s gets a certificate", c.User, c.Password)
		}
		if compared == 0 {
			return errors.New("it was told to wait: known credentials were not compared")
		}
	}
	return nil
}

// askEST asks for a certificate and gives the status; 0 for what is no HTTP.
func askEST(ctx context.Context, addr string, c probe.Credential, csr string) (int, error) {
	q, err := probe.EnrolRequest(ctx, "https://"+addr, c, csr)
	if err != nil {
		return 0, err
	}
	client := &http.Client{
		Timeout: ownWait,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", MinVersion: tls.VersionTLS12}, // our own port, as the kernel says
			DisableKeepAlives: true,
			DialContext:       ownDial,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	a, err := client.Do(q)
	if err != nil {
		return 0, err
	}
	return a.StatusCode, a.Body.Close()
}
