package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hawser-iot/hawser/internal/journal/natstest"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// island is where one server lives: a network namespace of its own, with a cable
// to the other servers, and wires to PostgreSQL and the NATS servers, which are
// outside. Each can be cut without a word to either end.
type island struct {
	name  string // of the namespace
	lan   string // the namespace of the switch that all cables end in
	plug  string // this one's end there
	pg    *wire
	nats  []*wire
	doors [2]int // of devices and HTTPS, the same number inside and outside
}

// wire passes on what is written, unless it is cut: then it holds it, as a
// network does whose packets are lost and sent again.
type wire struct {
	cut   atomic.Bool
	dial  func() (net.Conn, error)
	mu    sync.Mutex // guards far
	far   map[net.Conn]bool
	links sync.WaitGroup
}

func (w *wire) serve(t *testing.T, l net.Listener) {
	w.far = map[net.Conn]bool{}
	stop := make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		_ = l.Close() // Accept's error is the sign
		w.forget()
		w.links.Wait()
	})
	w.links.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			w.links.Go(func() { w.join(near, stop) })
		}
	})
}

func (w *wire) join(near net.Conn, stop <-chan struct{}) {
	defer near.Close()
	if !w.whole(stop) {
		return
	}
	far, err := w.dial()
	if err != nil {
		return
	}
	w.mu.Lock()
	w.far[far] = true
	w.mu.Unlock()
	var both sync.WaitGroup
	pass := func(to, from net.Conn) {
		defer func() {
			if w.whole(stop) { // an end is told as late as everything else
				_, _ = to.Close(), from.Close()
			}
		}()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if !w.whole(stop) {
				return
			}
			if n > 0 {
				if _, werr := to.Write(buf[:n]); werr != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	both.Go(func() { pass(far, near) })
	both.Go(func() { pass(near, far) })
	ended := make(chan struct{})
	go func() { both.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-stop:
	}
	_, _ = far.Close(), near.Close()
	<-ended
	w.mu.Lock()
	delete(w.far, far)
	w.mu.Unlock()
}

// whole waits until the wire is.
func (w *wire) whole(stop <-chan struct{}) bool {
	for w.cut.Load() {
		select {
		case <-stop:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}

// forget has the far end find out that nobody is there any more; the near end
// does not hear of it while the wire is cut.
func (w *wire) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.far {
		_ = c.Close() // to be told is the point
	}
}

// within does f in a network namespace.
func within[T any](ns string, f func() (T, error)) (out T, err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return out, err
	}
	defer home.Close()
	there, err := os.Open("/run/netns/" + ns)
	if err != nil {
		runtime.UnlockOSThread()
		return out, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return out, err
	}
	out, ferr := f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return out, errors.Join(ferr, err) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return out, ferr
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// newIslands makes three, with everything but servers.
func newIslands(t *testing.T, db string, nats *natstest.Cluster) []*island {
	t.Helper()
	base := fmt.Sprintf("hw%d", os.Getpid())
	lan := base + "lan"
	ip(t, "netns", "add", lan)
	t.Cleanup(func() { ip(t, "netns", "del", lan) })
	ip(t, "-n", lan, "link", "add", "switch", "type", "bridge")
	ip(t, "-n", lan, "link", "set", "switch", "up")
	var all []*island
	for i := range 3 {
		x := &island{name: fmt.Sprintf("%s%c", base, 'a'+i), lan: lan, plug: fmt.Sprintf("p%d", i), doors: [2]int{freePort(t), freePort(t)}}
		ip(t, "netns", "add", x.name)
		t.Cleanup(func() { ip(t, "netns", "del", x.name) })
		ip(t, "-n", x.name, "link", "set", "lo", "up")
		ip(t, "-n", x.name, "link", "add", "lan", "type", "veth", "peer", "name", x.plug, "netns", lan)
		ip(t, "-n", lan, "link", "set", x.plug, "master", "switch")
		ip(t, "-n", lan, "link", "set", x.plug, "up")
		ip(t, "-n", x.name, "link", "set", "lan", "up")
		ip(t, "-n", x.name, "addr", "add", x.addr(i)+"/24", "dev", "lan")
		for _, s := range nats.Servers {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			w := &wire{dial: func() (net.Conn, error) { return net.Dial("tcp", u.Host) }}
			l, err := within(x.name, func() (net.Listener, error) { return net.Listen("tcp", u.Host) })
			if err != nil {
				t.Fatal(err)
			}
			w.serve(t, l)
			x.nats = append(x.nats, w)
		}
		u, err := url.Parse(db)
		if err != nil {
			t.Fatal(err)
		}
		const socket = ".s.PGSQL.5432"
		l, err := net.Listen("unix", filepath.Join(x.dir(t), socket))
		if err != nil {
			t.Fatal(err)
		}
		x.pg = &wire{dial: func() (net.Conn, error) { return net.Dial("unix", filepath.Join(u.Query().Get("host"), socket)) }}
		x.pg.serve(t, l)
		for _, port := range x.doors {
			addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			w := &wire{dial: func() (net.Conn, error) {
				return within(x.name, func() (net.Conn, error) { return net.Dial("tcp", addr) })
			}}
			w.serve(t, l)
		}
		all = append(all, x)
	}
	return all
}

func (x *island) addr(i int) string { return fmt.Sprintf("10.213.77.%d", i+1) }

// dir is the folder of its wire to PostgreSQL: a path of a socket is short.
func (x *island) dir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("/dev/shm", x.name)
	if _, err := os.Stat(dir); err != nil {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) }) // it is in memory
	}
	return dir
}

