// Package identity gives every device a name of its own and takes it away
// again: the certificate authority, enrolment, renewal, revocation, and whose
// a device is.
//
// A device has no user name, no password and no secret that it shares with
// another (CC 1.9, 3.1). It makes its own key, proves with a one-time
// enrolment code that it is the unit that the code was made for, and gets a
// short-lived X.509 certificate (RFC 5280) in which nothing but the public key
// comes from its request. Renewal has two phases: the old certificate stays
// good until the new one completed a handshake. A superseded certificate that
// is seen again means that somebody has a copy: the device is quarantined
// (CC 3.2).
//
// The package keeps an index of all devices in memory, so that admitting a
// connection needs no storage. The index only ever shows what is committed:
// each transaction reads back the whole state of the device that it changed,
// and a revision number keeps an older state from replacing a newer one.
//
// It speaks no HTTP (that is gateway/est), reads no clock and has no SQL.
package identity
