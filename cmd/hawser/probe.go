package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/probe"
)

func probeCommands() []*command {
	return []*command{{
		name: "probe", args: "URL [--devices HOST:PORT] [--console URL]", nargs: [2]int{1, 1},
		short: "ask an installation from outside, as a stranger without any credential",
		long: `Run it on another machine than the server's. It asks which versions and ciphers of TLS
each door takes and who its certificate is from, whether anything is served in clear,
whether a device without a certificate, with a foreign one or with a known password is
let in, what the console tells, and whether the ledger still is the one of the last
time: the last checkpoint is remembered in the state file, and two that contradict each
other are kept there. Everything asked and everything that came is printed, and what was
not asked. It opens at most 160 connections, to the given host only, and needs nothing
of yours. Each run shows among the refused connections of the installation. The exit
code is 1 when something is not as it should be.`,
		example: "hawser probe https://maker.example --devices maker.example:8883 --state maker.json",
		flags: func(e *env) {
			e.str("devices", "", "`host:port` of the devices' door")
			e.str("console", "", "`URL` of the console")
			e.str("roots", "", "`file` with the authorities of the installation, PEM; without it those of this machine")
			e.str("ledger-key", "", "the ledger's public key `NAME+ID+KEY`, got from elsewhere")
			e.str("state", "", "the `file` in which the last checkpoint is remembered")
		},
		run: runProbe,
	}}
}

func runProbe(ctx context.Context, e *env) error {
	o := probe.Options{URL: e.args[0], Devices: *e.opt["devices"], Console: *e.opt["console"], LedgerKey: *e.opt["ledger-key"], State: *e.opt["state"]}
	if path := *e.opt["roots"]; path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read the authorities: %w", err)
		}
		if o.Roots = x509.NewCertPool(); !o.Roots.AppendCertsFromPEM(b) {
			return core.E(core.Invalid, "probe-roots", path+" has no certificate", "give a PEM file; of an installation of ours it is keys/ca/root.pem")
		}
	}
	r, err := probe.Run(ctx, o)
	if err != nil {
		return err
	}
	if err := e.print(r, func(w io.Writer) { printProbe(w, r) }); err != nil {
		return err
	}
	if r.Bad() > 0 {
		return &quiet{exitFailed}
	}
	return nil
}

func printProbe(w io.Writer, r *probe.Report) {
	var rows [][]string
	for _, a := range r.Answers {
		rows = append(rows, []string{string(a.Outcome), a.Door + " " + a.Address, strings.Join(a.Rows, " "), a.Asked + ": " + a.Came})
	}
	table(w, []string{"", "DOOR", "ROWS", "ASKED, AND WHAT CAME"}, rows)
	fmt.Fprintln(w)
	paragraph(w, "Certificates were held against "+r.Trust+".", 0)
	fmt.Fprintln(w, "Not asked:")
	for _, s := range r.NotAsked {
		paragraph(w, "  - "+s, 4)
	}
	fmt.Fprintln(w)
	if r.Accuses {
		paragraph(w, "THE LEDGER CONTRADICTS WHAT IT SHOWED BEFORE. Both checkpoints are in the state file: show them to others who watch it.", 0)
	}
	n := map[probe.Outcome]int{}
	for _, a := range r.Answers {
		n[a.Outcome]++
	}
	fmt.Fprintf(w, "%s: %d as it should be, %d not, %d to be judged by you, %d without an answer; %s\n",
		r.Of, n[probe.Good], n[probe.Bad], n[probe.Seen], n[probe.Mute], count(r.Connected, "connection"))
}
