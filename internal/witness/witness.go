package witness

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
)

// Options are what a witness stands on. All of it is required.
type Options struct {
	// Dir is a folder that nobody else writes to.
	Dir string
	Key Key
	// Logs are the public keys (NAME+ID+KEY) of the ledgers that it watches,
	// obtained from elsewhere than the server. A ledger that began anew after a
	// restore has another name, and is watched only when a person adds it.
	Logs []string
	Now  func() time.Time
}

// Witness watches ledgers. It is safe for concurrent use within one process;
// no two processes may share its folder.
type Witness struct {
	o  Options
	mu sync.Mutex // one look at a time
}

// New makes a witness.
func New(o Options) (*Witness, error) {
	if o.Dir == "" || o.Key.priv == nil || len(o.Logs) == 0 || o.Now == nil {
		return nil, errors.New("witness: Dir, Key, Logs and Now are required")
	}
	for _, l := range o.Logs {
		if origin, _, ok := strings.Cut(l, "+"); !ok || badName(origin) {
			return nil, core.E(core.Invalid, "bad-log-key", fmt.Sprintf("%q is no ledger's key", l), "give NAME+ID+KEY as `hawser ledger key` prints it")
		}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the witness's folder: %w", err)
	}
	return &Witness{o: o}, nil
}

// Cosigned is what one look came to.
type Cosigned struct {
	Origin string    `json:"origin"`
	Size   uint64    `json:"size"`
	Grew   uint64    `json:"grew"`  // entries since the last look
	First  bool      `json:"first"` // nothing of it was known before
	At     time.Time `json:"at"`
	Note   []byte    `json:"-"` // the checkpoint with this witness's cosignature
	Line   string    `json:"-"` // that cosignature alone
}

// Contradiction says that a ledger contradicts itself. Both checkpoints bear
// its signature, so that anybody can see it.
type Contradiction struct {
	Kind   string // "fork" or "rollback"
	Origin string
	Before []byte // what this witness had seen
	Now    []byte // what was shown to it now
	Kept   string // the file that holds both
	why    string
}

func (c *Contradiction) Error() string { return c.why }

// refuse is loud: the two checkpoints go into a file, and the error says what
// was seen.
func (w *Witness) refuse(kind, origin string, m *Memory, note []byte, format string, args ...any) error {
	c := &Contradiction{Kind: kind, Origin: origin, Before: []byte(m.Note), Now: note, why: fmt.Sprintf(format, args...)}
	var err error
	if c.Kept, err = w.accuse(kind, origin, w.o.Now(), m.Note, string(note)); err != nil {
		return errors.Join(c, err)
	}
	return &core.Error{
		Kind: core.Conflict, Reason: "ledger-" + kind, Err: c,
		Message: fmt.Sprintf("the ledger %s: %s", origin, c.why),
		Hint:    "both checkpoints are in " + c.Kept + "; show them to whoever relies on this ledger, and do not cosign it before a person knows why",
	}
}

// Last is what was last seen of a ledger; nil: nothing.
func (w *Witness) Last(origin string) (*Memory, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.remember(origin)
}

// Look fetches the newest checkpoint, holds it against the last one seen, and
// cosigns it. Nothing is cosigned that was not first remembered. An error that
// is a *Contradiction (errors.As) is a ledger that lies; any other may pass.
func (w *Witness) Look(ctx context.Context, c Client) (Cosigned, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	note, err := c.Checkpoint(ctx)
	if err != nil {
		return Cosigned{}, fmt.Errorf("fetch checkpoint: %w", err)
	}
	head, text, err := w.known(note)
	if err != nil {
		return Cosigned{}, err
	}
	m, err := w.remember(head.Origin)
	if err != nil {
		return Cosigned{}, err
	}
	out := Cosigned{Origin: head.Origin, Size: head.Size, First: m == nil, At: w.o.Now().UTC().Truncate(time.Second)}
	if m == nil {
		m = &Memory{Root: base64.StdEncoding.EncodeToString(emptyRoot())}
	} else if out.At.Before(m.Seen) {
		return Cosigned{}, core.E(core.Unready, "witness-clock", fmt.Sprintf("this machine's clock says %s, the last look was at %s", out.At, m.Seen), "set the clock; a cosignature is a statement about time")
	}
	if err := w.grew(ctx, c, m, &head, note); err != nil {
		return Cosigned{}, err
	}
	out.Grew = head.Size - m.Size
	out.Line = w.o.Key.cosign(text, out.At)
	out.Note = append(ownSignatures(note, head.Origin), out.Line...)
	root := base64.StdEncoding.EncodeToString(head.Root[:])
	if err := w.keep(&Memory{head.Origin, head.Size, root, out.At, string(out.Note)}); err != nil {
		return Cosigned{}, err
	}
	return out, nil
}

