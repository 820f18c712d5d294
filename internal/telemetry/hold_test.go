package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const order = "court order 3 C 17/26"

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// held are the readings that a hold keeps, as text, sorted.
func (x *estate) held(t testing.TB, id string) []string {
	t.Helper()
	var out []string
	n, err := x.holds.Open(t.Context(), staff, id, "hand over to the court", func(r *telemetry.HeldReading) error {
		if r.Sender != sender {
			t.Errorf("reading %d says that %x sent it", r.Reading.Seq, r.Sender)
		}
		out = append(out, fmt.Sprintf("%d %s", r.Reading.Seq, r.Plain))
		return nil
	})
	must(t, err)
	if n != len(out) {
		t.Errorf("opened %d, said %d", len(out), n)
	}
	slices.Sort(out)
	return out
}

func (x *estate) list(t testing.TB) []telemetry.HoldInfo {
	t.Helper()
	l, err := x.holds.List(t.Context())
	must(t, err)
	return l
}

// TestHoldOutlivesErasure: what there was and what came later is kept, among
// it what waits in the late lane; the erasure goes on for everything else; the
// release ends it.
func TestHoldOutlivesErasure(t *testing.T) {
	x := newEstate(t)
	gone, kept := x.device(t, "A1"), x.device(t, "B2")
	x.send(t, gone, 3*day, 1, v(19, true, "canary-note"))
	x.send(t, kept, 3*day, 2, v(5, true, "neighbour"))
	h, err := x.holds.Place(t.Context(), staff, "A1", order)
	must(t, err)
	if h.State != telemetry.HoldHeld || h.Device != "A1" || h.Reason != order || h.Rows != 3 || h.Subject != gone {
		t.Errorf("hold %+v", h)
	}
	x.send(t, gone, hour, 3, map[string]any{"temperature": 21}) // new: it is taken too
	p, err := x.decl.Current(t.Context(), "thermostat")
	must(t, err)
	must(t, x.late.Park(t.Context(), x.rows(t, reading{subject: gone, at: x.clock().Add(-5 * day), seq: 4, policy: p, values: map[string]any{"temperature": 18}})))

	r, err := x.erase.Erase(t.Context(), staff, "A1", why)
	must(t, err)
	if !slices.Equal(r.Held, []string{h.ID}) || x.settled == 0 {
		t.Errorf("receipt %+v; settled %d times", r, x.settled)
	}
	if rec := x.records(t, telemetry.RecordErased); len(rec) != 1 || fact(rec[0], "held_by") != h.ID {
		t.Errorf("the receipt in the ledger does not name the hold: %+v", rec)
	}
	if x.ring.Has(gone) {
		t.Error("the key lives")
	}
	want := []string{`1 {"heating":true}`, `1 {"note":"canary-note"}`, `1 {"temperature":19}`, `3 {"temperature":21}`, `4 {"temperature":18}`}
	same(t, "held", x.held(t, h.ID), want)
	if n := found(t, x.data, "canary-note"); n != 0 {
		t.Errorf("a held value lies in clear %d times", n)
	}
	if n := found(t, x.data, order) + found(t, x.data, `"A1"`); n != 0 {
		t.Errorf("the hold's reason or device lies in clear %d times", n)
	}

	x.close()
	x.open(t, nil)
	must(t, x.holds.Resume(t.Context()))
	must(t, x.erase.Resume(t.Context()))
	same(t, "held after a restart", x.held(t, h.ID), want)

	stolen := filepath.Join(t.TempDir(), "stolen")
	x.stealHold(t, h.ID, stolen)
	var row telemetry.HoldRow
	must(t, x.store.View(t.Context(), func(tx *store.Tx) error {
		row, _, err = tx.Hold(t.Context(), h.ID)
		return err
	}))
	steal := func() (opened, failed int) {
		f, err := store.OpenHoldFiles(stolen)
		must(t, err)
		must(t, f.Each(t.Context(), h.ID, func(e core.Epoch, r telemetry.HeldRow) error {
			_, err := x.ring.OpenValue(row.Key, fmt.Sprintf("hold-row/%s/%s/%x", h.ID, e, r.Key), r.Sealed)
			switch {
			case err == nil:
				opened++
			case errors.Is(err, seal.ErrNoKey):
				failed++
			default:
				return err
			}
			return nil
		}))
		return opened, failed
	}
	if opened, _ := steal(); opened != 5 {
		t.Fatalf("with the hold's key the stolen file opens %d rows: the attempt below proves nothing", opened)
	}
	rel, err := x.holds.Release(t.Context(), staff, h.ID, "order lifted")
	must(t, err)
	if rel.Receipt.Destruction.Destroys == "" || rel.Hold.Rows != 5 || rel.Hold.Device != "A1" {
		t.Errorf("released %+v", rel)
	}
	if rec := x.records(t, telemetry.RecordHoldReleased); len(rec) != 1 || fact(rec[0], "hold") != h.ID || fact(rec[0], "destroys") != "best-effort" {
		t.Errorf("records %+v", rec)
	}
	if l := x.list(t); len(l) != 0 {
		t.Errorf("holds after the release: %+v", l)
	}
	if left, err := filepath.Glob(filepath.Join(x.data, "hold", "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	_, err = x.holds.Open(t.Context(), staff, h.ID, "once more", nil)
	wantReason(t, "open a released hold", err, core.Unknown, "no-such-hold")
	_, err = x.holds.Release(t.Context(), staff, h.ID, "once more")
	wantReason(t, "release a released hold", err, core.Unknown, "no-such-hold")
	if opened, failed := steal(); opened != 0 || failed != 5 {
		t.Errorf("after the release the stolen file opens %d rows and fails on %d", opened, failed)
	}
}

func TestHoldRefuses(t *testing.T) {
	x, _, _ := settled(t)
	_, err := x.holds.Place(t.Context(), staff, "A1", "x")
	wantReason(t, "no reason", err, core.Invalid, "no-reason")
	_, err = x.holds.Place(t.Context(), staff, "Z9", order)
	wantReason(t, "unknown device", err, core.Unknown, "unknown-device")
	_, err = x.holds.Release(t.Context(), staff, "h-none", order)
	wantReason(t, "unknown hold", err, core.Unknown, "no-such-hold")
	_, err = x.erase.Erase(t.Context(), staff, "A1", why)
	must(t, err)
	_, err = x.holds.Place(t.Context(), staff, "A1", order)
	wantReason(t, "erased device", err, core.Unknown, "unowned")
	if l := x.list(t); len(l) != 0 {
		t.Errorf("holds %+v", l)
	}
}

// TestHoldIsTooLate: once an erasure is recorded, no hold is placed.
func TestHoldIsTooLate(t *testing.T) {
	x, _, _ := settled(t)
	x.close()
	var seen []string
	x.open(t, killAt(0, &seen))
	if _, err := x.erase.Erase(t.Context(), staff, "A1", why); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	x.close()
	x.open(t, nil)
	_, err := x.holds.Place(t.Context(), staff, "A1", order)
	wantReason(t, "hold on somebody who is being erased", err, core.Conflict, "erasure-under-way")
}

// TestErasureWaitsForHeldReadings: while what was acknowledged is not filed, a
// held subject's key stays; nothing new is sealed meanwhile.
func TestErasureWaitsForHeldReadings(t *testing.T) {
	x, gone, kept := settled(t)
	h, err := x.holds.Place(t.Context(), staff, "A1", order)
	must(t, err)
	x.unsettle = errors.New("the projector has stopped")
	_, err = x.erase.Erase(t.Context(), staff, "A1", why)
	wantReason(t, "erase while behind", err, core.Unavail, "held-readings-not-filed")
	if !x.ring.Has(gone) {
		t.Fatal("the key went before the hold had its readings")
	}
	e := core.EpochAt(30*day, day, x.clock().Add(hour-3*day))
	key, err := x.ring.Lease(gone, e)
	must(t, err)
	if _, err := key.Seal(nil, []byte("x"), nil); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("sealing goes on for somebody who is being erased: %v", err)
	}
	if _, err := x.erase.Erase(t.Context(), staff, "B2", why); err != nil { // another one is not in its way
		t.Error(err)
	}
	if x.ring.Has(kept) {
		t.Error("the other one was not erased")
	}

	// After a restart it waits for the projector, which does not run yet, and
	// nothing is sealed meanwhile.
	x.close()
	x.open(t, nil)
	before := x.settled
	must(t, x.erase.Resume(t.Context()))
	key, err = x.ring.Lease(gone, e)
	must(t, err)
	if _, err := key.Seal(nil, []byte("x"), nil); !errors.Is(err, seal.ErrNoKey) || x.settled != before {
		t.Errorf("after a restart: %v; waited %d times", err, x.settled-before)
	}
	wantReason(t, "finish while behind", x.erase.Finish(t.Context()), core.Unavail, "held-readings-not-filed")
	x.unsettle = nil
	must(t, x.erase.Finish(t.Context()))
	if x.ring.Has(gone) || len(x.held(t, h.ID)) != 9 {
		t.Errorf("finished: has %v, held %d", x.ring.Has(gone), len(x.held(t, h.ID)))
	}
}

// TestHoldKilledAtEachArrow: a hold that was not placed is undone, because
// nobody was told of it; one that was being released is released.
func TestHoldKilledAtEachArrow(t *testing.T) {
	for n, step := range []string{"hold intent", "hold key", "hold file", "hold copy"} {
		x, gone, _ := settled(t)
		before, err := x.ring.State(t.Context())
		must(t, err)
		x.close()
		var seen []string
		x.open(t, killAt(n, &seen))
		if _, err := x.holds.Place(t.Context(), staff, "A1", order); !errors.Is(err, errKilled) || seen[n] != step {
			t.Fatalf("got %v at %q", err, seen)
		}
		x.close()
		x.open(t, nil)
		must(t, x.holds.Resume(t.Context()))
		after, err := x.ring.State(t.Context())
		must(t, err)
		if len(x.list(t)) != 0 || after.Subjects != before.Subjects || len(x.records(t, telemetry.RecordHoldPlaced)) != 0 {
			t.Errorf("%s: left a hold, a key or a record", step)
		}
		if left, err := filepath.Glob(filepath.Join(x.data, "hold", "*")); err != nil || len(left) != 0 {
			t.Errorf("%s: left %v, %v", step, left, err)
		}
		if h, err := x.holds.Place(t.Context(), staff, "A1", order); err != nil || h.Rows != 9 {
			t.Errorf("%s: place again: %+v, %v", step, h, err)
		}
		if !x.ring.Has(gone) {
			t.Errorf("%s: the subject's key went", step)
		}
		x.close()
	}
	for n, step := range []string{"release intent", "release key", "release file"} {
		x, gone, _ := settled(t)
		h, err := x.holds.Place(t.Context(), staff, "A1", order)
		must(t, err)
		x.close()
		var seen []string
		x.open(t, killAt(n, &seen))
		if _, err := x.holds.Release(t.Context(), staff, h.ID, "order lifted"); !errors.Is(err, errKilled) || seen[n] != step {
			t.Fatalf("got %v at %q", err, seen)
		}
		x.close()
		x.open(t, nil)
		must(t, x.holds.Resume(t.Context()))
		if r := x.records(t, telemetry.RecordHoldReleased); len(x.list(t)) != 0 || len(r) != 1 || r[0].Actor != staff {
			t.Errorf("%s: holds %v, records %+v", step, x.list(t), r)
		}
		if !x.ring.Has(gone) {
			t.Errorf("%s: the subject's key went", step)
		}
		x.close()
	}
}

// TestHoldAgainstExpiry: an epoch that ends leaves its held rows behind; one
// that cannot be copied does not end.
func TestHoldAgainstExpiry(t *testing.T) {
	x := newEstate(t)
	held, other := x.device(t, "A1"), x.device(t, "B2")
	expirer, err := telemetry.NewExpirer(telemetry.ExpirerDeps{
		Files: x.files, Late: x.late, Keys: x.ring, Holds: x.holds, Update: inUpdate[telemetry.ProjectionTx](x.store),
		View: inView[telemetry.ProjectionTx](x.store), Now: x.clock, Log: quietLog(), Trusted: believed,
		Settle: func(context.Context) error { return nil }, // x.send files at once
	})
	must(t, err)
	x.send(t, other, hour, 1, v(5, true, "neighbour"))
	h, err := x.holds.Place(t.Context(), staff, "A1", order)
	must(t, err)
	x.send(t, held, hour, 2, v(20, true, "n")) // after the hold
	e := core.EpochAt(30*day, day, x.clock().Add(-hour))
	x.now.Add((8 * day).Milliseconds())
	must(t, expirer.Expire(t.Context()))
	same(t, "after a week", x.held(t, h.ID), []string{`2 {"heating":true}`})
	x.now.Add((30 * day).Milliseconds())
	must(t, expirer.Expire(t.Context()))
	same(t, "after a month", x.held(t, h.ID), []string{`2 {"heating":true}`, `2 {"note":"n"}`, `2 {"temperature":20}`})
	if x.ring.HasEpoch(e) {
		t.Error("the epoch did not end")
	}
	if got, _, err := x.readAll(t, telemetry.ReadRequest{Device: "A1"}); err != nil || len(got) != 0 {
		t.Errorf("read after the end: %v, %v", got, err)
	}
}

// stealHold takes what a hold keeps to files in a folder.
func (x *estate) stealHold(t *testing.T, id, dir string) {
	t.Helper()
	if x.dsn == "" {
		copyTree(t, filepath.Join(x.data, "hold"), dir)
		return
	}
	to, err := store.OpenHoldFiles(dir)
	must(t, err)
	n, err := telemetry.CopyHold(t.Context(), x.kept, to, id)
	if err != nil || n == 0 {
		t.Fatalf("copied %d rows of a hold, %v", n, err)
	}
}

// TestLostHold: a backup may bring back a hold that was released since. Its key
// is gone; it is removed, and the ledger says so.
func TestLostHold(t *testing.T) {
	x, _, _ := settled(t)
	h, err := x.holds.Place(t.Context(), staff, "A1", order)
	must(t, err)
	x.close()
	old := filepath.Join(t.TempDir(), "data")
	copyTree(t, x.data, old)
	x.open(t, nil)
	_, err = x.holds.Release(t.Context(), staff, h.ID, "order lifted")
	must(t, err)
	x.close()
	x.data = old
	x.open(t, nil)
	must(t, x.holds.Resume(t.Context()))
	if r := x.records(t, telemetry.RecordHoldLost); len(x.list(t)) != 0 || len(r) != 1 || fact(r[0], "hold") != h.ID || !strings.HasPrefix(r[0].Actor.String(), "job:") {
		t.Errorf("holds %v, records %+v", x.list(t), r)
	}
}

// TestHoldAgainstADamagedFile: what a hold has not got yet may lie in a file
// that does not open. Then the erasure stays open and the key lives, until the
// file is repaired; one of somebody without a hold goes on.
func TestHoldAgainstADamagedFile(t *testing.T) {
	x, gone, kept := settled(t)
	h, err := x.holds.Place(t.Context(), staff, "A1", order)
	must(t, err)
	x.send(t, gone, hour, 4, v(21, true, "after the hold"))
	x.close()
	hurt := partitionAt(x.dsn, x.data, core.EpochAt(30*day, day, x.clock().Add(-hour)))
	restore := hurt.keep(t)
	hurt.spoil(t)
	x.open(t, nil)
	for range 2 {
		_, err = x.erase.Erase(t.Context(), staff, "A1", why)
		wantReason(t, "erase beside a damaged file", err, core.Unavail, "held-epoch-damaged")
		wantReason(t, "finish beside a damaged file", x.erase.Finish(t.Context()), core.Unavail, "held-epoch-damaged")
	}
	if !x.ring.Has(gone) || len(x.records(t, telemetry.RecordErased)) != 0 {
		t.Fatal("the key went before the hold had its readings")
	}
	if _, err := x.erase.Erase(t.Context(), staff, "B2", why); err != nil || x.ring.Has(kept) {
		t.Errorf("the erasure of somebody else: %v", err)
	}

	x.close()
	restore()
	x.open(t, nil)
	must(t, x.erase.Finish(t.Context()))
	if held := x.held(t, h.ID); x.ring.Has(gone) || len(held) != 12 || !slices.Contains(held, `4 {"note":"after the hold"}`) {
		t.Errorf("finished: has %v, held %q", x.ring.Has(gone), held)
	}
}
