package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// Config bounds what strangers and devices can make the gateway do. The zero
// value is safe: every field left 0 has the default given with it.
type Config struct {
	// HandshakeTimeout is how long a TLS handshake may take, from the first
	// byte to the last. Default: 10 s.
	HandshakeTimeout time.Duration
	// ConnectTimeout is how long after the handshake the CONNECT may take.
	// Default: 10 s.
	ConnectTimeout time.Duration
	// PacketTimeout is how long one packet may take from its first byte to its
	// last, and each 64 KB of one that is too large and thrown away. Default:
	// 1 min, which is 64 KB over a bad mobile network.
	PacketTimeout time.Duration
	// HandshakesAtOnce is how many handshakes compute at the same time; the
	// others wait. Default: the number of processors.
	HandshakesAtOnce int
	// MaxUnauthenticated bounds connections that have not been authenticated
	// yet, in all; more are closed at once. Default: 2,048.
	MaxUnauthenticated int
	// MaxUnauthenticatedPerSource is the same for one IPv4 address or one
	// IPv6 /64. Default: 256.
	MaxUnauthenticatedPerSource int
	// MaxConnections bounds all connections. Default: the process's limit of
	// open files, less 512.
	MaxConnections int
	// SessionExpiry is the longest time that a session's state is kept after
	// its connection. Default: 7 days.
	SessionExpiry time.Duration
	// DeviceMessagesPerSecond and DeviceBytesPerSecond are the pace of one
	// device and ProductMessagesPerSecond that of all devices of a product,
	// as they arrive: who is faster is read later. Nothing is dropped by
	// them. Defaults: 1,000, 1 MiB, unbounded. Negative: unbounded.
	DeviceMessagesPerSecond, DeviceBytesPerSecond, ProductMessagesPerSecond int
}

func (c *Config) defaults() {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	span := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	span(&c.HandshakeTimeout, 10*time.Second)
	span(&c.ConnectTimeout, 10*time.Second)
	span(&c.PacketTimeout, time.Minute)
	span(&c.SessionExpiry, 7*24*time.Hour)
	def(&c.HandshakesAtOnce, runtime.GOMAXPROCS(0))
	def(&c.MaxUnauthenticated, 2048)
	def(&c.MaxUnauthenticatedPerSource, 256)
	def(&c.MaxConnections, maxFiles()-512)
	def(&c.DeviceMessagesPerSecond, 1000)
	def(&c.DeviceBytesPerSecond, 1<<20)
}

// maxFiles is how many files the process may have open.
func maxFiles() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(min(l.Cur, 1<<24))
}

// Identity says who holds a certificate whose chain has been verified, or why
// that one is not welcome: identity.Service.
type Identity interface {
	Identify(ctx context.Context, leaf *x509.Certificate) (identity.Identified, error)
	// Recheck is Identify for a session that is already there: it neither
	// confirms a certificate nor takes one for a copy.
	Recheck(leaf *x509.Certificate) (identity.Identified, error)
	// Suspect puts a device in quarantine for what was seen here: two machines
	// use its certificate. reason is a word.
	Suspect(ctx context.Context, id core.DeviceID, reason string) error
}

// Intake judges messages and records what was decided: telemetry.Intake.
type Intake interface {
	NewSource(telemetry.SourceInfo) *telemetry.Source
	Message(src *telemetry.Source, stream, payload []byte, c telemetry.Completion, token uint64) telemetry.Verdict
	Refuse(src *telemetry.Source, stream []byte, why telemetry.Reason, c telemetry.Completion, token uint64) error
}

// Deps are what the gateway needs. All are required but Config, Legacy,
// Children, Downlink, Memory, Sessions, Trouble,
// Knows, Authority and Log.
type Deps struct {
	Config      Config
	Environment core.Environment
	// Certificate gives the server's certificate; it is asked at every
	// handshake, so it may change.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// DeviceCAs gives the authorities that sign device certificates: the
	// operational intermediates themselves, not the root.
	DeviceCAs func() *x509.CertPool
	Identity  Identity
	Legacy    Legacy // nil: the door for old devices does not exist
	Intake    Intake
	Children  Children // nil: no hub has any
	Downlink  Downlink // nil: nothing ever waits for a device
	Memory    Memory   // nil: sessions end with the server
	Sessions  Sessions // nil: there is no other gateway
	// Trouble says why the journal takes nothing at present; nil: not known,
	// or nothing is wrong. It chooses what 5.0 clients are told.
	Trouble func() error
	// Knows reports whether it is known who is welcome; nil: always. It is asked
	// before acknowledgements are written.
	Knows func() bool
	// Authority says what a device may name; nil: Rules.
	Authority Authority
	Now       func() time.Time
	Log       *slog.Logger // nil: nowhere
}

