package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/sampling"
	"github.com/hawser-iot/hawser/internal/term"
)

func sampleCommands() []*command {
	return []*command{
		{
			name: "sample begin", args: "OF --size N", nargs: [2]int{1, 1},
			short: "begin a random sample: what can be drawn goes to the ledger",
			long: `Writes down what an assessor can draw from, and its digest into the ledger, before
anybody knows the assessor's nonce. So neither side can steer what is looked at. OF is
devices: every registered unit, under a name made for this sample; or records/KIND: what
the ledger holds of one kind over a period, as in records/read-session-opened. Assessors
do the same on the page Evidence of the console.`,
			example: "hawser sample begin devices --size 1",
			flags: func(e *env) {
				e.str("size", "25", "how `many` to draw, 1 to 1,000")
				e.str("from", "", "of records: the `time` that the period begins, 2026-10-01T00:00:00Z")
				e.str("until", "", "of records: the `time` after it; now where it is left out")
			},
			run: sampleBegin,
		},
		{
			name: "sample draw", args: "SAMPLE --nonce HEX", nargs: [2]int{1, 1},
			short: "draw a sample that was begun, with the assessor's nonce",
			long: `Draws the sample, once and for all. The nonce is the assessor's: 16 to 64 random bytes
in hexadecimal digits, made by the assessor and told to nobody before the sample was
begun (openssl rand -hex 16, or dice). Before telling it, the assessor takes down the
digest that hawser sample begin, or the page, shows: a maker who hears the nonce could
else begin another sample. What is drawn stands in the ledger, and in every bundle from
then on; the assessor verifies it with hawser evidence verify --sample NONCE@DIGEST.`,
			example: "hawser sample draw sabcdefghijklmnop --nonce 8f3a77c2095be1d64f10a9b3c85d2e71",
			flags: func(e *env) {
				e.str("nonce", "", "the assessor's `nonce`, in hexadecimal digits")
			},
			run: sampleDraw,
		},
		{
			name: "sample list", nargs: [2]int{0, 0},
			short:   "the samples that were begun or drawn",
			long:    "Lists the samples, newest first. One without a nonce goes after seven days, a drawn one after 400.",
			example: "hawser sample list",
			run:     sampleList,
		},
		{
			name: "sample show", args: "SAMPLE", nargs: [2]int{1, 1},
			short:   "one sample, and what was drawn",
			long:    "Shows a sample and, when it is drawn, what to ask for: the units by their serial, or the records by their place in the ledger.",
			example: "hawser sample show sabcdefghijklmnop",
			run: func(ctx context.Context, e *env) error {
				return sampleCall(ctx, e, "GET", "", nil)
			},
		},
	}
}

func sampleBegin(ctx context.Context, e *env) error {
	q := api.SampleRequest{Of: e.args[0]}
	if _, err := fmt.Sscanf(*e.opt["size"], "%d", &q.Size); err != nil {
		return core.E(core.Invalid, "sample-size", "--size is no number", "give 1 to 1,000")
	}
	for flag, into := range map[string]**time.Time{"from": &q.From, "until": &q.Until} {
		text := *e.opt[flag]
		if text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return core.E(core.Invalid, flag, "--"+flag+" is no time", "write it as in 2026-10-01T00:00:00Z")
		}
		*into = &t
	}
	if _, records := sampling.KindOf(q.Of); records && q.Until == nil {
		now := time.Now().UTC()
		q.Until = &now
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var x api.Sample
	if err := c.Call(ctx, "POST", "/v1/samples", q, &x); err != nil {
		return err
	}
	return e.print(x, func(w io.Writer) {
		sampleText(w, &x)
		fmt.Fprintf(w, "\nThe assessor takes down the digest, and only then tells the nonce:\n  hawser sample draw %s --nonce HEX\n", x.ID)
	})
}

func sampleDraw(ctx context.Context, e *env) error {
	q := api.DrawRequest{Nonce: *e.opt["nonce"]}
	if err := q.Validate(); err != nil {
		return err
	}
	return sampleCall(ctx, e, "POST", "/draw", q)
}

// sampleCall asks something of one sample, and shows it.
func sampleCall(ctx context.Context, e *env, method, what string, in any) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var x api.Sample
	if err := c.Call(ctx, method, "/v1/samples/"+url.PathEscape(e.args[0])+what, in, &x); err != nil {
		return err
	}
	return e.print(x, func(w io.Writer) {
		sampleText(w, &x)
		for _, it := range x.Items {
			switch {
			case it.Gone:
				fmt.Fprintf(w, "  %-18s is not there any more\n", term.Safe(it.ID))
			case it.Device != "":
				fmt.Fprintf(w, "  %-18s %s of %s\n", term.Safe(it.ID), term.Safe(string(it.Device)), term.Safe(string(it.Product)))
			default:
				fmt.Fprintf(w, "  entry %-12s %s by %s\n", it.Index, it.Time.UTC().Format("2006-01-02 15:04:05 UTC"), term.Safe(it.Actor.String()))
			}
		}
	})
}

func sampleText(w io.Writer, x *api.Sample) {
	paragraph(w, fmt.Sprintf("%s: %d of %d %s", x.ID, x.Size, x.Total, term.Safe(x.Of)), 2)
	paragraph(w, fmt.Sprintf("  begun %s by %s", x.Begun.UTC().Format("2006-01-02 15:04:05 UTC"), term.Safe(x.By.String())), 4)
	if x.Digest != "" {
		fmt.Fprintf(w, "  digest %s\n", x.Digest)
	}
	if x.IsDrawn() {
		paragraph(w, fmt.Sprintf("  drawn %s by %s with %s", x.Taken.UTC().Format("2006-01-02 15:04:05 UTC"), term.Safe(x.Assessor.String()), x.Nonce), 4)
	}
}

func sampleList(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	all := []sampling.Sampling{}
	if err := c.Call(ctx, "GET", "/v1/samples", nil, &all); err != nil {
		return err
	}
	return e.print(all, func(w io.Writer) {
		for i := range all {
			sampleText(w, &api.Sample{Sampling: all[i]})
		}
		if len(all) == 0 {
			fmt.Fprintln(w, "no sample was begun")
		}
	})
}
