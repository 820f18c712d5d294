package gateway

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// pair is a socket and the client at its other end.
func pair(t *testing.T) (*socket, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	k, err := newSocket(server.(*net.TCPConn), newSlots(1, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	k.established()
	t.Cleanup(func() {
		_ = client.Close()
		_ = k.Close()
	})
	return k, client.(*net.TCPConn)
}

func TestWriteNeverWaits(t *testing.T) {
	k, client := pair(t)
	if err := k.tcp.SetWriteBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("x"), 8<<10)
	written := 0
	start := time.Now()
	var err error
	for err == nil && written < 64<<20 {
		var n int
		n, err = k.Write(chunk)
		written += n
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("writing to a client that does not read took %v", took)
	}
	if !errors.Is(err, errSlowReader) {
		t.Fatalf("after %d bytes: %v, want %v", written, err, errSlowReader)
	}
	if _, err := k.Write([]byte("more")); !errors.Is(err, errSlowReader) {
		t.Errorf("a later write: %v", err)
	}
	if n, err := io.Copy(io.Discard, client); err == nil && n >= int64(written)+int64(len(chunk)) {
		t.Errorf("the client read %d bytes of %d and saw no end", n, written)
	}
}

func TestWhatTheKernelDoesNotTakeArrivesInOrder(t *testing.T) {
	k, client := pair(t)
	if err := k.tcp.SetWriteBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if err := client.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	const total = 96 << 10
	want := make([]byte, total)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	got, begin := make(chan []byte), make(chan struct{})
	go func() {
		<-begin // when the kernel takes no more, however much that is
		var all []byte
		buf := make([]byte, 1500)
		for len(all) < total {
			n, err := client.Read(buf)
			if err != nil {
				break
			}
			all = append(all, buf[:n]...)
		}
		got <- all
	}()
	kept := 0
	for off := 0; off < total; off += 1000 {
		for !k.idle() { // as acknowledgements do: no more than the client earns
			if kept++; kept == 1 {
				close(begin)
			}
			time.Sleep(100 * time.Microsecond)
		}
		if _, err := k.Write(want[off:min(off+1000, total)]); err != nil {
			t.Fatal(err)
		}
	}
	if kept == 0 {
		close(begin)
	}
	if all := <-got; !bytes.Equal(all, want) {
		t.Fatalf("%d bytes arrived, of %d, or in another order", len(all), total)
	}
	if kept == 0 {
		t.Error("the kernel took everything at once: the test tested nothing")
	}
}

func TestHandshakeBytesAreBounded(t *testing.T) {
	k, client := pair(t)
	k.slots = newSlots(1, time.Second)
	go func() { _, _ = client.Write(make([]byte, maxHandshakeBytes+1)) }()
	if err := k.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	var err error
	for err == nil {
		_, err = k.Read(buf)
	}
	if !errors.Is(err, errHandshakeSize) {
		t.Errorf("got %v, want %v", err, errHandshakeSize)
	}
}

func TestShutLetsTheLastWordArrive(t *testing.T) {
	k, client := pair(t)
	// The client has sent what nobody reads: a plain close would reset the
	// connection and could take the last word with it.
	if _, err := client.Write(make([]byte, 32<<10)); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Write([]byte("because")); err != nil {
		t.Fatal(err)
	}
	go func() {
		k.shut(time.Second)
		_ = k.Close()
	}()
	time.Sleep(20 * time.Millisecond)
	b, err := io.ReadAll(client)
	if err != nil || string(b) != "because" {
		t.Errorf("the client read %q, %v", b, err)
	}
}
