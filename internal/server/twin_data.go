package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// fillData gives the twin somebody who was erased, a read session, and rows
// that the ledger vouches for. Everything goes through its doors.
func (t *twin) fillData(ctx, run context.Context) error {
	erased := core.DeviceID(fmt.Sprintf("TWIN-%d", twinDevices+1))
	if err := t.addDevice(ctx, run, erased); err != nil {
		return err
	}
	gone := t.units[len(t.units)-1]
	if err := t.Publish(ctx, gone, "climate", `{"temp":19.5,"latitude":48.11}`); err != nil {
		return err
	}
	if err := t.Call(ctx, "POST", "/v1/devices/"+string(erased)+"/erase", api.ReasonRequest{Reason: "its owner asked for it"}, nil); err != nil {
		return err
	}
	t.units = t.units[:len(t.units)-1] // it belongs to nobody now
	read := api.ReadRequest{Reason: "a trial reads back", Purpose: "service.control"}
	if err := t.client.Stream(ctx, "POST", "/v1/devices/"+string(t.units[0].ID)+"/read", read, func([]byte) error { return nil }); err != nil {
		return err
	}
	return t.vouched(ctx)
}

// vouched returns when the ledger has the roots of every row, signed.
func (t *twin) vouched(ctx context.Context) error {
	if err := t.s.settle(ctx); err != nil {
		return err
	}
	if err := t.s.telem.roots.SealMinute(ctx); err != nil {
		return err
	}
	if err := t.s.sequenced(ctx); err != nil {
		return err
	}
	_, err := t.s.ledger.Checkpoint(ctx)
	return err
}

// dataHook sets the faults of stored data that need the twin's own keys.
func (t *twin) dataHook(name string) (undo func(), err error) {
	ctx := context.Background()
	const day = 24 * time.Hour
	switch name {
	case "data:undeclared":
		return t.forge(ctx, "temp", 0, `{"temp":20.5,"wifi_ssid":"home"}`)
	case "data:keep":
		return t.forge(ctx, "latitude", 30*day, `{"latitude":52.1}`)
	case "data:fine":
		return t.forge(ctx, "latitude", 0, `{"latitude":52.3702157}`)
	case "data:range":
		return t.forge(ctx, "temp", 0, `{"temp":400}`)
	case "data:undeclared-row":
		return t.forgeRow(ctx, `{"temp":20.5,"wifi_ssid":"home"}`)
	}
	return nil, fmt.Errorf("a twin has no fault named %q", name)
}

// forge seals an object with the keys of a subject made for it, as a part of
// the group that field is in, and hands it to the journal, past the judge. keep
// is under which keep-time it is filed; 0: the declared one. It is taken back
// by destroying the key: nobody can open it any more.
func (t *twin) forge(ctx context.Context, field string, keep time.Duration, object string) (undo func(), err error) {
	p, err := t.s.decl.Current(ctx, check.TwinProduct)
	if err != nil {
		return nil, err
	}
	_, f := p.Field(field)
	if f == nil {
		return nil, fmt.Errorf("the twin declares no field %s", field)
	}
	if keep == 0 {
		keep = f.Keep
	}
	now := t.Now()
	r := telemetry.Reading{
		Product: p.Product, Stream: f.Stream, Policy: p.Hash, T: now.UnixMilli(), Received: now.UnixMilli(), Counter: 1,
		Parts: []telemetry.Part{{Epoch: core.EpochAt(keep, declaration.EpochLength(keep), now), Group: uint8(f.Group)}},
	}
	_, _ = rand.Read(r.Subject[:]) // never fails
	binary.BigEndian.PutUint64(r.Gateway[:], uint64(now.UnixNano()))
	if err := t.s.ring.AddSubject(ctx, r.Subject); err != nil {
		return nil, err
	}
	if err := t.s.ring.EnsureEpoch(ctx, r.Parts[0].Epoch); err != nil {
		return nil, err
	}
	key, err := t.s.ring.Lease(r.Subject, r.Parts[0].Epoch)
	if err != nil {
		return nil, err
	}
	part := &r.Parts[0]
	if part.Sealed, err = key.Seal(nil, telemetry.AppendPlain(nil, telemetry.Sender{}, []byte(object)), telemetry.AppendAAD(nil, &r, part)); err != nil {
		return nil, err
	}
	t.Touch("journal", "a reading that was not judged")
	var done committed
	if err := t.s.journal.Submit(telemetry.AppendReading(nil, &r), &done, 0); err != nil {
		return nil, err
	}
	if err := t.vouched(ctx); err != nil {
		return nil, err
	}
	if done.failed.Load() {
		return nil, errors.New("the journal did not take it")
	}
	return func() {
		_, _ = t.s.ring.Shred(ctx, seal.Order{Subjects: []core.Subject{r.Subject}}) // else the check stays red and says so
	}, nil
}

// committed hears whether the journal kept a record.
type committed struct{ failed atomic.Bool }

// Done notes the fate of the record.
func (c *committed) Done(_ uint64, err error) { c.failed.Store(err != nil) }

