package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-iot/hawser/internal/core"
)

// pgFence is a lock on the database that lives as long as one session of it.
// It keeps a second server from starting; that it cannot write while the first
// one lives is held by store_holder, whether or not this session lasts.
type pgFence struct {
	o    PGOptions
	stop context.CancelFunc
	done sync.WaitGroup

	mu   sync.Mutex
	conn *pgx.Conn // nil: being sought
	err  error     // why
	seen time.Time // when the database was last asked and answered that it is ours
}

// heldError is an ErrInUse that says where the server is reached.
type heldError struct{ link string }

func (e *heldError) Error() string { return "the PostgreSQL database: " + ErrInUse.Error() }
func (e *heldError) Unwrap() error { return ErrInUse }

// SetLink says where other servers reach this one, HOST:PORT.
func (t *Tx) SetLink(ctx context.Context, addr string) error {
	if _, err := t.tx.ExecContext(ctx, `UPDATE store_holder SET link = ? WHERE one = 1`, addr); err != nil {
		return fmt.Errorf("say where this server is reached: %w", err)
	}
	return nil
}

const (
	pgFenceKey   = 0x6861_7773_6572 // "hawser"
	pgFencePulse = time.Second
	pgFenceWait  = 2 * time.Second
	pgAwait      = 500 * time.Millisecond
)

// raiseFence takes the lock, or fails with ErrInUse.
func raiseFence(ctx context.Context, p *pgControl) (*pgFence, error) {
	f := &pgFence{o: p.o}
	for end := time.Now().Add(pgFenceWait); ; {
		conn, err := f.connect(ctx)
		if err == nil {
			f.conn, f.seen = conn, time.Now()
			return f, nil
		}
		// The session of a server that was killed takes a moment to end.
		if !errors.Is(err, ErrInUse) || time.Now().After(end) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (f *pgFence) connect(ctx context.Context) (*pgx.Conn, error) {
	c, err := pgConfig(f.o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, 2*pgConnect)
	defer stop()
	conn, err := pgx.ConnectConfig(ctx, c.ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", pgTrouble(err))
	}
	var got bool
	if err = pgLook(ctx, conn); err == nil {
		err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(pgFenceKey)).Scan(&got)
	}
	if err == nil && !got {
		busy := &heldError{}
		if err := conn.QueryRow(ctx, `SELECT link FROM store_holder WHERE one = 1`).Scan(&busy.link); err != nil {
			busy.link = "" // of an older schema, or none yet
		}
		err = busy
	}
	if err != nil {
		_ = conn.Close(ctx) // the error is the one to report
		return nil, pgTrouble(err)
	}
	return conn, nil
}

// keep watches the session and takes the lock again when it broke. A question
// may hang, so that how long there was no answer is watched apart.
func (f *pgFence) keep(p *pgControl) {
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	if f.o.Sight > 0 {
		f.done.Go(func() { f.watch(ctx, p) })
	}
	f.done.Go(func() {
		tick := time.NewTicker(pgFencePulse)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				f.look(ctx, p)
			}
		}
	})
}

// watch gives the store up when the database was not seen for too long.
func (f *pgFence) watch(ctx context.Context, p *pgControl) {
	tick := time.NewTicker(f.o.Sight / 16)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.lost:
			return
		case <-tick.C:
		}
		if unseen := f.unseen(); unseen > f.o.Sight {
			_ = p.lose(ErrUnseen(unseen))
		}
	}
}

// ErrUnseen says that the database was not seen for so long that another server
// may have it.
func ErrUnseen(since time.Duration) error {
	return core.E(core.Unavail, "database-unseen", fmt.Sprintf("the database has not answered for %s; another server may serve since", since.Round(100*time.Millisecond)),
		"see that PostgreSQL runs and can be reached; this server serves again when it can, if no other does")
}

func (f *pgFence) look(ctx context.Context, p *pgControl) {
	f.mu.Lock()
	conn := f.conn
	f.mu.Unlock()
	ctx, stop := context.WithTimeout(ctx, pgConnect)
	defer stop()
	asked := time.Now()
	var mark []byte
	var err error
	if conn == nil {
		conn, err = f.connect(ctx)
	}
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT mark FROM store_holder WHERE one = 1`).Scan(&mark)
	}
	if err == nil && string(mark) != string(p.mark) {
		_ = p.lose(errTaken())
	}
	if err != nil && conn != nil {
		_ = conn.Close(ctx) // it is broken
		conn = nil
	}
	f.mu.Lock()
	f.conn, f.err = conn, pgTrouble(err)
	if err == nil {
		f.seen = asked
	}
	f.mu.Unlock()
}

// Unseen is for how long the database has not said that it is ours: another
// server may have it since. It is 0 with the embedded engine.
func (s *Store) Unseen() time.Duration {
	if s.pg == nil {
		return 0
	}
	return s.pg.fence.unseen()
}

func (f *pgFence) unseen() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.seen)
}

// Awaiting hears why AwaitFree waits, and for whom.
type Awaiting struct {
	Told func(error)  // the reason has changed
	Link func(string) // where the server is reached that has the database; "": not known
}

// AwaitFree waits until no server has the database, or ctx ends. Somebody else
// may be quicker then.
func AwaitFree(ctx context.Context, o PGOptions, a Awaiting) error {
	f := &pgFence{o: o}
	last := ""
	for {
		conn, err := f.connect(ctx)
		if err == nil {
			f.conn = conn
			f.drop()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if text := err.Error(); text != last {
			last = text
			a.Told(err)
		}
		var busy *heldError
		if errors.As(err, &busy) {
			a.Link(busy.link)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pgAwait):
		}
	}
}

// drop gives the lock up.
func (f *pgFence) drop() {
	if f.stop != nil {
		f.stop()
		f.done.Wait()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		ctx, stop := context.WithTimeout(context.Background(), pgConnect)
		defer stop()
		_, _ = f.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`) // so that who comes next need not wait for the end of the session
		_ = f.conn.Close(ctx)                                      // the lock goes with the session at the latest
		f.conn = nil
	}
}
