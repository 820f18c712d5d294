package ledger

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
)

// MaxRange is how many entries one call returns at most.
const MaxRange = 1000

// Entry is one record in the ledger.
type Entry struct {
	Position uint64      // over all origins, dense; the cursor of lists
	Origin   string      // which log it is in
	Index    uint64      // its index there: what proofs are about
	Leaf     []byte      // the bytes that were hashed
	Record   core.Record // what they say
}

// Proof shows that an entry is under a checkpoint (RFC 6962 §2.1.1).
type Proof struct {
	Entry      Entry
	Checkpoint Checkpoint
	Hashes     []core.Hash // the audit path, nearest sibling first
}

// Get is the entry at a position. It fails when the stored entry is not the
// one that was hashed into the tree, and names it (mission row 3.3).
func (l *Ledger) Get(ctx context.Context, position uint64) (Entry, error) {
	var e Entry
	err := l.d.View(ctx, func(tx Tx) error {
		var err error
		e, _, err = l.get(ctx, tx, position)
		return err
	})
	return e, err
}

func (l *Ledger) get(ctx context.Context, tx Tx, position uint64) (Entry, Origin, error) {
	origins, err := tx.LedgerOrigins(ctx)
	if err != nil {
		return Entry{}, Origin{}, err
	}
	o, ok := originAt(origins, position)
	if !ok {
		return Entry{}, o, core.E(core.Unknown, "no-such-entry", fmt.Sprintf("the ledger has no entry %d", position), "")
	}
	rows, err := tx.LedgerEntries(ctx, position, 1)
	if err != nil {
		return Entry{}, o, err
	}
	if len(rows) != 1 || rows[0].Position != position {
		return Entry{}, o, badEntry(position, "is missing")
	}
	h, err := newNodes(tilesOf(ctx, tx, o.Number)).at(0, position-o.First)
	if err != nil {
		return Entry{}, o, err
	}
	if LeafHash(rows[0].Leaf) != h {
		return Entry{}, o, badEntry(position, "is not the one that was recorded")
	}
	e, err := entryOf(o, &rows[0])
	return e, o, err
}

func badEntry(position uint64, what string) error {
	return core.E(core.Internal, "ledger-entry-changed", fmt.Sprintf("ledger entry %d %s: somebody changed the database", position, what),
		"keep this data folder as evidence, run `hawser ledger verify`, and restore a backup")
}

// originAt is the origin that holds a position.
func originAt(origins []Origin, position uint64) (Origin, bool) {
	for _, o := range origins {
		if position >= o.First && position-o.First < o.Size {
			return o, true
		}
	}
	return Origin{}, false
}

func entryOf(o Origin, s *Stored) (Entry, error) {
	r, err := ParseLeaf(s.Leaf)
	if err != nil {
		return Entry{}, badEntry(s.Position, "is not a record")
	}
	if r.Kind != s.Kind || r.Product != s.Product || r.Subject != s.Subject {
		return Entry{}, badEntry(s.Position, "is listed under another kind, product or subject than its own")
	}
	return Entry{Position: s.Position, Origin: o.Name, Index: s.Position - o.First, Leaf: s.Leaf, Record: r}, nil
}

// Entries are the entries at positions [from, to), at most MaxRange of them.
func (l *Ledger) Entries(ctx context.Context, from, to uint64) ([]Entry, error) {
	if to < from {
		return nil, core.E(core.Invalid, "bad-range", "the range ends before it begins", "")
	}
	n := int(min(to-from, MaxRange))
	return l.list(ctx, func(tx Tx) ([]Stored, error) { return tx.LedgerEntries(ctx, from, n) }, to)
}

// List finds entries, oldest first, from a position on, at most limit (and
// MaxRange). next is the position to go on from; it is 0 when there are no
// more now.
func (l *Ledger) List(ctx context.Context, f Filter, from uint64, limit int) (found []Entry, next uint64, err error) {
	if limit < 1 || limit > MaxRange {
		limit = MaxRange
	}
	found, err = l.list(ctx, func(tx Tx) ([]Stored, error) { return tx.LedgerFind(ctx, f, from, limit) }, maxSize)
	if len(found) == limit {
		next = found[limit-1].Position + 1
	}
	return found, next, err
}

