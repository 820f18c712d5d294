package journal

import (
	"context"
	"sync"

	"github.com/hawser-iot/hawser/internal/core"
)

// errTooLarge: a record that no batch can hold.
var errTooLarge error = core.E(core.TooLarge, "record-too-large", "the record does not fit into a batch", "")

// waiting is who wants to hear of a record.
type waiting struct {
	c     Completion
	token uint64
}

// batch is records on their way to disk, already in the layout of the disk,
// and who waits for each.
type batch struct {
	buf     []byte
	records int
	who     []waiting
}

func (b *batch) reset() {
	b.buf, b.records = startBatch(b.buf), 0
	clear(b.who) // let go of completions, and with them of connections
	b.who = b.who[:0]
}

func (b *batch) tell(err error) {
	for i := range b.who {
		if c := b.who[i].c; c != nil {
			c.Done(b.who[i].token, err)
		}
	}
}

// queue is where submitters and the committer meet. A submitter copies its
// record into the open batch under one short lock; the committer takes the
// oldest batch whole.
type queue struct {
	maxBytes, maxRecords int

	mu      sync.Mutex
	open    *batch   // being filled
	full    []*batch // closed because the next record did not fit, oldest first
	free    []*batch // for reuse
	bytes   int      // in open, full and in flight
	records int
	taken   uint64        // records put, ever
	decided uint64        // of them, those whose fate was told
	news    chan struct{} // closed when decided grows; nil while nobody waits
	refused error         // why nothing is taken at present
	idle    bool          // the committer sleeps and wants a wake-up

	wake chan struct{} // capacity 1
}

func (q *queue) init(maxBytes, maxRecords int) {
	q.maxBytes, q.maxRecords = maxBytes, maxRecords
	q.wake = make(chan struct{}, 1)
	q.open = newBatch()
}

func newBatch() *batch {
	b := &batch{buf: make([]byte, 0, 16<<10)}
	b.reset()
	return b
}

func (q *queue) put(rec []byte, c Completion, token uint64) error {
	size := len(rec) + recordHeader
	if len(rec) > maxRecordBytes {
		return errTooLarge
	}
	q.mu.Lock()
	if q.refused != nil {
		err := q.refused
		q.mu.Unlock()
		return err
	}
	if q.bytes+size > q.maxBytes || q.records >= q.maxRecords {
		q.mu.Unlock()
		return ErrBusy
	}
	b := q.open
	if len(b.buf)+size > maxBatchBytes {
		q.full = append(q.full, b)
		b = q.spare()
		q.open = b
	}
	b.buf = appendRecord(b.buf, rec)
	b.records++
	b.who = append(b.who, waiting{c, token})
	q.bytes += size
	q.records++
	q.taken++
	wake := q.idle
	q.idle = false
	q.mu.Unlock()
	if wake {
		select {
		case q.wake <- struct{}{}:
		default: // one is already on its way
		}
	}
	return nil
}

// held is how many records are in the queue.
func (q *queue) held() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records
}

// spare gives an empty batch. The lock is held.
func (q *queue) spare() *batch {
	if n := len(q.free); n > 0 {
		b := q.free[n-1]
		q.free = q.free[:n-1]
		return b
	}
	return newBatch()
}

// take gives the oldest batch, or nil when there is none; the next put then
// sends on wake.
func (q *queue) take() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.full) > 0 {
		b := q.full[0]
		q.full = append(q.full[:0], q.full[1:]...)
		return b
	}
	if q.open.records > 0 {
		b := q.open
		q.open = q.spare()
		return b
	}
	q.idle = true
	return nil
}

// done takes a batch back after its completions were told.
func (q *queue) done(b *batch) {
	size, records := len(b.buf)-batchHeader, b.records
	b.reset()
	q.mu.Lock()
	q.bytes -= size
	q.records -= records
	q.decided += uint64(records)
	if q.news != nil {
		close(q.news)
		q.news = nil
	}
	if len(q.free) < 4 {
		q.free = append(q.free, b)
	}
	q.mu.Unlock()
}

// settle returns when the fate of every record put before it is decided.
func (q *queue) settle(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for target := q.taken; q.decided < target; {
		if q.news == nil {
			q.news = make(chan struct{})
		}
		news := q.news
		q.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
		}
		q.mu.Lock()
		if err := ctx.Err(); err != nil && q.decided < target {
			return err
		}
	}
	return nil
}

// refuse lets nothing in from now on, for the reason given; nil lets all in.
// ErrClosed is for good.
func (q *queue) refuse(why error) {
	q.mu.Lock()
	if q.refused != ErrClosed {
		q.refused = why
	}
	q.mu.Unlock()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records
}
