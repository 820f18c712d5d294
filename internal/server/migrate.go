package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// recordMoved is the record of a move to another store.
const recordMoved core.RecordKind = "store-moved"

// migratePatience bounds one statement of a move: it may read a whole table.
const migratePatience = 12 * time.Hour

// MigrateOptions say what Migrate does.
type MigrateOptions struct {
	To string // postgres or sqlite
	// WithoutDamaged leaves partitions behind that were put aside as damaged.
	// Without it they are in the way.
	WithoutDamaged bool
	// Progress, if given, is told how far which stage is.
	Progress func(stage string, done, total int64)

	step func(string) error // tests only: ends the move after an effect
}

// Migrated is what a move did.
type Migrated struct {
	From       string            `json:"from"`
	To         string            `json:"to"`
	Tables     []store.TableCopy `json:"tables"` // of the control database, compared value by value
	Rows       int64             `json:"rows"`   // of all tables
	Partitions int               `json:"partitions"`
	Readings   uint64            `json:"rows_of_readings"` // compared with roots and chains
	Waiting    uint64            `json:"rows_in_the_late_lane"`
	Holds      int               `json:"holds"`
	Ledger     uint64            `json:"ledger_entries"` // verified there
	Left       []string          `json:"left_behind,omitempty"`
	Aside      string            `json:"put_aside,omitempty"` // where an older store of files lies now
}

// Migrate moves everything from one store to the other: the control database,
// the readings, what waits in the late lane and what legal holds keep. The
// journal and the keys stay where they are. No server may run. Everything is
// compared on the other side, and the ledger verified there, before the source
// is marked as moved; it is left as it was otherwise. A move that was
// interrupted is taken up by the next one; until it is finished no server begins
// on the target, and once it is none begins on the source.
func Migrate(ctx context.Context, c *Config, o MigrateOptions) (out *Migrated, err error) {
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if c.Store == "" {
		return nil, core.E(core.Invalid, "no-store", "config.yaml does not say which PostgreSQL database", "name it with the key `store`; it is the target with --to postgres, and the source with --to sqlite")
	}
	m := migration{c: c, o: o}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.open(ctx); err != nil {
		if errors.Is(err, store.ErrInUse) {
			return nil, &core.Error{Kind: core.Conflict, Reason: "data-in-use", Message: "a server runs on one of the stores", Hint: "stop it first: nothing may change while everything is moved", Err: err}
		}
		return nil, err
	}
	done, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	if !done {
		if err := m.copy(ctx); err != nil {
			return nil, err
		}
	}
	return &m.out, m.finish(ctx)
}

// migration is a move under way.
type migration struct {
	c        *Config
	o        MigrateOptions
	src, dst *store.Store
	from, to telemetryStores
	out      Migrated
}

// files is the configuration of the store of files.
func (m *migration) files() *Config {
	c := *m.c
	c.Store, c.StorePasswordFile = "", ""
	return &c
}

func (m *migration) open(ctx context.Context) (err error) {
	there, here := storeOf(m.c), storeOf(m.files())
	there.Moved, here.Moved = true, true
	there.Postgres.Patience = migratePatience
	switch m.o.To {
	case "postgres":
		if err := installed(ctx, m.files()); err != nil {
			return err
		}
		if m.src, err = store.Open(ctx, here); err == nil {
			m.dst, err = m.src.Beside(ctx, there)
		}
	case "sqlite":
		if err := installed(ctx, m.c); err != nil {
			return err
		}
		if m.src, err = store.Open(ctx, there); err == nil {
			if err = m.putAside(ctx, here); err == nil {
				m.dst, err = m.src.Beside(ctx, here)
			}
		}
	default:
		return core.E(core.Invalid, "engine", "a store is either postgres or sqlite", "give --to postgres or --to sqlite")
	}
	if err == nil {
		m.out.From, m.out.To = m.src.Name(), m.dst.Name()
	}
	return err
}