// Gateway is the devices' door. Its methods may be called from any goroutine.
type Gateway struct {
	deps             Deps
	conf             Config
	count            counters
	ended, refusedBy tally
	diary            diary

	tls13, tls12 *tls.Config
	ask13, ask12 *tls.Config // the same, for who may come without a certificate
	noCerts      *x509.CertPool
	limits       mqtt.Limits
	reasons      []telemetry.Reason // slot.reason counts from 1 into it
	slots        *slots
	lobby        *lobby
	early        early
	table        table
	writers      writers
	couriers     couriers
	scribe       scribe
	bursts       sync.Pool
	buffers      buffers

	deviceMessages, deviceBytes, productMessages pace

	products sync.Map // core.ProductID → *product
	any12    atomic.Int64

	ctx      context.Context // of everything it does; ends with Shutdown
	cancel   context.CancelFunc
	stopping atomic.Bool
	rush     atomic.Bool
	doubt    atomic.Bool    // see Doubt
	work     sync.WaitGroup // connections and listeners
	mu       sync.Mutex     // guards what follows
	doors    map[net.Listener]struct{}
	once     sync.Once
}

// New makes a gateway. It listens nowhere yet; see Serve. Whoever made it
// calls Shutdown in the end.
func New(d Deps) (*Gateway, error) {
	switch {
	case d.Certificate == nil, d.DeviceCAs == nil, d.Identity == nil, d.Intake == nil, d.Now == nil:
		return nil, errors.New("gateway: Certificate, DeviceCAs, Identity, Intake and Now are required")
	case !d.Environment.Valid():
		return nil, fmt.Errorf("gateway: environment %q is neither test nor live", d.Environment)
	}
	if d.Authority == nil {
		d.Authority = Rules{}
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{deps: d, conf: d.Config, noCerts: x509.NewCertPool(), doors: map[net.Listener]struct{}{}}
	g.conf.defaults()
	if g.conf.MaxConnections < 1 || g.conf.HandshakesAtOnce < 1 || g.conf.HandshakeTimeout < 0 || g.conf.ConnectTimeout < 0 || g.conf.PacketTimeout < 0 {
		return nil, errors.New("gateway: a limit is not positive; raise the limit of open files (ulimit -n) above 600")
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.tls13, g.tls12 = g.newTLS()
	g.ask13, g.ask12 = asking(g.tls13), asking(g.tls12)
	g.limits = mqtt.Limits{MaxPacket: wire.MaxPacket, From: mqtt.Client}
	g.reasons = append([]telemetry.Reason{""}, telemetry.Reasons()...)
	g.slots = newSlots(g.conf.HandshakesAtOnce, g.conf.HandshakeTimeout)
	g.lobby = newLobby(g.conf.MaxUnauthenticated, g.conf.MaxUnauthenticatedPerSource, g.conf.MaxConnections)
	g.bursts.New = newBurst
	g.deviceMessages = perSecond(g.conf.DeviceMessagesPerSecond)
	g.deviceBytes = perSecond(g.conf.DeviceBytesPerSecond)
	g.productMessages = perSecond(g.conf.ProductMessagesPerSecond)
	g.writers.start(runtime.GOMAXPROCS(0))
	g.couriers.start(couriersAtOnce)
	g.scribe.kick = make(chan struct{}, 1)
	g.work.Go(g.tidy)
	if d.Memory != nil {
		g.work.Go(g.scribes)
	}
	return g, nil
}

func (g *Gateway) now() time.Time { return g.deps.Now() }

func (g *Gateway) reasonIndex(r telemetry.Reason) uint8 {
	for i, x := range g.reasons {
		if x == r {
			return uint8(i)
		}
	}
	return 0
}

// Serve takes connections from l, which must be a TCP listener, maybe behind the
// PROXY protocol, until ctx ends or Shutdown is called; then it closes l and
// returns nil. Live sessions go on until Shutdown.
func (g *Gateway) Serve(ctx context.Context, l net.Listener) error {
	g.mu.Lock()
	if g.stopping.Load() {
		g.mu.Unlock()
		return errors.New("gateway: shut down already")
	}
	g.doors[l] = struct{}{}
	g.work.Add(1)
	g.mu.Unlock()
	defer g.work.Done()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept's error is the sign
	defer stop()
	defer func() {
		g.mu.Lock()
		delete(g.doors, l)
		g.mu.Unlock()
		_ = l.Close() // it may be closed already
	}()
	delay := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err != nil {
			if g.stopping.Load() || ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept device connections: %w", err)
			}
			// Out of files or of memory: it passes. Others are told by their
			// own time-outs.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			g.deps.Log.LogAttrs(ctx, slog.LevelWarn, "accept of a device connection failed", slog.Any("err", plain(err)))
			t := time.NewTimer(delay)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
			continue
		}
		delay = 0
		g.admit(nc)
	}
}

