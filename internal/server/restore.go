package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// RestoreOptions are what Restore needs beside the configuration.
type RestoreOptions struct {
	From string // the folder of the backup
	// Progress, if given, is told how many bytes of how many are copied.
	Progress func(done, total int64)

	step func(string) // tests only: ends the process after an effect on disk
}

// Restore makes the data folder that the configuration names from a backup,
// the newest keyring and the root (design, section 5, Roots and backups). It
// refuses, naming the missing generation, where the keyring is older than the
// backup. The ledger begins a new origin that commits to the last checkpoint
// that is known and says what was lost; who was erased since the backup is
// erased in it again. All of that is done before the folder takes its place.
// Then the new origin's head is signed, and kept outside: not before, because
// until then the kept checkpoint is the old folder's. A process that is killed
// leaves everything as it was or the finished folder, whose first signature the
// server makes up for.
func Restore(ctx context.Context, c *Config, o RestoreOptions) (out *api.Restored, err error) {
	if o.step == nil {
		o.step = func(string) {}
	}
	if c.Store != "" {
		return nil, core.E(core.Invalid, "restore-postgres", "a backup is restored to files, not to a database", "take the key `store` out of config.yaml, restore, put it in again, and move what was restored with `hawser migrate --to postgres`")
	}
	m, err := store.ReadManifest(o.From)
	if err != nil {
		return nil, err
	}
	keys, err := openKeyPlaces(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, keys.close()) }()
	// The keyring has one owner: no server and no other restore runs beside.
	ring, err := seal.Open(ctx, seal.Options{Copies: c.Keyring, Roots: keys.roots, Now: time.Now})
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
	key, err := ledger.LoadKey(c.LedgerKey)
	if err != nil {
		return nil, err
	}
	r := restoring{c: c, key: key, ring: ring, step: o.step}
	r.lost = fmt.Sprintf("restored from the backup of %s; readings and records made after it are gone", m.Created.UTC().Format(time.RFC3339))
	if _, err := store.Restore(ctx, store.RestoreOptions{
		From: o.From, To: c.Data, Finish: r.finish, Progress: o.Progress, Step: o.step,
	}); err != nil {
		return nil, err
	}
	// From here on the restore has happened, whoever interrupts.
	if err := r.sign(context.WithoutCancel(ctx)); err != nil {
		return nil, &core.Error{
			Kind: core.Unready, Reason: "restored-unsigned", Err: err,
			Message: "the data is restored, but the ledger's new checkpoint is not signed and kept: " + err.Error(),
			Hint:    "see to the folder of the key `checkpoint`; the server signs when it runs",
		}
	}
	o.step("signed")
	return &api.Restored{
		Folder: c.Data, Files: len(m.Files), Generation: have.Generation, BackupGeneration: m.Keyring.Generation,
		Origin: r.origin, BackupTime: m.Created, ErasedAgain: r.again,
	}, nil
}

// restoring is a restore under way.
type restoring struct {
	c    *Config
	key  ledger.Key
	ring *seal.Keyring
	lost string // as the ledger says it
	step func(string)

	origin string
	again  int
}

// finish does what a restored folder needs before anybody may see it.
func (r *restoring) finish(ctx context.Context, dir string) (err error) {
	st, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	d, err := ledgerOf(ctx, r.c, st, r.key, time.Now)
	if err != nil {
		return err
	}
	if r.origin, err = ledger.BeginOrigin(ctx, d, core.Job("restore"), r.lost); err != nil {
		return err
	}
	r.step("origin begun")
	r.again, err = eraseAgain(ctx, st, dir, r.ring)
	if err != nil {
		return err
	}
	r.step("erased again")
	return nil
}

// sign signs the head of the folder in its place and keeps it outside.
func (r *restoring) sign(ctx context.Context) (err error) {
	st, err := store.Open(ctx, store.Options{Dir: r.c.Data})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	d, err := ledgerOf(ctx, r.c, st, r.key, time.Now)
	if err != nil {
		return err
	}
	l, err := ledger.Open(ctx, d)
	if err != nil {
		return err
	}
	_, err = l.Checkpoint(ctx)
	return err
}

// eraseAgain unlinks whom the backup still knows although the keyring does not:
// they were erased after it was taken.
func eraseAgain(ctx context.Context, st *store.Store, dir string, ring *seal.Keyring) (n int, err error) {
	late, err := store.OpenLateLane(ctx, store.EpochFilesOptions{Dir: filepath.Join(dir, "telemetry"), Now: time.Now})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, late.Close()) }()
	eraser := func(name string, erase func(*store.Tx, context.Context, core.Subject) error) telemetry.Eraser {
		return telemetry.Eraser{Name: name, Erase: func(ctx context.Context, subject core.Subject) error {
			return st.Update(ctx, func(tx *store.Tx) error { return erase(tx, ctx, subject) })
		}}
	}
	return telemetry.EraseAgain(ctx, telemetry.EraseAgainDeps{
		Update: update[telemetry.EraseAgainTx](st), View: view[telemetry.EraseAgainTx](st), Has: ring.Has, Now: time.Now,
		Waiting: late.Subjects,
		Erasers: scrubbed(st, []telemetry.Eraser{
			eraser("commands", (*store.Tx).ForgetCommands), eraser("counts", (*store.Tx).ForgetCounts), eraser("ownership", endOwnership), eraser("person", (*store.Tx).ForgetPerson),
		}),
	})
}

// endOwnership unlinks a subject, if anything links it.
func endOwnership(tx *store.Tx, ctx context.Context, subject core.Subject) error {
	o, err := tx.OwnershipOf(ctx, subject)
	if err != nil || o == nil {
		return err
	}
	if err := identity.EndLinks(ctx, tx, o.Device, time.Now()); err != nil {
		return err
	}
	return tx.DeleteOwnership(ctx, subject)
}

// ledgerOf is what the ledger of an open data folder needs.
func ledgerOf(ctx context.Context, c *Config, st *store.Store, key ledger.Key, now func() time.Time) (d ledger.Deps, err error) {
	var inst store.Installation
	err = st.View(ctx, func(tx *store.Tx) error {
		inst, err = tx.Installation(ctx)
		return err
	})
	return ledgerDeps(c, st, inst, key, now, nil), err
}

// NewOrigin begins a new origin of the ledger of a data folder that no server
// uses, and gives its name.
func NewOrigin(ctx context.Context, c *Config, lost string) (origin string, err error) {
	if err := installed(ctx, c); err != nil {
		return "", err
	}
	key, err := ledger.LoadKey(c.LedgerKey)
	if err != nil {
		return "", err
	}
	st, err := store.Open(ctx, storeOf(c))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	d, err := ledgerOf(ctx, c, st, key, time.Now)
	if err != nil {
		return "", err
	}
	l, err := ledger.NewOrigin(ctx, d, core.Job("restore"), lost)
	if err != nil {
		return "", err
	}
	return l.Status().Origin, nil
}
