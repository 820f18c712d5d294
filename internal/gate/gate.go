package gate

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Attempt is somebody who is about to show a credential.
type Attempt struct {
	Means Means
	// Account is a person, a device, …; it may be of nobody, the Gate never
	// knows. "" is nobody in particular: a machine-made secret that names its
	// owner itself.
	Account string
	Source  netip.Addr // of the socket, or what a configured proxy says
	Known   Known      // proof that this browser belongs to the account; zero: none
}

// Deps is what a Gate stands on. Every field but Tell is required.
type Deps struct {
	Update func(context.Context, func(Tx) error) error
	View   func(context.Context, func(Tx) error) error
	Now    func() time.Time
	// Key is at least 32 random bytes, kept outside the database: with it,
	// accounts could be found in the counters and known devices made up.
	Key []byte
	// Tell hears that an account is being guessed at, so that its owner can be
	// told. It is called for accounts that do not exist, too, and must take as
	// long for them: hand the notice to a queue. nil: nobody is told.
	Tell func(context.Context, Notice)
}

// Wait is a refusal that passes.
type Wait struct {
	Refusal *core.Error   // core.TooMany
	After   time.Duration // when trying again makes sense, at least a second
}

func (w *Wait) Error() string { return w.Refusal.Error() }

// Unwrap gives the refusal.
func (w *Wait) Unwrap() error { return w.Refusal }

// wait makes the refusal of an attempt. Its text is one for all reasons and
// for accounts that do not exist (CC 1.14).
func wait(reason string, after time.Duration) *Wait {
	return &Wait{
		Refusal: core.E(core.TooMany, reason, "too many wrong tries", "wait, then try again; a device that signed in before, or a passkey, still gets in"),
		After:   max(after.Round(time.Second), time.Second),
	}
}

// Gate counts attempts. It is safe for concurrent use. One process has one
// Gate over one store.
type Gate struct {
	d     Deps
	lim   Limits
	check Key
	turn  chan struct{} // held by who commits

	mu     sync.Mutex
	clock  clock
	tables map[Scope]*table
	dirty  map[place]struct{} // rows that are not on disk as they are
	batch  *batch             // what the next commit is for
	swept  instant
	tally  map[Means]*tally
	missed int // ledger records that the limit left out
}

// tally is what happened since the start.
type tally struct{ attempts, refused, right, wrong uint64 }

// New loads the counters. Those of another key are useless and are deleted; a
// record in the ledger says so.
func New(ctx context.Context, d Deps) (*Gate, error) { return newGate(ctx, d, Standard()) }

func newGate(ctx context.Context, d Deps, lim Limits) (*Gate, error) {
	if d.Update == nil || d.View == nil || d.Now == nil {
		return nil, errors.New("gate: a dependency is missing")
	}
	if len(d.Key) < 32 {
		return nil, errors.New("gate: the key has less than 32 bytes")
	}
	g := &Gate{
		d: d, lim: lim, turn: make(chan struct{}, 1), batch: newBatch(),
		tables: map[Scope]*table{}, dirty: map[place]struct{}{}, tally: map[Means]*tally{},
	}
	g.check = g.key("check")
	for _, s := range Scopes() {
		// Source and Account hold the numbers that matter; see Standard.
		g.tables[s] = &table{scope: s, max: lim.Rows[s], rows: map[Key]*row{}, floored: s == Source || s == Account}
	}
	for _, m := range AllMeans() {
		g.tally[m] = &tally{}
	}
	if err := g.load(ctx); err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	return g, nil
}

// Limits are the numbers that the Gate goes by.
func (g *Gate) Limits() Limits {
	l := g.lim
	l.Rows = maps.Clone(l.Rows)
	return l
}

// now is the Gate's time; mu is held.
func (g *Gate) now() instant { return g.clock.tick(g.d.Now()) }

// mac is a keyed hash of some words, each with its length.
func (g *Gate) mac(words ...string) []byte {
	h := hmac.New(sha256.New, g.d.Key)
	for _, w := range words {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(w)))
		_, _ = h.Write(n[:]) // a hash never fails
		_, _ = h.Write([]byte(w))
	}
	return h.Sum(nil)
}

func (g *Gate) key(words ...string) Key { return Key(g.mac(words...)[:16]) }

// netOf is the network that a source counts as: what one customer usually has.
// Machine-made secrets are looked at more narrowly, since it is only about who
// uses the server up.
func netOf(a netip.Addr, c class) netip.Prefix {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	size := 64
	switch {
	case a.Is4() && c == guessable:
		size = 24
	case a.Is4():
		size = 32
	case c == machineMade:
		size = 56
	}
	p, _ := a.Prefix(size) // fails only for a bad length
	return p
}

