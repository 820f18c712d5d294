package server

import (
	"context"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
)

// examineBack is how far back each look at the rounds goes.
const examineBack = 24 * time.Hour

// evidenceChecks hold that what was observed is what is kept (CC 3.3).
func (s *server) evidenceChecks() []check.Check {
	edit := func(stmt, undo string) func(context.Context, check.Twin) (func(context.Context) error, error) {
		return func(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
			var n int64
			var digest, body []byte
			if err := t.Query(ctx, "control.db", `SELECT number, digest, body FROM assurance_round ORDER BY number LIMIT 1`, nil, &n, &digest, &body); err != nil {
				return nil, fmt.Errorf("find a round: %w", err)
			}
			if err := t.Exec(ctx, "control.db", stmt, n); err != nil {
				return nil, err
			}
			return func(ctx context.Context) error { return t.Exec(ctx, "control.db", undo, body, digest, n) }, nil
		}
	}
	const back = `UPDATE assurance_round SET body = ?, digest = ? WHERE number = ?`
	return []check.Check{{
		ID: "evidence.intact", Version: 1, Rows: []string{"3.3"}, Kind: check.Query, MaxAge: check.QueryAge,
		Says: "Every round of observations of the last day is the one that the ledger holds, and follows the one before.",
		Do:   "Find out who writes to control.db; bring it back from a backup (`hawser restore`), and keep the present one for whoever investigates.",
		Look: s.lookAtRounds,
		Violations: []check.Violation{
			{ID: "round-edited", Says: "Changes a stored round of observations behind the program's back.", Do: edit(`UPDATE assurance_round SET body = substr(body, 1, length(body) - 8) || x'0102030405060708' WHERE number = ?`, back)},
			{ID: "round-forged", Says: "Puts another digest beside a stored round.", Do: edit(`UPDATE assurance_round SET digest = zeroblob(32) WHERE number = ?`, back)},
		},
	}}
}

func (s *server) lookAtRounds(ctx context.Context, l *check.Look) error {
	if err := s.sequenced(ctx); err != nil {
		return err
	}
	first, err := s.assure.RoundAt(ctx, l.Now.Add(-examineBack))
	if err != nil {
		return err
	}
	if first > 0 {
		l.Expect("number of the newest round in memory", int(s.assure.LastRound().Number-first+1))
	}
	seen, wrong, err := s.assure.Examine(ctx, l.Now.Add(-examineBack))
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: assurance_round")
	l.Touch("source", "ledger, records of kind observations")
	for _, w := range wrong {
		l.Fail("rounds", "%s", w)
	}
	l.Pass(max(seen-len(wrong), 0))
	return nil
}

// sequenced returns when everything recorded before has its place in the ledger.
func (s *server) sequenced(ctx context.Context) error {
	for {
		n, err := s.ledger.Sequence(ctx)
		if err != nil {
			return fmt.Errorf("sequence the ledger: %w", err)
		}
		if n == 0 {
			return nil
		}
	}
}
