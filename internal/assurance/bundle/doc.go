// Package bundle puts evidence into a folder of plain files that anybody can
// keep, read and verify without this program and without a network: every
// round of observations of a period, what else the verdicts were worked out
// from, the proofs that all of it stands in the ledger, and a signature over
// all of it (ssh-keygen's SSHSIG over SHA256SUMS).
//
// Verify believes nothing that a bundle says of itself. It recomputes every
// verdict, every page and every proof; who signed and where the ledger stood
// earlier it must be told from elsewhere, and without that it says
// "self-consistent only". It opens no network and reads no clock.
//
// The formats: SHA256SUMS as sha256sum(1) writes it, SSHSIG
// (PROTOCOL.sshsig), C2SP checkpoints and witnesses, RFC 6962 proofs, OSCAL
// 1.2.2 (assessment-results, component-definition), CSV. The package certifies
// nothing: it says what was seen.
package bundle
