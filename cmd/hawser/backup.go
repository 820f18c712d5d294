package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/server"
)

func backupCommands() []*command {
	return []*command{
		{
			name: "backup", args: "FOLDER", nargs: [2]int{1, 1},
			short: "write a backup of the data to a new folder",
			long: `Writes a consistent backup of the data folder to a new folder while the server
runs. It holds no keyring and no root: by itself it opens nothing. Keep the newest
keyring and root apart from it; a restore needs all three. One that is interrupted
leaves no half of a backup behind.`,
			example: "hawser backup /mnt/backups/2026-11-22",
			run: func(ctx context.Context, e *env) error {
				to, err := filepath.Abs(e.args[0])
				if err != nil {
					return fmt.Errorf("find folder %s: %w", e.args[0], err)
				}
				c, err := e.client()
				if err != nil {
					return err
				}
				var out api.Backup
				p := e.progress("backup")
				err = c.Long(ctx, "POST", "/v1/backup", api.BackupRequest{To: to}, &out, p.share)
				p.end()
				if err != nil {
					return err
				}
				return e.print(out, func(w io.Writer) {
					fmt.Fprintf(w, "backup in %s: %d files, %d bytes, keyring generation %d\n", out.Folder, out.Files, out.Bytes, out.Generation)
				})
			},
		},
		{
			name: "restore", args: "FOLDER", nargs: [2]int{1, 1},
			short: "make the data folder from a backup, the newest keyring and the root",
			long: `Restores a backup into the home folder's empty data folder. The keyring and the
root that the configuration names must be the newest: who was erased since the backup
stays erased. The ledger begins a new origin that commits to the last checkpoint of
the old one and says what was lost. Without the right generation it refuses and names
the one that is missing.`,
			example: "hawser restore /mnt/backups/2026-11-22 --home /srv/hawser-restored",
			run: func(ctx context.Context, e *env) error {
				c, err := server.LoadConfig(e.home)
				if err != nil {
					return err
				}
				p := e.progress("restore")
				out, err := server.Restore(ctx, c, server.RestoreOptions{From: e.args[0], Progress: p.share})
				p.end()
				if err != nil {
					return err
				}
				return e.print(out, func(w io.Writer) {
					fmt.Fprintf(w, "restored %d files into %s; keyring generation %d (the backup's was %d)\n", out.Files, out.Folder, out.Generation, out.BackupGeneration)
					if out.ErasedAgain > 0 {
						fmt.Fprintf(w, "%d owners that the backup still named were erased since, and now again\n", out.ErasedAgain)
					}
					if time.Since(out.BackupTime) > 24*time.Hour {
						today := time.Now().UTC().Format(time.DateOnly)
						fmt.Fprintf(w, "the backup is older than a day: no keep-time ends before the date is confirmed; if today is %s: hawser clock confirm %[1]s\n", today)
					}
					fmt.Fprintf(w, "the ledger goes on as %s\n", out.Origin)
				})
			},
		},
	}
}
