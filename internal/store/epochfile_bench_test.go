package store

import (
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// BenchmarkAppend files ROWS rows (default 300,000) of 10,000 devices in one
// epoch file and says how fast and how large.
func BenchmarkAppend(b *testing.B) {
	rows := 300_000
	if n, err := strconv.Atoi(os.Getenv("ROWS")); err == nil {
		rows = n
	}
	const devices, chunk = 10_000, 1 << 15
	e := core.EpochAt(30*24*time.Hour, 24*time.Hour, time.Unix(1_795_000_000, 0))
	for b.Loop() {
		dir := b.TempDir()
		s, err := OpenEpochFiles(EpochFilesOptions{Dir: dir, Now: time.Now})
		if err != nil {
			b.Fatal(err)
		}
		sealed := make([]byte, 200)
		_, _ = rand.Read(sealed)
		subjects := make([]core.Subject, devices)
		for i := range subjects {
			_, _ = rand.Read(subjects[i][:])
		}
		a := telemetry.Append{Rows: make([]telemetry.Row, chunk), Fate: make([]telemetry.Fate, chunk)}
		var took, cpu time.Duration
		n := 0
		for n < rows {
			for i := range a.Rows {
				d, round := n%devices, n/devices
				a.Rows[i] = telemetry.Row{
					Reading: telemetry.Reading{
						Product: "aria-thermostat", Subject: subjects[d], Stream: "climate",
						T: e.Start*1000 + int64(round)*60_000 + int64(d), Received: e.Start*1000 + int64(round)*60_000 + int64(d) + 40,
						HasSeq: true, Boot: 3, Seq: uint64(round), Counter: uint64(n),
					},
					Part: telemetry.Part{Epoch: e, Sealed: sealed},
				}
				n++
			}
			a.Mark = telemetry.Mark{Journal: "j", Seq: uint64(n)}
			start, self := time.Now(), cpuOfSelf()
			if _, err := s.Append(b.Context(), e, &a); err != nil {
				b.Fatal(err)
			}
			if err := s.Sync(b.Context(), []core.Epoch{e}); err != nil {
				b.Fatal(err)
			}
			took, cpu = took+time.Since(start), cpu+cpuOfSelf()-self
		}
		start := time.Now()
		for i := range 20 {
			got := 0
			q := telemetry.Query{Subject: subjects[i*400], From: time.Unix(e.Start, 0), To: e.End()}
			if err := s.Scan(b.Context(), e, &q, func(*telemetry.Row) error { got++; return nil }); err != nil {
				b.Fatal(err)
			}
			if got < rows/devices {
				b.Fatal(got)
			}
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/20/float64(rows/devices)*1440/1000, "ms/1440-rows")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		info, err := os.Stat(fmt.Sprintf("%s/%s.db", dir, e))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/took.Seconds(), "rows/s")
		b.ReportMetric(cpu.Seconds()*1e6/float64(n), "own-µs/row")
		b.ReportMetric(float64(info.Size())/float64(n), "B/row")
	}
}
