package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestUnfinishedRequests: who begins a request and does not end it, at either
// door, with or without a body, is cut; others are served meanwhile.
func TestUnfinishedRequests(t *testing.T) {
	t.Parallel()
	l := startWaits(t, newHome(t, core.Test, ""), waits{header: time.Second, request: 2 * time.Second, answer: 5 * time.Second, stall: 5 * time.Second, idle: time.Second, grace: time.Second})
	socket := filepath.Join(l.home, "data", "hawser.sock")
	dial := map[string]func() (net.Conn, error){
		"local": func() (net.Conn, error) { return net.Dial("unix", socket) },
		"https": func() (net.Conn, error) {
			return tls.Dial("tcp", l.addr.HTTPS, &tls.Config{RootCAs: l.roots, ServerName: "localhost"})
		},
		"before TLS": func() (net.Conn, error) { return net.Dial("tcp", l.addr.HTTPS) },
	}
	for where, open := range dial {
		for what, begin := range map[string]string{
			"nothing":     "",
			"half a head": "POST /v1/devices HTTP/1.1\r\nHost: h\r\nX-",
			"half a body": "POST /v1/devices HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{",
			"chunks":      "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: h\r\nContent-Type: application/pkcs10\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
			"served":      "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
		} {
			t.Run(where+" "+what, func(t *testing.T) {
				t.Parallel()
				conn, err := open()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, begin); err != nil {
					t.Fatal(err)
				}
				_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second)) // the read tells
				began := time.Now()
				if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
					t.Errorf("it still waits after %s", time.Since(began).Round(time.Second))
				}
			})
		}
	}
	l.status(t)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/status HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n"); err != nil {
		t.Logf("write: %v", err) // cut already
	}
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || !bytes.HasSuffix(head, []byte(" 431")) {
		t.Errorf("a head of 64 KB: %q, %v", head, err)
	}
}

// startWaits is start with other times for the HTTP doors.
func startWaits(t testing.TB, home string, w waits) *live {
	t.Helper()
	return startWith(t, home, home, Options{waits: w})
}

// TestReaderThatStopped: somebody asks for all readings of a device and reads
// none of them. The session ends and stands in the ledger, an erasure is not
// held up, and neither is the stop of the server.
func TestReaderThatStopped(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Test, "device_messages_per_second: 100000\n")
	l := startWaits(t, home, waits{header: time.Second, request: 2 * time.Second, answer: 5 * time.Second, stall: 2 * time.Second, idle: time.Second, grace: time.Second})
	const readings = 4000
	l.publish(t, strings.Replace(testDeclaration, "every: 10ms, burst: 1000", "every: 10ms, burst: 10000", 1))
	u := l.enrol(t, "A1")
	c := dialMQTT(t, l, u)
	note := strings.Repeat("n", 60)
	for i := range readings {
		c.publish(t, "telemetry/climate", fmt.Sprintf(`{"temp":%d,"note":"%s","boot":1,"seq":%d}`, i%40, note, i+1))
	}
	c.close(t)
	ask := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("unix", filepath.Join(home, "data", "hawser.sock"))
		if err != nil {
			t.Fatal(err)
		}
		const body = `{"purpose":"service.control","reason":"asks and goes away"}`
		if _, err := fmt.Fprintf(conn, "POST /v1/devices/A1/read HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	stuck := ask()
	defer stuck.Close()
	waitFor(t, 20*time.Second, "the session is open", func() bool { return l.records(t, "read-session-opened") == 1 })
	waitFor(t, 30*time.Second, "and closed, although nobody read", func() bool { return l.records(t, "read-session-closed") == 1 })
	if lines, err := l.readAll(t, "A1"); err != nil || len(lines) != readings {
		t.Errorf("who reads: %d readings, %v", len(lines), err)
	}

	second := ask()
	defer second.Close()
	waitFor(t, 20*time.Second, "another session is open", func() bool { return l.records(t, "read-session-opened") == 3 })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := l.client.Call(ctx, "POST", "/v1/devices/A1/erase", api.ReasonRequest{Reason: "owner asked"}, nil); err != nil {
		t.Errorf("an erasure beside it: %v", err)
	}
}

// TestStopWithAStuckReader: the stop of the server does not wait for somebody
// who does not read, and ends without an error.
func TestStopWithAStuckReader(t *testing.T) {
	home := newHome(t, core.Test, "")
	w := usualWaits()
	w.stall, w.grace = time.Hour, time.Second
	l := startWaits(t, home, w)
	conn, err := net.Dial("unix", filepath.Join(home, "data", "hawser.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// Many requests at once, none of whose answers is read: the socket is full
	// with the first, and the server stands in the middle of one.
	go func() {
		for {
			if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				return
			}
		}
	}()
	time.Sleep(time.Second)
	began := time.Now()
	if err := l.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if d := time.Since(began); d > 15*time.Second {
		t.Errorf("the stop took %s", d)
	}
}
