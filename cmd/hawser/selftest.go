package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
)

// selftestTime bounds the trials of all checks.
const selftestTime = 10 * time.Minute

// cutVar tells a child that it has a network of its own, which only it itself
// can set up: "try" to see whether it can, "yes" to go on.
const cutVar = "HAWSER_OWN_NETWORK"

// apart is this very program's selftest in a process of its own, with a network
// of its own where the system allows that: a twin dials nobody, and there could
// not be anybody. What it found itself in stands in each proof.
func apart(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	child := func(cut string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, self, append([]string{"check", "selftest"}, args...)...)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it removes its twin
		cmd.WaitDelay = 20 * time.Second
		cmd.Env = append(os.Environ(), "HAWSER_HOME=/nonexistent", cutVar+"="+cut) // a twin has a home of its own
		return cmd
	}
	for _, way := range cutWays() {
		try := child("try")
		try.SysProcAttr = way
		if try.Run() == nil {
			cmd := child("yes")
			cmd.SysProcAttr = way
			return cmd, nil
		}
	}
	return child("no"), nil
}

// selftestApart is how a running server has its checks tried.
func selftestApart(ctx context.Context, progress func(done, total int64)) ([]check.Proof, error) {
	ctx, cancel := context.WithTimeout(ctx, selftestTime)
	defer cancel()
	cmd, err := apart(ctx, "--lines")
	if err != nil {
		return nil, err
	}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("run the selftest: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run the selftest: %w", err)
	}
	var proofs []check.Proof
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 1<<20)
	var bad error
	for sc.Scan() {
		var p check.Proof
		if err := json.Unmarshal(sc.Bytes(), &p); err != nil {
			bad = fmt.Errorf("read a trial: %w", err)
			continue
		}
		proofs = append(proofs, p)
		if progress != nil {
			progress(int64(len(proofs)), int64(len(proofs)))
		}
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("run the selftest: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return proofs, bad
}

// again runs the command that was typed in a network of its own, and ends as it
// ends.
func again(ctx context.Context, e *env) error {
	cmd, err := apart(ctx, e.typed...)
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if x, ok := errors.AsType[*exec.ExitError](err); ok && x.ExitCode() > 0 {
		return &quiet{x.ExitCode()}
	}
	return err
}
