package gate

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrTicket says that a ticket does not allow what was tried. It is a fault in
// the program, never an answer to a stranger.
var ErrTicket = errors.New("this ticket does not allow that")

// Ticket is the right to compare one credential once. Only a Gate mints one:
// nil, the zero Ticket and a copy that was used are refused.
type Ticket struct{ p *pass }

// pass is shared by all copies of a ticket.
type pass struct {
	g       *Gate
	means   Means
	account string
	at      instant
	charged []place
	known   bool
	state   atomic.Uint32
}

const (
	minted uint32 = iota
	used          // something may be compared, or was
	ended         // right, wrong, or misused
)

// Use is the first thing that a verifier does. It refuses a ticket that no
// Gate minted, one for other means or another account, and one that was used.
// A refused ticket is spent.
func (t *Ticket) Use(m Means, account string) error {
	if t == nil || t.p == nil || t.p.g == nil {
		return fmt.Errorf("compare %s: no gate gave a ticket: %w", m, ErrTicket)
	}
	p := t.p
	if p.means != m || p.account != account {
		p.state.Store(ended)
		return fmt.Errorf("compare %s: the ticket is for %s or of another account: %w", m, p.means, ErrTicket)
	}
	if !p.state.CompareAndSwap(minted, used) {
		return fmt.Errorf("compare %s: the ticket was used before: %w", m, ErrTicket)
	}
	return nil
}

// Known reports whether the attempt came from a known device: it may wait less
// long than strangers for what there is little of. It says nothing of who it is.
func (t *Ticket) Known() bool { return t != nil && t.p != nil && t.p.known }

// Right says that the credential was right: the count is given back, on disk
// when it returns nil. It fails for a ticket that was not used, or ended.
func (t *Ticket) Right(ctx context.Context) error {
	if t == nil || t.p == nil || !t.p.state.CompareAndSwap(used, ended) {
		return fmt.Errorf("right: nothing was compared with this ticket: %w", ErrTicket)
	}
	return t.p.g.right(ctx, t.p)
}

// Wrong says that the credential was wrong, which was counted before; the
// account's owner is told when that is due. A ticket that is neither right nor
// wrong stays counted as wrong.
func (t *Ticket) Wrong(ctx context.Context) error {
	if t == nil || t.p == nil || t.p.state.Swap(ended) == ended {
		return fmt.Errorf("wrong: this ticket has ended: %w", ErrTicket)
	}
	return t.p.g.wrong(ctx, t.p)
}
