// Package seal keeps what is personal unreadable to whoever lacks two keys,
// and makes it unreadable for ever by destroying one of them.
//
// Every value is sealed with AES-256-GCM under a key derived by HKDF-SHA-256
// (RFC 5869) from two secrets: one of the subject it is about and one of the
// epoch it is kept in. Destroying a subject's secret erases one person
// everywhere; destroying an epoch's secret expires a span of time for the
// whole fleet. The secrets, and nothing else, lie in the Keyring: one small
// file in two or more copies, sealed under a keyring key that is wrapped by a
// root (RootKeys, package kms), apart from the data (CC 2.9). Shredding writes
// a keyring of the next generation without the condemned secrets, under a new
// root, and destroys the old root: what backups, journals and disk blocks still
// hold of older keyrings opens for nobody.
//
// The package does not decide what is personal, when something is due or
// whether a legal hold stands; it knows no devices, no rows and no network.
package seal
