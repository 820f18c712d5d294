package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
	"github.com/hawser-iot/hawser/internal/server"
)

func ledgerCommands() []*command {
	return []*command{
		{
			name: "ledger show", nargs: [2]int{0, 0},
			short: "what happened: the entries of the ledger",
			long: `Lists the ledger's entries: when, what, by whom, about whom (a pseudonym), and the
facts. Names and serial numbers stand sealed; erasing a subject blanks them and
leaves who did what.`,
			example: "hawser ledger show --from 0 --kind subject-erased",
			flags: func(e *env) {
				e.str("from", "0", "the first `position`")
				e.str("kind", "", "only entries of this `kind`")
			},
			run: ledgerShow,
		},
		{
			name: "ledger export", args: "FILE", nargs: [2]int{1, 1},
			short:   "write the whole ledger to a file that anybody can verify",
			long:    "Writes the ledger as lines of JSON: every entry, its hash, and the signed checkpoints. Whoever has the file verifies it without this server.",
			example: "hawser ledger export ledger.jsonl",
			run:     ledgerExport,
		},
		{
			name: "ledger verify", nargs: [2]int{0, 0},
			short: "check the ledger with code of its own",
			long: `Recomputes every hash, root and signature of the ledger with code that shares
nothing with the code that wrote it. With a checkpoint from elsewhere it proves that
nothing before it was changed, added, dropped or reordered; without one it says "self-consistent
only". Then it compares the stored readings with the batch roots in the ledger and
names every row that is changed, missing, added or doubled.`,
			example: "hawser ledger verify --export ledger.jsonl --checkpoint checkpoint-of-last-month",
			flags: func(e *env) {
				e.str("export", "", "verify this `file` instead of the running server's ledger")
				e.str("checkpoint", "", "a checkpoint `file` obtained earlier, from elsewhere (default: the one kept outside the data folder)")
				e.str("key", "", "the ledger's public `key`, known from elsewhere (NAME+ID+KEY)")
				e.flag("ledger-only", "do not compare the stored readings")
			},
			run: ledgerVerify,
		},
		{
			name: "ledger key", nargs: [2]int{0, 0},
			short:   "the public key of the ledger, for who verifies or witnesses it",
			long:    "Prints the key as verifiers pin it: NAME+ID+KEY. Hand it on by another way than the evidence.",
			example: "hawser ledger key",
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var k api.LedgerKey
				if err := c.Call(ctx, "GET", "/v1/ledger/key", nil, &k); err != nil {
					return err
				}
				return e.print(k, func(w io.Writer) { fmt.Fprintln(w, k.Key) })
			},
		},
		{
			name: "ledger new-origin", args: "--lost TEXT", nargs: [2]int{0, 0},
			short: "go on after the ledger and its kept checkpoint parted",
			long: `A server refuses to sign what contradicts the checkpoint kept outside the data
folder. When that file is lost, or the data folder was brought back by other means than
hawser restore, this begins a new origin: its first entry commits to what is known of
the old one and says what was lost, for everybody to read. The server must not run.`,
			example: `hawser ledger new-origin --lost "checkpoint file lost with the second disk on 2026-11-22"`,
			flags: func(e *env) {
				e.str("lost", "", "what is gone and why, in a `text` that stands in the ledger for ever")
			},
			run: ledgerNewOrigin,
		},
	}
}

func ledgerShow(ctx context.Context, e *env) error {
	from, err := strconv.ParseUint(*e.opt["from"], 10, 64)
	if err != nil {
		return core.E(core.Invalid, "position", "--from is no position", "give a number, 0 for the first entry")
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var all []api.Entry
	for {
		var page api.Entries
		path := fmt.Sprintf("/v1/ledger/entries?from=%d&kind=%s", from, url.QueryEscape(*e.opt["kind"]))
		if err := c.Call(ctx, "GET", path, nil, &page); err != nil {
			return err
		}
		all = append(all, page.Entries...)
		if page.Next == 0 {
			break
		}
		from = page.Next
	}
	return e.print(all, func(w io.Writer) {
		var rows [][]string
		for _, x := range all {
			var facts []string
			for _, f := range x.Facts {
				facts = append(facts, f[0]+"="+f[1])
			}
			rows = append(rows, []string{strconv.FormatUint(x.Position, 10), x.Time.Format("2006-01-02 15:04:05"), x.Kind, x.Actor, x.Subject, strings.Join(facts, " ")})
		}
		table(w, []string{"#", "TIME (UTC)", "WHAT", "BY", "SUBJECT", "FACTS"}, rows)
	})
}

// fetchExport streams the running server's export to w.
func fetchExport(ctx context.Context, e *env, w io.Writer) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	return c.Stream(ctx, "GET", "/v1/ledger/export", nil, func(line []byte) error {
		_, err := w.Write(append(line, '\n'))
		return err
	})
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

func ledgerExport(ctx context.Context, e *env) (err error) {
	p := e.progress("export")
	defer p.end()
	f, err := os.OpenFile(e.args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return core.E(core.Conflict, "exists", e.args[0]+" exists already", "name a new file")
	}
	if err != nil {
		return fmt.Errorf("make export: %w", err)
	}
	n := int64(0)
	err = fetchExport(ctx, e, writerFunc(func(b []byte) (int, error) {
		n++
		p.say(fmt.Sprintf("%d lines", n))
		return f.Write(b)
	}))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(e.args[0]) // half a ledger proves nothing; the error is the one to report
		return err
	}
	return e.print(map[string]string{"file": e.args[0]}, func(w io.Writer) { fmt.Fprintf(w, "the ledger is in %s\n", e.args[0]) })
}

