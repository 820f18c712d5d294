package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// endChecks hold that what is over is gone: by its time (CC 4.4), and by its
// owner's word (CC 4.8).
func (s *server) endChecks() []check.Check {
	ran, final := &ended{s: s}, &erased{s: s}
	return []check.Check{
		{
			ID: "expiry.ran", Version: 1, Rows: []string{"4.4"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 4.4
			Says: "No key, file or waiting row of an epoch is there after its keep-time, and the end of each stands in the ledger. Without its key no backup of it opens.",
			Do:   "`hawser doctor` says why expiry does not run; a wrong clock is confirmed with `hawser clock confirm`.",
			Look: ran.look,
			Violations: []check.Violation{
				{ID: "file-put-back", Says: "Puts a file of an epoch that is long over back into the data folder.", Do: own(putBack)},
				{ID: "expiry-held", Says: "Holds the expiry job, and lets the keep-time of a product that keeps for an hour pass.", Do: own(holdExpiry)},
			},
		},
		{
			ID: "erasure.final", Version: 1, Rows: []string{"4.8"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 4.8
			Says: "Nobody of whom the ledger has the receipt of an erasure has a key, a count, or a device.",
			Do:   "`hawser device erase` the device again; find out who writes to control.db, and whether an old keyring was brought back.",
			Look: final.look,
			Violations: []check.Violation{
				{ID: "owner-put-back", Says: "Writes into control.db whose device it was, after its owner was erased.", Do: own(ownAgain)},
				{ID: "counts-put-back", Says: "Writes the counts of somebody who was erased back into control.db.", Do: own(countAgain)},
				{ID: "key-made-again", Says: "Gives somebody who was erased a key again.", Do: own(keyAgain)},
			},
		},
	}
}

// expiryGrace is what the expiry job has to come to an epoch that is due, and
// to end it: it runs each minute.
const expiryGrace = 3 * time.Minute

// ended compares what is left of epochs with the time.
type ended struct {
	s *server

	mu       sync.Mutex // guards what follows
	receipts map[string]bool
	next     uint64
}

func (x *ended) look(ctx context.Context, l *check.Look) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	left := map[core.Epoch][]string{}
	note := func(what string, all []core.Epoch) {
		for _, e := range all {
			k := core.Epoch{Keep: e.Keep, Start: e.Start} // the length is not in a name
			left[k] = append(left[k], what)
		}
	}
	var open, over []core.Epoch
	err := view[telemetry.ProjectionTx](x.s.store)(ctx, func(tx telemetry.ProjectionTx) error {
		all, err := tx.Epochs(ctx, telemetry.EpochLive, telemetry.EpochDamaged, telemetry.EpochEnding, telemetry.EpochEnded)
		for _, i := range all {
			if i.State == telemetry.EpochEnded {
				over = append(over, i.Epoch)
			} else {
				open = append(open, i.Epoch)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	note("key", x.s.ring.Epochs())
	note("row in control.db", open)
	l.Touch("table", "control.db: telemetry_epoch")
	l.Touch("keyring", "epochs")
	l.Expect("epochs that have a key, and those that control.db says have not ended", len(left))
	counted := len(left)
	files, err := x.s.telem.files.Names(ctx)
	if err != nil {
		return err
	}
	note("file", files)
	l.Touch("folder", "data/telemetry")
	late, err := x.s.telem.late.Waiting(ctx)
	if err != nil {
		return err
	}
	for _, w := range late {
		note("waiting rows", []core.Epoch{w.Epoch})
	}
	l.Touch("table", "late lane: waiting")
	l.Expect("", len(left)-counted)
	for e, what := range left {
		if due := e.Due(); l.Now.After(due.Add(expiryGrace)) {
			l.Fail(e.String(), "was due on %s; still there: %s", due.Format(time.RFC3339), strings.Join(what, ", "))
		} else {
			l.Pass(1)
		}
	}
	return x.recorded(ctx, l, over)
}

// recorded holds that the end of each epoch stands in the ledger.
func (x *ended) recorded(ctx context.Context, l *check.Look, over []core.Epoch) error {
	if err := x.s.sequenced(ctx); err != nil {
		return err
	}
	if x.receipts == nil {
		x.receipts = map[string]bool{}
	}
	all, err := x.s.recordsOf(ctx, telemetry.KindEpochEnded, x.next, 1<<62)
	if err != nil {
		return err
	}
	for i := range all {
		x.receipts[factOf(&all[i].Record, "epoch")] = true
		x.next = all[i].Position + 1
	}
	l.Touch("source", "ledger, records of kind "+string(telemetry.KindEpochEnded))
	l.Expect("", len(over))
	for _, e := range over {
		l.Holds(x.receipts[e.String()], e.String(), "has ended, and the ledger does not say so")
	}
	return nil
}

// putBack puts a copy of a file under the name of an epoch that is long over.
func putBack(ctx context.Context, t *twin) (func(context.Context) error, error) {
	f, err := t.firstRow(ctx, "temp")
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(t.Data(), f.db))
	if err != nil {
		return nil, err
	}
	return t.inData(filepath.Join(filepath.Dir(f.db), "20200101T000000Z.db"), b)
}

// shortDeclaration is a product that keeps for an hour.
func shortDeclaration() string {
	r := strings.NewReplacer("product: twin-sensor", "product: twin-short", "name: Twin Sensor", "name: Twin Short", "keep: 30d", "keep: 1h", "keep: 10d", "keep: 1h")
	return r.Replace(twinDeclaration)
}

func holdExpiry(ctx context.Context, t *twin) (func(context.Context) error, error) {
	if err := t.Call(ctx, "POST", "/v1/declarations", api.PublishRequest{File: "short.yaml", Source: shortDeclaration()}, nil); err != nil {
		return nil, err
	}
	release, err := t.Hook("job:expiry")
	if err != nil {
		return nil, err
	}
	if err := t.s.intake.Prepare(ctx); err != nil { // the job that makes epoch keys has its minute to come
		return nil, errors.Join(err, undone(release))
	}
	t.Advance(2 * time.Hour)
	return func(context.Context) error { release(); return nil }, nil
}

func undone(release func()) error { release(); return nil }

// Of the erasures, each look takes the newest and the next ones in turn.
const (
	newErasures  = 100
	turnErasures = 200
)

// erased looks for what is left of those who were erased.
type erased struct {
	s *server

	mu   sync.Mutex     // guards what follows
	all  []core.Subject // by their receipts, oldest first
	next uint64         // position of the ledger to go on from
	turn turn
	odd  []core.Subject
}

func (x *erased) look(ctx context.Context, l *check.Look) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.s.sequenced(ctx); err != nil {
		return err
	}
	found, err := x.s.recordsOf(ctx, telemetry.RecordErased, x.next, 1<<62)
	if err != nil {
		return err
	}
	for i := range found {
		x.all = append(x.all, found[i].Record.Subject)
		x.next = found[i].Position + 1
	}
	l.Touch("source", "ledger, records of kind "+string(telemetry.RecordErased))
	n := uint64(len(x.all))
	recent := n - min(n, newErasures)
	from, to := x.turn.next(recent, turnErasures)
	some := slices.Concat(x.odd, x.all[recent:], x.all[from:to])
	l.Expect("receipts of erasures: the newest 100, and 200 others in turn", len(some))
	l.Touch("keyring", "subjects")
	l.Touch("table", "control.db: every table that an eraser empties")
	x.odd = nil
	epochs := x.s.ring.Epochs()
	err = x.s.store.View(ctx, func(tx *store.Tx) error {
		for _, s := range some {
			left, err := tx.SubjectTraces(ctx, s)
			if err != nil {
				return err
			}
			if x.s.ring.Has(s) {
				left = append(left, "keyring")
			}
			if len(epochs) > 0 {
				if _, err := x.s.ring.Lease(s, epochs[len(epochs)-1]); !errors.Is(err, seal.ErrNoKey) {
					left = append(left, "a lease on its key")
				}
			}
			if len(left) > 0 && !slices.Contains(x.odd, s) && len(x.odd) < newErasures {
				x.odd = append(x.odd, s)
			}
			l.Holds(len(left) == 0, s.String(), "was erased, and stands in: %s", strings.Join(left, ", "))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for the erased: %w", err)
	}
	return nil
}

var erasedRecords = ledger.Filter{Kind: telemetry.RecordErased}

func ownAgain(ctx context.Context, t *twin) (func(context.Context) error, error) {
	s, err := t.erasedSubject(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
			return t.Exec(ctx, "control.db", `DELETE FROM ownership WHERE subject = ?`, s[:])
		}, t.Exec(ctx, "control.db", `INSERT INTO ownership (subject, device, actor_kind, actor_id, opened_us, done)
			SELECT ?, id, 'job', 'nobody', added_us, 1 FROM device WHERE id NOT IN (SELECT device FROM ownership) LIMIT 1`, s[:])
}

func countAgain(ctx context.Context, t *twin) (func(context.Context) error, error) {
	s, err := t.erasedSubject(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
			return t.Exec(ctx, "control.db", `DELETE FROM telemetry_subject WHERE subject = ?`, s[:])
		}, t.Exec(ctx, "control.db", `INSERT INTO telemetry_subject (subject, product, accepted, stored, duplicates, dropped_fields, refused, last_ms)
			VALUES (?, ?, 1, 1, 0, 0, 0, 0)`, s[:], string(check.TwinProduct))
}

func keyAgain(ctx context.Context, t *twin) (func(context.Context) error, error) {
	s, err := t.erasedSubject(ctx)
	if err != nil {
		return nil, err
	}
	t.Touch("keyring", s.String())
	return func(ctx context.Context) error {
		_, err := t.s.ring.Shred(ctx, seal.Order{Subjects: []core.Subject{s}})
		return err
	}, t.s.ring.AddSubject(ctx, s)
}
