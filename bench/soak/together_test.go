package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/bench/soak/rig"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/journal/natstest"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// together is a turn whose servers that wait take devices in.
type together struct {
	*turn
	mu   sync.Mutex     // guards open
	open []string       // the doors that the keeper knows
	at   map[int]string // the same, by the number of the server

	balancer string // of the devices' doors; "": none
}

// balancerSource is where the balancer comes from.
const balancerSource = "127.9.9.7"

// startBalancer has HAProxy in front of doors, and gives its own.
func startBalancer(t *testing.T, doors []int) string {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("haproxy is missing (Debian: haproxy): no balancer to be behind")
	}
	own := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	conf := fmt.Appendf(nil, "defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\nlisten devices\n  bind %s\n  source %s\n  option redispatch 1\n", own, balancerSource)
	for i, port := range doors {
		conf = fmt.Appendf(conf, "  server s%d 127.0.0.1:%d send-proxy-v2 check inter 500ms\n", i, port)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-db", "-f", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
	})
	return own
}

// freePort is one that nobody listens at here.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// watch keeps the list of doors, from whoever has the keys.
func (x *together) watch(ctx context.Context) {
	for ctx.Err() == nil {
		for i, h := range x.homes {
			ask, cancel := context.WithTimeout(ctx, 2*time.Second)
			s, err := h.Ask(ask)
			cancel()
			if err != nil {
				continue
			}
			open, at := []string{s.Devices}, map[int]string{i: s.Devices}
			for _, g := range s.Gateways {
				if g.Lost {
					continue
				}
				open = append(open, g.Devices)
				for j, other := range x.homes { // a gateway's name ends with its data folder
					if strings.Contains(g.Name, other.Dir+"/") {
						at[j] = g.Devices
					}
				}
			}
			x.mu.Lock()
			x.open, x.at = open, at
			x.mu.Unlock()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// throughBalancer is what a device dials that knows of one door only.
func (x *together) throughBalancer() string { return x.balancer }

// anyDoor is one of the doors, in no order.
func (x *together) anyDoor() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.open) == 0 {
		return ""
	}
	return x.open[rand.IntN(len(x.open))]
}

// doorOf is that of one server; "" while it takes nobody in.
func (x *together) doorOf(i int) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.at[i]
}

// joined waits until n gateways take devices in.
func (x *together) joined(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		s, err := x.homes[x.active].Ask(ask)
		cancel()
		if err != nil {
			continue
		}
		there := 0
		for _, g := range s.Gateways {
			if !g.Lost {
				there++
			}
		}
		if there >= n {
			return
		}
	}
	x.logs(t)
	t.Fatalf("no %d gateways have joined within a minute", n)
}

func (x *turn) logs(t *testing.T) {
	t.Helper()
	for _, h := range x.homes {
		b, _ := os.ReadFile(filepath.Join(h.Dir, "serve.log")) // without it there is less to tell
		t.Logf("%s:\n%s", h.Dir, b[max(0, len(b)-4000):])
	}
}

// other is a server that has no keys at present.
func (x *together) other() int { return (x.active + 1) % len(x.homes) }

// roam sends until drained, and comes to another door every few seconds.
func (x *together) roam(ctx context.Context, d *device) {
	for ctx.Err() == nil {
		select {
		case <-d.drain:
			d.run(ctx)
			return
		default:
		}
		stay, cancel := context.WithTimeout(ctx, 2*time.Second+time.Duration(rand.Int64N(int64(time.Second))))
		d.run(stay)
		cancel()
	}
}

