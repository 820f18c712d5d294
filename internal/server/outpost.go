package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/gateway/link"
	"github.com/hawser-iot/hawser/internal/gateway/proxy"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// outpost is what a server does that waits for its turn: it takes devices in
// for the one that serves. It opens neither keyring nor store.
type outpost struct {
	c   *Config
	o   Options
	log *slog.Logger

	link    *link.Gateway
	ca      *identity.CA
	keys    *seal.Borrowed
	journal *journal.Journal
	intake  *telemetry.Intake
	gateway *gateway.Gateway
	mqtt    net.Listener
	behind  net.Listener // nil without balancers
	release func() error // of the authority's keys; nil: none are held
}

// stand takes devices in until ctx ends. at gives where the keeper is. What goes
// wrong is logged, and tried again: whoever waits goes on waiting.
func stand(ctx context.Context, c *Config, o Options, log *slog.Logger, at func() string) {
	for ctx.Err() == nil {
		p := &outpost{c: c, o: o, log: log}
		err := p.run(ctx, at)
		if ctx.Err() != nil {
			return
		}
		log.Error("no devices are taken in here while this server waits", slog.Any("err", err))
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
}

func (p *outpost) run(ctx context.Context, at func() string) (err error) {
	defer func() { err = errors.Join(err, p.close()) }()
	key, _, err := gate.OpenKey(p.c.GateKey)
	if err != nil {
		return err
	}
	secret, err := link.Secret(key)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find this machine's name: %w", err)
	}
	if p.link, err = link.NewGateway(link.GatewayDeps{Secret: secret, Name: host + ":" + p.c.Data, Keeper: at, Log: p.log}); err != nil {
		return err
	}
	home, err := p.link.Meet(ctx)
	if err != nil {
		return err
	}
	if err := p.open(ctx, home); err != nil {
		return err
	}
	var work, joined sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	talk, hush := context.WithCancel(context.WithoutCancel(ctx))
	defer hush()
	serve := func(l net.Listener) {
		work.Go(func() {
			if err := p.gateway.Serve(ctx, l); err != nil {
				cancel(err)
			}
		})
	}
	serve(p.mqtt)
	if p.behind != nil {
		serve(p.behind)
	}
	work.Go(func() { p.rereadCA(ctx) })
	p.log.Info("taking devices in for the server that has the keys", slog.String("devices", p.mqtt.Addr().String()))
	joined.Go(func() { p.link.Run(talk, p) })
	<-ctx.Done()
	if errors.Is(context.Cause(ctx), errTurn) {
		hush() // there is nobody to talk to
	}
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), outpostStop)
	defer done()
	err = p.gateway.Shutdown(stop)
	hush()
	joined.Wait()
	work.Wait()
	return errors.Join(context.Cause(ctx), err)
}

// errTurn says that it is this server's turn.
var errTurn = errors.New("it is this server's turn")

// open makes everything that needs no keeper.
func (p *outpost) open(ctx context.Context, home link.Welcome) (err error) {
	places, release, err := AuthorityKeys(p.c)
	if err != nil {
		return err
	}
	p.release = release
	if p.ca, err = identity.OpenCA(identity.OpenOptions{Environment: home.Environment, Dir: p.c.CA, Keys: places, Now: p.o.Now}); err != nil {
		return err
	}
	cert, err := identity.NewServerCertificate(p.ca, p.c.Names)
	if err != nil {
		return err
	}
	dir := filepath.Join(p.c.Data, "journal")
	if _, err := os.Stat(filepath.Join(dir, "jetstream")); err == nil {
		return core.E(core.Conflict, "journal-not-filed", "a journal of this server's own lies in "+dir, "let this server have its turn once: it files what is there")
	}
	if p.journal, err = journal.Open(ctx, journal.Options{Dir: dir, MaxBytes: p.c.JournalMaxBytes, Log: p.log, Now: p.o.Now, Cluster: p.c.cluster(home.Installation), May: p.may}); err != nil {
		return err
	}
	p.keys = seal.NewBorrowed(p.link, p.o.Now)
	if p.intake, err = telemetry.NewIntake(telemetry.IntakeDeps{Keys: p.keys, Journal: p.journal, Now: p.o.Now, Log: p.log}); err != nil {
		return err
	}
	if p.gateway, err = gateway.New(gateway.Deps{
		Config: gateway.Config{
			HandshakeTimeout: time.Duration(p.c.HandshakeTimeout), ConnectTimeout: time.Duration(p.c.HandshakeTimeout),
			MaxConnections: p.c.MaxConnections, DeviceMessagesPerSecond: p.c.DeviceMessagesPerSecond,
			ProductMessagesPerSecond: p.c.ProductMessagesPerSecond,
		},
		Environment: home.Environment, Certificate: cert.GetCertificate, DeviceCAs: p.ca.ClientPool,
		Identity: p.link, Legacy: p.link, Intake: p.intake, Children: p.link, Downlink: p.link, Memory: p.link, Sessions: p.link,
		Trouble: p.trouble, Knows: p.link.Fresh, Now: p.o.Now, Log: p.log,
	}); err != nil {
		return err
	}
	return p.listen()
}

