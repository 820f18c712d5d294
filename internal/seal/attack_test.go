package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// TestShredOneOfTenThousand holds CC 4.8 in time: erasing one person
// is quick however many there are.
func TestShredOneOfTenThousand(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 10_000)
	for i := range 29 {
		ensure(t, k, h.epoch(time.Duration(i)*day))
	}
	// The disk may be busy with somebody else's work: the best of a few rounds
	// counts, each the median of seven.
	const limit = 50 * time.Millisecond
	best := time.Hour
	for round := 0; round < 6 && best > limit; round++ {
		var took []time.Duration
		for i := range 7 {
			start := time.Now()
			if _, err := k.Shred(t.Context(), seal.Order{Subjects: s[7*round+i : 7*round+i+1]}); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		best = min(best, took[len(took)/2])
		t.Logf("shred one of 10,000 subjects on the file root: median %s of %v", took[len(took)/2], took)
	}
	if best > limit {
		t.Errorf("median %s, more than %s", best, limit)
	}
}

// rootCandidates tries every 32 bytes that stand anywhere in files as a root,
// the way the file backend wraps. It knows nothing of generations or formats.
func rootCandidates(files map[string][]byte) func(gen uint64, blob []byte) [][]byte {
	return func(gen uint64, blob []byte) [][]byte {
		aad := binary.BigEndian.AppendUint64([]byte("hawser/root/1"), gen)
		var keys [][]byte
		for _, b := range files {
			for i := 0; i+32 <= len(b); i++ {
				block, err := aes.NewCipher(b[i : i+32])
				if err != nil {
					continue
				}
				aead, err := cipher.NewGCM(block)
				if err != nil || len(blob) < 28 {
					continue
				}
				if key, err := aead.Open(nil, blob[:12], blob[12:], aad); err == nil {
					keys = append(keys, key)
				}
			}
		}
		return keys
	}
}

// TestAttackerWithEverything (CC 4.8, 2.9) plays somebody who copied data and keyring copies
// before an erasure, and took the whole disk after it. Each 32 bytes of all
// that are tried as a root on each keyring that he has.
func TestAttackerWithEverything(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 12)
	e := h.epoch(0)
	ensure(t, k, e)
	data := map[core.Subject][]byte{}
	for _, x := range s {
		data[x] = sealed(t, k, x, e)
	}
	aad := []byte(e.String())
	victim, neighbour := s[0], s[1]

	attack := func(keyrings, all map[string][]byte, target core.Subject) bool {
		roots := rootCandidates(all)
		for path, b := range keyrings {
			if strings.Contains(filepath.Base(path), "keyring") && seal.Attack(b, roots, data[target], aad) {
				return true
			}
		}
		return false
	}

	before := files(h.dir) // all of it: roots too
	if !attack(before, before, victim) {
		t.Fatal("with the root of the day the attack fails: it proves nothing")
	}
	stolen := files(filepath.Join(h.dir, "a")) // what a backup that ran wild would hold
	for path, b := range files(filepath.Join(h.dir, "b")) {
		stolen[path] = b
	}
	if _, err := k.Shred(t.Context(), seal.Order{Subjects: []core.Subject{victim}}); err != nil {
		t.Fatal(err)
	}
	after := files(h.dir)
	keyrings := map[string][]byte{}
	for path, b := range stolen {
		keyrings["stolen "+path] = b
	}
	for path, b := range after {
		keyrings["after "+path] = b
	}
	everything := map[string][]byte{}
	for path, b := range keyrings {
		everything[path] = b
	}
	for x, b := range data {
		everything["data "+x.String()] = b
	}
	if attack(keyrings, everything, victim) {
		t.Error("the erased subject's reading opened")
	}
	if !attack(keyrings, everything, neighbour) {
		t.Error("a survivor's reading did not open with the disk after: the attack became blind")
	}
}

