package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/bench/soak/rig"
)

// figures is what the load generator reports of one run.
type figures struct {
	PerSecond float64 `json:"acked_per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	CPU       float64 `json:"server_cpu_us_per_message"`
	ClientCPU float64 `json:"client_cpu_us_per_message"`
	RSS       float64 `json:"server_rss_bytes"`
	Refused   uint64  `json:"refused"`
	Broken    int     `json:"broken_connections"`
	Error     string  `json:"first_error"`

	whole float64 // our server: processor time per message until all was filed
	filed float64 // our server: rows filed per second, from the first message until all was filed
}

type contender struct {
	name, addr, certs, mode string
	pid                     int
}

const (
	ours   = "hawser"
	theirs = "mosquitto"
	echo   = "raw TLS echo"
)

// payload is the load generator's message of 200 bytes, with a boot of its
// own, so that no run repeats the readings of another.
func payload(boot int) string {
	return fmt.Sprintf(`{"t":$T,"boot":%d,"seq":$SEQ,"temp":21.4,"humidity":45.2,"press":1013.2,"co2":612,"target":21.5,`+
		`"heating":true,"mode":"comfort","valve":37,"batt":2.9,"rssi":-61,"lux":118,"open":false}`, boot%10)
}

// throughput runs each server in turn and prints a table for each window. All
// three run all the time; only the one measured has anything to do, since
// what ours still has to file is waited for.
func (b *bench) throughput(ctx context.Context) error {
	h, devices, err := b.home(ctx, "throughput", oneGroup, b.devices)
	if err != nil {
		return err
	}
	defer func() { _ = h.Stop() }() // after the last run there is nothing to lose
	list := []contender{{ours, h.Devices(), devices, "mqtt", h.PID()}}
	certs := filepath.Join(b.dir, "certs")
	if out, err := exec.CommandContext(ctx, b.load, "certs", "-dir", certs, "-n", strconv.Itoa(b.devices)).CombinedOutput(); err != nil {
		return fmt.Errorf("make certificates: %w\n%s", err, out)
	}
	var stop []*exec.Cmd
	defer func() {
		for _, c := range stop {
			_ = c.Process.Signal(os.Interrupt) // it may have ended
			_ = c.Wait()                       // how does not matter any more
		}
	}()
	start := func(name, addr, mode, program string, args ...string) error {
		cmd := exec.Command(program, args...)
		if err := cmd.Start(); err != nil {
			return err
		}
		stop = append(stop, cmd)
		list = append(list, contender{name, addr, certs, mode, cmd.Process.Pid})
		return nil
	}
	if mosquitto, err := exec.LookPath("mosquitto"); err == nil {
		conf := filepath.Join(b.dir, "mosquitto.conf")
		text := fmt.Sprintf("listener 18893 127.0.0.1\ncafile %[1]s/ca.crt\ncertfile %[1]s/server.crt\nkeyfile %[1]s/server.key\n"+
			"require_certificate true\nuse_identity_as_username true\ntls_version tlsv1.3\nallow_anonymous false\npersistence false\nlog_type none\nmax_inflight_messages 0\n", certs)
		if os.Getuid() == 0 {
			text += "user root\n"
		}
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return err
		}
		if err := start(theirs, "127.0.0.1:18893", "mqtt", mosquitto, "-c", conf); err != nil {
			return err
		}
	} else {
		fmt.Println("mosquitto is missing (Debian: mosquitto): nothing to compare with")
	}
	if err := start(echo, "127.0.0.1:18895", "echo", b.load, "echo", "-addr", "127.0.0.1:18895", "-certs", certs); err != nil {
		return err
	}
	time.Sleep(time.Second) // both listen
	boot := int(time.Now().Unix() % 5)
	for _, w := range []int{1, 16} {
		p50, _, err := b.dataSyncs()
		if err != nil {
			return err
		}
		fmt.Printf("Window %d; fdatasync p50 %.2f ms. %d devices, QoS 1, MQTT 5, 200 bytes, 12 fields, TLS 1.3, client certificates; median of %d alternating runs of %v.\n\n",
			w, p50, b.devices, b.runs, b.lasts)
		results := map[string][]figures{}
		for range b.runs {
			boot++
			for _, c := range list {
				f, err := b.once(ctx, h, c, w, boot)
				if err != nil {
					return fmt.Errorf("%s, window %d: %w", c.name, w, err)
				}
				results[c.name] = append(results[c.name], f)
			}
		}
		table(list, results)
	}
	return nil
}

func (b *bench) once(ctx context.Context, h *rig.Home, c contender, window, boot int) (f figures, err error) {
	rows0, cpu0, began := 0.0, time.Duration(0), time.Now()
	if c.name == ours {
		if rows0, err = h.Metric(ctx, "projector_rows_total"); err != nil {
			return f, err
		}
		if cpu0, err = processTime(c.pid); err != nil {
			return f, err
		}
	}
	cmd := exec.CommandContext(ctx, b.load, "run", "-json", "-mode", c.mode, "-addr", c.addr, "-certs", c.certs, "-pid", strconv.Itoa(c.pid),
		"-n", strconv.Itoa(b.devices), "-v", "5", "-window", strconv.Itoa(window), "-duration", b.lasts.String(), "-payload", payload(boot))
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
	if c.name != ours {
		return f, nil
	}
	if err := h.Settle(ctx); err != nil {
		return f, err
	}
	took := time.Since(began)
	rows1, err := h.Metric(ctx, "projector_rows_total")
	if err != nil {
		return f, err
	}
	cpu1, err := processTime(c.pid)
	if err != nil {
		return f, err
	}
	if rows1 == rows0 {
		return f, errors.New("nothing was filed: this measures nothing")
	}
	f.whole = float64((cpu1 - cpu0).Microseconds()) / (rows1 - rows0)
	f.filed = (rows1 - rows0) / took.Seconds()
	return f, nil
}

func median(all []figures, of func(figures) float64) float64 {
	if len(all) == 0 {
		return 0
	}
	var v []float64
	for _, f := range all {
		v = append(v, of(f))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func table(list []contender, results map[string][]figures) {
	rate := func(f figures) float64 { return f.PerSecond }
	cpu := func(f figures) float64 { return f.CPU }
	ratio := func(a, b float64) string {
		if b == 0 {
			return "–"
		}
		return fmt.Sprintf("%.2f", a/b)
	}
	fmt.Println("| server | messages/s | × mosquitto | × echo | CPU µs/message | × mosquitto | client µs/message | p50 ms | p99 ms | RSS MB |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, c := range list {
		all := results[c.name]
		r, u := median(all, rate), median(all, cpu)
		fmt.Printf("| %s | %.0f | %s | %s | %.1f | %s | %.1f | %.2f | %.2f | %.0f |\n", c.name, r, ratio(r, median(results[theirs], rate)),
			ratio(r, median(results[echo], rate)), u, ratio(u, median(results[theirs], cpu)),
			median(all, func(f figures) float64 { return f.ClientCPU }), median(all, func(f figures) float64 { return f.P50 }),
			median(all, func(f figures) float64 { return f.P99 }), median(all, func(f figures) float64 { return f.RSS })/(1<<20))
	}
	fmt.Printf("\nhawser until all was filed: %.1f µs/message of processor time, %.0f rows/s filed.\n\n",
		median(results[ours], func(f figures) float64 { return f.whole }), median(results[ours], func(f figures) float64 { return f.filed }))
	var each []string
	for _, c := range list {
		s := c.name + ":"
		for _, f := range results[c.name] {
			s += fmt.Sprintf(" %.0f", f.PerSecond)
		}
		each = append(each, s)
	}
	fmt.Printf("Single runs, messages/s. %s\n\n", strings.Join(each, "; "))
}
