package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hawser-iot/hawser/internal/core"
)

// Options say where the journal lies and how far it may grow.
type Options struct {
	// Dir holds the journal and nothing else. It is made if missing.
	Dir string
	// MaxBytes is how much unread data the journal holds before it stops
	// acknowledging. At least 4 MiB; 0 means 4 GiB.
	MaxBytes int64
	// MinFreeBytes stops acknowledgements while the file system of Dir has
	// less room than this left, so that readers can still write down what
	// lets the journal be trimmed. 0 means 64 MiB; negative switches it off.
	MinFreeBytes int64
	// QueueBytes and QueueRecords bound what waits in memory for its commit;
	// 0 means 16 MiB and 65,536 records.
	QueueBytes, QueueRecords int
	// CommitTimeout is when a commit counts as failed; 0 means 10 s, and 30 s in
	// a cluster, which may have to choose a new leader. The
	// outcome is then unknown, so its records are not acknowledged.
	CommitTimeout time.Duration
	// Cluster, if set, is where the records are; Dir then holds only how far
	// they had come.
	Cluster *Cluster
	// May, if set, is asked before each batch is written, and again before its
	// records are acknowledged: an error says why this process may do neither
	// now. What was written between the two stays, and is not acknowledged.
	May func() error
	Log *slog.Logger     // nil: nowhere
	Now func() time.Time // required

	ending chan struct{} // closed by Close
}

func (o *Options) closing() <-chan struct{} { return o.ending }

// Completion hears of the fate of a submitted record. (It is an alias so that
// a package below this one can name the same type without importing it.)
type Completion = interface {
	// Done is called exactly once for each record that Submit took, in the
	// order of Submit, from the journal's own goroutine: it must not block, and
	// of the journal it may call only Submit. A nil error means "on disk". Otherwise
	// the outcome is unknown: never acknowledge, the record may or may not
	// be read later.
	Done(token uint64, err error)
}

// State is how the journal is now.
type State struct {
	First, Last     uint64 // sequences of the batches it holds; Last < First when it holds none
	Bytes, MaxBytes int64
	Queued          int    // records waiting for their commit
	Damage          string // what the journal once lost to damaged files, in words; "" when nothing
	Trouble         error  // why it does not acknowledge at present; nil when well
}

// The reasons for which nothing is acknowledged. All are core.Unavail: they
// pass by themselves once there is room again.
var (
	// ErrFull says that the journal has reached MaxBytes.
	ErrFull error = core.E(core.Unavail, "journal-full", "the journal is full", "a reader is behind: see the projector in `hawser doctor`")
	// ErrBusy says that too much waits in memory for its commit. It is an ErrFull.
	ErrBusy error = &core.Error{Kind: core.Unavail, Reason: "journal-busy", Message: "the journal cannot keep up", Hint: "the disk is slow or the load too high", Err: ErrFull}
	// ErrDisk says that the disk below the journal is full or nearly so.
	ErrDisk error = core.E(core.Unavail, "disk-full", "the disk of the journal is full", "make room on the file system of the data folder")
	// ErrDamaged says that files of the journal were damaged under it. It does
	// not pass by itself: opened again, the journal keeps what can be read,
	// says what it lost, and has a new incarnation.
	ErrDamaged error = core.E(core.Unavail, "journal-damaged", "the files of the journal are damaged", "check the disk, then restart the server: it keeps what can be read and names what was lost")
	// ErrClosed says that the journal was closed.
	ErrClosed error = core.E(core.Unavail, "journal-closed", "the journal is closed", "")
)

// Journal is the open journal. Its methods may be called from any goroutine.
type Journal struct {
	opt         Options
	incarnation string
	damage      string
	head        *headFile // the committer's

	queue queue // what waits for its commit

	mu      sync.Mutex    // guards what follows; never held over I/O
	engine  *engine       // nil while it is being replaced
	changed chan struct{} // closed at the next change; nil while nobody waits
	durable uint64        // last sequence known to be on disk
	trouble error
	held    State // last known first, last, bytes

	kick    chan struct{} // trimmed: look whether there is room again
	closing chan struct{} // closed by Close
	stopped chan struct{} // closed when the committer has ended
	endOnce sync.Once
}

// Open opens the journal in opt.Dir, or makes it. After an unclean stop it
// first reads back what is on disk, which takes a while for a large journal.
func Open(ctx context.Context, opt Options) (*Journal, error) {
	if opt.Dir == "" || opt.Now == nil {
		return nil, fmt.Errorf("journal: Dir and Now are required")
	}
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&opt.QueueBytes, 16<<20)
	def(&opt.QueueRecords, 1<<16)
	if opt.MaxBytes == 0 {
		opt.MaxBytes = 4 << 30
	}
	if opt.MinFreeBytes == 0 {
		opt.MinFreeBytes = 64 << 20
	}
	if opt.CommitTimeout == 0 {
		opt.CommitTimeout = 10 * time.Second
		if opt.Cluster != nil {
			opt.CommitTimeout = awayTimeout
		}
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.MaxBytes < 4<<20 || opt.QueueBytes < maxBatchBytes || opt.QueueRecords < 1 {
		return nil, core.E(core.Invalid, "journal-limits", "the journal's limits are too small",
			"max_bytes is at least 4 MiB, the queue at least one batch of 900 KiB")
	}
	if opt.Cluster != nil {
		if err := opt.Cluster.Check(); err != nil {
			return nil, err
		}
		opt.MinFreeBytes = -1 // the disks are elsewhere
	}
	opt.ending = make(chan struct{})
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the journal's folder: %w", err)
	}
	e, err := startEngine(ctx, opt)
	if err != nil {
		return nil, err
	}
	head, err := checkHead(ctx, e, opt)
	if err != nil {
		e.stop()
		return nil, err
	}
	j := &Journal{
		opt: opt, incarnation: e.incarnation, damage: e.damage, head: head, engine: e, durable: e.last,
		kick:    make(chan struct{}, 1),
		closing: opt.ending, stopped: make(chan struct{}),
	}
	j.queue.init(opt.QueueBytes, opt.QueueRecords)
	j.refresh(ctx)
	go j.commitLoop()
	if opt.Cluster != nil {
		go j.follow()
	}
	return j, nil
}

