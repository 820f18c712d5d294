package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// TestPGOpens opens a real database and refuses those that lose commits.
func TestPGOpens(t *testing.T) {
	dsn := pgtest.Database(t)
	p, err := OpenPG(t.Context(), PGOptions{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	var app, commits string
	if err := p.QueryRow(t.Context(), `SELECT current_setting('application_name'), current_setting('synchronous_commit')`).Scan(&app, &commits); err != nil || app != "hawser" || commits != "on" {
		t.Errorf("application_name %q, synchronous_commit %q, %v", app, commits, err)
	}
	if _, err := p.Exec(t.Context(), `DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = off'; END $$`); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := OpenPG(t.Context(), PGOptions{DSN: dsn}); core.KindOf(err) != core.Invalid || !strings.Contains(err.Error(), "before they are on disk") {
		t.Errorf("synchronous_commit off: %v", err)
	}
	if _, err := OpenPG(t.Context(), PGOptions{DSN: strings.Replace(dsn, "/t", "/none", 1)}); core.KindOf(err) != core.Invalid {
		t.Errorf("no such database: %v", err)
	}
}

// TestPGSettings holds what a name of a database may say.
func TestPGSettings(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("tell-nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, []byte("tell-nobody\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dsn, file string
		good      bool
	}{
		{"postgres://hawser@/db?host=/run/postgresql", "", true},
		{"postgres://hawser@db.example/db?sslmode=verify-full", secret, true},
		{"postgres://hawser@db.example/db?sslmode=verify-full", open, false},
		{"postgres://hawser@db.example/db?sslmode=verify-full", "/nonexistent", false},
		{"postgres://hawser@db.example/db", "", false}, // prefer: falls back to cleartext
		{"postgres://hawser@db.example/db?sslmode=require", "", false},
		{"postgres://hawser@127.0.0.1/db?sslmode=disable", "", false},
		{"postgres://hawser@a.example,b.example/db?sslmode=verify-full", "", false},
		{"postgres://hawser:tell-nobody@db.example/db?sslmode=verify-full", "", false},
		{"postgres://hawser@db.example/db?sslmode=verify-full&password=tell-nobody", "", false},
		{"host=/run/postgresql dbname=db", "", false},
		{"postgres://hawser:tell-nobody@db.example:port/db", "", false},
	} {
		cfg, err := pgConfig(PGOptions{DSN: c.dsn, PasswordFile: c.file})
		if (err == nil) != c.good {
			t.Errorf("%s: %v, want good: %v", c.dsn, err, c.good)
		}
		if err != nil && (core.KindOf(err) != core.Invalid || strings.Contains(err.Error(), "tell-nobody")) {
			t.Errorf("%s: %v", c.dsn, err)
		}
		if err == nil && c.file != "" && cfg.ConnConfig.Password != "tell-nobody" {
			t.Errorf("the password is %q", cfg.ConnConfig.Password)
		}
	}
}

// TestPGSecondOpenIsRefused: from another folder, too.
func TestPGSecondOpenIsRefused(t *testing.T) {
	o := Options{Dir: t.TempDir(), Postgres: PGOptions{DSN: pgtest.Database(t)}}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: t.TempDir(), Postgres: o.Postgres}); !errors.Is(err, ErrInUse) {
		t.Errorf("second server: %v", err)
	}
	if err := s.Update(t.Context(), func(*Tx) error { return nil }); err != nil {
		t.Errorf("the first one after it: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), o); err != nil {
		t.Fatalf("after the first one: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPGTaken: a server that was cut off while another one took the database
// over writes nothing any more, even in a transaction that is under way.
func TestPGTaken(t *testing.T) {
	o := Options{Dir: t.TempDir(), Postgres: PGOptions{DSN: pgtest.Database(t)}}
	first, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Close() })
	put := func(s *Store, at time.Time) error {
		return s.Update(t.Context(), func(tx *Tx) error { return tx.PutClockSeen(t.Context(), at) })
	}
	if err := put(first, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	pool, err := OpenPG(t.Context(), first.For(PGOptions{DSN: o.Postgres.DSN, App: "hawser telemetry", MaxConns: 1}))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	// Its session ends; it lives on.
	if _, err := first.pg.w.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); err != nil {
		t.Fatal(err)
	}
	second, err := openSoon(t, Options{Dir: t.TempDir(), Postgres: o.Postgres})
	if err != nil {
		t.Fatal(err)
	}
	// Nor do its readings go anywhere.
	if err := pool.Ping(t.Context()); err == nil {
		t.Error("a session of the first one for readings lives on")
	}
	if err := pool.Ping(t.Context()); !strings.Contains(fmt.Sprint(err), "taken the database over") {
		t.Errorf("a new session of the first one for readings: %v", err)
	}
	if err := put(first, time.Unix(2, 0)); core.ReasonOf(err) != "database-taken" {
		t.Errorf("the first one writes: %v", err)
	}
	select {
	case <-first.Lost():
	case <-time.After(5 * time.Second):
		t.Error("the first one does not know that it lost its store")
	}
	if err := first.View(t.Context(), func(*Tx) error { return nil }); core.ReasonOf(err) != "database-taken" {
		t.Errorf("the first one reads: %v", err)
	}
	if err := put(second, time.Unix(3, 0)); err != nil {
		t.Errorf("the second one: %v", err)
	}
	if second.LostWhy() != nil || open(t).Lost() != nil {
		t.Error("a store is lost that is not")
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

// openSoon opens a store as soon as its lock is free.
func openSoon(t *testing.T, o Options) (*Store, error) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s, err := Open(t.Context(), o)
		if !errors.Is(err, ErrInUse) || time.Now().After(end) {
			return s, err
		}
	}
}

func TestPGViewCannotWrite(t *testing.T) {
	s := openOnPG(t)
	err := s.View(t.Context(), func(tx *Tx) error { return tx.PutClockSeen(t.Context(), time.Unix(1, 0)) })
	if err == nil {
		t.Error("a view could write")
	}
	// A view is one snapshot.
	err = s.View(t.Context(), func(tx *Tx) error {
		if _, err := tx.ClockSeen(t.Context()); err != nil {
			return err
		}
		if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutClockSeen(t.Context(), time.Unix(1, 0)) }); err != nil {
			return err
		}
		at, err := tx.ClockSeen(t.Context())
		if !at.IsZero() {
			t.Errorf("the view sees a later write: %v", at)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPGWritersQueue: read, think, write loses nothing, in one process and in
// two that believe they are alone.
func TestPGWritersQueue(t *testing.T) {
	s := openOnPG(t)
	const each, n = 20, 8
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for range each {
				err := s.Update(t.Context(), func(tx *Tx) error {
					at, err := tx.ClockSeen(t.Context())
					if err != nil {
						return err
					}
					if at.IsZero() {
						at = time.UnixMicro(0)
					}
					return tx.PutClockSeen(t.Context(), at.Add(time.Microsecond))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	err := s.View(t.Context(), func(tx *Tx) error {
		at, err := tx.ClockSeen(t.Context())
		if got := at.UnixMicro(); got != n*each {
			t.Errorf("counted %d, want %d", got, n*each)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPGScrub: after it no dead row is left in any table that an eraser
// empties; a reader of an old snapshot is in its way, and it says so.
func TestPGScrub(t *testing.T) {
	s := openOnPG(t)
	subject := core.Subject([]byte("sixteen bytes: s"))
	for _, f := range []func(*Tx) error{
		func(tx *Tx) error {
			return tx.AddSubjectCounts(t.Context(), []telemetry.SubjectCount{{Subject: subject, Product: "p", Accepted: 1}})
		},
		func(tx *Tx) error { return tx.ForgetCounts(t.Context(), subject) },
	} {
		if err := s.Update(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.pg.w.ExecContext(t.Context(), `CREATE EXTENSION pgstattuple`); err != nil {
		t.Fatal(err)
	}
	dead := func() (n int) {
		t.Helper()
		if err := s.pg.w.QueryRowContext(t.Context(), `SELECT dead_tuple_count FROM pgstattuple('telemetry_subject')`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if dead() == 0 {
		t.Fatal("the deleted row is gone already: this test shows nothing")
	}
	err := s.View(t.Context(), func(tx *Tx) error {
		if _, err := tx.SubjectCount(t.Context(), subject); err != nil {
			return err
		}
		if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutClockSeen(t.Context(), time.Unix(1, 0)) }); err != nil {
			return err
		}
		ctx, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer stop()
		if err := s.Scrub(ctx); core.KindOf(err) != core.Unavail || core.ReasonOf(err) != "log-in-use" {
			t.Errorf("beside a reader: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := dead(); n != 0 {
		t.Errorf("%d dead rows are left", n)
	}
}
