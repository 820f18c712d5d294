package ledger_test

import (
	"bytes"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
)

// exec changes the database behind the program's back.
func (f *fixture) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(f.store.Dir(), "control.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	res, err := db.ExecContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: %d rows, %v", query, n, err)
	}
}

// TestEditedRowIsNamed changes single rows of the database and holds that the
// verification of the export fails and names the entry (mission row 3.3).
func TestEditedRowIsNamed(t *testing.T) {
	for _, c := range []struct {
		name        string
		query       string
		first, last int64
		get         string // what Get(100) says
	}{
		{"untouched", "", -1, -1, ""},
		{"one character", `UPDATE ledger_entry SET leaf = CAST(replace(leaf, '"99"', '"98"') AS BLOB) WHERE pos = 100`, 100, 100, "ledger-entry-changed"},
		{"not JSON any more", `UPDATE ledger_entry SET leaf = x'00' WHERE pos = 100`, 100, 100, "ledger-entry-changed"},
		{"row removed", `DELETE FROM ledger_entry WHERE pos = 100`, 100, 100, "ledger-entry-changed"},
		{"rows swapped", `UPDATE ledger_entry SET leaf = (SELECT b.leaf FROM ledger_entry b WHERE b.pos = 201 - ledger_entry.pos) WHERE pos IN (100, 101)`, 100, 100, "ledger-entry-changed"},
		{"hash changed", `UPDATE ledger_tile SET hashes = CAST(substr(hashes, 1, 3200) || zeroblob(32) || substr(hashes, 3233) AS BLOB) WHERE level = 0 AND n = 0`, 100, 100, "ledger-entry-changed"},
		{"tile removed", `DELETE FROM ledger_tile WHERE level = 0 AND n = 0`, 0, 0, "ledger-damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			note := f.grow(t, 299).Note
			if c.query != "" {
				f.exec(t, c.query)
			}
			r := f.verified(t, note)
			if c.first < 0 {
				if r.Standing != verify.Proved {
					t.Errorf("standing %q, faults %v", r.Standing, r.Faults)
				}
			} else if r.OK() || r.Faults[0].First != c.first || r.Faults[0].Last != c.last {
				t.Errorf("faults %v, want the first at %d to %d", r.Faults, c.first, c.last)
			}
			_, err := f.Get(t.Context(), 100)
			if (err != nil) != (c.get != "") || err != nil && core.ReasonOf(err) != c.get {
				t.Errorf("Get: %v, want reason %q", err, c.get)
			}
		})
	}
}

// TestSignerNoticesDamage holds that a tree whose inside was changed is
// neither grown nor signed.
func TestSignerNoticesDamage(t *testing.T) {
	f := newFixture(t)
	f.grow(t, 299)
	f.exec(t, `UPDATE ledger_tile SET hashes = CAST(zeroblob(32) || substr(hashes, 33) AS BLOB) WHERE level = 0 AND n = 1`)
	f.record(t, sample(0))
	if _, err := f.Sequence(t.Context()); core.ReasonOf(err) != "ledger-damaged" {
		t.Errorf("sequence: %v", err)
	}
	f = newFixture(t)
	kept := f.grow(t, 299)
	f.record(t, sample(0))
	f.sequence(t)
	f.exec(t, `UPDATE ledger_origin SET root = zeroblob(32)`)
	if _, err := f.Checkpoint(t.Context()); core.ReasonOf(err) != "ledger-forked" {
		t.Errorf("checkpoint: %v", err)
	}
	if got := f.Latest(); !bytes.Equal(got.Note, kept.Note) {
		t.Error("a damaged head was published")
	}
}

// TestListedUnderAnotherName holds that an entry cannot be hidden from a list
// by changing what it is listed under.
func TestListedUnderAnotherName(t *testing.T) {
	f := newFixture(t)
	f.grow(t, 5)
	f.exec(t, `UPDATE ledger_entry SET subject = x'00112233445566778899aabbccddeeff' WHERE pos = 3`)
	if _, err := f.Get(t.Context(), 3); core.ReasonOf(err) != "ledger-entry-changed" {
		t.Errorf("Get: %v", err)
	}
	_, _, err := f.List(t.Context(), ledger.Filter{Kind: "device-renewed"}, 0, 0)
	if core.ReasonOf(err) != "ledger-entry-changed" || !strings.Contains(err.Error(), "entry 3") {
		t.Errorf("List: %v", err)
	}
}

func TestList(t *testing.T) {
	f := newFixture(t)
	var rs []core.Record
	for i := range 60 {
		r := sample(i % 7)
		if i%3 == 0 {
			r.Kind = "device-revoked"
		}
		if i%4 == 0 {
			r.Product = "other-thing"
		}
		if i%5 == 0 {
			r.Subject = core.Subject{}
		}
		rs = append(rs, r)
	}
	f.record(t, rs...)
	f.sequence(t)
	for _, flt := range []ledger.Filter{
		{},
		{Kind: "device-revoked"},
		{Product: "other-thing"},
		{Kind: "device-revoked", Product: "other-thing"},
		{Subject: rs[1].Subject},
		{Subject: rs[1].Subject, Kind: "device-renewed"},
		{Subject: rs[1].Subject, Kind: "device-renewed", Product: "other-thing"},
		{Kind: "never-happened"},
		{Subject: core.Subject{9}},
	} {
		var want []uint64
		for i, r := range append([]core.Record{{Kind: ledger.KindOriginBegun}}, rs...) {
			if (flt.Kind == "" || flt.Kind == r.Kind) && (flt.Product == "" || flt.Product == r.Product) && (flt.Subject.IsZero() || flt.Subject == r.Subject) {
				want = append(want, uint64(i))
			}
		}
		for _, limit := range []int{1, 4, 1000, 0} {
			var got []uint64
			for from := uint64(0); ; {
				es, next, err := f.List(t.Context(), flt, from, limit)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range es {
					got = append(got, e.Position)
				}
				if next == 0 {
					break
				}
				from = next
			}
			if len(got) != len(want) {
				t.Fatalf("%+v, %d at a time: %v, want %v", flt, limit, got, want)
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("%+v, %d at a time: %v, want %v", flt, limit, got, want)
				}
			}
		}
	}
}
