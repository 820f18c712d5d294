package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// copyDisk copies every file below a folder, as somebody does who takes the
// disk of a running server.
func copyDisk(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular(): // the socket
			return nil
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, os.WriteFile(filepath.Join(to, rel), b, 0o600))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// thief is somebody who opens what he has with the program's own code.
type thief struct {
	t   *testing.T
	dir string
	n   int
	now func() time.Time
}

// opens puts a data folder, a copy of the keyring and a folder of roots
// together, and counts what opens of each subject, by where it lies. An empty
// answer: the keyring does not open.
func (x *thief) opens(data, keyring, roots string) map[string]map[core.Subject]int {
	t, ctx := x.t, x.t.Context()
	t.Helper()
	x.n++
	home := filepath.Join(x.dir, fmt.Sprint("try-", x.n))
	copyDisk(t, data, filepath.Join(home, "data"))
	copyDisk(t, roots, filepath.Join(home, "roots"))
	var copies []string
	for _, c := range []string{"a", "b"} {
		copyDisk(t, keyring, filepath.Join(home, c))
		copies = append(copies, filepath.Join(home, c, "keyring"))
	}
	no := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rootKeys, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(home, "roots")})
	no(err)
	k, err := seal.Open(ctx, seal.Options{Copies: copies, Roots: rootKeys, Now: x.now})
	if err != nil {
		return nil
	}
	defer func() { _ = k.Close() }() // a copy

	out := map[string]map[core.Subject]int{}
	opened := func(place string, s core.Subject) {
		if out[place] == nil {
			out[place] = map[core.Subject]int{}
		}
		out[place][s]++
	}
	part := func(place string, r *telemetry.Reading, p *telemetry.Part) error {
		key, err := k.Lease(r.Subject, p.Epoch)
		if err != nil {
			return nil
		}
		if _, err := key.Open(nil, p.Sealed, telemetry.AppendAAD(nil, r, p)); err == nil {
			opened(place, r.Subject)
		}
		return nil
	}

	fo := store.EpochFilesOptions{Dir: filepath.Join(home, "data", "telemetry"), Now: x.now}
	files, err := store.OpenEpochFiles(fo)
	no(err)
	defer func() { _ = files.Close() }()
	epochs, err := files.List(ctx)
	no(err)
	for _, e := range epochs {
		no(files.Audit(ctx, e, telemetry.AuditVisitor{
			Head: func(telemetry.Head) error { return nil }, Batch: func(*telemetry.Batch) error { return nil },
			Fault: func(detail string) error { return errors.New(detail) },
			Row:   func(r *telemetry.Row) error { return part("epoch files", &r.Reading, &r.Part) },
		}))
	}
	late, err := store.OpenLateLane(ctx, fo)
	no(err)
	defer func() { _ = late.Close() }()
	waiting, err := late.Waiting(ctx)
	no(err)
	for _, w := range waiting {
		no(late.Take(ctx, w.Epoch, 0, math.MaxInt32, func(_ uint64, r *telemetry.Row) error { return part("late lane", &r.Reading, &r.Part) }))
	}

	j, err := journal.Open(ctx, journal.Options{Dir: filepath.Join(home, "data", "journal"), Now: x.now, MinFreeBytes: -1})
	no(err)
	defer func() { _ = j.Close(context.Background()) }()
	r := j.Reader(0)
	defer r.Close()
	for at := uint64(0); at < j.Durable(); {
		b, err := r.Next(ctx)
		no(err)
		at = b.Seq
		for _, rec := range b.Records {
			var reading telemetry.Reading
			var refusal telemetry.Refusal
			kind, err := telemetry.DecodeRecord(rec, &reading, &refusal)
			no(err)
			if kind == telemetry.RecordReading {
				for i := range reading.Parts {
					no(part("journal", &reading, &reading.Parts[i]))
				}
			}
		}
	}

	st, err := store.Open(ctx, store.Options{Dir: filepath.Join(home, "data")})
	no(err)
	defer func() { _ = st.Close() }()
	no(st.View(ctx, func(tx *store.Tx) error {
		entries, err := tx.LedgerEntries(ctx, 0, 10_000)
		if err != nil {
			return err
		}
		pending, err := tx.LedgerPending(ctx, 10_000)
		if err != nil {
			return err
		}
		var leaves [][]byte
		for _, e := range entries {
			leaves = append(leaves, e.Leaf)
		}
		for _, e := range pending {
			leaves = append(leaves, e.Leaf)
		}
		for _, leaf := range leaves {
			rec, err := ledger.ParseLeaf(leaf)
			if err != nil {
				return err
			}
			if _, err := k.OpenValue(rec.Subject, "read-session", rec.Sealed); err == nil {
				opened("ledger", rec.Subject)
			}
		}
		policies, err := tx.Declarations(ctx, "test-sensor")
		if err != nil {
			return err
		}
		for _, p := range policies {
			_, names, err := tx.Undeclared(ctx, p.Hash)
			if err != nil {
				return err
			}
			for _, n := range names {
				if _, err := n.Name.Open(k, n.Subject, "undeclared-name"); err == nil {
					opened("undeclared names", n.Subject)
				}
			}
		}
		return nil
	}))
	return out
}

