package main

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/hawser-iot/hawser/internal/api"
)

func reviewCommands() []*command {
	return []*command{
		{
			name: "review list", nargs: [2]int{0, 0},
			short: "versions of declarations that wait for a second person",
			long: `On a live installation a version that widens what is declared does not come into
force: publishing it opens a review. An approver, not the one who asked, decides in the
console, with a passkey; nothing on the command line can. This lists all reviews, newest
first, and what each would change.`,
			example: "hawser review list",
			run:     reviewList,
		},
		{
			name: "review take-back", args: "REVIEW", nargs: [2]int{1, 1},
			short:   "take back a version that waits",
			long:    "Ends a review that is open: its version is not wanted any more. What is in force stays.",
			example: "hawser review take-back rabcdefghijklmnop",
			run:     reviewTakeBack,
		},
	}
}

func reviewList(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	all := []api.Review{}
	if err := c.Call(ctx, "GET", "/v1/reviews", nil, &all); err != nil {
		return err
	}
	return e.print(all, func(w io.Writer) {
		for _, r := range all {
			decided := ""
			if r.Decided != nil {
				decided = fmt.Sprintf(", %s by %s", r.Decided.UTC().Format("2006-01-02 15:04"), r.By)
			}
			paragraph(w, fmt.Sprintf("%s  %s version %d: %s%s", r.Review, r.Product, r.Version, r.State, decided), 2)
			paragraph(w, fmt.Sprintf("  asked %s by %s", r.Asked.UTC().Format("2006-01-02 15:04 UTC"), r.AskedBy), 4)
			if r.Vouched != nil {
				paragraph(w, fmt.Sprintf("  vouched for %s by %s", r.Vouched.UTC().Format("2006-01-02 15:04 UTC"), r.Voucher), 4)
			}
			for _, x := range r.Changes {
				paragraph(w, fmt.Sprintf("  %-8s %s: %s", x.Direction, x.Where, x.Text), 4)
			}
		}
		if len(all) == 0 {
			fmt.Fprintln(w, "nothing waits for a review, and nothing did")
		}
	})
}

func reviewTakeBack(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var out api.TakenBack
	if err := c.Call(ctx, "POST", "/v1/reviews/"+url.PathEscape(e.args[0])+"/take-back", nil, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s is taken back; what is in force stays\n", out.Review) })
}
