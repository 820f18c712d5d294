package verify

import (
	"crypto/ed25519"
	"encoding/json"
	"slices"
	"strconv"
)

// begun is what the first entry of an origin says: who it is and, after a
// restore, what it continues.
type begun struct {
	kind     string
	origin   string
	key      string
	kept     string // name of the origin that ended; "" for the first origin
	keptSize uint64
	keptRoot Hash
	keptOK   bool   // size and root were readable
	signed   string // size of its last checkpoint that the database still had
	previous string
	lost     string
}

// parseBegun reads the record. The leaf is in canonical form, or was called
// faulty before.
func parseBegun(leaf []byte) begun {
	var b begun
	var members map[string]json.RawMessage
	if json.Unmarshal(leaf, &members) != nil {
		return b
	}
	var facts [][2]string
	if json.Unmarshal(members["kind"], &b.kind) != nil || json.Unmarshal(members["facts"], &facts) != nil {
		return begun{}
	}
	for _, f := range facts {
		switch f[0] {
		case "origin":
			b.origin = f[1]
		case "key":
			b.key = f[1]
		case "kept_origin":
			b.kept = f[1]
		case "kept_entries":
			n, err := strconv.ParseUint(f[1], 10, 62)
			b.keptSize, b.keptOK = n, err == nil
		case "kept_root":
			var ok bool
			b.keptRoot, ok = parseHash(f[1])
			b.keptOK = b.keptOK && ok // kept_entries stands before kept_root
		case "kept_signed":
			b.signed = f[1]
		case "previous_checkpoint":
			b.previous = f[1]
		case "lost":
			b.lost = f[1]
		}
	}
	return b
}

// opening checks the first entry of the current origin against the origin
// before it: the chain of origins.
func (v *verifier) opening(leaf []byte) {
	cur, b := v.cur, parseBegun(leaf)
	switch {
	case b.kind != "ledger-origin-begun" || b.origin != cur.Name:
		v.fault(0, 0, "does not begin this origin")
		return
	case b.key != cur.Key:
		v.fault(0, 0, "names another key than the origin's")
		return
	case v.before == nil && b.kept != "":
		v.fault(0, 0, "continues %s, which the export leaves out", clip(b.kept))
		return
	case v.before == nil:
		return
	case b.kept != v.before.Name:
		v.fault(0, 0, "does not continue %s", v.before.Name)
		return
	case !b.keptOK || b.keptSize != v.before.Entries || b.keptRoot != v.before.Root:
		v.fault(0, 0, "commits to other entries of %s than the export has", v.before.Name)
		return
	}
	if b.signed != "" && !v.before.hasNote(b.signed) {
		v.fault(0, 0, "names a checkpoint of %s over %s entries, which the export leaves out", v.before.Name, clip(b.signed))
	}
	loss := Loss{After: b.kept, Kept: b.keptSize, Said: b.lost}
	if b.previous != "" {
		v.continues(&loss, b)
	}
	v.r.Losses = append(v.r.Losses, loss)
}

// hasNote reports whether the export has the origin's checkpoint over so many
// entries.
func (l *log) hasNote(size string) bool {
	return slices.ContainsFunc(l.notes, func(c Checkpoint) bool { return strconv.FormatUint(c.Size, 10) == size })
}

// continues checks the checkpoint that the current origin says was the last
// one signed before it.
func (v *verifier) continues(loss *Loss, b begun) {
	c, err := parseCheckpoint(b.previous)
	if err != nil {
		v.fault(0, 0, "names as the last checkpoint what is none: %v", err)
		return
	}
	loss.In, loss.Signed, loss.Root = c.Origin, c.Size, c.Root
	signed := false
	for _, k := range slices.Concat(v.keys, []ed25519.PublicKey{v.cur.pub, v.before.pub}) {
		signed = signed || c.signedBy(k) == nil
	}
	if !signed {
		v.fault(0, 0, "names a last checkpoint that nobody known signed")
	}
	if c.Origin != v.before.Name {
		return // of an origin that is lost altogether
	}
	if c.Size > v.before.Entries {
		return // its tail is lost, and this entry says so
	}
	for n, note := range v.before.notes {
		if note.Size == c.Size && v.before.passed[n] == c.Root {
			return
		}
	}
	v.fault(0, 0, "names a last checkpoint that the entries of %s do not bear out", v.before.Name)
}

// covers reports whether the loss explains why the export does not have what e
// signed. A loss that was declared smaller than it is explains nothing.
func (l *Loss) covers(e *Checkpoint) bool {
	if l.In == e.Origin {
		return l.Signed > e.Size || (l.Signed == e.Size && l.Root == e.Root)
	}
	return l.After == e.Origin && l.Kept < e.Size
}

// unmet judges an earlier checkpoint whose size the export never reached in
// its origin: a loss that was declared, or a ledger that was cut or swapped.
func (v *verifier) unmet(e *Checkpoint) {
	key := v.cur.pub
	for _, o := range v.r.Origins {
		if k, err := parseKey(o.Key); err == nil && o.Name == e.Origin {
			key = k.key
		}
	}
	if err := v.earlierSigned(e, key); err != nil {
		v.fault(-1, -1, "%v", err)
		return
	}
	for _, l := range v.r.Losses {
		if l.covers(e) {
			v.r.Standing = DeclaredLost
			return
		}
	}
	for _, o := range v.r.Origins {
		if o.Name == e.Origin {
			v.fault(int64(o.Entries), int64(e.Size)-1, "missing in %s: the earlier checkpoint covers %d entries, the export has %d", o.Name, e.Size, o.Entries)
			return
		}
	}
	v.fault(-1, -1, "the earlier checkpoint is of %s, which the export does not have", clip(e.Origin))
}
