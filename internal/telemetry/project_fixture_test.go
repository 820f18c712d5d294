package telemetry_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const (
	month = 30 * 24 * time.Hour
	day   = 24 * time.Hour
)

var projectStart = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// tape is a journal in memory. It outlives what reads it, as a disk does.
type tape struct {
	mu      sync.Mutex
	name    string
	first   uint64 // sequence of batches[0]
	batches [][][]byte
	damaged map[uint64]bool
	news    chan struct{}
	trims   []uint64
}

func newTape(name string) *tape {
	return &tape{name: name, first: 1, damaged: map[uint64]bool{}, news: make(chan struct{})}
}

func (j *tape) add(records ...[]byte) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.batches = append(j.batches, records)
	close(j.news)
	j.news = make(chan struct{})
	return j.first + uint64(len(j.batches)) - 1
}

func (j *tape) Incarnation() string { return j.name }

func (j *tape) Last() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.first + uint64(len(j.batches)) - 1
}

func (j *tape) Barrier(context.Context) (uint64, error) { return j.Last(), nil }

func (j *tape) Trim(_ context.Context, below uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.trims = append(j.trims, below)
	for j.first < below && len(j.batches) > 0 {
		j.batches = j.batches[1:]
		j.first++
	}
	return nil
}

func (j *tape) Reader(after uint64) telemetry.JournalReader { return &tapeReader{j, after} }

type tapeReader struct {
	j   *tape
	pos uint64
}

func (r *tapeReader) Close() {}

func (r *tapeReader) Next(ctx context.Context) (telemetry.JournalBatch, error) {
	for {
		r.j.mu.Lock()
		seq := max(r.pos+1, r.j.first)
		if i := int(seq - r.j.first); i < len(r.j.batches) {
			b := telemetry.JournalBatch{Seq: seq, Records: r.j.batches[i]}
			if r.pos != 0 {
				b.Missing = seq - r.pos - 1
			}
			if r.j.damaged[seq] {
				b.Records, b.Damaged = nil, errors.New("checksum")
			}
			r.pos = seq
			r.j.mu.Unlock()
			return b, nil
		}
		news := r.j.news
		r.j.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return telemetry.JournalBatch{}, ctx.Err()
		}
	}
}

// works is a data folder with all that files and reads in it. Its parts can
// be closed and opened again; the tape, the clock and the folder stay.
type works struct {
	t   *testing.T
	dir string

	mu  sync.Mutex
	now time.Time

	tape   *tape
	limits telemetry.ProjectorLimits
	dsn    string // "": readings lie in files
	store  *store.Store
	shelves

	// What stands between the projector and its parts; nil: nothing.
	wrapFiles  func(telemetry.Partitions) telemetry.Partitions
	wrapLate   func(telemetry.LateLane) telemetry.LateLane
	wrapUpdate func(updateFunc) updateFunc
	slowest    func() (uint64, bool)

	versions []declaration.Version // of every product
	guarding bool                  // some legal hold is in force
}

type updateFunc = func(context.Context, func(telemetry.ProjectionTx) error) error

func newWorks(t *testing.T) *works {
	t.Helper()
	w := &works{
		t: t, dir: t.TempDir(), dsn: database(t), now: projectStart, tape: newTape("tape-1"),
		limits: telemetry.ProjectorLimits{Linger: time.Millisecond, LateRows: 1},
	}
	w.open()
	t.Cleanup(w.close)
	return w
}

func (w *works) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *works) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *works) open() {
	w.t.Helper()
	var err error
	if w.store, err = store.Open(w.t.Context(), store.Options{Dir: w.dir}); err != nil {
		w.t.Fatal(err)
	}
	w.shelves = openShelves(w.t, w.dsn, w.dir, w.clock)
}

func (w *works) close() {
	if w.store == nil {
		return
	}
	if err := errors.Join(w.shelves.close(), w.store.Close()); err != nil {
		w.t.Error(err)
	}
	w.store = nil
}

func (w *works) reopen() {
	w.t.Helper()
	w.close()
	w.open()
}

func (w *works) update(ctx context.Context, fn func(telemetry.ProjectionTx) error) error {
	return w.store.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
}

