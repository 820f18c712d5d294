package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// keyChecks hold that keys lie apart from what they open, and that they open it
// (CC 2.9).
func (s *server) keyChecks() []check.Check {
	apart, survive := &keysApart{s: s}, &survivors{s: s}
	return []check.Check{
		{
			ID: "keys.apart", Version: 1, Rows: []string{"2.9"}, Kind: check.Query, MaxAge: check.Critical, // CC 2.9
			Says: "Keyring, roots and signing keys lie outside the data folder where nobody else can read them, no copy of one lies inside, and the keyring has two equal copies.",
			Do:   "Take the copy out of the data folder and out of every backup made since, then change the keys; `chmod go=` what others can read.",
			Look: apart.look,
			Violations: []check.Violation{
				{ID: "keyring-in-data", Says: "Copies the keyring into the data folder.", Do: own(copyKeyring)},
				{ID: "key-in-data", Says: "Copies the authority's key into the data folder.", Do: own(copyAuthority)},
				{ID: "key-readable", Says: "Lets everybody read the key that signs the ledger.", Do: own(openKey)},
				{ID: "copy-gone", Says: "Moves the second copy of the keyring away.", Do: own(moveCopy)},
			},
		},
		{
			ID: "keyring.rotates", Version: 1, Rows: []string{"2.9"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 2.9
			Says: "Every keyring copy on disk opens with the one root that is left and holds the keys in use; stored readings of those who were not erased open with them.",
			Do:   "Restart the server: it repairs a copy from the other. What does not open at all: restore the file from a backup, and look for a failing disk.",
			Look: survive.look,
			Violations: []check.Violation{
				{ID: "copy-damaged", Says: "Changes one byte in the second copy of the keyring.", Do: own(func(_ context.Context, t *twin) (func(context.Context) error, error) {
					return t.flip(t.s.c.Keyring[1], 1)
				})},
				{ID: "row-of-another", Says: "Puts what is sealed of one device into a stored row of another one.", Do: own(swapOwners)},
			},
		},
	}
}

// keysApart looks at files, not at the configuration that was checked once.
type keysApart struct {
	s *server

	mu    sync.Mutex           // guards what follows
	clean map[string]fileState // files of the data folder that were looked into
}

type fileState struct {
	size int64
	at   time.Time
}

func (k *keysApart) look(_ context.Context, l *check.Look) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	data, err := filepath.EvalSymlinks(k.s.c.Data)
	if err != nil {
		return fmt.Errorf("look for keys: %w", err)
	}
	files, err := k.files(l)
	if err != nil {
		return err
	}
	l.Expect("configuration: files and folders of keys", len(files)+1)
	for _, f := range files {
		l.Touch("file", short(f))
		why, err := exposed(f, data)
		if err != nil {
			return err
		}
		l.Holds(why == "", short(f), "%s", why)
	}
	l.Holds(k.pair(), "keyring", "there are no two equal copies")
	return k.inside(l, data)
}

// short is a path with its folder only: where an installation lies is nobody's
// business.
func short(p string) string { return filepath.Base(filepath.Dir(p)) + "/" + filepath.Base(p) }

