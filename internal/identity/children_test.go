package identity_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/store"
)

const leaf core.ProductID = "leaf-contact"

const why = "a test wants it"

// withHubs gives the fixture's product children, and two hubs with owners.
func (f *fixture) withHubs() {
	f.t.Helper()
	f.terms[product] = identity.Terms{Life: 30 * 24 * time.Hour, Policy: core.Hash{1}, Children: []core.ProductID{leaf}, MaxChildren: 3}
	f.terms[leaf] = identity.Terms{Life: 30 * 24 * time.Hour, Policy: core.Hash{2}}
	for _, hub := range []core.DeviceID{"H1", "H2"} {
		f.mustIdentify(f.mustEnrol(hub, f.mustAdd(hub)))
	}
}

func (f *fixture) links() (out []identity.LinkRow) {
	f.t.Helper()
	err := f.store.View(f.t.Context(), func(tx *store.Tx) error {
		return tx.EachChildLink(f.t.Context(), func(l identity.LinkRow) error { out = append(out, l); return nil })
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// TestChildCrash ends the world at every step of an add: afterwards no child is
// under a hub without an owner and a key of its own, and adopting it finishes
// what was begun.
func TestChildCrash(t *testing.T) {
	crash := errors.New("crash")
	for at := 1; ; at++ {
		f := newFixture(t)
		f.withHubs()
		n := 0
		f.fail = func(string) error {
			if n++; n == at {
				return crash
			}
			return nil
		}
		_, err := f.svc.AddChild(t.Context(), admin, "H1", identity.Registration{Device: "K1", Product: leaf}, why)
		if n < at {
			if at < 5 || err != nil {
				t.Fatalf("only %d steps, %v", at-1, err)
			}
			return
		}
		if !errors.Is(err, crash) {
			t.Fatalf("step %d: the crash was not noticed: %v", at, err)
		}
		f.restart()
		for _, l := range f.links() {
			if v := f.svc.Vouched(l.Hub, []byte(l.Child)); v == nil || !f.keys.Has(v.Subject) {
				t.Errorf("step %d: %s is %s's, and has no key: %+v", at, l.Child, l.Hub, v)
			}
		}
		if d, err := f.svc.Device("K1"); err == nil { // it came to be
			_, err = f.svc.Adopt(t.Context(), admin, "H1", "K1", "", why)
			if d.Hub == "" && err != nil {
				t.Errorf("step %d: adopting what a crash left: %v", at, err)
			}
		} else if _, err := f.svc.AddChild(t.Context(), admin, "H1", identity.Registration{Device: "K1", Product: leaf}, why); err != nil {
			t.Errorf("step %d: once more: %v", at, err)
		}
		v := f.svc.Vouched("H1", []byte("K1"))
		if v == nil || v.Subject.IsZero() || !f.keys.Has(v.Subject) || v.Series == [16]byte{} {
			t.Errorf("step %d: in the end the hub vouches for %+v", at, v)
		}
	}
}

// TestChildRecords: the ledger has the child's pseudonym in clear and the hub
// only sealed under the child's key; what a hub said of others names no id.
func TestChildRecords(t *testing.T) {
	f := newFixture(t)
	f.withHubs()
	if _, err := f.svc.AddChild(t.Context(), admin, "H1", identity.Registration{Device: "K1", Product: leaf}, why); err != nil {
		t.Fatal(err)
	}
	subject := f.svc.Vouched("H1", []byte("K1")).Subject
	if _, err := f.svc.Move(t.Context(), admin, "K1", "H2", why); err != nil {
		t.Fatal(err)
	}
	if _, err := f.svc.Remove(t.Context(), admin, "K1", why); err != nil {
		t.Fatal(err)
	}
	want := map[core.RecordKind]identity.LinkRecord{
		identity.RecordLinked: {Child: "K1", Hub: "H1"}, identity.RecordMoved: {Child: "K1", Hub: "H2", HubBefore: "H1"}, identity.RecordUnlinked: {Child: "K1", Hub: "H2"},
	}
	for kind, says := range want {
		all := f.records(kind)
		if len(all) != 1 || all[0].Subject != subject {
			t.Fatalf("%s: %+v", kind, all)
		}
		clear := all[0]
		clear.Sealed = nil
		if text := fmt.Sprintf("%+v", clear); strings.Contains(text, "H1") || strings.Contains(text, "H2") || strings.Contains(text, "K1") || strings.Contains(text, why) {
			t.Errorf("%s says in clear %s", kind, text)
		}
		if got, err := identity.OpenLink(f.keys.OpenValue, &all[0]); err != nil || got != says {
			t.Errorf("%s is sealed as %+v, %v; want %+v", kind, got, err, says)
		}
	}
	for range 50 {
		if err := f.svc.SpokeForOthers(t.Context(), "H1"); err != nil {
			t.Fatal(err)
		}
	}
	f.advance(time.Minute)
	if err := f.svc.SpokeForOthers(t.Context(), "H1"); err != nil {
		t.Fatal(err)
	}
	if n := len(f.records(identity.RecordFinding)); n != 2 {
		t.Errorf("%d findings in two minutes, want 2", n)
	}
}

// TestChildRace: however many people move, remove and adopt a child at once, one
// hub at most speaks for it, and the doors say what the database says. A hub
// never has more than it may.
func TestChildRace(t *testing.T) {
	f := newFixture(t)
	f.withHubs()
	for _, k := range []core.DeviceID{"K1", "K2", "K3", "K4", "K5"} {
		hub := core.DeviceID("H1")
		if k > "K3" {
			hub = "H2"
		}
		if _, err := f.svc.AddChild(t.Context(), admin, hub, identity.Registration{Device: k, Product: leaf}, why); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for n := range 40 {
		k := core.DeviceID(fmt.Sprint("K", 1+n%5))
		hub := core.DeviceID(fmt.Sprint("H", 1+n/5%2))
		all.Go(func() {
			var err error
			switch n % 3 {
			case 0:
				_, err = f.svc.Move(t.Context(), admin, k, hub, why)
			case 1:
				_, err = f.svc.Remove(t.Context(), admin, k, why)
			default:
				_, err = f.svc.Adopt(t.Context(), admin, hub, k, "", why)
			}
			if err != nil && core.KindOf(err) != core.Conflict {
				t.Errorf("%s, %s: %v", k, hub, err)
			}
		})
	}
	all.Wait()
	have := map[core.DeviceID]int{}
	in := map[core.DeviceID]core.DeviceID{}
	for _, l := range f.links() {
		have[l.Hub]++
		in[l.Child] = l.Hub
	}
	if have["H1"] > 3 || have["H2"] > 3 {
		t.Errorf("more children than declared: %v", have)
	}
	for _, k := range []core.DeviceID{"K1", "K2", "K3", "K4", "K5"} {
		for _, hub := range []core.DeviceID{"H1", "H2"} {
			if is := f.svc.Vouched(hub, []byte(k)) != nil; is != (in[k] == hub) {
				t.Errorf("%s under %s: the doors say %t, the database %q", k, hub, is, in[k])
			}
		}
	}
	f.restart()
	for k, hub := range in {
		if f.svc.Vouched(hub, []byte(k)) == nil {
			t.Errorf("after a restart %s does not speak for %s", hub, k)
		}
	}
}

// TestChildNeverEnrols: no door that gives certificates gives a child one.
func TestChildNeverEnrols(t *testing.T) {
	f := newFixture(t)
	f.withHubs()
	if _, err := f.svc.AddChild(t.Context(), admin, "H1", identity.Registration{Device: "K1", Product: leaf}, why); err != nil {
		t.Fatal(err)
	}
	if _, err := f.svc.NewCode(t.Context(), admin, "K1"); core.KindOf(err) != core.Conflict {
		t.Errorf("a code for a child: %v", err)
	}
	if _, err := f.svc.Enrol(t.Context(), home, "K1", strings.Repeat("0", 30), csrFor(t, newKey(t), "K1")); err == nil {
		t.Error("a child enrolled")
	}
	// A code that somebody writes into the database opens nothing either.
	code := f.mustAdd("A9")
	err := f.store.Update(t.Context(), func(tx *store.Tx) error {
		d, err := tx.Device(t.Context(), "A9")
		if err != nil {
			return err
		}
		k, err := tx.Device(t.Context(), "K1")
		if err != nil {
			return err
		}
		k.Code, k.Revision = d.Code, k.Revision+1
		return tx.UpdateDevice(t.Context(), k)
	})
	if err != nil {
		t.Fatal(err)
	}
	f.restart()
	if _, err := f.svc.Enrol(t.Context(), home, "K1", code, csrFor(t, newKey(t), "K1")); core.ReasonOf(err) != "child" && err == nil {
		t.Errorf("a child with a code enrols: %v", err)
	}
	if d, err := f.svc.Device("K1"); err != nil || !d.Serial.IsZero() {
		t.Errorf("the child is %+v, %v", d, err)
	}
}
