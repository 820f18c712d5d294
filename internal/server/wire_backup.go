package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// recordBackedUp is the record of a backup.
const recordBackedUp core.RecordKind = "backup-written"

// Backup writes a consistent copy of the data to a new folder and records that
// it did: a copy that nobody knows of is a leak.
func (r running) Backup(ctx context.Context, by core.Actor, to string) (api.Backup, error) {
	s := r.s
	m, err := s.store.Backup(ctx, store.BackupOptions{
		To: to, Settle: s.settle, Keyring: s.ring.State, Now: s.opt.Now,
		Journal: func() store.JournalState {
			return store.JournalState{Incarnation: s.journal.Incarnation(), Sequence: s.journal.State().Last}
		},
	})
	if err != nil {
		return api.Backup{}, err
	}
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		return tx.Record(ctx, core.Record{
			Time: m.Created, Kind: recordBackedUp, Actor: by,
			Facts: []core.Fact{
				{Name: "files", Value: fmt.Sprint(len(m.Files))},
				{Name: "size_bytes", Value: fmt.Sprint(m.Bytes())},
				{Name: "keyring_generation", Value: fmt.Sprint(m.Keyring.Generation)},
				{Name: "ledger_entries", Value: fmt.Sprint(m.Ledger.Entries)},
			},
		})
	})
	if err != nil {
		return api.Backup{}, fmt.Errorf("record backup: %w", err)
	}
	return api.Backup{Folder: to, Files: len(m.Files), Bytes: m.Bytes(), Generation: m.Keyring.Generation}, nil
}

// Restore makes the data folder that the configuration names from a backup,
// the newest keyring and the root (design, section 5, Roots and backups). It
// refuses, naming the missing generation, where the keyring is older than the
// backup. The ledger begins a new origin that commits to the last checkpoint
// that is known and says what was lost.
func Restore(ctx context.Context, c *Config, from string) (out *api.Restored, err error) {
	m, err := store.ReadManifest(from)
	if err != nil {
		return nil, err
	}
	roots, err := openRoots(c)
	if err != nil {
		return nil, err
	}
	ring, err := seal.Open(ctx, seal.Options{Copies: c.Keyring, Roots: roots, Now: time.Now})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ring.Close()) }()
	have, err := ring.State(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.Fits(have); err != nil {
		return nil, err
	}
	// A missing key must show before the data folder is there.
	if _, err := ledger.LoadKey(c.LedgerKey); err != nil {
		return nil, err
	}
	if _, err := store.Restore(ctx, from, c.Data); err != nil {
		return nil, err
	}
	origin, err := NewOrigin(ctx, c, fmt.Sprintf("restored from the backup of %s; readings and records made after it are gone", m.Created.UTC().Format(time.RFC3339)))
	if err != nil {
		return nil, err
	}
	if err := eraseAgain(ctx, c, ring); err != nil {
		return nil, err
	}
	return &api.Restored{
		Folder: c.Data, Files: len(m.Files), Generation: have.Generation, BackupGeneration: m.Keyring.Generation, Origin: origin,
	}, nil
}

// eraseAgain unlinks whom the backup still knows although the keyring does not:
// they were erased after it was taken.
func eraseAgain(ctx context.Context, c *Config, ring *seal.Keyring) (err error) {
	st, err := store.Open(ctx, store.Options{Dir: c.Data})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	eraser := func(name string, erase func(*store.Tx, context.Context, core.Subject) error) telemetry.Eraser {
		return telemetry.Eraser{Name: name, Erase: func(ctx context.Context, subject core.Subject) error {
			return st.Update(ctx, func(tx *store.Tx) error { return erase(tx, ctx, subject) })
		}}
	}
	_, err = telemetry.EraseAgain(ctx, telemetry.EraseAgainDeps{
		Update: update[telemetry.EraseAgainTx](st), View: view[telemetry.EraseAgainTx](st), Has: ring.Has, Now: time.Now,
		// The ownership goes last: it is what says that there is work to do, and
		// after a crash it must still say so.
		Erasers: scrubbed(st, []telemetry.Eraser{
			eraser("counts", (*store.Tx).ForgetCounts), eraser("ownership", (*store.Tx).DeleteOwnership),
		}),
	})
	return err
}

// NewOrigin begins a new origin of the ledger of a data folder that no server
// uses, and gives its name.
func NewOrigin(ctx context.Context, c *Config, lost string) (origin string, err error) {
	if err := installed(c); err != nil {
		return "", err
	}
	key, err := ledger.LoadKey(c.LedgerKey)
	if err != nil {
		return "", err
	}
	st, err := store.Open(ctx, store.Options{Dir: c.Data})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	var inst store.Installation
	if err := st.View(ctx, func(tx *store.Tx) error { inst, err = tx.Installation(ctx); return err }); err != nil {
		return "", err
	}
	l, err := ledger.NewOrigin(ctx, ledgerDeps(c, st, inst, key, time.Now, nil), core.Job("restore"), lost)
	if err != nil {
		return "", err
	}
	return l.Status().Origin, nil
}
