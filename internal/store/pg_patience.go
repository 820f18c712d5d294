package store

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Lines are the connections to a database that work for one store, whoever uses
// them. When another server may have the database, all of them are cut at once:
// nothing that waits for an answer then holds up who is to give way.
type Lines struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
	gone  bool
}

var errLinesCut = errors.New("this server has given up its connections to the database")

// cut ends every connection, and lets none come about.
func (l *Lines) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	for c := range l.conns {
		_ = c.Close() // whoever uses it is told by its next word
	}
	clear(l.conns)
}

func (l *Lines) add(c net.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		_ = c.Close() // the error below is the one to report
		return errLinesCut
	}
	if l.conns == nil {
		l.conns = map[net.Conn]bool{}
	}
	l.conns[c] = true
	return nil
}

func (l *Lines) remove(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// patientConn is a connection that breaks when the other side says nothing for
// too long. A server that was stopped, or a cable that was cut, would else hold
// us for ever: its own timeouts need it alive.
type patientConn struct {
	net.Conn

	limit time.Duration
	lines *Lines // nil: nobody counts
}

// Close closes.
func (c patientConn) Close() error {
	if c.lines != nil {
		c.lines.remove(c.Conn)
	}
	return c.Conn.Close()
}

// Read reads. The driver reads only while it waits for an answer.
func (c patientConn) Read(b []byte) (int, error) {
	watch := time.AfterFunc(c.limit, func() { _ = c.Conn.Close() })
	defer watch.Stop()
	return c.Conn.Read(b)
}

// Write writes.
func (c patientConn) Write(b []byte) (int, error) {
	watch := time.AfterFunc(c.limit, func() { _ = c.Conn.Close() })
	defer watch.Stop()
	return c.Conn.Write(b)
}

func patientDial(dial pgconn.DialFunc, limit time.Duration, lines *Lines) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if lines != nil {
			if err := lines.add(c); err != nil {
				return nil, err
			}
		}
		return patientConn{Conn: c, limit: limit, lines: lines}, nil
	}
}
