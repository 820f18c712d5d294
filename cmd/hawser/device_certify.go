package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hawser-iot/hawser/internal/assurance/bundle"
	"github.com/hawser-iot/hawser/internal/term"
)

func certifyCommands() []*command {
	return []*command{
		{
			name: "device certify", args: "SERIAL FILE", nargs: [2]int{2, 2},
			short: "certify that a unit's credentials are its own",
			long: `Compares the unit's enrolment code and public keys with those of every other unit,
and writes what came of it: for an owner, a market's authority, a court. The statement's
digest stands in the ledger, with the observations of the whole register from the same
minute; the file has the proofs. What is shared is not certified.`,
			example: "hawser device certify A1 A1.certificate.json",
			run:     deviceCertify,
		},
		{
			name: "device verify", args: "FILE", nargs: [2]int{1, 1},
			short: "verify a unit's certificate, offline",
			long: `Verifies what hawser device certify wrote: the statement, its place in the ledger,
and the observations that it rests on. It needs no server and opens no network. The key
of the ledger has to come from elsewhere (hawser ledger key, the maker's web site, an
earlier bundle); without it the certificate is "self-consistent only". The exit code is
0 when it is proved, 1 when anything is wrong, 4 for "self-consistent only", 5 where
--witness names somebody who did not cosign.`,
			example: "hawser device verify A1.certificate.json --log-key KEY",
			flags: func(e *env) {
				e.str("log-key", "", "the ledger's public `key` (NAME+ID+KEY), from elsewhere")
				e.str("witness", "", "the public `key` of a witness, from elsewhere; several with commas")
			},
			run: deviceVerify,
		},
	}
}

func deviceCertify(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := c.Fetch(ctx, "POST", devicePath(e, "/certificate"), nil, &b); err != nil {
		return err
	}
	f, err := os.OpenFile(e.args[1], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	return e.print(map[string]string{"certificate": e.args[1]}, func(w io.Writer) {
		fmt.Fprintf(w, "%s says that the credentials of %s are its own.\nAnybody verifies it with: hawser device verify %s --log-key KEY\n(KEY: `hawser ledger key`; hand it on by another way.)\n", e.args[1], e.args[0], e.args[1])
	})
}

func deviceVerify(_ context.Context, e *env) error {
	f, err := os.Open(e.args[0])
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, bundle.MaxUnitBytes+1))
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	var t bundle.UnitTrust
	if k := *e.opt["log-key"]; k != "" {
		t.LogKeys = []string{k}
	}
	if k := *e.opt["witness"]; k != "" {
		t.Witnesses = strings.Split(k, ",")
	}
	r, err := bundle.VerifyUnit(b, t)
	if err != nil {
		return err
	}
	if err := e.print(r, func(w io.Writer) { unitReport(w, &r) }); err != nil {
		return err
	}
	return standing(len(r.Faults) == 0, r.Standing, len(t.Witnesses) > 0 && len(r.Witnesses) == 0)
}

func unitReport(w io.Writer, r *bundle.UnitReport) {
	s := &r.Statement
	witnessed := bundle.Unwitnessed
	if len(r.Witnesses) > 0 {
		witnessed = "witnessed by " + strings.Join(r.Witnesses, ", ")
	}
	fmt.Fprintf(w, "%s, %s\n", r.Standing, witnessed)
	if r.Standing == bundle.SelfConsistent {
		paragraph(w, "  the ledger's key came out of the file itself: give one from elsewhere with --log-key", 4)
	}
	for _, f := range r.Faults {
		paragraph(w, "  WRONG: "+f, 4)
	}
	fmt.Fprintf(w, "\nunit      %s of %s, registered %s\n", term.Safe(string(s.Serial)), term.Safe(string(s.Product)), s.Added.Format("2006-01-02"))
	spent := "not used yet"
	if s.Code.Spent {
		spent = "spent: it opens nothing any more"
	}
	fmt.Fprintf(w, "code      %d random bits, %s; %d of %d units had the same\n", s.Code.Bits, spent, s.Code.Same, s.Code.Compared-1)
	for _, k := range s.Keys {
		fmt.Fprintf(w, "key       %.16s…, certified %s, shown by %d unit\n", term.Safe(k.SHA256), k.Certified.Format("2006-01-02"), k.Units)
	}
	if len(s.Keys) == 0 {
		fmt.Fprintln(w, "key       none yet: it has not enrolled")
	}
	fmt.Fprintf(w, "stated    %s by Hawser %s, under %d entries of %s\n", s.At.Format("2006-01-02 15:04:05 UTC"), term.Safe(s.Program), r.Entries, term.Safe(r.Origin))
}
