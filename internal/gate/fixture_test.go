package gate_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
)

// fixture is a gate over a real store.
type fixture struct {
	t     testing.TB
	dir   string
	key   []byte
	store *store.Store
	gate  *gate.Gate
	lim   gate.Limits

	mu      sync.Mutex
	time    time.Time
	told    []gate.Notice
	commits int
	fail    error // of the next commits
}

func newFixture(t testing.TB) *fixture { return newFixtureWith(t, gate.Standard()) }

func newFixtureWith(t testing.TB, lim gate.Limits) *fixture {
	t.Helper()
	f := &fixture{
		t: t, dir: t.TempDir(), key: []byte("0123456789abcdef0123456789abcdef"), lim: lim,
		time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
	}
	f.start()
	t.Cleanup(func() { _ = f.store.Close() }) // the test is over
	return f
}

func (f *fixture) start() {
	f.t.Helper()
	var err error
	if f.store, err = store.Open(f.t.Context(), store.Options{Dir: f.dir}); err != nil {
		f.t.Fatal(err)
	}
	if f.gate, err = gate.NewWith(f.t.Context(), f.deps(), f.lim); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) deps() gate.Deps {
	return gate.Deps{
		Update: func(ctx context.Context, fn func(gate.Tx) error) error {
			f.mu.Lock()
			fail := f.fail
			f.commits++
			f.mu.Unlock()
			return f.store.Update(ctx, func(tx *store.Tx) error { return errors.Join(fn(tx), fail) })
		},
		View: func(ctx context.Context, fn func(gate.Tx) error) error {
			return f.store.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Now: f.now, Key: f.key,
		Tell: func(_ context.Context, n gate.Notice) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.told = append(f.told, n)
		},
	}
}

// restart is what a kill and a new process do: nothing is written on the way.
func (f *fixture) restart() {
	f.t.Helper()
	if err := f.store.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.start()
}

func (f *fixture) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.time
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.time = f.time.Add(d)
}

func (f *fixture) setFail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// net is an address in the i-th of many networks.
func net(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 7}) }

func password(account string, from netip.Addr) gate.Attempt {
	return gate.Attempt{Means: gate.Password, Account: account, Source: from}
}

// try opens, compares and ends; it reports how long it would have to wait.
func (f *fixture) try(a gate.Attempt, right bool) time.Duration {
	f.t.Helper()
	t, err := f.gate.Open(f.t.Context(), a)
	if w, ok := errors.AsType[*gate.Wait](err); ok {
		if core.KindOf(err) != core.TooMany || w.After < time.Second {
			f.t.Errorf("refusal %v, after %s", err, w.After)
		}
		return w.After
	}
	if err != nil {
		f.t.Fatal(err)
	}
	if err := t.Use(a.Means, a.Account); err != nil {
		f.t.Fatal(err)
	}
	end := t.Wrong
	if right {
		end = t.Right
	}
	if err := end(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return 0
}

func (f *fixture) mustGetIn(a gate.Attempt) {
	f.t.Helper()
	if after := f.try(a, true); after > 0 {
		f.t.Errorf("%s of %s from %s must wait %s", a.Means, a.Account, a.Source, after)
	}
}

func (f *fixture) mustWait(a gate.Attempt) time.Duration {
	f.t.Helper()
	after := f.try(a, true)
	if after == 0 {
		f.t.Errorf("%s of %s from %s gets in", a.Means, a.Account, a.Source)
	}
	return after
}

func (f *fixture) remember(account string) gate.Known {
	f.t.Helper()
	cookie, err := f.gate.Remember(account)
	if err != nil {
		f.t.Fatal(err)
	}
	return gate.ParseKnown(cookie)
}

func (f *fixture) notices() []gate.Notice {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.told)
}

func (f *fixture) state() gate.State {
	f.t.Helper()
	s, err := f.gate.State(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// records are the ledger's waiting records of a kind.
func (f *fixture) records(kind core.RecordKind) (out []core.Record) {
	f.t.Helper()
	err := f.store.View(f.t.Context(), func(tx *store.Tx) error {
		pending, err := tx.LedgerPending(f.t.Context(), 100_000)
		if err != nil {
			return err
		}
		for _, p := range pending {
			r, err := ledger.ParseLeaf(p.Leaf)
			if err != nil {
				return err
			}
			if r.Kind == kind {
				out = append(out, r)
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// together runs n functions at the same moment.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() { <-begin; do(i) })
	}
	close(begin)
	all.Wait()
}

func fact(r core.Record, name string) string {
	for _, f := range r.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return fmt.Sprintf("no fact %s", name)
}
