package store_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
	"github.com/hawser-iot/hawser/internal/store/storetest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// pgPool is a pool of connections to a database of its own.
func pgPool(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	p, err := store.OpenPG(t.Context(), store.PGOptions{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func pgEpochs(keep int) storetest.PartitionsOpener {
	return func(t *testing.T) (func() telemetry.Partitions, func()) {
		t.Helper()
		pool := pgPool(t, pgtest.Database(t))
		var opened *store.PGEpochs
		open := func() telemetry.Partitions {
			s, err := store.OpenPGEpochs(t.Context(), store.PGEpochsOptions{Pool: pool, Keep: keep, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			opened = s
			return s
		}
		return open, func() {
			if opened == nil {
				return
			}
			if err := opened.Close(); err != nil {
				t.Error(err)
			}
			opened = nil
		}
	}
}

// PostgreSQL keeps what every engine must.
func TestPGEpochs(t *testing.T) { storetest.Partitions(t, pgEpochs(0)) }

// With room for one partition in memory every other call forgets one.
func TestPGEpochsOneKept(t *testing.T) { storetest.Partitions(t, pgEpochs(1)) }

// Rows go from files to PostgreSQL and back as they are.
func TestPGMove(t *testing.T) {
	t.Run("there", func(t *testing.T) { storetest.Move(t, epochFiles(0), pgEpochs(0)) })
	t.Run("back", func(t *testing.T) { storetest.Move(t, pgEpochs(0), epochFiles(0)) })
}

func pgLate(t *testing.T) (func() telemetry.LateLane, func()) {
	t.Helper()
	pool := pgPool(t, pgtest.Database(t))
	open := func() telemetry.LateLane {
		l, err := store.OpenPGLateLane(t.Context(), store.PGEpochsOptions{Pool: pool, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	return open, func() {}
}

func TestPGLateLane(t *testing.T) { storetest.LateLane(t, pgLate) }

func TestPGMoveLate(t *testing.T) {
	t.Run("there", func(t *testing.T) { storetest.MoveLane(t, lateFile, pgLate) })
	t.Run("back", func(t *testing.T) { storetest.MoveLane(t, pgLate, lateFile) })
}

func TestPGHolds(t *testing.T) {
	pool := pgPool(t, pgtest.Database(t))
	storetest.HoldFiles(t, func(*testing.T, string) telemetry.HoldFiles { return store.OpenPGHolds(pool) })
}
