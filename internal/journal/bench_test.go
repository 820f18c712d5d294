package journal

import (
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the processor time that this process has used.
func cpuTime(tb testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pump keeps a window of records in flight: for each that is done it sends the
// next, as a gateway with many devices does.
type pump struct {
	j    *Journal
	rec  []byte
	idle chan struct{} // one token for each record whose place is free
	bad  atomic.Int64
}

func (p *pump) Done(_ uint64, err error) {
	if err != nil {
		p.bad.Add(1)
	}
	p.idle <- struct{}{}
}

// BenchmarkCommit measures the journal under a window of records in flight and
// then, in the same run and with batches of the same size, the physical limit:
// append to a plain file and fdatasync.
func BenchmarkCommit(b *testing.B) {
	for _, w := range []struct {
		name   string
		window int
	}{{"window=100", 100}, {"window=1600", 1600}, {"window=16000", 16000}} {
		b.Run(w.name, func(b *testing.B) {
			opt := testOptions(b.TempDir())
			opt.MaxBytes = 64 << 30
			j := open(b, opt)
			p := &pump{j: j, rec: make([]byte, 300), idle: make(chan struct{}, w.window)}
			for range w.window {
				p.idle <- struct{}{}
			}
			cpu, start := cpuTime(b), time.Now()
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				<-p.idle
				if err := j.Submit(p.rec, p, 0); err != nil {
					b.Fatal(err)
				}
			}
			for range w.window {
				<-p.idle
			}
			b.StopTimer()
			took, used := time.Since(start), cpuTime(b)-cpu
			if p.bad.Load() > 0 {
				b.Fatalf("%d records failed", p.bad.Load())
			}
			s := j.State()
			batches := float64(s.Last)
			mean := int(float64(b.N*(len(p.rec)+recordHeader)) / batches)
			b.ReportMetric(float64(b.N)/took.Seconds(), "records/s")
			b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N), "cpu-µs/record")
			b.ReportMetric(float64(b.N)/batches, "records/batch")
			b.ReportMetric(batches/took.Seconds(), "batches/s")
			b.ReportMetric(plainAppends(b, mean), "plain-fdatasync/s")
		})
	}
}

// plainAppends is how many appends of size bytes with fdatasync the disk does
// in a second.
func plainAppends(tb testing.TB, size int) float64 {
	f, err := os.Create(filepath.Join(tb.TempDir(), "plain"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, size)
	n, start := 0, time.Now()
	for time.Since(start) < 500*time.Millisecond {
		if _, err := f.Write(buf); err != nil {
			tb.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			tb.Fatal(err)
		}
		n++
	}
	return float64(n) / time.Since(start).Seconds()
}

// BenchmarkOpenAfterKill measures how long a journal of 1 GB takes to open
// when it was not closed, and when it was.
func BenchmarkOpenAfterKill(b *testing.B) {
	if testing.Short() {
		b.Skip("writes 2 GB")
	}
	dir := b.TempDir()
	opt := testOptions(filepath.Join(dir, "journal"))
	opt.MaxBytes = 4 << 30
	j := open(b, opt)
	got := newTally()
	rec := make([]byte, 64<<10)
	n := 0
	for ; n < 1<<14; n++ {
		for j.Submit(rec, got, 0) != nil {
			runtime.Gosched()
			time.Sleep(time.Millisecond)
		}
	}
	got.wait(b, n)
	killed := filepath.Join(dir, "killed")
	if err := os.CopyFS(killed, os.DirFS(opt.Dir)); err != nil { // as it lies on disk now
		b.Fatal(err)
	}
	if err := j.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	for name, d := range map[string]string{"killed": killed, "closed": opt.Dir} {
		b.Run(name, func(b *testing.B) {
			o := opt
			for i := range b.N {
				// Each opening of a killed one needs its own copy.
				o.Dir = d
				if name == "killed" {
					b.StopTimer()
					o.Dir = filepath.Join(b.TempDir(), "copy")
					if err := os.CopyFS(o.Dir, os.DirFS(d)); err != nil {
						b.Fatal(err, i)
					}
					b.StartTimer()
				}
				j, err := Open(b.Context(), o)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(float64(j.State().Bytes), "journal-bytes")
				if err := j.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkRead measures catching up.
func BenchmarkRead(b *testing.B) {
	opt := testOptions(b.TempDir())
	j := open(b, opt)
	got := newTally()
	const n = 200_000
	for range n {
		for j.Submit(make([]byte, 300), got, 0) != nil {
			time.Sleep(time.Millisecond)
		}
	}
	got.wait(b, n)
	last := j.State().Last
	b.ReportMetric(n/float64(last), "records/batch")
	b.ResetTimer()
	cpu := cpuTime(b)
	total := 0
	for range b.N {
		r := j.Reader(0)
		for r.pos < last {
			x, err := r.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			total += len(x.Records)
		}
		r.Close()
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1e3/float64(total), "cpu-µs/record")
}
