package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// twoKeepTimes is testDeclaration with a field that support may read and that
// is kept longer, so that its rows lie in another file.
func twoKeepTimes(t *testing.T) string {
	t.Helper()
	const temp = "  temp: {"
	if !strings.Contains(testDeclaration, temp) {
		t.Fatal("the declaration's field is written differently")
	}
	const wet = "  wet: {stream: climate, type: integer, unit: \"%\", range: [0, 1000], class: personal, purposes: [service.control], keep: 100d, readers: [owner, support], when_done: shred}\n"
	return strings.Replace(testDeclaration, temp, wet+temp, 1)
}

// TestDamagedEpochFile: one file that a disk has spoiled is named; readings for
// it are acknowledged and wait; all else is read and written as before; and
// when the file comes back from a copy, everything is there (the issue of a
// corrupt epoch file; CC 3.3).
func TestDamagedEpochFile(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, twoKeepTimes(t))
	u := l.enrol(t, "A1")
	send := func(l *live, from, to int) {
		t.Helper()
		c := dialMQTT(t, l, u)
		for i := from; i <= to; i++ {
			c.publish(t, "telemetry/climate", fmt.Sprintf(`{"temp":%d,"wet":%d,"boot":1,"seq":%d}`, i%40, i, i))
		}
		c.close(t)
	}
	send(l, 1, 30)
	if lines, err := l.readAll(t, "A1"); err != nil || len(lines) != 30 {
		t.Fatalf("before: %d readings, %v", len(lines), err)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	var spoiled string
	for _, f := range epochFiles(t, home) {
		if strings.Contains(f, fmt.Sprintf("k%d", 30*24*3600)) {
			spoiled = f
		}
	}
	if spoiled == "" {
		t.Fatalf("no file of 30 days in %v", epochFiles(t, home))
	}
	whole, err := os.ReadFile(spoiled)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), whole...)
	for i := 100; i < len(bad); i += 7 {
		bad[i] ^= 0xA5
	}
	if err := os.WriteFile(spoiled, bad, 0o600); err != nil {
		t.Fatal(err)
	}

	l = start(t, home)
	send(l, 31, 50) // acknowledged all the same
	name := strings.TrimSuffix(filepath.Base(spoiled), ".db")
	waitFor(t, 20*time.Second, "doctor names the file", func() bool {
		f := l.finding(t, "epoch files")
		return strings.HasPrefix(f, "error") && strings.Contains(f, name)
	})
	lines, err := l.readAll(t, "A1")
	if err != nil {
		t.Fatalf("the rest does not serve: %v", err)
	}
	wet := 0
	for _, x := range lines {
		if strings.Contains(string(x.Values), `"wet"`) {
			wet++
		}
	}
	if wet != 50 {
		t.Errorf("%d readings of the healthy file, want 50", wet)
	}
	var check api.RowsCheck
	l.call(t, "POST", "/v1/verify", nil, &check)
	if !strings.Contains(strings.Join(check.Faults, " "), name) {
		t.Errorf("verification does not name the file: %v", check.Faults)
	}
	if n := l.records(t, "epoch-damaged"); n != 1 {
		t.Errorf("%d entries of it in the ledger, want 1", n)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(spoiled, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	waitFor(t, 30*time.Second, "the rows that waited are filed", func() bool {
		lines, err = l.readAll(t, "A1")
		n := 0
		for _, x := range lines {
			if strings.Contains(string(x.Values), `"temp"`) && strings.Contains(string(x.Values), `"wet"`) {
				n++
			}
		}
		return err == nil && n == 50 && len(lines) == 50
	})
	if f := l.finding(t, "epoch files"); f != "" {
		t.Errorf("doctor still says %s", f)
	}
	l.call(t, "POST", "/v1/verify", nil, &check)
	if len(check.Faults) != 0 {
		t.Errorf("rows: %v", check.Faults)
	}
}

// readDone is readAll, and whether the answer said that newer readings were
// not filed yet.
func (l *live) readDone(t testing.TB, id core.DeviceID) (lines []api.ReadLine, behind bool) {
	t.Helper()
	ended := false
	err := l.client.Stream(t.Context(), "POST", "/v1/devices/"+string(id)+"/read", api.ReadRequest{Purpose: "service.control", Reason: "a test reads back"}, func(line []byte) error {
		var x api.ReadLine
		if err := json.Unmarshal(line, &x); err != nil {
			return err
		}
		switch {
		case x.Problem != nil:
			return fmt.Errorf("read broke off: %s", x.Problem.Title)
		case x.Done != nil:
			ended, behind = true, x.Done.Behind
		default:
			lines = append(lines, x)
		}
		return nil
	})
	if err != nil || !ended {
		t.Fatalf("read of %s: %v, ended %t", id, err, ended)
	}
	return lines, behind
}

// settled counts what the journal has taken.
type settled struct {
	n      sync.WaitGroup
	failed atomic.Int64
}

func (s *settled) Done(_ uint64, err error) {
	if err != nil {
		s.failed.Add(1)
	}
	s.n.Done()
}

// TestBacklog: a server whose projector stood still for long files everything
// when it comes back, once, and serves meanwhile.
func TestBacklog(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	dialMQTT(t, l, u).publish(t, "telemetry/climate", `{"temp":1,"boot":1,"seq":1}`)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	// The same server with every part but the projector: what it acknowledges
	// stays in the journal.
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	const backlog = 60_000
	s := newServer(c, Options{Now: time.Now})
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, err := s.devices.Device("A1")
	if err != nil {
		t.Fatal(err)
	}
	src := s.intake.NewSource(telemetry.SourceInfo{Device: d.ID, Product: d.Product, Subject: d.Subject, OwnedSince: d.OwnedSince, Sender: [16]byte(d.Serial)})
	var done settled
	for i := range backlog {
		done.n.Add(1)
		payload := fmt.Appendf(nil, `{"temp":%d,"boot":2,"seq":%d}`, i%40, i+1)
		for {
			v := s.intake.Message(src, []byte("climate"), payload, &done, uint64(i))
			if v.Action == telemetry.Pending {
				break
			}
			if v.Action != telemetry.Trouble {
				t.Fatalf("message %d: %+v", i, v)
			}
			time.Sleep(time.Millisecond) // the journal's queue is full
		}
	}
	done.n.Wait()
	if n := done.failed.Load(); n != 0 {
		t.Fatalf("%d messages not committed", n)
	}
	src.Close()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	l = start(t, home)
	dialMQTT(t, l, u).publish(t, "telemetry/climate", `{"temp":3,"boot":3,"seq":1}`)
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("with a backlog the first message took %s", d)
	}
	// A read does not wait for ever: it says when it is behind.
	early, behind := l.readDone(t, "A1")
	if len(early) != backlog+2 && !behind {
		t.Errorf("%d of %d readings, and not a word that more are to come", len(early), backlog+2)
	}
	var lines []api.ReadLine
	waitFor(t, 60*time.Second, "the backlog is filed", func() bool {
		if behind {
			lines, behind = l.readDone(t, "A1")
			return !behind
		}
		lines = early
		return true
	})
	if len(lines) != backlog+2 {
		t.Errorf("%d readings, want %d", len(lines), backlog+2)
	}
	seen := make(map[[2]uint64]bool, backlog)
	for _, x := range lines {
		key := [2]uint64{*x.Boot, *x.Seq}
		if seen[key] {
			t.Fatalf("%v is there twice", key)
		}
		seen[key] = true
	}
	t.Logf("a backlog of %d readings was filed and read back in %s", backlog, time.Since(began).Round(time.Millisecond))
}

