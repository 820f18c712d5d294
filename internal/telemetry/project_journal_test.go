package telemetry_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// realJournal is the journal of the server as the projector sees it.
type realJournal struct{ *journal.Journal }

func (j realJournal) Last() uint64 { return j.State().Last }

func (j realJournal) Reader(after uint64) telemetry.JournalReader {
	return realReader{j.Journal.Reader(after)}
}

type realReader struct{ r *journal.Reader }

func (r realReader) Close() { r.r.Close() }

func (r realReader) Next(ctx context.Context) (telemetry.JournalBatch, error) {
	b, err := r.r.Next(ctx)
	return telemetry.JournalBatch{Seq: b.Seq, Missing: b.Missing, Records: b.Records}, err
}

// acks says on standard output which records are on disk.
type acks struct{}

func (acks) Done(token uint64, err error) {
	if err == nil {
		_, _ = fmt.Println("acked", token) // whoever listens may be gone
	}
}

// TestLifeToBeKilled is the life that TestProjectorKilledBySIGKILL ends: it
// puts readings into the journal and files them, for ever.
func TestLifeToBeKilled(t *testing.T) {
	dir := os.Getenv("HAWSER_TEST_LIFE")
	if dir == "" {
		t.Skip("only for TestProjectorKilledBySIGKILL")
	}
	n, err := strconv.ParseUint(os.Getenv("HAWSER_TEST_FIRST"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	w := &works{t: t, dir: dir, now: projectStart, limits: telemetry.ProjectorLimits{Linger: time.Millisecond, Rows: 64, LateFiles: 2, LateRows: 8}}
	w.open()
	j, err := journal.Open(t.Context(), journal.Options{Dir: filepath.Join(dir, "journal"), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	p := w.projectorOf(realJournal{j})
	go func() { _ = p.Run(t.Context()) }() // until it is killed
	for ; ; n++ {
		r := killReading(n)
		for j.Submit(telemetry.AppendReading(nil, &r), acks{}, n) != nil {
			time.Sleep(time.Millisecond)
		}
		if n%16 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// killReading is reading n of the killed lives: every third is late, by one of
// seven days, every fifth has no number.
func killReading(n uint64) telemetry.Reading {
	m := maker{counter: n}
	at := projectStart.Add(time.Duration(n) * time.Millisecond)
	if n%3 == 0 {
		at = at.Add(-time.Duration(1+n%7) * day)
	}
	r := m.reading(ann, at, n, month)
	r.Received = projectStart.UnixMilli()
	if n%5 == 0 {
		r = unnumbered(r)
	}
	r.Parts[0].Sealed = binary.BigEndian.AppendUint64(nil, n)
	return r
}

// Killed by the system at any moment, on the server's own journal: every
// reading that was acknowledged is filed once, in files that verify.
func TestProjectorKilledBySIGKILL(t *testing.T) {
	lives := 5
	switch {
	case os.Getenv("HAWSER_SOAK") != "":
		lives = 100
	case testing.Short():
		lives = 2
	}
	dir := t.TempDir()
	next, acked := uint64(1), map[uint64]bool{}
	for life := range lives {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLifeToBeKilled$")
		cmd.Env = append(os.Environ(), "HAWSER_TEST_LIFE="+dir, "HAWSER_TEST_FIRST="+strconv.FormatUint(next, 10))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		var killAt time.Time
		for lines.Scan() {
			n, err := strconv.ParseUint(strings.TrimPrefix(lines.Text(), "acked "), 10, 64)
			if err != nil {
				t.Fatalf("life %d says %q", life, lines.Text())
			}
			acked[n], next = true, n
			if killAt.IsZero() {
				killAt = time.Now().Add(time.Duration(50+rand.IntN(200)) * time.Millisecond)
			}
			if time.Now().After(killAt) {
				_ = cmd.Process.Kill() // Wait says whether it was
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("life %d ended with %v", life, err)
		}
		next += 1_000_000 // well above what was sent and not acknowledged
	}

	w := &works{t: t, dir: dir, now: projectStart, limits: telemetry.ProjectorLimits{Linger: time.Millisecond, LateRows: 1}}
	w.open()
	defer w.close()
	j, err := journal.Open(t.Context(), journal.Options{Dir: filepath.Join(dir, "journal"), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := j.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	p := w.projectorOf(realJournal{j})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	w.settle(p)
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]int{}
	for _, i := range w.epochs(telemetry.EpochLive) {
		q := telemetry.Query{Subject: ann, From: time.Unix(i.Epoch.Start, 0), To: i.Epoch.End()}
		err := w.files.Scan(t.Context(), i.Epoch, &q, func(r *telemetry.Row) error {
			n := binary.BigEndian.Uint64(r.Part.Sealed)
			seen[n]++
			want := killReading(n)
			if r.Reading.Counter != want.Counter || r.Reading.T != want.T || r.Reading.Seq != want.Seq || r.Part.Epoch != want.Parts[0].Epoch {
				t.Errorf("reading %d is another one: %+v", n, r)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n, times := range seen {
		if times != 1 {
			t.Errorf("reading %d is stored %d times", n, times)
		}
	}
	for n := range acked {
		if seen[n] == 0 {
			t.Errorf("reading %d was acknowledged and is lost", n)
		}
	}
	if len(acked) < 20*lives {
		t.Errorf("only %d readings in %d lives", len(acked), lives)
	}
	if got, want := w.totals(), uint64(len(seen)); got.Stored != want || got.Accepted != want || got.Duplicates != 0 {
		t.Errorf("totals %+v for %d readings", got, want)
	}
	w.verifyAll()
}

// backlog is a journal that a projector which stood still for five days finds:
// batches of a minute each, made when they are read.
type backlog struct {
	devices, minutes int
	at               time.Time // of the first minute
	mu               sync.Mutex
	trimmed          uint64
}

func (b *backlog) Incarnation() string                     { return "backlog" }
func (b *backlog) Last() uint64                            { return uint64(b.minutes) }
func (b *backlog) Barrier(context.Context) (uint64, error) { return b.Last(), nil }

func (b *backlog) Trim(_ context.Context, below uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trimmed = below
	return nil
}

func (b *backlog) Reader(after uint64) telemetry.JournalReader {
	return &backlogReader{b: b, pos: after}
}

type backlogReader struct {
	b       *backlog
	pos     uint64
	records [][]byte
	sealed  []byte
}

func (r *backlogReader) Close() {}

func (r *backlogReader) Next(ctx context.Context) (telemetry.JournalBatch, error) {
	if r.pos >= r.b.Last() {
		<-ctx.Done()
		return telemetry.JournalBatch{}, ctx.Err()
	}
	r.pos++
	if r.sealed == nil {
		r.sealed = bytes.Repeat([]byte{7}, 180)
		r.records = make([][]byte, r.b.devices)
	}
	minute := int(r.pos) - 1
	at := r.b.at.Add(time.Duration(minute) * time.Minute)
	for d := range r.records {
		rd := backlogReading(d, minute, at, r.sealed)
		r.records[d] = telemetry.AppendReading(r.records[d][:0], &rd)
	}
	return telemetry.JournalBatch{Seq: r.pos, Records: r.records}, nil
}

// backlogReading is what device d says in one minute: a group kept for a
// month, one kept for ten hours and, each tenth device, one kept for an hour.
func backlogReading(d, minute int, at time.Time, sealed []byte) telemetry.Reading {
	r := telemetry.Reading{
		Product: "aria-thermostat", Subject: core.Subject{1, byte(d), byte(d >> 8)}, Stream: "climate",
		T: at.UnixMilli(), Received: at.UnixMilli() + 50, HasSeq: true, Boot: 1, Seq: uint64(minute), Counter: uint64(minute)<<20 | uint64(d),
	}
	keeps := []time.Duration{month, 10 * time.Hour, time.Hour}
	for i, k := range keeps[:2+(10-d%10)/10] {
		r.Parts = append(r.Parts, telemetry.Part{Epoch: core.EpochAt(k, epochLength(k), at), Group: uint8(i), Sealed: sealed})
	}
	return r
}

// A projector that stood still for five days catches up, in little memory.
// What was kept for an hour has ended meanwhile, and is counted as such.
func TestProjectorCatchesUp(t *testing.T) {
	w := newWorks(t)
	b := &backlog{devices: 20, minutes: 5 * 24 * 60, at: projectStart.Add(-5 * day)}
	if testing.Short() {
		b.devices = 1
	}
	runtime.GC()
	var before, during runtime.MemStats
	runtime.ReadMemStats(&before)
	p := w.projectorOf(b)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	start := time.Now()
	go func() { ended <- p.Run(ctx) }()
	most := uint64(0)
	for p.State().Behind > 0 {
		runtime.ReadMemStats(&during)
		most = max(most, during.HeapAlloc-min(before.HeapAlloc, during.HeapAlloc))
		time.Sleep(20 * time.Millisecond)
		if time.Since(start) > 2*time.Minute {
			t.Fatalf("not there after two minutes: %+v", p.State())
		}
	}
	rows := p.State().Rows
	t.Logf("%d rows in %.1f s, %.0f rows/s, heap at most %d MB more", rows, time.Since(start).Seconds(), float64(rows)/time.Since(start).Seconds(), most>>20)
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if most > 192<<20 {
		t.Errorf("the heap grew by %d MB", most>>20)
	}
	readings := uint64(b.devices * b.minutes)
	got := w.totals()
	if got.Accepted != readings || got.Stored != readings || got.Expired != 0 || got.Duplicates != 0 {
		t.Errorf("totals %+v, want %d of each", got, readings)
	}
	live := uint64(0)
	for _, i := range w.epochs(telemetry.EpochLive) {
		if due := !w.clock().Before(i.Epoch.Due()); due && i.Head.Rows != 0 {
			t.Errorf("epoch %s is due and was filed", i.Epoch)
		}
		live += i.Head.Rows
	}
	// A month: all. Ten hours: those of epochs that are not due yet. An hour: the same.
	if live != rows || live < readings || live > readings+uint64(b.devices)*11*60 {
		t.Errorf("%d rows in files, %d filed, %d readings", live, rows, readings)
	}
	if max(b.trimmed, 1) < 2 {
		t.Error("the journal was not trimmed")
	}
}
