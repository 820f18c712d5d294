package journal

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/journal/natstest"
)

func away(t testing.TB, c *natstest.Cluster, stream string) Options {
	t.Helper()
	o := testOptions(t.TempDir())
	o.MaxBytes = 64 << 20
	o.Cluster = &Cluster{Servers: c.Servers, CA: c.CA, Cert: c.Cert, Key: c.Key, Stream: stream, Owner: "one", Replicas: 3}
	return o
}

// all reads at least n tokens.
func all(t testing.TB, j *Journal, after uint64, n int) (tokens []uint64) {
	t.Helper()
	r := j.Reader(after)
	defer r.Close()
	for len(tokens) < n {
		b, err := r.Next(t.Context())
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(tokens), n, err)
		}
		for _, rec := range b.Records {
			tokens = append(tokens, binary.BigEndian.Uint64(rec))
		}
	}
	return tokens
}

// until reads from the beginning up to the batch end.
func until(t testing.TB, j *Journal, end uint64) (tokens []uint64) {
	t.Helper()
	r := j.Reader(0)
	defer r.Close()
	for {
		b, err := r.Next(t.Context())
		if err != nil {
			t.Fatalf("after %d, before %d: %v", len(tokens), end, err)
		}
		for _, rec := range b.Records {
			tokens = append(tokens, binary.BigEndian.Uint64(rec))
		}
		if b.Seq >= end {
			return tokens
		}
	}
}

func once(t testing.TB, tokens []uint64, want ...uint64) {
	t.Helper()
	seen := map[uint64]int{}
	for _, k := range tokens {
		seen[k]++
	}
	for _, k := range want {
		if seen[k] != 1 {
			t.Errorf("record %d is there %d times", k, seen[k])
		}
	}
}

func token(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }

// Three servers keep the journal: over TLS with certificates of both sides,
// trimmed and opened again with the same numbering.
func TestCluster(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := natstest.Start(t, 3, true)
	opt := away(t, c, "ONE")
	j := open(t, opt)
	got := newTally()
	for i := range uint64(200) {
		if err := j.Submit(token(i), got, i); err != nil {
			t.Fatal(err)
		}
	}
	if ok, bad := got.wait(t, 200); ok != 200 {
		t.Fatalf("%d acknowledged, %d not: %v", ok, bad, got.errs)
	}
	if tokens := all(t, j, 0, 200); !slices.IsSorted(tokens) || len(tokens) != 200 {
		t.Errorf("read %v", tokens)
	}
	last := j.State().Last
	if err := j.Trim(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if s := j.State(); s.First != last || s.Trouble != nil {
		t.Errorf("after trimming: %+v", s)
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := open(t, opt)
	if again.Incarnation() != j.Incarnation() || again.Durable() != last {
		t.Errorf("opened again as %s at %d, was %s at %d", again.Incarnation(), again.Durable(), j.Incarnation(), last)
	}
	// What another process writes is read here too, and the other way round.
	second := opt
	second.Dir = t.TempDir()
	other := open(t, second)
	if err := other.Submit(token(1000), got, 1000); err != nil {
		t.Fatal(err)
	}
	if err := again.Submit(token(1001), got, 1001); err != nil {
		t.Fatal(err)
	}
	if ok, _ := got.wait(t, 202); ok != 202 {
		t.Fatalf("%d acknowledged: %v", ok, got.errs)
	}
	for _, j := range []*Journal{again, other} {
		once(t, all(t, j, last, 2), 1000, 1001)
	}
	// Strangers: another installation, and nobody's certificate.
	foreign := opt
	foreign.Dir = t.TempDir()
	x := *opt.Cluster
	x.Owner = "another"
	foreign.Cluster = &x
	if _, err := Open(t.Context(), foreign); core.ReasonOf(err) != "journal-owner" {
		t.Errorf("another installation's stream: %v", err)
	}
	y := *opt.Cluster
	y.Cert, y.Key = "", ""
	foreign.Cluster = &y
	if _, err := Open(t.Context(), foreign); err == nil {
		t.Error("the servers took a client without a certificate")
	}
	z := *opt.Cluster
	z.CA = c.Cert // does not say who the servers are
	foreign.Cluster = &z
	if _, err := Open(t.Context(), foreign); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("servers that we do not know: %v", err)
	}
}

// writer submits records one after the other for as long as it may, and counts
// what was acknowledged.
func writer(j *Journal, from uint64, stop <-chan struct{}) (acked func() []uint64) {
	got := newTally()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := from; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
			for j.Submit(token(i), got, i) != nil {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		}
	})
	return func() []uint64 {
		wg.Wait()
		got.mu.Lock()
		defer got.mu.Unlock()
		return slices.Clone(got.ok)
	}
}

