package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/house"
)

// TestDeviceRefusesWrongServers: the device's library at a real server that is
// of another installation, past its time, not in it yet, or not of the name it
// dials: refused by reason, and neither code nor reading is given away. The
// right server gets both (CC 3.4).
func TestDeviceRefusesWrongServers(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	other := start(t, newHome(t, core.Test, ""))
	other.publish(t, testDeclaration)
	code := l.add(t, "A1")
	own, err := os.ReadFile(l.rootFile(t))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(other.rootFile(t))
	if err != nil {
		t.Fatal(err)
	}
	open := func(change func(*device.Config)) *device.Device {
		t.Helper()
		board := &switchboard{l: l}
		conf := device.Config{
			Serial: "A1", Server: "localhost:8883", EnrolServer: "localhost:8443", Roots: own, StateDir: filepath.Join(t.TempDir(), "s"),
			EnrolmentCode: func() (string, error) { return code, nil }, Dial: board.dial,
		}
		change(&conf)
		d, err := device.Open(conf)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	}
	for name, c := range map[string]struct {
		change func(*device.Config)
		want   device.Reason
	}{
		"roots of another installation": {func(c *device.Config) { c.Roots = foreign }, device.ServerForeign},
		"another name":                  {func(c *device.Config) { c.ServerName = "gateway.example" }, device.ServerWrongName},
		"past its time":                 {func(c *device.Config) { c.Now = func() time.Time { return time.Now().AddDate(9, 0, 0) } }, device.ServerExpired},
		"a plain TCP service":           {func(c *device.Config) { c.Dial = plainService(t) }, device.ServerNotTLS},
	} {
		d := open(c.change)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := d.Enrol(ctx)
		cancel()
		if e, ok := errors.AsType[*device.Error](err); !ok || e.Reason != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if x := l.device(t, "A1"); x.Certificate != "" {
			t.Fatalf("%s: the device gave its code away", name)
		}
	}
	if err := open(func(*device.Config) {}).Enrol(t.Context()); err != nil {
		t.Errorf("the right server: %v", err)
	}
}

// TestAgentEndToEnd: the binary that a maker ships, with the wrong roots, ends
// and says why, and has not spent its code; with the right ones its readings
// are stored (CC 3.4).
func TestAgentEndToEnd(t *testing.T) {
	bin := house.Program(t, "hawser-agent")
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	other := start(t, newHome(t, core.Test, ""))
	codeFile := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(codeFile, []byte(l.add(t, "A1")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(roots, state string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, bin, "--serial", "A1", "--server", "localhost:"+port(t, l.addr.Devices), "--enrol-server", "localhost:"+port(t, l.addr.HTTPS),
			"--roots", roots, "--state", filepath.Join(t.TempDir(), state), "--code-file", codeFile, "--flush-for", "10s")
		ahead := time.Now().Add(time.Minute).UnixMilli() // not before the owner, who comes with the enrolment
		cmd.Stdin = strings.NewReader(fmt.Sprintf("climate {\"t\":%d,\"temp\":21.4}\nclimate {\"t\":%d,\"temp\":21.5,\"ssid\":\"undeclared\"}\n", ahead, ahead+1))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run(other.rootFile(t), "wrong")
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || !strings.Contains(out, string(device.ServerForeign)) {
		t.Errorf("with the roots of another installation: %v: %s", err, out)
	}
	if x := l.device(t, "A1"); x.Certificate != "" {
		t.Error("the agent gave its code to a server that it does not know")
	}
	if out, err := run(l.rootFile(t), "right"); err != nil {
		t.Fatalf("with the right roots: %v: %s", err, out)
	}
	lines, err := l.readAll(t, "A1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range lines {
		got = append(got, string(x.Values))
	}
	if want := `{"temp":21.4} {"temp":21.5}`; strings.Join(got, " ") != want {
		t.Errorf("stored %v, want %s", got, want)
	}
}

// plainService leads every connection to a service that speaks no TLS.
func plainService(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	go func() {
		for {
			c, err := in.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 mail.example ESMTP ready, and certainly no TLS\r\n")) // what the client makes of it counts
			_ = c.Close()
		}
	}()
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, in.Addr().String())
	}
}
