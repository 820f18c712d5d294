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

// settingsOption is `settings` in the file of --config: what can be set on the
// device, within its own bounds, and the program that puts it in force.
type settingsOption struct {
	Params []settingParam `json:"params"`
	Run    []string       `json:"run"`
	For    string         `json:"for,omitempty"` // longest time; 1m if none is given
}

type settingParam struct {
	device.Param

	Default any `json:"default"`
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
		limit, err := limitOf(c.Run, c.For)
		if err != nil {
			return nil, fmt.Errorf("commands: %s: %w", name, err)
		}
		out = append(out, device.Command{Name: name, Params: c.Params, Do: func(ctx context.Context, values map[string]any) error {
			return runCommand(ctx, c.Run, limit, values)
		}})
	}
	return out, nil
}

// limitOf is how long a program may take, if one is named.
func limitOf(run []string, text string) (time.Duration, error) {
	if len(run) == 0 {
		return 0, errors.New("\"run\" names no program")
	}
	if text == "" {
		return commandTime, nil
	}
	limit, err := time.ParseDuration(text)
	if err != nil || limit <= 0 {
		return 0, errors.New("\"for\" is no time: write it as in 30s")
	}
	return limit, nil
}

// settingsOf turns the entry into settings of the device, and what applies them.
func (o *options) settingsOf() ([]device.Setting, func(context.Context, map[string]any) error, error) {
	if o.Settings == nil {
		return nil, nil, nil
	}
	limit, err := limitOf(o.Settings.Run, o.Settings.For)
	if err != nil {
		return nil, nil, fmt.Errorf("settings: %w", err)
	}
	var out []device.Setting
	for _, p := range o.Settings.Params {
		out = append(out, device.Setting(p))
	}
	return out, func(ctx context.Context, values map[string]any) error {
		return runCommand(ctx, o.Settings.Run, limit, values)
	}, nil
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
