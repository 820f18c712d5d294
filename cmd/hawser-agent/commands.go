package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/device"
)

// commandOption is one entry of `commands` in the file of --config: what the
// device can be told to do, within its own bounds, and the program that does it.
type commandOption struct {
	Params []device.Param `json:"params,omitempty"`
	Run    []string       `json:"run"`
	For    string         `json:"for,omitempty"` // longest time; 1m if none is given
}

const (
	commandTime   = time.Minute
	commandOutput = 4 << 10 // bytes of what a program says that are looked at
)

// commandsOf turns the entries into commands of the device.
func (o *options) commandsOf() ([]device.Command, error) {
	var out []device.Command
	for _, name := range slices.Sorted(maps.Keys(o.Commands)) {
		c := o.Commands[name]
		limit := commandTime
		if c.For != "" {
			var err error
			if limit, err = time.ParseDuration(c.For); err != nil || limit <= 0 {
				return nil, fmt.Errorf("commands: %s: \"for\" is no time: write it as in 30s", name)
			}
		}
		if len(c.Run) == 0 {
			return nil, fmt.Errorf("commands: %s: \"run\" names no program", name)
		}
		out = append(out, device.Command{Name: name, Params: c.Params, Do: func(ctx context.Context, values map[string]any) error {
			return runCommand(ctx, c.Run, limit, values)
		}})
	}
	return out, nil
}

// runCommand has a program do it, without a shell: the values are a JSON object
// on its standard input and nowhere else, so that none becomes an option or a
// command of its own. Its last line on standard error is what the maker reads.
func runCommand(ctx context.Context, run []string, limit time.Duration, values map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	in, err := json.Marshal(values)
	if err != nil {
		return err
	}
	var said tail
	cmd := exec.CommandContext(ctx, run[0], run[1:]...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(append(in, '\n')), &said
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return errors.New("it took too long, or the device is being stopped")
	}
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return errors.New(last)
	}
	return fmt.Errorf("the program ended with: %w", err)
}

// tail keeps the end of what is written to it.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b...)
	if n := len(*t) - commandOutput; n > 0 {
		*t = append((*t)[:0], (*t)[n:]...)
	}
	return len(b), nil
}
