package telemetry_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// benchJournal is ROWS readings (default 200,000) of 10,000 devices, one a
// minute, in batches of 2,000, each part with 172 bytes of values.
type benchJournal struct {
	devices, batches, perBatch, groups int
	at                                 time.Time
}

func (b *benchJournal) Incarnation() string                     { return "bench" }
func (b *benchJournal) Last() uint64                            { return uint64(b.batches) }
func (b *benchJournal) Barrier(context.Context) (uint64, error) { return b.Last(), nil }
func (b *benchJournal) Trim(context.Context, uint64) error      { return nil }

func (b *benchJournal) Reader(after uint64) telemetry.JournalReader {
	return &benchReader{b: b, pos: after, records: make([][]byte, b.perBatch), sealed: bytes.Repeat([]byte{7}, 200)}
}

type benchReader struct {
	b       *benchJournal
	pos     uint64
	records [][]byte
	sealed  []byte
}

func (r *benchReader) Close() {}

func (r *benchReader) Next(ctx context.Context) (telemetry.JournalBatch, error) {
	if r.pos >= r.b.Last() {
		<-ctx.Done()
		return telemetry.JournalBatch{}, ctx.Err()
	}
	r.pos++
	for i := range r.records {
		n := (int(r.pos)-1)*r.b.perBatch + i
		d, minute := n%r.b.devices, n/r.b.devices
		at := r.b.at.Add(time.Duration(minute)*time.Minute + time.Duration(d)*6*time.Millisecond)
		rd := telemetry.Reading{
			Product: "aria-thermostat", Subject: core.Subject{1, byte(d * 31), byte(d >> 8), byte(d)},
			Stream: "climate", Policy: core.Hash{5}, T: at.UnixMilli(), Received: at.UnixMilli() + 40,
			HasSeq: true, Boot: 3, Seq: uint64(minute), Counter: uint64(n), Gateway: [8]byte{1},
		}
		for g := range r.b.groups {
			rd.Parts = append(rd.Parts, telemetry.Part{Epoch: core.EpochAt(month, day, at), Group: uint8(g), Sealed: r.sealed[:28+172/r.b.groups]})
		}
		r.records[i] = telemetry.AppendReading(r.records[i][:0], &rd)
	}
	return telemetry.JournalBatch{Seq: r.pos, Records: r.records}, nil
}

func noVersions(context.Context, core.ProductID) ([]declaration.Version, error) { return nil, nil }

func nobody(context.Context) (bool, error) { return false, nil }

// BenchmarkProjector files ROWS readings from a journal in memory, with all
// that it does about them: decoding, files, syncs, counts, watermarks.
func BenchmarkProjector(b *testing.B) {
	rows := 200_000
	if n, err := strconv.Atoi(os.Getenv("ROWS")); err == nil {
		rows = n
	}
	for _, engine := range []string{"files", "postgres"} {
		for _, groups := range []int{1, 3} {
			b.Run(engine+"/"+strconv.Itoa(groups)+"-groups", func(b *testing.B) {
				for b.Loop() {
					j := &benchJournal{devices: 10_000, perBatch: 2000, groups: groups, at: projectStart}
					j.batches = max(rows/groups/j.perBatch, 1)
					dsn := ""
					if engine == "postgres" {
						dsn = benchDatabase(b)
					}
					projectAll(b, j, dsn)
				}
			})
		}
	}
}

// benchDatabase is a database on the disk where files would lie, too, and with
// settings of an installation of that size.
func benchDatabase(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "hawser-bench-")
	must(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(dir) }) // the test is over
	must(b, os.Chmod(dir, 0o755))
	return pgtest.Start(b, dir, "shared_buffers = 512MB", "max_wal_size = 4GB", "wal_level = replica", "max_wal_senders = 2").Database(b)
}