// TestAttackerWithTheWholeDisk (CC 4.8, 2.9) plays somebody who copied the whole
// disk's DATA and the keyring before an erasure, and took the whole disk after
// it, with every key that is left: epoch files with their logs, late lane,
// journal, control database with the ledger. He puts old and new together in
// every way. With the root of the day he opens all of it; after the erasure,
// nothing of the erased anywhere, and everything of who stays.
func TestAttackerWithTheWholeDisk(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Test, "")
	const away = 8 * 24 * time.Hour // both come back after a week, so that something waits in the late lane
	l := start(t, home)
	l.publish(t, testDeclaration)
	ids := []core.DeviceID{"A-gone", "A-stays"}
	units, subjects := map[core.DeviceID]*unit{}, map[core.DeviceID]core.Subject{}
	for _, id := range ids {
		units[id] = l.enrol(t, id)
		var shown api.Device
		l.call(t, "GET", "/v1/devices/"+string(id), nil, &shown)
		s, err := core.ParseSubject(shown.Subject)
		if err != nil {
			t.Fatal(err)
		}
		subjects[id] = s
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(away) }
	l = startAt(t, home, home, now)
	const canary = "canary-9a41-the-erased"
	for _, id := range ids {
		c := dialMQTT(t, l, units[id])
		c.publish(t, "telemetry/climate", fmt.Sprintf(`{"temp":20.5,"note":%q,"secret":7,"stray_of_%s":1}`, canary, id[2:]))
		for day := range 7 {
			at := now().Add(-away + time.Duration(day)*24*time.Hour + time.Hour)
			c.publish(t, "telemetry/climate", fmt.Sprintf(`{"t":%d,"temp":19.5,"note":%q}`, at.UnixMilli(), canary))
		}
		c.close(t)
		if lines, err := l.readAll(t, id); err != nil || len(lines) == 0 { // leaves a sealed part in the ledger
			t.Fatalf("%s: %d readings, %v", id, len(lines), err)
		}
	}
	gone, stays := subjects[ids[0]], subjects[ids[1]]
	places := []string{"epoch files", "late lane", "journal", "ledger", "undeclared names"}
	x := &thief{t: t, dir: t.TempDir(), now: now}
	loot := t.TempDir()
	take := func(what string) string {
		to := filepath.Join(loot, what)
		copyDisk(t, home, to)
		return to
	}

	// The names go to the database within some seconds: he takes the disk then,
	// while readings still wait.
	var before string
	var got map[string]map[core.Subject]int
	waitFor(t, 60*time.Second, "everything lies where he looks for it", func() bool {
		before = take(fmt.Sprint("before-", time.Now().UnixNano()))
		got = x.opens(before+"/data", before+"/keys/keyring-a", before+"/keys/roots")
		for _, p := range places {
			if got[p][gone] == 0 || got[p][stays] == 0 {
				return false
			}
		}
		return true
	})
	t.Logf("before the erasure, with the root of the day: %v", got)
	wal, err := filepath.Glob(before + "/data/telemetry/*/*.db-wal")
	if err != nil || len(wal) == 0 {
		t.Errorf("no logs of epoch files were taken (%v): they are not looked at", err)
	}
	roots, err := filepath.Glob(before + "/keys/roots/*")
	if err != nil || len(roots) == 0 {
		t.Fatalf("roots %v, %v", roots, err)
	}
	var oldRoots [][]byte
	for _, f := range roots {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(b); n >= 64 {
			oldRoots = append(oldRoots, b[n-64:n-32]) // it stands before its digest
		}
	}
	if err := os.RemoveAll(before + "/keys/roots"); err != nil { // roots lie apart, and in no backup
		t.Fatal(err)
	}

	l.call(t, "POST", "/v1/devices/A-gone/erase", api.ReasonRequest{Reason: "owner asked"}, nil)
	after := take("after")
	stopped := func() string {
		if err := l.stop(); err != nil {
			t.Fatal(err)
		}
		return take("stopped")
	}()
	disks := []string{before, after, stopped}
	survivors := map[string]int{}
	for _, data := range disks {
		for _, keys := range disks {
			for _, ring := range []string{"keyring-a", "keyring-b"} {
				for _, root := range []string{after, stopped} {
					got := x.opens(data+"/data", keys+"/keys/"+ring, root+"/keys/roots")
					for p, by := range got {
						if by[gone] != 0 {
							t.Errorf("data of %s, %s of %s: %d of the erased open in the %s", filepath.Base(data), ring, filepath.Base(keys), by[gone], p)
						}
						survivors[p] += by[stays]
					}
				}
			}
		}
	}
	t.Logf("after it: %v of who stays", survivors)
	for _, p := range places {
		if survivors[p] == 0 {
			t.Errorf("%s: nothing opened of who stays either: the attack became blind", p)
		}
	}

	// No root of that day is anywhere in what he has, in any form that he could
	// cut out, and no value is in clear.
	needles := map[string][]byte{"a value": []byte(canary)}
	for i, r := range oldRoots {
		needles[fmt.Sprint("root ", i, " of the day")] = r
	}
	for _, disk := range disks {
		all := below(t, disk)
		for what, needle := range needles {
			if n := bytes.Count(all, needle); n != 0 {
				t.Errorf("%s stands %d times in %s", what, n, filepath.Base(disk))
			}
		}
	}
	planted := filepath.Join(loot, "planted")
	if err := os.WriteFile(planted, []byte(strings.Join([]string{"x", canary, string(oldRoots[0]), "x"}, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, needle := range needles {
		if strings.HasSuffix(what, "of the day") && !bytes.Equal(needle, oldRoots[0]) {
			continue
		}
		if !bytes.Contains(below(t, loot), needle) {
			t.Errorf("the search does not find %s where it was put", what)
		}
	}
}
