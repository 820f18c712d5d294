package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/console"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// RecordExported is the kind of record of an export of evidence. Its facts:
// since (empty: as late as the verdicts allow), last_round.
const RecordExported core.RecordKind = "evidence-exported"

// evidence puts evidence together for others. The key that signs it is not
// here: what leaves is a draft, to be signed where the key is.
type evidence struct{ s *server }

// Export writes a draft (bundle.ReadDraft reads it). It is recorded before
// anything is written.
func (e evidence) Export(ctx context.Context, by core.Actor, since time.Time, w io.Writer) error {
	return e.Draft(ctx, by, since, nil, nil, w)
}

// Draft is Export, which also shows that the ledger grew out of checkpoints
// from before, and who cosigned.
func (e evidence) Draft(ctx context.Context, by core.Actor, since time.Time, earlier [][]byte, cosigned []byte, w io.Writer) error {
	s := e.s
	if len(cosigned) == 0 {
		cosigned = nil
	}
	if err := s.assure.CloseRound(ctx); err != nil {
		return err
	}
	if err := s.sequenced(ctx); err != nil {
		return err
	}
	if _, err := s.ledger.Checkpoint(ctx); err != nil {
		return err
	}
	in, err := s.assure.Input(ctx)
	if err != nil {
		return err
	}
	policies, err := s.decl.All(ctx)
	if err != nil {
		return err
	}
	drawn, err := s.samples.Drawn(ctx)
	if err != nil {
		return err
	}
	draft, err := bundle.Collect(ctx, bundle.Options{From: since, Samplings: drawn, Input: in, Policies: policies, Rounds: s.assure, Log: s.ledger, Earlier: earlier, Checkpoint: cosigned})
	if err != nil {
		return err
	}
	from := ""
	if !since.IsZero() {
		from = since.UTC().Format(time.RFC3339)
	}
	if err := s.store.Update(ctx, func(tx *store.Tx) error {
		return tx.Record(ctx, core.Record{Time: s.opt.Now().UTC().Truncate(time.Microsecond), Kind: RecordExported, Actor: by, Facts: []core.Fact{
			{Name: "since", Value: from}, {Name: "last_round", Value: strconv.FormatUint(s.assure.LastRound().Number, 10)},
		}})
	}); err != nil {
		return fmt.Errorf("record the export: %w", err)
	}
	return draft.Encode(w)
}

// Info is what others need to verify evidence.
func (e evidence) Info(ctx context.Context) (out console.EvidenceInfo, err error) {
	keys, err := e.s.evidenceKeys()
	if err != nil {
		return out, err
	}
	contacts, err := e.s.securityContacts(ctx)
	if err != nil {
		return out, err
	}
	if len(contacts) > 0 {
		out.SecurityTXT = e.s.publicHTTPS() + securityTXTPath
	}
	if len(keys) > 0 {
		out.KeysURL = e.s.publicHTTPS() + evidenceKeysPath
	}
	for _, k := range keys {
		out.Keys = append(out.Keys, console.EvidenceKey{
			Fingerprint: k.Fingerprint(), AllowedSigner: k.AllowedSigner(), SecurityTXT: k.SecurityTXT(), DNSName: bundle.DNSName, DNSTXT: k.DNSTXT(),
		})
	}
	return out, nil
}

// evidenceKeys are the public keys that the maker signs evidence with, as the
// configured file names them; none where there is no file.
func (s *server) evidenceKeys() ([]bundle.PublicKey, error) {
	b, err := readBounded(s.c.EvidenceSigners, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keys, err := bundle.PublicKeys(b)
	if err != nil {
		return nil, &core.Error{Kind: core.Invalid, Reason: "evidence-signers", Message: "the file of the evidence keys cannot be read", Hint: "the key `evidence_signers` names it; `hawser evidence key` writes one", Err: err}
	}
	return keys, nil
}
