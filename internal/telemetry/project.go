package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// JournalBatch is what was committed to the journal together.
type JournalBatch struct {
	Seq     uint64
	Missing uint64   // batches before it that are gone
	Records [][]byte // valid until the next batch is read
	Damaged error    // it cannot be read; Records is empty
}

// JournalReader reads the journal from some point on. It is for one goroutine.
type JournalReader interface {
	// Next waits for the next batch.
	Next(context.Context) (JournalBatch, error)
	Close()
}

// JournalSource is what the projector needs of the journal.
type JournalSource interface {
	Incarnation() string
	// Last is the newest batch.
	Last() uint64
	// Barrier waits for what is under way and gives the newest batch then:
	// nothing that was submitted before the call is after it.
	Barrier(context.Context) (uint64, error)
	// Reader starts after a batch; 0 is the beginning of what is held.
	Reader(after uint64) JournalReader
	// Trim forgets the batches below one.
	Trim(ctx context.Context, below uint64) error
}

// ProjectorLimits bound what the projector does at once. Zero means default.
type ProjectorLimits struct {
	Rows      int           // parts gathered for one commit; 32,768
	Bytes     int           // their sealed bytes; 16 MiB
	Linger    time.Duration // how long to wait for more of them; 500 ms
	OnTime    int           // epochs that are not late, in one commit; 32
	LateFiles int           // late epochs in one commit, the rest goes to the late lane; 4
	LateRows  uint64        // that many waiting rows of an epoch are filed at once; 4,096
	LateWait  time.Duration // and fewer after this time; 10 s
}

func (l ProjectorLimits) orDefault() ProjectorLimits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Rows, 1<<15)
	def(&l.Bytes, 16<<20)
	def(&l.OnTime, 32)
	def(&l.LateFiles, 4)
	if l.Linger <= 0 {
		l.Linger = 500 * time.Millisecond
	}
	if l.LateRows == 0 {
		l.LateRows = 4096
	}
	if l.LateWait <= 0 {
		l.LateWait = 10 * time.Second
	}
	return l
}

const (
	idleEvery = time.Second      // how often to look at the late lane when nothing comes in
	tidyEvery = 30 * time.Second // how often to close what is not used
	trimEvery = 10 * time.Second // how often to trim the journal, at least
	trimSteps = 64               // and after so many commits
	retryMin  = 250 * time.Millisecond
	retryMax  = 15 * time.Second
)

// ProjectorDeps is what a Projector needs. All but Slowest is required.
type ProjectorDeps struct {
	Journal JournalSource
	Files   Partitions
	Late    LateLane
	Update  func(context.Context, func(ProjectionTx) error) error
	View    func(context.Context, func(ProjectionTx) error) error
	Now     func() time.Time
	Log     *slog.Logger
	// Versions is every version of a product's declaration, oldest first.
	Versions func(context.Context, core.ProductID) ([]declaration.Version, error)
	// Guarding reports whether a legal hold is in force. Then what comes for an
	// epoch that is due is filed until the epoch's end begins, for the hold to
	// find it; else it is not filed any more.
	Guarding func(context.Context) (bool, error)
	// Slowest is the lowest sequence that some other reader of the journal
	// has not read yet; false when there is none.
	Slowest func() (uint64, bool)
	Limits  ProjectorLimits
}

// Projector files what the journal holds: each part of a reading in the
// partition of its epoch, its counts in the control database. It may be
// killed at any moment: what it did is done again and changes nothing.
type Projector struct {
	d    ProjectorDeps
	l    ProjectorLimits
	name string // the journal's incarnation

	// Only the goroutine of Run uses these.
	mark      Mark
	rd        JournalReader
	pos       uint64 // last batch read
	last      uint64 // newest batch of the journal when it was last asked
	redo      map[PartPlace]struct{}
	redoUntil uint64
	repeats   repeats
	versions  versions
	trimmed   time.Time
	untrimmed int
	tidied    time.Time

	mu      sync.Mutex // guards what follows
	state   ProjectorState
	changed chan struct{} // closed when Mark moves; nil while nobody waits

	hurry chan struct{} // somebody waits: do not linger
}

