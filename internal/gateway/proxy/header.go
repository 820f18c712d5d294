// Package proxy reads version 2 of the PROXY protocol, by which a TCP balancer
// says whose connection it passes on (HAProxy's "The PROXY protocol", versions
// 1 & 2, §2.2). It reads the header and nothing after it, takes no version 1,
// and leaves every TLV unread. Who may send a header is decided by address, by
// Listener: a header from elsewhere would let a stranger choose the address
// that throttles and logs see.
package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// signature begins each header (§2.2).
const signature = "\r\n\r\n\x00\r\nQUIT\n"

const (
	fixedBytes = 16
	// maxRestBytes bounds addresses and TLVs. A balancer's TLVs are a few
	// hundred bytes at most.
	maxRestBytes = 1024
)

var errNotHeader = errors.New("no PROXY header of version 2")

// AppendHeader appends the header of a TCP connection from src to dst, both of
// one family (§2.2).
func AppendHeader(b []byte, src, dst netip.AddrPort) []byte {
	from, to := src.Addr().Unmap().WithZone(""), dst.Addr().Unmap().WithZone("")
	family, rest := byte(0x11), 12
	if !from.Is4() || !to.Is4() {
		from, to = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16())
		family, rest = 0x21, 36
	}
	b = append(append(b, signature...), 0x21, family)
	b = binary.BigEndian.AppendUint16(b, uint16(rest))
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, src.Port()), dst.Port())
}

// readHeader reads one header from r, and not a byte more. The address is
// invalid for LOCAL: the balancer itself speaks, to see whether we live.
func readHeader(r io.Reader) (netip.AddrPort, error) {
	var fixed [fixedBytes]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read PROXY header: %w", err)
	}
	if string(fixed[:12]) != signature || fixed[12]>>4 != 2 {
		return netip.AddrPort{}, errNotHeader
	}
	rest := make([]byte, binary.BigEndian.Uint16(fixed[14:]))
	if len(rest) > maxRestBytes {
		return netip.AddrPort{}, fmt.Errorf("PROXY header of %d bytes; at most %d are read", len(rest), maxRestBytes)
	}
	if _, err := io.ReadFull(r, rest); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read PROXY addresses: %w", err)
	}
	switch fixed[12] & 0x0f {
	case 0: // LOCAL: §2.2 has the receiver ignore the addresses
		return netip.AddrPort{}, nil
	case 1: // PROXY
	default:
		return netip.AddrPort{}, fmt.Errorf("unknown PROXY command %d", fixed[12]&0x0f)
	}
	switch fixed[13] {
	case 0x11: // TCP over IPv4: two addresses, two ports
		if len(rest) >= 12 {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:])), nil
		}
	case 0x21: // TCP over IPv6
		if len(rest) >= 36 {
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)), binary.BigEndian.Uint16(rest[32:])), nil
		}
	default:
		return netip.AddrPort{}, fmt.Errorf("PROXY header of family and protocol %#02x: only TCP over IPv4 or IPv6 comes here", fixed[13])
	}
	return netip.AddrPort{}, errors.New("PROXY header ends within its addresses")
}
