package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Counts is the contract of the counts in telemetry.ProjectionTx.
func Counts(t *testing.T, open func(testing.TB) *store.Store) {
	s := open(t)
	ctx := t.Context()
	update := func(fn func(telemetry.ProjectionTx) error) {
		t.Helper()
		if err := s.Update(ctx, func(tx *store.Tx) error { return fn(tx) }); err != nil {
			t.Fatal(err)
		}
	}
	ann, bob := core.Subject{1}, core.Subject{2}
	count := func(m telemetry.Minute, s core.Subject, k telemetry.CountKind, r telemetry.Reason, n uint64) telemetry.Count {
		return telemetry.Count{Minute: m, Product: "p", Subject: s, Kind: k, Reason: r, N: n}
	}
	nobody := core.Subject{}
	for range 2 { // adding adds
		update(func(tx telemetry.ProjectionTx) error {
			err := tx.AddCounts(ctx, []telemetry.Count{
				count(100, nobody, telemetry.CountAccepted, "", 10), count(100, nobody, telemetry.CountStored, "", 9),
				count(100, ann, telemetry.CountDroppedField, "", 3), count(100, ann, telemetry.CountRefused, telemetry.ReasonRate, 2),
				count(100, bob, telemetry.CountRefused, telemetry.ReasonRate, 1), count(100, nobody, telemetry.CountRefused, telemetry.ReasonRate, 5),
				count(101, ann, telemetry.CountRefused, telemetry.ReasonNotJSON, 1), count(101, ann, telemetry.CountDuplicate, "", 1),
				count(101, bob, telemetry.CountExpired, "", 4), count(101, bob, telemetry.CountParked, "", 6),
				{Minute: 101, Product: "q", Kind: telemetry.CountAccepted, N: 100},
			})
			if err != nil {
				return err
			}
			return tx.AddSubjectCounts(ctx, []telemetry.SubjectCount{
				{Subject: ann, Product: "p", Accepted: 5, Stored: 4, Duplicates: 1, DroppedFields: 3, Refused: 3, Last: 70},
				{Subject: bob, Product: "p", Accepted: 5, Last: 60},
			})
		})
	}
	update(func(tx telemetry.ProjectionTx) error { // an earlier time does not go back
		return tx.AddSubjectCounts(ctx, []telemetry.SubjectCount{{Subject: ann, Product: "p", Last: 10}})
	})
	crowd := make([]telemetry.SubjectCount, 101) // more than an engine adds at once
	for i := range crowd {
		crowd[i] = telemetry.SubjectCount{Subject: core.Subject{0xc, byte(i)}, Product: "p", Stored: uint64(i), Last: int64(i)}
	}
	for range 2 {
		update(func(tx telemetry.ProjectionTx) error { return tx.AddSubjectCounts(ctx, crowd) })
	}
	update(func(tx telemetry.ProjectionTx) error {
		for i := range crowd {
			got, err := tx.SubjectCount(ctx, crowd[i].Subject)
			if err != nil {
				return err
			}
			want := crowd[i]
			want.Stored *= 2
			if len(got) != 1 || got[0] != want {
				t.Errorf("one of many: %+v, want %+v", got, want)
			}
		}
		return nil
	})
	totals := func(p core.ProductID) (out telemetry.Totals) {
		t.Helper()
		err := s.View(ctx, func(tx *store.Tx) (err error) { out, err = tx.Totals(ctx, p); return err })
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := "{Accepted:20 DroppedFields:6 Stored:18 Duplicates:2 Expired:8 Parked:12 Refused:[{Reason:not-json N:2} {Reason:rate N:16}]}"
	if got := fmt.Sprintf("%+v", totals("p")); got != want {
		t.Errorf("totals %s\nwant   %s", got, want)
	}
	if got := totals(""); got.Accepted != 220 || got.RefusedBy(telemetry.ReasonRate) != 16 || got.RefusedBy(telemetry.ReasonTooDeep) != 0 {
		t.Errorf("totals of all products %+v", got)
	}
	minutes := func(from telemetry.Minute, limit int) (out []telemetry.Count) {
		t.Helper()
		err := s.View(ctx, func(tx *store.Tx) (err error) { out, err = tx.MinuteCounts(ctx, from, limit); return err })
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := minutes(0, 100); len(got) != 11 || got[0].Minute != 100 || got[10].Minute != 101 {
		t.Errorf("counts by minute: %+v", got)
	}
	if got := minutes(101, 2); len(got) != 2 || got[0].Minute != 101 {
		t.Errorf("two counts from minute 101: %+v", got)
	}
	of := func(s2 core.Subject) (out []telemetry.SubjectCount) {
		t.Helper()
		err := s.View(ctx, func(tx *store.Tx) (err error) { out, err = tx.SubjectCount(ctx, s2); return err })
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := of(ann); len(got) != 1 || got[0] != (telemetry.SubjectCount{
		Subject: ann, Product: "p", Accepted: 10, Stored: 8, Duplicates: 2, DroppedFields: 6, Refused: 6, Last: 70,
	}) {
		t.Errorf("running figures %+v", got)
	}

	// Erased: nothing names the subject, every sum stays.
	before := totals("")
	sum := func() map[string]uint64 {
		m := map[string]uint64{}
		for _, c := range minutes(0, 100) {
			m[fmt.Sprint(c.Minute, c.Kind, c.Reason)] += c.N
		}
		return m
	}
	sums := fmt.Sprint(sum())
	for range 2 {
		update(func(tx telemetry.ProjectionTx) error { return tx.ForgetCounts(ctx, ann) })
	}
	for _, c := range minutes(0, 100) {
		if c.Subject == ann {
			t.Errorf("still counted for the erased: %+v", c)
		}
	}
	if len(of(ann)) != 0 || len(of(bob)) != 1 {
		t.Errorf("running figures after erasure: %v, of the other %v", of(ann), of(bob))
	}
	if after := fmt.Sprint(sum()); after != sums || fmt.Sprint(totals("")) != fmt.Sprint(before) {
		t.Errorf("sums changed from\n%s to\n%s", sums, after)
	}

	// What comes after an erasure counts for nobody, too.
	err := s.Update(ctx, func(tx *store.Tx) error {
		return tx.InsertErasure(ctx, telemetry.ErasureRow{Subject: ann, Product: "p", State: telemetry.ErasureAsked})
	})
	if err != nil {
		t.Fatal(err)
	}
	update(func(tx telemetry.ProjectionTx) error {
		err := tx.AddCounts(ctx, []telemetry.Count{
			count(101, ann, telemetry.CountRefused, telemetry.ReasonNotJSON, 2), count(101, nobody, telemetry.CountRefused, telemetry.ReasonNotJSON, 3),
			count(101, bob, telemetry.CountExpired, "", 1),
		})
		if err != nil {
			return err
		}
		return tx.AddSubjectCounts(ctx, []telemetry.SubjectCount{{Subject: ann, Product: "p", Refused: 2}, {Subject: bob, Product: "p", Accepted: 1}})
	})
	for _, c := range minutes(0, 100) {
		if c.Subject == ann {
			t.Errorf("counted for the erased: %+v", c)
		}
	}
	sent := totals("p")
	if len(of(ann)) != 0 || of(bob)[0].Accepted != 11 || sent.RefusedBy(telemetry.ReasonNotJSON) != 7 || sent.Expired != 9 {
		t.Errorf("after the erasure: %v, of the other %v, totals %+v", of(ann), of(bob), sent)
	}
	before = totals("")

	update(func(tx telemetry.ProjectionTx) error {
		n, err := tx.PruneCounts(ctx, 101)
		if n == 0 {
			t.Error("nothing pruned")
		}
		return err
	})
	if got := minutes(0, 100); len(got) == 0 || got[0].Minute != 101 {
		t.Errorf("after pruning: %+v", got)
	}
	if fmt.Sprint(totals("")) != fmt.Sprint(before) {
		t.Error("pruning changed the totals")
	}
}

// Epochs is the contract of epochs, roots and the projector's watermark in
// telemetry.ProjectionTx.
func Epochs(t *testing.T, open func(testing.TB) *store.Store) {
	s := open(t)
	ctx := t.Context()
	update := func(fn func(telemetry.ProjectionTx) error) {
		t.Helper()
		if err := s.Update(ctx, func(tx *store.Tx) error { return fn(tx) }); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Unix(1_800_000_000, 5000).UTC()
	a, b := partitionEpoch, partitionEpoch
	b.Start += 86400

	var m telemetry.Mark
	mark := func() telemetry.Mark {
		update(func(tx telemetry.ProjectionTx) (err error) { m, err = tx.ProjectorMark(ctx); return err })
		return m
	}
	if mark() != (telemetry.Mark{}) {
		t.Errorf("mark before the first: %+v", m)
	}
	for _, want := range []telemetry.Mark{{Journal: "j1", Seq: 9}, {Journal: "j2", Seq: 1}} {
		update(func(tx telemetry.ProjectionTx) error { return tx.PutProjectorMark(ctx, want) })
		if mark() != want {
			t.Errorf("mark %+v, want %+v", m, want)
		}
	}

	epoch := func(e core.Epoch) (i telemetry.EpochInfo, known bool) {
		t.Helper()
		update(func(tx telemetry.ProjectionTx) (err error) { i, known, err = tx.Epoch(ctx, e); return err })
		return i, known
	}
	if _, known := epoch(a); known {
		t.Error("an epoch is known before its first reading")
	}
	head := telemetry.Head{Batches: 3, Rows: 30, WrongClock: 2, Chain: core.Hash{7}}
	update(func(tx telemetry.ProjectionTx) error {
		if err := tx.PutEpochHead(ctx, a, telemetry.Head{Batches: 1, Rows: 1}, at); err != nil {
			return err
		}
		if err := tx.PutEpochHead(ctx, a, head, at.Add(time.Hour)); err != nil {
			return err
		}
		return tx.PutLateCounted(ctx, a, 44)
	})
	want := telemetry.EpochInfo{Epoch: a, State: telemetry.EpochLive, Head: head, LateCounted: 44, Changed: at}
	if got, known := epoch(a); !known || got != want {
		t.Errorf("epoch %+v\nwant  %+v", got, want)
	}

	list := func(states ...telemetry.EpochState) (out []telemetry.EpochInfo) {
		t.Helper()
		update(func(tx telemetry.ProjectionTx) (err error) { out, err = tx.Epochs(ctx, states...); return err })
		return out
	}
	update(func(tx telemetry.ProjectionTx) error {
		return tx.PutEpochState(ctx, b, telemetry.EpochDamaged, "torn", at)
	})
	if got, _ := epoch(b); got.State != telemetry.EpochDamaged || got.Detail != "torn" || got.Head.Chain != telemetry.FirstChain(b) {
		t.Errorf("an epoch first seen damaged: %+v", got)
	}
	if got := list(telemetry.EpochLive, telemetry.EpochDamaged); len(got) != 2 || got[0].Epoch != a || got[1].Epoch != b {
		t.Errorf("live and damaged: %+v", got)
	}
	if got := list(telemetry.EpochEnding); len(got) != 0 {
		t.Errorf("ending: %+v", got)
	}
	if got := list(); len(got) != 0 {
		t.Errorf("no state asked for: %+v", got)
	}

	unsealed := func() (out []telemetry.EpochInfo) {
		t.Helper()
		update(func(tx telemetry.ProjectionTx) (err error) { out, err = tx.UnsealedEpochs(ctx); return err })
		return out
	}
	if got := unsealed(); len(got) != 1 || got[0] != want {
		t.Errorf("unsealed: %+v", got)
	}
	sealed := []telemetry.Sealed{
		{Epoch: a, First: 1, Last: 2, Rows: 20, Chain: core.Hash{6}, At: at},
		{Epoch: a, First: 3, Last: 3, Rows: 30, Chain: core.Hash{7}, At: at.Add(time.Minute)},
	}
	for i, r := range sealed {
		update(func(tx telemetry.ProjectionTx) error { return tx.PutSealed(ctx, r) })
		if got, _ := epoch(a); got.Sealed != r.Last {
			t.Errorf("sealed up to %d, want %d", got.Sealed, r.Last)
		}
		if got := len(unsealed()); got != 1-i {
			t.Errorf("after entry %d: %d epochs unsealed", i, got)
		}
	}
	err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutSealed(ctx, sealed[0]) })
	if err == nil {
		t.Error("one batch was sealed twice")
	}
	var back []telemetry.Sealed
	update(func(tx telemetry.ProjectionTx) (err error) { back, err = tx.SealedOf(ctx, a); return err })
	if fmt.Sprint(back) != fmt.Sprint(sealed) {
		t.Errorf("root entries %v\nwant %v", back, sealed)
	}

	// What is ending or has ended is not brought back by a late commit.
	for _, state := range []telemetry.EpochState{telemetry.EpochEnding, telemetry.EpochEnded} {
		update(func(tx telemetry.ProjectionTx) error {
			if err := tx.PutEpochState(ctx, a, state, "", at); err != nil {
				return err
			}
			return tx.PutEpochHead(ctx, a, telemetry.Head{Batches: 9, Rows: 99}, at)
		})
		if got, _ := epoch(a); got.State != state || got.Head != head {
			t.Errorf("after %s: %+v", state, got)
		}
	}
	forget := func(before time.Time) (n int64) {
		t.Helper()
		update(func(tx telemetry.ProjectionTx) (err error) { n, err = tx.ForgetEpochs(ctx, before); return err })
		return n
	}
	if n := forget(at); n != 0 {
		t.Errorf("%d epochs forgotten too early", n)
	}
	if n := forget(at.Add(time.Second)); n != 1 {
		t.Errorf("%d epochs forgotten, want 1: the damaged one has not ended", n)
	}
	update(func(tx telemetry.ProjectionTx) (err error) { back, err = tx.SealedOf(ctx, a); return err })
	if _, known := epoch(a); known || len(back) != 0 {
		t.Errorf("a forgotten epoch is known: %v, roots %v", known, back)
	}
}
