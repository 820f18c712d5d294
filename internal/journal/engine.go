package journal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamName     = "TELEMETRY"
	streamSubject  = "telemetry"
	incarnationKey = "hawser-incarnation" // in the stream's metadata
	damageKey      = "hawser-damage"      // in the stream's metadata: what was lost
	fileTimeTick   = 50 * time.Millisecond
	startTimeout   = 10 * time.Minute // recovery of a large stream after an unclean stop
)

// engine is one run of the embedded NATS server and what talks to it. It is
// replaced as a whole when the store below it has failed: JetStream remembers
// a write error for as long as it runs.
type engine struct {
	srv         *server.Server
	conn        *nats.Conn // the committer's, and for management
	js          jetstream.JetStream
	stream      jetstream.Stream
	incarnation string
	damage      string    // what the stream lost once, in words
	dir         string    // of the block files
	dirTime     time.Time // modification time of dir when it was last synced
	last        uint64    // last sequence when it was opened
	rolled      bool      // a new block began since somebody looked

	alive context.Context // ends when the store says that it failed to write
	kill  context.CancelCauseFunc
}

// startEngine opens the stream in opt.Dir, or makes it.
func startEngine(ctx context.Context, opt Options) (_ *engine, err error) {
	srv, err := server.NewServer(&server.Options{
		ServerName:             "hawser-journal",
		DontListen:             true,
		NoSigs:                 true,
		NoLog:                  true,
		NoSystemAccount:        true,
		DisableJetStreamBanner: true,
		JetStream:              true,
		StoreDir:               opt.Dir,
		SyncAlways:             true, // an ack means on disk, also after a power cut
		JetStreamMaxMemory:     1 << 20,
		// The stream's own limit is the one that counts; the server's only
		// has to be out of its way.
		JetStreamMaxStore: 2*opt.MaxBytes + 1<<30,
	})
	if err != nil {
		return nil, fmt.Errorf("configure the journal: %w", err)
	}
	e := &engine{srv: srv}
	e.alive, e.kill = context.WithCancelCause(context.Background())
	srv.SetLoggerV2(engineLog{opt.Log, e.kill}, false, false, false)
	defer func() {
		if err != nil {
			e.stop()
		}
	}()
	go srv.Start()
	if !srv.ReadyForConnections(startTimeout) || !srv.JetStreamEnabled() {
		return nil, errors.New("the journal's store does not start; the log says why")
	}
	if e.conn, err = e.connect("committer"); err != nil {
		return nil, err
	}
	if e.js, err = jetstream.New(e.conn); err != nil {
		return nil, fmt.Errorf("speak to the journal: %w", err)
	}
	if err = e.openStream(ctx, opt.MaxBytes); err != nil {
		return nil, err
	}
	// The directory of JetStream's file store for the global account.
	e.dir = filepath.Join(srv.StoreDir(), server.DEFAULT_GLOBAL_ACCOUNT, "streams", streamName, "msgs")
	if err = e.syncRecovered(); err != nil {
		return nil, fmt.Errorf("sync the journal after opening: %w", err)
	}
	return e, nil
}

func (e *engine) connect(name string) (*nats.Conn, error) {
	c, err := nats.Connect("", nats.InProcessServer(e.srv), nats.Name(name), nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // what fails is seen by who asked
	if err != nil {
		return nil, fmt.Errorf("connect to the journal: %w", err)
	}
	return c, nil
}

func (e *engine) openStream(ctx context.Context, maxBytes int64) error {
	s, err := e.js.Stream(ctx, streamName)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		s, err = e.js.CreateStream(ctx, streamConfig(maxBytes, map[string]string{incarnationKey: newIncarnation()}))
	case err == nil && s.CachedInfo().Config.MaxBytes != maxBytes:
		s, err = e.js.UpdateStream(ctx, streamConfig(maxBytes, s.CachedInfo().Config.Metadata))
	}
	if err != nil {
		return fmt.Errorf("open the journal's stream: %w", err)
	}
	e.take(s)
	if e.incarnation == "" {
		return errors.New("the journal's stream carries no incarnation: it was not made by this program")
	}
	return nil
}

func (e *engine) take(s jetstream.Stream) {
	e.stream = s
	e.last = s.CachedInfo().State.LastSeq
	e.incarnation = s.CachedInfo().Config.Metadata[incarnationKey]
	e.damage = s.CachedInfo().Config.Metadata[damageKey]
}

