package link

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// Door is what a gateway does when the keeper says so. Its methods return when
// it is done.
type Door interface {
	// Begin says that a link begins: whatever the keeper told before may have
	// been taken back unheard.
	Begin(context.Context, []Policy) error
	Enforce(context.Context, Policy) error
	Follow(identity.Change)
	Wake(core.DeviceID)
	Refresh(core.DeviceID)
	Retire(core.Subject)
	Forget(core.Subject)
	Yield(context.Context, gateway.Yield) (gateway.Yielded, error)
	// Settle returns when everything that was being sealed is in the journal,
	// and how far the journal is.
	Settle(context.Context) (uint64, error)
	Sessions() []gateway.Session
	Held() []gateway.Held
	Strays() []telemetry.Stray
	Told([]telemetry.Stray)
	State() State
	// Doubt says that it is not known any more who is welcome, or that it is
	// known again.
	Doubt(bool)
}

// GatewayDeps are what a Gateway needs. All but Log are required.
type GatewayDeps struct {
	Secret ed25519.PrivateKey // see Secret
	Name   string             // one that no other gateway of the installation has
	// Keeper gives the address of the server that has the keys, HOST:PORT; "":
	// none is known.
	Keeper func() string
	Log    *slog.Logger // nil: nowhere
}

// Gateway is the end of the link at a server that takes devices in. It answers
// for everything that its door needs; its methods may be called from any
// goroutine.
type Gateway struct {
	d     GatewayDeps
	http  *http.Client
	base  time.Time
	link  atomic.Pointer[string]
	fresh atomic.Int64 // until when it serves, nanoseconds since base
	token atomic.Bool  // see gateway.Legacy.TakesTokens

	mu      sync.Mutex // guards vouched
	vouched map[kinship]vouched
}

// NewGateway makes one that serves nobody yet.
func NewGateway(d GatewayDeps) (*Gateway, error) {
	if len(d.Secret) != ed25519.PrivateKeySize || d.Name == "" || d.Keeper == nil {
		return nil, errors.New("link: Secret, Name and Keeper are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	conf, err := tlsOf(d.Secret)
	if err != nil {
		return nil, err
	}
	g := &Gateway{d: d, base: time.Now(), vouched: map[kinship]vouched{}}
	g.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig: conf, ForceAttemptHTTP2: true, TLSHandshakeTimeout: askTimeout, IdleConnTimeout: time.Minute,
		HTTP2: &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second},
	}}
	return g, nil
}

// Fresh reports whether the gateway may serve: it has had news of less than
// Sight ago, by the time at which it asked.
func (g *Gateway) Fresh() bool { return int64(time.Since(g.base)) < g.fresh.Load() }

// since notes that everything was known that had happened at a time.
func (g *Gateway) since(at time.Time) {
	until := int64(at.Sub(g.base) + Sight)
	for {
		old := g.fresh.Load()
		if until <= old || g.fresh.CompareAndSwap(old, until) {
			return
		}
	}
}

// Welcome is what a gateway learns of its installation before it opens a door.
type Welcome struct {
	Environment  core.Environment
	Installation string
}

// Meet asks the keeper which installation it has, and waits until there is one.
func (g *Gateway) Meet(ctx context.Context) (Welcome, error) {
	told := ""
	for {
		a, err := g.hello(ctx, nil)
		if err == nil {
			return Welcome{a.Environment, a.Installation}, nil
		}
		if ctx.Err() != nil {
			return Welcome{}, ctx.Err()
		}
		if err.Error() != told {
			told = err.Error()
			g.d.Log.InfoContext(ctx, "waiting for the server that has the keys", slog.Any("err", err))
		}
		pause(ctx, 500*time.Millisecond)
	}
}

func (g *Gateway) hello(ctx context.Context, have []gateway.Held) (helloAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askTimeout)
	defer cancel()
	var a helloAnswer
	return a, g.post(ctx, "/hello", "", helloRequest{Name: g.d.Name, Have: have}, &a)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// refreshers is how many sessions are asked about at a time when a link begins.
const refreshers = 16

