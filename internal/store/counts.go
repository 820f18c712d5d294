package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// erased are those of some subjects that are erased, or about to be. What the
// journal still held of them is counted after the erasers have run.
func (t *Tx) erased(ctx context.Context, n int, subject func(int) core.Subject) (map[core.Subject]bool, error) {
	asked := make(map[core.Subject]bool, n)
	var args []any
	out := map[core.Subject]bool{}
	look := func() error {
		err := each(ctx, t.tx, `SELECT subject FROM erasure WHERE subject IN (?`+strings.Repeat(", ?", len(args)-1)+`)`, args, func(scan scanner) error {
			var b []byte
			if err := scan(&b); err != nil {
				return err
			}
			var s core.Subject
			err := fill(s[:], b, "subject")
			out[s] = true
			return err
		})
		args = args[:0]
		return err
	}
	for i := range n {
		s := subject(i)
		if s.IsZero() || asked[s] {
			continue
		}
		asked[s] = true
		if args = append(args, s[:]); len(args) == 500 { // far below the engines' bounds
			if err := look(); err != nil {
				return nil, fmt.Errorf("look for the erased: %w", err)
			}
		}
	}
	if len(args) > 0 {
		if err := look(); err != nil {
			return nil, fmt.Errorf("look for the erased: %w", err)
		}
	}
	return out, nil
}

// AddCounts adds to the counts by minute and to the totals. What is of an
// erased subject counts as nobody's (CC 4.8).
func (t *Tx) AddCounts(ctx context.Context, counts []telemetry.Count) error {
	type total struct {
		product core.ProductID
		kind    telemetry.CountKind
		reason  telemetry.Reason
	}
	var order []total
	sums := map[total]uint64{}
	ctx = context.WithoutCancel(ctx) // many short statements
	erased, err := t.erased(ctx, len(counts), func(i int) core.Subject { return counts[i].Subject })
	if err != nil {
		return fmt.Errorf("add counts: %w", err)
	}
	err = t.many(ctx, `INSERT INTO telemetry_count (minute, product, subject, kind, reason, n) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (minute, product, subject, kind, reason) DO UPDATE SET n = telemetry_count.n + excluded.n`,
		len(counts), func(i int) []any {
			c := &counts[i]
			k := total{c.Product, c.Kind, c.Reason}
			if sums[k] == 0 {
				order = append(order, k)
			}
			sums[k] += c.N
			subject := c.Subject
			if erased[subject] {
				subject = core.Subject{}
			}
			return []any{int64(c.Minute), string(c.Product), someSubject(subject), string(c.Kind), string(c.Reason), int64(c.N)}
		})
	if err != nil {
		return fmt.Errorf("add counts: %w", err)
	}
	err = t.many(ctx, `INSERT INTO telemetry_total (product, kind, reason, n) VALUES (?, ?, ?, ?)
		ON CONFLICT (product, kind, reason) DO UPDATE SET n = telemetry_total.n + excluded.n`,
		len(order), func(i int) []any {
			k := order[i]
			return []any{string(k.product), string(k.kind), string(k.reason), int64(sums[k])}
		})
	if err != nil {
		return fmt.Errorf("add totals: %w", err)
	}
	return nil
}

// AddSubjectCounts adds to the running figures of subjects, but not of those
// who are erased (CC 4.8).
func (t *Tx) AddSubjectCounts(ctx context.Context, counts []telemetry.SubjectCount) error {
	ctx = context.WithoutCancel(ctx) // many short statements
	erased, err := t.erased(ctx, len(counts), func(i int) core.Subject { return counts[i].Subject })
	if err != nil {
		return fmt.Errorf("add counts of subjects: %w", err)
	}
	if len(erased) > 0 {
		counts = slices.DeleteFunc(slices.Clone(counts), func(c telemetry.SubjectCount) bool { return erased[c.Subject] })
	}
	err = t.manyAtOnce(ctx, `INSERT INTO telemetry_subject
			(subject, product, accepted, stored, duplicates, dropped_fields, refused, last_ms) VALUES `, `(?, ?, ?, ?, ?, ?, ?, ?)`, `
		ON CONFLICT (subject, product) DO UPDATE SET accepted = telemetry_subject.accepted + excluded.accepted,
			stored = telemetry_subject.stored + excluded.stored, duplicates = telemetry_subject.duplicates + excluded.duplicates,
			dropped_fields = telemetry_subject.dropped_fields + excluded.dropped_fields,
			refused = telemetry_subject.refused + excluded.refused,
			last_ms = CASE WHEN excluded.last_ms > telemetry_subject.last_ms THEN excluded.last_ms ELSE telemetry_subject.last_ms END`,
		len(counts), func(i int) []any {
			c := &counts[i]
			return []any{
				c.Subject[:], string(c.Product), int64(c.Accepted), int64(c.Stored), int64(c.Duplicates),
				int64(c.DroppedFields), int64(c.Refused), c.Last,
			}
		})
	if err != nil {
		return fmt.Errorf("add counts of subjects: %w", err)
	}
	return nil
}

// many runs one statement n times.
func (t *Tx) many(ctx context.Context, query string, n int, args func(int) []any) error {
	if n == 0 {
		return nil
	}
	stmt, err := t.tx.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }() // its transaction goes on without it
	for i := range n {
		if _, err := stmt.ExecContext(ctx, args(i)...); err != nil {
			return err
		}
	}
	return nil
}