// What can be cut of an island.
const (
	cutLAN = 1 << iota
	cutPG
	cutNATS
)

// part cuts, or mends, what a server is joined by.
func (x *island) part(t *testing.T, what int, cut bool) {
	t.Helper()
	if what&cutLAN != 0 {
		ip(t, "-n", x.lan, "link", "set", x.plug, map[bool]string{true: "down", false: "up"}[cut])
	}
	if what&cutPG != 0 {
		x.pg.cut.Store(cut)
	}
	if what&cutNATS != 0 {
		for _, w := range x.nats {
			w.cut.Store(cut)
		}
	}
}

// TestParted: three servers, each in a network namespace of its own, of which one
// is cut off from the others, from the database, from the journal, or from all of
// it, while its devices still reach it. Nothing that was acknowledged is lost or
// there twice, who was revoked is gone from every door within 5 s, and the ledger
// has one history (design, section 8).
func TestParted(t *testing.T) {
	if testing.Short() {
		t.Skip("builds, starts and parts servers")
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces are root's: run it as root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip is not installed: apt install iproute2")
	}
	hows := []struct {
		say    string
		keeper bool // it is the one with the keys that is cut off
		what   int
	}{
		{"a gateway cut off from everything", false, cutLAN | cutPG | cutNATS},
		{"the keeper cut off from the database, which gives its place to another", true, cutPG},
		{"a gateway cut off from the keeper", false, cutLAN},
		{"the keeper cut off from everything, and the database gives its place to another", true, cutLAN | cutPG | cutNATS},
		{"the keeper cut off from its gateways", true, cutLAN},
		{"a gateway cut off from the journal", false, cutNATS},
	}
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv("PARTED")); err == nil {
		rounds = n
	}
	ctx := t.Context()
	db, nats := pgtest.Start(t, ""), natstest.Start(t, 3, false)
	store := db.Database(t)
	islands := newIslands(t, store, nats)
	x := &together{turn: startTurn(ctx, t, func(i int) (string, string, []string) {
		own := islands[i]
		conf := fmt.Sprintf("devices: 127.0.0.1:%d\nhttps: 127.0.0.1:%d\nconsole: 127.0.0.1:0\nnames: [localhost, 127.0.0.1]\nlink: %s:8890\n", own.doors[0], own.doors[1], own.addr(i))
		u, err := url.Parse(store)
		if err != nil {
			t.Fatal(err)
		}
		u.RawQuery = "host=" + url.QueryEscape(own.dir(t))
		return conf, u.String(), []string{"ip", "netns", "exec", own.name}
	}, nats)}
	x.next(ctx, t)
	go x.watch(ctx)
	x.joined(ctx, t, 2)
	c := x.crowd(ctx, t, rounds)
	for round := range rounds {
		time.Sleep(3 * time.Second)
		how := hows[round%len(hows)]
		before, at, cut := c.book.count(), x.active, x.other()
		if how.keeper {
			cut = at
		}
		islands[cut].part(t, how.what, true)
		began := time.Now()
		now := at
		if how.keeper && how.what&cutPG != 0 {
			islands[cut].pg.forget() // as its keep-alives would have it find out
			now, _ = x.nextBut(ctx, t, at)
		}
		took := time.Since(began)
		c.revoke(ctx, t, x.homes[now], round)
		time.Sleep(12*time.Second - time.Since(began))
		islands[cut].part(t, how.what, false)
		x.next(ctx, t)
		x.joined(ctx, t, 2)
		for end := time.Now().Add(30 * time.Second); c.book.count() < before+100; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				x.logs(t)
				t.Fatalf("%s: %d readings acknowledged, %d before", how.say, c.book.count(), before)
			}
		}
		t.Logf("%s: server %d has the keys after %s, all three serve %s after the cut was mended; %d readings acknowledged before", how.say, x.active,
			took.Round(time.Millisecond), (time.Since(began) - 12*time.Second).Round(time.Millisecond), before)
	}
	c.settle(ctx, t, x, rounds)
	t.Logf("%d rounds: %+v", rounds, c.result)
}

// nextBut waits until another server than the one that had the keys has them.
func (x *together) nextBut(ctx context.Context, t *testing.T, before int) (int, time.Duration) {
	t.Helper()
	began := time.Now()
	for time.Since(began) < time.Minute {
		for i, h := range x.homes {
			if i != before && answers(ctx, h) {
				x.turn.mu.Lock()
				x.active = i
				x.turn.mu.Unlock()
				return i, time.Since(began)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	x.logs(t)
	t.Fatal("nobody else has the keys after a minute")
	return -1, 0
}
