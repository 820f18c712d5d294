// Package telemetry takes what devices send and keeps what the declaration
// allows: it judges every message before it is acknowledged, seals what is
// left under the subject's and the epoch's key, files it by keep-time, reads
// it back for those who may, and ends it when its time or its owner says so.
//
// Its rules are those of the design, section 5. It does no SQL, opens no
// socket and reads no clock: storage, journal, keys and time are handed in.
// It never keeps the bytes of a refused payload, nor a field that the
// product's declaration does not name (CC 1.2, 4.3).
package telemetry