// switchboard lets a device find a server whose ports change with every start.
type switchboard struct {
	mu sync.Mutex
	l  *live
}

func (s *switchboard) set(l *live) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.l = l
}

func (s *switchboard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	s.mu.Lock()
	l := s.l
	s.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: no server runs", address)
	}
	to := l.addr.Devices
	if strings.HasSuffix(address, ":8443") {
		to = l.addr.HTTPS
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	return d.DialContext(ctx, network, to)
}

// TestDeviceOutlivesRestarts: a device on the maker's library sends on while
// its server stops and comes back, and while it is itself stopped in between:
// each reading is stored once, and in order. Then it renews its certificate at
// the real door, and the session of the new one goes on (CC 3.2, 3.3).
func TestDeviceOutlivesRestarts(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Test, "")
	board := &switchboard{}
	l := start(t, home)
	board.set(l)
	l.publish(t, testDeclaration)
	code := l.add(t, "A1")
	roots, err := os.ReadFile(l.rootFile(t))
	if err != nil {
		t.Fatal(err)
	}
	var skew atomic.Int64 // of the device's clock
	conf := device.Config{
		Serial: "A1", Server: "localhost:8883", EnrolServer: "localhost:8443", Roots: roots, StateDir: filepath.Join(t.TempDir(), "state"),
		EnrolmentCode: func() (string, error) { return code, nil }, Dial: board.dial,
		Now: func() time.Time { return time.Now().Add(time.Duration(skew.Load())) },
	}
	var d *device.Device
	var stop func()
	boot := func() {
		t.Helper()
		if d, err = device.Open(conf); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		stop = sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the device ended with %v", err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(stop)
	}
	sent := 0
	send := func(n int) {
		t.Helper()
		for range n {
			if err := d.Send("climate", device.NewReading(time.Now()).Float("temp", float64(sent%40)).String("note", fmt.Sprintf("n%d", sent))); err != nil {
				t.Fatal(err)
			}
			sent++
			if sent%10 == 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
	boot()
	// What was measured before there was an owner would be nobody's.
	waitFor(t, 20*time.Second, "the device is enrolled and connected", func() bool { return d.Status().Connected })
	send(100)
	for round := range 2 {
		flushed := make(chan struct{})
		go func() { // mid-stream
			defer close(flushed)
			send(150)
		}()
		time.Sleep(50 * time.Millisecond)
		board.set(nil)
		if err := l.stop(); err != nil {
			t.Fatal(err)
		}
		<-flushed
		send(50) // into the queue on disk only
		if round == 1 {
			stop() // a power cut of the device, with a full queue
			boot()
			send(20)
		}
		l = start(t, home)
		board.set(l)
	}
	flush := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := d.Flush(ctx); err != nil {
			t.Fatalf("flush: %v: %+v", err, d.Status())
		}
	}
	flush()
	before := l.device(t, "A1").Certificate
	verify := func() {
		t.Helper()
		lines, err := l.readAll(t, "A1")
		if err != nil {
			t.Fatal(err)
		}
		notes := map[string]int{}
		for _, x := range lines {
			notes[string(x.Values)]++
		}
		for i := range sent {
			if n := notes[fmt.Sprintf(`{"note":"n%d","temp":%d}`, i, i%40)]; n != 1 {
				t.Errorf("reading %d is there %d times", i, n)
			}
		}
		if len(lines) != sent {
			t.Errorf("%d readings, sent %d", len(lines), sent)
		}
	}
	verify()

	// At the end of its certificate's life, by its own clock, the device renews.
	skew.Store(int64(25 * 24 * time.Hour))
	stop()
	boot()
	waitFor(t, 30*time.Second, "the device renewed its certificate", func() bool { return l.device(t, "A1").Certificate != before })
	skew.Store(0)
	send(10)
	flush()
	if x := l.device(t, "A1"); x.State == "quarantined" {
		t.Error("its own renewal put the device in quarantine")
	}
	verify()
}

