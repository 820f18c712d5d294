package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// storedRow is one row of the twin's epoch files, and where it lies.
type storedRow struct {
	db  string // below Data
	e   core.Epoch
	row telemetry.Row
}

// oneRow finds a row whose reading holds a field.
func (t *twin) oneRow(ctx context.Context, field string) (*storedRow, error) {
	epochs, err := t.s.telem.files.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range epochs {
		var out *storedRow
		err := t.s.telem.files.Audit(ctx, e, telemetry.AuditVisitor{
			Head: func(telemetry.Head) error { return nil }, Batch: func(*telemetry.Batch) error { return nil }, Fault: func(string) error { return nil },
			Row: func(r *telemetry.Row) error {
				object, _, err := t.open(e, r)
				if err != nil || !strings.Contains(string(object), `"`+field+`"`) {
					return nil // erased, or of other fields
				}
				kept := *r
				kept.Part.Sealed = append([]byte(nil), r.Part.Sealed...)
				out = &storedRow{db: "telemetry/" + e.String() + ".db", e: e, row: kept}
				return errEnough
			},
		})
		if out != nil {
			return out, nil
		}
		if err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the twin has stored no reading with %s", field)
}

// open is what a row holds, and who sent it.
func (t *twin) open(e core.Epoch, r *telemetry.Row) (object []byte, sender telemetry.Sender, err error) {
	key, err := t.s.ring.Lease(r.Reading.Subject, e)
	if err != nil {
		return nil, sender, err
	}
	plain, err := key.Open(nil, r.Part.Sealed, telemetry.AppendAAD(nil, &r.Reading, &r.Part))
	if err != nil {
		return nil, sender, err
	}
	sender, object, err = telemetry.CutPlain(plain)
	return object, sender, err
}

func (t *twin) put(ctx context.Context, r *storedRow, sealed []byte) (func(context.Context) error, error) {
	const set = `UPDATE rows SET sealed = ? WHERE id = ?`
	return func(ctx context.Context) error { return t.Exec(ctx, r.db, set, r.row.Part.Sealed, r.row.ID) }, t.Exec(ctx, r.db, set, sealed, r.row.ID)
}

// reseal changes what a stored reading holds, with the twin's own keys.
func reseal(change func(object []byte) []byte) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(ctx context.Context, ct check.Twin) (func(context.Context) error, error) {
		t := ct.(*twin)
		r, err := t.oneRow(ctx, "latitude")
		if err != nil {
			return nil, err
		}
		object, sender, err := t.open(r.e, &r.row)
		if err != nil {
			return nil, err
		}
		key, err := t.s.ring.Lease(r.row.Reading.Subject, r.e)
		if err != nil {
			return nil, err
		}
		sealed, err := key.Seal(nil, telemetry.AppendPlain(nil, sender, change(object)), telemetry.AppendAAD(nil, &r.row.Reading, &r.row.Part))
		if err != nil {
			return nil, err
		}
		return t.put(ctx, r, sealed)
	}
}

func editRow(change func([]byte) []byte) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(ctx context.Context, ct check.Twin) (func(context.Context) error, error) {
		t := ct.(*twin)
		r, err := t.oneRow(ctx, "temp")
		if err != nil {
			return nil, err
		}
		return t.put(ctx, r, change(r.row.Part.Sealed))
	}
}

func removeRow(ctx context.Context, ct check.Twin) (func(context.Context) error, error) {
	t := ct.(*twin)
	r, err := t.oneRow(ctx, "temp")
	if err != nil {
		return nil, err
	}
	const aside = `CREATE TABLE aside AS SELECT * FROM rows WHERE id = ?`
	if err := t.Exec(ctx, r.db, aside, r.row.ID); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return t.Exec(ctx, r.db, `INSERT INTO rows SELECT * FROM aside; DROP TABLE aside`)
	}, t.Exec(ctx, r.db, `DELETE FROM rows WHERE id = ?`, r.row.ID)
}

func copyKeyring(_ context.Context, ct check.Twin) (func(context.Context) error, error) {
	t := ct.(*twin)
	b, err := os.ReadFile(t.s.c.Keyring[0])
	if err != nil {
		return nil, err
	}
	to := filepath.Join(t.Data(), "telemetry", "copy")
	t.Touch("file", "data/telemetry/copy")
	return func(context.Context) error { return os.Remove(to) }, os.WriteFile(to, b, 0o600)
}

func openKey(_ context.Context, ct check.Twin) (func(context.Context) error, error) {
	t := ct.(*twin)
	t.Touch("file", "ledger.key")
	return func(context.Context) error { return os.Chmod(t.s.c.LedgerKey, 0o600) }, os.Chmod(t.s.c.LedgerKey, 0o644)
}

// putBack puts a copy of a file under the name of an epoch that is long over.
// The job would remove it within a minute, and says so: it is held meanwhile.
func putBack(ctx context.Context, ct check.Twin) (func(context.Context) error, error) {
	t := ct.(*twin)
	r, err := t.oneRow(ctx, "temp")
	if err != nil {
		return nil, err
	}
	release, err := t.Hook("job:expiry")
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(t.Data(), r.db))
	if err != nil {
		return nil, err
	}
	to := filepath.Join(t.Data(), filepath.Dir(r.db), "20200101T000000Z.db")
	t.Touch("file", "data/"+filepath.Dir(r.db)+"/20200101T000000Z.db")
	return func(context.Context) error {
		err := os.Remove(to)
		release()
		return err
	}, os.WriteFile(to, b, 0o600)
}

// editDeclaration replaces a text in the stored declaration.
func editDeclaration(was, is string) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
		var before []byte
		if err := t.Query(ctx, "control.db", `SELECT canonical FROM declaration WHERE product = ?`, []any{string(check.TwinProduct)}, &before); err != nil {
			return nil, fmt.Errorf("find the declaration: %w", err)
		}
		const set = `UPDATE declaration SET canonical = ? WHERE product = ?`
		after := strings.ReplaceAll(string(before), was, is)
		return func(ctx context.Context) error {
				return t.Exec(ctx, "control.db", set, before, string(check.TwinProduct))
			},
			t.Exec(ctx, "control.db", set, []byte(after), string(check.TwinProduct))
	}
}