func (p *outpost) listen() (err error) {
	if p.mqtt, err = door("tcp", p.c.Devices, "devices"); err != nil || p.c.BalancedDevices == "" {
		return err
	}
	from, err := p.c.balancers()
	if err != nil {
		return err
	}
	l, err := door("tcp", p.c.BalancedDevices, "balanced_devices")
	if err != nil {
		return err
	}
	if p.behind, err = proxy.Listen(l, proxy.Options{From: from, Wait: headerWait, Log: p.log}); err != nil {
		_ = l.Close() // nobody has come
	}
	return err
}

// close gives everything back. What was acknowledged is in the journal.
func (p *outpost) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), outpostStop)
	defer cancel()
	var errs []error
	if p.gateway != nil {
		errs = append(errs, p.gateway.Shutdown(ctx))
	}
	for _, l := range []net.Listener{p.mqtt, p.behind} {
		if l != nil {
			_ = l.Close() // Shutdown has closed it, if its door ever came to open
		}
	}
	if p.journal != nil {
		errs = append(errs, p.journal.Close(ctx))
	}
	if p.release != nil {
		errs = append(errs, p.release())
	}
	return errors.Join(errs...)
}

// outpostStop bounds the end of an outpost: it is this server's turn, and
// nobody else serves until it does.
const outpostStop = 3 * time.Second

// rereadCA takes renewed intermediates.
func (p *outpost) rereadCA(ctx context.Context) {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := p.ca.Reread()
		if err != nil && !said {
			p.log.Warn("the authority's folder cannot be read; who it was goes on being trusted", slog.Any("err", err))
		}
		said = err != nil
	}
}

func (p *outpost) trouble() error { return p.journal.State().Trouble }

// may lets nothing into the journal while it is not known who is welcome. A
// process that was paused looks at the time here, before anything else of it
// does.
func (p *outpost) may() error {
	if !p.link.Fresh() {
		return errNotFresh
	}
	return nil
}

var errNotFresh error = core.E(core.Unavail, "gateway-alone", "this gateway does not know who is welcome: the server that has the keys is not reached", "it takes devices in again by itself when it is")

// Begin is link.Door's.
func (p *outpost) Begin(ctx context.Context, all []link.Policy) error {
	p.keys.Clear()
	if err := p.ca.Reread(); err != nil {
		return err
	}
	for _, x := range all {
		if err := p.Enforce(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// Enforce is link.Door's.
func (p *outpost) Enforce(_ context.Context, x link.Policy) error {
	policy, err := declaration.ParsePolicy(x.Canonical)
	if err != nil {
		return err
	}
	if now := p.intake.Plan(policy.Product); now != nil && now.Policy() == policy.Hash {
		return nil // and with it what was found under it
	}
	plan, err := telemetry.NewPlan(policy, x.First)
	if err != nil {
		return err
	}
	p.intake.SetPlan(plan)
	p.gateway.SetPolicy(policy)
	return nil
}

// Follow is link.Door's.
func (p *outpost) Follow(c identity.Change) { p.gateway.Follow(c) }

// Wake is link.Door's.
func (p *outpost) Wake(id core.DeviceID) { p.gateway.Wake(id) }

// Refresh is link.Door's.
func (p *outpost) Refresh(id core.DeviceID) { p.gateway.Refresh(id) }

// Retire is link.Door's.
func (p *outpost) Retire(s core.Subject) { p.keys.Retire(s) }

// Forget is link.Door's.
func (p *outpost) Forget(s core.Subject) { p.intake.Forget(s) }

// Yield is link.Door's.
func (p *outpost) Yield(ctx context.Context, y gateway.Yield) (gateway.Yielded, error) {
	return p.gateway.Yield(ctx, y)
}

// Settle is link.Door's.
func (p *outpost) Settle(ctx context.Context) (uint64, error) {
	p.intake.Quiesce()
	return p.journal.Barrier(ctx)
}

// Sessions is link.Door's.
func (p *outpost) Sessions() []gateway.Session { return p.gateway.Sessions() }

// Held is link.Door's.
func (p *outpost) Held() []gateway.Held { return p.gateway.Held() }

// straysAtOnce bounds what one question to the keeper carries of names.
const straysAtOnce = 256

// Strays is link.Door's.
func (p *outpost) Strays() []telemetry.Stray { return p.intake.Strays(straysAtOnce) }

// Told is link.Door's.
func (p *outpost) Told(list []telemetry.Stray) { p.intake.Told(list) }

// State is link.Door's.
func (p *outpost) State() link.State {
	n := p.intake.Counters()
	s := link.State{Version: p.o.Version, Devices: p.mqtt.Addr().String(), Sessions: p.gateway.Stats().Sessions, Accepted: n.Accepted}
	for _, r := range n.Refused {
		s.Refused += r
	}
	return s
}

// Doubt is link.Door's.
func (p *outpost) Doubt(doubt bool) { p.gateway.Doubt(doubt) }

// place is where the server is whose turn it is, as the database says.
type place struct{ addr atomic.Pointer[string] }

func (p *place) set(addr string) { p.addr.Store(&addr) }

func (p *place) get() string {
	if a := p.addr.Load(); a != nil {
		return *a
	}
	return ""
}
