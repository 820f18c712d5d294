package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
)

func TestOrderAndRollback(t *testing.T) {
	f := newFixture(t)
	f.record(t, sample(0), sample(1))
	refused := errors.New("refused")
	err := f.store.Update(t.Context(), func(tx *store.Tx) error {
		if err := tx.Record(t.Context(), sample(99)); err != nil {
			return err
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	f.record(t, sample(2))
	if es, err := f.Entries(t.Context(), 0, 10); err != nil || len(es) != 1 {
		t.Errorf("before the sequencer ran: %d entries, %v", len(es), err)
	}
	f.sequence(t)
	if n, err := f.Sequence(t.Context()); n != 0 || err != nil {
		t.Errorf("with nothing pending: %d, %v", n, err)
	}
	es, err := f.Entries(t.Context(), 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range es {
		got = append(got, e.Record.Facts[0].Value)
	}
	if fmt.Sprint(got) != "[0 1 2]" {
		t.Errorf("entries %v, want [0 1 2]: in order, without the one that was rolled back", got)
	}
	if _, err := f.Prove(t.Context(), 2); core.ReasonOf(err) != "not-signed-yet" {
		t.Errorf("proof of an unsigned entry: %v", err)
	}
	for _, pos := range []uint64{4, 1 << 40, 1 << 63} {
		if _, err := f.Get(t.Context(), pos); core.KindOf(err) != core.Unknown {
			t.Errorf("entry %d: %v, want unknown", pos, err)
		}
	}
	if _, err := f.Entries(t.Context(), 3, 1); core.KindOf(err) != core.Invalid {
		t.Errorf("a range backwards: %v", err)
	}
	if _, err := f.Consistency(t.Context(), 1, 4); core.KindOf(err) != core.Invalid {
		t.Errorf("consistency with an unsigned size: %v", err)
	}
}

// TestSequencersRace runs several ledgers on one store, as several nodes would,
// while others write: nothing is lost, doubled or forked.
func TestSequencersRace(t *testing.T) {
	const writers, each, sequencers = 3, 60, 3
	f := newFixture(t)
	ctx, stop := context.WithCancel(t.Context())
	var writing, sequencing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				err := f.store.Update(t.Context(), func(tx *store.Tx) error { return tx.Record(t.Context(), sample(w*1000+i)) })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range sequencers {
		l, err := ledger.Open(t.Context(), f.deps)
		if err != nil {
			t.Fatal(err)
		}
		sequencing.Go(func() {
			for ctx.Err() == nil {
				if _, err := l.Sequence(t.Context()); err != nil && !errors.Is(err, ledger.ErrHeadMoved) {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	stop()
	sequencing.Wait()
	f.sequence(t)
	c := f.sign(t)
	if want := uint64(1 + writers*each); c.Size != want {
		t.Errorf("%d entries, want %d", c.Size, want)
	}
	es, err := f.Entries(t.Context(), 1, c.Size)
	if err != nil {
		t.Fatal(err)
	}
	seen, last := map[string]bool{}, map[int]int{}
	for _, e := range es {
		var n int
		if _, err := fmt.Sscan(e.Record.Facts[0].Value, &n); err != nil {
			t.Fatal(err)
		}
		if seen[e.Record.Facts[0].Value] {
			t.Errorf("record %d stands twice", n)
		}
		seen[e.Record.Facts[0].Value] = true
		if w := n / 1000; last[w] > n {
			t.Errorf("record %d stands after %d", n, last[w])
		}
		last[n/1000] = n
	}
	f.wantProved(t, c.Note)
}

// TestStaleHeadWritesNothing is the race in slow motion: a transaction that
// saw an older head must fail whole.
func TestStaleHeadWritesNothing(t *testing.T) {
	f := newFixture(t)
	stale := origins(t, f.store)[0]
	f.record(t, sample(0))
	var rows []ledger.Pending
	err := f.store.View(t.Context(), func(tx *store.Tx) error {
		var err error
		rows, err = tx.LedgerPending(t.Context(), 10)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.sequence(t)
	for name, fn := range map[string]func(tx *store.Tx) error{
		"head": func(tx *store.Tx) error { return tx.MoveLedgerHead(t.Context(), stale, 2, core.Hash{1}) },
		"rows": func(tx *store.Tx) error { return tx.TakeLedgerPending(t.Context(), 2, rows) },
	} {
		if err := f.store.Update(t.Context(), fn); !errors.Is(err, ledger.ErrHeadMoved) {
			t.Errorf("%s: %v, want ErrHeadMoved", name, err)
		}
	}
	f.wantProved(t, f.sign(t).Note)
}

// TestRun follows the job through its day: an index soon, a signature within a
// second or so, at most one per second, one per hour when idle.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		time.Sleep(time.Second)

		f.record(t, sample(0))
		time.Sleep(250 * time.Millisecond)
		if got := f.Status().Size; got != 2 {
			t.Errorf("after 250 ms: %d entries, want 2", got)
		}
		time.Sleep(1200 * time.Millisecond)
		if got := f.Status().Signed; got != 2 {
			t.Errorf("after 1.4 s: %d signed, want 2", got)
		}

		signatures, last := 0, f.Latest().Size
		for i := range 100 { // ten seconds of steady work
			f.record(t, sample(i))
			time.Sleep(100 * time.Millisecond)
			if n := f.Latest().Size; n != last {
				signatures, last = signatures+1, n
			}
		}
		if signatures < 7 || signatures > 11 {
			t.Errorf("%d signatures in ten busy seconds, want about 9", signatures)
		}

		time.Sleep(3 * time.Second)
		before := f.Status().LastCheckpoint
		time.Sleep(50 * time.Minute)
		if got := f.Status().LastCheckpoint; got != before {
			t.Error("an idle ledger was signed within the hour")
		}
		time.Sleep(11 * time.Minute)
		if got := f.Status().LastCheckpoint; got == before {
			t.Error("an idle ledger was not looked at for more than an hour")
		}
		if ago := time.Since(f.Status().LastSequence); ago > time.Second {
			t.Errorf("the sequencer last ran %v ago", ago)
		}

		// While the kept checkpoint is gone, nothing is signed or added.
		moved := f.deps.CheckpointFile + ".away"
		if err := os.Rename(f.deps.CheckpointFile, moved); err != nil {
			t.Fatal(err)
		}
		f.record(t, sample(1))
		time.Sleep(5 * time.Second)
		size := f.Status().Size
		f.record(t, sample(2))
		time.Sleep(time.Minute)
		if st := f.Status(); core.ReasonOf(st.Trouble) != "ledger-checkpoint-missing" || st.Size != size || st.Signed >= st.Size {
			t.Errorf("without the kept checkpoint: %+v", st)
		}
		if err := os.Rename(moved, f.deps.CheckpointFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if st := f.Status(); st.Trouble != nil || st.Signed != size+1 {
			t.Errorf("with the file back: %+v, want %d signed", st, size+1)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = f.store.Close() // inside the bubble: its goroutines belong to it
	})
}

// TestKilled kills a process that records, sequences and signs, at random
// moments, and holds that whatever was published before is a prefix of what is
// there after.
func TestKilled(t *testing.T) {
	if home := os.Getenv("HAWSER_LEDGER_TEST_HOME"); home != "" {
		workUntilKilled(t, home)
		return
	}
	f := newFixture(t)
	c := f.grow(t, 1)
	f.closeStore(t)
	for round := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "HAWSER_LEDGER_TEST_HOME="+f.home)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		started := filepath.Join(f.home, "started")
		for range 500 {
			if _, err := os.Stat(started); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Duration(20+37*round) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatalf("the process ended by itself:\n%s", out.String())
		}
		if err := os.Remove(started); err != nil {
			t.Fatalf("the process never began:\n%s", out.String())
		}
		published, err := os.ReadFile(f.deps.CheckpointFile)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.openAgain(t); err != nil {
			t.Fatal(err)
		}
		f.sequence(t)
		after := f.sign(t)
		f.wantProved(t, c.Note)
		f.wantProved(t, published)
		if after.Size <= c.Size {
			t.Errorf("round %d: nothing was added", round)
		}
		c = after
		f.closeStore(t)
	}
	t.Logf("%d entries survived 6 kills", c.Size)
}

func workUntilKilled(t *testing.T, home string) {
	key, err := ledger.LoadKey(filepath.Join(home, "ledger.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, filepath.Join(home, "data"))
	f := &fixture{store: s, home: home, deps: depsOn(s, key, home)}
	if f.Ledger, err = ledger.Open(t.Context(), f.deps); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		f.record(t, sample(i), sample(i))
		f.sequence(t)
		f.sign(t)
		if i == 0 {
			if err := os.WriteFile(filepath.Join(home, "started"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
