package store

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

func pgPoolOf(t *testing.T, dsn string) *pgxpool.Pool {
	t.Helper()
	pool, err := OpenPG(t.Context(), PGOptions{DSN: dsn, Patience: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func pgPartsOf(t *testing.T, pool *pgxpool.Pool) *PGEpochs {
	t.Helper()
	s, err := OpenPGEpochs(t.Context(), PGEpochsOptions{Pool: pool, Now: func() time.Time { return time.Unix(1_800_000_500, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test is over
	return s
}

// insist appends until it works, as the projector does.
func insist(t *testing.T, s *PGEpochs, a *telemetry.Append) (tries int) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		tries++
		_, err := s.Append(t.Context(), testEpoch, a)
		if err == nil {
			return tries
		}
		if time.Now().After(end) {
			t.Fatalf("it does not go on: %v", err)
		}
		if core.KindOf(err) != core.Unavail {
			t.Errorf("trouble of the database has another kind: %v", err)
		}
	}
}

// whole verifies the test's partition by itself and counts its rows.
func whole(t *testing.T, s *PGEpochs, rows int) {
	t.Helper()
	x, _, err := s.Extent(t.Context(), testEpoch)
	if err != nil || x.Head.Rows != uint64(rows) {
		t.Fatalf("%d rows, want %d, %v", x.Head.Rows, rows, err)
	}
	v, err := telemetry.VerifyAlone(t.Context(), s, testEpoch, x.Head)
	if err != nil || !v.OK() || v.Rows != uint64(rows) {
		t.Fatalf("%d rows, found %v, %v", v.Rows, v.Found, err)
	}
}

// TestPGAppendCut: the connection breaks at a commit, before it arrived or when
// it was done and nobody heard. Either way the same rows, appended again, are
// there once (the projector does that).
func TestPGAppendCut(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3000} {
		k, cut := newCutter(t, pgtest.Database(t))
		s := pgPartsOf(t, pgPoolOf(t, cut))
		insist(t, s, rowsOf(testEpoch, n, 0))
		for i, when := range []string{"before", "after", "before", "after"} {
			k.set(when, false)
			a := rowsOf(testEpoch, n, i+1)
			if tries := insist(t, s, a); tries < 2 {
				t.Errorf("%s: nothing was cut", when)
			}
			want := telemetry.FateStored
			if when == "after" {
				want = telemetry.FateRepeated
			}
			for j, f := range a.Fate {
				if f != want {
					t.Fatalf("cut %s: row %d has fate %d, want %d", when, j, f, want)
				}
			}
		}
		whole(t, s, 5*n)
	}
}

// TestPGAppendUndone: what an append had numbered before it failed is numbered
// anew.
func TestPGAppendUndone(t *testing.T) {
	t.Parallel()
	pool := pgPoolOf(t, pgtest.Database(t))
	s := pgPartsOf(t, pool)
	insist(t, s, rowsOf(testEpoch, 10, 0))
	e := pgSchemaOf(testEpoch)
	for _, q := range []string{
		`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END'`,
		`CREATE TRIGGER refuse BEFORE INSERT ON ` + e + `.rows EXECUTE FUNCTION refuse()`,
	} {
		if _, err := pool.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	a := rowsOf(testEpoch, 20, 1) // ten subjects are new
	for i := range a.Rows {
		a.Rows[i].Reading.Stream = "another"
	}
	if _, err := s.Append(t.Context(), testEpoch, a); err == nil || a.Rows[0].ID != 0 || a.Fate[0] != telemetry.FateNone {
		t.Fatalf("refused: %v, fate %d, number %d", err, a.Fate[0], a.Rows[0].ID)
	}
	if _, err := pool.Exec(t.Context(), `DROP TRIGGER refuse ON `+e+`.rows`); err != nil {
		t.Fatal(err)
	}
	insist(t, s, a)
	whole(t, s, 30)
	q := telemetry.Query{Subject: core.Subject{15, 0, 1}, From: time.Unix(0, 0), To: testEpoch.End()}
	n := 0
	err := s.Scan(t.Context(), testEpoch, &q, func(r *telemetry.Row) error {
		if r.Reading.Stream == "another" {
			n++
		}
		return nil
	})
	if err != nil || n != 1 {
		t.Errorf("%d rows of a new subject and stream, %v", n, err)
	}
}

// TestPGAppendTrouble: a server that is killed in the middle of appends, that
// takes no writes, or holds them up: each row is there once in the end, the
// error names what is wrong, and reading says so too.
func TestPGAppendTrouble(t *testing.T) {
	t.Parallel()
	cl := pgtest.Start(t, "")
	dsn := cl.Database(t)
	s := pgPartsOf(t, pgPoolOf(t, dsn))
	q := telemetry.Query{Subject: core.Subject{1, 0, 1}, From: time.Unix(0, 0), To: testEpoch.End()}
	scan := func() (n int, err error) {
		err = s.Scan(t.Context(), testEpoch, &q, func(*telemetry.Row) error { n++; return nil })
		return n, err
	}
	const batch = 1500
	done, seq := make(chan error, 1), 0
	for ; seq < 3; seq++ {
		insist(t, s, rowsOf(testEpoch, batch, seq))
	}
	go func() { // three crashes while it appends
		for range 3 {
			time.Sleep(150 * time.Millisecond)
			if err := cl.Stop("immediate"); err != nil {
				done <- err
				return
			}
			time.Sleep(50 * time.Millisecond)
			if err := cl.Run(); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for running := true; running; {
		insist(t, s, rowsOf(testEpoch, batch, seq))
		seq++
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
	}
	whole(t, s, batch*seq)

	db := dsn[strings.LastIndex(dsn, "/t")+1 : strings.Index(dsn, "?")]
	drop := `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hawser'`
	if err := cl.Exec("postgres", `ALTER DATABASE `+db+` SET default_transaction_read_only = on`, drop); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 20 { // the first errors are those of the ended sessions
		if _, err = s.Append(t.Context(), testEpoch, rowsOf(testEpoch, 2, 1000)); core.ReasonOf(err) == "database-read-only" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if core.KindOf(err) != core.Unavail || core.ReasonOf(err) != "database-read-only" {
		t.Errorf("read-only: %v", err)
	}
	if n, err := scan(); err != nil || n != seq {
		t.Errorf("reading goes on: %d rows, want %d, %v", n, seq, err)
	}
	if err := cl.Exec("postgres", `ALTER DATABASE `+db+` RESET default_transaction_read_only`, drop); err != nil {
		t.Fatal(err)
	}
	insist(t, s, rowsOf(testEpoch, batch, seq))
	seq++

	if err := cl.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	if _, err := scan(); core.KindOf(err) != core.Unavail || core.ReasonOf(err) != "database-gone" {
		t.Errorf("reading without a server: %v", err)
	}
	if len(s.Broken()) != 0 {
		t.Errorf("trouble was taken for damage: %v", s.Broken())
	}
	if err := cl.Run(); err != nil {
		t.Fatal(err)
	}
	insist(t, s, rowsOf(testEpoch, batch, seq))
	whole(t, s, batch*(seq+1))
}

// TestPGAppendFull: a full disk stops filing, says so, and with room again the
// same rows go in, once.
func TestPGAppendFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to make a small disk")
	}
	cl := pgtest.Start(t, "")
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a small disk: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", disk).Run() }) // nothing else is there
	for dir := filepath.Dir(disk); dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	space := filepath.Join(disk, "space")
	if out, err := exec.Command("install", "-d", "-o", cl.User(), "-m", "700", space).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := cl.Exec("postgres", `CREATE TABLESPACE small LOCATION '`+space+`'`, `CREATE DATABASE small TEMPLATE template0 ENCODING 'UTF8' TABLESPACE small`); err != nil {
		t.Fatal(err)
	}
	s := pgPartsOf(t, pgPoolOf(t, cl.DSN("small")))
	var failed error
	seq := 0
	for ; seq < 100 && failed == nil; seq++ {
		_, failed = s.Append(t.Context(), testEpoch, rowsOf(testEpoch, 5000, seq))
	}
	if core.KindOf(failed) != core.Unavail || core.ReasonOf(failed) != "database-full" || seq < 2 {
		t.Fatalf("after %d: %v", seq, failed)
	}
	if len(s.Broken()) != 0 {
		t.Error("a full disk was taken for damage")
	}
	whole(t, s, 5000*(seq-1))
	if out, err := exec.Command("mount", "-o", "remount,size=96m", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	insist(t, s, rowsOf(testEpoch, 5000, seq-1))
	whole(t, s, 5000*seq)
}

// TestPGExpiryWins: somebody holds a lock on a partition for as long as he
// likes, a dump for instance. It is removed all the same, soon, and whoever
// reads others meanwhile does not wait.
func TestPGExpiryWins(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	s := pgPartsOf(t, pgPoolOf(t, dsn))
	next := testEpoch
	next.Start += 86400
	for seq := range 3 {
		for _, e := range []core.Epoch{testEpoch, next} {
			if _, err := s.Append(t.Context(), e, rowsOf(e, 3000, seq)); err != nil {
				t.Fatal(err)
			}
		}
	}
	dump, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer dump.Close(context.Background())
	for _, query := range []string{`BEGIN`, `SELECT count(*) FROM ` + pgSchemaOf(testEpoch) + `.rows`, `SELECT count(*) FROM ` + pgSchemaOf(testEpoch) + `.batches`} {
		if _, err := dump.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Freeze(t.Context(), testEpoch); err != nil {
		t.Fatal(err)
	}
	removed := make(chan error, 1)
	begin := time.Now()
	go func() { removed <- s.Remove(t.Context(), testEpoch) }()
	slowest := time.Duration(0)
	for waiting := true; waiting; {
		at := time.Now()
		q := telemetry.Query{Subject: core.Subject{1, 0, 1}, From: time.Unix(0, 0), To: next.End()}
		n := 0
		if err := s.Scan(t.Context(), next, &q, func(*telemetry.Row) error { n++; return nil }); err != nil || n != 3 {
			t.Errorf("beside the removal: %d rows, %v", n, err)
		}
		slowest = max(slowest, time.Since(at))
		select {
		case err := <-removed:
			if err != nil {
				t.Fatal(err)
			}
			waiting = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	if took := time.Since(begin); took < pgRemoveWait || took > 4*pgRemoveWait {
		t.Errorf("removed after %s", took)
	}
	if slowest > pgRemoveWait/2 {
		t.Errorf("a reader of another epoch waited %s", slowest)
	}
	if err := dump.Ping(t.Context()); err == nil {
		t.Error("the dump goes on")
	}
	if l, err := s.Names(t.Context()); err != nil || len(l) != 1 || l[0] != next {
		t.Errorf("left: %v, %v", l, err)
	}
}

// TestPGReaderTakesTime: whoever reads holds nothing in the database. A
// partition can be removed between two of his rows, and he is told no lie.
func TestPGReaderTakesTime(t *testing.T) {
	t.Parallel()
	s := pgPartsOf(t, pgPoolOf(t, pgtest.Database(t)))
	for seq := range 40 {
		a := rowsOf(testEpoch, 100, seq)
		for i := range a.Rows {
			a.Rows[i].Reading.Subject, a.Rows[i].Reading.Seq = core.Subject{7}, uint64(seq*100+i)
		}
		if _, err := s.Append(t.Context(), testEpoch, a); err != nil {
			t.Fatal(err)
		}
	}
	q := telemetry.Query{Subject: core.Subject{7}, From: time.Unix(0, 0), To: testEpoch.End()}
	n := 0
	last := uint64(0)
	err := s.Scan(t.Context(), testEpoch, &q, func(r *telemetry.Row) error {
		if n > 0 && r.Reading.Seq != last+1 {
			t.Fatalf("row %d follows row %d", r.Reading.Seq, last)
		}
		last = r.Reading.Seq
		if n++; n == 1 { // what is filed after the call is not in it
			more := rowsOf(testEpoch, 1, 50)
			more.Rows[0].Reading.Subject, more.Rows[0].Reading.Seq = core.Subject{7}, 9999
			_, err := s.Append(t.Context(), testEpoch, more)
			return err
		}
		return nil
	})
	if err != nil || n != 4000 {
		t.Errorf("%d rows, want 4000 in pages, %v", n, err)
	}
	n = 0
	err = s.Scan(t.Context(), testEpoch, &q, func(*telemetry.Row) error {
		if n++; n == 1 {
			if err := s.Freeze(t.Context(), testEpoch); err != nil {
				return err
			}
			return s.Remove(t.Context(), testEpoch)
		}
		return nil
	})
	if err != nil || n == 0 || n >= 4000 {
		t.Errorf("removed while it is read: %d rows, %v", n, err)
	}
}

// TestPGDamage: a partition that is not what it must be is put aside as it is,
// named, and nothing else suffers; it ends with its epoch.
func TestPGDamage(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]string{
		"no head":          `DELETE FROM {e}.epoch`,
		"another epoch":    `UPDATE {e}.epoch SET start_s = start_s + 86400`,
		"another layout":   `UPDATE {e}.epoch SET layout = 1`,
		"chain cut":        `UPDATE {e}.epoch SET chain = '\x00'`,
		"no rows":          `DROP TABLE {e}.rows`,
		"no column":        `ALTER TABLE {e}.rows DROP COLUMN sealed`,
		"no dictionary":    `DROP TABLE {e}.lanes`,
		"no batches":       `DROP TABLE {e}.batches`,
		"nothing in it":    `DROP TABLE {e}.epoch, {e}.rows, {e}.lanes, {e}.contexts, {e}.journals, {e}.subjects, {e}.batches`,
		"without a column": `ALTER TABLE {e}.epoch DROP COLUMN layout`,
	} {
		t.Run(name, func(t *testing.T) {
			pool := pgPoolOf(t, pgtest.Database(t))
			s := pgPartsOf(t, pool)
			well := testEpoch
			well.Start -= 86400
			for seq := range 2 {
				for _, e := range []core.Epoch{testEpoch, well} {
					if _, err := s.Append(t.Context(), e, rowsOf(e, 30, seq)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if _, err := pool.Exec(t.Context(), (&pgPart{schema: pgSchemaOf(testEpoch)}).sql(hurt)); err != nil {
				t.Fatal(err)
			}
			if name != "another epoch" { // this is seen at once
				s = pgPartsOf(t, pool)
			}
			_, err := s.Append(t.Context(), testEpoch, rowsOf(testEpoch, 5, 9))
			b, ok := telemetry.AsBroken(err)
			if !ok || b.Epoch != testEpoch || b.Detail == "" || !strings.Contains(b.Aside, pgAsideMark) {
				t.Fatalf("got %v, want a *BrokenError", err)
			}
			if _, err := s.Append(t.Context(), well, rowsOf(well, 30, 9)); err != nil {
				t.Error(err)
			}
			s = pgPartsOf(t, pool) // after a restart
			if got := s.Broken(); len(got) != 1 || got[0].Epoch.Start != testEpoch.Start || got[0].Aside != b.Aside {
				t.Errorf("after a restart: broken %+v", got)
			}
			q := telemetry.Query{Subject: core.Subject{1, 0, 1}, From: time.Unix(0, 0), To: testEpoch.End()}
			if _, ok := telemetry.AsBroken(s.Scan(t.Context(), testEpoch, &q, func(*telemetry.Row) error { return nil })); !ok {
				t.Error("a reader is not told")
			}
			if err := s.Freeze(t.Context(), testEpoch); err != nil {
				t.Fatal(err)
			}
			if err := s.Remove(t.Context(), testEpoch); err != nil {
				t.Fatal(err)
			}
			if l, err := s.Names(t.Context()); err != nil || len(l) != 1 || len(s.Broken()) != 0 {
				t.Errorf("after its end: %v, %v, broken %v", l, err, s.Broken())
			}
		})
	}
}

// TestPGBadPages: blocks of a table that the disk spoilt are found by whoever
// meets them, and by an audit; an error alone condemns nothing.
func TestPGBadPages(t *testing.T) {
	t.Parallel()
	cl := pgtest.Start(t, "")
	dsn := cl.Database(t)
	pool := pgPoolOf(t, dsn)
	s := pgPartsOf(t, pool)
	for seq := range 3 {
		if _, err := s.Append(t.Context(), testEpoch, rowsOf(testEpoch, 2000, seq)); err != nil {
			t.Fatal(err)
		}
	}
	var file string
	if err := pool.QueryRow(t.Context(), `SELECT pg_relation_filepath($1)`, pgSchemaOf(testEpoch)+".rows").Scan(&file); err != nil {
		t.Fatal(err)
	}
	if err := cl.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(cl.Data(), file), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte(strings.Repeat("\xa5", 3*8192)), 20*8192)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cl.Run(); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		err = s.Audit(t.Context(), testEpoch, telemetry.AuditVisitor{
			Head: func(telemetry.Head) error { return nil }, Batch: func(*telemetry.Batch) error { return nil },
			Row: func(*telemetry.Row) error { return nil }, Fault: func(string) error { return nil },
		})
		if core.KindOf(err) != core.Unavail || i > 20 { // sessions from before the stop
			break
		}
	}
	if b, ok := telemetry.AsBroken(err); !ok || !strings.Contains(b.Detail, "block") {
		t.Errorf("got %v, want a *BrokenError that names the block", err)
	}
}

// TestPGMissingInIndex: a row that an index has lost is in the table all the
// same; an audit says so.
func TestPGMissingInIndex(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgPoolOf(t, dsn)
	s := pgPartsOf(t, pool)
	if _, err := s.Append(t.Context(), testEpoch, rowsOf(testEpoch, 50, 0)); err != nil {
		t.Fatal(err)
	}
	// A partial index under the name of the whole one: the planner believes
	// what the catalogue says of it.
	e := pgSchemaOf(testEpoch)
	for _, q := range []string{
		`ALTER TABLE ` + e + `.rows DROP CONSTRAINT rows_pkey`,
		`CREATE UNIQUE INDEX rows_pkey ON ` + e + `.rows (id) WHERE id <> 14`,
		`UPDATE pg_index SET indpred = NULL WHERE indexrelid = '` + e + `.rows_pkey'::regclass`,
	} {
		if _, err := pool.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pool.Exec(t.Context(), `ALTER DATABASE `+dsn[strings.LastIndex(dsn, "/t")+1:strings.Index(dsn, "?")]+` SET enable_seqscan = off`); err != nil {
		t.Fatal(err)
	}
	pool.Reset()
	s = pgPartsOf(t, pool)
	var faults []string
	err := s.Audit(t.Context(), testEpoch, telemetry.AuditVisitor{
		Head: func(telemetry.Head) error { return nil }, Batch: func(*telemetry.Batch) error { return nil },
		Row: func(*telemetry.Row) error { return nil }, Fault: func(d string) error { faults = append(faults, d); return nil },
	})
	if err != nil || len(faults) != 1 || !strings.Contains(faults[0], fmt.Sprintf("%d rows, %d of them", 50, 49)) {
		t.Errorf("faults %q, %v", faults, err)
	}
}
