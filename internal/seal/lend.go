package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Loan is a derived key on its way to a gateway that has no keyring, and for how
// long it may be used. It seals and opens readings of one subject in one epoch
// and nothing else: neither the subject's secret nor the epoch's can be found
// from it (design, section 5, Roots and backups).
type Loan struct {
	Key [secretBytes]byte
	For time.Duration
}

// Lend gives the derived key of subject s in epoch e away for LeaseTime. It
// fails with ErrNoKey when either has none, or s is being erased.
func (k *Keyring) Lend(s core.Subject, e core.Epoch) (Loan, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	subject, epoch := k.subjects[s], k.epochs[e]
	if subject == nil || subject.dead.Load() || subject.retired.Load() {
		return Loan{}, noSubjectKey()
	}
	if epoch == nil || epoch.dead.Load() {
		return Loan{}, noEpochKey()
	}
	var ikm [2 * secretBytes]byte
	defer clear(ikm[:])
	copy(ikm[:], subject.secret[:])
	copy(ikm[secretBytes:], epoch.secret[:])
	key, err := hkdf.Key(sha256.New, ikm[:], nil, infoReading, secretBytes)
	if err != nil {
		return Loan{}, fmt.Errorf("derive key: %w", err)
	}
	defer clear(key)
	return Loan{Key: [secretBytes]byte(key), For: LeaseTime}, nil
}

// Lender is who has the keyring.
type Lender interface {
	Lend(context.Context, core.Subject, core.Epoch) (Loan, error)
	EnsureEpoch(context.Context, core.Epoch) error
}

// lendTimeout bounds how long one message waits for a key.
const lendTimeout = 5 * time.Second

// lendTries is how often a key is asked for when others are taken back meanwhile.
const lendTries = 3

// maxBorrowed is how many keys are kept before those that ran out are looked
// for; a message whose key is not kept asks again.
const maxBorrowed = 1 << 18

// Borrowed are the keys that a gateway has on loan. Its methods may be called
// from any goroutine. Nothing of it is ever on disk.
type Borrowed struct {
	from Lender
	now  func() time.Time

	mu       sync.RWMutex // guards what follows
	keys     map[leaseID]*Key
	subjects map[core.Subject]*living // one for all the keys of a subject
	epoch    *living                  // of all: epochs end by their time here
	round    uint64                   // counts what Retire and Clear took away
}

// NewBorrowed borrows from a lender. Keys are used by the clock now.
func NewBorrowed(from Lender, now func() time.Time) *Borrowed {
	return &Borrowed{from: from, now: now, keys: map[leaseID]*Key{}, subjects: map[core.Subject]*living{}, epoch: new(living)}
}

// Lease gives the key of subject s in epoch e, from memory unless it has to be
// borrowed anew, which it is in the last half of its time. It fails as Keyring's
// does, or as its lender can not be asked.
func (b *Borrowed) Lease(s core.Subject, e core.Epoch) (*Key, error) {
	id := leaseID{subject: s, epoch: e}
	b.mu.RLock()
	key, round := b.keys[id], b.round
	b.mu.RUnlock()
	if key != nil {
		if t := b.now().UnixNano(); t >= key.from && t < key.from+(key.until-key.from)/2 && !key.revoked() {
			return key, nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), lendTimeout)
	defer cancel()
	for range lendTries {
		if key, err := b.borrow(ctx, id, round); key != nil || err != nil {
			return key, err
		}
		b.mu.RLock()
		round = b.round
		b.mu.RUnlock()
	}
	return nil, core.E(core.Unavail, "lease-overtaken", "keys were taken back while one was borrowed, again and again", "it is borrowed anew with the next message")
}

// borrow asks for a key; nil when others were taken back meanwhile: it may be
// one of them.
func (b *Borrowed) borrow(ctx context.Context, id leaseID, round uint64) (*Key, error) {
	asked := b.now()
	loan, err := b.from.Lend(ctx, id.subject, id.epoch)
	if err != nil {
		return nil, err
	}
	defer clear(loan.Key[:])
	fresh := &Key{id: id, now: b.now, from: asked.UnixNano()}
	fresh.until = fresh.from + int64(min(loan.For, LeaseTime)) // from when it was asked for: its lender counts from later
	if fresh.aead, err = cipherOf(loan.Key[:]); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.round != round {
		return nil, nil
	}
	if fresh.subject = b.subjects[id.subject]; fresh.subject == nil {
		fresh.subject = new(living)
		b.subjects[id.subject] = fresh.subject
	}
	fresh.epoch = b.epoch
	if len(b.keys) >= maxBorrowed {
		b.sweep()
	}
	b.keys[id] = fresh
	return fresh, nil
}

// EnsureEpoch asks the lender to make the key of an epoch.
func (b *Borrowed) EnsureEpoch(ctx context.Context, e core.Epoch) error {
	return b.from.EnsureEpoch(ctx, e)
}

// Retire takes back every key of a subject: nothing is sealed for it any more
// when Retire has returned, but by a message whose seal is being computed.
func (b *Borrowed) Retire(s core.Subject) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.round++
	if l := b.subjects[s]; l != nil {
		l.dead.Store(true)
		delete(b.subjects, s)
		for id := range b.keys {
			if id.subject == s {
				delete(b.keys, id)
			}
		}
	}
}

// Clear takes back all of them: the lender may have taken some back unheard.
func (b *Borrowed) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.round++
	b.epoch.dead.Store(true)
	b.epoch = new(living)
	clear(b.keys)
	clear(b.subjects)
}

// sweep forgets what ran out, and everything if nothing did. b.mu is held.
func (b *Borrowed) sweep() {
	now := b.now().UnixNano()
	used := map[core.Subject]bool{}
	for id, k := range b.keys {
		if now >= k.until {
			delete(b.keys, id)
		} else {
			used[id.subject] = true
		}
	}
	if len(b.keys) >= maxBorrowed {
		clear(b.keys)
		clear(used)
	}
	for s := range b.subjects {
		if !used[s] {
			delete(b.subjects, s)
		}
	}
}