// verified is what `ledger verify --json` prints.
type verified struct {
	Verified  bool           `json:"verified"`
	Standing  string         `json:"standing"`
	Witnesses string         `json:"witnesses"`
	KeyPinned bool           `json:"key_known_from_elsewhere"`
	Entries   uint64         `json:"entries"`
	Origins   int            `json:"origins"`
	Losses    []string       `json:"declared_losses"`
	Faults    []string       `json:"faults"`
	Readings  *api.RowsCheck `json:"readings,omitempty"`
}

func ledgerVerify(ctx context.Context, e *env) error {
	o := verify.Options{}
	if k := *e.opt["key"]; k != "" {
		o.Keys = []string{k}
	}
	earlier := *e.opt["checkpoint"]
	if earlier == "" && *e.opt["export"] == "" {
		c, err := server.LoadConfig(e.home)
		if err != nil {
			return err
		}
		earlier = c.Checkpoint
	}
	if earlier != "" {
		b, err := os.ReadFile(earlier)
		if err != nil {
			return fmt.Errorf("read earlier checkpoint: %w", err)
		}
		o.Earlier = b
	}
	r, err := verifySource(ctx, e, o)
	if err != nil {
		return err
	}
	v := verified{
		Verified: r.OK(), Standing: string(r.Standing), Witnesses: r.Witnessed(), KeyPinned: r.Pinned,
		Entries: r.Entries, Origins: len(r.Origins), Losses: []string{}, Faults: []string{},
	}
	for _, l := range r.Losses {
		v.Losses = append(v.Losses, l.Said)
	}
	for _, f := range r.Faults {
		v.Faults = append(v.Faults, f.String())
	}
	if *e.opt["export"] == "" && !*e.on["ledger-only"] {
		c, err := e.client()
		if err != nil {
			return err
		}
		v.Readings = &api.RowsCheck{}
		p := e.progress("comparing readings with the ledger")
		err = c.Long(ctx, "POST", "/v1/verify", nil, v.Readings, p.share)
		p.end()
		if err != nil {
			return err
		}
		v.Verified = v.Verified && len(v.Readings.Faults) == 0
	}
	err = e.print(v, func(w io.Writer) { printVerified(w, v) })
	if err == nil && !v.Verified {
		return &quiet{code: exitFailed}
	}
	return err
}

func verifySource(ctx context.Context, e *env, o verify.Options) (verify.Report, error) {
	p := e.progress("verifying the ledger")
	defer p.end()
	lines := func(n int64) { p.say(fmt.Sprintf("%d lines", n)) }
	if name := *e.opt["export"]; name != "" {
		f, err := os.Open(name)
		if err != nil {
			return verify.Report{}, fmt.Errorf("read export: %w", err)
		}
		defer f.Close()
		return verify.Log(&stoppable{ctx: ctx, r: f, each: lines}, o)
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(fetchExport(ctx, e, pw)) }()
	r, err := verify.Log(&stoppable{ctx: ctx, r: pr, each: lines}, o)
	_ = pr.Close() // lets the fetch end when the verifier stopped early
	return r, err
}

func printVerified(w io.Writer, v verified) {
	fmt.Fprintf(w, "%d entries in %d origins: %s, %s\n", v.Entries, v.Origins, v.Standing, v.Witnesses)
	if !v.KeyPinned {
		fmt.Fprintln(w, "the key was taken from the ledger itself; give --key to pin one known from elsewhere")
	}
	for _, l := range v.Losses {
		fmt.Fprintf(w, "declared loss: %s\n", l)
	}
	for _, f := range v.Faults {
		fmt.Fprintf(w, "FAULT  %s\n", f)
	}
	if r := v.Readings; r != nil {
		fmt.Fprintf(w, "%d rows in %d batches of %d epoch files compared with the ledger\n", r.Rows, r.Batches, r.Files)
		for _, f := range r.Faults {
			fmt.Fprintf(w, "FAULT  %s\n", f)
		}
	}
	if v.Verified {
		fmt.Fprintln(w, "nothing is wrong")
	}
}

// ledgerNewOrigin is for the day on which the checkpoint that is kept outside
// the data folder is gone, or the data folder was brought back by other means
// than restore.
func ledgerNewOrigin(ctx context.Context, e *env) error {
	c, err := server.LoadConfig(e.home)
	if err != nil {
		return err
	}
	origin, err := server.NewOrigin(ctx, c, *e.opt["lost"])
	if err != nil {
		return err
	}
	return e.print(map[string]string{"ledger_origin": origin}, func(w io.Writer) { fmt.Fprintf(w, "the ledger goes on as %s\n", origin) })
}
