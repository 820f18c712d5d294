package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Row is one part of one reading as a partition keeps it: what it is about in
// clear, what it says sealed. One reading has one row for each of its groups.
// AppendAAD(dst, &row.Reading, &row.Part) is what Part.Sealed opens with.
type Row struct {
	Reading Reading // without Parts and without Dropped
	Part    Part
	Place   Place // where in the journal it came from
	ID      int64 // its number in the partition, from 1 without gaps; 0 before it is filed
	First   bool  // the first part of its reading, by which the reading is counted; not kept
}

// Place names one record of the journal for ever. A reading that its device
// did not number is known by its place, so that reading the journal again
// never files it twice.
type Place struct {
	Journal string // the journal's incarnation
	Seq     uint64 // of the batch
	Index   uint32 // of the record in its batch; below MaxIndex
}

// MaxIndex bounds the records of one batch of the journal.
const MaxIndex = 1 << 20

// Mark says how far somebody has come in the journal: everything up to and
// including Seq is done.
type Mark struct {
	Journal string
	Seq     uint64
}

// Fate is what became of one row.
type Fate uint8

// The fates of a row.
const (
	FateNone      Fate = iota // not decided
	FateStored                // filed now
	FateRepeated              // the very same record was filed before: the journal was read again
	FateDuplicate             // another record with the same boot and seq was filed before; the first stays
	FateParked                // waits in the late lane
	FateExpired               // its epoch has ended; not kept
)

// Head is how far a partition has come: each commit of rows is a batch, and
// Chain runs over the roots of all of them.
type Head struct {
	Batches    uint64 // number of the last batch, from 1
	Rows       uint64
	WrongClock uint64 // rows filed by their time of receipt
	Chain      core.Hash
}

// Append is what one commit adds to a partition.
type Append struct {
	Rows []Row  // in any order; the partition sorts them by subject
	Fate []Fate // filled in, one for each row
	Mark Mark   // the partition's watermark afterwards, unless it is further
	Late uint64 // if not 0: the late lane's rows up to this number are in
}

// Series is one subject's readings of one stream and group.
type Series struct {
	Subject core.Subject
	Stream  string
	Group   uint8
}

// Partitions are the stores of sealed rows, one for each keep-class and epoch,
// so that an epoch ends by destroying one key and removing one partition
// (CC 4.4, 4.8). Errors of full or failing disks have the kind core.Unavail.
type Partitions interface {
	// Append files rows in one transaction, makes the partition if there is
	// none, and returns its new head. It is durable only after Sync. With
	// ErrEnded or *BrokenError nothing was filed.
	Append(ctx context.Context, e core.Epoch, a *Append) (Head, error)
	// Sync returns when all that was appended to these partitions is on disk.
	Sync(ctx context.Context, es []core.Epoch) error
	// Mark is a partition's watermark; zero when it is of another journal or
	// the partition does not exist. Late is that of the late lane.
	Mark(ctx context.Context, e core.Epoch, journal string) (m Mark, late uint64, err error)
	// Highest appends for each series the largest (boot, seq) in the
	// partition, zero when there is none; a value over 2^63-1 may stand for
	// any larger one.
	Highest(ctx context.Context, e core.Epoch, series []Series) ([][2]uint64, error)
	// Find gives the row with r's key: subject, stream, group, boot and seq
	// or, without them, place.
	Find(ctx context.Context, e core.Epoch, r *Row) (Row, bool, error)
	// Scan yields the rows that q wants, by time and then by number.
	Scan(ctx context.Context, e core.Epoch, q *Query, yield func(*Row) error) error
	// Audit yields all that the partition holds, past every index.
	Audit(ctx context.Context, e core.Epoch, v AuditVisitor) error
	// Freeze lets nothing more be appended and waits for what is under way.
	Freeze(ctx context.Context, e core.Epoch) error
	// Thaw takes Freeze back.
	Thaw(e core.Epoch)
	// Remove removes a frozen partition with all that belongs to it. Removing
	// what does not exist is no error.
	Remove(ctx context.Context, e core.Epoch) error
	// List names every partition there is, whatever its state.
	List(ctx context.Context) ([]core.Epoch, error)
	// Broken names the partitions that were found damaged and put aside.
	Broken() []BrokenError
	// Tidy lets go of what was not used for a while.
	Tidy(ctx context.Context) error
}

