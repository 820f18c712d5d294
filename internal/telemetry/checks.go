package telemetry

import (
	"context"
	"fmt"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/seal"
)

// CheckDeps is what the checks of stored readings look at; all of it is
// required once they look.
type CheckDeps struct {
	Rows  Stretches
	Roots *Roots
	Keys  interface {
		Lease(core.Subject, core.Epoch) (*seal.Key, error)
	}
	// Policy is the stored declaration with a hash, of whatever version;
	// core.Unknown when there is none.
	Policy func(context.Context, core.Hash) (*declaration.Policy, error)
	// Sealed are the root entries of an epoch in the ledger, oldest first, and
	// SealedEpochs the epochs that have some.
	Sealed       func(context.Context, core.Epoch) ([]Sealed, error)
	SealedEpochs func(context.Context) ([]core.Epoch, error)
	View         func(context.Context, func(ProjectionTx) error) error
}

// Checks hold that what is stored is what was declared, and what was filed.
func Checks(d CheckDeps) []check.Check {
	declared := &sampler{d: d, fault: undeclaredIn}
	precise := &sampler{d: d, fault: outOfDeclared}
	filed := &filedRows{d: d}
	return []check.Check{
		{
			ID: "store.declared", Version: 1, Rows: []string{"1.2", "4.3", "5.11"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 1.2, 4.3, 5.11
			Says: "Every stored reading that is looked at opens, and holds no field but those that the declaration it was judged by has for its stream, group and keep-time.",
			Do:   "Find out who wrote the row: this program stores no undeclared field. `hawser device erase` makes what is there unreadable for ever.",
			Look: declared.look,
			Violations: []check.Violation{
				{ID: "past-the-judge", Says: "Hands the journal a reading that was sealed with the twin's own keys and not judged, with a field that nobody declared.", Do: hooked("data:undeclared")},
				{ID: "into-the-file", Says: "Writes a row with an undeclared field into an epoch file behind the program's back.", Do: hooked("data:undeclared-row")},
				{ID: "kept-too-long", Says: "Hands the journal a reading whose field is filed under a longer keep-time than declared.", Do: hooked("data:keep")},
			},
		},
		{
			ID: "store.precision", Version: 1, Rows: []string{"4.3"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 4.3
			Says: "Every stored value that is looked at is of its declared type, inside its declared range, and no finer than declared.",
			Do:   "Find out who wrote the row: this program rounds before it stores. `hawser device erase` makes what is there unreadable for ever.",
			Look: precise.look,
			Violations: []check.Violation{
				{ID: "too-fine", Says: "Hands the journal a reading with a place at seven decimals where two are declared.", Do: hooked("data:fine")},
				{ID: "out-of-range", Says: "Hands the journal a reading with a value outside of its declared range.", Do: hooked("data:range")},
			},
		},
		{
			ID: "store.rows", Version: 1, Rows: []string{"3.3"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 3.3
			Says: "Every stored row that is looked at is the one that was filed: none was changed, dropped, added or doubled since the ledger took note of it.",
			Do:   "`hawser ledger verify` names every row; keep the data folder for whoever investigates, and restore the file from a backup.",
			Look: filed.look,
			Violations: []check.Violation{
				{ID: "row-edited", Says: "Changes one byte of a stored row behind the program's back.", Do: editRow},
				{ID: "row-deleted", Says: "Deletes a stored row behind the program's back.", Do: deleteRow},
				{ID: "row-copied", Says: "Copies a stored row behind the program's back.", Do: copyRow},
			},
		},
	}
}

// Senders looks at stored rows as the other checks do, and asks about each who
// sent it: on whose certificate's session it came. It may be called by one look
// at a time.
type Senders struct{ s sampler }

// NewSenders makes a Senders; fault says what is wrong with a row, or why it is
// left out.
func NewSenders(d CheckDeps, fault func(r *Row, by Sender) (why, left string)) *Senders {
	return &Senders{sampler{d: d, sent: fault}}
}

// Look takes one look.
func (s *Senders) Look(ctx context.Context, l *check.Look) error { return s.s.look(ctx, l) }

// hooked is a violation that needs the twin's own keys.
func hooked(name string) func(context.Context, check.Twin) (func(context.Context) error, error) {
	return func(_ context.Context, t check.Twin) (func(context.Context) error, error) {
		undo, err := t.Hook(name)
		if err != nil {
			return nil, err
		}
		return func(context.Context) error { undo(); return nil }, nil
	}
}

// someFile is the epoch file of the twin that has the most rows, as a path
// below its data folder.
func someFile(ctx context.Context, t check.Twin) (string, error) {
	var keep, start int64
	err := t.Query(ctx, "control.db", `SELECT keep_s, start_s FROM telemetry_epoch WHERE state = 'live' ORDER BY rows DESC, keep_s LIMIT 1`, nil, &keep, &start)
	if err != nil {
		return "", fmt.Errorf("find an epoch file: %w", err)
	}
	return FileOf(keep, start), nil
}

const aRow = `SELECT id, subject, lane, boot, seq, t, head, sealed FROM rows ORDER BY id LIMIT 1 OFFSET 1`

// rowColumns are the columns of one row, as raw as they are.
type rowColumns struct {
	id, subject, lane, boot, seq, t int64
	head, sealed                    []byte
}

func takeRow(ctx context.Context, t check.Twin) (file string, r rowColumns, err error) {
	if file, err = someFile(ctx, t); err != nil {
		return "", r, err
	}
	if err = t.Query(ctx, file, aRow, nil, &r.id, &r.subject, &r.lane, &r.boot, &r.seq, &r.t, &r.head, &r.sealed); err != nil {
		return "", r, fmt.Errorf("find a row: %w", err)
	}
	return file, r, nil
}

func editRow(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	file, r, err := takeRow(ctx, t)
	if err != nil {
		return nil, err
	}
	changed := append([]byte(nil), r.sealed...)
	changed[len(changed)/2] ^= 1
	const stmt = `UPDATE rows SET sealed = ? WHERE id = ?`
	return func(ctx context.Context) error { return t.Exec(ctx, file, stmt, r.sealed, r.id) }, t.Exec(ctx, file, stmt, changed, r.id)
}

func deleteRow(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	file, r, err := takeRow(ctx, t)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return t.Exec(ctx, file, `INSERT INTO rows (id, subject, lane, boot, seq, t, head, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			r.id, r.subject, r.lane, r.boot, r.seq, r.t, r.head, r.sealed)
	}, t.Exec(ctx, file, `DELETE FROM rows WHERE id = ?`, r.id)
}

func copyRow(ctx context.Context, t check.Twin) (func(context.Context) error, error) {
	file, r, err := takeRow(ctx, t)
	if err != nil {
		return nil, err
	}
	var last int64
	if err := t.Query(ctx, file, `SELECT max(id) FROM rows`, nil, &last); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return t.Exec(ctx, file, `DELETE FROM rows WHERE id = ?`, last+1) },
		t.Exec(ctx, file, `INSERT INTO rows (id, subject, lane, boot, seq, t, head, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			last+1, r.subject, r.lane, r.boot, r.seq+MaxIndex/2, r.t, r.head, r.sealed)
}
