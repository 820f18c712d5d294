package link

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// house answers for everything that a keeper has. (The whole of it, on real
// stores and with real servers, is bench/soak's TestTogether.)
type house struct {
	mu      sync.Mutex
	asked   []string
	fail    error
	unseen  atomic.Int64
	vouched *identity.Vouched
}

func (h *house) note(what string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, what)
	return h.fail
}

func (h *house) Identify(context.Context, *x509.Certificate) (identity.Identified, error) {
	return identity.Identified{Device: "lamp-1"}, h.note("identify")
}

func (h *house) Recheck(*x509.Certificate) (identity.Identified, error) {
	return identity.Identified{Device: "lamp-1"}, h.note("recheck")
}
func (h *house) Suspect(context.Context, core.DeviceID, string) error { return h.note("suspect") }
func (h *house) TakesTokens() bool                                    { return true }
func (h *house) IdentifyToken(_ context.Context, from netip.Addr, user, token []byte) (identity.Identified, error) {
	return identity.Identified{Device: core.DeviceID(user)}, h.note("token " + from.String() + " " + string(token))
}
func (h *house) RegisteredLeaf(*x509.Certificate) (bool, error) { return true, h.note("leaf") }
func (h *house) IdentifyLeaf(context.Context, *x509.Certificate) (identity.Identified, error) {
	return identity.Identified{}, h.note("identify-leaf")
}

func (h *house) RecheckLegacy(identity.Serial) (identity.Identified, error) {
	return identity.Identified{}, h.note("recheck-legacy")
}

func (h *house) Vouched(core.DeviceID, []byte) *identity.Vouched {
	_ = h.note("vouched")
	return h.vouched
}

func (h *house) Propose(context.Context, core.DeviceID, core.DeviceID) error {
	return h.note("propose")
}

func (h *house) SpokeForOthers(context.Context, core.DeviceID) error {
	return h.note("spoke-for-others")
}
func (h *house) Waiting(core.DeviceID) bool { return true }
func (h *house) Next(context.Context, core.DeviceID, core.Subject, uint64, int) ([]command.Message, error) {
	return []command.Message{{ID: "c1", Number: 7, Payload: []byte("x")}}, h.note("next")
}
func (h *house) Taken(context.Context, core.DeviceID, uint64, bool) error { return h.note("taken") }
func (h *house) Reply(context.Context, core.DeviceID, core.Subject, string, string, []byte) error {
	return h.note("reply")
}
func (h *house) SettingsDue(core.DeviceID, uint64) bool { return true }
func (h *house) Settings(context.Context, core.DeviceID, core.Subject, uint64) (command.Message, bool, error) {
	return command.Message{Number: 9}, true, h.note("settings")
}

func (h *house) SettingsTaken(context.Context, core.DeviceID, uint64) error {
	return h.note("settings-taken")
}

func (h *house) Report(context.Context, core.DeviceID, core.Subject, []byte) error {
	return h.note("report")
}
func (h *house) Remember(context.Context, []command.Listening) error { return h.note("remember") }
func (h *house) Lend(context.Context, core.Subject, core.Epoch) (seal.Loan, error) {
	return seal.Loan{Key: [32]byte{1, 2}, For: time.Minute}, h.note("lend")
}
func (h *house) EnsureEpoch(context.Context, core.Epoch) error { return h.note("epoch") }

// door records what a gateway was told to do.
type door struct {
	mu     sync.Mutex
	did    []string
	have   []gateway.Held
	slow   chan struct{} // Yield waits for it
	doubts atomic.Int32
	doubt  atomic.Bool
}

func (d *door) do(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.did = append(d.did, what)
}

func (d *door) saw(what string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.did {
		if x == what {
			return true
		}
	}
	return false
}

func (d *door) Begin(_ context.Context, p []Policy) error {
	d.do("begin " + string(p[0].Canonical))
	return nil
}