// putAside makes room for files where an older store of files lies, from which
// everything was moved.
func (m *migration) putAside(ctx context.Context, here store.Options) error {
	if _, err := os.Stat(filepath.Join(m.c.Data, "control.db")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	old, err := m.src.Beside(ctx, here)
	if err != nil {
		return err
	}
	moved, _, err := old.Moved(ctx)
	if err = errors.Join(err, old.Close()); err != nil || moved == "" {
		return err // begin says what is wrong
	}
	aside := filepath.Join(m.c.Data, "moved-"+time.Now().UTC().Format("20060102T150405Z"))
	if err := os.Mkdir(aside, 0o700); err != nil {
		return fmt.Errorf("put the older store aside: %w", err)
	}
	// The control database goes first: without it the rest is no store.
	for _, name := range []string{"control.db", "control.db-wal", "control.db-shm", "telemetry", "hold"} {
		if err := os.Rename(filepath.Join(m.c.Data, name), filepath.Join(aside, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put the older store aside: %w", err)
		}
	}
	m.out.Aside = aside
	return os.Mkdir(filepath.Join(m.c.Data, "telemetry"), 0o700)
}

// begin looks at what both stores say of themselves. done says that everything
// is there already and only the marks are missing.
func (m *migration) begin(ctx context.Context) (done bool, err error) {
	movedTo, arrivingThere, err := m.src.Moved(ctx)
	if err != nil {
		return false, err
	}
	dstMoved, arrivingHere, err := m.dst.Moved(ctx)
	if err != nil {
		return false, err
	}
	full, err := holds(ctx, m.dst)
	if err != nil {
		return false, err
	}
	switch {
	case arrivingThere:
		return false, core.E(core.Conflict, "store-arriving", "an earlier move to "+m.out.From+" was not finished", "finish that one first, with the other --to")
	case dstMoved != "":
		return false, core.E(core.Conflict, "not-empty", m.out.To+" holds what was moved away from it", "name a new, empty database")
	case movedTo != "" && arrivingHere && full:
		return true, nil
	case movedTo != "":
		return false, core.E(core.Conflict, "store-moved", "everything was moved away from "+m.out.From+" already", "there is nothing left to do")
	case full && !arrivingHere:
		return false, core.E(core.Conflict, "not-empty", m.out.To+" holds an installation of its own", "name an empty database; a move never overwrites anything")
	}
	if err := m.dst.MarkArriving(ctx); err != nil {
		return false, err
	}
	return false, m.o.step("arriving")
}

// holds reports whether a store holds an installation.
func holds(ctx context.Context, st *store.Store) (full bool, err error) {
	err = st.View(ctx, func(tx *store.Tx) error {
		_, err := tx.Installation(ctx)
		if core.KindOf(err) == core.Unready {
			return nil
		}
		full = err == nil
		return err
	})
	return full, err
}

func (m *migration) copy(ctx context.Context) (err error) {
	sides := []struct {
		at *telemetryStores
		c  *Config
	}{{&m.from, m.files()}, {&m.to, m.c}}
	if m.o.To == "sqlite" {
		sides[0].c, sides[1].c = sides[1].c, sides[0].c
	}
	for _, s := range sides {
		if *s.at, err = openTelemetryStores(ctx, s.c, m.src.For(m.dst.For(s.c.postgres())), time.Now); err != nil {
			return err
		}
	}
	if err := m.forgetOlder(ctx); err != nil {
		return err
	}
	if err := m.copyReadings(ctx); err != nil {
		return err
	}
	m.o.Progress("legal holds", 0, 1)
	var kept []telemetry.HoldRow
	if err := m.src.View(ctx, func(tx *store.Tx) (err error) { kept, err = tx.Holds(ctx); return err }); err != nil {
		return err
	}
	for _, h := range kept {
		if _, err := telemetry.CopyHold(ctx, m.from.kept, m.to.kept, h.ID); err != nil {
			return err
		}
		m.out.Holds++
	}
	if err := m.o.step("holds"); err != nil {
		return err
	}
	return m.copyControl(ctx)
}

// forgetOlder removes from the target what a move that was interrupted brought
// there and the source, which may have lived on, has no more.
func (m *migration) forgetOlder(ctx context.Context) error {
	have, err := m.from.files.List(ctx)
	if err != nil {
		return err
	}
	there, err := m.to.files.List(ctx)
	if err != nil {
		return err
	}
	for _, e := range there {
		if slices.ContainsFunc(have, func(h core.Epoch) bool { return h.Keep == e.Keep && h.Start == e.Start }) {
			continue // the rest of it is copied
		}
		if err := errors.Join(m.to.files.Freeze(ctx, e), m.to.files.Remove(ctx, e)); err != nil {
			return err
		}
	}
	waiting, err := m.to.late.Waiting(ctx)
	if err != nil {
		return err
	}
	last, err := m.to.late.Last(ctx)
	if err != nil {
		return err
	}
	for _, w := range waiting {
		if _, err := m.to.late.Drop(ctx, w.Epoch, last); err != nil {
			return err
		}
	}
	var kept []telemetry.HoldRow
	if err := m.dst.View(ctx, func(tx *store.Tx) (err error) { kept, err = tx.Holds(ctx); return err }); err != nil {
		return err
	}
	for _, h := range kept {
		if err := m.to.kept.Remove(ctx, h.ID); err != nil {
			return err
		}
	}
	return nil
}

func (m *migration) copyReadings(ctx context.Context) error {
	damaged := map[core.Epoch]bool{}
	for _, b := range m.from.files.Broken() {
		if !m.o.WithoutDamaged {
			return &core.Error{Kind: core.Conflict, Reason: "damaged", Message: b.Error(), Hint: "restore it from a backup first, or leave it behind with --without-damaged", Err: &b}
		}
		damaged[b.Epoch] = true
		m.out.Left = append(m.out.Left, b.Aside)
	}
	all, err := m.from.files.List(ctx)
	if err != nil {
		return err
	}
	var total, done uint64
	for _, e := range all {
		x, _, err := m.from.files.Extent(ctx, e)
		if err != nil && !damaged[e] {
			return err
		}
		total += x.Head.Rows
	}
	for _, e := range all {
		if damaged[e] {
			continue
		}
		x, err := telemetry.CopyPartition(ctx, m.from.files, m.to.files, e)
		if err != nil {
			return err
		}
		v, err := telemetry.VerifyAlone(ctx, m.to.files, e, x.Head)
		if err == nil && !v.OK() {
			err = core.E(core.Conflict, "copy-differs", fmt.Sprintf("partition %s is not what was copied", e), "nothing was marked as moved; look at both stores, and begin again with an empty one")
		}
		if err != nil {
			return err
		}
		done += x.Head.Rows
		m.out.Partitions++
		m.o.Progress("readings", int64(done), int64(total))
		if err := m.o.step("partition"); err != nil {
			return err
		}
	}
	m.out.Readings = done
	if m.out.Waiting, err = telemetry.CopyLane(ctx, m.from.late, m.to.late); err != nil {
		return err
	}
	return m.o.step("late lane")
}

func (m *migration) copyControl(ctx context.Context) (err error) {
	full, err := holds(ctx, m.dst)
	if err != nil {
		return err
	}
	if full { // a move before this one came so far
		m.out.Tables, err = store.SameControl(ctx, m.src, m.dst)
	}
	if full && core.ReasonOf(err) == "copy-differs" { // and the source lived on since
		full, err = false, store.EmptyControl(ctx, m.src, m.dst)
	}
	if !full && err == nil {
		m.out.Tables, err = store.CopyControl(ctx, m.src, m.dst, func(done, total int) {
			m.o.Progress("control database", int64(done), int64(total))
		})
	}
	if err != nil {
		return err
	}
	for _, t := range m.out.Tables {
		m.out.Rows += t.Rows
	}
	if err := m.o.step("control"); err != nil {
		return err
	}
	return m.verifyLedger(ctx)
}

// verifyLedger reads the whole ledger out of the target and verifies it with the
// code that shares nothing with it, against the checkpoint that is kept outside.
func (m *migration) verifyLedger(ctx context.Context) error {
	m.o.Progress("ledger", 0, 1)
	key, err := ledger.LoadKey(m.c.LedgerKey)
	if err != nil {
		return err
	}
	d, err := ledgerOf(ctx, m.c, m.dst, key, time.Now)
	if err != nil {
		return err
	}
	l, err := ledger.Open(ctx, d)
	if err != nil {
		return err
	}
	earlier, err := os.ReadFile(m.c.Checkpoint)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the kept checkpoint: %w", err)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(l.Export(ctx, w)) }()
	report, err := verify.Log(r, verify.Options{Earlier: earlier})
	_ = r.Close() // ends the export, if it has not ended
	if err != nil {
		return fmt.Errorf("verify the ledger where it was moved to: %w", err)
	}
	if !report.OK() {
		return core.E(core.Conflict, "ledger-refuted", "the ledger does not verify where it was moved to: "+report.Faults[0].String(), "nothing was marked as moved; verify the source with `hawser ledger export` and `hawser ledger verify`")
	}
	for _, o := range report.Origins {
		m.out.Ledger += o.Entries
	}
	return m.o.step("ledger")
}

// finish lets servers begin on the target, and on the source no more. Between
// the two steps none begins on either.
func (m *migration) finish(ctx context.Context) error {
	now := time.Now().UTC()
	if err := m.src.MarkMoved(ctx, m.out.To, now); err != nil {
		return err
	}
	if err := m.o.step("source marked"); err != nil {
		return err
	}
	return m.dst.Update(ctx, func(tx *store.Tx) error {
		if err := tx.Arrived(ctx); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{
			Time: now, Kind: recordMoved, Actor: core.Job("migrate"),
			Facts: []core.Fact{{Name: "engine", Value: m.o.To}, {Name: "left_behind", Value: fmt.Sprint(len(m.out.Left))}},
		})
	})
}

func (m *migration) close() error {
	errs := []error{m.from.close(), m.to.close()}
	for _, st := range []*store.Store{m.dst, m.src} {
		if st != nil {
			errs = append(errs, st.Close())
		}
	}
	return errors.Join(errs...)
}
