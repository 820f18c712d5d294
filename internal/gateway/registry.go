package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
)

// Place is a gateway as the registry sees it.
type Place interface {
	// Yield is Gateway.Yield. ErrFenced says that the gateway is not reached and
	// has, by its own clock, let go of everything.
	Yield(context.Context, Yield) (Yielded, error)
}

// ErrFenced says that a gateway serves nobody any more.
var ErrFenced = errors.New("the gateway serves nobody any more")

// RegistryDeps are what a Registry needs; all of it is required.
type RegistryDeps struct {
	// Kept gives what is kept of a device's sessions.
	Kept func(context.Context, core.DeviceID) ([]command.Listening, error)
	// Suspect puts a device in quarantine: see Identity.
	Suspect func(ctx context.Context, id core.DeviceID, reason string) error
	Now     func() time.Time
}

// Registry knows at which gateways the devices of an installation are. There is
// one, at the server that has the keys. It begins empty: what it does not know
// of a device, the gateway has that it is at, or nobody.
type Registry struct {
	d RegistryDeps

	joining sync.RWMutex // held for reading by who claims, for writing by who joins
	mu      sync.Mutex   // guards what follows
	token   uint64
	places  map[string]joined
	by      map[core.DeviceID]*whereabouts
}

// joined is a gateway, from one Join to the next.
type joined struct {
	place Place
	time  uint64 // of its Join, by a count of them
}

// stay is something that a gateway has of a device.
type stay struct {
	name string
	time uint64 // of the gateway's Join: what it had before, it has no more
}

// whereabouts are of one device.
type whereabouts struct {
	turn   chan struct{} // of who claims
	at     []stay        // the newest last; guarded by turn, and by who joins
	mu     sync.Mutex    // guards rivals
	rivals rivals
}

// NewRegistry makes one that knows nothing.
func NewRegistry(d RegistryDeps) (*Registry, error) {
	if d.Kept == nil || d.Suspect == nil || d.Now == nil {
		return nil, errors.New("registry: Kept, Suspect and Now are required")
	}
	// Tokens grow over restarts, too: a gateway may have seen one of before.
	return &Registry{d: d, token: uint64(d.Now().UnixNano()), places: map[string]joined{}, by: map[core.DeviceID]*whereabouts{}}, nil
}

// Join adds a gateway, with the sessions that it has and with nothing else, or
// replaces the one of its name. It waits for the claims that are under way.
func (r *Registry) Join(name string, p Place, have []Held) {
	r.joining.Lock()
	defer r.joining.Unlock()
	r.mu.Lock()
	r.token++
	now := stay{name, r.token}
	r.places[name] = joined{p, now.time}
	r.mu.Unlock()
	for _, h := range have {
		w := r.of(h.Device)
		w.at = append(slices.DeleteFunc(w.at, func(x stay) bool { return x.name == name }), now)
	}
}

func (r *Registry) of(id core.DeviceID) *whereabouts {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.by[id]
	if w == nil {
		w = &whereabouts{turn: make(chan struct{}, 1)}
		r.by[id] = w
	}
	return w
}

// place is the gateway of a name; its time is 0 when there is none.
func (r *Registry) place(name string) joined {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.places[name]
}

// Claim gives a session to the gateway of a name; see Sessions.
func (r *Registry) Claim(ctx context.Context, name string, c Claim) (Handed, error) {
	r.joining.RLock()
	defer r.joining.RUnlock()
	own := stay{name, r.place(name).time}
	if own.time == 0 {
		return Handed{}, core.E(core.Unready, "gateway-unknown", "this gateway has not joined", "it joins by itself")
	}
	w := r.of(c.Device)
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return Handed{}, fmt.Errorf("claim a session: %w", ctx.Err())
	}
	defer func() { <-w.turn }()
	r.mu.Lock()
	r.token++
	h := Handed{Token: r.token}
	r.mu.Unlock()
	y := Yield{Device: c.Device, ClientID: c.ClientID, By: c.By, Token: h.Token}
	var still []stay
	left := 0
	for _, other := range w.at {
		if other.name == name {
			continue
		}
		got, err := r.yield(ctx, other, y)
		if err != nil {
			return Handed{}, fmt.Errorf("claim a session that another gateway has: %w", err)
		}
		if got.Account != nil {
			h.Account = got.Account // of the newest of them
		}
		if got.Left > 0 {
			still, left = append(still, other), left+got.Left
		}
	}
	for y.Oldest = true; left > 0 && left+c.Others >= maxSessions; left-- {
		if _, err := r.yield(ctx, still[0], y); err != nil {
			return Handed{}, fmt.Errorf("end the oldest session, which another gateway has: %w", err)
		}
	}
	if h.Moved = len(w.at) != 1 || w.at[0] != own; h.Moved {
		var err error
		if h.Sessions, err = r.d.Kept(ctx, c.Device); err != nil {
			return Handed{}, fmt.Errorf("claim a session: what is kept of it: %w", err)
		}
	}
	w.at = append(still, own)
	return h, nil
}

// yield asks a gateway to let go. One that serves nobody has let go of all.
func (r *Registry) yield(ctx context.Context, at stay, y Yield) (Yielded, error) {
	p := r.place(at.name)
	if p.time != at.time {
		return Yielded{}, nil
	}
	got, err := p.place.Yield(ctx, y)
	if errors.Is(err, ErrFenced) {
		return Yielded{}, nil
	}
	return got, err
}

// Fought is Sessions.Fought, for all gateways.
func (r *Registry) Fought(ctx context.Context, f Fight) (bool, error) {
	w := r.of(f.Device)
	w.mu.Lock()
	two := w.rivals.note(answer(f.Answer), f.Old, f.New, r.d.Now().UnixNano())
	w.mu.Unlock()
	if !two {
		return false, nil
	}
	if err := r.d.Suspect(ctx, f.Device, rivalsReason); err != nil {
		w.mu.Lock()
		w.rivals.n = rivalTakeOvers - 1 // the next one tries again
		w.mu.Unlock()
		return true, fmt.Errorf("a certificate is used twice, and its device could not be put in quarantine: %w", err)
	}
	return true, nil
}

// Calm is Sessions.Calm, for all gateways.
func (r *Registry) Calm(id core.DeviceID) {
	w := r.of(id)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rivals.n = 0
}

// At names the gateways that have, or had last, a device.
func (r *Registry) At(id core.DeviceID) []string {
	r.joining.RLock()
	defer r.joining.RUnlock()
	r.mu.Lock()
	w := r.by[id]
	r.mu.Unlock()
	if w == nil {
		return nil
	}
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	var out []string
	for _, x := range w.at {
		if r.place(x.name).time == x.time {
			out = append(out, x.name)
		}
	}
	return out
}

// Here is the registry as one gateway sees it: the one of this process.
type Here struct {
	*Registry
	Name string
}

// Claim is Sessions.Claim.
func (h Here) Claim(ctx context.Context, c Claim) (Handed, error) {
	return h.Registry.Claim(ctx, h.Name, c)
}
