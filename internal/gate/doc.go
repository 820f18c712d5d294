// Package gate is the one gate before every credential. Whoever compares a
// password, a one-time code, an enrolment code or a key with what is known
// takes a Ticket, and only a Gate gives tickets: it counts the attempt as
// wrong, on disk, before anything is compared, and gives the count back when
// the credential was right. Neither many guesses at once nor a killed process
// makes a try free.
//
// It counts by account and address, by account and known device, by address,
// by account and over all, so that nobody guesses on and nobody is locked out
// by a stranger: a browser that holds the signed cookie of an earlier sign-in
// has a budget of its own, and machine-made secrets are slowed down by source
// only. It does not know which accounts exist, compares nothing but its own
// cookies, and keeps neither names nor addresses, only keyed hashes of them.
//
// NIST SP 800-63B §3.2.2, OWASP ASVS 5.0 §6.1.1 and §6.3.1; decision 006.
package gate
