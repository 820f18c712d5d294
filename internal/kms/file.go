package kms

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// FileOptions says where a File keeps roots.
type FileOptions struct {
	Dir string // folder of the roots, mode 0700; nothing else lies in it

	// ApartFrom are folders that Dir must not lie in, be it by a symbolic
	// link: the data folder and where backups go.
	ApartFrom []string

	// Passphrase, when given, wraps each root that is made from now on, and
	// opens those that were. Empty: roots lie in clear, protected by the mode
	// of their files and by where Dir is. A passphrase that comes to an
	// installation without one takes hold at the next rotation.
	Passphrase []byte

	step func(effect string, do func() error) error // tests only: around each effect on disk
	cost cost                                       // tests only: a cheaper passphrase
}

// File keeps each root as one small file in a folder. Its methods may be
// called from many goroutines; the keyring's lock keeps other processes away.
type File struct {
	o FileOptions

	mu   sync.Mutex
	wrap []*wrapKey // derived so far: deriving one costs 100 ms on purpose
}

var _ seal.RootKeys = (*File)(nil)

// OpenFile opens the folder of roots and makes it if it is missing. It refuses
// a folder that others than its owner may use, and one inside ApartFrom.
func OpenFile(o FileOptions) (*File, error) {
	if o.Dir == "" {
		return nil, errors.New("root store needs a folder")
	}
	if o.step == nil {
		o.step = func(_ string, do func() error) error { return do() }
	}
	if o.cost == (cost{}) {
		o.cost = defaultCost()
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of roots: %w", err)
	}
	if err := checkPrivate(o.Dir); err != nil {
		return nil, err
	}
	if err := checkApart(o.Dir, o.ApartFrom); err != nil {
		return nil, err
	}
	return &File{o: o}, nil
}

func checkApart(dir string, from []string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return fmt.Errorf("find folder of roots: %w", err)
	}
	for _, other := range from {
		o, err := filepath.EvalSymlinks(other)
		if errors.Is(err, fs.ErrNotExist) {
			o, err = other, nil // it is made later; the names must not nest all the same
		}
		if err == nil {
			o, err = filepath.Abs(o)
		}
		if err != nil {
			return fmt.Errorf("find %s: %w", other, err)
		}
		if rel, err := filepath.Rel(o, real); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return core.E(core.Invalid, "root-not-apart", fmt.Sprintf("the roots in %s would lie inside %s", dir, other),
				"keep roots in a folder of their own, outside the data and outside every backup")
		}
	}
	return nil
}

func checkPrivate(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if p := st.Mode().Perm(); p&0o077 != 0 {
		want := "600"
		if st.IsDir() {
			want = "700"
		}
		return core.E(core.Unready, "root-permissions", fmt.Sprintf("%s has mode %04o: others than its owner may use it", path, p),
			fmt.Sprintf("run `chmod %s %s`", want, path))
	}
	return nil
}

const (
	filePrefix = "root-"
	fileSuffix = ".key"
	newSuffix  = ".new"
)

func (f *File) path(gen uint64) string {
	return filepath.Join(f.o.Dir, fmt.Sprintf("%s%016d%s", filePrefix, gen, fileSuffix))
}

// Generations lists the roots that exist, ascending.
func (f *File) Generations(context.Context) ([]uint64, error) {
	entries, err := os.ReadDir(f.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("list roots: %w", err)
	}
	var gens []uint64
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), filePrefix)
		if !ok {
			continue
		}
		if name, ok = strings.CutSuffix(name, fileSuffix); !ok {
			continue
		}
		g, err := strconv.ParseUint(name, 10, 63)
		if err != nil || g == 0 || f.path(g) != filepath.Join(f.o.Dir, e.Name()) {
			continue
		}
		gens = append(gens, g)
	}
	slices.Sort(gens)
	return gens, nil
}

// Create makes the root of generation gen, durable before it returns.
func (f *File) Create(_ context.Context, gen uint64) error {
	if gen == 0 || gen > math.MaxInt64 {
		return core.E(core.Invalid, "bad-generation", fmt.Sprintf("there is no generation %d", gen), "")
	}
	path := f.path(gen)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return core.E(core.Conflict, "root-exists", fmt.Sprintf("root generation %d exists already", gen), "")
	}
	root := make([]byte, rootBytes)
	defer clear(root)
	if _, err := rand.Read(root); err != nil {
		return fmt.Errorf("read randomness: %w", err)
	}
	b, err := f.encode(gen, root)
	if err != nil {
		return err
	}
	defer clear(b)
	if err := f.scrub(path + newSuffix); err != nil { // of a Create that was interrupted
		return err
	}
	if err := f.o.step("write root", func() error { return writeSynced(path+newSuffix, b) }); err != nil {
		return err
	}
	if err := f.o.step("rename root", func() error { return os.Rename(path+newSuffix, path) }); err != nil {
		return err
	}
	return f.o.step("sync folder", func() error { return syncDir(f.o.Dir) })
}

