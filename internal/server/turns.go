package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// Several servers may have one installation and take turns: one serves, the
// others wait. Who serves holds a lock in PostgreSQL for as long as it lives,
// and writes under a mark of its own that the next one replaces, so that two
// never write. The journal is on NATS servers: what the one before acknowledged
// is there for the next.

// turnSight is for how long a server that takes turns goes on without an answer
// of the database. Another may have it since, and may have revoked a device:
// after 5 s nothing may be taken from that (design, section 8).
const turnSight = 4 * time.Second

// turnPause is between two tries to begin.
const turnPause = time.Second

// takeTurns serves whenever no other server does, until ctx ends.
func takeTurns(ctx context.Context, c *Config, o Options) error {
	log := newLog(c, o.Log)
	for {
		waits := func(err error) {
			if errors.Is(err, store.ErrInUse) {
				log.Info("waiting: another server serves this installation")
				return
			}
			log.Warn("waiting: the database cannot be reached", slog.Any("err", err))
		}
		if err := await(ctx, c, o, log, waits); err != nil {
			return nil // it was told to end, and had not begun
		}
		if err := os.MkdirAll(c.Data, 0o700); err != nil {
			return fmt.Errorf("make the data folder: %w", err)
		}
		err := newServer(c, o).run(ctx)
		if ctx.Err() != nil || err == nil || !anothersTurn(err) {
			return err
		}
		log.Warn("the turn is over", slog.Any("err", err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(turnPause):
		}
	}
}

// await waits for the turn, and takes devices in meanwhile if there is a link.
func await(ctx context.Context, c *Config, o Options, log *slog.Logger, waits func(error)) error {
	if c.Link == "" {
		return store.AwaitFree(ctx, c.postgres(), store.Awaiting{Told: waits, Link: func(string) {}})
	}
	meanwhile, turn := context.WithCancelCause(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer turn(errTurn)
	var keeper place
	first := sync.OnceFunc(func() { work.Go(func() { stand(meanwhile, c, o.withDefaults(), log, keeper.get) }) })
	return store.AwaitFree(ctx, c.postgres(), store.Awaiting{Told: waits, Link: func(addr string) {
		keeper.set(addr)
		first()
	}})
}

// anothersTurn reports whether a server ended, or did not begin, because another
// has the installation or may have it.
func anothersTurn(err error) bool {
	return slices.Contains([]string{"data-in-use", "keyring-in-use", "database-taken", "database-gone", "database-unseen"}, core.ReasonOf(err))
}

// sees reports whether it is known whose turn it is. A process that was paused
// looks at the time here, before anything else of it does.
func (s *server) sees() bool { return s.store.Unseen() < turnSight }

// knows is what the gateway asks before it acknowledges; nil where there are no
// turns.
func (s *server) knows() func() bool {
	if !s.c.Turns {
		return nil
	}
	return s.sees
}

// mayTake lets nothing into the journal while it is not known whose turn it is.
func (s *server) mayTake() error {
	if !s.sees() {
		return store.ErrUnseen(s.store.Unseen())
	}
	return nil
}

// checkTurns holds what taking turns rests on.
func (c *Config) checkTurns() error {
	if c.Turns && (c.Store == "" || len(c.JournalServers) == 0) {
		return core.E(core.Invalid, "config-turns", "config.yaml: turns: without a store and a journal that all of the servers reach",
			"name a PostgreSQL database with `store` and NATS servers with `journal_servers`")
	}
	return c.checkLink()
}
