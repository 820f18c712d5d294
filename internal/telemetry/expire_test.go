package telemetry_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// keyed is works with a keyring beside it.
type keyed struct {
	*works
	home string
	ring *seal.Keyring
}

func newKeyed(t *testing.T) *keyed {
	t.Helper()
	k := &keyed{works: newWorks(t), home: t.TempDir()}
	k.openRing(seal.Create)
	t.Cleanup(func() { _ = k.ring.Close() }) // some tests close it themselves
	return k
}

func (k *keyed) openRing(open func(context.Context, seal.Options) (*seal.Keyring, error)) {
	k.t.Helper()
	roots, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(k.home, "root")})
	if err != nil {
		k.t.Fatal(err)
	}
	k.ring, err = open(k.t.Context(), seal.Options{
		Copies: []string{filepath.Join(k.home, "a", "keyring"), filepath.Join(k.home, "b", "keyring")}, Roots: roots, Now: k.clock,
	})
	if err != nil {
		k.t.Fatal(err)
	}
}

// noHold is a legal hold that guards nothing and notes what it was asked.
type noHold struct {
	asked []core.Epoch
	err   error
}

func (h *noHold) Guarding(context.Context) (bool, error) { return false, nil }

func (h *noHold) BeforeExpiry(_ context.Context, e core.Epoch) error {
	h.asked = append(h.asked, e)
	return h.err
}

func (k *keyed) deps(h telemetry.Holds) telemetry.ExpirerDeps {
	return telemetry.ExpirerDeps{
		Files: k.files, Late: k.late, Keys: k.ring, Holds: h, Settle: func(context.Context) error { k.project(); return nil }, Update: k.update, View: k.view, Now: k.clock, Log: quiet(), Trusted: believed,
	}
}

// believed is a clock that nobody doubts.
func believed(context.Context, time.Time) (bool, error) { return true, nil }

func (k *keyed) expire(h telemetry.Holds) error {
	k.t.Helper()
	x, err := telemetry.NewExpirer(k.deps(h))
	if err != nil {
		k.t.Fatal(err)
	}
	return x.Expire(k.t.Context())
}

// sow files one reading of ann at each of some times, with a key for each
// epoch, and gives the epochs.
func (k *keyed) sow(m *maker, keep time.Duration, at ...time.Time) []core.Epoch {
	k.t.Helper()
	var out []core.Epoch
	for i, t := range at {
		r := m.reading(ann, t, uint64(m.counter)+uint64(i), keep)
		e := r.Parts[0].Epoch
		if err := k.ring.EnsureEpoch(k.t.Context(), e); err != nil {
			k.t.Fatal(err)
		}
		k.tape.add(encode(r)...)
		out = append(out, e)
	}
	k.project()
	return out
}

func (k *keyed) filesOf(e core.Epoch) []string {
	k.t.Helper()
	if k.dsn != "" {
		return schemasOf(k.t, k.dsn, e)
	}
	all, err := filepath.Glob(filepath.Join(k.dir, "telemetry", e.String()+"*"))
	if err != nil {
		k.t.Fatal(err)
	}
	return all
}

// Mission row 4.4: advance the clock, and rows and key are gone, with a
// receipt; what is not due stays.
func TestExpire(t *testing.T) {
	k := newKeyed(t)
	var m maker
	short := k.sow(&m, time.Hour, projectStart)[0]
	long := k.sow(&m, month, projectStart)[0]
	h := &noHold{}
	k.advance(short.Due().Sub(k.clock()) - time.Second)
	if err := k.expire(h); err != nil || len(h.asked) != 0 || len(k.filesOf(short)) == 0 || len(k.rows(ann)) != 2 {
		t.Fatalf("a second early: %v, asked %v, files %v, %d rows", err, h.asked, k.filesOf(short), len(k.rows(ann)))
	}
	k.advance(time.Second)
	if err := k.expire(h); err != nil {
		t.Fatal(err)
	}
	if k.ring.HasEpoch(short) || len(k.filesOf(short)) != 0 {
		t.Errorf("key %v, files %v", k.ring.HasEpoch(short), k.filesOf(short))
	}
	if !k.ring.HasEpoch(long) || len(k.filesOf(long)) == 0 || len(k.rows(ann)) != 1 {
		t.Error("what was not due has gone")
	}
	if !slices.Equal(h.asked, []core.Epoch{short}) {
		t.Errorf("holds were asked about %v", h.asked)
	}
	got := k.pending()[telemetry.KindEpochEnded]
	if len(got) != 1 {
		t.Fatalf("%d receipts, want 1", len(got))
	}
	facts := map[string]string{}
	for _, f := range got[0].Facts {
		facts[f.Name] = f.Value
	}
	if facts["epoch"] != short.String() || facts["rows"] != "1" || facts["root_before"] == facts["root_after"] ||
		facts["destroys"] != "best-effort" || facts["due"] != short.Due().Format(time.RFC3339) {
		t.Errorf("receipt %v", facts)
	}
	for range 2 { // once more changes nothing
		if err := k.expire(h); err != nil {
			t.Fatal(err)
		}
	}
	if n := k.records(telemetry.KindEpochEnded); n != 1 {
		t.Errorf("%d receipts after further runs", n)
	}
}