func projectAll(b *testing.B, j *benchJournal, dsn string) {
	b.Helper()
	dir := b.TempDir()
	now := func() time.Time { return projectStart.Add(day) }
	s, err := store.Open(b.Context(), store.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	sh := openShelves(b, dsn, dir, now)
	up := func(ctx context.Context, fn func(telemetry.ProjectionTx) error) error {
		return s.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
	}
	p, err := telemetry.NewProjector(telemetry.ProjectorDeps{Journal: j, Files: sh.files, Late: sh.late, Update: up, View: up, Now: now, Log: quiet(), Versions: noVersions, Guarding: nobody})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	start := time.Now()
	go func() { ended <- p.Run(ctx) }()
	if err := p.Settle(b.Context()); err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	st := p.State()
	cancel()
	if err := <-ended; err != nil || st.Rows != uint64(j.batches*j.perBatch*j.groups) {
		b.Fatalf("%d rows, %v", st.Rows, err)
	}
	b.ReportMetric(float64(st.Rows)/took.Seconds(), "rows/s")
	b.ReportMetric(residentMB(), "MB-resident")
	must(b, sh.close())
	must(b, s.Close())
	if dsn != "" {
		return
	}
	var size int64
	all, err := filepath.Glob(filepath.Join(dir, "telemetry", "k*", "*"))
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range all {
		info, err := os.Stat(f)
		if err != nil {
			b.Fatal(err)
		}
		size += info.Size()
	}
	b.ReportMetric(float64(size)/float64(j.batches*j.perBatch), "B/reading")
}

// residentMB is the process's resident memory on Linux, 0 elsewhere.
func residentMB() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kb / 1024
		}
	}
	return 0
}

// BenchmarkDeviceDay reads the 1,440 rows that one of 500 devices filed in a
// day, and opens each with AES-256-GCM under its associated data.
func BenchmarkDeviceDay(b *testing.B) {
	const devices, minutes = 500, 1440
	o := store.EpochFilesOptions{Dir: b.TempDir(), Now: func() time.Time { return projectStart }}
	files, err := store.OpenEpochFiles(o)
	if err != nil {
		b.Fatal(err)
	}
	defer files.Close()
	late, err := store.OpenLateLane(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer late.Close()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	e := core.EpochAt(month, day, projectStart)
	subject := func(d int) core.Subject { return core.Subject{byte(d), byte(d >> 8), 1} }
	plain := make([]byte, 172)
	var aad []byte
	for minute := 0; minute < minutes; minute += 2 { // a commit every two minutes
		a := telemetry.Append{Mark: telemetry.Mark{Journal: "j", Seq: uint64(minute)}}
		for n := range 2 * devices {
			d, at := n%devices, time.Unix(e.Start, 0).Add(time.Duration(minute+n/devices)*time.Minute)
			r := telemetry.Row{
				Reading: telemetry.Reading{
					Product: "aria-thermostat", Subject: subject(d), Stream: "climate", Policy: core.Hash{5},
					T: at.UnixMilli(), Received: at.UnixMilli() + 30, HasSeq: true, Boot: 3, Seq: uint64(minute + n/devices), Counter: uint64(minute*devices + n),
				},
				Part: telemetry.Part{Epoch: e},
			}
			aad = telemetry.AppendAAD(aad[:0], &r.Reading, &r.Part)
			r.Part.Sealed = aead.Seal(nil, nil, plain, aad)
			a.Rows = append(a.Rows, r)
		}
		a.Fate = make([]telemetry.Fate, len(a.Rows))
		if _, err := files.Append(b.Context(), e, &a); err != nil {
			b.Fatal(err)
		}
	}
	shelf, err := telemetry.NewShelf(files, late)
	if err != nil {
		b.Fatal(err)
	}
	n, d := 0, 0
	for b.Loop() {
		d = (d + 37) % devices
		got := 0
		q := telemetry.Query{Subject: subject(d), From: time.Unix(e.Start, 0), To: e.End()}
		err := shelf.Scan(b.Context(), e, &q, func(r *telemetry.Row) error {
			got++
			aad = telemetry.AppendAAD(aad[:0], &r.Reading, &r.Part)
			var err error
			plain, err = aead.Open(plain[:0], nil, r.Part.Sealed, aad)
			return err
		})
		if err != nil || got != minutes {
			b.Fatalf("%d rows, %v", got, err)
		}
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n)/1000, "ms/device-day")
}
