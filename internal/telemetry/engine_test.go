package telemetry_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// onPostgreSQL is the name of the test under which others run on the second
// engine: fixtures look at the name of their test.
const onPostgreSQL = "TestOnPostgreSQL"

// TestOnPostgreSQL runs with readings in PostgreSQL what holds for every
// engine. The control database stays a file.
func TestOnPostgreSQL(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"Expire", TestExpire},
		{"ExpireKilledAtEachStep", TestExpireKilledAtEachStep},
		{"ExpireLeavesNothing", TestExpireLeavesNothing},
		{"ExpireLetsTheHoldHaveWhatIsNotFiledYet", TestExpireLetsTheHoldHaveWhatIsNotFiledYet},
		{"ExpireWaitsForHolds", TestExpireWaitsForHolds},
		{"HoldAgainstADamagedFile", TestHoldAgainstADamagedFile},
		{"HoldAgainstExpiry", TestHoldAgainstExpiry},
		{"HoldKilledAtEachArrow", TestHoldKilledAtEachArrow},
		{"HoldOutlivesErasure", TestHoldOutlivesErasure},
		{"ProjectorDamagedFile", TestProjectorDamagedFile},
		{"ProjectorDropsWhatHasEnded", TestProjectorDropsWhatHasEnded},
		{"ProjectorFilesAndCounts", TestProjectorFilesAndCounts},
		{"ProjectorKilledAtEachStep", TestProjectorKilledAtEachStep},
		{"ProjectorLateLane", TestProjectorLateLane},
		{"ProjectorNewJournal", TestProjectorNewJournal},
		{"ProjectorStoresOnce", TestProjectorStoresOnce},
		{"ProjectorStoresOnceOverVersions", TestProjectorStoresOnceOverVersions},
		{"ProjectorTrouble", TestProjectorTrouble},
		{"SealMinute", TestSealMinute},
		{"VerifyAgainstTheLedger", TestVerifyAgainstTheLedger},
		{"VerifyFindsEveryChange", TestVerifyFindsEveryChange},
		{"VerifyStretch", TestVerifyStretch},
		{"VerifyUnsealed", TestVerifyUnsealed},
	} {
		t.Run(c.name, c.test)
	}
}

// shelves are partitions, late lane and holds of either engine.
type shelves struct {
	files interface {
		telemetry.Movable
		io.Closer
	}
	late interface {
		telemetry.MovableLane
		io.Closer
	}
	kept telemetry.HoldFiles
	pool *pgxpool.Pool
}

// database is the database of a test that runs on the second engine, "" for
// files.
func database(t testing.TB) string {
	t.Helper()
	if strings.HasPrefix(t.Name(), onPostgreSQL) {
		return pgtest.Database(t)
	}
	return ""
}

func openShelves(t testing.TB, dsn, data string, now func() time.Time) (s shelves) {
	t.Helper()
	ctx := t.Context()
	if dsn == "" {
		o := store.EpochFilesOptions{Dir: filepath.Join(data, "telemetry"), Now: now}
		files, err := store.OpenEpochFiles(o)
		must(t, err)
		late, err := store.OpenLateLane(ctx, o)
		must(t, err)
		kept, err := store.OpenHoldFiles(filepath.Join(data, "hold"))
		must(t, err)
		return shelves{files: files, late: late, kept: kept}
	}
	pool, err := store.OpenPG(ctx, store.PGOptions{DSN: dsn, MaxConns: 4})
	must(t, err)
	o := store.PGEpochsOptions{Pool: pool, Now: now}
	files, err := store.OpenPGEpochs(ctx, o)
	must(t, err)
	late, err := store.OpenPGLateLane(ctx, o)
	must(t, err)
	return shelves{files: files, late: late, kept: store.OpenPGHolds(pool), pool: pool}
}

func (s *shelves) close() error {
	err := s.late.Close()
	if err2 := s.files.Close(); err == nil {
		err = err2
	}
	if s.pool != nil {
		s.pool.Close()
	}
	return err
}

// pgDo runs statements as somebody with a right to, in the schema of an epoch.
func pgDo(t testing.TB, dsn string, e core.Epoch, statements ...string) {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, dsn)
	must(t, err)
	defer c.Close(ctx)
	for _, s := range append([]string{`SET search_path = ` + schemaOf(e)}, statements...) {
		if _, err := c.Exec(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func schemaOf(e core.Epoch) string {
	return "epoch_" + strings.ToLower(strings.ReplaceAll(e.String(), "/", "_"))
}

// schemasOf are the names of all schemas of an epoch.
func schemasOf(t testing.TB, dsn string, e core.Epoch) []string {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, dsn)
	must(t, err)
	defer c.Close(ctx)
	rows, err := c.Query(ctx, `SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname, $1)`, schemaOf(e))
	must(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return all
}

var sqliteForms = []struct {
	form *regexp.Regexp
	pg   string
}{
	{regexp.MustCompile(`zeroblob\((\d+|length\(sums\))\)`), `decode(repeat('00', $1), 'hex')`},
	{regexp.MustCompile(`x'([0-9a-f]*)'`), `'\x$1'::bytea`},
	{regexp.MustCompile(`CAST\((.*?) AS BLOB\)`), `($1)`},
	{regexp.MustCompile(`1 << 50`), `1::bigint << 50`},
	{regexp.MustCompile(`^PRAGMA.*`), `SELECT 1`},
}

// pgForm is a statement of SQLite in PostgreSQL's words.
func pgForm(s string) string {
	for _, f := range sqliteForms {
		s = f.form.ReplaceAllString(s, f.pg)
	}
	return s
}

// partition is where one epoch lies, for tests that hurt it while nothing is
// open.
type partition struct {
	dsn, path string
	e         core.Epoch
}

func partitionAt(dsn, data string, e core.Epoch) partition {
	return partition{dsn, filepath.Join(data, "telemetry", e.String()+".db"), e}
}

var pgTables = strings.Fields("epoch subjects lanes contexts journals rows batches")

// keep remembers the partition as it is; what it returns puts it back.
func (p partition) keep(t testing.TB) (restore func()) {
	t.Helper()
	if p.dsn == "" {
		whole := mustReadFile(t, p.path)
		return func() { must(t, os.WriteFile(p.path, whole, 0o600)) }
	}
	copyTo := func(from, to string) {
		statements := []string{`DROP SCHEMA IF EXISTS ` + to + ` CASCADE`, `CREATE SCHEMA ` + to}
		for _, name := range pgTables {
			statements = append(statements, `CREATE TABLE `+to+`.`+name+` (LIKE `+from+`.`+name+` INCLUDING ALL)`,
				`INSERT INTO `+to+`.`+name+` SELECT * FROM `+from+`.`+name)
		}
		pgDo(t, p.dsn, p.e, statements...)
	}
	copyTo(schemaOf(p.e), "kept_"+schemaOf(p.e))
	return func() { copyTo("kept_"+schemaOf(p.e), schemaOf(p.e)) }
}

// spoil makes the partition useless.
func (p partition) spoil(t testing.TB) {
	t.Helper()
	if p.dsn == "" {
		must(t, os.WriteFile(p.path, []byte(strings.Repeat("damage", 1000)), 0o600))
		return
	}
	pgDo(t, p.dsn, p.e, `DELETE FROM epoch`)
}

func mustReadFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}
