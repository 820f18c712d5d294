package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Move copies a partition from one engine to another: whole, in two goes, and
// not when it was tampered with.
func Move(t *testing.T, source, target PartitionsOpener) {
	openFrom, closeFrom := source(t)
	openTo, closeTo := target(t)
	t.Cleanup(closeFrom)
	t.Cleanup(closeTo)
	ctx := t.Context()
	from, to := openFrom().(telemetry.Movable), openTo().(telemetry.Movable)
	e := partitionEpoch
	ft := partitionTest{t, from}
	fill := func(batch int) {
		var rows []telemetry.Row
		for n := range 100 {
			r := partitionRow(e, byte(7-n%7), batch*100+n)
			if n%9 == 4 {
				r.Reading.HasSeq, r.Reading.Boot, r.Reading.Seq = false, 0, 0
			}
			if n%11 == 3 {
				r.Reading.Flags = telemetry.FlagWrongClock
			}
			rows = append(rows, r)
		}
		ft.append(e, uint64(batch), rows...)
	}
	if _, err := telemetry.CopyPartition(ctx, from, to, e); core.KindOf(err) != core.Unknown {
		t.Errorf("copied what is not there: %v", err)
	}
	for batch := range 3 {
		fill(batch)
	}
	check := func() {
		t.Helper()
		got, err := telemetry.CopyPartition(ctx, from, to, e)
		if err != nil {
			t.Fatal(err)
		}
		want, some, err := from.Extent(ctx, e)
		if err != nil || !some || got != want {
			t.Errorf("extent %+v, want %+v, %v, %v", got, want, some, err)
		}
		if a, b := everything(t, from, e), everything(t, to, e); a != b {
			t.Errorf("the copy differs:\n%s\nfrom\n%s", b, a)
		}
		v, err := telemetry.VerifyAlone(ctx, to, e, want.Head)
		if err != nil || !v.OK() || v.Rows != want.Head.Rows {
			t.Errorf("the copy does not verify: %+v, %v", v, err)
		}
		for s := range byte(8) {
			q := telemetry.Query{Subject: core.Subject{s, 1}}
			ft.same("read from the copy", partitionTest{t, to}.scan(e, q), ft.scan(e, q))
		}
	}
	check()
	check() // once more changes nothing
	if _, err := from.Append(ctx, e, &telemetry.Append{Late: 44}); err != nil {
		t.Fatal(err)
	}
	fill(3) // and what came later is added
	check()
	if l, err := to.List(ctx); err != nil || !slices.Equal(l, []core.Epoch{e}) {
		t.Errorf("list %v, %v", l, err)
	}

	// It goes on where the other engine stopped, and knows what is there.
	again := partitionRow(e, 6, 101)
	fates, _ := partitionTest{t, to}.append(e, 9, again, partitionRow(e, 6, 5000))
	if fates[0] == telemetry.FateStored || fates[1] != telemetry.FateStored {
		t.Errorf("after the copy: fates %v", fates)
	}
	if _, err := telemetry.CopyPartition(ctx, from, to, e); core.KindOf(err) != core.Conflict {
		t.Errorf("copied over a partition that has come further: %v", err)
	}

	// What is not as its root says is not adopted.
	other := e
	other.Start += 86400
	var rows []telemetry.Row
	b := telemetry.Batch{ID: 1, First: 1, Count: 3}
	var leaves []core.Hash
	for n := range 3 {
		r := partitionRow(other, 1, n)
		r.ID = int64(n) + 1
		leaf, _ := telemetry.LeafHash(&r, nil)
		rows, leaves, b.Sums = append(rows, r), append(leaves, leaf), append(b.Sums, leaf[:telemetry.SumSize]...)
	}
	b.Root = telemetry.BatchRoot(leaves)
	for name, edit := range map[string]func(*telemetry.Batch, []telemetry.Row){
		"another value":    func(_ *telemetry.Batch, r []telemetry.Row) { r[1].Part.Sealed = []byte("x") },
		"a row less":       func(b *telemetry.Batch, _ []telemetry.Row) { b.Count = 2 },
		"another root":     func(b *telemetry.Batch, _ []telemetry.Row) { b.Root[3] ^= 1 },
		"another sum":      func(b *telemetry.Batch, _ []telemetry.Row) { b.Sums[9] ^= 1 },
		"another number":   func(b *telemetry.Batch, _ []telemetry.Row) { b.ID = 2 },
		"a later start":    func(b *telemetry.Batch, _ []telemetry.Row) { b.First = 2 },
		"in another order": func(_ *telemetry.Batch, r []telemetry.Row) { r[0], r[1] = r[1], r[0] },
	} {
		bad, some := b, slices.Clone(rows)
		bad.Sums = bytes.Clone(b.Sums)
		edit(&bad, some)
		if err := to.Adopt(ctx, other, &bad, some); core.KindOf(err) != core.Conflict {
			t.Errorf("%s: adopted, %v", name, err)
		}
	}
	if x, _, err := to.Extent(ctx, other); err != nil || x.Head.Rows != 0 {
		t.Errorf("after refusals: %+v, %v", x, err)
	}
	if err := to.Adopt(ctx, other, &b, rows); err != nil {
		t.Error(err)
	}
}

