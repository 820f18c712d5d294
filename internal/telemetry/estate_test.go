package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const thermostat = `
declaration: 1
product: thermostat
name: Thermostat
version: %d
risk: {purpose: comfort, harm: low, exposure: home}
audience: general
data:
  temperature: {stream: climate, type: number, unit: Cel, range: [-40, 85], precision: 0.1, class: personal, purposes: [service.control, service.history], keep: 30d, readers: %s, when_done: shred}
  heating: {stream: climate, type: boolean, class: personal, purposes: [service.control], keep: 7d, readers: [owner, support], when_done: shred}
  note: {stream: climate, type: string, max_length: 100, class: personal, purposes: [service.history], keep: 30d, readers: [owner], when_done: shred}
streams:
  climate: {every: 60s, burst: 10, max_bytes: 512}
interfaces: [{name: gateway, protocol: mqtts, direction: out, auth: device-certificate}]
network: {talks_to: [{service: gateway}], wifi: [wpa2, wpa3]}
updates: {automatic: true, check_every: 6h, deadline: {critical: 3d, high: 14d}}
support: {security_updates_until: 2032-12-31, afterwards: "Heats by its dial."}
contacts: {security: security@northwind.example, help: help@northwind.example}
`

func policy(t testing.TB, version int, readers string) *declaration.Policy {
	t.Helper()
	d, err := declaration.Parse("thermostat.yaml", fmt.Appendf(nil, thermostat, version, readers))
	if err != nil {
		t.Fatal(err)
	}
	p, err := declaration.Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// estate is a whole installation without its network: real databases, keyring
// and roots in a folder.
type estate struct {
	dir   string
	data  string
	now   atomic.Int64 // Unix milliseconds
	store *store.Store
	dsn   string // "": readings lie in files
	shelves
	shelf *telemetry.Shelf
	roots *kms.File
	ring  *seal.Keyring
	decl  *declaration.Service

	counter  uint64
	settled  int
	unsettle error

	read  *telemetry.ReadService
	holds *telemetry.HoldService
	erase *telemetry.EraseService
}

var staff = core.Actor{Kind: core.ActorStaff, ID: "os:ada(1000)"}

const reason = "ticket 4711: it is cold"

func newEstate(t testing.TB) *estate {
	t.Helper()
	x := &estate{dir: t.TempDir(), dsn: database(t)}
	x.data = filepath.Join(x.dir, "data")
	x.now.Store(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).UnixMilli())
	x.open(t, nil)
	must(t, x.decl.Publish(t.Context(), staff, policy(t, 1, "[owner, support]")))
	return x
}

func (x *estate) clock() time.Time { return time.UnixMilli(x.now.Load()).UTC() }

