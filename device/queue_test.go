package device

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func mustQueue(t testing.TB, dir string, maxBytes int64) *queue {
	t.Helper()
	q, err := openQueue(dir, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.close() })
	return q
}

func mustPut(t testing.TB, q *queue, seq uint64, payload string) {
	t.Helper()
	if err := q.put(&record{boot: 1, seq: seq, stream: "s", payload: []byte(payload)}); err != nil {
		t.Fatal(err)
	}
}

// drain gives the seqs that next gives until there is none.
func drain(t testing.TB, q *queue) (seqs []uint64, at []place) {
	t.Helper()
	for {
		r, p, ok, err := q.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return seqs, at
		}
		seqs, at = append(seqs, r.seq), append(at, p)
	}
}

func upTo(from, to uint64) (s []uint64) {
	for i := from; i <= to; i++ {
		s = append(s, i)
	}
	return s
}

func wantSeqs(t *testing.T, what string, got, want []uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestQueueInOrderAndOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := mustQueue(t, dir, minQueueBytes)
	for i := range uint64(10) {
		mustPut(t, q, i+1, "payload")
	}
	got, at := drain(t, q)
	wantSeqs(t, "first pass", got, upTo(1, 10))
	got, _ = drain(t, q)
	wantSeqs(t, "no second pass", got, nil)
	for _, i := range []int{0, 1, 2, 4, 7} { // a hole: acks may come in any order
		if err := q.ack(at[i]); err != nil {
			t.Fatal(err)
		}
	}
	q.rewind()
	got, _ = drain(t, q)
	wantSeqs(t, "after acks", got, []uint64{4, 6, 7, 9, 10})
	if n, _, _ := q.levels(); n != 5 {
		t.Errorf("%d pending, want 5", n)
	}
	if err := q.ack(at[0]); err != nil { // twice
		t.Fatal(err)
	}
	if n, _, _ := q.levels(); n != 5 {
		t.Errorf("%d pending after an ack that came twice, want 5", n)
	}
	// A new start knows of the acks without a gap, and sends the others again.
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	q = mustQueue(t, dir, minQueueBytes)
	mustPut(t, q, 11, "payload")
	got, at = drain(t, q)
	wantSeqs(t, "second start", got, upTo(4, 11))
	for _, p := range at {
		if err := q.ack(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	q = mustQueue(t, dir, minQueueBytes)
	got, _ = drain(t, q)
	wantSeqs(t, "third start", got, nil)
	if _, b, _ := q.levels(); b > 100 {
		t.Errorf("an empty queue takes %d bytes", b)
	}
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := mustQueue(t, dir, minQueueBytes)
	payload := string(bytes.Repeat([]byte("x"), 1000))
	const n = 500
	for i := range uint64(n) {
		mustPut(t, q, i+1, payload)
	}
	pending, size, l := q.levels()
	if size > minQueueBytes {
		t.Errorf("%d bytes, more than %d", size, minQueueBytes)
	}
	if uint64(pending)+l.Dropped != n {
		t.Errorf("%d kept and %d counted as dropped, of %d", pending, l.Dropped, n)
	}
	got, _ := drain(t, q)
	wantSeqs(t, "the newest stay", got, upTo(l.Dropped+1, n))
	if pending < 40 {
		t.Errorf("only %d readings fit", pending)
	}
	var onDisk int64
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		onDisk += st.Size()
	}
	if onDisk > minQueueBytes {
		t.Errorf("%d bytes on disk", onDisk)
	}
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	if _, _, again := mustQueue(t, dir, minQueueBytes).levels(); again != l {
		t.Errorf("after a restart the loss is %+v, want %+v", again, l)
	}
}

// TestDropWhileUnderWay: readings that are dropped while they are sent are
// neither sent again nor confused with others when their acks come.
func TestDropWhileUnderWay(t *testing.T) {
	t.Parallel()
	q := mustQueue(t, t.TempDir(), minQueueBytes)
	payload := string(bytes.Repeat([]byte("x"), 1000))
	for i := range uint64(10) {
		mustPut(t, q, i+1, payload)
	}
	_, at := drain(t, q)
	for i := range uint64(200) {
		mustPut(t, q, i+11, payload)
	}
	before, _, _ := q.levels()
	for _, p := range at {
		if err := q.ack(p); err != nil {
			t.Fatal(err)
		}
	}
	if after, _, l := q.levels(); after != before || l.Dropped == 0 {
		t.Errorf("%d pending, then %d; %d dropped", before, after, l.Dropped)
	}
	_, _, l := q.levels()
	got, _ := drain(t, q)
	wantSeqs(t, "what is left", got, upTo(max(l.Dropped, 10)+1, 210))
}

// TestTornEnd: for every length to which a crash may cut the last segment, the
// whole records before it are there and the torn one is not.
func TestTornEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := mustQueue(t, dir, minQueueBytes)
	var ends []int64
	for i := range uint64(3) {
		mustPut(t, q, i+1, fmt.Sprintf("payload %d", i))
		ends = append(ends, q.active().size)
	}
	name := q.active().f.Name()
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		again := t.TempDir()
		if err := os.WriteFile(filepath.Join(again, filepath.Base(name)), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		q := mustQueue(t, again, minQueueBytes)
		want := uint64(0)
		for _, e := range ends {
			if int64(n) >= e {
				want++
			}
		}
		got, _ := drain(t, q)
		wantSeqs(t, fmt.Sprintf("cut to %d bytes", n), got, upTo(1, want))
		if _, _, l := q.levels(); l.Damaged != 0 {
			t.Errorf("cut to %d bytes: a torn end is counted as damage", n)
		}
		mustPut(t, q, 9, "next")
		if got, _ = drain(t, q); !slices.Equal(got, []uint64{9}) {
			t.Errorf("cut to %d bytes: the next reading is %v", n, got)
		}
	}
}