// TestTogether: three servers with one installation, each with its door open.
// Devices come to any of them, and to another one every few seconds; whichever
// server is killed, stopped in order or paused, with the keys or without, nothing
// that was acknowledged is lost or there twice, who was revoked is gone from every
// door within 5 s, and the ledger has one history (design, section 8).
func TestTogether(t *testing.T) {
	if testing.Short() {
		t.Skip("builds, starts and kills servers")
	}
	hows := []string{
		"a server without the keys killed", "the server with the keys killed", "a server without the keys paused for 8 s",
		"the server with the keys stopped in order", "the server with the keys paused for 8 s", "without PostgreSQL for a moment", "without a NATS server", "a server without the keys stopped in order",
	}
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv("TOGETHER")); err == nil {
		rounds = n
	}
	ctx := t.Context()
	db, nats := pgtest.Start(t, ""), natstest.Start(t, 3, false)
	store, doors := db.Database(t), []int{freePort(t), freePort(t), freePort(t)}
	x := &together{balancer: startBalancer(t, doors)}
	x.turn = startTurn(ctx, t, func(i int) (string, string, []string) {
		return rig.Base + fmt.Sprintf("link: 127.0.0.1:0\nbalancers: [%s/32]\nbalanced_devices: 127.0.0.1:%d\n", balancerSource, doors[i]), store, nil
	}, nats)
	x.next(ctx, t)
	go x.watch(ctx)
	x.joined(ctx, t, 2)
	c := x.crowd(ctx, t, rounds)
	b := c.book
	var longest time.Duration
	var err error
	for round := range rounds {
		time.Sleep(3 * time.Second)
		before := b.count()
		at, other, how := x.active, x.other(), hows[round%len(hows)]
		switch round % len(hows) {
		case 0:
			err = x.homes[other].Kill()
		case 1:
			err = x.homes[at].Kill()
		case 2:
			err = syscall.Kill(x.homes[other].PID(), syscall.SIGSTOP)
		case 3:
			err = x.homes[at].Stop()
		case 4:
			err = syscall.Kill(x.homes[at].PID(), syscall.SIGSTOP)
		case 5:
			if err = db.Stop("immediate"); err == nil {
				err = db.Run()
			}
		case 6:
			nats.Kill(round % 3)
		case 7:
			err = x.homes[other].Stop()
		}
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if round%len(hows) == 4 {
			time.Sleep(8 * time.Second) // PostgreSQL still knows its session: it is nobody else's turn
			if err := syscall.Kill(x.homes[at].PID(), syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
		if round%len(hows) == 5 {
			time.Sleep(6 * time.Second) // for as long as whoever served may go on at the most
		}
		now, took := x.next(ctx, t)
		longest = max(longest, took)
		// Whoever has the keys by now revokes one, whatever goes on elsewhere.
		c.revoke(ctx, t, x.homes[now], round)
		switch round % len(hows) {
		case 0, 7:
			err = x.homes[other].Launch()
		case 1, 3:
			if now == at {
				t.Error("a server that had ended has the keys")
			}
			err = x.homes[at].Launch()
		case 2:
			time.Sleep(8*time.Second - time.Since(began))
			err = syscall.Kill(x.homes[other].PID(), syscall.SIGCONT)
		case 6:
			nats.Run(round % 3)
		}
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
		x.joined(ctx, t, 2)
		for end := time.Now().Add(30 * time.Second); b.count() < before+100; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				x.logs(t)
				t.Fatalf("%s: %d readings acknowledged, %d before", how, b.count(), before)
			}
		}
		t.Logf("%s: server %d has the keys after %s, all three serve after %s; %d readings acknowledged before", how, now, took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), before)
	}
	c.settle(ctx, t, x, rounds)
	t.Logf("%d rounds, the longest took %s: %+v", rounds, longest.Round(time.Millisecond), c.result)
}

// crowd is who sends: some devices that go from door to door, and for each round
// one at each door that will be revoked.
type crowd struct {
	at      int // doors
	list    string
	book    *book
	devices []*device // that are not revoked
	drain   chan struct{}
	stop    context.CancelFunc
	honest  sync.WaitGroup
	stolen  sync.WaitGroup
	revoked map[string]time.Time
	result  result
}

// honest is how many devices go from door to door.
const honest = 6

