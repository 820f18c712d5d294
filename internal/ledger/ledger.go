package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Origin is one log: a tree with a name of its own. Normally there is one; each
// restore from a backup ends it and begins another.
type Origin struct {
	Number     int       // 1, 2, … in the order in which they began
	Name       string    // the origin line of its checkpoints
	First      uint64    // position of its entry 0 among the entries of all origins
	Size       uint64    // committed entries
	Root       core.Hash // RFC 6962 root of these
	Checkpoint []byte    // last signed checkpoint; nil before the first
}

// Pending is a record without an index.
type Pending struct {
	ID      int64 // order of insertion
	Topic   int64 // the store's number of the pair of kind and product
	Subject core.Subject
	Leaf    []byte
}

// Stored is an entry as it lies in the store.
type Stored struct {
	Position uint64
	Kind     core.RecordKind
	Product  core.ProductID
	Subject  core.Subject
	Leaf     []byte
}

// Tile is a stored tile: up to 256 hashes of 32 bytes each.
type Tile struct {
	Level  int
	N      uint64
	Hashes []byte
}

// Filter picks entries. A zero field picks all.
type Filter struct {
	Kind    core.RecordKind
	Product core.ProductID
	Subject core.Subject
}

// ErrHeadMoved says that the head is no longer what the writer had seen:
// another sequencer was quicker. Nothing was written.
var ErrHeadMoved = errors.New("the ledger's head moved meanwhile")

// Tx is what the ledger needs from storage. Every method but the last group
// reads.
type Tx interface {
	LedgerOrigins(ctx context.Context) ([]Origin, error)                         // in order of their numbers
	LedgerPending(ctx context.Context, limit int) ([]Pending, error)             // in order of insertion
	LedgerTile(ctx context.Context, origin, level int, n uint64) ([]byte, error) // core.Unknown when missing
	LedgerEntries(ctx context.Context, from uint64, limit int) ([]Stored, error) // by position; holes are skipped
	LedgerFind(ctx context.Context, f Filter, from uint64, limit int) ([]Stored, error)

	// AddLedgerOrigin adds an origin of size 1 and its first entry.
	AddLedgerOrigin(ctx context.Context, o Origin, first core.Record) error
	// MoveLedgerHead makes size and root the head of origin, if its head is
	// still what old says and no later origin exists; else ErrHeadMoved.
	MoveLedgerHead(ctx context.Context, old Origin, size uint64, root core.Hash) error
	// TakeLedgerPending turns pending rows into the entries from position on;
	// ErrHeadMoved when one of them is pending no longer.
	TakeLedgerPending(ctx context.Context, position uint64, rows []Pending) error
	PutLedgerTiles(ctx context.Context, origin int, tiles []Tile) error
	PutLedgerCheckpoint(ctx context.Context, origin int, note []byte) error
}

// Deps is what a ledger needs.
type Deps struct {
	Update func(context.Context, func(Tx) error) error // runs fn in a transaction that commits when fn returns nil
	View   func(context.Context, func(Tx) error) error // runs fn on a snapshot
	Key    Key                                         // signs heads
	// CheckpointFile is where the last checkpoint is kept outside the
	// database: not in the data folder, and never in a backup of it.
	CheckpointFile string
	// Name begins the name of every origin, without a scheme:
	// "hawser/INSTALLATION-ID" or "maker.example/ledger".
	Name string
	Now  func() time.Time
	Log  *slog.Logger
}

func (d *Deps) check() error {
	switch {
	case d.Update == nil || d.View == nil:
		return errors.New("ledger: no store")
	case d.Key.priv == nil:
		return errors.New("ledger: no signing key")
	case d.CheckpointFile == "":
		return errors.New("ledger: no place for the checkpoint outside the database")
	case d.Now == nil:
		return errors.New("ledger: no clock")
	case d.Log == nil:
		return errors.New("ledger: no log")
	}
	if err := checkOrigin(d.Name); err != nil || len(d.Name) > MaxOriginBytes-originSuffix {
		return fmt.Errorf("ledger: name %q is empty, too long, or has white space or a plus sign", d.Name)
	}
	return nil
}

// Ledger is an open ledger. Its methods may be called from many goroutines.
type Ledger struct {
	d       Deps
	signing chan struct{} // holds one token: who has it may sign and write the file

	mu     sync.Mutex
	status Status
	last   Checkpoint
}

// Status is what the ledger knows of itself, for `doctor` and metrics.
type Status struct {
	Origin         string
	Size           uint64    // committed entries of the current origin, as last seen
	Signed         uint64    // entries under the last checkpoint
	LastSequence   time.Time // when the sequencer last ran through, with or without work
	LastCheckpoint time.Time // when a head was last signed, or found to be signed already
	Trouble        error     // what went wrong last; nil after a success
}

// Open opens the ledger that the store holds. It refuses one that contradicts
// the checkpoint kept outside the database: see agree for the cases.
func Open(ctx context.Context, d Deps) (*Ledger, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	l := &Ledger{d: d, signing: make(chan struct{}, 1)}
	var ag agreement
	err := d.View(ctx, func(tx Tx) error {
		var err error
		ag, err = l.agree(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l.status = Status{Origin: ag.origin.Name, Size: ag.origin.Size}
	if ag.signed.Origin == ag.origin.Name {
		l.last, l.status.Signed = ag.signed, ag.signed.Size
	}
	return l, nil
}

// Status tells how the ledger is.
func (l *Ledger) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Latest is the last checkpoint that was signed, kept outside and may be
// published. Its Note is empty before the first.
func (l *Ledger) Latest() Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// VerifierKey is the public key of the current origin, in the text form that
// verifiers pin.
func (l *Ledger) VerifierKey() string {
	return VerifierKey(l.Status().Origin, l.d.Key.Public())
}

// current is the origin that grows.
func current(ctx context.Context, tx Tx) (Origin, error) {
	all, err := tx.LedgerOrigins(ctx)
	if err != nil {
		return Origin{}, err
	}
	if len(all) == 0 {
		return Origin{}, core.E(core.Unready, "ledger-not-begun", "this data folder has no ledger yet", "run `hawser init`")
	}
	return all[len(all)-1], nil
}

// tilesOf reads the tiles of one origin.
func tilesOf(ctx context.Context, tx Tx, origin int) tileSource {
	return func(level int, n uint64) ([]core.Hash, error) {
		b, err := tx.LedgerTile(ctx, origin, level, n)
		if core.KindOf(err) == core.Unknown {
			return nil, damaged("tile %d/%d is missing", level, n)
		}
		if err != nil {
			return nil, err
		}
		if len(b)%len(core.Hash{}) != 0 {
			return nil, damaged("tile %d/%d has %d bytes", level, n, len(b))
		}
		hs := make([]core.Hash, len(b)/len(core.Hash{}))
		for i := range hs {
			copy(hs[i][:], b[i*len(core.Hash{}):])
		}
		return hs, nil
	}
}

// joinHashes is the stored form of a tile.
func joinHashes(hs []core.Hash) []byte {
	b := make([]byte, 0, len(hs)*len(core.Hash{}))
	for i := range hs {
		b = append(b, hs[i][:]...)
	}
	return b
}
