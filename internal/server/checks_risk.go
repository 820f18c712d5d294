package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/store"
)

// riskChecks hold that what is asked of a product follows from its four
// factors (CC 0.1).
func (s *server) riskChecks() []check.Check {
	return []check.Check{{
		ID: "risk.factors", Version: 1, Rows: []string{"0.1"}, Kind: check.Query, MaxAge: check.QueryAge,
		Says: "Every declaration in force holds the four factors, as stored, and what is asked of the product grows with them.",
		Do:   "Publish the declaration anew; if the stored one was changed behind the program's back, bring control.db back from a backup.",
		Look: s.lookAtFactors,
		Violations: []check.Violation{{
			ID: "factor-removed", Says: "Takes the harm out of a stored declaration behind the program's back.",
			Do: func(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
				const swap = `UPDATE declaration SET canonical = CAST(replace(CAST(canonical AS TEXT), ?, ?) AS BLOB) WHERE hash = ?`
				const with, without = `"harm":"low",`, ``
				var before, hash []byte
				if err := t.Query(ctx, "control.db", `SELECT canonical, hash FROM declaration WHERE product = ? ORDER BY version DESC LIMIT 1`, []any{string(check.TwinProduct)}, &before, &hash); err != nil {
					return nil, fmt.Errorf("find the declaration: %w", err)
				}
				return func(ctx context.Context) error {
					return t.Exec(ctx, "control.db", `UPDATE declaration SET canonical = ? WHERE hash = ?`, before, hash)
				}, t.Exec(ctx, "control.db", swap, with, without, hash)
			},
		}},
	}}
}

// lookAtFactors reads the stored bytes, not the policies in memory. Who is
// declared is also asked of the register of devices: a product with devices
// and without a declaration fails.
func (s *server) lookAtFactors(ctx context.Context, l *check.Look) error {
	var stored []declaration.Published
	if err := s.store.View(ctx, func(tx *store.Tx) (err error) { stored, err = tx.CurrentDeclarations(ctx); return err }); err != nil {
		return fmt.Errorf("read declarations: %w", err)
	}
	inForce, err := s.decl.All(ctx)
	if err != nil && core.KindOf(err) == core.Internal {
		inForce = nil // what is stored cannot be read: that is the finding, below
	}
	l.Touch("table", "control.db: declaration")
	l.Expect("declarations that doors enforce", max(len(stored), len(inForce)))
	for _, d := range stored {
		p, err := declaration.ParsePolicy(d.Canonical)
		if err != nil || p.Hash != d.Hash {
			l.Fail(string(d.Product), "version %d as stored is not the one that was published", d.Version)
			continue
		}
		l.Holds(grows(p), string(d.Product), "health data would not raise what is asked of it")
	}
	return nil
}

// grows reports whether a product would be asked for more, and for nothing
// less, if it collected health data.
func grows(p *declaration.Policy) bool {
	raised := *p
	raised.Fields = slices.Clone(p.Fields)
	for i := range raised.Fields {
		raised.Fields[i].Class = declaration.Health
	}
	raised.Health = true
	now, then := assurance.RequiredRows(p), assurance.RequiredRows(&raised)
	for _, r := range now {
		if !slices.Contains(then, r) {
			return false
		}
	}
	already := p.Health || p.Factors().Level == declaration.HighLevel
	return already || len(then) > len(now)
}
