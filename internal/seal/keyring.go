package seal

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Options says where a keyring lies.
type Options struct {
	Copies []string // at least two file paths, in folders of mode 0700, best on different disks; none inside DATA or a backup
	Roots  RootKeys // where the root that wraps the keyring is kept, apart from all copies
	Now    func() time.Time

	step func(effect string, do func() error) error // tests only: around each effect on disk
}

// Keyring holds every subject's and every epoch's secret. One process owns it
// at a time. Its methods may be called from many goroutines.
type Keyring struct {
	o     Options
	disk  disk
	locks []*os.File

	turn chan struct{} // held by who changes the copies; guards the fields down to mu

	head   header
	chain  *chain
	size   int64 // bytes of every copy
	unsure bool  // a change began and did not end: look at the copies before the next one
	closed bool

	mu        sync.RWMutex
	subjects  map[core.Subject]*living
	epochs    map[core.Epoch]*living
	destroyed map[time.Duration]int64
	control   secret
	last      rotation

	gen    atomic.Uint64
	leases leases
}

// living is a secret in memory. retired ends sealing with it, dead every lease
// that rests on it; the secret itself goes when it is out of every copy.
type living struct {
	secret  secret // guarded by Keyring.mu
	retired atomic.Bool
	dead    atomic.Bool
}

// Create makes a new keyring of generation 1 and its root. It fails with
// core.Conflict if any copy or any later root exists. A Create that was
// interrupted can be repeated until a copy is there; from then on, Open.
func Create(ctx context.Context, o Options) (*Keyring, error) {
	k, err := prepare(o)
	if err != nil {
		return nil, err
	}
	for _, path := range o.Copies {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("make folder of keyring: %w", err)
		}
	}
	if err := k.create(ctx); err != nil {
		_ = k.Close() // the error of create is the one to report
		return nil, fmt.Errorf("create keyring: %w", err)
	}
	return k, nil
}

func (k *Keyring) create(ctx context.Context) error {
	if err := k.lock(); err != nil {
		return err
	}
	for _, path := range k.o.Copies {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return core.E(core.Conflict, "keyring-exists", fmt.Sprintf("there is a keyring at %s already", path), "open it, or choose another place")
		}
	}
	gens, err := k.o.Roots.Generations(ctx)
	if err != nil {
		return err
	}
	switch {
	case len(gens) == 0:
		if err := k.disk.step("create root", func() error { return k.o.Roots.Create(ctx, 1) }); err != nil {
			return err
		}
	case len(gens) > 1 || gens[0] != 1:
		return core.E(core.Conflict, "root-exists", fmt.Sprintf("the root store holds generation %d: it belongs to another keyring", gens[len(gens)-1]),
			"bring that keyring, or choose another root folder")
	}
	c := newContents()
	if _, err := rand.Read(c.control[:]); err != nil {
		return fmt.Errorf("read randomness: %w", err)
	}
	im, err := k.snapshot(ctx, 1, c)
	if err != nil {
		return err
	}
	if err := k.write(im); err != nil {
		return err
	}
	k.adopt(im)
	return nil
}

// Open opens a keyring and first finishes what a crash interrupted: copies
// that lag are repaired from the newest one, a torn addition is cut, and roots
// older than the keyring are destroyed. It refuses, naming the generation,
// when the root of the newest copy is missing, and when every copy of the
// newest generation is damaged; it never falls back to an older one, because
// what was erased since would open again.
func Open(ctx context.Context, o Options) (*Keyring, error) {
	k, err := prepare(o)
	if err != nil {
		return nil, err
	}
	err = k.lock()
	if err == nil {
		err = k.load(ctx)
	}
	if err != nil {
		_ = k.Close() // the error of load is the one to report
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	return k, nil
}

func prepare(o Options) (*Keyring, error) {
	if o.Roots == nil || o.Now == nil {
		return nil, errors.New("keyring needs Roots and Now")
	}
	if len(o.Copies) < 2 {
		return nil, core.E(core.Invalid, "keyring-copies", "a keyring needs at least two copies", "configure two paths, best on different disks")
	}
	o.Copies = slices.Clone(o.Copies)
	for i, path := range o.Copies {
		o.Copies[i] = filepath.Clean(path)
		if slices.Contains(o.Copies[:i], o.Copies[i]) {
			return nil, core.E(core.Invalid, "keyring-copies", fmt.Sprintf("%s is configured as two keyring copies", path), "configure two different paths, best on different disks")
		}
	}
	if o.step == nil {
		o.step = func(_ string, do func() error) error { return do() }
	}
	return &Keyring{
		o: o, disk: disk{step: o.step}, turn: make(chan struct{}, 1),
		subjects: map[core.Subject]*living{}, epochs: map[core.Epoch]*living{}, destroyed: map[time.Duration]int64{},
	}, nil
}

func (k *Keyring) lock() error {
	for _, path := range k.o.Copies {
		if err := checkPrivate(filepath.Dir(path)); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return core.E(core.Unready, "no-keyring", fmt.Sprintf("the folder of keyring copy %s does not exist", path), "mount or make it (mode 0700); a missing copy is then written from the other")
			}
			return err
		}
		f, err := lock(path)
		if err != nil {
			return err
		}
		k.locks = append(k.locks, f)
	}
	return nil
}

