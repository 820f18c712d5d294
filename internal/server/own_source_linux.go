package server

import "net/netip"

// ownSource is an address of this machine that nothing else uses: on Linux all
// of 127.0.0.0/8 is.
var ownSource = netip.AddrFrom4([4]byte{127, 72, 87, 83})
