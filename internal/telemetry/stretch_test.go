package telemetry_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// stretch verifies part of a file and gives what was found, by kind.
func (w *works) stretch(e core.Epoch, pick telemetry.Pick, most uint64) (kinds []string, rows, want uint64) {
	w.t.Helper()
	v, want, err := w.roots().VerifyStretch(w.t.Context(), w.files, e, pick, most)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range v.Found {
		kinds = append(kinds, string(d.Kind))
	}
	return slices.Compact(kinds), v.Rows, want
}

// TestVerifyStretch: a part of a file is compared with the ledger without the
// rest, and whatever is wrong in it is found (CC 3.3).
func TestVerifyStretch(t *testing.T) {
	w, e := sealedWorks(t)
	if found, rows, want := w.stretch(e, telemetry.NewestEntry, 5); len(found) != 0 || rows != 10 || want != 10 {
		t.Errorf("the newest entry: found %v in %d of %d rows; a batch is never cut", found, rows, want)
	}
	for range 20 {
		if found, rows, _ := w.stretch(e, telemetry.AnyEntry, 1000); len(found) != 0 || rows != 10 {
			t.Fatalf("an entry by chance: found %v in %d rows", found, rows)
		}
	}
	const undoSums = `UPDATE batches SET sums = (SELECT sums FROM keep WHERE id = 3) WHERE id = 3`
	w.edit(e, `CREATE TABLE keep AS SELECT * FROM batches`, `CREATE TABLE kept AS SELECT * FROM rows`)
	for name, c := range map[string]struct{ do, undo, want string }{
		"a row changed":    {`UPDATE rows SET sealed = zeroblob(40) WHERE id = 25`, `UPDATE rows SET sealed = (SELECT sealed FROM kept WHERE id = 25) WHERE id = 25`, "changed"},
		"a row dropped":    {`DELETE FROM rows WHERE id = 30`, `INSERT INTO rows SELECT * FROM kept WHERE id = 30`, "dropped"},
		"the last dropped": {`DELETE FROM rows WHERE id > 20`, `INSERT INTO rows SELECT * FROM kept WHERE id > 20`, "dropped"},
		"a list changed":   {`UPDATE batches SET sums = zeroblob(length(sums)) WHERE id = 3`, undoSums, "list"},
		"a root changed":   {`UPDATE batches SET root = zeroblob(32) WHERE id = 3`, `UPDATE batches SET root = (SELECT root FROM keep WHERE id = 3) WHERE id = 3`, "ledger"},
		"a batch dropped":  {`DELETE FROM batches WHERE id = 3`, `INSERT INTO batches SELECT * FROM keep WHERE id = 3`, "batches"},
		"a count changed":  {`UPDATE batches SET count = 9 WHERE id = 3`, `UPDATE batches SET count = 10 WHERE id = 3`, "ledger"},
	} {
		w.edit(e, c.do)
		if found, _, _ := w.stretch(e, telemetry.NewestEntry, 1000); strings.Join(found, " ") != c.want {
			t.Errorf("%s: found %v, want %s", name, found, c.want)
		}
		w.edit(e, c.undo)
		if found, _, _ := w.stretch(e, telemetry.NewestEntry, 1000); len(found) != 0 {
			t.Fatalf("%s, taken back: found %v", name, found)
		}
	}
	e.Start += 86400
	if found, rows, want := w.stretch(e, telemetry.NewestEntry, 1000); len(found) != 0 || rows != 0 || want != 0 {
		t.Errorf("an epoch that the ledger knows nothing of: %v, %d, %d", found, rows, want)
	}
}
