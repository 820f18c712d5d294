package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
)

// update and view give a capability the store through the Tx interface that it
// declares itself. T is that interface; *store.Tx has its methods, which the
// conversion checks when the server starts, not when the first message comes.
func update[T any](s *store.Store) func(context.Context, func(T) error) error {
	return func(ctx context.Context, fn func(T) error) error {
		return s.Update(ctx, func(tx *store.Tx) error { return fn(any(tx).(T)) })
	}
}

func view[T any](s *store.Store) func(context.Context, func(T) error) error {
	return func(ctx context.Context, fn func(T) error) error {
		return s.View(ctx, func(tx *store.Tx) error { return fn(any(tx).(T)) })
	}
}

func ledgerDeps(c *Config, st *store.Store, inst store.Installation, key ledger.Key, now func() time.Time, log *slog.Logger) ledger.Deps {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return ledger.Deps{
		Update: update[ledger.Tx](st), View: view[ledger.Tx](st), Key: key,
		CheckpointFile: c.Checkpoint, Name: "hawser/" + inst.ID, Now: now, Log: log,
	}
}
