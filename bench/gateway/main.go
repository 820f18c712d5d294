// Command gateway measures the devices' door against mosquitto and against raw
// TLS, in alternating runs on one machine with one load generator, and prints
// the tables of docs/benchmarks.md. It builds nothing but what the repository
// holds; mosquitto comes from the system.
//
// With `serve` it is the door itself: real authority, store, keyring, judge,
// journal with fsync, and gateway; no projector behind the journal, so the
// figures are those up to the acknowledgement.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := compare
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "serve" {
		run, args = serve, args[1:]
	}
	if err := run(ctx, args); err != nil && err != flag.ErrHelp {
		fmt.Fprintln(os.Stderr, "gateway bench:", err)
		os.Exit(1)
	}
}
