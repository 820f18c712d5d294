package server

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// victimHomeVar tells the process that doomed starts which installation to run.
const victimHomeVar = "HAWSER_TEST_VICTIM_HOME"

// TestToBeKilled is a server that others kill. It ends itself when a batch of
// HTTPS ingest is on disk and its answer is neither kept nor sent.
func TestToBeKilled(t *testing.T) {
	home := os.Getenv(victimHomeVar)
	if home == "" {
		t.Skip("only for tests that kill a server")
	}
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	t.Fatal(Run(context.Background(), c, Options{
		Version: "test", Log: os.Stderr,
		Ready: func(a Addresses) { fmt.Println("ready", a.HTTPS, a.Devices) },
		beforeKeep: func() {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // and if it fails, the caller tells
			time.Sleep(time.Minute)
		},
	}))
}

// doomed runs an installation in a process of its own.
func doomed(t *testing.T, home string) (*exec.Cmd, Addresses) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestToBeKilled$")
	cmd.Env = append(os.Environ(), victimHomeVar+"="+home)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var a Addresses
	for lines := bufio.NewScanner(out); a.HTTPS == "" && lines.Scan(); {
		if where, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			a.HTTPS, a.Devices, _ = strings.Cut(where, " ")
		}
	}
	return cmd, a
}

// TestIngestKilled kills the server between the journal's commit of a batch and
// its answer. Sent again with its key, each of its readings is stored once,
// also those without a number, time or difference between them.
func TestIngestKilled(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	const body = `[{"temp":1},{"temp":1},{"temp":2,"boot":1,"seq":1},{"stray":1}]`
	for n := range 2 { // killed a second time over the same batch
		cmd, addr := doomed(t, home)
		victim := *l
		victim.addr = addr
		if r, err := newPoster(&victim, u, t).try("climate", jsonType, body, "Idempotency-Key", "k-1"); err == nil {
			t.Fatalf("kill %d: there was an answer: %d %s", n, r.status, r.body)
		}
		_ = cmd.Wait() // the state tells
		if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGKILL {
			t.Fatalf("it was not killed: %v", cmd.ProcessState)
		}
	}
	l = start(t, home)
	l.stored(t, "A1", 3) // they were committed
	const want = `{"accepted":3,"dropped":0,"refused":[{"index":3,"reason":"nothing-left"}]}`
	for range 2 {
		if r := newPoster(l, u, t).post(t, "climate", jsonType, body, "Idempotency-Key", "k-1"); r.status != http.StatusOK || r.body != want {
			t.Errorf("again: %d %s, want %s", r.status, r.body, want)
		}
	}
	newPoster(l, u, t).post(t, "climate", jsonType, `{"temp":5}`).want(t, "another", 200, "")
	l.stored(t, "A1", 4)
}