// ProjectorState is how the projector is now, for `doctor` and metrics.
type ProjectorState struct {
	Mark    Mark   // everything up to it is filed, durable and counted
	Behind  uint64 // batches of the journal after it
	Rows    uint64 // rows filed since the start
	Commits uint64 // since the start
	Waiting []Waiting
	Broken  []BrokenError
	Lane    string // what was found wrong with the late lane; empty when nothing was
	Lost    Loss   // since the start
	Trouble error  // why nothing moves at present; nil when well
	Last    time.Time
}

// Loss is what of the journal could not be filed because it could not be read.
type Loss struct {
	Missing uint64 // batches that were gone before they were read
	Damaged uint64 // batches that failed their checksum
	Records uint64 // records of no known form
}

func (l Loss) isZero() bool { return l == Loss{} }

func (l *Loss) add(m Loss) {
	l.Missing += m.Missing
	l.Damaged += m.Damaged
	l.Records += m.Records
}

// NewProjector checks its dependencies; Run does the work.
func NewProjector(d ProjectorDeps) (*Projector, error) {
	if d.Journal == nil || d.Files == nil || d.Late == nil || d.Update == nil || d.View == nil || d.Now == nil || d.Log == nil || d.Versions == nil || d.Guarding == nil {
		return nil, errors.New("projector: Journal, Files, Late, Update, View, Now, Log, Versions and Guarding are required")
	}
	return &Projector{
		d: d, l: d.Limits.orDefault(), name: d.Journal.Incarnation(), hurry: make(chan struct{}, 1),
		versions: newVersions(d.Versions),
	}, nil
}

// State says how the projector is.
func (p *Projector) State() ProjectorState {
	last, broken, lane := p.d.Journal.Last(), p.d.Files.Broken(), p.d.Late.Damaged()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.state
	if last > s.Mark.Seq {
		s.Behind = last - s.Mark.Seq
	}
	s.Broken, s.Lane = broken, lane
	return s
}

// Settle returns when all that was submitted to the journal before is filed,
// or when ctx ends.
func (p *Projector) Settle(ctx context.Context) error {
	target, err := p.d.Journal.Barrier(ctx)
	if err != nil {
		return behind(err)
	}
	for {
		p.mu.Lock()
		if p.state.Mark.Seq >= target {
			p.mu.Unlock()
			return nil
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed, trouble := p.changed, p.state.Trouble
		p.mu.Unlock()
		select {
		case p.hurry <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return behind(errors.Join(ctx.Err(), trouble))
		}
	}
}

func behind(why error) error {
	return &core.Error{
		Kind: core.Unavail, Reason: "projector-behind", Message: "not everything that was acknowledged is filed yet",
		Hint: "see the projector in `hawser doctor`", Err: why,
	}
}

// SafePoint is the sequence below which the projector needs nothing of the
// journal any more.
func (p *Projector) SafePoint() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Mark.Seq + 1
}

// Run files the journal until ctx ends. Trouble of the disk does not end it:
// it stands in State, the journal fills up meanwhile and stops the
// acknowledgements, and work goes on when the trouble is over. The error is
// nil when ctx ended, else something that will not pass by itself.
func (p *Projector) Run(ctx context.Context) error {
	err := p.again(ctx, "begin", p.begin)
	if err != nil {
		return ended(ctx, err)
	}
	defer p.rd.Close()
	g := newGroup(p.name)
	for {
		g.reset()
		if err := p.again(ctx, "read the journal", func(ctx context.Context) error { return p.gather(ctx, g) }); err != nil {
			return ended(ctx, err)
		}
		if g.last != 0 {
			if err := p.again(ctx, "file readings", func(ctx context.Context) error { return p.settle(ctx, g) }); err != nil {
				return ended(ctx, err)
			}
		}
		if err := p.again(ctx, "empty the late lane", func(ctx context.Context) error { return p.drain(ctx, p.due) }); err != nil {
			return ended(ctx, err)
		}
		p.housekeep(ctx)
	}
}

