package ingest

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Pattern is the one route of this door.
const Pattern = "POST /device/v1/telemetry/{stream}"

// Limits of a request.
const (
	maxBodyBytes  = 1 << 20
	bodyTimeout   = 20 * time.Second // 50 KB/s for the largest one
	answerTimeout = 30 * time.Second
	maxAtOnce     = 64 // requests at work: so many bodies are in memory at most
	maxOfDevice   = 4  // of these, of one device
	retryWhenFull = 2 * time.Second
)

// Visit is one request of a device whose certificate was accepted:
// gateway.Visit.
type Visit interface {
	Device() (core.DeviceID, core.Subject)
	Begin(ctx context.Context, stream string, readings, bytes int) error
	Number(series [8]byte)
	Message(payload []byte, c telemetry.Completion, token uint64) telemetry.Verdict
	Trouble() error
	Close()
}

// Deps are what the door stands on. Every field is required.
type Deps struct {
	// Visit says who holds a certificate; first: it is the connection's first
	// request.
	Visit func(ctx context.Context, leaf *x509.Certificate, first bool) (Visit, error)
	Keys  Keys
	Now   func() time.Time
	Log   *slog.Logger
}

type door struct {
	Deps
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	inside  int
	devices map[core.DeviceID]int
	keys    map[[sha256.Size]byte]struct{} // whose first request is at work
}

// New makes the handler of Pattern. It belongs behind TLS 1.3 that asks for a
// client certificate, on a server whose ConnContext is WithConn.
func New(d Deps) (http.Handler, error) {
	if d.Visit == nil || d.Keys == nil || d.Now == nil || d.Log == nil {
		return nil, errors.New("ingest: a dependency is missing")
	}
	return &door{Deps: d, log: d.Log, devices: map[core.DeviceID]int{}, keys: map[[sha256.Size]byte]struct{}{}}, nil
}

type connKey struct{}

// WithConn remembers with a connection whether a request was made on it.
func WithConn(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, new(atomic.Bool))
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	c := http.NewResponseController(w)
	now := time.Now()
	_ = errors.Join(c.SetReadDeadline(now.Add(bodyTimeout)), c.SetWriteDeadline(now.Add(bodyTimeout+answerTimeout))) // unsupported in tests without a connection
	answer, err := d.take(r)
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	write(w, answer)
}

// take does one request.
func (d *door) take(r *http.Request) ([]byte, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, core.E(core.Denied, "no-certificate", "a device shows its certificate here", "connect with it (mutual TLS); it gets one by EST under /.well-known/est/")
	}
	first := true
	if used, ok := r.Context().Value(connKey{}).(*atomic.Bool); ok {
		first = !used.Swap(true)
	}
	leaf := r.TLS.PeerCertificates[0]
	v, err := d.Visit(r.Context(), leaf, first)
	if err != nil {
		return nil, err
	}
	device, _ := v.Device()
	v.Close()
	mediaType, f, err := formOf(r.Header)
	if err != nil {
		return nil, err
	}
	key, err := idempotencyKey(r.Header)
	if err != nil {
		return nil, err
	}
	if err := d.enter(device); err != nil {
		return nil, err
	}
	defer d.leave(device)
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	// The body took its time: who sent it is asked again.
	if v, err = d.Visit(r.Context(), leaf, false); err != nil {
		return nil, err
	}
	defer v.Close()
	if key == "" {
		return d.batch(r, v, f, body, nil)
	}
	k, digest, series := digests(device, key, r.PathValue("stream"), mediaType, body)
	return d.once(r, v, f, body, telemetry.KeptAnswer{Key: k, Body: digest}, series)
}

// once is batch for a request with an Idempotency-Key.
func (d *door) once(r *http.Request, v Visit, f form, body []byte, k telemetry.KeptAnswer, series [8]byte) ([]byte, error) {
	_, k.Subject = v.Device()
	if !d.begin(k.Key) {
		return nil, &identity.RetryError{
			Refusal: core.E(core.Conflict, "idempotency-key-busy", "the first request with this Idempotency-Key is still at work", "send it again in a moment"),
			After:   retryWhenFull,
		}
	}
	defer d.end(k.Key)
	old, found, err := d.Keys.Answer(r.Context(), k.Key)
	switch {
	case err != nil:
		return nil, err
	case found && d.Now().Sub(old.At) < telemetry.KeepAnswers:
		if old.Body != k.Body {
			return nil, core.E(core.Invalid, "idempotency-key-reused", "this Idempotency-Key came with another request before", "use a new key for each batch")
		}
		return old.Answer, nil
	}
	answer, err := d.batch(r, v, f, body, &series)
	if err != nil {
		return nil, err
	}
	k.Answer, k.At = answer, d.Now()
	if err := d.Keys.Keep(context.WithoutCancel(r.Context()), k); err != nil {
		// What is on disk is there once, whatever comes now.
		d.log.ErrorContext(r.Context(), "the answer to a batch was not kept", slog.Any("err", err))
		return nil, v.Trouble()
	}
	return answer, nil
}

