package seal

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hawser-iot/hawser/internal/core"
)

// disk is how the keyring touches its copies. Each change is one named effect
// that goes through step, so that tests can stop the world before and after
// every one of them.
type disk struct {
	step func(effect string, do func() error) error
}

// Names beside a copy, all in its folder.
const (
	suffixNew  = ".new"  // being written
	suffixOld  = ".old"  // replaced, about to be overwritten
	suffixLock = ".lock" // held by the process that owns the keyring
)

// foreignPerm are the permission bits that nobody but the owner may have.
const foreignPerm fs.FileMode = 0o077

// checkPrivate refuses a file or folder that others than its owner may use.
func checkPrivate(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if p := st.Mode().Perm(); p&foreignPerm != 0 {
		want := "600"
		if st.IsDir() {
			want = "700"
		}
		return core.E(core.Unready, "keyring-permissions",
			fmt.Sprintf("%s has mode %04o: others than its owner may use it", path, p),
			fmt.Sprintf("run `chmod %s %s`", want, path))
	}
	return nil
}

// read gives the whole of a copy, nil when there is none.
func (d disk) read(path string) ([]byte, error) {
	if err := checkPrivate(filepath.Dir(path)); err != nil {
		return nil, err
	}
	err := checkPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxCopySize+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxCopySize {
		return nil, core.E(core.TooLarge, "keyring-too-large", fmt.Sprintf("%s is larger than %d bytes", path, maxCopySize), "this is not a keyring copy of this program")
	}
	return b, nil
}

// replace puts content at path so that path has either the old bytes or the
// new ones, whole, at any moment. What was there stays at path.old until
// scrub.
func (d disk) replace(path string, content []byte) error {
	for _, left := range []string{path + suffixNew, path + suffixOld} {
		if err := d.scrub(left, path); err != nil {
			return err
		}
	}
	err := d.step("write new", func() error { return writeSynced(path+suffixNew, content) })
	if err != nil {
		return err
	}
	err = d.step("keep old", func() error {
		err := os.Link(path, path+suffixOld)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := d.step("rename", func() error { return os.Rename(path+suffixNew, path) }); err != nil {
		return err
	}
	return d.step("sync folder", func() error { return syncDir(filepath.Dir(path)) })
}

// scrub overwrites the file at path with randomness and unlinks it; no file is
// no error. A second name of the copy that is in use, left by a replacement
// that stopped before its rename, is only unlinked. On flash and copy-on-write
// media old blocks may survive: nothing relies on this alone.
func (d disk) scrub(path, inUse string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	live, err := os.Lstat(inUse)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !os.SameFile(st, live) {
		if err := d.step("overwrite old", func() error { return overwrite(path, st.Size()) }); err != nil {
			return err
		}
	}
	// Should the unlinking be lost in a power cut, Open finds noise and unlinks
	// it again: no sync of the folder is worth waiting for.
	return d.step("unlink old", func() error { return os.Remove(path) })
}

// append adds frame at the end of a copy, durably.
func (d disk) append(path string, at int64, frame []byte) error {
	return d.step("append", func() error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(frame, at)
		if err == nil {
			err = f.Sync()
		}
		return errors.Join(err, f.Close())
	})
}

// cut takes an addition back that did not reach every copy.
func (d disk) cut(path string, size int64) error {
	return d.step("cut", func() error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		err = f.Truncate(size)
		if err == nil {
			err = f.Sync()
		}
		return errors.Join(err, f.Close())
	})
}

// unchanged checks that the copy at path is still the one we wrote: the
// compare of compare-and-set.
func (d disk) unchanged(path string, head []byte, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, len(head))
	if _, err := f.ReadAt(b, 0); err != nil || st.Size() != size || !bytes.Equal(b, head) {
		return core.E(core.Conflict, "keyring-changed", fmt.Sprintf("%s was changed by somebody else", path),
			"stop the server, put the newest keyring copies in place, and start it again")
	}
	return nil
}

// lock takes the copy at path for this process.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+suffixLock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of keyring: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, core.E(core.Conflict, "keyring-in-use", fmt.Sprintf("%s is in use by another process", path), "a keyring has one owner; stop the other server")
		}
		return nil, fmt.Errorf("lock keyring: %w", err)
	}
	return f, nil
}

// writeSynced makes a new file of mode 0600 and returns when it is on disk.
func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// overwrite replaces the first size bytes of a file in place.
func overwrite(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, size)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes renames and unlinks in a folder durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
