package store

import (
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// TestPGUnseen: a store whose database says nothing for longer than it may is
// lost, and everybody who waits for an answer is let go at once: another server
// may have the database, and what this one holds besides must become free.
func TestPGUnseen(t *testing.T) {
	t.Parallel()
	cl := pgtest.Start(t, "")
	const sight = 2 * time.Second
	s, err := Open(t.Context(), Options{Dir: t.TempDir(), Postgres: PGOptions{DSN: cl.Database(t), Sight: sight}})
	if err != nil {
		t.Fatal(err)
	}
	closed := sync.OnceValue(s.Close)
	t.Cleanup(func() { _ = closed() })
	c := counter{t, s}
	c.must(time.Second)
	pool, err := OpenPG(t.Context(), s.For(PGOptions{DSN: s.pg.o.DSN, MaxConns: 2}))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	select {
	case <-time.After(2 * sight):
	case <-s.Lost():
		t.Fatalf("lost while the database answers: %v", s.LostWhy())
	}

	if err := cl.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var all sync.WaitGroup
	limit := func(who string, f func() error) {
		all.Go(func() {
			err := f()
			if took := time.Since(began); err == nil || took > sight+3*time.Second {
				t.Errorf("%s waited %s: %v", who, took.Round(time.Millisecond), err)
			}
		})
	}
	limit("a change", c.up) // 30 s are given to it
	limit("the next change", c.up)
	limit("a look", func() error {
		return s.View(t.Context(), func(tx *Tx) error { _, err := tx.ClockSeen(t.Context()); return err })
	})
	limit("a statement elsewhere", func() error { _, err := pool.Exec(t.Context(), `SELECT 1`); return err })
	select {
	case <-s.Lost():
	case <-time.After(sight + 2*time.Second):
		t.Error("not lost")
	}
	all.Wait()
	if err := s.LostWhy(); core.ReasonOf(err) != "database-unseen" {
		t.Errorf("lost: %v", err)
	}
	ended := time.Now()
	_ = closed() // some of what it closes is broken
	if took := time.Since(ended); took > time.Second {
		t.Errorf("closing took %s", took)
	}
	if err := cl.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `SELECT 1`); err == nil {
		t.Error("a connection came about after all")
	}
}
