package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

func serverConfig(dir string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("ca.crt holds no certificate")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
	}, nil
}

// idle opens N connections, waits, and divides the growth of the server's
// resident memory by N.
func idle(args []string) error {
	fs := flag.NewFlagSet("idle", flag.ContinueOnError)
	var t target
	t.flags(fs)
	settle := fs.Duration("settle", 10*time.Second, "wait after the last connection")
	hold := fs.Duration("hold", 10*time.Second, "then hold, and measure the server's processor time")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := t.load(); err != nil {
		return err
	}
	before, err := resident(t.pid)
	if err != nil {
		return err
	}
	cpu0, err := processTime(t.pid)
	if err != nil {
		return err
	}
	conns, err := t.dialAll(withConnect)
	if err != nil {
		return err
	}
	cpu1, err := processTime(t.pid)
	if err != nil {
		return err
	}
	time.Sleep(*settle)
	after, err := resident(t.pid)
	if err != nil {
		return err
	}
	cpu2, err := processTime(t.pid)
	if err != nil {
		return err
	}
	time.Sleep(*hold)
	cpu3, err := processTime(t.pid)
	if err != nil {
		return err
	}
	for _, c := range conns {
		_ = c.Close() // measured already
	}
	out := struct {
		Connections int     `json:"connections"`
		Before      int64   `json:"rss_before_bytes"`
		After       int64   `json:"rss_after_bytes"`
		Per         float64 `json:"rss_per_connection_bytes"`
		ConnectCPU  float64 `json:"server_cpu_us_per_connect"`
		IdleCPU     float64 `json:"server_idle_cpu_share_of_a_core"`
	}{
		t.n, before, after, float64(after-before) / float64(t.n),
		float64((cpu1 - cpu0).Microseconds()) / float64(t.n), (cpu3 - cpu2).Seconds() / hold.Seconds(),
	}
	if t.json {
		return json.NewEncoder(os.Stdout).Encode(out)
	}
	fmt.Printf("idle n=%d: %.1f KB per connection (%.1f → %.1f MB), connect %.0f µs, idle cpu %.1f %% of a core\n",
		out.Connections, out.Per/1024, float64(before)/(1<<20), float64(after)/(1<<20), out.ConnectCPU, out.IdleCPU*100)
	return nil
}

// handshakes connects anew again and again: TCP, full TLS, CONNECT, CONNACK,
// close. No ticket is ever used.
func handshakes(args []string) error {
	fs := flag.NewFlagSet("handshakes", flag.ContinueOnError)
	var t target
	t.flags(fs)
	lasts := fs.Duration("duration", 10*time.Second, "time measured")
	parallel := fs.Int("parallel", 32, "connections under way at a time")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := t.load(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	var done, failed atomic.Int64
	var first atomic.Pointer[error]
	ctx, cancel := context.WithTimeout(context.Background(), *lasts+20*time.Second)
	defer cancel()
	cpu0, err := processTime(t.pid)
	if err != nil {
		return err
	}
	start := time.Now()
	for w := range *parallel {
		wg.Go(func() {
			for i := w; time.Since(start) < *lasts; i += *parallel {
				c, err := t.dial(ctx, i%t.n)
				if err == nil {
					err = t.connect(c, t.names[i%t.n])
					_ = c.Close() // one handshake each
				}
				if err == nil {
					done.Add(1)
				} else {
					failed.Add(1)
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	cpu1, err := processTime(t.pid)
	if err != nil {
		return err
	}
	n := float64(done.Load())
	out := struct {
		Done      int64   `json:"handshakes"`
		Failed    int64   `json:"failed"`
		PerSecond float64 `json:"per_second"`
		CPU       float64 `json:"server_cpu_us_each"`
		PerCore   float64 `json:"per_core_second"`
		First     string  `json:"first_error,omitempty"`
	}{done.Load(), failed.Load(), n / took.Seconds(), float64((cpu1 - cpu0).Microseconds()) / n, n / (cpu1 - cpu0).Seconds(), ""}
	if e := first.Load(); e != nil {
		out.First = (*e).Error()
	}
	if t.json {
		return json.NewEncoder(os.Stdout).Encode(out)
	}
	fmt.Printf("handshakes %d (%d failed): %.0f/s, server %.0f µs each, %.0f per core-second %s\n",
		out.Done, out.Failed, out.PerSecond, out.CPU, out.PerCore, out.First)
	return nil
}