// fileRow is one row of an epoch file of the twin, and where it lies.
type fileRow struct {
	db  string // below Data
	row telemetry.Row
}

// firstRow is the first row of the twin's stored readings that holds a field
// and that somebody can open.
func (t *twin) firstRow(ctx context.Context, field string) (*fileRow, error) {
	epochs, err := t.s.telem.files.Names(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range epochs {
		var out *fileRow
		err := t.s.telem.files.Stretch(ctx, e, 1, 1<<40, func(r *telemetry.Row) error {
			plain, err := t.plain(r)
			if out != nil || err != nil || !strings.Contains(string(plain), `"`+field+`"`) {
				return nil // erased, or of other fields
			}
			out = &fileRow{db: telemetry.FileOf(int64(e.Keep/time.Second), e.Start), row: *r}
			out.row.Part.Sealed = slices.Clone(r.Part.Sealed)
			return nil
		})
		if out != nil || err != nil && core.KindOf(err) != core.Unknown {
			return out, err
		}
	}
	return nil, fmt.Errorf("the twin has stored no reading with %s", field)
}

// plain is what is sealed of a row.
func (t *twin) plain(r *telemetry.Row) ([]byte, error) {
	key, err := t.s.ring.Lease(r.Reading.Subject, r.Part.Epoch)
	if err != nil {
		return nil, err
	}
	return key.Open(nil, r.Part.Sealed, telemetry.AppendAAD(nil, &r.Reading, &r.Part))
}

// forgeRow writes a copy of a row with another object into its epoch file, past
// the projector, sealed under the same keys.
func (t *twin) forgeRow(ctx context.Context, object string) (undo func(), err error) {
	f, err := t.firstRow(ctx, "temp")
	if err != nil {
		return nil, err
	}
	key, err := t.s.ring.Lease(f.row.Reading.Subject, f.row.Part.Epoch)
	if err != nil {
		return nil, err
	}
	sealed, err := key.Seal(nil, telemetry.AppendPlain(nil, telemetry.Sender{}, []byte(object)), telemetry.AppendAAD(nil, &f.row.Reading, &f.row.Part))
	if err != nil {
		return nil, err
	}
	var last int64
	if err := t.Query(ctx, f.db, `SELECT max(id) FROM rows`, nil, &last); err != nil {
		return nil, err
	}
	err = t.Exec(ctx, f.db, `INSERT INTO rows (id, subject, lane, boot, seq, t, head, sealed)
		SELECT ?, subject, lane, boot, seq + ?, t, head, ? FROM rows WHERE id = ?`, last+1, telemetry.MaxIndex/2, sealed, f.row.ID)
	if err != nil {
		return nil, err
	}
	return func() { _ = t.Exec(ctx, f.db, `DELETE FROM rows WHERE id = ?`, last+1) }, nil // else the check stays red
}

// own gives a violation the twin itself: its paths, its keys.
func own(do func(context.Context, *twin) (func(context.Context) error, error)) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(ctx context.Context, ct check.Twin) (func(context.Context) error, error) {
		t, ok := ct.(*twin)
		if !ok {
			return nil, errors.New("this needs a twin of this program")
		}
		return do(ctx, t)
	}
}

// inData writes a file below the twin's data folder.
func (t *twin) inData(name string, content []byte) (func(context.Context) error, error) {
	path := filepath.Join(t.Data(), name)
	t.Touch("file", "data/"+name)
	return func(context.Context) error { return os.Remove(path) }, os.WriteFile(path, content, 0o600)
}

// flip changes one byte of a file, counted from its end.
func (t *twin) flip(path string, fromEnd int) (func(context.Context) error, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t.Touch("file", path)
	at := int64(len(b) - fromEnd)
	set := func(x byte) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte{x}, at)
		return errors.Join(err, f.Close())
	}
	return func(context.Context) error { return set(b[at]) }, set(b[at] ^ 1)
}

// editCanonical replaces a text in the twin's stored declaration.
func editCanonical(was, is string) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
		var before []byte
		if err := t.Query(ctx, "control.db", `SELECT canonical FROM declaration WHERE product = ?`, []any{string(check.TwinProduct)}, &before); err != nil {
			return nil, fmt.Errorf("find the declaration: %w", err)
		}
		after := strings.ReplaceAll(string(before), was, is)
		if after == string(before) {
			return nil, fmt.Errorf("the declaration does not say %s", was)
		}
		const set = `UPDATE declaration SET canonical = ? WHERE product = ?`
		return func(ctx context.Context) error {
			return t.Exec(ctx, "control.db", set, before, string(check.TwinProduct))
		}, t.Exec(ctx, "control.db", set, []byte(after), string(check.TwinProduct))
	}
}

// erasedSubject is whom the twin has erased.
func (t *twin) erasedSubject(ctx context.Context) (s core.Subject, err error) {
	err = t.s.store.View(ctx, func(tx *store.Tx) error {
		found, err := tx.LedgerFind(ctx, erasedRecords, 0, 1)
		if err == nil && len(found) == 0 {
			err = errors.New("the twin has erased nobody")
		}
		if err == nil {
			s = found[0].Subject
		}
		return err
	})
	return s, err
}
