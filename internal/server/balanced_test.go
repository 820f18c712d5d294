package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway/proxy"
)

const balancedConfig = "balancers: [127.9.9.0/24]\nbalanced_devices: 127.0.0.1:0\nbalanced_https: 127.0.0.1:0\n"

// freePort is a port of this machine that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // somebody else will listen there
	return l.Addr().String()
}

// TestBehindHAProxy: HAProxy passes devices and their enrolment on, and whoever
// is slowed down is who guessed, not everybody behind the balancer (design,
// section 8; CC 1.13).
func TestBehindHAProxy(t *testing.T) {
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("haproxy is missing (Debian: haproxy): no balancer to be behind")
	}
	t.Parallel()
	l := start(t, newHome(t, core.Test, balancedConfig))
	l.publish(t, testDeclaration)
	code, wrong := l.add(t, "A1"), l.add(t, "B1")
	devices, https := freePort(t), freePort(t)
	conf := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen devices
  bind %s
  source 127.9.9.7
  server hawser %s send-proxy-v2 check
listen https
  bind %s
  source 127.9.9.7
  server hawser %s send-proxy-v2 check
`, devices, l.addr.BalancedDevices, https, l.addr.BalancedHTTPS), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, program, "-db", "-f", conf)
	said := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("haproxy: %s", said)
		}
	})
	through := *l
	through.addr.Devices, through.addr.HTTPS = devices, https
	waitFor(t, 20*time.Second, "HAProxy passes us on", func() bool {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", https, &tls.Config{RootCAs: l.roots, ServerName: "localhost"})
		if err == nil {
			_ = c.Close() // it was to see
		}
		return err == nil
	})
	throttled := 0
	for range 40 {
		status, body := through.est(t, estCall{path: "simpleenroll", user: "A1", code: wrong, body: csrOf(t, newKey(t), x509.CertificateRequest{}), from: "127.0.0.21"})
		switch status {
		case http.StatusUnauthorized:
		case http.StatusTooManyRequests:
			throttled++
		default:
			t.Fatalf("a guess: %d: %s", status, body)
		}
	}
	if throttled < 20 {
		t.Errorf("%d of 40 guesses were throttled", throttled)
	}
	u := through.enrolWith(t, "A1", code) // from another address, through the same balancer
	dialMQTT(t, &through, u).publish(t, "telemetry/climate", `{"temp":20}`)
	waitFor(t, 20*time.Second, "the reading is there", func() bool { got, err := l.readAll(t, "A1"); return err == nil && len(got) == 1 })
	// Who is refused at the devices' door is named by his own address, too.
	d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 5, 5, 5)}}, Config: through.tls(nil)}
	if c, err := d.DialContext(t.Context(), "tcp", devices); err == nil {
		_, _ = c.Read(make([]byte, 1)) // the refusal comes after the handshake
		_ = c.Close()
	}
	waitFor(t, 20*time.Second, "the log names who was refused", func() bool { return strings.Contains(l.log.String(), "source=127.5.5.0/24") })
	if strings.Contains(l.log.String(), "source=127.9.9.0/24") {
		t.Error("the log takes the balancer for the client")
	}
}

// TestBalancersOnly: a door for balancers says nothing to others, whatever
// header they bring, and a client's word about his address counts nowhere.
func TestBalancersOnly(t *testing.T) {
	t.Parallel()
	l := start(t, newHome(t, core.Test, balancedConfig))
	to := netip.MustParseAddrPort(l.addr.BalancedHTTPS)
	header := proxy.AppendHeader(nil, netip.MustParseAddrPort("192.0.2.7:4000"), to)
	greets := func(from, door string, first []byte) bool {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
		c, err := d.DialContext(t.Context(), "tcp", door)
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }() // it was to see
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(first); err != nil {
			return false
		}
		return tls.Client(c, &tls.Config{RootCAs: l.roots, ServerName: "localhost"}).HandshakeContext(t.Context()) == nil
	}
	for _, x := range []struct {
		what, from, door string
		first            []byte
		want             bool
	}{
		{"a balancer", "127.9.9.7", l.addr.BalancedHTTPS, header, true},
		{"a balancer without a header", "127.9.9.7", l.addr.BalancedHTTPS, nil, false},
		{"a stranger with a header", "127.0.0.1", l.addr.BalancedHTTPS, header, false},
		{"a stranger without one", "127.0.0.1", l.addr.BalancedHTTPS, nil, false},
		{"a stranger with a header at the devices' own door", "127.0.0.1", l.addr.Devices, header, false},
		{"a balancer with a header at the ordinary door", "127.9.9.7", l.addr.HTTPS, header, false},
		{"anybody at the ordinary door", "127.0.0.1", l.addr.HTTPS, nil, true},
	} {
		if got := greets(x.from, x.door, x.first); got != x.want {
			t.Errorf("%s is greeted: %v", x.what, got)
		}
	}
}

// TestBalancedDoorsAreLookedAt: the checks of our own doors know those for
// balancers, as no balancer and as one.
func TestBalancedDoorsAreLookedAt(t *testing.T) {
	for name, ranges := range map[string]string{"not a balancer": "127.9.9.0/24", "a balancer": ownSource.String() + "/32"} {
		t.Run(name, func(t *testing.T) {
			if !ownSource.IsValid() && name == "a balancer" {
				t.Skip("this system has no address to spare for our own looks")
			}
			_, s, _ := innerWith(t, strings.Replace(balancedConfig, "127.9.9.0/24", ranges, 1))
			for _, id := range []string{"doors.cleartext", "interfaces.declared"} {
				o := check.Take(t.Context(), s.rounds.registry.Find(id), "test", s.opt.Now, trialTime)
				if o.Outcome != check.Pass {
					t.Errorf("%s: %s %s %+v", id, o.Outcome, o.Error, o.Findings)
				}
			}
			for _, x := range []string{s.addr.BalancedDevices, s.addr.BalancedHTTPS} {
				why, err := s.lookBehind(t.Context(), listener{addr: netip.MustParseAddrPort(x)})
				if err != nil || why != "" {
					t.Errorf("%s: %q %v", x, why, err)
				}
			}
			// What answers everybody is told apart from what answers balancers.
			if why, err := s.lookBehind(t.Context(), listener{addr: netip.MustParseAddrPort(s.addr.HTTPS)}); err != nil || why == "" {
				t.Errorf("an ordinary door passes for one of balancers: %q %v", why, err)
			}
		})
	}
}

func TestBalancersConfig(t *testing.T) {
	for conf, want := range map[string]string{
		"balancers: [192.0.2.16/28, 2001:db8::/64, 198.51.100.7]\nbalanced_devices: :9883": "",
		"balancers: [0.0.0.0/0]\nbalanced_devices: :9883":                                  "config-balancers",
		"balancers: [\"::/0\"]\nbalanced_devices: :9883":                                   "config-balancers",
		"balancers: [\"::ffff:192.0.2.0/120\"]\nbalanced_devices: :9883":                   "config-balancers",
		"balancers: [lb.northwind.example]\nbalanced_devices: :9883":                       "config-balancers",
		"balancers: [192.0.2.16/28]":                                                       "config-balancers",
		"balanced_https: :9443":                                                            "config-balanced_https",
		"balancers: [192.0.2.16/28]\nbalanced_devices: here":                               "config-balanced_devices",
	} {
		if _, err := ParseConfig("/h", []byte(conf)); err == nil && want != "" || err != nil && core.ReasonOf(err) != want {
			t.Errorf("%q: %v, want %q", conf, err, want)
		}
	}
}