// open opens everything. step may end the world between the steps of holds and
// erasures.
func (x *estate) open(t testing.TB, step func(string) error) {
	t.Helper()
	ctx := t.Context()
	var err error
	x.roots, err = kms.OpenFile(kms.FileOptions{Dir: filepath.Join(x.dir, "root"), ApartFrom: []string{x.data}})
	must(t, err)
	o := seal.Options{
		Copies: []string{filepath.Join(x.dir, "a", "keyring"), filepath.Join(x.dir, "b", "keyring")}, Roots: x.roots, Now: x.clock,
	}
	x.ring, err = seal.Open(ctx, o)
	if core.ReasonOf(err) == "no-keyring" {
		x.ring, err = seal.Create(ctx, o)
	}
	must(t, err)
	x.store, err = store.Open(ctx, store.Options{Dir: x.data})
	must(t, err)
	must(t, x.store.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.Installation(ctx); err == nil {
			return nil
		}
		return tx.PutInstallation(ctx, store.Installation{ID: "test", Environment: core.Test, Created: x.clock()})
	}))
	x.shelves = openShelves(t, x.dsn, x.data, x.clock)
	x.shelf, err = telemetry.NewShelf(x.files, x.late)
	must(t, err)
	x.decl, err = declaration.NewService(declaration.Deps{
		Update: inUpdate[declaration.Tx](x.store), View: inView[declaration.Tx](x.store), Now: x.clock, Environment: core.Test,
	})
	must(t, err)
	x.read, err = telemetry.NewReadService(telemetry.ReadDeps{
		Update: inUpdate[telemetry.ReadTx](x.store), Partitions: x.shelf, Keys: x.ring, Owner: x.owner,
		Policies: x.decl.Versions, Settle: x.settle, Now: x.clock, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	x.holds, err = telemetry.NewHoldService(telemetry.HoldDeps{
		Update: inUpdate[telemetry.HoldTx](x.store), View: inView[telemetry.HoldTx](x.store), Partitions: x.shelf, Files: x.kept,
		Keys: x.ring, Owner: x.owner, Now: x.clock, Log: slog.New(slog.DiscardHandler),
	}.WithStep(step))
	must(t, err)
	x.erase, err = telemetry.NewEraseService(telemetry.EraseDeps{
		Update: inUpdate[telemetry.EraseTx](x.store), View: inView[telemetry.EraseTx](x.store), Keys: x.ring, Holds: x.holds, Owner: x.owner,
		Settle: x.settle, Now: x.clock, Log: slog.New(slog.DiscardHandler),
		Erasers: []telemetry.Eraser{
			{Name: "ownership", Erase: func(ctx context.Context, s core.Subject) error {
				return x.store.Update(ctx, func(tx *store.Tx) error {
					if own, err := tx.OwnershipOf(ctx, s); err != nil || own == nil {
						return err
					}
					return tx.DeleteOwnership(ctx, s)
				})
			}},
			{Name: "counts", Erase: func(ctx context.Context, s core.Subject) error {
				return x.store.Update(ctx, func(tx *store.Tx) error { return tx.ForgetCounts(ctx, s) })
			}},
		},
	}.WithStep(step))
	must(t, err)
	t.Cleanup(func() { x.close() })
}

// close is what a kill leaves: nothing is finished.
func (x *estate) close() {
	if x.ring != nil {
		_ = x.shelves.close()
		_ = x.store.Close()
		_ = x.ring.Close()
		x.ring = nil
	}
}

func (x *estate) settle(context.Context) error {
	x.settled++
	return x.unsettle
}

func (x *estate) owner(ctx context.Context, id core.DeviceID) (telemetry.Owned, error) {
	var o telemetry.Owned
	err := x.store.View(ctx, func(tx *store.Tx) error {
		d, err := tx.Device(ctx, id)
		if err != nil {
			return err
		}
		o.Product = d.Product
		own, err := tx.Ownership(ctx, id)
		if own != nil {
			o.Subject, o.Since = own.Subject, own.Opened
		}
		return err
	})
	return o, err
}

// device registers a unit with an owner.
func (x *estate) device(t testing.TB, id core.DeviceID) core.Subject {
	t.Helper()
	var s core.Subject
	copy(s[:], "subject of "+string(id))
	must(t, x.ring.AddSubject(t.Context(), s))
	d := identity.DeviceRow{ID: id, Product: "thermostat", Added: x.clock(), Revision: 1}
	copy(d.Unit[:], "unit of "+string(id))
	must(t, x.store.Update(t.Context(), func(tx *store.Tx) error {
		if err := tx.InsertDevice(t.Context(), d); err != nil {
			return err
		}
		return tx.InsertOwnership(t.Context(), identity.OwnershipRow{Subject: s, Device: id, Actor: staff, Opened: x.clock(), Done: true})
	}))
	return s
}

// sender is the certificate that all readings of an estate come in on.
var sender = telemetry.Sender{15: 1}

// reading is what a device sent, as it is filed: its values by group.
type reading struct {
	subject core.Subject
	at      time.Time
	seq     uint64
	policy  *declaration.Policy
	values  map[string]any
}

// rows seals a reading and gives its rows.
func (x *estate) rows(t testing.TB, r reading) []telemetry.Row {
	t.Helper()
	x.counter++
	base := telemetry.Reading{
		Product: "thermostat", Subject: r.subject, Stream: "climate", Policy: r.policy.Hash,
		T: r.at.UnixMilli(), Received: r.at.UnixMilli() + 40, HasSeq: r.seq > 0, Boot: 1, Seq: r.seq, Gateway: [8]byte{1}, Counter: x.counter,
	}
	if r.seq == 0 {
		base.Boot = 0
	}
	var out []telemetry.Row
	for g, group := range r.policy.Groups {
		plain := []byte{'{'}
		for _, i := range group.Fields {
			v, ok := r.values[r.policy.Fields[i].Name]
			if !ok {
				continue
			}
			b, err := json.Marshal(v)
			must(t, err)
			if len(plain) > 1 {
				plain = append(plain, ',')
			}
			plain = fmt.Appendf(plain, "%q:%s", r.policy.Fields[i].Name, b)
		}
		if len(plain) == 1 {
			continue
		}
		plain = append(plain, '}')
		row := telemetry.Row{Reading: base, Place: telemetry.Place{Journal: "j", Seq: x.counter}}
		row.Part = telemetry.Part{Epoch: core.EpochAt(group.Keep, declaration.EpochLength(group.Keep), r.at), Group: uint8(g)}
		must(t, x.ring.EnsureEpoch(t.Context(), row.Part.Epoch))
		key, err := x.ring.Lease(r.subject, row.Part.Epoch)
		must(t, err)
		row.Part.Sealed, err = key.Seal(nil, telemetry.AppendPlain(nil, sender, plain), telemetry.AppendAAD(nil, &row.Reading, &row.Part))
		must(t, err)
		out = append(out, row)
	}
	return out
}

// file puts rows into their epoch files, as the projector does.
func (x *estate) file(t testing.TB, rows ...telemetry.Row) {
	t.Helper()
	byEpoch := map[core.Epoch][]telemetry.Row{}
	for _, r := range rows {
		byEpoch[r.Part.Epoch] = append(byEpoch[r.Part.Epoch], r)
	}
	for e, rs := range byEpoch {
		a := &telemetry.Append{Rows: rs, Fate: make([]telemetry.Fate, len(rs)), Mark: telemetry.Mark{Journal: "j", Seq: x.counter}}
		head, err := x.files.Append(t.Context(), e, a)
		must(t, err)
		must(t, x.files.Sync(t.Context(), []core.Epoch{e}))
		must(t, x.store.Update(t.Context(), func(tx *store.Tx) error { return tx.PutEpochHead(t.Context(), e, head, x.clock()) }))
	}
}

// send files one reading.
func (x *estate) send(t testing.TB, s core.Subject, ago time.Duration, seq uint64, values map[string]any) {
	t.Helper()
	p, err := x.decl.Current(t.Context(), "thermostat")
	must(t, err)
	x.file(t, x.rows(t, reading{subject: s, at: x.clock().Add(-ago), seq: seq, policy: p, values: values})...)
}

// readAll reads a device as support does and gives each line as text.
func (x *estate) readAll(t testing.TB, q telemetry.ReadRequest) ([]string, telemetry.ReadDone, error) {
	t.Helper()
	if q.Reason == "" {
		q.Reason = reason
	}
	if q.Role == "" {
		q.Role = "support"
	}
	if q.Purpose == "" {
		q.Purpose = "service.control"
	}
	var out []string
	done, err := x.read.Read(t.Context(), staff, q, func(r *telemetry.OpenReading) error {
		if r.Sender != sender {
			t.Errorf("reading %d says that %x sent it", r.Seq, r.Sender)
		}
		out = append(out, fmt.Sprintf("%d %s", r.Seq, r.Values))
		return nil
	})
	return out, done, err
}

// records are the ledger's records of these kinds, in order.
func (x *estate) records(t testing.TB, kinds ...core.RecordKind) []core.Record {
	t.Helper()
	var out []core.Record
	must(t, x.store.View(t.Context(), func(tx *store.Tx) error {
		rows, err := tx.LedgerPending(t.Context(), 10_000)
		for _, row := range rows {
			r, err := ledger.ParseLeaf(row.Leaf)
			if err != nil {
				return err
			}
			for _, k := range kinds {
				if r.Kind == k {
					out = append(out, r)
				}
			}
		}
		return err
	}))
	return out
}

func fact(r core.Record, name string) string {
	for _, f := range r.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// found counts how often needle stands in any file below dir.
func found(t testing.TB, dir, needle string) (n int) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		n += bytes.Count(b, []byte(needle))
		return err
	}))
	return n
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantReason(t testing.TB, what string, err error, kind core.Kind, reason string) {
	t.Helper()
	if err == nil || core.KindOf(err) != kind || core.ReasonOf(err) != reason {
		t.Errorf("%s: got %v (%v, %q), want %v, %q", what, err, core.KindOf(err), core.ReasonOf(err), kind, reason)
	}
}

func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}
