package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/server"
)

func serveCommands() []*command {
	return []*command{
		{
			name: "init", args: "--environment test|live", nargs: [2]int{0, 0},
			short: "make a home folder: roots, certificate authority, keyring, data",
			long: `Makes the home folder of a new installation: the root of the certificate authority
(kept apart in keys/ca-root; move it off this machine), the working authority, the
root key, two copies of the keyring, the ledger's signing key and the data folder.
The environment is fixed for ever: a test identity is refused by live and the other
way round. Nothing that exists is overwritten. No credential is made for any person.`,
			example: "hawser init --home /srv/hawser --environment live",
			flags:   func(e *env) { e.str("environment", "", "`test` or live; fixed for ever") },
			run: func(ctx context.Context, e *env) error {
				done, err := server.Init(ctx, e.home, core.Environment(*e.opt["environment"]))
				if err != nil {
					return err
				}
				return e.print(done, func(w io.Writer) {
					fmt.Fprintf(w, "made a %s installation in %s\n", done.Environment, done.Home)
					for _, p := range done.Made {
						fmt.Fprintf(w, "  %-44s %s\n", p.Path, p.What)
					}
					paragraph(w, fmt.Sprintf("Move %s to a medium that is not this machine's; the server does not need it.", done.Root), 2)
					at := ""
					if e.home != "hawser" {
						at = " --home " + e.home
					}
					fmt.Fprintf(w, "\nNext:\n  hawser serve%[1]s\nand in another terminal:\n  hawser declaration publish FILE%[1]s\n", at)
				})
			},
		},
		{
			name: "serve", nargs: [2]int{0, 0},
			short: "run the server",
			long: `Runs the server of a home folder until it is told to stop (Ctrl-C, SIGTERM). On an
empty configuration it has no person, no cleartext listener and no open door but
those for devices (MQTT over mutual TLS), enrolment (EST over HTTPS), the ledger's
checkpoint and health. The console opens with the first founder's link: hawser people
founder.`,
			example: "hawser serve --home /srv/hawser",
			run: func(ctx context.Context, e *env) error {
				c, err := server.LoadConfig(e.home)
				if err != nil {
					return err
				}
				return server.Run(ctx, c, server.Options{Version: version, Log: e.io.err, Selftest: selftestApart, Alone: e.io.alone})
			},
		},
		{
			name: "status", nargs: [2]int{0, 0},
			short: "how the running server is", long: "Shows addresses, connected devices and counts of the running server.",
			example: "hawser status --json",
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var s api.Status
				if err := c.Call(ctx, "GET", "/v1/status", nil, &s); err != nil {
					return err
				}
				if s.Findings == nil {
					s.Findings = []api.Finding{}
				}
				return e.print(s, func(w io.Writer) {
					table(w, []string{"server", s.Version}, [][]string{
						{"environment", s.Environment},
						{"running since", s.Started.Format("2006-01-02 15:04:05 MST")},
						{"devices (MQTT, mutual TLS)", s.Devices},
						{"enrolment, checkpoint, health (HTTPS)", s.HTTPS},
						{"devices connected", fmt.Sprint(s.Connected)},
					})
					printGateways(w, s.Gateways)
					fmt.Fprintln(w)
					printCounts(w, s.Counts)
				})
			},
		},
		{
			name: "doctor", nargs: [2]int{0, 0},
			short: "what is wrong, what may become wrong, what to do",
			long: `Looks at the configuration, the keys, the disk, the journal, the jobs and the
stores, with or without a running server, and prints errors, warnings and
instructions. It fails when there is an error.`,
			example: "hawser doctor",
			run: func(ctx context.Context, e *env) error {
				found, err := server.Doctor(ctx, e.home)
				if err != nil {
					return err
				}
				err = e.print(found, func(w io.Writer) {
					if len(found) == 0 {
						fmt.Fprintln(w, "nothing is wrong")
					}
					for _, f := range found {
						paragraph(w, fmt.Sprintf("%-12s %s: %s", strings.ToUpper(f.Severity), f.Area, f.Text), 13)
						if f.Do != "" {
							paragraph(w, strings.Repeat(" ", 13)+f.Do, 13)
						}
					}
				})
				for _, f := range found {
					if err == nil && f.Severity == "error" {
						err = &quiet{code: exitFailed}
					}
				}
				return err
			},
		},
	}
}

// printGateways shows the servers that take devices in for the one that has the
// keys.
func printGateways(w io.Writer, all []api.Gateway) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, g := range all {
		sessions := fmt.Sprint(g.Sessions)
		if g.Lost {
			sessions = "not heard of: takes nobody in"
		}
		rows = append(rows, []string{g.Name, g.Devices, sessions})
	}
	table(w, []string{"gateway", "devices", "sessions"}, rows)
}
