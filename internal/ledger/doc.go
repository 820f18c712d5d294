// Package ledger is the evidence of what happened: an append-only Merkle log
// as in RFC 6962, kept in the same database as the state that it records.
//
// A record is written in the transaction of the state that it describes
// ([Tx.Record]); it then waits without an index. The sequencer gives waiting
// records their indexes, in the order in which they were written, and moves
// the head by compare-and-set in one transaction. Only a committed head is
// signed, as a C2SP checkpoint (https://c2sp.org/tlog-checkpoint). The last
// checkpoint is also kept in a file outside the database, and nothing that
// contradicts it is ever signed: a database that was rolled back shows. After
// a restore from backup a new origin begins, whose first entry commits to the
// last checkpoint of the old one and says what was lost.
//
// Hashes are kept and served in the tlog-tiles layout
// (https://c2sp.org/tlog-tiles), so that appending n entries to N costs
// O(n + log N) and a proof reads O(log N) tiles.
//
// The package has no SQL and no HTTP. Package verify, below it, checks an
// export with code of its own.
package ledger
