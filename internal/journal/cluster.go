package journal

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hawser-iot/hawser/internal/core"
)

// Cluster says which NATS servers keep the journal, in place of the one in this
// process. An acknowledgement then means that most of Replicas servers have the
// record (NATS JetStream, clustering: R3 is a majority of three). Several
// processes may write one stream.
type Cluster struct {
	Servers  []string // tls://HOST:PORT; nats:// only on this machine
	CA       string   // PEM file of who signed the servers' certificates; "": the system's
	Cert     string   // PEM file of our certificate, with Key; "": none
	Key      string
	Creds    string // NATS credentials file; "": none
	Stream   string // capitals, digits, dashes, underscores
	Owner    string // the installation whose stream it is
	Replicas int    // 1, 3 or 5
}

var streamNames = regexp.MustCompile(`^[A-Z][A-Z0-9_-]{0,31}$`)

// Check finds faults before anything is dialled.
func (c *Cluster) Check() error {
	bad := func(message, hint string) error { return core.E(core.Invalid, "journal-cluster", message, hint) }
	if len(c.Servers) == 0 || len(c.Servers) > 9 {
		return bad("the journal needs 1 to 9 NATS servers", "name them: journal_servers: [tls://nats-1.northwind.example:4222]")
	}
	for _, s := range c.Servers {
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" || u.Port() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" {
			return bad(fmt.Sprintf("%.80q is no address of a NATS server", s), "write tls://HOST:PORT; who we are stands in files")
		}
		switch ip := net.ParseIP(u.Hostname()); {
		case u.Scheme == "tls":
		case u.Scheme == "nats" && ip != nil && ip.IsLoopback():
		case u.Scheme == "nats":
			return bad(fmt.Sprintf("%.80q is without TLS", s), "write tls://HOST:PORT; nats:// is for addresses of this machine only")
		default:
			return bad(fmt.Sprintf("%.80q is no address of a NATS server", s), "write tls://HOST:PORT")
		}
	}
	if !streamNames.MatchString(c.Stream) {
		return bad(fmt.Sprintf("%.40q is no name of a stream", c.Stream), "take capitals, digits, dashes and underscores, a letter first, at most 32")
	}
	if !slices.Contains([]int{1, 3, 5}, c.Replicas) {
		return bad(fmt.Sprintf("the journal cannot have %d replicas", c.Replicas), "take 3, or 5; 1 survives the loss of no server")
	}
	if (c.Cert == "") != (c.Key == "") {
		return bad("the journal's certificate and its key come together", "give both files, or none")
	}
	if c.Owner == "" {
		return errors.New("journal: a stream in a cluster needs its owner")
	}
	return nil
}

// awayTimeout bounds what is asked of the cluster: longer than it takes to
// choose a new leader (some 4 to 9 seconds).
const awayTimeout = 30 * time.Second

// askTimeout bounds one question: its answer may have died with a server, and
// it is asked again.
const askTimeout = 3 * time.Second

// startAway opens the stream in a cluster, or makes it.
func startAway(ctx context.Context, opt Options) (_ *engine, err error) {
	e := &engine{away: opt.Cluster, name: opt.Cluster.Stream, may: opt.may}
	e.alive, e.kill = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			e.stop()
		}
	}()
	if e.conn, err = e.connect(ctx, "committer"); err != nil {
		return nil, err
	}
	if e.js, err = jetstream.New(e.conn, jetstream.WithDefaultTimeout(askTimeout)); err != nil {
		return nil, fmt.Errorf("speak to the journal: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, awayTimeout)
	defer cancel()
	for {
		if err = e.openStream(ctx, opt.MaxBytes); err == nil {
			return e, nil
		}
		if core.KindOf(err) == core.Conflict || !passes(err) {
			return nil, err
		}
		select { // it has no leader yet
		case <-ctx.Done():
			return nil, err
		case <-opt.closing():
			return nil, ErrClosed
		case <-time.After(troubleEvery):
		}
	}
}

// passes reports whether an error may be that of a cluster which is choosing a
// leader.
func passes(err error) bool {
	if a, ok := errors.AsType[*jetstream.APIError](err); ok {
		return a.Code >= 500
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, jetstream.ErrNoStreamResponse)
}

// dialTimeout is for one server, to be reached and to say who it is.
const dialTimeout = 5 * time.Second

// dialer dials for a connection that somebody waits for. The client's own way
// asks one server after another, each with its whole time, whoever has gone.
type dialer struct {
	mu      sync.Mutex
	waiting context.Context // of who waits; without an end once the connection is there
	unwatch func() bool     // of the last connection
}

// Dial dials, until nobody waits any more; a connection that is not there by then
// is cut, whatever it is at.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.mu.Lock()
	ctx := d.waiting
	d.mu.Unlock()
	c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	unwatch := context.AfterFunc(ctx, func() { _ = c.Close() }) // its reader is told
	d.mu.Lock()
	d.unwatch = unwatch
	d.mu.Unlock()
	return c, nil
}