func (f *File) encode(gen uint64, root []byte) ([]byte, error) {
	if len(f.o.Passphrase) == 0 {
		return encodePlain(gen, root), nil
	}
	w, err := f.newestWrapKey()
	if err != nil {
		return nil, err
	}
	return encodeWrapped(gen, root, w)
}

// newestWrapKey is the key of the passphrase for a new root. One salt serves
// the roots of one process: they are wrapped under random nonces, and a
// rotation need not wait for argon2id.
func (f *File) newestWrapKey() (*wrapKey, error) {
	f.mu.Lock()
	for _, w := range f.wrap {
		if w.cost == f.o.cost {
			f.mu.Unlock()
			return w, nil
		}
	}
	f.mu.Unlock()
	var salt [saltBytes]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	return f.wrapKey(f.o.cost, salt), nil
}

func (f *File) wrapKey(c cost, salt [saltBytes]byte) *wrapKey {
	f.mu.Lock()
	for _, w := range f.wrap {
		if w.cost == c && w.salt == salt {
			f.mu.Unlock()
			return w
		}
	}
	f.mu.Unlock()
	w := newWrapKey(f.o.Passphrase, c, salt)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrap = append(f.wrap, w)
	return w
}

// root reads the root of generation gen.
func (f *File) root(gen uint64) ([]byte, error) {
	path := f.path(gen)
	err := checkPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, core.E(core.Unready, "root-missing", fmt.Sprintf("root generation %d is missing", gen), fmt.Sprintf("bring root generation %d, or a newer keyring", gen))
	}
	if err != nil {
		return nil, err
	}
	b, err := readAll(path)
	if err != nil {
		return nil, fmt.Errorf("read root generation %d: %w", gen, err)
	}
	defer clear(b)
	rf, err := parseRoot(b)
	if err == nil && rf.gen != gen {
		err = fmt.Errorf("file holds generation %d", rf.gen)
	}
	if err != nil {
		return nil, &core.Error{Kind: core.Unready, Reason: "root-damaged", Err: err, Message: fmt.Sprintf("root generation %d cannot be used", gen), Hint: "bring an undamaged copy of it"}
	}
	if rf.mode == modePlain {
		return rf.open(nil)
	}
	if len(f.o.Passphrase) == 0 {
		return nil, core.E(core.Unready, "passphrase-needed", fmt.Sprintf("root generation %d is wrapped by a passphrase", gen), "give the file that holds the passphrase")
	}
	return rf.open(f.wrapKey(rf.cost, rf.salt))
}

func readAll(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	return io.ReadAll(io.LimitReader(file, int64(sealedBytes)+1))
}

const wrapDomain = "hawser/root/1"

func wrapAAD(gen uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(wrapDomain), gen)
}

// Wrap encrypts key under the root of generation gen: nonce, ciphertext, tag.
func (f *File) Wrap(_ context.Context, gen uint64, key []byte) ([]byte, error) {
	root, err := f.root(gen)
	if err != nil {
		return nil, err
	}
	defer clear(root)
	aead, err := gcm(root)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, nonceBytes, nonceBytes+len(key)+tagBytes)
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	return aead.Seal(nonce, nonce, key, wrapAAD(gen)), nil
}

// Unwrap is the inverse of Wrap.
func (f *File) Unwrap(_ context.Context, gen uint64, blob []byte) ([]byte, error) {
	root, err := f.root(gen)
	if err != nil {
		return nil, err
	}
	defer clear(root)
	aead, err := gcm(root)
	if err != nil {
		return nil, err
	}
	if len(blob) < nonceBytes+tagBytes {
		return nil, core.E(core.Invalid, "not-authentic", "wrapped key is cut short", "")
	}
	key, err := aead.Open(nil, blob[:nonceBytes], blob[nonceBytes:], wrapAAD(gen))
	if err != nil {
		return nil, core.E(core.Unready, "root-wrong", fmt.Sprintf("root generation %d does not open this keyring: it belongs to another one", gen), "bring the root and the keyring of one installation")
	}
	return key, nil
}

// Destroy overwrites the root of generation gen with randomness and unlinks
// it. Old blocks may survive on flash and copy-on-write media, in snapshots
// and in copies that somebody made: hence "best-effort".
func (f *File) Destroy(_ context.Context, gen uint64) (seal.Destruction, error) {
	d := seal.Destruction{Gen: gen, Destroys: seal.DestroysBestEffort, Detail: "file overwritten once with random bytes, synced, unlinked, folder synced"}
	for _, path := range []string{f.path(gen), f.path(gen) + newSuffix} {
		if err := f.scrub(path); err != nil {
			return seal.Destruction{}, fmt.Errorf("destroy root generation %d: %w", gen, err)
		}
	}
	return d, nil
}

func (f *File) scrub(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.o.step("overwrite root", func() error { return overwrite(path, st.Size()) }); err != nil {
		return err
	}
	if err := f.o.step("unlink root", func() error { return os.Remove(path) }); err != nil {
		return err
	}
	return f.o.step("sync folder", func() error { return syncDir(f.o.Dir) })
}

func writeSynced(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func overwrite(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.CopyN(file, rand.Reader, size)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
