package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestEmptyConfigOpensNothingElse: two doors and a socket, TLS on both, and
// nobody is let in (CC 2.8, 1.9, 3.1).
func TestEmptyConfigOpensNothingElse(t *testing.T) {
	l := start(t, newHome(t, core.Live, ""))
	for _, addr := range []string{l.addr.Devices, l.addr.HTTPS} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		// A cleartext CONNECT, as MQTT on port 1883 would begin.
		if _, err := conn.Write([]byte("\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc")); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second)) // a closed one reads EOF anyway
		b, err := io.ReadAll(conn)
		if len(b) > 0 && b[0] == 0x20 {
			t.Errorf("%s answers a cleartext CONNECT with CONNACK", addr)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s keeps a cleartext client waiting", addr)
		}
		_ = conn.Close()
		if c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: l.roots, ServerName: "localhost", MaxVersion: tls.VersionTLS12}); err == nil {
			_ = c.Close()
			t.Errorf("%s speaks TLS 1.2 although no product declares it", addr)
		}
	}
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: l.tls(nil)}}
	for path, want := range map[string]int{
		"/healthz": 200, "/checkpoint": 200, "/.well-known/est/cacerts": 200, "/.well-known/est/csrattrs": 200, "/crl": 200,
		"/": 404, "/v1/devices": 404, "/v1/status": 404, "/metrics": 404, "/debug/pprof/": 404, "/tile/entries/000": 404,
	} {
		resp, err := hc.Get("https://" + l.addr.HTTPS + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body) // only the status counts
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	if tcp := listeners(t); tcp != nil && len(tcp) != 2 {
		t.Errorf("the process listens on %v, want two doors", tcp)
	}
	// The console opens with the first link, and shows nothing to strangers.
	var link api.Link
	l.call(t, "POST", "/v1/people/founder", nil, &link)
	u, err := url.Parse(link.Link)
	if err != nil {
		t.Fatal(err)
	}
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for path, want := range map[string]int{"/": 303, "/devices": 303, "/people": 303, "/sign-in": 200, "/v1/status": 404, "/metrics": 404, "/set-up/guess": 404} {
		resp, err := hc.Get("https://" + u.Host + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body) // only the status counts
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("console: GET %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	if tcp := listeners(t); tcp != nil && len(tcp) != 3 {
		t.Errorf("the process listens on %v, want three doors", tcp)
	}
}

// listeners are the TCP ports on which this process listens; nil where that is
// not observable.
func listeners(t *testing.T) []string {
	t.Helper()
	inodes := map[string]bool{}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			if n, ok := strings.CutPrefix(to, "socket:["); ok {
				inodes[strings.TrimSuffix(n, "]")] = true
			}
		}
	}
	ports := []string{}
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && inodes[f[9]] {
				ports = append(ports, f[1])
			}
		}
	}
	return ports
}

// TestJourney: declaration, enrolment, reading, withheld fields, erasure,
// silence until reopened (design, section 4).
func TestJourney(t *testing.T) { journey(t, newHome(t, core.Test, "")) }

func journey(t *testing.T, home string) {
	t.Helper()
	l := start(t, home)
	var added api.DeviceAdded
	l.call(t, "POST", "/v1/devices", api.AddDeviceRequest{Device: "A1", Product: "test-sensor"}, &added)
	l.publish(t, testDeclaration)
	u := l.enrolWith(t, "A1", added.Code)
	c := dialMQTT(t, l, u)
	c.publish(t, "telemetry/climate", `{"temp":21.26,"note":"kitchen","secret":7,"ssid":"wifi","boot":1,"seq":1}`)
	if code, err := c.try("telemetry/climate", `{"temp":900}`); code != 0x99 {
		t.Errorf("an impossible value: 0x%02x, %v; want 0x99", code, err)
	}
	lines, err := l.readAll(t, "A1")
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 || string(lines[0].Values) != `{"note":"kitchen","temp":21.3}` {
		t.Fatalf("read back: %+v", lines)
	}
	var shown api.Device
	l.call(t, "GET", "/v1/devices/A1", nil, &shown)
	if shown.Counts.Accepted != 1 || shown.Counts.Stored != 1 || shown.Counts.DroppedFields != 1 || !shown.Connected {
		t.Errorf("counts: %+v %+v", shown, shown.Counts)
	}

	var receipt api.Receipt
	l.call(t, "POST", "/v1/devices/A1/erase", api.ReasonRequest{Reason: "owner asked"}, &receipt)
	if receipt.Destroys != "best-effort" || receipt.Subject != shown.Subject {
		t.Errorf("receipt: %+v", receipt)
	}
	_, err = l.readAll(t, "A1")
	wantReason(t, "a read after the erasure", err, core.Unknown, "the device belongs to nobody")
	// The session lives on; its readings are acknowledged, dropped and counted.
	c.publish(t, "telemetry/climate", `{"temp":22,"boot":1,"seq":2}`)
	l.call(t, "POST", "/v1/devices/A1/reopen", nil, &receipt)
	c.publish(t, "telemetry/climate", `{"temp":23,"boot":1,"seq":3}`)
	lines, err = l.readAll(t, "A1")
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 || string(lines[0].Values) != `{"temp":23}` {
		t.Errorf("after reopening: %+v", lines)
	}
	var sums api.Counts
	l.call(t, "GET", "/v1/counts", nil, &sums)
	if sums.Dropped["unowned"] != 1 {
		t.Errorf("dropped: %+v", sums.Dropped)
	}
}

