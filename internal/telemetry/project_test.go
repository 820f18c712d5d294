package telemetry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// What the journal holds is filed by keep-time and epoch, and counted.
func TestProjectorFilesAndCounts(t *testing.T) {
	w := newWorks(t)
	var m maker
	at := projectStart
	one := m.reading(ann, at, 1, month, time.Hour)
	two := unnumbered(m.reading(ann, at.Add(time.Second), 0, month))
	two.Dropped = 3
	three := unclocked(m.reading(bob, at, 1, month), at.Add(time.Minute))
	refused := telemetry.Refusal{Product: "aria-thermostat", Subject: bob, Stream: "climate", Reason: telemetry.ReasonRate, Received: at.UnixMilli(), Count: 7}
	strange := telemetry.Refusal{Product: "aria-thermostat", Reason: telemetry.ReasonUnowned, Received: at.UnixMilli(), Count: 1}
	w.tape.add(encode(one, two)...)
	w.tape.add(append(encode(three), telemetry.AppendRefusal(nil, &refused), telemetry.AppendRefusal(nil, &strange))...)
	s := w.project()
	if s.Mark != (telemetry.Mark{Journal: "tape-1", Seq: 2}) || s.Behind != 0 || s.Rows != 4 || s.Trouble != nil {
		t.Errorf("state %+v", s)
	}
	w.mustHave("ann", ann, wantRows(one, two))
	w.mustHave("bob", bob, wantRows(three))
	want := "{Accepted:3 DroppedFields:3 Stored:3 Duplicates:0 Expired:0 Parked:0 Refused:[{Reason:rate N:7} {Reason:unowned N:1}]}"
	if got := fmt.Sprintf("%+v", w.totals()); got != want {
		t.Errorf("totals %s\nwant   %s", got, want)
	}
	for _, i := range w.epochs(telemetry.EpochLive) {
		m, _, err := w.files.Mark(t.Context(), i.Epoch, "tape-1")
		if err != nil || m.Seq == 0 || m.Seq > 2 {
			t.Errorf("epoch %s: watermark %+v, %v", i.Epoch, m, err)
		}
	}
	// Starting again changes nothing.
	w.reopen()
	w.project()
	if got := fmt.Sprintf("%+v", w.totals()); got != want {
		t.Errorf("after a restart: totals %s", got)
	}
	w.mustHave("ann after a restart", ann, wantRows(one, two))
}

// A journal made anew is read from its beginning; its places are other places.
func TestProjectorNewJournal(t *testing.T) {
	w := newWorks(t)
	var m maker
	a, b := unnumbered(m.reading(ann, projectStart, 0)), unnumbered(m.reading(ann, projectStart.Add(time.Second), 0))
	w.tape.add(encode(a)...)
	w.project()
	w.tape = newTape("tape-2")
	w.tape.add(encode(b)...)
	w.reopen()
	w.project()
	w.mustHave("both", ann, wantRows(a, b))
}

// A reading that its device sends again is stored once, the first wins: also
// when it has no time of its own and falls into another epoch (design,
// section 5, Messages).
func TestProjectorStoresOnce(t *testing.T) {
	for name, restart := range map[string]bool{"in one run": false, "over a restart": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorks(t)
			between := func() {
				w.project()
				if restart {
					w.reopen()
				}
			}
			var m maker
			at := projectStart
			first := m.reading(ann, at, 1, time.Hour)
			plain := unclocked(m.reading(ann, at, 2, time.Hour), at)
			w.tape.add(encode(first, m.again(first, at), plain)...)
			between()
			// Eleven minutes later: two epochs on.
			later := at.Add(11 * time.Minute)
			w.advance(11 * time.Minute)
			fresh := unclocked(m.reading(ann, at, 3, time.Hour), later)
			w.tape.add(encode(m.again(first, later), unclocked(m.again(plain, later), later), fresh)...)
			between()
			// A clock that was wrong and is right now: the same number with a
			// time of its own.
			corrected := m.again(plain, later)
			corrected.Flags, corrected.T = 0, later.Add(time.Second).UnixMilli()
			corrected.Parts = slices.Clone(fresh.Parts)
			older := unclocked(m.reading(bob, at, 9, time.Hour), later)
			w.tape.add(encode(corrected, older)...)
			between()
			// Not newer than the newest, but never seen: no duplicate.
			backlog := unclocked(m.reading(ann, at, 0, time.Hour), later.Add(6*time.Minute))
			w.advance(6 * time.Minute)
			w.tape.add(encode(backlog, unclocked(m.again(older, later), later.Add(6*time.Minute)))...)
			between()
			w.mustHave("ann", ann, wantRows(first, plain, fresh, backlog))
			w.mustHave("bob", bob, wantRows(older))
			if got := w.totals(); got.Stored != 5 || got.Duplicates != 5 || got.Accepted != 10 {
				t.Errorf("totals %+v", got)
			}
		})
	}
}

