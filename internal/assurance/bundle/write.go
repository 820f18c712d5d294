package bundle

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/hawser-iot/hawser/internal/core"
)

// Signer signs bundles; Key is one.
type Signer interface {
	Public() PublicKey
	// Sign makes an SSHSIG over m for Namespace.
	Sign(m []byte) []byte
}

// Export collects evidence and writes it, signed, to a new folder.
func Export(ctx context.Context, dir string, o Options, s Signer) error {
	d, err := Collect(ctx, o)
	if err != nil {
		return err
	}
	return d.Write(ctx, dir, s)
}

// Write signs the draft and writes it to a new folder: whole, or not at all.
// What would not verify is not written.
func (d *Draft) Write(ctx context.Context, dir string, s Signer) error {
	f, err := d.finish(s)
	if err != nil {
		return err
	}
	dir = filepath.Clean(dir)
	if _, err := os.Lstat(dir); err == nil {
		return core.E(core.Conflict, "bundle-exists", dir+" exists already", "name a new folder; a bundle is never written over another")
	}
	part := dir + ".part"
	if err := os.Mkdir(part, 0o755); err != nil {
		if errors.Is(err, os.ErrExist) {
			return core.E(core.Conflict, "bundle-part", part+" is left over from an export that did not end", "remove it and try again")
		}
		return fmt.Errorf("write evidence: %w", err)
	}
	if err := f.write(ctx, part); err != nil {
		return errors.Join(fmt.Errorf("write evidence: %w", err), os.RemoveAll(part))
	}
	if err := errors.Join(os.Rename(part, dir), syncDir(filepath.Dir(dir))); err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	return nil
}

// finish adds what follows from the draft and from its signer.
func (d *Draft) finish(s Signer) (files, error) {
	var bad faults
	e := open(d.f, &bad)
	if e == nil || len(bad.list) > 0 {
		return nil, core.E(core.Conflict, "bad-draft", "the evidence does not agree with itself: "+bad.list[0], "collect it again")
	}
	more, err := e.derive(s.Public())
	if err != nil {
		return nil, err
	}
	f := files{}
	for _, part := range []files{d.f, more} {
		for name, b := range part {
			f[name] = b
		}
	}
	f.seal(s)
	if _, err := openSignature(f[nameSums], f[nameSig]); err != nil {
		return nil, fmt.Errorf("sign evidence: %w", err)
	}
	return f, nil
}

func (f files) seal(s Signer) {
	f[nameSums] = f.sums()
	f[nameSig] = s.Sign(f[nameSums])
}

// write writes the files below a folder and has them on disk.
func (f files) write(ctx context.Context, dir string) error {
	dirs := []string{dir}
	for _, name := range f.names() {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if d := filepath.Dir(path); !slices.Contains(dirs, d) {
			if err := os.Mkdir(d, 0o755); err != nil {
				return err
			}
			dirs = append(dirs, d)
		}
		out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = out.Write(f[name])
		if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
			return err
		}
	}
	for _, d := range dirs {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

// Encode writes the draft as a tar stream, to be signed elsewhere: where the
// evidence key is.
func (d *Draft) Encode(w io.Writer) error {
	t := tar.NewWriter(w)
	for _, name := range d.f.names() {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(d.f[name])), Format: tar.FormatUSTAR}); err != nil {
			return fmt.Errorf("send evidence: %w", err)
		}
		if _, err := t.Write(d.f[name]); err != nil {
			return fmt.Errorf("send evidence: %w", err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("send evidence: %w", err)
	}
	return nil
}

// ReadDraft reads what Encode wrote, within the bounds of a bundle.
func ReadDraft(r io.Reader) (*Draft, error) {
	f := files{}
	total := 0
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("receive evidence: %w", err)
		}
		if h.Typeflag != tar.TypeReg || !(isRound(h.Name) || h.Name == nameSampling || slices.Contains(given(), h.Name)) || f[h.Name] != nil ||
			len(f) >= maxFiles || h.Size < 0 || h.Size > int64(min(maxFileBytes, maxTotalBytes-total)) {
			return nil, fmt.Errorf("receive evidence: %s is no part of it, or too long", inert(h.Name))
		}
		b, err := io.ReadAll(t)
		if err != nil {
			return nil, fmt.Errorf("receive evidence: %w", err)
		}
		total += len(b)
		f[h.Name] = append([]byte{}, b...)
	}
	return &Draft{f}, nil
}
