package device

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hawser-iot/hawser/internal/wire"
)

// Device is one unit: its identity, its queue and its connection. Send and
// Status may be called from any goroutine; Run once at a time.
type Device struct {
	cfg   Config
	lock  *os.File
	clock *clock
	trust *trust
	keep  *keep
	queue *queue
	est   *est
	raws  chan rawMessage

	orders   *orders
	settings *settings
	toDo     chan order
	boot     uint64
	draw     func() float64
	pause    time.Duration // the first one after trouble

	running sync.Mutex // held by Run

	mu     sync.Mutex
	seq    uint64
	status Status
	closed bool
}

// Status is what a device knows of itself.
type Status struct {
	Connected    bool
	Held         bool      // the device is in quarantine: readings wait in the queue until the maker has looked
	ClockTrusted bool      // false: the clock was never set, readings go without a time
	NotAfter     time.Time // end of the certificate in use; zero: none
	Boot         uint64    // number of this start
	Queued       int       // readings on disk that the server has not decided on
	QueuedBytes  int64     // bytes of the queue on disk
	Dropped      uint64    // readings lost because the queue was full, over all starts
	Damaged      uint64    // parts of the queue that could not be read back, over all starts
	Sent         uint64    // messages sent since this start, repeats included
	Acked        uint64    // of them, taken by the server
	Refused      uint64    // of them, refused by the server for good
	Renewals     uint64    // certificates since this start
	Commands     uint64    // taken from the server since this start
	Settings     uint64    // versions taken from the server since this start
	LastError    string    // of the last session or renewal; empty: none since it went well
}

// Open reads or makes the state folder. It does not touch the network. Every
// Open is a new start: it draws a boot number that no start before it had.
func Open(cfg Config) (*Device, error) {
	cfg, roots, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	unusable := func(err error) error {
		return fault(StateUnusable, err, "check that the folder's disk is writable and has room", "the state folder %s cannot be used", cfg.StateDir)
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, unusable(err)
	}
	lock, err := lockDir(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	d := &Device{cfg: cfg, lock: lock, raws: make(chan rawMessage), toDo: make(chan order, maxToDo), draw: random, pause: firstPause}
	if err := d.open(); err != nil {
		return nil, errors.Join(unusable(err), lock.Close())
	}
	d.trust = &trust{roots: roots, clock: d.clock}
	d.trust.load(cfg.StateDir)
	d.est = &est{addr: cfg.EnrolServer, name: cfg.nameFor(cfg.EnrolServer), serial: cfg.Serial, trust: d.trust, keys: cfg.Keys, dial: cfg.Dial}
	return d, nil
}

func (d *Device) open() (err error) {
	dir := d.cfg.StateDir
	if err := sweepTemp(dir); err != nil {
		return err
	}
	d.clock = openClock(filepath.Join(dir, "time"), d.cfg.Now, d.cfg.BuildTime)
	if d.boot, err = nextBoot(filepath.Join(dir, "boot")); err != nil {
		return err
	}
	if d.keep, err = openKeep(filepath.Join(dir, "identity"), d.cfg.Keys); err != nil {
		return err
	}
	if d.orders, err = openOrders(ordersPath(dir)); err != nil {
		return err
	}
	if d.settings, err = openSettings(settingsPath(dir), d.cfg.Settings); err != nil {
		return err
	}
	d.queue, err = openQueue(filepath.Join(dir, "queue"), d.cfg.QueueBytes)
	return err
}

// lockDir keeps a second process out.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fault(StateUnusable, err, "", "the state folder %s cannot be used", dir)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, fault(StateInUse, err, "end the other process, or give this one a folder of its own", "another process uses %s", dir)
	}
	return f, nil
}

// The bits of a boot number below its counter. A device whose state folder was
// wiped counts from 1 again; the random bits keep it from saying a boot number
// twice.
const bootRandomBits = 24

