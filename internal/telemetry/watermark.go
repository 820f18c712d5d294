package telemetry

import (
	"context"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// ProjectionTx is what the projector, the batch roots, expiry and the counts
// need of the control database, and nothing more.
type ProjectionTx interface {
	// ProjectorMark is how far the projector has come: everything up to it is
	// filed, durable and counted. Zero before the first.
	ProjectorMark(context.Context) (Mark, error)
	PutProjectorMark(context.Context, Mark) error

	// AddCounts adds to the counts by minute and to the totals.
	AddCounts(context.Context, []Count) error
	AddSubjectCounts(context.Context, []SubjectCount) error
	// Totals are the counts since the beginning; of all products when product
	// is empty.
	Totals(ctx context.Context, product core.ProductID) (Totals, error)
	SubjectCount(context.Context, core.Subject) ([]SubjectCount, error)
	// MinuteCounts are the counts from one minute on, in order, at most limit.
	MinuteCounts(ctx context.Context, from Minute, limit int) ([]Count, error)
	PruneCounts(ctx context.Context, before Minute) (int64, error)
	// ForgetCounts takes a subject out of the counts; the sums stay.
	ForgetCounts(context.Context, core.Subject) error

	// PutEpochHead notes how far a live epoch has come, and the epoch itself
	// when it is new. An epoch that is ending or has ended stays as it is.
	PutEpochHead(ctx context.Context, e core.Epoch, h Head, at time.Time) error
	PutEpochState(ctx context.Context, e core.Epoch, s EpochState, detail string, at time.Time) error
	// PutLateCounted notes that rows of the late lane up to id are counted.
	PutLateCounted(ctx context.Context, e core.Epoch, id uint64) error
	// Epoch is one epoch; false when it is not known.
	Epoch(ctx context.Context, e core.Epoch) (EpochInfo, bool, error)
	// Epochs are all those in one of the given states, by keep-time and start.
	Epochs(ctx context.Context, states ...EpochState) ([]EpochInfo, error)
	// ForgetEpochs drops what is known of epochs that ended before a time.
	ForgetEpochs(ctx context.Context, endedBefore time.Time) (int64, error)

	// UnsealedEpochs are those with batches that no root entry covers yet.
	UnsealedEpochs(context.Context) ([]EpochInfo, error)
	PutSealed(context.Context, Sealed) error
	// SealedOf are the root entries of one epoch, by batch.
	SealedOf(context.Context, core.Epoch) ([]Sealed, error)

	Record(context.Context, core.Record) error
}

// EpochState is where an epoch is in its life.
type EpochState string

// The states of an epoch, in order.
const (
	EpochLive    EpochState = "live"    // readings are filed and read
	EpochDamaged EpochState = "damaged" // its file was put aside; readings wait in the late lane
	EpochEnding  EpochState = "ending"  // the intent to end it is written
	EpochEnded   EpochState = "ended"   // key and file are gone
)

// EpochInfo is what the control database knows of an epoch.
type EpochInfo struct {
	Epoch       core.Epoch
	State       EpochState
	Head        Head   // as far as it is durable and counted
	Sealed      uint64 // last batch that the ledger covers
	LateCounted uint64 // last row of the late lane that is counted
	Detail      string
	Changed     time.Time
}
