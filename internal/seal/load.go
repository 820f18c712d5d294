package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
)

// onDisk is one copy as it was found.
type onDisk struct {
	path  string
	raw   []byte // nil: there is none
	head  header
	image *image
	err   error // why it is not usable
}

// load reads the copies, takes the newest complete one, brings the others and
// the roots in line with it, and adopts it. It is both Open and the way back
// after a change that failed half-way.
func (k *Keyring) load(ctx context.Context) error {
	gens, err := k.o.Roots.Generations(ctx)
	if err != nil {
		return err
	}
	var found []*onDisk
	for _, path := range k.o.Copies {
		raw, err := k.disk.read(path)
		if err != nil {
			return err
		}
		f := &onDisk{path: path, raw: raw}
		if raw != nil {
			f.head, f.err = parseHeader(raw)
		}
		found = append(found, f)
	}
	best, err := k.choose(ctx, found, gens)
	if err != nil {
		return err
	}
	good := best.image.raw[:best.image.end]
	best.image.raw = good
	for _, f := range found {
		if !bytes.Equal(f.raw, good) {
			if err := k.disk.replace(f.path, good); err != nil {
				return fmt.Errorf("repair keyring copy %s: %w", f.path, err)
			}
		}
	}
	for _, g := range gens {
		if g < best.head.gen {
			if _, err := k.destroyRoot(ctx, g); err != nil {
				return err
			}
		}
	}
	if err := k.scrubOld(); err != nil {
		return err
	}
	k.adopt(best.image)
	return nil
}

// scrubOld overwrites and unlinks what replacements left behind.
func (k *Keyring) scrubOld() error {
	for _, path := range k.o.Copies {
		for _, left := range []string{path + suffixOld, path + suffixNew} {
			if err := k.disk.scrub(left, path); err != nil {
				return fmt.Errorf("overwrite old keyring copy: %w", err)
			}
		}
	}
	return nil
}

func (k *Keyring) destroyRoot(ctx context.Context, gen uint64) (Destruction, error) {
	var d Destruction
	err := k.disk.step("destroy root", func() (err error) {
		d, err = k.o.Roots.Destroy(ctx, gen)
		return err
	})
	if err != nil {
		return d, fmt.Errorf("destroy root of generation %d: %w", gen, err)
	}
	return d, nil
}

// choose picks the newest complete copy. It fails rather than go back a
// generation, or lose an addition that was acknowledged.
func (k *Keyring) choose(ctx context.Context, found []*onDisk, gens []uint64) (*onDisk, error) {
	var top []*onDisk // of the newest generation
	for _, f := range found {
		switch {
		case f.raw == nil || f.err != nil:
		case len(top) == 0 || f.head.gen > top[0].head.gen:
			top = []*onDisk{f}
		case f.head.gen == top[0].head.gen:
			top = append(top, f)
		}
	}
	if len(top) == 0 {
		return nil, noCopy(found)
	}
	gen := top[0].head.gen
	if !slices.Contains(gens, gen) {
		return nil, missingRoot(gen, gens, top[0].path)
	}
	if newest := gens[len(gens)-1]; newest > gen+1 {
		return nil, core.E(core.Unready, "keyring-old",
			fmt.Sprintf("the keyring copies are of generation %d, but the root store has reached generation %d", gen, newest),
			fmt.Sprintf("bring the keyring copy of generation %d; older ones must not be used", newest))
	}
	key, err := k.o.Roots.Unwrap(ctx, gen, top[0].head.wrapped)
	if err != nil {
		return nil, fmt.Errorf("unwrap keyring %s: %w", top[0].path, err)
	}
	defer clear(key)
	var best *onDisk
	torn := 0
	for _, f := range top {
		if !bytes.Equal(f.head.raw, top[0].head.raw) {
			return nil, strangers(gen, top[0].path, f.path)
		}
		if f.image, f.err = readImage(f.raw, f.head, key); f.err != nil {
			continue
		}
		if f.image.tail == tailTorn {
			torn++
		}
		if best == nil || f.image.chain.n > best.image.chain.n ||
			f.image.chain.n == best.image.chain.n && f.image.tail < best.image.tail {
			best = f
		}
	}
	if best == nil || best.image.tail == tailDamaged || best.image.tail == tailTorn && torn > 1 {
		return nil, damaged(gen, top)
	}
	for _, f := range top {
		if f.image == nil {
			continue
		}
		if n := min(f.image.end, best.image.end); !bytes.Equal(f.raw[:n], best.raw[:n]) {
			return nil, strangers(gen, best.path, f.path)
		}
	}
	return best, nil
}

