package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/sampling"
	"github.com/hawser-iot/hawser/internal/server"
)

func evidenceCommands() []*command {
	return []*command{
		{
			name: "evidence key", args: "FILE", nargs: [2]int{1, 1},
			short: "make the key that signs evidence, apart from the server",
			long: `Makes a key in the form of OpenSSH and, in FILE.signers, its public half. Make it on
another machine than the server's: who runs the server alone must not be able to sign
for the maker. Publish the public half where auditors find it without you: the command
prints the line of allowed signers, of security.txt and of the DNS. Put FILE.signers
where the server's key evidence_signers says: the console's page Evidence shows it then,
and the HTTPS door serves it, at /.well-known/hawser-evidence.signers and in
/.well-known/security.txt.`,
			example: "hawser evidence key evidence.key",
			run:     evidenceKey,
		},
		{
			name: "evidence export", args: "FOLDER --key FILE", nargs: [2]int{1, 1},
			short: "write everything that is proved to a signed folder of plain files",
			long: `Puts together what the verdicts of now stand on: every round of observations of the
period, the proofs that they stand in the ledger, verdicts, claims, cross-walk, OSCAL
files, a page to read, and SHA256SUMS with a signature that ssh-keygen verifies. Without
--key it writes a draft, to be signed on the machine that has the key: hawser evidence
sign. No personal data is in it. That it was exported stands in the ledger.`,
			example: "hawser evidence export bundle-2026-11 --key evidence.key --earlier checkpoint-of-last-month",
			flags: func(e *env) {
				e.str("key", "", "the evidence key's `file`; without it a draft FOLDER.tar is written")
				e.str("since", "", "also what was observed since this `time`: 2026-11-01T00:00:00Z")
				e.str("cosigned", "", "the `file` cosigned that a witness wrote: the bundle ends there")
				e.str("earlier", "", "a checkpoint `file` from before: the bundle shows that the ledger grew out of it")
			},
			run: evidenceExport,
		},
		{
			name: "evidence sign", args: "DRAFT FOLDER --key FILE", nargs: [2]int{2, 2},
			short:   "sign a draft where the evidence key is",
			long:    "Reads a draft that was exported without a key, verifies what can be verified of it, signs it and writes the bundle to a new folder. Needs no server and no network.",
			example: "hawser evidence sign draft-2026-11.tar signed-2026-11 --key evidence.key",
			flags:   func(e *env) { e.str("key", "", "the evidence key's `file`") },
			run: func(ctx context.Context, e *env) error {
				f, err := os.Open(e.args[0])
				if err != nil {
					return fmt.Errorf("read the draft: %w", err)
				}
				defer func() { _ = f.Close() }() // only read
				return writeBundle(ctx, e, f, e.args[1])
			},
		},
		{
			name: "evidence verify", args: "FOLDER", nargs: [2]int{1, 1},
			short: "verify a bundle, offline, and work out every verdict anew",
			long: `Verifies sums, signature, every round, its place in the ledger, and recomputes every
verdict, page and file that follows from them. It believes nothing that the bundle says
of itself: who may sign and where the ledger stood earlier it must be told, from
elsewhere. Without them it says "self-consistent only", without a witness "unwitnessed".
It needs no server and opens no network. Stock tools do the first part:
  cd FOLDER && sha256sum -c SHA256SUMS
  ssh-keygen -Y verify -f SIGNERS -I evidence -n hawser-evidence -s SHA256SUMS.sig < SHA256SUMS
An assessor gives the nonce of each sample and, after an @, the digest that was shown
before the nonce was told: those samples must be in the bundle.
The exit code is 0 when it is proved, and by a witness where --witness names one;
1 when anything is wrong, 4 for "self-consistent only", 5 for "unwitnessed" where a
witness was named.`,
			example: "hawser evidence verify bundle-2026-11 --signers evidence.key.signers --checkpoint checkpoint-of-last-month",
			flags: func(e *env) {
				e.str("signers", "", "a `file` of allowed signers, from elsewhere")
				e.str("checkpoint", "", "a checkpoint `file` obtained earlier, from elsewhere")
				e.str("log-key", "", "the ledger's public `key` (NAME+ID+KEY), from elsewhere")
				e.str("witness", "", "the public `key` of a witness, from elsewhere; several with commas")
				e.str("sample", "", "each sample that you drew, as `NONCE@DIGEST`; several with commas")
			},
			run: evidenceVerify,
		},
	}
}

