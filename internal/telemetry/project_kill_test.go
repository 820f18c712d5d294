package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// executioner ends the world at its n-th step: before the step has happened,
// or after it has, but before anybody hears of it. From then on nothing works.
type executioner struct {
	mu     sync.Mutex
	steps  int
	at     int // 0: never
	after  bool
	cancel context.CancelFunc
	name   string // the step it ended at
	dead   bool
}

var errExecuted = errors.New("killed")

func (x *executioner) step(name string, do func() error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.dead {
		return errExecuted
	}
	x.steps++
	if x.steps != x.at {
		return do()
	}
	x.dead, x.name = true, name
	if x.after {
		x.name += ", done"
		if err := do(); err != nil {
			x.name += ": " + err.Error()
		}
	}
	x.cancel()
	return errExecuted
}

type mortalFiles struct {
	telemetry.Partitions
	x *executioner
}

func (m mortalFiles) Append(ctx context.Context, e core.Epoch, a *telemetry.Append) (h telemetry.Head, err error) {
	err = m.x.step("append", func() (err error) { h, err = m.Partitions.Append(context.WithoutCancel(ctx), e, a); return err })
	return h, err
}

func (m mortalFiles) Sync(ctx context.Context, es []core.Epoch) error {
	return m.x.step("sync", func() error { return m.Partitions.Sync(context.WithoutCancel(ctx), es) })
}

func (m mortalFiles) Freeze(ctx context.Context, e core.Epoch) error {
	return m.x.step("freeze", func() error { return m.Partitions.Freeze(context.WithoutCancel(ctx), e) })
}

func (m mortalFiles) Remove(ctx context.Context, e core.Epoch) error {
	return m.x.step("remove", func() error { return m.Partitions.Remove(context.WithoutCancel(ctx), e) })
}

type mortalLate struct {
	telemetry.LateLane
	x *executioner
}

func (m mortalLate) Park(ctx context.Context, rows []telemetry.Row) error {
	if len(rows) == 0 {
		return nil
	}
	return m.x.step("park", func() error { return m.LateLane.Park(ctx, rows) })
}

func (m mortalLate) Drop(ctx context.Context, e core.Epoch, upTo uint64) (n uint64, err error) {
	err = m.x.step("drop", func() (err error) { n, err = m.LateLane.Drop(context.WithoutCancel(ctx), e, upTo); return err })
	return n, err
}

func (x *executioner) update(next updateFunc) updateFunc {
	return func(ctx context.Context, fn func(telemetry.ProjectionTx) error) error {
		return x.step("update", func() error { return next(context.WithoutCancel(ctx), fn) })
	}
}

