package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/gate"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// world is an installation without its doors to devices: real databases, keys,
// ledger and services in a folder, and a console on top.
type world struct {
	units int // that samples are drawn from

	dir    string
	now    time.Time
	store  *store.Store
	files  *store.EpochFiles
	shelf  *telemetry.Shelf
	ring   *seal.Keyring
	decl   *declaration.Service
	ids    *identity.Service
	gate   *gate.Gate
	log    *ledger.Ledger
	read   *telemetry.ReadService
	proof  *assurance.Service
	checks []check.Check
	deps   Deps
	c      *Console

	mu      sync.Mutex // guards who
	who     Visitor
	counter uint64
	running running
	broken  *strings.Builder // the console's log
}

// running is what the tests' server says of itself.
type running struct {
	counted     Counted
	connected   map[core.DeviceID]bool
	connections []Connection
}

func (r *running) Counts(context.Context, core.ProductID) (Counted, error) { return r.counted, nil }
func (r *running) CountsOf(context.Context, core.Subject) (Counted, error) { return r.counted, nil }
func (r *running) Connected(id core.DeviceID) bool                         { return r.connected[id] }

func (r *running) Sessions() int { return len(r.connected) }

func (r *running) Connections() []Connection { return append([]Connection(nil), r.connections...) }

var ada = core.Actor{Kind: core.ActorStaff, ID: "pabcdefghijkl"}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func inUpdate[T any](s *store.Store) func(context.Context, func(T) error) error {
	return func(ctx context.Context, fn func(T) error) error {
		return s.Update(ctx, func(tx *store.Tx) error { return fn(any(tx).(T)) })
	}
}

func inView[T any](s *store.Store) func(context.Context, func(T) error) error {
	return func(ctx context.Context, fn func(T) error) error {
		return s.View(ctx, func(tx *store.Tx) error { return fn(any(tx).(T)) })
	}
}

