// Package verify checks an export of Hawser's ledger. It shares no code with
// what wrote it: its own RFC 6962 hashing, its own reading of signed notes and
// of every line, and no import of ours, so that one mistake cannot hide itself
// in both. It answers: is every entry there, in its place and unchanged, is
// the whole what the log's key signed, and does it begin with what was signed
// earlier, when the caller brings an earlier checkpoint from elsewhere. It
// does not judge whether what the entries say is true.
package verify

import (
	"bufio"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Options says what the verifier trusts. With nothing, an export can only be
// shown to agree with itself: whoever holds the log's key could have written
// it all anew.
type Options struct {
	// Keys are the log's public keys (NAME+ID+KEY), known from elsewhere.
	// Names do not matter, as every origin has its own. Empty: the keys that
	// the export names are taken, and the report says so.
	Keys []string
	// Earlier is a checkpoint that was obtained before, from elsewhere: kept
	// by the verifier himself, or by a witness.
	Earlier []byte
	// Witnesses are public keys of witnesses (https://c2sp.org/tlog-witness).
	Witnesses []string
}

// Standing says how much a faultless export proves.
type Standing string

// The standings.
const (
	Proved         Standing = "consistent with the earlier checkpoint"
	SelfConsistent Standing = "self-consistent only"
	DeclaredLost   Standing = "self-consistent only: what the earlier checkpoint covers is declared lost"
	Refuted        Standing = "refuted"
)

// Unwitnessed is how a report calls a ledger that no witness cosigned.
const Unwitnessed = "unwitnessed"

// Report is what an export shows.
type Report struct {
	Standing  Standing
	Pinned    bool     // the key came from the caller, not from the export
	Witnesses []string // names of the witnesses that cosigned a checkpoint of it
	Entries   uint64
	Origins   []Origin
	Losses    []Loss
	Head      Checkpoint // of the last origin
	Faults    []Fault    // at most 100; empty when all is well
}

// OK reports whether nothing is wrong with the export.
func (r *Report) OK() bool { return len(r.Faults) == 0 }

// Witnessed is "unwitnessed", or who cosigned.
func (r *Report) Witnessed() string {
	if len(r.Witnesses) == 0 {
		return Unwitnessed
	}
	return "witnessed by " + strings.Join(r.Witnesses, ", ")
}

// Origin is one log of the export.
type Origin struct {
	Name    string
	Key     string // NAME+ID+KEY
	Entries uint64
	Root    Hash
}

// Loss is a place where one origin ended with a restore and the next began: a
// declared break in the evidence, in the words of who restored.
type Loss struct {
	After  string // the origin that ended
	Kept   uint64 // entries of it that exist
	In     string // the origin of the last checkpoint known before the restore; "" when none was
	Signed uint64 // entries that it covered
	Root   Hash   // their root
	Said   string // what was lost, in the words of who restored
}

// Fault is one thing that is wrong.
type Fault struct {
	Origin string
	First  int64 // index of the first entry that is or may be bad; -1 when it cannot be told
	Last   int64 // index of the last one that may be bad
	What   string
}

func (f Fault) String() string {
	switch {
	case f.First < 0:
		return fmt.Sprintf("%s: %s", f.Origin, f.What)
	case f.First == f.Last:
		return fmt.Sprintf("%s entry %d: %s", f.Origin, f.First, f.What)
	}
	return fmt.Sprintf("%s entries %d to %d: %s", f.Origin, f.First, f.Last, f.What)
}

const (
	maxLineBytes = 1 << 18
	maxFaults    = 100
	maxOrigins   = 4096
	maxNotes     = 16
	blockSize    = 256
)

// Log verifies an export. The error is about reading or the options; what is
// wrong with the export stands in the report's Faults.
func Log(export io.Reader, o Options) (Report, error) {
	v := verifier{}
	if err := v.trust(o); err != nil {
		return Report{}, err
	}
	in := bufio.NewReaderSize(export, maxLineBytes)
	for n := 1; ; n++ {
		b, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			if len(b) > 0 {
				v.stop(n, "is cut off")
			}
			break
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			v.stop(n, "is too long")
			break
		}
		if err != nil {
			return Report{}, fmt.Errorf("read export: %w", err)
		}
		l, err := parseLine(string(b[:len(b)-1]))
		if err == nil && (n == 1) != (l.kind == lineHead) {
			err = errLine
		}
		if err != nil {
			v.stop(n, err.Error())
			break
		}
		v.line(l)
	}
	v.finish()
	return v.r, nil
}

type verifier struct {
	r         Report
	keys      []ed25519.PublicKey // pinned
	witnesses []pubKey
	earlier   *Checkpoint
	settled   bool // the earlier checkpoint was found good, bad or declared lost
	stopped   bool
	cur       *log
	before    *log
}

