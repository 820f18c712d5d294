package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/house"
)

// TestAgentWithTPM: the agent's key is made in a TPM and stays there. Its state
// folder holds no private key, and a copy of the folder is of no use beside
// another TPM, nor without one (CC 3.2).
func TestAgentWithTPM(t *testing.T) {
	t.Parallel()
	bin := house.Program(t, "hawser-agent")
	own, off := house.SoftTPM(t, t.TempDir())
	defer off()
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	codeFile := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(codeFile, []byte(l.add(t, "A1")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := 0
	send := func(state string, with ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, bin, append([]string{
			"--serial", "A1", "--server", "localhost:" + port(t, l.addr.Devices), "--enrol-server", "localhost:" + port(t, l.addr.HTTPS),
			"--roots", l.rootFile(t), "--state", state, "--code-file", codeFile, "--flush-for", "10s",
		}, with...)...)
		n++
		cmd.Stdin = strings.NewReader(fmt.Sprintf("climate {\"t\":%d,\"temp\":%d}\n", time.Now().Add(time.Minute).UnixMilli()+int64(n), n))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	state := filepath.Join(t.TempDir(), "state")
	for range 2 { // the second opens what the first one made
		if out, err := send(state, "--tpm", own); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if lines, err := l.readAll(t, "A1"); err != nil || len(lines) != 2 {
		t.Errorf("%d readings: %v", len(lines), err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(state)); err != nil {
		t.Fatal(err)
	}
	keys := 0
	err := filepath.WalkDir(copied, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if d.Name() == "key.pem" {
			keys++
		}
		if bytes.Contains(b, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a private key", d.Name())
		}
		return err
	})
	if err != nil || keys != 1 {
		t.Errorf("%d keys: %v", keys, err)
	}
	other, off2 := house.SoftTPM(t, t.TempDir())
	defer off2()
	for what, with := range map[string][]string{"another TPM": {"--tpm", other}, "no TPM": nil} {
		out, err := send(copied, with...)
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() == 0 {
			t.Errorf("a copy beside %s: %v: %s", what, err, out)
		}
		t.Logf("a copy beside %s: %s", what, out)
	}
	if lines, err := l.readAll(t, "A1"); err != nil || len(lines) != 2 {
		t.Errorf("%d readings after the copies: %v", len(lines), err)
	}
	if out, err := send(state, "--tpm", own); err != nil {
		t.Errorf("afterwards: %v: %s", err, out)
	}
}
