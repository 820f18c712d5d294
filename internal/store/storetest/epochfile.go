package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// PartitionsOpener opens partitions that keep what is in them when they are
// closed and opened again: open(t) twice gives the same ones.
type PartitionsOpener func(t *testing.T) (open func() telemetry.Partitions, closeAll func())

var partitionEpoch = core.EpochAt(30*24*time.Hour, 24*time.Hour, time.Unix(1_800_000_000, 0))

// partitionRow is reading n of a subject, numbered.
func partitionRow(e core.Epoch, subject byte, n int) telemetry.Row {
	sealed := make([]byte, 40)
	_, _ = rand.Read(sealed) // never fails
	return telemetry.Row{
		Reading: telemetry.Reading{
			Product: "aria-thermostat", Subject: core.Subject{subject, 1}, Stream: "climate",
			Policy: core.Hash{9, subject}, T: e.Start*1000 + int64(n)*1000, Received: e.Start*1000 + int64(n)*1000 + 17,
			HasSeq: true, Boot: 3, Seq: uint64(n), Gateway: [8]byte{7}, Counter: uint64(n)*100 + uint64(subject),
		},
		Part:  telemetry.Part{Epoch: e, Group: 1, Sealed: sealed},
		Place: telemetry.Place{Journal: "j1", Seq: uint64(n), Index: uint32(subject)},
	}
}

// partitionTest is one engine under test.
type partitionTest struct {
	*testing.T
	p telemetry.Partitions
}

func (t partitionTest) append(e core.Epoch, mark uint64, rows ...telemetry.Row) ([]telemetry.Fate, telemetry.Head) {
	t.Helper()
	a := telemetry.Append{Rows: rows, Fate: make([]telemetry.Fate, len(rows)), Mark: telemetry.Mark{Journal: "j1", Seq: mark}}
	h, err := t.p.Append(t.Context(), e, &a)
	if err != nil {
		t.Fatal(err)
	}
	return a.Fate, h
}

