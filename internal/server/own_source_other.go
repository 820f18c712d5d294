//go:build !linux

package server

import "net/netip"

// ownSource is none: this system has no loopback address to spare.
var ownSource netip.Addr
