package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway/proxy"
)

// headerWait is how long a balancer has for its PROXY header, which it sends
// with its first packet.
const headerWait = 5 * time.Second

// The widest ranges that may be called those of balancers: a header is
// believed, so a range of strangers would let them choose whom the gate slows
// down.
const (
	widestV4 = 8
	widestV6 = 32
)

// balancers are the ranges of the key `balancers`.
func (c *Config) balancers() (out []netip.Prefix, err error) {
	for _, text := range c.Balancers {
		p, err := netip.ParsePrefix(text)
		if a, aerr := netip.ParseAddr(text); err != nil && aerr == nil && a.Zone() == "" {
			p, err = a.Unmap().Prefix(a.Unmap().BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no range of addresses", text)
		}
		widest := widestV6
		if p.Addr().Is4() {
			widest = widestV4
		}
		if p.Bits() < widest || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is too wide a range: a stranger in it could say that he is anybody", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// checkBalancers holds that the range and a door for it come together.
func (c *Config) checkBalancers() error {
	bad := func(key, what, hint string) error {
		return core.E(core.Invalid, "config-"+key, "config.yaml: "+key+": "+what, hint)
	}
	if _, err := c.balancers(); err != nil {
		return bad("balancers", err.Error(), "name the addresses of your balancers and of nobody else, as in [192.0.2.16/28]")
	}
	for key, a := range map[string]string{"balanced_devices": c.BalancedDevices, "balanced_https": c.BalancedHTTPS} {
		if a == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a); err != nil {
			return bad(key, fmt.Sprintf("%q is no address", a), "write host:port, or :port for every address of this machine")
		}
		if len(c.Balancers) == 0 {
			return bad(key, "without balancers", "name the addresses that connections come from with the key `balancers`")
		}
	}
	if len(c.Balancers) > 0 && c.BalancedDevices == "" && c.BalancedHTTPS == "" {
		return bad("balancers", "without a door for them", "give them one with `balanced_devices` or `balanced_https`")
	}
	return nil
}

// listenBalanced opens the doors for balancers, if there are any.
func (s *server) listenBalanced(d *doors) error {
	from, err := s.c.balancers()
	if err != nil {
		return err
	}
	for _, b := range []struct {
		key, addr string
		into      *net.Listener
	}{{"balanced_devices", s.c.BalancedDevices, &d.mqttBalanced}, {"balanced_https", s.c.BalancedHTTPS, &d.httpsBalanced}} {
		if b.addr == "" {
			continue
		}
		l, err := door("tcp", b.addr, b.key)
		if err != nil {
			return err
		}
		if *b.into, err = proxy.Listen(l, proxy.Options{From: from, Wait: headerWait, Log: s.log}); err != nil {
			_ = l.Close() // nobody has come
			return fmt.Errorf("open the door %s: %w", b.key, err)
		}
	}
	return nil
}

func addressOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// lookBehind says what is wrong with a door for balancers, if anything. To who
// is no balancer it must not say a word; who is one finds TLS behind a header.
// (What TLS, is looked at at the door beside it: they share all but the
// address.)
func (s *server) lookBehind(ctx context.Context, x listener) (wrong string, err error) {
	from, err := s.c.balancers()
	if err != nil {
		return "", err
	}
	to, err := netip.ParseAddrPort(x.reach())
	if err != nil {
		return "", err
	}
	near := sourceFor(to)
	said, err := hello(ctx, x.reach(), ownWait, tls.VersionTLS12, tls.VersionTLS13)
	if err != nil || said != 0 {
		return "answers a client who comes without a PROXY header", err
	}
	said, err = helloAfter(ctx, proxy.AppendHeader(nil, netip.AddrPortFrom(near, 1), to), x.reach(), ownWait, tls.VersionTLS12, tls.VersionTLS13)
	balancer := slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(near) })
	switch {
	case err != nil:
		return "", err
	case !balancer && said != 0:
		return fmt.Sprintf("believes a PROXY header from %s, which is no balancer's address", near), nil
	case balancer && said == 0:
		return "does not speak TLS behind a balancer's PROXY header", nil
	}
	return "", nil
}