// Each server is killed in turn, the leader among them, while two processes
// write: what was acknowledged is there, once.
func TestClusterKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("loses servers of a cluster")
	}
	t.Parallel() // it waits most of the time
	c := natstest.Start(t, 3, false)
	opt := away(t, c, "ONE")
	j := open(t, opt)
	second := opt
	second.Dir = t.TempDir()
	other := open(t, second)
	stop := make(chan struct{})
	one, two := writer(j, 0, stop), writer(other, 1<<32, stop)
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		i := c.Leader("ONE")
		if i < 0 {
			t.Fatal("nobody leads")
		}
		c.Kill(i)
		within(t, 30*time.Second, "records are acknowledged without it", func() bool {
			before := j.Durable()
			time.Sleep(500 * time.Millisecond)
			return j.State().Trouble == nil && j.Durable() > before
		})
		c.Run(i)
		within(t, 30*time.Second, "all three work", func() bool { return c.Leader("ONE") >= 0 })
		time.Sleep(500 * time.Millisecond)
	}
	close(stop)
	acked := append(one(), two()...)
	if len(acked) < 100 {
		t.Fatalf("only %d acknowledged", len(acked))
	}
	// Both processes read the same, in the same order. There may be more than
	// was acknowledged, so all is read that the stream holds.
	end := max(j.Durable(), other.Durable())
	a := until(t, j, end)
	t.Logf("%d acknowledged, %d there", len(acked), len(a))
	once(t, a, acked...)
	for _, k := range [][2]uint64{{0, 1 << 32}, {1 << 32, 1 << 33}} {
		var of []uint64
		for _, x := range a {
			if x >= k[0] && x < k[1] {
				of = append(of, x)
			}
		}
		if !slices.IsSorted(of) {
			t.Error("one process's records are out of order")
		}
	}
	if b := until(t, other, end); !slices.Equal(a, b) {
		t.Error("the two processes read something else")
	}
}

func within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%v later it is not so: %s", limit, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Without a majority nothing is acknowledged, and the reason is said; with one
// again it goes on by itself.
func TestClusterWithoutMajority(t *testing.T) {
	if testing.Short() {
		t.Skip("loses servers of a cluster")
	}
	t.Parallel() // it waits most of the time
	c := natstest.Start(t, 3, false)
	opt := away(t, c, "ONE")
	opt.CommitTimeout = 5 * time.Second
	j := open(t, opt)
	got := newTally()
	if err := j.Submit(token(1), got, 1); err != nil {
		t.Fatal(err)
	}
	got.wait(t, 1)
	c.Kill(0)
	c.Pause(1)
	if err := j.Submit(token(2), got, 2); err != nil {
		t.Fatal(err)
	}
	if ok, bad := got.wait(t, 2); ok != 1 || bad != 1 {
		t.Fatalf("%d acknowledged and %d not, without a majority", ok, bad)
	}
	within(t, 10*time.Second, "trouble is said", func() bool { return core.ReasonOf(j.State().Trouble) == "journal-write" })
	if err := j.Submit(token(3), got, 3); err == nil {
		t.Error("a record was taken in trouble")
	}
	c.Resume(1)
	c.Run(0)
	within(t, 60*time.Second, "it goes on", func() bool { return j.State().Trouble == nil })
	if err := j.Submit(token(4), got, 4); err != nil {
		t.Fatal(err)
	}
	if ok, _ := got.wait(t, 3); ok != 2 {
		t.Fatalf("%d acknowledged, want 2", ok)
	}
	var tokens []uint64
	r := j.Reader(0)
	defer r.Close()
	for !slices.Contains(tokens, 4) {
		b, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range b.Records {
			tokens = append(tokens, binary.BigEndian.Uint64(rec))
		}
	}
	once(t, tokens, 1, 4) // 2 was not acknowledged: it may be there or not
}