func (l *Ledger) list(ctx context.Context, read func(Tx) ([]Stored, error), to uint64) ([]Entry, error) {
	var out []Entry
	err := l.d.View(ctx, func(tx Tx) error {
		origins, err := tx.LedgerOrigins(ctx)
		if err != nil {
			return err
		}
		rows, err := read(tx)
		if err != nil {
			return err
		}
		for i := range rows {
			if rows[i].Position >= to {
				break
			}
			o, ok := originAt(origins, rows[i].Position)
			if !ok {
				return badEntry(rows[i].Position, "was never recorded")
			}
			e, err := entryOf(o, &rows[i])
			if err != nil {
				return err
			}
			out = append(out, e)
		}
		return nil
	})
	return out, err
}

// Prove shows that the entry at a position is under the last checkpoint of its
// origin. core.Unready while it is not signed yet.
func (l *Ledger) Prove(ctx context.Context, position uint64) (Proof, error) {
	var p Proof
	err := l.d.View(ctx, func(tx Tx) error {
		e, o, err := l.get(ctx, tx, position)
		if err != nil {
			return err
		}
		p.Entry = e
		if o.Checkpoint != nil {
			if p.Checkpoint, err = ParseCheckpoint(o.Checkpoint); err != nil {
				return damaged("the stored checkpoint of %s: %v", o.Name, err)
			}
		}
		if e.Index >= p.Checkpoint.Size {
			return core.E(core.Unready, "not-signed-yet", fmt.Sprintf("ledger entry %d is not under a checkpoint yet", position), "ask again in a few seconds")
		}
		p.Hashes, err = newNodes(tilesOf(ctx, tx, o.Number)).inclusion(e.Index, p.Checkpoint.Size)
		return err
	})
	return p, err
}

// Consistency proves that the current origin's first `to` entries begin with
// its first `from` (RFC 6962 §2.1.2). Both must be signed: to at most
// Latest().Size.
func (l *Ledger) Consistency(ctx context.Context, from, to uint64) ([]core.Hash, error) {
	last := l.Latest()
	if from > to || to > last.Size {
		return nil, core.E(core.Invalid, "bad-range", fmt.Sprintf("the ledger has signed %d entries", last.Size), "ask for sizes up to that, the smaller one first")
	}
	var proof []core.Hash
	err := l.d.View(ctx, func(tx Tx) error {
		o, err := signedOrigin(ctx, tx, last)
		if err != nil {
			return err
		}
		proof, err = newNodes(tilesOf(ctx, tx, o.Number)).consistency(from, to)
		return err
	})
	return proof, err
}

// signedOrigin is the origin of a checkpoint.
func signedOrigin(ctx context.Context, tx Tx, c Checkpoint) (Origin, error) {
	origins, err := tx.LedgerOrigins(ctx)
	if err != nil {
		return Origin{}, err
	}
	for _, o := range origins {
		if o.Name == c.Origin {
			return o, nil
		}
	}
	return Origin{}, core.E(core.Unready, "not-signed-yet", "the ledger is not signed yet", "ask again in a few seconds")
}

// Tile is the content of a tlog-tiles resource of the current origin
// (https://c2sp.org/tlog-tiles): hashes of 32 bytes, or leaves behind their
// length in two bytes. Only what is under the last checkpoint exists;
// everything else is core.Unknown. Full tiles never change.
func (l *Ledger) Tile(ctx context.Context, t TileRef) ([]byte, error) {
	last := l.Latest()
	if !t.complete(last.Size) {
		return nil, core.E(core.Unknown, "no-such-tile", "no such tile", "")
	}
	var b []byte
	err := l.d.View(ctx, func(tx Tx) error {
		o, err := signedOrigin(ctx, tx, last)
		if err != nil {
			return err
		}
		if t.Kind == EntryBundle {
			b, err = bundle(ctx, tx, o.First+t.N*tileWidth, t.Width)
			return err
		}
		hs, err := tilesOf(ctx, tx, o.Number)(t.Level, t.N)
		if err == nil && len(hs) < t.Width {
			err = damaged("tile %d/%d has %d hashes, the tree needs %d", t.Level, t.N, len(hs), t.Width)
		}
		if err == nil {
			b = joinHashes(hs[:t.Width])
		}
		return err
	})
	return b, err
}

func bundle(ctx context.Context, tx Tx, position uint64, width int) ([]byte, error) {
	rows, err := tx.LedgerEntries(ctx, position, width)
	if err != nil {
		return nil, err
	}
	var b []byte
	for i := range width {
		if i >= len(rows) || rows[i].Position != position+uint64(i) || len(rows[i].Leaf) > MaxLeafBytes {
			return nil, badEntry(position+uint64(i), "is missing or too long")
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(rows[i].Leaf)))
		b = append(b, rows[i].Leaf...)
	}
	return b, nil
}