// Open lets an attempt begin. The try is counted as wrong, on disk, when Open
// gives a ticket; nothing was compared yet, so what many try at once, or try
// and then crash, is counted like the rest (CC 1.13). It fails with *Wait
// when there were too many, with core.Unavail when the count cannot be kept,
// and with core.Invalid for means that do not exist.
func (g *Gate) Open(ctx context.Context, a Attempt) (*Ticket, error) {
	if !a.Means.Valid() || a.Account == "" && a.Means.Guessable() {
		return nil, core.E(core.Invalid, "no-such-means", fmt.Sprintf("nobody signs in with %q and account %q", a.Means, a.Account), "this is a fault in the program")
	}
	o := g.opening(a)
	g.mu.Lock()
	o.now = g.now()
	t := g.tally[a.Means]
	t.attempts++
	if after, reason := g.refuses(&o); after > 0 {
		t.refused++
		n, b := g.refused(&o)
		g.mu.Unlock()
		if err := g.tell(ctx, n, b); err != nil {
			return nil, err
		}
		return nil, wait(reason, after)
	}
	charged := g.charge(&o)
	b := g.join()
	g.mu.Unlock()
	if err := g.wait(ctx, b); err != nil {
		return nil, err
	}
	return &Ticket{&pass{g: g, means: a.Means, account: a.Account, at: o.now, charged: charged, known: o.cookie}}, nil
}

// opening is an attempt with its keys.
type opening struct {
	Attempt
	class                    class
	now                      instant
	pair, device, net, owner Key
	seen                     Key // the network as a notice counts it
	cookie                   bool
}

func (g *Gate) opening(a Attempt) opening {
	c := a.Means.class()
	o := opening{Attempt: a, class: c}
	wide := netOf(a.Source, guessable).String()
	o.seen = g.key("net-seen", wide)
	o.owner = g.key("account", string(rune(c)), a.Account)
	if c == guessable {
		o.net = g.key("source", wide)
		o.pair = g.key("pair", string(a.Means), a.Account, wide)
	} else {
		o.net = g.key("made-source", netOf(a.Source, machineMade).String())
	}
	if a.Known != (Known{}) {
		o.device = g.key("known", string(a.Means), a.Account, string(a.Known.id[:]))
		o.cookie = true
	}
	return o
}

// known reports whether the attempt has a budget of its own, which no stranger
// uses up.
func (g *Gate) known(o *opening) bool {
	if !o.cookie || o.Account == "" || !g.proves(o.Known, o.Account, o.now.time()) {
		return false
	}
	return int(g.tables[KnownDevice].look(o.device).wrong) < g.lim.KnownTries
}

// delay is how long after the last of n wrong tries the next one may come.
func (l *Limits) delay(n int) time.Duration {
	if n < l.FreeTries {
		return 0
	}
	d := l.FirstDelay
	for range n - l.FreeTries {
		if d *= 2; d >= l.LongestDelay {
			return l.LongestDelay
		}
	}
	return d
}

func (g *Gate) pause(r row, now instant) time.Duration {
	return max(0, r.last.add(g.lim.delay(int(r.wrong))).sub(now))
}

// refuses says how long an attempt must wait, and why; 0: it may go on.
func (g *Gate) refuses(o *opening) (after time.Duration, reason string) {
	longer := func(d time.Duration, why string) {
		if d > after {
			after, reason = d, why
		}
	}
	if o.cookie = g.known(o); o.cookie { // CC 1.13: never locked by strangers
		longer(g.pause(g.tables[KnownDevice].look(o.device), o.now), "device-throttled")
		return after, reason
	}
	if g.batch.waiting >= g.lim.Waiting {
		longer(time.Second, "gate-busy")
	}
	l, all := &g.lim, g.tables[All].look(allKey(o.class))
	if o.class == machineMade {
		r := g.tables[MadeSource].look(o.net)
		burst := l.MadeSource.Burst
		if all.level(l.MadeAll, o.now) >= float64(l.MadeAll.Burst-1) {
			burst = l.HotBurst
		}
		open := 0
		if !o.now.after(time.Minute, r.last) { // a ticket that was let fall is not under way for ever
			open = min(int(r.open), l.MadeAtOnce)
		}
		longer(r.wait(l.MadeSource, burst+open, o.now), "source-throttled")
		return after, reason
	}
	burst := l.Source.Burst
	if all.level(l.All, o.now) >= float64(l.All.Burst/2) {
		burst = l.HotBurst
	}
	net, owner := g.tables[Source].look(o.net), g.tables[Account].look(o.owner)
	longer(net.wait(l.Source, burst, o.now), "source-throttled") // CC 1.14
	longer(g.pause(g.tables[Pair].look(o.pair), o.now), "pair-throttled")
	longer(owner.wait(l.Account, l.Account.Burst, o.now), "account-throttled") // CC 1.13
	longer(all.wait(l.All, l.All.Burst, o.now), "gate-throttled")
	return after, reason
}

// allKey is the key of everybody's row for a class of means.
func allKey(c class) Key { return Key{byte(c)} }

// recordsKey is the row that bounds the ledger's records.
func recordsKey() Key { return Key{0xff} }

