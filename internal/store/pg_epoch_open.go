package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

//go:embed pg_epoch.sql
var pgEpochSchema string

const (
	pgEpochPrefix = "epoch_"    // of the names of schemas that are partitions
	pgAsideMark   = "_damaged_" // as asideMark in the name of a file
	pgStampLayout = "20060102t150405z"
)

// pgSchemaOf is the name of e's schema: epoch_k2592000_20270115t000000z.
func pgSchemaOf(e core.Epoch) string {
	return pgEpochPrefix + e.Class() + "_" + time.Unix(e.Start, 0).UTC().Format(pgStampLayout)
}

// pgEpochNamed is the epoch of a schema, as long as a declaration would make it
// today, and when it was put aside; false when it is none.
func pgEpochNamed(schema string) (e core.Epoch, aside int64, ok bool) {
	name, found := strings.CutPrefix(schema, pgEpochPrefix+"k")
	if !found {
		return e, 0, false
	}
	if name, at, damaged := strings.Cut(name, pgAsideMark); damaged {
		sec, err := strconv.ParseInt(at, 10, 64)
		e, _, ok = pgEpochNamed(pgEpochPrefix + "k" + name)
		return e, sec, ok && err == nil
	}
	class, stamp, _ := strings.Cut(name, "_")
	keep, err := strconv.ParseInt(class, 10, 64)
	start, err2 := time.Parse(pgStampLayout, stamp)
	if err != nil || err2 != nil || keep <= 0 || keep > int64(1<<62)/int64(time.Second) {
		return e, 0, false
	}
	e = core.Epoch{Keep: time.Duration(keep) * time.Second, Start: start.Unix()}
	e.Length = declaration.EpochLength(e.Keep)
	return e, 0, true
}

// pgState is what memory holds of a partition that is appended to.
type pgState struct {
	loaded bool // what follows is that of the partition as this process last saw it
	head   telemetry.Head
	mark   markRow
	dict   pgDict
	high   map[uint64]pgNumber // the largest number of each series that was looked at
}

// begin locks the partition against every other writer and makes sure that
// memory holds what it is, making it first when missing is makeIt.
func (p *pgPart) begin(ctx context.Context, tx pgx.Tx) error {
	if !p.loaded {
		var there bool
		if err := tx.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL`, p.schema).Scan(&there); err != nil {
			return err
		}
		if !there {
			if err := p.make(ctx, tx); err != nil {
				return err
			}
		}
	}
	old := p.pgState
	e, err := p.readHead(ctx, tx, ` FOR UPDATE`)
	if err != nil {
		return err
	}
	if keyOf(e) != keyOf(p.epoch) || p.epoch.Length != 0 && e.Length != p.epoch.Length {
		return &damageError{fmt.Sprintf("the partition says that it belongs to epoch %s of length %s", e, e.Length)}
	}
	if old.loaded && old.head == p.head && old.mark == p.mark {
		return nil
	}
	// It is new to this process, or another one has written to it, or what this
	// one believed to have written is not there.
	p.epoch = e
	p.high = map[uint64]pgNumber{}
	if err := p.dict.load(ctx, tx, p); err != nil {
		return err
	}
	p.loaded = true
	return nil
}

// make makes the schema and its tables.
func (p *pgPart) make(ctx context.Context, tx pgx.Tx) error {
	// Without arguments several statements go together.
	if _, err := tx.Exec(ctx, p.sql(pgEpochSchema), pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("make partition %s: %w", p.epoch, err)
	}
	chain := telemetry.FirstChain(p.epoch)
	_, err := tx.Exec(ctx, p.sql(`INSERT INTO {e}.epoch (one, layout, keep_s, start_s, length_s, batches, rows, wrong_clock, chain, journal, seq, late)
		VALUES (1, $1, $2, $3, $4, 0, 0, 0, $5, 0, 0, 0)`), pgPlain, epochLayout,
		int64(p.epoch.Keep/time.Second), p.epoch.Start, int64(p.epoch.Length/time.Second), chain[:])
	if err != nil {
		return fmt.Errorf("make partition %s: %w", p.epoch, err)
	}
	return nil
}

// pgQuerier is a transaction or a pool.
type pgQuerier interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
}

const pgHeadColumns = `SELECT layout, keep_s, start_s, length_s, batches, rows, wrong_clock, chain, journal, seq, late FROM {e}.epoch`

// readHead reads the epoch table into p.head and p.mark.
func (p *pgPart) readHead(ctx context.Context, q pgQuerier, lock string) (core.Epoch, error) {
	var e core.Epoch
	var layout, keep, length, batches, rows, wrong, seq, late int64
	var chain []byte
	err := q.QueryRow(ctx, p.sql(pgHeadColumns+lock), pgPlain).
		Scan(&layout, &keep, &e.Start, &length, &batches, &rows, &wrong, &chain, &p.mark.journal, &seq, &late)
	p.head = telemetry.Head{Batches: uint64(batches), Rows: uint64(rows), WrongClock: uint64(wrong)}
	p.mark.seq, p.mark.late = uint64(seq), uint64(late)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return e, &damageError{"the partition does not say which epoch it belongs to"}
	case err != nil:
		return e, err
	case layout != epochLayout:
		return e, &damageError{fmt.Sprintf("the partition has layout %d; this program reads layout %d", layout, epochLayout)}
	case len(chain) != len(p.head.Chain):
		return e, &damageError{"the chain is cut short"}
	}
	copy(p.head.Chain[:], chain)
	e.Keep, e.Length = time.Duration(keep)*time.Second, time.Duration(length)*time.Second
	return e, nil
}
