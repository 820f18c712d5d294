package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// everybody may, whoever it is: the operating system says that it is us.
func everybody(Peer, string) bool { return true }

// served is a client of some routes, behind a local socket as in the server.
func served(t *testing.T, stall time.Duration, routes ...Route) (c *Client, socket string) {
	t.Helper()
	h, err := Handler(routes, Options{Allow: everybody, Log: slog.New(slog.DiscardHandler), Stall: stall})
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ConnContext: WithPeer, WriteTimeout: stall}
	go func() { _ = s.Serve(l) }()      // ends with the next line
	t.Cleanup(func() { _ = s.Close() }) // the test is over
	return NewClient(socket), socket
}

// TestRoutesNeedAPermission: no permission, no start.
func TestRoutesNeedAPermission(t *testing.T) {
	h := func(http.ResponseWriter, *http.Request, core.Actor) error { return nil }
	o := Options{Allow: everybody, Log: slog.New(slog.DiscardHandler), Stall: time.Second}
	for _, r := range []Route{{"GET /a", "", h}, {"GET /a", "a", nil}} {
		if _, err := Handler([]Route{r}, o); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
	for _, o := range []Options{{Log: o.Log, Stall: 1}, {Allow: everybody, Stall: 1}, {Allow: everybody, Log: o.Log}} {
		if _, err := Handler(nil, o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// TestWhoMayNotIsRefused: every route, and before its handler runs.
func TestWhoMayNotIsRefused(t *testing.T) {
	ran := false
	h, err := Handler([]Route{{"GET /a", "a.read", func(http.ResponseWriter, *http.Request, core.Actor) error { ran = true; return nil }}},
		Options{Allow: func(_ Peer, p string) bool { return p != "a.read" }, Log: slog.New(slog.DiscardHandler), Stall: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range []func(context.Context, net.Conn) context.Context{WithPeer, nil} { // nil: nobody knows who it is
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: h, ConnContext: with}
		go func() { _ = s.Serve(l) }() // ends with Close
		if err := NewClient(socket).Call(t.Context(), "GET", "/a", nil, nil); core.KindOf(err) != core.Denied || ran {
			t.Errorf("got %v, the handler ran: %t", err, ran)
		}
		_ = s.Close()
	}
}

// TestBodies: too large, half, twice, unknown: each is refused by its name.
func TestBodies(t *testing.T) {
	c, _ := served(t, 10*time.Second, Route{"POST /a", "a", func(w http.ResponseWriter, r *http.Request, _ core.Actor) error {
		var req ReasonRequest
		if err := decode(r, &req); err != nil {
			return err
		}
		return writeJSON(w, req)
	}})
	for name, x := range map[string]struct {
		in   any
		kind core.Kind
	}{
		"good":        {ReasonRequest{Reason: "because of this"}, 0},
		"too large":   {ReasonRequest{Reason: strings.Repeat("x", maxBodyBytes)}, core.TooLarge},
		"unknown key": {map[string]string{"reason": "because of this", "why": "x"}, core.Invalid},
		"no reason":   {ReasonRequest{}, core.Invalid},
		"another":     {[]int{1}, core.Invalid},
	} {
		var out ReasonRequest
		err := c.Call(t.Context(), "POST", "/a", x.in, &out)
		if x.kind == 0 && (err != nil || out.Reason != "because of this") || x.kind != 0 && core.KindOf(err) != x.kind {
			t.Errorf("%s: %v, %+v", name, err, out)
		}
	}
}

// TestStoppedReader: who asks and does not read on is let go, and the handler
// with all that it holds; who reads slowly gets everything.
func TestStoppedReader(t *testing.T) {
	const stall = 500 * time.Millisecond
	const lines = 40_000
	ended := make(chan error, 1)
	line := strings.Repeat("x", 99) + "\n"
	_, socket := served(t, stall, Route{"GET /long", "a", func(w http.ResponseWriter, _ *http.Request, _ core.Actor) error {
		for range lines {
			if _, err := io.WriteString(w, line); err != nil {
				ended <- err
				return err
			}
		}
		ended <- nil
		return nil
	}})
	ask := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(conn, "GET /long HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	stuck := ask()
	defer stuck.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("all of it was written to somebody who does not read")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the handler waits for ever")
	}
	slow := ask()
	defer slow.Close()
	resp, err := http.ReadResponse(bufio.NewReaderSize(slow, 4096), nil)
	if err != nil {
		t.Fatal(err)
	}
	n, began := int64(0), time.Now()
	for {
		m, err := io.CopyN(io.Discard, resp.Body, lines*100/20)
		n += m
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		time.Sleep(stall / 5)
	}
	if n != lines*100 || time.Since(began) < 2*stall {
		t.Errorf("%d bytes of %d, in %s", n, lines*100, time.Since(began))
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestBrokenAnswer: an answer that fails when it has begun is cut; half of it is
// never taken for the whole, and nothing that is not of it stands in it.
func TestBrokenAnswer(t *testing.T) {
	for name, fail := range map[string]func() error{
		"an error": func() error { return errors.New("the disk") },
		"a panic":  func() error { panic("a fault of ours") },
	} {
		c, _ := served(t, 10*time.Second, Route{"GET /part", "a", func(w http.ResponseWriter, _ *http.Request, _ core.Actor) error {
			if _, err := io.WriteString(w, strings.Repeat("line\n", 5000)); err != nil {
				return err
			}
			return fail()
		}}, Route{"GET /none", "a", func(http.ResponseWriter, *http.Request, core.Actor) error { return fail() }})
		err := c.Stream(t.Context(), "GET", "/part", nil, func(line []byte) error {
			if string(line) != "line" {
				return fmt.Errorf("a line that is not of the answer: %s", line)
			}
			return nil
		})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the client sees %v", name, err)
		}
		if err := c.Call(t.Context(), "GET", "/none", nil, nil); core.KindOf(err) != core.Internal || strings.Contains(err.Error(), "disk") {
			t.Errorf("%s, before anything was written: %v", name, err)
		}
	}
}