// newWorld opens an installation. fill may write to the store before the
// services read it.
func newWorld(t testing.TB, fill func(*world)) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), now: time.Now().UTC().Truncate(time.Second), broken: &strings.Builder{}}
	w.running.connected = map[core.DeviceID]bool{}
	clock := func() time.Time { return w.now }
	ctx := t.Context()
	data := filepath.Join(w.dir, "data")
	roots, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(w.dir, "root"), ApartFrom: []string{data}})
	must(t, err)
	w.ring, err = seal.Create(ctx, seal.Options{Copies: []string{filepath.Join(w.dir, "a", "keyring"), filepath.Join(w.dir, "b", "keyring")}, Roots: roots, Now: clock})
	must(t, err)
	w.store, err = store.Open(ctx, store.Options{Dir: data})
	must(t, err)
	must(t, w.store.Update(ctx, func(tx *store.Tx) error {
		return tx.PutInstallation(ctx, store.Installation{ID: "test", Environment: core.Test, Created: w.now})
	}))
	w.files, err = store.OpenEpochFiles(store.EpochFilesOptions{Dir: filepath.Join(data, "telemetry"), Now: clock})
	must(t, err)
	late, err := store.OpenLateLane(ctx, store.EpochFilesOptions{Dir: filepath.Join(data, "telemetry"), Now: clock})
	must(t, err)
	t.Cleanup(func() { _ = late.Close(); _ = w.files.Close(); _ = w.store.Close(); _ = w.ring.Close() })
	w.shelf, err = telemetry.NewShelf(w.files, late)
	must(t, err)
	w.decl, err = declaration.NewService(declaration.Deps{Update: inUpdate[declaration.Tx](w.store), View: inView[declaration.Tx](w.store), Now: clock, Environment: core.Test})
	must(t, err)
	key, err := ledger.CreateKey(filepath.Join(w.dir, "ledger.key"))
	must(t, err)
	w.log, err = ledger.Create(ctx, ledger.Deps{
		Update: inUpdate[ledger.Tx](w.store), View: inView[ledger.Tx](w.store), Key: key, CheckpointFile: filepath.Join(w.dir, "checkpoint"),
		Name: "hawser/test", Now: clock, Log: slog.New(slog.DiscardHandler),
	}, ada)
	must(t, err)
	if fill != nil {
		fill(w)
	}
	must(t, identity.CreateCA(identity.CAOptions{Environment: core.Test, RootDir: filepath.Join(w.dir, "ca-root"), Dir: filepath.Join(w.dir, "ca"), Now: clock}))
	ca, err := identity.OpenCA(identity.OpenOptions{Environment: core.Test, Dir: filepath.Join(w.dir, "ca"), Now: clock})
	must(t, err)
	w.gate, err = gate.New(ctx, gate.Deps{Update: inUpdate[gate.Tx](w.store), View: inView[gate.Tx](w.store), Now: clock, Key: bytes.Repeat([]byte{7}, 32)})
	must(t, err)
	w.ids = w.register(t, ca)
	w.read, err = telemetry.NewReadService(telemetry.ReadDeps{
		Update: inUpdate[telemetry.ReadTx](w.store), Partitions: w.shelf, Keys: w.ring, Owner: w.owner, Policies: w.decl.Versions,
		Settle: func(context.Context) error { return nil }, Now: clock, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	w.who = w.visitor("support", "operator", "security", "auditor", "administrator")
	told := w.commands(t)
	w.deps = Deps{
		Declarations: w.decl, Reviews: reviewer{w.decl}, Devices: w.ids, Data: w.read, Running: &w.running, Ledger: w.log, People: &people{}, Evidence: &evidence{}, Samples: w.samples(t), Commands: told, Settings: told, Origin: "https://console.northwind.example",
		Visitor: func(*http.Request) (Visitor, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.who.Actor.ID == "" {
				return Visitor{}, core.E(core.Denied, "no-session", "you are not signed in", "sign in")
			}
			return w.who, nil
		},
		SignIn: "/sign-in", StepUp: "/step-up", Maker: "Northwind Home", Now: clock, Log: slog.New(slog.NewTextHandler(w.broken, nil)),
	}
	w.prove(t, "")
	return w
}

// commands is the real thing over what is there.
func (w *world) commands(t testing.TB) *command.Service {
	t.Helper()
	s, err := command.New(t.Context(), command.Deps{
		Update: inUpdate[command.Tx](w.store), View: inView[command.Tx](w.store), Keys: w.ring, Policy: w.decl.Current, Wake: func(core.DeviceID) {}, Now: func() time.Time { return w.now },
		Owner: func(ctx context.Context, id core.DeviceID) (command.Owned, error) {
			o, err := w.owner(ctx, id)
			return command.Owned{Subject: o.Subject, Product: o.Product}, err
		},
	})
	must(t, err)
	return s
}

// whoIs changes who asks, while a browser may be asking.
func (w *world) whoIs(v Visitor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.who = v
}

// exec changes the database behind the program's back.
func (w *world) exec(t testing.TB, stmt string) error {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "data", "control.db")+"?_pragma=busy_timeout(5000)")
	must(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), stmt)
	return err
}

// reprove opens assurance anew over what is there.
func (w *world) reprove(t testing.TB) {
	t.Helper()
	registry, err := check.NewRegistry(w.checks)
	must(t, err)
	w.proof, err = assurance.New(t.Context(), assurance.Deps{
		Update: inUpdate[assurance.Tx](w.store), View: inView[assurance.Tx](w.store), Checks: registry, Declarations: w.decl, Ledger: roundsIn{w.log}, Program: "1.4.0", Now: func() time.Time { return w.now },
	})
	must(t, err)
	w.deps.Proof = w.proof
	w.serve(t)
}

// register reads the register of devices.
func (w *world) register(t testing.TB, ca *identity.CA) *identity.Service {
	t.Helper()
	s, err := identity.New(t.Context(), identity.Deps{
		CA: ca, Gate: w.gate, Update: inUpdate[identity.Tx](w.store), View: inView[identity.Tx](w.store),
		Policies: terms{}, TokenKey: bytes.Repeat([]byte{8}, 32), Keys: w.ring, Notify: func(identity.Change) {}, Now: func() time.Time { return w.now },
	})
	must(t, err)
	return s
}

