package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxPending bounds the connections whose header is awaited. Only balancers
// have one: whoever is not in the range is closed before.
const maxPending = 256

// Options say whose headers are believed.
type Options struct {
	From []netip.Prefix // the balancers; nobody else may connect
	Wait time.Duration  // for a whole header
	Log  *slog.Logger
}

// Listener hands out connections that a balancer passed on, with the address
// that it named. A connection from outside From, one without a header and one
// with a bad header are closed without a word. So is a balancer's own look
// (LOCAL): it has seen that somebody listens.
type Listener struct {
	net.Listener
	o     Options
	slots chan struct{}
	ready chan result
	ended chan struct{}
	once  sync.Once
	work  sync.WaitGroup
}

type result struct {
	conn net.Conn
	err  error
}

// Listen puts the protocol in front of l, a TCP listener.
func Listen(l net.Listener, o Options) (*Listener, error) {
	if len(o.From) == 0 || o.Wait <= 0 || o.Log == nil {
		return nil, errors.New("proxy: needs a range, a time and a log")
	}
	p := &Listener{Listener: l, o: o, slots: make(chan struct{}, maxPending), ready: make(chan result), ended: make(chan struct{})}
	p.work.Go(p.loop)
	return p, nil
}

// Accept waits for the next connection with a good header.
func (p *Listener) Accept() (net.Conn, error) {
	select {
	case r := <-p.ready:
		return r.conn, r.err
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

// Close closes the listener and every connection whose header is awaited.
func (p *Listener) Close() error {
	err := p.Listener.Close()
	p.once.Do(func() { close(p.ended) })
	p.work.Wait()
	return err
}

func (p *Listener) loop() {
	for {
		select {
		case p.slots <- struct{}{}:
		case <-p.ended:
			return
		}
		conn, err := p.Listener.Accept()
		if err != nil {
			<-p.slots
			if errors.Is(err, net.ErrClosed) {
				p.once.Do(func() { close(p.ended) })
				return
			}
			p.hand(result{err: err})
			continue
		}
		p.work.Go(func() {
			defer func() { <-p.slots }()
			p.greet(conn)
		})
	}
}

func (p *Listener) greet(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close() // no address to hold against the range
		return
	}
	near := tcp.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
	refuse := func(why string) {
		p.o.Log.LogAttrs(context.Background(), slog.LevelDebug, "connection refused before its PROXY header was taken", slog.String("from", near.String()), slog.String("reason", why))
		_ = tcp.SetLinger(0) // no TIME_WAIT for what was never let in
		_ = tcp.Close()      // there is nothing to say to it
	}
	if !slices.ContainsFunc(p.o.From, func(r netip.Prefix) bool { return r.Contains(near) }) {
		refuse("not a balancer's address")
		return
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-p.ended:
			_ = tcp.SetReadDeadline(time.Unix(1, 0)) // wakes readHeader
		case <-stop:
		}
	}()
	if err := tcp.SetReadDeadline(time.Now().Add(p.o.Wait)); err != nil {
		refuse(err.Error())
		return
	}
	far, err := readHeader(tcp)
	switch {
	case err != nil:
		refuse(err.Error())
		return
	case !far.IsValid():
		_ = tcp.Close() // LOCAL
		return
	}
	if err := tcp.SetReadDeadline(time.Time{}); err != nil {
		refuse(err.Error())
		return
	}
	p.hand(result{conn: &Conn{TCPConn: tcp, far: net.TCPAddrFromAddrPort(far)}})
}

func (p *Listener) hand(r result) {
	select {
	case p.ready <- r:
	case <-p.ended:
		if r.conn != nil {
			_ = r.conn.Close() // nobody is there to take it
		}
	}
}

// Conn is a connection that a balancer passed on.
type Conn struct {
	*net.TCPConn
	far net.Addr
}

// RemoteAddr is the client's address, as the balancer named it.
func (c *Conn) RemoteAddr() net.Addr { return c.far }

// TCP is the connection itself, to the balancer.
func (c *Conn) TCP() *net.TCPConn { return c.TCPConn }
