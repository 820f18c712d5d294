package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const why = "owner asked by e-mail, case 12"

// settled is an estate with two owned devices that have sent.
func settled(t testing.TB) (x *estate, gone, kept core.Subject) {
	t.Helper()
	x = newEstate(t)
	gone, kept = x.device(t, "A1"), x.device(t, "B2")
	for i, s := range []core.Subject{gone, kept} {
		for seq := range 3 {
			x.send(t, s, hour*3*24-hour, uint64(10*i+seq+1), v(20, true, "n"))
		}
		must(t, x.store.Update(t.Context(), func(tx *store.Tx) error {
			return tx.AddSubjectCounts(t.Context(), []telemetry.SubjectCount{{Subject: s, Product: "thermostat", Accepted: 3, Last: x.now.Load()}})
		}))
	}
	return x, gone, kept
}

// serves checks that B2 is read and A1 is not.
func (x *estate) serves(t testing.TB) {
	t.Helper()
	_, _, err := x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	wantReason(t, "read of the erased", err, core.Unknown, "unowned")
	got, done, err := x.readAll(t, telemetry.ReadRequest{Device: "B2"})
	if err != nil || len(got) != 3 || done.Unreadable != 0 {
		t.Errorf("read of the survivor: %v, %+v, %v", got, done, err)
	}
}

func (x *estate) counted(t testing.TB, s core.Subject) (n int) {
	t.Helper()
	must(t, x.store.View(t.Context(), func(tx *store.Tx) error {
		c, err := tx.SubjectCount(t.Context(), s)
		n = len(c)
		return err
	}))
	return n
}

func TestErase(t *testing.T) {
	x, gone, kept := settled(t)
	r, err := x.erase.Erase(t.Context(), staff, "A1", why)
	must(t, err)
	if r.Subject != gone || r.By != staff || r.RootBefore != 1 || r.RootAfter != 2 || r.Destroys != seal.DestroysBestEffort || r.Detail == "" ||
		!slices.Equal(r.Erasers, []string{"key", "ownership", "counts"}) || r.Held != nil || r.Ended.IsZero() {
		t.Errorf("receipt %+v", r)
	}
	x.serves(t)
	if x.ring.Has(gone) || !x.ring.Has(kept) || x.counted(t, gone) != 0 || x.counted(t, kept) != 1 {
		t.Error("the wrong things are gone")
	}
	asked, erased := x.records(t, telemetry.RecordErasureAsked), x.records(t, telemetry.RecordErased)
	if len(asked) != 1 || len(erased) != 1 {
		t.Fatalf("%d asked, %d erased", len(asked), len(erased))
	}
	rec := erased[0]
	for name, want := range map[string]string{
		"root_before": "1", "root_after": "2", "destroys": "best-effort", "erasers": "key,ownership,counts", "held_by": "",
	} {
		if got := fact(rec, name); got != want {
			t.Errorf("receipt says %s=%q, want %q", name, got, want)
		}
	}
	if rec.Subject != gone || rec.Actor != staff || rec.Sealed != nil {
		t.Errorf("receipt %+v", rec)
	}
	for _, rec := range append(asked, erased...) {
		if text := fmt.Sprint(rec.Facts); strings.Contains(text, "A1") || strings.Contains(text, "case 12") {
			t.Errorf("a record names device or reason in clear: %s", text)
		}
	}
	if _, err := x.ring.OpenValue(gone, "erasure", asked[0].Sealed); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("who was erased can still be read in the ledger: %v", err)
	}
	if got, done, err := x.erase.Receipt(t.Context(), gone); err != nil || !done || got.RootAfter != 2 {
		t.Errorf("receipt by subject: %+v, %v, %v", got, done, err)
	}
	_, err = x.erase.Erase(t.Context(), staff, "A1", why)
	wantReason(t, "erase again", err, core.Unknown, "unowned")

	x.close()
	x.open(t, nil)
	must(t, x.erase.Resume(t.Context()))
	x.serves(t)
	if n := len(x.records(t, telemetry.RecordErased)); n != 1 {
		t.Errorf("%d receipts after a restart", n)
	}
}

func TestEraseRefuses(t *testing.T) {
	x, gone, _ := settled(t)
	_, err := x.erase.Erase(t.Context(), staff, "A1", "x")
	wantReason(t, "no reason", err, core.Invalid, "no-reason")
	_, err = x.erase.Erase(t.Context(), staff, "Z9", why)
	wantReason(t, "unknown device", err, core.Unknown, "unknown-device")
	_, err = x.erase.Erase(t.Context(), staff, "../A1", why)
	wantReason(t, "no device id", err, core.Invalid, "device-id")
	if !x.ring.Has(gone) || len(x.records(t, telemetry.RecordErasureAsked)) != 0 {
		t.Error("a refused erasure did something")
	}
	deps := telemetry.EraseDeps{}
	if _, err := telemetry.NewEraseService(deps); err == nil {
		t.Error("an erase service without dependencies was made")
	}
}

