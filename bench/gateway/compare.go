package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figures is what the load generator reports of one run.
type figures struct {
	PerSecond float64 `json:"acked_per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	CPU       float64 `json:"server_cpu_us_per_message"`
	RSS       float64 `json:"server_rss_bytes"`
	Refused   uint64  `json:"refused"`
	Broken    int     `json:"broken_connections"`
	Error     string  `json:"first_error"`
}

// contender is one server under test.
type contender struct {
	name, addr, certs, mode string
	pid                     int
}

// compare runs every contender in turn, several times, and prints medians.
func compare(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("gateway", flag.ContinueOnError)
	runs := fs.Int("runs", 5, "alternating runs of each server; the median counts")
	lasts := fs.Duration("duration", 10*time.Second, "time measured in each run")
	n := fs.Int("n", 100, "devices")
	version := fs.Int("v", 5, "MQTT protocol level: 4 or 5")
	windows := fs.String("windows", "1,16", "unacknowledged messages per device, one table each")
	outside := fs.String("hawser", "", "ADDRESS,PID,CERTS of a running server, instead of the one made here")
	if err := fs.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hawser-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	load := filepath.Join(dir, "mqttload")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", load, "./bench/cmd/mqttload").CombinedOutput(); err != nil {
		return fmt.Errorf("build the load generator (run this in the repository's root): %w\n%s", err, out)
	}
	var procs procs
	defer procs.stop()
	list, err := procs.contenders(ctx, dir, load, *n, *outside)
	if err != nil {
		return err
	}
	sync, err := fsyncs(dir)
	if err != nil {
		return err
	}
	fmt.Printf("fdatasync of 4 KB: p50 %.2f ms, p99 %.2f ms. %d devices, QoS 1, 200-byte messages, TLS 1.3 with client certificates; median of %d runs of %v.\n",
		sync[0], sync[1], *n, *runs, *lasts)
	for w := range strings.SplitSeq(*windows, ",") {
		results := map[string][]figures{}
		for range *runs {
			for _, c := range list {
				f, err := once(ctx, load, c, *n, *version, w, *lasts)
				if err != nil {
					return fmt.Errorf("%s, window %s: %w", c.name, w, err)
				}
				results[c.name] = append(results[c.name], f)
			}
		}
		table(w, list, results)
	}
	return nil
}

func once(ctx context.Context, load string, c contender, n, version int, window string, lasts time.Duration) (figures, error) {
	var f figures
	cmd := exec.CommandContext(ctx, load, "run", "-json", "-mode", c.mode, "-addr", c.addr, "-certs", c.certs, "-pid", strconv.Itoa(c.pid),
		"-n", strconv.Itoa(n), "-v", strconv.Itoa(version), "-window", window, "-duration", lasts.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(out, &f); err != nil {
		return f, err
	}
	if f.Broken > 0 || f.Refused > 0 {
		return f, fmt.Errorf("%d connections broke (%s), %d messages were refused: this measures nothing", f.Broken, f.Error, f.Refused)
	}
	return f, nil
}

func table(window string, list []contender, results map[string][]figures) {
	median := func(name string, of func(figures) float64) float64 {
		var v []float64
		for _, f := range results[name] {
			v = append(v, of(f))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	rate := func(f figures) float64 { return f.PerSecond }
	cpu := func(f figures) float64 { return f.CPU }
	ratio := func(a, b float64) string {
		if b == 0 {
			return "–"
		}
		return fmt.Sprintf("%.2f", a/b)
	}
	fmt.Printf("\nWindow %s\n\n| server | messages/s | × mosquitto | CPU µs/message | × mosquitto | × echo's rate | p50 ms | p99 ms | RSS MB |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n", window)
	for _, c := range list {
		r, u := median(c.name, rate), median(c.name, cpu)
		fmt.Printf("| %s | %.0f | %s | %.1f | %s | %s | %.1f | %.1f | %.0f |\n", c.name, r, ratio(r, median0(results, "mosquitto", rate)),
			u, ratio(u, median0(results, "mosquitto", cpu)), ratio(r, median0(results, "raw TLS echo", rate)),
			median(c.name, func(f figures) float64 { return f.P50 }), median(c.name, func(f figures) float64 { return f.P99 }),
			median(c.name, func(f figures) float64 { return f.RSS })/(1<<20))
	}
}

// median0 is 0 where there is nothing to compare with.
func median0(results map[string][]figures, name string, of func(figures) float64) float64 {
	var v []float64
	for _, f := range results[name] {
		v = append(v, of(f))
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// fsyncs measures the disk: append 4 KB and sync, p50 and p99 in ms.
func fsyncs(dir string) ([2]float64, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return [2]float64{}, err
	}
	defer f.Close()
	buf := make([]byte, 4096)
	var took []float64
	for range 500 {
		if _, err := f.Write(buf); err != nil {
			return [2]float64{}, err
		}
		start := time.Now()
		if err := dataSync(f); err != nil {
			return [2]float64{}, err
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
	}
	slices.Sort(took)
	return [2]float64{took[len(took)/2], took[len(took)*99/100]}, nil
}

// procs are the servers that were started here.
type procs []*exec.Cmd

func (p *procs) start(ctx context.Context, ready string, name string, args ...string) (int, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 15 * time.Second
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	*p = append(*p, cmd)
	if ready == "" {
		time.Sleep(500 * time.Millisecond)
		return cmd.Process.Pid, nil
	}
	s := bufio.NewScanner(out)
	for s.Scan() {
		if s.Text() == ready {
			return cmd.Process.Pid, nil
		}
	}
	return 0, errors.New(name + " ended before it was ready")
}

func (p *procs) stop() {
	for _, cmd := range *p {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = cmd.Wait()                       // how it ended does not matter any more
	}
}

func (p *procs) contenders(ctx context.Context, dir, load string, n int, outside string) ([]contender, error) {
	certs := filepath.Join(dir, "certs")
	if out, err := exec.CommandContext(ctx, load, "certs", "-dir", certs, "-n", strconv.Itoa(n)).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make certificates: %w\n%s", err, out)
	}
	var list []contender
	if outside != "" {
		f := strings.Split(outside, ",")
		if len(f) != 3 {
			return nil, errors.New("-hawser wants ADDRESS,PID,CERTS")
		}
		pid, err := strconv.Atoi(f[1])
		if err != nil {
			return nil, err
		}
		list = append(list, contender{"hawser", f[0], f[2], "mqtt", pid})
	} else {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		home := filepath.Join(dir, "hawser")
		pid, err := p.start(ctx, "ready", self, "serve", "-dir", home, "-n", strconv.Itoa(n), "-addr", "127.0.0.1:18884")
		if err != nil {
			return nil, err
		}
		list = append(list, contender{"hawser", "127.0.0.1:18884", filepath.Join(home, "devices"), "mqtt", pid})
	}
	if mosquitto, err := exec.LookPath("mosquitto"); err == nil {
		conf := filepath.Join(dir, "mosquitto.conf")
		text := fmt.Sprintf("listener 18883 127.0.0.1\ncafile %[1]s/ca.crt\ncertfile %[1]s/server.crt\nkeyfile %[1]s/server.key\n"+
			"require_certificate true\nuse_identity_as_username true\ntls_version tlsv1.3\nallow_anonymous false\npersistence false\nlog_type none\nmax_inflight_messages 0\n", certs)
		if os.Getuid() == 0 {
			text += "user root\n"
		}
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return nil, err
		}
		pid, err := p.start(ctx, "", mosquitto, "-c", conf)
		if err != nil {
			return nil, err
		}
		list = append(list, contender{"mosquitto", "127.0.0.1:18883", certs, "mqtt", pid})
	} else {
		fmt.Println("mosquitto is missing (Debian: mosquitto): nothing to compare with")
	}
	pid, err := p.start(ctx, "", load, "echo", "-addr", "127.0.0.1:18885", "-certs", certs)
	if err != nil {
		return nil, err
	}
	return append(list, contender{"raw TLS echo", "127.0.0.1:18885", certs, "echo", pid}), nil
}
