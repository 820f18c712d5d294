package readers

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Reader is a service of the maker that reads.
type Reader struct {
	Name     string
	Added    time.Time
	Revoked  time.Time     // zero: it is good
	AnswerIn time.Duration // how long it may take to answer an order; whole seconds
	Key      [32]byte      // of its cursors
}

// Number names a certificate: its serial number.
type Number [16]byte

// Certificate is one that was issued to a reader.
type Certificate struct {
	Number   Number
	Reader   string
	DER      []byte
	Issued   time.Time
	NotAfter time.Time
	Ended    time.Time // when it was revoked; zero: it was not
}

// Alias is what one reader knows a subject by. It is random: two readers cannot
// find out together that they have readings of the same one.
type Alias struct {
	Subject, Alias core.Subject
	Product        core.ProductID
	Since          time.Time
}

// Session is one hour of a reader's stream, as the ledger has it.
type Session struct {
	Reader   string
	Product  core.ProductID
	Name     string
	Opened   time.Time
	Readings uint64 // parts of readings
	Gaps     uint64
}

// Seen is how far a reader has come.
type Seen struct {
	Reader  string
	Product core.ProductID
	Cursor  string
	Made    time.Time // when the cursor was made
	At      time.Time // when the reader came with it
}

// Tx is what readers need from storage. Times are kept to the microsecond.
type Tx interface {
	Readers(context.Context) ([]Reader, error) // by name
	PutReader(context.Context, Reader) error
	ReaderCertificates(context.Context) ([]Certificate, error) // oldest first
	PutReaderCertificate(context.Context, Certificate) error
	// DropReaderCertificates forgets those that ran out before a time.
	DropReaderCertificates(ctx context.Context, before time.Time) error

	// ReaderAliases are those that a reader knows of some subjects.
	ReaderAliases(ctx context.Context, reader string, subjects []core.Subject) (map[core.Subject]core.Subject, error)
	// AddReaderAlias keeps a new one. It reports whether it did: of a subject
	// whose erasure was asked for nothing is kept.
	AddReaderAlias(ctx context.Context, reader string, a Alias) (bool, error)
	// AliasesOf are the aliases of a subject, by reader.
	AliasesOf(ctx context.Context, subject core.Subject) (map[string]Alias, error)
	// ForgetAliases drops all of a subject.
	ForgetAliases(ctx context.Context, subject core.Subject) error
	// CountAliases is how many subjects of a product a reader has readings of.
	CountAliases(ctx context.Context, reader string, product core.ProductID) (int, error)

	// ReaderProducts are those of which a reader was given something, also when
	// all of it is to be gone by now.
	ReaderProducts(ctx context.Context, reader string) ([]core.ProductID, error)

	// AddReaderEpochs notes of which epochs a reader gets readings.
	AddReaderEpochs(ctx context.Context, reader string, product core.ProductID, es []core.Epoch) error

	ReaderSession(ctx context.Context, reader string, product core.ProductID) (Session, bool, error)
	ReaderSessions(context.Context) ([]Session, error) // by reader and product
	PutReaderSession(context.Context, Session) error
	DropReaderSession(ctx context.Context, reader string, product core.ProductID) error

	PutSeen(context.Context, Seen) error
	SeenBy(ctx context.Context, reader string) ([]Seen, error) // by product

	EventTx
	WebhookTx
	Epochs(context.Context, ...telemetry.EpochState) ([]telemetry.EpochInfo, error)
	Record(context.Context, core.Record) error
}

// EventKind is what an event of a stream is.
type EventKind string

// The kinds of event.
const (
	Erase  EventKind = "erase"   // order: forget a subject
	Expire EventKind = "expire"  // order: forget an epoch
	Tell   EventKind = "tell"    // order: say whether anything of a subject is there
	Made   EventKind = "reading" // a reading that nobody sent
)

// Held is what a service says of a subject.
type Held int