var errKilled = errors.New("killed")

// killAt ends the world after the n-th step.
func killAt(n int, seen *[]string) func(string) error {
	return func(step string) error {
		*seen = append(*seen, step)
		if len(*seen)-1 >= n {
			return errKilled
		}
		return nil
	}
}

// TestEraseKilledAtEachArrow: whatever the moment, the next start finishes it,
// with one receipt, and the other owner's readings stay.
func TestEraseKilledAtEachArrow(t *testing.T) {
	want := []string{"intent", "held", "shredded", "noted", "eraser ownership", "eraser counts", "receipt"}
	for n, step := range want {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			t.Parallel()
			x, gone, _ := settled(t)
			x.close()
			var seen []string
			x.open(t, killAt(n, &seen))
			if _, err := x.erase.Erase(t.Context(), staff, "A1", why); !errors.Is(err, errKilled) {
				t.Fatalf("got %v, want to be killed", err)
			}
			if !slices.Equal(seen, want[:n+1]) {
				t.Fatalf("steps %q", seen)
			}
			x.close()
			x.open(t, killAt(0, &seen)) // and killed again while it is finished
			if err := x.erase.Resume(t.Context()); err != nil && !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			x.close()
			x.open(t, nil)
			must(t, x.erase.Resume(t.Context()))
			must(t, x.erase.Resume(t.Context()))
			x.serves(t)
			if x.ring.Has(gone) || x.counted(t, gone) != 0 {
				t.Error("it was not finished")
			}
			r := x.records(t, telemetry.RecordErased)
			if len(r) != 1 || len(x.records(t, telemetry.RecordErasureAsked)) != 1 {
				t.Fatalf("%d receipts", len(r))
			}
			if fact(r[0], "root_before") != "1" || fact(r[0], "root_after") != "2" || fact(r[0], "erasers") != "key,ownership,counts" {
				t.Errorf("receipt %+v", r[0].Facts)
			}
		})
	}
}

// TestEraserInTrouble: an eraser that fails leaves the erasure open; the key
// is gone all the same, and Finish finishes.
func TestEraserInTrouble(t *testing.T) {
	x, gone, _ := settled(t)
	trouble := errors.New("database is full")
	calls := 0
	d := telemetry.EraseDeps{
		Update: inUpdate[telemetry.EraseTx](x.store), View: inView[telemetry.EraseTx](x.store), Keys: x.ring, Holds: x.holds,
		Owner: x.owner, Settle: x.settle, Now: x.clock, Log: quietLog(),
		Erasers: []telemetry.Eraser{{Name: "elsewhere", Erase: func(context.Context, core.Subject) error {
			if calls++; calls == 1 {
				return trouble
			}
			return nil
		}}},
	}
	s, err := telemetry.NewEraseService(d)
	must(t, err)
	if _, err := s.Erase(t.Context(), staff, "A1", why); !errors.Is(err, trouble) {
		t.Fatalf("got %v", err)
	}
	if x.ring.Has(gone) || len(x.records(t, telemetry.RecordErased)) != 0 {
		t.Error("the key lives, or a receipt was given for half an erasure")
	}
	if _, done, err := s.Receipt(t.Context(), gone); done || err != nil {
		t.Errorf("receipt: %v, %v", done, err)
	}
	must(t, s.Finish(t.Context()))
	if r := x.records(t, telemetry.RecordErased); len(r) != 1 || fact(r[0], "erasers") != "key,elsewhere" {
		t.Errorf("receipts %+v", r)
	}
	for _, bad := range [][]telemetry.Eraser{{{Name: "key", Erase: d.Erasers[0].Erase}}, {{Name: "x"}}, {d.Erasers[0], d.Erasers[0]}} {
		d.Erasers = bad
		if _, err := telemetry.NewEraseService(d); err == nil {
			t.Errorf("erasers %+v were taken", bad)
		}
	}
}

// copyTree copies a folder as a thief or a backup program would, below a
// running server.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
}

