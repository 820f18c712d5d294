package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// wellFormed is a copy of a snapshot and two additions under key.
func wellFormed(t testing.TB, key []byte) (raw []byte, ends []int) {
	t.Helper()
	h, err := makeHeader(7, []byte("a wrapped keyring key"))
	if err != nil {
		t.Fatal(err)
	}
	ch, err := newChain(key, h)
	if err != nil {
		t.Fatal(err)
	}
	c := newContents()
	c.control = secret{1}
	c.subjects[core.Subject{1}] = secret{2}
	c.epochs[core.Epoch{Keep: 30 * 24 * time.Hour, Start: 86400, Length: 24 * time.Hour}] = secret{3}
	c.destroyed[time.Hour] = 300
	c.last = rotation{before: 6, after: 7, order: core.Hash{4}}
	raw = bytes.Clone(h.raw)
	for _, entries := range [][]byte{
		c.encode(),
		appendSubjectEntry(nil, core.Subject{2}, secret{5}),
		appendSubjectEntry(nil, core.Subject{3}, secret{6}),
	} {
		frame, err := ch.seal(entries)
		if err != nil {
			t.Fatal(err)
		}
		ch.took(frame)
		raw = append(raw, frame...)
		ends = append(ends, len(raw))
	}
	return raw, ends
}

// FuzzImage gives the parser damaged copies. What it opens is always a prefix
// of what was written, frame by frame: nothing invented, moved or mixed.
func FuzzImage(f *testing.F) {
	key := bytes.Repeat([]byte{9}, secretBytes)
	raw, ends := wellFormed(f, key)
	f.Add(raw)
	f.Add(raw[:len(raw)-7])
	f.Add(raw[:ends[0]])
	f.Add(append(bytes.Clone(raw[:ends[1]]), make([]byte, 100)...))
	f.Add(append(bytes.Clone(raw[:ends[0]]), raw[ends[1]:]...)) // a frame left out
	f.Add([]byte(imageMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > headFixed { // get past the digest
			if at := headFixed + int(binary.BigEndian.Uint16(b[headFixed-2:])); len(b) >= at+sha256.Size {
				b = bytes.Clone(b)
				sum := sha256.Sum256(b[:at])
				copy(b[at:], sum[:])
			}
		}
		h, err := parseHeader(b)
		if err != nil {
			return
		}
		im, err := readImage(b, h, key)
		if err != nil {
			return
		}
		if im.end > len(b) || int(im.chain.n) > 3 {
			t.Fatalf("opened %d frames up to byte %d of %d", im.chain.n, im.end, len(b))
		}
		if im.tail == tailWhole && im.end != len(b) {
			t.Fatal("a copy with bytes after its last frame is called whole")
		}
		if got, want := len(im.contents.subjects), int(im.chain.n); got != want {
			t.Fatalf("%d subjects after %d frames", got, want)
		}
		if im.contents.subjects[core.Subject{1}] != (secret{2}) {
			t.Fatal("a secret was changed")
		}
	})
}

// FuzzContents gives the parser of entries what no frame would carry. What it
// accepts it writes again, and reads again as the same.
func FuzzContents(f *testing.F) {
	c := newContents()
	c.subjects[core.Subject{1}] = secret{2}
	c.epochs[core.Epoch{Keep: time.Hour, Start: -300, Length: 5 * time.Minute}] = secret{3}
	c.destroyed[time.Hour] = 300
	f.Add(c.encode())
	f.Add([]byte{entrySubject})
	f.Add([]byte{99, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		got := newContents()
		if got.apply(b) != nil {
			return
		}
		again := newContents()
		if err := again.apply(got.encode()); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if len(again.subjects) != len(got.subjects) || len(again.epochs) != len(got.epochs) ||
			len(again.destroyed) != len(got.destroyed) || again.control != got.control || again.last != got.last {
			t.Fatal("what was written is read differently")
		}
		for e := range got.epochs {
			if checkEpoch(e) != nil {
				t.Fatalf("an impossible epoch was read: %+v", e)
			}
		}
	})
}

// TestFramesStayInOrder moves, drops, doubles and mixes whole frames: each is
// authentic by itself and none of it passes.
func TestFramesStayInOrder(t *testing.T) {
	key := bytes.Repeat([]byte{9}, secretBytes)
	raw, ends := wellFormed(t, key)
	other, otherEnds := wellFormed(t, key)
	h, err := parseHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	head, snap, one, two := raw[:len(h.raw)], raw[len(h.raw):ends[0]], raw[ends[0]:ends[1]], raw[ends[1]:]
	for name, c := range map[string]struct {
		parts [][]byte
		ok    bool
	}{
		"as written":                {[][]byte{head, snap, one, two}, true},
		"swapped":                   {[][]byte{head, snap, two, one}, false},
		"dropped":                   {[][]byte{head, snap, two}, false},
		"doubled":                   {[][]byte{head, snap, one, one, two}, false},
		"snapshot of another copy":  {[][]byte{head, other[len(h.raw):otherEnds[0]], one, two}, false},
		"addition of another copy":  {[][]byte{head, snap, one, other[otherEnds[1]:]}, false},
		"no snapshot":               {[][]byte{head, one, two}, false},
		"only a header":             {[][]byte{head}, false},
		"length of the tail is off": {[][]byte{head, snap, one, longer(two)}, false},
	} {
		b := bytes.Join(c.parts, nil)
		im, err := readImage(b, h, key)
		if ok := err == nil && im.tail == tailWhole; ok != c.ok {
			t.Errorf("%s: whole is %v, %v", name, ok, err)
		}
	}
	if _, err := readImage(raw, h, bytes.Repeat([]byte{8}, secretBytes)); err == nil {
		t.Error("opened with another key")
	}
}

func longer(frame []byte) []byte {
	b := bytes.Clone(frame)
	binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)+1)
	return b
}