func (w *world) serve(t testing.TB) {
	t.Helper()
	var err error
	w.c, err = New(w.deps)
	must(t, err)
}

func (w *world) visitor(roles ...string) Visitor {
	return Visitor{Actor: ada, Name: "Ada Byron", Roles: roles, Approver: true, Session: "s1", Check: func(p string) error {
		if p == "data.read" && !strings.Contains(strings.Join(roles, " "), "support") {
			return core.E(core.Denied, "not-allowed", "your roles do not allow this", "ask an administrator")
		}
		return nil
	}}
}

type terms struct{}

func (terms) Terms(context.Context, core.ProductID) (identity.Terms, error) {
	return identity.Terms{Life: 30 * 24 * time.Hour}, nil
}

func (w *world) owner(ctx context.Context, id core.DeviceID) (telemetry.Owned, error) {
	d, err := w.ids.Device(id)
	return telemetry.Owned{Subject: d.Subject, Product: d.Product, Since: d.OwnedSince}, err
}

// publish puts a declaration in force.
func (w *world) publish(t testing.TB, source string) *declaration.Policy {
	t.Helper()
	d, err := declaration.Parse("test.yaml", []byte(source))
	if f, ok := err.(declaration.Faults); ok {
		var b strings.Builder
		_ = f.Render(&b)
		t.Fatal(b.String())
	}
	must(t, err)
	p, err := declaration.Compile(d)
	must(t, err)
	must(t, w.decl.Publish(t.Context(), ada, p))
	return p
}

func example(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../examples", name+".yaml"))
	must(t, err)
	return string(b)
}

// device registers a unit with a certificate and an owner, in the store.
func (w *world) device(t testing.TB, id core.DeviceID, product core.ProductID) core.Subject {
	t.Helper()
	var s core.Subject
	_, _ = rand.Read(s[:])
	must(t, w.ring.AddSubject(t.Context(), s))
	must(t, w.store.Update(t.Context(), func(tx *store.Tx) error { return w.deviceIn(t.Context(), tx, id, product, s) }))
	return s
}

func (w *world) deviceIn(ctx context.Context, tx *store.Tx, id core.DeviceID, product core.ProductID, s core.Subject) error {
	d := identity.DeviceRow{ID: id, Product: product, Added: w.now.Add(-90 * 24 * time.Hour), Revision: 1, Ownerships: 1}
	_, _ = rand.Read(d.Unit[:])
	if err := tx.InsertDevice(ctx, d); err != nil {
		return err
	}
	if err := tx.PutBirth(ctx, identity.BirthRow{Device: id, Operator: "pqrstuvwxyz23", Time: d.Added, CodeBits: 128, KeyOrigin: "device", Enrolled: d.Added.Add(time.Hour)}); err != nil {
		return err
	}
	if s.IsZero() {
		return nil
	}
	c := identity.CertificateRow{Device: id, State: identity.Confirmed, Door: identity.DoorCode, NotBefore: d.Added, NotAfter: w.now.Add(20 * 24 * time.Hour), Issued: d.Added, Confirmed: d.Added}
	_, _ = rand.Read(c.Serial[:])
	c.Serial[0] &= 0x7f
	_, _ = rand.Read(c.Key[:])
	if err := tx.InsertCertificate(ctx, c); err != nil {
		return err
	}
	return tx.InsertOwnership(ctx, identity.OwnershipRow{Subject: s, Device: id, Actor: ada, Opened: d.Added, Done: true})
}

// reading is what a device sent.
type reading struct {
	at     time.Time
	values map[string]any
}

