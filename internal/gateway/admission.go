package gateway

import (
	"net/netip"
	"sync"
	"time"
)

// slots bound how many handshakes compute at the same time: more at once
// would only make each one slower and take the processors from devices that
// are already in.
type slots struct {
	free chan struct{}
	wait time.Duration
}

func newSlots(n int, wait time.Duration) *slots {
	s := &slots{free: make(chan struct{}, n), wait: wait}
	for range n {
		s.free <- struct{}{}
	}
	return s
}

// acquire waits for a slot, at most as long as a handshake may take.
func (s *slots) acquire() bool {
	select {
	case <-s.free:
		return true
	default:
	}
	t := time.NewTimer(s.wait)
	defer t.Stop()
	select {
	case <-s.free:
		return true
	case <-t.C:
		return false
	}
}

func (s *slots) release() { s.free <- struct{}{} }

// lobby counts connections that are open but not authenticated yet, in all
// and by source address, and all connections. It is the queue in front of the
// handshakes: who does not fit is closed at once.
type lobby struct {
	maxAll, maxOne, maxOpen int

	mu   sync.Mutex
	all  int
	open int
	by   map[netip.Prefix]int
}

func newLobby(maxAll, maxOne, maxOpen int) *lobby {
	return &lobby{maxAll: maxAll, maxOne: maxOne, maxOpen: maxOpen, by: map[netip.Prefix]int{}}
}

// source is what counts as one source: an IPv4 address, or the /64 that one
// IPv6 subscriber is given.
func source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all of these are one source
	}
	return p
}

// enter lets a new connection in, or says why not.
func (l *lobby) enter(from netip.Prefix) refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.maxOpen:
		return refuseFull
	case l.all >= l.maxAll:
		return refuseBusy
	case l.by[from] >= l.maxOne:
		return refuseSource
	}
	l.all++
	l.open++
	l.by[from]++
	return ""
}

// authenticated takes a connection out of the lobby; it stays open.
func (l *lobby) authenticated(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.by[from]--; l.by[from] == 0 {
		delete(l.by, from)
	}
}

// closed counts a connection out.
func (l *lobby) closed() {
	l.mu.Lock()
	l.open--
	l.mu.Unlock()
}

// counts are the connections open, and those of them not authenticated.
func (l *lobby) counts() (open, unauthenticated int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open, l.all
}