// Close ends every lease and gives up the copies.
func (k *Keyring) Close() error {
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	k.closed = true
	k.mu.Lock()
	for _, l := range k.subjects {
		l.end()
	}
	for _, l := range k.epochs {
		l.end()
	}
	clear(k.control[:])
	k.mu.Unlock()
	k.leases.sweep()
	var errs []error
	for _, f := range k.locks {
		errs = append(errs, f.Close())
	}
	k.locks = nil
	return errors.Join(errs...)
}

// end forgets a secret; Keyring.mu is held for writing.
func (l *living) end() {
	l.dead.Store(true)
	clear(l.secret[:])
}

// Generation is the number of the root that wraps the keyring.
func (k *Keyring) Generation() uint64 { return k.gen.Load() }

// Has reports whether s has a key. A subject that Shred was asked for has
// none from that moment on.
func (k *Keyring) Has(s core.Subject) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	l := k.subjects[s]
	return l != nil && !l.dead.Load()
}

// HasEpoch reports whether e has a key.
func (k *Keyring) HasEpoch(e core.Epoch) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	l := k.epochs[e]
	return l != nil && !l.dead.Load()
}

// Epochs are the epochs that have a key, by keep-time and start.
func (k *Keyring) Epochs() []core.Epoch {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := make([]core.Epoch, 0, len(k.epochs))
	for e, l := range k.epochs {
		if !l.dead.Load() {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b core.Epoch) int {
		return cmp.Or(cmp.Compare(a.Keep, b.Keep), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Length, b.Length))
	})
	return out
}

// State is what a keyring holds, for `doctor` and metrics.
type State struct {
	Generation       uint64
	Additions        uint64 // frames added to the copies within this generation
	Subjects, Epochs int
	Copies           []string
	CopyBytes        int64 // of each copy
}

// State counts what the keyring holds.
func (k *Keyring) State(ctx context.Context) (State, error) {
	if err := k.take(ctx); err != nil {
		return State{}, err
	}
	defer k.give()
	k.mu.RLock()
	defer k.mu.RUnlock()
	return State{
		Generation: k.gen.Load(), Additions: k.chain.n - 1, Subjects: len(k.subjects), Epochs: len(k.epochs),
		Copies: slices.Clone(k.o.Copies), CopyBytes: k.size,
	}, nil
}

// take waits for the turn to change the copies.
func (k *Keyring) take(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if k.closed {
		<-k.turn
		return core.E(core.Unavail, "keyring-closed", "the keyring is closed", "")
	}
	return nil
}

func (k *Keyring) give() { <-k.turn }

// begin waits for the turn and makes sure that memory and copies agree.
func (k *Keyring) begin(ctx context.Context) error {
	if err := k.take(ctx); err != nil {
		return err
	}
	if err := k.settle(ctx); err != nil {
		k.give()
		return err
	}
	return nil
}

func (k *Keyring) settle(ctx context.Context) error {
	if k.unsure {
		return k.load(context.WithoutCancel(ctx))
	}
	for _, path := range k.o.Copies {
		if err := k.disk.unchanged(path, k.head.raw, k.size); err != nil {
			return err
		}
	}
	return nil
}

// AddSubject makes the key of one subject; see AddSubjects.
func (k *Keyring) AddSubject(ctx context.Context, s core.Subject) error {
	return k.AddSubjects(ctx, []core.Subject{s})
}

