package ledger

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

// KindOriginBegun is the kind of the first entry of every origin.
const KindOriginBegun core.RecordKind = "ledger-origin-begun"

// The facts of a KindOriginBegun record. The first origin has only the first
// two. Verifiers read them: the names never change.
const (
	factOrigin       = "origin"              // the new origin's name
	factKey          = "key"                 // its public key, NAME+ID+KEY
	factKeptOrigin   = "kept_origin"         // the origin that the database had continued until now
	factKeptSize     = "kept_entries"        // how many of its entries exist
	factKeptRoot     = "kept_root"           // their root, base64
	factKeptSigned   = "kept_signed"         // how many of them its checkpoint in the database covers; absent without one
	factPreviousNote = "previous_checkpoint" // the last checkpoint signed before, as it was signed; absent when none is known
	factLost         = "lost"                // what was lost, in the operator's words
)

// originSuffix is the length of what makes an origin's name unique.
const originSuffix = 1 + 8

// Create begins the ledger of a new installation: its first origin, whose
// first entry names it and its key, signed and kept outside. It refuses where
// a ledger or a kept checkpoint exists already.
func Create(ctx context.Context, d Deps, by core.Actor) (*Ledger, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	if _, found, err := readOutside(d.CheckpointFile); found || err != nil {
		return nil, &core.Error{
			Kind: core.Conflict, Reason: "ledger-checkpoint-exists", Err: err,
			Message: d.CheckpointFile + " already holds a checkpoint",
			Hint:    "it belongs to another installation: choose another place, or move it away",
		}
	}
	err := d.Update(ctx, func(tx Tx) error {
		all, err := tx.LedgerOrigins(ctx)
		if err != nil {
			return err
		}
		if len(all) > 0 {
			return core.E(core.Conflict, "ledger-exists", "this data folder has a ledger already", "")
		}
		_, err = begin(ctx, tx, &d, by, Origin{Number: 1}, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	return opened(ctx, d)
}

// NewOrigin is BeginOrigin, and signs and keeps the new origin's head.
func NewOrigin(ctx context.Context, d Deps, by core.Actor, lost string) (*Ledger, error) {
	if _, err := BeginOrigin(ctx, d, by, lost); err != nil {
		return nil, err
	}
	return opened(ctx, d)
}

// BeginOrigin begins a new origin after the database was restored from a
// backup, or after the kept checkpoint was lost, and gives its name. Its first
// entry commits to the last checkpoint of the origin before, to what is left of
// that, and to lost: what is gone and why, in words for whoever reads the
// evidence. The kept checkpoint is read and not touched: until the first
// signature it goes on to belong to the database that it was made of, and Open
// takes both.
func BeginOrigin(ctx context.Context, d Deps, by core.Actor, lost string) (name string, err error) {
	if err := d.check(); err != nil {
		return "", err
	}
	if strings.TrimSpace(lost) == "" {
		return "", core.E(core.Invalid, "ledger-lost-empty", "a new origin must say what was lost", "say what was restored, from when, and why")
	}
	if len(lost) > MaxFactBytes {
		return "", core.E(core.Invalid, "ledger-lost-long", fmt.Sprintf("the description of what was lost has more than %d bytes", MaxFactBytes), "shorten it")
	}
	previous, found, err := readOutside(d.CheckpointFile)
	if err != nil {
		return "", fmt.Errorf("begin new origin: %w", err)
	}
	err = d.Update(ctx, func(tx Tx) error {
		old, err := current(ctx, tx)
		if err != nil {
			return err
		}
		if found {
			if err := knownSigner(ctx, tx, &d, old, previous); err != nil {
				return badOutside(d.CheckpointFile, err)
			}
		} else if old.Checkpoint != nil {
			if previous, err = ParseCheckpoint(old.Checkpoint); err != nil {
				return damaged("the stored checkpoint: %v", err)
			}
		}
		facts := []core.Fact{
			{Name: factKeptOrigin, Value: old.Name},
			{Name: factKeptSize, Value: strconv.FormatUint(old.Size, 10)},
			{Name: factKeptRoot, Value: base64.StdEncoding.EncodeToString(old.Root[:])},
		}
		if old.Checkpoint != nil {
			kept, err := ParseCheckpoint(old.Checkpoint)
			if err != nil {
				return damaged("the stored checkpoint: %v", err)
			}
			facts = append(facts, core.Fact{Name: factKeptSigned, Value: strconv.FormatUint(kept.Size, 10)})
		}
		if previous.Note != nil {
			// It may be of a later origin than the database knows: one that
			// began after the backup was taken and is lost altogether.
			facts = append(facts, core.Fact{Name: factPreviousNote, Value: string(previous.Note)})
		}
		facts = append(facts, core.Fact{Name: factLost, Value: lost})
		name, err = begin(ctx, tx, &d, by, Origin{Number: old.Number + 1, First: old.First + old.Size}, facts)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("begin new origin: %w", err)
	}
	return name, nil
}

// knownSigner holds that c was signed by the present key or, where the key was
// lost with the rest, by the one that the origin's first entry names.
func knownSigner(ctx context.Context, tx Tx, d *Deps, old Origin, c Checkpoint) error {
	err := c.verify(d.Key.Public())
	if err == nil || c.Origin != old.Name {
		return err
	}
	rows, readErr := tx.LedgerEntries(ctx, old.First, 1)
	if readErr != nil {
		return readErr
	}
	if len(rows) != 1 || rows[0].Position != old.First {
		return err
	}
	first, parseErr := ParseLeaf(rows[0].Leaf)
	if parseErr != nil {
		return err
	}
	key, ok := strings.CutPrefix(factOf(first, factKey), old.Name+"+")
	if !ok || len(key) < 9 {
		return err
	}
	b, decodeErr := base64.StdEncoding.DecodeString(key[9:])
	if decodeErr != nil || len(b) != 1+ed25519.PublicKeySize || b[0] != algEd25519 {
		return err
	}
	return c.verify(b[1:])
}

// begin adds origin o with its first entry, and gives its name.
func begin(ctx context.Context, tx Tx, d *Deps, by core.Actor, o Origin, facts []core.Fact) (string, error) {
	o.Name = d.Name + "/" + strings.ToLower(rand.Text()[:originSuffix-1])
	r := core.Record{
		Time: d.Now(), Kind: KindOriginBegun, Actor: by,
		Facts: append([]core.Fact{
			{Name: factOrigin, Value: o.Name},
			{Name: factKey, Value: VerifierKey(o.Name, d.Key.Public())},
		}, facts...),
	}
	leaf, err := AppendLeaf(nil, &r)
	if err != nil {
		return "", err
	}
	h := LeafHash(leaf)
	o.Size, o.Root = 1, h
	if err := tx.AddLedgerOrigin(ctx, o, r); err != nil {
		return "", err
	}
	return o.Name, tx.PutLedgerTiles(ctx, o.Number, []Tile{{Level: 0, N: 0, Hashes: h[:]}})
}

// opened opens a ledger that just began and signs its head.
func opened(ctx context.Context, d Deps) (*Ledger, error) {
	l, err := Open(ctx, d)
	if err != nil {
		return nil, err
	}
	if _, err := l.Checkpoint(ctx); err != nil {
		return nil, err
	}
	return l, nil
}