// manyAtOnce runs one statement for n rows, rowsAtOnce to each run. No two of
// them may have the same key: an upsert of PostgreSQL touches a row only once.
func (t *Tx) manyAtOnce(ctx context.Context, into, row, then string, n int, args func(int) []any) error {
	full := n - n%rowsAtOnce
	var line []any
	err := t.many(ctx, into+strings.Repeat(row+", ", rowsAtOnce-1)+row+then, full/rowsAtOnce, func(i int) []any {
		line = line[:0]
		for k := range rowsAtOnce {
			line = append(line, args(i*rowsAtOnce+k)...)
		}
		return line
	})
	if err != nil {
		return err
	}
	return t.many(ctx, into+row+then, n-full, func(i int) []any { return args(full + i) })
}

// someSubject is empty for nobody: unlike NULL it is equal to itself, which a
// primary key needs.
func someSubject(s core.Subject) []byte {
	if s.IsZero() {
		return []byte{}
	}
	return s[:]
}

// Totals are the counts since the beginning, of one product or of all.
func (t *Tx) Totals(ctx context.Context, product core.ProductID) (telemetry.Totals, error) {
	var out telemetry.Totals
	err := each(ctx, t.tx, `SELECT kind, reason, sum(n) FROM telemetry_total WHERE ? = '' OR product = ?
		GROUP BY kind, reason ORDER BY kind, reason`, []any{string(product), string(product)}, func(scan scanner) error {
		var kind telemetry.CountKind
		var reason telemetry.Reason
		var n int64
		if err := scan(&kind, &reason, &n); err != nil {
			return err
		}
		switch kind {
		case telemetry.CountAccepted:
			out.Accepted = uint64(n)
		case telemetry.CountStored:
			out.Stored = uint64(n)
		case telemetry.CountDuplicate:
			out.Duplicates = uint64(n)
		case telemetry.CountExpired:
			out.Expired = uint64(n)
		case telemetry.CountParked:
			out.Parked = uint64(n)
		case telemetry.CountDroppedField:
			out.DroppedFields = uint64(n)
		case telemetry.CountRefused:
			out.Refused = append(out.Refused, telemetry.ReasonCount{Reason: reason, N: uint64(n)})
		}
		return nil
	})
	if err != nil {
		return telemetry.Totals{}, fmt.Errorf("read totals: %w", err)
	}
	return out, nil
}

// SubjectCount are the running figures of one subject, by product.
func (t *Tx) SubjectCount(ctx context.Context, s core.Subject) ([]telemetry.SubjectCount, error) {
	var out []telemetry.SubjectCount
	err := each(ctx, t.tx, `SELECT product, accepted, stored, duplicates, dropped_fields, refused, last_ms
		FROM telemetry_subject WHERE subject = ? ORDER BY product`, []any{s[:]}, func(scan scanner) error {
		c := telemetry.SubjectCount{Subject: s}
		err := scan(&c.Product, &c.Accepted, &c.Stored, &c.Duplicates, &c.DroppedFields, &c.Refused, &c.Last)
		out = append(out, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read counts of a subject: %w", err)
	}
	return out, nil
}

// MinuteCounts are the counts from one minute on, in order.
func (t *Tx) MinuteCounts(ctx context.Context, from telemetry.Minute, limit int) ([]telemetry.Count, error) {
	var out []telemetry.Count
	err := each(ctx, t.tx, `SELECT minute, product, subject, kind, reason, n FROM telemetry_count
		WHERE minute >= ? ORDER BY minute, product, subject, kind, reason LIMIT ?`, []any{int64(from), limit}, func(scan scanner) error {
		var c telemetry.Count
		var subject []byte
		if err := scan(&c.Minute, &c.Product, &subject, &c.Kind, &c.Reason, &c.N); err != nil {
			return err
		}
		copyWhole(c.Subject[:], subject)
		out = append(out, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read counts by minute: %w", err)
	}
	return out, nil
}

// PruneCounts drops the counts of minutes before one.
func (t *Tx) PruneCounts(ctx context.Context, before telemetry.Minute) (int64, error) {
	res, err := t.tx.ExecContext(ctx, `DELETE FROM telemetry_count WHERE minute < ?`, int64(before))
	if err != nil {
		return 0, fmt.Errorf("prune counts: %w", err)
	}
	return res.RowsAffected()
}

// ForgetCounts makes a subject's counts nobody's: the sums by minute stay. The
// undeclared names that came from its device go, and so do the kept answers.
func (t *Tx) ForgetCounts(ctx context.Context, s core.Subject) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO telemetry_count (minute, product, subject, kind, reason, n)
		SELECT minute, product, ?, kind, reason, n FROM telemetry_count WHERE subject = ?
		ON CONFLICT (minute, product, subject, kind, reason) DO UPDATE SET n = telemetry_count.n + excluded.n`, []byte{}, s[:])
	if err == nil {
		_, err = t.tx.ExecContext(ctx, `DELETE FROM telemetry_count WHERE subject = ?`, s[:])
	}
	if err == nil {
		_, err = t.tx.ExecContext(ctx, `DELETE FROM telemetry_subject WHERE subject = ?`, s[:])
	}
	if err == nil {
		_, err = t.tx.ExecContext(ctx, `DELETE FROM undeclared_name WHERE subject = ?`, s[:])
	}
	if err == nil {
		_, err = t.tx.ExecContext(ctx, `DELETE FROM ingest_answer WHERE subject = ?`, s[:])
	}
	if err != nil {
		return fmt.Errorf("forget counts of a subject: %w", err)
	}
	return nil
}