// TestAttackerWithTheData (CC 4.8) plays somebody who copied the data folder and the
// keyring copies before an erasure, and took the whole disk after it. He puts
// them together in every way. Before, with the root of the day, he succeeds.
func TestAttackerWithTheData(t *testing.T) {
	x, gone, kept := settled(t)
	loot := t.TempDir()
	n := 0
	// attack opens a data folder with a keyring and a root, and counts what he
	// reads of each subject.
	attack := func(data, ring, root string) (opened map[core.Subject]int) {
		n++
		home := filepath.Join(loot, fmt.Sprint("attack-", n))
		copyTree(t, data, filepath.Join(home, "data"))
		copyTree(t, root, filepath.Join(home, "root"))
		for _, c := range []string{"a", "b"} {
			copyTree(t, ring, filepath.Join(home, c))
			must(t, os.Chmod(filepath.Join(home, c), 0o700))
			must(t, os.Chmod(filepath.Join(home, c, "keyring"), 0o600))
		}
		must(t, os.Chmod(filepath.Join(home, "root"), 0o700))
		keys, err := filepath.Glob(filepath.Join(home, "root", "*"))
		must(t, err)
		for _, k := range keys {
			must(t, os.Chmod(k, 0o600))
		}
		opened = map[core.Subject]int{}
		roots, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(home, "root")})
		must(t, err)
		k, err := seal.Open(t.Context(), seal.Options{
			Copies: []string{filepath.Join(home, "a", "keyring"), filepath.Join(home, "b", "keyring")}, Roots: roots, Now: x.clock,
		})
		if err != nil {
			return opened // this keyring and these roots open nothing at all
		}
		defer func() { _ = k.Close() }()
		files, err := store.OpenEpochFiles(store.EpochFilesOptions{Dir: filepath.Join(home, "data", "telemetry"), Now: x.clock})
		must(t, err)
		defer func() { _ = files.Close() }()
		epochs, err := files.List(t.Context())
		must(t, err)
		for _, e := range epochs {
			must(t, files.Audit(t.Context(), e, telemetry.AuditVisitor{
				Head: func(telemetry.Head) error { return nil }, Batch: func(*telemetry.Batch) error { return nil },
				Fault: func(detail string) error { return errors.New(detail) },
				Row: func(r *telemetry.Row) error {
					key, err := k.Lease(r.Reading.Subject, e)
					if err != nil {
						return nil
					}
					if _, err := key.Open(nil, r.Part.Sealed, telemetry.AppendAAD(nil, &r.Reading, &r.Part)); err == nil {
						opened[r.Reading.Subject]++
					}
					return nil
				},
			}))
		}
		return opened
	}
	take := func(what string) string {
		to := filepath.Join(loot, what)
		for _, part := range []string{"data", "a", "root"} {
			copyTree(t, filepath.Join(x.dir, part), filepath.Join(to, part))
		}
		return to
	}

	early := take("before")
	if got := attack(early+"/data", early+"/a", early+"/root"); got[gone] == 0 || got[kept] == 0 {
		t.Fatalf("with the root of the day he opens %v: the attack proves nothing", got)
	}
	must(t, os.RemoveAll(early+"/root")) // he has no root: those lie apart, and in no backup
	if _, err := x.erase.Erase(t.Context(), staff, "A1", why); err != nil {
		t.Fatal(err)
	}
	late := take("after")
	survivors := 0
	for _, data := range []string{early, late} {
		for _, ring := range []string{early, late} {
			got := attack(data+"/data", ring+"/a", late+"/root")
			if got[gone] != 0 {
				t.Errorf("data of %s with keyring of %s opens %d readings of the erased", filepath.Base(data), filepath.Base(ring), got[gone])
			}
			survivors += got[kept]
		}
	}
	if survivors == 0 {
		t.Error("he opened no survivor's reading either: the attack became blind")
	}
}