// row gives a row for writing.
func (g *Gate) row(s Scope, k Key, now instant) (*row, place) {
	t := g.tables[s]
	r := t.make(k, now, g.lim.TellEvery, func(gone Key) { g.dirty[place{t, gone}] = struct{}{} })
	p := place{t, k}
	g.dirty[p] = struct{}{}
	return r, p
}

// charge counts an attempt as wrong wherever it counts.
func (g *Gate) charge(o *opening) (charged []place) {
	bucket := func(s Scope, k Key, b Budget) *row {
		r, p := g.row(s, k, o.now)
		r.charge(b, o.now)
		charged = append(charged, p)
		return r
	}
	series := func(s Scope, k Key, life time.Duration) {
		r, p := g.row(s, k, o.now)
		r.count(o.now)
		r.until = o.now.add(life)
		charged = append(charged, p)
	}
	l := &g.lim
	owned := Account
	if o.class == machineMade {
		owned = MadeAccount
	}
	switch {
	case o.cookie:
		series(KnownDevice, o.device, l.KnownLife)
		if o.Account != "" { // counted for its owner's eyes, not against the account's budget
			r, p := g.row(owned, o.owner, o.now)
			r.count(o.now)
			r.account.nets.add(o.seen)
			charged = append(charged, p)
		}
		return charged
	case o.class == machineMade:
		all := bucket(All, allKey(o.class), l.MadeAll)
		all.until = min(all.until, o.now.add(time.Duration(l.MadeAll.Burst)*l.MadeAll.Refill))
		r := g.tables[MadeSource].rows[o.net]
		if r != nil && o.now.after(time.Minute, r.last) {
			r.open = 0
		}
		bucket(MadeSource, o.net, l.MadeSource).open++
		if o.Account != "" {
			bucket(MadeAccount, o.owner, l.Account).account.nets.add(o.seen)
		}
		return charged
	}
	bucket(All, allKey(o.class), l.All)
	bucket(Source, o.net, l.Source)
	series(Pair, o.pair, day)
	r := bucket(Account, o.owner, l.Account)
	r.account.nets.add(o.seen)
	g.note(o, r)
	return charged
}

// refused counts a refusal for the notice of an account that is counted
// already: a refusal makes no row.
func (g *Gate) refused(o *opening) (*Notice, *batch) {
	owned := Account
	if o.class == machineMade {
		owned = MadeAccount
	}
	r := g.tables[owned].rows[o.owner]
	if r == nil {
		return nil, nil
	}
	if r.account.refused < 1<<30 {
		r.account.refused++
	}
	r.account.nets.add(o.seen)
	return g.due(place{g.tables[owned], o.owner}, o.Means, o.Account, o.now)
}

// right gives back what a ticket was charged.
func (g *Gate) right(ctx context.Context, p *pass) error {
	g.mu.Lock()
	now := g.now()
	g.tally[p.means].right++
	for _, c := range p.charged {
		r := c.t.rows[c.key]
		if r == nil {
			continue
		}
		g.dirty[c] = struct{}{}
		switch c.t.scope {
		case Pair, KnownDevice: // the series is broken
			delete(c.t.rows, c.key)
			continue
		case MadeSource:
			r.open = max(0, r.open-1)
		}
		if b, ok := g.budget(c); ok && !p.uncharged(c) {
			r.refund(b, p.at, now)
		} else {
			r.wrong = max(0, r.wrong-1)
		}
		if r.wrong == 0 && r.over(now, g.lim.TellEvery) {
			delete(c.t.rows, c.key)
		}
	}
	b := g.join()
	g.mu.Unlock()
	return g.wait(ctx, b)
}

// uncharged reports whether a row was only counted: an account, by a known
// device.
func (p *pass) uncharged(c place) bool {
	return len(p.charged) > 0 && p.charged[0].t.scope == KnownDevice && c.t.scope != KnownDevice
}

// budget is the bucket that a row is of.
func (g *Gate) budget(c place) (Budget, bool) {
	switch c.t.scope {
	case Source:
		return g.lim.Source, true
	case Account, MadeAccount:
		return g.lim.Account, true
	case MadeSource:
		return g.lim.MadeSource, true
	case All:
		switch c.key {
		case allKey(guessable):
			return g.lim.All, true
		case allKey(machineMade):
			return g.lim.MadeAll, true
		}
	}
	return Budget{}, false
}

// wrong ends a ticket whose credential was wrong.
func (g *Gate) wrong(ctx context.Context, p *pass) error {
	g.mu.Lock()
	now := g.now()
	g.tally[p.means].wrong++
	var n *Notice
	var b *batch
	for _, c := range p.charged {
		r := c.t.rows[c.key]
		if r == nil {
			continue
		}
		switch c.t.scope {
		case MadeSource:
			r.open = max(0, r.open-1)
		case Account, MadeAccount:
			n, b = g.due(c, p.means, p.account, now)
		}
	}
	g.mu.Unlock()
	return g.tell(ctx, n, b)
}
