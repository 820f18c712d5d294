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
// What is out of scope and how it is answered: QoS 2 (5.0: Maximum QoS 1 is
// announced, more is a DISCONNECT 0x9B; 3.1.1: the connection is closed with
// the reason "qos-2"), retained messages (the flag is cleared), wildcards
// other than command/#, shared subscriptions, enhanced authentication, will
// delay (a will fires at once). Nothing is sent down yet but notices on the
// topic refused.
//
// Standards: MQTT 5.0 and 3.1.1 (OASIS), TLS 1.3 (RFC 8446), TLS 1.2 with
// ECDHE and AEAD (RFC 9325) where a live product declares it.
package gateway