// log is the origin that is being read.
type log struct {
	Origin
	pub    ed25519.PublicKey
	notes  []Checkpoint
	passed []Hash // root when the size of notes[i] was reached
	tree   tree
	block  tree   // the 256 entries that are being read
	next   uint64 // index that is due
	broken bool   // entries are missing or out of order: roots cannot be compared
	want   bool   // a subtree line is due
}

func (v *verifier) trust(o Options) error {
	for _, text := range o.Keys {
		k, err := parseKey(text)
		if err != nil {
			return err
		}
		if k.alg != algLog {
			return fmt.Errorf("the key of %s is not a log's", k.name)
		}
		v.keys = append(v.keys, k.key)
	}
	v.r.Pinned = len(v.keys) > 0
	for _, text := range o.Witnesses {
		k, err := parseKey(text)
		if err != nil {
			return err
		}
		if k.alg != algWitness {
			return fmt.Errorf("the key of %s is not a witness's", k.name)
		}
		v.witnesses = append(v.witnesses, k)
	}
	if o.Earlier != nil {
		c, err := parseCheckpoint(string(o.Earlier))
		if err != nil {
			return fmt.Errorf("earlier checkpoint: %w", err)
		}
		if c.Size == 0 {
			return errors.New("the earlier checkpoint covers no entries")
		}
		v.earlier = &c
	}
	return nil
}

// fault notes what is wrong with entries first to last of the current origin.
func (v *verifier) fault(first, last int64, format string, args ...any) {
	f := Fault{First: first, Last: last, What: fmt.Sprintf(format, args...)}
	if v.cur != nil {
		f.Origin = v.cur.Name
	}
	if len(v.r.Faults) < maxFaults {
		v.r.Faults = append(v.r.Faults, f)
	}
}

func (v *verifier) stop(n int, why string) {
	v.stopped = true
	v.fault(-1, -1, "line %d of the export %s", n, why)
}

func (v *verifier) line(l line) {
	if v.cur == nil && l.kind != lineOrigin {
		if l.kind != lineHead {
			v.fault(-1, -1, "the export does not begin with an origin")
		}
		return
	}
	if v.cur != nil && v.cur.want && l.kind != lineSubtree {
		v.fault(-1, -1, "the root over entries %d to %d is missing", v.cur.tree.size-blockSize, v.cur.tree.size-1)
		v.cur.want = false
	}
	switch l.kind {
	case lineOrigin:
		v.begin(l)
	case lineCheckpoint:
		v.checkpoint(l)
	case lineEntry:
		v.entry(l)
	case lineSubtree:
		v.subtree(l)
	}
}

// begin ends the origin that was read and begins the next.
func (v *verifier) begin(l line) {
	if v.cur != nil {
		v.end()
		v.before = v.cur
	}
	v.cur = &log{Origin: Origin{Name: l.text, Key: l.key}}
	if len(v.r.Origins) >= maxOrigins {
		v.fault(-1, -1, "more than %d origins", maxOrigins)
		return
	}
	for _, o := range v.r.Origins {
		if o.Name == l.text {
			v.fault(-1, -1, "the origin stands twice")
		}
	}
	k, err := parseKey(l.key)
	switch {
	case err != nil:
		v.fault(-1, -1, "%v", err)
	case k.alg != algLog || k.name != l.text:
		v.fault(-1, -1, "the key is not this origin's")
	case v.r.Pinned && !v.pinned(k.key):
		v.fault(-1, -1, "the key is not one that you trust")
	}
	v.cur.pub = k.key
}

func (v *verifier) pinned(key ed25519.PublicKey) bool {
	for _, k := range v.keys {
		if k.Equal(key) {
			return true
		}
	}
	return false
}

func (v *verifier) checkpoint(l line) {
	cur := v.cur
	c, err := parseCheckpoint(l.text)
	switch {
	case err != nil:
		v.fault(-1, -1, "%v", err)
		return
	case c.Origin != cur.Name:
		v.fault(-1, -1, "it has a checkpoint of %s", c.Origin)
		return
	case len(cur.notes) >= maxNotes:
		v.fault(-1, -1, "more than %d checkpoints", maxNotes)
		return
	case len(cur.notes) > 0 && c.Size <= cur.notes[len(cur.notes)-1].Size:
		v.fault(-1, -1, "the checkpoint over %d entries stands twice, or out of order", c.Size)
	case c.Size < cur.tree.size:
		v.fault(-1, -1, "the checkpoint over %d entries stands after entry %d", c.Size, cur.tree.size-1)
	case cur.pub == nil:
		return // its key was faulty
	}
	if err := c.signedBy(cur.pub); err != nil {
		v.fault(-1, -1, "%v", err)
	}
	cur.notes = append(cur.notes, c)
	cur.passed = append(cur.passed, Hash{})
}

