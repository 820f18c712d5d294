package seal

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
)

// Order names the keys to destroy.
type Order struct {
	Subjects []core.Subject
	Epochs   []core.Epoch
}

// Receipt says what a shredding did. It holds nothing personal.
type Receipt struct {
	Before, After uint64      // generations of the root; equal only if there was nothing to do and no trace of when
	Destruction   Destruction // of the root of generation Before
	Subjects      []core.Subject
	Epochs        []core.Epoch
	Redone        bool // the keys were gone already when this order came
}

// Shred destroys keys: no lease on them is given or works from the moment it
// is called; then a keyring of the next generation without them is durable in
// every copy, the old root is destroyed, and what the old copies occupied is
// overwritten. After Shred returned nil, nothing opens what was sealed under
// these keys, whoever kept which copy of data and keyrings (CC 4.8;
// NIST SP 800-88r2, cryptographic erase).
//
// It is safe to call again with the same order after any failure or crash: it
// finishes what was begun and gives the same receipt. After an error the
// leases stay ended, and the keys may still be in the copies until then.
func (k *Keyring) Shred(ctx context.Context, o Order) (Receipt, error) {
	for _, e := range o.Epochs {
		if err := checkEpoch(e); err != nil {
			return Receipt{}, err
		}
	}
	k.condemn(o)
	if err := k.begin(ctx); err != nil {
		return Receipt{}, fmt.Errorf("shred: %w", err)
	}
	defer k.give()
	k.condemn(o) // begin may have met them anew
	r, err := k.shred(context.WithoutCancel(ctx), o)
	if err != nil {
		return Receipt{}, fmt.Errorf("shred: %w", err)
	}
	r.Subjects, r.Epochs = slices.Clone(o.Subjects), slices.Clone(o.Epochs)
	return r, nil
}

// Retire ends sealing for a subject that is about to be shredded, on the leases
// that are out too. What was sealed still opens, so that a legal hold can be
// served before Shred. It lasts until the keyring is opened anew: whoever
// retires keeps an intent and retires again.
func (k *Keyring) Retire(s core.Subject) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if l := k.subjects[s]; l != nil {
		l.retired.Store(true)
	}
}

// condemn ends the leases on what is to be destroyed.
func (k *Keyring) condemn(o Order) {
	k.mu.Lock()
	for _, s := range o.Subjects {
		if l := k.subjects[s]; l != nil {
			l.dead.Store(true)
		}
	}
	for _, e := range o.Epochs {
		if l := k.epochs[e]; l != nil {
			l.dead.Store(true)
		}
	}
	k.mu.Unlock()
	k.leases.sweep()
}

func (k *Keyring) shred(ctx context.Context, o Order) (Receipt, error) {
	sum := o.sum()
	c, present := k.survivors(o)
	if !present {
		if err := k.forbid(o); err != nil {
			return Receipt{}, err
		}
		return k.receiptAgain(ctx, sum)
	}
	before := k.head.gen
	after := before + 1
	c.last = rotation{before: before, after: after, order: sum}

	k.unsure = true // until the end
	gens, err := k.o.Roots.Generations(ctx)
	if err != nil {
		return Receipt{}, err
	}
	if !slices.Contains(gens, after) { // left by a rotation that was interrupted
		if err := k.disk.step("create root", func() error { return k.o.Roots.Create(ctx, after) }); err != nil {
			return Receipt{}, fmt.Errorf("create root of generation %d: %w", after, err)
		}
	}
	im, err := k.snapshot(ctx, after, c)
	if err != nil {
		return Receipt{}, err
	}
	if err := k.write(im); err != nil {
		return Receipt{}, err
	}
	d, err := k.destroyRoot(ctx, before)
	if err != nil {
		return Receipt{}, err
	}
	if err := k.scrubOld(); err != nil {
		return Receipt{}, err
	}
	k.adopt(im)
	return Receipt{Before: before, After: after, Destruction: d}, nil
}

// survivors is the contents without what o names; present says whether it
// names anything that is there. What other orders condemned stays in until
// their own turn, so that each has its own rotation and receipt.
func (k *Keyring) survivors(o Order) (c *contents, present bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	c = &contents{
		subjects: make(map[core.Subject]secret, len(k.subjects)), epochs: make(map[core.Epoch]secret, len(k.epochs)),
		destroyed: maps.Clone(k.destroyed), control: k.control,
	}
	for s, l := range k.subjects {
		c.subjects[s] = l.secret
	}
	for e, l := range k.epochs {
		c.epochs[e] = l.secret
	}
	for _, s := range o.Subjects {
		delete(c.subjects, s)
	}
	for _, e := range o.Epochs {
		delete(c.epochs, e)
		c.forbid(e)
	}
	return c, len(c.subjects) < len(k.subjects) || len(c.epochs) < len(k.epochs)
}

func (c *contents) forbid(e core.Epoch) {
	if old, ok := c.destroyed[e.Keep]; !ok || e.Start > old {
		c.destroyed[e.Keep] = e.Start
	}
}

// forbid notes that the epochs of o, which have no key, never get one.
func (k *Keyring) forbid(o Order) error {
	var frame []byte
	k.mu.RLock()
	for _, e := range o.Epochs {
		if old, ok := k.destroyed[e.Keep]; !ok || e.Start > old {
			frame = appendDestroyed(frame, e.Keep, e.Start)
		}
	}
	k.mu.RUnlock()
	if frame == nil {
		return nil
	}
	if err := k.add(frame); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range o.Epochs {
		if old, ok := k.destroyed[e.Keep]; !ok || e.Start > old {
			k.destroyed[e.Keep] = e.Start
		}
	}
	return nil
}

// receiptAgain is the receipt for an order whose keys are gone: the same as
// the first time if no rotation came between.
func (k *Keyring) receiptAgain(ctx context.Context, sum core.Hash) (Receipt, error) {
	k.mu.RLock()
	last := k.last
	k.mu.RUnlock()
	r := Receipt{Before: k.head.gen, After: k.head.gen, Redone: true}
	if last.after == 0 {
		return r, nil // nothing was ever destroyed
	}
	if last.order == sum {
		r.Before, r.After = last.before, last.after
	}
	d, err := k.destroyRoot(ctx, last.before)
	if err != nil {
		return Receipt{}, err
	}
	r.Destruction = d
	return r, nil
}

// sum identifies an order, whatever the order of its names.
func (o Order) sum() core.Hash {
	subjects, epochs := slices.Clone(o.Subjects), slices.Clone(o.Epochs)
	slices.SortFunc(subjects, func(a, b core.Subject) int { return bytes.Compare(a[:], b[:]) })
	slices.SortFunc(epochs, func(a, b core.Epoch) int {
		return cmp.Or(cmp.Compare(a.Keep, b.Keep), cmp.Compare(a.Start, b.Start), cmp.Compare(a.Length, b.Length))
	})
	b := binary.BigEndian.AppendUint64(nil, uint64(len(subjects)))
	for _, s := range subjects {
		b = append(b, s[:]...)
	}
	for _, e := range epochs {
		b = append(b, e.String()...)
		b = append(b, 0)
	}
	return sha256.Sum256(b)
}
