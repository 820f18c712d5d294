package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// errKilled is what everything says after the moment of death.
var errKilled = errors.New("killed")

type moment uint8

const (
	never  moment = iota
	before        // the effect did not happen
	after         // it happened, and nothing more
	during        // its file was half written
)

func (m moment) String() string { return [...]string{"never", "before", "after", "during"}[m] }

// killer ends the world at the n-th effect. From then on no effect happens:
// what a killed process would have done next is not done.
type killer struct {
	n    int
	when moment
	dir  string // where half-written files are looked for

	seen []string
	dead bool
}

func (k *killer) step(effect string, do func() error) error {
	if k.dead {
		return errKilled
	}
	k.seen = append(k.seen, effect)
	if k.when == never || len(k.seen)-1 != k.n {
		return do()
	}
	k.dead = true
	switch k.when {
	case before:
		return errKilled
	case during:
		if !tears(effect) {
			return errKilled // a rename or unlink is never half done
		}
		was := files(k.dir)
		if err := do(); err != nil {
			return err
		}
		tear(was, files(k.dir))
		return errKilled
	default:
		if err := do(); err != nil {
			return err
		}
		return errKilled
	}
}

// tears reports whether an effect can be half done. Root files have their own
// tests in kms.
func tears(effect string) bool {
	return effect == "write new" || effect == "overwrite old" || effect == "append"
}

// files is every file under dir with its content.
func files(dir string) map[string][]byte {
	out := map[string][]byte{}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = b
		return err
	})
	return out
}

// tear cuts in half what the effect added to each file that it changed.
func tear(was, now map[string][]byte) {
	for path, b := range now {
		old := was[path]
		if len(b) > len(old) {
			_ = os.Truncate(path, int64(len(old)+(len(b)-len(old))/2))
		} else if !bytes.Equal(b, old) {
			_ = os.WriteFile(path, append(bytes.Clone(b[:len(b)/2]), old[len(b)/2:]...), 0o600)
		}
	}
}

// scene is a keyring with an order to shred, built anew for each killing.
type scene struct {
	*house
	subjects []core.Subject
	epochs   []core.Epoch
	readings map[core.Subject][2][]byte // one for each epoch
	order    seal.Order
}

func newScene(t *testing.T, dir string) *scene {
	t.Helper()
	sc := &scene{house: newHouse(t, dir), readings: map[core.Subject][2][]byte{}}
	k := sc.create(t)
	sc.subjects = addSubjects(t, k, 4)
	sc.epochs = []core.Epoch{sc.epoch(5 * day), sc.epoch(0)}
	ensure(t, k, sc.epochs...)
	for _, s := range sc.subjects {
		sc.readings[s] = [2][]byte{sealed(t, k, s, sc.epochs[0]), sealed(t, k, s, sc.epochs[1])}
	}
	sc.order = seal.Order{Subjects: sc.subjects[:1], Epochs: sc.epochs[:1]}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	return sc
}

// shredUntil opens the keyring and shreds until the killer strikes.
func (sc *scene) shredUntil(t *testing.T, kl *killer) (seal.Receipt, error) {
	t.Helper()
	k, err := seal.Open(t.Context(), sc.o)
	if err != nil {
		t.Fatal(err)
	}
	_ = k.Close()
	k, err = seal.Open(t.Context(), sc.o.WithStep(kl.step))
	if err != nil {
		return seal.Receipt{}, err
	}
	r, err := k.Shred(t.Context(), sc.order)
	for _, s := range sc.order.Subjects {
		if k.Has(s) {
			t.Error("a condemned subject has leases again")
		}
	}
	if cerr := k.Close(); cerr != nil {
		t.Fatal(cerr)
	}
	return r, err
}

