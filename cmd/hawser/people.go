package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/hawser-iot/hawser/internal/api"
)

func peopleCommands() []*command {
	return []*command{
		{
			name: "people founder", nargs: [2]int{0, 0},
			short: "a one-time link with which a founder joins",
			long: `Makes the set-up link of one of the two founders, who are administrators and approve
each other's steps. It works once, within 48 hours, in a browser that has a passkey to
offer. Run it twice, and hand each founder their own; there is never a third. Everybody
after them is invited on the console's page People. Both links and their use stand in
the ledger. Whoever has a link can join with it: hand it over in person.`,
			example: "hawser people founder",
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var l api.Link
				if err := c.Call(ctx, "POST", "/v1/people/founder", nil, &l); err != nil {
					return err
				}
				return e.print(l, func(w io.Writer) {
					fmt.Fprintf(w, "%s\n", l.Link)
					paragraph(w, fmt.Sprintf("It works once, until %s. It is shown this once.", l.Until.Format("2006-01-02 15:04 MST")), 0)
				})
			},
		},
		{
			name: "people list", nargs: [2]int{0, 0},
			short:   "who may sign in, by pseudonym",
			long:    "Lists the maker's people: state, roles, how many passkeys. Names and addresses are shown on the console, to who is signed in.",
			example: "hawser people list",
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var all []api.Person
				if err := c.Call(ctx, "GET", "/v1/people", nil, &all); err != nil {
					return err
				}
				return e.print(all, func(w io.Writer) {
					if len(all) == 0 {
						fmt.Fprintln(w, "nobody yet; `hawser people founder` makes the first link")
						return
					}
					var rows [][]string
					for _, p := range all {
						joined := "-"
						if p.Joined != nil {
							joined = p.Joined.Format("2006-01-02")
						}
						rows = append(rows, []string{p.Person, p.State, joined, fmt.Sprint(p.Passkeys), strings.Join(p.Roles, ", ")})
					}
					table(w, []string{"PERSON", "STATE", "JOINED", "PASSKEYS", "ROLES"}, rows)
				})
			},
		},
		{
			name: "people disable", args: "PERSON --reason TEXT", nargs: [2]int{1, 1},
			short: "end somebody's sessions and let them in no more",
			long: `Disables a person: every session ends within a second, no passkey or password works any
more, an open link is void. What they did stays in the ledger. The last administrator
who can act cannot be disabled.`,
			example: `hawser people disable pabcdefghijkl --reason "left the company"`,
			flags:   func(e *env) { e.str("reason", "", "why, in a `text` that is sealed in the ledger") },
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var out map[string]string
				if err := c.Call(ctx, "POST", "/v1/people/"+e.args[0]+"/disable", api.ReasonRequest{Reason: *e.opt["reason"]}, &out); err != nil {
					return err
				}
				return e.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s is disabled\n", e.args[0]) })
			},
		},
	}
}