// Killed at every arrow (intent, hold, key, file, end), the next run finishes
// the work: key and file are gone, and there is one receipt.
func TestExpireKilledAtEachStep(t *testing.T) {
	run := func(x *executioner) (killed bool) {
		k := newKeyed(t)
		var m maker
		due := k.sow(&m, time.Hour, projectStart, projectStart.Add(6*time.Minute))
		long := k.sow(&m, month, projectStart)[0]
		k.advance(2 * time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		x.cancel = cancel
		d := k.deps(nil)
		d.Files, d.Late, d.Update = mortalFiles{d.Files, x}, mortalLate{d.Late, x}, x.update(d.Update)
		d.Keys, d.Holds = mortalKeys{k.ring, x}, mortalHold{x}
		e, err := telemetry.NewExpirer(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Expire(ctx); x.dead && err == nil || !x.dead && err != nil {
			t.Fatalf("step %d, %s: %v", x.at, x.name, err)
		}
		k.reopen()
		if err := k.ring.Close(); err != nil {
			t.Fatal(err)
		}
		k.openRing(seal.Open)
		// The projector may be up before expiry runs again.
		late := m.reading(ann, projectStart, 77, time.Hour)
		k.tape.add(encode(late)...)
		k.project()
		h := &noHold{}
		if err := k.expire(h); err != nil {
			t.Fatalf("step %d, %s: finish: %v", x.at, x.name, err)
		}
		for _, e := range due {
			if k.ring.HasEpoch(e) || len(k.filesOf(e)) != 0 {
				t.Errorf("step %d, %s: epoch %s: key %v, files %v", x.at, x.name, e, k.ring.HasEpoch(e), k.filesOf(e))
			}
		}
		if !k.ring.HasEpoch(long) || len(k.rows(ann)) != 1 {
			t.Errorf("step %d, %s: what was not due has gone", x.at, x.name)
		}
		if n := k.records(telemetry.KindEpochEnded); n != 2 {
			t.Errorf("step %d, %s: %d receipts, want 2", x.at, x.name, n)
		}
		if len(k.epochs(telemetry.EpochEnding)) != 0 || len(k.epochs(telemetry.EpochEnded)) != 2 {
			t.Errorf("step %d, %s: ending %v, ended %v", x.at, x.name, k.epochs(telemetry.EpochEnding), k.epochs(telemetry.EpochEnded))
		}
		return x.dead
	}
	seen := map[string]bool{}
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			x := &executioner{at: at, after: after}
			if !run(x) {
				break
			}
			seen[x.name] = true
			if testing.Short() {
				at += rand.IntN(4)
			}
		}
	}
	if testing.Short() {
		return // some arrows only
	}
	for _, name := range []string{"update", "freeze", "hold", "shred", "remove", "drop"} {
		if !seen[name] || !seen[name+", done"] {
			t.Errorf("never killed at %q", name)
		}
	}
}

type mortalKeys struct {
	k *seal.Keyring
	x *executioner
}

func (m mortalKeys) Shred(ctx context.Context, o seal.Order) (r seal.Receipt, err error) {
	err = m.x.step("shred", func() (err error) { r, err = m.k.Shred(context.WithoutCancel(ctx), o); return err })
	return r, err
}

type mortalHold struct{ x *executioner }

func (m mortalHold) Guarding(context.Context) (bool, error) { return false, nil }

func (m mortalHold) BeforeExpiry(context.Context, core.Epoch) error {
	return m.x.step("hold", func() error { return nil })
}

// While a legal hold cannot take what is its, nothing is destroyed; other
// epochs end meanwhile.
func TestExpireWaitsForHolds(t *testing.T) {
	k := newKeyed(t)
	var m maker
	due := k.sow(&m, time.Hour, projectStart, projectStart.Add(6*time.Minute))
	k.advance(2 * time.Hour)
	full := errors.New("no room for the copy")
	err := k.expire(holdOn{due[0], full})
	if !errors.Is(err, full) || !strings.Contains(err.Error(), due[0].String()) {
		t.Fatalf("a hold that cannot copy: %v", err)
	}
	if !k.ring.HasEpoch(due[0]) || len(k.filesOf(due[0])) == 0 {
		t.Error("destroyed under a hold that has no copy")
	}
	if k.ring.HasEpoch(due[1]) || len(k.filesOf(due[1])) != 0 {
		t.Error("another epoch did not end")
	}
	if err := k.expire(&noHold{}); err != nil || k.ring.HasEpoch(due[0]) || len(k.filesOf(due[0])) != 0 {
		t.Errorf("when the hold is content: %v, key %v, files %v", err, k.ring.HasEpoch(due[0]), k.filesOf(due[0]))
	}
}

