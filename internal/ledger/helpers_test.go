package ledger_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
)

var operator = core.Actor{Kind: core.ActorStaff, ID: "os:ops(1000)"}

// fixture is a ledger on a real store.
type fixture struct {
	*ledger.Ledger
	store *store.Store
	deps  ledger.Deps
	home  string // what lies outside the data folder
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	home := t.TempDir()
	s := openStore(t, filepath.Join(home, "data"))
	key, err := ledger.CreateKey(filepath.Join(home, "ledger.key"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: s, home: home, deps: depsOn(s, key, home)}
	t.Cleanup(func() { _ = f.store.Close() }) // the one that is open at the end
	if f.Ledger, err = ledger.Create(t.Context(), f.deps, operator); err != nil {
		t.Fatal(err)
	}
	return f
}

func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func depsOn(s *store.Store, key ledger.Key, home string) ledger.Deps {
	return ledger.Deps{
		Update: func(ctx context.Context, fn func(ledger.Tx) error) error {
			return s.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(ledger.Tx) error) error {
			return s.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Key: key, CheckpointFile: filepath.Join(home, "checkpoint"), Name: "hawser/test", Now: time.Now,
		Log: slog.New(slog.DiscardHandler),
	}
}

// record writes records without sequencing them.
func (f *fixture) record(t testing.TB, rs ...core.Record) {
	t.Helper()
	err := f.store.Update(t.Context(), func(tx *store.Tx) error {
		for _, r := range rs {
			if err := tx.Record(t.Context(), r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sequence takes all that waits.
func (f *fixture) sequence(t testing.TB) {
	t.Helper()
	for {
		n, err := f.Sequence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

func (f *fixture) sign(t testing.TB) ledger.Checkpoint {
	t.Helper()
	c, err := f.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// grow records, sequences and signs n small records.
func (f *fixture) grow(t testing.TB, n int) ledger.Checkpoint {
	t.Helper()
	rs := make([]core.Record, n)
	for i := range rs {
		rs[i] = sample(i)
	}
	f.record(t, rs...)
	f.sequence(t)
	return f.sign(t)
}

func sample(i int) core.Record {
	return core.Record{
		Time: time.Date(2026, 11, 22, 10, 11, 12, 123456000, time.UTC).Add(time.Duration(i) * time.Second),
		Kind: "device-renewed", Actor: core.Job("test"), Subject: core.Subject{1, byte(i), byte(i >> 8)}, Product: "aria-thermostat",
		Facts: []core.Fact{{Name: "n", Value: fmt.Sprint(i)}},
	}
}

// reasonOf fails the test unless err has the reason.
func wantReason(t testing.TB, err error, reason string) {
	t.Helper()
	if got := core.ReasonOf(err); err == nil || got != reason {
		t.Errorf("error %v: reason %q, want %q", err, got, reason)
	}
}
