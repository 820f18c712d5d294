package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
	"github.com/hawser-iot/hawser/internal/store"
)

// ledgerChecks hold that the ledger is the one that was signed (CC 3.3).
func (s *server) ledgerChecks() []check.Check {
	e := &entries{s: s}
	return []check.Check{{
		ID: "ledger.entries", Version: 1, Rows: []string{"3.3"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 3.3
		Says: "The ledger continues the checkpoint that is kept outside the database, and every entry that is looked at is under it.",
		Do:   "`hawser ledger verify` names every entry; keep the data folder for whoever investigates, and restore a backup.",
		Look: e.look,
		Violations: []check.Violation{
			{ID: "entry-edited", Says: "Changes one byte of a ledger entry behind the program's back.", Do: own(editEntry)},
			{ID: "entry-deleted", Says: "Deletes a ledger entry behind the program's back.", Do: own(func(ctx context.Context, t *twin) (func(context.Context) error, error) {
				return dropEntry(ctx, t, 3)
			})},
			{ID: "entry-relisted", Says: "Lists a ledger entry under another kind than its own behind the program's back.", Do: own(relistEntry)},
			{ID: "checkpoint-replaced", Says: "Changes the checkpoint that is kept outside the database.", Do: own(func(_ context.Context, t *twin) (func(context.Context) error, error) {
				return t.flip(t.s.c.Checkpoint, 20)
			})},
		},
	}}
}

// Of the ledger, each look takes the newest tiles of 256 entries and the next
// ones in turn.
const (
	tileEntries = 256
	newTiles    = 2
	turnTiles   = 8
)

// entries verifies the ledger with the verifier that shares no code with it.
type entries struct {
	s *server

	mu   sync.Mutex // guards what follows
	turn turn
	odd  []uint64 // tiles in which something was wrong: looked at again each time
}

func (x *entries) look(ctx context.Context, l *check.Look) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	note, err := os.ReadFile(x.s.c.Checkpoint)
	if err != nil {
		return fmt.Errorf("read the checkpoint outside the database: %w", err)
	}
	l.Touch("file", short(x.s.c.Checkpoint))
	l.Expect("the size signed in the checkpoint outside the database", 1)
	outside, err := verify.Signed(note, x.s.ledger.VerifierKey())
	if err != nil {
		l.Fail("checkpoint outside the database", "was not signed by this ledger: %v", err)
		return nil
	}
	if why := x.continues(ctx, outside); why != "" {
		l.Fail("checkpoint outside the database", "%s", why)
		return nil
	}
	l.Pass(1)
	var first uint64
	err = x.s.store.View(ctx, func(tx *store.Tx) error {
		all, err := tx.LedgerOrigins(ctx)
		for _, o := range all {
			if o.Name == outside.Origin {
				first = o.First
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	l.Touch("table", "control.db: ledger_entry, ledger_tile")
	odd := x.odd
	x.odd = nil
	for _, n := range x.pick(odd, outside.Size) {
		if err := x.tile(ctx, l, outside, n, first); err != nil {
			return err
		}
	}
	return nil
}

// continues says what is wrong with the ledger, measured by a checkpoint.
func (x *entries) continues(ctx context.Context, outside verify.Checkpoint) string {
	now := x.s.ledger.Latest()
	if now.Origin != outside.Origin || now.Size < outside.Size {
		return fmt.Sprintf("is of %s with %d entries; the ledger is %s with %d", outside.Origin, outside.Size, now.Origin, now.Size)
	}
	proof, err := x.s.ledger.Consistency(ctx, outside.Size, now.Size)
	if err == nil {
		err = verify.Consistency(outside.Size, outside.Root, now.Size, verify.Hash(now.Root), hashesOf(proof))
	}
	if err != nil {
		return "is not continued by the ledger: " + err.Error()
	}
	return ""
}

func hashesOf(in []core.Hash) []verify.Hash {
	out := make([]verify.Hash, len(in))
	for i, h := range in {
		out[i] = verify.Hash(h)
	}
	return out
}

func (x *entries) pick(odd []uint64, size uint64) []uint64 {
	tiles := (size + tileEntries - 1) / tileEntries
	var out []uint64
	add := func(from, to uint64) {
		for n := from; n < to; n++ {
			if n < tiles && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	for _, n := range odd[:min(len(odd), turnTiles)] {
		add(n, n+1)
	}
	add(tiles-min(tiles, newTiles), tiles)
	add(x.turn.next(tiles, turnTiles))
	return out
}

// tile holds up to 256 entries against the signed tree: each leaf against the
// hash stored of it, and these hashes, by one path that all of them are part
// of, against the signed root.
func (x *entries) tile(ctx context.Context, l *check.Look, head verify.Checkpoint, n, first uint64) error {
	from := n * tileEntries
	width := int(min(head.Size-from, tileEntries))
	l.Expect("", width)
	wrong := func(format string, args ...any) error {
		l.Fail(fmt.Sprintf("entries %d to %d", from, from+uint64(width)-1), format, args...)
		x.odd = append(x.odd, n)
		return nil
	}
	bundle, err := x.s.ledger.Tile(ctx, ledger.TileRef{Kind: ledger.EntryBundle, N: n, Width: width})
	if err != nil {
		return wrong("%v", err)
	}
	stored, err := x.s.ledger.Tile(ctx, ledger.TileRef{Kind: ledger.HashTile, N: n, Width: width})
	if err != nil {
		return wrong("%v", err)
	}
	var leaf []byte
	good := 0
	for i := range width {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			return wrong("entry %d is cut short", from+uint64(i))
		}
		size := int(binary.BigEndian.Uint16(bundle))
		leaf, bundle = bundle[2:2+size], bundle[2+size:]
		if verify.LeafHash(leaf) != verify.Hash(stored[i*32:(i+1)*32]) {
			l.Fail(fmt.Sprintf("entry %d", from+uint64(i)), "is not the one that was recorded")
			x.odd = append(x.odd, n)
			continue
		}
		good++
	}
	prover := ledger.NewProver(head.Size, func(t ledger.TileRef) ([]byte, error) { return x.s.ledger.Tile(ctx, t) })
	proof, err := prover.Inclusion(from + uint64(width) - 1)
	if err == nil {
		err = verify.Inclusion(leaf, from+uint64(width)-1, head.Size, hashesOf(proof), head.Root)
	}
	if err != nil {
		return wrong("are not under the signed root: %v", err)
	}
	// What lists show them as is what they say.
	if _, err := x.s.ledger.Entries(ctx, first+from, first+from+uint64(width)); err != nil {
		return wrong("%v", err)
	}
	l.Pass(good)
	return nil
}

// rawEntry is one row of the twin's ledger.
type rawEntry struct {
	pos, topic    int64
	subject, leaf []byte
}

func (t *twin) entry(ctx context.Context, pos uint64) (e rawEntry, err error) {
	err = t.Query(ctx, "control.db", `SELECT pos, topic, subject, leaf FROM ledger_entry WHERE pos = ?`, []any{int64(pos)}, &e.pos, &e.topic, &e.subject, &e.leaf)
	return e, err
}

const setLeaf = `UPDATE ledger_entry SET leaf = ? WHERE pos = ?`

func editEntry(ctx context.Context, t *twin) (func(context.Context) error, error) {
	e, err := t.entry(ctx, 2)
	if err != nil {
		return nil, err
	}
	changed := slices.Clone(e.leaf)
	changed[len(changed)-3] ^= 1
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", setLeaf, e.leaf, e.pos) }, t.Exec(ctx, "control.db", setLeaf, changed, e.pos)
}

func dropEntry(ctx context.Context, t *twin, pos uint64) (func(context.Context) error, error) {
	e, err := t.entry(ctx, pos)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return t.Exec(ctx, "control.db", `INSERT INTO ledger_entry (pos, topic, subject, leaf) VALUES (?, ?, ?, ?)`, e.pos, e.topic, e.subject, e.leaf)
	}, t.Exec(ctx, "control.db", `DELETE FROM ledger_entry WHERE pos = ?`, e.pos)
}

func relistEntry(ctx context.Context, t *twin) (func(context.Context) error, error) {
	e, err := t.entry(ctx, 4)
	if err != nil {
		return nil, err
	}
	const set = `UPDATE ledger_entry SET topic = ? WHERE pos = ?`
	other := int64(1)
	if e.topic == other {
		other = 2
	}
	return func(ctx context.Context) error { return t.Exec(ctx, "control.db", set, e.topic, e.pos) }, t.Exec(ctx, "control.db", set, other, e.pos)
}

// openTime is how long a read session may go on before its count is missed.
const openTime = time.Hour

var errNoSession = errors.New("the twin has no read session")
