package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/demo"
)

func demoCommands() []*command {
	return []*command{
		{
			name: "demo", nargs: [2]int{0, 0},
			short: "five devices, one of them bad, from declaration to proven erasure",
			long: `Makes an installation in a temporary folder, publishes a declaration, lets five
hawser-agent processes enrol and send, shows what is accepted, dropped, refused and
stored, reads one device back, erases it, restores a backup from before, and verifies
the ledger. Nothing is asked; nothing outside the folder is touched; ports that are
taken are replaced by others. The figures of --json are read back from store, ledger,
counters and disk by other processes; the exit code is 0 only if all of it holds.`,
			example: "hawser demo --stay",
			flags:   func(e *env) { e.flag("stay", "keep it running at the end, and say how to join with mosquitto_pub") },
			run:     runDemo,
		},
		{
			name: "demo search", args: "TEXT FOLDER…", nargs: [2]int{2, 64},
			short:   "count the files that hold a text in clear",
			long:    "Reads every file below the folders and counts those that hold the text. The demo uses it to look for a planted value.",
			example: "hawser demo search canary-1f3a /srv/hawser",
			run: func(_ context.Context, e *env) error {
				files, hits, err := demo.Search(e.args[0], e.args[1:])
				if err != nil {
					return err
				}
				out := struct {
					Files int `json:"files"`
					Hits  int `json:"hits"`
				}{files, hits}
				return e.print(out, func(w io.Writer) { fmt.Fprintf(w, "%d of %d files hold it\n", hits, files) })
			},
		},
	}
}

func runDemo(ctx context.Context, e *env) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	agent := filepath.Join(filepath.Dir(self), "hawser-agent")
	if _, err := os.Stat(agent); err != nil {
		if agent, err = exec.LookPath("hawser-agent"); err != nil {
			return core.E(core.Unready, "no-agent", "hawser-agent is neither beside hawser nor in the PATH", "build both: make build")
		}
	}
	f, err := demo.Run(ctx, demo.Options{Hawser: self, Agent: agent, JSON: e.json, Stay: *e.on["stay"], Send: 8 * time.Second, Out: e.io.out})
	if e.json && f != nil {
		if perr := printJSON(e.io.out, f); perr != nil {
			return perr
		}
	}
	return err
}
