package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const (
	pgPartsKept  = 16               // partitions whose dictionaries are held in memory
	pgAppendTime = 90 * time.Second // one commit of rows, at most; then its outcome is unknown
)

// pgPlain is how statements on partitions are sent: planned anew each time,
// because a partition grows from nothing to millions of rows and a plan made
// for the one is wrong for the other; and so that hundreds of partitions do
// not fill the server with prepared statements.
const pgPlain = pgx.QueryExecModeCacheDescribe

// PGEpochsOptions say where partitions lie.
type PGEpochsOptions struct {
	Pool *pgxpool.Pool    // required; connections are made as it makes them
	Now  func() time.Time // required
	Keep int              // partitions whose dictionaries are held in memory; 0 means 16
}

// PGEpochs keep sealed rows in PostgreSQL, each keep-class and epoch in a
// schema of its own, so that an epoch ends with its key and one DROP SCHEMA
// that touches no other. They are a telemetry.Partitions. Every commit is on
// disk when Append returns.
type PGEpochs struct {
	pool *pgxpool.Pool
	now  func() time.Time
	keep int

	mu     sync.Mutex // guards what follows; never held over I/O
	parts  map[epochKey]*pgPart
	broken map[epochKey]telemetry.BrokenError
	use    uint64 // counts uses, for finding the one unused longest
	closed bool
}

// pgPart is one partition in memory.
type pgPart struct {
	epoch  core.Epoch
	schema string

	// The store's mutex guards these.
	writers int // appends under way
	used    uint64
	at      time.Time
	frozen  bool
	idle    chan struct{} // not nil: closed when writers falls to 0

	turn chan struct{} // holds one token: who has it may write and use what follows
	pgState
}

// OpenPGEpochs looks at which partitions there are; it opens none.
func OpenPGEpochs(ctx context.Context, o PGEpochsOptions) (*PGEpochs, error) {
	if o.Pool == nil || o.Now == nil {
		return nil, errors.New("partitions in PostgreSQL: Pool and Now are required")
	}
	if o.Keep <= 0 {
		o.Keep = pgPartsKept
	}
	s := &PGEpochs{now: o.Now, keep: o.Keep, parts: map[epochKey]*pgPart{}, broken: map[epochKey]telemetry.BrokenError{}}
	c := o.Pool.Config()
	// A partition that has just grown has no statistics. Without them the planner
	// would rather gather rows and sort them than read them in the order of an
	// index, and would spill the sort to a disk that may be full.
	c.ConnConfig.RuntimeParams["enable_bitmapscan"] = "off"
	c.ConnConfig.RuntimeParams["work_mem"] = "16MB"
	var err error
	if s.pool, err = pgxpool.NewWithConfig(ctx, c); err != nil {
		return nil, fmt.Errorf("open partitions: %w", err)
	}
	if err := s.findAside(ctx); err != nil {
		s.pool.Close()
		return nil, fmt.Errorf("open partitions: %w", pgTrouble(err))
	}
	return s, nil
}

// sql puts the partition's schema into a statement that says {e}.
func (p *pgPart) sql(query string) string { return strings.ReplaceAll(query, "{e}", p.schema) }

// part is e's partition as far as reading needs it.
func (s *PGEpochs) part(e core.Epoch) (*pgPart, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(e); err != nil {
		return nil, err
	}
	return &pgPart{epoch: e, schema: pgSchemaOf(e)}, nil
}

// usable says why e's partition cannot be used. s.mu is held.
func (s *PGEpochs) usable(e core.Epoch) error {
	if s.closed {
		return core.E(core.Unavail, "store-closed", "the telemetry store is closed", "")
	}
	if e.Start < -1<<40 || e.Start > 1<<40 || e.Keep <= 0 {
		return fmt.Errorf("epoch %s cannot be", e)
	}
	if b, ok := s.broken[keyOf(e)]; ok {
		b.Epoch = e
		return &b
	}
	return nil
}

// writer counts the caller in as one who appends to e, and waits for its turn.
// leave counts it out.
func (s *PGEpochs) writer(ctx context.Context, e core.Epoch) (*pgPart, error) {
	s.mu.Lock()
	if err := s.usable(e); err != nil {
		s.mu.Unlock()
		return nil, err
	}
	k := keyOf(e)
	p := s.parts[k]
	if p != nil && p.frozen {
		s.mu.Unlock()
		return nil, telemetry.ErrEnded
	}
	if p == nil {
		p = newPGPart(e)
		s.parts[k] = p
	}
	s.use++
	p.writers, p.used, p.at = p.writers+1, s.use, s.now()
	s.forgetOne()
	s.mu.Unlock()
	select {
	case <-p.turn:
		return p, nil
	case <-ctx.Done():
		s.away(p)
		return nil, ctx.Err()
	}
}

func newPGPart(e core.Epoch) *pgPart {
	p := &pgPart{epoch: e, schema: pgSchemaOf(e), turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p
}

func (s *PGEpochs) leave(p *pgPart) {
	p.turn <- struct{}{}
	s.away(p)
}

func (s *PGEpochs) away(p *pgPart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.writers--; p.writers == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// forgetOne lets go of what is remembered of the partition unused longest, when
// there are too many. s.mu is held.
func (s *PGEpochs) forgetOne() {
	var old *pgPart
	n := 0
	for _, p := range s.parts {
		if p.frozen {
			continue
		}
		if n++; p.writers == 0 && (old == nil || p.used < old.used) {
			old = p
		}
	}
	if n > s.keep && old != nil {
		delete(s.parts, keyOf(old.epoch))
	}
}

// Freeze lets nothing more be appended to e and waits for what is under way.
func (s *PGEpochs) Freeze(ctx context.Context, e core.Epoch) error {
	s.mu.Lock()
	p := s.parts[keyOf(e)]
	if p == nil {
		p = newPGPart(e)
		s.parts[keyOf(e)] = p
	}
	p.frozen = true
	var wait chan struct{}
	if p.writers > 0 {
		if p.idle == nil {
			p.idle = make(chan struct{})
		}
		wait = p.idle
	}
	s.mu.Unlock()
	if wait == nil {
		return nil
	}
	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Thaw takes Freeze back.
func (s *PGEpochs) Thaw(e core.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[keyOf(e)]; p != nil {
		p.frozen = false
	}
}

// Sync has nothing to do: a commit is on disk.
func (s *PGEpochs) Sync(context.Context, []core.Epoch) error { return nil }

// Tidy forgets what is held in memory of partitions that were not appended to
// for two minutes.
func (s *PGEpochs) Tidy(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.now().Add(-epochIdle)
	for k, p := range s.parts {
		if p.writers == 0 && !p.frozen && p.at.Before(limit) {
			delete(s.parts, k)
		}
	}
	return nil
}

// Close lets nothing more be asked and closes its connections. It must not run
// beside other calls.
func (s *PGEpochs) Close() error {
	s.mu.Lock()
	s.closed = true
	clear(s.parts)
	s.mu.Unlock()
	s.pool.Close()
	return nil
}
