package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// KindEpochEnded records that an epoch reached its keep-time: its key was
// destroyed and its file removed. It is the receipt of mission row 4.4.
const KindEpochEnded core.RecordKind = "epoch-ended"

// EpochKeys destroys the keys of epochs; seal.Keyring does.
type EpochKeys interface {
	Shred(context.Context, seal.Order) (seal.Receipt, error)
}

// Holds is asked before an epoch is destroyed: a legal hold copies aside what
// is in its scope (design, section 5, Legal hold). It is asked again when the
// work was interrupted, and with an error nothing is destroyed yet.
type Holds interface {
	// Guarding reports whether anything at all is guarded.
	Guarding(context.Context) (bool, error)
	BeforeExpiry(context.Context, core.Epoch) error
}

// ExpirerDeps is what an Expirer needs. All but Known is required.
type ExpirerDeps struct {
	Files Partitions
	Late  LateLane
	Keys  EpochKeys
	Holds Holds
	// Settle returns when everything that was sealed before is filed.
	Settle func(context.Context) error
	Update func(context.Context, func(ProjectionTx) error) error
	View   func(context.Context, func(ProjectionTx) error) error
	Now    func() time.Time
	Log    *slog.Logger
	// Trusted is asked with what Now said: whether that time is to be believed
	// where nothing can be undone.
	Trusted func(context.Context, time.Time) (bool, error)
	// Known names epochs that have a key: one that never got a reading has no
	// file, but its key is due all the same.
	Known func(context.Context) ([]core.Epoch, error)
}

// Expirer ends epochs when their keep-time is over.
type Expirer struct{ d ExpirerDeps }

// NewExpirer checks its dependencies.
func NewExpirer(d ExpirerDeps) (*Expirer, error) {
	if d.Files == nil || d.Late == nil || d.Keys == nil || d.Holds == nil || d.Settle == nil || d.Update == nil || d.View == nil || d.Now == nil || d.Log == nil || d.Trusted == nil {
		return nil, errors.New("expirer: Files, Late, Keys, Holds, Settle, Update, View, Now, Log and Trusted are required")
	}
	return &Expirer{d}, nil
}

// maxEnding bounds the epochs that one run ends together: one rotation of the
// keyring serves them all.
const maxEnding = 256

// Expire is the job that ends every epoch whose oldest possible reading has
// reached its keep-time (CC 4.4). For each: the intent is written, nothing is
// filed there any more; the legal holds take what is theirs; the key is
// destroyed; the file is removed; the end is written, with the ledger's
// record of it. A run that was killed anywhere is finished by the next one.
// While the clock is not trusted nothing is begun; what was begun is finished.
// Run it at start and every minute.
func (x *Expirer) Expire(ctx context.Context) error {
	due, err := x.due(ctx)
	if err != nil {
		return fmt.Errorf("expire: %w", err)
	}
	var held []error
	if err := x.settle(ctx, due); err != nil {
		held = append(held, err)
		due = slices.DeleteFunc(due, func(i EpochInfo) bool { return i.State != EpochEnding })
	}
	ready := due[:0]
	for _, i := range due {
		if err := x.prepare(ctx, i); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("expire: %w", err)
			}
			held = append(held, fmt.Errorf("epoch %s: %w", i.Epoch, err))
			continue
		}
		ready = append(ready, i)
	}
	if len(ready) > 0 {
		if err := x.destroy(ctx, ready); err != nil {
			return errors.Join(append(held, fmt.Errorf("expire: %w", err))...)
		}
	}
	if len(held) > 0 {
		return fmt.Errorf("expire: %w", errors.Join(held...))
	}
	return nil
}

// due are the epochs to end, the oldest first: those past their keep-time,
// and those whose end was begun.
func (x *Expirer) due(ctx context.Context) ([]EpochInfo, error) {
	var all []EpochInfo
	err := x.d.View(ctx, func(tx ProjectionTx) (err error) {
		all, err = tx.Epochs(ctx, EpochLive, EpochDamaged, EpochEnding, EpochEnded)
		return err
	})
	if err != nil {
		return nil, err
	}
	known := map[core.Epoch]bool{}
	for _, i := range all {
		known[i.Epoch] = true
	}
	if x.d.Known != nil {
		keys, err := x.d.Known(ctx)
		if err != nil {
			return nil, err
		}
		for _, e := range keys {
			if !known[e] {
				known[e] = true
				all = append(all, EpochInfo{Epoch: e, State: EpochLive})
			}
		}
	}
	now := x.d.Now()
	trusted, err := x.d.Trusted(ctx, now)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(i EpochInfo) bool {
		return i.State == EpochEnded || i.State != EpochEnding && (!trusted || now.Before(i.Epoch.Due()))
	})
	slices.SortFunc(all, func(a, b EpochInfo) int {
		return cmp.Or(cmp.Compare(a.Epoch.Start, b.Epoch.Start), cmp.Compare(a.Epoch.Keep, b.Epoch.Keep))
	})
	return all[:min(len(all), maxEnding)], nil
}