// files are the folders and files of secret keys there are.
func (k *keysApart) files(l *check.Look) ([]string, error) {
	c := k.s.c
	all := []string{c.CA, c.Roots, c.LedgerKey, c.GateKey}
	if c.ConsoleKey != "" {
		all = append(all, c.ConsoleKey)
	}
	for _, p := range c.Keyring {
		if _, err := os.Stat(p); err == nil { // that one is missing says pair
			all = append(all, p)
		}
		all = append(all, filepath.Dir(p))
	}
	folders := []string{c.CA, c.Roots}
	if _, err := os.Stat(c.at(caRootFolder)); err == nil {
		folders = append(folders, c.at(caRootFolder))
	}
	for _, dir := range folders {
		list, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("look for keys: %w", err)
		}
		for _, e := range list {
			p := filepath.Join(dir, e.Name())
			if dir == c.Roots || e.Type().IsRegular() && secretIn(p) {
				all = append(all, p)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// exposed says what is wrong with where a key lies.
func exposed(path, data string) (string, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "is not there", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at a key: %w", err)
	}
	real, err := filepath.EvalSymlinks(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("look at a key: %w", err)
	case within(data, real):
		return "lies in the data folder", nil
	case st.Mode().Perm()&0o077 != 0:
		return fmt.Sprintf("others than its owner may use it: mode %04o", st.Mode().Perm()), nil
	}
	return "", nil
}

// pair reports whether two copies of the keyring are equal in generation and
// size. A rotation replaces one after the other, so it looks again.
func (k *keysApart) pair() bool {
	for range 5 {
		type of struct {
			gen  uint64
			size int64
		}
		seen := map[of]int{}
		for _, p := range k.s.c.Keyring {
			st, err := os.Stat(p)
			if err != nil {
				continue
			}
			if gen, err := seal.CopyOf(p); err == nil {
				if seen[of{gen, st.Size()}]++; seen[of{gen, st.Size()}] > 1 {
					return true
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}

// inside looks into every file of the data folder that changed for a key.
func (k *keysApart) inside(l *check.Look, data string) error {
	var known [][]byte
	for _, p := range append(k.roots(), k.s.c.LedgerKey, k.s.c.GateKey) {
		if b := front(p); len(b) > 16 {
			known = append(known, b)
		}
	}
	clean := map[string]fileState{}
	err := filepath.WalkDir(data, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what went meanwhile holds nothing
		}
		st, err := d.Info()
		if err != nil {
			return nil // it went meanwhile
		}
		now := fileState{st.Size(), st.ModTime()}
		if k.clean[p] == now {
			clean[p] = now
			return nil
		}
		if why := keyIn(p, known); why != "" {
			rel, _ := filepath.Rel(data, p) // p is below data
			l.Expect("", 1)
			l.Fail("data/"+rel, "%s", why)
			return nil
		}
		clean[p] = now
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for keys in the data folder: %w", err)
	}
	k.clean = clean
	l.Touch("folder", fmt.Sprintf("data: the beginning of each of %d files, when it changes", len(clean)))
	return nil
}

func (k *keysApart) roots() []string {
	list, _ := filepath.Glob(filepath.Join(k.s.c.Roots, "*")) // the pattern is ours
	return list
}

const frontBytes = 4096

// front is the beginning of a file; nothing when it cannot be read.
func front(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // only read
	b, _ := io.ReadAll(io.LimitReader(f, frontBytes))
	return b
}

var privateKey = []byte("PRIVATE KEY-----")

func secretIn(path string) bool { return bytes.Contains(front(path), privateKey) }

// keyIn says what key a file holds, if any.
func keyIn(path string, known [][]byte) string {
	if _, err := seal.CopyOf(path); err == nil {
		return "is a copy of a keyring"
	}
	b := front(path)
	if bytes.Contains(b, privateKey) {
		return "holds a private key"
	}
	for _, key := range known {
		if bytes.Contains(b, key) {
			return "holds a key of this installation"
		}
	}
	return ""
}

// survivors looks whether what lies on disk of the keyring is what is in use,
// and opens something of some of those it is about.
type survivors struct {
	s *server

	mu    sync.Mutex   // guards what follows
	after core.Subject // of the owners
}

const (
	lookOwners = 32
	lookBack   = 3 // newest epochs of each keep-time in which something of theirs is looked for
)

func (v *survivors) look(ctx context.Context, l *check.Look) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	x, err := v.s.ring.Examine(ctx)
	if err != nil {
		return err
	}
	l.Expect("configuration: keyring copies; control.db: owners, in turn", len(v.s.c.Keyring)+1)
	for _, c := range x.Copies {
		l.Touch("file", short(c.Path))
		l.Holds(c.Fault == "", short(c.Path), "%s", c.Fault)
	}
	only := len(x.Roots) == 1 && x.Roots[0] == x.Generation
	l.Holds(only, "roots", "generation %d is in use, and roots of %v are there", x.Generation, x.Roots)
	owners, err := v.next(ctx)
	if err != nil {
		return err
	}
	l.Expect("", len(owners))
	epochs := newestOf(v.s.ring.Epochs(), l.Now)
	for _, owner := range owners {
		if err := v.one(ctx, l, owner, epochs, x.Generation); err != nil {
			return err
		}
	}
	return nil
}

// next are the owners whose turn it is.
func (v *survivors) next(ctx context.Context) (out []core.Subject, err error) {
	err = v.s.store.View(ctx, func(tx *store.Tx) error {
		if out, err = tx.OwnersAfter(ctx, v.after, lookOwners); err != nil || len(out) == lookOwners {
			return err
		}
		again, err := tx.OwnersAfter(ctx, core.Subject{}, lookOwners-len(out))
		for _, s := range again {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
		return err
	})
	if len(out) > 0 {
		v.after = out[len(out)-1]
	}
	return out, err
}

// newestOf are the newest epochs of each keep-time that have begun.
func newestOf(all []core.Epoch, now time.Time) (out []core.Epoch) {
	n := map[time.Duration]int{}
	for _, e := range slices.Backward(all) { // by keep-time and start
		if e.Start <= now.Unix() && n[e.Keep] < lookBack {
			n[e.Keep]++
			out = append(out, e)
		}
	}
	return out
}

func (v *survivors) one(ctx context.Context, l *check.Look, owner core.Subject, epochs []core.Epoch, gen uint64) error {
	name := owner.String()
	if !v.s.ring.Has(owner) {
		var asked, restored bool
		err := v.s.store.View(ctx, func(tx *store.Tx) error {
			_, found, err := tx.Erasure(ctx, owner)
			if err != nil {
				return err
			}
			origins, err := tx.LedgerOrigins(ctx)
			asked, restored = found, len(origins) > 1
			return err
		})
		switch {
		case err != nil:
			return err
		case asked || restored:
			l.Exclude(name, "it was erased")
		default:
			l.Fail(name, "it was not erased, and has no key in generation %d", gen)
		}
		return nil
	}
	for _, e := range epochs {
		r, ok, err := v.s.telem.files.RowOf(ctx, e, owner)
		if _, broken := telemetry.AsBroken(err); broken {
			continue
		}
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		key, err := v.s.ring.Lease(owner, e)
		if errors.Is(err, seal.ErrNoKey) {
			l.Exclude(name, "it is being erased, or the epoch has just ended")
			return nil
		}
		if err != nil {
			return err
		}
		plain, err := key.Open(nil, r.Part.Sealed, telemetry.AppendAAD(nil, &r.Reading, &r.Part))
		clear(plain)
		l.Holds(err == nil, name, "row %d of %s does not open with its key of generation %d", r.ID, e, gen)
		return nil
	}
	l.Exclude(name, "nothing was stored of it lately")
	return nil
}

func copyKeyring(_ context.Context, t *twin) (func(context.Context) error, error) {
	b, err := os.ReadFile(t.s.c.Keyring[0])
	if err != nil {
		return nil, err
	}
	return t.inData("telemetry/copy", b)
}

func copyAuthority(_ context.Context, t *twin) (func(context.Context) error, error) {
	keys, err := filepath.Glob(filepath.Join(t.s.c.CA, "*-key.pem"))
	if err != nil || len(keys) == 0 {
		return nil, errors.New("the twin's authority has no key")
	}
	b, err := os.ReadFile(keys[0])
	if err != nil {
		return nil, err
	}
	return t.inData("notes.txt", append([]byte("do not lose this:\n"), b...))
}

func openKey(_ context.Context, t *twin) (func(context.Context) error, error) {
	t.Touch("file", t.s.c.LedgerKey)
	return func(context.Context) error { return os.Chmod(t.s.c.LedgerKey, 0o600) }, os.Chmod(t.s.c.LedgerKey, 0o644)
}

func moveCopy(_ context.Context, t *twin) (func(context.Context) error, error) {
	from, to := t.s.c.Keyring[1], t.s.c.Keyring[1]+".away"
	t.Touch("file", from)
	return func(context.Context) error { return os.Rename(to, from) }, os.Rename(from, to)
}

func swapOwners(ctx context.Context, t *twin) (func(context.Context) error, error) {
	var rows []telemetry.Row // of each of two devices the newest, which is looked at
	epochs := newestOf(t.s.ring.Epochs(), t.Now())
	for _, d := range t.units[:2] {
		for _, e := range epochs {
			r, ok, err := t.s.telem.files.RowOf(ctx, e, d.Subject)
			if err != nil {
				return nil, err
			}
			if ok {
				r.Part.Sealed = slices.Clone(r.Part.Sealed)
				rows = append(rows, r)
				break
			}
		}
	}
	if len(rows) != 2 {
		return nil, errors.New("the twin has no readings of two devices")
	}
	db := telemetry.FileOf(int64(rows[0].Part.Epoch.Keep/time.Second), rows[0].Part.Epoch.Start)
	const set = `UPDATE rows SET sealed = ? WHERE id = ?`
	return func(ctx context.Context) error { return t.Exec(ctx, db, set, rows[0].Part.Sealed, rows[0].ID) }, t.Exec(ctx, db, set, rows[1].Part.Sealed, rows[0].ID)
}
