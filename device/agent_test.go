package device

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/house"
	"github.com/hawser-iot/hawser/internal/mqtt"
)

// buildAgent makes the agent as it is shipped.
func buildAgent(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the agent; not in -short")
	}
	return house.Program(t, "hawser-agent")
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestAgent runs the shipped program, as a process, against real peers.
func TestAgent(t *testing.T) {
	t.Parallel()
	bin := buildAgent(t)
	agent := func(t *testing.T, b *testBench, stdin string, more ...string) (*exec.Cmd, *syncBuffer) {
		t.Helper()
		dir := t.TempDir()
		for name, text := range map[string][]byte{"roots.pem": b.cfg.Roots, "code": []byte("code-of-A1\n")} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		args := append([]string{
			"--serial", "A1", "--server", b.cfg.Server, "--enrol-server", b.cfg.EnrolServer, "--log", "json",
			"--roots", filepath.Join(dir, "roots.pem"), "--state", filepath.Join(dir, "state"), "--code-file", filepath.Join(dir, "code"),
		}, more...)
		cmd := exec.Command(bin, args...)
		log := &syncBuffer{}
		cmd.Stdin, cmd.Stderr, cmd.Env = strings.NewReader(stdin), log, os.Environ()
		return cmd, log
	}

	t.Run("lines", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		cmd, log := agent(t, b, "climate {\"room_temperature\": 21.4}\nnonsense\nclimate {\"t\":1795000000123,\"heating_on\":true}\n")
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		got := b.mqtt.taken()
		wantOnce(t, got, 2)
		if len(got) == 2 && (!strings.Contains(got[0].Payload, `"room_temperature":21.4`) || !strings.HasPrefix(got[1].Payload, `{"t":1795000000123,`)) {
			t.Errorf("arrived: %+v", got)
		}
		for _, line := range strings.Split(strings.TrimSpace(log.String()), "\n") {
			if !json.Valid([]byte(line)) {
				t.Errorf("log line is no JSON: %s", line)
			}
		}
		if strings.Contains(log.String(), "code-of-A1") {
			t.Error("the code is in the log")
		}
	})

	t.Run("wrong server", func(t *testing.T) { // CC 3.4
		t.Parallel()
		b := newBench(t)
		b.cfg.Roots = newAuthority(t).bundle()
		cmd, log := agent(t, b, "climate {\"x\":1}\n")
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(log.String(), "server-foreign") || !strings.Contains(log.String(), "pinned bundle") {
			t.Errorf("%v\n%s", err, log)
		}
		if len(b.est.issued) != 0 || len(b.mqtt.taken()) != 0 {
			t.Error("the wrong server was told something")
		}
	})

	t.Run("wrong code", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.est.codes["A1"] = "another"
		cmd, log := agent(t, b, "")
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(log.String(), "enrolment-refused") {
			t.Errorf("%v\n%s", err, log)
		}
	})

	t.Run("ended by a signal", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		cmd, log := agent(t, b, "", "--simulate", "thermostat", "--every", "20ms")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "readings", func() bool { return len(b.mqtt.taken()) > 5 })
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, log)
		}
		eventually(t, "an orderly end", func() bool { return b.mqtt.orderly() == 1 })
	})

	t.Run("misbehaving", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		var mu sync.Mutex
		seen := map[string]bool{}
		b.mqtt.connack = func(*x509.Certificate) (mqtt.ReasonCode, uint16) { return mqtt.Success, 0 }
		b.mqtt.raw = true
		b.mqtt.judge = func(p *mqtt.Packet, _ got) verdict {
			mu.Lock()
			defer mu.Unlock()
			text := string(p.Payload)
			switch {
			case strings.HasPrefix(string(p.Topic), "devices/B2/"):
				seen["another device's topic"] = true
				return verdict{code: mqtt.NotAuthorized}
			case strings.Contains(text, "wifi_ssid"):
				seen["undeclared"] = true
			case strings.Contains(text, "1.000000085e+09") || strings.Contains(text, "1000000022.5"):
				seen["out of range"] = true
				return verdict{code: mqtt.PayloadFormatInvalid}
			case strings.Contains(text, `"t":315532800000`):
				seen["wild clock"] = true
			case strings.Contains(text, "NaN"):
				seen["no JSON"] = true
				return verdict{code: mqtt.PayloadFormatInvalid}
			}
			return verdict{}
		}
		cmd, log := agent(t, b, "", "--simulate", "thermostat", "--every", "20ms", "--count", "12", "--misbehave", "--neighbour", "B2")
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, want := range []string{"another device's topic", "undeclared", "out of range", "wild clock", "no JSON"} {
			if !seen[want] {
				t.Errorf("not seen: %s", want)
			}
		}
		if n := len(b.mqtt.taken()); n < 200 {
			t.Errorf("%d messages: where is the flood?", n)
		}
		if !strings.Contains(log.String(), `"answer":"0x87"`) {
			t.Errorf("the answer to another device's topic is not told:\n%s", log)
		}
	})

	t.Run("small", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("resident memory is not observable here")
		}
		b := newBench(t)
		cmd, log := agent(t, b, "", "--simulate", "thermostat", "--every", "1s")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "readings", func() bool { return len(b.mqtt.taken()) >= 2 })
		time.Sleep(500 * time.Millisecond)
		kb := residentKB(t, cmd.Process.Pid)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, log)
		}
		t.Logf("%.1f MB resident, connected and idle", float64(kb)/1024)
		if kb > 30<<10 {
			t.Errorf("%d KB resident, more than 30 MB", kb)
		}
	})
}

func residentKB(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		var kb int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
