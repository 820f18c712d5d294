package simulate

import (
	"context"
	"net"
	"sync"
)

// radio is a device's way to the server, which can be cut.
type radio struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex // guards what follows
	open  map[net.Conn]struct{}
	dials int
	cuts  int
}

func newRadio(dial func(context.Context, string, string) (net.Conn, error)) *radio {
	return &radio{dial: dial, open: map[net.Conn]struct{}{}}
}

// conn is one connection over it.
type conn struct {
	net.Conn
	r *radio
}

func (c *conn) Close() error {
	c.r.mu.Lock()
	delete(c.r.open, c)
	c.r.mu.Unlock()
	return c.Conn.Close()
}

func (r *radio) connect(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := r.dial(ctx, network, address)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dials++
	if err != nil {
		return nil, err
	}
	c := &conn{raw, r}
	r.open[c] = struct{}{}
	return c, nil
}

// cut ends every connection without a word, as a lost network does for who
// still writes.
func (r *radio) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.open {
		raw := c.(*conn).Conn
		if tcp, ok := raw.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it is cut, not closed
		}
		_ = raw.Close() // its device notices by itself
		r.cuts++
	}
	clear(r.open)
}

func (r *radio) counts() (dials, cuts int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dials, r.cuts
}
