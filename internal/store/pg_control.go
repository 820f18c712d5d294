package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/hawser-iot/hawser/internal/core"
)

// pgControl is a control database in PostgreSQL.
type pgControl struct {
	o      PGOptions
	wpool  *pgxpool.Pool
	rpool  *pgxpool.Pool
	w, r   *sql.DB
	writer chan struct{} // holds one token: who has it may write
	mark   []byte        // what stands in store_holder while we may write
	fence  *pgFence

	mu      sync.Mutex
	unknown string // transaction whose end is not known; "" when there is none
	trouble error  // of the last Update; nil when it succeeded
	lost    chan struct{}
	why     error // set before lost is closed
}

const (
	pgReaders = 8
	pgWriters = 3 // the one, one that asks what became of its commit, one that cleans
)

func (s *Store) openPG(ctx context.Context, o PGOptions) error {
	o.Lines = &Lines{}
	p := &pgControl{o: o, writer: make(chan struct{}, 1), lost: make(chan struct{}), mark: make([]byte, 16)}
	_, _ = rand.Read(p.mark) // never fails
	s.pg = p                 // whatever is open is closed with the store
	var err error
	if p.fence, err = raiseFence(ctx, p); err != nil {
		return err
	}
	if err := migratePG(ctx, o); err != nil {
		return fmt.Errorf("open the control database: %w", pgTrouble(err))
	}
	o.MaxConns = pgWriters
	if p.wpool, err = OpenPG(ctx, o); err != nil {
		return err
	}
	p.w = stdlib.OpenDBFromPool(p.wpool)
	p.w.SetMaxIdleConns(0) // the pool below keeps them
	p.writer <- struct{}{}
	p.fence.seen = time.Now() // migrating may have taken long
	err = inEngineTx(ctx, p.w, postgresEngine, nil, func(t *Tx) error { return p.take(ctx, t, s.moved) })
	if err != nil {
		return fmt.Errorf("open the control database: %w", pgTrouble(err))
	}
	if err := p.sendAway(ctx); err != nil {
		return fmt.Errorf("open the control database: %w", pgTrouble(err))
	}
	o.MaxConns = pgReaders
	if p.rpool, err = OpenPG(ctx, o); err != nil {
		return err
	}
	p.r = stdlib.OpenDBFromPool(p.rpool)
	p.r.SetMaxIdleConns(0)
	p.fence.keep(p)
	return nil
}

// migratePG brings the schema up to date, with patience for large tables.
func migratePG(ctx context.Context, o PGOptions) error {
	o.MaxConns, o.Patience = 1, 12*time.Hour
	pool, err := OpenPG(ctx, o)
	if err != nil {
		return err
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }() // the pool is what is open
	return inEngineTx(ctx, db, postgresEngine, nil, func(t *Tx) error { return migrate(ctx, t) })
}