// watched counts what the projector does to partitions.
type watched struct {
	telemetry.Partitions
	mu      sync.Mutex
	touched map[core.Epoch]int // since the last sync
	most    int
	hurt    func(core.Epoch) error // instead of Append
}

func (x *watched) Append(ctx context.Context, e core.Epoch, a *telemetry.Append) (telemetry.Head, error) {
	x.mu.Lock()
	x.touched[e]++
	x.most = max(x.most, len(x.touched))
	hurt := x.hurt
	x.mu.Unlock()
	if hurt != nil {
		if err := hurt(e); err != nil {
			return telemetry.Head{}, err
		}
	}
	return x.Partitions.Append(ctx, e, a)
}

func (x *watched) Sync(ctx context.Context, es []core.Epoch) error {
	x.mu.Lock()
	clear(x.touched)
	x.mu.Unlock()
	return x.Partitions.Sync(ctx, es)
}

// A batch touches at most four late files; the rest waits in the late lane,
// can be read there, and is filed and counted once.
func TestProjectorLateLane(t *testing.T) {
	w := newWorks(t)
	w.limits.LateWait, w.limits.LateRows = time.Hour, 1000 // nothing leaves by itself
	x := &watched{touched: map[core.Epoch]int{}}
	w.wrapFiles = func(p telemetry.Partitions) telemetry.Partitions { x.Partitions = p; return x }
	var m maker
	var all []telemetry.Reading
	for n := range 40 { // ten days back, four readings each, all received now
		r := m.reading(ann, projectStart.Add(-time.Duration(n/4)*day-time.Duration(n)*time.Second), uint64(n))
		r.Received = projectStart.UnixMilli()
		all = append(all, r)
	}
	w.tape.add(encode(append(all, m.again(all[39], projectStart))...)...)
	p, stop := w.running()
	if err := p.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x.most != 5 { // today's, and four late ones
		t.Errorf("one commit touched %d files, want 5", x.most)
	}
	waiting := 0
	for _, i := range p.State().Waiting {
		waiting += int(i.Rows)
	}
	if want := 41 - 4 - 4*4 - 1; waiting < want || waiting > want+1 { // which four is by fullness
		t.Errorf("%d rows wait, want about %d", waiting, want)
	}
	before := w.totals()
	if before.Parked == 0 || before.Stored+before.Duplicates+before.Parked != 41 || before.Accepted != 41 {
		t.Errorf("totals while rows wait: %+v", before)
	}
	w.mustHave("while rows wait", ann, wantRows(all...))
	w.advance(2 * time.Hour) // now they have waited long enough
	w.settle(p)
	stop()
	if got := w.totals(); got.Stored != 40 || got.Duplicates != 1 || got.Accepted != 41 {
		t.Errorf("totals in the end: %+v", got)
	}
	w.mustHave("in the end", ann, wantRows(all...))
	if x.most != 5 {
		t.Errorf("one commit touched %d files, want at most 5", x.most)
	}
}

// What belongs to an epoch that has ended is dropped and counted, and never
// makes its file anew; an epoch that was never filed is made known to expiry.
func TestProjectorDropsWhatHasEnded(t *testing.T) {
	w := newWorks(t)
	var m maker
	old := m.reading(ann, projectStart, 1, time.Hour)
	gone := m.reading(bob, projectStart.Add(time.Second), 1, time.Hour)
	w.tape.add(encode(old)...)
	w.project()
	e := old.Parts[0].Epoch
	w.advance(2 * time.Hour)
	w.end(e)
	never := m.reading(bob, projectStart.Add(30*time.Minute), 2, time.Hour)
	live := m.reading(bob, w.clock(), 3, time.Hour)
	w.tape.add(encode(gone, never, live)...)
	w.project()
	w.mustHave("bob", bob, wantRows(live))
	if got := w.totals(); got.Expired != 2 || got.Stored != 2 || got.Accepted != 4 {
		t.Errorf("totals %+v", got)
	}
	if files, err := w.files.Names(t.Context()); err != nil || len(files) != 1 {
		t.Errorf("partitions %v, %v, want only that of the live epoch", files, err)
	}
	if !slices.ContainsFunc(w.epochs(telemetry.EpochLive), func(i telemetry.EpochInfo) bool { return i.Epoch == never.Parts[0].Epoch }) {
		t.Error("expiry does not hear of an epoch whose key exists and whose file never did")
	}
}

