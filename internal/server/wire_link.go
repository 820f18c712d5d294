package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/gateway/link"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
)

// linked is what a server with the keys has of its gateways. With no key `link`
// it is empty, and there are none.
type linked struct {
	*link.Keeper // nil: no gateways
	registry     *gateway.Registry

	mu       sync.Mutex // guards what follows
	sessions map[core.DeviceID]bool
	asked    time.Time // when sessions was made
}

// ownPlace is the name of this server's own gateway: no other has it, because
// theirs begin with a host.
const ownPlace = "/here"

// maxLinkConnections and maxLinkPerSource bound who dials the link: a server
// keeps a connection or two.
const (
	maxLinkConnections = 128
	maxLinkPerSource   = 32
)

// checkLink holds what gateways rest on.
func (c *Config) checkLink() error {
	if c.Link == "" {
		return nil
	}
	bad := func(what, hint string) error {
		return core.E(core.Invalid, "config-link", "config.yaml: link: "+what, hint)
	}
	host, port, err := net.SplitHostPort(c.Link)
	if a, aerr := netip.ParseAddr(host); err != nil || host == "" || port == "" || aerr == nil && a.IsUnspecified() {
		return bad(fmt.Sprintf("%q is no address that others can dial", c.Link), "write host:port, of an address that only your servers reach, as in 10.0.0.11:8890")
	}
	if !c.Turns {
		return bad("without turns", "servers that take turns find each other: `turns: true`")
	}
	return nil
}

// sessionsOf is what tells the gateway of this server where sessions are; nil
// when there is no other.
func (s *server) sessionsOf() gateway.Sessions {
	if s.links.registry == nil {
		return nil
	}
	return gateway.Here{Registry: s.links.registry, Name: ownPlace}
}

// openRegistry makes the register of who is at which gateway.
func (s *server) openRegistry() (err error) {
	if s.c.Link == "" {
		return nil
	}
	s.links.registry, err = gateway.NewRegistry(gateway.RegistryDeps{
		Kept: func(ctx context.Context, id core.DeviceID) (out []command.Listening, err error) {
			err = s.store.View(ctx, func(tx *store.Tx) error { out, err = tx.RememberedOf(ctx, id, s.opt.Now()); return err })
			d, derr := s.devices.Device(id)
			if err != nil || derr != nil {
				return nil, err // who is not registered has nothing kept
			}
			return slices.DeleteFunc(out, func(l command.Listening) bool { return d.Subject != l.Subject }), nil
		},
		Suspect: s.devices.Suspect, Now: s.opt.Now,
	})
	return err
}

// openLink makes the end of the link at the keeper, once its own gateway is
// there.
func (s *server) openLink() error {
	if s.c.Link == "" {
		return nil
	}
	s.links.registry.Join(ownPlace, s.gateway, nil)
	key, _, err := gate.OpenKey(s.c.GateKey)
	if err != nil {
		return err
	}
	secret, err := link.Secret(key)
	if err != nil {
		return err
	}
	s.links.Keeper, err = link.NewKeeper(link.KeeperDeps{
		Secret: secret, Environment: s.inst.Environment, Installation: s.inst.ID, Registry: s.links.registry,
		Identity: s.devices, Legacy: s.devices, Children: &s.kin, Downlink: s.commands, Memory: memory{s},
		Lender: lender{s.ring}, Policies: s.policiesForGateways, Stray: s.intake.NoteStray, Unseen: s.store.Unseen, Log: s.log,
	})
	return err
}

// lender lends the keys of the keyring.
type lender struct{ ring *seal.Keyring }

func (l lender) Lend(_ context.Context, subject core.Subject, e core.Epoch) (seal.Loan, error) {
	return l.ring.Lend(subject, e)
}

func (l lender) EnsureEpoch(ctx context.Context, e core.Epoch) error {
	return l.ring.EnsureEpoch(ctx, e)
}

func (s *server) policiesForGateways(ctx context.Context) ([]link.Policy, error) {
	all, err := s.decl.All(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]link.Policy, 0, len(all))
	for _, p := range all {
		first, err := s.decl.FirstPublished(ctx, p.Product)
		if err != nil {
			return nil, err
		}
		out = append(out, link.Policy{Canonical: p.Canonical, First: first})
	}
	return out, nil
}

// announce says where gateways find this server, which listens there.
func (s *server) announce(ctx context.Context, l net.Listener) error {
	host, _, err := net.SplitHostPort(s.c.Link)
	if err != nil {
		return err
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return errors.New("the link does not listen on TCP")
	}
	return s.store.Update(ctx, func(tx *store.Tx) error { return tx.SetLink(ctx, net.JoinHostPort(host, strconv.Itoa(addr.Port))) })
}

