// Command soak kills a real server with kill -9, again and again, while
// devices send to it over mutual TLS, and then reads everything back through
// `hawser read`. What was acknowledged must be there, unchanged, once, and in
// the order in which its device sent it. The generator keeps its own list of
// what was acknowledged, synced to disk as it goes; nothing of the comparison
// comes from the server but what any reader gets.
//
// With -power the server is not killed but recorded: strace(1) writes down each
// of its writes and syncs, and from that the folder is made again as a loss of
// power would have left it at many moments, with what was not synced dropped,
// kept in part, or torn. A server must start on each of them, with everything
// that was acknowledged by then.
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
	flag.DurationVar(&o.span, "span", time.Second, "a server lives up to this long under load before it is killed; with -power: is recorded so long")
	flag.IntVar(&o.points, "power", 0, "instead of kills: so many moments at which the power fails (needs strace)")
	flag.BoolVar(&o.strict, "strict", false, "with -power: names reach the disk only when their folder is synced")
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
	work := soak
	if o.points > 0 {
		work = powerless
	}
	r, err := work(ctx, &o)
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