// longSettle bounds the wait for what is still in the journal.
const longSettle = time.Minute

// settle waits until what came for the epochs in due is filed, if a legal hold
// may want it. From then on nothing more comes for them: the intake takes
// nothing for an epoch that is due.
func (x *Expirer) settle(ctx context.Context, due []EpochInfo) error {
	if !slices.ContainsFunc(due, func(i EpochInfo) bool { return i.State != EpochEnding }) {
		return nil
	}
	guarding, err := x.d.Holds.Guarding(ctx)
	if err == nil && guarding {
		ctx, cancel := context.WithTimeout(ctx, longSettle)
		defer cancel()
		err = x.d.Settle(ctx)
	}
	if err != nil {
		return fmt.Errorf("legal hold: %w", err)
	}
	return nil
}

// prepare writes the intent, stops filing, and lets the holds have theirs.
func (x *Expirer) prepare(ctx context.Context, i EpochInfo) error {
	if i.State != EpochEnding {
		err := x.d.Update(ctx, func(tx ProjectionTx) error {
			return tx.PutEpochState(ctx, i.Epoch, EpochEnding, i.Detail, x.d.Now())
		})
		if err != nil {
			return err
		}
	}
	if err := x.d.Files.Freeze(ctx, i.Epoch); err != nil {
		return err
	}
	if err := x.d.Holds.BeforeExpiry(ctx, i.Epoch); err != nil {
		return fmt.Errorf("legal hold: %w", err)
	}
	return nil
}

// destroy ends epochs that are prepared.
func (x *Expirer) destroy(ctx context.Context, ending []EpochInfo) error {
	order := seal.Order{}
	for _, i := range ending {
		order.Epochs = append(order.Epochs, i.Epoch)
	}
	receipt, err := x.d.Keys.Shred(ctx, order)
	if err != nil {
		return fmt.Errorf("destroy epoch keys: %w", err)
	}
	for _, i := range ending {
		if err := x.end(ctx, i, &receipt); err != nil {
			return err
		}
	}
	return nil
}

// end removes one epoch's rows and writes its end.
func (x *Expirer) end(ctx context.Context, i EpochInfo, receipt *seal.Receipt) error {
	if err := x.d.Files.Remove(ctx, i.Epoch); err != nil {
		return err
	}
	// Rows that never got into the file are gone with the key as well.
	fates, waiting, last := newTally(), uint64(0), i.LateCounted
	err := x.d.Late.Take(ctx, i.Epoch, i.LateCounted, math.MaxInt32, func(id uint64, r *Row) error {
		if waiting, last = waiting+1, id; r.First {
			fates.add(CountExpired, "", r.Reading.Product, r.Reading.Subject, r.Reading.Received, 1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	rows := uint64(0)
	err = x.d.Update(ctx, func(tx ProjectionTx) error {
		info, _, err := tx.Epoch(ctx, i.Epoch)
		if err != nil || info.State == EpochEnded { // by another run
			return err
		}
		now := x.d.Now()
		if err := tx.PutEpochState(ctx, i.Epoch, EpochEnded, info.Detail, now); err != nil {
			return err
		}
		if err := fates.write(ctx, tx); err != nil {
			return err
		}
		if err := tx.PutLateCounted(ctx, i.Epoch, last); err != nil {
			return err
		}
		rows = info.Head.Rows
		return tx.Record(ctx, endRecord(&info, waiting, receipt, now))
	})
	if err != nil {
		return fmt.Errorf("write the end of epoch %s: %w", i.Epoch, err)
	}
	x.d.Log.InfoContext(ctx, "an epoch has ended", slog.String("epoch", i.Epoch.String()), slog.Uint64("rows", rows))
	_, err = x.d.Late.Drop(ctx, i.Epoch, last)
	return err
}

func endRecord(i *EpochInfo, late uint64, receipt *seal.Receipt, now time.Time) core.Record {
	n := func(v uint64) string { return strconv.FormatUint(v, 10) }
	return core.Record{
		Time: now.UTC(), Kind: KindEpochEnded, Actor: core.Job("expire"),
		Facts: []core.Fact{
			{Name: "epoch", Value: i.Epoch.String()},
			{Name: "length_seconds", Value: n(uint64(i.Epoch.Length / time.Second))},
			{Name: "due", Value: i.Epoch.Due().Format(time.RFC3339)},
			{Name: "rows", Value: n(i.Head.Rows)},
			{Name: "rows_waiting", Value: n(late)},
			{Name: "batches", Value: n(i.Head.Batches)},
			{Name: "chain", Value: i.Head.Chain.String()},
			{Name: "root_before", Value: n(receipt.Before)},
			{Name: "root_after", Value: n(receipt.After)},
			{Name: "destroys", Value: string(receipt.Destruction.Destroys)},
		},
	}
}