func evidenceKey(_ context.Context, e *env) error {
	path := e.args[0]
	k, err := bundle.CreateKey(path)
	if err != nil {
		return err
	}
	public := path + ".signers"
	f, err := os.OpenFile(public, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write the public half: %w", err)
	}
	_, err = fmt.Fprintln(f, k.Public().AllowedSigner())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the public half: %w", err)
	}
	out := map[string]string{
		"key": path, "signers": public, "fingerprint": k.Public().Fingerprint(), "allowed_signer": k.Public().AllowedSigner(),
		"security_txt": k.Public().SecurityTXT(), "dns_name": bundle.DNSName, "dns_txt": k.Public().DNSTXT(),
	}
	return e.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "made %s (keep it away from the server) and %s\n\n", path, public)
		fmt.Fprintf(w, "fingerprint      %s\n\n", k.Public().Fingerprint())
		fmt.Fprintf(w, "allowed signers  %s\n\n", k.Public().AllowedSigner())
		fmt.Fprintf(w, "security.txt     %s\n\n", k.Public().SecurityTXT())
		fmt.Fprintf(w, "DNS              %s IN TXT %q\n", bundle.DNSName, k.Public().DNSTXT())
	})
}

func evidenceExport(ctx context.Context, e *env) error {
	var q api.EvidenceRequest
	if text := *e.opt["since"]; text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return core.E(core.Invalid, "since", "--since is no time", "write it as in 2026-11-01T00:00:00Z")
		}
		q.Since = &t
	}
	if name := *e.opt["earlier"]; name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read the earlier checkpoint: %w", err)
		}
		q.Earlier = []string{string(b)}
	}
	if name := *e.opt["cosigned"]; name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read the cosigned checkpoint: %w", err)
		}
		q.Cosigned = string(b)
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var draft bytes.Buffer
	if err := c.Fetch(ctx, "POST", "/v1/evidence", q, &draft); err != nil {
		return err
	}
	if *e.opt["key"] != "" {
		return writeBundle(ctx, e, &draft, e.args[0])
	}
	name := e.args[0] + ".tar"
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return core.E(core.Conflict, "exists", name+" exists already", "name a new one")
	}
	if err != nil {
		return fmt.Errorf("write the draft: %w", err)
	}
	_, err = f.Write(draft.Bytes())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(name) // half a draft is none; the error is the one to report
		return fmt.Errorf("write the draft: %w", err)
	}
	return e.print(map[string]string{"draft": name}, func(w io.Writer) {
		fmt.Fprintf(w, "the draft is in %s; sign it where the evidence key is:\n  hawser evidence sign %s %s --key FILE\n", name, name, e.args[0])
	})
}

// writeBundle signs a draft and writes it to a new folder.
func writeBundle(ctx context.Context, e *env, draft io.Reader, folder string) error {
	if *e.opt["key"] == "" {
		return core.E(core.Invalid, "no-key", "no evidence key is named", "give --key FILE; `hawser evidence key FILE` makes one")
	}
	k, err := bundle.LoadKey(*e.opt["key"])
	if err != nil {
		return err
	}
	d, err := bundle.ReadDraft(draft)
	if err != nil {
		return err
	}
	if err := d.Write(ctx, folder, k); err != nil {
		return err
	}
	return e.print(map[string]string{"bundle": folder, "fingerprint": k.Public().Fingerprint()}, func(w io.Writer) {
		fmt.Fprintf(w, "the bundle is in %s, signed by %s; open %s/index.html, and hand the folder on\n", folder, k.Public().Fingerprint(), folder)
	})
}