// TestRestoredBackup (CC 4.8): a backup from before an erasure, the newest keyring and
// its root open the survivors and not the erased, and the backup by itself
// holds nothing in clear. With the keyring of the day it is refused.
func TestRestoredBackup(t *testing.T) {
	x, gone, kept := settled(t)
	x.send(t, kept, hour, 99, v(22, true, "canary-note"))
	x.send(t, gone, hour, 98, v(22, true, "canary-note"))
	h, err := x.holds.Place(t.Context(), staff, "A1", order)
	must(t, err)
	backup := filepath.Join(t.TempDir(), "backup")
	m, err := x.store.Backup(t.Context(), store.BackupOptions{
		To: backup, Settle: x.settle, Now: x.clock, Keyring: x.ring.State,
		Journal: func() store.JournalState { return store.JournalState{Incarnation: "j", Sequence: x.counter} },
	})
	must(t, err)
	if m.Keyring.Generation != 1 || x.settled == 0 {
		t.Errorf("manifest %+v, settled %d times", m, x.settled)
	}
	if n := found(t, backup, "canary-note"); n != 0 {
		t.Errorf("a value lies in clear in the backup %d times", n)
	}
	if n := found(t, backup, order); n != 0 {
		t.Errorf("a hold's reason lies in clear in the backup %d times", n)
	}
	planted := filepath.Join(backup, "planted")
	must(t, os.WriteFile(planted, []byte("...canary-note..."), 0o600))
	if found(t, backup, "canary-note") != 1 {
		t.Fatal("the search does not find what lies in clear")
	}
	must(t, os.Remove(planted))
	old := t.TempDir() // the keyring and root of that day, as nobody should keep them
	for _, part := range []string{"a", "b", "root"} {
		copyTree(t, filepath.Join(x.dir, part), filepath.Join(old, part))
	}

	_, err = x.erase.Erase(t.Context(), staff, "A1", why)
	must(t, err)
	_, err = x.holds.Release(t.Context(), staff, h.ID, "order lifted")
	must(t, err)
	x.device(t, "C3")
	x.close()

	must(t, os.RemoveAll(x.data))
	restored, err := store.Restore(t.Context(), store.RestoreOptions{From: backup, To: x.data})
	must(t, err)
	x.open(t, nil)
	state, err := x.ring.State(t.Context())
	must(t, err)
	must(t, restored.Fits(state))
	must(t, x.holds.Resume(t.Context()))
	must(t, x.erase.Resume(t.Context()))

	_, _, err = x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	wantReason(t, "read of the erased after the restore", err, core.Unknown, "erased")
	got, done, err := x.readAll(t, telemetry.ReadRequest{Device: "B2"})
	if err != nil || len(got) != 4 || done.Unreadable != 0 {
		t.Errorf("the survivor after the restore: %v, %+v, %v", got, done, err)
	}
	if len(x.list(t)) != 0 || len(x.records(t, telemetry.RecordHoldLost)) != 1 {
		t.Error("a hold that was released since has come back")
	}
	// The backup still says whose the erased readings were: the erasers run again.
	erasers := []telemetry.Eraser{{Name: "counts", Erase: func(ctx context.Context, s core.Subject) error {
		return x.store.Update(ctx, func(tx *store.Tx) error { return tx.ForgetCounts(ctx, s) })
	}}, {Name: "ownership", Erase: func(ctx context.Context, s core.Subject) error {
		return x.store.Update(ctx, func(tx *store.Tx) error {
			if o, err := tx.OwnershipOf(ctx, s); err != nil || o == nil {
				return err
			}
			return tx.DeleteOwnership(ctx, s)
		})
	}}}
	// One whom only a row that waits still names, and one whose erasure the
	// backup knows.
	only, known := core.Subject{0xA1}, core.Subject{0xA2}
	must(t, x.store.Update(t.Context(), func(tx *store.Tx) error {
		return tx.InsertErasure(t.Context(), telemetry.ErasureRow{Subject: known, Actor: staff, Requested: x.clock(), State: telemetry.ErasureDone})
	}))
	again := telemetry.EraseAgainDeps{
		Waiting: func(context.Context) ([]core.Subject, error) { return []core.Subject{only, gone, known, only}, nil },
		Update:  inUpdate[telemetry.EraseAgainTx](x.store), View: inView[telemetry.EraseAgainTx](x.store),
		Has: x.ring.Has, Erasers: erasers, Now: x.clock,
	}
	if n, err := telemetry.EraseAgain(t.Context(), again); err != nil || n != 2 {
		t.Errorf("erased again: %d, %v", n, err)
	}
	_, _, err = x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	wantReason(t, "read of the erased at last", err, core.Unknown, "unowned")
	if r := x.records(t, telemetry.RecordErasedAgain); len(r) != 2 || r[0].Subject != gone || r[1].Subject != only || fact(r[0], "erasers") != "key,counts,ownership" {
		t.Errorf("records %+v", r)
	}
	// What is counted of them from now on is nobody's.
	for _, s := range []core.Subject{gone, only} {
		must(t, x.store.Update(t.Context(), func(tx *store.Tx) error {
			if err := tx.AddSubjectCounts(t.Context(), []telemetry.SubjectCount{{Subject: s, Product: "aria-thermostat", Stored: 1}}); err != nil {
				return err
			}
			of, err := tx.SubjectCount(t.Context(), s)
			if len(of) != 0 {
				t.Errorf("%s is counted again: %+v", s, of)
			}
			return err
		}))
	}
	if n, err := telemetry.EraseAgain(t.Context(), again); err != nil || n != 0 {
		t.Errorf("once more: %d, %v", n, err)
	}

	// The keyring of the day, had somebody kept it, does not open beside the
	// root of now; and a backup of now refuses it by its generation.
	for _, part := range []string{"a", "b"} {
		must(t, os.Chmod(filepath.Join(old, part), 0o700))
		must(t, os.Chmod(filepath.Join(old, part, "keyring"), 0o600))
	}
	_, err = seal.Open(t.Context(), seal.Options{
		Copies: []string{filepath.Join(old, "a", "keyring"), filepath.Join(old, "b", "keyring")}, Roots: x.roots, Now: x.clock,
	})
	wantReason(t, "the keyring of the day with the root of now", err, core.Unready, "root-missing")
	if !strings.Contains(err.Error(), "generation 1") || !strings.Contains(err.Error(), "generation 3") {
		t.Errorf("the refusal does not name the generations: %v", err)
	}
}