// A full stream stops acknowledgements until it is trimmed.
func TestClusterFull(t *testing.T) {
	if testing.Short() {
		t.Skip("loses servers of a cluster")
	}
	t.Parallel() // it waits most of the time
	c := natstest.Start(t, 3, false)
	opt := away(t, c, "ONE")
	opt.MaxBytes = 4 << 20
	j := open(t, opt)
	got := newTally()
	rec := make([]byte, 200<<10)
	n := 0
	for ; n < 60; n++ {
		if j.Submit(rec, got, uint64(n)) != nil {
			break
		}
		got.wait(t, n+1)
	}
	if err := j.State().Trouble; !errors.Is(err, ErrFull) {
		t.Fatalf("after %d records of 200 KB: %v", n, err)
	}
	if err := j.Trim(t.Context(), j.Durable()); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "it takes records again", func() bool { return j.State().Trouble == nil })
}

// A stream that was deleted or made anew under the journal is damage: nothing
// is acknowledged on it until a person has looked.
func TestClusterStreamGone(t *testing.T) {
	if testing.Short() {
		t.Skip("loses servers of a cluster")
	}
	t.Parallel() // it waits most of the time
	c := natstest.Start(t, 3, false)
	opt := away(t, c, "ONE")
	opt.CommitTimeout = 3 * time.Second
	j := open(t, opt)
	got := newTally()
	for i := range uint64(5) {
		if err := j.Submit(token(i), got, i); err != nil {
			t.Fatal(err)
		}
		got.wait(t, int(i)+1)
	}
	conn, err := c.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "ONE"); err != nil {
		t.Fatal(err)
	}
	if j.Submit(token(9), got, 9) == nil {
		if ok, bad := got.wait(t, 6); ok != 5 || bad != 1 {
			t.Fatalf("%d acknowledged, %d not", ok, bad)
		}
	}
	within(t, 20*time.Second, "damage is said", func() bool { return errors.Is(j.State().Trouble, ErrDamaged) })
}

// Addresses, names and files are checked before anybody is dialled.
func TestClusterCheck(t *testing.T) {
	good := Cluster{Servers: []string{"tls://nats.northwind.example:4222"}, Stream: "HAWSER", Owner: "x", Replicas: 3}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Cluster){
		"no server":         func(c *Cluster) { c.Servers = nil },
		"cleartext":         func(c *Cluster) { c.Servers = []string{"nats://10.0.0.1:4222"} },
		"cleartext by name": func(c *Cluster) { c.Servers = []string{"nats://localhost:4222"} },
		"password":          func(c *Cluster) { c.Servers = []string{"tls://a:b@nats.northwind.example:4222"} },
		"no port":           func(c *Cluster) { c.Servers = []string{"tls://nats.northwind.example"} },
		"websocket":         func(c *Cluster) { c.Servers = []string{"wss://nats.northwind.example:4222"} },
		"stream":            func(c *Cluster) { c.Stream = "a.b" },
		"two replicas":      func(c *Cluster) { c.Replicas = 2 },
		"half a key":        func(c *Cluster) { c.Cert = "x" },
		"no owner":          func(c *Cluster) { c.Owner = "" },
	} {
		c := good
		change(&c)
		if c.Check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
