package server

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// speakMQTT answers a CONNECT in clear, as a broker without TLS does.
func speakMQTT(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the test is over
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var b [64]byte
			if n, _ := c.Read(b[:]); n > 0 && b[0] == 0x10 {
				_, _ = io.WriteString(c, "\x20\x02\x00\x00") // the test sees whether it came
			}
			_ = c.Close()
		}
	}()
	return l
}

// TestForeignBrokerIsSeen: MQTT in clear is seen whoever opened the port, as
// often as it is looked for; a port that speaks something else is not asked
// again for an hour.
func TestForeignBrokerIsSeen(t *testing.T) {
	broker := speakMQTT(t)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }() // the test is over
	asked := make(chan struct{}, 10)
	go func() {
		for {
			c, err := mute.Accept()
			if err != nil {
				return
			}
			asked <- struct{}{}
			_ = c.Close()
		}
	}()
	var f answers
	now := time.Now()
	at := func(l net.Listener, inode string) listener {
		return listener{addr: netip.MustParseAddrPort(l.Addr().String()), inode: inode}
	}
	for range 3 {
		if !f.clear(t.Context(), at(broker, "1"), now) {
			t.Error("a broker without TLS is not seen")
		}
		if f.clear(t.Context(), at(mute, "2"), now) {
			t.Error("a port that says nothing counts as a broker")
		}
	}
	if n := len(asked); n != 1 {
		t.Errorf("another program's port was asked %d times, want once", n)
	}
	f.clear(t.Context(), at(mute, "2"), now.Add(askAgain))
	f.clear(t.Context(), at(mute, "3"), now)
	if n := len(asked); n != 3 {
		t.Errorf("asked %d times: an hour later, and on a new port, it is asked again", n)
	}
}

// TestListenersAreSeen: a port of this process is found in the kernel's table
// as ours, and is gone from it when it is closed.
func TestListenersAreSeen(t *testing.T) {
	var k sockets
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	find := func() (ours, there bool) {
		all, err := k.listeners()
		if err != nil {
			t.Skipf("TestListenersAreSeen needs the kernel's table: %v", err)
		}
		for _, x := range all {
			if x.addr.String() == l.Addr().String() {
				return x.ours, true
			}
		}
		return false, false
	}
	if ours, there := find(); !there || !ours {
		t.Errorf("own port: there %v, ours %v", there, ours)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, there := find(); there {
		t.Error("a closed port is still there")
	}
}

// TestChosenVersion reads what a TLS server answers to a hello.
func TestChosenVersion(t *testing.T) {
	l := speakMQTT(t)
	if v, err := hello(context.Background(), l.Addr().String(), doorWait, 0x0303, 0x0304); err != nil || v != 0 {
		t.Errorf("a port in clear chose %x %v", v, err)
	}
	for name, record := range map[string]string{
		"nothing": "", "short": "\x16\x03", "alert": "\x15\x03\x03\x00\x02\x02\x46", "other": "HTTP/1.1 400 Bad Request",
	} {
		want := uint16(0)
		if name == "alert" {
			want = refusedTLS
		}
		if got := chosen([]byte(record)); got != want {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
	}
}

func FuzzChosen(f *testing.F) {
	f.Add([]byte("\x15\x03\x03\x00\x02\x02\x46"))
	f.Add([]byte("\x16\x03\x03\x00\x30\x02\x00\x00\x2c\x03\x03"))
	f.Fuzz(func(_ *testing.T, b []byte) { chosen(b) })
}
