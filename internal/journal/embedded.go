package journal

import (
	"context"
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
	embeddedStream = "TELEMETRY"
	fileTimeTick   = 50 * time.Millisecond
	startTimeout   = 10 * time.Minute // recovery of a large stream after an unclean stop
)

// embedded is one run of the NATS server in this process. JetStream remembers a
// write error for as long as it runs.
type embedded struct {
	srv     *server.Server
	dir     string    // of the block files
	dirTime time.Time // modification time of dir when it was last synced
	rolled  bool      // a new block began since somebody looked
}

// startEmbedded opens the stream in opt.Dir, or makes it.
func startEmbedded(ctx context.Context, opt Options) (_ *engine, err error) {
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
	e := &engine{home: &embedded{srv: srv}, name: embeddedStream}
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
	if e.conn, err = e.connect(ctx, "committer"); err != nil {
		return nil, err
	}
	if e.js, err = jetstream.New(e.conn); err != nil {
		return nil, fmt.Errorf("speak to the journal: %w", err)
	}
	if err = e.openStream(ctx, opt.MaxBytes); err != nil {
		return nil, err
	}
	// The directory of JetStream's file store for the global account.
	e.home.dir = filepath.Join(srv.StoreDir(), server.DEFAULT_GLOBAL_ACCOUNT, "streams", embeddedStream, "msgs")
	if err = e.home.syncRecovered(); err != nil {
		return nil, fmt.Errorf("sync the journal after opening: %w", err)
	}
	return e, nil
}

func (h *embedded) connect(name string) (*nats.Conn, error) {
	return nats.Connect("", nats.InProcessServer(h.srv), nats.Name(name), nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // what fails is seen by who asked
}

// syncNewBlock makes the directory entry of a new block file durable:
// fsync(2) of a file does not promise that its name is on disk. The block's
// birth shows in the directory's modification time.
func (h *embedded) syncNewBlock() error {
	st, err := os.Stat(h.dir)
	if err != nil {
		return fmt.Errorf("look at the journal's folder: %w", err)
	}
	if st.ModTime().Equal(h.dirTime) {
		return nil
	}
	if err := syncPath(h.dir); err != nil {
		return err
	}
	h.rolled = true
	// File times tick in milliseconds. A time that is still ticking may hide
	// a second change, so it is looked at again.
	if time.Since(st.ModTime()) > fileTimeTick {
		h.dirTime = st.ModTime()
	}
	return nil
}

// syncRecovered syncs the newest blocks. After a process died between a write
// and its sync, what was read back may stand in memory only; a reader must not
// note it as seen before it is sure to stay, or its number could be used twice.
func (h *embedded) syncRecovered() error {
	blocks, err := filepath.Glob(filepath.Join(h.dir, "*.blk"))
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
	if err := h.syncNewBlock(); !errors.Is(err, os.ErrNotExist) {
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