// The answers.
const (
	Unsaid Held = iota
	Holds
	HoldsNothing
)

// Event is what stands in a reader's stream besides readings.
type Event struct {
	Reader   string
	Number   uint64 // set when it is added
	Product  core.ProductID
	ID       string
	Kind     EventKind
	Alias    core.Subject // zero: nobody
	Epoch    core.Epoch   // of Expire
	Body     []byte       // of Made: its line
	At       time.Time
	Due      time.Time // zero: no answer is wanted
	Answered time.Time // zero: it was not
	Held     Held

	Receipt, Signature []byte
	Certificate        Number
}

// CanaryState is how far a canary has come.
type CanaryState string

// The states of a canary. The last four are ends.
const (
	Planted    CanaryState = "planted"     // its readings are in the stream
	Asked      CanaryState = "asked"       // whether the service has it
	Erasing    CanaryState = "erasing"     // ordered
	AskedAgain CanaryState = "asked-again" // whether it still has it
	Proved     CanaryState = "proved"      // it had it, erased it, and has it no more
	NotKept    CanaryState = "not-kept"    // it says that it never had it: nothing is proved
	StillHeld  CanaryState = "still-held"  // it has it after its receipt
	Unanswered CanaryState = "unanswered"  // an order was not answered in time
)

// Ended reports whether nothing more comes of it.
func (c CanaryState) Ended() bool {
	return c == Proved || c == NotKept || c == StillHeld || c == Unanswered
}

// Canary is a subject that never was.
type Canary struct {
	Alias   core.Subject
	Reader  string
	Product core.ProductID
	State   CanaryState
	Event   uint64 // that the state waits for
	Changed time.Time
}

// EventTx is what orders and canaries need from storage, besides Tx.
type EventTx interface {
	// AddReaderEvent gives e the next number of its reader.
	AddReaderEvent(ctx context.Context, e *Event) error
	// ReaderEvents are up to limit of a product's after a number, in order.
	ReaderEvents(ctx context.Context, reader string, product core.ProductID, after uint64, limit int) ([]Event, error)
	ReaderEvent(ctx context.Context, reader, id string) (Event, bool, error)
	ReaderEventAt(ctx context.Context, reader string, number uint64) (Event, bool, error)
	LastReaderEvent(ctx context.Context, reader string) (uint64, error)
	AnswerReaderEvent(context.Context, Event) error
	// OpenReaderEvents are those that wait for an answer, oldest first.
	OpenReaderEvents(context.Context) ([]Event, error)
	// DropReaderEvents forgets what was answered, or wanted no answer, and was
	// made before a time.
	DropReaderEvents(ctx context.Context, before time.Time) error
	// EndedReaderEpochs are epochs of which a reader has readings and that have
	// ended, and DropReaderEpoch forgets that it has.
	EndedReaderEpochs(context.Context) ([]ReaderEpoch, error)
	DropReaderEpoch(context.Context, ReaderEpoch) error
	PutReaderCanary(context.Context, Canary) error
	// ReaderCanaries are those that have not ended, and the newest that has of
	// each reader and product, oldest first.
	ReaderCanaries(context.Context) ([]Canary, error)
	// AnAlias is some subject that a reader knows of a product; false: none.
	AnAlias(ctx context.Context, reader string, product core.ProductID, from core.Subject) (core.Subject, bool, error)
}

// ReaderEpoch is an epoch of which a reader has readings.
type ReaderEpoch struct {
	Reader  string
	Product core.ProductID
	Epoch   core.Epoch
}

// Webhook is where a reader's pages are posted to.
type Webhook struct {
	Reader string
	URL    string
	Set    time.Time
}

// WebhookTx is what webhooks need from storage, besides Tx.
type WebhookTx interface {
	ReaderWebhooks(context.Context) ([]Webhook, error) // by reader
	PutReaderWebhook(context.Context, Webhook) error   // in place of an older one
	DropReaderWebhook(ctx context.Context, reader string) error
}