func (d *door) Enforce(_ context.Context, p Policy) error {
	d.do("enforce " + string(p.Canonical))
	return nil
}
func (d *door) Follow(c identity.Change) { d.do("follow " + string(c.Device)) }
func (d *door) Wake(id core.DeviceID)    { d.do("wake " + string(id)) }
func (d *door) Refresh(id core.DeviceID) { d.do("refresh " + string(id)) }
func (d *door) Retire(core.Subject)      { d.do("retire") }
func (d *door) Forget(core.Subject)      { d.do("forget") }
func (d *door) Yield(ctx context.Context, y gateway.Yield) (gateway.Yielded, error) {
	d.do("yield " + y.ClientID)
	select {
	case <-d.slow:
		return gateway.Yielded{Account: &gateway.Account{Strikes: 3}}, nil
	case <-ctx.Done():
		return gateway.Yielded{}, ctx.Err()
	}
}
func (d *door) Settle(context.Context) (uint64, error) { return 42, nil }
func (d *door) Sessions() []gateway.Session            { return []gateway.Session{{Device: "lamp-1"}} }
func (d *door) Held() []gateway.Held                   { return d.have }
func (d *door) Strays() []telemetry.Stray              { return []telemetry.Stray{{Name: "ssid"}} }
func (d *door) Told([]telemetry.Stray)                 { d.do("told") }
func (d *door) State() State                           { return State{Version: "1", Sessions: 1} }
func (d *door) Doubt(doubt bool) {
	d.doubt.Store(doubt)
	d.doubts.Add(1)
}

// pair is a keeper and a gateway on loopback.
type pair struct {
	h      *house
	k      *Keeper
	r      *gateway.Registry
	g      *Gateway
	d      *door
	addr   atomic.Pointer[string]
	strays atomic.Int32
	stop   context.CancelFunc // of the keeper's listener
}