// TestRevocationCuts: a live session ends within a second of the answer, a new
// one is refused, and a receipt stands in the ledger (CC 3.2).
func TestRevocationCuts(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	c := dialMQTT(t, l, u)
	c.publish(t, "telemetry/climate", `{"temp":1}`)
	l.call(t, "POST", "/v1/devices/A1/revoke", api.ReasonRequest{Reason: "stolen"}, nil)
	select {
	case <-c.gone:
	case <-time.After(time.Second):
		t.Fatal("the session lives on a second after the revocation")
	}
	const revoked = `hawser_gateway_ended_connections_total{reason="revoked"}`
	before, _ := l.findMetric(t, revoked)
	if _, err := tryMQTT(t.Context(), l, u); err == nil {
		t.Error("a revoked device connected")
	}
	if n := l.metric(t, revoked); n != before+1 {
		t.Errorf("%v refusals for being revoked, want %v", n, before+1)
	}
	waitFor(t, 5*time.Second, "a receipt stands in the ledger", func() bool {
		var page api.Entries
		l.call(t, "GET", "/v1/ledger/entries?from=0&kind=device-revoked", nil, &page)
		return len(page.Entries) == 1
	})
}

// TestSecondServerIsRefused names why, and the first goes on.
func TestSecondServerIsRefused(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	c, err := LoadConfig(l.home)
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), c, Options{})
	if core.ReasonOf(err) != "data-in-use" {
		t.Errorf("a second server: %v", err)
	}
	var s api.Status
	l.call(t, "GET", "/v1/status", nil, &s)
}

// TestServeWithoutInstallation makes nothing and says what to do.
func TestServeWithoutInstallation(t *testing.T) {
	home := t.TempDir()
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), c, Options{}); core.ReasonOf(err) != "not-initialised" {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) != 0 {
		t.Errorf("serve left %v behind, %v", left, err)
	}
}

// TestForeignEnvironment: an identity of test is refused by live (CC 3.11).
func TestForeignEnvironment(t *testing.T) {
	testSide, liveSide := start(t, newHome(t, core.Test, "")), start(t, newHome(t, core.Live, ""))
	testSide.publish(t, testDeclaration)
	liveSide.publish(t, testDeclaration)
	u := testSide.enrol(t, "A1")
	conf := liveSide.tls(u)
	conn, err := tls.Dial("tcp", liveSide.addr.Devices, conf)
	if err == nil {
		// TLS 1.3 tells the client only when it reads.
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second)) // the read below fails either way
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "remote error: tls:") {
		t.Errorf("live took an identity of test: %v", err)
	}
}

// TestStopIsOrderly: Run returns only when everything has stopped.
func TestStopIsOrderly(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	began := time.Now()
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("stopping took %s", d)
	}
	if _, err := net.DialTimeout("tcp", l.addr.Devices, time.Second); err == nil {
		t.Error("the devices' door is still open")
	}
	if err := l.client.Call(context.Background(), "GET", "/v1/status", nil, nil); core.ReasonOf(err) != "no-server" {
		t.Errorf("the local socket after the stop: %v", err)
	}
}