// known reads a checkpoint and holds that a watched ledger signed it. text is
// what was signed.
func (w *Witness) known(note []byte) (head verify.Checkpoint, text string, err error) {
	c, err := ledger.ParseCheckpoint(note)
	if err != nil {
		return head, "", fmt.Errorf("what the server shows is no checkpoint: %w", err)
	}
	for _, l := range w.o.Logs {
		if origin, _, _ := strings.Cut(l, "+"); origin != c.Origin {
			continue
		}
		if head, err = verify.Signed(note, l); err != nil {
			return head, "", &core.Error{
				Kind: core.Conflict, Reason: "ledger-key-changed", Err: err,
				Message: "the checkpoint of " + c.Origin + " is not signed by the key that this witness knows: " + err.Error(),
				Hint:    "a ledger's key does not change; ask its operator, not its server, what happened",
			}
		}
		if head.Size == 0 {
			return head, "", core.E(core.Unready, "empty-ledger", "the ledger "+c.Origin+" holds nothing yet", "look again later")
		}
		i := strings.LastIndex(string(note), "\n\n")
		return head, string(note[:i+1]), nil
	}
	return head, "", core.E(core.Conflict, "unknown-ledger", fmt.Sprintf("the server shows the ledger %q, which this witness does not watch", c.Origin),
		"after a restore a ledger begins anew under another name: ask its operator whether that is so, and add its key")
}

// grew holds that the ledger begins with what was last seen of it.
func (w *Witness) grew(ctx context.Context, c Client, m *Memory, head *verify.Checkpoint, note []byte) error {
	var before verify.Hash
	if raw, err := base64.StdEncoding.Strict().DecodeString(m.Root); err != nil || copy(before[:], raw) != len(before) {
		return core.E(core.Unready, "witness-memory", w.path(head.Origin)+" is not what this witness wrote", "put the file back")
	}
	switch {
	case head.Size < m.Size:
		return w.refuse("rollback", head.Origin, m, note, "it had %d entries at %s and shows %d now: it forgot", m.Size, stamp(m.Seen), head.Size)
	case head.Size == m.Size && head.Root != before:
		return w.refuse("fork", head.Origin, m, note, "it signed two different states of %d entries", m.Size)
	case head.Size == m.Size:
		return nil
	}
	begins, err := begins(ctx, c, m.Size, head)
	if err != nil {
		return &core.Error{
			Kind: core.Unready, Reason: "bad-tiles", Err: err,
			Message: fmt.Sprintf("the tiles of %s prove nothing: %v", head.Origin, err), Hint: "look again; if it stays so, the server's database is damaged",
		}
	}
	if begins != before {
		return w.refuse("fork", head.Origin, m, note, "its %d entries do not begin with the %d that it had signed by %s: history was rewritten", head.Size, m.Size, stamp(m.Seen))
	}
	return nil
}

// begins is the root of the first size entries of a ledger, proven against its
// head. Tiles that do not make the tree that was signed prove nothing, neither
// that it grew nor that it did not: they are an error.
func begins(ctx context.Context, c Client, size uint64, head *verify.Checkpoint) (verify.Hash, error) {
	tile := func(t ledger.TileRef) ([]byte, error) { return c.Tile(ctx, t) }
	p := ledger.NewProver(head.Size, tile)
	root, err := p.Root()
	if err == nil && verify.Hash(root) != head.Root {
		err = errors.New("they make another tree than the one that was signed")
	}
	if err != nil {
		return verify.Hash{}, err
	}
	old, err := ledger.NewProver(size, tile).Root()
	if err != nil {
		return verify.Hash{}, err
	}
	path, err := p.Consistency(size)
	if err != nil {
		return verify.Hash{}, err
	}
	proof := make([]verify.Hash, len(path))
	for i, h := range path {
		proof[i] = verify.Hash(h)
	}
	return verify.Hash(old), verify.Consistency(size, verify.Hash(old), head.Size, head.Root, proof)
}

// ownSignatures is a note with the ledger's own signatures only: what others
// put there is theirs to show, and may be anything.
func ownSignatures(note []byte, origin string) []byte {
	i := strings.LastIndex(string(note), "\n\n") + 2
	out := append([]byte{}, note[:i]...)
	for line := range strings.Lines(string(note[i:])) {
		if strings.HasPrefix(line, "— "+origin+" ") {
			out = append(out, line...)
		}
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
