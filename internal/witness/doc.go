// Package witness is the second machine that remembers: it keeps the last
// checkpoint that it saw of each ledger, takes a newer one only when the ledger
// proves that it grew out of it, and cosigns that with the time
// (https://c2sp.org/tlog-witness, https://c2sp.org/tlog-cosignature). A ledger
// that shows one thing to one and another to another, or forgets, is refused,
// and both checkpoints are kept as the proof of it.
//
// The ledger's tiles are what it takes its proofs from, and it verifies them by
// package ledger/verify alone. It does not see what the entries say.
package witness
