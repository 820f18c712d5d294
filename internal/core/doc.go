// Package core holds the words that every other package of Hawser shares:
// identifiers, actors, records for the ledger, and errors that a stranger
// may read. It does no I/O, reads no clock and imports nothing of ours.
package core