func (t partitionTest) scan(e core.Epoch, q telemetry.Query) []telemetry.Row {
	t.Helper()
	if q.To.IsZero() {
		q.From, q.To = time.Unix(e.Start, 0), e.End()
	}
	var out []telemetry.Row
	err := t.p.Scan(t.Context(), e, &q, func(r *telemetry.Row) error {
		row := *r
		row.Part.Sealed = bytes.Clone(r.Part.Sealed)
		out = append(out, row)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// same compares rows by all that a partition keeps.
func (t partitionTest) same(what string, got, want []telemetry.Row) {
	t.Helper()
	text := func(rows []telemetry.Row) string {
		var b bytes.Buffer
		for i := range rows {
			r := rows[i]
			if r.Reading.HasSeq {
				r.Place = telemetry.Place{}
			}
			fmt.Fprintf(&b, "%x %+v %+v\n", telemetry.AppendLeaf(nil, &telemetry.Row{Reading: r.Reading, Part: r.Part, Place: r.Place}), r.Reading, r.Place)
		}
		return b.String()
	}
	if g, w := text(got), text(want); g != w {
		t.Errorf("%s: got\n%swant\n%s", what, g, w)
	}
}

// Partitions is the contract of telemetry.Partitions.
func Partitions(t *testing.T, engine PartitionsOpener) {
	run := func(name string, fn func(partitionTest)) {
		t.Run(name, func(t *testing.T) {
			open, closeAll := engine(t)
			t.Cleanup(closeAll)
			fn(partitionTest{t, open()})
		})
	}
	run("rows come back whole", partitionRoundTrip)
	run("a reading is stored once", partitionOnce)
	run("many at once, some of them known", partitionMany)
	run("queries", partitionQueries)
	run("watermarks", partitionMarks)
	run("highest", partitionHighest)
	run("find", partitionFind)
	run("audit", partitionAudit)
	run("freeze and remove", partitionEnd)
	run("side by side", partitionConcurrent)
	t.Run("kept over a restart", func(t *testing.T) { partitionReopen(t, engine) })
}

func partitionRoundTrip(t partitionTest) {
	e := partitionEpoch
	edit := func(n int, fn func(*telemetry.Row)) telemetry.Row {
		r := partitionRow(e, 1, n)
		fn(&r)
		return r
	}
	want := []telemetry.Row{
		edit(1, func(*telemetry.Row) {}),
		edit(2, func(r *telemetry.Row) { r.Reading.Flags = telemetry.FlagWrongClock }),
		edit(3, func(r *telemetry.Row) { r.Reading.HasSeq, r.Reading.Boot, r.Reading.Seq = false, 0, 0 }),
		edit(4, func(r *telemetry.Row) { r.Reading.Boot, r.Reading.Seq, r.Reading.Counter = 1<<64-1, 1<<64-1, 1<<64-1 }),
		edit(5, func(r *telemetry.Row) { r.Reading.Received = r.Reading.T - 90_000 }),
		edit(6, func(r *telemetry.Row) { r.Reading.Received = r.Reading.T + 1<<40 }),
		edit(7, func(r *telemetry.Row) { r.Reading.Product, r.Reading.Stream = "other", "power"; r.Part.Group = 31 }),
		edit(8, func(r *telemetry.Row) { r.Part.Sealed = []byte{} }),
		edit(9, func(r *telemetry.Row) { r.Part.Sealed = bytes.Repeat([]byte{0xff}, telemetry.MaxSealed) }),
		edit(10, func(r *telemetry.Row) {
			r.Reading.HasSeq, r.Reading.Boot, r.Reading.Seq = false, 0, 0
			r.Place = telemetry.Place{Journal: "j1", Seq: 1<<43 - 1, Index: telemetry.MaxIndex - 1}
		}),
		edit(11, func(r *telemetry.Row) { r.Reading.Gateway = [8]byte{2} }),
	}
	fates, h := t.append(e, 5, slices.Clone(want)...)
	for i, f := range fates {
		if f != telemetry.FateStored {
			t.Errorf("row %d: fate %d, want stored", i, f)
		}
	}
	if h.Batches != 1 || h.Rows != uint64(len(want)) || h.WrongClock != 1 {
		t.Errorf("head %+v", h)
	}
	t.same("scan", t.scan(e, telemetry.Query{Subject: want[0].Reading.Subject}), want)
}

func partitionOnce(t partitionTest) {
	e := partitionEpoch
	first := partitionRow(e, 1, 1)
	_, before := t.append(e, 1, first)

	again := first // the journal was read again
	other := partitionRow(e, 1, 1)
	other.Reading.Counter++ // the device sent it again
	fates, h := t.append(e, 2, again, other)
	if fates[0] != telemetry.FateRepeated || fates[1] != telemetry.FateDuplicate {
		t.Errorf("fates %v, want repeated and duplicate", fates)
	}
	if h != before {
		t.Errorf("a commit that filed nothing moved the head from %+v to %+v", before, h)
	}
	t.same("the first stays", t.scan(e, telemetry.Query{Subject: first.Reading.Subject}), []telemetry.Row{first})

	// The very same record twice in one append.
	twin := partitionRow(e, 7, 1)
	if fates, _ := t.append(e, 2, twin, twin); fates[0] != telemetry.FateStored || fates[1] != telemetry.FateRepeated {
		t.Errorf("twice in one append: fates %v, want stored and repeated", fates)
	}

	// What makes a reading another one.
	for name, edit := range map[string]func(*telemetry.Row){
		"subject": func(r *telemetry.Row) { r.Reading.Subject[9]++ },
		"stream":  func(r *telemetry.Row) { r.Reading.Stream = "climate2" },
		"group":   func(r *telemetry.Row) { r.Part.Group++ },
		"boot":    func(r *telemetry.Row) { r.Reading.Boot++ },
		"seq":     func(r *telemetry.Row) { r.Reading.Seq++ },
		"unnumbered with the same figures": func(r *telemetry.Row) {
			r.Reading.HasSeq = false
			r.Place = telemetry.Place{Journal: "j1", Seq: 0, Index: 1}
		},
	} {
		r := first
		edit(&r)
		if fates, _ := t.append(e, 3, r); fates[0] != telemetry.FateStored {
			t.Errorf("another %s: fate %d, want stored", name, fates[0])
		}
	}

	// Without a number the place in the journal is what makes it single.
	a := partitionRow(e, 2, 1)
	a.Reading.HasSeq, a.Reading.Boot, a.Reading.Seq = false, 0, 0
	b, c := a, a
	b.Place.Index++
	c.Place.Journal = "j2"
	c.Reading.Counter++
	if fates, _ := t.append(e, 4, a, b, c); !slices.Equal(fates, []telemetry.Fate{telemetry.FateStored, telemetry.FateStored, telemetry.FateStored}) {
		t.Errorf("three places: fates %v", fates)
	}
	if fates, _ := t.append(e, 4, c, b, a); !slices.Equal(fates, []telemetry.Fate{telemetry.FateRepeated, telemetry.FateRepeated, telemetry.FateRepeated}) {
		t.Errorf("three places again: fates %v", fates)
	}
}

func partitionQueries(t partitionTest) {
	e := partitionEpoch
	var rows []telemetry.Row
	for n := range 20 {
		for s := byte(1); s <= 3; s++ {
			r := partitionRow(e, s, n)
			r.Part.Group = uint8(n % 2)
			rows = append(rows, r)
		}
	}
	slices.Reverse(rows)
	t.append(e, 1, rows...)
	at := func(n int) time.Time { return time.UnixMilli(e.Start*1000 + int64(n)*1000) }
	seqs := func(q telemetry.Query) (out []uint64) {
		q.Subject = core.Subject{2, 1}
		for _, r := range t.scan(e, q) {
			out = append(out, r.Reading.Seq)
		}
		return out
	}
	check := func(name string, got []uint64, want ...uint64) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	check("a span, by time", seqs(telemetry.Query{From: at(5), To: at(8)}), 5, 6, 7)
	check("a span with part of a millisecond", seqs(telemetry.Query{From: at(5), To: at(7).Add(time.Nanosecond)}), 5, 6, 7)
	check("nothing before", seqs(telemetry.Query{From: at(-50), To: at(0)}))
	check("one group", seqs(telemetry.Query{From: at(0), To: at(6), Want: func(_ core.Hash, stream string, g uint8) bool {
		return stream == "climate" && g == 1
	}}), 1, 3, 5)
	check("another declaration", seqs(telemetry.Query{From: at(0), To: at(6), Want: func(p core.Hash, _ string, _ uint8) bool {
		return p == core.Hash{9, 1} // of subject 1
	}}))
	if got := t.scan(e, telemetry.Query{Subject: core.Subject{99}}); len(got) != 0 {
		t.Errorf("an unknown subject has %d rows", len(got))
	}
	other := partitionEpoch
	other.Start += 86400
	if got := t.scan(other, telemetry.Query{Subject: core.Subject{2, 1}}); len(got) != 0 {
		t.Errorf("an absent partition has %d rows", len(got))
	}
	stop := errors.New("enough")
	q := telemetry.Query{Subject: core.Subject{1, 1}, From: at(0), To: at(20)}
	if err := t.p.Scan(t.Context(), e, &q, func(*telemetry.Row) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a yield that stops: got %v", err)
	}
}

func partitionMarks(t partitionTest) {
	e := partitionEpoch
	mark := func(journal string) (uint64, uint64) {
		t.Helper()
		m, late, err := t.p.Mark(t.Context(), e, journal)
		if err != nil {
			t.Fatal(err)
		}
		return m.Seq, late
	}
	if s, l := mark("j1"); s != 0 || l != 0 {
		t.Errorf("no partition: marks %d %d", s, l)
	}
	put := func(m telemetry.Mark, late uint64) {
		t.Helper()
		if _, err := t.p.Append(t.Context(), e, &telemetry.Append{Mark: m, Late: late}); err != nil {
			t.Fatal(err)
		}
	}
	put(telemetry.Mark{Journal: "j1", Seq: 7}, 0)
	put(telemetry.Mark{}, 4)
	put(telemetry.Mark{Journal: "j1", Seq: 6}, 3)
	if s, l := mark("j1"); s != 7 || l != 4 {
		t.Errorf("marks %d %d, want 7 and 4: they never go back", s, l)
	}
	put(telemetry.Mark{Journal: "j2", Seq: 2}, 0)
	if s, _ := mark("j2"); s != 2 {
		t.Errorf("mark of a new journal %d, want 2", s)
	}
	if s, _ := mark("j1"); s != 0 {
		t.Errorf("mark of the old journal %d, want 0", s)
	}
}

func partitionHighest(t partitionTest) {
	e := partitionEpoch
	row := func(subject byte, boot, seq uint64) telemetry.Row {
		r := partitionRow(e, subject, 1)
		r.Reading.Boot, r.Reading.Seq = boot, seq
		return r
	}
	unnumbered := partitionRow(e, 3, 1)
	unnumbered.Reading.HasSeq = false
	t.append(e, 1, row(1, 2, 900), row(1, 3, 4), row(1, 3, 5), row(2, 1, 1<<63), row(4, 1<<63, 0), unnumbered)
	series := func(s byte) telemetry.Series {
		return telemetry.Series{Subject: core.Subject{s, 1}, Stream: "climate", Group: 1}
	}
	got, err := t.p.Highest(t.Context(), e, []telemetry.Series{
		series(1), series(2), series(3), series(4), series(9), {Subject: core.Subject{1, 1}, Stream: "none", Group: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got[0] != [2]uint64{3, 5} {
		t.Errorf("highest %v, want 3 5", got[0])
	}
	if got[1][0] != 1 || got[1][1] < 1<<63 || got[3][0] < 1<<63 {
		t.Errorf("huge numbers: %v and %v are too low", got[1], got[3])
	}
	for _, i := range []int{2, 4, 5} {
		if got[i] != [2]uint64{} {
			t.Errorf("series %d has none, got %v", i, got[i])
		}
	}
}

func partitionFind(t partitionTest) {
	e := partitionEpoch
	a, b := partitionRow(e, 1, 1), partitionRow(e, 1, 2)
	b.Reading.HasSeq, b.Reading.Boot, b.Reading.Seq = false, 0, 0
	t.append(e, 1, a, b)
	for name, c := range map[string]struct {
		edit func(*telemetry.Row)
		of   telemetry.Row
		want bool
	}{
		"numbered":             {func(r *telemetry.Row) { r.Reading.Counter = 0 }, a, true},
		"another seq":          {func(r *telemetry.Row) { r.Reading.Seq++ }, a, false},
		"another subject":      {func(r *telemetry.Row) { r.Reading.Subject = core.Subject{5} }, a, false},
		"another stream":       {func(r *telemetry.Row) { r.Reading.Stream = "x" }, a, false},
		"by place":             {func(*telemetry.Row) {}, b, true},
		"another place":        {func(r *telemetry.Row) { r.Place.Index++ }, b, false},
		"place in another one": {func(r *telemetry.Row) { r.Place.Journal = "j9" }, b, false},
	} {
		r := c.of
		c.edit(&r)
		got, ok, err := t.p.Find(t.Context(), e, &r)
		if err != nil || ok != c.want {
			t.Errorf("%s: found %v, %v", name, ok, err)
		}
		if ok {
			t.same(name, []telemetry.Row{got}, []telemetry.Row{c.of})
		}
	}
}

func partitionAudit(t partitionTest) {
	e := partitionEpoch
	var all []telemetry.Row
	for batch := range 3 {
		var rows []telemetry.Row
		for n := range 5 {
			rows = append(rows, partitionRow(e, byte(5-n), batch*5+n))
		}
		t.append(e, uint64(batch), rows...)
		all = append(all, rows...)
	}
	var head telemetry.Head
	var order []string
	chain := telemetry.FirstChain(e)
	var leaves []core.Hash
	var pending telemetry.Batch
	check := func() {
		if pending.ID == 0 {
			return
		}
		if uint64(len(leaves)) != pending.Count || telemetry.BatchRoot(leaves) != pending.Root {
			t.Errorf("batch %d: its root is not that of its %d rows", pending.ID, len(leaves))
		}
		chain, leaves = telemetry.NextChain(chain, &pending), nil
	}
	rows := 0
	err := t.p.Audit(t.Context(), e, telemetry.AuditVisitor{
		Head: func(h telemetry.Head) error { head = h; return nil },
		Batch: func(b *telemetry.Batch) error {
			check()
			pending = *b
			order = append(order, fmt.Sprintf("batch %d from %d", b.ID, b.First))
			return nil
		},
		Row: func(r *telemetry.Row) error {
			rows++
			if r.ID != int64(rows) {
				t.Errorf("row %d has number %d", rows, r.ID)
			}
			leaf, _ := telemetry.LeafHash(r, nil)
			leaves = append(leaves, leaf)
			return nil
		},
		Fault: func(s string) error { t.Errorf("fault in a whole partition: %s", s); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	check()
	if rows != len(all) || head.Rows != uint64(rows) || head.Batches != 3 || head.Chain != chain {
		t.Errorf("audit saw %d rows, head %+v, chain %s", rows, head, chain)
	}
	if want := []string{"batch 1 from 1", "batch 2 from 6", "batch 3 from 11"}; !slices.Equal(order, want) {
		t.Errorf("batches %v, want %v", order, want)
	}
	absent := e
	absent.Start += 86400
	if err := t.p.Audit(t.Context(), absent, telemetry.AuditVisitor{}); core.KindOf(err) != core.Unknown {
		t.Errorf("audit of what is not there: %v", err)
	}
}

func partitionEnd(t partitionTest) {
	e := partitionEpoch
	next := e
	next.Start += 86400
	row := partitionRow(e, 1, 1)
	t.append(e, 1, row)
	t.append(next, 1, partitionRow(next, 1, 1))
	ctx := t.Context()
	if err := t.p.Remove(ctx, e); err == nil {
		t.Fatal("removed a partition that is not frozen")
	}
	if err := t.p.Freeze(ctx, e); err != nil {
		t.Fatal(err)
	}
	a := telemetry.Append{Rows: []telemetry.Row{partitionRow(e, 1, 2)}, Fate: make([]telemetry.Fate, 1)}
	if _, err := t.p.Append(ctx, e, &a); !errors.Is(err, telemetry.ErrEnded) {
		t.Errorf("append to a frozen partition: %v", err)
	}
	t.same("a frozen partition is read", t.scan(e, telemetry.Query{Subject: row.Reading.Subject}), []telemetry.Row{row})
	t.p.Thaw(e)
	t.append(e, 2, partitionRow(e, 1, 2))
	if err := t.p.Freeze(ctx, e); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := t.p.Remove(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	if got := t.scan(e, telemetry.Query{Subject: row.Reading.Subject}); len(got) != 0 {
		t.Errorf("%d rows after removal", len(got))
	}
	if _, err := t.p.Append(ctx, e, &a); !errors.Is(err, telemetry.ErrEnded) {
		t.Errorf("append to a removed partition: %v", err)
	}
	if got := t.scan(next, telemetry.Query{Subject: row.Reading.Subject}); len(got) != 1 {
		t.Errorf("the neighbour has %d rows, want 1", len(got))
	}
	if list, err := t.p.List(ctx); err != nil || len(list) != 1 || list[0] != next {
		t.Errorf("list %v, %v; want the neighbour only", list, err)
	}
}

func partitionConcurrent(t partitionTest) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			e := partitionEpoch
			e.Start += int64(w%4) * 86400
			for n := range 10 {
				a := telemetry.Append{
					Rows: []telemetry.Row{partitionRow(e, byte(w), n)}, Fate: make([]telemetry.Fate, 1),
					Mark: telemetry.Mark{Journal: "j1", Seq: uint64(n)},
				}
				if _, err := t.p.Append(t.Context(), e, &a); err != nil || a.Fate[0] != telemetry.FateStored {
					t.Errorf("append: fate %d, %v", a.Fate[0], err)
				}
				if err := t.p.Sync(t.Context(), []core.Epoch{e}); err != nil {
					t.Error(err)
				}
				q := telemetry.Query{Subject: core.Subject{byte(w), 1}, From: time.Unix(e.Start, 0), To: e.End()}
				got := 0
				if err := t.p.Scan(t.Context(), e, &q, func(*telemetry.Row) error { got++; return nil }); err != nil || got != n+1 {
					t.Errorf("scan: %d rows, want %d, %v", got, n+1, err)
				}
				if err := t.p.Tidy(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func partitionReopen(t *testing.T, engine PartitionsOpener) {
	open, closeAll := engine(t)
	e := partitionEpoch
	var want []telemetry.Row
	for n := range 4 {
		pt := partitionTest{t, open()}
		r := partitionRow(e, 1, n)
		want = append(want, r)
		if _, h := pt.append(e, uint64(n), r); h.Rows != uint64(n+1) || h.Batches != uint64(n+1) {
			t.Errorf("start %d: head %+v", n, h)
		}
		if fates, _ := pt.append(e, uint64(n), want...); slices.Contains(fates, telemetry.FateStored) {
			t.Errorf("start %d: fates %v, want all repeated", n, fates)
		}
		pt.same("after a restart", pt.scan(e, telemetry.Query{Subject: r.Reading.Subject}), want)
		if list, err := pt.p.List(t.Context()); err != nil || !slices.Equal(list, []core.Epoch{e}) {
			t.Errorf("list %v, %v", list, err)
		}
		closeAll()
	}
}