// TestDamagedMiddle: a flipped bit in an older segment costs the readings from
// there to the segment's end, is counted, and nothing else.
func TestDamagedMiddle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := mustQueue(t, dir, minQueueBytes)
	mustPut(t, q, 1, "one")
	first := q.active().f.Name()
	at := q.active().size
	mustPut(t, q, 2, "two")
	mustPut(t, q, 3, "three")
	if err := q.rotate(); err != nil {
		t.Fatal(err)
	}
	mustPut(t, q, 4, "four")
	flip := func() {
		b, err := os.ReadFile(first)
		if err != nil {
			t.Fatal(err)
		}
		b[at+20] ^= 1
		if err := os.WriteFile(first, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("while running", func(t *testing.T) {
		flip()
		got, _ := drain(t, q)
		wantSeqs(t, "readings", got, []uint64{1, 4})
		if n, _, l := q.levels(); l.Damaged != 1 || n != 2 {
			t.Errorf("%d pending, %+v", n, l)
		}
		flip() // back
	})
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	t.Run("at a start", func(t *testing.T) {
		flip()
		q := mustQueue(t, dir, minQueueBytes)
		got, _ := drain(t, q)
		wantSeqs(t, "readings", got, []uint64{1, 4})
		if _, _, l := q.levels(); l.Damaged != 2 {
			t.Errorf("%+v", l)
		}
	})
}

// TestFullDisk: a reading that cannot be written is an error, and what was
// there before still is.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	q := mustQueue(t, t.TempDir(), minQueueBytes)
	mustPut(t, q, 1, "one")
	// A file that cannot be written stands for the disk.
	good := q.active().f
	ro, err := os.Open(good.Name())
	if err != nil {
		t.Fatal(err)
	}
	q.active().f = ro
	if err := q.put(&record{boot: 1, seq: 2, stream: "s", payload: []byte("two")}); err == nil {
		t.Fatal("a reading was taken that cannot be written")
	}
	_ = good.Close()
	mustPut(t, q, 3, "three") // in a new segment
	got, _ := drain(t, q)
	wantSeqs(t, "readings", got, []uint64{1, 3})
}

// TestQueueAgainstModel runs random operations on the queue and on a plain
// list, with restarts between.
func TestQueueAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 8))
		dir := t.TempDir()
		q := mustQueue(t, dir, 1<<20)
		var model []uint64         // not acked, in order
		acked := map[uint64]bool{} // acked in this or an earlier start
		under := map[uint64]place{}
		seq := uint64(0)
		for range 400 {
			switch r.IntN(12) {
			default:
				seq++
				mustPut(t, q, seq, string(junkText(r)))
				model = append(model, seq)
			case 6, 7:
				rec, p, ok, err := q.next()
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					if acked[rec.seq] {
						t.Fatalf("seed %d: %d is given again after its ack", seed, rec.seq)
					}
					under[rec.seq] = p
				}
			case 8, 9:
				for s, p := range under {
					if err := q.ack(p); err != nil {
						t.Fatal(err)
					}
					acked[s] = true
					delete(under, s)
					model = slices.DeleteFunc(model, func(x uint64) bool { return x == s })
					break
				}
			case 10:
				q.rewind()
				clear(under)
			case 11:
				if err := q.close(); err != nil {
					t.Fatal(err)
				}
				q = mustQueue(t, dir, 1<<20)
				clear(under)
				// Acks beyond a gap may be forgotten; no reading may be.
				got, _ := drain(t, q)
				for _, s := range model {
					if !slices.Contains(got, s) {
						t.Fatalf("seed %d: %d is lost", seed, s)
					}
				}
				if !slices.IsSorted(got) {
					t.Fatalf("seed %d: out of order: %v", seed, got)
				}
				model = got
				for _, s := range got {
					delete(acked, s)
				}
				q.rewind()
			}
			if n, _, _ := q.levels(); n != len(model) {
				t.Fatalf("seed %d: %d pending, want %d", seed, n, len(model))
			}
		}
	}
}

func junkText(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(3000))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// FuzzSegment: whatever lies in a segment file, the queue opens, gives only
// records with a good checksum, and takes new ones.
func FuzzSegment(f *testing.F) {
	good := appendRecord([]byte(segmentMark), &record{boot: 1, seq: 2, stream: "s", payload: []byte("{}")})
	f.Add(good)
	f.Add(append(good, good[len(segmentMark):]...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(segmentPath(dir, 7), b, 0o600); err != nil {
			t.Fatal(err)
		}
		q := mustQueue(t, dir, 1<<20)
		before, _ := drain(t, q)
		mustPut(t, q, 99, "new")
		after, at := drain(t, q)
		if !slices.Equal(after, []uint64{99}) {
			t.Errorf("after %v the new one is %v", before, after)
		}
		if err := q.ack(at[0]); err != nil {
			t.Error(err)
		}
	})
}