// end runs a projector under x until it is killed or all is done.
func (w *works) runMortal(x *executioner) (killed bool) {
	w.t.Helper()
	w.wrapFiles = func(p telemetry.Partitions) telemetry.Partitions { return mortalFiles{p, x} }
	w.wrapLate = func(l telemetry.LateLane) telemetry.LateLane { return mortalLate{l, x} }
	w.wrapUpdate = x.update
	defer func() { w.wrapFiles, w.wrapLate, w.wrapUpdate = nil, nil, nil }()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	x.cancel = cancel
	p := w.projector()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	for p.Settle(ctx) == nil && ctx.Err() == nil {
		if s := p.State(); len(s.Waiting) == 0 {
			cancel()
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := <-done; err != nil {
		w.t.Errorf("the projector ended with %v", err)
	}
	return x.dead
}

// story is a tape on which everything happens that the projector can meet.
func story(j *tape) (annRows, bobRows []string) {
	var m maker
	var annAll, bobAll []telemetry.Reading
	at := projectStart
	for n := range 6 {
		a := m.reading(ann, at.Add(time.Duration(n)*time.Minute), uint64(n+1), month, time.Hour)
		b := unnumbered(m.reading(bob, at.Add(time.Duration(n)*time.Minute), 0, month))
		late := m.reading(bob, at.Add(-time.Duration(n+1)*day), uint64(n+1), month, 20*day)
		late.Received = at.UnixMilli()
		late.Dropped = 2
		f := telemetry.Refusal{Product: "aria-thermostat", Subject: ann, Reason: telemetry.ReasonRate, Received: at.UnixMilli(), Count: 1}
		annAll, bobAll = append(annAll, a), append(bobAll, b, late)
		j.add(append(encode(a, m.again(a, at), b, late, m.again(late, at)), telemetry.AppendRefusal(nil, &f))...)
	}
	return wantRows(annAll...), wantRows(bobAll...)
}

// verifyAll seals all batch roots and verifies every file.
func (w *works) verifyAll() {
	w.t.Helper()
	r, err := telemetry.NewRoots(telemetry.RootsDeps{Files: w.files, Update: w.update, View: w.view, Now: w.clock})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := r.SealMinute(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	for _, i := range w.epochs(telemetry.EpochLive) {
		v, err := r.VerifyFile(w.t.Context(), i.Epoch)
		if err != nil || !v.OK() || v.Rows != i.Head.Rows || v.Sealed != i.Head.Batches {
			w.t.Errorf("epoch %s, %d rows: verified %+v, %v", i.Epoch, i.Head.Rows, v, err)
		}
	}
}

// Killed at each of its steps, before and after, the projector ends up with
// the same rows and the same counts as one that was never killed.
func TestProjectorKilledAtEachStep(t *testing.T) {
	run := func(t *testing.T, x *executioner) (killed bool, totals string) {
		w := newWorks(t)
		w.limits.Rows, w.limits.LateFiles = 12, 1 // several commits, much in the late lane
		annRows, bobRows := story(w.tape)
		killed = w.runMortal(x)
		w.reopen()
		w.project()
		what := fmt.Sprintf("killed at step %d, %s", x.at, x.name)
		w.mustHave(what+": ann", ann, annRows)
		w.mustHave(what+": bob", bob, bobRows)
		w.verifyAll()
		return killed, fmt.Sprintf("%+v", w.totals())
	}
	_, want := run(t, &executioner{})
	if !strings.Contains(want, "Accepted:30 DroppedFields:24 Stored:18 Duplicates:12 Expired:0") {
		t.Fatalf("totals of a quiet life: %s", want)
	}
	stride := 17 // every step is met before or after, over some runs of the suite
	switch {
	case os.Getenv("HAWSER_SOAK") != "":
		stride = 1
	case testing.Short():
		stride = 60
	}
	seen := map[string]bool{}
	for _, after := range []bool{false, true} {
		for at := 1 + rand.IntN(stride); ; at += stride {
			x := &executioner{at: at, after: after}
			killed, totals := run(t, x)
			if totals != want {
				t.Errorf("killed at step %d, %s: totals %s\nwant %s", at, x.name, totals, want)
			}
			if t.Failed() {
				return
			}
			if !killed {
				break
			}
			seen[x.name] = true
		}
	}
	for _, name := range []string{"append", "sync", "park", "drop", "update"} {
		if stride == 1 && (!seen[name] || !seen[name+", done"]) {
			t.Errorf("never killed at %q: %v", name, seen)
		}
	}
}

// platter keeps, beside the files, what of them is on disk for sure: their
// state at their last sync. A power cut leaves no more than that.
type platter struct {
	telemetry.Partitions
	dir, disk string
	lazy      bool // does not sync and says that it did
}

func (p *platter) Sync(ctx context.Context, es []core.Epoch) error {
	if p.lazy {
		return nil
	}
	if err := p.Partitions.Sync(ctx, es); err != nil {
		return err
	}
	for _, e := range es {
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(filepath.Join(p.dir, e.String()+".db"+suffix))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			to := filepath.Join(p.disk, e.String()+".db"+suffix)
			if err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, b, 0o600))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// After a power cut that takes every byte that was not synced, all that the
// journal has forgotten is in the files, because it forgets only what was
// synced. With syncs that lie, rows are lost, and the test sees it.
func TestProjectorPowerCut(t *testing.T) {
	for name, lazy := range map[string]bool{"synced": false, "syncs that lie": true} {
		t.Run(name, func(t *testing.T) {
			step := 17
			if testing.Short() {
				step = 40
			}
			for kill := 2 + rand.IntN(17); kill < 60; kill += step {
				w := newWorks(t)
				w.limits.Rows = 12
				annRows, bobRows := story(w.tape)
				disk := filepath.Join(t.TempDir(), "telemetry")
				x := &executioner{at: kill}
				dir := filepath.Join(w.dir, "telemetry")
				w.runCut(x, &platter{dir: dir, disk: disk, lazy: lazy})
				w.close()
				if err := w.tape.Trim(t.Context(), w.markedNext()); err != nil { // the journal forgets all it may
					t.Fatal(err)
				}
				// The lights go out: of the epoch files only what was synced is
				// left. Control database and late lane sync every commit.
				ents, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, ent := range ents {
					if ent.IsDir() {
						if err := os.RemoveAll(filepath.Join(dir, ent.Name())); err != nil {
							t.Fatal(err)
						}
					}
				}
				if _, err := os.Stat(disk); err == nil {
					if err := os.CopyFS(dir, os.DirFS(disk)); err != nil {
						t.Fatal(err)
					}
				}
				w.open()
				w.project()
				if lazy {
					if len(w.rows(ann)) < len(annRows) {
						return // lost, as it must be
					}
					continue
				}
				w.mustHave("ann", ann, annRows)
				w.mustHave("bob", bob, bobRows)
				w.verifyAll()
				if t.Failed() {
					t.Fatalf("killed at step %d, %s", kill, x.name)
				}
			}
			if lazy {
				t.Error("nothing was lost although nothing was synced: this test proves nothing")
			}
		})
	}
}

func (w *works) runCut(x *executioner, p *platter) {
	w.t.Helper()
	files := w.files
	p.Partitions = files
	defer func() { w.files = files }()
	w.wrapFiles = func(telemetry.Partitions) telemetry.Partitions { return mortalFiles{p, x} }
	w.wrapUpdate = x.update
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	x.cancel = cancel
	pr := w.projector()
	w.wrapFiles, w.wrapUpdate = nil, nil
	done := make(chan error, 1)
	go func() { done <- pr.Run(ctx) }()
	_ = pr.Settle(ctx) // it may be killed before
	cancel()
	if err := <-done; err != nil {
		w.t.Errorf("the projector ended with %v", err)
	}
}

// markedNext is the first batch that the projector has not marked as done.
func (w *works) markedNext() uint64 {
	w.t.Helper()
	w.open()
	defer w.close()
	var m telemetry.Mark
	err := w.view(w.t.Context(), func(tx telemetry.ProjectionTx) (err error) { m, err = tx.ProjectorMark(w.t.Context()); return err })
	if err != nil {
		w.t.Fatal(err)
	}
	return m.Seq + 1
}
