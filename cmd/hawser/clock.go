package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
)

func clockCommands() []*command {
	return []*command{{
		name: "clock confirm", args: "DATE", nargs: [2]int{1, 1},
		short: "say that the server's clock is right after it was found far ahead",
		long: `A server whose clock is more than a day ahead of the time that it saw last does not
let any keep-time end: a clock that is wrong by years would destroy everything, for
ever. This happens after the machine was off for long, after a restore of an older
backup, and when its clock is wrong. Look at a calendar, not at the machine, and give
today's date. Who confirmed what stands in the ledger. See hawser doctor.`,
		example: `hawser clock confirm 2026-11-22`,
		run: func(ctx context.Context, e *env) error {
			c, err := e.client()
			if err != nil {
				return err
			}
			var out api.Clock
			if err := c.Call(ctx, "POST", "/v1/clock/confirm", api.ClockRequest{Date: e.args[0]}, &out); err != nil {
				return err
			}
			return e.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "the clock is believed: %s (seen last: %s)\n", out.Time.Format(time.RFC3339), out.Seen.Format(time.RFC3339))
			})
		},
	}}
}
