// Package rig puts a real installation up for soaks and benches: `hawser init`,
// `hawser serve` as a process of its own that can be killed, declarations and
// units through the doors that everybody uses. It holds nothing that the
// server does not offer to any client.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
)

// Base is the configuration of an installation on this machine alone, whose
// doors the system chooses anew at every start.
const Base = "devices: 127.0.0.1:0\nhttps: 127.0.0.1:0\nconsole: 127.0.0.1:0\nnames: [localhost, 127.0.0.1]\n"

// Home is one installation and, while it runs, its server.
type Home struct {
	Dir    string   // the home folder
	Hawser string   // the program
	Under  []string // what the server runs under: a tracer and its arguments; none: nothing

	client *api.Client

	mu     sync.Mutex // guards what follows
	cmd    *exec.Cmd
	ended  chan struct{}
	status api.Status // of the running server; zero while none is ready
}

// Make is a new installation in dir, with Base and more as its configuration.
func Make(ctx context.Context, hawser, dir, more string) (*Home, error) {
	return MakeWith(ctx, hawser, dir, Base+more)
}

// MakeWith is Make with conf as its whole configuration.
func MakeWith(ctx context.Context, hawser, dir, conf string) (*Home, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	h := Open(hawser, dir)
	_, err := h.Run(ctx, "init", "--environment", "test")
	return h, err
}

// Open is an installation that exists.
func Open(hawser, dir string) *Home {
	return &Home{Dir: dir, Hawser: hawser, client: api.NewClient(filepath.Join(dir, "data", "hawser.sock"))}
}

// Run runs a hawser command on the installation to its end and returns what it
// printed as JSON.
func (h *Home) Run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, h.Hawser, append(args, "--home", h.Dir, "--json")...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("hawser %s: %w: %s%s", strings.Join(args, " "), err, errs.String(), tail(out.Bytes()))
	}
	return out.Bytes(), nil
}

func tail(b []byte) []byte { return b[max(0, len(b)-2000):] }

// Launch starts `hawser serve` and does not wait until it is ready. What it
// logs is added to serve.log in the home folder.
func (h *Home) Launch() error {
	log, err := os.OpenFile(h.logName(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	line := append(slices.Clone(h.Under), h.Hawser, "serve", "--home", h.Dir)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended stands in its log
		close(ended)
	}()
	h.mu.Lock()
	h.cmd, h.ended, h.status = cmd, ended, api.Status{}
	h.mu.Unlock()
	return nil
}

func (h *Home) logName() string { return filepath.Join(h.Dir, "serve.log") }

// Ready waits until the launched server answers.
func (h *Home) Ready(ctx context.Context) error {
	h.mu.Lock()
	ended := h.ended
	h.mu.Unlock()
	for {
		s, err := h.Ask(ctx)
		if err == nil {
			h.mu.Lock()
			h.status = s
			h.mu.Unlock()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("server is not ready: %w (%w)", err, ctx.Err())
		case <-ended:
			b, _ := os.ReadFile(h.logName()) // without it there is less to tell
			return fmt.Errorf("server ended before it was ready: %s", tail(b))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Start is Launch and Ready, with a minute's patience.
func (h *Home) Start(ctx context.Context) error {
	if err := h.Launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return h.Ready(ctx)
}

// Ask is the running server's status.
func (h *Home) Ask(ctx context.Context) (s api.Status, err error) {
	err = h.client.Call(ctx, "GET", "/v1/status", nil, &s)
	return s, err
}

// Devices is the address of the ready server's MQTT door; "" while there is none.
func (h *Home) Devices() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status.Devices
}

// PID is the server's process id.
func (h *Home) PID() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd == nil {
		return 0
	}
	return h.cmd.Process.Pid
}

// Kill is kill -9, and returns when the process is gone.
func (h *Home) Kill() error { return h.end(syscall.SIGKILL) }

// Stop is an orderly stop. Stopping twice is no error.
func (h *Home) Stop() error { return h.end(syscall.SIGTERM) }

func (h *Home) end(sig syscall.Signal) error {
	h.mu.Lock()
	cmd, ended := h.cmd, h.ended
	h.status = api.Status{}
	h.mu.Unlock()
	if cmd == nil {
		return nil
	}
	select {
	case <-ended:
		if sig == syscall.SIGKILL {
			return fmt.Errorf("server ended by itself: %v", cmd.ProcessState)
		}
		return nil
	default:
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill() // the error below says that it had to be
		<-ended
		return errors.New("server did not stop within 30 s")
	}
}

// Publish puts a declaration in force.
func (h *Home) Publish(ctx context.Context, name string, source []byte) error {
	return h.client.Call(ctx, "POST", "/v1/declarations", api.PublishRequest{File: name, Source: string(source)}, nil)
}

// Read reads a unit through `hawser read`, waiting until nothing of it is on
// its way to the epoch files any more.
func (h *Home) Read(ctx context.Context, device, reason string) ([]api.ReadLine, error) {
	for {
		out, err := h.Run(ctx, "read", device, "--purpose", "service.control", "--reason", reason)
		if err != nil {
			return nil, err
		}
		var lines []api.ReadLine
		var done *api.ReadDone
		d := json.NewDecoder(bytes.NewReader(out))
		for d.More() {
			var l api.ReadLine
			if err := d.Decode(&l); err != nil {
				return nil, fmt.Errorf("read what `hawser read` printed: %w", err)
			}
			if l.Done != nil {
				done = l.Done
				continue
			}
			lines = append(lines, l)
		}
		switch {
		case done == nil:
			return nil, fmt.Errorf("read of %s has no end", device)
		case done.Readings != len(lines) || done.Unreadable > 0 || len(done.Damaged) > 0:
			return nil, fmt.Errorf("read of %s: %+v, %d lines", device, *done, len(lines))
		case !done.Behind:
			return lines, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
