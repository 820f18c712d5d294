package link

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// KeeperDeps are what a Keeper gives to its gateways. All but Log are required.
type KeeperDeps struct {
	Secret       ed25519.PrivateKey // see Secret
	Environment  core.Environment
	Installation string

	Registry *gateway.Registry
	Identity gateway.Identity
	Legacy   gateway.Legacy
	Children gateway.Children
	Downlink gateway.Downlink
	Memory   gateway.Memory
	Lender   seal.Lender
	// Policies are the declarations in force.
	Policies func(context.Context) ([]Policy, error)
	// Stray takes an undeclared name that a gateway found.
	Stray func(telemetry.Stray)
	// Unseen is for how long this server has not known that it is the keeper.
	Unseen func() time.Duration
	Log    *slog.Logger // nil: nowhere
}

// Keeper is the end of the link at the server that has the keys. Its methods may
// be called from any goroutine.
type Keeper struct {
	d KeeperDeps

	mu    sync.Mutex       // guards what follows
	links map[string]*peer // by the name of the gateway
}

// NewKeeper makes one without gateways.
func NewKeeper(d KeeperDeps) (*Keeper, error) {
	if len(d.Secret) != ed25519.PrivateKeySize || !d.Environment.Valid() || d.Installation == "" || d.Registry == nil || d.Identity == nil || d.Legacy == nil ||
		d.Children == nil || d.Downlink == nil || d.Memory == nil || d.Lender == nil || d.Policies == nil || d.Stray == nil || d.Unseen == nil {
		return nil, errors.New("link: a dependency of the keeper is missing")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{d: d, links: map[string]*peer{}}, nil
}

// peer is one gateway, from one hello to the next.
type peer struct {
	k    *Keeper
	id   string
	name string
	from string

	mu       sync.Mutex // guards what follows
	changed  chan struct{}
	next     uint64  // number of the last event
	done     uint64  // the last that the gateway has done
	waiting  []event // those after done
	answers  map[uint64]chan answer
	heard    time.Time // when it was given news last: it serves for Sight after that at most
	polled   bool
	replaced *peer // the gateway said hello anew
	state    State
	over     bool // it is given up
}

func (p *peer) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// fence is when the gateway serves nobody any more, unless it asks before. p.mu
// is held.
func (p *peer) fence() time.Time { return p.heard.Add(Sight + fenceMargin) }

// fenced reports whether the gateway of this link serves nobody by it: it has
// not asked for so long, or began anew without what it had. p.mu is held.
func (p *peer) fenced() bool {
	if !time.Now().Before(p.fence()) {
		return true
	}
	if r := p.replaced; r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.polled
	}
	return false
}

// put adds an event, and gives its number.
func (p *peer) put(e event) (uint64, chan answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	e.N = p.next
	var c chan answer
	if e.asks() {
		c = make(chan answer, 1)
		p.answers[e.N] = c
	}
	if len(p.waiting) >= maxEvents {
		p.over = true // it does not follow: its time runs out, and it begins anew
		p.waiting = nil
	}
	if !p.over {
		p.waiting = append(p.waiting, e)
	}
	p.change()
	return e.N, c
}

// await waits until ok holds, the gateway is fenced, or ctx ends. p.mu is held
// while ok runs.
func (p *peer) await(ctx context.Context, ok func() bool) error {
	for {
		p.mu.Lock()
		if ok() {
			p.mu.Unlock()
			return nil
		}
		if p.fenced() {
			p.mu.Unlock()
			return gateway.ErrFenced
		}
		changed, wait := p.changed, min(time.Until(p.fence()), 50*time.Millisecond)
		p.mu.Unlock()
		t := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		t.Stop()
	}
}

// ask has the gateway answer an event.
func (p *peer) ask(ctx context.Context, e event) (answer, error) {
	n, c := p.put(e)
	defer func() {
		p.mu.Lock()
		delete(p.answers, n)
		p.mu.Unlock()
	}()
	var a answer
	got := false
	err := p.await(ctx, func() bool {
		select {
		case a = <-c:
			got = true
		default:
		}
		return got || p.replaced != nil
	})
	switch {
	case err != nil:
		return a, err
	case !got: // it has what it had, under a new link
		return a, core.E(core.Unavail, "gateway-rejoins", "the gateway "+p.name+" has just joined anew", "try again")
	}
	return a, a.Problem.err()
}

// Yield is gateway.Place.
func (p *peer) Yield(ctx context.Context, y gateway.Yield) (gateway.Yielded, error) {
	a, err := p.ask(ctx, event{Yield: &y})
	if err != nil || a.Yielded == nil {
		return gateway.Yielded{}, err
	}
	return *a.Yielded, nil
}

// peers are the gateways now.
func (k *Keeper) peers() []*peer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Values(k.links))
}

// tell puts an event before every gateway. It does not wait.
func (k *Keeper) tell(e event) {
	for _, p := range k.peers() {
		p.put(e)
	}
}

// done puts an event before every gateway and waits until each has done it, or
// serves nobody any more.
func (k *Keeper) done(ctx context.Context, e event) error {
	type mark struct {
		p *peer
		n uint64
	}
	var marks []mark
	for _, p := range k.peers() {
		n, _ := p.put(e)
		marks = append(marks, mark{p, n})
	}
	for _, m := range marks {
		if err := m.p.await(ctx, func() bool { return m.p.done >= m.n }); err != nil && !errors.Is(err, gateway.ErrFenced) {
			return err
		}
	}
	return nil
}

// Changed tells gateways of a change of a device: what identity calls after
// each commit. It does not wait.
func (k *Keeper) Changed(c identity.Change) { k.tell(event{Change: &c}) }