// there says that the connection is; from now on the client alone cares for it.
// It reports false when nobody waits any more.
func (d *dialer) there() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = context.WithoutCancel(d.waiting)
	return d.unwatch == nil || d.unwatch()
}

// connect dials one of the servers. The client goes over to another by itself;
// what was asked meanwhile fails, and is treated as any failure.
func (c *Cluster) connect(ctx context.Context, name string) (*nats.Conn, error) {
	d := &dialer{waiting: ctx}
	opts := []nats.Option{
		nats.Name("hawser " + name), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.Timeout(dialTimeout), nats.SetCustomDialer(d),
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2), nats.ReconnectBufSize(-1), // nothing waits unseen
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // what fails is seen by who asked
	}
	if c.Creds != "" {
		opts = append(opts, nats.UserCredentials(c.Creds))
	}
	if strings.HasPrefix(c.Servers[0], "tls://") {
		conf, err := c.tls()
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.Secure(conf))
	}
	conn, err := nats.Connect(strings.Join(c.Servers, ","), opts...)
	if err == nil && !d.there() {
		conn.Close()
		return nil, ctx.Err()
	}
	return conn, err
}

func (c *Cluster) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("read the certificates of the journal's servers: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, core.E(core.Invalid, "journal-ca", c.CA+" holds no certificate", "give a PEM file: journal_ca")
		}
	}
	if c.Cert != "" {
		own, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("read our certificate for the journal's servers: %w", err)
		}
		conf.Certificates = []tls.Certificate{own}
	}
	return conf, nil
}

// catchUp gives a server that has just become the leader time to come as far as
// the cluster was.
func (e *engine) catchUp(ctx context.Context, seq uint64) {
	ctx, cancel := context.WithTimeout(ctx, awayTimeout)
	defer cancel()
	for ctx.Err() == nil {
		if info, err := e.state(ctx); err == nil {
			if e.last = info.LastSeq; e.last >= seq {
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(troubleEvery):
		}
	}
}

// insistEvery is how long one try to write a batch may take.
const insistEvery = 2 * time.Second

// insist writes a batch, and again when there is no answer: while the cluster
// chooses a new leader nobody gives one. All tries have one name, by which the
// stream knows a batch that it has (Nats-Msg-Id), so that it is there once.
func (e *engine) insist(ctx context.Context, batch []byte) (*jetstream.PubAck, error) {
	name := rand.Text()
	for {
		if err := e.may(); err != nil {
			return nil, err
		}
		try, cancel := context.WithTimeout(ctx, insistEvery)
		ack, err := e.js.Publish(try, e.subject(), batch, jetstream.WithMsgID(name), jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil || isFull(err) || !passes(err) && e.conn.IsConnected() {
			return ack, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(troubleEvery):
		}
	}
}

// followEvery is how often a stream that others write too is asked how far it
// is.
const followEvery = 100 * time.Millisecond

// follow learns of what other processes have written. What the leader says is
// in the stream is with most of its servers.
func (j *Journal) follow() {
	t := time.NewTicker(followEvery)
	defer t.Stop()
	for {
		select {
		case <-j.closing:
			return
		case <-t.C:
		}
		e, _ := j.current()
		if e == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(e.alive, askTimeout)
		info, err := e.state(ctx)
		cancel()
		if err != nil {
			continue // the committer finds out what is wrong
		}
		if e.moved() {
			e.kill(ErrDamaged) // another process has found it damaged, or somebody made it anew
			continue
		}
		if now, last := j.current(); now == e && info.LastSeq > last {
			j.change(func() { j.durable = max(j.durable, info.LastSeq) })
		}
	}
}