// AddSubjects makes the keys of subjects, all or none, and returns when they
// are durable in every copy. It fails with core.Conflict if one of them has a
// key: pseudonyms are random and never used twice, so a key that was erased is
// never silently made again. Any other error leaves open whether they were
// added until the keyring is opened again; take new pseudonyms.
func (k *Keyring) AddSubjects(ctx context.Context, subjects []core.Subject) error {
	if err := k.begin(ctx); err != nil {
		return fmt.Errorf("add subjects: %w", err)
	}
	defer k.give()
	added := make(map[core.Subject]*living, len(subjects))
	var frame []byte
	for _, s := range subjects {
		if s.IsZero() {
			return core.E(core.Invalid, "no-subject", "nobody can have no key", "")
		}
		if k.known(s) || added[s] != nil {
			return core.E(core.Conflict, "subject-exists", fmt.Sprintf("subject %s has a key already", s), "make a new random pseudonym")
		}
		l := new(living)
		if _, err := rand.Read(l.secret[:]); err != nil {
			return fmt.Errorf("read randomness: %w", err)
		}
		added[s] = l
		frame = appendSubjectEntry(frame, s, l.secret)
	}
	if len(added) == 0 {
		return nil
	}
	if err := k.add(frame); err != nil {
		return fmt.Errorf("add subjects: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for s, l := range added {
		k.subjects[s] = l
	}
	return nil
}

// known reports whether s has a key in the copies, be it condemned or not.
func (k *Keyring) known(s core.Subject) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.subjects[s] != nil
}

// maxAhead is how far ahead of the clock an epoch may begin: readings are
// clamped to minutes from now, so a later one comes of a mistake.
const maxAhead = 24 * time.Hour

// EnsureEpoch makes the key of an epoch if it has none, durable in every copy
// before it returns. It refuses an epoch that is due, that begins more than a
// day from now, or that is not later than the latest destroyed one of its
// keep-time: a key that was destroyed is never made again.
func (k *Keyring) EnsureEpoch(ctx context.Context, e core.Epoch) error {
	if k.HasEpoch(e) {
		return nil
	}
	if err := checkEpoch(e); err != nil {
		return err
	}
	if err := k.begin(ctx); err != nil {
		return fmt.Errorf("ensure epoch %s: %w", e, err)
	}
	defer k.give()
	if k.HasEpoch(e) {
		return nil
	}
	if err := k.mayBegin(e); err != nil {
		return err
	}
	l := new(living)
	if _, err := rand.Read(l.secret[:]); err != nil {
		return fmt.Errorf("read randomness: %w", err)
	}
	if err := k.add(appendEpochEntry(nil, e, l.secret)); err != nil {
		return fmt.Errorf("ensure epoch %s: %w", e, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.epochs[e] = l
	return nil
}

func (k *Keyring) mayBegin(e core.Epoch) error {
	k.mu.RLock()
	destroyed, some := k.destroyed[e.Keep]
	condemned := k.epochs[e] != nil
	k.mu.RUnlock()
	now := k.o.Now()
	switch {
	case condemned, some && e.Start <= destroyed:
		return &core.Error{
			Kind: core.Conflict, Reason: "epoch-destroyed", Err: ErrNoKey,
			Message: fmt.Sprintf("epoch %s was destroyed, or is older than one that was", e),
		}
	case !now.Before(e.Due()):
		return &core.Error{
			Kind: core.Conflict, Reason: "epoch-due", Err: ErrNoKey,
			Message: fmt.Sprintf("epoch %s is past its keep-time", e),
		}
	case e.Start > now.Add(maxAhead).Unix():
		return core.E(core.Invalid, "epoch-ahead", fmt.Sprintf("epoch %s begins more than %s from now", e, maxAhead), "check the clock")
	}
	return nil
}

// add appends one frame to every copy, one copy after the other: at any crash
// at most one of them has a torn tail.
func (k *Keyring) add(entries []byte) error {
	if k.size+int64(len(entries)+frameExtra) > maxCopySize {
		return core.E(core.TooLarge, "keyring-full", fmt.Sprintf("the keyring has reached its limit of %d bytes", maxCopySize), "")
	}
	frame, err := k.chain.seal(entries)
	clear(entries)
	if err != nil {
		return err
	}
	k.unsure = true
	for _, path := range k.o.Copies {
		if err := k.disk.append(path, k.size, frame); err != nil {
			k.takeBack()
			return &core.Error{Kind: core.Unavail, Reason: "keyring-write", Message: "a key could not be written", Hint: "see that every keyring copy can be written", Err: err}
		}
	}
	k.chain.took(frame)
	k.size += int64(len(frame))
	k.unsure = false
	return nil
}

// takeBack cuts an addition that did not reach every copy. Where that fails
// too, the next change looks at the copies first.
func (k *Keyring) takeBack() {
	for _, path := range k.o.Copies {
		if err := k.disk.cut(path, k.size); err != nil {
			return
		}
	}
	k.unsure = false
}