func noCopy(found []*onDisk) error {
	for _, f := range found {
		if f.raw != nil {
			return &core.Error{
				Kind: core.Unready, Reason: "keyring-damaged", Err: f.err,
				Message: fmt.Sprintf("no keyring copy can be read; the first is %s", f.path),
				Hint:    "bring a keyring copy of the newest generation",
			}
		}
	}
	return core.E(core.Unready, "no-keyring", fmt.Sprintf("there is no keyring at %s", found[0].path),
		"run `hawser init` for a new installation, or bring the newest keyring copy")
}

func missingRoot(gen uint64, gens []uint64, path string) error {
	holds := "is empty"
	if len(gens) > 0 {
		holds = fmt.Sprintf("holds generation %d", gens[len(gens)-1])
	}
	hint := fmt.Sprintf("bring root generation %d", gen)
	if len(gens) > 0 && gens[len(gens)-1] > gen {
		hint = fmt.Sprintf("this keyring was replaced; bring the keyring copy of generation %d", gens[len(gens)-1])
	}
	return core.E(core.Unready, "root-missing",
		fmt.Sprintf("keyring %s needs root generation %d, and the root store %s", path, gen, holds), hint)
}

func strangers(gen uint64, a, b string) error {
	return core.E(core.Conflict, "keyring-copies-differ",
		fmt.Sprintf("keyring copies %s and %s are both of generation %d but do not belong together", a, b, gen),
		"put the wrong one aside; it is then written from the other")
}

func damaged(gen uint64, top []*onDisk) error {
	var errs []error
	for _, f := range top {
		err := f.err
		if err == nil {
			err = errors.New("frame does not authenticate")
		}
		errs = append(errs, fmt.Errorf("%s: %w", f.path, err))
	}
	return &core.Error{
		Kind: core.Unready, Reason: "keyring-damaged", Err: errors.Join(errs...),
		Message: fmt.Sprintf("every keyring copy of generation %d is damaged", gen),
		Hint:    "bring an undamaged copy of this generation",
	}
}

// snapshot makes the image of a keyring of generation gen that holds c, under
// a new keyring key.
func (k *Keyring) snapshot(ctx context.Context, gen uint64, c *contents) (*image, error) {
	key := make([]byte, secretBytes)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	wrapped, err := k.o.Roots.Wrap(ctx, gen, key)
	if err != nil {
		return nil, fmt.Errorf("wrap keyring: %w", err)
	}
	h, err := makeHeader(gen, wrapped)
	if err != nil {
		return nil, err
	}
	ch, err := newChain(key, h)
	if err != nil {
		return nil, err
	}
	entries := c.encode()
	frame, err := ch.seal(entries)
	clear(entries)
	if err != nil {
		return nil, err
	}
	ch.took(frame)
	raw := append(slices.Clip(h.raw), frame...)
	return &image{raw: raw, head: h, contents: c, chain: ch, end: len(raw)}, nil
}

// write puts im into every copy.
func (k *Keyring) write(im *image) error {
	for _, path := range k.o.Copies {
		if err := k.disk.replace(path, im.raw); err != nil {
			return fmt.Errorf("write keyring copy %s: %w", path, err)
		}
	}
	return nil
}

// adopt makes memory agree with im. Secrets that stay keep their leases and,
// if they are condemned, their death; secrets that went lose them.
func (k *Keyring) adopt(im *image) {
	k.head, k.chain, k.size, k.unsure = im.head, im.chain, int64(im.end), false
	k.head.raw = bytes.Clone(im.head.raw) // the image's bytes are not kept
	k.head.wrapped = nil
	im.raw = nil

	k.mu.Lock()
	c := im.contents
	merge(k.subjects, c.subjects)
	merge(k.epochs, c.epochs)
	k.destroyed, k.control, k.last = c.destroyed, c.control, c.last
	k.gen.Store(im.head.gen)
	k.mu.Unlock()
	clear(c.subjects)
	clear(c.epochs)
	k.leases.sweep()
}

func merge[K comparable](have map[K]*living, want map[K]secret) {
	for id, l := range have {
		if _, ok := want[id]; !ok {
			l.end()
			delete(have, id)
		}
	}
	for id, s := range want {
		if have[id] == nil {
			have[id] = &living{secret: s}
		}
	}
}