// Run joins the keeper and does what it says, anew after each break, until ctx
// ends. What needs the keeper fails in between.
func (g *Gateway) Run(ctx context.Context, door Door) {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	door.Doubt(true)
	work.Go(func() { g.watch(ctx, door) })
	told := ""
	for ctx.Err() == nil {
		err := g.join(ctx, door, &work)
		if ctx.Err() != nil {
			return
		}
		if err.Error() != told {
			told = err.Error()
			g.d.Log.WarnContext(ctx, "the link to the server that has the keys broke; it is joined anew", slog.Any("err", err))
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// watch closes the door when there was no news for too long, and opens it again.
func (g *Gateway) watch(ctx context.Context, door Door) {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	doubt := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if now := !g.Fresh(); now != doubt {
			doubt = now
			door.Doubt(doubt)
		}
	}
}

// join is one link, from its hello to its break.
func (g *Gateway) join(ctx context.Context, door Door, work *sync.WaitGroup) error {
	defer g.link.Store(nil)
	a, err := g.hello(ctx, door.Held())
	if err != nil {
		return err
	}
	if err := door.Begin(ctx, a.Policies); err != nil {
		return err
	}
	g.forgetChildren()
	g.link.Store(&a.Link)
	// Who was revoked while nobody told us is found now, before anything counts
	// as known.
	list := make(chan core.DeviceID)
	var asking sync.WaitGroup
	for range refreshers {
		asking.Go(func() {
			for id := range list {
				door.Refresh(id)
			}
		})
	}
	for _, h := range door.Held() {
		list <- h.Device
	}
	close(list)
	asking.Wait()
	g.d.Log.InfoContext(ctx, "joined the server that has the keys")
	var done uint64
	misses := 0
	for ctx.Err() == nil {
		asked := time.Now()
		strays := door.Strays()
		var news pollAnswer
		try, cancel := context.WithTimeout(ctx, Sight/2)
		err := g.post(try, "/poll", a.Link, pollRequest{After: done, State: door.State(), Strays: strays}, &news)
		cancel()
		if core.ReasonOf(err) == reasonUnknown {
			return err
		}
		if err != nil {
			if misses++; misses > 5 || !g.Fresh() && misses > 1 {
				return err
			}
			pause(ctx, 50*time.Millisecond)
			continue
		}
		misses = 0
		door.Told(strays)
		g.token.Store(news.TakesTokens)
		for i := range news.Events {
			e := &news.Events[i]
			if e.N <= done {
				continue
			}
			if err := g.do(ctx, door, a.Link, e, work); err != nil {
				return err
			}
			done = e.N
		}
		g.since(asked.Add(-news.Unseen))
	}
	return ctx.Err()
}

// do does one event. What is asked is answered by itself, so that nothing waits
// for it.
func (g *Gateway) do(ctx context.Context, door Door, link string, e *event, work *sync.WaitGroup) error {
	switch {
	case e.Change != nil:
		door.Follow(*e.Change)
	case e.Wake != "":
		door.Wake(e.Wake)
	case e.Refresh != "":
		work.Go(func() { door.Refresh(e.Refresh) })
	case e.Retire != nil:
		door.Retire(*e.Retire)
	case e.Forget != nil:
		door.Forget(*e.Forget)
	case e.Enforce != nil:
		return door.Enforce(ctx, *e.Enforce)
	case e.asks():
		work.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 2*askTimeout)
			defer cancel()
			a := answer{N: e.N}
			var err error
			switch {
			case e.Yield != nil:
				var y gateway.Yielded
				y, err = door.Yield(ctx, *e.Yield)
				a.Yielded = &y
			case e.Call == callSettle:
				a.Settled, err = door.Settle(ctx)
			case e.Call == callSessions:
				a.Listed = door.Sessions()
			default:
				err = core.E(core.Unavail, "gateway-older", "this gateway does not know what it is asked", "run the same version everywhere")
			}
			a.Problem = problemOf(err)
			if err := g.post(ctx, "/answer", link, a, nil); err != nil {
				g.d.Log.WarnContext(ctx, "an answer did not reach the server that has the keys", slog.Any("err", err))
			}
		})
	}
	return nil
}

// post asks the keeper.
func (g *Gateway) post(ctx context.Context, path, link string, in, out any) error {
	at := g.d.Keeper()
	if at == "" {
		return core.E(core.Unavail, "no-keeper", "no server has the keys at present", "one takes its turn by itself")
	}
	b, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("ask the keeper: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+at+path, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("ask the keeper: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if link != "" {
		req.Header.Set(linkHeader, link)
	}
	resp, err := g.http.Do(req)
	if err != nil {
		return plain(err)
	}
	defer resp.Body.Close()
	r := reply{Body: out}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxHello)).Decode(&r); err != nil {
		return plain(err)
	}
	return r.Problem.err()
}
