package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const pgRemoveWait = 2 * time.Second // for a lock on what is to be removed, before whoever holds it is sent away

// SQLSTATEs of errors that name a missing or wrong table, and those that
// PostgreSQL gives when what it reads cannot be (documentation, appendix A).
func pgAbsent(err error) bool {
	switch pgCode(err) {
	case "42P01", "42703", "3F000": // undefined_table, undefined_column, invalid_schema_name
		return true
	}
	return false
}

func pgSuspect(err error) bool { return strings.HasPrefix(pgCode(err), "XX") } // internal_error, data_corrupted, index_corrupted

// judge says what an error of using e's partition means: nothing but itself,
// errNoFile when there is no partition, or a *BrokenError, and then the
// partition has been put aside. Only a second look at all of it condemns it,
// never an error alone.
func (s *PGEpochs) judge(ctx context.Context, e core.Epoch, err error) error {
	damage, isDamage := errors.AsType[*damageError](err)
	if !isDamage && !pgAbsent(err) && !pgSuspect(err) {
		return err
	}
	// The context may have ended in the meantime; this must not fail for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pgStatement)
	defer cancel()
	detail := ""
	switch {
	case isDamage:
		detail = damage.detail
	case pgAbsent(err):
		var there bool
		if e := s.pool.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL`, pgSchemaOf(e)).Scan(&there); e != nil {
			return errors.Join(err, e)
		}
		if !there {
			return errNoFile
		}
		detail = err.Error()
	default:
		if detail = s.structure(ctx, e); detail == "" {
			return err
		}
	}
	return s.putAside(ctx, e, strings.ReplaceAll(detail, "\n", " "))
}

// structure reads all of a partition, past every index, and says what could
// not be read; "" when all could, or when nothing can be said.
func (s *PGEpochs) structure(ctx context.Context, e core.Epoch) (found string) {
	p := &pgPart{epoch: e, schema: pgSchemaOf(e)}
	for table, size := range map[string]string{
		"rows": "length(head || sealed)", "batches": "length(root || sums)", "subjects": "length(subject)", "lanes": "length(stream)",
		"contexts": "length(policy || gateway)", "journals": "length(journal)", "epoch": "length(chain)",
	} {
		_, err := p.heap(ctx, s.pool, table, `coalesce(sum(`+size+`), 0)`, math.MaxInt64)
		if pgSuspect(err) || pgAbsent(err) {
			return err.Error()
		}
	}
	return ""
}

// pgBlocks is how much of a table is read by one statement, in blocks of 8 KiB,
// so that none takes long.
const pgBlocks = 1 << 15

// heap adds up an expression over a table as it lies on the disk, block by
// block, past every index.
func (p *pgPart) heap(ctx context.Context, q pgQuerier, table, sum string, upTo int64) (total int64, err error) {
	name := p.schema + "." + table
	var blocks int64
	if err := q.QueryRow(ctx, `SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint`, pgPlain, name).Scan(&blocks); err != nil {
		return 0, err
	}
	where := ``
	if upTo != math.MaxInt64 {
		where = fmt.Sprintf(` AND id <= %d`, upTo)
	}
	for from := int64(0); from < blocks; from += pgBlocks {
		var n int64
		err := q.QueryRow(ctx, fmt.Sprintf(`SELECT (%s)::bigint FROM %s WHERE ctid >= '(%d,0)'::tid AND ctid < '(%d,0)'::tid%s`,
			sum, name, from, from+pgBlocks, where), pgPlain).Scan(&n)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// putAside takes a damaged partition out of use and renames its schema, so that
// it is kept as it is for who repairs it.
func (s *PGEpochs) putAside(ctx context.Context, e core.Epoch, detail string) error {
	at := s.now().UTC()
	aside := fmt.Sprintf("%s%s%d", pgSchemaOf(e), pgAsideMark, at.Unix())
	b := telemetry.BrokenError{Epoch: e, Aside: "schema " + aside, Detail: detail, At: at}
	s.mu.Lock()
	if old, ok := s.broken[keyOf(e)]; ok { // somebody else saw it first
		s.mu.Unlock()
		return &old
	}
	s.broken[keyOf(e)] = b
	s.mu.Unlock()
	_, err := s.pool.Exec(ctx, `ALTER SCHEMA `+pgSchemaOf(e)+` RENAME TO `+aside)
	if err != nil {
		s.mu.Lock()
		delete(s.broken, keyOf(e)) // it stays in its place and is found again
		s.mu.Unlock()
		return fmt.Errorf("put damaged partition %s aside: %w", e, pgTrouble(err))
	}
	return &b
}

// schemas are the names of all schemas that are partitions, damaged or not.
func (s *PGEpochs) schemas(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname, $1) ORDER BY 1`, pgEpochPrefix+"k")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// findAside notes which epochs have only a partition that was put aside.
func (s *PGEpochs) findAside(ctx context.Context) error {
	all, err := s.schemas(ctx)
	if err != nil {
		return err
	}
	for _, name := range all {
		e, aside, ok := pgEpochNamed(name)
		if !ok || aside == 0 || slices.Contains(all, pgSchemaOf(e)) {
			continue
		}
		s.broken[keyOf(e)] = telemetry.BrokenError{
			Epoch: e, Aside: "schema " + name, At: time.Unix(aside, 0).UTC(), Detail: "found damaged before the last start",
		}
	}
	return nil
}

// Broken names the epochs whose partition was put aside, by name.
func (s *PGEpochs) Broken() []telemetry.BrokenError {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]telemetry.BrokenError, 0, len(s.broken))
	for _, b := range s.broken {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b telemetry.BrokenError) int { return strings.Compare(a.Aside, b.Aside) })
	return out
}