// batch takes the readings of a body.
func (d *door) batch(r *http.Request, v Visit, f form, body []byte, series *[8]byte) ([]byte, error) {
	var room [64][]byte
	readings, err := split(room[:0], f, body)
	if err != nil {
		return nil, err
	}
	if err := v.Begin(r.Context(), r.PathValue("stream"), len(readings), len(body)); err != nil {
		return nil, err
	}
	if series != nil {
		v.Number(*series)
	}
	c := newCommit(len(readings))
	a := Answer{Refused: []Refused{}}
	trouble := false
	done := 0
	for ; done < len(readings) && !trouble; done++ {
		switch o := v.Message(readings[done], c, uint64(done)); o.Action {
		case telemetry.Pending:
			a.Accepted++
		case telemetry.Drop:
			a.Dropped++
		case telemetry.Refuse:
			a.Refused = append(a.Refused, Refused{done, o.Reason})
		default:
			trouble = true
			c.Done(0, nil) // it was not taken
		}
	}
	for ; done < len(readings); done++ {
		c.Done(0, nil)
	}
	if !c.wait(answerTimeout) || trouble {
		return nil, v.Trouble()
	}
	if n := len(a.Refused); n == len(readings) && (a.Refused[0].Reason == telemetry.ReasonUnknownStream || a.Refused[0].Reason == telemetry.ReasonNoPlan) {
		return nil, core.E(core.Unknown, string(a.Refused[0].Reason), "there is no such stream", "name a stream of the product's declaration in force")
	}
	return json.Marshal(a)
}

// commit waits for the records of one batch.
type commit struct {
	left   atomic.Int64
	failed atomic.Bool
	done   chan struct{}
}

func newCommit(n int) *commit {
	c := &commit{done: make(chan struct{})}
	c.left.Store(int64(n))
	return c
}

// Done hears from the journal.
func (c *commit) Done(_ uint64, err error) {
	if err != nil {
		c.failed.Store(true)
	}
	if c.left.Add(-1) == 0 {
		close(c.done)
	}
}

// wait reports whether all is on disk.
func (c *commit) wait(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-c.done:
		return !c.failed.Load()
	case <-t.C:
		return false
	}
}

// formOf says how a request's readings lie in its body.
func formOf(h http.Header) (string, form, error) {
	if e := h.Get("Content-Encoding"); e != "" && e != "identity" {
		return "", 0, core.E(core.Invalid, "content-encoding", "compressed bodies are not taken", "send the body as it is")
	}
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err == nil {
		switch t {
		case "application/json":
			return t, formArray, nil
		case "application/x-ndjson":
			return t, formLines, nil
		// One message each, whose form telemetry tells by its first byte.
		case "application/cbor", "application/senml+json", "application/senml+cbor":
			return t, formOne, nil
		}
	}
	return "", 0, core.E(core.Invalid, "media-type", "the Content-Type is none that is taken here", "send application/json (one object or an array of them), application/x-ndjson (one object a line), or one reading as application/cbor, application/senml+json or application/senml+cbor")
}

func readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBodyBytes {
		return nil, tooLarge()
	}
	var b []byte
	var err error
	if r.ContentLength > 0 {
		b = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, b)
	} else {
		b, err = io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	}
	if err != nil {
		return nil, &core.Error{Kind: core.Invalid, Reason: "body", Message: "the body did not arrive whole in time", Hint: "send it again, or smaller batches; nothing of this one was stored", Err: err}
	}
	if len(b) > maxBodyBytes {
		return nil, tooLarge()
	}
	return b, nil
}

func tooLarge() error {
	return core.E(core.TooLarge, "body-size", "the batch is larger than 1 MiB", "send smaller batches; nothing of this one was stored")
}

// enter gives a device one of its places.
func (d *door) enter(device core.DeviceID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.devices[device] >= maxOfDevice:
		return &identity.RetryError{Refusal: core.E(core.TooMany, "device-requests", "the device has four requests at work", "wait for their answers"), After: retryWhenFull}
	case d.inside >= maxAtOnce:
		return &identity.RetryError{Refusal: core.E(core.Unavail, "door-full", "too many devices send at once", "send it again in a few seconds"), After: retryWhenFull}
	}
	d.inside++
	d.devices[device]++
	return nil
}

func (d *door) leave(device core.DeviceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
	if d.devices[device]--; d.devices[device] == 0 {
		delete(d.devices, device)
	}
}

// begin takes a key for the one request that may be at work with it.
func (d *door) begin(key [sha256.Size]byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, busy := d.keys[key]; busy {
		return false
	}
	d.keys[key] = struct{}{}
	return true
}

func (d *door) end(key [sha256.Size]byte) {
	d.mu.Lock()
	delete(d.keys, key)
	d.mu.Unlock()
}
