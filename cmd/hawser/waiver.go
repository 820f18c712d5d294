package main

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/term"
)

func waiverCommands() []*command {
	return []*command{
		{
			name: "waiver list", nargs: [2]int{0, 0},
			short: "the waivers that were asked for, and whether they count",
			long: `Lists all waivers, newest first: for what, until when, who asked and approved, and why
one counts for nothing. Two persons make one, on the page Waivers of the console: one asks,
another approves, with a passkey. On the machine itself nobody knows which person it is.`,
			example: "hawser waiver list",
			run:     waiverList,
		},
		{
			name: "waiver end", args: "WAIVER", nargs: [2]int{1, 1},
			short:   "take a waiver back",
			long:    "Ends a waiver before its day. One person is enough to be stricter.",
			example: "hawser waiver end wabcdefghijklmnop",
			run:     waiverEnd,
		},
	}
}

func waiverList(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	all := []assurance.Waiver{}
	if err := c.Call(ctx, "GET", "/v1/waivers", nil, &all); err != nil {
		return err
	}
	return e.print(all, func(w io.Writer) {
		for i := range all {
			waiverText(w, &all[i])
		}
		if len(all) == 0 {
			fmt.Fprintln(w, "nothing is waived, and nobody asked for it")
		}
	})
}

func waiverEnd(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var out assurance.Waiver
	if err := c.Call(ctx, "POST", "/v1/waivers/"+url.PathEscape(e.args[0])+"/end", nil, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s is taken back: row %s counts as it is\n", out.ID, out.Row) })
}

func waiverText(w io.Writer, x *assurance.Waiver) {
	state := "counts until " + x.Ends.UTC().Format("2006-01-02")
	if x.Void != "" {
		state = "counts for nothing: " + term.Safe(x.Void)
	}
	paragraph(w, fmt.Sprintf("%s  row %s, instead %s: %s", x.ID, x.Row, x.Instead, state), 2)
	paragraph(w, "  "+term.Safe(x.Reason), 4)
	for _, s := range x.Subjects {
		paragraph(w, "  of "+term.Safe(s), 4)
	}
	paragraph(w, fmt.Sprintf("  asked %s by %s", x.Asked.UTC().Format("2006-01-02 15:04 UTC"), term.Safe(x.AskedBy.String())), 4)
	if !x.Approved.IsZero() {
		paragraph(w, fmt.Sprintf("  approved %s by %s", x.Approved.UTC().Format("2006-01-02 15:04 UTC"), term.Safe(x.By.String())), 4)
	}
}