// Wake tells that something waits for a device. It does not wait.
func (k *Keeper) Wake(id core.DeviceID) { k.tell(event{Wake: id}) }

// Refresh has gateways ask anew who a device is. It does not wait.
func (k *Keeper) Refresh(id core.DeviceID) { k.tell(event{Refresh: id}) }

// Enforce puts a declaration in force at every gateway before it returns.
func (k *Keeper) Enforce(ctx context.Context, p Policy) error {
	return k.done(ctx, event{Enforce: &p})
}

// Retire takes the keys of a subject back from every gateway before it returns.
func (k *Keeper) Retire(ctx context.Context, s core.Subject) error {
	return k.done(ctx, event{Retire: &s})
}

// Forget has every gateway forget what it knows of a subject.
func (k *Keeper) Forget(ctx context.Context, s core.Subject) error {
	return k.done(ctx, event{Forget: &s})
}

// Settle returns when everything that was being sealed at a gateway is in the
// journal, and how far the journal is by then.
func (k *Keeper) Settle(ctx context.Context) (last uint64, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, p := range k.peers() {
		all.Go(func() {
			a, perr := p.ask(ctx, event{Call: callSettle})
			mu.Lock()
			defer mu.Unlock()
			if last = max(last, a.Settled); perr != nil && !errors.Is(perr, gateway.ErrFenced) {
				err = errors.Join(err, perr)
			}
		})
	}
	all.Wait()
	return last, err
}

// Sessions are the live ones at all gateways. It fails when one is not reached
// that may have some.
func (k *Keeper) Sessions(ctx context.Context) (out []gateway.Session, err error) {
	for _, p := range k.peers() {
		a, err := p.ask(ctx, event{Call: callSessions})
		if errors.Is(err, gateway.ErrFenced) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, a.Listed...)
	}
	return out, nil
}

// Joined is a gateway as the keeper knows it.
type Joined struct {
	Name  string
	From  string        // the address that it asks from
	Heard time.Duration // since it was given news
	Lost  bool          // it serves nobody any more
	State
}

// Gateways are all that joined since this server became the keeper, by name.
func (k *Keeper) Gateways() []Joined {
	var out []Joined
	for _, p := range k.peers() {
		p.mu.Lock()
		j := Joined{Name: p.name, From: p.from, Heard: time.Since(p.heard), Lost: p.fenced(), State: p.state}
		p.mu.Unlock()
		if j.Lost {
			j.Sessions = 0
		}
		out = append(out, j)
	}
	slices.SortFunc(out, func(a, b Joined) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// join makes a link of a hello.
func (k *Keeper) join(ctx context.Context, q helloRequest, from string) (helloAnswer, error) {
	if len(q.Name) == 0 || len(q.Name) > 256 {
		return helloAnswer{}, core.E(core.Invalid, "gateway-name", "a gateway needs a name of 1 to 256 bytes", "")
	}
	p := &peer{k: k, id: rand.Text(), name: q.Name, from: from, changed: make(chan struct{}), answers: map[uint64]chan answer{}, heard: time.Now()}
	// From here on it hears of everything; what was before stands in the
	// policies below, and in what it asks for.
	k.mu.Lock()
	old := k.links[q.Name]
	k.links[q.Name] = p
	k.mu.Unlock()
	if old != nil {
		old.mu.Lock()
		old.replaced = p
		old.change()
		old.mu.Unlock()
	}
	k.d.Registry.Join(q.Name, p, q.Have)
	policies, err := k.d.Policies(ctx)
	if err != nil {
		return helloAnswer{}, err
	}
	k.d.Log.InfoContext(ctx, "a gateway joined", slog.String("gateway", q.Name), slog.String("from", from), slog.Int("sessions", len(q.Have)))
	return helloAnswer{Link: p.id, Environment: k.d.Environment, Installation: k.d.Installation, Policies: policies}, nil
}

// find is the link of a number, unless its time is over.
func (k *Keeper) find(id string) (*peer, error) {
	for _, p := range k.peers() {
		if p.id != id {
			continue
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.over && !p.fenced() {
			return p, nil
		}
	}
	return nil, core.E(core.Unready, reasonUnknown, "the keeper does not know this link", "the gateway joins anew by itself")
}

// poll gives news to a gateway, once there are some.
func (k *Keeper) poll(ctx context.Context, p *peer, q pollRequest) (pollAnswer, error) {
	for _, s := range q.Strays {
		k.d.Stray(s)
	}
	hold, cancel := context.WithTimeout(ctx, pollHold)
	defer cancel()
	p.mu.Lock()
	p.polled, p.state = true, q.State
	p.done = max(p.done, q.After)
	for len(p.waiting) > 0 && p.waiting[0].N <= p.done {
		p.waiting = p.waiting[1:]
	}
	p.change()
	for len(p.waiting) == 0 && hold.Err() == nil && p.replaced == nil {
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-hold.Done():
		}
		p.mu.Lock()
	}
	defer p.mu.Unlock()
	if p.over || p.fenced() || p.replaced != nil {
		return pollAnswer{}, core.E(core.Unready, reasonUnknown, "the keeper does not know this link", "the gateway joins anew by itself")
	}
	a := pollAnswer{Events: slices.Clone(p.waiting[:min(len(p.waiting), 1000)]), Unseen: k.d.Unseen(), TakesTokens: k.d.Legacy.TakesTokens()}
	p.heard = time.Now()
	return a, nil
}

// answered takes a gateway's answer to an event.
func (p *peer) answered(a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.answers[a.N]; c != nil {
		select {
		case c <- a:
		default: // it has answered already
		}
		p.change()
	}
}
