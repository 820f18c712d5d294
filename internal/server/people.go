package server

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/store"
)

// peopleTick is how often sums about people go to the ledger.
const peopleTick = time.Minute

// people is the console's door and what knows who may come in. The door stays
// shut while nobody could: it opens with the first founder's link.
type people struct {
	serve func(*http.Server, net.Listener) // set before anybody can ask

	mu     sync.Mutex // guards what follows
	access *access.Service
	http   *http.Server
	addr   string
}

// service is nil while the door is shut.
func (p *people) service() *access.Service {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.access
}

// address is where the console listens; "" while its door is shut.
func (p *people) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

func (p *people) server() *http.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.http
}

// Shutdown and Close end the door, if it was ever opened.
func (p *people) Shutdown(ctx context.Context) error {
	if h := p.server(); h != nil {
		return h.Shutdown(ctx)
	}
	return nil
}

func (p *people) Close() error {
	if h := p.server(); h != nil {
		return h.Close()
	}
	return nil
}

// openConsoleForSomebody opens the console where somebody was invited.
func (s *server) openConsoleForSomebody(ctx context.Context) error {
	var rows []access.PersonRow
	if err := s.store.View(ctx, func(tx *store.Tx) (err error) { rows, err = tx.People(ctx); return err }); err != nil {
		return fmt.Errorf("look for people: %w", err)
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := s.openConsole(ctx)
	return err
}

// openConsole opens the console's door, if it is not open, and what knows who
// may come in: passkeys belong to the address.
func (s *server) openConsole(ctx context.Context) (*access.Service, error) {
	p := &s.people
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.access != nil {
		return p.access, nil
	}
	l, err := door("tcp", s.c.Console, "console")
	if err != nil {
		return nil, err
	}
	know, err := s.openAccess(ctx, l.Addr().String())
	if err == nil {
		p.http, err = s.consoleServer(know, s.origin(l.Addr().String()))
	}
	if err != nil {
		_ = l.Close() // the error is the one to report
		return nil, err
	}
	p.access, p.addr = know, l.Addr().String()
	p.serve(p.http, l)
	s.log.InfoContext(ctx, "the console is open", slog.String("address", p.addr), slog.String("origin", s.origin(p.addr)))
	return know, nil
}

func (s *server) openAccess(ctx context.Context, addr string) (*access.Service, error) {
	gateKey, _, err := gate.OpenKey(s.c.GateKey)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, gateKey, nil, "hawser access v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of people's addresses: %w", err)
	}
	return access.New(ctx, access.Deps{
		Update: update[access.Tx](s.store), View: view[access.Tx](s.store), Keys: s.ring, Gate: s.gate, Now: s.opt.Now,
		Origin: s.origin(addr), Name: "Hawser", Key: key,
	})
}

// origin is what people type to come to the console at an address.
func (s *server) origin(addr string) string {
	if s.c.ConsoleOrigin != "" {
		return s.c.ConsoleOrigin
	}
	name := "localhost"
	for _, n := range s.c.Names {
		if net.ParseIP(n) == nil {
			name = n
			break
		}
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil || port == "443" {
		return "https://" + name
	}
	return "https://" + net.JoinHostPort(name, port)
}

func (s *server) tickPeople(ctx context.Context) error {
	if a := s.people.service(); a != nil {
		return a.Tick(ctx)
	}
	return nil
}

// peopleAtSocket gives the local door the maker's people.
type peopleAtSocket struct{ s *server }

func (p peopleAtSocket) People(ctx context.Context) ([]access.Person, error) {
	if a := p.s.people.service(); a != nil {
		return a.People(ctx)
	}
	return nil, nil
}

// FounderLink opens the console's door with the first link.
func (p peopleAtSocket) FounderLink(ctx context.Context, by core.Actor) (string, error) {
	a, err := p.s.openConsole(ctx)
	if err != nil {
		return "", err
	}
	return a.FounderLink(ctx, by)
}

func (p peopleAtSocket) Disable(ctx context.Context, by core.Actor, id access.PersonID, why string) error {
	a := p.s.people.service()
	if a == nil {
		return core.E(core.Unknown, "no-such-person", "there is nobody yet", "`hawser people founder` makes the first link")
	}
	return a.Disable(ctx, by, id, why)
}
