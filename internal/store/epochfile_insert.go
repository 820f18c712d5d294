package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/hawser-iot/hawser/internal/telemetry"
)

// rowsAtOnce go into one statement: half of what inserting a row costs is the
// statement around it. After each, whoever else is ready to run goes first: a
// device waits for its acknowledgement, nobody waits for a row to be filed.
// Left alone, the scheduler lets a commit run on for 10 ms.
const rowsAtOnce = 32

const (
	insertInto = `INSERT INTO rows (id, subject, lane, boot, seq, t, head, sealed) VALUES `
	insertRow  = `(?, ?, ?, ?, ?, ?, ?, ?)`
	unlessHeld = ` ON CONFLICT (subject, lane, boot, seq) DO NOTHING`
)

// inserter inserts rows of one append.
type inserter struct {
	tx        *sql.Tx
	one, many *sql.Stmt // many is nil when there are too few rows for it
	rows      []telemetry.Row
	nums      []numbers
	base      int64 // of times in the file, Unix milliseconds
	args      []any
	heads     []byte
}

func (f *epochFile) inserter(ctx context.Context, tx *sql.Tx, rows []telemetry.Row, nums []numbers) (_ *inserter, err error) {
	in := &inserter{tx: tx, rows: rows, nums: nums, base: f.epoch.Start * 1000}
	if in.one, err = tx.PrepareContext(ctx, insertInto+insertRow+unlessHeld); err != nil {
		return nil, err
	}
	if len(rows) >= rowsAtOnce {
		all := strings.Repeat(insertRow+", ", rowsAtOnce-1) + insertRow
		if in.many, err = tx.PrepareContext(ctx, insertInto+all+unlessHeld); err != nil {
			in.close()
			return nil, err
		}
	}
	return in, nil
}

func (in *inserter) close() {
	_ = in.one.Close() // their transaction is over
	if in.many != nil {
		_ = in.many.Close()
	}
}

// add puts the arguments of row i in line and gives it the number id.
func (in *inserter) add(i int, id int64) {
	r, n := &in.rows[i], &in.nums[i]
	r.ID = id
	from := len(in.heads)
	in.heads = appendRowHead(in.heads, n, &r.Reading)
	in.args = append(in.args, id, n.subject, n.lane, n.boot, n.seq, r.Reading.T-in.base, in.heads[from:len(in.heads):len(in.heads)], r.Part.Sealed)
}

func (in *inserter) exec(ctx context.Context, stmt *sql.Stmt) (int64, error) {
	defer func() { in.args, in.heads = in.args[:0], in.heads[:0] }()
	res, err := stmt.ExecContext(ctx, in.args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// together inserts rows under the numbers from first on. It reports false, and
// has inserted none, when one of them is there already or they are too few.
func (in *inserter) together(ctx context.Context, rows []int, first int64) (bool, error) {
	if len(rows) != rowsAtOnce {
		return false, nil
	}
	for k, i := range rows {
		in.add(i, first+int64(k))
	}
	n, err := in.exec(ctx, in.many)
	if err != nil || n == rowsAtOnce {
		return err == nil, err
	}
	_, err = in.tx.ExecContext(ctx, `DELETE FROM rows WHERE id BETWEEN ? AND ?`, first, first+rowsAtOnce-1)
	return false, err
}

// alone inserts one row under the number id; false, and no number, when it is
// there already.
func (in *inserter) alone(ctx context.Context, i int, id int64) (bool, error) {
	in.add(i, id)
	n, err := in.exec(ctx, in.one)
	if err == nil && n == 0 {
		in.rows[i].ID = 0
	}
	return n == 1, err
}
