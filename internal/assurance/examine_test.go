package assurance_test

import (
	"context"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/store"
)

// quiet is a ledger and declarations with nothing in them.
type quiet struct{}

func (quiet) All(context.Context) ([]*declaration.Policy, error) { return nil, nil }

func (quiet) Round(context.Context, uint64, uint64) (assurance.RoundRecord, error) {
	return assurance.RoundRecord{}, core.E(core.Unknown, "none", "there is no such record", "")
}

func (quiet) Waivers(context.Context) ([]assurance.WaiverRecord, error) { return nil, nil }

// TestRoundThatClosesMeanwhile: a round that closes while somebody walks the
// rounds is not taken for one that is gone; one that is gone is.
func TestRoundThatClosesMeanwhile(t *testing.T) {
	ctx := t.Context()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	s, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // the test is over
	registry, err := check.NewRegistry([]check.Check{{
		ID: "a.thing", Version: 1, Rows: []string{"2.8"}, Kind: check.Query, Says: "It is so.", Do: "Make it so.", MaxAge: time.Hour,
		Look:       func(context.Context, *check.Look) error { return nil },
		Violations: []check.Violation{{ID: "break-it", Says: "Breaks it.", Do: func(context.Context, check.Twin) (func(context.Context) error, error) { return nil, nil }}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var meanwhile func() // once, behind the next thing that is read
	a, err := assurance.New(ctx, assurance.Deps{
		Update: func(ctx context.Context, fn func(assurance.Tx) error) error {
			return s.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(assurance.Tx) error) error {
			err := s.View(ctx, func(tx *store.Tx) error { return fn(tx) })
			if do := meanwhile; do != nil {
				meanwhile = nil
				do()
			}
			return err
		},
		Checks: registry, Declarations: quiet{}, Ledger: quiet{}, Program: "v1", Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Observe(ctx, check.Observation{Check: "a.thing", Version: 1, Kind: check.Query, Program: "v1", Began: now, Taken: now, Expires: now.Add(time.Hour), Outcome: check.Empty}); err != nil {
		t.Fatal(err)
	}
	meanwhile = func() {
		if err := a.CloseRound(ctx); err != nil {
			t.Error(err)
		}
	}
	seen, wrong, err := a.Examine(ctx, now.Add(-time.Hour))
	if err != nil || seen != 0 || len(wrong) != 0 || a.LastRound().Number != 1 {
		t.Errorf("a round closed meanwhile: %d seen, %v, %v", seen, wrong, err)
	}
	if n, err := store.Behind(ctx, dir+"/control.db", `DELETE FROM assurance_round`); err != nil || n != 1 {
		t.Fatalf("take the round away: %d, %v", n, err)
	}
	if _, wrong, err := a.Examine(ctx, now.Add(-time.Hour)); err != nil || len(wrong) != 1 || wrong[0] != "round 1, the newest, is gone" {
		t.Errorf("a round that is gone: %v, %v", wrong, err)
	}
}
