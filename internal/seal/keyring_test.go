package seal_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/seal"
)

// clock is a time that tests set.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ns.Store(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// house is a folder with roots and keyring copies.
type house struct {
	dir   string
	roots *kms.File
	clock *clock
	o     seal.Options
}

func newHouse(t testing.TB, dir string) *house {
	t.Helper()
	roots, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(dir, "root")})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{dir: dir, roots: roots, clock: newClock()}
	h.o = seal.Options{
		Copies: []string{filepath.Join(dir, "a", "keyring"), filepath.Join(dir, "b", "keyring")},
		Roots:  roots, Now: h.clock.now,
	}
	return h
}

func (h *house) create(t testing.TB) *seal.Keyring {
	t.Helper()
	k, err := seal.Create(t.Context(), h.o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func (h *house) open(t testing.TB) *seal.Keyring {
	t.Helper()
	k, err := seal.Open(t.Context(), h.o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func (h *house) generations(t testing.TB) []uint64 {
	t.Helper()
	g, err := h.roots.Generations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func newSubject(t testing.TB) core.Subject {
	t.Helper()
	var s core.Subject
	if _, err := rand.Read(s[:]); err != nil {
		t.Fatal(err)
	}
	return s
}

func addSubjects(t testing.TB, k *seal.Keyring, n int) []core.Subject {
	t.Helper()
	out := make([]core.Subject, n)
	for i := range out {
		out[i] = newSubject(t)
	}
	if err := k.AddSubjects(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	return out
}

const month, day = 30 * 24 * time.Hour, 24 * time.Hour

func (h *house) epoch(ago time.Duration) core.Epoch {
	return core.EpochAt(month, day, h.clock.now().Add(-ago))
}

func ensure(t testing.TB, k *seal.Keyring, epochs ...core.Epoch) {
	t.Helper()
	for _, e := range epochs {
		if err := k.EnsureEpoch(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

// sealed seals a text that names its subject.
func sealed(t testing.TB, k *seal.Keyring, s core.Subject, e core.Epoch) []byte {
	t.Helper()
	key, err := k.Lease(s, e)
	if err != nil {
		t.Fatal(err)
	}
	b, err := key.Seal(nil, []byte("reading of "+s.String()), []byte(e.String()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// opens reports whether k opens what sealed made. Any failure but "no such
// key" fails the test.
func opens(t testing.TB, k *seal.Keyring, s core.Subject, e core.Epoch, b []byte) bool {
	t.Helper()
	key, err := k.Lease(s, e)
	if errors.Is(err, seal.ErrNoKey) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := key.Open(nil, b, []byte(e.String()))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(plain), "reading of "+s.String(); got != want {
		t.Fatalf("opened %q, want %q", got, want)
	}
	return true
}

func wantReason(t testing.TB, what string, err error, kind core.Kind, reason string) {
	t.Helper()
	if err == nil || core.KindOf(err) != kind || core.ReasonOf(err) != reason {
		t.Errorf("%s: got %v (%v, %q), want %v, %q", what, err, core.KindOf(err), core.ReasonOf(err), kind, reason)
	}
}

func TestKeysOutliveTheProcess(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 3)
	e := h.epoch(0)
	ensure(t, k, e)
	b := sealed(t, k, s[1], e)
	value, err := k.SealValue(s[2], "name", []byte("Ada"))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}

	k = h.open(t)
	if !opens(t, k, s[1], e, b) {
		t.Error("a reading does not open after the keyring was opened again")
	}
	if got, err := k.OpenValue(s[2], "name", value); err != nil || string(got) != "Ada" {
		t.Errorf("value: got %q, %v", got, err)
	}
	if k.Has(newSubject(t)) {
		t.Error("the keyring has a subject that was never added")
	}
	// Another subject's key, though of the same epoch, is of no use.
	other, err := k.Lease(s[0], e)
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Open(nil, b, []byte(e.String()))
	wantReason(t, "open with another subject's key", err, core.Invalid, "not-authentic")
	own, err := k.Lease(s[1], e)
	if err != nil {
		t.Fatal(err)
	}
	_, err = own.Open(nil, b, []byte("elsewhere"))
	wantReason(t, "open with other associated data", err, core.Invalid, "not-authentic")
}

func TestAddSubjectsAllOrNone(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 1)
	fresh := newSubject(t)
	wantReason(t, "present subject", k.AddSubjects(t.Context(), []core.Subject{fresh, s[0]}), core.Conflict, "subject-exists")
	wantReason(t, "same one twice", k.AddSubjects(t.Context(), []core.Subject{fresh, fresh}), core.Conflict, "subject-exists")
	wantReason(t, "nobody", k.AddSubjects(t.Context(), []core.Subject{fresh, {}}), core.Invalid, "no-subject")
	if k.Has(fresh) {
		t.Error("a refused batch added one of its subjects")
	}
	if err := k.AddSubject(t.Context(), fresh); err != nil {
		t.Error(err)
	}
}

func TestEnsureEpoch(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	now := h.clock.now()
	old, today := h.epoch(10*day), h.epoch(0)
	ensure(t, k, old, today, today)

	wantReason(t, "due", k.EnsureEpoch(t.Context(), core.EpochAt(month, day, now.Add(-month))), core.Conflict, "epoch-due")
	wantReason(t, "ahead", k.EnsureEpoch(t.Context(), core.EpochAt(month, day, now.Add(3*day))), core.Invalid, "epoch-ahead")
	wantReason(t, "crooked", k.EnsureEpoch(t.Context(), core.Epoch{Keep: month, Start: 17, Length: day}), core.Invalid, "bad-epoch")
	wantReason(t, "longer than kept", k.EnsureEpoch(t.Context(), core.Epoch{Keep: time.Hour, Start: 0, Length: day}), core.Invalid, "bad-epoch")

	if _, err := k.Shred(t.Context(), seal.Order{Epochs: []core.Epoch{old}}); err != nil {
		t.Fatal(err)
	}
	check := func(k *seal.Keyring) {
		t.Helper()
		wantReason(t, "destroyed", k.EnsureEpoch(t.Context(), old), core.Conflict, "epoch-destroyed")
		wantReason(t, "older than destroyed", k.EnsureEpoch(t.Context(), h.epoch(11*day)), core.Conflict, "epoch-destroyed")
		ensure(t, k, today, h.epoch(9*day), core.EpochAt(2*month, day, now.Add(-11*day))) // later ones and other keep-times are free
	}
	check(k)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	k = h.open(t)
	check(k)
	if got, want := k.Epochs(), []core.Epoch{h.epoch(9 * day), today, core.EpochAt(2*month, day, now.Add(-11*day))}; !slices.Equal(got, want) {
		t.Errorf("epochs %v, want %v", got, want)
	}

	// An epoch that never had a key is destroyed just as well.
	later := h.epoch(5 * day)
	r, err := k.Shred(t.Context(), seal.Order{Epochs: []core.Epoch{later}})
	if err != nil || !r.Redone {
		t.Errorf("shred an epoch without a key: %+v, %v", r, err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	k = h.open(t)
	wantReason(t, "destroyed before it was made", k.EnsureEpoch(t.Context(), later), core.Conflict, "epoch-destroyed")
}

func TestShred(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 3)
	e, e2 := h.epoch(0), h.epoch(day)
	ensure(t, k, e, e2)
	gone, kept, expired := sealed(t, k, s[0], e), sealed(t, k, s[1], e), sealed(t, k, s[1], e2)
	lease, err := k.Lease(s[0], e)
	if err != nil {
		t.Fatal(err)
	}
	order := seal.Order{Subjects: s[:1], Epochs: []core.Epoch{e2}}
	r, err := k.Shred(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	if r.Before != 1 || r.After != 2 || r.Redone || r.Destruction.Gen != 1 || r.Destruction.Destroys != seal.DestroysBestEffort ||
		!slices.Equal(r.Subjects, s[:1]) || !slices.Equal(r.Epochs, order.Epochs) {
		t.Errorf("receipt %+v", r)
	}
	check := func(k *seal.Keyring) {
		t.Helper()
		if opens(t, k, s[0], e, gone) || opens(t, k, s[1], e2, expired) {
			t.Error("a shredded reading opens")
		}
		if !opens(t, k, s[1], e, kept) {
			t.Error("a survivor does not open")
		}
		if k.Has(s[0]) || !k.Has(s[1]) || k.Generation() != 2 {
			t.Error("the keyring says otherwise")
		}
		_, err := k.SealValue(s[0], "c", nil)
		wantReason(t, "seal a value of an erased subject", err, core.Unknown, "erased")
		_, err = k.Lease(s[1], e2)
		wantReason(t, "lease a destroyed epoch", err, core.Unknown, "no-epoch-key")
	}
	check(k)
	_, err = lease.Open(nil, gone, []byte(e.String()))
	wantReason(t, "a lease from before", err, core.Unknown, "erased")

	again, err := k.Shred(t.Context(), order)
	if err != nil || !again.Redone || again.Before != 1 || again.After != 2 || again.Destruction != r.Destruction {
		t.Errorf("the same order again: %+v, %v", again, err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	k = h.open(t)
	check(k)
	again, err = k.Shred(t.Context(), order)
	if err != nil || !again.Redone || again.Before != 1 || again.After != 2 {
		t.Errorf("the same order after opening again: %+v, %v", again, err)
	}
	if got := h.generations(t); !slices.Equal(got, []uint64{2}) {
		t.Errorf("roots %v, want only 2", got)
	}
}

func TestRetiredSubjectOpensOnly(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s, e := addSubjects(t, k, 2), h.epoch(0)
	ensure(t, k, e)
	b := sealed(t, k, s[0], e)
	before, err := k.Lease(s[0], e)
	if err != nil {
		t.Fatal(err)
	}
	k.Retire(s[0])
	after, err := k.Lease(s[0], e)
	if err != nil {
		t.Fatal(err)
	}
	for what, key := range map[string]*seal.Key{"a lease from before": before, "a lease from after": after} {
		_, err := key.Seal(nil, []byte("x"), nil)
		wantReason(t, what, err, core.Unknown, "erased")
	}
	if !opens(t, k, s[0], e, b) {
		t.Error("what was sealed before does not open")
	}
	sealed(t, k, s[1], e) // the neighbour goes on
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	sealed(t, h.open(t), s[0], e)
}

func TestLeaseEndsByTime(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s, e := addSubjects(t, k, 1)[0], h.epoch(0)
	ensure(t, k, e)
	first, err := k.Lease(s, e)
	if err != nil {
		t.Fatal(err)
	}
	h.clock.advance(29 * time.Second)
	if again, _ := k.Lease(s, e); again != first {
		t.Error("a young lease was not shared")
	}
	h.clock.advance(2 * time.Second)
	second, err := k.Lease(s, e)
	if err != nil || second == first {
		t.Fatalf("after half its time the lease was not renewed (%v)", err)
	}
	b, err := first.Seal(nil, []byte("x"), nil)
	if err != nil {
		t.Fatalf("at 31 s: %v", err)
	}
	h.clock.advance(29 * time.Second)
	if _, err := first.Seal(nil, []byte("x"), nil); !errors.Is(err, seal.ErrLeaseOver) {
		t.Errorf("at 60 s: got %v, want ErrLeaseOver", err)
	}
	if _, err := second.Open(nil, b, nil); err != nil {
		t.Errorf("the renewed lease does not open what the first sealed: %v", err)
	}
	h.clock.advance(-2 * time.Hour)
	if _, err := second.Seal(nil, []byte("x"), nil); !errors.Is(err, seal.ErrLeaseOver) {
		t.Errorf("with the clock set back: got %v, want ErrLeaseOver", err)
	}
	if third, err := k.Lease(s, e); err != nil {
		t.Error(err)
	} else if _, err := third.Seal(nil, []byte("x"), nil); err != nil {
		t.Errorf("a new lease after the clock was set back: %v", err)
	}
	k2 := k.Close()
	if k2 != nil {
		t.Fatal(k2)
	}
	if _, err := second.Open(nil, b, nil); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("after Close: got %v, want ErrNoKey", err)
	}
}

func TestManyMoreLeasesThanPlaces(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	subjects := addSubjects(t, k, 3000)
	var epochs []core.Epoch
	for i := range 29 {
		epochs = append(epochs, h.epoch(time.Duration(i)*day))
	}
	ensure(t, k, epochs...)
	b := sealed(t, k, subjects[0], epochs[0])
	for _, s := range subjects {
		for _, e := range epochs { // 87,000 keys in 65,536 places
			if _, err := k.Lease(s, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !opens(t, k, subjects[0], epochs[0], b) {
		t.Error("a key that lost its place was derived differently")
	}
}

func TestShredAgainstUsers(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 64)
	e := h.epoch(0)
	ensure(t, k, e)
	stop := make(chan struct{})
	var erased sync.Map // subjects whose Shred has returned
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			var dst []byte
			for i := w; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				subject := s[i%len(s)]
				_, gone := erased.Load(subject)
				key, err := k.Lease(subject, e)
				if err == nil {
					dst, err = key.Seal(dst[:0], []byte("x"), nil)
				}
				if gone && err == nil {
					t.Error("sealed for a subject after its Shred returned")
					return
				}
				if err != nil && !errors.Is(err, seal.ErrNoKey) {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 8 {
		wg.Go(func() {
			if err := k.AddSubject(context.Background(), newSubject(t)); err != nil {
				t.Error(err)
			}
			if _, err := k.Shred(context.Background(), seal.Order{Subjects: s[i*4 : i*4+4]}); err != nil {
				t.Error(err)
			}
			for _, x := range s[i*4 : i*4+4] {
				erased.Store(x, true)
			}
		})
	}
	time.Sleep(150 * time.Millisecond)
	close(stop)
	wg.Wait()
	if got := k.Generation(); got != 9 {
		t.Errorf("generation %d, want 9", got)
	}
	for i, x := range s {
		if k.Has(x) != (i >= 32) {
			t.Errorf("subject %d: has %v", i, k.Has(x))
		}
	}
}

func TestOneOwner(t *testing.T) {
	h := newHouse(t, t.TempDir())
	h.create(t)
	_, err := seal.Open(t.Context(), h.o)
	wantReason(t, "second owner", err, core.Conflict, "keyring-in-use")
}

func TestCreateRefuses(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	if _, err := k.Shred(t.Context(), seal.Order{Subjects: addSubjects(t, k, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := seal.Create(t.Context(), h.o)
	wantReason(t, "existing keyring", err, core.Conflict, "keyring-exists")
	for _, c := range h.o.Copies {
		if err := os.Remove(c); err != nil {
			t.Fatal(err)
		}
	}
	_, err = seal.Create(t.Context(), h.o)
	wantReason(t, "roots of another keyring", err, core.Conflict, "root-exists")

	o := h.o
	o.Copies = o.Copies[:1]
	_, err = seal.Create(t.Context(), o)
	wantReason(t, "one copy", err, core.Invalid, "keyring-copies")
	o.Copies = []string{h.o.Copies[0], filepath.Dir(h.o.Copies[0]) + "/../a/keyring"}
	_, err = seal.Create(t.Context(), o)
	wantReason(t, "the same path twice", err, core.Invalid, "keyring-copies")
}

func TestPermissions(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{h.o.Copies[0], h.o.Copies[1], filepath.Dir(h.o.Copies[0])} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if p := st.Mode().Perm(); p&0o077 != 0 {
			t.Errorf("%s was made with mode %o", path, p)
		}
		if err := os.Chmod(path, st.Mode().Perm()|0o040); err != nil {
			t.Fatal(err)
		}
		_, err = seal.Open(t.Context(), h.o)
		wantReason(t, path+" readable by a group", err, core.Unready, "keyring-permissions")
		if err := os.Chmod(path, st.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	h.open(t)
}

// TestSomebodyElseWrites holds the compare of compare-and-set: a copy that was
// swapped under a running server stops changes, not readers.
func TestSomebodyElseWrites(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 2)
	e := h.epoch(0)
	ensure(t, k, e)
	b := sealed(t, k, s[0], e)
	if err := os.Truncate(h.o.Copies[1], int64(len(readFile(t, h.o.Copies[1]))-10)); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "add", k.AddSubject(t.Context(), newSubject(t)), core.Conflict, "keyring-changed")
	_, err := k.Shred(t.Context(), seal.Order{Subjects: s[1:]})
	wantReason(t, "shred", err, core.Conflict, "keyring-changed")
	if !opens(t, k, s[0], e, b) {
		t.Error("readers stopped")
	}
	if k.Has(s[1]) {
		t.Error("a condemned subject still has leases")
	}
}

func TestClosedKeyring(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 1)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	wantReason(t, "add", k.AddSubject(t.Context(), newSubject(t)), core.Unavail, "keyring-closed")
	_, err := k.Shred(t.Context(), seal.Order{Subjects: s})
	wantReason(t, "shred", err, core.Unavail, "keyring-closed")
	if k.Has(s[0]) {
		t.Error("a closed keyring has keys")
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
