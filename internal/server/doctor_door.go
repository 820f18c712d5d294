package server

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"
)

// turnedAway says which connections at the devices' door were refused within
// the last hour for reasons that look like devices of ours that cannot get in
// or stay in, and what to do. What strangers on the network try is left to the
// metrics, and so are the strangers that our own checks send.
func (s *server) turnedAway(d *diagnosis) {
	help := map[string]string{
		"certificate-expired":   "the devices slept past the end of their certificates, or clocks are wrong; `hawser device code SERIAL` lets one in again",
		"client-refused-server": "the devices do not trust this server's certificate: compare its name (key `names`) and the root they were given",
		"foreign-environment":   "devices of the test installation knock at the live one, or the other way round",
		"tls-1.2-not-declared":  "the product's declaration does not allow TLS 1.2: `network: {tls: \"1.2\"}`, or newer firmware",
		"tls-version":           "these clients speak only older TLS than any declaration may allow",
		"back-off":              "these devices broke the protocol again and again; `hawser device show SERIAL` says how",
		"flood":                 "these devices send far more than their declaration's rates",
		"connects-too-often":    "these devices reconnect all the time; look for a fault of their clients or network",
		"slow-reader":           "these devices do not read what they are sent",
	}
	// What our own checks, as strangers, are refused for.
	strangers := []string{"certificate-expired", "client-refused-server", "foreign-environment", "tls-version"}
	since := s.opt.Now().Add(-time.Hour)
	seen := map[string]int{}
	from := map[string]string{}
	for _, r := range s.gateway.Refusals() {
		own := ownSource.IsValid() && r.Source.Contains(ownSource) || s.rounds.looking(r.Time) && fromHere(r.Source)
		if own && slices.Contains(strangers, r.Reason) {
			continue
		}
		if _, ours := help[r.Reason]; ours && r.Time.After(since) {
			seen[r.Reason]++
			from[r.Reason] = r.Source.String()
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(seen)) {
		d.warn("devices' door", fmt.Sprintf("%d connections were refused or ended lately for %s, the last from %s", seen[reason], reason, from[reason]), help[reason])
	}
}

// fromHere reports whether an address of this machine is in a network.
func fromHere(source netip.Prefix) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return source.Addr().IsLoopback() || source.Contains(netip.IPv6Loopback())
	}
	return slices.ContainsFunc(all, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && source.Contains(p.Addr().Unmap().WithZone(""))
	})
}
