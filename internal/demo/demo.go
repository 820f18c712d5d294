// Package demo shows Hawser to a newcomer: it makes an installation, publishes
// a declaration, lets five devices send (one of them behaves badly), reads one
// back, erases it, restores a backup from before, and proves what happened. It
// uses nothing but the shipped programs, as a person would type them, and the
// figures at the end are read back by processes of their own.
package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

//go:embed demo.yaml
var declarationText []byte

// Product is the product of the demo's declaration.
const product = "aria-thermostat"

// Options says how the demo runs.
type Options struct {
	Hawser string // path of the hawser program
	Agent  string // path of the hawser-agent program
	JSON   bool   // print one object and nothing else
	Stay   bool   // keep it running at the end
	Send   time.Duration
	Out    io.Writer // what the person reads; progress with JSON is silent
}

// demo is one run.
type demo struct {
	opt      Options
	say      *teller
	dir      string // everything of this run
	home     string // the installation
	restored string // the installation restored from the backup
	roots    string // the pinned root that every device carries
	ports    ports
	canary   string
	earlier  string // a checkpoint that the auditor kept from before
	server   *process
	agents   []*device
}

// Run shows everything and returns the figures. An error means that something
// did not hold; what was seen until then has been told.
func Run(ctx context.Context, o Options) (*Figures, error) {
	dir, err := os.MkdirTemp("", "hawser-demo-")
	if err != nil {
		return nil, fmt.Errorf("make folder for the demo: %w", err)
	}
	d := &demo{opt: o, dir: dir, home: filepath.Join(dir, "home"), restored: filepath.Join(dir, "restored"), roots: filepath.Join(dir, "home/keys/ca/root.pem"), say: newTeller(o)}
	f, err := d.run(ctx)
	d.stop()
	if rmErr := os.RemoveAll(dir); rmErr != nil {
		err = errors.Join(err, fmt.Errorf("remove the demo's folder: %w", rmErr))
	}
	return f, err
}

// stop ends every process that is still running.
func (d *demo) stop() {
	for _, a := range d.agents {
		a.stop()
	}
	if d.server != nil {
		d.server.stop()
	}
}

func (d *demo) run(ctx context.Context) (*Figures, error) {
	d.say.title()
	for _, step := range []func(context.Context) error{d.install, d.serve, d.publish, d.enrol, d.watch, d.backup} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	f, err := d.figuresBefore(ctx)
	if err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{d.read, d.erase} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	for _, step := range []func(context.Context, *Figures) error{d.prove, d.bundle} {
		if err := step(ctx, f); err != nil {
			return nil, err
		}
	}
	if err := d.figuresAfter(ctx, f); err != nil {
		return nil, err
	}
	if err := d.restore(ctx, f); err != nil {
		return nil, err
	}
	if faults := f.Faults(); len(faults) > 0 {
		d.say.faults(faults)
		return f, fmt.Errorf("%d of the figures did not hold: %s", len(faults), strings.Join(faults, "; "))
	}
	if d.opt.Stay {
		return f, d.stay(ctx)
	}
	d.say.ending()
	return f, nil
}