// check opens the keyring and holds what must be true after any killing:
// survivors open, and what the order names opens only if the order was not
// reported done. Redone, the order is done and its receipt is the same.
func (sc *scene) check(t *testing.T, reported bool) {
	t.Helper()
	k, err := seal.Open(t.Context(), sc.o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer func() { _ = k.Close() }()
	if n := sc.count(t, k); n > 0 && reported {
		t.Errorf("%d readings open that were reported shredded", n)
	}
	r, err := k.Shred(t.Context(), sc.order)
	if err != nil {
		t.Fatalf("redo: %v", err)
	}
	if r.Before != 1 || r.After != 2 || r.Destruction.Gen != 1 || r.Destruction.Destroys == "" {
		t.Errorf("receipt of the redone order: %+v", r)
	}
	if n := sc.count(t, k); n > 0 {
		t.Errorf("%d readings open after the order was redone", n)
	}
	if g := sc.generations(t); !slices.Equal(g, []uint64{2}) {
		t.Errorf("roots %v, want only 2", g)
	}
	a, b := readFile(t, sc.o.Copies[0]), readFile(t, sc.o.Copies[1])
	if !bytes.Equal(a, b) {
		t.Error("the copies differ")
	}
	for path := range files(sc.dir) {
		if strings.HasSuffix(path, ".old") || strings.HasSuffix(path, ".new") {
			t.Errorf("%s was left behind", path)
		}
	}
	addSubjects(t, k, 1)
}

// count opens all readings: survivors must open; it counts the condemned that
// do.
func (sc *scene) count(t *testing.T, k *seal.Keyring) (condemned int) {
	t.Helper()
	for i, s := range sc.subjects {
		for j, e := range sc.epochs {
			ok := opens(t, k, s, e, sc.readings[s][j])
			switch {
			case i == 0 || j == 0:
				if ok {
					condemned++
				}
			case !ok:
				t.Errorf("the reading of survivor %d is lost", i)
			}
		}
	}
	return condemned
}

func TestShredKilledAtEachArrow(t *testing.T) {
	count := &killer{}
	sc := newScene(t, t.TempDir())
	if _, err := sc.shredUntil(t, count); err != nil {
		t.Fatal(err)
	}
	sc.check(t, true)
	want := []string{
		"create root",
		"write new", "keep old", "rename", "sync folder",
		"write new", "keep old", "rename", "sync folder",
		"destroy root",
		"overwrite old", "unlink old",
		"overwrite old", "unlink old",
	}
	if !slices.Equal(count.seen, want) {
		t.Fatalf("effects of a shredding:\n got %q\nwant %q", count.seen, want)
	}
	for n, effect := range want {
		for _, when := range []moment{before, after, during} {
			if when == during && !tears(effect) {
				continue
			}
			t.Run(fmt.Sprintf("%02d-%s-%s", n, when, strings.ReplaceAll(effect, " ", "-")), func(t *testing.T) {
				t.Parallel()
				sc := newScene(t, t.TempDir())
				kl := &killer{n: n, when: when, dir: sc.dir}
				if _, err := sc.shredUntil(t, kl); !errors.Is(err, errKilled) {
					t.Fatalf("got %v, want to be killed", err)
				}
				sc.check(t, false)
			})
		}
	}
}

// TestRepairKilledAtEachArrow kills a shredding, and then, at each of its
// effects, the Open that repairs it.
func TestRepairKilledAtEachArrow(t *testing.T) {
	for _, first := range []int{1, 2, 3, 6, 7, 9, 10} { // from a's new file to a's old one overwritten
		t.Run(fmt.Sprintf("%02d", first), func(t *testing.T) {
			t.Parallel()
			for n := 0; ; n++ {
				sc := newScene(t, t.TempDir())
				if _, err := sc.shredUntil(t, &killer{n: first, when: after, dir: sc.dir}); !errors.Is(err, errKilled) {
					t.Fatalf("got %v, want to be killed", err)
				}
				kl := &killer{n: n, when: after, dir: sc.dir}
				k, err := seal.Open(t.Context(), sc.o.WithStep(kl.step))
				if err == nil {
					_ = k.Close()
				}
				sc.check(t, false)
				if !kl.dead {
					if n == 0 {
						t.Error("nothing was repaired")
					}
					return
				}
			}
		})
	}
}

// TestShredTroubleAtEachArrow fails each effect once, as a full or broken disk
// does, in a process that lives on: the order is then finished in place.
func TestShredTroubleAtEachArrow(t *testing.T) {
	t.Parallel()
	for n := range 14 {
		sc := newScene(t, t.TempDir())
		seen := -1
		broken := errors.New("input/output error")
		k, err := seal.Open(t.Context(), sc.o.WithStep(func(_ string, do func() error) error {
			if seen++; seen == n {
				return broken
			}
			return do()
		}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Shred(t.Context(), sc.order); !errors.Is(err, broken) {
			t.Fatalf("effect %d: got %v, want the trouble", n, err)
		}
		if got := sc.count(t, k); got != 0 {
			t.Errorf("effect %d: %d condemned readings open after the failed order", n, got)
		}
		fresh := addSubjects(t, k, 1)[0]
		r, err := k.Shred(t.Context(), sc.order)
		if err != nil || r.Before != 1 || r.After != 2 {
			t.Fatalf("effect %d: the order again: %+v, %v", n, r, err)
		}
		if !k.Has(fresh) {
			t.Errorf("effect %d: a subject added in between was lost", n)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		sc.check(t, true)
	}
}

func TestAddKilledAtEachArrow(t *testing.T) {
	for n := range 2 { // one append for each copy
		for _, when := range []moment{before, after, during} {
			h := newHouse(t, t.TempDir())
			k := h.create(t)
			s := addSubjects(t, k, 2)
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			kl := &killer{n: n, when: when, dir: h.dir}
			k, err := seal.Open(t.Context(), h.o.WithStep(kl.step))
			if err != nil {
				t.Fatal(err)
			}
			fresh := newSubject(t)
			if err := k.AddSubject(t.Context(), fresh); !errors.Is(err, errKilled) {
				t.Fatalf("got %v, want to be killed", err)
			}
			if k.Has(fresh) {
				t.Error("a subject whose key is not durable has a key")
			}
			_ = k.Close()
			k = h.open(t)
			for _, x := range s {
				if !k.Has(x) {
					t.Errorf("effect %d %s: an earlier subject is lost", n, when)
				}
			}
			if k.Has(fresh) && (n == 0 && when != after) {
				t.Errorf("effect %d %s: a key came from nowhere", n, when)
			}
			addSubjects(t, k, 1)
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			if a, b := readFile(t, h.o.Copies[0]), readFile(t, h.o.Copies[1]); !bytes.Equal(a, b) {
				t.Errorf("effect %d %s: the copies differ", n, when)
			}
		}
	}
}

// TestAddTrouble: a disk that fails under one copy leaves the addition undone
// in all, and the next one works.
func TestAddTrouble(t *testing.T) {
	for n := range 2 {
		h := newHouse(t, t.TempDir())
		h.create(t).Close()
		seen := -1
		k, err := seal.Open(t.Context(), h.o.WithStep(func(effect string, do func() error) error {
			if effect == "append" {
				if seen++; seen == n {
					return errors.New("no space left on device")
				}
			}
			return do()
		}))
		if err != nil {
			t.Fatal(err)
		}
		s := newSubject(t)
		wantReason(t, "add to a full disk", k.AddSubject(t.Context(), s), core.Unavail, "keyring-write")
		if k.Has(s) {
			t.Error("it was added all the same")
		}
		if err := k.AddSubject(t.Context(), s); err != nil {
			t.Errorf("the same one again: %v", err)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		if k = h.open(t); !k.Has(s) {
			t.Error("it was lost")
		}
	}
}

func TestCreateKilledAtEachArrow(t *testing.T) {
	for n := 0; ; n++ {
		killed := false
		for _, when := range []moment{before, after, during} {
			h := newHouse(t, t.TempDir())
			kl := &killer{n: n, when: when, dir: h.dir}
			k, err := seal.Create(t.Context(), h.o.WithStep(kl.step))
			if err == nil {
				_ = k.Close()
			}
			killed = killed || kl.dead
			k, err = seal.Create(t.Context(), h.o)
			if core.ReasonOf(err) == "keyring-exists" {
				k, err = seal.Open(t.Context(), h.o)
			}
			if err != nil {
				t.Fatalf("effect %d %s: %v", n, when, err)
			}
			addSubjects(t, k, 1)
			_ = k.Close()
			k = h.open(t)
			_ = k.Close()
		}
		if !killed {
			if n < 9 {
				t.Errorf("creating a keyring had %d effects", n)
			}
			return
		}
	}
}