// checkHead compares the opened store with what was committed to it. A store
// that came up short gets a new incarnation.
func checkHead(ctx context.Context, e *engine, opt Options) (*headFile, error) {
	head, seq, err := openHead(opt.Dir, e.incarnation)
	if err != nil {
		return nil, err
	}
	if e.away != nil && e.last < seq {
		e.catchUp(ctx, seq)
	}
	if e.last >= seq {
		return head, nil
	}
	lost := fmt.Sprintf("%s: batches %d to %d of incarnation %s were lost to damaged files",
		opt.Now().UTC().Format(time.RFC3339), e.last+1, seq, e.incarnation)
	opt.Log.Error("journal is damaged", slog.String("lost", lost))
	if e.damage != "" {
		lost = e.damage + "; " + lost
	}
	if err := errors.Join(head.close(), e.renew(ctx, opt.MaxBytes, lost)); err != nil {
		return nil, err
	}
	head, _, err = openHead(opt.Dir, e.incarnation)
	return head, err
}

// Incarnation is the random name of this journal's numbering: sequences of
// one incarnation never repeat; a journal made anew has another one.
func (j *Journal) Incarnation() string { return j.incarnation }

// Submit hands over one record of at most 900 KB and returns at once. The
// bytes are copied. If it returns nil, c.Done(token, …) is called once, unless
// c is nil; it may run before Submit has returned. If Submit returns an error
// (ErrFull, ErrBusy, ErrDisk, …), nothing was taken and nothing is called.
func (j *Journal) Submit(rec []byte, c Completion, token uint64) error {
	return j.queue.put(rec, c, token)
}

// State says how the journal is: what it holds and whether it acknowledges.
func (j *Journal) State() State {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	j.refresh(ctx) // on failure the last known figures stand
	j.mu.Lock()
	s := j.held
	s.Trouble, s.Damage = j.trouble, j.damage
	j.mu.Unlock()
	s.Queued = j.queue.len()
	return s
}

// Durable is the newest batch that is sure to stay. Unlike State it asks
// nobody.
func (j *Journal) Durable() uint64 {
	_, last := j.current()
	return last
}

// Barrier waits until every record that Submit took before is on disk or has
// failed, and returns a sequence that is not below that of any which is. Whoever
// has read the journal up to it has all that was submitted so far. Durable alone
// knows nothing of the commit that is under way.
func (j *Journal) Barrier(ctx context.Context) (uint64, error) {
	if err := j.queue.settle(ctx); err != nil {
		return 0, fmt.Errorf("wait for what the journal has under way: %w", err)
	}
	return j.Durable(), nil
}

// refresh reads the stream's figures into j.held.
func (j *Journal) refresh(ctx context.Context) bool {
	e, _ := j.current()
	if e == nil {
		return false
	}
	info, err := e.state(ctx)
	if err != nil {
		return false
	}
	j.mu.Lock()
	j.held = State{First: info.FirstSeq, Last: info.LastSeq, Bytes: int64(info.Bytes), MaxBytes: j.opt.MaxBytes}
	j.mu.Unlock()
	return true
}

// Trim forgets all batches below the given sequence. The newest batch always
// stays: its number is what the numbering goes on from after a restart, even
// one that follows a kill.
func (j *Journal) Trim(ctx context.Context, below uint64) error {
	e, durable := j.current()
	if e == nil {
		return j.troubleOr(ErrClosed)
	}
	if e.away != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askTimeout)
		defer cancel()
	}
	below = min(below, durable)
	info, err := e.state(ctx)
	if err != nil {
		return fmt.Errorf("trim the journal: %w", err)
	}
	if below > info.FirstSeq {
		if err := e.stream.Purge(ctx, jetstream.WithPurgeSequence(below)); err != nil {
			return fmt.Errorf("trim the journal below %d: %w", below, err)
		}
	}
	select {
	case j.kick <- struct{}{}:
	default:
	}
	return nil
}

// Close commits what was submitted, tells every completion, and closes the
// files. It returns when all is done, or with ctx's error when that takes
// longer; it then goes on in the background.
func (j *Journal) Close(ctx context.Context) error {
	j.endOnce.Do(func() {
		j.queue.refuse(ErrClosed)
		close(j.closing)
	})
	select {
	case <-j.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the journal: %w", ctx.Err())
	}
}

// current gives the engine, nil while there is none, and the last sequence
// that is sure to stay.
func (j *Journal) current() (*engine, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.engine, j.durable
}

// news is current and a channel that is closed when either has changed.
func (j *Journal) news() (*engine, uint64, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.changed == nil {
		j.changed = make(chan struct{})
	}
	return j.engine, j.durable, j.changed
}

// change runs f under the lock and wakes everybody who waits for news.
func (j *Journal) change(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
	}
}

func (j *Journal) troubleOr(other error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.trouble != nil {
		return j.trouble
	}
	return other
}
