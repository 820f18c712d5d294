package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// telemetryParts are what files, reads, expires and erases readings.
type telemetryParts struct {
	telemetryStores
	projector *telemetry.Projector
	counts    *telemetry.Counts

	undeclared *telemetry.Undeclared
	roots      *telemetry.Roots
	sealed     *ledgerRoots
	expirer    *telemetry.Expirer
	read       *telemetry.ReadService
	holds      *telemetry.HoldService
	erase      *telemetry.EraseService
}

func (s *server) openTelemetry(ctx context.Context) (err error) {
	t := &s.telem
	if t.telemetryStores, err = openTelemetryStores(ctx, s.c, s.store.For(s.c.postgres()), s.opt.Now); err != nil {
		return err
	}
	up, see := update[telemetry.ProjectionTx](s.store), view[telemetry.ProjectionTx](s.store)
	if t.counts, err = telemetry.NewCounts(telemetry.CountsDeps{Update: up, View: see, Now: s.opt.Now}); err != nil {
		return err
	}
	if t.projector, err = telemetry.NewProjector(telemetry.ProjectorDeps{
		Journal: journalSource{s.journal}, Files: t.files, Late: t.late, Update: up, View: see, Now: s.opt.Now, Log: s.log,
		Versions: s.decl.History,
		Guarding: func(ctx context.Context) (bool, error) { return t.holds.Guarding(ctx) }, // made below
	}); err != nil {
		return err
	}
	if t.undeclared, err = telemetry.NewUndeclared(telemetry.UndeclaredDeps{
		Update: update[telemetry.UndeclaredTx](s.store), View: view[telemetry.UndeclaredTx](s.store), Keys: s.ring, Intake: s.intake, Now: s.opt.Now,
	}); err != nil {
		return err
	}
	t.sealed = &ledgerRoots{l: s.ledger}
	if t.roots, err = telemetry.NewRoots(telemetry.RootsDeps{Files: t.files, Update: up, View: see, Now: s.opt.Now, Ledger: t.sealed}); err != nil {
		return err
	}
	shelf, err := telemetry.NewShelf(t.files, t.late)
	if err != nil {
		return err
	}
	if t.holds, err = telemetry.NewHoldService(telemetry.HoldDeps{
		Update: update[telemetry.HoldTx](s.store), View: view[telemetry.HoldTx](s.store),
		Partitions: shelf, Files: t.kept, Keys: s.ring,
		Owner: s.owner, Now: s.opt.Now, Log: s.log,
	}); err != nil {
		return err
	}
	if t.read, err = telemetry.NewReadService(telemetry.ReadDeps{
		Update: update[telemetry.ReadTx](s.store), Partitions: shelf, Keys: s.ring, Owner: s.owner,
		Policies: s.decl.Versions, Settle: s.settle, Now: s.opt.Now, Log: s.log,
	}); err != nil {
		return err
	}
	if err := s.openCommands(ctx); err != nil {
		return err
	}
	if t.erase, err = telemetry.NewEraseService(telemetry.EraseDeps{
		Update: update[telemetry.EraseTx](s.store), View: view[telemetry.EraseTx](s.store), Keys: eraseKeys{s.ring, s}, Holds: t.holds,
		Owner: s.owner, Settle: s.settle, Erasers: s.erasers(), Now: s.opt.Now, Log: s.log,
	}); err != nil {
		return err
	}
	if t.expirer, err = telemetry.NewExpirer(telemetry.ExpirerDeps{
		Files: t.files, Late: t.late, Keys: s.ring, Holds: t.holds, Settle: s.settle, Update: up, View: see, Now: s.opt.Now, Log: s.log, Trusted: s.clock.trusted,
		Known: func(context.Context) ([]core.Epoch, error) { return s.ring.Epochs(), nil },
	}); err != nil {
		return err
	}
	s.jobs = append(s.jobs,
		&job{name: "batch-roots", period: time.Minute, run: t.roots.SealMinute},
		&job{name: "expiry", period: time.Minute, run: t.expirer.Expire},
		&job{name: "erasures", period: time.Minute, run: t.erase.Finish},
		&job{name: "undeclared-fields", period: 5 * time.Second, run: t.undeclared.Keep},
		&job{name: "counts-prune", period: time.Hour, run: s.clock.unlessAhead(t.counts.Prune)},
	)
	return nil
}

