// Command soak kills a real server with kill -9, again and again, while
// devices send to it over mutual TLS, and then reads everything back through
// `hawser read`. What was acknowledged must be there, unchanged, once, and in
// the order in which its device sent it. The generator keeps its own list of
// what was acknowledged, synced to disk as it goes; nothing of the comparison
// comes from the server but what any reader gets.
//
// It prints one JSON object and fails unless all of that holds.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	flag.StringVar(&o.hawser, "hawser", "bin/hawser", "the program that is killed")
	flag.StringVar(&o.dir, "dir", "", "folder for everything, kept afterwards; none: a temporary one, removed if all is well")
	flag.IntVar(&o.rounds, "rounds", 100, "kills")
	flag.IntVar(&o.devices, "devices", 8, "devices that send")
	flag.IntVar(&o.window, "window", 16, "readings of a device on their way at once")
	flag.IntVar(&o.rate, "rate", 400, "readings per second and device, at most")
	flag.DurationVar(&o.span, "span", time.Second, "a server lives up to this long under load before it is killed")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the moments of the kills")
	flag.Parse()
	temporary := o.dir == ""
	if temporary {
		var err error
		if o.dir, err = os.MkdirTemp("", "hawser-soak-"); err != nil {
			return err
		}
	}
	var err error
	if o.hawser, err = filepath.Abs(o.hawser); err != nil {
		return err
	}
	o.progress = func(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }
	r, err := soak(ctx, &o)
	if err == nil {
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			return err
		}
		err = r.fault()
	}
	if err != nil {
		return fmt.Errorf("%w; what is left lies in %s", err, o.dir)
	}
	if temporary {
		return os.RemoveAll(o.dir)
	}
	return nil
}
