package server

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"time"

	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// telemetryStores are where readings are kept: files of the data folder, or the
// database that the key `store` names.
type telemetryStores struct {
	files interface {
		telemetry.Movable
		io.Closer
	}
	late interface {
		telemetry.MovableLane
		io.Closer
	}
	kept telemetry.HoldFiles
	pool io.Closer // nil with files
}

// openTelemetryStores is the one place that chooses. What is open when it
// fails is closed.
func openTelemetryStores(ctx context.Context, c *Config, po store.PGOptions, now func() time.Time) (t telemetryStores, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
			t = telemetryStores{}
		}
	}()
	if c.Store == "" {
		o := store.EpochFilesOptions{Dir: filepath.Join(c.Data, "telemetry"), Now: now}
		files, err := store.OpenEpochFiles(o)
		if err != nil {
			return t, err
		}
		t.files = files
		late, err := store.OpenLateLane(ctx, o)
		if err != nil {
			return t, err
		}
		t.late = late
		kept, err := store.OpenHoldFiles(filepath.Join(c.Data, "hold"))
		if err != nil {
			return t, err
		}
		t.kept = kept
		return t, nil
	}
	po.App = "hawser telemetry"
	pool, err := store.OpenPG(ctx, po)
	if err != nil {
		return t, err
	}
	t.pool = closerOf(pool.Close)
	o := store.PGEpochsOptions{Pool: pool, Now: now}
	files, err := store.OpenPGEpochs(ctx, o)
	if err != nil {
		return t, err
	}
	t.files = files
	late, err := store.OpenPGLateLane(ctx, o)
	if err != nil {
		return t, err
	}
	t.late, t.kept = late, store.OpenPGHolds(pool)
	return t, nil
}

// closerOf makes an io.Closer of what cannot fail to close.
type closerOf func()

func (c closerOf) Close() error {
	c()
	return nil
}

func (t *telemetryStores) close() error {
	var errs []error
	if t.late != nil {
		errs = append(errs, t.late.Close())
	}
	if t.files != nil {
		errs = append(errs, t.files.Close())
	}
	if t.pool != nil {
		errs = append(errs, t.pool.Close())
	}
	return errors.Join(errs...)
}