// finishHalfDone finishes what a crash left half done, before anything is
// served and once everything is open that an eraser needs.
func (s *server) finishHalfDone(ctx context.Context) error {
	if err := s.telem.holds.Resume(ctx); err != nil {
		return err
	}
	return s.telem.erase.Resume(ctx)
}

// erasers is every place outside the keyring that must forget a subject. The
// schema test holds that each column of a subject names one of them. After the
// last one the rows are not in the log of the database either.
func (s *server) erasers() []telemetry.Eraser {
	return scrubbed(s.store, []telemetry.Eraser{
		{Name: "ownership", Erase: s.devices.EndOwnership},
		{Name: "person", Erase: func(ctx context.Context, subject core.Subject) error {
			return s.store.Update(ctx, func(tx *store.Tx) error { return tx.ForgetPerson(ctx, subject) })
		}},
		{Name: "commands", Erase: func(ctx context.Context, subject core.Subject) error {
			s.commands.Forget(subject)
			return s.store.Update(ctx, func(tx *store.Tx) error { return tx.ForgetCommands(ctx, subject) })
		}},
		{Name: "readers", Erase: func(ctx context.Context, subject core.Subject) error { return s.services.readers.Forget(ctx, subject) }},
		{Name: "counts", Erase: func(ctx context.Context, subject core.Subject) error {
			s.intake.Forget(subject)
			if err := s.forgetAway(ctx, subject); err != nil {
				return err
			}
			return s.store.Update(ctx, func(tx *store.Tx) error { return tx.ForgetCounts(ctx, subject) })
		}},
	})
}

// scrubTime bounds the wait for whoever reads the control database during an
// erasure. One that must wait longer stays open, and is finished by its job.
const scrubTime = 30 * time.Second

// scrubbed lets the last eraser empty the log of the control database, too.
func scrubbed(st *store.Store, erasers []telemetry.Eraser) []telemetry.Eraser {
	last := &erasers[len(erasers)-1]
	erase := last.Erase
	last.Erase = func(ctx context.Context, subject core.Subject) error {
		if err := erase(ctx, subject); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, scrubTime)
		defer cancel()
		return st.Scrub(ctx)
	}
	return erasers
}

// owner tells telemetry whose a device is.
func (s *server) owner(_ context.Context, id core.DeviceID) (telemetry.Owned, error) {
	d, err := s.devices.Device(id)
	if err != nil {
		return telemetry.Owned{}, err
	}
	return telemetry.Owned{Subject: d.Subject, Product: d.Product, Since: d.OwnedSince}, nil
}

// settle returns when everything that was sealed before is filed. It is made
// before the projector is, so it asks for it late.
func (s *server) settle(ctx context.Context) error {
	if err := s.settleAway(ctx); err != nil {
		return err
	}
	s.intake.Quiesce()
	return s.telem.projector.Settle(ctx)
}

func (s *server) runTelemetry(ctx context.Context, work *sync.WaitGroup) {
	work.Go(func() {
		if err := s.telem.projector.Run(ctx); err != nil {
			s.log.ErrorContext(ctx, "projector ended; the journal fills up until the cause is gone and the server restarted", slog.Any("err", err))
		}
	})
}

// journalSource gives the projector the journal.
type journalSource struct{ *journal.Journal }

// Last is the newest batch.
func (j journalSource) Last() uint64 { return j.Durable() }

// Reader starts after a batch.
func (j journalSource) Reader(after uint64) telemetry.JournalReader {
	return journalReader{j.Journal.Reader(after)}
}

type journalReader struct{ r *journal.Reader }

func (r journalReader) Next(ctx context.Context) (telemetry.JournalBatch, error) {
	b, err := r.r.Next(ctx)
	if d, ok := errors.AsType[*journal.DamagedError](err); ok {
		return telemetry.JournalBatch{Seq: b.Seq, Missing: b.Missing, Damaged: d}, nil
	}
	if err != nil {
		return telemetry.JournalBatch{}, err
	}
	return telemetry.JournalBatch{Seq: b.Seq, Missing: b.Missing, Records: b.Records}, nil
}

func (r journalReader) Close() { r.r.Close() }