func secretOf(t *testing.T, s string) ed25519.PrivateKey {
	t.Helper()
	k, err := Secret([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{h: &house{}, d: &door{slow: make(chan struct{})}}
	p.addr.Store(new(string))
	p.keeper(t)
	var err error
	if p.g, err = NewGateway(GatewayDeps{Secret: secretOf(t, "gate key"), Name: "one", Keeper: func() string { return *p.addr.Load() }}); err != nil {
		t.Fatal(err)
	}
	return p
}

// keeper starts a keeper that knows nothing of one before.
func (p *pair) keeper(t *testing.T) {
	t.Helper()
	var err error
	if p.r, err = gateway.NewRegistry(gateway.RegistryDeps{
		Kept:    func(context.Context, core.DeviceID) ([]command.Listening, error) { return nil, nil },
		Suspect: p.h.Suspect, Now: time.Now,
	}); err != nil {
		t.Fatal(err)
	}
	p.r.Join("here", nobody{}, nil)
	if p.k, err = NewKeeper(KeeperDeps{
		Secret: secretOf(t, "gate key"), Environment: core.Test, Installation: "home", Registry: p.r, Identity: p.h, Legacy: p.h, Children: p.h,
		Downlink: p.h, Memory: p.h, Lender: p.h, Stray: func(telemetry.Stray) { p.strays.Add(1) },
		Policies: func(context.Context) ([]Policy, error) { return []Policy{{Canonical: []byte("lamp")}}, nil },
		Unseen:   func() time.Duration { return time.Duration(p.h.unseen.Load()) },
	}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	p.addr.Store(&addr)
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	served := make(chan error, 1)
	k := p.k
	go func() { served <- k.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// run joins until the test ends.
func (p *pair) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		p.g.Run(ctx, p.d)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

type nobody struct{}

func (nobody) Yield(context.Context, gateway.Yield) (gateway.Yielded, error) {
	return gateway.Yielded{}, nil
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestEveryQuestionReachesTheKeeper: each has its answer, and its error as it
// was.
func TestEveryQuestionReachesTheKeeper(t *testing.T) {
	p := newPair(t)
	p.run(t)
	eventually(t, "fresh", p.g.Fresh)
	eventually(t, "no doubt", func() bool { return !p.d.doubt.Load() })
	ctx := t.Context()
	leaf := &x509.Certificate{Raw: p.g.http.Transport.(*http.Transport).TLSClientConfig.Certificates[0].Certificate[0]}
	ask := map[string]func() error{
		"identify": func() error { _, err := p.g.Identify(ctx, leaf); return err }, "recheck": func() error { _, err := p.g.Recheck(leaf); return err },
		"suspect": func() error { return p.g.Suspect(ctx, "a", "b") },
		"token 127.0.0.9 t0ken": func() error {
			_, err := p.g.IdentifyToken(ctx, netip.MustParseAddr("127.0.0.9"), []byte("old-1"), []byte("t0ken"))
			return err
		},
		"leaf":           func() error { _, err := p.g.RegisteredLeaf(leaf); return err },
		"identify-leaf":  func() error { _, err := p.g.IdentifyLeaf(ctx, leaf); return err },
		"recheck-legacy": func() error { _, err := p.g.RecheckLegacy(identity.Serial{1}); return err },
		"propose":        func() error { return p.g.Propose(ctx, "hub", "a") }, "spoke-for-others": func() error { return p.g.SpokeForOthers(ctx, "hub") },
		"next":  func() error { _, err := p.g.Next(ctx, "a", core.Subject{1}, 0, 1); return err },
		"taken": func() error { return p.g.Taken(ctx, "a", 1, true) }, "reply": func() error { return p.g.Reply(ctx, "a", core.Subject{1}, "n", "c", nil) },
		"settings":       func() error { _, _, err := p.g.Settings(ctx, "a", core.Subject{1}, 0); return err },
		"settings-taken": func() error { return p.g.SettingsTaken(ctx, "a", 1) }, "report": func() error { return p.g.Report(ctx, "a", core.Subject{1}, nil) },
		"remember": func() error { return p.g.Remember(ctx, make([]command.Listening, 1200)) },
		"lend":     func() error { _, err := p.g.Lend(ctx, core.Subject{1}, core.Epoch{}); return err },
		"epoch":    func() error { return p.g.EnsureEpoch(ctx, core.Epoch{}) },
	}
	for name, f := range ask {
		if err := f(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.h.mu.Lock()
	got := map[string]int{}
	for _, x := range p.h.asked {
		got[x]++
	}
	p.h.mu.Unlock()
	for name := range ask {
		if want := map[bool]int{true: 3, false: 1}[name == "remember"]; got[name] != want {
			t.Errorf("%s was asked %d times", name, got[name])
		}
	}
	for _, want := range []error{
		core.E(core.Denied, "revoked", "it is over", "enrol anew"), &identity.RetryError{Refusal: core.E(core.TooMany, "wait", "w", ""), After: 7 * time.Second},
		command.ErrNoCommand, command.ErrReply, wire.ErrReport, seal.ErrNoKey,
	} {
		p.h.mu.Lock()
		p.h.fail = want
		p.h.mu.Unlock()
		err := p.g.Report(ctx, "a", core.Subject{1}, nil)
		var sentinel, retry bool
		if _, ok := errors.AsType[*core.Error](want); !ok || errors.Is(want, seal.ErrNoKey) {
			sentinel = !errors.Is(err, want)
		}
		if r, ok := errors.AsType[*identity.RetryError](want); ok {
			got, ok := errors.AsType[*identity.RetryError](err)
			retry = !ok || got.After != r.After
		}
		if err == nil || sentinel || retry || core.ReasonOf(want) != "internal" && core.ReasonOf(err) != core.ReasonOf(want) {
			t.Errorf("%v arrived as %v", want, err)
		}
	}
	p.h.fail = errors.New("disk /var/secret is full")
	if err := p.g.Report(ctx, "a", core.Subject{1}, nil); core.KindOf(err) != core.Unavail || bytes.Contains([]byte(err.Error()), []byte("secret")) {
		t.Errorf("our own trouble arrived as %v", err)
	}
}

// TestVouchedIsRememberedForAMoment: a hub's messages do not each ask the keeper,
// and who was taken from it is gone after vouchedFor.
func TestVouchedIsRememberedForAMoment(t *testing.T) {
	p := newPair(t)
	p.h.vouched = &identity.Vouched{Child: "door-1"}
	p.run(t)
	eventually(t, "fresh", p.g.Fresh)
	began := time.Now()
	first := p.g.Vouched("hub", []byte("door-1"))
	if first == nil || first.Child != "door-1" {
		t.Fatal("not vouched for")
	}
	for range 1000 {
		if p.g.Vouched("hub", []byte("door-1")) != first && time.Since(began) < vouchedFor/2 {
			t.Fatal("asked again at once")
		}
	}
	p.h.mu.Lock()
	p.h.vouched = nil
	p.h.mu.Unlock()
	eventually(t, "not vouched for", func() bool { return p.g.Vouched("hub", []byte("door-1")) == nil })
	if d := time.Since(began); d > vouchedFor+time.Second {
		t.Errorf("vouched for %s after it was taken away", d)
	}
}

// TestNews: what happens at the keeper is done at the gateway, in its order, and
// who waits for that waits no longer.
func TestNews(t *testing.T) {
	p := newPair(t)
	p.run(t)
	eventually(t, "fresh", p.g.Fresh)
	ctx := t.Context()
	p.k.Changed(identity.Change{Device: "lamp-1", Kind: identity.ChangeRevoked})
	p.k.Wake("lamp-2")
	p.k.Refresh("lamp-3")
	if err := errors.Join(p.k.Enforce(ctx, Policy{Canonical: []byte("lamp v2")}), p.k.Retire(ctx, core.Subject{1}), p.k.Forget(ctx, core.Subject{1})); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"begin lamp", "follow lamp-1", "wake lamp-2", "enforce lamp v2", "retire", "forget", "told"} {
		if !p.d.saw(what) {
			t.Errorf("%s was not done", what)
		}
	}
	if last, err := p.k.Settle(ctx); err != nil || last != 42 {
		t.Errorf("settled at %d, %v", last, err)
	}
	if list, err := p.k.Sessions(ctx); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if g := p.k.Gateways(); len(g) != 1 || g[0].Name != "one" || g[0].Lost || g[0].Sessions != 1 || p.strays.Load() == 0 {
		t.Errorf("%+v", g)
	}
	if p.g.TakesTokens() != true {
		t.Error("the gateway was not told of tokens")
	}
	close(p.d.slow)
	if _, err := p.g.Claim(ctx, gateway.Claim{Device: "lamp-1", ClientID: "x"}); err != nil {
		t.Fatal(err)
	}
	h, err := p.r.Claim(ctx, "here", gateway.Claim{Device: "lamp-1", ClientID: "x"})
	if err != nil || !p.d.saw("yield x") || h.Account == nil || h.Account.Strikes != 3 {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestFence: a gateway that is not heard of has let go of everything once its
// time is over, by its own clock first; nobody waits longer, and nobody less.
func TestFence(t *testing.T) {
	p := newPair(t)
	p.d.have = []gateway.Held{{Device: "lamp-1", ClientID: "x"}}
	p.run(t)
	eventually(t, "fresh", p.g.Fresh)
	if !p.d.saw("refresh lamp-1") {
		t.Error("a session that was there was not asked about")
	}
	if at := p.r.At("lamp-1"); len(at) != 1 || at[0] != "one" {
		t.Errorf("a session that was there is at %v", at)
	}
	p.addr.Store(new(string)) // nothing leads to the keeper any more
	began := time.Now()
	_, err := p.r.Claim(t.Context(), "here", gateway.Claim{Device: "lamp-1", ClientID: "x"})
	took := time.Since(began)
	if err != nil || p.g.Fresh() || took < Sight-pollHold-100*time.Millisecond || took > Sight+2*time.Second {
		t.Errorf("claimed after %s, while the gateway serves: %t, %v", took, p.g.Fresh(), err)
	}
	eventually(t, "doubt", p.d.doubt.Load)
	if g := p.k.Gateways(); len(g) != 1 || !g[0].Lost {
		t.Errorf("%+v", g)
	}
}

// TestKeeperWhoDoesNotKnow: news of a keeper that has not seen the database
// itself are as old as that.
func TestKeeperWhoDoesNotKnow(t *testing.T) {
	p := newPair(t)
	p.h.unseen.Store(int64(Sight))
	p.run(t)
	time.Sleep(2 * pollHold)
	if p.g.Fresh() || !p.d.doubt.Load() {
		t.Error("served on the word of a keeper that does not know whether it is")
	}
	p.h.unseen.Store(0)
	eventually(t, "fresh", p.g.Fresh)
}

// TestNextKeeper: another server has its turn; sessions go on when it comes soon
// enough.
func TestNextKeeper(t *testing.T) {
	p := newPair(t)
	p.run(t)
	eventually(t, "no doubt", func() bool { return p.g.Fresh() && !p.d.doubt.Load() })
	doubts := p.d.doubts.Load()
	p.stop()
	p.d.have = []gateway.Held{{Device: "lamp-1", ClientID: "x"}}
	p.keeper(t)
	eventually(t, "joined the next", func() bool { return len(p.k.Gateways()) == 1 && p.k.Gateways()[0].Sessions == 1 })
	if p.d.doubts.Load() != doubts || !p.g.Fresh() {
		t.Error("its sessions ended, though another took over at once")
	}
	if at := p.r.At("lamp-1"); len(at) != 1 {
		t.Errorf("the next keeper does not know where a session is: %v", at)
	}
}

// TestStrangersAtTheLink: whoever does not have the key is told nothing, and a
// gateway tells nobody else.
func TestStrangersAtTheLink(t *testing.T) {
	p := newPair(t)
	for name, conf := range map[string]*tls.Config{
		"without a certificate": {InsecureSkipVerify: true, NextProtos: []string{"h2"}},
		"with another key": func() *tls.Config {
			c, err := tlsOf(secretOf(t, "another key"))
			if err != nil {
				t.Fatal(err)
			}
			c.VerifyConnection = nil
			return c
		}(),
	} {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}, Timeout: 5 * time.Second}
		resp, err := c.Post("https://"+*p.addr.Load()+"/hello", "application/json", bytes.NewReader([]byte(`{"Name":"x"}`)))
		if err == nil {
			_ = resp.Body.Close() // that there is an answer is the fault
			t.Errorf("%s: answered %s", name, resp.Status)
		}
	}
	other, err := NewGateway(GatewayDeps{Secret: secretOf(t, "another key"), Name: "two", Keeper: func() string { return *p.addr.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.hello(t.Context(), nil); err == nil || len(p.k.Gateways()) != 0 {
		t.Errorf("a gateway of another installation joined: %v", err)
	}
}

// FuzzRequests: whatever a gateway of another version says, the keeper answers
// and goes on.
func FuzzRequests(f *testing.F) {
	h := &house{}
	r, err := gateway.NewRegistry(gateway.RegistryDeps{
		Kept:    func(context.Context, core.DeviceID) ([]command.Listening, error) { return nil, nil },
		Suspect: h.Suspect, Now: time.Now,
	})
	if err != nil {
		f.Fatal(err)
	}
	secret, err := Secret([]byte("k"))
	if err != nil {
		f.Fatal(err)
	}
	k, err := NewKeeper(KeeperDeps{
		Secret: secret, Environment: core.Test, Installation: "home", Registry: r, Identity: h, Legacy: h, Children: h,
		Downlink: h, Memory: h, Lender: h, Stray: func(telemetry.Stray) {}, Unseen: func() time.Duration { return 0 },
		Policies: func(context.Context) ([]Policy, error) { return nil, nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	handler := k.handler()
	for _, path := range []string{"/hello", "/poll", "/answer", "/ask/claim", "/ask/lend", "/ask/identify", "/ask/fought", "/ask/remember", "/ask/token"} {
		f.Add(path, []byte(`{"Name":"x","Have":[{"Device":"a","ClientID":"b"}]}`))
		f.Add(path, []byte(`{"Claim":{"Device":"a","ClientID":"b","By":{"From":"127.0.0.1"}},"Leaf":"AAAA","N":1,"Yielded":{},"Fight":{"Answer":255,"Old":"10.0.0.0/8"}}`))
		f.Add(path, []byte(`{"Epoch":{"Keep":-1,"Start":9223372036854775807,"Length":0},"Subject":[1,2,3],"Source":"::1"}`))
	}
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		a, err := k.join(t.Context(), helloRequest{Name: "fuzz"}, "")
		if err != nil {
			t.Fatal(err)
		}
		if path == "/poll" {
			p, err := k.find(a.Link)
			if err != nil {
				t.Fatal(err)
			}
			p.put(event{Wake: "a"}) // so that it does not wait
		}
		req, err := http.NewRequest(http.MethodPost, "http://x/", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Path = path
		req.Header.Set(linkHeader, a.Link)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req.WithContext(ctx))
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s %q: %s", path, body, w.Body)
		}
	})
}
