package journal

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Whoever has read the journal up to a barrier has every record that was
// submitted before, the one that was being committed too.
func TestBarrierIsBehindWhatWasSubmitted(t *testing.T) {
	j := open(t, testOptions(t.TempDir()))
	n := uint64(0)
	for range 30 {
		for range 7 {
			if err := j.Submit(record(n), nil, 0); err != nil {
				t.Fatal(err)
			}
			n++
		}
		seq, err := j.Barrier(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := uint64(0)
		r := j.Reader(0)
		for at := uint64(0); at < seq; {
			b, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			at, got = b.Seq, got+uint64(len(b.Records))
		}
		r.Close()
		if got != n {
			t.Fatalf("%d records up to the barrier, %d were submitted before it", got, n)
		}
	}
	if seq, err := j.Barrier(t.Context()); err != nil || seq != j.Durable() {
		t.Errorf("with nothing under way: %d, %v", seq, err)
	}
}

// A barrier waits no longer than it is let, and what failed is not waited for.
func TestBarrierEnds(t *testing.T) {
	j := open(t, testOptions(t.TempDir()))
	block := &blocker{entered: make(chan struct{}), leave: make(chan struct{})}
	if err := j.Submit(record(1), block, 0); err != nil {
		t.Fatal(err)
	}
	<-block.entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := j.Barrier(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a barrier behind a commit that hangs: %v", err)
	}
	close(block.leave)
	if _, err := j.Barrier(t.Context()); err != nil {
		t.Error(err)
	}
	e, _ := j.current()
	e.home.srv.Shutdown() // as after a fatal error inside
	for range 10 {
		_ = j.Submit(record(2), nil, 0) // fails now or later
	}
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := j.Barrier(ctx); err != nil {
		t.Errorf("a barrier behind what failed: %v", err)
	}
}

// blocker is a completion that hangs, as no completion may.
type blocker struct{ entered, leave chan struct{} }

func (b *blocker) Done(uint64, error) {
	close(b.entered)
	<-b.leave
}

// What a journal writes to see whether the disk is well again is given to its
// readers too: they come as far as Durable says.
func TestReadersComeAsFarAsAProbe(t *testing.T) {
	j := open(t, testOptions(t.TempDir()))
	got := newTally()
	if err := j.Submit(record(1), got, 1); err != nil {
		t.Fatal(err)
	}
	got.wait(t, 1)
	e, _ := j.current()
	e.home.srv.Shutdown()
	if err := j.Submit(record(2), got, 2); err != nil {
		t.Fatal(err)
	}
	got.wait(t, 2)
	eventually(t, "the store is back", func() bool { return j.State().Trouble == nil && j.Durable() > 1 })
	r := j.Reader(0)
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	empty := 0
	for at := uint64(0); at < j.Durable(); {
		b, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("a reader stays at %d of %d: %v", at, j.Durable(), err)
		}
		if at = b.Seq; len(b.Records) == 0 {
			empty++
		}
	}
	if empty == 0 {
		t.Error("there was no probe: this test shows nothing")
	}
}
