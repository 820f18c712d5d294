package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
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
	if _, err := j.Reader(0).Next(t.Context()); !errors.Is(err, ErrClosed) && err == nil {
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

// What was read can be trimmed; the numbering goes on, even after the process
// was killed with everything trimmed.
func TestTrimKeepsTheNumbering(t *testing.T) {
	dir := t.TempDir()
	j := open(t, testOptions(dir))
	got := newTally()
	for i := range uint64(20) {
		if err := j.Submit(record(i), got, i); err != nil {
			t.Fatal(err)
		}
		got.wait(t, int(i)+1) // one batch each
	}
	if err := j.Trim(t.Context(), 11); err != nil {
		t.Fatal(err)
	}
	if s := j.State(); s.First != 11 || s.Last != 20 {
		t.Fatalf("holds %d to %d, want 11 to 20", s.First, s.Last)
	}
	if b, err := j.Reader(5).Next(t.Context()); err != nil || b.Seq != 11 || b.Missing != 5 {
		t.Errorf("a reader at 5 got %d with %d missing (%v), want 11 with 5", b.Seq, b.Missing, err)
	}
	if err := j.Trim(t.Context(), 1<<40); err != nil {
		t.Fatal(err)
	}
	if s := j.State(); s.First != 20 || s.Last != 20 {
		t.Fatalf("holds %d to %d after trimming all, want the newest", s.First, s.Last)
	}
	copied := filepath.Join(t.TempDir(), "as-after-a-kill")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again := open(t, testOptions(copied))
	if s := again.State(); s.Last != 20 || again.Incarnation() != j.Incarnation() {
		t.Errorf("reopened at %d as %s, want 20 as %s", s.Last, again.Incarnation(), j.Incarnation())
	}
	if err := again.Submit(record(99), got, 99); err != nil {
		t.Fatal(err)
	}
	if b, err := again.Reader(20).Next(t.Context()); err != nil || b.Seq != 21 {
		t.Errorf("next batch is %d (%v), want 21", b.Seq, err)
	}
}

// At its limit the journal acknowledges nothing and loses nothing; a Trim
// brings it back by itself.
func TestFullJournalStopsAndRecovers(t *testing.T) {
	opt := testOptions(t.TempDir())
	opt.MaxBytes = 4 << 20
	j := open(t, opt)
	got := newTally()
	rec := make([]byte, 100<<10)
	submitted := 0
	var err error
	for err == nil && submitted < 1000 {
		binary.BigEndian.PutUint64(rec, uint64(submitted))
		if err = j.Submit(rec, got, uint64(submitted)); err == nil {
			submitted++
			got.wait(t, submitted)
			if _, bad := got.counts(); bad > 0 {
				break
			}
		}
	}
	ok, bad := got.wait(t, submitted)
	if ok < 20 || ok > 42 || bad == 0 {
		t.Fatalf("%d records of 100 KB acknowledged and %d not, with room for 41", ok, bad)
	}
	if err := j.Submit(rec, got, 0); !errors.Is(err, ErrFull) || core.KindOf(err) != core.Unavail {
		t.Errorf("submit to a full journal: %v, want ErrFull", err)
	}
	if s := j.State(); !errors.Is(s.Trouble, ErrFull) || s.Bytes > s.MaxBytes || s.Bytes < 2<<20 {
		t.Errorf("state of a full journal: %+v", s)
	}
	for _, err := range got.errs {
		if !errors.Is(err, ErrFull) {
			t.Errorf("a record was failed with %v, want ErrFull", err)
		}
	}
	records, last := readAll(t, j, 0, ok)
	for i, r := range records {
		if binary.BigEndian.Uint64(r) != uint64(i) {
			t.Fatalf("record %d is number %d", i, binary.BigEndian.Uint64(r))
		}
	}
	if err := j.Trim(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	eventually(t, "submit after a trim", func() bool { return j.Submit(rec, got, 77) == nil })
	if ok2, _ := got.wait(t, submitted+1); ok2 != ok+1 {
		t.Errorf("the record after the trim was not acknowledged")
	}
	if s := j.State(); s.Trouble != nil {
		t.Errorf("still in trouble: %v", s.Trouble)
	}
}

func eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within 20 s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A store that dies under the journal costs the records in flight their
// acknowledgement, and nothing else.
func TestStoreFailureIsHealed(t *testing.T) {
	j := open(t, testOptions(t.TempDir()))
	got := newTally()
	for i := range uint64(50) {
		if err := j.Submit(record(i), got, i); err != nil {
			t.Fatal(err)
		}
	}
	got.wait(t, 50)
	id := j.Incarnation()
	reader := j.Reader(0)
	defer reader.Close()
	if _, err := reader.Next(t.Context()); err != nil {
		t.Fatal(err)
	}

	e, _ := j.current()
	e.srv.Shutdown() // as after a fatal error inside
	if err := j.Submit(record(50), got, 50); err != nil {
		t.Fatal(err)
	}
	if ok, bad := got.wait(t, 51); ok != 50 || bad != 1 {
		t.Fatalf("%d acknowledged, %d failed, want 50 and 1", ok, bad)
	}
	if err := got.errs[0]; core.KindOf(err) != core.Unavail {
		t.Errorf("failed with %v, want a passing trouble", err)
	}
	eventually(t, "submit after the store died", func() bool { return j.Submit(record(51), got, 51) == nil })
	if ok, _ := got.wait(t, 52); ok != 51 {
		t.Fatal("not acknowledged after the store came back")
	}
	if j.Incarnation() != id {
		t.Error("the incarnation changed")
	}
	records, _ := readAll(t, j, 0, 51)
	if !bytes.Equal(records[len(records)-1], record(51)) {
		t.Errorf("last record is %q", records[len(records)-1])
	}
	// The reader from before goes on where it was.
	for {
		b, err := reader.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(b.Records[len(b.Records)-1], record(51)) {
			break
		}
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
