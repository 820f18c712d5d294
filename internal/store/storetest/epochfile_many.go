package storetest

import (
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// partitionMany appends more rows than an engine may insert at once, with
// repeats among them: of rows that are there, and of rows of the same append.
// Numbers stay without gaps, and roots go over what was stored.
func partitionMany(t partitionTest) {
	e := partitionEpoch
	const n = 500
	var stored []telemetry.Row
	for i := range n / 5 {
		stored = append(stored, partitionRow(e, 1, i*5))
	}
	if _, head := t.append(e, 1, stored...); head.Rows != n/5 {
		t.Fatalf("head %+v after %d rows", head, n/5)
	}
	var rows []telemetry.Row
	var want []telemetry.Fate
	for i := range n {
		r := partitionRow(e, 1, i)
		fate := telemetry.FateStored
		switch {
		case i%10 == 0: // read from the journal once more
			r, fate = stored[i/5], telemetry.FateRepeated
		case i%5 == 0: // sent once more
			r.Reading.Counter += 1_000_000
			fate = telemetry.FateDuplicate
		default:
			stored = append(stored, r)
		}
		rows, want = append(rows, r), append(want, fate)
	}
	twice := partitionRow(e, 1, n-1)
	twice.Reading.Counter = 7_000_000
	rows, want = append(rows, twice), append(want, telemetry.FateDuplicate)
	fates, head := t.append(e, 2, rows...)
	for i := range fates {
		if fates[i] != want[i] {
			t.Errorf("row %d of %d: fate %d, want %d", i, len(fates), fates[i], want[i])
		}
		if gone := fates[i] != telemetry.FateStored; gone != (rows[i].ID == 0) {
			t.Errorf("row %d: fate %d and number %d", i, fates[i], rows[i].ID)
		}
	}
	if head.Rows != n || head.Batches != 2 {
		t.Errorf("head %+v, want %d rows in 2 batches", head, n)
	}
	byNumber := map[int64]bool{}
	var leaves []core.Hash
	var last telemetry.Batch
	err := t.p.Audit(t.Context(), e, telemetry.AuditVisitor{
		Head: func(telemetry.Head) error { return nil },
		Batch: func(b *telemetry.Batch) error {
			last, leaves = *b, nil
			return nil
		},
		Row: func(r *telemetry.Row) error {
			byNumber[r.ID] = true
			leaf, _ := telemetry.LeafHash(r, nil)
			leaves = append(leaves, leaf)
			return nil
		},
		Fault: func(s string) error { t.Errorf("fault: %s", s); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for id := int64(1); id <= n; id++ {
		if !byNumber[id] {
			t.Errorf("no row has number %d", id)
		}
	}
	if len(byNumber) != n || uint64(len(leaves)) != last.Count || telemetry.BatchRoot(leaves) != last.Root {
		t.Errorf("%d rows; the last batch counts %d, has %d, and its root is theirs: %v",
			len(byNumber), last.Count, len(leaves), telemetry.BatchRoot(leaves) == last.Root)
	}
	if got := t.scan(e, telemetry.Query{Subject: core.Subject{1, 1}}); len(got) != n {
		t.Errorf("%d rows read, want %d", len(got), n)
	}
}
