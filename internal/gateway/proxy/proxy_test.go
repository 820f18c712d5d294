package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

func header(verCmd, fam byte, rest []byte) []byte {
	b := append([]byte(signature), verCmd, fam)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(rest))), rest...)
}

var (
	v4 = []byte{192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0x22, 0xb3}
	v6 = append(append(netip.MustParseAddr("2001:db8::7").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice()...), 0x30, 0x39, 0x22, 0xb3)
)

func TestReadHeader(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want string // empty: refused
	}{
		"IPv4":                {header(0x21, 0x11, v4), "192.0.2.7:12345"},
		"IPv6":                {header(0x21, 0x21, v6), "[2001:db8::7]:12345"},
		"TLVs":                {header(0x21, 0x11, append(bytes.Clone(v4), 0x04, 0, 1, 'x')), "192.0.2.7:12345"},
		"local":               {header(0x20, 0x00, nil), "invalid AddrPort"},
		"version 1":           {[]byte("PROXY TCP4 192.0.2.7 198.51.100.1 12345 8883\r\n"), ""},
		"version 3":           {header(0x31, 0x11, v4), ""},
		"unknown command":     {header(0x22, 0x11, v4), ""},
		"UDP":                 {header(0x21, 0x12, v4), ""},
		"Unix":                {header(0x21, 0x31, make([]byte, 216)), ""},
		"unspecified":         {header(0x21, 0x00, nil), ""},
		"IPv6 in IPv4's room": {header(0x21, 0x21, v4), ""},
		"too long":            {header(0x21, 0x11, make([]byte, maxRestBytes+1)), ""},
		"cut":                 {header(0x21, 0x11, v4)[:20], ""},
		"nothing":             {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := bytes.NewReader(append(bytes.Clone(c.in), "after"...))
			if name == "cut" {
				r = bytes.NewReader(c.in)
			}
			got, err := readHeader(r)
			if (err == nil) != (c.want != "") || err == nil && got.String() != c.want {
				t.Fatalf("got %v, %v; want %q", got, err, c.want)
			}
			if err == nil && r.Len() != len("after") {
				t.Errorf("%d bytes are left, want %d: what follows belongs to TLS", r.Len(), len("after"))
			}
		})
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add(header(0x21, 0x11, v4))
	f.Add(header(0x21, 0x21, v6))
	f.Add(header(0x20, 0x00, nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		a, err := readHeader(r)
		if err == nil && len(in)-r.Len() != fixedBytes+int(binary.BigEndian.Uint16(in[14:])) {
			t.Errorf("took %d bytes", len(in)-r.Len())
		}
		if err != nil && a.IsValid() {
			t.Errorf("address %v beside an error", a)
		}
	})
}

func open(t *testing.T, from string, wait time.Duration) *Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Listen(l, Options{From: []netip.Prefix{netip.MustParsePrefix(from)}, Wait: wait, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// dial gives nil when the connection was reset before it was seen to be there.
func dial(t *testing.T, p *Listener, send []byte) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Write(send); err != nil {
		t.Logf("write: %v", err) // it may be closed already
	}
	return c
}

func TestBalancerNamesTheClient(t *testing.T) {
	p := open(t, "127.0.0.0/8", 300*time.Millisecond)
	dial(t, p, nil) // says nothing, and keeps nobody out
	dial(t, p, append(header(0x21, 0x11, v4), "hello"...))
	c, err := p.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if got, want := c.RemoteAddr().String(), "192.0.2.7:12345"; got != want {
		t.Errorf("from %s, want %s", got, want)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestOthersAreClosed(t *testing.T) {
	for name, c := range map[string]struct {
		from string
		send []byte
	}{
		"a header from elsewhere":   {"10.0.0.0/8", header(0x21, 0x11, v4)},
		"no header from a balancer": {"127.0.0.0/8", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and what a hello holds")},
		"silence from a balancer":   {"127.0.0.0/8", nil},
		"a look of the balancer":    {"127.0.0.0/8", header(0x20, 0, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, c.from, 300*time.Millisecond)
			taken := make(chan struct{})
			go func() {
				if _, err := p.Accept(); err == nil {
					close(taken)
				}
			}()
			conn := dial(t, p, c.send)
			if conn == nil {
				return
			}
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("got %d bytes", n)
			} else if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Error("left open")
			}
			select {
			case <-taken:
				t.Error("it was handed out")
			default:
			}
		})
	}
}

func TestCloseWaitsForNobody(t *testing.T) {
	p := open(t, "127.0.0.0/8", time.Hour)
	dial(t, p, nil)
	time.Sleep(20 * time.Millisecond)
	begun := time.Now()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("close took %v", d)
	}
	if _, err := p.Accept(); err == nil {
		t.Error("a closed listener handed out a connection")
	}
}