// send files readings of a device, as the projector does.
func (w *world) send(t testing.TB, product core.ProductID, stream string, s core.Subject, readings ...reading) {
	t.Helper()
	p, err := w.decl.Current(t.Context(), product)
	must(t, err)
	byEpoch := map[core.Epoch][]telemetry.Row{}
	for _, r := range readings {
		w.counter++
		base := telemetry.Reading{
			Product: product, Subject: s, Stream: stream, Policy: p.Hash, T: r.at.UnixMilli(), Received: r.at.UnixMilli(), HasSeq: true, Boot: 1, Seq: w.counter, Gateway: [8]byte{1}, Counter: w.counter,
		}
		for g, group := range p.Groups {
			part := map[string]any{}
			for _, i := range group.Fields {
				if v, ok := r.values[p.Fields[i].Name]; ok && p.Fields[i].Stream == stream {
					part[p.Fields[i].Name] = v
				}
			}
			if len(part) == 0 {
				continue
			}
			plain, err := json.Marshal(part)
			must(t, err)
			row := telemetry.Row{Reading: base, Place: telemetry.Place{Journal: "j", Seq: w.counter}}
			row.Part = telemetry.Part{Epoch: core.EpochAt(group.Keep, declaration.EpochLength(group.Keep), r.at), Group: uint8(g)}
			must(t, w.ring.EnsureEpoch(t.Context(), row.Part.Epoch))
			key, err := w.ring.Lease(s, row.Part.Epoch)
			must(t, err)
			row.Part.Sealed, err = key.Seal(nil, telemetry.AppendPlain(nil, telemetry.Sender{15: 1}, plain), telemetry.AppendAAD(nil, &row.Reading, &row.Part))
			must(t, err)
			byEpoch[row.Part.Epoch] = append(byEpoch[row.Part.Epoch], row)
		}
	}
	for e, rows := range byEpoch {
		a := &telemetry.Append{Rows: rows, Fate: make([]telemetry.Fate, len(rows)), Mark: telemetry.Mark{Journal: "j", Seq: w.counter}}
		head, err := w.files.Append(t.Context(), e, a)
		must(t, err)
		must(t, w.files.Sync(t.Context(), []core.Epoch{e}))
		must(t, w.store.Update(t.Context(), func(tx *store.Tx) error { return tx.PutEpochHead(t.Context(), e, head, w.now) }))
	}
}

// get asks for a page.
func (w *world) get(t testing.TB, url string) (int, string) {
	t.Helper()
	return w.ask(t, httptest.NewRequestWithContext(t.Context(), "GET", url, nil))
}

// post sends a form with the visitor's token.
func (w *world) post(t testing.TB, url string, form ...string) (int, string) {
	t.Helper()
	return w.ask(t, w.form(t, url, form...))
}

// postHead is post, for where it leads to.
func (w *world) postHead(t testing.TB, url string, form ...string) (int, http.Header) {
	t.Helper()
	rec := httptest.NewRecorder()
	w.c.ServeHTTP(rec, w.form(t, url, form...))
	return rec.Code, rec.Header()
}

func (w *world) form(t testing.TB, url string, form ...string) *http.Request {
	t.Helper()
	body := tokenField + "=" + w.c.tokens.of(w.who)
	for i := 0; i+1 < len(form); i += 2 {
		body += "&" + form[i] + "=" + strings.NewReplacer(" ", "+", "&", "%26", "<", "%3C").Replace(form[i+1])
	}
	r := httptest.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func (w *world) ask(t testing.TB, r *http.Request) (int, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	w.c.ServeHTTP(rec, r)
	res := rec.Result()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(b)
}

// must200 asks for a page that has to be there.
func (w *world) must200(t testing.TB, url string) string {
	t.Helper()
	code, body := w.get(t, url)
	if code != http.StatusOK {
		t.Fatalf("GET %s: %d\n%s\n%s", url, code, body, w.broken)
	}
	return body
}

func wants(t testing.TB, what, body string, words ...string) {
	t.Helper()
	for _, x := range words {
		if !strings.Contains(body, x) && !strings.Contains(html.UnescapeString(body), x) {
			t.Errorf("%s: %q is missing", what, x)
		}
	}
}

func lacks(t testing.TB, what, body string, words ...string) {
	t.Helper()
	for _, x := range words {
		if strings.Contains(body, x) {
			t.Errorf("%s: %q is there", what, x)
		}
	}
}

func number2(i int) string { return fmt.Sprintf("%05d", i) }

// reviewer puts in force what was approved; there is no door to tell.
type reviewer struct{ *declaration.Service }

func (r reviewer) ApproveReview(ctx context.Context, by core.Actor, id string) error {
	_, err := r.Service.ApproveReview(ctx, by, id)
	return err
}
