package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// tally is a Completion that remembers what it heard, in order.
type tally struct {
	mu   sync.Mutex
	ok   []uint64
	bad  []uint64
	errs []error
	more chan struct{}
}

func newTally() *tally { return &tally{more: make(chan struct{}, 1)} }

func (t *tally) Done(token uint64, err error) {
	t.mu.Lock()
	if err == nil {
		t.ok = append(t.ok, token)
	} else {
		t.bad, t.errs = append(t.bad, token), append(t.errs, err)
	}
	t.mu.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
}

func (t *tally) counts() (ok, bad int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.ok), len(t.bad)
}

// wait waits until n completions have come, and returns the good and bad.
func (t *tally) wait(tb testing.TB, n int) (ok, bad int) {
	tb.Helper()
	late := time.After(30 * time.Second)
	for {
		if ok, bad = t.counts(); ok+bad >= n {
			return ok, bad
		}
		select {
		case <-t.more:
		case <-late:
			tb.Fatalf("%d completions of %d after 30 s", ok+bad, n)
		}
	}
}

func testOptions(dir string) Options {
	return Options{Dir: dir, Now: time.Now, MinFreeBytes: -1}
}

func open(tb testing.TB, opt Options) *Journal {
	tb.Helper()
	j, err := Open(tb.Context(), opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := j.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	return j
}

func record(n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("record "), n)
}

// readAll reads n records from a new reader.
func readAll(tb testing.TB, j *Journal, after uint64, n int) (records [][]byte, last uint64) {
	tb.Helper()
	r := j.Reader(after)
	defer r.Close()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	for len(records) < n {
		b, err := r.Next(ctx)
		if err != nil {
			tb.Fatalf("after %d records: %v", len(records), err)
		}
		if b.Missing != 0 || b.Seq <= last {
			tb.Fatalf("batch %d after %d, %d missing", b.Seq, last, b.Missing)
		}
		last = b.Seq
		for _, rec := range b.Records {
			records = append(records, bytes.Clone(rec))
		}
	}
	return records, last
}

func TestEverySubmittedRecordIsReadBackInOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := open(t, testOptions(dir))
	const n = 5000
	got := newTally()
	for i := range uint64(n) {
		if err := j.Submit(record(i), got, i); err != nil {
			t.Fatal(err)
		}
	}
	if ok, bad := got.wait(t, n); ok != n || bad != 0 {
		t.Fatalf("%d acknowledged, %d failed, want %d and 0", ok, bad, n)
	}
	for i, token := range got.ok {
		if token != uint64(i) {
			t.Fatalf("completion %d is for token %d: out of order", i, token)
		}
	}
	check := func(j *Journal) uint64 {
		records, last := readAll(t, j, 0, n)
		for i, rec := range records {
			if !bytes.Equal(rec, record(uint64(i))) {
				t.Fatalf("record %d is %q", i, rec)
			}
		}
		return last
	}
	last := check(j)
	id := j.Incarnation()
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := j.Submit(record(0), nil, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("submit after close: %v", err)
	}

	// Opened again it is the same one; made anew it is another.
	again := open(t, testOptions(dir))
	if again.Incarnation() != id || check(again) != last {
		t.Errorf("reopened as %s at %d, want %s at %d", again.Incarnation(), again.State().Last, id, last)
	}
	if other := open(t, testOptions(t.TempDir())); other.Incarnation() == id || other.Incarnation() == "" {
		t.Errorf("two journals of incarnation %q", id)
	}
}

