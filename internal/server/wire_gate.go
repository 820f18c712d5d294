package server

import (
	"context"
	"log/slog"

	"github.com/hawser-iot/hawser/internal/gate"
)

// openGate opens the gate that every credential passes. An installation that
// has no key for it, because it is older or the file is gone, gets one.
func (s *server) openGate(ctx context.Context) error {
	key, made, err := gate.OpenKey(s.c.GateKey)
	if err != nil {
		return err
	}
	if made {
		s.log.Warn("made a new key for the gate: wrong tries are counted anew and no device is known", slog.String("file", s.c.GateKey))
	}
	s.gate, err = gate.New(ctx, gate.Deps{
		Update: update[gate.Tx](s.store), View: view[gate.Tx](s.store), Now: s.opt.Now, Key: key, Tell: s.guessedAt,
	})
	return err
}

// guessedAt hears that an account is being guessed at.
func (s *server) guessedAt(ctx context.Context, n gate.Notice) {
	if a := s.people.service(); a != nil {
		a.Tell(ctx, n)
	}
	s.log.WarnContext(ctx, "an account is being guessed at", slog.String("means", string(n.Means)), slog.Int("wrong", n.Wrong),
		slog.Int("refused", n.Refused), slog.Int("networks", n.Networks), slog.Time("since", n.Since))
}
