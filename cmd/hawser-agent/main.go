// Command hawser-agent is a device: it enrols with its own one-time code,
// keeps its key and its certificate, and sends readings over mutual TLS. It is
// what a maker ships on a Linux device whose own program hands over readings,
// line by line, on standard input; a maker whose program is written in Go
// builds on package device instead.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/device/tpm"
)

// Set when a release is built: -ldflags "-X main.version=… -X main.built=…",
// the second in RFC 3339. A device without a battery-backed clock starts its
// time there.
var (
	version = "unreleased"
	built   = ""
)

// Exit codes: programs read them.
const (
	exitOK      = 0
	exitFailed  = 1 // the device cannot go on; the log says why
	exitMisuse  = 2 // the command line or the configuration is wrong
	memoryLimit = 24 << 20
)

func main() {
	// Firmware shares its memory with others: collect early rather than grow.
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(50)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, env func(string) string, in io.Reader, out, errs io.Writer) int {
	o, err := parseOptions(args)
	switch {
	case errors.Is(err, errHelp):
		fmt.Fprint(out, usage())
		return exitOK
	case errors.Is(err, errVersion):
		fmt.Fprintf(out, "hawser-agent %s\n", version)
		return exitOK
	case err != nil:
		fmt.Fprintf(errs, "hawser-agent: %v\n  `hawser-agent --help` teaches with an example\n", err)
		return exitMisuse
	}
	log := newLog(errs, o.Log)
	stdin := bufio.NewReaderSize(in, 4<<10)
	d, err := open(o, env, stdin, log)
	if err != nil {
		report(log, err)
		if e, ok := errors.AsType[*device.Error](err); ok && e.Reason != device.BadConfig {
			return exitFailed
		}
		return exitMisuse
	}
	err = serve(ctx, o, d, stdin, log)
	st := d.Status()
	if e := d.Close(); err == nil {
		err = e
	}
	log.Info("ended", slog.Uint64("sent", st.Sent), slog.Uint64("acked", st.Acked), slog.Uint64("refused", st.Refused),
		slog.Int("queued", st.Queued), slog.Uint64("dropped", st.Dropped))
	if err != nil {
		report(log, err)
		return exitFailed
	}
	return exitOK
}

func open(o *options, env func(string) string, stdin *bufio.Reader, log *slog.Logger) (*device.Device, error) {
	roots, err := os.ReadFile(o.Roots)
	if err != nil {
		return nil, fmt.Errorf("read the bundle of roots: %w", err)
	}
	var builtAt time.Time
	if built != "" {
		if builtAt, err = time.Parse(time.RFC3339, built); err != nil {
			return nil, fmt.Errorf("this program was built with a wrong time of building: %w", err)
		}
	}
	cfg := device.Config{
		Serial: o.Serial, Server: o.Server, EnrolServer: o.EnrolServer, ServerName: o.ServerName,
		Roots: roots, StateDir: o.State, QueueBytes: o.QueueBytes, KeepAlive: o.keepAlive,
		BuildTime: builtAt, Log: log,
	}
	if code := o.enrolmentCode(env, stdin, log); code != nil {
		cfg.EnrolmentCode = code
	}
	if cfg.Commands, err = o.commandsOf(); err != nil {
		return nil, err
	}
	if cfg.Settings, cfg.Apply, err = o.settingsOf(); err != nil {
		return nil, err
	}
	if o.TPM != "" {
		if cfg.Keys, err = tpm.Open(o.TPM); err != nil { // until the program ends
			return nil, fmt.Errorf("%w; on Linux it is /dev/tpmrm0, and the agent's user is in the group tss", err)
		}
	}
	return device.Open(cfg)
}

// serve runs the device and its sensor until ctx ends, or the sensor has no
// more and all that it gave was decided on.
func serve(ctx context.Context, o *options, d *device.Device, stdin *bufio.Reader, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running := make(chan error, 1)
	go func() { running <- d.Run(ctx) }()
	sensed := make(chan error, 1)
	// A sensor that waits for a line cannot be told to stop; it ends with the
	// program.
	go func() { sensed <- o.sensor(stdin, log)(ctx, d) }()
	select {
	case err := <-running:
		return err
	case err := <-sensed:
		if err == nil && ctx.Err() == nil {
			flush, stop := context.WithTimeout(ctx, o.flush)
			defer stop()
			select {
			case err = <-running:
				return err
			case err = <-flushed(flush, d):
				if err != nil && ctx.Err() == nil {
					log.Warn("not all readings were decided on; they stay in the queue", slog.Int("queued", d.Status().Queued))
					err = nil
				}
			}
		}
		cancel()
		if e := <-running; err == nil {
			err = e
		}
		return err
	}
}

// flushed tells when the server has taken the device once and decided on all
// that is in its queue. An agent that is given no readings still enrols.
func flushed(ctx context.Context, d *device.Device) <-chan error {
	done := make(chan error, 1)
	go func() {
		for d.Status().NotAfter.IsZero() {
			select {
			case <-ctx.Done():
				done <- ctx.Err()
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		done <- d.Flush(ctx)
	}()
	return done
}

// report says what went wrong and what to do.
func report(log *slog.Logger, err error) {
	attrs := []any{slog.Any("err", err)}
	if e, ok := errors.AsType[*device.Error](err); ok {
		attrs = append(attrs, slog.String("reason", string(e.Reason)))
		if e.Hint != "" {
			attrs = append(attrs, slog.String("hint", e.Hint))
		}
	}
	log.Error("cannot go on", attrs...)
}
