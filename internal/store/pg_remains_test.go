package store

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// remains counts a marker in the files of a cluster, apart from its log of
// writes and in that.
func remains(t *testing.T, cl *pgtest.Cluster, marker []byte) (files, log int) {
	t.Helper()
	err := filepath.WalkDir(cl.Data(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // a file that has just gone holds nothing
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil // it has just gone
		}
		if n := bytes.Count(b, marker); strings.Contains(path, "/pg_wal/") {
			log += n
		} else {
			files += n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, log
}

// TestPGRemains measures what an end leaves on PostgreSQL's disk: nothing in
// its tables, and in its write-ahead log what was written there, until the log
// is written over. What is there is sealed under keys that are gone.
func TestPGRemains(t *testing.T) {
	t.Parallel()
	cl := pgtest.Start(t, "", "max_wal_size = 32MB", "min_wal_size = 32MB", "wal_level = replica")
	dsn := cl.Database(t)
	pool := pgPoolOf(t, dsn)
	s := pgPartsOf(t, pool)
	do := func(query string) {
		t.Helper()
		if err := cl.Exec(dsn[strings.LastIndex(dsn, "/t")+1:strings.Index(dsn, "?")], query); err != nil {
			t.Fatal(err)
		}
	}
	look := func(when string, marker []byte, wantFiles bool) int {
		t.Helper()
		files, log := remains(t, cl, marker)
		t.Logf("%s: %d in tables, %d in the write-ahead log", when, files, log)
		if files > 0 != wantFiles {
			t.Errorf("%s: %d in tables", when, files)
		}
		return log
	}
	marker := []byte("\x03\x99sealed-marker\xf3\x81")
	a := rowsOf(testEpoch, 5000, 0)
	for i := range a.Rows {
		copy(a.Rows[i].Part.Sealed[50:], marker)
	}
	if _, err := s.Append(t.Context(), testEpoch, a); err != nil {
		t.Fatal(err)
	}
	do(`CHECKPOINT`)
	if look("filed", marker, true) == 0 {
		t.Error("the rows are not in the write-ahead log: what is looked for cannot be found")
	}
	if err := s.Freeze(t.Context(), testEpoch); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := s.Remove(t.Context(), testEpoch); err != nil {
		t.Fatal(err)
	}
	t.Logf("removed in %s", time.Since(begin))
	look("removed", marker, false)

	// The log is written over by what is filed later: three times its size.
	next := testEpoch
	next.Start += 86400
	for seq := range 40 {
		if _, err := s.Append(t.Context(), next, rowsOf(next, 8000, seq)); err != nil {
			t.Fatal(err)
		}
	}
	do(`CHECKPOINT`)
	if log := look("after 100 MB more", marker, false); log != 0 {
		t.Errorf("%d are still in the write-ahead log", log)
	}

	// The late lane forgets row by row: what was there stays in its table until
	// a vacuum, and in the log as above.
	lane, err := OpenPGLateLane(t.Context(), PGEpochsOptions{Pool: pool, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	lateMark := []byte("\x03\x99late-marker\xf3\x81")
	rows := rowsOf(testEpoch, 500, 0).Rows
	for i := range rows {
		copy(rows[i].Part.Sealed[50:], lateMark)
		rows[i].Place = telemetry.Place{Journal: "j", Seq: 1, Index: uint32(i)}
	}
	if err := lane.Park(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	if n, err := lane.Drop(t.Context(), testEpoch, 1<<40); err != nil || n != 500 {
		t.Fatal(n, err)
	}
	do(`CHECKPOINT`)
	look("dropped from the late lane", lateMark, true)
	do(`VACUUM late.late`)
	do(`CHECKPOINT`)
	look("after a vacuum", lateMark, false)

	holds := OpenPGHolds(pool)
	heldMark := []byte("\x03\x99held-marker\xf3\x81")
	if err := holds.Create(t.Context(), "h-remains"); err != nil {
		t.Fatal(err)
	}
	err = holds.Append(t.Context(), "h-remains", testEpoch, []telemetry.HeldRow{{Key: telemetry.HeldKey{1}, Sealed: heldMark}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	do(`CHECKPOINT`)
	look("held", heldMark, true)
	if err := holds.Remove(t.Context(), "h-remains"); err != nil {
		t.Fatal(err)
	}
	look("released", heldMark, false)
}

// TestPGNames holds which schemas are partitions.
func TestPGNames(t *testing.T) {
	e := testEpoch
	if got, aside, ok := pgEpochNamed(pgSchemaOf(e)); !ok || aside != 0 || got != e {
		t.Errorf("%s: %v %d %v", pgSchemaOf(e), got, aside, ok)
	}
	if got, aside, ok := pgEpochNamed(pgSchemaOf(e) + pgAsideMark + "1800000500"); !ok || aside != 1_800_000_500 || got != e {
		t.Errorf("put aside: %v %d %v", got, aside, ok)
	}
	for _, name := range []string{
		"", "public", "epoch_", "epoch_k", "epoch_k1", "epoch_k0_20270115t000000z", "epoch_k-5_20270115t000000z", "epoch_k5_20271315t000000z",
		"epoch_k99999999999999999999_20270115t000000z", "epoch_k5_20270115t000000z_damaged_", "epoch_k5_20270115t000000z_damaged_x", "late", "hold_h-1",
	} {
		if got, _, ok := pgEpochNamed(name); ok {
			t.Errorf("%q is the partition of %v", name, got)
		}
	}
	if n := len(pgSchemaOf(core.Epoch{Keep: 1 << 62, Start: 1 << 37}) + pgAsideMark + "99999999999"); n > 63 {
		t.Errorf("a name may have %d bytes; PostgreSQL's end after 63", n)
	}
}
