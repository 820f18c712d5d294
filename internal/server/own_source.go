package server

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// dialOwn reaches a door of ours as strangers do, from an address on which
// nobody else is: what our own checks try wrong on purpose is counted at the
// gate, and makes that address wait, not the people on this machine.
func dialOwn(ctx context.Context, network, address string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	if to, err := netip.ParseAddrPort(address); err == nil && to.Addr().Unmap().Is4() && ownSource.IsValid() {
		from := d
		from.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ownSource, 0))
		if c, err := from.DialContext(ctx, network, address); err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return d.DialContext(ctx, network, address)
}

// ownDial is dialOwn for transports.
func ownDial(ctx context.Context, network, address string) (net.Conn, error) {
	return dialOwn(ctx, network, address, ownWait)
}

// sourceFor is the address that dialOwn comes from when it reaches to.
func sourceFor(to netip.AddrPort) netip.Addr {
	a := to.Addr().Unmap()
	if a.Is4() && ownSource.IsValid() {
		return ownSource
	}
	return a // a door of this very machine is reached from the address that it has
}
