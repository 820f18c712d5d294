package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
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
				return e.printLink(l)
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
						rows = append(rows, []string{p.Person, stateWords(&p), joined, fmt.Sprint(p.Passkeys), rolesWords(&p)})
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
		{
			name: "people roles", args: "PERSON", nargs: [2]int{1, 1},
			short: "take roles away from somebody",
			long: `Takes away what --roles does not name, and with --approver no the trust to decide as the
second person. Nothing is given from here: an administrator who is signed in does that, on
the page People. The person's sessions end. Neither the last administrator nor the last who
may approve now can be taken away.`,
			example: "hawser people roles pabcdefghijkl --approver no",
			flags: func(e *env) {
				e.str("roles", "", "the `roles` that stay, with commas (default: all)")
				e.str("approver", "", "`yes` or no: whether the trust stays (default: it stays)")
			},
			run: peopleRoles,
		},
		{
			name: "people assessor", args: "--from DATE --until DATE", nargs: [2]int{0, 0},
			short: "a one-time link for an assessor, for one period",
			long: `Makes the set-up link of somebody of another house who is to look: the account sees what
is proved, the evidence and the ledger from the first day on, draws random samples, exports,
and changes nothing. It sees no data and no people. It ends with the last day, at most 400
days later, by itself. Hand the link over in person. That it was made stands in the ledger.`,
			example: "hawser people assessor --from 2026-11-01 --until 2026-12-31",
			flags: func(e *env) {
				e.str("from", "", "the first `day` of the period: 2026-11-01")
				e.str("until", "", "the last `day` of it, and of the account: 2026-12-31")
			},
			run: peopleAssessor,
		},
		{
			name: "people erase", args: "PERSON --reason TEXT", nargs: [2]int{1, 1},
			short: "destroy what is known of somebody who was disabled",
			long: `Destroys the key under which name, address and browsers of a disabled person are sealed,
here and for every backup, and unlinks the rest. The pseudonym stays in the ledger, with
what the person did, and leads to nobody any more. A restore of an older backup erases
again. It cannot be taken back.`,
			example: `hawser people erase pabcdefghijkl --reason "asked for it in writing"`,
			flags:   func(e *env) { e.str("reason", "", "why, in a `text` that goes with the key") },
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var out api.ErasedPerson
				if err := c.Call(ctx, "POST", "/v1/people/"+e.args[0]+"/erase", api.ReasonRequest{Reason: *e.opt["reason"]}, &out); err != nil {
					return err
				}
				return e.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s is erased; the pseudonym stays\n", out.Erased) })
			},
		},
		{
			name: "people refound", args: "--reason TEXT", nargs: [2]int{0, 0},
			short: "end both founders, when neither can sign in any more",
			long: `For the day on which both founders have lost every passkey and no other administrator is
left. Ends both accounts; two new founders can join by two new links then. They approve
nothing for 72 hours, everybody is told, it stands in the ledger, and row 2.11 is red until
two people of the console have reviewed it. It cannot be taken back.`,
			example: `hawser people refound --reason "both security keys were in the safe that burnt"`,
			flags:   func(e *env) { e.str("reason", "", "why, in a `text` that is sealed in the ledger") },
			run: func(ctx context.Context, e *env) error {
				c, err := e.client()
				if err != nil {
					return err
				}
				var out api.Refounded
				if err := c.Call(ctx, "POST", "/v1/people/refound", api.ReasonRequest{Reason: *e.opt["reason"]}, &out); err != nil {
					return err
				}
				return e.print(out, func(w io.Writer) {
					fmt.Fprintln(w, "both founders are ended")
					paragraph(w, "Run `hawser people founder` twice now. Two people must review this on the page People; until then row 2.11 is red.", 0)
				})
			},
		},
	}
}

// printLink shows a set-up link, this once.
func (e *env) printLink(l api.Link) error {
	return e.print(l, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n", l.Link)
		paragraph(w, fmt.Sprintf("It works once, until %s. It is shown this once.", l.Until.Format("2006-01-02 15:04 MST")), 0)
	})
}

func stateWords(p *api.Person) string {
	if p.Erased {
		return "erased"
	}
	return p.State
}

func rolesWords(p *api.Person) string {
	roles := strings.Join(p.Roles, ", ")
	if p.Approver {
		roles += ", approver"
	}
	if p.From != nil && p.Until != nil {
		roles = "assessor, " + p.From.Format(time.DateOnly) + " to " + p.Until.Add(-time.Second).Format(time.DateOnly)
	}
	return roles
}

func peopleRoles(ctx context.Context, e *env) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	var all []api.Person
	if err := c.Call(ctx, "GET", "/v1/people", nil, &all); err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(p api.Person) bool { return p.Person == e.args[0] })
	if i < 0 {
		return core.E(core.Unknown, "unknown-person", "there is no such person", "`hawser people list` shows them")
	}
	req := api.RolesRequest{Roles: all[i].Roles, Approver: all[i].Approver}
	if text := *e.opt["roles"]; text != "" {
		req.Roles = strings.Split(strings.ReplaceAll(text, " ", ""), ",")
	}
	switch *e.opt["approver"] {
	case "", "yes":
	case "no":
		req.Approver = false
	default:
		return core.E(core.Invalid, "approver", "--approver is yes or no", "give one of them")
	}
	var out api.PersonRoles
	if err := c.Call(ctx, "POST", "/v1/people/"+e.args[0]+"/roles", req, &out); err != nil {
		return err
	}
	return e.print(out, func(w io.Writer) {
		trust := ""
		if out.Approver {
			trust = ", approver"
		}
		fmt.Fprintf(w, "%s has %s%s now\n", out.Person, strings.Join(out.Roles, ", "), trust)
	})
}

func peopleAssessor(ctx context.Context, e *env) error {
	day := func(flag string) (time.Time, error) {
		t, err := time.Parse(time.DateOnly, *e.opt[flag])
		if err != nil {
			return t, core.E(core.Invalid, flag, "--"+flag+" is no day", "write it as in 2026-11-01; days are those of UTC")
		}
		return t, nil
	}
	from, err := day("from")
	if err != nil {
		return err
	}
	until, err := day("until")
	if err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	var l api.Link
	if err := c.Call(ctx, "POST", "/v1/people/assessor", api.AssessorRequest{From: from, Until: until.AddDate(0, 0, 1)}, &l); err != nil {
		return err
	}
	return e.printLink(l)
}
