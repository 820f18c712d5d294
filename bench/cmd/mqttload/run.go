package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// defaultPayload has 200 bytes: time, boot, seq and 12 fields.
const defaultPayload = `{"t":$T,"boot":7,"seq":$SEQ,"temp":21.4,"humidity":45.2,"press":1013.2,"co2":612,"target":21.5,` +
	`"heating":true,"mode":"comfort","valve":37,"batt":2.9,"rssi":-61,"lux":118,"open":false}`

// figures is what one run measured.
type figures struct {
	Mode        string  `json:"mode"`
	Version     int     `json:"mqtt_version,omitempty"`
	Connections int     `json:"connections"`
	Window      int     `json:"window"`
	PayloadLen  int     `json:"payload_bytes"`
	Seconds     float64 `json:"seconds"`
	Acked       uint64  `json:"acked"`
	Refused     uint64  `json:"refused"`
	PerSecond   float64 `json:"acked_per_second"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	Max         float64 `json:"max_ms"`
	ServerCPU   float64 `json:"server_cpu_us_per_message,omitempty"`
	ClientCPU   float64 `json:"client_cpu_us_per_message"`
	ServerRSS   int64   `json:"server_rss_bytes,omitempty"`
	Broken      int     `json:"broken_connections"`
	FirstError  string  `json:"first_error,omitempty"`
}

type options struct {
	target
	mode, topic, payload string
	window               int
	lasts, warm          time.Duration
	coalesce             bool
}

func run(args []string) error {
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	var o options
	o.flags(fs)
	fs.StringVar(&o.mode, "mode", "mqtt", "mqtt or echo")
	fs.StringVar(&o.topic, "topic", "telemetry/climate", "topic; %s stands for the device's name")
	fs.StringVar(&o.payload, "payload", defaultPayload, "message body; $T and $SEQ change with each message")
	file := fs.String("payload-file", "", "read the message body from this file")
	fs.IntVar(&o.window, "window", 1, "unacknowledged messages per connection")
	fs.DurationVar(&o.lasts, "duration", 10*time.Second, "time measured")
	fs.DurationVar(&o.warm, "warm", 2*time.Second, "time before, not measured")
	fs.BoolVar(&o.coalesce, "coalesce", false, "send what the window allows in one TLS record, not one record per message as clients do")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *file != "" {
		b, err := os.ReadFile(*file)
		if err != nil {
			return err
		}
		o.payload = string(b)
	}
	if o.window < 1 || o.window > 60000 {
		return fmt.Errorf("-window %d: from 1 to 60000", o.window)
	}
	if err := o.load(); err != nil {
		return err
	}
	f, err := o.measure()
	if err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(os.Stdout).Encode(f)
	}
	fmt.Printf("%s n=%d window=%d: %.0f/s  p50 %.2f ms  p99 %.2f ms  server %.1f µs/msg  client %.1f µs/msg  rss %.1f MB  refused %d  broken %d %s\n",
		f.Mode, f.Connections, f.Window, f.PerSecond, f.P50, f.P99, f.ServerCPU, f.ClientCPU, float64(f.ServerRSS)/(1<<20), f.Refused, f.Broken, f.FirstError)
	return nil
}

// phase is shared by all connections of a run.
type phase struct {
	measuring, stop atomic.Bool
	acked, refused  atomic.Uint64
}

func (o *options) measure() (*figures, error) {
	mode := withConnect
	if o.mode == "echo" {
		mode = tlsOnly
	}
	conns, err := o.dialAll(mode)
	if err != nil {
		return nil, err
	}
	var p phase
	var wg sync.WaitGroup
	hists := make([]histogram, len(conns))
	errs := make([]error, len(conns))
	for i, c := range conns {
		wg.Go(func() {
			w := &worker{o: o, p: &p, c: c, hist: &hists[i], name: o.names[i], sent: make([]time.Time, 1<<16)}
			errs[i] = w.loop()
		})
	}
	time.Sleep(o.warm)
	server0, err := processTime(o.pid)
	if err != nil {
		return nil, err
	}
	client0 := selfTime()
	start := time.Now()
	p.measuring.Store(true)
	time.Sleep(o.lasts)
	p.measuring.Store(false)
	took := time.Since(start)
	server1, err := processTime(o.pid)
	if err != nil {
		return nil, err
	}
	client1 := selfTime()
	rss, err := resident(o.pid)
	if err != nil {
		return nil, err
	}
	p.stop.Store(true)
	for _, c := range conns {
		_ = c.SetDeadline(time.Now().Add(100 * time.Millisecond)) // wakes what still waits; the run is over
	}
	wg.Wait()
	for _, c := range conns {
		_ = c.Close() // the run is over
	}
	var all histogram
	f := &figures{
		Mode: o.mode, Version: o.version, Connections: len(conns), Window: o.window, PayloadLen: len(newPayload(o.payload).body),
		Seconds: took.Seconds(), Acked: p.acked.Load(), Refused: p.refused.Load(), ServerRSS: rss,
	}
	for i := range hists {
		all.merge(&hists[i])
		if errs[i] != nil {
			f.Broken++
			if f.FirstError == "" {
				f.FirstError = errs[i].Error()
			}
		}
	}
	f.PerSecond = float64(f.Acked) / f.Seconds
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	f.P50, f.P99, f.Max = ms(all.quantile(0.5)), ms(all.quantile(0.99)), ms(all.max)
	if n := float64(f.Acked); n > 0 {
		f.ServerCPU = float64((server1 - server0).Microseconds()) / n
		f.ClientCPU = float64((client1 - client0).Microseconds()) / n
	}
	return f, nil
}

func selfTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// worker drives one connection in one goroutine: as many messages as the
// window allows, then one new message for each acknowledgement.
type worker struct {
	o    *options
	p    *phase
	c    *tls.Conn
	hist *histogram
	name string
	sent []time.Time // by packet id; in echo mode a ring
	next uint16
	out  []byte
}

func (w *worker) loop() error {
	body := newPayload(w.o.payload)
	var fixed []byte
	if w.o.mode != "echo" {
		v := appendString(nil, strings.ReplaceAll(w.o.topic, "%s", w.name))
		extra := 2
		if w.o.version == 5 {
			extra = 3
		}
		fixed = append(appendLength([]byte{0x32}, len(v)+extra+len(body.body)), v...)
	}
	send := func(k int) error {
		w.out = w.out[:0]
		for i := range k {
			now := time.Now()
			if w.next++; w.next == 0 {
				w.next = 1
			}
			w.sent[w.next] = now
			if fixed != nil {
				w.out = append(w.out, fixed...)
				w.out = binary.BigEndian.AppendUint16(w.out, w.next)
				if w.o.version == 5 {
					w.out = append(w.out, 0)
				}
			}
			w.out = append(w.out, body.next(now)...)
			if w.o.coalesce && i < k-1 {
				continue
			}
			if _, err := w.c.Write(w.out); err != nil {
				return err
			}
			w.out = w.out[:0]
		}
		return nil
	}
	r := bufio.NewReaderSize(w.c, 4096)
	read := w.acks
	if w.o.mode == "echo" {
		read = w.echoes(len(body.body))
	}
	err := send(w.o.window)
	for err == nil && !w.p.stop.Load() {
		var n int
		if n, err = read(r); err == nil {
			err = send(n)
		}
	}
	if w.p.stop.Load() {
		return nil
	}
	return err
}

func (w *worker) done(id uint16) {
	if w.p.measuring.Load() {
		w.hist.add(time.Since(w.sent[id]))
		w.p.acked.Add(1)
	}
}

var errStopped = errors.New("stopped")

// acks waits for one acknowledgement and takes all that came with it.
func (w *worker) acks(r *bufio.Reader) (int, error) {
	for n := 0; ; {
		head, err := r.Peek(2)
		if err != nil {
			return n, err
		}
		if head[1] >= 0x80 {
			return n, fmt.Errorf("packet type %d longer than 127 bytes", head[0]>>4)
		}
		size := 2 + int(head[1])
		b, err := r.Peek(size)
		if err != nil {
			return n, err
		}
		switch {
		case b[0]>>4 == 4 && size >= 4:
			if size > 4 && b[4] >= 0x80 {
				if w.p.measuring.Load() {
					w.p.refused.Add(1)
				}
			} else {
				w.done(binary.BigEndian.Uint16(b[2:]))
			}
			n++
		case b[0]>>4 == 14:
			return n, fmt.Errorf("DISCONNECT % x", b[2:])
		}
		if _, err := r.Discard(size); err != nil {
			return n, err
		}
		if n > 0 && r.Buffered() < 2 {
			return n, nil
		}
		if w.p.stop.Load() {
			return n, errStopped
		}
	}
}

// echoes waits for one returned message and takes all that came with it.
func (w *worker) echoes(size int) func(*bufio.Reader) (int, error) {
	oldest := uint16(0)
	return func(r *bufio.Reader) (int, error) {
		for n := 0; ; {
			if _, err := r.Discard(size); err != nil {
				return n, err
			}
			if oldest++; oldest == 0 {
				oldest = 1
			}
			w.done(oldest)
			n++
			if r.Buffered() < size {
				return n, nil
			}
		}
	}
}

// echo serves raw TLS with the same demands on client certificates and sends
// back every record as it comes.
func echo(args []string) error {
	fs := flag.NewFlagSet("echo", flag.ContinueOnError)
	addr := fs.String("addr", "127.0.0.1:8899", "address to listen on")
	dir := fs.String("certs", "certs", "folder with ca.crt, server.crt and server.key")
	if err := fs.Parse(args); err != nil {
		return err
	}
	conf, err := serverConfig(*dir)
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", *addr, conf)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				if err != nil {
					if !errors.Is(err, io.EOF) {
						fmt.Fprintln(os.Stderr, "echo:", err)
					}
					return
				}
				if _, err := c.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}
