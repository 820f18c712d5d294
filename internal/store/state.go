package store

import (
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hawser-iot/hawser/internal/core"
)

// State is how a control database in PostgreSQL is. Of the embedded engine it is
// zero.
type State struct {
	Trouble     error  // why it cannot be used now, or could not the last time; nil: it can
	Connections int    // open now
	Most        int    // that there may be
	Waits       uint64 // how often somebody waited for one
}

// State is how the store is.
func (s *Store) State() State {
	p := s.pg
	if p == nil {
		return State{}
	}
	var out State
	for _, pool := range []*pgxpool.Pool{p.wpool, p.rpool} {
		st := pool.Stat()
		out.Connections += int(st.TotalConns())
		out.Most += int(st.MaxConns())
		out.Waits += uint64(st.EmptyAcquireCount())
	}
	p.fence.mu.Lock()
	out.Trouble = p.fence.err
	p.fence.mu.Unlock()
	p.mu.Lock()
	if out.Trouble == nil {
		out.Trouble = p.trouble
	}
	p.mu.Unlock()
	if err := p.lostWhy(); err != nil {
		out.Trouble = err
	}
	return out
}

// noted keeps what an Update came to: trouble of the database's own, which may
// pass, until an Update succeeds.
func (p *pgControl) noted(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.trouble = nil
	} else if core.KindOf(err) == core.Unavail {
		p.trouble = err
	}
	return err
}