// end does by hand what expiry does, without keys.
func (w *works) end(e core.Epoch) {
	w.t.Helper()
	ctx := w.t.Context()
	if err := w.files.Freeze(ctx, e); err != nil {
		w.t.Fatal(err)
	}
	if err := w.files.Remove(ctx, e); err != nil {
		w.t.Fatal(err)
	}
	err := w.update(ctx, func(tx telemetry.ProjectionTx) error {
		return tx.PutEpochState(ctx, e, telemetry.EpochEnded, "", w.clock())
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// A damaged epoch file is named, its rows wait and can be read, the rest is
// served. When somebody puts the file back whole, they go in.
func TestProjectorDamagedFile(t *testing.T) {
	w := newWorks(t)
	var m maker
	before := m.reading(ann, projectStart, 1, month, time.Hour)
	w.tape.add(encode(before)...)
	w.project()
	w.close()
	e := before.Parts[0].Epoch
	restore := w.partition(e).keep(t)
	w.partition(e).spoil(t)

	w.open()
	after := m.reading(ann, projectStart.Add(time.Minute), 2, month, time.Hour)
	w.tape.add(encode(after)...)
	s := w.project()
	if len(s.Broken) != 1 || s.Broken[0].Epoch != e || s.Trouble != nil {
		t.Fatalf("state %+v", s)
	}
	if got := w.epochs(telemetry.EpochDamaged); len(got) != 1 || got[0].Epoch != e || !strings.Contains(got[0].Detail, s.Broken[0].Aside) {
		t.Errorf("damaged epochs %+v", got)
	}
	hour := func(r telemetry.Reading) telemetry.Reading { r.Parts = r.Parts[1:]; return r }
	readable := wantRows(hour(before), hour(after), telemetry.Reading{})
	parked := after
	parked.Parts = after.Parts[:1]
	readable = append(readable, wantRows(parked)...)
	w.mustHave("what is left", ann, readable)

	w.reopen() // nothing changes by a restart
	more := m.reading(ann, projectStart.Add(2*time.Minute), 3, month)
	w.tape.add(encode(more, m.again(after, projectStart))...)
	w.project()
	w.mustHave("after a restart", ann, append(readable, wantRows(more)...))

	w.close()
	restore()
	w.open()
	w.project()
	w.mustHave("with the file back", ann, wantRows(before, after, more))
	if len(w.epochs(telemetry.EpochDamaged)) != 0 {
		t.Error("still damaged with the file back")
	}
	if got := w.totals(); got.Stored != 3 || got.Duplicates != 1 || got.Accepted != 4 {
		t.Errorf("totals %+v", got)
	}
	if n := w.records(telemetry.KindEpochDamaged); n != 1 {
		t.Errorf("%d records of the damage, want 1", n)
	}
}

// Trouble of the disk stops the projector, shows in its state, and passes.
func TestProjectorTrouble(t *testing.T) {
	w := newWorks(t)
	x := &watched{touched: map[core.Epoch]int{}}
	var full atomic.Bool
	full.Store(true)
	x.hurt = func(core.Epoch) error {
		if full.Load() {
			return core.E(core.Unavail, "disk-full", "the disk is full", "")
		}
		return nil
	}
	w.wrapFiles = func(p telemetry.Partitions) telemetry.Partitions { x.Partitions = p; return x }
	var m maker
	r := m.reading(ann, projectStart, 1)
	w.tape.add(encode(r)...)
	p, stop := w.running()
	defer stop()
	waitFor(t, func() bool { return p.State().Trouble != nil })
	if s := p.State(); core.ReasonOf(s.Trouble) != "disk-full" || s.Behind != 1 || p.SafePoint() != 1 {
		t.Errorf("state in trouble: %+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Settle(ctx); core.ReasonOf(err) != "projector-behind" {
		t.Errorf("settle in trouble: %v", err)
	}
	full.Store(false)
	w.settle(p)
	waitFor(t, func() bool { return p.State().Trouble == nil }) // it says so after it has filed
	if s := p.State(); s.Behind != 0 {
		t.Errorf("state after the trouble: %+v", s)
	}
	w.mustHave("ann", ann, wantRows(r))
	if got := w.totals(); got.Stored != 1 || got.Accepted != 1 {
		t.Errorf("totals %+v", got)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 5000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("waited 5 s in vain")
}

// The journal is trimmed below its slowest reader and never below what is
// filed, durable and counted.
func TestProjectorTrims(t *testing.T) {
	w := newWorks(t)
	slow := atomic.Uint64{}
	slow.Store(3)
	w.slowest = func() (uint64, bool) { return slow.Load(), slow.Load() != 0 }
	var m maker
	for n := range 6 {
		w.tape.add(encode(m.reading(ann, projectStart.Add(time.Duration(n)*time.Second), uint64(n)))...)
	}
	w.project()
	if got := slices.Max(w.tape.trims); got != 3 {
		t.Errorf("trimmed below %d, want 3: there is a slower reader", got)
	}
	slow.Store(0)
	w.reopen()
	w.tape.add(encode(m.reading(ann, projectStart, 99))...)
	w.project()
	if got := slices.Max(w.tape.trims); got != 8 {
		t.Errorf("trimmed below %d, want 8", got)
	}
}

// What of the journal cannot be read is counted and recorded, and the rest
// is filed.
func TestProjectorLoss(t *testing.T) {
	w := newWorks(t)
	var m maker
	a, b, c := m.reading(ann, projectStart, 1), m.reading(ann, projectStart.Add(time.Second), 2), m.reading(ann, projectStart.Add(2*time.Second), 3)
	w.tape.add(encode(a)...)
	w.project()
	w.tape.damaged[w.tape.add(encode(b)...)] = true
	w.tape.add(append(encode(c), []byte("no record"), nil)...)
	s := w.project()
	if s.Lost.Damaged != 1 || s.Lost.Records != 2 || s.Trouble != nil {
		t.Errorf("state %+v", s)
	}
	w.mustHave("the rest", ann, wantRows(a, c))
	if n := w.records(telemetry.KindJournalLoss); n != 1 {
		t.Errorf("%d records of the loss, want 1", n)
	}
	// An older journal than the one read from is refused.
	w.tape = newTape("tape-1")
	err := w.projector().Run(t.Context())
	if core.ReasonOf(err) != "journal-behind" {
		t.Errorf("a journal that ends before the watermark: %v", err)
	}
}

// records counts the ledger's pending records of a kind.
func (w *works) records(kind core.RecordKind) int {
	w.t.Helper()
	return len(w.pending()[kind])
}

func TestProjectorNeedsItsDependencies(t *testing.T) {
	w := newWorks(t)
	whole := telemetry.ProjectorDeps{
		Journal: w.tape, Files: w.files, Late: w.late, Update: w.update, View: w.view, Now: w.clock, Log: quiet(),
		Versions: noVersions, Guarding: nobody,
	}
	for name, drop := range map[string]func(*telemetry.ProjectorDeps){
		"Journal": func(d *telemetry.ProjectorDeps) { d.Journal = nil },
		"Files":   func(d *telemetry.ProjectorDeps) { d.Files = nil },
		"Late":    func(d *telemetry.ProjectorDeps) { d.Late = nil },
		"Update":  func(d *telemetry.ProjectorDeps) { d.Update = nil },
		"View":    func(d *telemetry.ProjectorDeps) { d.View = nil },
		"Now":     func(d *telemetry.ProjectorDeps) { d.Now = nil },
		"Log":     func(d *telemetry.ProjectorDeps) { d.Log = nil },

		"Versions": func(d *telemetry.ProjectorDeps) { d.Versions = nil },
		"Guarding": func(d *telemetry.ProjectorDeps) { d.Guarding = nil },
	} {
		d := whole
		drop(&d)
		if _, err := telemetry.NewProjector(d); err == nil {
			t.Errorf("no %s: accepted", name)
		}
	}
}
