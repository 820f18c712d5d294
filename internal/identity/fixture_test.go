package identity_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
)

const product core.ProductID = "aria-thermostat"

var (
	admin = core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}
	home  = netip.MustParseAddr("192.0.2.7")
)

// products is what the tests' products declare.
type products map[core.ProductID]identity.Terms

func (p products) Terms(_ context.Context, id core.ProductID) (identity.Terms, error) {
	t, ok := p[id]
	if !ok {
		return t, core.E(core.Unknown, "unknown-product", "no such product", "")
	}
	return t, nil
}

// fixture is one installation: a real store, a real keyring, a real authority.
type fixture struct {
	t       testing.TB
	env     core.Environment
	dir     string
	ca      *identity.CA
	store   *store.Store
	keys    *seal.Keyring
	terms   products
	gate    *gate.Gate
	svc     *identity.Service
	life    time.Duration // of codes
	mu      sync.Mutex
	now     time.Time
	changes []identity.Change
	// fail, when set, is asked before each commit of a transaction and after
	// each key was made; an error there is a crash at that point.
	fail func(step string) error
}

func newFixture(t testing.TB) *fixture { return newFixtureIn(t, core.Test) }

func newFixtureIn(t testing.TB, env core.Environment) *fixture {
	t.Helper()
	f := &fixture{
		t: t, env: env, dir: t.TempDir(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		terms: products{product: {Life: 30 * 24 * time.Hour, Policy: core.Hash{1}}},
	}
	if err := identity.CreateCA(identity.CAOptions{
		Environment: env, RootDir: filepath.Join(f.dir, "ca-root"), Dir: filepath.Join(f.dir, "keys", "ca"), Now: f.clock,
	}); err != nil {
		t.Fatal(err)
	}
	f.start(true)
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) sealOptions() seal.Options {
	f.t.Helper()
	roots, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(f.dir, "keys", "roots")})
	if err != nil {
		f.t.Fatal(err)
	}
	return seal.Options{
		Copies: []string{filepath.Join(f.dir, "keys", "a", "keyring"), filepath.Join(f.dir, "keys", "b", "keyring")},
		Roots:  roots, Now: f.clock,
	}
}