// sendAway ends every session of a server before us. It may still believe that
// it is alone; new ones do not come about, because they look at the mark, and
// who came before the mark was changed is seen here.
func (p *pgControl) sendAway(ctx context.Context) error {
	c, err := p.wpool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	_, err = c.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND usename = current_user AND application_name LIKE 'hawser%' AND pid NOT IN (pg_backend_pid(), $1)`,
		int64(p.fence.conn.PgConn().PID()))
	return err
}

// For gives the options of connections that work for the store elsewhere: they
// come about only while it may write, and end when it is lost. With the embedded
// engine they stay as they are.
func (s *Store) For(o PGOptions) PGOptions {
	if s.pg != nil {
		o.Mark, o.Lines = hex.EncodeToString(s.pg.mark), s.pg.o.Lines
	}
	return o
}

func errTaken() error {
	return core.E(core.Unavail, "database-taken", "another server has taken the database over", "only one server may run on it; end one of them")
}

// take makes this process the one that may write. It waits for a writer of the
// one before, and for whoever writes readings under its mark.
func (p *pgControl) take(ctx context.Context, t *Tx, movedToo bool) error {
	var moved string
	if err := t.tx.QueryRowContext(ctx, `SELECT moved_to FROM store_holder WHERE one = 1 FOR UPDATE`).Scan(&moved); err != nil {
		return fmt.Errorf("read who holds the database: %w", err)
	}
	if moved != "" && !movedToo {
		return errMoved(moved)
	}
	if _, err := t.tx.ExecContext(ctx, `UPDATE store_holder SET mark = ?, link = '' WHERE one = 1`, p.mark); err != nil {
		return fmt.Errorf("take the database: %w", err)
	}
	return nil
}

// Lost is closed when this process must not go on with the store: another one
// has taken the database, or may have it since nobody answered, or what is in
// memory may differ from what it holds. LostWhy then says which, and no connection
// to the database is left. The embedded engine never loses its store.
func (s *Store) Lost() <-chan struct{} {
	if s.pg == nil {
		return nil
	}
	return s.pg.lost
}

// LostWhy is why the store was lost, nil when it was not.
func (s *Store) LostWhy() error {
	if s.pg == nil {
		return nil
	}
	return s.pg.lostWhy()
}

func (p *pgControl) lostWhy() error {
	select {
	case <-p.lost:
		return p.why
	default:
		return nil
	}
}

func (p *pgControl) lose(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lostWhy() == nil {
		p.why = err
		close(p.lost)
		p.o.Lines.cut()
	}
	return p.why
}

func (p *pgControl) view(ctx context.Context, fn func(*Tx) error) error {
	if err := p.lostWhy(); err != nil {
		return err
	}
	tx, err := begin(ctx, p.r, p.rpool, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return pgTrouble(err)
	}
	defer func() { _ = tx.Rollback() }() // nothing to keep
	return pgTrouble(fn(&Tx{tx: engineTx{Tx: tx, engine: postgresEngine}}))
}

// begin begins a transaction. Sessions that broke while nobody used them, as
// after a restart of the server, are given up, and another one is tried.
func begin(ctx context.Context, db *sql.DB, pool *pgxpool.Pool, o *sql.TxOptions) (*sql.Tx, error) {
	tx, err := db.BeginTx(ctx, o)
	if err != nil && ctx.Err() == nil && (pgLost(err) || strings.HasPrefix(pgCode(err), "57P")) {
		pool.Reset()
		tx, err = db.BeginTx(ctx, o)
	}
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return tx, nil
}

// update runs one writer after another. Its first statement locks the row that
// says who may write: it waits for every writer before it, whichever process
// that is in, and what it reads after that is what they left. So a transaction
// at READ COMMITTED sees and leaves what a serial run would, without retries.
func (p *pgControl) update(ctx context.Context, fn func(*Tx) error) error {
	select {
	case <-p.writer:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { p.writer <- struct{}{} }()
	return p.noted(p.write(ctx, fn))
}

// write runs the one writer whose turn it is.
func (p *pgControl) write(ctx context.Context, fn func(*Tx) error) error {
	if err := p.lostWhy(); err != nil {
		return err
	}
	if err := p.resolve(ctx); err != nil { // of the writer before
		return err
	}
	// The end of a commit must not hang on the patience of who asked for it.
	tx, err := begin(context.WithoutCancel(ctx), p.w, p.wpool, nil)
	if err != nil {
		return pgTrouble(err)
	}
	defer func() { _ = tx.Rollback() }() // a no-op after Commit
	t := &Tx{tx: engineTx{Tx: tx, engine: postgresEngine}}
	xid, err := p.may(ctx, t)
	if err != nil {
		return p.meaning(err)
	}
	if err := fn(t); err != nil {
		return p.meaning(err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return p.afterCommit(ctx, xid, fmt.Errorf("commit: %w", err))
	}
	return nil
}

// meaning is what an error means. A session that may not write stays so when
// the database may again: it is given up.
func (p *pgControl) meaning(err error) error {
	if pgCode(err) == "25006" {
		p.wpool.Reset()
	}
	return pgTrouble(err)
}

// may asks whether this process still may write, and takes the turn. It gives
// the transaction's id.
func (p *pgControl) may(ctx context.Context, t *Tx) (xid string, err error) {
	var mark []byte
	var moved string
	err = t.tx.QueryRowContext(ctx, `SELECT mark, moved_to, pg_current_xact_id()::text FROM store_holder WHERE one = 1 FOR NO KEY UPDATE`).Scan(&mark, &moved, &xid)
	if err != nil {
		return "", fmt.Errorf("begin: %w", err)
	}
	if string(mark) != string(p.mark) {
		return "", p.lose(errTaken())
	}
	return xid, nil
}

// afterCommit finds out what became of a transaction whose commit gave an
// error. Only the database knows when the connection broke (PostgreSQL manual,
// pg_xact_status).
func (p *pgControl) afterCommit(ctx context.Context, xid string, err error) error {
	if pgCode(err) != "" && !pgLost(err) && pgCode(err)[:2] != "57" {
		return pgTrouble(err) // the server said no
	}
	p.mu.Lock()
	p.unknown = xid
	p.mu.Unlock()
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), p.o.patience())
	defer stop()
	done, rerr := p.outcome(ctx)
	switch {
	case rerr != nil:
		return pgTrouble(errors.Join(err, rerr))
	case done:
		return nil
	}
	return pgTrouble(err)
}

// resolve settles the transaction whose end is not known, before another one
// begins. When it turns out to be committed after its writer was told that it
// failed, memory and database differ: the store is lost.
func (p *pgControl) resolve(ctx context.Context) error {
	p.mu.Lock()
	open := p.unknown != ""
	p.mu.Unlock()
	if !open {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, pgConnect)
	defer stop()
	done, err := p.outcome(ctx)
	if err != nil {
		return pgTrouble(fmt.Errorf("look for the end of the transaction before: %w", err))
	}
	if done {
		return p.lose(core.E(core.Unavail, "database-differs", "a change that was reported as failed was made after all", "the server begins anew with what the database holds"))
	}
	return nil
}

// outcome asks until the database knows whether the unknown transaction was
// committed, and forgets it then.
func (p *pgControl) outcome(ctx context.Context) (committed bool, err error) {
	p.mu.Lock()
	xid := p.unknown
	p.mu.Unlock()
	for {
		var status sql.NullString
		err := p.w.QueryRowContext(ctx, `SELECT pg_xact_status($1::xid8)`, xid).Scan(&status)
		if err == nil && status.String != "in progress" {
			p.mu.Lock()
			p.unknown = ""
			p.mu.Unlock()
			return status.String == "committed", nil
		}
		select {
		case <-p.lost:
			return false, p.why
		case <-ctx.Done():
			return false, errors.Join(ctx.Err(), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (p *pgControl) close() error {
	var errs []error
	if p.fence != nil {
		p.fence.drop()
	}
	for _, db := range []*sql.DB{p.r, p.w} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	for _, pool := range []*pgxpool.Pool{p.rpool, p.wpool} {
		if pool != nil {
			pool.Close()
		}
	}
	return errors.Join(errs...)
}