func (w *works) view(ctx context.Context, fn func(telemetry.ProjectionTx) error) error {
	return w.store.View(ctx, func(tx *store.Tx) error { return fn(tx) })
}

// partition is where an epoch of it lies.
func (w *works) partition(e core.Epoch) partition { return partitionAt(w.dsn, w.dir, e) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func (w *works) projector() *telemetry.Projector { return w.projectorOf(w.tape) }

func (w *works) projectorOf(j telemetry.JournalSource) *telemetry.Projector {
	w.t.Helper()
	d := telemetry.ProjectorDeps{
		Journal: j, Files: w.files, Late: w.late, Update: w.update, View: w.view, Now: w.clock, Log: quiet(),
		Slowest: w.slowest, Limits: w.limits,
		Guarding: func(context.Context) (bool, error) { return w.guarding, nil },
		Versions: func(context.Context, core.ProductID) ([]declaration.Version, error) { return w.versions, nil },
	}
	if w.wrapFiles != nil {
		d.Files = w.wrapFiles(d.Files)
	}
	if w.wrapLate != nil {
		d.Late = w.wrapLate(d.Late)
	}
	if w.wrapUpdate != nil {
		d.Update = w.wrapUpdate(d.Update)
	}
	p, err := telemetry.NewProjector(d)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// running starts a projector; stop ends it and waits for it.
func (w *works) running() (p *telemetry.Projector, stop func()) {
	w.t.Helper()
	p = w.projector()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return p, func() {
		w.t.Helper()
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the projector ended with %v", err)
		}
	}
}

// project runs a projector until all of the tape is filed and, unless it
// waits for a damaged file, nothing waits in the late lane.
func (w *works) project() telemetry.ProjectorState {
	w.t.Helper()
	p, stop := w.running()
	defer stop()
	w.settle(p)
	return p.State()
}

func (w *works) settle(p *telemetry.Projector) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	if err := p.Settle(ctx); err != nil {
		w.t.Fatalf("settle: %v; state %+v", err, p.State())
	}
	for {
		s := p.State()
		waiting := slices.DeleteFunc(s.Waiting, func(i telemetry.Waiting) bool {
			return slices.ContainsFunc(s.Broken, func(b telemetry.BrokenError) bool { return b.Epoch == i.Epoch })
		})
		if len(waiting) == 0 {
			return
		}
		if ctx.Err() != nil {
			w.t.Fatalf("rows stay in the late lane: %+v", s)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (w *works) totals() telemetry.Totals {
	w.t.Helper()
	var out telemetry.Totals
	err := w.view(w.t.Context(), func(tx telemetry.ProjectionTx) (err error) { out, err = tx.Totals(w.t.Context(), ""); return err })
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *works) epochs(states ...telemetry.EpochState) []telemetry.EpochInfo {
	w.t.Helper()
	var out []telemetry.EpochInfo
	err := w.view(w.t.Context(), func(tx telemetry.ProjectionTx) (err error) {
		out, err = tx.Epochs(w.t.Context(), states...)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// rows are all rows of a subject that can be read, as text, epoch by epoch.
func (w *works) rows(subject core.Subject) []string {
	w.t.Helper()
	shelf, err := telemetry.NewShelf(w.files, w.late)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, i := range w.epochs(telemetry.EpochLive, telemetry.EpochDamaged) {
		q := telemetry.Query{Subject: subject, From: time.Unix(i.Epoch.Start, 0), To: i.Epoch.End()}
		err := shelf.Scan(w.t.Context(), i.Epoch, &q, func(r *telemetry.Row) error {
			out = append(out, rowText(r))
			return nil
		})
		if _, broken := telemetry.AsBroken(err); err != nil && !broken {
			w.t.Fatal(err)
		}
	}
	return out
}

// rowText is a row without its number, for comparing.
func rowText(r *telemetry.Row) string {
	return fmt.Sprintf("%s %s t=%d g=%d numbered=%v %d/%d counter=%d sealed=%x", r.Part.Epoch, r.Reading.Stream, r.Reading.T, r.Part.Group,
		r.Reading.HasSeq, r.Reading.Boot, r.Reading.Seq, r.Reading.Counter, r.Part.Sealed)
}

var (
	ann = core.Subject{0xa}
	bob = core.Subject{0xb}
)

// maker makes readings, each with a counter of its own.
type maker struct{ counter uint64 }

// reading is one of subject at t, received at once, with a part for each
// keep-time.
func (m *maker) reading(subject core.Subject, t time.Time, seq uint64, keeps ...time.Duration) telemetry.Reading {
	m.counter++
	if len(keeps) == 0 {
		keeps = []time.Duration{month}
	}
	r := telemetry.Reading{
		Product: "aria-thermostat", Subject: subject, Stream: "climate", Policy: core.Hash{3},
		T: t.UnixMilli(), Received: t.UnixMilli(), HasSeq: true, Boot: 1, Seq: seq, Gateway: [8]byte{1}, Counter: m.counter,
	}
	for i, k := range keeps {
		sealed := make([]byte, 32)
		_, _ = rand.Read(sealed) // never fails
		r.Parts = append(r.Parts, telemetry.Part{Epoch: core.EpochAt(k, epochLength(k), t), Group: uint8(i), Sealed: sealed})
	}
	return r
}

func epochLength(keep time.Duration) time.Duration {
	switch {
	case keep >= 10*day:
		return day
	case keep >= 10*time.Hour:
		return time.Hour
	}
	return 5 * time.Minute
}

// again is the same message sent once more by its device.
func (m *maker) again(r telemetry.Reading, received time.Time) telemetry.Reading {
	m.counter++
	r.Counter, r.Received = m.counter, received.UnixMilli()
	r.Parts = slices.Clone(r.Parts)
	return r
}

// unclocked makes r one whose device gave no time.
func unclocked(r telemetry.Reading, received time.Time) telemetry.Reading {
	r.T, r.Received, r.Flags = received.UnixMilli(), received.UnixMilli(), telemetry.FlagWrongClock
	r.Parts = slices.Clone(r.Parts)
	for i := range r.Parts {
		k := r.Parts[i].Epoch.Keep
		r.Parts[i].Epoch = core.EpochAt(k, epochLength(k), received)
	}
	return r
}

func unnumbered(r telemetry.Reading) telemetry.Reading {
	r.HasSeq, r.Boot, r.Seq = false, 0, 0
	return r
}

func encode(rs ...telemetry.Reading) [][]byte {
	var out [][]byte
	for i := range rs {
		out = append(out, telemetry.AppendReading(nil, &rs[i]))
	}
	return out
}

// wantRows are the rows that readings must come to, in the order of works.rows.
func wantRows(rs ...telemetry.Reading) []string {
	var rows []telemetry.Row
	for _, r := range rs {
		for _, p := range r.Parts {
			row := telemetry.Row{Reading: r, Part: p}
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b telemetry.Row) int {
		if c := int(a.Part.Epoch.Keep/time.Second) - int(b.Part.Epoch.Keep/time.Second); c != 0 {
			return c
		}
		if c := a.Part.Epoch.Start - b.Part.Epoch.Start; c != 0 {
			return int(c)
		}
		if c := a.Reading.T - b.Reading.T; c != 0 {
			return int(c)
		}
		return int(a.Reading.Seq) - int(b.Reading.Seq)
	})
	var out []string
	for i := range rows {
		out = append(out, rowText(&rows[i]))
	}
	return out
}

func (w *works) mustHave(what string, subject core.Subject, want []string) {
	w.t.Helper()
	got := w.rows(subject)
	if !slices.Equal(got, want) {
		var b bytes.Buffer
		for _, r := range got {
			fmt.Fprintf(&b, "  got  %s\n", r)
		}
		for _, r := range want {
			fmt.Fprintf(&b, "  want %s\n", r)
		}
		w.t.Errorf("%s: %d rows, want %d\n%s", what, len(got), len(want), b.String())
	}
}

// pending are the records handed to the ledger, by kind.
func (w *works) pending() map[core.RecordKind][]core.Record {
	w.t.Helper()
	out := map[core.RecordKind][]core.Record{}
	err := w.store.View(w.t.Context(), func(tx *store.Tx) error {
		rows, err := tx.LedgerPending(w.t.Context(), 10_000)
		if err != nil {
			return err
		}
		for _, p := range rows {
			r, err := ledger.ParseLeaf(p.Leaf)
			if err != nil {
				return err
			}
			out[r.Kind] = append(out[r.Kind], r)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}
