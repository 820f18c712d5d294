// Command hawser is the whole back end of a maker of connected products: it
// checks and publishes declarations, runs the devices' doors, and proves what
// it did. Each subcommand is thin; `hawser help` lists them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hawser-iot/hawser/internal/core"
)

// version is set when a release is built.
var version = "unreleased"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends it the hard way
	os.Exit(run(ctx, os.Args[1:], stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr, alone: true}))
}

// Exit codes: programs read them.
const (
	exitOK       = 0
	exitFailed   = 1 // it was tried and did not succeed, or the answer is no
	exitMisuse   = 2 // the command line is wrong
	exitNoServer = 3 // the running server cannot be reached

	// Of verifying what others hand over: nothing is wrong with it, but it
	// proves less than was asked for.
	exitSelfConsistent = 4 // signer or ledger came out of it and from nowhere else
	exitUnwitnessed    = 5 // none of the witnesses that were named cosigned it

	exitStopped = 130 // it was interrupted, and nothing is half done
)

func run(ctx context.Context, args []string, io stdio) int {
	cmds := commands()
	cmd, rest, wantHelp := find(cmds, args)
	if cmd == nil {
		group := joined(args)
		if (group == "" || wantHelp) && overview(io.out, cmds, strings.TrimPrefix(strings.TrimPrefix(group, "help"), " ")) {
			return exitOK
		}
		if !overview(io.err, cmds, group) {
			fmt.Fprintf(io.err, "hawser: there is no command %q; `hawser help` lists them\n", group)
			if of, _, more := strings.Cut(group, " "); more {
				overview(io.err, cmds, of)
			}
		}
		return exitMisuse
	}
	e := newEnv(io, cmd)
	if wantHelp {
		help(io.out, cmd, e.fs)
		return exitOK
	}
	if err := e.parse(rest); err != nil {
		fmt.Fprintf(io.err, "hawser %s: %v\n  usage: hawser %s %s\n  `hawser %s --help` teaches with an example\n", cmd.name, err, cmd.name, cmd.args, cmd.name)
		return exitMisuse
	}
	err := cmd.run(ctx, e)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		fmt.Fprintf(io.err, "hawser %s: stopped\n", cmd.name)
		return exitStopped
	}
	return e.report(err)
}

// report prints err as a person or a program reads it and gives the exit code.
func (e *env) report(err error) int {
	if err == nil {
		return exitOK
	}
	if q, ok := errors.AsType[*quiet](err); ok {
		return q.code
	}
	code := exitFailed
	ce, known := errors.AsType[*core.Error](err)
	if known && ce.Reason == "no-server" {
		code = exitNoServer
	}
	if e.json {
		type problem struct {
			Error string `json:"error"`
			Kind  string `json:"kind"`
			Hint  string `json:"hint,omitempty"`
		}
		p := problem{Error: err.Error(), Kind: core.KindOf(err).String()}
		if known {
			p.Hint = ce.Hint
		}
		_ = printJSON(e.io.err, p) // nowhere left to report it
		return code
	}
	fmt.Fprintf(e.io.err, "hawser %s: %v\n", e.cmd.name, err)
	if known && ce.Hint != "" {
		fmt.Fprintf(e.io.err, "  %s\n", ce.Hint)
	}
	return code
}

// quiet is an outcome that has already been printed.
type quiet struct{ code int }

func (*quiet) Error() string { return "already reported" }
