package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// LeaseTime is how long a Key works at most.
const LeaseTime = 60 * time.Second

// renewAfter is when Lease gives out a new Key, so that one it gives has at
// least half its time before it.
const renewAfter = LeaseTime / 2

// Overhead is how many bytes longer sealed data is than plain data.
const Overhead = nonceBytes + tagBytes

// Key is a lease on the derived key of one subject in one epoch. It may be
// used by many goroutines. It works until its time is over or either secret is
// shredded, whichever is first.
type Key struct {
	subject, epoch *living
	aead           cipher.AEAD
	id             leaseID
	from, until    int64 // Unix nanoseconds
	now            func() time.Time
}

type leaseID struct {
	subject core.Subject
	epoch   core.Epoch
}

func (k *Key) revoked() bool { return k.subject.dead.Load() || k.epoch.dead.Load() }

// check says why the key cannot be used now, or nil.
func (k *Key) check() error {
	if k.revoked() {
		if k.subject.dead.Load() {
			return noSubjectKey()
		}
		return noEpochKey()
	}
	if t := k.now().UnixNano(); t >= k.until || t < k.from-int64(LeaseTime) {
		return ErrLeaseOver
	}
	return nil
}

// Seal appends to dst a random nonce, the ciphertext of plaintext and its tag,
// which also vouches for aad. Nothing of plaintext may overlap dst. It fails
// with ErrNoKey once the key is shredded or its subject retired, and with
// ErrLeaseOver when the lease's time is over.
func (k *Key) Seal(dst, plaintext, aad []byte) ([]byte, error) {
	if err := k.check(); err != nil {
		return dst, err
	}
	if k.subject.retired.Load() {
		return dst, noSubjectKey()
	}
	return k.aead.Seal(dst, nil, plaintext, aad), nil
}

// Open appends to dst what Seal was given. It fails as Seal does, and with
// core.Invalid when sealed or aad is not what was sealed.
func (k *Key) Open(dst, sealed, aad []byte) ([]byte, error) {
	if err := k.check(); err != nil {
		return dst, err
	}
	out, err := k.aead.Open(dst, nil, sealed, aad)
	if err != nil {
		return dst, notAuthentic()
	}
	return out, nil
}

func notAuthentic() error {
	return core.E(core.Invalid, "not-authentic", "sealed data was changed, or belongs elsewhere", "")
}

// Lease gives the key of subject s in epoch e for at most LeaseTime. It fails
// with ErrNoKey when either has none; see EnsureEpoch.
func (k *Keyring) Lease(s core.Subject, e core.Epoch) (*Key, error) {
	id := leaseID{subject: s, epoch: e}
	set := k.leases.set(&id)
	for i := range set {
		key := set[i].Load()
		if key == nil || key.id != id || key.revoked() {
			continue
		}
		if t := k.o.Now().UnixNano(); t < key.from+int64(renewAfter) && t >= key.from {
			return key, nil
		}
		return k.lease(set, id, key.aead)
	}
	return k.lease(set, id, nil)
}

// lease makes a new Key and keeps it in set. aead is its cipher if it was
// derived before.
func (k *Keyring) lease(set []atomic.Pointer[Key], id leaseID, aead cipher.AEAD) (*Key, error) {
	k.mu.RLock()
	key := &Key{subject: k.subjects[id.subject], epoch: k.epochs[id.epoch], aead: aead, id: id, now: k.o.Now}
	var ikm [2 * secretBytes]byte
	if key.subject != nil && key.epoch != nil {
		copy(ikm[:], key.subject.secret[:])
		copy(ikm[secretBytes:], key.epoch.secret[:])
	}
	k.mu.RUnlock()
	defer clear(ikm[:])
	if key.subject == nil || key.subject.dead.Load() {
		return nil, noSubjectKey()
	}
	if key.epoch == nil || key.epoch.dead.Load() {
		return nil, noEpochKey()
	}
	if aead == nil {
		var err error
		if key.aead, err = derive(ikm[:], infoReading); err != nil {
			return nil, err
		}
	}
	key.from = k.o.Now().UnixNano()
	key.until = key.from + int64(LeaseTime)
	keep(set, key)
	return key, nil
}

// What derived keys are for; a key for one use never serves another.
const (
	infoReading = "hawser/reading/1"
	infoValue   = "hawser/value/1"
)

// derive makes the cipher for one use from a subject's and an epoch's secret.
func derive(ikm []byte, info string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, ikm, nil, info, secretBytes)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	defer clear(key)
	return cipherOf(key)
}

// cipherOf is the cipher of a derived key.
func cipherOf(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	// A fresh random nonce for each value: one key seals one subject's values of
	// one epoch, far from the 2^32 of NIST SP 800-38D §8.3.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return aead, nil
}

// leases keeps derived keys, because deriving one costs more than using it. A
// key lies in one of the four places of its set; looking costs no lock. What
// is not found is derived again, so losing one is never wrong.
type leases struct {
	sets [leaseSets][leaseWays]atomic.Pointer[Key]
}

const (
	leaseSets = 1 << 14
	leaseWays = 4
)

func (l *leases) set(id *leaseID) []atomic.Pointer[Key] {
	// Subjects are random; starts and keep-times are small multiples.
	h := binary.LittleEndian.Uint64(id.subject[:]) + (uint64(id.epoch.Start)+uint64(id.epoch.Keep)*31)*0x9E3779B97F4A7C15
	h ^= h >> 32
	return l.sets[h%leaseSets][:]
}

// keep stores key in the place of the same id, an empty or ended one, or else
// of the one that was leased longest ago.
func keep(set []atomic.Pointer[Key], key *Key) {
	oldest := 0
	var from int64
	for i := range set {
		old := set[i].Load()
		if old == nil || old.id == key.id || old.revoked() {
			set[i].Store(key)
			return
		}
		if i == 0 || old.from < from {
			oldest, from = i, old.from
		}
	}
	set[oldest].Store(key)
}

// sweep forgets the keys that were revoked.
func (l *leases) sweep() {
	for i := range l.sets {
		for j := range l.sets[i] {
			if key := l.sets[i][j].Load(); key != nil && key.revoked() {
				l.sets[i][j].CompareAndSwap(key, nil)
			}
		}
	}
}
