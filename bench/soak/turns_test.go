package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/bench/soak/rig"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/house"
	"github.com/hawser-iot/hawser/internal/journal/natstest"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// turn is a number of servers that take turns on one PostgreSQL and three NATS
// servers.
type turn struct {
	homes []*rig.Home

	mu     sync.Mutex // guards what follows
	active int        // -1: none is known to serve
}

// door is where the server that serves is.
func (x *turn) door() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.active < 0 {
		return ""
	}
	return x.homes[x.active].Devices()
}

// answers reports whether a server is ready, and knows its doors then. One that
// is ending may leave a question without an answer.
func answers(ctx context.Context, h *rig.Home) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := h.Ask(ctx)
	return err == nil && h.Ready(ctx) == nil
}

// next waits until one serves, and gives how long that took.
func (x *turn) next(ctx context.Context, t *testing.T) (int, time.Duration) {
	t.Helper()
	x.mu.Lock()
	x.active = -1
	x.mu.Unlock()
	began := time.Now()
	for time.Since(began) < time.Minute {
		for i, h := range x.homes {
			if !answers(ctx, h) {
				continue // or it ended just then
			}
			x.mu.Lock()
			x.active = i
			x.mu.Unlock()
			return i, time.Since(began)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, h := range x.homes {
		b, _ := os.ReadFile(filepath.Join(h.Dir, "serve.log")) // without it there is less to tell
		t.Logf("%s:\n%s", h.Dir, b[max(0, len(b)-3000):])
	}
	t.Fatal("nobody serves after a minute")
	return -1, 0
}

// newTurn is three servers, started, on one PostgreSQL and three NATS servers.
func newTurn(ctx context.Context, t *testing.T) (*turn, *pgtest.Cluster, *natstest.Cluster) {
	t.Helper()
	db, nats := pgtest.Start(t, ""), natstest.Start(t, 3, false)
	store := db.Database(t)
	return startTurn(ctx, t, func(int) (string, string, []string) { return rig.Base, store, nil }, nats), db, nats
}

// startTurn is newTurn where each server has doors, a way to the database, and
// something that it runs under, of its own.
func startTurn(ctx context.Context, t *testing.T, of func(i int) (conf, store string, under []string), nats *natstest.Cluster) *turn {
	t.Helper()
	hawser := house.Program(t, "hawser")
	dir := t.TempDir()
	conf := func(i int) (string, []string) {
		doors, store, under := of(i)
		return doors + fmt.Sprintf("store: %s\njournal_servers: [%s]\njournal_max_bytes: 67108864\nturns: true\n", store, strings.Join(nats.Servers, ", ")), under
	}
	own, under := conf(0)
	first, err := rig.MakeWith(ctx, hawser, filepath.Join(dir, "a"), own)
	if err != nil {
		t.Fatal(err)
	}
	first.Under = under
	x := &turn{homes: []*rig.Home{first}, active: -1}
	for i, name := range []string{"b", "c"} {
		home, keys := filepath.Join(dir, name), filepath.Join(first.Dir, "keys")
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		own, under := conf(i + 1)
		own += fmt.Sprintf("ca: %[1]s/ca\nroots: %[1]s/roots\nkeyring: [%[1]s/keyring-a/keyring, %[1]s/keyring-b/keyring]\nledger_key: %[1]s/ledger.key\ngate_key: %[1]s/gate.key\ncheckpoint: %[1]s/checkpoint\n", keys)
		if err := os.WriteFile(filepath.Join(home, "config.yaml"), []byte(own), 0o600); err != nil {
			t.Fatal(err)
		}
		h := rig.Open(hawser, home)
		h.Under = under
		x.homes = append(x.homes, h)
	}
	for _, h := range x.homes {
		t.Cleanup(func() { _ = h.Stop() }) // after an error too
	}
	if err := first.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, h := range x.homes[1:] {
		if err := h.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// TestTurns: three servers with one installation. The one that serves is killed,
// stopped in order, or loses PostgreSQL or a NATS server under it, and one
// serves again each time. Who does not see the database takes nothing. Nothing that was acknowledged is lost or there twice, and one
// that was revoked just before is not let in by the next (design, section 8).
func TestTurns(t *testing.T) {
	if testing.Short() {
		t.Skip("builds, starts and kills servers")
	}
	rounds := 5
	if n, err := strconv.Atoi(os.Getenv("TURNS")); err == nil {
		rounds = n
	}
	ctx := t.Context()
	x, db, nats := newTurn(ctx, t)
	first, dir := x.homes[0], filepath.Dir(x.homes[0].Dir)
	x.next(ctx, t)
	if err := first.Publish(ctx, "soak.yaml", declared); err != nil {
		t.Fatal(err)
	}
	const n = 4
	ids := make([]core.DeviceID, 0, n+1)
	for i := range n {
		ids = append(ids, core.DeviceID(fmt.Sprintf("soak-%02d", i)))
	}
	units, err := first.Enrol(ctx, "soak", append(ids, "soak-stolen"))
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "acked")
	b, err := openBook(list)
	if err != nil {
		t.Fatal(err)
	}
	load, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	drain := make(chan struct{})
	var wg, stolen sync.WaitGroup
	devices := make([]*device, len(units))
	for i, u := range units {
		conf, err := first.TLS(u)
		if err != nil {
			t.Fatal(err)
		}
		devices[i] = &device{id: u.ID, number: i, tls: conf, door: x.door, book: b, window: 8, every: 5 * time.Millisecond, drain: drain}
		g := &wg
		if i == n {
			g = &stolen
		}
		g.Go(func() { devices[i].run(load) })
	}
	r := &result{Devices: n}
	var longest time.Duration
	var revoked time.Time
	for round := range rounds {
		time.Sleep(time.Second)
		before := b.count()
		i := x.active
		h := x.homes[i]
		how := []string{"killed", "stopped in order", "without PostgreSQL for a moment", "without a NATS server", "not answered by PostgreSQL"}[round%5]
		if round == 0 {
			if _, err := h.Run(ctx, "device", "revoke", "soak-stolen", "--reason", "stolen from a van"); err != nil {
				t.Fatal(err)
			}
			revoked = time.Now()
		}
		var err error
		switch round % 5 {
		case 0:
			err = h.Kill()
		case 1:
			err = h.Stop()
		case 2:
			if err = db.Stop("immediate"); err == nil {
				err = db.Run()
			}
			time.Sleep(6 * time.Second) // for as long as whoever served may go on at the most
		case 3:
			nats.Kill(round % 3)
		case 4:
			if err = db.Signal(syscall.SIGSTOP); err == nil {
				time.Sleep(5 * time.Second)
				blind := b.count()
				time.Sleep(2 * time.Second)
				if n := b.count(); n != blind {
					t.Errorf("%d readings acknowledged without sight of the database for 5 s", n-blind)
				}
				err = db.Signal(syscall.SIGCONT)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		now, took := x.next(ctx, t)
		longest = max(longest, took)
		t.Logf("server %d was %s: server %d serves after %s, %d readings acknowledged before", i, how, now, took.Round(time.Millisecond), before)
		switch round % 5 {
		case 0, 1:
			if now == i {
				t.Error("a server that had ended serves")
			}
			if err := h.Launch(); err != nil { // it waits for its turn
				t.Fatal(err)
			}
		case 3:
			nats.Run(round % 3)
		}
		for end := time.Now().Add(30 * time.Second); b.count() < before+100; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %d readings acknowledged, %d before", how, b.count(), before)
			}
		}
	}
	close(drain)
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		t.Fatal("some readings have no acknowledgement a minute after the last turn")
	}
	stopLoad()
	stolen.Wait()
	for id, got := range b.until(time.Now().UnixMicro()) {
		if id == "soak-stolen" {
			in := len(b.until(revoked.Add(5 * time.Second).UnixMicro())[id])
			if in != len(got) || in == 0 {
				t.Errorf("%d readings of the revoked one acknowledged, %d of them 5 s after and later", len(got), len(got)-in)
			}
		}
	}
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
	h := x.homes[x.active]
	if err := compare(ctx, h, list, devices[:n], r); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d turns, the longest took %s: %+v", rounds, longest.Round(time.Millisecond), *r)
	if r.Lost+r.Changed+r.Strange+r.Twice+r.Reordered > 0 || r.Acked < 100*rounds || r.Refused > 0 {
		t.Errorf("of %d acknowledged %d are lost; stored: %d changed, %d never sent, %d twice, %d out of order", r.Acked, r.Lost, r.Changed, r.Strange, r.Twice, r.Reordered)
	}
	if _, err := h.Run(ctx, "ledger", "verify"); err != nil {
		t.Error(err)
	}
}
