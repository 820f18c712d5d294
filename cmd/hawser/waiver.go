package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/term"
)

func waiverCommands() []*command {
	return []*command{
		{
			name: "waiver ask", args: "ROW --instead CONTROL --reason TEXT", nargs: [2]int{1, 1},
			short: "ask that a row be accepted as failing or unproven for a while",
			long: `Asks that exactly what is failing or unproven in a row now be accepted until a day, at
most 90 days away. --instead names another control that is met and lessens the same risk.
It counts for nothing until an approver, not the one who asked, approves it in the
console, with a passkey; nothing on the command line can. It is never shown as met, and
is void as soon as anything else fails. Some rows are never waived: shared passwords,
the update process, the integrity of the evidence.`,
			example: "hawser waiver ask 1.1 --instead DS-05 --reason \"the threat model is drawn next month\" --days 14",
			flags: func(e *env) {
				e.str("instead", "", "the `control` that makes up for it, as in DS-05")
				e.str("reason", "", "why it is acceptable; name nobody")
				e.str("days", "30", "for how `many` days, 1 to 90")
				e.str("subject", "", "only this `subject` of those that fail, as in CHECK/SUBJECT; several with commas")
			},
			run: waiverAsk,
		},
		{
			name: "waiver list", nargs: [2]int{0, 0},
			short:   "the waivers that were asked for, and whether they count",
			long:    "Lists all waivers, newest first: for what, until when, who asked and approved, and why one counts for nothing.",
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

func waiverAsk(ctx context.Context, e *env) error {
	q := api.WaiverRequest{Row: e.args[0], Reason: *e.opt["reason"], Instead: *e.opt["instead"]}
	if _, err := fmt.Sscanf(*e.opt["days"], "%d", &q.Days); err != nil || q.Days < 1 {
		return core.E(core.Invalid, "waiver-end", "--days is no number of days", "give 1 to 90")
	}
	if text := *e.opt["subject"]; text != "" {
		q.Subjects = strings.Split(text, ",")
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var made assurance.Waiver
	if err := c.Call(ctx, "POST", "/v1/waivers", q, &made); err != nil {
		return err
	}
	return e.print(made, func(w io.Writer) {
		waiverText(w, &made)
		fmt.Fprintln(w, "\nIt counts for nothing until an approver approves it on the page Waivers.")
	})
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
