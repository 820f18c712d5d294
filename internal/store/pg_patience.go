package store

import (
	"context"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// patientConn is a connection that breaks when the other side says nothing for
// too long. A server that was stopped, or a cable that was cut, would else hold
// us for ever: its own timeouts need it alive.
type patientConn struct {
	net.Conn

	limit time.Duration
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

func patientDial(dial pgconn.DialFunc, limit time.Duration) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return patientConn{Conn: c, limit: limit}, nil
	}
}
