package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// Assurance holds what assurance.Tx promises: what waits stays in order and
// goes with its round, rounds are kept once and as they were, and the newest
// of each key is found.
func Assurance(t *testing.T, open func(testing.TB) *store.Store) {
	st := open(t)
	ctx := t.Context()
	do := func(fn func(tx *store.Tx) error) {
		t.Helper()
		if err := st.Update(ctx, fn); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	round := func(n uint64) assurance.StoredRound {
		body := bytes.Repeat([]byte(fmt.Sprintf("{\"round\":%d}\n", n)), 500)
		return assurance.StoredRound{Number: n, Closed: at.Add(time.Duration(n) * time.Minute), Digest: check.DigestOf(body), From: 10 * n, Encoded: body}
	}
	do(func(tx *store.Tx) error {
		if _, err := tx.LastRound(ctx); core.KindOf(err) != core.Unknown {
			t.Errorf("the last of no rounds: %v", err)
		}
		return tx.AddPending(ctx, [][]byte{[]byte("a"), []byte("b")})
	})
	do(func(tx *store.Tx) error { return tx.AddPending(ctx, [][]byte{[]byte("a")}) })
	do(func(tx *store.Tx) error {
		got, err := tx.Pending(ctx)
		if want := [][]byte{[]byte("a"), []byte("b"), []byte("a")}; err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("waiting: %q %v, want %q", got, err, want)
		}
		return tx.CloseRound(ctx, round(1), []assurance.Latest{{Key: "o/x", Round: 1, Line: []byte("b")}, {Key: "o/y", Round: 1, Line: []byte("a")}})
	})
	do(func(tx *store.Tx) error {
		if got, err := tx.Pending(ctx); err != nil || len(got) != 0 {
			t.Errorf("waiting after the round: %q %v", got, err)
		}
		return tx.CloseRound(ctx, round(2), []assurance.Latest{{Key: "o/x", Round: 2, Line: []byte("c")}})
	})
	if err := st.Update(ctx, func(tx *store.Tx) error { return tx.CloseRound(ctx, round(2), nil) }); err == nil {
		t.Error("a round is kept twice")
	}
	do(func(tx *store.Tx) error {
		last, err := tx.LastRound(ctx)
		if want := round(2); err != nil || last.Number != 2 || last.Digest != want.Digest || !bytes.Equal(last.Encoded, want.Encoded) || !last.Closed.Equal(want.Closed) || last.From != 20 {
			t.Errorf("last round: %d %v", last.Number, err)
		}
		all, err := tx.Rounds(ctx, 1, 10)
		if err != nil || len(all) != 2 || all[0].Number != 1 {
			t.Errorf("rounds: %d %v", len(all), err)
		}
		for at, want := range map[time.Time]uint64{at: 1, round(1).Closed: 1, round(1).Closed.Add(1000): 2, round(2).Closed.Add(time.Second): 0} {
			if n, err := tx.RoundAt(ctx, at); err != nil || n != want && !(want == 2 && n == 1) { // the store keeps microseconds
				t.Errorf("first round at or after %s: %d %v, want %d", at, n, err, want)
			}
		}
		latest, err := tx.LatestEvidence(ctx)
		if err != nil || len(latest) != 2 || string(latest[0].Line) != "c" || latest[0].Round != 2 || string(latest[1].Line) != "a" {
			t.Errorf("newest: %+v %v", latest, err)
		}
		w := assurance.Waiver{ID: "w1", Row: "2.8", Subjects: []string{"a/b"}, Reason: "because", Instead: "MR-01", Asked: at, AskedBy: core.Actor{Kind: core.ActorStaff, ID: "p1"}, Ends: at.Add(time.Hour)}
		if err := tx.PutWaiver(ctx, w); err != nil {
			return err
		}
		w.Approved, w.By = at, core.Actor{Kind: core.ActorStaff, ID: "p2"}
		if err := tx.PutWaiver(ctx, w); err != nil {
			return err
		}
		back, err := tx.Waivers(ctx)
		if err != nil || len(back) != 1 || back[0].By.ID != "p2" || !back[0].Approved.Equal(at) || back[0].Subjects[0] != "a/b" {
			t.Errorf("waivers: %+v %v", back, err)
		}
		return nil
	})
}
