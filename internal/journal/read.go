package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hawser-iot/hawser/internal/core"
)

const (
	readAhead      = 64      // batches asked for at once
	readAheadBytes = 1 << 20 // and about so many bytes of them
	readTimeout    = 10 * time.Second
	readRetries    = 5
	awayRetries    = 100 // of a cluster: while there is no leader nobody answers
)

// ErrBehind says that a reader has seen more than the journal holds: the
// journal was replaced by an older copy. Reading on would skip records.
var ErrBehind error = core.E(core.Conflict, "journal-behind", "the journal is older than its reader", "the journal was replaced by an older copy; restore it together with the telemetry files")

// DamagedError names a batch that cannot be read. The next Next goes on with
// the one after it.
type DamagedError struct {
	Seq uint64
	Err error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("batch %d of the journal: %v", e.Seq, e.Err)
}

// Unwrap gives the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

// Batch is what was committed together, in the order of Submit. One without
// records is a probe of the disk: it is given out too, so that a reader comes as
// far as Durable says.
type Batch struct {
	Seq     uint64
	Missing uint64   // batches before it that this reader should have seen and that are gone
	Records [][]byte // valid until the next call of Next
}

// Reader reads the journal from some point on, in order. It is for one
// goroutine. Several readers do not disturb each other.
type Reader struct {
	j       *Journal
	pos     uint64 // last sequence handed out
	conn    *nats.Conn
	engine  *engine // the one conn belongs to
	sub     *nats.Subscription
	ahead   []*nats.Msg
	records [][]byte
}

// Reader starts after the given sequence; 0 is the beginning of what is held.
func (j *Journal) Reader(after uint64) *Reader { return &Reader{j: j, pos: after} }

// Close lets go of what the reader holds. Closing twice is no error.
func (r *Reader) Close() {
	if r.conn != nil {
		r.conn.Close()
	}
	r.conn, r.sub, r.engine, r.ahead = nil, nil, nil, nil
}

// Next gives the next batch and waits for it if need be. Only what is sure to
// stay on disk is given. The error is ctx's, ErrClosed, ErrBehind, a
// *DamagedError, or that of a store which cannot be read.
func (r *Reader) Next(ctx context.Context) (Batch, error) {
	for failed := 0; ; {
		if err := ctx.Err(); err != nil {
			return Batch{}, err
		}
		if len(r.ahead) > 0 {
			m := r.ahead[0]
			r.ahead = r.ahead[1:]
			return r.open(m)
		}
		e, durable, changed := r.j.news()
		if e != nil && r.pos > durable {
			return Batch{}, ErrBehind
		}
		if e == nil || r.pos == durable {
			select {
			case <-changed:
			case <-ctx.Done():
			case <-r.j.stopped:
				return Batch{}, ErrClosed
			}
			continue
		}
		err := r.fetch(ctx, e, durable)
		if err == nil || ctx.Err() != nil {
			continue
		}
		r.Close()
		if now, _ := r.j.current(); now != e {
			continue // the engine was replaced under us
		}
		retries := readRetries
		if e.away != nil {
			retries = awayRetries
		}
		if failed++; failed > retries {
			return Batch{}, fmt.Errorf("read the journal after %d: %w", r.pos, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// open decodes one message and moves the reader past it.
func (r *Reader) open(m *nats.Msg) (Batch, error) {
	seq := sequence(m)
	b := Batch{Seq: seq}
	if r.pos != 0 {
		b.Missing = seq - r.pos - 1
	}
	r.pos = seq
	var err error
	if r.records, err = splitBatch(r.records[:0], m.Data); err != nil {
		return b, &DamagedError{Seq: seq, Err: err}
	}
	b.Records = r.records
	return b, nil
}

func sequence(m *nats.Msg) uint64 {
	seq, _ := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	return seq
}

// fetch asks for the batches after r.pos and up to durable (NATS ADR-31,
// direct batch get).
func (r *Reader) fetch(ctx context.Context, e *engine, durable uint64) error {
	if r.engine != e {
		r.Close()
		conn, err := e.connect(ctx, "reader")
		if err != nil {
			return err
		}
		r.conn, r.engine = conn, e
		if r.sub, err = conn.SubscribeSync(conn.NewRespInbox()); err != nil {
			return err
		}
		if err = r.sub.SetPendingLimits(-1, -1); err != nil { // bounded by what is asked for
			return err
		}
	}
	n := min(readAhead, durable-r.pos)
	ask := fmt.Appendf(nil, `{"seq":%d,"batch":%d,"max_bytes":%d}`, r.pos+1, n, readAheadBytes)
	if err := r.conn.PublishRequest("$JS.API.DIRECT.GET."+e.name, r.sub.Subject, ask); err != nil {
		return err
	}
	limit := readTimeout
	if e.away != nil {
		limit = insistEvery // an answer may have died with its server
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		m, err := r.sub.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
			seq := sequence(m)
			if seq <= r.pos {
				return errors.New("the store answered with a batch that was not asked for")
			}
			if seq <= durable {
				r.ahead = append(r.ahead, m)
			}
		case "204": // end of what it sends at once
			if len(r.ahead) == 0 {
				return errors.New("the store has no batch where one must be")
			}
			return nil
		default:
			return fmt.Errorf("the store answers %s %s", status, m.Header.Get("Description"))
		}
	}
}
