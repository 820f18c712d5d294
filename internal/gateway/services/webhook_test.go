package services

import (
	"net/netip"
	"testing"
)

// TestPublicAddresses: a webhook leads to the Internet, and never into somebody's
// own network.
func TestPublicAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true,
		"127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "0.0.0.0": false, "100.64.0.1": false,
		"224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false, "::1": false, "::": false, "fe80::1": false, "fd00::1": false, "ff02::1": false,
		"64:ff9b::a00:1": false, "2002:a00:1::": false, "2001:db8::1": false,
	} {
		if got := public(netip.MustParseAddr(text).Unmap()); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if public(netip.MustParseAddr("::ffff:10.0.0.1").Unmap()) {
		t.Error("a private address in another form")
	}
}
