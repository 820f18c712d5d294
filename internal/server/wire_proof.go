package server

import (
	"context"
	"slices"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

// proof gives the doors for people what is proved.
type proof struct {
	*assurance.Service
	s *server
}

func (p proof) Run(ctx context.Context, _ core.Actor, q api.RunRequest, progress func(done, total int64)) (assurance.State, error) {
	only := func(c *check.Check) bool {
		return (q.Row == "" || slices.Contains(c.Rows, q.Row)) && (q.Check == "" || c.ID == q.Check)
	}
	if q.Check != "" && p.s.rounds.registry.Find(q.Check) == nil {
		return assurance.State{}, core.E(core.Unknown, "no-such-check", "there is no check "+q.Check, "`hawser check list` shows all")
	}
	if err := p.s.rounds.runAll(ctx, only, progress); err != nil {
		return assurance.State{}, err
	}
	// Who asked may want to show it: it is under the ledger when this returns.
	if err := p.CloseRound(ctx); err != nil {
		return assurance.State{}, err
	}
	return p.State(ctx)
}

func (p proof) Selftest(ctx context.Context, _ core.Actor, progress func(done, total int64)) ([]check.Proof, error) {
	return p.s.selftest(ctx, progress)
}

// selftest has every violation tried on a twin and keeps what came of it.
func (s *server) selftest(ctx context.Context, progress func(done, total int64)) ([]check.Proof, error) {
	if s.opt.Selftest == nil {
		return nil, core.E(core.Unready, "no-selftest", "this server was started without a way to make a twin", "start it with `hawser serve`")
	}
	proofs, err := s.opt.Selftest(ctx, progress)
	if err != nil {
		return nil, err
	}
	if err := s.assure.Prove(ctx, proofs...); err != nil {
		return nil, err
	}
	return proofs, s.assure.CloseRound(ctx)
}

// untried reports whether a check has no good proof of this very program that
// lasts for another day.
func (s *server) untried(ctx context.Context) (bool, error) {
	in, err := s.assure.Input(ctx)
	if err != nil {
		return false, err
	}
	for _, c := range s.rounds.registry.All() {
		if !c.Built() {
			continue
		}
		for _, v := range c.Violations {
			if !slices.ContainsFunc(in.Proofs[c.ID], func(p check.Proof) bool {
				return p.Violation == v.ID && p.Version == c.Version && p.Program == s.opt.Version && in.At.Before(p.Expires.Add(-renewProofs))
			}) {
				return true, nil
			}
		}
	}
	return false, nil
}
