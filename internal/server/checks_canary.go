package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// recordCanary is the record that holds the canary, sealed under a key of its
// own: the one value of which it is known that it lies in the data folder, and
// that it must not be found there.
const recordCanary core.RecordKind = "canary-planted"

const sealContextCanary = "canary"

// canaryChecks hold that who copies the data folder can read none of it (CC 2.9).
func (s *server) canaryChecks() []check.Check {
	c := &canary{s: s}
	return []check.Check{{
		ID: "store.canary", Version: 1, Rows: []string{"2.9", "1.8"}, Kind: check.Query, MaxAge: check.QueryAge, // CC 1.8, 2.9
		Says: "In the data folder, searched piece by piece, neither the sealed canary is found in clear nor a reading of any declared field.",
		Do:   "Find out who wrote the file; destroy what must not be there, also in backups; erase the owners of what it showed.",
		Look: c.look,
		Violations: []check.Violation{
			{ID: "canary-in-clear", Says: "Writes the canary into a file of the data folder.", Do: own(func(ctx context.Context, t *twin) (func(context.Context) error, error) {
				text, err := (&canary{s: t.s}).planted(ctx)
				if err != nil {
					return nil, err
				}
				return t.inData("telemetry/leaked", append([]byte("x,"), text...))
			})},
			{ID: "reading-in-clear", Says: "Replaces what is sealed of a stored row by what is in it.", Do: own(unsealRow)},
		},
	}}
}

// Bounds of one search.
const (
	pieceBytes = 1 << 20
	lookPieces = 32
	overlap    = 512 // a piece is read so much further: what lies across two is found
)

// piece is a part of a file of the data folder.
type piece struct {
	path string // relative
	at   int64
}

// canary searches the data folder, some of it at a time.
type canary struct {
	s *server

	mu   sync.Mutex // guards what follows
	last piece
	seen map[string]bool // files that were there at the last look
	odd  []piece         // where something was found: looked at again each time
}

