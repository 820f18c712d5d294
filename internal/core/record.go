package core

import "time"

// RecordKind names what happened, in the past tense: "device-enrolled".
// Each capability declares its own kinds as constants.
type RecordKind string

// Record is one thing that happened, as it is handed to the ledger in the same
// transaction as the state that it records. What stands here in clear is never
// personal: people and devices appear as pseudonyms. What identifies the
// subject goes into Sealed, under the subject's own key, so that erasing a
// subject never erases who did what (design, section 5, Ledger).
type Record struct {
	Time    time.Time  // UTC, microseconds
	Kind    RecordKind // what happened
	Actor   Actor      // who did it
	Subject Subject    // whom it is about; zero when nobody
	Product ProductID  // which product; empty when none
	Policy  Hash       // the declaration in force; zero when none
	Facts   []Fact     // values that are never personal, in a fixed order
	Sealed  []byte     // identity and values sealed under the subject's key; may be nil
}

// Fact is one named value of a record. Names are lower-case with underscores
// and carry their unit: "rows", "kept_seconds".
type Fact struct{ Name, Value string }
