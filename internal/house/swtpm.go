package house

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// SoftTPM starts a software TPM 2.0 whose state lies in dir and gives the socket
// at which it listens, and what takes its power away. It serves one client.
func SoftTPM(t testing.TB, dir string) (socket string, off func()) {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		t.Skip("swtpm is missing (Debian: swtpm): no TPM to make keys in")
	}
	short, err := os.MkdirTemp("", "tpm") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	socket, control := filepath.Join(short, "s"), filepath.Join(short, "c")
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+control, "--flags", "not-need-init,startup-clear")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	off = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()  // it may have ended
		_ = cmd.Wait()          // it was killed
		_ = os.RemoveAll(short) // in the folder for temporary files
	})
	t.Cleanup(off)
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		// The two sockets open in no order.
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close() // it was to see; whoever comes next is taken
			return socket, off
		}
		if time.Now().After(until) {
			t.Fatalf("swtpm does not listen\n%s", said.String())
		}
	}
}
