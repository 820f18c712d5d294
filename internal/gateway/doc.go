// Package gateway is the devices' door: MQTT 5.0 and 3.1.1 over mutual TLS.
//
// It admits connections with bounds on all that a stranger can make it do,
// takes the identity of a device from its certificate and from nothing else
// (CC 3.1, 3.2), lets it name only its own topics (CC 3.6), holds it to its
// declared rates, has every message judged before it is acknowledged, and
// sends acknowledgements in the order in which messages came, once each one's
// fate is on disk. It holds no rules about data: those are telemetry's. There
// is no listener without TLS (CC 2.8).
//
// Messages from 3.1.1 clients at QoS 2 are stored once (see inbox). To 5.0
// clients Maximum QoS 1 is announced, and more is a DISCONNECT 0x9B; nothing is
// sent at QoS 2.
//
// What is out of scope and how it is answered: retained messages (the flag is
// cleared), wildcards other than command/#, shared subscriptions, enhanced
// authentication.
//
// Standards: MQTT 5.0 and 3.1.1 (OASIS), TLS 1.3 (RFC 8446), TLS 1.2 with
// ECDHE and AEAD (RFC 9325) where a live product declares it.
package gateway
