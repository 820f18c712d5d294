package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is a program of ours that runs beside the demo.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	log  *os.File
}

// start runs a program with its output in a log file.
func start(logName, program string, args []string, in []byte) (*process, error) {
	log, err := os.Create(logName)
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if in != nil {
		cmd.Stdin = bytes.NewReader(in)
	}
	if err := cmd.Start(); err != nil {
		_ = log.Close() // nothing was written
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{}), log: log}
	go func() {
		_ = cmd.Wait() // how it ended stands in its log
		close(p.done)
	}()
	return p, nil
}

// stop asks the process to end, and makes it after 15 seconds.
func (p *process) stop() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill() // it may be gone already
		<-p.done
	}
	_ = p.log.Close() // written by the child, not by us
}

// ended reports whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// tail is the end of a process's log, for a person who wonders why.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// hawser runs the hawser program to its end and decodes what it prints as
// JSON into out (nil: ignored). This is the second process that the figures
// come from: nothing of the demo's own memory enters.
func (d *demo) hawser(ctx context.Context, home string, out any, args ...string) error {
	args = append(args, "--home", home, "--json")
	cmd := exec.CommandContext(ctx, d.opt.Hawser, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		text := strings.TrimSpace(stderr.String())
		if text == "" {
			text = strings.TrimSpace(stdout.String())
		}
		return &commandError{args: args, text: text, err: err}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(stdout.Bytes(), out); err != nil {
		return fmt.Errorf("hawser %s: read what it printed: %w", strings.Join(args, " "), err)
	}
	return nil
}

// commandError is a hawser command that did not succeed.
type commandError struct {
	args []string
	text string
	err  error
}

func (e *commandError) Error() string {
	return fmt.Sprintf("hawser %s: %v: %s", strings.Join(e.args, " "), e.err, e.text)
}

// ports are the doors of the demo's server.
type ports struct{ devices, https, console int }

// freePorts takes the usual ports where they are free, and others where not.
func freePorts() (ports, error) {
	var p ports
	var err error
	if p.devices, err = freePort(8883); err != nil {
		return p, err
	}
	if p.https, err = freePort(8443); err != nil {
		return p, err
	}
	p.console, err = freePort(8444)
	return p, err
}

// freePort is the usual port, or another one where that is taken.
func freePort(usual int) (int, error) {
	for _, p := range []int{usual, 0} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			continue
		}
		port := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("give port back: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("no free port on 127.0.0.1")
}
