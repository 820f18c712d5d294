package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const (
	epochOpenDefault = 16              // files open at once
	epochIdle        = 2 * time.Minute // unused for so long, a file is closed
)

// EpochFilesOptions say where epoch files lie.
type EpochFilesOptions struct {
	Dir     string           // DATA/telemetry; made when missing
	MaxOpen int              // files open at once; 0 means 16. Those in use are never closed
	Now     func() time.Time // required
}

// EpochFiles keep sealed rows in one SQLite file for each keep-class and
// epoch, Dir/CLASS/EPOCH.db. They are a telemetry.Partitions.
type EpochFiles struct {
	dir     string
	maxOpen int
	now     func() time.Time

	mu     sync.Mutex // guards what follows; never held over I/O
	files  map[epochKey]*epochEntry
	broken map[epochKey]telemetry.BrokenError
	use    uint64 // counts uses, for finding the one unused longest
	closed bool
}

// epochKey is what names an epoch's file; the length follows from the keep-time.
type epochKey struct{ keep, start int64 }

func keyOf(e core.Epoch) epochKey { return epochKey{int64(e.Keep / time.Second), e.Start} }

// epochEntry is the life of one file in memory.
type epochEntry struct {
	epoch   core.Epoch
	ready   chan struct{} // closed when file or err is set
	file    *epochFile
	err     error
	refs    int
	used    uint64
	at      time.Time
	closing chan struct{} // not nil: being closed; closed when done
	frozen  bool
	idle    chan struct{} // not nil: closed when refs falls to 0
}