func (v *verifier) entry(l line) {
	cur := v.cur
	i := int64(l.n)
	switch {
	case l.n > cur.next:
		v.fault(int64(cur.next), i-1, "missing")
		cur.broken = true
	case l.n < cur.next:
		v.fault(i, i, "stands out of its order, or twice")
		cur.broken = true
	}
	cur.next = max(cur.next, l.n+1)
	h := LeafHash(l.leaf)
	if l.known && h != l.hash {
		v.fault(i, i, "was changed: it is not what was recorded")
		h = l.hash // one changed entry is one fault, not a wrong root as well
	} else if !l.known {
		v.fault(i, i, "its hash is missing from the database")
	}
	if l.raw || !canonical(l.leaf) {
		v.fault(i, i, "is not a record in canonical form")
	}
	if cur.tree.size == 0 {
		v.opening(l.leaf)
	}
	cur.tree.add(h)
	cur.block.add(h)
	cur.want = cur.block.size == blockSize && !cur.broken
	for n, c := range cur.notes {
		if c.Size == cur.tree.size {
			cur.passed[n] = cur.tree.root()
		}
	}
	if e := v.earlier; e != nil && !cur.broken && e.Origin == cur.Name && e.Size == cur.tree.size {
		v.meet(e, cur.tree.root())
	}
}

func (v *verifier) subtree(l line) {
	cur := v.cur
	last := int64(cur.tree.size) - 1
	switch {
	case cur.broken:
	case !cur.want || (l.n+1)*blockSize != cur.tree.size:
		v.fault(-1, -1, "a root over 256 entries stands where none is due")
	case !l.known:
		v.fault(last-blockSize+1, last, "their common hash is missing from the database")
	case cur.block.root() != l.hash:
		v.fault(last-blockSize+1, last, "one or more of them were changed together with their hashes")
	}
	cur.want, cur.block = false, tree{}
}

// meet compares the earlier checkpoint with what the export has at its size.
func (v *verifier) meet(e *Checkpoint, root Hash) {
	v.settled = true
	if err := v.earlierSigned(e, v.cur.pub); err != nil {
		v.fault(-1, -1, "%v", err)
		return
	}
	if root != e.Root {
		v.fault(-1, -1, "it does not begin with the %d entries of the earlier checkpoint: history was rewritten", e.Size)
		return
	}
	v.r.Standing = Proved
	v.cosigned(e)
}

// earlierSigned holds that the earlier checkpoint bears the signature of a
// trusted key, or of the origin's where none was given.
func (v *verifier) earlierSigned(e *Checkpoint, origins ed25519.PublicKey) error {
	keys := v.keys
	if !v.r.Pinned && origins != nil {
		keys = []ed25519.PublicKey{origins}
	}
	err := errors.New("no key to check it with")
	for _, k := range keys {
		if err = e.signedBy(k); err == nil {
			return nil
		}
	}
	return fmt.Errorf("earlier checkpoint: %w", err)
}

func (v *verifier) cosigned(c *Checkpoint) {
	for _, w := range v.witnesses {
		if c.witnessedBy(w) {
			v.r.Witnesses = append(v.r.Witnesses, w.name)
		}
	}
}

// end settles the origin that was read to its end.
func (v *verifier) end() {
	cur := v.cur
	cur.Entries, cur.Root = cur.next, cur.tree.root()
	v.r.Entries += cur.Entries
	if len(v.r.Origins) < maxOrigins {
		v.r.Origins = append(v.r.Origins, cur.Origin)
	}
	if cur.Entries == 0 {
		v.fault(0, 0, "missing: the origin has no entries")
	}
	for n, c := range cur.notes {
		switch {
		case c.Size > cur.Entries:
			v.fault(int64(cur.Entries), int64(c.Size)-1, "missing: %d entries were signed", c.Size)
		case c.Size > 0 && !cur.broken && cur.passed[n] != c.Root:
			v.fault(-1, -1, "its first %d entries are not those that were signed", c.Size)
		}
	}
}

// finish settles the whole.
func (v *verifier) finish() {
	if v.cur == nil {
		v.fault(-1, -1, "the export holds no ledger")
		v.r.Standing = Refuted
		return
	}
	if v.cur.want && !v.stopped {
		v.fault(-1, -1, "the root over the last 256 entries is missing")
	}
	v.end()
	if n := len(v.cur.notes); n == 0 {
		v.fault(-1, -1, "no checkpoint signs it")
	} else {
		v.r.Head = v.cur.notes[n-1]
		if v.r.Head.Size < v.cur.Entries {
			v.fault(int64(v.r.Head.Size), int64(v.cur.Entries)-1, "no checkpoint covers them")
		}
		v.cosigned(&v.r.Head)
	}
	if v.earlier != nil && !v.settled && v.r.OK() {
		v.unmet(v.earlier)
	}
	switch {
	case !v.r.OK():
		v.r.Standing = Refuted
	case v.r.Standing == "":
		v.r.Standing = SelfConsistent
	}
}
