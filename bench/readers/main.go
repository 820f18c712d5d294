// Command readers measures what a service's stream costs and how far it is
// behind: units send readings over HTTPS at a rate, first without a reader and
// then with one that follows by server-sent events; afterwards the reader takes
// everything again from the beginning. The server is a process of its own, whose
// processor time is read from the kernel.
//
//	make build && go run ./bench/readers -hawser bin/hawser
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/bench/soak/rig"
	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

//go:embed readers.yaml
var product []byte

type bench struct {
	home  *rig.Home
	units []*rig.Unit
	rate  int
	span  time.Duration
	dir   string
	door  string
}

func main() {
	hawser := flag.String("hawser", "", "the `program` to measure")
	rate := flag.Int("rate", 1000, "`readings` a second")
	units := flag.Int("units", 20, "how `many` units send them")
	span := flag.Duration("span", 15*time.Second, "how `long` each part takes")
	flag.Parse()
	if err := run(context.Background(), *hawser, *rate, *units, *span); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, hawser string, rate, units int, span time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "hawser-bench-readers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{rate: rate, span: span, dir: dir}
	if b.home, err = rig.Make(ctx, hawser, filepath.Join(dir, "home"), "services: 127.0.0.1:0\n"); err != nil {
		return err
	}
	if err = b.home.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.home.Kill()) }()
	file := filepath.Join(dir, "readers.yaml")
	if err = os.WriteFile(file, product, 0o600); err != nil {
		return err
	}
	if _, err = b.home.Run(ctx, "declaration", "publish", file); err != nil {
		return err
	}
	var ids []core.DeviceID
	for i := range units {
		ids = append(ids, core.DeviceID(fmt.Sprintf("BENCH-%d", i)))
	}
	if b.units, err = b.home.Enrol(ctx, "reader-bench", ids); err != nil {
		return err
	}
	if err = b.service(ctx); err != nil {
		return err
	}
	alone, sent, err := b.send(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("without a reader: %d readings, server %.1f µs of processor each\n", sent, micros(alone, sent))

	reading, stop := context.WithCancel(ctx)
	var lags []time.Duration
	followed := make(chan error, 1)
	go func() { followed <- b.follow(reading, &lags) }()
	time.Sleep(time.Second)
	with, sent, err := b.send(ctx)
	time.Sleep(2 * time.Second)
	stop()
	if err = errors.Join(err, <-followed); err != nil {
		return err
	}
	slices.Sort(lags)
	at := func(q float64) time.Duration {
		return lags[min(len(lags)-1, int(q*float64(len(lags))))].Round(time.Millisecond)
	}
	if len(lags) == 0 {
		return errors.New("nothing came")
	}
	fmt.Printf("with a reader: %d readings sent, %d came, server %.1f µs of processor each; lag p50 %s, p99 %s, most %s\n",
		sent, len(lags), micros(with, sent), at(0.5), at(0.99), at(1))

	began, cpu := time.Now(), b.cpu()
	n, err := b.again(ctx)
	if err != nil {
		return err
	}
	took := time.Since(began)
	fmt.Printf("from the beginning: %d readings in %s, %.0f a second, server %.1f µs of processor each\n",
		n, took.Round(time.Millisecond), float64(n)/took.Seconds(), micros(b.cpu()-cpu, n))
	return nil
}

func micros(cpu time.Duration, n int) float64 {
	return float64(cpu.Microseconds()) / float64(max(n, 1))
}

