package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/console"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/sampling"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Options are what Run needs beside the configuration.
type Options struct {
	Version string
	Log     io.Writer
	// Now is the time that everything goes by: keep-times, certificates,
	// rates. nil: time.Now.
	Now func() time.Time
	// Ready, if not nil, is called once when all doors are open.
	Ready func(Addresses)

	// Selftest tries every violation of every check on a twin, in a process of
	// its own. nil: nobody does, and no check counts as seen red.
	Selftest func(ctx context.Context, progress func(done, total int64)) ([]check.Proof, error)

	// Alone says that nothing but this server listens in its process: a port
	// that nobody declared is shut (CC 4.13).
	Alone bool

	waits waits // zero: usualWaits; tests shorten them
	// beforeKeep is called when a batch is on disk and its answer is not kept
	// yet; nil but in tests.
	beforeKeep func()
	still      bool // no check runs by itself: twins are looked at when a trial says so
}

// Addresses are the doors as they were opened: with port 0 configured, the
// system chose.
type Addresses struct {
	Devices, HTTPS, Socket         string
	Link                           string // for gateways; "" where there are none
	BalancedDevices, BalancedHTTPS string // for balancers; "" where there are none
}

// stopTime bounds an orderly stop.
const stopTime = 20 * time.Second

// giveWayTime bounds the stop of a server whose store is lost: another one waits
// for the keys, and what is not acknowledged by now will not be.
const giveWayTime = 2 * time.Second

// stopIn is how long an orderly stop may take.
func (s *server) stopIn() time.Duration {
	if s.store != nil && s.store.LostWhy() != nil {
		return giveWayTime
	}
	return stopTime
}

// server is everything that runs. It is wired in open and taken apart in close,
// in the opposite order.
type server struct {
	c       *Config
	opt     Options
	log     *slog.Logger
	started time.Time
	addr    Addresses

	keys     *keyPlaces
	store    *store.Store
	inst     store.Installation
	clock    *clock
	ring     *seal.Keyring
	ledger   *ledger.Ledger
	decl     *declaration.Service
	ca       *identity.CA
	cert     *identity.ServerCertificate
	gate     *gate.Gate
	people   people
	devices  *identity.Service
	journal  *journal.Journal
	intake   *telemetry.Intake
	gateway  *gateway.Gateway
	telem    telemetryParts
	services serviceParts
	commands *command.Service
	loose    loose
	jobs     []*job
	publish  sync.Mutex // one publishing at a time: store and doors must agree
	followed follower
	inside   *inside
	assure   *assurance.Service
	samples  *sampling.Service
	crl      crl
	rounds   *checker
	waivers  roundsIn  // the ledger's records of waivers
	staff    *followed // and of people
	sockets  sockets
	answers  answers
	reach    reach
	kin      kin
	held     heldSockets
	links    linked
	terms    termsOf
	other    otherAuthority
	public   public
	pages    atomic.Pointer[console.Console] // nil while the console's door is shut
}

// follower hands identity's changes to the gateway, which is made later.
type follower struct {
	mu sync.Mutex
	to func(identity.Change)
}

func (f *follower) notify(c identity.Change) {
	f.mu.Lock()
	to := f.to
	f.mu.Unlock()
	if to != nil {
		to(c)
	}
}

func (f *follower) set(to func(identity.Change)) {
	f.mu.Lock()
	f.to = to
	f.mu.Unlock()
}