// nextBoot counts the start on disk before its number is used.
func nextBoot(path string) (uint64, error) {
	var n uint64
	b, err := readSmall(path, 64)
	switch {
	case err == nil:
		// What cannot be read as a number was not written here; the random bits
		// then do the work alone.
		n, _ = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	case !errors.Is(err, os.ErrNotExist):
		return 0, err
	}
	n++
	if n >= 1<<(53-bootRandomBits) {
		return 0, fmt.Errorf("%s counts %d starts, more than a boot number holds", path, n)
	}
	if err := writeFile(path, []byte(strconv.FormatUint(n, 10))); err != nil {
		return 0, err
	}
	var r [8]byte
	_, _ = rand.Read(r[:]) // never fails (crypto/rand documents so)
	return n<<bootRandomBits | binary.BigEndian.Uint64(r[:])>>(64-bootRandomBits), nil
}

// Send puts a reading for a stream into the queue and returns once it is safe
// on disk. It does not wait for the network. A reading of before the unit's
// first enrolment is queued and sent like any other, but the server does not
// keep it: see the package's description. The error is of reason BadReading
// for what no server could take, StateUnusable when the disk does not take it,
// Closed after Close.
func (d *Device) Send(stream string, r *Reading) error {
	if !wire.ValidName([]byte(stream)) {
		return fault(BadReading, nil, "", "stream %q is not a lower-case name", stream)
	}
	return d.enqueue(stream, r)
}

// enqueue is Send for a stream as the queue names it; see topicOf.
func (d *Device) enqueue(stream string, r *Reading) error {
	_, timed := d.clock.read()
	// The lock spans the write so that the queue is in the order of seq.
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fault(Closed, nil, "", "the device is closed")
	}
	as := formJSON
	if d.cfg.CBOR {
		as = formCBOR
	}
	payload, err := r.encode(as, timed, d.boot, d.seq+1)
	if err != nil {
		return err
	}
	d.seq++ // also when it fails: a number is never used for two readings
	err = d.queue.put(&record{boot: d.boot, seq: d.seq, stream: stream, payload: payload})
	if err != nil && reasonOf(err) == "" {
		return fault(StateUnusable, err, "check that the disk is writable and has room", "the reading cannot be kept")
	}
	return err
}

// Flush waits until the server has decided on everything in the queue, or ctx
// ends. Run must be running.
func (d *Device) Flush(ctx context.Context) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		if n, _, _ := d.queue.levels(); n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// Status is how the device is now.
func (d *Device) Status() Status {
	_, trusted := d.clock.read()
	pending, bytes, l := d.queue.levels()
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.status
	st.ClockTrusted, st.Boot = trusted, d.boot
	st.Queued, st.QueuedBytes, st.Dropped, st.Damaged = pending, bytes, l.Dropped, l.Damaged
	return st
}

func (d *Device) count(f func(*Status)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.status)
}

func (d *Device) refused(r Refusal) {
	r.Count = max(r.Count, 1)
	d.cfg.Log.Warn("refused by the server", slog.String("reason", r.Reason), slog.String("stream", r.Stream),
		slog.Bool("dropped", r.Dropped), slog.Int("count", r.Count), slog.String("text", r.Text))
	d.cfg.Refused(r)
}

// rawMessage is one PublishRaw on its way through the session.
type rawMessage struct {
	topic   string
	payload []byte
	result  chan<- rawResult // has room for one
}

type rawResult struct {
	code   mqttCode
	reason string
	err    error
}

// PublishRaw sends one message as it is, to any topic, past the queue and past
// every check of this library, and waits for the server's answer: 0 for
// success, else the reason code of the PUBACK (MQTT 5, section 3.4.2.1). It is
// for rehearsals: to see a server refuse what it must refuse. It fails with
// NotConnected while there is no session, and with the session's error when
// the server ends it over the message.
func (d *Device) PublishRaw(ctx context.Context, topic string, payload []byte) (code uint8, err error) {
	d.mu.Lock()
	up := d.status.Connected
	d.mu.Unlock()
	if !up {
		return 0, fault(NotConnected, nil, "", "there is no session")
	}
	answer := make(chan rawResult, 1)
	select {
	case d.raws <- rawMessage{topic: topic, payload: payload, result: answer}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case r := <-answer:
		return uint8(r.code), r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Close frees the state folder. Run must have returned. What is in the queue
// stays there for the next Open.
func (d *Device) Close() error {
	d.running.Lock()
	defer d.running.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return errors.Join(d.queue.close(), d.lock.Close())
}