// renew gives a damaged stream a new incarnation and writes down why.
func (e *engine) renew(ctx context.Context, maxBytes int64, damage string) error {
	s, err := e.js.UpdateStream(ctx, streamConfig(maxBytes, map[string]string{incarnationKey: newIncarnation(), damageKey: damage}))
	if err != nil {
		return fmt.Errorf("give the damaged journal a new incarnation: %w", err)
	}
	e.take(s)
	return nil
}

func newIncarnation() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails (Go 1.24)
	return hex.EncodeToString(id[:])
}

func streamConfig(maxBytes int64, metadata map[string]string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        streamName,
		Subjects:    []string{streamSubject},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew, // at the limit it stops acking; it never drops what it holds
		MaxBytes:    maxBytes,
		MaxMsgSize:  maxBatchBytes,
		Storage:     jetstream.FileStorage,
		Replicas:    1,
		AllowDirect: true,
		DenyDelete:  true,
		Metadata:    metadata,
	}
}

// state asks the store what it holds. (Stream.Info of one handle is not for
// several goroutines.)
func (e *engine) state(ctx context.Context) (jetstream.StreamState, error) {
	s, err := e.js.Stream(ctx, streamName)
	if err != nil {
		return jetstream.StreamState{}, err
	}
	return s.CachedInfo().State, nil
}

// publish writes one batch and returns its sequence once it is on disk. After
// any error that isFull does not know, its outcome is unknown.
func (e *engine) publish(batch []byte, limit time.Duration) (uint64, error) {
	ctx, cancel := context.WithTimeout(e.alive, limit)
	defer cancel()
	ack, err := e.js.Publish(ctx, streamSubject, batch)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return 0, fmt.Errorf("write to the journal: %w", err)
	}
	return ack.Sequence, e.syncNewBlock()
}

// syncNewBlock makes the directory entry of a new block file durable:
// fsync(2) of a file does not promise that its name is on disk. The block's
// birth shows in the directory's modification time.
func (e *engine) syncNewBlock() error {
	st, err := os.Stat(e.dir)
	if err != nil {
		return fmt.Errorf("look at the journal's folder: %w", err)
	}
	if st.ModTime().Equal(e.dirTime) {
		return nil
	}
	if err := syncPath(e.dir); err != nil {
		return err
	}
	e.rolled = true
	// File times tick in milliseconds. A time that is still ticking may hide
	// a second change, so it is looked at again.
	if time.Since(st.ModTime()) > fileTimeTick {
		e.dirTime = st.ModTime()
	}
	return nil
}

// syncRecovered syncs the newest blocks. After a process died between a write
// and its sync, what was read back may stand in memory only; a reader must not
// note it as seen before it is sure to stay, or its number could be used twice.
func (e *engine) syncRecovered() error {
	blocks, err := filepath.Glob(filepath.Join(e.dir, "*.blk"))
	if err != nil {
		return err
	}
	mod := func(i int) time.Time {
		st, err := os.Stat(blocks[i])
		if err != nil {
			return time.Time{}
		}
		return st.ModTime()
	}
	sort.Slice(blocks, func(i, j int) bool { return mod(i).After(mod(j)) })
	for _, b := range blocks[:min(2, len(blocks))] {
		if err := syncPath(b); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := e.syncNewBlock(); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// stop ends the server and waits until its files are closed: two on one
// folder would destroy it.
func (e *engine) stop() {
	e.kill(nil)
	if e.conn != nil {
		e.conn.Close()
	}
	e.srv.Shutdown()
	e.srv.WaitForShutdown()
}

// engineLog passes the embedded server's warnings and errors on. It speaks of
// files, sequences and limits, never of what records hold.
//
// It is also how a failed write is noticed: JetStream does not answer a
// publish that it could not write, it only logs. Were the wording to change,
// the commit would still end, by CommitTimeout.
type engineLog struct {
	log    *slog.Logger
	broken context.CancelCauseFunc
}

func (l engineLog) say(level slog.Level, format string, v []any) {
	text := fmt.Sprintf(format, v...)
	l.log.Log(context.Background(), level, "journal store", slog.String("says", text))
	if strings.Contains(text, "Critical write error") || strings.Contains(text, "failed to store a msg") {
		l.broken(errors.New(text))
	}
}

func (l engineLog) Noticef(string, ...any)         {}
func (l engineLog) Debugf(string, ...any)          {}
func (l engineLog) Tracef(string, ...any)          {}
func (l engineLog) Warnf(format string, v ...any)  { l.say(slog.LevelWarn, format, v) }
func (l engineLog) Errorf(format string, v ...any) { l.say(slog.LevelError, format, v) }
func (l engineLog) Fatalf(format string, v ...any) { l.say(slog.LevelError, format, v) }