// cpu is the processor time of the server so far (proc(5)).
func (b *bench) cpu() time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.home.PID()))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// service registers the reader, as its maker would.
func (b *bench) service(ctx context.Context) error {
	key, csr := filepath.Join(b.dir, "app.key"), filepath.Join(b.dir, "app.csr")
	if out, err := exec.CommandContext(ctx, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", key, "-subj", "/CN=app-backend", "-out", csr).CombinedOutput(); err != nil {
		return fmt.Errorf("openssl: %w: %s", err, out)
	}
	if _, err := b.home.Run(ctx, "service", "add", "app-backend"); err != nil {
		return err
	}
	out, err := b.home.Run(ctx, "service", "certificate", "app-backend", "--csr", csr, "--out", b.dir, "--json")
	if err != nil {
		return err
	}
	var c api.ServiceCertificate
	if err := json.Unmarshal(out, &c); err != nil {
		return err
	}
	b.door = c.Address
	return nil
}

func (b *bench) client() (*http.Client, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(b.dir, "app-backend.pem"), filepath.Join(b.dir, "app.key"))
	if err != nil {
		return nil, err
	}
	conf, err := b.home.TLS(nil)
	if err != nil {
		return nil, err
	}
	conf = conf.Clone()
	conf.Certificates = []tls.Certificate{cert}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}, nil
}

// send has all units send at the rate for the span: each a batch, every tenth of
// a second. It gives the server's processor time meanwhile.
func (b *bench) send(ctx context.Context) (cpu time.Duration, sent int, err error) {
	st, err := b.home.Ask(ctx)
	if err != nil {
		return 0, 0, err
	}
	began, before := time.Now(), b.cpu()
	each := max(1, b.rate/len(b.units)/10)
	var work sync.WaitGroup
	var mu sync.Mutex
	for _, u := range b.units {
		conf, err := b.home.TLS(u)
		if err != nil {
			return 0, 0, err
		}
		hc := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}
		work.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for time.Since(began) < b.span {
				<-tick.C
				var body bytes.Buffer
				for i := range each {
					fmt.Fprintf(&body, "{\"t\":%q,\"temp\":%d.5,\"note\":\"nobody\"}\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), i%50)
				}
				resp, e := hc.Post("https://"+st.HTTPS+"/device/v1/telemetry/climate", "application/x-ndjson", &body)
				if e == nil {
					answer, _ := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					var a struct{ Accepted int }
					if e = json.Unmarshal(answer, &a); e == nil && a.Accepted != each {
						e = fmt.Errorf("%s: %s", resp.Status, answer)
					}
				}
				mu.Lock()
				if e != nil {
					err = e
				} else {
					sent += each
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	if e := b.home.Settle(ctx); e != nil {
		return 0, 0, e
	}
	return b.cpu() - before, sent, err
}

// follow reads by server-sent events from now on and notes how old each reading
// is when it comes.
func (b *bench) follow(ctx context.Context, lags *[]time.Duration) error {
	hc, err := b.client()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+b.door+"/service/v1/stream/reader-bench?cursor=now", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line, ok := bytes.CutPrefix(sc.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		now := time.Now()
		var x struct{ Type, T string }
		if err := json.Unmarshal(line, &x); err != nil {
			return err
		}
		if x.Type != "reading" {
			continue
		}
		t, err := time.Parse(time.RFC3339Nano, x.T)
		if err != nil {
			return err
		}
		*lags = append(*lags, now.Sub(t))
	}
	return nil // the end of ctx ends it
}

// again reads everything from the beginning, page by page.
func (b *bench) again(ctx context.Context) (n int, err error) {
	hc, err := b.client()
	if err != nil {
		return 0, err
	}
	for cursor := ""; ; {
		req, err := http.NewRequestWithContext(ctx, "GET", "https://"+b.door+"/service/v1/stream/reader-bench?wait=0&limit=1000&cursor="+cursor, nil)
		if err != nil {
			return n, err
		}
		resp, err := hc.Do(req)
		if err != nil {
			return n, err
		}
		page, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return n, fmt.Errorf("%s %s %w", resp.Status, page, err)
		}
		some := bytes.Count(page, []byte(`"type":"reading"`))
		if some == 0 {
			return n, nil
		}
		n, cursor = n+some, resp.Header.Get("Hawser-Cursor")
	}
}
