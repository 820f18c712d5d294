package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
)

// selftestTime bounds the trials of all checks.
const selftestTime = 10 * time.Minute

// selftestApart runs this very program's selftest in a process of its own, so
// that a twin shares neither memory nor open ports with the server.
func selftestApart(ctx context.Context, progress func(done, total int64)) ([]check.Proof, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, selftestTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "check", "selftest", "--lines")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it removes its twin
	cmd.WaitDelay = 20 * time.Second
	cmd.Env = append(os.Environ(), "HAWSER_HOME=/nonexistent") // a twin has a home of its own
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
