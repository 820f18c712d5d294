package console

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// EvidenceKey is a public key that evidence is signed with, in the forms in
// which others can get it from somewhere else than the evidence.
type EvidenceKey struct {
	Fingerprint   string
	AllowedSigner string // a line for ssh-keygen's file of allowed signers
	SecurityTXT   string // a line of security.txt
	DNSName       string // of the TXT record
	DNSTXT        string
}

// EvidenceKeyOf is a key in all its forms.
func EvidenceKeyOf(p bundle.PublicKey) EvidenceKey {
	return EvidenceKey{p.Fingerprint(), p.AllowedSigner(), p.SecurityTXT(), bundle.DNSName, p.DNSTXT()}
}

// Witness is a second machine that cosigns checkpoints.
type Witness struct {
	Name string
	Last time.Time // it last cosigned; zero: never
	Size uint64    // of what it cosigned
}

// EvidenceInfo is what others need to verify evidence.
type EvidenceInfo struct {
	Keys      []EvidenceKey
	SignsHere bool // false: a draft is exported, and signed where the key is
	Witnesses []Witness
	// KeysURL is where strangers find the keys, SecurityTXT the file of RFC 9116
	// that leads there; "": it is not served.
	KeysURL     string
	SecurityTXT string
}

// Evidence puts evidence together for others.
type Evidence interface {
	Info(context.Context) (EvidenceInfo, error)
	// Export writes a tar stream of what is proved since a time; zero: as late
	// as the verdicts of now allow. It is recorded before anything is written.
	Export(ctx context.Context, by core.Actor, since time.Time, w io.Writer) error
}

type evidenceView struct {
	EvidenceInfo
	Checkpoint ledger.Checkpoint
	LogKey     string
	Spans      []spanChoice
	Round      uint64
	Closed     time.Time
	Principal  string // whom ssh-keygen is to expect
	Samples    []sampleLine
	May        bool // draw samples
	Kinds      []string
	First      string // day that a sample of records begins, and its last one
	Last       string
	From       time.Time // of an assessor's period; zero: everything is shown
	Namespace  string
}

// evidenceSpans are how far back a bundle may begin: for an assessor, not
// before the period.
func evidenceSpans(now, from time.Time) []spanChoice {
	const day = 24 * time.Hour
	if !from.IsZero() {
		return []spanChoice{{"now", "what the verdicts of now stand on", 0}, {"period", "since your period began", now.Sub(from)}}
	}
	return []spanChoice{{"now", "what the verdicts of now stand on", 0}, {"week", "7 days", 7 * day}, {"month", "30 days", 30 * day}, {"quarter", "90 days", 90 * day}, {"year", "a year", 365 * day}}
}

func (c *Console) evidencePage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	view := evidenceView{Checkpoint: c.d.Ledger.Latest(), LogKey: c.d.Ledger.VerifierKey(), Spans: evidenceSpans(c.d.Now(), v.From), May: v.Holds("evidence.sample"), Kinds: recordKinds(), From: v.From, Principal: bundle.Principal, Namespace: bundle.Namespace}
	last := c.d.Proof.LastRound()
	view.Round, view.Closed = last.Number, last.Closed
	var err error
	if view.EvidenceInfo, err = c.d.Evidence.Info(r.Context()); err != nil {
		return fmt.Errorf("read keys of evidence: %w", err)
	}
	if view.Samples, err = c.sampleLines(r.Context(), v); err != nil {
		return err
	}
	first := v.From
	if first.IsZero() {
		first = c.d.Now().AddDate(0, -3, 0)
	}
	view.First, view.Last = first.UTC().Format(time.DateOnly), c.d.Now().UTC().Format(time.DateOnly)
	return c.show(w, r, v, http.StatusOK, "evidence", page{
		Title: "Evidence", Here: "/evidence", Data: view,
		Lead: "What is proved here, for somebody who does not trust this server: plain files, which anybody verifies offline with stock tools.",
	})
}

// download sets the head of an answer when its first bytes come, so that what
// fails before is still a page.
type download struct {
	w     http.ResponseWriter
	name  string
	begun bool
}

func (d *download) Write(p []byte) (int, error) {
	if !d.begun {
		d.begun = true
		d.w.Header().Set("Content-Type", "application/x-tar")
		d.w.Header().Set("Content-Disposition", `attachment; filename="`+d.name+`"`)
	}
	return d.w.Write(p)
}

func (c *Console) exportEvidence(w http.ResponseWriter, r *http.Request, v Visitor) error {
	var since time.Time
	found := false
	for _, s := range evidenceSpans(c.d.Now(), v.From) {
		if found = s.ID == r.PostFormValue("span"); found {
			if s.Back > 0 {
				since = c.d.Now().Add(-s.Back)
			}
			break
		}
	}
	if !found {
		return core.E(core.Invalid, "span", "this is no span", "choose one from the list")
	}
	info, err := c.d.Evidence.Info(r.Context())
	if err != nil {
		return fmt.Errorf("read keys of evidence: %w", err)
	}
	name := "hawser-evidence-"
	if !info.SignsHere {
		name = "hawser-evidence-draft-"
	}
	name += c.d.Now().UTC().Format("20060102T150405Z") + ".tar"
	return c.d.Evidence.Export(r.Context(), v.Actor, since, &download{w: w, name: name})
}
