package gateway

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// maxPendingBytes is what a client may leave unread, beyond the kernel's own
// buffers, before its connection is closed.
const maxPendingBytes = 64 << 10

// maxHandshakeBytes bounds what a client may send before its handshake is
// done: a hello with a hybrid key share is 1.5 KB, a chain of three 3 KB.
const maxHandshakeBytes = 32 << 10

// drainTimeout is how long a client that reads slowly may take for what it
// was sent.
const drainTimeout = 20 * time.Second

var (
	errSlowReader    = errors.New("client does not read what it is sent")
	errHandshakeSize = errors.New("handshake of too many bytes")
	errNoSlot        = errors.New("no processor slot in time")
)

// socket is the TCP connection under a tls.Conn. Its Write never waits for
// the client: it tries one system call that does not block, keeps the rest in
// a bounded buffer, and a goroutine that lives only that long sends it on.
// So acknowledgements are written by whoever has them, and one client that
// does not read costs the others nothing.
//
// While a handshake is under way, Read gives back the connection's processor
// slot before it waits and takes one again before TLS computes.
type socket struct {
	tcp *net.TCPConn
	raw syscall.RawConn
	try func(fd uintptr) bool // bound once, so that a write allocates nothing

	slots *slots // nil once the handshake is done
	held  bool
	got   int  // bytes received during the handshake
	ended bool // the client has closed its side; only for who reads

	mu      sync.Mutex
	pending []byte // sealed records that the kernel has not taken yet
	err     error  // for good
	// The arguments and results of try.
	tryBuf []byte
	tryN   int
	tryErr error
}

// tcpOf is the TCP connection that nc is, or that a balancer passed nc on with;
// nil is neither.
func tcpOf(nc net.Conn) *net.TCPConn {
	switch c := nc.(type) {
	case *net.TCPConn:
		return c
	case interface{ TCP() *net.TCPConn }:
		return c.TCP()
	}
	return nil
}

func newSocket(tcp *net.TCPConn, s *slots) (*socket, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	k := &socket{tcp: tcp, raw: raw, slots: s}
	k.try = k.tryWrite
	return k, nil
}

func (k *socket) tryWrite(fd uintptr) bool {
	for {
		k.tryN, k.tryErr = syscall.Write(int(fd), k.tryBuf)
		if k.tryErr != syscall.EINTR {
			return true // also on EAGAIN: never wait here
		}
	}
}

// Read waits for the client, within the deadline.
func (k *socket) Read(b []byte) (int, error) {
	if k.slots == nil {
		n, err := k.tcp.Read(b)
		k.ended = k.ended || err == io.EOF
		return n, err
	}
	if k.held {
		k.slots.release()
		k.held = false
	}
	n, err := k.tcp.Read(b)
	if err != nil {
		return n, err
	}
	if k.got += n; k.got > maxHandshakeBytes {
		return 0, errHandshakeSize
	}
	if !k.slots.acquire() {
		return 0, errNoSlot
	}
	k.held = true
	return n, nil
}

// established ends the handshake's accounting.
func (k *socket) established() {
	if k.slots != nil && k.held {
		k.slots.release()
	}
	k.slots, k.held = nil, false
}

// Write takes all of b or fails for good; it never waits.
func (k *socket) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return 0, k.err
	}
	if len(k.pending) > 0 {
		return k.keep(b, len(b))
	}
	k.tryBuf = b
	err := k.raw.Write(k.try)
	k.tryBuf = nil
	if err == nil {
		err = k.tryErr
	}
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		k.err = err
		return 0, err
	}
	n := max(k.tryN, 0)
	if n == len(b) {
		return n, nil
	}
	return k.keep(b[n:], len(b))
}

// keep puts what is left into the buffer and sees that somebody drains it.
// The lock is held.
func (k *socket) keep(rest []byte, all int) (int, error) {
	if len(k.pending)+len(rest) > maxPendingBytes {
		k.err = errSlowReader
		_ = k.tcp.Close() // the error to tell is k.err; this wakes the drain and the reader
		return 0, k.err
	}
	start := len(k.pending) == 0
	k.pending = append(k.pending, rest...)
	if start {
		go k.drain()
	}
	return all, nil
}

// drain sends what is pending, waiting for the client, and ends.
func (k *socket) drain() {
	for {
		k.mu.Lock()
		b := k.pending
		if k.err != nil || len(b) == 0 {
			k.pending = nil
			k.mu.Unlock()
			return
		}
		k.mu.Unlock()
		// Only drain writes while something is pending, so the bytes below
		// len(b) are its own; an append beyond them does not move them under it.
		err := k.tcp.SetWriteDeadline(time.Now().Add(drainTimeout))
		var n int
		if err == nil {
			n, err = k.tcp.Write(b)
		}
		k.mu.Lock()
		if err != nil {
			if k.err == nil {
				k.err = err
			}
			_ = k.tcp.Close() // a record cut in its middle ends the connection; k.err tells why
		} else {
			k.pending = append(k.pending[:0:0], k.pending[n:]...)
		}
		k.mu.Unlock()
	}
}

// idle reports whether the kernel has taken everything.
func (k *socket) idle() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.pending) == 0 || k.err != nil
}

// shut tells the client that nothing more comes, while what was written still
// arrives. Reading what the client sent meanwhile avoids a reset, which could
// take the last packet from it; that is bounded in bytes and time.
func (k *socket) shut(within time.Duration) {
	end := time.Now().Add(within)
	for !k.idle() && time.Now().Before(end) {
		time.Sleep(5 * time.Millisecond)
	}
	if k.tcp.CloseWrite() != nil || k.tcp.SetReadDeadline(end) != nil {
		return
	}
	var trash [512]byte
	for range 1024 {
		if _, err := k.tcp.Read(trash[:]); err != nil {
			return // io.EOF: the client closed too
		}
	}
}

// Close closes the TCP connection.
func (k *socket) Close() error {
	k.mu.Lock()
	if k.err == nil {
		k.err = io.ErrClosedPipe
	}
	k.mu.Unlock()
	return k.tcp.Close()
}

// LocalAddr is the server's address.
func (k *socket) LocalAddr() net.Addr { return k.tcp.LocalAddr() }

// RemoteAddr is the client's address.
func (k *socket) RemoteAddr() net.Addr { return k.tcp.RemoteAddr() }

// SetDeadline sets the read deadline: writes never wait.
func (k *socket) SetDeadline(t time.Time) error { return k.tcp.SetReadDeadline(t) }

// SetReadDeadline bounds Read.
func (k *socket) SetReadDeadline(t time.Time) error { return k.tcp.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes never wait, and the drain has its own
// deadline. crypto/tls sets one around its last alert.
func (k *socket) SetWriteDeadline(time.Time) error { return nil }