// OpenEpochFiles looks at what lies in Dir; it opens no file yet.
func OpenEpochFiles(o EpochFilesOptions) (*EpochFiles, error) {
	if o.Dir == "" || o.Now == nil {
		return nil, errors.New("epoch files: Dir and Now are required")
	}
	if o.MaxOpen <= 0 {
		o.MaxOpen = epochOpenDefault
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make telemetry folder: %w", err)
	}
	s := &EpochFiles{
		dir: o.Dir, maxOpen: o.MaxOpen, now: o.Now,
		files: map[epochKey]*epochEntry{}, broken: map[epochKey]telemetry.BrokenError{},
	}
	if err := s.findAside(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *EpochFiles) path(e core.Epoch) string { return filepath.Join(s.dir, e.String()+".db") }

// acquire opens e's file or finds it open. The caller gives it back with
// release. make is what to do when there is no file.
func (s *EpochFiles) acquire(ctx context.Context, e core.Epoch, missing onMissing) (*epochEntry, error) {
	for {
		ent, wait, err := s.enter(e, missing)
		if err != nil {
			return nil, err
		}
		if wait != nil {
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		select {
		case <-ent.ready:
		case <-ctx.Done():
			s.release(ent)
			return nil, ctx.Err()
		}
		if ent.err != nil {
			s.release(ent)
			return nil, ent.err
		}
		return ent, nil
	}
}

// onMissing says what to do about a file that does not exist.
type onMissing int

const (
	makeIt  onMissing = iota // make it; but a frozen epoch is ErrEnded
	leaveIt                  // errNoFile
)

var errNoFile = errors.New("no such epoch file")

// enter finds or begins e's entry and counts the caller in, or gives a channel
// to wait for.
func (s *EpochFiles) enter(e core.Epoch, missing onMissing) (*epochEntry, <-chan struct{}, error) {
	k := keyOf(e)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, nil, core.E(core.Unavail, "store-closed", "the telemetry store is closed", "")
	}
	if b, ok := s.broken[k]; ok {
		s.mu.Unlock()
		b.Epoch = e
		return nil, nil, &b
	}
	ent := s.files[k]
	if ent != nil && ent.frozen && missing == makeIt {
		s.mu.Unlock()
		return nil, nil, telemetry.ErrEnded
	}
	if ent != nil && ent.closing != nil {
		s.mu.Unlock()
		return nil, ent.closing, nil
	}
	s.use++
	if ent != nil && ent.ready != nil {
		ent.refs, ent.used, ent.at = ent.refs+1, s.use, s.now()
		s.mu.Unlock()
		return ent, nil, nil
	}
	if ent == nil {
		ent = &epochEntry{}
		s.files[k] = ent
	}
	ent.epoch, ent.ready, ent.err = e, make(chan struct{}), nil
	ent.refs, ent.used, ent.at = ent.refs+1, s.use, s.now()
	victim := s.victim()
	s.mu.Unlock()

	if victim != nil {
		_ = s.shut(victim) // what it did not fold in stays in its log, and Sync opens it again
	}
	file, err := openEpochFile(s.path(e), e, missing)
	s.mu.Lock()
	ent.file, ent.err = file, err
	close(ent.ready)
	s.mu.Unlock()
	return ent, nil, nil
}

// victim picks the open file unused longest when there are too many. s.mu is
// held; the caller shuts it.
func (s *EpochFiles) victim() *epochEntry {
	open := 0
	var v *epochEntry
	for _, ent := range s.files {
		if ent.ready == nil || ent.closing != nil {
			continue
		}
		open++
		if ent.refs == 0 && ent.file != nil && (v == nil || ent.used < v.used) {
			v = ent
		}
	}
	if open <= s.maxOpen || v == nil {
		return nil
	}
	v.closing = make(chan struct{})
	return v
}

// shut closes an entry whose closing is set and that nobody uses.
func (s *EpochFiles) shut(ent *epochEntry) error {
	err := ent.file.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	close(ent.closing)
	ent.file, ent.ready, ent.closing = nil, nil, nil
	if !ent.frozen && ent.refs == 0 {
		delete(s.files, keyOf(ent.epoch))
	}
	return err
}

// retire closes an entry that nobody uses, unless that has been done.
func (s *EpochFiles) retire(ent *epochEntry) error {
	s.mu.Lock()
	wait := ent.closing
	if wait == nil && ent.file != nil {
		ent.closing = make(chan struct{})
		s.mu.Unlock()
		return s.shut(ent)
	}
	s.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return nil
}

func (s *EpochFiles) release(ent *epochEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ent.refs--
	if ent.refs > 0 {
		return
	}
	if ent.idle != nil {
		close(ent.idle)
		ent.idle = nil
	}
	if ent.file == nil && ent.closing == nil { // it did not open
		ent.ready = nil
		if !ent.frozen {
			delete(s.files, keyOf(ent.epoch))
		}
	}
}

// with runs fn on e's open file and sees to what its error means.
func (s *EpochFiles) with(ctx context.Context, e core.Epoch, missing onMissing, fn func(*epochFile) error) error {
	ent, err := s.acquire(ctx, e, missing)
	if err == nil {
		err = fn(ent.file)
		if damage := ent.file.damage(err); damage != "" {
			return s.putAside(e, ent, damage)
		}
		s.release(ent)
		return err
	}
	if d, ok := errors.AsType[*damageError](err); ok {
		return s.putAside(e, nil, d.detail)
	}
	return err
}

// Freeze lets nothing more be appended to e and waits for what is under way.
func (s *EpochFiles) Freeze(ctx context.Context, e core.Epoch) error {
	s.mu.Lock()
	ent := s.files[keyOf(e)]
	if ent == nil {
		ent = &epochEntry{epoch: e}
		s.files[keyOf(e)] = ent
	}
	ent.frozen = true
	var wait chan struct{}
	if ent.refs > 0 {
		if ent.idle == nil {
			ent.idle = make(chan struct{})
		}
		wait = ent.idle
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
func (s *EpochFiles) Thaw(e core.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ent := s.files[keyOf(e)]
	if ent == nil {
		return
	}
	ent.frozen = false
	if ent.ready == nil && ent.closing == nil && ent.refs == 0 {
		delete(s.files, keyOf(e))
	}
}

// Tidy closes files that were not used for two minutes, which also folds
// their write-ahead logs into them.
func (s *EpochFiles) Tidy(context.Context) error {
	s.mu.Lock()
	var old []*epochEntry
	limit := s.now().Add(-epochIdle)
	for _, ent := range s.files {
		if ent.refs == 0 && ent.file != nil && ent.closing == nil && ent.at.Before(limit) {
			ent.closing = make(chan struct{})
			old = append(old, ent)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, ent := range old {
		errs = append(errs, s.shut(ent))
	}
	return errors.Join(errs...)
}

// Close closes every file. It must not run beside other calls.
func (s *EpochFiles) Close() error {
	s.mu.Lock()
	s.closed = true
	var files []*epochFile
	for _, ent := range s.files {
		if ent.file != nil {
			files = append(files, ent.file)
		}
	}
	clear(s.files)
	s.mu.Unlock()
	var errs []error
	for _, f := range files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

// Sync returns when all that was appended to these epochs is on disk. A
// commit alone is not: it survives a kill, not a power cut.
func (s *EpochFiles) Sync(ctx context.Context, es []core.Epoch) error {
	for _, e := range es {
		err := s.with(ctx, e, leaveIt, func(f *epochFile) error { return f.sync() })
		if _, broken := telemetry.AsBroken(err); err != nil && !broken && !errors.Is(err, errNoFile) {
			return fmt.Errorf("sync epoch file %s: %w", e, err)
		}
	}
	return nil
}

// Remove removes the file of a frozen epoch and whatever of it was put aside.
func (s *EpochFiles) Remove(ctx context.Context, e core.Epoch) error {
	s.mu.Lock()
	ent := s.files[keyOf(e)]
	if ent == nil || !ent.frozen || ent.refs > 0 {
		s.mu.Unlock()
		return fmt.Errorf("remove epoch file %s: it is not frozen or still in use", e)
	}
	s.mu.Unlock()
	_ = s.retire(ent) // it is about to be removed
	if err := s.unlink(e); err != nil {
		return fmt.Errorf("remove epoch file %s: %w", e, err)
	}
	s.mu.Lock()
	delete(s.broken, keyOf(e))
	s.mu.Unlock()
	return nil
}
