package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// need skips by name where an outside program is missing.
func need(t *testing.T, program, from string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed: `make deps` as root installs it from %s", program, from)
	}
	return path
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMosquittoClient: a stock client joins with nothing but its certificate.
func TestMosquittoClient(t *testing.T) {
	pub := need(t, "mosquitto_pub", "Debian (mosquitto-clients)")
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	for _, version := range []string{"5", "311"} {
		id := core.DeviceID("mosquitto-" + version)
		u := l.enrol(t, id)
		run := func(topic, payload string) (string, error) {
			out, err := exec.CommandContext(t.Context(), pub, "-V", version, "-h", "localhost", "-p", port(t, l.addr.Devices),
				"--cafile", u.rootsFile, "--cert", u.certFile, "--key", u.keyFile, "-q", "1", "-t", topic, "-m", payload).CombinedOutput()
			return string(out), err
		}
		if out, err := run("telemetry/climate", `{"temp":21.54,"ssid":"home-wifi"}`); err != nil {
			t.Fatalf("mosquitto_pub -V %s: %v: %s", version, err, out)
		}
		if out, err := run("devices/"+string(id)+"/telemetry/climate", `{"temp":22}`); err != nil {
			t.Fatalf("mosquitto_pub -V %s, absolute topic: %v: %s", version, err, out)
		}
		if _, err := run("devices/somebody-else/telemetry/climate", `{"temp":23}`); err != nil {
			t.Logf("foreign topic, -V %s: %v", version, err)
		}
		lines, err := l.readAll(t, id)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range lines {
			got = append(got, string(x.Values))
		}
		if want := `{"temp":21.5} {"temp":22}`; strings.Join(got, " ") != want {
			t.Errorf("-V %s: stored %v, want %s", version, got, want)
		}
	}
}

// found counts the files below folders that hold needle.
func found(t *testing.T, needle string, folders ...string) (files, hits int) {
	t.Helper()
	for _, f := range folders {
		err := filepath.Walk(f, func(p string, st os.FileInfo, err error) error {
			if err != nil || !st.Mode().IsRegular() {
				return err
			}
			b, err := os.ReadFile(p)
			files++
			if bytes.Contains(b, []byte(needle)) {
				hits++
				t.Logf("%s holds it", p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files, hits
}

// TestCanary: a planted value never lies on the disk in clear nor crosses the
// wire, and the same searches find it where it was left in clear on purpose
// (CC 2.9, CC 2.8).
func TestCanary(t *testing.T) {
	t.Parallel()
	const canary = "canary-5d1f0c7e"
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	u := l.enrol(t, "canary-carrier")

	clear, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer clear.Close()
	go func() { // who listens in clear; the tap is what counts
		for {
			conn, err := clear.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	inClear := func(text string) {
		conn, err := net.Dial("tcp", clear.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	pcap := filepath.Join(t.TempDir(), "wire.pcap")
	seen := func(text string) int {
		b, err := os.ReadFile(pcap)
		if err != nil {
			return 0
		}
		return bytes.Count(b, []byte(text))
	}
	stopTap := tap(t, pcap, port(t, l.addr.Devices), port(t, l.addr.HTTPS), port(t, clear.Addr().String()))
	if stopTap != nil {
		waitFor(t, 30*time.Second, "the tap sees what passes", func() bool { inClear("probe"); return seen("probe") > 0 })
	}

	c := dialMQTT(t, l, u)
	for i := range 50 {
		c.publish(t, "telemetry/climate", fmt.Sprintf(`{"temp":21.5,"note":"%s","ssid":"%s-undeclared","boot":1,"seq":%d}`, canary, canary, i+1))
	}
	c.close(t)
	lines, err := l.readAll(t, "canary-carrier")
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 50 || !strings.Contains(string(lines[0].Values), canary) {
		t.Fatalf("%d readings came back, first %s: the canary was not even stored", len(lines), lines[0].Values)
	}
	// The control: the same bytes, in clear, past the same tap.
	inClear(canary)

	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	files, hits := found(t, canary, l.home)
	if files < 10 || hits != 0 {
		t.Errorf("on disk: %d of %d files hold the canary in clear", hits, files)
	}
	control := filepath.Join(t.TempDir(), "unsealed")
	if err := os.WriteFile(control, lines[0].Values, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, hits := found(t, canary, filepath.Dir(control)); hits != 1 {
		t.Error("the search does not find the canary in an unsealed copy: it proves nothing")
	}
	if strings.Contains(l.log.String(), canary) {
		t.Error("the canary stands in the log")
	}

	if stopTap == nil {
		t.Skip("the disk was searched; for the wire tcpdump is missing: `make deps` as root installs it from Debian (tshark, tcpdump)")
	}
	waitFor(t, 30*time.Second, "the tap saw the control", func() bool { return seen(canary) > 0 })
	stopTap()
	if st, err := os.Stat(pcap); err != nil || st.Size() < 10_000 {
		t.Fatalf("the tap did not see the session: %v, %v", st, err)
	}
	if n := seen(canary); n != 1 {
		t.Errorf("the canary crossed the wire in clear %d times, want once: the control", n)
	}
}

// tap records loopback traffic of some ports, with whichever capture program
// there is; nil when there is none or it may not.
func tap(t *testing.T, file string, ports ...string) func() {
	t.Helper()
	filter := "tcp port " + strings.Join(ports, " or tcp port ")
	var cmd *exec.Cmd
	if p, err := exec.LookPath("tcpdump"); err == nil {
		cmd = exec.Command(p, "-i", "lo", "-U", "-s", "0", "-w", file, filter)
	} else if p, err := exec.LookPath("dumpcap"); err == nil {
		cmd = exec.Command(p, "-q", "-i", "lo", "-f", filter, "-w", file)
	} else {
		return nil
	}
	if os.Geteuid() != 0 {
		return nil
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Signal(os.Interrupt) // Wait tells
		_ = cmd.Wait()                       // interrupted on purpose
	}
}
