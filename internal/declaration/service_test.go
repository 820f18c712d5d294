package declaration_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/store"
)

func staff() core.Actor { return core.Actor{Kind: core.ActorStaff, ID: "os:ada(1000)"} }

// publishing is the real service on a real store.
type publishing struct {
	*declaration.Service
	store *store.Store
	now   time.Time
}

func newPublishing(t *testing.T, env core.Environment) *publishing {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test is over
	p := &publishing{store: s, now: time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.UTC)}
	adapt := func(run func(context.Context, func(*store.Tx) error) error) func(context.Context, func(declaration.Tx) error) error {
		return func(ctx context.Context, fn func(declaration.Tx) error) error {
			return run(ctx, func(tx *store.Tx) error { return fn(tx) })
		}
	}
	p.Service, err = declaration.NewService(declaration.Deps{
		Update: adapt(s.Update), View: adapt(s.View), Now: func() time.Time { return p.now }, Environment: env,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// version is the sound file as version n with replacements.
func version(t *testing.T, n string, replace ...string) *declaration.Policy {
	t.Helper()
	b, err := os.ReadFile("testdata/sound.yaml")
	if err != nil {
		t.Fatal(err)
	}
	src := strings.Replace(string(b), "version: 1\n", "version: "+n+"\n", 1)
	for i := 0; i+1 < len(replace); i += 2 {
		if !strings.Contains(src, replace[i]) {
			t.Fatalf("the file does not say %q", replace[i])
		}
		src = strings.Replace(src, replace[i], replace[i+1], 1)
	}
	d, err := declaration.Parse("v.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	p, err := declaration.Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *publishing) must(t *testing.T, policies ...*declaration.Policy) {
	t.Helper()
	for _, x := range policies {
		if err := p.Publish(t.Context(), staff(), x); err != nil {
			t.Fatal(err)
		}
	}
}

// records are what was recorded so far.
func (p *publishing) records(t *testing.T) (out []core.Record) {
	t.Helper()
	err := p.store.View(t.Context(), func(tx *store.Tx) error {
		pending, err := tx.LedgerPending(t.Context(), 100)
		for _, x := range pending {
			r, err := ledger.ParseLeaf(x.Leaf)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPublishRules tells what may follow what. Each refusal leaves the version
// in force as it was.
func TestPublishRules(t *testing.T) {
	wider, narrower := []string{"keep: 7d", "keep: 8d"}, []string{"keep: 7d", "keep: 6d"}
	past := time.Date(2033, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		env    core.Environment
		now    time.Time
		first  *declaration.Policy
		next   *declaration.Policy
		reason string // "": published
		kind   core.Kind
	}{
		{name: "narrower", env: core.Live, first: version(t, "1"), next: version(t, "2", narrower...)},
		{name: "the same with a higher number", env: core.Live, first: version(t, "1"), next: version(t, "2")},
		{name: "a gap", env: core.Live, first: version(t, "1"), next: version(t, "40")},
		{name: "longer support", env: core.Live, first: version(t, "1"), next: version(t, "2", "2032-12-31", "2033-12-31")},
		{name: "wider on test", env: core.Test, first: version(t, "1"), next: version(t, "2", wider...)},
		// CC 4.12
		{name: "wider on live", env: core.Live, first: version(t, "1"), next: version(t, "2", wider...), reason: "widening", kind: core.Unready},
		{name: "narrower and wider on live", env: core.Live, first: version(t, "1"), next: version(t, "2", "keep: 7d", "keep: 6d", "keep: 90d", "keep: 91d"), reason: "widening", kind: core.Unready},
		{name: "a new interface on live", env: core.Live, first: version(t, "1"), next: version(t, "2", "interfaces:\n", "interfaces:\n  - {name: x, protocol: ble, direction: in, on: radio, auth: button, open: always}\n"), reason: "widening", kind: core.Unready},
		// CC 1.17
		{name: "the same number", env: core.Test, first: version(t, "2"), next: version(t, "2", narrower...), reason: "version-grows", kind: core.Conflict},
		{name: "a lower number", env: core.Test, first: version(t, "2"), next: version(t, "1"), reason: "version-grows", kind: core.Conflict},
		// CC 7.11
		{name: "earlier end of support", env: core.Test, first: version(t, "1"), next: version(t, "2", "2032-12-31", "2032-12-30"), reason: "support-not-earlier", kind: core.Conflict},
		// CC 4.6, 6.3
		{name: "a contract that is over", env: core.Test, first: version(t, "1"), next: version(t, "2", "2027-06-30", "2026-11-21"), reason: "over", kind: core.Conflict},
		{name: "a contract on its last day", env: core.Test, first: version(t, "1"), next: version(t, "2", "2027-06-30", "2026-11-22")},
		{name: "a legacy door that is over", env: core.Test, first: version(t, "1"), next: version(t, "2", "claims:\n", "legacy: {auth: own-ca, until: 2026-11-21, max_devices: 1}\nclaims:\n"), reason: "over", kind: core.Conflict},
		{name: "support that is over, at first", env: core.Live, now: past, next: version(t, "1", "2027-06-30", "2034-01-01"), reason: "over", kind: core.Conflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPublishing(t, c.env)
			if !c.now.IsZero() {
				p.now = c.now
			}
			if c.first != nil {
				p.must(t, c.first)
			}
			err := p.Publish(t.Context(), staff(), c.next)
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got, err := p.Current(t.Context(), "door-bell"); err != nil || got.Hash != c.next.Hash {
					t.Errorf("in force: %v, %v", got, err)
				}
				return
			}
			if core.ReasonOf(err) != c.reason || core.KindOf(err) != c.kind {
				t.Errorf("got %v (%s, %s), want %s, %s", err, core.KindOf(err), core.ReasonOf(err), c.kind, c.reason)
			}
			got, err := p.Current(t.Context(), "door-bell")
			if c.first == nil {
				if core.KindOf(err) != core.Unknown {
					t.Errorf("in force after a refusal: %v, %v", got, err)
				}
			} else if err != nil || got.Hash != c.first.Hash {
				t.Errorf("in force after a refusal: %v, %v", got, err)
			}
		})
	}
}

// TestSupportOverAfterFirst: a product whose support has ended still gets
// versions, for instance one that collects less.
func TestSupportOverAfterFirst(t *testing.T) {
	p := newPublishing(t, core.Live)
	gone := []string{", share:gridco", "", "shares:\n  gridco: {fields: [battery], purpose: support.battery, contract_until: 2027-06-30, reidentify: never}\n", ""}
	p.must(t, version(t, "1", gone...))
	p.now = time.Date(2034, 1, 1, 0, 0, 0, 0, time.UTC)
	p.must(t, version(t, "2", append(gone, "keep: 7d", "keep: 1d")...))
}

// CC 7.10: old versions stay.
func TestPublishedHistoryStays(t *testing.T) {
	p := newPublishing(t, core.Test)
	one, two, three := version(t, "1"), version(t, "2", "keep: 7d", "keep: 6d"), version(t, "3", "keep: 7d", "keep: 5d")
	first := p.now
	p.must(t, one)
	p.now = p.now.Add(time.Hour)
	p.must(t, two, two, three) // publishing what is in force changes nothing
	list, err := p.Versions(t.Context(), "door-bell")
	if err != nil || len(list) != 3 || list[0].Hash != one.Hash || list[1].Hash != two.Hash || list[2].Hash != three.Hash {
		t.Errorf("versions: %v, %v", list, err)
	}
	for _, x := range []*declaration.Policy{one, two, three} {
		if got, err := p.ByHash(t.Context(), x.Hash); err != nil || got.Version != x.Version {
			t.Errorf("version %d by hash: %v, %v", x.Version, got, err)
		}
	}
	all, err := p.All(t.Context())
	if err != nil || len(all) != 1 || all[0].Hash != three.Hash {
		t.Errorf("all: %v, %v", all, err)
	}
	at, err := p.FirstPublished(t.Context(), "door-bell")
	if want := first.Truncate(time.Microsecond); err != nil || !at.Equal(want) {
		t.Errorf("first published at %v, %v; want %v", at, err, want)
	}
}

func TestUnknownProduct(t *testing.T) {
	p := newPublishing(t, core.Test)
	if _, err := p.Current(t.Context(), "nothing"); core.KindOf(err) != core.Unknown {
		t.Errorf("current: %v", err)
	}
	if _, err := p.ByHash(t.Context(), core.Hash{1}); core.KindOf(err) != core.Unknown {
		t.Errorf("by hash: %v", err)
	}
	if _, err := p.FirstPublished(t.Context(), "nothing"); core.KindOf(err) != core.Unknown {
		t.Errorf("first published: %v", err)
	}
	if all, err := p.All(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("all: %v, %v", all, err)
	}
	if list, err := p.Versions(t.Context(), "nothing"); err != nil || len(list) != 0 {
		t.Errorf("versions: %v, %v", list, err)
	}
}

// TestPublishTakesOnlyCompiledPolicies: the bytes count, and nothing else may
// say otherwise.
func TestPublishTakesOnlyCompiledPolicies(t *testing.T) {
	p := newPublishing(t, core.Test)
	changed := *version(t, "1")
	changed.Canonical = []byte(strings.Replace(string(changed.Canonical), `"7d"`, `"70d"`, 1))
	version9 := *version(t, "1")
	version9.Version = 9
	for _, x := range []*declaration.Policy{nil, {}, &changed, &version9} {
		if err := p.Publish(t.Context(), staff(), x); core.KindOf(err) != core.Invalid {
			t.Errorf("published %v: %v", x, err)
		}
	}
}

// TestAlteredInDatabase: a version that somebody changed behind our back is
// not given out.
func TestAlteredInDatabase(t *testing.T) {
	p := newPublishing(t, core.Test)
	one := version(t, "1")
	p.must(t, one)
	other := version(t, "2", "keep: 7d", "keep: 2y")
	err := p.store.Update(t.Context(), func(tx *store.Tx) error {
		return tx.PutDeclaration(t.Context(), declaration.Published{Product: other.Product, Version: 2, Hash: core.Hash{7}, Canonical: other.Canonical, At: p.now})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Current(t.Context(), "door-bell"); core.ReasonOf(err) != "policy-altered" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := p.ByHash(t.Context(), one.Hash); err != nil || got.Hash != one.Hash {
		t.Errorf("the other one: %v, %v", got, err)
	}
}

func TestServiceNeedsAll(t *testing.T) {
	none := func(context.Context, func(declaration.Tx) error) error { return nil }
	whole := declaration.Deps{Update: none, View: none, Now: time.Now, Environment: core.Test}
	if _, err := declaration.NewService(whole); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*declaration.Deps){
		func(d *declaration.Deps) { d.Update = nil },
		func(d *declaration.Deps) { d.View = nil },
		func(d *declaration.Deps) { d.Now = nil },
		func(d *declaration.Deps) { d.Environment = "staging" },
	} {
		d := whole
		change(&d)
		if _, err := declaration.NewService(d); err == nil {
			t.Errorf("made of %+v", d)
		}
	}
}

// TestEveryPublicationIsRecorded: one record for each version, in the same
// transaction; none for what was refused or already in force.
func TestEveryPublicationIsRecorded(t *testing.T) {
	p := newPublishing(t, core.Live)
	one, two := version(t, "1"), version(t, "5", "keep: 7d", "keep: 6d")
	p.must(t, one, two, two)
	if err := p.Publish(t.Context(), staff(), version(t, "6")); err == nil {
		t.Fatal("a widening version was published")
	}
	got := p.records(t)
	if len(got) != 3 || got[2].Kind != declaration.RecordReviewOpened {
		t.Fatalf("records: %v", got)
	}
	for i, want := range []struct {
		policy *declaration.Policy
		facts  string
	}{
		{one, "[{version 1} {previous_version 0} {widens 0} {narrows 0} {fields 2} {groups 2} {level raised} {support_until 2032-12-31}]"},
		{two, "[{version 5} {previous_version 1} {widens 0} {narrows 1} {fields 2} {groups 2} {level raised} {support_until 2032-12-31}]"},
	} {
		r := got[i]
		if r.Kind != declaration.RecordPublished || r.Actor != staff() || r.Product != "door-bell" || r.Policy != want.policy.Hash || !r.Time.Equal(p.now.Truncate(time.Microsecond)) || !r.Subject.IsZero() {
			t.Errorf("record %d: %+v", i, r)
		}
		if facts := fmt.Sprint(r.Facts); facts != want.facts {
			t.Errorf("facts of record %d: %s, want %s", i, facts, want.facts)
		}
	}
}
