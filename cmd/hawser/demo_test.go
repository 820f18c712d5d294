package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/house"
)

// TestDemoStays types every command that a demo that stays prints, as it
// prints it: a newcomer's first ones. The founder's link leads to the page that
// makes a passkey.
func TestDemoStays(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a whole demo; not in -short")
	}
	if _, err := exec.LookPath("mosquitto_pub"); err != nil {
		t.Skip("there is no mosquitto_pub: `make deps` installs it")
	}
	hawser := house.Program(t, "hawser")
	if err := os.Link(house.Program(t, "hawser-agent"), filepath.Join(filepath.Dir(hawser), "hawser-agent")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), hawser, "demo", "--stay")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Cancel() // it may have ended
		_ = cmd.Wait()   // by that
	}()
	var all strings.Builder
	lines := bufio.NewScanner(pipe)
	for !strings.Contains(all.String(), "/set-up/") && lines.Scan() { // it is the last line
		all.WriteString(lines.Text() + "\n")
	}
	_, after, ok := strings.Cut(all.String(), "Join with any MQTT client")
	if !ok {
		t.Fatalf("the demo does not stay:\n%s", all.String())
	}
	after = strings.ReplaceAll(after, "\\\n", " ")
	typed := 0
	for line := range strings.Lines(after) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "mosquitto_pub ") && !strings.HasPrefix(line, hawser+" ") {
			continue
		}
		typed++
		out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput()
		if err != nil {
			t.Errorf("%s\n%v: %s", line, err, out)
		}
		if strings.Contains(line, " read ") && !strings.Contains(string(out), "21.5") {
			t.Errorf("%s\ndoes not show what was sent: %s", line, out)
		}
	}
	if typed != 5 {
		t.Errorf("%d commands were typed, not 5:\n%s", typed, after)
	}
	link := regexp.MustCompile(`https://\S+/set-up/\S+`).FindString(after)
	roots := regexp.MustCompile(`--cafile (\S+)`).FindStringSubmatch(after)
	if link == "" || roots == nil {
		t.Fatalf("no founder's link:\n%s", after)
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl: `make deps` installs it")
	}
	page, err := exec.CommandContext(t.Context(), "curl", "--silent", "--show-error", "--fail", "--cacert", roots[1], link).CombinedOutput()
	if err != nil || !strings.Contains(string(page), "Make your passkey") {
		t.Errorf("%s: %v: %.600s", link, err, page)
	}
}
