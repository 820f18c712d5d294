package store

import (
	"context"
	"crypto/rand"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// benchCluster is a server with its data on disk, where everything else of a
// benchmark lies too, and settings of an installation of that size.
func benchCluster(b *testing.B) (*pgtest.Cluster, *pgxpool.Pool) {
	b.Helper()
	dir, err := os.MkdirTemp("", "hawser-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) }) // the test is over
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	c := pgtest.Start(b, dir, "shared_buffers = 512MB", "max_wal_size = 4GB", "checkpoint_timeout = 5min", "wal_level = replica", "max_wal_senders = 2")
	pool, err := OpenPG(b.Context(), PGOptions{DSN: c.Database(b)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return c, pool
}

// cpuOf is the processor time that a server's processes have taken, those that
// ended among them.
func cpuOf(b *testing.B, c *pgtest.Cluster) time.Duration {
	b.Helper()
	pids, err := c.PIDs()
	if err != nil {
		b.Fatal(err)
	}
	var ticks int64
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue // it has just ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		w := strings.Fields(rest)
		for _, i := range []int{11, 12} { // utime, stime
			n, _ := strconv.ParseInt(w[i], 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func cpuOfSelf() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // of oneself it cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppendPG files ROWS rows (default 300,000) as BenchmarkAppend does,
// but in PostgreSQL, every commit on disk, and says what it cost this process
// and the server.
func BenchmarkAppendPG(b *testing.B) {
	rows := 300_000
	if n, err := strconv.Atoi(os.Getenv("ROWS")); err == nil {
		rows = n
	}
	const devices = 10_000
	chunk := 1 << 15
	if n, err := strconv.Atoi(os.Getenv("CHUNK")); err == nil {
		chunk = n
	}
	e := core.EpochAt(30*24*time.Hour, 24*time.Hour, time.Unix(1_795_000_000, 0))
	c, pool := benchCluster(b)
	s, err := OpenPGEpochs(b.Context(), PGEpochsOptions{Pool: pool, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		sealed := make([]byte, 200)
		_, _ = rand.Read(sealed)
		subjects := make([]core.Subject, devices)
		for i := range subjects {
			_, _ = rand.Read(subjects[i][:])
		}
		a := telemetry.Append{Rows: make([]telemetry.Row, chunk), Fate: make([]telemetry.Fate, chunk)}
		var took, ours, theirs time.Duration
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
			start, self, server := time.Now(), cpuOfSelf(), cpuOf(b, c)
			if _, err := s.Append(b.Context(), e, &a); err != nil {
				b.Fatal(err)
			}
			took, ours, theirs = took+time.Since(start), ours+cpuOfSelf()-self, theirs+cpuOf(b, c)-server
		}
		start := time.Now()
		for i := range 20 {
			got := 0
			q := telemetry.Query{Subject: subjects[i*400], From: time.Unix(e.Start, 0), To: e.End()}
			if err := s.Scan(b.Context(), e, &q, func(*telemetry.Row) error { got++; return nil }); err != nil {
				b.Fatal(err)
			}
			if got < min(rows/devices, 1440) {
				b.Fatal(got)
			}
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/20/float64(rows/devices)*1440/1000, "ms/1440-rows")
		var size int64
		if err := pool.QueryRow(b.Context(), `SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND c.relkind = 'r'`, pgSchemaOf(e)).Scan(&size); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/took.Seconds(), "rows/s")
		b.ReportMetric(float64(size)/float64(n), "B/row")
		b.ReportMetric(ours.Seconds()*1e6/float64(n), "own-µs/row")
		b.ReportMetric(theirs.Seconds()*1e6/float64(n), "server-µs/row")
		dropped := time.Now()
		if err := s.Freeze(b.Context(), e); err != nil {
			b.Fatal(err)
		}
		if err := s.Remove(context.Background(), e); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(dropped).Microseconds())/1000, "ms/drop")
		s.Thaw(e)
	}
}