func TestCloseCommitsWhatWasSubmitted(t *testing.T) {
	j := open(t, testOptions(t.TempDir()))
	got := newTally()
	for i := range uint64(300) {
		if err := j.Submit(record(i), got, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, bad := got.counts(); ok != 300 || bad != 0 {
		t.Errorf("%d acknowledged, %d failed after close, want 300 and 0", ok, bad)
	}
	if err := j.Close(t.Context()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := j.Reader(0).Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("reading after close: %v", err)
	}
}

func TestReaderWaitsAndStops(t *testing.T) {
	j := open(t, testOptions(t.TempDir()))
	r := j.Reader(0)
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("an empty journal gave %v", err)
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		_ = j.Submit(record(7), nil, 0)
	}()
	b, err := r.Next(t.Context())
	if err != nil || len(b.Records) != 1 || !bytes.Equal(b.Records[0], record(7)) {
		t.Fatalf("got %v %v", b, err)
	}
	// A reader that has seen more than there is must not skip what comes.
	if _, err := j.Reader(b.Seq + 5).Next(t.Context()); !errors.Is(err, ErrBehind) {
		t.Errorf("a reader ahead of the journal: %v, want ErrBehind", err)
	}
}

func TestSubmitBounds(t *testing.T) {
	opt := testOptions(t.TempDir())
	opt.QueueRecords = 10
	j := open(t, opt)
	if err := j.Submit(make([]byte, maxRecordBytes+1), nil, 0); core.KindOf(err) != core.TooLarge {
		t.Errorf("oversize record: %v", err)
	}
	got := newTally()
	if err := j.Submit(make([]byte, maxRecordBytes), got, 1); err != nil {
		t.Errorf("largest record: %v", err)
	}
	got.wait(t, 1)

	// A committer held up: the queue fills and says so; nothing is lost.
	hold := make(chan struct{})
	blocked := make(chan struct{})
	if err := j.Submit(record(0), holdUp{blocked, hold}, 0); err != nil {
		t.Fatal(err)
	}
	<-blocked
	busy := 0
	for i := range uint64(20) {
		err := j.Submit(record(i), got, i)
		if errors.Is(err, ErrFull) && core.ReasonOf(err) == "journal-busy" {
			busy++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	close(hold)
	if ok, bad := got.wait(t, 1+20-busy); busy < 10 || ok != 21-busy || bad != 0 {
		t.Errorf("%d busy, %d acknowledged, %d failed: want at least 10 and the rest acknowledged", busy, ok, bad)
	}
}

// holdUp is the completion of somebody who breaks the rule not to block.
type holdUp struct{ blocked, hold chan struct{} }

func (h holdUp) Done(uint64, error) { close(h.blocked); <-h.hold }

func eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within 20 s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, opt := range map[string]Options{
		"no dir":      {Now: time.Now},
		"no clock":    {Dir: t.TempDir()},
		"tiny":        {Dir: t.TempDir(), Now: time.Now, MaxBytes: 1 << 20},
		"tiny queue":  {Dir: t.TempDir(), Now: time.Now, QueueBytes: 1000},
		"not a place": {Dir: "/dev/null/journal", Now: time.Now},
	} {
		if j, err := Open(t.Context(), opt); err == nil {
			t.Errorf("%s: opened", name)
			_ = j.Close(t.Context())
		}
	}
}

func TestConcurrentSubmitters(t *testing.T) {
	j := open(t, testOptions(t.TempDir()))
	const workers, each = 8, 2000
	got := make([]*tally, workers)
	var wg sync.WaitGroup
	for w := range workers {
		got[w] = newTally()
		wg.Go(func() {
			for i := range uint64(each) {
				if err := j.Submit(fmt.Appendf(nil, "%d %d", w, i), got[w], i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for w := range workers {
		if ok, bad := got[w].wait(t, each); ok != each || bad != 0 {
			t.Fatalf("worker %d: %d acknowledged, %d failed", w, ok, bad)
		}
		for i, token := range got[w].ok {
			if token != uint64(i) {
				t.Fatalf("worker %d: completion %d is for %d", w, i, token)
			}
		}
	}
	next := [workers]uint64{}
	records, _ := readAll(t, j, 0, workers*each)
	for _, rec := range records {
		var w int
		var i uint64
		if _, err := fmt.Sscanf(string(rec), "%d %d", &w, &i); err != nil || i != next[w] {
			t.Fatalf("record %q, want number %d of its worker (%v)", rec, next[w], err)
		}
		next[w]++
	}
}