// ErrEnded says that an epoch has ended or is ending: nothing is filed there.
var ErrEnded error = core.E(core.Conflict, "epoch-ended", "the epoch has ended", "")

// BrokenError names a partition that is damaged. It was put aside as it was;
// what belongs to its epoch waits in the late lane, everything else is served.
type BrokenError struct {
	Epoch  core.Epoch
	Aside  string    // where the damaged file lies, relative to the data folder
	Detail string    // what the engine says
	At     time.Time // when it was put aside
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("epoch file %s is damaged (%s); it was put aside as %s", e.Epoch, e.Detail, e.Aside)
}

// AsBroken finds a *BrokenError in err's chain.
func AsBroken(err error) (*BrokenError, bool) { return errors.AsType[*BrokenError](err) }

// Query says which rows of a subject to read.
type Query struct {
	Subject core.Subject
	From    time.Time // first instant wanted
	To      time.Time // first instant no longer wanted
	// Want chooses by the declaration that a row was judged by, its stream
	// and its group, an index in that declaration's groups. nil wants all.
	Want func(policy core.Hash, stream string, group uint8) bool
}

// Batch is one commit of rows into a partition, as the partition says.
type Batch struct {
	ID    uint64 // from 1
	First int64  // number of its first row
	Count uint64
	Root  core.Hash // Merkle root of its rows' leaves
	Sums  []byte    // the first SumSize bytes of each row's leaf
}

// AuditVisitor is given everything a partition holds, as raw as it is.
type AuditVisitor struct {
	Head  func(Head) error          // what the partition says of itself; first
	Batch func(*Batch) error        // each batch, by number; before its first row
	Row   func(*Row) error          // each row, by number
	Fault func(detail string) error // what the engine finds wrong
}

// PartPlace names one part of one record of the journal.
type PartPlace struct {
	Place Place
	Epoch core.Epoch
	Group uint8
}

// Waiting is what the late lane holds for one epoch.
type Waiting struct {
	Epoch core.Epoch
	Rows  uint64
	Since time.Time // when the oldest of them came in
}

// LateLane keeps rows whose partition is not open or cannot be written now,
// in the order in which they came, until the projector files them.
type LateLane interface {
	// Park keeps rows, durable when it returns. The same part of the same
	// record is kept once.
	Park(ctx context.Context, rows []Row) error
	// After names the parts of records after m that wait here.
	After(ctx context.Context, m Mark) ([]PartPlace, error)
	// Waiting says for each epoch what is here.
	Waiting(ctx context.Context) ([]Waiting, error)
	// Take yields up to limit rows of e with numbers above after, in order.
	Take(ctx context.Context, e core.Epoch, after uint64, limit int, yield func(id uint64, r *Row) error) error
	// Drop forgets e's rows up to a number and says how many there were.
	Drop(ctx context.Context, e core.Epoch, upTo uint64) (uint64, error)
	// Scan yields e's rows that q wants, in the order in which they came.
	Scan(ctx context.Context, e core.Epoch, q *Query, yield func(*Row) error) error
	// Damaged says what was found wrong with the lane's file and where it was
	// put aside; empty when nothing was.
	Damaged() string
}

// Wants reports whether q wants a row: its subject, time and group.
func (q *Query) Wants(r *Row) bool {
	t := time.UnixMilli(r.Reading.T)
	return r.Reading.Subject == q.Subject && !t.Before(q.From) && t.Before(q.To) &&
		(q.Want == nil || q.Want(r.Reading.Policy, r.Reading.Stream, r.Part.Group))
}
