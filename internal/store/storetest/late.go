package storetest

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// LateOpener opens a late lane that keeps what is in it: open twice gives the
// same one.
type LateOpener func(t *testing.T) (open func() telemetry.LateLane, closeLane func())

// LateLane is the contract of telemetry.LateLane.
func LateLane(t *testing.T, engine LateOpener) {
	open, closeLane := engine(t)
	l := open()
	ctx := t.Context()
	a, b := partitionEpoch, partitionEpoch
	b.Start += 86400
	waits := func() string {
		t.Helper()
		w, err := l.Waiting(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, i := range w {
			if i.Since.IsZero() || time.Since(i.Since) > time.Minute {
				t.Errorf("waits since %s", i.Since)
			}
			out = append(out, fmt.Sprintf("%s %s %d", i.Epoch, i.Epoch.Length, i.Rows))
		}
		return fmt.Sprint(out)
	}
	take := func(e core.Epoch, after uint64, limit int) (ids []uint64, rows []telemetry.Row) {
		t.Helper()
		err := l.Take(ctx, e, after, limit, func(id uint64, r *telemetry.Row) error {
			row := *r
			row.Part.Sealed = bytes.Clone(r.Part.Sealed)
			row.Reading.Parts = nil
			ids, rows = append(ids, id), append(rows, row)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids, rows
	}
	same := func(what string, got, want []telemetry.Row) {
		t.Helper()
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
			t.Errorf("%s: got\n%s\nwant\n%s", what, g, w)
		}
	}
	if got := waits(); got != "[]" {
		t.Errorf("an empty lane waits for %s", got)
	}
	var rows []telemetry.Row
	for n := range 6 {
		r := partitionRow([]core.Epoch{a, b}[n%2], byte(n), n+1)
		r.First = n%3 == 0
		if n == 4 {
			r.Reading.HasSeq, r.Reading.Boot, r.Reading.Seq = false, 0, 0
			r.Reading.Flags = telemetry.FlagWrongClock
		}
		rows = append(rows, r)
	}
	for range 2 { // parked twice is parked once
		if err := l.Park(ctx, rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Park(ctx, nil); err != nil {
		t.Fatal(err)
	}
	both := fmt.Sprintf("[%s 24h0m0s 3 %s 24h0m0s 3]", a, b)
	if got := waits(); got != both {
		t.Errorf("waits for %s, want %s", got, both)
	}
	closeLane()
	l = open() // it is kept
	if got := waits(); got != both {
		t.Errorf("after a restart: waits for %s, want %s", got, both)
	}

	places, err := l.After(ctx, telemetry.Mark{Journal: "j1", Seq: 4})
	if err != nil || len(places) != 2 {
		t.Errorf("places after 4: %v, %v", places, err)
	}
	for _, p := range places {
		if r := rows[p.Place.Seq-1]; p.Place != r.Place || p.Epoch != r.Part.Epoch || p.Group != r.Part.Group {
			t.Errorf("place %+v is of no row", p)
		}
	}
	if places, err := l.After(ctx, telemetry.Mark{Journal: "j9"}); err != nil || len(places) != 0 {
		t.Errorf("places of another journal: %v, %v", places, err)
	}

	ids, got := take(a, 0, 10)
	same("epoch a", got, []telemetry.Row{rows[0], rows[2], rows[4]})
	if !slices.IsSorted(ids) || len(ids) != 3 {
		t.Fatalf("numbers %v", ids)
	}
	_, got = take(a, ids[0], 1)
	same("one after the first", got, rows[2:3])
	var scanned []telemetry.Row
	q := telemetry.Query{Subject: rows[3].Reading.Subject, From: time.Unix(b.Start, 0), To: b.End()}
	err = l.Scan(ctx, b, &q, func(r *telemetry.Row) error {
		row := *r
		row.Reading.Parts, row.Part.Sealed = nil, bytes.Clone(r.Part.Sealed)
		scanned = append(scanned, row)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	same("scan", scanned, rows[3:4])
	q.To = q.From
	if err := l.Scan(ctx, b, &q, func(*telemetry.Row) error { t.Error("a row outside the span"); return nil }); err != nil {
		t.Fatal(err)
	}

	if n, err := l.Drop(ctx, a, ids[1]); n != 2 || err != nil {
		t.Errorf("dropped %d, %v; want 2", n, err)
	}
	_, got = take(a, 0, 10)
	same("what is left of a", got, rows[4:5])
	if n, err := l.Drop(ctx, a, math.MaxInt64); n != 1 || err != nil {
		t.Errorf("dropped %d, %v; want 1", n, err)
	}
	if n, err := l.Drop(ctx, a, math.MaxInt64); n != 0 || err != nil {
		t.Errorf("dropped %d of nothing, %v", n, err)
	}
	if got, want := waits(), fmt.Sprintf("[%s 24h0m0s 3]", b); got != want {
		t.Errorf("waits for %s, want %s", got, want)
	}
	// Numbers are never given again: the counts rely on it.
	if err := l.Park(ctx, rows[:1]); err != nil {
		t.Fatal(err)
	}
	if again, _ := take(a, 0, 1); len(again) != 1 || again[0] <= ids[2] {
		t.Errorf("number %v after %v", again, ids)
	}
	if l.Damaged() != "" {
		t.Errorf("a whole lane is damaged: %s", l.Damaged())
	}
	closeLane()
}
