package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/probe"
)

// outsideChecks ask the doors what anybody could ask them from outside: the
// very questions of `hawser probe` (CC 2.2, 2.8, 3.1, 3.3).
func (s *server) outsideChecks() []check.Check {
	return []check.Check{{
		ID: "doors.outside", Version: 1, Rows: []string{"2.8", "2.2", "3.1", "3.3"}, Kind: check.Probe, MaxAge: check.ProbeAge,
		Says: "Every question of `hawser probe` to the doors of this server is answered as it should be: versions and ciphers of TLS, certificates, cleartext, strangers, the console's headers, and a ledger that only grew. What stands between the doors and the world only a probe from another machine sees.",
		Do:   "Run `hawser probe` from another machine: it asks the same and says more. The finding names the door and the question.",
		Look: s.lookFromOutside,
		Violations: []check.Violation{
			{ID: "name-leads-to-old-tls", Says: "Has the installation's name lead to a port beside that speaks TLS 1.1.", Do: own(leadsTo("https", serveOldTLS))},
			{ID: "devices-led-astray", Says: "Has the devices' address lead to a port beside that takes anybody.", Do: own(leadsTo("devices", serveAnybody))},
			{ID: "ledger-forked", Says: "Has the last look remember a ledger that this one did not grow out of.", Do: own(forkMemory)},
		},
	}}
}

// seenLedger is the file in Data that has the ledger as a stranger saw it last.
const seenLedger = "probe.json"

// public is where strangers come to: the doors themselves, unless a twin's
// trial has a name lead elsewhere.
type public struct{ https, devices atomic.Pointer[string] }

func (s *server) lookFromOutside(ctx context.Context, l *check.Look) error {
	o, err := s.asStranger()
	if err != nil {
		return err
	}
	r, err := probe.Run(ctx, o)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("ask the doors: %w", ctx.Err())
	}
	doors := []string{"https", "devices"}
	if o.Console != "" {
		doors = append(doors, "console")
	}
	l.Expect("doors that the configuration opens", len(doors))
	all, mute := 0, error(nil)
	for _, d := range doors {
		bad := 0
		at := ""
		for _, a := range r.Answers {
			if a.Door != d && (a.Door != "host" || d != "https") {
				continue
			}
			at = a.Address
			switch {
			case a.Outcome == probe.Mute:
				mute = fmt.Errorf("ask %s for %s: %s", a.Door, a.Asked, a.Came)
			case a.Outcome == probe.Bad, a.ID == "tls-1.2" && a.Outcome == probe.Seen && !(d != "console" && s.tls12Declared(ctx)):
				bad++
				l.Fail(a.Door+" "+a.Address, "%s: %s", a.Asked, a.Came)
			}
		}
		l.Touch("address", d+" "+at)
		if all += bad; bad == 0 {
			l.Pass(1)
		}
	}
	if all == 0 && mute != nil {
		return mute // a question without an answer is no good answer
	}
	l.Touch("source", fmt.Sprintf("%d answers over %d connections", len(r.Answers), r.Connected))
	return nil
}

// asStranger is how a stranger would ask this server.
func (s *server) asStranger() (probe.Options, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // none is trusted here but ours
	}
	roots.AddCert(s.ca.Root())
	name := s.c.Names[0]
	if i := slices.IndexFunc(s.c.Names, func(n string) bool { return net.ParseIP(n) == nil }); i >= 0 {
		name = s.c.Names[i]
	}
	named := func(door string) (string, error) {
		_, port, err := net.SplitHostPort(door)
		return net.JoinHostPort(name, port), err
	}
	https, err := named(s.addr.HTTPS)
	devices, derr := named(s.addr.Devices)
	if err = errors.Join(err, derr); err != nil {
		return probe.Options{}, err
	}
	lead := map[string]string{https: or(s.public.https.Load(), reachable(s.addr.HTTPS)), devices: or(s.public.devices.Load(), reachable(s.addr.Devices))}
	o := probe.Options{
		URL: "https://" + https, Devices: devices, Roots: roots, LedgerKey: s.ledger.VerifierKey(), State: filepath.Join(s.c.Data, seenLedger), Now: s.opt.Now, Gentle: true,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			to, ours := lead[address]
			if !ours {
				_, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				to = net.JoinHostPort("127.0.0.1", port) // a usual port of this machine
			}
			return dialOwn(ctx, network, to, ownWait)
		},
	}
	if a, err := netip.ParseAddrPort(s.addr.HTTPS); err == nil && a.Addr().IsLoopback() {
		o.Cleartext = []string{} // this machine's other ports are nobody's public ones
	}
	if at := s.people.address(); at != "" {
		o.Console = s.origin(at)
		u, err := url.Parse(o.Console)
		if err != nil {
			return probe.Options{}, fmt.Errorf("read the console's address: %w", err)
		}
		port := u.Port()
		if port == "" {
			port = "443"
		}
		lead[net.JoinHostPort(u.Hostname(), port)] = reachable(at)
	}
	return o, nil
}

func or(other *string, usual string) string {
	if other != nil {
		return *other
	}
	return usual
}

// besideAt is beside, and says where.
func besideAt(ctx context.Context, t *twin, serve func(net.Conn)) (addr string, undo func(context.Context) error, err error) {
	undo, err = beside(ctx, t, serve)
	if err != nil {
		return "", nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.touched[len(t.touched)-1].Name), undo, nil
}