func newLog(c *Config, w io.Writer) *slog.Logger {
	if w == nil {
		return slog.New(slog.DiscardHandler)
	}
	if c.Log == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// Run opens a home folder, serves until ctx is done, and returns when
// everything has stopped. What was acknowledged is on disk, however it ends.
func Run(ctx context.Context, c *Config, o Options) error {
	if c.Turns {
		return takeTurns(ctx, c, o)
	}
	return newServer(c, o).run(ctx)
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Version == "" {
		o.Version = "unreleased"
	}
	if o.waits == (waits{}) {
		o.waits = usualWaits()
	}
	return o
}

func newServer(c *Config, o Options) *server {
	o = o.withDefaults()
	return &server{c: c, opt: o, log: newLog(c, o.Log), started: o.Now()}
}

// run opens, serves until ctx is done, and gives everything back.
func (s *server) run(ctx context.Context) error {
	err := s.open(ctx)
	if err == nil {
		err = s.serve(ctx)
	}
	if s.store != nil && !errors.Is(err, s.store.LostWhy()) {
		err = errors.Join(s.store.LostWhy(), err) // what else it failed by may only be what followed
	}
	return errors.Join(err, s.close())
}

// open opens every store and wires every capability. Nothing listens yet.
func (s *server) open(ctx context.Context) (err error) {
	if err := installed(ctx, s.c); err != nil {
		return err
	}
	if s.store, err = store.Open(ctx, storeOf(s.c)); err != nil {
		if errors.Is(err, store.ErrInUse) {
			return &core.Error{Kind: core.Conflict, Reason: "data-in-use", Message: "another server runs on " + s.c.Data + orStore(s.c), Hint: "stop it first; one data folder, and one database, has one server", Err: err}
		}
		return err
	}
	if err := s.store.View(ctx, func(tx *store.Tx) error { s.inst, err = tx.Installation(ctx); return err }); err != nil {
		return err
	}
	if s.clock, err = openClock(ctx, s.store, s.inst, s.opt.Now); err != nil {
		return err
	}
	if err := s.openKeys(ctx); err != nil {
		return err
	}
	if s.decl, err = declaration.NewService(declaration.Deps{
		Update: update[declaration.Tx](s.store), View: view[declaration.Tx](s.store), Now: s.opt.Now, Environment: s.inst.Environment,
	}); err != nil {
		return err
	}
	if err := errors.Join(s.openGate(ctx), s.openBreached()); err != nil {
		return err
	}
	s.terms.declared = policies{s.decl}
	tokens, err := s.tokenKey()
	if err != nil {
		return err
	}
	if s.devices, err = identity.New(ctx, identity.Deps{
		TokenKey: tokens, Gate: s.gate, CA: s.ca, Update: update[identity.Tx](s.store), View: view[identity.Tx](s.store),
		Policies: &s.terms, Keys: s.ring, Notify: s.followed.notify, Now: s.opt.Now,
	}); err != nil {
		return err
	}
	s.kin.Service = s.devices
	if err = s.openJournal(ctx); err != nil {
		return err
	}
	if s.intake, err = telemetry.NewIntake(telemetry.IntakeDeps{Keys: s.ring, Journal: s.journal, Now: s.opt.Now, Log: s.log}); err != nil {
		return err
	}
	if err := s.openTelemetry(ctx); err != nil {
		return err
	}
	if err := s.openReaders(ctx); err != nil {
		return err
	}
	if err := s.finishHalfDone(ctx); err != nil {
		return err
	}
	if err := s.openRegistry(); err != nil {
		return err
	}
	if s.gateway, err = gateway.New(gateway.Deps{
		Config: gateway.Config{
			HandshakeTimeout: time.Duration(s.c.HandshakeTimeout), ConnectTimeout: time.Duration(s.c.HandshakeTimeout),
			MaxConnections: s.c.MaxConnections, DeviceMessagesPerSecond: s.c.DeviceMessagesPerSecond,
			ProductMessagesPerSecond: s.c.ProductMessagesPerSecond,
		},
		Environment: s.inst.Environment, Certificate: s.cert.GetCertificate, DeviceCAs: s.ca.ClientPool,
		Identity: s.devices, Legacy: s.devices, Intake: s.intake, Children: &s.kin, Downlink: s.commands, Memory: memory{s}, Sessions: s.sessionsOf(), Authority: &s.reach, Trouble: func() error { return s.journal.State().Trouble }, Knows: s.knows(), Now: s.opt.Now, Log: s.log,
	}); err != nil {
		return err
	}
	if err := s.recall(ctx); err != nil {
		return err
	}
	if err := s.openLink(); err != nil {
		return err
	}
	s.followed.set(s.links.follow(s.gateway.Follow))
	if err := s.enforceAll(ctx); err != nil {
		return err
	}
	s.jobs = append(s.jobs, s.ownJobs()...)
	return s.openAssurance(ctx)
}

// openKeys opens what lies outside the data folder.
func (s *server) openKeys(ctx context.Context) (err error) {
	if s.keys, err = openKeyPlaces(s.c); err != nil {
		return err
	}
	if s.ring, err = seal.Open(ctx, seal.Options{Copies: s.c.Keyring, Roots: s.keys.roots, Now: s.opt.Now}); err != nil {
		return err
	}
	key, err := ledger.LoadKey(s.c.LedgerKey)
	if err != nil {
		return err
	}
	if s.ledger, err = ledger.Open(ctx, ledgerDeps(s.c, s.store, s.inst, key, s.opt.Now, s.log)); err != nil {
		return err
	}
	if s.ca, err = identity.OpenCA(identity.OpenOptions{Environment: s.inst.Environment, Dir: s.c.CA, Keys: s.keys.authority, Now: s.opt.Now}); err != nil {
		return err
	}
	s.cert, err = identity.NewServerCertificate(s.ca, s.c.Names)
	return err
}

// enforce puts a declaration in force at every door.
func (s *server) enforce(ctx context.Context, p *declaration.Policy) error {
	first, err := s.decl.FirstPublished(ctx, p.Product)
	if err != nil {
		return err
	}
	plan, err := telemetry.NewPlan(p, first)
	if err != nil {
		return err
	}
	if err := s.telem.undeclared.Keep(ctx); err != nil { // what the plan before has found
		return err
	}
	if err := s.telem.undeclared.Load(ctx, plan); err != nil {
		return err
	}
	s.intake.SetPlan(plan)
	s.devices.SetLegacy(p.Product, legacyTerms(p))
	s.gateway.SetPolicy(p)
	return s.enforceAway(ctx, p, first)
}

func (s *server) enforceAll(ctx context.Context) error {
	all, err := s.decl.All(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if err := s.enforce(ctx, p); err != nil {
			return fmt.Errorf("enforce declaration of %s: %w", p.Product, err)
		}
	}
	return s.intake.Prepare(ctx)
}

func (s *server) ownJobs() []*job {
	return []*job{
		{name: "epoch-keys", period: time.Minute, run: s.intake.Prepare},
		{name: "gate-tidy", period: time.Hour, run: s.gate.Tidy},
		{name: "answers-trim", period: 10 * time.Minute, run: s.clock.unlessAhead(s.trimAnswers)},
		{name: "people", period: peopleTick, run: s.tickPeople},
		{name: "certificates-trim", period: time.Hour, run: s.clock.unlessAhead(func(ctx context.Context) error {
			_, err := s.devices.Trim(ctx, 90*24*time.Hour)
			return err
		})},
	}
}

// serve opens the doors, runs the jobs, and comes back when ctx is done and
// everything that it started has ended.
func (s *server) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.inside = newInside(ctx)
	defer s.inside.cancel()
	d, err := s.listen()
	if err != nil {
		return err
	}
	defer d.close()
	https, err := s.httpsServer()
	if err != nil {
		return err
	}
	local, err := s.localServer()
	if err != nil {
		return err
	}
	var work sync.WaitGroup
	failed := make(chan error, 4)
	part := func(name string, f func() error) {
		work.Go(func() {
			if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	// The gateway stops first and waits for the journal, so jobs outlive it.
	jobsCtx, stopJobs := context.WithCancel(context.WithoutCancel(ctx))
	defer stopJobs()
	work.Go(func() {
		if err := s.ledger.Run(jobsCtx); err != nil && jobsCtx.Err() == nil {
			s.log.Error("ledger ended", slog.Any("err", err))
		}
	})
	for _, j := range s.jobs {
		work.Go(func() { j.loop(jobsCtx, s.log, s.opt.Now) })
	}
	s.runTelemetry(jobsCtx, &work)
	if !s.opt.still {
		work.Go(func() { s.rounds.loop(jobsCtx) })
	}
	if d.link != nil {
		if err := s.announce(ctx, d.link); err != nil {
			return err
		}
		part("link to gateways", func() error { return s.links.Serve(jobsCtx, newCrowd(maxLinkConnections, maxLinkPerSource).at(d.link)) })
	}
	part("devices' door", func() error { return s.gateway.Serve(ctx, d.mqtt) })
	crowd := newCrowd(maxHTTPSConnections, maxHTTPSPerSource)
	part("HTTPS door", func() error { return https.ServeTLS(crowd.at(d.https), "", "") })
	if d.mqttBalanced != nil {
		part("devices' door for balancers", func() error { return s.gateway.Serve(ctx, d.mqttBalanced) })
	}
	if d.httpsBalanced != nil {
		part("HTTPS door for balancers", func() error { return https.ServeTLS(crowd.at(d.httpsBalanced), "", "") })
	}
	s.people.serve = func(h *http.Server, l net.Listener) {
		part("console", func() error {
			return h.ServeTLS(newCrowd(maxConsoleConnections, maxConsolePerSource).at(l), "", "")
		})
	}
	s.services.serve = func(h *http.Server, l net.Listener) {
		part("services' door", func() error {
			return h.ServeTLS(newCrowd(maxServiceConnections, maxServicePerSource).at(l), "", "")
		})
	}
	if err := s.openServiceDoorForSomebody(ctx); err != nil {
		return err
	}
	if err := s.openConsoleForSomebody(ctx); err != nil {
		return err
	}
	part("local socket", func() error { return local.Serve(d.local) })

	s.log.Info("serving", slog.String("environment", string(s.inst.Environment)), slog.String("devices", s.addr.Devices),
		slog.String("https", s.addr.HTTPS), slog.String("version", s.opt.Version))
	if s.opt.Ready != nil {
		s.opt.Ready(s.addr)
	}
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	case <-s.store.Lost(): // never, when the store is embedded
		err = fmt.Errorf("the store: %w", s.store.LostWhy())
		s.log.Error("the store is lost to this server, which ends", slog.Any("err", err))
	}
	s.log.Info("stopping")
	cancel()
	// Short requests end by themselves, long ones are told to, and who does not
	// even read what he asked for is cut.
	told := time.AfterFunc(s.opt.waits.grace, s.inside.cancel)
	defer told.Stop()
	cut := time.AfterFunc(2*s.opt.waits.grace, func() {
		_, _, _ = local.Close(), https.Close(), errors.Join(s.people.Close(), s.services.Close()) // closed again below, where it is told
	})
	defer cut.Stop()
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), s.stopIn())
	defer done()
	err = errors.Join(err, stopAll(stop, s.gateway.Shutdown, local.Shutdown, https.Shutdown, s.people.Shutdown, s.services.Shutdown))
	// Whoever did not end in time is cut: no handler may outlive the stores.
	err = errors.Join(err, local.Close(), https.Close(), s.people.Close(), s.services.Close())
	s.inside.wait()
	d.close()
	stopJobs()
	work.Wait()
	return err
}

// stopAll runs orderly stops side by side, each with the whole time.
func stopAll(ctx context.Context, stops ...func(context.Context) error) error {
	errs := make([]error, len(stops))
	var all sync.WaitGroup
	for i, stop := range stops {
		all.Go(func() { errs[i] = stop(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// close gives everything back, last opened first.
func (s *server) close() error {
	var errs []error
	ctx, cancel := context.WithTimeout(context.Background(), s.stopIn())
	defer cancel()
	if s.gateway != nil {
		errs = append(errs, s.gateway.Shutdown(ctx))
	}
	errs = append(errs, s.telem.close())
	if s.journal != nil {
		errs = append(errs, s.journal.Close(ctx))
	}
	if s.ring != nil {
		errs = append(errs, s.ring.Close())
	}
	errs = append(errs, s.keys.close())
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.people.breached != nil {
		errs = append(errs, s.people.breached.Close())
	}
	return errors.Join(errs...)
}