// start opens everything as the server does.
func (f *fixture) start(fresh bool) {
	f.t.Helper()
	var err error
	if f.ca, err = identity.OpenCA(identity.OpenOptions{Environment: f.env, Dir: filepath.Join(f.dir, "keys", "ca"), Now: f.clock}); err != nil {
		f.t.Fatal(err)
	}
	if f.store, err = store.Open(f.t.Context(), store.Options{Dir: filepath.Join(f.dir, "data")}); err != nil {
		f.t.Fatal(err)
	}
	open := seal.Open
	if fresh {
		open = seal.Create
	}
	if f.keys, err = open(f.t.Context(), f.sealOptions()); err != nil {
		f.t.Fatal(err)
	}
	if err := f.serve(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) serve() error {
	var err error
	if f.gate, err = f.newGate(); err != nil {
		return err
	}
	f.svc, err = identity.New(f.t.Context(), identity.Deps{
		Gate: f.gate, CA: f.ca, Policies: f.terms, Keys: crashingKeys{f}, Now: f.clock, CodeLife: f.life,
		Update: func(ctx context.Context, fn func(identity.Tx) error) error {
			return f.store.Update(ctx, func(tx *store.Tx) error {
				if err := fn(tx); err != nil {
					return err
				}
				return f.step("commit")
			})
		},
		View: func(ctx context.Context, fn func(identity.Tx) error) error {
			return f.store.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Notify: func(c identity.Change) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.changes = append(f.changes, c)
		},
	})
	return err
}

func (f *fixture) newGate() (*gate.Gate, error) {
	return gate.New(f.t.Context(), gate.Deps{
		Update: func(ctx context.Context, fn func(gate.Tx) error) error {
			return f.store.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(gate.Tx) error) error {
			return f.store.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Now: f.clock, Key: bytes.Repeat([]byte{7}, 32),
	})
}

func (f *fixture) stop() {
	_ = f.keys.Close()
	_ = f.store.Close()
}

// restart is a new process on the same disk.
func (f *fixture) restart() {
	f.t.Helper()
	f.stop()
	f.fail = nil
	f.start(false)
}

func (f *fixture) step(name string) error {
	if f.fail == nil {
		return nil
	}
	return f.fail(name)
}

// crashingKeys is the real keyring, with a place to crash before and after.
type crashingKeys struct{ f *fixture }

func (k crashingKeys) AddSubject(ctx context.Context, s core.Subject) error {
	if err := k.f.step("before-key"); err != nil {
		return err
	}
	if err := k.f.keys.AddSubject(ctx, s); err != nil {
		return err
	}
	return k.f.step("after-key")
}
func (k crashingKeys) Has(s core.Subject) bool { return k.f.keys.Has(s) }
func (k crashingKeys) SealValue(s core.Subject, what string, b []byte) ([]byte, error) {
	return k.f.keys.SealValue(s, what, b)
}

func (f *fixture) notified(kind identity.ChangeKind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.changes {
		if c.Kind == kind {
			n++
		}
	}
	return n
}

// records are the ledger's waiting records of a kind.
func (f *fixture) records(kind core.RecordKind) []core.Record {
	f.t.Helper()
	var out []core.Record
	err := f.store.View(f.t.Context(), func(tx *store.Tx) error {
		pending, err := tx.LedgerPending(f.t.Context(), 10000)
		if err != nil {
			return err
		}
		for _, p := range pending {
			r, err := ledger.ParseLeaf(p.Leaf)
			if err != nil {
				return err
			}
			if r.Kind == kind {
				out = append(out, r)
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

func (f *fixture) mustAdd(id core.DeviceID) string {
	f.t.Helper()
	code, err := f.svc.AddDevice(f.t.Context(), admin, product, id)
	if err != nil {
		f.t.Fatal(err)
	}
	return code
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func csrFor(t testing.TB, key *ecdsa.PrivateKey, id core.DeviceID) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(id)}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func leafOf(t testing.TB, chain [][]byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mustEnrol gets a certificate for a new key, unconfirmed.
func (f *fixture) mustEnrol(id core.DeviceID, code string) *x509.Certificate {
	f.t.Helper()
	chain, err := f.svc.Enrol(f.t.Context(), home, id, code, csrFor(f.t, newKey(f.t), id))
	if err != nil {
		f.t.Fatal(err)
	}
	return leafOf(f.t, chain)
}

func (f *fixture) mustIdentify(c *x509.Certificate) identity.Identified {
	f.t.Helper()
	who, err := f.svc.Identify(f.t.Context(), c)
	if err != nil {
		f.t.Fatal(err)
	}
	return who
}

// device is added, enrolled and has used its certificate.
func (f *fixture) device(id core.DeviceID) *x509.Certificate {
	f.t.Helper()
	c := f.mustEnrol(id, f.mustAdd(id))
	f.mustIdentify(c)
	return c
}

func wantReason(t testing.TB, err error, reasons ...string) {
	t.Helper()
	if got := core.ReasonOf(err); err == nil || !slices.Contains(reasons, got) {
		t.Errorf("got reason %q (%v), want %q", got, err, reasons)
	}
}

// shred destroys a subject's key behind the service's back.
func (f *fixture) shred(s core.Subject) {
	f.t.Helper()
	if _, err := f.keys.Shred(f.t.Context(), seal.Order{Subjects: []core.Subject{s}}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) newCode(id core.DeviceID) string {
	f.t.Helper()
	f.advance(2 * time.Hour) // past any pause
	code, err := f.svc.NewCode(f.t.Context(), admin, id)
	if err != nil {
		f.t.Fatal(err)
	}
	return code
}
