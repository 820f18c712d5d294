// Package journal keeps, in order and on disk, every record that the gateway
// acknowledges, until the slowest reader is past it. An acknowledgement means
// "decided and recorded" (design, section 5, Messages): a record's Completion
// is called without an error only after the record has reached the disk.
//
// It stands on NATS JetStream, embedded: no port is opened, the connection is
// in-process, every write is synced. Records are committed in groups: one
// JetStream message, the batch, holds all records that arrived while the
// batch before it was being written. Nothing ever waits for company.
//
// The journal knows bytes, not meanings: what a record says is the business
// of whoever writes and reads it.
package journal
