package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// BackupReadings are where the readings are that belong to a control database
// in PostgreSQL.
type BackupReadings struct {
	Files telemetry.Movable
	Late  telemetry.MovableLane
	Kept  telemetry.HoldFiles
}

const (
	backupPatience = 12 * time.Hour // for reading a whole table
	backupTries    = 3              // for the copy of a hold that grows meanwhile
)

// fromPG writes what PostgreSQL holds as the files of the embedded engine, by
// the code that moves everything there. The order is that of a backup of files,
// and for the same reason.
func (b *backup) fromPG(ctx context.Context, o *BackupOptions) (err error) {
	po := b.s.pg.o
	po.Patience, po.MaxConns = backupPatience, 2
	pool, err := OpenPG(ctx, po)
	if err != nil {
		return err
	}
	defer pool.Close()
	from := &Store{dir: b.s.dir, pg: &pgControl{o: po, rpool: pool, r: stdlib.OpenDBFromPool(pool), lost: b.s.pg.lost}}
	defer func() { err = errors.Join(err, from.pg.r.Close()) }()
	if err := os.Mkdir(filepath.Join(o.To, "telemetry"), 0o700); err != nil {
		return err
	}
	to, err := openStore(ctx, Options{Dir: o.To}, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := CopyControl(ctx, from, to, nil); err != nil {
		return err
	}
	fo := EpochFilesOptions{Dir: filepath.Join(o.To, "telemetry"), Now: o.Now}
	late, err := OpenLateLane(ctx, fo)
	if err != nil {
		return err
	}
	_, err = telemetry.CopyLane(ctx, o.Readings.Late, late)
	if err = errors.Join(err, late.Close()); err != nil {
		return err
	}
	if err := b.partitionsFromPG(ctx, o, fo); err != nil {
		return err
	}
	return holdsFromPG(ctx, o, to)
}

func (b *backup) partitionsFromPG(ctx context.Context, o *BackupOptions, fo EpochFilesOptions) (err error) {
	files, err := OpenEpochFiles(fo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	all, err := o.Readings.Files.List(ctx)
	if err != nil {
		return err
	}
	for i, e := range all {
		_, err := telemetry.CopyPartition(ctx, o.Readings.Files, files, e)
		_, broken := telemetry.AsBroken(err)
		if err != nil && !broken && core.ReasonOf(err) != "no-epoch-file" { // its epoch has ended
			return err
		}
		if b.progress != nil {
			b.progress(int64(i+1), int64(len(all)))
		}
	}
	return nil
}

func holdsFromPG(ctx context.Context, o *BackupOptions, to *Store) error {
	var all []telemetry.HoldRow
	if err := to.View(ctx, func(tx *Tx) (err error) { all, err = tx.Holds(ctx); return err }); err != nil {
		return err
	}
	if len(all) == 0 {
		return nil
	}
	kept, err := OpenHoldFiles(filepath.Join(o.To, "hold"))
	if err != nil {
		return err
	}
	for _, h := range all {
		for try := 1; ; try++ {
			_, err := telemetry.CopyHold(ctx, o.Readings.Kept, kept, h.ID)
			if err == nil {
				break
			}
			if try == backupTries {
				return err
			}
		}
	}
	return nil
}

// sealFromPG lists the files that fromPG wrote, each made durable.
func (b *backup) sealFromPG() error {
	return filepath.WalkDir(b.to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == b.to {
			return err
		}
		rel, err := filepath.Rel(b.to, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			b.names = append(b.names, rel)
			return nil
		}
		if !strings.HasSuffix(path, ".db") {
			return fmt.Errorf("%s: what is that doing in a backup?", rel)
		}
		f := BackupFile{Path: filepath.ToSlash(rel)}
		var sum core.Hash
		f.Bytes, sum, err = sealCopy(path)
		f.SHA256 = sum.String()
		b.files = append(b.files, f)
		return err
	})
}

// discardFromPG removes what an unfinished backup has written into its folder,
// which was empty before.
func (b *backup) discardFromPG() {
	ents, err := os.ReadDir(b.to)
	if err != nil {
		return
	}
	for _, e := range ents {
		_ = os.RemoveAll(filepath.Join(b.to, e.Name())) // as far as it goes: without a manifest it is no backup
	}
}