func (c *canary) look(ctx context.Context, l *check.Look) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	text, err := c.planted(ctx)
	if err != nil {
		return err
	}
	l.Touch("source", "ledger, newest record of kind "+string(recordCanary))
	needles := [][]byte{text, hex.AppendEncode(nil, text)}
	fields, err := c.fields(ctx)
	if err != nil {
		return err
	}
	picked, err := c.pick()
	if err != nil {
		return err
	}
	found := func(b []byte, sealed bool) string {
		switch {
		case slices.ContainsFunc(needles, func(n []byte) bool { return bytes.Contains(b, n) }):
			return "holds the canary in clear"
		case sealed && slices.ContainsFunc(fields, func(f []byte) bool { return reads(b, f) }):
			return "holds a reading in clear"
		}
		return ""
	}
	rows, err := c.database(ctx, func(b []byte) string { return found(b, true) })
	if err != nil {
		return err
	}
	l.Expect("sizes in the folder's listing: 32 pieces of 1 MiB in turn, and what is new; stretches of rows in a database", len(picked)+len(rows))
	for _, r := range rows {
		l.Touch("partition", r.name)
		l.Holds(r.why == "", r.name, "%s", r.why)
	}
	c.odd = c.odd[:0]
	touched := ""
	for _, p := range picked {
		if p.path != touched {
			touched = p.path
			l.Touch("file", "data/"+p.path)
		}
		b, err := c.read(p)
		if errors.Is(err, fs.ErrNotExist) {
			l.Exclude("data/"+p.path, "it went meanwhile")
			continue
		}
		if err != nil {
			return err
		}
		why := found(b, p.sealed())
		if why != "" {
			c.odd = append(c.odd, p)
		}
		l.Holds(why == "", "data/"+p.path, "piece %d %s", p.at/pieceBytes+1, why)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// planted is the canary, made and recorded if there is none that opens.
func (c *canary) planted(ctx context.Context) ([]byte, error) {
	all, err := c.s.recordsOf(ctx, recordCanary, 0, 1<<62)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(all) {
		text, err := c.s.ring.OpenValue(e.Record.Subject, sealContextCanary, e.Record.Sealed)
		if errors.Is(err, seal.ErrNoKey) {
			break // of before a restore
		}
		return text, err
	}
	var subject core.Subject
	_, _ = rand.Read(subject[:]) // never fails
	text := []byte("canary-" + rand.Text())
	if err := c.s.ring.AddSubject(ctx, subject); err != nil {
		return nil, fmt.Errorf("plant a canary: %w", err)
	}
	sealed, err := c.s.ring.SealValue(subject, sealContextCanary, text)
	if err != nil {
		return nil, fmt.Errorf("plant a canary: %w", err)
	}
	err = c.s.store.Update(ctx, func(tx *store.Tx) error {
		return tx.Record(ctx, core.Record{Time: c.s.opt.Now().UTC(), Kind: recordCanary, Actor: core.Job("canary"), Subject: subject, Sealed: sealed})
	})
	if err != nil {
		return nil, fmt.Errorf("plant a canary: %w", err)
	}
	return text, c.s.sequenced(ctx)
}

// fields is how what is sealed of a reading begins, for every declared field:
// `{"name":`.
func (c *canary) fields(ctx context.Context) ([][]byte, error) {
	all, err := c.s.decl.All(ctx)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, p := range all {
		for _, f := range p.Fields {
			out = append(out, []byte(`{"`+f.Name+`":`))
		}
	}
	slices.SortFunc(out, bytes.Compare)
	return slices.CompactFunc(out, bytes.Equal), nil
}

// reads reports whether b holds the beginning of a reading.
func reads(b, field []byte) bool {
	for {
		i := bytes.Index(b, field)
		if i < 0 {
			return false
		}
		if b = b[i+len(field):]; len(b) > 0 && strings.IndexByte(`-0123456789tf"`, b[0]) >= 0 {
			return true
		}
	}
}

// sealed reports whether a file holds readings, and nothing that is JSON by
// right.
func (p piece) sealed() bool {
	top, _, _ := strings.Cut(p.path, "/")
	return top == "telemetry" || top == "hold" || top == "journal" && filepath.Ext(p.path) == ".blk"
}

func (c *canary) read(p piece) ([]byte, error) {
	f, err := os.Open(filepath.Join(c.s.c.Data, p.path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	b := make([]byte, pieceBytes+overlap)
	n, err := f.ReadAt(b, p.at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// pick chooses the pieces: where something was found, files that are new, the
// next ones.
func (c *canary) pick() ([]piece, error) {
	var all []piece
	there := map[string]bool{}
	err := filepath.WalkDir(c.s.c.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what went meanwhile holds nothing
		}
		st, err := d.Info()
		if err != nil {
			return nil // it went meanwhile
		}
		rel, err := filepath.Rel(c.s.c.Data, path)
		if err != nil {
			return err
		}
		there[rel] = true
		for at := int64(0); at < st.Size(); at += pieceBytes {
			all = append(all, piece{rel, at})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the data folder: %w", err)
	}
	order := func(a, b piece) int { return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.at, b.at)) }
	slices.SortFunc(all, order)
	var first, rest []piece
	for _, p := range all {
		switch {
		case slices.Contains(c.odd, p), c.seen != nil && !c.seen[p.path] && len(first) < lookPieces/2:
			first = append(first, p)
		default:
			rest = append(rest, p)
		}
	}
	at, _ := slices.BinarySearchFunc(rest, c.last, func(p, last piece) int { return cmp.Or(order(p, last), -1) })
	rest = append(rest[at:], rest[:at]...)
	rest = rest[:max(0, min(len(rest), lookPieces-len(first)))]
	if len(rest) > 0 {
		c.last = rest[len(rest)-1]
	}
	c.seen = there
	return append(first, rest...), nil
}

// unsealRow replaces what is sealed of a row by what is in it, of the same
// length, so that taking it back leaves nothing of it; and empties the file's
// log then.
func unsealRow(ctx context.Context, t *twin) (func(context.Context) error, error) {
	f, err := t.firstRow(ctx, "temp")
	if err != nil {
		return nil, err
	}
	plain, err := t.plain(&f.row)
	if err != nil {
		return nil, err
	}
	_, object, err := telemetry.CutPlain(plain)
	if err != nil {
		return nil, err
	}
	bare := append(slices.Clone(object), bytes.Repeat([]byte(" "), len(f.row.Part.Sealed)-len(object))...)
	const set = `UPDATE rows SET sealed = ? WHERE id = ?`
	return func(ctx context.Context) error {
		if err := t.Exec(ctx, f.db, set, f.row.Part.Sealed, f.row.ID); err != nil {
			return err
		}
		return t.Exec(ctx, f.db, `PRAGMA wal_checkpoint(TRUNCATE)`)
	}, t.Exec(ctx, f.db, set, bare, f.row.ID)
}