// everything is what an audit yields, as text.
func everything(t *testing.T, p telemetry.Partitions, e core.Epoch) string {
	t.Helper()
	var out bytes.Buffer
	err := p.Audit(t.Context(), e, telemetry.AuditVisitor{
		Head:  func(h telemetry.Head) error { fmt.Fprintf(&out, "%+v\n", h); return nil },
		Batch: func(b *telemetry.Batch) error { fmt.Fprintf(&out, "%+v\n", *b); return nil },
		Row:   func(r *telemetry.Row) error { fmt.Fprintf(&out, "%x\n", telemetry.AppendLeaf(nil, r)); return nil },
		Fault: func(s string) error { t.Errorf("fault: %s", s); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// MoveLane copies a late lane from one engine to another.
func MoveLane(t *testing.T, source, target LateOpener) {
	openFrom, closeFrom := source(t)
	openTo, closeTo := target(t)
	ctx := t.Context()
	from, to := openFrom().(telemetry.MovableLane), openTo().(telemetry.MovableLane)
	defer closeFrom()
	defer closeTo()
	if n, err := telemetry.CopyLane(ctx, from, to); n != 0 || err != nil {
		t.Errorf("an empty lane: %d rows, %v", n, err)
	}
	a, b := partitionEpoch, partitionEpoch
	b.Start += 86400
	for n := range 6 {
		r := partitionRow([]core.Epoch{a, b}[n%2], byte(n), n+1)
		r.First = n%3 == 0
		if err := from.Park(ctx, []telemetry.Row{r}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := from.Drop(ctx, b, 6); err != nil {
		t.Fatal(err)
	}
	text := func(l telemetry.LateLane) string {
		var out bytes.Buffer
		waiting, err := l.Waiting(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range waiting {
			fmt.Fprintf(&out, "%s %s %d %s\n", w.Epoch, w.Epoch.Length, w.Rows, w.Since.Format(time.RFC3339Nano))
			err := l.Take(ctx, w.Epoch, 0, 100, func(id uint64, r *telemetry.Row) error {
				row := *r
				row.Reading.Parts = nil
				fmt.Fprintf(&out, "%d %+v\n", id, row)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return out.String()
	}
	for range 2 {
		if n, err := telemetry.CopyLane(ctx, from, to); n != 3 || err != nil {
			t.Errorf("%d rows, %v; want 3", n, err)
		}
	}
	if f, g := text(from), text(to); f != g || f == "" {
		t.Errorf("the copy has\n%s\nits source\n%s", g, f)
	}
	// Numbers go on above all that were ever given.
	last, err := from.Last(ctx)
	if err != nil || last < 6 {
		t.Fatalf("last %d, %v", last, err)
	}
	if err := to.Park(ctx, []telemetry.Row{partitionRow(b, 9, 9)}); err != nil {
		t.Fatal(err)
	}
	err = to.Take(ctx, b, 0, 10, func(id uint64, _ *telemetry.Row) error {
		if id <= last {
			t.Errorf("number %d was given again", id)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
