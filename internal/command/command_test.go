package command_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/wire"
)

var ada = core.Actor{Kind: core.ActorStaff, ID: "pabcdefghijkl"}

// fixture is the service over a real store and keyring.
type fixture struct {
	t     *testing.T
	svc   *command.Service
	store *store.Store
	ring  *seal.Keyring
	now   time.Time
	pol   *declaration.Policy
	owner core.Subject
	woken []core.DeviceID
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), owner: core.Subject{1}}
	dir := t.TempDir()
	clock := func() time.Time { return f.now }
	roots, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(dir, "root"), ApartFrom: []string{filepath.Join(dir, "data")}})
	f.must(err)
	f.ring, err = seal.Create(t.Context(), seal.Options{Copies: []string{filepath.Join(dir, "a", "keyring"), filepath.Join(dir, "b", "keyring")}, Roots: roots, Now: clock})
	f.must(err)
	f.store, err = store.Open(t.Context(), store.Options{Dir: filepath.Join(dir, "data")})
	f.must(err)
	t.Cleanup(func() { _ = f.store.Close(); _ = f.ring.Close() }) // the test is over
	for _, s := range []core.Subject{{1}, {2}} {
		f.must(f.ring.AddSubject(t.Context(), s))
	}
	f.pol = f.policy("range: [1, 60]")
	f.open()
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// policy is the example with other bounds of its command for support.
func (f *fixture) policy(bounds string) *declaration.Policy {
	f.t.Helper()
	b, err := os.ReadFile("../../examples/aria-thermostat.yaml")
	f.must(err)
	if !strings.Contains(string(b), "range: [1, 60]") {
		f.t.Fatal("the example has no such command any more")
	}
	d, err := declaration.Parse("p.yaml", []byte(strings.Replace(string(b), "range: [1, 60]", bounds, 1)))
	f.must(err)
	p, err := declaration.Compile(d)
	f.must(err)
	return p
}

