package telemetry_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// sealKeys are an estate's keys as the intake wants them.
type sealKeys struct{ *seal.Keyring }

// sink is a journal that forgets.
type sink struct{}

func (sink) Submit([]byte, telemetry.Completion, uint64) error { return nil }

// watch is an intake of an estate with what carries its findings on.
func (x *estate) watch(t testing.TB, p *declaration.Policy) (*telemetry.Intake, *telemetry.Undeclared) {
	t.Helper()
	in, err := telemetry.NewIntake(telemetry.IntakeDeps{Keys: sealKeys{x.ring}, Journal: sink{}, Now: x.clock})
	must(t, err)
	u, err := telemetry.NewUndeclared(telemetry.UndeclaredDeps{
		Update: inUpdate[telemetry.UndeclaredTx](x.store), View: inView[telemetry.UndeclaredTx](x.store), Keys: x.ring, Intake: in, Now: x.clock,
	})
	must(t, err)
	x.inForce(t, in, u, p)
	return in, u
}

// inForce puts a declaration in force, as the server does.
func (x *estate) inForce(t testing.TB, in *telemetry.Intake, u *telemetry.Undeclared, p *declaration.Policy) {
	t.Helper()
	plan, err := telemetry.NewPlan(p, x.clock().Add(-day))
	must(t, err)
	must(t, u.Keep(t.Context()))
	must(t, u.Load(t.Context(), plan))
	in.SetPlan(plan)
}

func said(in *telemetry.Intake) string {
	var out []string
	for _, u := range in.Undeclared() {
		out = append(out, fmt.Sprintf("%s: %s", u.Stream, strings.Join(u.Names, " ")))
	}
	return strings.Join(out, "; ")
}

// An undeclared field is a finding the first time (design, section 5; CC 5.9):
// one record in the ledger for each declaration and stream, whatever devices
// send and however often the server is started. Its name is not in clear in
// any file, and goes with whom it came from.
func TestUndeclaredFieldsAreRecordedOnce(t *testing.T) {
	x := newEstate(t)
	ann, bob := x.device(t, "A1"), x.device(t, "B2")
	p1 := policy(t, 1, "[owner, support]")
	in, u := x.watch(t, p1)
	send := func(s core.Subject, names ...string) {
		t.Helper()
		src := in.NewSource(telemetry.SourceInfo{Device: "X", Product: "thermostat", Subject: s, OwnedSince: x.clock().Add(-day)})
		for _, n := range names {
			v := in.Message(src, []byte("climate"), fmt.Appendf(nil, `{"temperature":20,%q:1}`, n), nil, 0)
			if v.Action != telemetry.Pending {
				t.Fatalf("%s: %+v", n, v)
			}
		}
	}
	records := func() []core.Record { return x.records(t, telemetry.RecordUndeclared) }

	must(t, u.Keep(t.Context()))
	if len(records()) != 0 {
		t.Fatal("a finding before anything was sent")
	}
	send(ann, "roomofanna", "gps")
	send(bob, "gps", "wifi")
	must(t, u.Keep(t.Context()))
	must(t, u.Keep(t.Context()))
	r := records()
	if len(r) != 1 || r[0].Product != "thermostat" || r[0].Policy != p1.Hash || !r[0].Subject.IsZero() || fact(r[0], "stream") != "climate" || fact(r[0], "names") != "3" {
		t.Fatalf("records %+v", r)
	}
	for i := range 1000 { // a device that makes names up
		send(bob, strings.Repeat("ab"[i%2:i%2+1], 1+i%20)+strings.Repeat("c", i%7))
		if i%50 == 0 {
			must(t, u.Keep(t.Context()))
		}
	}
	must(t, u.Keep(t.Context()))
	if r := records(); len(r) != 1 {
		t.Errorf("%d records", len(r))
	}
	names := in.Undeclared()[0].Names
	if len(names) != telemetry.MaxUndeclaredNames {
		t.Errorf("%d names", len(names))
	}

	// Started again, all of it is known and nothing is said twice.
	before := said(in)
	x.close()
	if n := found(t, x.dir, "roomofanna"); n != 0 {
		t.Errorf("a name lies in clear on the disk %d times", n)
	}
	x.open(t, nil)
	in, u = x.watch(t, p1)
	if got := said(in); got != before || !strings.Contains(got, "roomofanna") {
		t.Errorf("after the restart: %s\nbefore: %s", got, before)
	}
	send(bob, "gps", "another")
	must(t, u.Keep(t.Context()))
	if r := records(); len(r) != 1 {
		t.Errorf("%d records after the restart", len(r))
	}

	// Another version is another matter.
	p2 := policy(t, 2, "[owner]")
	x.inForce(t, in, u, p2)
	if got := said(in); got != "" {
		t.Errorf("of the new version: %s", got)
	}
	send(ann, "roomofanna")
	send(bob, "gps")
	must(t, u.Keep(t.Context()))
	if r := records(); len(r) != 2 || r[1].Policy != p2.Hash {
		t.Errorf("records %+v", r)
	}

	// Erased, a person takes along the names that came from it, in memory too;
	// that there was something undeclared stays.
	if _, err := x.erase.Erase(t.Context(), staff, "A1", "owner asked"); err != nil {
		t.Fatal(err)
	}
	in.Forget(ann)
	if got := said(in); got != "climate: gps" {
		t.Errorf("after the erasure: %s", got)
	}
	for range 2 {
		x.close()
		x.open(t, nil)
		in, u = x.watch(t, p2)
		if got := said(in); got != "climate: gps" {
			t.Errorf("after the erasure and a restart: %s", got)
		}
		must(t, u.Keep(t.Context()))
	}
	if r := records(); len(r) != 2 {
		t.Errorf("%d records in the end", len(r))
	}
}

// A name that was seen and not yet kept when its person is erased is let go of;
// trouble of the database is said and what was found stays for the next time.
func TestUndeclaredInTrouble(t *testing.T) {
	x := newEstate(t)
	ann := x.device(t, "A1")
	in, u := x.watch(t, policy(t, 1, "[owner, support]"))
	src := in.NewSource(telemetry.SourceInfo{Device: "A1", Product: "thermostat", Subject: ann, OwnedSince: x.clock().Add(-day)})
	if v := in.Message(src, []byte("climate"), []byte(`{"temperature":20,"gps":1}`), nil, 0); v.Action != telemetry.Pending {
		t.Fatal(v)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.Keep(ended); err == nil {
		t.Error("kept without a database")
	}
	if r := x.records(t, telemetry.RecordUndeclared); len(r) != 0 {
		t.Errorf("records %+v", r)
	}
	if _, err := x.erase.Erase(t.Context(), staff, "A1", "owner asked"); err != nil {
		t.Fatal(err)
	}
	must(t, u.Keep(t.Context()))
	if r := x.records(t, telemetry.RecordUndeclared); len(r) != 1 {
		t.Errorf("records %+v", r)
	}
	if got := said(in); got != "climate: " {
		t.Errorf("still known: %s", got)
	}
}
