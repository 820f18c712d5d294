package server

import (
	"context"
	"fmt"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// recordBackedUp is the record of a backup.
const recordBackedUp core.RecordKind = "backup-written"

// Backup writes a consistent copy of the data to a new folder and records that
// it did: a copy that nobody knows of is a leak.
func (r running) Backup(ctx context.Context, by core.Actor, to string, progress func(done, total int64)) (api.Backup, error) {
	s := r.s
	var readings *store.BackupReadings
	if s.c.Store != "" {
		readings = &store.BackupReadings{Files: s.telem.files, Late: s.telem.late, Kept: s.telem.kept}
	}
	m, err := s.store.Backup(ctx, store.BackupOptions{
		To: to, Readings: readings, Settle: s.settle, Keyring: s.ring.State, Now: s.opt.Now, Progress: progress,
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
