package seal_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// TestCopies opens keyrings whose copies are in every kind of disorder.
func TestCopies(t *testing.T) {
	// old and now are the bytes of the copies at generations 1 and 2, short a
	// copy of generation 2 without its last addition.
	build := func(t *testing.T) (h *house, subjects []core.Subject, old, short, now []byte) {
		h = newHouse(t, t.TempDir())
		k := h.create(t)
		subjects = addSubjects(t, k, 3)
		old = readFile(t, h.o.Copies[0])
		if _, err := k.Shred(t.Context(), seal.Order{Subjects: subjects[:1]}); err != nil {
			t.Fatal(err)
		}
		short = readFile(t, h.o.Copies[0])
		subjects = append(subjects, addSubjects(t, k, 1)...)
		now = readFile(t, h.o.Copies[0])
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		return h, subjects, old, short, now
	}
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	for _, c := range []struct {
		name   string
		a, b   func(old, short, now []byte) []byte
		reason string // of Open's refusal; "" opens with every survivor
		lost   bool   // the last addition is not there: it was never acknowledged
	}{
		{name: "both whole", a: nowBytes, b: nowBytes},
		{name: "b is missing", a: nowBytes, b: none},
		{name: "a is missing", a: none, b: nowBytes},
		{name: "b lags by an addition", a: nowBytes, b: shortBytes},
		{name: "b is of an older generation", a: nowBytes, b: oldBytes},
		{name: "a is of an older generation", a: oldBytes, b: nowBytes},
		{name: "a is torn, b has not got the addition", b: shortBytes, lost: true, a: func(_, _, now []byte) []byte { return now[:len(now)-5] }},
		{name: "a is torn in the length, b has not got the addition", b: shortBytes, lost: true, a: func(_, short, now []byte) []byte { return now[:len(short)+2] }},
		{name: "a ends in unwritten zeros", b: shortBytes, lost: true, a: func(_, short, _ []byte) []byte { return append(bytes.Clone(short), make([]byte, 600)...) }},
		{name: "a's last addition is damaged, b has it", b: nowBytes, a: func(_, _, now []byte) []byte { return flip(now, len(now)-1) }},
		{name: "a's snapshot is damaged", b: nowBytes, a: func(_, short, now []byte) []byte { return flip(now, len(short)-30) }},
		{name: "a's header is damaged", b: nowBytes, a: func(_, _, now []byte) []byte { return flip(now, 12) }},
		{name: "a is empty", b: nowBytes, a: func(_, _, _ []byte) []byte { return []byte{} }},
		{name: "a is something else", b: nowBytes, a: func(_, _, _ []byte) []byte { return []byte(strings.Repeat("hello ", 1000)) }},
		{name: "a is cut in the snapshot, b is older", b: oldBytes, a: func(_, short, _ []byte) []byte { return short[:len(short)-9] }, reason: "keyring-damaged"},
		{name: "both torn", a: func(_, _, now []byte) []byte { return now[:len(now)-5] }, b: func(_, _, now []byte) []byte { return now[:len(now)-9] }, reason: "keyring-damaged"},
		{name: "both snapshots damaged", a: func(_, short, now []byte) []byte { return flip(now, len(short)-30) }, b: func(_, short, now []byte) []byte { return flip(now, len(short)-31) }, reason: "keyring-damaged"},
		{name: "both older", a: oldBytes, b: oldBytes, reason: "root-missing"},
		{name: "both missing", a: none, b: none, reason: "no-keyring"},
		{name: "both something else", a: func(_, _, _ []byte) []byte { return []byte("x") }, b: func(_, _, _ []byte) []byte { return []byte("y") }, reason: "keyring-damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, subjects, old, short, now := build(t)
			for i, f := range []func(old, short, now []byte) []byte{c.a, c.b} {
				if err := os.Remove(h.o.Copies[i]); err != nil {
					t.Fatal(err)
				}
				if content := f(old, short, now); content != nil {
					if err := os.WriteFile(h.o.Copies[i], content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			k, err := seal.Open(t.Context(), h.o)
			if c.reason != "" {
				wantReason(t, "open", err, core.Unready, c.reason)
				if err == nil {
					_ = k.Close()
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = k.Close() }()
			want := []bool{false, true, true, !c.lost}
			for i, s := range subjects {
				if k.Has(s) != want[i] {
					t.Errorf("subject %d: has %v, want %v", i, k.Has(s), want[i])
				}
			}
			good := now
			if c.lost {
				good = short
			}
			for _, path := range h.o.Copies {
				if !bytes.Equal(readFile(t, path), good) {
					t.Errorf("%s was not repaired", path)
				}
			}
			addSubjects(t, k, 1) // and it goes on
		})
	}
}

func none(_, _, _ []byte) []byte           { return nil }
func oldBytes(old, _, _ []byte) []byte     { return old }
func shortBytes(_, short, _ []byte) []byte { return short }
func nowBytes(_, _, now []byte) []byte     { return now }

func TestOldKeyringIsNamed(t *testing.T) {
	h := newHouse(t, t.TempDir())
	k := h.create(t)
	s := addSubjects(t, k, 2)
	old := readFile(t, h.o.Copies[0])
	for i := range s {
		if _, err := k.Shred(t.Context(), seal.Order{Subjects: s[i : i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range h.o.Copies {
		if err := os.WriteFile(path, old, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := seal.Open(t.Context(), h.o)
	wantReason(t, "old keyring", err, core.Unready, "root-missing")
	for _, word := range []string{"generation 1", "generation 3"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the refusal does not name %s: %v", word, err)
		}
	}
	// With the old root brought back as well, it is refused just the same.
	if err := h.roots.Create(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	_, err = seal.Open(t.Context(), h.o)
	wantReason(t, "old keyring with a root of its number", err, core.Unready, "keyring-old")
}