// ended makes the end of ctx no error.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// again runs step until it works, ctx ends, or it fails for good.
func (p *Projector) again(ctx context.Context, what string, step func(context.Context) error) error {
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		err := step(ctx)
		if err == nil {
			p.trouble(nil)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = fmt.Errorf("projector: %s: %w", what, err)
		p.trouble(err)
		if core.KindOf(err) == core.Conflict {
			return err
		}
		p.d.Log.ErrorContext(ctx, "projector is in trouble and tries again", slog.Duration("wait", wait), slog.Any("err", err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *Projector) trouble(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Trouble = err
	if err == nil {
		p.state.Last = p.d.Now()
	}
}

// begin reads how far the projector had come. Everything it did after that
// is done again; what of it waits in the late lane stays there.
func (p *Projector) begin(ctx context.Context) error {
	var live []EpochInfo
	var mark Mark
	err := p.d.View(ctx, func(tx ProjectionTx) (err error) {
		if mark, err = tx.ProjectorMark(ctx); err != nil {
			return err
		}
		live, err = tx.Epochs(ctx, EpochLive)
		return err
	})
	if err != nil {
		return err
	}
	if mark.Journal != p.name {
		mark = Mark{Journal: p.name}
	}
	if last := p.d.Journal.Last(); mark.Seq > last {
		return core.E(core.Conflict, "journal-behind", fmt.Sprintf("the journal ends at %d, but %d was filed from it", last, mark.Seq),
			"the journal was replaced by an older copy; restore it together with the telemetry files")
	}
	if err := p.putBack(ctx); err != nil {
		return err
	}
	parked, err := p.d.Late.After(ctx, mark)
	if err != nil {
		return err
	}
	p.redo, p.redoUntil = map[PartPlace]struct{}{}, 0
	for _, at := range parked {
		p.redo[at] = struct{}{}
		p.redoUntil = max(p.redoUntil, at.Place.Seq)
	}
	p.repeats.begin(live)
	p.mark, p.pos = mark, mark.Seq
	if err := p.waiting(ctx); err != nil {
		return err
	}
	p.rd = p.d.Journal.Reader(mark.Seq)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved(mark)
	return nil
}

// moved notes how far everything is filed and tells who waits for it. p.mu is
// held.
func (p *Projector) moved(m Mark) {
	p.state.Mark = m
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// putBack makes epochs live again whose damaged file somebody has repaired
// and put back in its place. Verify says whether it is the same file.
func (p *Projector) putBack(ctx context.Context) error {
	var damaged []EpochInfo
	err := p.d.View(ctx, func(tx ProjectionTx) (err error) {
		damaged, err = tx.Epochs(ctx, EpochDamaged)
		return err
	})
	if err != nil || len(damaged) == 0 {
		return err
	}
	files, err := p.d.Files.List(ctx)
	if err != nil {
		return err
	}
	whole := map[string]bool{}
	for _, e := range files {
		whole[e.String()] = true
	}
	for _, b := range p.d.Files.Broken() {
		delete(whole, b.Epoch.String())
	}
	return p.d.Update(ctx, func(tx ProjectionTx) error {
		for _, i := range damaged {
			if !whole[i.Epoch.String()] {
				continue
			}
			if err := tx.PutEpochState(ctx, i.Epoch, EpochLive, "", p.d.Now()); err != nil {
				return err
			}
			p.d.Log.InfoContext(ctx, "the file of a damaged epoch is back", slog.String("epoch", i.Epoch.String()))
		}
		return nil
	})
}

func (p *Projector) waiting(ctx context.Context) error {
	w, err := p.d.Late.Waiting(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Waiting = w
	return nil
}

// housekeep trims the journal and closes files. Its errors are trouble, but
// nothing waits for it.
func (p *Projector) housekeep(ctx context.Context) {
	now := p.d.Now()
	if now.Sub(p.tidied) >= tidyEvery {
		p.tidied = now
		p.versions.tidy()
		if err := p.d.Files.Tidy(ctx); err != nil {
			p.d.Log.WarnContext(ctx, "closing unused epoch files", slog.Any("err", err))
		}
	}
	if p.untrimmed == 0 || p.untrimmed < trimSteps && now.Sub(p.trimmed) < trimEvery {
		return
	}
	p.untrimmed, p.trimmed = 0, now
	below := p.mark.Seq + 1
	if p.d.Slowest != nil {
		if s, some := p.d.Slowest(); some {
			below = min(below, s)
		}
	}
	if err := p.d.Journal.Trim(ctx, below); err != nil && ctx.Err() == nil {
		p.d.Log.WarnContext(ctx, "trimming the journal", slog.Any("err", err))
	}
}