func (f *fixture) open() {
	f.t.Helper()
	var err error
	f.svc, err = command.New(f.t.Context(), command.Deps{
		Update: func(ctx context.Context, fn func(command.Tx) error) error {
			return f.store.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(command.Tx) error) error {
			return f.store.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Keys: f.ring, Now: func() time.Time { return f.now }, Wake: func(id core.DeviceID) { f.woken = append(f.woken, id) },
		Owner: func(_ context.Context, id core.DeviceID) (command.Owned, error) {
			if id != "A1" {
				return command.Owned{}, core.E(core.Unknown, "no-such-device", "there is no such device", "")
			}
			return command.Owned{Subject: f.owner, Product: f.pol.Product}, nil
		},
		Policy: func(context.Context, core.ProductID) (*declaration.Policy, error) { return f.pol, nil },
	})
	f.must(err)
}

func (f *fixture) give(seconds string) (command.Command, error) {
	return f.svc.Give(f.t.Context(), ada, command.Request{Device: "A1", Name: "blink", Params: []byte(`{"seconds":` + seconds + `}`), Role: "support", Reason: "a test gives it"})
}

func (f *fixture) mustGive(seconds string) command.Command {
	f.t.Helper()
	c, err := f.give(seconds)
	f.must(err)
	return c
}

func (f *fixture) next() []command.Message {
	f.t.Helper()
	out, err := f.svc.Next(f.t.Context(), "A1", f.owner, 0, 100)
	f.must(err)
	return out
}

func (f *fixture) state(id string) string {
	f.t.Helper()
	c, err := f.svc.Find(f.t.Context(), "A1", id)
	f.must(err)
	return c.State()
}

// TestOnceAndInOrder: numbers grow whatever the clock does, over restarts, and
// what was taken or ended is given no more.
func TestOnceAndInOrder(t *testing.T) {
	f := newFixture(t)
	one := f.mustGive("1")
	f.now = f.now.Add(-time.Hour)
	two := f.mustGive("2")
	f.open()
	three := f.mustGive("3")
	if !(one.Number < two.Number && two.Number < three.Number) || three.Number > wire.MaxNumber {
		t.Errorf("numbers %d, %d, %d", one.Number, two.Number, three.Number)
	}
	if len(f.woken) != 3 || !f.svc.Waiting("A1") || f.svc.Open() != 3 {
		t.Errorf("woken %v, open %d", f.woken, f.svc.Open())
	}
	msgs := f.next()
	if len(msgs) != 3 || msgs[0].ID != one.ID || msgs[2].ID != three.ID {
		t.Fatalf("%+v", msgs)
	}
	m, err := wire.ParseCommand(msgs[1].Payload)
	if err != nil || m.Number != two.Number || string(m.Params) != `{"seconds":2}` || m.Expires != two.Expires.UnixMilli() {
		t.Errorf("%s, %v", msgs[1].Payload, err)
	}
	f.must(f.svc.Taken(t.Context(), "A1", one.Number, false))
	f.must(f.svc.Taken(t.Context(), "A1", two.Number, true))
	f.must(f.svc.Taken(t.Context(), "A1", 77, false)) // of nobody knows what
	f.open()
	if left := f.next(); len(left) != 1 || left[0].ID != three.ID || f.state(one.ID) != "taken" || f.state(two.ID) != "not-taken" {
		t.Errorf("left %+v, %s, %s", left, f.state(one.ID), f.state(two.ID))
	}
	if _, err := f.svc.Cancel(t.Context(), ada, "A1", one.ID); core.ReasonOf(err) != "command-taken" {
		t.Errorf("cancel what was taken: %v", err)
	}
}

// TestReply: an answer counts once, for the command that it names, of the
// device and owner that have it.
func TestReply(t *testing.T) {
	f := newFixture(t)
	c := f.mustGive("1")
	reply := func(id core.DeviceID, owner core.Subject, name, call, payload string) error {
		return f.svc.Reply(t.Context(), id, owner, name, call, []byte(payload))
	}
	const done = `{"outcome":"done","text":"blinked"}`
	for what, err := range map[string]error{
		"another device": reply("B1", f.owner, "blink", c.ID, done), "another owner": reply("A1", core.Subject{2}, "blink", c.ID, done),
		"another name": reply("A1", f.owner, "set_target", c.ID, done), "another id": reply("A1", f.owner, "blink", "cnone", done),
	} {
		if !errors.Is(err, command.ErrNoCommand) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := reply("A1", f.owner, "blink", c.ID, `{"outcome":"perhaps"}`); !errors.Is(err, command.ErrReply) {
		t.Errorf("no answer: %v", err)
	}
	f.must(reply("A1", f.owner, "blink", c.ID, done))
	if err := reply("A1", f.owner, "blink", c.ID, `{"outcome":"failed"}`); !errors.Is(err, command.ErrNoCommand) {
		t.Errorf("a second answer: %v", err)
	}
	got, err := f.svc.Find(t.Context(), "A1", c.ID)
	f.must(err)
	said, err := f.svc.Said(&got)
	if err != nil || got.End != command.Done || got.Taken.IsZero() || said != "blinked" {
		t.Errorf("%+v says %q, %v", got, said, err)
	}
}

// TestNarrowedMeanwhile: what a newer declaration does not allow is not sent
// any more; what it allows still is (CC 3.7).
func TestNarrowedMeanwhile(t *testing.T) {
	f := newFixture(t)
	wide, narrow := f.mustGive("50"), f.mustGive("5")
	f.pol = f.policy("range: [1, 10]")
	if msgs := f.next(); len(msgs) != 1 || msgs[0].ID != narrow.ID {
		t.Errorf("%+v", msgs)
	}
	if f.state(wide.ID) != "withdrawn" || f.state(narrow.ID) != "waiting" {
		t.Errorf("%s, %s", f.state(wide.ID), f.state(narrow.ID))
	}
}

// TestEnds: time ends what waits and what is not answered; a new owner gets
// nothing of the old one's; an erased one leaves nothing; what ended long ago
// goes.
func TestEnds(t *testing.T) {
	f := newFixture(t)
	waits, taken := f.mustGive("1"), f.mustGive("2")
	f.must(f.svc.Taken(t.Context(), "A1", taken.Number, false))
	f.now = f.now.Add(command.UsualLife)
	if msgs := f.next(); len(msgs) != 0 {
		t.Errorf("after its time: %+v", msgs)
	}
	f.must(f.svc.Tick(t.Context()))
	if f.state(waits.ID) != "expired" || f.state(taken.ID) != "unanswered" || f.svc.Open() != 0 {
		t.Errorf("%s, %s, %d open", f.state(waits.ID), f.state(taken.ID), f.svc.Open())
	}
	f.mustGive("3")
	f.owner = core.Subject{2}
	if msgs := f.next(); len(msgs) != 0 {
		t.Errorf("the next owner's device is told %+v", msgs)
	}
	if list, err := f.svc.List(t.Context(), "A1"); err != nil || len(list) != 0 {
		t.Errorf("the next owner sees %+v, %v", list, err)
	}
	if _, err := f.svc.Find(t.Context(), "A1", waits.ID); core.KindOf(err) != core.Unknown {
		t.Errorf("the next owner finds %v", err)
	}
	f.svc.Forget(core.Subject{1})
	f.must(f.store.Update(t.Context(), func(tx *store.Tx) error { return tx.ForgetCommands(t.Context(), core.Subject{1}) }))
	if f.svc.Open() != 0 {
		t.Errorf("%d are open of who was erased", f.svc.Open())
	}
	old := f.mustGive("4")
	f.now = f.now.Add(command.UsualLife)
	f.must(f.svc.Tick(t.Context()))
	f.now = f.now.Add(command.Keep + time.Second)
	f.must(f.svc.Tick(t.Context()))
	if _, err := f.svc.Find(t.Context(), "A1", old.ID); core.KindOf(err) != core.Unknown {
		t.Errorf("kept for ever: %v", err)
	}
}

// TestGiveRefuses: who, what, why and how many.
func TestGiveRefuses(t *testing.T) {
	f := newFixture(t)
	good := command.Request{Device: "A1", Name: "blink", Params: []byte(`{"seconds":1}`), Role: "support", Reason: "a test gives it"}
	for reason, edit := range map[string]func(*command.Request){
		"reason":             func(q *command.Request) { q.Reason = "why" },
		"command-life":       func(q *command.Request) { q.Life = command.MaxLife + 1 },
		"no-such-device":     func(q *command.Request) { q.Device = "B1" },
		"command-undeclared": func(q *command.Request) { q.Name = "explode" },
		"command-by":         func(q *command.Request) { q.Name = "set_target" },
		"command-params":     func(q *command.Request) { q.Params = []byte(`{"seconds":61}`) },
	} {
		q := good
		edit(&q)
		if _, err := f.svc.Give(t.Context(), ada, q); core.ReasonOf(err) != reason {
			t.Errorf("%s: %v", reason, err)
		}
	}
	for _, role := range []string{"owner", "household", "service:app", ""} {
		q := good
		q.Role = role
		if _, err := f.svc.Give(t.Context(), ada, q); core.ReasonOf(err) != "command-by" {
			t.Errorf("as %q: %v", role, err)
		}
	}
	var given []string
	for range 40 {
		c, err := f.give("1")
		if err != nil {
			if core.KindOf(err) != core.TooMany {
				t.Error(err)
			}
			break
		}
		given = append(given, c.ID)
	}
	slices.Sort(given)
	if len(slices.Compact(given)) != 16 {
		t.Errorf("%d commands wait for one device", len(given))
	}
}
