package access_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"
	"github.com/pquerna/otp/totp"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
)

const origin = "https://console.northwind.example:8443"

var (
	machine = core.Actor{Kind: core.ActorStaff, ID: "os:root(0)"}
	desk    = access.From{Source: netip.MustParseAddr("192.0.2.7"), Agent: "Firefox on Linux"}
)

// fixture is one installation: a real store, a real keyring, a real gate.
type fixture struct {
	t     testing.TB
	dir   string
	store *store.Store
	keys  *seal.Keyring
	gate  *gate.Gate
	svc   *access.Service
	key   []byte
	deps  func(*access.Deps)
	mu    sync.Mutex
	now   time.Time
}

func newFixture(t testing.TB) *fixture { return newFixtureWith(t, nil) }

func newFixtureWith(t testing.TB, deps func(*access.Deps)) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), key: make([]byte, 32), deps: deps}
	_, _ = rand.Read(f.key)
	var err error
	if f.store, err = store.Open(t.Context(), store.Options{Dir: filepath.Join(f.dir, "data")}); err != nil {
		t.Fatal(err)
	}
	roots, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(f.dir, "keys", "roots")})
	if err != nil {
		t.Fatal(err)
	}
	f.keys, err = seal.Create(t.Context(), seal.Options{
		Copies: []string{filepath.Join(f.dir, "keys", "a", "keyring"), filepath.Join(f.dir, "keys", "b", "keyring")}, Roots: roots, Now: f.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.serve()
	t.Cleanup(func() {
		_ = f.keys.Close()
		_ = f.store.Close()
	})
	return f
}

// serve is the process; called again it is a restart.
func (f *fixture) serve() {
	f.t.Helper()
	var err error
	f.gate, err = gate.New(f.t.Context(), gate.Deps{
		Update: func(ctx context.Context, fn func(gate.Tx) error) error {
			return f.store.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(gate.Tx) error) error {
			return f.store.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Now: f.clock, Key: f.key, Tell: func(ctx context.Context, n gate.Notice) { f.svc.Tell(ctx, n) },
	})
	if err != nil {
		f.t.Fatal(err)
	}
	d := access.Deps{
		Update: func(ctx context.Context, fn func(access.Tx) error) error {
			return f.store.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(access.Tx) error) error {
			return f.store.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Keys: f.keys, Gate: f.gate, Now: f.clock, Origin: origin, Name: "Northwind", Key: f.key, Words: []string{"Aria Thermostat"},
	}
	if f.deps != nil {
		f.deps(&d)
	}
	if f.svc, err = access.New(f.t.Context(), d); err != nil {
		f.t.Fatal(err)
	}
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

func fact(r core.Record, name string) string {
	for _, x := range r.Facts {
		if x.Name == name {
			return x.Value
		}
	}
	return ""
}

func wantReason(t testing.TB, what string, err error, reasons ...string) {
	t.Helper()
	if got := core.ReasonOf(err); err == nil || !slices.Contains(reasons, got) {
		t.Errorf("%s: got reason %q (%v), want %q", what, got, err, reasons)
	}
}

// tokenOf is the secret in a set-up link.
func tokenOf(t testing.TB, link string) string {
	t.Helper()
	token, ok := strings.CutPrefix(link, origin+access.SetupPath)
	if !ok {
		t.Fatalf("the link %q does not lead to the console", link)
	}
	return token
}

// key is a made-up authenticator with one passkey.
type key struct {
	auth virtualwebauthn.Authenticator
	cred virtualwebauthn.Credential
	rp   virtualwebauthn.RelyingParty
}

func newKey(id access.PersonID) *key {
	k := &key{
		auth: virtualwebauthn.NewAuthenticatorWithOptions(virtualwebauthn.AuthenticatorOptions{UserHandle: []byte(id)}),
		cred: virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2),
		rp:   virtualwebauthn.RelyingParty{ID: "console.northwind.example", Name: "Northwind", Origin: origin},
	}
	for len(k.cred.Key.AttestationData()) != coseP256Bytes { // the module drops leading zeros
		k.cred = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	return k
}

// coseP256Bytes is the length of a COSE key on P-256 with full coordinates.
const coseP256Bytes = 77

// attest answers navigator.credentials.create().
func (k *key) attest(t testing.TB, options []byte) []byte {
	t.Helper()
	o, err := virtualwebauthn.ParseAttestationOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	if len(k.auth.Options.UserHandle) == 0 {
		k.auth.Options.UserHandle = []byte(o.UserID)
	}
	return []byte(virtualwebauthn.CreateAttestationResponse(k.rp, k.auth, k.cred, *o))
}

// assert answers navigator.credentials.get().
func (k *key) assert(t testing.TB, options []byte) []byte {
	t.Helper()
	o, err := virtualwebauthn.ParseAssertionOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	k.cred.Counter++
	return []byte(virtualwebauthn.CreateAssertionResponse(k.rp, k.auth, k.cred, *o))
}

// person is somebody who has joined.
type person struct {
	id      access.PersonID
	key     *key
	in      access.SignedIn
	mail    string
	session access.Session
	secret  string   // of one-time codes, base 32
	codes   []string // recovery codes
}

const passphrase = "plinth warble oxide tundra"

// joinByPassword is somebody who joined with a password.
func (f *fixture) joinByPassword(link, name, mail string) *person {
	f.t.Helper()
	token := tokenOf(f.t, link)
	offer, err := f.svc.SetupPassword(f.t.Context(), desk, token, access.Details{Name: name, Mail: mail}, passphrase)
	if err != nil {
		f.t.Fatal(err)
	}
	p := &person{mail: mail, secret: strings.ReplaceAll(offer.Secret, " ", "")}
	if p.in, err = f.svc.SetupPasswordDone(f.t.Context(), desk, token, "", f.code(p)); err != nil {
		f.t.Fatal(err)
	}
	p.id, p.session, p.codes = p.in.Session.Person, p.in.Session, p.in.Codes
	return p
}

// code is the person's one-time code of now.
func (f *fixture) code(p *person) string {
	f.t.Helper()
	code, err := totp.GenerateCode(p.secret, f.clock())
	if err != nil {
		f.t.Fatal(err)
	}
	return code
}

func (f *fixture) join(link, name, mail string) *person {
	f.t.Helper()
	token := tokenOf(f.t, link)
	options, err := f.svc.SetupPasskey(f.t.Context(), desk, token, access.Details{Name: name, Mail: mail})
	if err != nil {
		f.t.Fatal(err)
	}
	k := newKey("")
	in, err := f.svc.SetupPasskeyDone(f.t.Context(), desk, token, "", k.attest(f.t, options))
	if err != nil {
		f.t.Fatal(err)
	}
	return &person{id: in.Session.Person, key: k, in: in, mail: mail, session: in.Session}
}

// founders are the first two people.
func (f *fixture) founders() (ada, bea *person) {
	f.t.Helper()
	var out [2]*person
	for i, name := range []string{"Ada", "Bea"} {
		link, err := f.svc.FounderLink(f.t.Context(), machine)
		if err != nil {
			f.t.Fatal(err)
		}
		out[i] = f.join(link, name, strings.ToLower(name)+"@northwind.example")
	}
	return out[0], out[1]
}

func (f *fixture) invite(by *person, approver bool, roles ...access.Role) string {
	f.t.Helper()
	link, err := f.svc.Invite(f.t.Context(), by.id.Actor(), roles, approver)
	if err != nil {
		f.t.Fatal(err)
	}
	return link
}

// signIn uses a person's passkey.
func (f *fixture) signIn(p *person) (access.SignedIn, error) {
	f.t.Helper()
	c, err := f.svc.BeginPasskey()
	if err != nil {
		f.t.Fatal(err)
	}
	return f.svc.Passkey(f.t.Context(), desk, "", c.ID, p.key.assert(f.t, c.Options))
}

func (f *fixture) mustSession(token string) access.Session {
	f.t.Helper()
	s, err := f.svc.Session(f.t.Context(), token)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// userHandle changes whom an answer says it is of.
func userHandle(t testing.TB, answer []byte, handle string) []byte {
	t.Helper()
	var a map[string]any
	if err := json.Unmarshal(answer, &a); err != nil {
		t.Fatal(err)
	}
	a["response"].(map[string]any)["userHandle"] = base64.RawURLEncoding.EncodeToString([]byte(handle))
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
