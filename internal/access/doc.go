// Package access knows the people of the maker: who they are, by what means
// each signs in, what each may do, and which sessions they have. A person
// joins by a one-time set-up link and signs in with a passkey, or, where no
// administrator or approver is concerned, with a password and a one-time code.
// There is no other way in, no way to switch the second factor off, and no
// account that exists before somebody made it.
//
// Every comparison of a credential takes a gate.Ticket: this package compares,
// the gate counts. It holds no SQL, no HTTP and no clock. It follows
// WebAuthn Level 3, RFC 6238, RFC 9106, NIST SP 800-63B-4 and OWASP ASVS 5.0
// (chapters 6 and 7).
package access
