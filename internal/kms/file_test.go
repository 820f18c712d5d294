package kms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// cheap is a passphrase cost for tests: a real one takes 100 ms a guess.
func cheap() cost { return cost{passes: 1, memoryKiB: 64, lanes: 1} }

func openFile(t testing.TB, o FileOptions) *File {
	t.Helper()
	f, err := OpenFile(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantReason(t testing.TB, what string, err error, kind core.Kind, reason string) {
	t.Helper()
	if err == nil || core.KindOf(err) != kind || core.ReasonOf(err) != reason {
		t.Errorf("%s: got %v (%v, %q), want %v, %q", what, err, core.KindOf(err), core.ReasonOf(err), kind, reason)
	}
}

func generations(t testing.TB, f seal.RootKeys) []uint64 {
	t.Helper()
	g, err := f.Generations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestRootLife(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	rootLife(t, func() seal.RootKeys { return openFile(t, FileOptions{Dir: dir}) })
}

// rootLife is what every store of roots does; open opens the same one again.
func rootLife(t *testing.T, open func() seal.RootKeys) {
	t.Helper()
	ctx := t.Context()
	f := open()
	if g := generations(t, f); len(g) != 0 {
		t.Errorf("a new folder has roots %v", g)
	}
	_, err := f.Wrap(ctx, 1, []byte("k"))
	wantReason(t, "wrap without a root", err, core.Unready, "root-missing")
	for _, g := range []uint64{1, 2, 12} {
		if err := f.Create(ctx, g); err != nil {
			t.Fatal(err)
		}
	}
	wantReason(t, "create twice", f.Create(ctx, 2), core.Conflict, "root-exists")
	wantReason(t, "create generation 0", f.Create(ctx, 0), core.Invalid, "bad-generation")
	key := []byte("a keyring key")
	blob, err := f.Wrap(ctx, 2, key)
	if err != nil {
		t.Fatal(err)
	}
	f = open() // as after a restart
	if got, err := f.Unwrap(ctx, 2, blob); err != nil || !bytes.Equal(got, key) {
		t.Errorf("unwrap: %q, %v", got, err)
	}
	_, err = f.Unwrap(ctx, 1, blob)
	wantReason(t, "unwrap by another generation", err, core.Unready, "root-wrong")
	_, err = f.Unwrap(ctx, 2, blob[:len(blob)-1])
	wantReason(t, "unwrap what is cut", err, core.Unready, "root-wrong")
	_, err = f.Unwrap(ctx, 2, nil)
	wantReason(t, "unwrap nothing", err, core.Invalid, "not-authentic")
	if g := generations(t, f); !slices.Equal(g, []uint64{1, 2, 12}) {
		t.Errorf("generations %v", g)
	}
	for range 2 {
		d, err := f.Destroy(ctx, 2)
		if err != nil || d.Gen != 2 || d.Destroys != seal.DestroysBestEffort || d.Detail == "" {
			t.Errorf("destroy: %+v, %v", d, err)
		}
	}
	_, err = f.Unwrap(ctx, 2, blob)
	wantReason(t, "unwrap by a destroyed root", err, core.Unready, "root-missing")
	if !strings.Contains(err.Error(), "generation 2") {
		t.Errorf("the refusal does not name the generation: %v", err)
	}
	if g := generations(t, f); !slices.Equal(g, []uint64{1, 12}) {
		t.Errorf("generations %v", g)
	}
}

func TestPassphraseWrapsARandomRoot(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "root")
	with := func(pass string) *File {
		return openFile(t, FileOptions{Dir: dir, Passphrase: []byte(pass), cost: cheap()})
	}
	plain := with("")
	if err := plain.Create(ctx, 1); err != nil {
		t.Fatal(err)
	}
	blob1, err := plain.Wrap(ctx, 1, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	f := with("correct horse")
	if got, err := f.Unwrap(ctx, 1, blob1); err != nil || string(got) != "one" {
		t.Errorf("a plain root under a new passphrase: %q, %v", got, err)
	}
	for _, g := range []uint64{2, 3} {
		if err := f.Create(ctx, g); err != nil {
			t.Fatal(err)
		}
	}
	blob, err := f.Wrap(ctx, 3, []byte("three"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := with("correct horse").Unwrap(ctx, 3, blob); err != nil || string(got) != "three" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	_, err = with("wrong horse").Unwrap(ctx, 3, blob)
	wantReason(t, "wrong passphrase", err, core.Denied, "passphrase-wrong")
	_, err = with("").Unwrap(ctx, 3, blob)
	wantReason(t, "no passphrase", err, core.Unready, "passphrase-needed")

	// Two roots of one passphrase are different: it is not their source.
	b2, b3 := readRoot(t, f, 2), readRoot(t, f, 3)
	r2, err2 := f.root(2)
	r3, err3 := f.root(3)
	if err2 != nil || err3 != nil || bytes.Equal(r2, r3) {
		t.Errorf("roots of one passphrase: equal %v, %v, %v", bytes.Equal(r2, r3), err2, err3)
	}
	if bytes.Contains(b2, r2) || bytes.Contains(b3, r3) {
		t.Error("a root lies in clear")
	}
	if r1, err := f.root(1); err != nil || !bytes.Contains(readRoot(t, f, 1), r1) {
		t.Error("the search does not find a root that lies in clear")
	}
}

// TestRealCostIsPaid holds that a guess costs what RFC 9106 recommends.
func TestRealCostIsPaid(t *testing.T) {
	f := openFile(t, FileOptions{Dir: filepath.Join(t.TempDir(), "root"), Passphrase: []byte("p")})
	start := time.Now()
	if err := f.Create(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	first := time.Since(start)
	rf, err := parseRoot(readRoot(t, f, 1))
	if err != nil || rf.cost != (cost{passes: 3, memoryKiB: 65536, lanes: 4}) {
		t.Errorf("cost %+v, %v", rf.cost, err)
	}
	start = time.Now()
	if err := f.Create(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if again := time.Since(start); again > first/2 {
		t.Errorf("the second root took %s, the first %s: a rotation waits for argon2id", again, first)
	}
}

func readRoot(t testing.TB, f *File, gen uint64) []byte {
	t.Helper()
	b, err := os.ReadFile(f.path(gen))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRefusesOpenPermissions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	f := openFile(t, FileOptions{Dir: dir})
	if err := f.Create(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, f.path(1): 0o600} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s was made with mode %o, want %o (%v)", path, st.Mode().Perm(), want, err)
		}
	}
	if err := os.Chmod(f.path(1), 0o604); err != nil {
		t.Fatal(err)
	}
	_, err := f.Wrap(t.Context(), 1, []byte("k"))
	wantReason(t, "a root that others read", err, core.Unready, "root-permissions")
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	_, err = OpenFile(FileOptions{Dir: dir})
	wantReason(t, "a folder that a group reads", err, core.Unready, "root-permissions")
}

func TestRootsLieApart(t *testing.T) {
	base := t.TempDir()
	data := filepath.Join(base, "data")
	if err := os.MkdirAll(filepath.Join(data, "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(base, "link")
	if err := os.Symlink(filepath.Join(data, "deep"), link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(data, "root"), data, link, filepath.Join(link, "root")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := OpenFile(FileOptions{Dir: dir, ApartFrom: []string{filepath.Join(base, "elsewhere"), data}})
		wantReason(t, dir, err, core.Invalid, "root-not-apart")
	}
	for _, dir := range []string{filepath.Join(base, "root"), filepath.Join(base, "data2"), filepath.Join(base, "..data")} {
		if _, err := OpenFile(FileOptions{Dir: dir, ApartFrom: []string{data}}); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestDamagedRoot(t *testing.T) {
	ctx := t.Context()
	f := openFile(t, FileOptions{Dir: filepath.Join(t.TempDir(), "root")})
	if err := f.Create(ctx, 1); err != nil {
		t.Fatal(err)
	}
	good := readRoot(t, f, 1)
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		if err := os.WriteFile(f.path(1), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Wrap(ctx, 1, []byte("k")); core.ReasonOf(err) != "root-damaged" {
			t.Fatalf("byte %d changed: got %v", i, err)
		}
	}
	if err := os.WriteFile(f.path(2), good, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := f.Wrap(ctx, 2, []byte("k"))
	wantReason(t, "a root under another number", err, core.Unready, "root-damaged")
}

// TestForeignFilesAreLeftAlone: only names that Create gives are roots.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	f := openFile(t, FileOptions{Dir: dir})
	for _, name := range []string{"root-1.key", "root-0000000000000000.key", "root--000000000000001.key", "root-x.key", "README", "root-0000000000000003.key.new"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if g := generations(t, f); len(g) != 0 {
		t.Errorf("took foreign files for roots %v", g)
	}
}

// TestKilledAtEachEffect stops the making and the destroying of roots at each
// effect. A root is there whole or not at all, and both can be done again.
func TestKilledAtEachEffect(t *testing.T) {
	killed := errors.New("killed")
	for n := 0; ; n++ {
		reached := false
		for _, done := range []bool{false, true} {
			dir := filepath.Join(t.TempDir(), "root")
			f := openFile(t, FileOptions{Dir: dir})
			if err := f.Create(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			seen, dead := 0, false
			broken := openFile(t, FileOptions{Dir: dir, step: func(_ string, do func() error) error {
				if dead {
					return killed
				}
				if seen++; seen-1 == n {
					dead, reached = true, true
					if done {
						_ = do()
					}
					return killed
				}
				return do()
			}})
			err := broken.Create(t.Context(), 2)
			if err == nil {
				_, err = broken.Destroy(t.Context(), 1)
			}
			if dead && !errors.Is(err, killed) {
				t.Fatalf("effect %d: got %v, want to be killed", n, err)
			}
			f = openFile(t, FileOptions{Dir: dir})
			if slices.Contains(generations(t, f), 2) {
				if _, err := f.Wrap(t.Context(), 2, []byte("k")); err != nil {
					t.Errorf("effect %d: a root that is there cannot be used: %v", n, err)
				}
			} else if err := f.Create(t.Context(), 2); err != nil {
				t.Errorf("effect %d: create again: %v", n, err)
			}
			if _, err := f.Destroy(t.Context(), 1); err != nil {
				t.Errorf("effect %d: destroy again: %v", n, err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != 1 || !slices.Equal(generations(t, f), []uint64{2}) {
				t.Errorf("effect %d: left %v, %v", n, entries, err)
			}
		}
		if !reached {
			if n != 6 {
				t.Errorf("making and destroying a root had %d effects, want 6", n)
			}
			return
		}
	}
}

// TestKeyringSurvivesKilledRoots kills a whole rotation inside the root store:
// the keyring opens, survivors are there, and the order can be redone.
func TestKeyringSurvivesKilledRoots(t *testing.T) {
	killed := errors.New("killed")
	for n := 0; ; n++ {
		dir := t.TempDir()
		o := seal.Options{
			Copies: []string{filepath.Join(dir, "a", "keyring"), filepath.Join(dir, "b", "keyring")},
			Roots:  openFile(t, FileOptions{Dir: filepath.Join(dir, "root")}), Now: time.Now,
		}
		k, err := seal.Create(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		gone, kept := core.Subject{1}, core.Subject{2}
		if err := k.AddSubjects(t.Context(), []core.Subject{gone, kept}); err != nil {
			t.Fatal(err)
		}
		value, err := k.SealValue(kept, "c", []byte("v"))
		if err != nil {
			t.Fatal(err)
		}
		_ = k.Close()

		seen, dead := 0, false
		broken := o
		broken.Roots = openFile(t, FileOptions{Dir: filepath.Join(dir, "root"), step: func(_ string, do func() error) error {
			if dead {
				return killed
			}
			if seen++; seen-1 == n {
				dead = true
				return killed
			}
			return do()
		}})
		if k, err = seal.Open(t.Context(), broken); err != nil {
			t.Fatal(err)
		}
		order := seal.Order{Subjects: []core.Subject{gone}}
		if _, err := k.Shred(t.Context(), order); dead && !errors.Is(err, killed) {
			t.Fatalf("effect %d: got %v, want to be killed", n, err)
		}
		_ = k.Close()
		if k, err = seal.Open(t.Context(), o); err != nil {
			t.Fatalf("effect %d: open: %v", n, err)
		}
		r, err := k.Shred(t.Context(), order)
		if err != nil || r.Before != 1 || r.After != 2 || k.Has(gone) {
			t.Errorf("effect %d: redo: %+v, %v", n, r, err)
		}
		if got, err := k.OpenValue(kept, "c", value); err != nil || string(got) != "v" {
			t.Errorf("effect %d: a survivor is lost: %v", n, err)
		}
		if g, err := o.Roots.Generations(context.Background()); err != nil || !slices.Equal(g, []uint64{2}) {
			t.Errorf("effect %d: roots %v, %v", n, g, err)
		}
		_ = k.Close()
		if !dead {
			if n != 6 {
				t.Errorf("a rotation had %d effects in the root store, want 6", n)
			}
			return
		}
	}
}

// FuzzRoot gives the parser damaged root files: never a panic, and never a
// root that was not written.
func FuzzRoot(f *testing.F) {
	root := bytes.Repeat([]byte{7}, rootBytes)
	w := newWrapKey([]byte("p"), cheap(), [saltBytes]byte{1})
	wrapped, err := encodeWrapped(2, root, w)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encodePlain(1, root))
	f.Add(wrapped)
	f.Add([]byte(rootMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > sha256.Size {
			b = closeFile(bytes.Clone(b[:len(b)-sha256.Size])) // get past the digest
		}
		rf, err := parseRoot(b)
		if err != nil {
			return
		}
		if rf.mode == modePassphrase && rf.cost.check() != nil {
			t.Fatal("accepted impossible passphrase parameters")
		}
		if rf.mode == modePassphrase {
			if got, err := rf.open(w); err == nil && (!bytes.Equal(got, root) || rf.gen != 2) {
				t.Fatal("opened another root")
			}
		}
	})
}
