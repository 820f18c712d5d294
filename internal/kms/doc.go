// Package kms keeps roots: the keys under which keyrings are wrapped. Each
// backend implements seal.RootKeys and says how sure its destruction is. File
// keeps roots in a folder of their own; what it destroyed is overwritten and
// unlinked, which no file system can prove, so its word is "best-effort".
// OpenBao keeps them in the transit engine of a server of that name; it follows
// its documentation and is unproven.
//
// A root is 32 random bytes. A passphrase never becomes one; it can only wrap
// one (argon2id, RFC 9106). Roots must lie outside the data folder and outside
// every backup: whoever holds a root and a keyring of its generation can open
// everything that was not erased by then.
package kms
