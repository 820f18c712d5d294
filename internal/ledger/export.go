package ledger

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/hawser-iot/hawser/internal/core"
)

// Export writes the whole ledger, up to its last checkpoint, as lines of JSON
// that anybody can verify without this program's database (package verify
// does). The lines, each with exactly these members in this order:
//
//	{"export":1}                               first line: the version of the format
//	{"origin":NAME,"key":NAME+ID+KEY}          an origin begins
//	{"checkpoint":NOTE}                        what was signed of it, smallest first, before its entries
//	{"index":N,"hash":BASE64,"leaf":LEAF}      an entry; LEAF is the canonical record itself
//	{"index":N,"hash":BASE64,"raw":BASE64}     an entry that is not JSON any more
//	{"subtree":N,"hash":BASE64}                after the 256 entries from 256·N on: the root over them
//
// The hashes are those that the database holds, not computed from the leaves:
// where the two differ, the verifier can say which entry was changed. Export
// writes what is there, changed or not; judging it is the verifier's.
func (l *Ledger) Export(ctx context.Context, w io.Writer) error {
	last := l.Latest()
	if last.Note == nil {
		return core.E(core.Unready, "not-signed-yet", "the ledger is not signed yet", "ask again in a few seconds")
	}
	var origins []Origin
	err := l.d.View(ctx, func(tx Tx) error {
		var err error
		origins, err = tx.LedgerOrigins(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("export ledger: %w", err)
	}
	x := exporter{l: l, w: bufio.NewWriterSize(w, 1<<16)}
	x.line(`{"export":1}`)
	if origins[len(origins)-1].Name != last.Origin {
		return core.E(core.Unready, "not-signed-yet", "the new origin of the ledger is not signed yet", "ask again in a few seconds")
	}
	firsts, err := l.firsts(ctx, origins)
	if err != nil {
		return fmt.Errorf("export ledger: %w", err)
	}
	for i, o := range origins {
		key := factOf(firsts[i], factKey)
		if key == "" { // the first entry was changed: the verifier will say so
			key = VerifierKey(o.Name, l.d.Key.Public())
		}
		x.line(`{"origin":`, quoted(o.Name), `,"key":`, quoted(key), `}`)
		size, notes := o.Size, []string{string(o.Checkpoint)}
		if i == len(origins)-1 {
			size, notes = last.Size, []string{string(last.Note)}
		} else {
			notes = append(notes, factOf(firsts[i+1], factPreviousNote))
		}
		for _, note := range signedOf(o, notes) {
			x.line(`{"checkpoint":`, quoted(note), `}`)
		}
		for n := uint64(0); n*tileWidth < size; n++ {
			if err := x.tile(ctx, o, n, min(size-n*tileWidth, tileWidth)); err != nil {
				return fmt.Errorf("export ledger: %w", err)
			}
		}
	}
	if err := x.w.Flush(); err != nil {
		return fmt.Errorf("export ledger: %w", err)
	}
	return nil
}

// firsts are the first records of the origins; zero where one is unreadable.
func (l *Ledger) firsts(ctx context.Context, origins []Origin) ([]core.Record, error) {
	out := make([]core.Record, len(origins))
	err := l.d.View(ctx, func(tx Tx) error {
		for i, o := range origins {
			rows, err := tx.LedgerEntries(ctx, o.First, 1)
			if err != nil {
				return err
			}
			if len(rows) == 1 && rows[0].Position == o.First {
				if r, err := ParseLeaf(rows[0].Leaf); err == nil {
					out[i] = r
				}
			}
		}
		return nil
	})
	return out, err
}

// signedOf keeps of notes the checkpoints of o that its entries still reach,
// smallest first, each once.
func signedOf(o Origin, notes []string) []string {
	var cs []Checkpoint
	for _, note := range notes {
		if c, err := ParseCheckpoint([]byte(note)); err == nil && c.Origin == o.Name && c.Size <= o.Size {
			cs = append(cs, c)
		}
	}
	slices.SortFunc(cs, func(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	var out []string
	for _, c := range cs {
		if len(out) == 0 || out[len(out)-1] != string(c.Note) {
			out = append(out, string(c.Note))
		}
	}
	return out
}

type exporter struct {
	l *Ledger
	w *bufio.Writer
}

// line writes one line. The writer keeps its first error for Flush.
func (x *exporter) line(parts ...string) {
	for _, p := range parts {
		_, _ = x.w.WriteString(p)
	}
	_ = x.w.WriteByte('\n')
}

// tile writes the entries [256n, 256n+width) of o.
func (x *exporter) tile(ctx context.Context, o Origin, n, width uint64) error {
	var rows []Stored
	var leaves, parents []byte
	err := x.l.d.View(ctx, func(tx Tx) error {
		var err error
		if rows, err = tx.LedgerEntries(ctx, o.First+n*tileWidth, int(width)); err != nil {
			return err
		}
		if leaves, err = tx.LedgerTile(ctx, o.Number, 0, n); err != nil && core.KindOf(err) != core.Unknown {
			return err
		}
		if width == tileWidth {
			parents, err = tx.LedgerTile(ctx, o.Number, 1, n/tileWidth)
		}
		if core.KindOf(err) == core.Unknown {
			return nil // a missing tile shows in the export as missing hashes
		}
		return err
	})
	if err != nil {
		return err
	}
	end := n*tileWidth + width
	for _, r := range rows {
		i := r.Position - o.First
		if i >= end {
			break
		}
		member, value := `,"leaf":`, string(r.Leaf)
		if !json.Valid(r.Leaf) || bytes.ContainsAny(r.Leaf, "\r\n") {
			member, value = `,"raw":`, quoted(base64.StdEncoding.EncodeToString(r.Leaf))
		}
		x.line(`{"index":`, strconv.FormatUint(i, 10), `,"hash":`, hashIn(leaves, i%tileWidth), member, value, `}`)
	}
	if width == tileWidth {
		x.line(`{"subtree":`, strconv.FormatUint(n, 10), `,"hash":`, hashIn(parents, n%tileWidth), `}`)
	}
	return x.w.Flush()
}

// hashIn is hash i of a stored tile as a JSON string; empty when the tile is
// too short.
func hashIn(tile []byte, i uint64) string {
	const size = uint64(len(core.Hash{}))
	if uint64(len(tile)) < (i+1)*size {
		return `""`
	}
	return `"` + base64.StdEncoding.EncodeToString(tile[i*size:(i+1)*size]) + `"`
}

func quoted(s string) string { return string(appendString(nil, s)) }