// TestNoResidue searches every file for the raw bytes of what was destroyed.
func TestNoResidue(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 50)
	e := h.epoch(0)
	ensure(t, k, e)
	subject, epoch := k.Secrets(s[0], e)
	oldCopy := readFile(t, h.o.Copies[0])
	rootFile := files(filepath.Join(h.dir, "root"))
	var root []byte
	for _, b := range rootFile {
		root = b[len(b)-64 : len(b)-32] // the root stands before its digest
	}
	needles := map[string][]byte{
		"secret of the subject": subject, "secret of the epoch": epoch, "old root": root,
		"wrapped old keyring key": oldCopy[19:79], "ciphertext of the old snapshot": oldCopy[200:264],
	}
	hits := func(what string) (n int) {
		for _, b := range files(h.dir) {
			n += bytes.Count(b, needles[what])
		}
		return n
	}
	// It does find what is there.
	if hits("old root") != 1 || hits("wrapped old keyring key") != 2 || hits("ciphertext of the old snapshot") != 2 {
		t.Fatal("the search does not find what is on disk before the erasure")
	}
	planted := filepath.Join(h.dir, "planted")
	if err := os.WriteFile(planted, append([]byte("xyz"), subject...), 0o600); err != nil {
		t.Fatal(err)
	}
	if hits("secret of the subject") != 1 {
		t.Fatal("the search does not find a planted secret")
	}
	if err := os.Remove(planted); err != nil {
		t.Fatal(err)
	}
	if hits("secret of the subject")+hits("secret of the epoch") != 0 {
		t.Error("a secret lies on disk in clear before the erasure")
	}
	if _, err := k.Shred(t.Context(), seal.Order{Subjects: s[:1]}); err != nil {
		t.Fatal(err)
	}
	for what := range needles {
		if n := hits(what); n != 0 {
			t.Errorf("%s: found %d times after the erasure", what, n)
		}
	}
}

// TestOldBlocksAreOverwritten watches the very files that are replaced: their
// bytes are gone even for somebody who holds them open.
func TestOldBlocksAreOverwritten(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 5)
	var held []*os.File
	var old [][]byte
	for path := range files(h.dir) {
		if strings.HasSuffix(path, ".lock") {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		held, old = append(held, f), append(old, readFile(t, path))
	}
	if len(held) != 3 {
		t.Fatalf("hold %d files, want a root and two copies", len(held))
	}
	if _, err := k.Shred(t.Context(), seal.Order{Subjects: s[:1]}); err != nil {
		t.Fatal(err)
	}
	for i, f := range held {
		now := make([]byte, len(old[i]))
		if _, err := f.ReadAt(now, 0); err != nil {
			t.Fatal(err)
		}
		same := 0
		for j := range now {
			if now[j] == old[i][j] {
				same++
			}
		}
		if same > len(now)/20 { // one in 256 by chance
			t.Errorf("%s: %d of %d bytes are as they were", f.Name(), same, len(now))
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s, e := addSubjects(t, k, 1)[0], h.epoch(0)
	ensure(t, k, e)
	plain, aad, dst := make([]byte, 200), make([]byte, 180), make([]byte, 0, 256)
	out := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(200, func() {
		key, err := k.Lease(s, e)
		if err != nil {
			t.Fatal(err)
		}
		if dst, err = key.Seal(dst[:0], plain, aad); err != nil {
			t.Fatal(err)
		}
		if out, err = key.Open(out[:0], dst, aad); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("lease, seal and open allocate %v times", n)
	}
	if !bytes.Equal(out, plain) || len(dst) != len(plain)+seal.Overhead {
		t.Error("it did not seal")
	}
}

func BenchmarkLease(b *testing.B) {
	h := newHouse(b, b.TempDir())
	h.o.Now = time.Now
	h.clock.ns.Store(time.Now().UnixNano())
	k := h.create(b)
	s, e := addSubjects(b, k, 1000), h.epoch(0)
	ensure(b, k, e)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := k.Lease(s[i%len(s)], e); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkDerive(b *testing.B) {
	h := newHouse(b, b.TempDir())
	h.o.Now = time.Now
	k := h.create(b)
	s := addSubjects(b, k, 1)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.SealValue(s, "c", nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	h := newHouse(b, b.TempDir())
	h.o.Now = time.Now
	h.clock.ns.Store(time.Now().UnixNano())
	k := h.create(b)
	s, e := addSubjects(b, k, 1)[0], h.epoch(0)
	ensure(b, k, e)
	key, err := k.Lease(s, e)
	if err != nil {
		b.Fatal(err)
	}
	plain, aad, dst := make([]byte, 200), make([]byte, 180), make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		if dst, err = key.Seal(dst[:0], plain, aad); err != nil {
			if key, err = k.Lease(s, e); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkShred10k(b *testing.B) {
	h := newHouse(b, b.TempDir())
	k := h.create(b)
	s := addSubjects(b, k, 10_000)
	i := 0
	for b.Loop() {
		if _, err := k.Shred(b.Context(), seal.Order{Subjects: s[i : i+1]}); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
