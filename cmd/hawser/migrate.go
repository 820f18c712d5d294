package main

import (
	"context"
	"fmt"
	"io"

	"github.com/hawser-iot/hawser/internal/server"
)

func migrateCommands() []*command {
	return []*command{{
		name: "migrate", args: "--to ENGINE", nargs: [2]int{0, 0},
		short: "move everything to PostgreSQL, or back to files",
		long: `Moves the control database, the readings, the late lane and what legal holds keep
from the files of the data folder to the PostgreSQL database that the key store names,
or back. No server may run. Journal and keys stay where they are. Everything is read
back and compared, and the ledger verified, before the source is marked as moved; no
server begins on it any more. The source is otherwise left as it was: it holds what is
erased or ends later, as ciphertext without keys, and who owned what until now; remove
it when you trust the move. An interrupted move is taken up by the next one. With
--to sqlite, take the key store out of config.yaml afterwards.`,
		example: "hawser migrate --to postgres",
		flags: func(e *env) {
			e.str("to", "", "the `engine`: postgres or sqlite")
			e.flag("without-damaged", "leave partitions behind that were put aside as damaged")
		},
		run: func(ctx context.Context, e *env) error {
			c, err := server.LoadConfig(e.home)
			if err != nil {
				return err
			}
			to := *e.opt["to"]
			p := e.progress("move")
			out, err := server.Migrate(ctx, c, server.MigrateOptions{To: to, WithoutDamaged: *e.on["without-damaged"], Progress: func(stage string, done, total int64) {
				p.say(fmt.Sprintf("%s %d of %d", stage, done, total))
			}})
			p.end()
			if err != nil {
				return err
			}
			return e.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "moved from %s to %s\n", out.From, out.To)
				fmt.Fprintf(w, "%d tables with %d rows, %d partitions with %d rows of readings, %d rows that wait for theirs, %d legal holds: all compared\n",
					len(out.Tables), out.Rows, out.Partitions, out.Readings, out.Waiting, out.Holds)
				fmt.Fprintf(w, "%d entries of the ledger: verified there\n", out.Ledger)
				for _, l := range out.Left {
					fmt.Fprintf(w, "left behind, damaged: %s\n", l)
				}
				if out.Aside != "" {
					fmt.Fprintf(w, "older files, from which everything had been moved: %s\n", out.Aside)
				}
				if to == "sqlite" {
					fmt.Fprintln(w, "take the key `store` out of config.yaml before the server begins")
				}
			})
		},
	}}
}
