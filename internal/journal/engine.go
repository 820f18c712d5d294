package journal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hawser-iot/hawser/internal/core"
)

const (
	incarnationKey = "hawser-incarnation"  // in the stream's metadata
	damageKey      = "hawser-damage"       // in the stream's metadata: what was lost
	ownerKey       = "hawser-installation" // in the stream's metadata: whose it is
)

// engine is a stream and what talks to it. Its servers are in this process
// (embedded) or elsewhere (cluster). It is replaced as a whole when it has
// failed.
type engine struct {
	home        *embedded    // nil: the servers are elsewhere
	away        *Cluster     // nil: the server is in this process
	may         func() error // see Options.May; nil while the server is in this process
	name        string       // of the stream and its subject
	conn        *nats.Conn   // the committer's, and for management
	js          jetstream.JetStream
	stream      jetstream.Stream
	incarnation string
	damage      string       // what the stream lost once, in words
	last        uint64       // last sequence when it was opened
	seen        atomic.Value // the incarnation that state found last

	alive context.Context // ends when the store says that it failed to write
	kill  context.CancelCauseFunc
}

// startEngine opens the stream, or makes it.
func startEngine(ctx context.Context, opt Options) (*engine, error) {
	if opt.Cluster != nil {
		return startAway(ctx, opt)
	}
	return startEmbedded(ctx, opt)
}

// connect makes a connection of its own, for one reader or the committer.
func (e *engine) connect(ctx context.Context, name string) (*nats.Conn, error) {
	var c *nats.Conn
	var err error
	if e.home != nil {
		c, err = e.home.connect(name)
	} else {
		c, err = e.away.connect(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the journal: %w", err)
	}
	return c, nil
}

func (e *engine) openStream(ctx context.Context, maxBytes int64) error {
	s, err := e.js.Stream(ctx, e.name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		made := map[string]string{incarnationKey: newIncarnation()}
		if e.away != nil {
			made[ownerKey] = e.away.Owner
		}
		s, err = e.js.CreateStream(ctx, e.config(maxBytes, made))
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another server was quicker
			s, err = e.js.Stream(ctx, e.name)
		}
	case err == nil && (s.CachedInfo().Config.MaxBytes != maxBytes || s.CachedInfo().Config.Replicas != e.replicas()):
		s, err = e.js.UpdateStream(ctx, e.config(maxBytes, s.CachedInfo().Config.Metadata))
	}
	if err != nil {
		return fmt.Errorf("open the journal's stream: %w", err)
	}
	e.take(s)
	if e.incarnation == "" {
		return errors.New("the journal's stream carries no incarnation: it was not made by this program")
	}
	return e.mine(s.CachedInfo().Config.Metadata[ownerKey])
}

// mine refuses the stream of another installation.
func (e *engine) mine(owner string) error {
	if e.away == nil || owner == e.away.Owner {
		return nil
	}
	return core.E(core.Conflict, "journal-owner", fmt.Sprintf("the stream %s belongs to another installation", e.name), "give each installation a stream of its own: journal_stream")
}

func (e *engine) replicas() int {
	if e.away != nil {
		return e.away.Replicas
	}
	return 1
}

func (e *engine) take(s jetstream.Stream) {
	e.stream = s
	e.last = s.CachedInfo().State.LastSeq
	e.incarnation = s.CachedInfo().Config.Metadata[incarnationKey]
	e.damage = s.CachedInfo().Config.Metadata[damageKey]
}

// renew gives a damaged stream a new incarnation and writes down why.
func (e *engine) renew(ctx context.Context, maxBytes int64, damage string) error {
	s, err := e.js.UpdateStream(ctx, e.config(maxBytes, e.damaged(damage)))
	if err != nil {
		return fmt.Errorf("give the damaged journal a new incarnation: %w", err)
	}
	e.take(s)
	return nil
}

func (e *engine) damaged(how string) map[string]string {
	m := map[string]string{incarnationKey: newIncarnation(), damageKey: how}
	if e.away != nil {
		m[ownerKey] = e.away.Owner
	}
	return m
}

func newIncarnation() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails (Go 1.24)
	return hex.EncodeToString(id[:])
}

func (e *engine) config(maxBytes int64, metadata map[string]string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        e.name,
		Subjects:    []string{e.subject()},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew, // at the limit it stops acking; it never drops what it holds
		MaxBytes:    maxBytes,
		MaxMsgSize:  maxBatchBytes,
		Storage:     jetstream.FileStorage,
		Replicas:    e.replicas(),
		AllowDirect: true,
		DenyDelete:  true,
		Metadata:    metadata,
	}
}

// state asks the store what it holds. (Stream.Info of one handle is not for
// several goroutines.)
func (e *engine) state(ctx context.Context) (jetstream.StreamState, error) {
	s, err := e.js.Stream(ctx, e.name)
	if err != nil {
		return jetstream.StreamState{}, err
	}
	e.seen.Store(s.CachedInfo().Config.Metadata[incarnationKey])
	return s.CachedInfo().State, nil
}

// moved reports whether the stream has another incarnation than it was opened
// with.
func (e *engine) moved() bool {
	seen, ok := e.seen.Load().(string)
	return ok && seen != e.incarnation
}

func (e *engine) subject() string { return strings.ToLower(e.name) }

// publish writes one batch and returns its sequence once it is on disk here, or
// on the disks or in the memory of most servers of a cluster. After any error
// that isFull does not know, its outcome is unknown.
func (e *engine) publish(batch []byte, limit time.Duration) (uint64, error) {
	ctx, cancel := context.WithTimeout(e.alive, limit)
	defer cancel()
	var ack *jetstream.PubAck
	var err error
	if e.away != nil {
		ack, err = e.insist(ctx, batch)
	} else {
		ack, err = e.js.Publish(ctx, e.subject(), batch)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return 0, fmt.Errorf("write to the journal: %w", err)
	}
	if e.home == nil {
		return ack.Sequence, nil
	}
	return ack.Sequence, e.home.syncNewBlock()
}

// rolled reports, once, that a new file began: what is kept beside the stream
// is synced with it.
func (e *engine) rolled() bool {
	if e.home == nil {
		return false
	}
	r := e.home.rolled
	e.home.rolled = false
	return r
}

// stop ends what talks to the stream, and the server if it is ours. It waits
// until that server's files are closed: two on one folder would destroy it.
func (e *engine) stop() {
	e.kill(nil)
	if e.conn != nil {
		e.conn.Close()
	}
	if e.home != nil {
		e.home.srv.Shutdown()
		e.home.srv.WaitForShutdown()
	}
}
