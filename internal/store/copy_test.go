package store

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// fillControl puts a few rows into every table, with every kind of value.
func fillControl(t *testing.T, s *Store) {
	t.Helper()
	tables, err := s.tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx *Tx) error {
		for _, tab := range tables {
			for n := range 3 {
				if tab.columns[0].name == "one" && n > 0 {
					break
				}
				var args []any
				for i, c := range tab.columns {
					switch {
					case tab.name == "legacy_credential" && c.name == "ca":
						args = append(args, nil) // a token has none
					case c.name == "one":
						args = append(args, 1)
					case c.name == "device" || c.name == "person" || c.name == "line" || strings.HasPrefix(tab.name, "child_") && (c.name == "child" || c.name == "hub") || i == 0 && (tab.name == "device" || tab.name == "person" || tab.name == "factory_line"):
						args = append(args, fmt.Sprintf("unit-%d", n))
					case c.kind == "INTEGER":
						args = append(args, []int64{1, -1 << 62, 7}[n]+int64(i))
					case c.kind == "TEXT":
						args = append(args, []string{"", "ö\n'?$1", "Z"}[n]+fmt.Sprint(i, n))
					default:
						b := []byte{0, byte(n), 0xff, '\'', byte(i)}
						if i > 0 && n == 2 && tab.name == "telemetry_count" {
							b = []byte{} // nobody's: no bytes, which is not NULL
						}
						args = append(args, b)
					}
				}
				q := `INSERT INTO ` + tab.name + ` (` + tab.list() + `) VALUES (?` + strings.Repeat(`, ?`, len(args)-1) + `)`
				if _, err := tx.tx.ExecContext(t.Context(), q, args...); err != nil {
					return fmt.Errorf("%s: %w", tab.name, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCopyControl copies every table there and back, compares, and refuses what
// is not empty or not the same.
func TestCopyControl(t *testing.T) {
	ctx := t.Context()
	a := open(t)
	fillControl(t, a)
	b, err := a.Beside(ctx, Options{Postgres: PGOptions{DSN: pgtest.Database(t)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	got, err := CopyControl(ctx, a, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := int64(0)
	for _, c := range got {
		rows += c.Rows
		if c.Rows == 0 {
			t.Errorf("table %s: nothing copied", c.Table)
		}
	}
	if len(got) < 30 || rows < 80 {
		t.Errorf("%d tables, %d rows", len(got), rows)
	}
	if _, err := CopyControl(ctx, a, b, nil); core.ReasonOf(err) != "not-empty" {
		t.Errorf("copied over what is there: %v", err)
	}
	back := open(t)
	there, err := CopyControl(ctx, b, back, nil)
	if err != nil || !reflect.DeepEqual(there, got) {
		t.Errorf("back again: %v\n%+v\n%+v", err, there, got)
	}
	// The engine counts on behind what arrived.
	for name, s := range map[string]*Store{"postgres": b, "sqlite": back} {
		err := s.Update(ctx, func(tx *Tx) error {
			return tx.Record(ctx, core.Record{Time: time.Unix(1, 0).UTC(), Kind: "installation-made", Actor: core.Job("x")})
		})
		if err != nil {
			t.Errorf("%s: a record after the copy: %v", name, err)
		}
	}
	if _, err := SameControl(ctx, b, back); err != nil {
		t.Errorf("the same record in both: %v", err)
	}
	for _, change := range []string{
		`UPDATE device SET product = 'other' WHERE id = 'unit-1'`,
		`DELETE FROM telemetry_mark`,
		`UPDATE ledger_entry SET leaf = ''`,
		`UPDATE device SET code = NULL`,
	} {
		err := b.Update(ctx, func(tx *Tx) error {
			if _, err := tx.tx.ExecContext(ctx, change); err != nil {
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := SameControl(ctx, b, back); core.ReasonOf(err) != "copy-differs" {
			t.Errorf("%s: %v", change, err)
		}
		err = back.Update(ctx, func(tx *Tx) error {
			_, err := tx.tx.ExecContext(ctx, strings.Replace(change, "leaf = ''", "leaf = x''", 1))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := SameControl(ctx, b, back); err != nil {
			t.Fatalf("both changed by %s: %v", change, err)
		}
	}
}

// TestMovedIsRefused: a store that everything was moved from, or is being moved
// to, opens for nobody but the move.
func TestMovedIsRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"sqlite": {Dir: t.TempDir()}, "postgres": {Dir: t.TempDir(), Postgres: PGOptions{DSN: pgtest.Database(t)}},
	} {
		for _, c := range []struct{ to, want string }{{"elsewhere", "store-moved"}, {arriving, "store-arriving"}, {"", ""}} {
			o.Moved = true
			s, err := Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if c.to == arriving {
				err = s.MarkArriving(t.Context())
			} else {
				err = s.MarkMoved(t.Context(), c.to, time.Unix(1, 0))
			}
			if err != nil {
				t.Fatal(err)
			}
			to, here, err := s.Moved(t.Context())
			if err != nil || here != (c.to == arriving) || !here && to != c.to {
				t.Errorf("%s: moved to %q, %v, %v", name, to, here, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			o.Moved = false
			s, err = Open(t.Context(), o)
			if (err == nil) != (c.want == "") || err != nil && core.ReasonOf(err) != c.want {
				t.Errorf("%s, moved to %q: %v, want %s", name, c.to, err, c.want)
			}
			if err == nil {
				_ = s.Close()
			}
		}
	}
}
