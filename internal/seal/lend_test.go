package seal_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// ringLender lends from a keyring and counts.
type ringLender struct {
	k     *seal.Keyring
	asked int
	gone  error
	then  func()
}

func (l *ringLender) Lend(_ context.Context, s core.Subject, e core.Epoch) (seal.Loan, error) {
	l.asked++
	if l.gone != nil {
		return seal.Loan{}, l.gone
	}
	loan, err := l.k.Lend(s, e)
	if l.then != nil {
		l.then()
	}
	return loan, err
}

func (l *ringLender) EnsureEpoch(ctx context.Context, e core.Epoch) error {
	return l.k.EnsureEpoch(ctx, e)
}

// TestBorrowedKeys: what a gateway seals under a borrowed key opens with the
// keyring; it is asked for once in half of its time, ends when its time does, and
// is gone at once when it is taken back.
func TestBorrowedKeys(t *testing.T) {
	f := newHouse(t, t.TempDir())
	k := f.create(t)
	s, e := addSubjects(t, k, 1)[0], f.epoch(0)
	ensure(t, k, e)
	l := &ringLender{k: k}
	b := seal.NewBorrowed(l, f.clock.now)
	key, err := b.Lease(s, e)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := key.Seal(nil, []byte("21.5"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := k.Lease(s, e)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := own.Open(nil, sealed, []byte("aad")); err != nil || string(plain) != "21.5" {
		t.Fatalf("%q, %v", plain, err)
	}
	if _, err := b.Lease(s, e); err != nil || l.asked != 1 {
		t.Fatalf("asked %d times, %v", l.asked, err)
	}
	f.clock.advance(seal.LeaseTime/2 + time.Second)
	if _, err := b.Lease(s, e); err != nil || l.asked != 2 {
		t.Fatalf("asked %d times, %v", l.asked, err)
	}
	f.clock.advance(seal.LeaseTime / 2)
	if _, err := key.Seal(nil, nil, nil); !errors.Is(err, seal.ErrLeaseOver) {
		t.Errorf("a key after its time: %v", err)
	}
	l.gone = errors.New("not reached")
	if _, err := b.Lease(s, e); err == nil {
		t.Error("a key whose time runs out was not asked for anew")
	}
	l.gone = nil
	if key, err = b.Lease(s, e); err != nil {
		t.Fatal(err)
	}

	b.Retire(newSubject(t)) // another's changes nothing but what is under way
	if _, err := key.Seal(nil, nil, nil); err != nil {
		t.Error(err)
	}
	k.Retire(s)
	b.Retire(s)
	if _, err := key.Seal(nil, nil, nil); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("a key that was taken back: %v", err)
	}
	if _, err := b.Lease(s, e); !errors.Is(err, seal.ErrNoKey) || core.ReasonOf(err) != "erased" {
		t.Errorf("lent of one that is being erased: %v", err)
	}
}

// TestBorrowedOvertaken: a key that was taken back while it was on its way is
// not used.
func TestBorrowedOvertaken(t *testing.T) {
	f := newHouse(t, t.TempDir())
	k := f.create(t)
	s, e := addSubjects(t, k, 1)[0], f.epoch(0)
	ensure(t, k, e)
	l := &ringLender{k: k}
	b := seal.NewBorrowed(l, f.clock.now)
	l.then = func() { b.Retire(s) }
	if _, err := b.Lease(s, e); core.ReasonOf(err) != "lease-overtaken" || l.asked != 3 {
		t.Errorf("taken back on its way, asked %d times: %v", l.asked, err)
	}
	l.then = func() {
		b.Retire(newSubject(t))
		l.then = nil
	}
	key, err := b.Lease(s, e)
	if err != nil {
		t.Fatal(err)
	}
	b.Clear()
	if _, err := key.Seal(nil, nil, nil); err == nil {
		t.Error("a key seals after all were taken back")
	}
	if _, err := b.Lease(s, e); err != nil {
		t.Error(err)
	}
}