// verifiedBundle is what `evidence verify --json` prints.
type verifiedBundle struct {
	Verified bool `json:"verified"`
	bundle.Report
	Headline string `json:"headline"`
	Witness  string `json:"witnessed"`
}

func evidenceVerify(ctx context.Context, e *env) error {
	t := bundle.Trust{Now: time.Now(), Program: version}
	read := func(flag string, into *[]byte) error {
		name := *e.opt[flag]
		if name == "" {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read --%s: %w", flag, err)
		}
		*into = b
		return nil
	}
	if err := errors.Join(read("signers", &t.Signers), read("checkpoint", &t.Earlier)); err != nil {
		return err
	}
	if k := *e.opt["log-key"]; k != "" {
		t.LogKeys = []string{k}
	}
	if k := *e.opt["witness"]; k != "" {
		t.Witnesses = strings.Split(k, ",")
	}
	if text := *e.opt["sample"]; text != "" {
		for _, one := range strings.Split(text, ",") {
			d, err := drawing(one)
			if err != nil {
				return err
			}
			t.Drawings = append(t.Drawings, d)
		}
	}
	t.Checks = server.DeclaredChecks()
	r, err := bundle.VerifyDir(ctx, e.args[0], t)
	if err != nil {
		return err
	}
	v := verifiedBundle{Verified: r.OK(), Report: r, Witness: r.Witnessed()}
	if r.State != nil {
		v.Headline = r.State.Headline.String()
	}
	if err := e.print(v, func(w io.Writer) {
		fmt.Fprintf(w, "%s, %s\n", r.Standing, r.Witnessed())
		for _, b := range r.Because {
			paragraph(w, "  "+b, 4)
		}
		for _, f := range r.Faults {
			paragraph(w, "  WRONG: "+f, 4)
		}
		for _, n := range r.Notes {
			paragraph(w, "  "+n, 4)
		}
		signer := r.Signer
		if signer == "" {
			signer = "a key that nobody vouched for"
		}
		fmt.Fprintf(w, "\nsigned by      %s (%s)\n", signer, r.Fingerprint)
		fmt.Fprintf(w, "verdicts at    %s\n", r.At.UTC().Format("2006-01-02 15:04:05 UTC"))
		fmt.Fprintf(w, "rests on       %d observations and %d trials in rounds %d to %d, %d entries of %s\n", r.Observations, r.Trials, r.First, r.Last, r.Entries, r.Origin)
		if r.Samplings > 0 {
			mine := "; give --sample to see whether yours are among them"
			if t.Drawings != nil {
				mine = fmt.Sprintf(", %d of them yours", r.Own)
			}
			fmt.Fprintf(w, "samples        %d%s\n", r.Samplings, mine)
		}
		if v.Headline != "" {
			fmt.Fprintf(w, "%s\n", v.Headline)
		}
	}); err != nil {
		return err
	}
	return standing(r.OK(), r.Standing, len(t.Witnesses) > 0 && len(r.Witnesses) == 0)
}

// drawing reads NONCE@DIGEST, or NONCE alone.
func drawing(text string) (d bundle.Drawing, err error) {
	nonce, digest, given := strings.Cut(text, "@")
	if d.Nonce, err = sampling.ParseNonce(nonce); err != nil || !given {
		return d, err
	}
	if d.Digest, err = core.ParseHash(strings.TrimSpace(digest)); err != nil {
		return d, core.E(core.Invalid, "sample-digest", "what stands after the @ is no digest of a sample", "give it as `hawser sample begin` or the page showed it before the nonce was told")
	}
	return d, nil
}

// standing is the outcome of verifying what others handed over.
func standing(ok bool, s bundle.Standing, unwitnessed bool) error {
	switch {
	case !ok:
		return &quiet{exitFailed}
	case s != bundle.Proved:
		return &quiet{exitSelfConsistent}
	case unwitnessed:
		return &quiet{exitUnwitnessed}
	}
	return nil
}
