package bundle_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/witness"
)

type noDeclarations struct{}

func (noDeclarations) All(context.Context) ([]*declaration.Policy, error) { return nil, nil }

// anyRound takes every round for one that the ledger holds: finding its record
// is the server's.
type anyRound struct{}

func (anyRound) Round(context.Context, uint64, uint64) (assurance.RoundRecord, error) {
	return assurance.RoundRecord{}, core.E(core.Unready, "later", "not looked at", "")
}

func (anyRound) Waivers(context.Context) ([]assurance.WaiverRecord, error) { return nil, nil }

// TestRealLedger exports from a real store, ledger and service, beneath a
// ledger that grows on, and has a witness look at it before and after.
func TestRealLedger(t *testing.T) {
	ctx := t.Context()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	s, err := store.Open(ctx, store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // the test is over
	apart := t.TempDir()
	key, err := ledger.CreateKey(filepath.Join(apart, "ledger.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Create(ctx, ledger.Deps{
		Update: func(ctx context.Context, fn func(ledger.Tx) error) error {
			return s.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(ledger.Tx) error) error {
			return s.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Key: key, CheckpointFile: filepath.Join(apart, "checkpoint"), Name: "hawser/test", Now: clock, Log: slog.New(slog.DiscardHandler),
	}, core.Job("test"))
	if err != nil {
		t.Fatal(err)
	}
	violation := check.Violation{ID: "break-it", Says: "Breaks it.", Do: func(context.Context, check.Twin) (func(context.Context) error, error) { return nil, nil }}
	registry, err := check.NewRegistry([]check.Check{{
		ID: "a.thing", Version: 1, Rows: []string{"2.8"}, Kind: check.Query, Says: "It is so.", Do: "Make it so.", MaxAge: time.Hour,
		Look: func(_ context.Context, l *check.Look) error {
			l.Touch("table", "t")
			l.Expect("s", 2)
			l.Pass(2)
			return nil
		},
		Violations: []check.Violation{violation},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := assurance.New(ctx, assurance.Deps{
		Update: func(ctx context.Context, fn func(assurance.Tx) error) error {
			return s.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(assurance.Tx) error) error {
			return s.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Checks: registry, Declarations: noDeclarations{}, Ledger: anyRound{}, Program: "v1", Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	sign := func() {
		t.Helper()
		for {
			n, err := l.Sequence(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
		}
		if _, err := l.Checkpoint(ctx); err != nil {
			t.Fatal(err)
		}
	}
	live := func(rounds int) {
		t.Helper()
		for range rounds {
			now = now.Add(time.Minute)
			if err := a.Observe(ctx, check.Take(ctx, registry.All()[0], "v1", clock, time.Second)); err != nil {
				t.Fatal(err)
			}
			if err := a.CloseRound(ctx); err != nil {
				t.Fatal(err)
			}
			if err := s.Update(ctx, func(tx *store.Tx) error {
				return tx.Record(ctx, core.Record{Time: now, Kind: "noise", Actor: core.Job("test")})
			}); err != nil {
				t.Fatal(err)
			}
		}
		sign()
	}
	if err := a.Prove(ctx, check.Proof{
		Check: "a.thing", Version: 1, Program: "v1", Violation: "break-it", Taken: now, Expires: now.Add(check.ProofAge),
		Before: check.Pass, Red: check.Fail, After: check.Pass, Saw: "x",
	}); err != nil {
		t.Fatal(err)
	}
	live(200)
	wk, err := witness.CreateKey(filepath.Join(apart, "witness.key"), "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(witness.Options{Dir: t.TempDir(), Key: wk, Logs: []string{l.VerifierKey()}, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	first, err := w.Look(ctx, served{l})
	if err != nil {
		t.Fatal(err)
	}
	live(150)
	second, err := w.Look(ctx, served{l})
	if err != nil || second.Grew != 300 {
		t.Fatalf("the witness saw %d more, %v", second.Grew, err)
	}
	live(1) // the ledger grows on; the bundle is of what the witness saw

	in, err := a.Input(ctx)
	if err != nil {
		t.Fatal(err)
	}
	k, err := bundle.CreateKey(filepath.Join(apart, "evidence.key"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "evidence")
	if err := bundle.Export(ctx, dir, bundle.Options{
		From: now.Add(-30 * time.Minute), Input: in, Rounds: a, Log: l, Checkpoint: second.Note, Earlier: [][]byte{first.Note},
	}, k); err != nil {
		t.Fatal(err)
	}
	r, err := bundle.VerifyDir(ctx, dir, bundle.Trust{
		Signers: []byte(k.Public().AllowedSigner()), Earlier: first.Note, LogKeys: []string{l.VerifierKey()}, Witnesses: []string{wk.Verifier()},
		Now: now, Program: "v1", Checks: in.Checks,
	})
	if err != nil || r.Standing != bundle.Proved || r.Witnessed() != "witnessed by witness.example/w1" {
		t.Errorf("%s, %s: %v %v %v", r.Standing, r.Witnessed(), r.Because, r.Faults, err)
	}
	if r.Last != 350 || r.First != 321 || r.Trials != 1 || r.State.Row("2.8").Verdict != assurance.Met {
		t.Errorf("rounds %d to %d, %d trials, row 2.8 is %s", r.First, r.Last, r.Trials, r.State.Row("2.8").Verdict)
	}
}

// served shows a ledger as the server does.
type served struct{ l *ledger.Ledger }

func (s served) Checkpoint(context.Context) ([]byte, error) { return s.l.Latest().Note, nil }

func (s served) Tile(ctx context.Context, t ledger.TileRef) ([]byte, error) { return s.l.Tile(ctx, t) }