type holdOn struct {
	e   core.Epoch
	err error
}

func (h holdOn) Guarding(context.Context) (bool, error) { return true, nil }

func (h holdOn) BeforeExpiry(_ context.Context, e core.Epoch) error {
	if e == h.e {
		return h.err
	}
	return nil
}

// What was acknowledged in time and is filed late is under the hold like the
// rest: the projector may have stood still while the keep-time passed.
func TestExpireLetsTheHoldHaveWhatIsNotFiledYet(t *testing.T) {
	k := newKeyed(t)
	var m maker
	due := k.sow(&m, time.Hour, projectStart)[0]
	k.tape.add(encode(m.reading(ann, projectStart, 8, time.Hour))...)
	k.advance(2 * time.Hour)
	k.guarding = true
	h := &lookingHold{k: k}
	if err := k.expire(h); err != nil {
		t.Fatal(err)
	}
	if h.saw != 2 {
		t.Errorf("the hold found %d readings, want 2", h.saw)
	}
	if k.ring.HasEpoch(due) || len(k.filesOf(due)) != 0 {
		t.Error("the epoch did not end")
	}
	// When they cannot be filed, nothing is destroyed.
	next := k.sow(&m, time.Hour, k.clock())[0]
	k.advance(2 * time.Hour)
	d := k.deps(h)
	stuck := errors.New("the projector is in trouble")
	d.Settle = func(context.Context) error { return stuck }
	x, err := telemetry.NewExpirer(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Expire(t.Context()); !errors.Is(err, stuck) || !k.ring.HasEpoch(next) || len(k.filesOf(next)) == 0 {
		t.Errorf("with a projector that stands still: %v, key %v, files %v", err, k.ring.HasEpoch(next), k.filesOf(next))
	}
}

// lookingHold guards everybody, and counts ann's readings that it finds.
type lookingHold struct {
	k   *keyed
	saw int
}

func (h *lookingHold) Guarding(context.Context) (bool, error) { return true, nil }

func (h *lookingHold) BeforeExpiry(ctx context.Context, e core.Epoch) error {
	q := telemetry.Query{Subject: ann, From: time.Unix(e.Start, 0), To: e.End()}
	return h.k.files.Scan(ctx, e, &q, func(*telemetry.Row) error { h.saw++; return nil })
}

// Keys without a file, damaged files and rows in the late lane end as well.
func TestExpireLeavesNothing(t *testing.T) {
	k := newKeyed(t)
	var m maker
	e := k.sow(&m, time.Hour, projectStart)[0]
	k.close()
	k.partition(e).spoil(t)
	k.open()
	k.tape.add(encode(m.reading(ann, projectStart, 5, time.Hour))...)
	if s := k.project(); len(s.Waiting) != 1 || len(s.Broken) != 1 {
		t.Fatalf("state %+v", s)
	}
	bare := core.EpochAt(time.Hour, 5*time.Minute, projectStart.Add(20*time.Minute))
	if err := k.ring.EnsureEpoch(t.Context(), bare); err != nil {
		t.Fatal(err)
	}
	never := core.EpochAt(time.Hour, 5*time.Minute, projectStart.Add(3*time.Hour)) // not due
	k.advance(2 * time.Hour)
	if err := k.ring.EnsureEpoch(t.Context(), never); err != nil {
		t.Fatal(err)
	}
	d := k.deps(&noHold{})
	d.Known = func(context.Context) ([]core.Epoch, error) { return []core.Epoch{bare, never}, nil }
	x, err := telemetry.NewExpirer(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k.ring.HasEpoch(e) || k.ring.HasEpoch(bare) || !k.ring.HasEpoch(never) {
		t.Errorf("keys: %v %v %v, want only the last", k.ring.HasEpoch(e), k.ring.HasEpoch(bare), k.ring.HasEpoch(never))
	}
	if all := k.filesOf(e); len(all) != 0 {
		t.Errorf("files left: %v", all)
	}
	if w, err := k.late.Waiting(t.Context()); err != nil || len(w) != 0 {
		t.Errorf("rows wait for an epoch that has ended: %v, %v", w, err)
	}
	if got := k.totals(); got.Expired != 1 || got.Stored != 1 {
		t.Errorf("totals %+v", got)
	}
	if s := k.project(); len(s.Broken) != 0 {
		t.Errorf("still broken: %+v", s)
	}
}

// Many epochs that are due together cost one rotation of the keyring.
func TestExpireManyAtOnce(t *testing.T) {
	k := newKeyed(t)
	var m maker
	var at []time.Time
	for i := range 10 {
		at = append(at, projectStart.Add(time.Duration(i)*5*time.Minute))
	}
	k.sow(&m, time.Hour, at...)
	before := k.ring.Generation()
	k.advance(3 * time.Hour)
	if err := k.expire(&noHold{}); err != nil {
		t.Fatal(err)
	}
	if got := k.ring.Generation(); got != before+1 {
		t.Errorf("%d generations for ten epochs, want 1", got-before)
	}
	if n := k.records(telemetry.KindEpochEnded); n != 10 {
		t.Errorf("%d receipts, want 10", n)
	}
}

// Counts by minute and ended epochs are forgotten after 90 days, totals never.
func TestPrune(t *testing.T) {
	k := newKeyed(t)
	var m maker
	k.sow(&m, time.Hour, projectStart)
	k.advance(2 * time.Hour)
	if err := k.expire(&noHold{}); err != nil {
		t.Fatal(err)
	}
	c, err := telemetry.NewCounts(telemetry.CountsDeps{Update: k.update, View: k.view, Now: k.clock})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{80 * day, 1}, {11 * day, 0}} {
		k.advance(step.after)
		if err := c.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(k.epochs(telemetry.EpochEnded)); n != step.want {
			t.Errorf("%d ended epochs known, want %d", n, step.want)
		}
	}
	err = k.view(t.Context(), func(tx telemetry.ProjectionTx) error {
		left, err := tx.MinuteCounts(t.Context(), 0, 10)
		if len(left) != 0 {
			t.Errorf("counts left: %v", left)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Totals(t.Context(), "aria-thermostat"); err != nil || got.Stored != 1 {
		t.Errorf("totals %+v, %v", got, err)
	}
	if got, err := c.Totals(t.Context(), "other"); err != nil || got.Stored != 0 {
		t.Errorf("totals of another product %+v, %v", got, err)
	}
}

func TestExpirerNeedsItsDependencies(t *testing.T) {
	k := newKeyed(t)
	for i, drop := range []func(*telemetry.ExpirerDeps){
		func(d *telemetry.ExpirerDeps) { d.Files = nil }, func(d *telemetry.ExpirerDeps) { d.Late = nil },
		func(d *telemetry.ExpirerDeps) { d.Keys = nil }, func(d *telemetry.ExpirerDeps) { d.Holds = nil },
		func(d *telemetry.ExpirerDeps) { d.Update = nil }, func(d *telemetry.ExpirerDeps) { d.View = nil },
		func(d *telemetry.ExpirerDeps) { d.Now = nil }, func(d *telemetry.ExpirerDeps) { d.Log = nil },
		func(d *telemetry.ExpirerDeps) { d.Trusted = nil },
	} {
		d := k.deps(&noHold{})
		drop(&d)
		if _, err := telemetry.NewExpirer(d); err == nil {
			t.Errorf("dependency %d missing: accepted", i)
		}
	}
}

// TestExpireWithoutTrust: while the clock is not believed nothing is begun; what
// was begun before is finished; and when it is believed again all goes on.
func TestExpireWithoutTrust(t *testing.T) {
	k := newKeyed(t)
	var m maker
	begun := k.sow(&m, time.Hour, projectStart)[0]
	due := k.sow(&m, 2*time.Hour, projectStart)[0]
	must(t, k.update(t.Context(), func(tx telemetry.ProjectionTx) error {
		return tx.PutEpochState(t.Context(), begun, telemetry.EpochEnding, "", k.clock())
	}))
	k.advance(20 * 365 * 24 * time.Hour)
	d := k.deps(&noHold{})
	trusted, asked := false, time.Time{}
	d.Trusted = func(_ context.Context, at time.Time) (bool, error) { asked = at; return trusted, nil }
	x, err := telemetry.NewExpirer(d)
	must(t, err)
	must(t, x.Expire(t.Context()))
	if k.ring.HasEpoch(begun) || !k.ring.HasEpoch(due) || len(k.filesOf(due)) == 0 {
		t.Errorf("not trusted: key of what was begun %v, key of what is due %v, files %v", k.ring.HasEpoch(begun), k.ring.HasEpoch(due), k.filesOf(due))
	}
	if !asked.Equal(k.clock()) {
		t.Errorf("asked for %v, the clock says %v", asked, k.clock())
	}
	trusted = true
	must(t, x.Expire(t.Context()))
	if k.ring.HasEpoch(due) || len(k.filesOf(due)) != 0 {
		t.Errorf("trusted: key %v, files %v", k.ring.HasEpoch(due), k.filesOf(due))
	}
}