// Names are the epochs that have a partition by its name, whatever is in it. An
// epoch's length is what its keep-time makes it today.
func (s *PGEpochs) Names(ctx context.Context) ([]core.Epoch, error) {
	all, err := s.schemas(ctx)
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", pgTrouble(err))
	}
	var out []core.Epoch
	for _, name := range all {
		if e, _, ok := pgEpochNamed(name); ok && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return out, nil
}

// List names every epoch that has a partition, damaged or not, each with the
// length that it says it has.
func (s *PGEpochs) List(ctx context.Context) ([]core.Epoch, error) {
	out, err := s.Names(ctx)
	if err != nil {
		return nil, err
	}
	for i, e := range out {
		p, err := s.part(e)
		if err == nil {
			p.epoch.Length = 0 // unknown: the partition says it
			var own core.Epoch
			if own, err = p.readHead(ctx, s.pool, ""); err == nil {
				out[i].Length = own.Length
				continue
			}
			err = s.judge(ctx, e, err)
		}
		if _, broken := telemetry.AsBroken(err); !broken && !errors.Is(err, errNoFile) {
			return nil, fmt.Errorf("look at partition %s: %w", e, pgTrouble(err))
		}
	}
	return out, nil
}

// Remove removes the partition of a frozen epoch and whatever of it was put
// aside. Whoever holds a lock on it is sent away: an end cannot wait.
func (s *PGEpochs) Remove(ctx context.Context, e core.Epoch) error {
	s.mu.Lock()
	p := s.parts[keyOf(e)]
	ready := p != nil && p.frozen && p.writers == 0
	s.mu.Unlock()
	if !ready {
		return fmt.Errorf("remove partition %s: it is not frozen or still in use", e)
	}
	all, err := s.schemas(ctx)
	if err != nil {
		return fmt.Errorf("remove partition %s: %w", e, pgTrouble(err))
	}
	name := pgSchemaOf(e)
	for _, schema := range all {
		if schema != name && !strings.HasPrefix(schema, name+pgAsideMark) {
			continue
		}
		if err := pgDropSchema(ctx, s.pool, schema); err != nil {
			return fmt.Errorf("remove partition %s: %w", e, err)
		}
	}
	s.mu.Lock()
	delete(s.broken, keyOf(e))
	p.pgState = pgState{} // it stays frozen, but needs no memory
	s.mu.Unlock()
	return nil
}