// TestDamagedLateLane: a late lane that does not open is put aside, doctor says
// so, and the server serves.
func TestDamagedLateLane(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	if f := l.finding(t, "late lane"); f != "" {
		t.Fatalf("doctor says of a whole one: %s", f)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "data", "telemetry", "late.db"), []byte(strings.Repeat("damage", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	waitFor(t, 10*time.Second, "doctor names the late lane", func() bool {
		f := l.finding(t, "late lane")
		return strings.HasPrefix(f, "error") && strings.Contains(f, "put aside as late.db")
	})
	c := dialMQTT(t, l, u)
	c.publish(t, "telemetry/climate", `{"temp":20.5}`)
	c.close(t)
	if lines, err := l.readAll(t, "A1"); err != nil || len(lines) != 1 {
		t.Errorf("beside it: %d readings, %v", len(lines), err)
	}
	// Nobody has looked yet: a restart does not make it good.
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	waitFor(t, 10*time.Second, "doctor names it after a restart", func() bool {
		f := l.finding(t, "late lane")
		return strings.HasPrefix(f, "error") && strings.Contains(f, "put aside as late.db")
	})
	aside, err := filepath.Glob(filepath.Join(home, "data", "telemetry", "late.db.damaged-*"))
	if err != nil || len(aside) == 0 {
		t.Fatalf("put aside: %v, %v", aside, err)
	}
	for _, f := range aside {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, 10*time.Second, "doctor lets it rest", func() bool { return l.finding(t, "late lane") == "" })
}
