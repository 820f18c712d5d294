package server

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/console"
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

	breached *access.BreachedFile // nil: none is configured

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
	d := access.Deps{
		Update: update[access.Tx](s.store), View: view[access.Tx](s.store), Keys: s.ring, Gate: s.gate, Now: s.opt.Now,
		Origin: s.origin(addr), Name: s.maker(), Key: key, Words: s.c.Names, Products: s.productNames, Erase: s.erasePerson,
	}
	if s.people.breached != nil {
		d.Breached = s.people.breached
	}
	return access.New(ctx, d)
}

// maker is what this installation is called by its people's authenticators.
func (s *server) maker() string {
	if s.c.Maker == "" {
		return "Hawser"
	}
	return s.c.Maker
}

// productNames are what the maker's products are called now: no password may
// rest on them.
func (s *server) productNames() []string {
	all, err := s.decl.All(context.Background())
	if err != nil {
		s.log.Warn("names of products are not known; passwords that rest on them are not refused", slog.Any("err", err))
		return nil
	}
	var out []string
	for _, p := range all {
		out = append(out, string(p.Product), p.Name)
	}
	return out
}

// erasePerson makes what is sealed of a person unreadable, here and in every
// backup, and unlinks the rest.
func (s *server) erasePerson(ctx context.Context, by core.Actor, subject core.Subject, why string) error {
	_, err := s.telem.erase.EraseSubject(ctx, by, subject, why)
	return err
}

// openBreached opens the maker's list of breached passwords, where one is
// configured: a server that cannot read it does not start.
func (s *server) openBreached() error {
	if s.c.BreachedPasswords == "" {
		return nil
	}
	f, err := access.OpenBreached(s.c.BreachedPasswords)
	if err != nil {
		return &core.Error{Kind: core.Unready, Reason: "breached-passwords", Message: "the list of breached passwords cannot be used: " + err.Error(), Hint: "the key `breached_passwords` names it; leave the key out to go without", Err: err}
	}
	s.people.breached = f
	return nil
}

// passwordRules say what new passwords are held against.
func (s *server) passwordRules() console.PasswordRules {
	r := console.PasswordRules{Names: []string{s.maker()}, Products: len(s.productNames())}
	r.Names = append(r.Names, s.c.Names...)
	if f := s.people.breached; f != nil {
		r.Breached, r.BreachedBytes = filepath.Base(s.c.BreachedPasswords), f.Size()
	}
	return r
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
	return p.with(func(a *access.Service) error { return a.Disable(ctx, by, id, why) })
}

func (p peopleAtSocket) SetRoles(ctx context.Context, by core.Actor, id access.PersonID, roles []access.Role, approver bool) error {
	return p.with(func(a *access.Service) error { return a.SetRoles(ctx, by, id, roles, approver) })
}

func (p peopleAtSocket) Erase(ctx context.Context, by core.Actor, id access.PersonID, why string) error {
	return p.with(func(a *access.Service) error { return a.Erase(ctx, by, id, why) })
}

func (p peopleAtSocket) InviteAssessor(ctx context.Context, by core.Actor, of access.Period) (link string, err error) {
	err = p.with(func(a *access.Service) error { link, err = a.InviteAssessor(ctx, by, of); return err })
	return link, err
}

func (p peopleAtSocket) Refound(ctx context.Context, by core.Actor, why string) (r access.Refounding, err error) {
	err = p.with(func(a *access.Service) error { r, err = a.Refound(ctx, by, why); return err })
	return r, err
}

// with does something with people, where there are any.
func (p peopleAtSocket) with(do func(*access.Service) error) error {
	a := p.s.people.service()
	if a == nil {
		return core.E(core.Unknown, "no-such-person", "there is nobody yet", "`hawser people founder` makes the first link")
	}
	return do(a)
}
