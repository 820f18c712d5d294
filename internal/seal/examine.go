package seal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/hawser-iot/hawser/internal/core"
)

// CopyState is what one copy of a keyring was found to be, as it lies on disk.
type CopyState struct {
	Path             string
	Generation       uint64
	Subjects, Epochs int    // keys in it
	Fault            string // empty: it opens under the root of its generation, and holds exactly the keys in use
}

// Examination is what lies on disk of a keyring.
type Examination struct {
	Generation uint64 // of the keyring in use
	Subjects   int    // keys in use
	Epochs     int
	Copies     []CopyState
	Roots      []uint64 // generations of which the root still exists: only the one in use should
}

// Examine opens every copy as it lies on disk with the root of its generation,
// and compares it with the keys in use, so that a restart would find what runs
// now (CC 2.9). It changes and repairs nothing.
func (k *Keyring) Examine(ctx context.Context) (Examination, error) {
	if err := k.take(ctx); err != nil {
		return Examination{}, err
	}
	defer k.give()
	x := Examination{Generation: k.gen.Load()}
	k.mu.RLock()
	x.Subjects, x.Epochs = len(k.subjects), len(k.epochs)
	k.mu.RUnlock()
	var err error
	if x.Roots, err = k.o.Roots.Generations(ctx); err != nil {
		return x, fmt.Errorf("examine keyring: %w", err)
	}
	for _, path := range k.o.Copies {
		x.Copies = append(x.Copies, k.examine(ctx, path))
	}
	return x, nil
}

func (k *Keyring) examine(ctx context.Context, path string) CopyState {
	c := CopyState{Path: path}
	wrong := func(err error) CopyState {
		c.Fault = err.Error()
		return c
	}
	raw, err := k.disk.read(path)
	if err != nil {
		return wrong(err)
	}
	if raw == nil {
		c.Fault = "is gone"
		return c
	}
	head, err := parseHeader(raw)
	if err != nil {
		return wrong(err)
	}
	if c.Generation = head.gen; head.gen != k.gen.Load() || !bytes.Equal(head.raw, k.head.raw) {
		c.Fault = fmt.Sprintf("is of generation %d, or of another keyring; generation %d is in use", head.gen, k.gen.Load())
		return c
	}
	key, err := k.o.Roots.Unwrap(ctx, head.gen, head.wrapped)
	if err != nil {
		return wrong(err)
	}
	defer clear(key)
	im, err := readImage(raw, head, key)
	if err != nil {
		return wrong(err)
	}
	defer func() { clear(im.contents.subjects); clear(im.contents.epochs); clear(im.contents.control[:]) }()
	c.Subjects, c.Epochs = len(im.contents.subjects), len(im.contents.epochs)
	switch {
	case im.end != len(raw):
		c.Fault = fmt.Sprintf("is damaged after %d of %d bytes", im.end, len(raw))
	case !k.holds(im.contents):
		c.Fault = "does not hold the keys in use"
	}
	return c
}

// holds reports whether c has exactly the keys in memory.
func (k *Keyring) holds(c *contents) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if len(c.subjects) != len(k.subjects) || len(c.epochs) != len(k.epochs) || c.control != k.control {
		return false
	}
	for s, want := range c.subjects {
		if l := k.subjects[s]; l == nil || l.secret != want {
			return false
		}
	}
	for e, want := range c.epochs {
		if l := k.epochs[e]; l == nil || l.secret != want {
			return false
		}
	}
	return true
}

// CopyOf says of which generation the keyring copy in a file is; core.Unknown
// when the file is no keyring copy. It needs no key.
func CopyOf(path string) (generation uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("look for a keyring: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, int64(maxHeader)))
	if err != nil {
		return 0, fmt.Errorf("look for a keyring: %w", err)
	}
	h, err := parseHeader(b)
	if err != nil {
		return 0, &core.Error{Kind: core.Unknown, Reason: "no-keyring-copy", Message: "this is no keyring copy", Err: err}
	}
	return h.gen, nil
}