// crowd publishes, enrols all of them and has them begin.
func (x *together) crowd(ctx context.Context, t *testing.T, rounds int) *crowd {
	t.Helper()
	first := x.homes[x.active]
	if err := first.Publish(ctx, "soak.yaml", declared); err != nil {
		t.Fatal(err)
	}
	var ids []core.DeviceID
	for i := range honest {
		ids = append(ids, core.DeviceID(fmt.Sprintf("soak-%02d", i)))
	}
	for i := range rounds * len(x.homes) {
		ids = append(ids, core.DeviceID(fmt.Sprintf("stolen-%02d", i)))
	}
	units, err := first.Enrol(ctx, "soak", ids)
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{at: len(x.homes), list: filepath.Join(t.TempDir(), "acked"), drain: make(chan struct{}), revoked: map[string]time.Time{}, result: result{Devices: honest}}
	if c.book, err = openBook(c.list); err != nil {
		t.Fatal(err)
	}
	ctx, c.stop = context.WithCancel(ctx)
	t.Cleanup(c.stop)
	for i, u := range units {
		conf, err := x.homes[0].TLS(u)
		if err != nil {
			t.Fatal(err)
		}
		d := &device{id: u.ID, number: i, tls: conf, door: x.anyDoor, book: c.book, window: 8, every: 5 * time.Millisecond, drain: c.drain}
		if i < honest/2 && x.balancer != "" {
			d.door = x.throughBalancer
		}
		if i < honest {
			c.devices = append(c.devices, d)
			c.honest.Go(func() { x.roam(ctx, d) })
			continue
		}
		d.every, d.door = 50*time.Millisecond, func() string { return x.doorOf(i % len(x.homes)) }
		c.stolen.Go(func() { d.run(ctx) })
	}
	return c
}

// revoke revokes those of a round.
func (c *crowd) revoke(ctx context.Context, t *testing.T, h *rig.Home, round int) {
	t.Helper()
	for i := range c.at {
		name := fmt.Sprintf("stolen-%02d", round*c.at+i)
		if _, err := h.Run(ctx, "device", "revoke", name, "--reason", "stolen from a van"); err != nil {
			t.Fatal(err)
		}
		c.revoked[name] = time.Now()
	}
}

// settle ends it, and holds what was acknowledged against what can be read.
func (c *crowd) settle(ctx context.Context, t *testing.T, x *together, rounds int) {
	t.Helper()
	time.Sleep(6 * time.Second)
	close(c.drain)
	done := make(chan struct{})
	go func() { c.honest.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		x.logs(t)
		t.Fatal("some readings have no acknowledgement a minute after the last round")
	}
	c.stop()
	c.stolen.Wait()
	all := c.book.until(time.Now().UnixMicro())
	for name, when := range c.revoked {
		got := all[core.DeviceID(name)]
		if in := len(c.book.until(when.Add(5 * time.Second).UnixMicro())[core.DeviceID(name)]); in != len(got) || in == 0 {
			t.Errorf("%d readings of %s acknowledged, %d of them more than 5 s after it was revoked", len(got), name, len(got)-in)
		}
	}
	if err := c.book.close(); err != nil {
		t.Fatal(err)
	}
	h, r := x.homes[x.active], &c.result
	if err := compare(ctx, h, c.list, c.devices, r); err != nil {
		t.Fatal(err)
	}
	if r.Lost+r.Changed+r.Strange+r.Twice+r.Reordered > 0 || r.Acked < 100*rounds || r.Refused > 0 {
		t.Errorf("of %d acknowledged %d are lost; stored: %d changed, %d never sent, %d twice, %d out of order", r.Acked, r.Lost, r.Changed, r.Strange, r.Twice, r.Reordered)
	}
	if _, err := h.Run(ctx, "ledger", "verify"); err != nil {
		t.Error(err)
	}
	for _, h := range x.homes {
		b, err := os.ReadFile(filepath.Join(h.Dir, "serve.log"))
		if err != nil || strings.Contains(string(b), "panic") || strings.Contains(string(b), "DATA RACE") {
			t.Errorf("%s: %v:\n%s", h.Dir, err, b[max(0, len(b)-4000):])
		}
	}
}
