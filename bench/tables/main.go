// Command tables measures what docs/benchmarks.md promises and prints it as
// Markdown: the whole server as it is shipped, with everything behind it,
// against mosquitto and against raw TLS; idle connections; handshakes; bytes
// on disk; and the Go benchmarks of single parts.
//
// What it raises above the usual: the declaration allows a message every
// millisecond and 10,000 at once for each device, and the configuration
// device_messages_per_second is 10,000 and product_messages_per_second is out of
// reach, so that the load generator meets the
// server's own limits and not declared ones. Nothing is switched off.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

type bench struct {
	hawser, load, dir string
	homes             string // installations that stay for the next run; "": none
	runs, devices     int
	idle, rows        int
	lasts             time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is one table.
type part struct {
	name, what string
	run        func(context.Context) error
}

func run(ctx context.Context) error {
	var b bench
	var only string
	flag.StringVar(&b.hawser, "hawser", "bin/hawser", "the server")
	flag.StringVar(&b.homes, "homes", "", "folder for installations that stay, so that the next run need not enrol; none: temporary")
	flag.StringVar(&only, "only", "", "comma-separated parts; none: all")
	flag.IntVar(&b.runs, "runs", 5, "alternating runs of each server; the median counts")
	flag.DurationVar(&b.lasts, "duration", 10*time.Second, "time measured in each run")
	flag.IntVar(&b.devices, "n", 100, "devices in the throughput table")
	flag.IntVar(&b.idle, "idle", 8000, "idle connections")
	flag.IntVar(&b.rows, "rows", 10_000_000, "rows of the projector's benchmark")
	flag.Parse()
	parts := []part{
		{"throughput", "QoS 1 against mosquitto and raw TLS", b.throughput},
		{"idle", "idle connections", b.idleConnections},
		{"handshakes", "full handshakes", b.handshakes},
		{"bytes", "bytes stored per reading", b.bytesStored},
		{"judge", "judging one reading of 12 fields, in each form", b.goBench("./internal/telemetry", "BenchmarkJudgeForms", "1s")},
		{"read", "a device's day of 1,440 readings, read and decrypted", b.goBench("./internal/telemetry", "BenchmarkReadDeviceDay", "2s")},
		{"shred", "one of 10,000 subjects shredded on the file root", b.goBench("./internal/seal", "BenchmarkShred10k", "2s")},
		{"ledger", "the ledger at 100,000 devices", b.goBench("./internal/ledger", "BenchmarkDeviceMonth", "1x")},
		{"projector", "rows into epoch files, and into PostgreSQL", b.goBench("./internal/store", "BenchmarkAppend", "1x")},
		{"checks", "every check at 100,000 devices", b.goBench("./internal/server", "BenchmarkChecks", "1x")},
		{"pages", "the console's pages over 100,000 devices", b.goBench("./internal/console", "BenchmarkPages", "1s")},
		{"gate", "credentials tried at the gate", b.goBench("./internal/gate", "Benchmark(Attempts|Refused)", "1s")},
		{"verify", "a bundle of 10,000 observations verified offline", b.goBench("./internal/assurance/bundle", "BenchmarkVerify", "5x")},
	}
	wanted := strings.Split(only, ",")
	for _, w := range wanted {
		if w != "" && !slices.ContainsFunc(parts, func(p part) bool { return p.name == w }) {
			return fmt.Errorf("there is no part %q", w)
		}
	}
	var err error
	if b.hawser, err = filepath.Abs(b.hawser); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "hawser-tables-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.load = filepath.Join(b.dir, "mqttload")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.load, "./bench/cmd/mqttload").CombinedOutput(); err != nil {
		return fmt.Errorf("build the load generator (run this in the repository's root): %w\n%s", err, out)
	}
	if err := b.machine(); err != nil {
		return err
	}
	for _, p := range parts {
		if only != "" && !slices.Contains(wanted, p.name) {
			continue
		}
		fmt.Printf("\n## %s: %s\n\n%s, load average %s\n\n", p.name, p.what, time.Now().UTC().Format("2006-01-02 15:04 MST"), loadAverage())
		if err := p.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "not observable"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

// machine says on what was measured.
func (b *bench) machine() error {
	p50, p99, err := b.dataSyncs()
	if err != nil {
		return err
	}
	fmt.Printf("machine: %s, %d cores, %s; load average %s at the start\n", processor(), runtime.NumCPU(), kernel(), loadAverage())
	fmt.Printf("disk: fdatasync after 4 KB appended: p50 %.2f ms, p99 %.2f ms\n", p50, p99)
	return nil
}

func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(b))
}

// dataSyncs measures the disk: append 4 KB and sync, 500 times; in ms.
func (b *bench) dataSyncs() (p50, p99 float64, err error) {
	f, err := os.Create(filepath.Join(b.dir, "sync"))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	buf := make([]byte, 4096)
	var took []float64
	for range 500 {
		if _, err := f.Write(buf); err != nil {
			return 0, 0, err
		}
		start := time.Now()
		if err := dataSync(f); err != nil {
			return 0, 0, err
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], nil
}

// goBench runs one Go benchmark and prints its lines.
func (b *bench) goBench(pkg, name, benchtime string) func(context.Context) error {
	return func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, "go", "test", pkg, "-run", "^$", "-bench", "^"+name+"$", "-benchmem", "-benchtime", benchtime, "-timeout", "2h")
		cmd.Env = append(cmd.Environ(), fmt.Sprintf("ROWS=%d", b.rows))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		found := 0
		fmt.Printf("    %s\n", strings.Join(cmd.Args, " "))
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "Benchmark") {
				found++
				fmt.Print("    ", line)
			}
		}
		if found == 0 {
			return fmt.Errorf("%s has no benchmark %s", pkg, name)
		}
		return nil
	}
}