// admit gives a new connection its goroutine, or closes it at once.
func (g *Gateway) admit(nc net.Conn) {
	tcp := tcpOf(nc)
	if tcp == nil {
		_ = nc.Close() // there is nothing to say to it
		return
	}
	g.count.accepted.Add(1)
	var from netip.Addr
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok { // through a balancer: the client's
		from = a.AddrPort().Addr()
	}
	if why := g.lobby.enter(source(from)); why != "" {
		g.refuse(why, from, core.Subject{}, nil)
		_ = tcp.SetLinger(0) // no TIME_WAIT for what was never let in
		_ = tcp.Close()
		return
	}
	// Keep-alives of TCP find dead peers of clients without one of MQTT;
	// often enough for that, rarely enough for a battery.
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Minute, Interval: 30 * time.Second, Count: 4})
	g.mu.Lock()
	if g.stopping.Load() {
		g.mu.Unlock()
		g.lobby.authenticated(source(from))
		g.lobby.closed()
		_ = tcp.Close()
		return
	}
	g.work.Add(1)
	g.mu.Unlock()
	go g.arrive(tcp, from)
}

// tidy forgets devices that were away for long, once an hour.
func (g *Gateway) tidy() {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			g.table.forget(g.now())
			if g.deps.Memory != nil {
				g.lengthen(g.now())
			}
		case <-g.ctx.Done():
			return
		}
	}
}

// stopWorkers ends what works for sessions, when none is left.
func (g *Gateway) stopWorkers(ctx context.Context) {
	g.couriers.stop()
	g.writers.stop()
	if g.deps.Memory != nil {
		g.write(context.WithoutCancel(ctx)) // what the last ones left
	}
}

// kick ends the sessions of a device that was revoked, at once. A session that
// begins at the same moment meets the revocation itself: it asks who it is
// after it can be found here.
func (g *Gateway) kick(id core.DeviceID) {
	d := g.table.find(id)
	if d == nil {
		return
	}
	for _, r := range d.drop() {
		g.note(id, remembered{clientID: r.clientID, subject: r.subject})
	}
	for _, c := range d.live() {
		c.cut(endRevoked, mqtt.NotAuthorized)
	}
}

// Refresh asks anew who the device is, after something about it changed: its
// live sessions go on under what is true now, from their next message on, or
// end.
func (g *Gateway) Refresh(id core.DeviceID) {
	if d := g.table.find(id); d != nil {
		for _, c := range d.live() {
			c.refresh()
		}
	}
}

// Follow does what a change of a device asks for; it is what identity calls
// after each commit. It does not wait.
func (g *Gateway) Follow(ch identity.Change) {
	switch ch.Kind {
	case identity.ChangeRevoked:
		g.kick(ch.Device)
	case identity.ChangeSuperseded:
		if d := g.table.find(ch.Device); d != nil {
			for _, c := range d.live() {
				if c.serial == ch.Serial {
					c.cut(endSuperseded, mqtt.NotAuthorized)
				}
			}
		}
	case identity.ChangeReleased:
		g.later(func() { g.release(ch.Device) })
	default:
		g.later(func() { g.Refresh(ch.Device) })
	}
}

// later does f without waiting for it; Shutdown does.
func (g *Gateway) later(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.stopping.Load() {
		g.work.Go(f)
	}
}

// Connected reports how many sessions the device has now.
func (g *Gateway) Connected(id core.DeviceID) int {
	if d := g.table.find(id); d != nil {
		return len(d.live())
	}
	return 0
}

// Shutdown stops taking connections, stops reading, writes every
// acknowledgement that becomes due while ctx lasts, tells 5.0 clients that the
// server stops (0x8B), closes all and returns when every goroutine has ended.
// When ctx ends first, connections are cut and its error is returned. The
// journal must not be closed before.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.once.Do(func() {
		g.mu.Lock()
		g.stopping.Store(true)
		for l := range g.doors {
			_ = l.Close() // Serve returns
		}
		g.mu.Unlock()
		g.early.closeAll()
		g.cancel()
	})
	done := make(chan struct{})
	go func() {
		g.work.Wait()
		close(done)
	}()
	g.endAll()
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	var err error
	for {
		select {
		case <-done:
			g.stopWorkers(ctx)
			return err
		case <-t.C:
			g.endAll() // who was between CONNECT and its session
		case <-ctx.Done():
			err = fmt.Errorf("shut the devices' door: %w", ctx.Err())
			g.rush.Store(true)
			g.table.each(func(_ core.DeviceID, d *device) {
				for _, c := range d.live() {
					_ = c.sock.Close() // the time for manners is over
				}
			})
			<-done
			g.stopWorkers(ctx)
			return err
		}
	}
}

func (g *Gateway) endAll() {
	g.table.each(func(_ core.DeviceID, d *device) {
		for _, c := range d.live() {
			c.end(refuseStopping, mqtt.ServerShuttingDown, nil)
		}
	})
}

// hurry reports whether a shutdown has no more time.
func (g *Gateway) hurry() bool { return g.rush.Load() }

// early are the connections without a session, so that Shutdown can end them.
type early struct {
	mu     sync.Mutex
	by     map[*socket]struct{}
	closed bool
}

func (e *early) add(k *socket) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	if e.by == nil {
		e.by = map[*socket]struct{}{}
	}
	e.by[k] = struct{}{}
	return true
}

func (e *early) remove(k *socket) {
	e.mu.Lock()
	delete(e.by, k)
	e.mu.Unlock()
}

func (e *early) closeAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for k := range e.by {
		_ = k.Close() // its goroutine sees a failed read
	}
}