// follow hands identity's changes to every gateway.
func (k *linked) follow(local func(identity.Change)) func(identity.Change) {
	if k.Keeper == nil {
		return local
	}
	return func(c identity.Change) {
		k.Changed(c)
		local(c)
	}
}

// wake delivers what waits for a device, wherever it is.
func (s *server) wake(id core.DeviceID) {
	s.gateway.Wake(id)
	if s.links.Keeper != nil {
		s.links.Wake(id)
	}
}

// enforceAway puts a declaration in force at the gateways.
func (s *server) enforceAway(ctx context.Context, p *declaration.Policy, first time.Time) error {
	if s.links.Keeper == nil {
		return nil
	}
	return s.links.Enforce(ctx, link.Policy{Canonical: p.Canonical, First: first})
}

// settleAway returns when the journal here has all that gateways had sealed.
func (s *server) settleAway(ctx context.Context) error {
	if s.links.Keeper == nil {
		return nil
	}
	last, err := s.links.Settle(ctx)
	if err != nil {
		return fmt.Errorf("what gateways have under way: %w", err)
	}
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for s.journal.Durable() < last {
		select {
		case <-ctx.Done():
			return fmt.Errorf("what gateways have under way: %w", ctx.Err())
		case <-t.C:
		}
	}
	return nil
}

// eraseKeys are the keyring for erasures: what is retired is taken back from
// gateways, too.
type eraseKeys struct {
	*seal.Keyring
	s *server
}

// retireWait is more than it takes until a gateway that is not reached has no
// keys any more.
const retireWait = 2 * link.Sight

// Retire ends sealing for a subject, here and everywhere.
func (k eraseKeys) Retire(subject core.Subject) {
	k.Keyring.Retire(subject)
	if k.s.links.Keeper == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), retireWait)
	defer cancel()
	if err := k.s.links.Retire(ctx, subject); err != nil { // each lease ends by itself within a minute
		k.s.log.Warn("keys on loan could not be taken back at once", slog.Any("err", err))
	}
}

// forgetAway has gateways forget what they know of a subject.
func (s *server) forgetAway(ctx context.Context, subject core.Subject) error {
	if s.links.Keeper == nil {
		return nil
	}
	return s.links.Forget(ctx, subject)
}

// allSessions are the live ones at every gateway.
func (s *server) allSessions(ctx context.Context) ([]gateway.Session, error) {
	out := s.gateway.Sessions()
	if s.links.Keeper == nil {
		return out, nil
	}
	away, err := s.links.Sessions(ctx)
	return append(out, away...), err
}

// awaySeen is how old the list of who is connected elsewhere may be on pages.
const awaySeen = 2 * time.Second

// connected reports whether a device is connected, at any gateway; elsewhere as
// it was up to awaySeen ago.
func (s *server) connected(id core.DeviceID) bool {
	if s.gateway.Connected(id) > 0 {
		return true
	}
	k := &s.links
	if k.Keeper == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.asked) > awaySeen {
		ctx, cancel := context.WithTimeout(context.Background(), awaySeen)
		defer cancel()
		if list, err := k.Sessions(ctx); err == nil {
			k.sessions = make(map[core.DeviceID]bool, len(list))
			for _, x := range list {
				k.sessions[x.Device] = true
			}
		}
		k.asked = time.Now()
	}
	return k.sessions[id]
}

// connections is how many sessions there are, at all gateways.
func (s *server) connections() int {
	n := s.gateway.Stats().Sessions
	if s.links.Keeper != nil {
		for _, g := range s.links.Gateways() {
			n += g.Sessions
		}
	}
	return n
}

// gatewayFindings say how the gateways are.
func (s *server) gatewayFindings(d *diagnosis) {
	if s.links.Keeper == nil {
		return
	}
	all := s.links.Gateways()
	if len(all) == 0 {
		d.instruct("gateways", "no server waits: this one is alone", "start another with the same `link`, `turns`, store, journal and keys")
	}
	for _, g := range all {
		switch {
		case g.Lost:
			d.err("gateways", fmt.Sprintf("%s has not been heard of for %s and takes nobody in", g.Name, g.Heard.Round(time.Second)), "see whether it runs and reaches this server at "+s.c.Link)
		case g.Version != s.opt.Version:
			d.warn("gateways", fmt.Sprintf("%s runs version %s, this one %s", g.Name, g.Version, s.opt.Version), "run the same version everywhere")
		}
	}
}

func (s *server) gateways() (out []api.Gateway) {
	if s.links.Keeper == nil {
		return nil
	}
	for _, g := range s.links.Gateways() {
		out = append(out, api.Gateway{Name: g.Name, Devices: g.Devices, Sessions: g.Sessions, Lost: g.Lost})
	}
	return out
}
