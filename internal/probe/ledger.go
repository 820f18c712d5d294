package probe

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
)

// Memory is the last checkpoint that was seen of one ledger.
type Memory struct {
	Origin string    `json:"origin"`
	Size   uint64    `json:"size"`
	Root   string    `json:"root"` // base64, as in the checkpoint
	Seen   time.Time `json:"seen"`
	Note   string    `json:"note"` // as it was served
}

// Contradiction is two checkpoints that cannot both be of one ledger that only
// grows. It is kept for ever: it is the evidence.
type Contradiction struct {
	At     time.Time `json:"at"`
	Why    string    `json:"why"`
	Before string    `json:"before"`
	After  string    `json:"after"`
}

// memories is the state file: what was last seen, by address.
type memories struct {
	Version        int               `json:"version"`
	Seen           map[string]Memory `json:"seen"`
	Contradictions []Contradiction   `json:"contradictions,omitempty"`
}

const (
	maxStateBytes     = 4 << 20
	maxContradictions = 100
	maxTiles          = 96
)

// recall reads the state file; one that is not there is empty.
func recall(path string) (*memories, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &memories{Version: 1, Seen: map[string]Memory{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was last seen: %w", err)
	}
	m := &memories{}
	if len(b) > maxStateBytes || json.Unmarshal(b, m) != nil || m.Version != 1 || m.Seen == nil {
		return nil, core.E(core.Unready, "probe-state", path+" is not what a probe wrote", "put the file back, or choose another with --state")
	}
	return m, nil
}

// keep replaces the state file: whole, or not at all.
func (m *memories) keep(path string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("remember the checkpoint: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".probe-")
	if err != nil {
		return fmt.Errorf("remember the checkpoint: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what is left of a failed write is of no use
		return fmt.Errorf("remember the checkpoint: %w", err)
	}
	return nil
}

// ledgerRows are the rows that a ledger which everybody can hold to its word
// is about.
func ledgerRows() []string { return []string{"3.3"} }

// askLedger fetches the checkpoint, holds it against the tiles and against
// what was seen the last time.
func (p *run) askLedger(ctx context.Context) {
	a, err := p.get(ctx, p.base+"/checkpoint")
	if err != nil {
		p.say("checkpoint", ledgerRows(), "the ledger's checkpoint", Mute, "%v", plain(err))
		return
	}
	if a.status != 200 {
		p.say("checkpoint", ledgerRows(), "the ledger's checkpoint", Bad, "status %d", a.status)
		return
	}
	head, err := ledger.ParseCheckpoint(a.body)
	if err != nil {
		p.say("checkpoint", ledgerRows(), "the ledger's checkpoint", Bad, "what is served is none: %v", err)
		return
	}
	if p.o.LedgerKey == "" {
		p.say("checkpoint", ledgerRows(), "the ledger's checkpoint", Seen, "%s, %d entries; whether its key signed it was not asked", head.Origin, head.Size)
	} else if _, err := verify.Signed(a.body, p.o.LedgerKey); err != nil {
		p.say("checkpoint", ledgerRows(), "a checkpoint that the ledger's key signed", Bad, "%v", err)
		return
	} else {
		p.say("checkpoint", ledgerRows(), "a checkpoint that the ledger's key signed", Good, "%s, %d entries", head.Origin, head.Size)
	}
	tile, served := p.tiles(ctx)
	root, err := ledger.NewProver(head.Size, tile).Root()
	if head.Size > 0 {
		switch {
		case err != nil:
			p.say("tiles", ledgerRows(), "the tiles of its tree", blame(err), "%v", plain(err))
		case root != head.Root:
			p.say("tiles", ledgerRows(), "the tiles of its tree", Bad, "they make another tree than the checkpoint says")
		default:
			p.say("tiles", ledgerRows(), "the tiles of its tree", Good, "%d tiles make the tree of the checkpoint", *served)
		}
	}
	p.remember(&head, tile)
}

// unheard is an answer that did not come, which is no lie.
type unheard struct{ err error }

func (u *unheard) Error() string { return u.err.Error() }

func (u *unheard) Unwrap() error { return u.err }

func blame(err error) Outcome {
	if _, ok := errors.AsType[*unheard](err); ok {
		return Mute
	}
	return Bad
}

// tiles fetches tiles, each once, a bounded number.
func (p *run) tiles(ctx context.Context) (func(ledger.TileRef) ([]byte, error), *int) {
	served := 0
	have := map[string][]byte{}
	return func(t ledger.TileRef) ([]byte, error) {
		if b, ok := have[t.Path()]; ok {
			return b, nil
		}
		if served >= maxTiles {
			return nil, fmt.Errorf("it takes more than %d tiles", maxTiles)
		}
		a, err := p.get(ctx, p.base+"/tile/"+t.Path())
		if err != nil {
			return nil, &unheard{err}
		}
		if a.status != 200 {
			return nil, fmt.Errorf("tile %s: status %d", t.Path(), a.status)
		}
		served++
		have[t.Path()] = a.body
		return a.body, nil
	}, &served
}

// remember holds a checkpoint against the one of the last time, and keeps it
// where it follows.
func (p *run) remember(head *ledger.Checkpoint, tile func(ledger.TileRef) ([]byte, error)) {
	const asked = "whether the ledger only grew since the last time"
	now := Memory{Origin: head.Origin, Size: head.Size, Root: base64.StdEncoding.EncodeToString(head.Root[:]), Seen: p.o.Now().UTC(), Note: string(head.Note)}
	p.r.Ledger = &now
	if p.o.State == "" {
		return
	}
	m, err := recall(p.o.State)
	if err != nil {
		p.say("ledger-memory", ledgerRows(), asked, Mute, "%v", err)
		return
	}
	before, known := m.Seen[p.base]
	why := ""
	if known {
		if why, err = follows(before, head, tile); err != nil {
			p.say("ledger-memory", ledgerRows(), asked, blame(err), "it does not prove it: %v", plain(err))
			return
		}
	}
	if why != "" {
		p.r.Accuses = true
		m.accuse(Contradiction{At: now.Seen, Why: why, Before: before.Note, After: now.Note})
		p.say("ledger-memory", ledgerRows(), asked, Bad, "NO: %s; both checkpoints are kept in %s", why, p.o.State)
	} else {
		m.Seen[p.base] = now
	}
	if err := m.keep(p.o.State); err != nil {
		p.say("ledger-memory", ledgerRows(), asked, Mute, "%v", err)
		return
	}
	switch {
	case why != "":
	case !known:
		p.say("ledger-memory", ledgerRows(), asked, Seen, "this is the first look: remembered in %s", p.o.State)
	default:
		p.say("ledger-memory", ledgerRows(), asked, Good, "%d entries more than on %s", head.Size-before.Size, before.Seen.Format("2006-01-02 15:04:05 UTC"))
	}
}

// accuse keeps two checkpoints that contradict each other, each pair once.
func (m *memories) accuse(c Contradiction) {
	same := func(o Contradiction) bool { return o.Before == c.Before && o.After == c.After }
	if !slices.ContainsFunc(m.Contradictions, same) && len(m.Contradictions) < maxContradictions {
		m.Contradictions = append(m.Contradictions, c)
	}
}

// follows says why a checkpoint cannot follow one of before; "": it does. An
// error means that the server does not prove it, either way.
func follows(before Memory, head *ledger.Checkpoint, tile func(ledger.TileRef) ([]byte, error)) (string, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(before.Root)
	var old core.Hash
	if err != nil || len(raw) != len(old) {
		return "", errors.New("what was remembered is damaged")
	}
	copy(old[:], raw)
	switch {
	case before.Origin != head.Origin:
		return fmt.Sprintf("it was the ledger %s and is %s now; after a restore a ledger begins anew: ask its operator, not its server", before.Origin, head.Origin), nil
	case head.Size < before.Size:
		return fmt.Sprintf("it had %d entries and shows %d: it forgot", before.Size, head.Size), nil
	case head.Size == before.Size && head.Root != old:
		return fmt.Sprintf("it signed two different states of %d entries", head.Size), nil
	case head.Size == before.Size || before.Size == 0:
		return "", nil
	}
	p := ledger.NewProver(head.Size, tile)
	if root, err := p.Root(); err != nil {
		return "", err
	} else if root != head.Root {
		return "", errors.New("the tiles make another tree than the checkpoint says")
	}
	begins, err := ledger.NewProver(before.Size, tile).Root()
	if err != nil {
		return "", err
	}
	if begins != old {
		return fmt.Sprintf("its %d entries do not begin with the %d of before: history was rewritten", head.Size, before.Size), nil
	}
	path, err := p.Consistency(before.Size)
	if err != nil {
		return "", err
	}
	proof := make([]verify.Hash, len(path))
	for i, h := range path {
		proof[i] = verify.Hash(h)
	}
	return "", verify.Consistency(before.Size, verify.Hash(old), head.Size, verify.Hash(head.Root), proof)
}
